//! What both clients share: librdkafka's log lines go to `tracing`, and those that repeat every
//! second while a broker is away are said once in a while.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::model::{Clock, SystemClock};

/// How long the same kind of client log line stays quiet after it was said.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// Log sink of one client.
pub(super) struct ClientLog {
    clock: SystemClock,
    said: Mutex<HashMap<String, Duration>>,
}

impl ClientLog {
    pub(super) fn new() -> Self {
        Self { clock: SystemClock::start(), said: Mutex::new(HashMap::new()) }
    }

    fn is_news(&self, what: &str) -> bool {
        let now = self.clock.now().elapsed;
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if said.len() > 64 {
            said.clear();
        }
        match said.get(what) {
            Some(last) if now.saturating_sub(*last) < REPEAT_AFTER => false,
            _ => said.insert(what.to_owned(), now).is_none_or(|_| true),
        }
    }
}

impl ClientContext for ClientLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "tidemill::kafka::client", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning if self.is_news(facility) => {
                tracing::warn!(target: "tidemill::kafka::client", facility, "{message}");
            }
            _ => tracing::debug!(target: "tidemill::kafka::client", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if self.is_news(&error.to_string()) {
            tracing::warn!(target: "tidemill::kafka::client", "{error}: {reason}");
        }
    }
}
