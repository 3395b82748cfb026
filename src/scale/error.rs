//! Why a function could not be sampled.

use crate::kafka::{AdminError, Partition};
use crate::pipeline::Damaged;

/// Why there is no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The cluster did not say.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A topic that the function reads is not there.
    #[error("topic {topic} does not exist; create it or check the name")]
    NoTopic {
        /// The topic.
        topic: String,
    },
    /// What stands beside a committed offset begins like ours and cannot be read.
    #[error("{partition} of group {group}: {cause}")]
    Damaged {
        /// The group.
        group: String,
        /// Where it was committed.
        partition: Partition,
        /// What is wrong with it.
        cause: Damaged,
    },
}

impl Error {
    /// May the next sample succeed, with nothing changed by hand?
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Admin(error) if error.is_transient())
    }
}
