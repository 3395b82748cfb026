//! One member of a consumer group.
//!
//! librdkafka's order of things, which this file is shaped by:
//! * Group events (assign, revoke, errors) come through the consumer's main queue, which must be polled
//!   in every round or the member is thrown out after `max.poll.interval.ms`. They are handed to the
//!   worker as values; nothing is done inside the callback. librdkafka waits in the meantime and keeps
//!   its heartbeats, so the worker can cut before it lets partitions go.
//! * Records come through a queue of the worker, to which each partition's queue is forwarded **before**
//!   the partition is assigned; done later, first records would come through the main queue, out of order.
//!   The queue is read in batches: one lock for a thousand records.
//! * Partitions are assigned at explicit offsets, taken from the group in one fetch together with the
//!   metadata, with `require_stable` (librdkafka asks for it because `isolation.level=read_committed`).
//! * Stored offsets and `position()` are never used: batch reads move them on errors and EOF. librdkafka itself
//!   uses that position: for each rebalance it pauses every partition and goes on where it believes the reader
//!   stands, and batch reads count the end-of-partition mark as a record. Left alone, a partition that was read to
//!   its end would go on one record too far: that record is lost, or the position is out of range. So every
//!   answer to the group is preceded by [`Consumer::rewind`] for the partitions that stay.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ptr;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use rdkafka_sys as sys;

use super::client::ClientLog;
use super::cluster::Cluster;
use super::error::Error;
use super::message::{LazyHeaders, Message, TopicHandle};
use super::partition::{self, Commit, Committed, Partition};
use crate::model::{CLASSIC_ONLY, GroupProtocol, Record};

/// What the group tells a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupEvent {
    /// These partitions are yours from now on: answer with [`Consumer::assign`].
    Assign(Vec<Partition>),
    /// Let these go: answer with [`Consumer::release`].
    Revoke {
        /// Which.
        partitions: Vec<Partition>,
        /// They are somebody else's already: nothing may be committed for them.
        is_lost: bool,
    },
    /// The client has no connection left; it goes on trying. It may be that none was needed.
    Away(Error),
    /// Something is wrong with the connection; librdkafka goes on trying.
    Trouble(Error),
}

/// What stands at the head of the batch.
pub enum Fetched<'a> {
    /// A record.
    Record(Record<'a>),
    /// The partition was read to its end, which is this offset.
    End {
        /// Topic.
        topic: &'a str,
        /// Partition.
        partition: i32,
        /// The next offset that will be written, after markers and aborted records.
        offset: i64,
    },
    /// An error of one partition, such as an offset out of range.
    Error {
        /// Topic.
        topic: &'a str,
        /// Partition.
        partition: i32,
        /// What it is.
        code: RDKafkaErrorCode,
        /// What librdkafka says.
        text: String,
    },
}

/// How to make a consumer.
pub struct ConsumerConfig<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The group.
    pub group: &'a str,
    /// How it joins.
    pub protocol: GroupProtocol,
    /// Shown in the broker's logs and in the group's description.
    pub client_id: &'a str,
    /// How long the worker may be silent while a call runs.
    pub longest_silence: Duration,
    /// Settings of the function, checked by the manifest not to be the engine's own.
    pub settings: &'a BTreeMap<String, String>,
}

struct Context {
    log: ClientLog,
    events: Mutex<VecDeque<GroupEvent>>,
    /// Set while closing: nobody answers events any more, so revocations are answered at once.
    is_closing: std::sync::atomic::AtomicBool,
}

impl Context {
    fn push(&self, event: GroupEvent) {
        self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_back(event);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Err("OAUTHBEARER needs `sasl.oauthbearer.method=oidc`".into())
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.is_closing.load(std::sync::atomic::Ordering::Acquire) {
            // A refused unassign means that nothing was assigned.
            let _ = consumer.unassign();
            return;
        }
        // librdkafka sends empty lists too; they must be answered like any other.
        let partitions = partition::partitions(list);
        self.push(match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => GroupEvent::Assign(partitions),
            _ => GroupEvent::Revoke { partitions, is_lost: consumer.assignment_lost() },
        });
    }
}

/// A group member that reads in batches.
pub struct Consumer {
    // Declared before `base`, so that messages and queue go before their client.
    batch: VecDeque<Message>,
    raw: Vec<*mut sys::rd_kafka_message_t>,
    /// Of the record at the head.
    headers: LazyHeaders,
    queue: Queue,
    names: Vec<(TopicHandle, String)>,
    /// Assigned and not released. librdkafka refuses a release that names any other, and then waits for
    /// its answer for ever.
    assigned: HashSet<Partition>,
    protocol: GroupProtocol,
    base: BaseConsumer<Context>,
}

struct Queue(*mut sys::rd_kafka_queue_t);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: owned, and its client lives longer (see the field order of `Consumer`).
        unsafe { sys::rd_kafka_queue_destroy(self.0) }
    }
}

/// Settings that the engine wants unless a function overrides them.
const DEFAULTS: [(&str, &str); 9] = [
    // A full queue would stall fetching for a second (librdkafka's default): 164 k records/s instead of 1.04 M.
    ("fetch.queue.backoff.ms", "5"),
    // A read_committed fetch may sit out this time after a commit: it bounds latency.
    ("fetch.wait.max.ms", "100"),
    ("queued.min.messages", "100000"),
    // Of all partitions together, because their queues are forwarded to one: librdkafka looks at its size.
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.message.max.bytes", "1048576"),
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("check.crcs", "false"),
];

impl Consumer {
    /// Makes a member of the group; it joins with [`Consumer::subscribe`].
    pub fn new(config: &ConsumerConfig<'_>) -> Result<Self, Error> {
        let mut client = config.cluster.client_config();
        for (name, value) in DEFAULTS {
            client.set(name, value);
        }
        for (name, value) in config.settings {
            client.set(name, value);
        }
        client
            .set("group.id", config.group)
            .set("client.id", config.client_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Start offsets are resolved at registration; out of range must be seen, not papered over.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            // A call blocks the poll: a member that is silent for longer is thrown out.
            .set("max.poll.interval.ms", config.longest_silence.as_millis().max(300_000).to_string());
        client.set("group.protocol", config.protocol.as_str());
        match config.protocol {
            GroupProtocol::Classic => {
                client.set("partition.assignment.strategy", "cooperative-sticky");
            }
            // librdkafka refuses what is the brokers' business then.
            GroupProtocol::Consumer => CLASSIC_ONLY.iter().for_each(|name| {
                client.remove(name);
            }),
        }
        let context = Context {
            log: ClientLog::new(),
            events: Mutex::new(VecDeque::new()),
            is_closing: std::sync::atomic::AtomicBool::new(false),
        };
        let base: BaseConsumer<Context> =
            client.create_with_context(context).map_err(|error| Error::of_call(&error))?;
        // SAFETY: the client is alive; the queue is destroyed before it.
        let queue = Queue(unsafe { sys::rd_kafka_queue_new(base.client().native_ptr()) });
        const BATCH: usize = 1000;
        Ok(Self {
            batch: VecDeque::with_capacity(BATCH),
            raw: vec![ptr::null_mut(); BATCH],
            headers: LazyHeaders::new(),
            queue,
            names: Vec::new(),
            assigned: HashSet::new(),
            protocol: config.protocol,
            base,
        })
    }

    /// A consumer that joins no group, for a look at a topic; it is told what with [`Consumer::assign`].
    pub fn reader(cluster: &Cluster, purpose: &str) -> Result<Self, Error> {
        Self::new(&ConsumerConfig {
            cluster,
            // A consumer has to name a group even when it joins none.
            group: &format!("tidemill.{purpose}.{}", std::process::id()),
            protocol: GroupProtocol::Classic,
            client_id: &format!("tidemill-{purpose}"),
            longest_silence: Duration::ZERO,
            settings: &BTreeMap::new(),
        })
    }

    /// Joins the group for these topics. By KIP-848 the same topics again make a member send its heartbeat at once.
    pub fn subscribe(&self, topics: &[&str]) -> Result<(), Error> {
        self.base.subscribe(topics).map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => self.fatal(&error),
            _ => Error::of_call(&error),
        })
    }

    /// Serves the main queue without waiting and takes what the group said since.
    pub fn group_event(&self) -> Option<GroupEvent> {
        self.group_event_within(Duration::ZERO)
    }

    /// The same, waiting for as long as `wait`.
    pub fn group_event_within(&self, wait: Duration) -> Option<GroupEvent> {
        match self.base.poll(wait) {
            None => {}
            // Partition queues are forwarded before they fill, so no record comes this way. One that did
            // would be missing in its lane.
            Some(Ok(_)) => {
                let error = Error::Fatal("a record came through the main queue".to_owned());
                self.base.context().push(GroupEvent::Trouble(error));
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) => {
                self.base.context().push(GroupEvent::Away(Error::of_call(&error)));
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                self.base.context().push(GroupEvent::Trouble(self.fatal(&error)));
            }
            Some(Err(error)) => {
                self.base.context().log.error(error.clone(), "the client goes on trying");
                self.base.context().push(GroupEvent::Trouble(Error::of_call(&error)));
            }
        }
        let mut events = self.base.context().events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        events.pop_front()
    }

    /// Why the client cannot be used any more.
    fn fatal(&self, error: &KafkaError) -> Error {
        use RDKafkaErrorCode as C;
        match self.base.client().fatal_error() {
            // Of a broker that does not know the request, or is told not to.
            Some((C::UnsupportedFeature | C::UnsupportedVersion, text))
                if self.protocol == GroupProtocol::Consumer =>
            {
                Error::NoProtocol(text)
            }
            Some((_, text)) => Error::Fatal(text),
            None => Error::of_call(error),
        }
    }

    /// What the group committed for these partitions, in one fetch with their metadata. A dead
    /// owner's open transaction makes this wait (`require_stable`).
    pub fn committed(&self, partitions: &[Partition], wait: Duration) -> Result<Vec<Committed>, Error> {
        let list = partition::list(partitions.iter().map(|partition| (partition, Offset::Invalid)))?;
        let list = self.base.committed_offsets(list, wait).map_err(|error| Error::of_call(&error))?;
        partition::committed(&list)
    }

    /// All partitions of a topic.
    pub fn partitions(&self, topic: &str, wait: Duration) -> Result<Vec<Partition>, Error> {
        let metadata = self.base.fetch_metadata(Some(topic), wait).map_err(|error| Error::of_call(&error))?;
        let found = metadata.topics().iter().filter(|found| found.name() == topic);
        let partitions = found.flat_map(|topic| topic.partitions());
        Ok(partitions.map(|found| Partition { topic: topic.to_owned(), partition: found.id() }).collect())
    }

    /// First and next offset of a partition.
    pub fn ends(&self, partition: &Partition, wait: Duration) -> Result<(i64, i64), Error> {
        self.base
            .fetch_watermarks(&partition.topic, partition.partition, wait)
            .map_err(|error| Error::of_call(&error))
    }

    /// The partition's end as of the last fetch, without asking the brokers.
    pub fn known_end(&self, partition: &Partition) -> Option<i64> {
        let topic = std::ffi::CString::new(partition.topic.as_str()).ok()?;
        let (mut first, mut end) = (0, 0);
        // SAFETY: the client is alive, the name is a C string, both results are ours.
        let error = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.base.client().native_ptr(),
                topic.as_ptr(),
                partition.partition,
                &mut first,
                &mut end,
            )
        };
        (error as i32 == 0 && end >= 0).then_some(end)
    }

    /// The first offset whose record is not older than `timestamp_ms`; `None`: there is no such record.
    pub fn offset_at(
        &self,
        partition: &Partition,
        timestamp_ms: i64,
        wait: Duration,
    ) -> Result<Option<i64>, Error> {
        let list = partition::list([(partition, Offset::Offset(timestamp_ms))])?;
        let list = self.base.offsets_for_times(list, wait).map_err(|error| Error::of_call(&error))?;
        Ok(partition::committed(&list)?.first().and_then(|found| found.offset))
    }

    /// Takes partitions over, reading from the given offsets; the answer to [`GroupEvent::Assign`]. That may be
    /// answered with none of them, and they be taken over later: until it is answered, nothing is read.
    pub fn assign(&mut self, starts: &[(Partition, i64)]) -> Result<(), Error> {
        for (partition, _) in starts {
            self.forward(partition)?;
        }
        let list =
            partition::list(starts.iter().map(|(partition, offset)| (partition, Offset::Offset(*offset))))?;
        self.base.incremental_assign(&list).map_err(|error| Error::of_call(&error))?;
        self.assigned.extend(starts.iter().map(|(partition, _)| partition.clone()));
        Ok(())
    }

    /// Lets partitions go; the answer to [`GroupEvent::Revoke`]. Their fetched records are dropped; those
    /// that were never taken over are passed over.
    pub fn release(&mut self, partitions: &[Partition]) -> Result<(), Error> {
        let names = std::mem::take(&mut self.names);
        self.batch.retain(|message| {
            !partitions.iter().any(|partition| {
                partition.partition == message.partition() && partition.topic == message.topic()
            })
        });
        // A topic handle may be reused for another topic once its partitions are gone.
        drop(names);
        let held = partitions.iter().filter(|partition| self.assigned.remove(partition));
        let list = partition::list(held.map(|partition| (partition, Offset::Invalid)))?;
        self.base.incremental_unassign(&list).map_err(|error| Error::of_call(&error))
    }

    /// Goes on reading at these offsets; everything fetched before is dropped, but for errors. A partition that is
    /// not being fetched stays so: either it begins just now at the offset that it was assigned with, or
    /// its error is at hand or on its way.
    pub fn rewind(&mut self, starts: &[(Partition, i64)], wait: Duration) -> Result<(), Error> {
        self.batch.retain(|message| {
            use sys::rd_kafka_resp_err_t as E;
            !matches!(message.error(), E::RD_KAFKA_RESP_ERR_NO_ERROR | E::RD_KAFKA_RESP_ERR__PARTITION_EOF)
        });
        if starts.is_empty() {
            return Ok(());
        }
        let list =
            partition::list(starts.iter().map(|(partition, offset)| (partition, Offset::Offset(*offset))))?;
        let list = self.base.seek_partitions(list, wait).map_err(|error| Error::Away(error.to_string()))?;
        partition::check(&list, RDKafkaErrorCode::State)
    }

    /// Fetches nothing of these partitions until [`Consumer::resume`]; what is fetched already may still come.
    pub fn pause(&self, partitions: &[Partition]) -> Result<(), Error> {
        let list = partition::list(partitions.iter().map(|partition| (partition, Offset::Invalid)))?;
        self.base.pause(&list).map_err(|error| Error::of_call(&error))
    }

    /// Fetches these partitions again, which must be paused. librdkafka goes on where it believes the reader stands, so
    /// [`Consumer::rewind`] comes first. Of a partition that is *not* paused this would drop what is fetched and not
    /// yet read, and fetch on behind it: `rd_kafka_toppar_pause_resume` makes it outdated before it looks.
    pub fn resume(&self, partitions: &[Partition]) -> Result<(), Error> {
        let list = partition::list(partitions.iter().map(|partition| (partition, Offset::Invalid)))?;
        self.base.resume(&list).map_err(|error| Error::of_call(&error))
    }

    /// Partitions that this member still holds, though nobody told the worker otherwise, are lost.
    pub fn is_assignment_lost(&self) -> bool {
        self.base.assignment_lost()
    }

    /// Reads the next batch if the last one is used up; waits at most `wait` for its first record.
    /// Returns how many records and marks are at hand.
    pub fn fill(&mut self, wait: Duration) -> usize {
        if self.batch.is_empty() {
            // The batch call waits for a *full* batch, so the first record is waited for alone.
            let first = self.read(wait, 1);
            if first > 0 {
                self.read(Duration::ZERO, self.raw.len());
            }
        }
        self.batch.len()
    }

    fn read(&mut self, wait: Duration, most: usize) -> usize {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `raw` has room for `most` pointers; each one filled in is owned by the batch from here on.
        let count = unsafe {
            let count = sys::rd_kafka_consume_batch_queue(self.queue.0, wait_ms, self.raw.as_mut_ptr(), most);
            usize::try_from(count).unwrap_or(0)
        };
        for raw in &self.raw[..count] {
            // SAFETY: the call above filled in `count` live messages.
            self.batch.push_back(unsafe { Message::own(*raw) });
        }
        count
    }

    /// How many records and marks are at hand.
    pub fn at_hand(&self) -> usize {
        self.batch.len()
    }

    /// The head of the batch.
    #[inline]
    pub fn head(&mut self) -> Option<Fetched<'_>> {
        let handle = self.batch.front()?.topic_handle();
        let name = match self.names.iter().position(|(known, _)| *known == handle) {
            Some(at) => at,
            None => {
                let topic = self.batch.front()?.topic().to_owned();
                self.names.push((handle, topic));
                self.names.len() - 1
            }
        };
        let message = self.batch.front()?;
        let topic = self.names[name].1.as_str();
        let error = message.error();
        if error as i32 == 0 {
            // SAFETY: they are lent together with the message at the head, for as long as this consumer stays
            // borrowed, and stand for the next one before that is lent.
            unsafe { self.headers.stand_for(message) };
            return Some(Fetched::Record(message.record(topic, &self.headers)));
        }
        let (partition, offset) = (message.partition(), message.offset());
        Some(match error {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                Fetched::End { topic, partition, offset }
            }
            code => Fetched::Error { topic, partition, code: code.into(), text: message.error_text() },
        })
    }

    /// Done with the head of the batch.
    #[inline]
    pub fn advance(&mut self) {
        self.batch.pop_front();
    }

    /// Commits outside a transaction, and waits for the broker.
    pub fn commit(&self, commits: &[Commit]) -> Result<(), Error> {
        let list = partition::commit_list(commits)?;
        self.base.commit(&list, CommitMode::Sync).map_err(|error| Error::of_call(&error))
    }

    /// The group metadata for a transaction's offset commit, fresh. Refused unless this is a member
    /// in good standing: classic groups accept an offset commit with an empty member, so nothing
    /// would fence a client that was thrown out.
    pub(super) fn membership(&self) -> Result<rdkafka::consumer::ConsumerGroupMetadata, Error> {
        if self.base.assignment_lost() {
            return Err(Error::Stale("the assignment is lost".to_owned()));
        }
        // SAFETY: the client is alive; the metadata is destroyed below, the member id is only looked at.
        let (is_member, generation) = unsafe {
            let raw = sys::rd_kafka_consumer_group_metadata(self.base.client().native_ptr());
            if raw.is_null() {
                return Err(Error::Stale("there is no group".to_owned()));
            }
            let member = sys::rd_kafka_consumer_group_metadata_member_id(raw);
            let found =
                (!member.is_null() && *member != 0, sys::rd_kafka_consumer_group_metadata_generation_id(raw));
            sys::rd_kafka_consumer_group_metadata_destroy(raw);
            found
        };
        // By KIP-848 a member's id is its own invention, and epoch 0 that of one that wants to join.
        let least = if self.protocol == GroupProtocol::Consumer { 1 } else { 0 };
        if !is_member || generation < least {
            return Err(Error::Stale(format!("not a member of the group (generation {generation})")));
        }
        self.no_membership()
    }

    /// The group metadata of a consumer that joined nothing.
    pub(super) fn no_membership(&self) -> Result<rdkafka::consumer::ConsumerGroupMetadata, Error> {
        self.base.group_metadata().ok_or_else(|| Error::Stale("there is no group".to_owned()))
    }

    /// This member is one in good standing; else why it is not.
    pub fn check_membership(&self) -> Result<(), Error> {
        self.membership().map(|_| ())
    }

    /// Leaves the group. Everything at hand is dropped; partitions not yet released go without a commit.
    pub fn close(mut self) {
        self.batch.clear();
        self.base.context().is_closing.store(true, std::sync::atomic::Ordering::Release);
        self.base.unsubscribe();
        // An unanswered event would hold the group's state machine for ever.
        let _ = self.base.unassign();
        drop(self);
    }

    fn forward(&self, partition: &Partition) -> Result<(), Error> {
        let topic = std::ffi::CString::new(partition.topic.as_str())
            .map_err(|_| Error::Config(format!("topic name {:?} holds a zero byte", partition.topic)))?;
        // SAFETY: client and queue are alive; the partition's queue handle is given back at once,
        // the forwarding stays with the partition.
        unsafe {
            let queue = sys::rd_kafka_queue_get_partition(
                self.base.client().native_ptr(),
                topic.as_ptr(),
                partition.partition,
            );
            if queue.is_null() {
                return Err(Error::Away(format!("partition {partition} has no queue")));
            }
            sys::rd_kafka_queue_forward(queue, self.queue.0);
            sys::rd_kafka_queue_destroy(queue);
        }
        Ok(())
    }
}
