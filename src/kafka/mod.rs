//! Apache Kafka, through librdkafka: the only place that knows the client. Types of `rdkafka` stop here.
#![allow(
    unsafe_code,
    reason = "batch reads, produce with opaque and headers, and lists need librdkafka's C interface"
)]

pub mod admin;
mod admin_configs;
mod admin_error;
mod admin_groups;
mod admin_memory;
mod admin_native;
mod client;
mod cluster;
mod consumer;
mod embedded;
mod error;
mod message;
mod partition;
mod producer;
mod read;

pub use admin::{Admin, AdminError, Bounds};
pub use admin_configs::{MessageLimits, message_limits, offsets_retention, topic_settings};
pub use admin_groups::GroupAdmin;
pub use cluster::Cluster;
pub use consumer::{Consumer, ConsumerConfig, Fetched, GroupEvent};
pub use embedded::{EmbeddedBroker, PARTITION_LIMIT};
pub use error::{Code, Error};
pub use partition::{Commit, Committed, Partition, partition_of_key};
pub use producer::{Origin, Produce, Producer, ProducerConfig, Refusal, TopicIndex};
pub use read::{read_first, read_one};
