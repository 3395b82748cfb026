//! What a scenario does with a cluster by hand: make topics, write records, read everything back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, ClientContext};

use super::wait::{Deadline, pause, try_wait};

const CALL_WITHIN: Duration = Duration::from_secs(30);

/// A name that no other test and no other run uses: `<stem>-<process>-<time>-<n>`.
pub fn unique(stem: &str) -> String {
    use tidemill::model::{Clock as _, SystemClock};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let time = SystemClock::start().now().wall_ms % 100_000_000;
    format!("{stem}-{}-{time}-{n}", std::process::id())
}

/// A cluster, by its address.
#[derive(Debug, Clone)]
pub struct Kafka {
    brokers: String,
    /// Of every client of it.
    settings: Vec<(&'static str, &'static str)>,
}

/// What a reader sees of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Aborted and open transactions are not seen.
    ReadCommitted,
    /// Everything is seen.
    ReadUncommitted,
}

/// One record as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadRecord {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch; -1 when the record has none.
    pub timestamp_ms: i64,
}

impl ReadRecord {
    /// The value as text; empty for null.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap_or_default()).expect("a value that is text")
    }

    /// The key as text; empty for null.
    pub fn key_text(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().unwrap_or_default()).expect("a key that is text")
    }

    /// The last header called `name`, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        Some(std::str::from_utf8(value.as_deref()?).expect("a header that is text"))
    }
}

/// One record to write.
#[derive(Debug, Clone, Default)]
pub struct ToSend {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// By the key's murmur2 when `None`.
    pub partition: Option<i32>,
    pub timestamp_ms: Option<i64>,
}

impl ToSend {
    /// A record with key and value.
    pub fn new(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().to_vec()), value: Some(value.as_ref().to_vec()), ..Self::default() }
    }

    /// A record with a value and the null key.
    pub fn value(value: impl AsRef<[u8]>) -> Self {
        Self { value: Some(value.as_ref().to_vec()), ..Self::default() }
    }

    /// A record with a key and the null value.
    pub fn tombstone(key: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().to_vec()), ..Self::default() }
    }

    /// With a header more.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), Some(value.as_ref().to_vec())));
        self
    }

    /// To this partition.
    pub fn to(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With this timestamp.
    pub fn at(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

impl Kafka {
    /// The cluster at `brokers`.
    pub fn at(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned(), settings: Vec::new() }
    }

    /// The same cluster, whose clients have this setting.
    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.settings.push((name, value));
        self
    }

    /// Its address, `host:port,…`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The same cluster as the product's clients take it.
    pub fn as_cluster(&self) -> tidemill::kafka::Cluster {
        let settings = self.settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        tidemill::kafka::Cluster::new(&self.brokers, settings)
    }

    /// A client configuration for this cluster, for what the harness does not do.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        for (name, value) in &self.settings {
            config.set(*name, *value);
        }
        config
    }

    /// Does it answer? A combined node answers before it lets clients in, hence the unfenced broker in its list.
    pub fn is_up(&self) -> Result<(), String> {
        let client: BaseConsumer = self.config().set("log_level", "0").create().map_err(|e| e.to_string())?;
        let metadata = client.fetch_metadata(None, Duration::from_secs(5)).map_err(|e| e.to_string())?;
        if metadata.brokers().is_empty() { Err("no broker is registered yet".to_owned()) } else { Ok(()) }
    }

    /// Makes a topic, with topic settings and as many replicas as the brokers give it, and waits until clients see it.
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        const BROKERS_DEFAULT: i32 = -1;
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(BROKERS_DEFAULT));
        for (setting, value) in config {
            topic = topic.set(setting, value);
        }
        let options =
            AdminOptions::new().operation_timeout(Some(CALL_WITHIN)).request_timeout(Some(CALL_WITHIN));
        for result in block_on(admin.create_topics([&topic], &options)).expect("topics are created") {
            result.unwrap_or_else(|(name, code)| panic!("topic {name} cannot be made: {code}"));
        }
        // Each broker hears of it in its own time.
        for broker in self.brokers().split(',') {
            super::wait_until(CALL_WITHIN, &format!("topic {name} to be seen by {broker}"), || {
                Kafka::at(broker).partitions(name).is_some_and(|seen| seen == partitions)
            });
        }
    }

    /// Makes a topic grow to so many partitions, and waits until clients see them.
    pub fn add_partitions(&self, name: &str, count: usize) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let options = AdminOptions::new().operation_timeout(Some(CALL_WITHIN));
        let grown = block_on(admin.create_partitions(&[NewPartitions::new(name, count)], &options));
        grown.expect("an answer")[0].as_ref().expect("more partitions");
        super::wait_until(CALL_WITHIN, &format!("topic {name} to have {count} partitions"), || {
            self.partitions(name) == Some(count as i32)
        });
    }

    /// How many partitions a topic has; `None`: there is no such topic.
    pub fn partitions(&self, name: &str) -> Option<i32> {
        let client: BaseConsumer = self.config().create().expect("a client");
        let metadata = client.fetch_metadata(Some(name), CALL_WITHIN).expect("the broker answers");
        let topic = metadata.topics().iter().find(|topic| topic.name() == name)?;
        if topic.error().is_some() { None } else { Some(topic.partitions().len() as i32) }
    }

    /// Deletes topics.
    pub fn delete_topics(&self, names: &[&str]) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let options = AdminOptions::new().operation_timeout(Some(CALL_WITHIN));
        for result in block_on(admin.delete_topics(names, &options)).expect("topics are deleted") {
            result.unwrap_or_else(|(name, code)| panic!("topic {name} cannot be deleted: {code}"));
        }
    }

    /// Writes records and waits until all are acknowledged. Keys land where a Java producer puts them.
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = ToSend>) {
        self.produce_up_to(1 << 20, topic, records);
    }

    /// The same for records of at most so many bytes.
    pub fn produce_up_to(&self, bytes: u32, topic: &str, records: impl IntoIterator<Item = ToSend>) {
        let mut config = self.config();
        config.set("message.max.bytes", bytes.to_string());
        config.set("partitioner", "murmur2_random").set("linger.ms", "2").set("enable.idempotence", "true");
        let producer: ThreadedProducer<Failed> =
            config.create_with_context(Failed::default()).expect("a producer");
        for record in records {
            send(&producer, topic, &record);
        }
        producer.flush(CALL_WITHIN).expect("records are acknowledged");
        producer.context().check();
    }

    /// Tries once to write a record; why it was refused, if it was.
    pub fn refusal(&self, topic: &str, record: &ToSend) -> Option<String> {
        let mut config = self.config();
        config.set("retries", "0");
        let producer: ThreadedProducer<Failed> =
            config.create_with_context(Failed::default()).expect("a producer");
        send(&producer, topic, record);
        producer.flush(CALL_WITHIN).expect("the record is taken or refused");
        let failed = producer.context().0.lock().expect("no panic under the lock");
        failed.first().cloned()
    }

    /// What readers of committed records will see of a topic once no transaction is open there: that of a worker that
    /// was killed, and did not come back to end it, hides all that follows until it times out.
    #[track_caller]
    pub fn read_all_ended(&self, topic: &str) -> Vec<ReadRecord> {
        use tidemill::kafka::Admin;
        use tidemill::kafka::admin::{Isolation as At, OffsetAt};
        let admin = Admin::new(&self.as_cluster()).expect("a client");
        let partitions = self.partitions(topic).unwrap_or_else(|| panic!("there is no topic {topic}"));
        let asked: Vec<_> = (0..partitions).map(|partition| (topic, partition, OffsetAt::Latest)).collect();
        try_wait(Duration::from_secs(60), "open transactions to end", || {
            let ends = |at| admin.list_offsets(&asked, at).map_err(|error| error.to_string());
            let (stable, all) = (ends(At::ReadCommitted)?, ends(At::ReadUncommitted)?);
            if stable == all { Ok(()) } else { Err(format!("{topic}: {stable:?} of {all:?}")) }
        });
        self.read_all(topic, Isolation::ReadCommitted)
    }

    /// Reads a topic from its start to the end that stands when the reader comes to it, by partition and offset.
    /// In `ReadCommitted` the end is the first open transaction, and one stays open until its marker is written,
    /// which is shortly after its commit was acknowledged: poll for what is expected.
    pub fn read_all(&self, topic: &str, isolation: Isolation) -> Vec<ReadRecord> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", unique("reader"))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .set(
                "isolation.level",
                match isolation {
                    Isolation::ReadCommitted => "read_committed",
                    Isolation::ReadUncommitted => "read_uncommitted",
                },
            )
            .create()
            .expect("a consumer");
        let partitions = self.partitions(topic).unwrap_or_else(|| panic!("there is no topic {topic}"));
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&assignment).expect("an assignment");
        let mut records = Vec::new();
        let mut at_end = vec![false; partitions as usize];
        let deadline = Deadline::after(Duration::from_secs(60));
        while at_end.contains(&false) {
            assert!(!deadline.is_over(), "{topic} was not read to its end; read so far: {}", records.len());
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) if !at_end[message.partition() as usize] => records.push(owned(&message)),
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => at_end[partition as usize] = true,
                // Told of connections that come and go; the deadline tells of those that do not come back.
                Some(Err(error)) if is_passing(&error) => {}
                Some(Err(error)) => panic!("{topic} cannot be read: {error}"),
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }
}

pub(super) fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

pub(super) fn owned(message: &impl Message) -> ReadRecord {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    ReadRecord {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
    }
}

pub(super) fn send(producer: &ThreadedProducer<Failed>, topic: &str, record: &ToSend) {
    let mut headers = OwnedHeaders::new();
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: name, value: value.as_deref() });
    }
    let mut out: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
    out.key = record.key.as_deref();
    out.payload = record.value.as_deref();
    out.partition = record.partition;
    out.timestamp = record.timestamp_ms;
    let deadline = Deadline::after(CALL_WITHIN);
    loop {
        match producer.send(out) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again))
                if !deadline.is_over() =>
            {
                out = again;
                pause();
            }
            Err((error, _)) => panic!("a record for {topic} cannot be sent: {error}"),
        }
    }
}

/// Collects the delivery errors of one producer.
#[derive(Default)]
pub(super) struct Failed(Mutex<Vec<String>>);

impl Failed {
    /// Panics if a record was not written.
    #[track_caller]
    pub(super) fn check(&self) {
        let failed = self.0.lock().expect("no panic under the lock");
        assert!(failed.is_empty(), "{} records were not written, the first: {}", failed.len(), failed[0]);
    }
}

impl ClientContext for Failed {}

impl ProducerContext for Failed {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().expect("no panic under the lock").push(error.to_string());
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}
