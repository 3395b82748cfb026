//! The embedded broker: librdkafka's mock cluster, for trying a function out without a Kafka.
//!
//! It proves nothing about exactly once: it keeps topics in memory, drops the head of a partition at
//! 5 MiB, ignores isolation, stores no transactional offsets and knows no admin requests.

use std::ffi::{CStr, CString, c_char};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{IsError, KafkaError};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka_sys as sys;

use super::cluster::Cluster;
use super::error::Error;

/// What a partition holds before the mock cluster drops its head; feeds stop before.
pub const PARTITION_LIMIT: usize = 4 << 20;

/// A broker inside this process, gone with it.
pub struct EmbeddedBroker {
    mock: *mut sys::rd_kafka_mock_cluster_t,
    address: String,
    /// The mock cluster belongs to a client, which must live longer: fields are dropped after `drop`.
    _client: BaseProducer,
}

// SAFETY: the mock cluster has a thread of its own, and its calls hand over to that or take its lock.
unsafe impl Send for EmbeddedBroker {}

impl EmbeddedBroker {
    /// Starts it on a free port of the loopback interface.
    pub fn start() -> Result<Self, Error> {
        let client: BaseProducer = ClientConfig::new().create().map_err(|error| Error::of_call(&error))?;
        // SAFETY: the client is alive; null is checked.
        let mock = unsafe { sys::rd_kafka_mock_cluster_new(client.client().native_ptr(), 1) };
        if mock.is_null() {
            return Err(Error::Config("the embedded broker did not start".to_owned()));
        }
        // SAFETY: the cluster is alive; its addresses are a C string of its own, copied here.
        let address = unsafe { text(sys::rd_kafka_mock_cluster_bootstraps(mock)) };
        let broker = Self { mock, address, _client: client };
        // A group's first member waits 3 s for further ones by default; here nobody else comes.
        broker.join_after(Duration::ZERO);
        Ok(broker)
    }

    /// Its address.
    pub fn cluster(&self) -> Cluster {
        Cluster::new(&self.address, [])
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        let c_name = CString::new(name).map_err(|_| Error::Refused(format!("topic name {name:?}")))?;
        // SAFETY: the cluster is alive; the name is copied.
        let code = unsafe { sys::rd_kafka_mock_topic_create(self.mock, c_name.as_ptr(), partitions, 1) };
        if code.is_error() {
            return Err(Error::of_call(&KafkaError::MockCluster(code.into())));
        }
        Ok(())
    }

    fn join_after(&self, delay: Duration) {
        let delay_ms = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the cluster is alive.
        unsafe { sys::rd_kafka_mock_group_initial_rebalance_delay_ms(self.mock, delay_ms) }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        // SAFETY: made by `start`, destroyed once, before its client.
        unsafe { sys::rd_kafka_mock_cluster_destroy(self.mock) }
    }
}

/// # Safety
/// `pointer` is null or a C string that lives.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: see above.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
