//! Apache Kafka, through librdkafka: the only place that knows the client. Types of `rdkafka` stop here.

mod cluster;

pub use cluster::Cluster;
