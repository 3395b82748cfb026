//! The embedded broker: librdkafka's mock cluster, for trying a function out without a Kafka.
//!
//! It proves nothing about exactly once: it keeps topics in memory, drops the head of a partition at
//! 5 MiB, ignores isolation, stores no transactional offsets and knows no admin requests.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::cluster::Cluster;
use super::error::Error;

/// What a partition holds before the mock cluster drops its head; feeds stop before.
pub const PARTITION_LIMIT: usize = 4 << 20;

/// A broker inside this process, gone with it.
pub struct EmbeddedBroker {
    mock: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedBroker {
    /// Starts it on a free port of the loopback interface.
    pub fn start() -> Result<Self, Error> {
        MockCluster::new(1).map(|mock| Self { mock }).map_err(|error| Error::of_call(&error))
    }

    /// Its address.
    pub fn cluster(&self) -> Cluster {
        Cluster::new(&self.mock.bootstrap_servers(), [])
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        self.mock.create_topic(name, partitions, 1).map_err(|error| Error::of_call(&error))
    }
}
