//! The raw half of [`Admin`](super::admin::Admin): librdkafka's admin calls, of which rdkafka wraps some only
//! (ListOffsets and the committed offsets of a group are missing there). Each call hands librdkafka a request
//! and a queue of its own, waits at that queue, and copies the answer into owned values.

#![allow(unsafe_code, reason = "these calls exist in C alone")]

use std::collections::BTreeSet;
use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as rd;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::{RDKafka, RDKafkaAdminOp as Op};

use super::admin::{Group, Isolation, Member, NewTopic, OffsetAt};
use super::admin_memory::{
    Answer, Answered, Answers, Options, OwnedNewTopic, Place, PlaceList, Queue, Refusal, array, c_string,
    group_places, no_answer, no_error, place, places, refused, taken_error, text,
};
use super::cluster::Cluster;
use super::partition::{Committed, Partition};
use crate::model::{Clock, GroupProtocol, SystemClock};

/// How often the client's own events are served while an answer is awaited.
const TURN: Duration = Duration::from_millis(50);

/// A client that asks only: a consumer without a group, for a producer's questions make missing topics on
/// brokers that create them by themselves.
pub(super) struct Native {
    client: BaseConsumer<Noted>,
}

impl Native {
    pub fn new(cluster: &Cluster) -> Result<Self, KafkaError> {
        let config = cluster.client_config();
        BaseConsumer::from_config_and_context(&config, Noted::default()).map(|client| Self { client })
    }

    /// A client to ask for the committed offsets of `group`. It never joins; but librdkafka reads a
    /// coordinator's refusal (it moved, it loads) through the client's own group, and ends the process where the
    /// client has none.
    pub fn of_group(cluster: &Cluster, group: &str) -> Result<Self, KafkaError> {
        let mut config = cluster.client_config();
        config.set("group.id", group).set("enable.auto.commit", "false");
        BaseConsumer::from_config_and_context(&config, Noted::default()).map(|client| Self { client })
    }

    /// The last thing that the client said about its connections.
    pub fn last_trouble(&self) -> Option<String> {
        self.client.context().lock().reason.clone()
    }

    /// Serves the client's events for one turn: the pause between two attempts.
    pub fn turn(&self) {
        self.client.poll(TURN);
    }

    /// Partition count of each topic, by plain metadata: DescribeTopics waits for a controller, which the
    /// embedded broker has none of.
    pub fn describe_topics(&self, names: &[&str], within: Duration) -> Answers<String, usize> {
        let mut topics = Vec::with_capacity(names.len());
        for name in names {
            // In slices, since a client that is refused entry learns of it between two calls only.
            let metadata = self.client.fetch_metadata(Some(name), within.min(Duration::from_secs(3)));
            self.client.poll(Duration::ZERO);
            if let Some(refused) = self.client.context().lock().refused_entry.take() {
                return Err(refused);
            }
            let metadata = metadata.map_err(|error| Refusal {
                code: error.rdkafka_error_code().unwrap_or(Code::Fail),
                reason: error.to_string(),
            })?;
            let found = metadata.topics().iter().find(|topic| topic.name() == *name);
            let answer = match found.map(|topic| (topic.error(), topic.partitions().len())) {
                Some((None, count)) => Ok(count),
                Some((Some(code), _)) => {
                    let code = Code::from(code);
                    Err(Refusal { code, reason: code.to_string() })
                }
                None => Err(no_answer()),
            };
            topics.push(((*name).to_owned(), answer));
        }
        Ok(topics)
    }

    /// The outcome for each topic.
    pub fn create_topics(&self, topics: &[NewTopic], within: Duration) -> Answers<String> {
        let mut wanted = topics.iter().map(OwnedNewTopic::new).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = wanted.iter_mut().map(|topic| topic.0).collect();
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_CREATETOPICS, within)?;
        self.ask(within, |rk, queue| {
            // SAFETY: the topics live until the end of this function; librdkafka copies them into the request.
            unsafe { rd::rd_kafka_CreateTopics(rk, pointers.as_mut_ptr(), pointers.len(), options.0, queue) }
        })?
        .read(|event| {
            // SAFETY: the event answers CreateTopics; what it points to lives as long as the event.
            unsafe {
                let result = rd::rd_kafka_event_CreateTopics_result(event);
                let topics = array(|count| rd::rd_kafka_CreateTopics_result_topics(result, count));
                let topics = topics.iter().map(|&topic| {
                    let reason = rd::rd_kafka_topic_result_error_string(topic);
                    let answer = refused(rd::rd_kafka_topic_result_error(topic), reason);
                    (text(rd::rd_kafka_topic_result_name(topic)), answer)
                });
                topics.collect()
            }
        })
    }

    /// The offset that each partition answers with, -1 for none. Partitions must be distinct.
    pub fn list_offsets(
        &self,
        queries: &[(&str, i32, OffsetAt)],
        isolation: Isolation,
        within: Duration,
    ) -> Answers<Place> {
        self.listed(&self.begin_to_list(queries, isolation, within)?, within)
    }

    /// Log start and end of each partition, as [`list_offsets`](Self::list_offsets) gives them; both questions are under
    /// way at once.
    pub fn bounds(
        &self,
        partitions: &[Partition],
        isolation: Isolation,
        within: Duration,
    ) -> Result<[Answered; 2], Refusal> {
        let begin = |at| {
            let queries: Vec<_> = partitions.iter().map(|p| (p.topic.as_str(), p.partition, at)).collect();
            self.begin_to_list(&queries, isolation, within)
        };
        let questions = [begin(OffsetAt::Earliest)?, begin(OffsetAt::Latest)?];
        let [first, end] = questions.map(|question| self.listed(&question, within));
        Ok([first?, end?])
    }

    fn begin_to_list(
        &self,
        queries: &[(&str, i32, OffsetAt)],
        isolation: Isolation,
        within: Duration,
    ) -> Result<Queue, Refusal> {
        let list = PlaceList::new(queries.iter().map(|&(topic, partition, at)| {
            let offset = match at {
                OffsetAt::Earliest => -2,
                OffsetAt::Latest => -1,
                OffsetAt::Timestamp(ms) => ms.max(0),
            };
            (topic, partition, offset, "")
        }))?;
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_LISTOFFSETS, within)?;
        let level = match isolation {
            Isolation::ReadCommitted => {
                rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
            }
            Isolation::ReadUncommitted => {
                rd::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
            }
        };
        // SAFETY: options for this operation, just made; the error is taken over.
        unsafe { taken_error(rd::rd_kafka_AdminOptions_set_isolation_level(options.0, level)) }?;
        // SAFETY: list and options outlive the call, which copies both.
        Ok(self.begin(|rk, queue| unsafe { rd::rd_kafka_ListOffsets(rk, list.0, options.0, queue) }))
    }

    fn listed(&self, question: &Queue, within: Duration) -> Answers<Place> {
        self.wait(question, within)?.read(|event| {
            // SAFETY: the event answers ListOffsets; what it points to lives as long as the event.
            unsafe {
                let result = rd::rd_kafka_event_ListOffsets_result(event);
                let infos = array(|count| rd::rd_kafka_ListOffsets_result_infos(result, count));
                let infos = infos.iter();
                infos.map(|&i| place(&*rd::rd_kafka_ListOffsetsResultInfo_topic_partition(i))).collect()
            }
        })
    }

    /// Deletes the records of each partition below an offset.
    pub fn delete_records(&self, below: &[(&str, i32, i64)], within: Duration) -> Answers<Place> {
        let list =
            PlaceList::new(below.iter().map(|&(topic, partition, offset)| (topic, partition, offset, "")))?;
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DELETERECORDS, within)?;
        self.ask(within, |rk, queue| {
            // SAFETY: the list outlives the block; the request keeps a copy of it, and the call one of the request, which
            // is destroyed here.
            unsafe {
                let mut request = rd::rd_kafka_DeleteRecords_new(list.0);
                rd::rd_kafka_DeleteRecords(rk, &mut request, 1, options.0, queue);
                rd::rd_kafka_DeleteRecords_destroy(request);
            }
        })?
        .read(|event| {
            // SAFETY: the event answers DeleteRecords; what it points to lives as long as the event.
            unsafe {
                let result = rd::rd_kafka_event_DeleteRecords_result(event);
                let list = rd::rd_kafka_DeleteRecords_result_offsets(result);
                places(list)
            }
        })
    }

    /// Committed offsets of a group, of these partitions or of all that have one.
    /// Only for a client [`of_group`](Self::of_group).
    pub fn committed(
        &self,
        group: &str,
        partitions: Option<&[Partition]>,
        require_stable: bool,
        within: Duration,
    ) -> Answers<Committed> {
        self.answered_committed(&self.begin_committed(group, partitions, require_stable, within)?, within)
    }

    /// The same for several groups, all questions under way at once.
    pub fn committed_of(&self, groups: &[(&str, &[Partition])], within: Duration) -> Vec<Answers<Committed>> {
        let questions: Vec<_> = groups
            .iter()
            .map(|(group, partitions)| self.begin_committed(group, Some(partitions), false, within))
            .collect();
        let answers = questions.into_iter().map(|question| self.answered_committed(&question?, within));
        answers.collect()
    }

    fn begin_committed(
        &self,
        group: &str,
        partitions: Option<&[Partition]>,
        require_stable: bool,
        within: Duration,
    ) -> Result<Queue, Refusal> {
        let list = partitions
            .map(|list| PlaceList::new(list.iter().map(|p| (p.topic.as_str(), p.partition, 0, ""))));
        let list = list.transpose()?;
        let group = c_string(group)?;
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, within)?;
        // SAFETY: options for this operation, just made; the error is taken over.
        unsafe {
            let stable = c_int::from(require_stable);
            taken_error(rd::rd_kafka_AdminOptions_set_require_stable_offsets(options.0, stable))
        }?;
        Ok(self.begin(|rk, queue| {
            let list = list.as_ref().map_or(ptr::null(), |list| list.0.cast_const());
            // SAFETY: group and list outlive the block; the request keeps copies, so it is destroyed here.
            unsafe {
                let mut request = rd::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), list);
                rd::rd_kafka_ListConsumerGroupOffsets(rk, &mut request, 1, options.0, queue);
                rd::rd_kafka_ListConsumerGroupOffsets_destroy(request);
            }
        }))
    }

    fn answered_committed(&self, question: &Queue, within: Duration) -> Answers<Committed> {
        let places = self.wait(question, within)?.read(|event| {
            // SAFETY: the event answers ListConsumerGroupOffsets; what it points to lives as long as it.
            unsafe {
                let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(event);
                group_places(array(|count| {
                    rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, count)
                }))
            }
        })??;
        let committed = places.into_iter().map(|(place, answer)| {
            let offset = (place.offset >= 0).then_some(place.offset);
            let Place { topic, partition, metadata, .. } = place;
            let partition = Partition { topic, partition };
            (Committed { partition, offset, metadata }, answer)
        });
        Ok(committed.collect())
    }

    /// Sets the committed offsets of a group that has no members.
    pub fn alter_committed(&self, group: &str, places: &[Place], within: Duration) -> Answers<Place> {
        self.answered_altered(&self.begin_to_alter(group, places, within)?, within)
    }

    /// The same for several groups, all requests under way at once.
    pub fn alter_committed_of(&self, groups: &[(&str, Vec<Place>)], within: Duration) -> Vec<Answers<Place>> {
        let requests: Vec<_> =
            groups.iter().map(|(group, places)| self.begin_to_alter(group, places, within)).collect();
        requests.into_iter().map(|request| self.answered_altered(&request?, within)).collect()
    }

    fn begin_to_alter(&self, group: &str, places: &[Place], within: Duration) -> Result<Queue, Refusal> {
        let list = places.iter().map(|p| (p.topic.as_str(), p.partition, p.offset, p.metadata.as_str()));
        let list = PlaceList::new(list)?;
        let group = c_string(group)?;
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS, within)?;
        Ok(self.begin(|rk, queue| {
            // SAFETY: group and list outlive the block; the request keeps copies, so it is destroyed here.
            unsafe {
                let mut request = rd::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), list.0);
                rd::rd_kafka_AlterConsumerGroupOffsets(rk, &mut request, 1, options.0, queue);
                rd::rd_kafka_AlterConsumerGroupOffsets_destroy(request);
            }
        }))
    }

    fn answered_altered(&self, request: &Queue, within: Duration) -> Answers<Place> {
        self.wait(request, within)?.read(|event| {
            // SAFETY: the event answers AlterConsumerGroupOffsets; what it points to lives as long as it.
            unsafe {
                let result = rd::rd_kafka_event_AlterConsumerGroupOffsets_result(event);
                group_places(array(|count| {
                    rd::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, count)
                }))
            }
        })?
    }

    /// State and members of each group; the requests to their coordinators go out together.
    pub fn describe_groups(&self, groups: &[&str], within: Duration) -> Answers<String, Group> {
        let names = groups.iter().map(|group| c_string(group)).collect::<Result<Vec<_>, _>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let options = self.options(Op::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, within)?;
        self.ask(within, |rk, queue| {
            // SAFETY: so many C strings, which librdkafka copies.
            unsafe {
                rd::rd_kafka_DescribeConsumerGroups(
                    rk,
                    pointers.as_mut_ptr(),
                    pointers.len(),
                    options.0,
                    queue,
                )
            }
        })?
        .read(|event| {
            // SAFETY: the event answers DescribeConsumerGroups; what it points to lives as long as it.
            unsafe {
                let result = rd::rd_kafka_event_DescribeConsumerGroups_result(event);
                let groups = array(|count| rd::rd_kafka_DescribeConsumerGroups_result_groups(result, count));
                let answer = |&group| {
                    let name = text(rd::rd_kafka_ConsumerGroupDescription_group_id(group));
                    (name, described(group))
                };
                Ok(groups.iter().map(answer).collect())
            }
        })?
    }

    /// All groups of all brokers.
    pub fn group_names(&self, within: Duration) -> Result<BTreeSet<String>, Refusal> {
        let groups = self.client.fetch_group_list(None, within).map_err(|error| {
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            Refusal { code, reason: error.to_string() }
        })?;
        Ok(groups.groups().iter().map(|group| group.name().to_owned()).collect())
    }

    fn options(&self, operation: Op, within: Duration) -> Result<Options, Refusal> {
        let timeout_ms = c_int::try_from(within.as_millis()).unwrap_or(c_int::MAX).clamp(1, 3_600_000);
        let mut message = [0 as c_char; 256];
        // SAFETY: the client outlives the options (both are of this call); the buffer has the size that is named.
        unsafe {
            let options = Options(rd::rd_kafka_AdminOptions_new(self.rk(), operation));
            let size = message.len();
            let code = rd::rd_kafka_AdminOptions_set_request_timeout(
                options.0,
                timeout_ms,
                message.as_mut_ptr(),
                size,
            );
            refused(code, message.as_ptr())?;
            Ok(options)
        }
    }

    fn rk(&self) -> *mut RDKafka {
        self.client.client().native_ptr()
    }

    /// Submits a request and waits for its answer.
    fn ask(
        &self,
        within: Duration,
        submit: impl FnOnce(*mut RDKafka, *mut rd::rd_kafka_queue_t),
    ) -> Result<Answer, Refusal> {
        self.wait(&self.begin(submit), within)
    }

    /// Submits a request; its answer comes to a queue of its own.
    fn begin(&self, submit: impl FnOnce(*mut RDKafka, *mut rd::rd_kafka_queue_t)) -> Queue {
        // SAFETY: the client lives; the queue is destroyed by its guard.
        let queue = Queue(unsafe { rd::rd_kafka_queue_new(self.rk()) });
        submit(self.rk(), queue.0);
        queue
    }

    /// Waits for the answer to a request. A client that is refused entry says so in its own events and would try until the
    /// deadline; that ends the wait at once.
    fn wait(&self, queue: &Queue, within: Duration) -> Result<Answer, Refusal> {
        let clock = SystemClock::start();
        loop {
            // SAFETY: the queue is this request's own; an event that comes is owned by the answer.
            let event = unsafe { rd::rd_kafka_queue_poll(queue.0, TURN.as_millis() as c_int) };
            if !event.is_null() {
                return Ok(Answer(event));
            }
            self.client.poll(Duration::ZERO);
            if let Some(refused) = self.client.context().lock().refused_entry.take() {
                return Err(refused);
            }
            // librdkafka answers when the request's time is over; this is for the case that it does not.
            if clock.now().elapsed > within + Duration::from_secs(1) {
                let code = Code::OperationTimedOut;
                return Err(Refusal { code, reason: code.to_string() });
            }
        }
    }
}

/// What is said of one group.
///
/// # Safety
///
/// `group` points into an answer to DescribeConsumerGroups that is still there.
unsafe fn described(group: *const rd::rd_kafka_ConsumerGroupDescription_t) -> Result<Group, Refusal> {
    // SAFETY: by the caller's promise; members and texts live as long as the group.
    unsafe {
        no_error(rd::rd_kafka_ConsumerGroupDescription_error(group))?;
        let state = rd::rd_kafka_ConsumerGroupDescription_state(group);
        let count = rd::rd_kafka_ConsumerGroupDescription_member_count(group);
        let members = (0..count).map(|index| {
            let member = rd::rd_kafka_ConsumerGroupDescription_member(group, index);
            let instance = text(rd::rd_kafka_MemberDescription_group_instance_id(member));
            Member {
                client_id: text(rd::rd_kafka_MemberDescription_client_id(member)),
                member_id: text(rd::rd_kafka_MemberDescription_consumer_id(member)),
                instance_id: (!instance.is_empty()).then_some(instance),
                host: text(rd::rd_kafka_MemberDescription_host(member)),
            }
        });
        let members = members.collect();
        use rd::rd_kafka_consumer_group_type_t as T;
        let protocol = match rd::rd_kafka_ConsumerGroupDescription_type(group) {
            T::RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER => Some(GroupProtocol::Consumer),
            T::RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC => Some(GroupProtocol::Classic),
            _ => None,
        };
        Ok(Group { state: text(rd::rd_kafka_consumer_group_state_name(state)), protocol, members })
    }
}

/// What the client says unasked.
#[derive(Default)]
struct Noted(Mutex<Trouble>);

#[derive(Default)]
struct Trouble {
    reason: Option<String>,
    refused_entry: Option<Refusal>,
}

impl Noted {
    fn lock(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Noted {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
        // A consumer's errors come without their text, so the line that says why a connection failed is
        // kept from here: `[thrd:…]: host:port/…: Connect to … failed: Connection refused (after …)`.
        if facility == "FAIL" {
            let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
            self.lock().reason = Some(reason.to_owned());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut noted = self.lock();
        if let Some(code @ (Code::Authentication | Code::SSL)) = error.rdkafka_error_code() {
            noted.refused_entry = Some(Refusal { code, reason: reason.to_owned() });
        }
        // "all brokers down" follows the reason and says less.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            noted.reason = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Noted {}
