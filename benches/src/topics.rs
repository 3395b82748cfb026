//! The topics of a run: made, looked at, counted, removed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::clock;

/// Partitions of every topic of a benchmark.
pub const PARTITIONS: i32 = 4;

/// How long one request to the broker may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long many topics may take to be there.
const WITHIN: Duration = Duration::from_secs(300);

/// Makes and removes topics.
pub struct Topics {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Topics {
    /// Topics at `brokers`.
    pub fn at(brokers: &str) -> Result<Self> {
        let admin = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { brokers: brokers.to_owned(), admin, runtime })
    }

    /// Makes a topic.
    pub fn create(&self, topic: &str) -> Result<()> {
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        let made = self.runtime.block_on(self.admin.create_topics([&new], &AdminOptions::new()));
        self.settle(made, "create")?;
        // Created is not yet led: until then clients are refused and wait before they ask again.
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?;
        let (deadline, pace) = (Duration::from_secs(30), Duration::from_millis(20));
        clock::until("every partition has a leader", deadline, pace, || {
            let led = |partition| client.fetch_watermarks(topic, partition, REQUEST_TIMEOUT).is_ok();
            Ok((0..PARTITIONS).all(led).then_some(()))
        })
    }

    /// Makes many topics, a hundred partitions or so at a time.
    pub fn create_many(&self, topics: &[(String, i32)]) -> Result<()> {
        const BATCH: usize = 20;
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(60)));
        for batch in topics.chunks(BATCH) {
            let new: Vec<_> = batch
                .iter()
                .map(|(topic, partitions)| NewTopic::new(topic, *partitions, TopicReplication::Fixed(1)))
                .collect();
            let made = self.runtime.block_on(self.admin.create_topics(&new, &options));
            self.settle(made, "create")?;
        }
        let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?;
        let wanted: BTreeMap<&str, i32> =
            topics.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        clock::until("every partition has a leader", WITHIN, Duration::from_millis(500), || {
            let metadata = client.fetch_metadata(None, REQUEST_TIMEOUT)?;
            let led = metadata.topics().iter().filter(|topic| {
                let led = topic.partitions().iter().filter(|partition| partition.leader() >= 0).count();
                wanted
                    .get(topic.name())
                    .is_some_and(|count| usize::try_from(*count).is_ok_and(|it| it == led))
            });
            Ok((led.count() == wanted.len()).then_some(()))
        })
    }

    /// Removes a topic, so that the disk holds the input and one output at a time.
    pub fn delete(&self, topic: &str) -> Result<()> {
        let gone = self.runtime.block_on(self.admin.delete_topics(&[topic], &AdminOptions::new()));
        self.settle(gone, "delete")
    }

    /// How many records of `topic` a `read_committed` reader sees: what was really delivered.
    pub fn count_visible(&self, topic: &str) -> Result<u64> {
        let consumer = self.reader(topic)?;
        let (mut count, mut ended) = (0, 0);
        while ended < PARTITIONS {
            match consumer.poll(REQUEST_TIMEOUT) {
                Some(Ok(record)) => count += u64::from(record.offset() >= 0),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => return Err(error).with_context(|| format!("read {topic}")),
                None => bail!("{topic} could not be read to its end"),
            }
        }
        Ok(count)
    }

    /// A `read_committed` reader of the whole of `topic`, which also tells where each partition ends.
    pub fn reader(&self, topic: &str) -> Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "tidemill-bench-count")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .set("fetch.queue.backoff.ms", "5");
        let consumer: BaseConsumer = config.create()?;
        consumer.assign(&every_partition(topic, Offset::Beginning)?)?;
        Ok(consumer)
    }

    fn settle(
        &self,
        results: rdkafka::error::KafkaResult<Vec<rdkafka::admin::TopicResult>>,
        verb: &str,
    ) -> Result<()> {
        for result in results.with_context(|| format!("{verb} a topic"))? {
            if let Err((topic, code)) = result {
                bail!("{verb} topic {topic}: {code}");
            }
        }
        Ok(())
    }
}

/// All partitions of `topic` at the same offset.
pub fn every_partition(topic: &str, offset: Offset) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, offset)?;
    }
    Ok(list)
}
