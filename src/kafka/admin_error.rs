//! How administration fails: in which words for people, and what of it passes by itself.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

use super::admin_memory::Refusal;

/// Why an administrative call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// No answer before the deadline.
    #[error(
        "kafka at {brokers} did not answer within {within:?}, asked to {doing}: {reason}; \
         check the address and that it can be reached from here"
    )]
    Unreachable {
        /// The addresses that were tried.
        brokers: String,
        /// The deadline.
        within: Duration,
        /// What was asked.
        doing: String,
        /// What the client says about its connections.
        reason: String,
    },
    /// TLS or SASL failed.
    #[error("kafka at {brokers} refuses this client: {reason}; check the security settings")]
    Unauthenticated {
        /// The addresses that were tried.
        brokers: String,
        /// What the broker or the TLS library says.
        reason: String,
    },
    /// The user lacks a right.
    #[error("this user may not {doing}: {reason}; grant it the right")]
    Unauthorized {
        /// What was asked.
        doing: String,
        /// The broker's words.
        reason: String,
    },
    /// A partition that is not there.
    #[error("topic {topic} has no partition {partition}, or does not exist; create it or check the name")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A topic that cannot be made.
    #[error("topic {topic} cannot be created: {reason}")]
    NotCreated {
        /// The topic.
        topic: String,
        /// The broker's words.
        reason: String,
    },
    /// The group is in use.
    #[error("group {group} has members, so its offsets cannot be set from outside; stop them first")]
    GroupInUse {
        /// The group.
        group: String,
    },
    /// Anything else that the broker refused.
    #[error("kafka refused to {doing}: {reason}")]
    Refused {
        /// What was asked.
        doing: String,
        /// The broker's words.
        reason: String,
    },
    /// Settings that librdkafka does not take.
    #[error("settings of the kafka client: {0}")]
    Settings(String),
}

impl AdminError {
    /// May the same call succeed later, with nothing changed by hand?
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The broker, such as the embedded one, knows no such request.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused { reason, .. } if reason.contains("UnsupportedFeature"))
    }
}

impl Refusal {
    /// The same with the thing that it is about.
    pub fn on(self, thing: &str) -> Self {
        Self { reason: format!("{thing}: {}", self.reason), ..self }
    }

    pub fn is_about_missing(&self) -> bool {
        matches!(self.code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
    }

    pub fn is_about_rights(&self) -> bool {
        matches!(
            self.code,
            Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
        )
    }

    /// Does it pass by itself?
    pub fn passes(&self) -> bool {
        matches!(
            self.code,
            Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::RequestTimedOut
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::WaitingForCoordinator
                | Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotController
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::BrokerNotAvailable
                | Code::ReplicaNotAvailable
                | Code::UnstableOffsetCommit
                | Code::NetworkException
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: Code) -> Refusal {
        Refusal { code, reason: "why".to_owned() }
    }

    #[test]
    fn what_passes_is_never_about_rights_or_missing_things() {
        let all = [
            (Code::CoordinatorLoadInProgress, true, false, false),
            (Code::UnstableOffsetCommit, true, false, false),
            (Code::TopicAuthorizationFailed, false, true, false),
            (Code::GroupAuthorizationFailed, false, true, false),
            (Code::UnknownTopicOrPartition, false, false, true),
            (Code::InvalidReplicationFactor, false, false, false),
        ];
        for (code, passes, rights, missing) in all {
            let refusal = refusal(code);
            assert_eq!(
                (refusal.passes(), refusal.is_about_rights(), refusal.is_about_missing()),
                (passes, rights, missing),
                "{code:?}"
            );
        }
    }
}
