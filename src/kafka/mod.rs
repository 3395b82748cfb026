//! Apache Kafka, through librdkafka: the only place that knows the client. Types of `rdkafka` stop here.

pub mod admin;
mod admin_error;
mod admin_memory;
mod admin_native;
mod cluster;

pub use admin::{Admin, AdminError};
pub use cluster::Cluster;
