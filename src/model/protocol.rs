//! By which protocol members join a consumer group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What members of a consumer group speak with its coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum GroupProtocol {
    /// Members stop for a moment together, and one of them shares the partitions out.
    Classic,
    /// The brokers share the partitions out, member by member (KIP-848).
    Consumer,
}

impl GroupProtocol {
    /// As librdkafka's `group.protocol` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// What a process is told of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ProtocolChoice {
    /// `consumer` where the brokers have it and nothing asks for `classic`, as exactly once does; else `classic`.
    #[default]
    Auto,
    /// The protocol that every broker has.
    Classic,
    /// KIP-848, or not at all: Apache Kafka 4.0 and newer. Functions with exactly once are `classic` all the same.
    Consumer,
}

impl ProtocolChoice {
    /// All of them, for whoever reads one.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Classic, Self::Consumer];

    /// As settings have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// librdkafka's settings that only classic groups have; elsewhere the broker says how long a session lasts
/// (`group.consumer.session.timeout.ms`).
pub const CLASSIC_ONLY: [&str; 2] = ["session.timeout.ms", "heartbeat.interval.ms"];
