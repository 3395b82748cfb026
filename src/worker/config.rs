//! What a worker is told when it starts.

use std::sync::Arc;
use std::time::Duration;

use crate::kafka::{Cluster, MessageLimits};
use crate::model::{Clock, Function, Guarantee};
use crate::observe::Exposition;

/// What a worker is told when it starts.
#[derive(Clone)]
pub struct Config {
    /// The function it runs.
    pub function: Arc<Function>,
    /// Where.
    pub cluster: Cluster,
    /// Which process this is: stable over restarts, so that a restarted worker fences its dead self.
    pub instance: String,
    /// Which of the function's workers in this process, from 0.
    pub slot: u32,
    /// What the topics take that it writes; `None`: not known.
    pub limits: Option<MessageLimits>,
    /// Where its numbers are published.
    pub exposition: Exposition,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// `group/instance/slot`: the same after a restart, so that initialising it fences the dead
    /// predecessor at once instead of leaving readers to wait for its transaction's timeout.
    pub fn transactional_id(&self) -> String {
        format!("{}/{}/{}", self.function.group, self.instance, self.slot)
    }

    /// `tidemill-instance-slot`: how the group's members are told from foreign ones.
    pub fn client_id(&self) -> String {
        format!("{CLIENT_ID_PREFIX}{}-{}", self.instance, self.slot)
    }

    /// How long the broker lets a transaction stand open: 10 s, but calls run inside it.
    pub fn transaction_timeout(&self) -> Duration {
        let call = self.function.handler.as_ref().map_or(Duration::ZERO, |handler| handler.timeout);
        Duration::from_secs(10).max(call * 2 + Duration::from_secs(5))
    }

    /// Outputs and offsets in one transaction.
    pub fn is_exactly_once(&self) -> bool {
        self.function.delivery.guarantee == Guarantee::ExactlyOnce
    }
}

/// Every client of Tidemill calls itself so.
pub const CLIENT_ID_PREFIX: &str = "tidemill-";
