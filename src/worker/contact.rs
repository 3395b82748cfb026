//! Whether the brokers answer, and saying so once an outage.
//!
//! librdkafka tells when it has lost its last connection, rightly or because all of them were idle, and never when
//! one is back. So a worker that hears of it asks, and goes on asking until there is an answer.

use std::time::Duration;

use super::{ASK_WAIT, Worker};
use crate::kafka::Error;
use crate::observe::events::{BrokersAway, BrokersBack};

/// What is known.
#[derive(Debug, Default)]
pub struct Contact {
    /// The client said that no broker is left, and none has answered since.
    is_doubtful: bool,
    /// It was logged.
    is_said: bool,
    /// The next question, on the clock's monotonic time.
    ask_at: Duration,
}

impl Contact {
    /// Nobody knows what the brokers have.
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful || self.is_said
    }
}

impl Worker {
    /// The client has lost its last connection.
    pub(super) fn doubt(&mut self) {
        self.contact.is_doubtful = true;
    }

    /// No broker answered.
    pub(super) fn lost(&mut self, error: &Error) {
        if !std::mem::replace(&mut self.contact.is_said, true) {
            BrokersAway { error }.emit(&mut self.meter);
        }
    }

    /// A broker answered.
    pub(super) fn regained(&mut self) {
        self.contact.is_doubtful = false;
        if std::mem::take(&mut self.contact.is_said) {
            BrokersBack.emit(&mut self.meter);
        }
    }

    /// Asks the brokers anything, while it is doubtful that they answer.
    pub(super) fn check_contact(&mut self) {
        if !self.contact.is_doubtful || self.now().elapsed < self.contact.ask_at {
            return;
        }
        let Some(source) = self.config.function.sources.first() else {
            return;
        };
        match self.consumer.partitions(&source.topic, ASK_WAIT) {
            Ok(_) => self.regained(),
            Err(error) => self.lost(&error),
        }
        self.contact.ask_at = self.now().elapsed + ASK_WAIT;
    }
}
