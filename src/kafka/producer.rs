//! The producer of one worker, transactional or not.
//!
//! * Outputs carry where they came from (lane and offset) as librdkafka's opaque word, so that a refused
//!   one names its culprit. `delivery.report.only.error=true` spares an event per record.
//! * The report queue is served here directly: rdkafka's `poll` reads the clock around every event, a
//!   tenth of a copy loop's time.
//! * Before a commit the queue is drained by [`Producer::flush`], which wakes when the last record is
//!   acknowledged; the safe API's own flush waits in steps of 100 ms.
//! * An abort purges what is queued, and every purged record becomes a report that somebody must take
//!   while the abort waits: a second thread does, for that long.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};
use rdkafka_sys as sys;
use rdkafka_sys::{
    rd_kafka_vtype_t as FieldKind, rd_kafka_vu_s as Field, rd_kafka_vu_s__bindgen_ty_1 as Value,
    rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 as Bytes,
};

use super::admin_configs::MessageLimits;
use super::client::ClientLog;
use super::cluster::Cluster;
use super::consumer::Consumer;
use super::error::Error;
use super::partition::{self, Commit};
use crate::model::Header;

/// How to make a producer.
pub struct ProducerConfig<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Shown in the broker's logs.
    pub client_id: &'a str,
    /// `Some`: exactly once, under this id.
    pub transactional_id: Option<&'a str>,
    /// How long the broker lets a transaction stand open: also how long a dead worker's outputs can
    /// hold up readers.
    pub transaction_timeout: Duration,
    /// What the topics take that it writes; `None`: as the client's defaults have it.
    pub limits: Option<MessageLimits>,
    /// Settings of the function, checked by the manifest not to be the engine's own.
    pub settings: &'a BTreeMap<String, String>,
}

/// A topic that this producer writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicIndex(usize);

/// Where an output came from: a lane's number (16 bits) and the record's offset (48 bits), as much
/// as librdkafka's opaque word holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(u64);

impl Origin {
    /// Of the record at `offset` of lane number `lane`.
    pub fn new(lane: u16, offset: i64) -> Self {
        Self(u64::from(lane) << 48 | (offset as u64 & 0xffff_ffff_ffff))
    }

    /// Of no record of lane number `lane`: of its state, or of what time made of that.
    pub fn of_no_record(lane: u16) -> Self {
        Self::new(lane, -1)
    }

    /// No record is to blame.
    pub fn is_of_no_record(self) -> bool {
        self.0 & 0xffff_ffff_ffff == 0xffff_ffff_ffff
    }

    /// The lane's number.
    pub fn lane(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The record's offset.
    pub fn offset(self) -> i64 {
        (self.0 & 0xffff_ffff_ffff) as i64
    }
}

/// An output that the broker, or the client's own limits, refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The record it was made from.
    pub origin: Origin,
    /// Which topic did not take it.
    pub topic: String,
    /// Why.
    pub reason: String,
    /// The output itself is at fault, not the connection: trying again will not help.
    pub is_final: bool,
}

struct Context {
    log: ClientLog,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, _: &DeliveryResult<'_>, _: usize) {}
}

/// One record to be written.
pub struct Produce<'a> {
    /// Where to.
    pub topic: TopicIndex,
    /// Which of its partitions; `None`: the one that its key falls to.
    pub partition: Option<i32>,
    /// Key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is null.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [Header<'a>],
    /// Milliseconds since the epoch; `None`: now.
    pub timestamp_ms: Option<i64>,
    /// What it was made from.
    pub origin: Origin,
}

/// A producer with its topics.
pub struct Producer {
    topics: Vec<Topic>,
    reports: Reports,
    refusals: Vec<Refusal>,
    fatal: Option<Error>,
    /// What a record is queued with, in the order of [`FIELDS`]. Each takes 72 bytes, so only what differs from
    /// record to record is written.
    fields: [Field; FIELDS.len()],
    /// Shared with a thread that puts offsets into a transaction.
    base: Arc<BaseProducer<Context>>,
}

/// The fields of a record; the headers come last, since most have none.
const FIELDS: [FieldKind; 8] = [
    FieldKind::RD_KAFKA_VTYPE_RKT,
    FieldKind::RD_KAFKA_VTYPE_MSGFLAGS,
    FieldKind::RD_KAFKA_VTYPE_VALUE,
    FieldKind::RD_KAFKA_VTYPE_KEY,
    FieldKind::RD_KAFKA_VTYPE_OPAQUE,
    FieldKind::RD_KAFKA_VTYPE_TIMESTAMP,
    FieldKind::RD_KAFKA_VTYPE_PARTITION,
    FieldKind::RD_KAFKA_VTYPE_HEADERS,
];

/// `RD_KAFKA_PARTITION_UA`: the partitioner chooses.
const ANY_PARTITION: i32 = -1;

fn empty(vtype: FieldKind) -> Field {
    // Key and value are copied; the other fields are set for each record.
    Field { vtype, u: Value { i: sys::RD_KAFKA_MSG_F_COPY } }
}

struct Topic {
    name: String,
    raw: *mut sys::rd_kafka_topic_t,
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: owned; its client lives longer (see the field order of `Producer`).
        unsafe { sys::rd_kafka_topic_destroy(self.raw) }
    }
}

struct Reports(*mut sys::rd_kafka_queue_t);

impl Drop for Reports {
    fn drop(&mut self) {
        // SAFETY: owned; its client lives longer.
        unsafe { sys::rd_kafka_queue_destroy(self.0) }
    }
}

/// Settings that the engine wants unless a function overrides them.
const DEFAULTS: [(&str, &str); 4] = [
    // A cut flushes at once whatever the linger, and nothing is visible before the cut: between cuts a longer
    // one fills batches (20 ms instead of 5: a sixth more records per CPU-second).
    ("linger.ms", "20"),
    ("queue.buffering.max.messages", "1000000"),
    ("queue.buffering.max.kbytes", "262144"),
    ("batch.num.messages", "10000"),
];

/// How long each of the two steps of a commit may take, offsets and end: no transaction lasts for less. librdkafka has
/// no limits of its own: told to wait without one it does so for as long as brokers are away, and nobody hears the group
/// meanwhile. One that is given does not hold while offsets wait for a group coordinator that has gone (its issues #5456
/// and #5511).
const COMMIT_WAIT: Duration = Duration::from_secs(10);
/// The same of an abort.
const ABORT_WAIT: Duration = Duration::from_secs(5);
/// How long each of the two answers may take that come before transactions begin.
const MEET_WAIT: Duration = Duration::from_secs(1);
/// librdkafka's default for `batch.size` and `message.max.bytes`.
const CLIENT_BYTES: u64 = 1_000_000;
/// Below the broker's default for `socket.request.max.bytes` (100 MiB): a larger request closes the connection.
const REQUEST_BYTES: u64 = 100_000_000;
/// What a batch's own fields take at most.
const BATCH_HEADROOM: u64 = 128;

impl Producer {
    /// Makes a producer; a transactional one begins with [`Producer::init_transactions`].
    pub fn new(config: &ProducerConfig<'_>) -> Result<Self, Error> {
        let mut client = config.cluster.client_config();
        for (name, value) in DEFAULTS {
            client.set(name, value);
        }
        if let Some(MessageLimits { smallest, largest }) = config.limits {
            // The broker's limit holds for whole batches: one that is larger is refused with all its records. The
            // client's own limit would refuse records that their topic takes.
            let batch = smallest.saturating_sub(BATCH_HEADROOM).clamp(1, CLIENT_BYTES);
            let record = largest.clamp(CLIENT_BYTES, REQUEST_BYTES);
            client.set("batch.size", batch.to_string()).set("message.max.bytes", record.to_string());
        }
        for (name, value) in config.settings {
            client.set(name, value);
        }
        client
            .set("client.id", config.client_id)
            .set("enable.idempotence", "true")
            // Java's default partitioner: keys land where other producers put them.
            .set("partitioner", "murmur2_random")
            .set("delivery.report.only.error", "true");
        if let Some(id) = config.transactional_id {
            let timeout = config.transaction_timeout.as_millis();
            client
                .set("transactional.id", id)
                .set("transaction.timeout.ms", timeout.to_string())
                // Must be below the transaction's.
                .set("message.timeout.ms", (timeout * 9 / 10).to_string());
        }
        let base: BaseProducer<Context> = client
            .create_with_context(Context { log: ClientLog::new() })
            .map_err(|error| Error::of_call(&error))?;
        // SAFETY: the client is alive; the queue is given back before it goes.
        let reports = Reports(unsafe { sys::rd_kafka_queue_get_main(base.client().native_ptr()) });
        Ok(Self {
            topics: Vec::new(),
            reports,
            refusals: Vec::new(),
            fatal: None,
            fields: FIELDS.map(empty),
            base: Arc::new(base),
        })
    }

    fn native(&self) -> *mut sys::rd_kafka_t {
        self.base.client().native_ptr()
    }

    /// Names a topic once, so that records refer to it by index.
    pub fn topic(&mut self, name: &str) -> Result<TopicIndex, Error> {
        if let Some(at) = self.topics.iter().position(|topic| topic.name == name) {
            return Ok(TopicIndex(at));
        }
        let text = std::ffi::CString::new(name)
            .map_err(|_| Error::Config(format!("topic name {name:?} holds a zero byte")))?;
        // SAFETY: the client is alive, the name is a C string; the handle is destroyed before the client.
        let raw = unsafe { sys::rd_kafka_topic_new(self.native(), text.as_ptr(), ptr::null_mut()) };
        if raw.is_null() {
            return Err(Error::Config(format!("topic {name} cannot be used")));
        }
        self.topics.push(Topic { name: name.to_owned(), raw });
        Ok(TopicIndex(self.topics.len() - 1))
    }

    /// Fences every earlier producer of the same id and waits until its open transaction is gone.
    pub fn init_transactions(&self, wait: Duration) -> Result<(), Error> {
        self.meet_brokers(wait);
        // SAFETY: the client is alive; the error passes to the callee.
        unsafe { Error::of_transaction(sys::rd_kafka_init_transactions(self.native(), millis(wait))) }
    }

    /// Waits until a broker is there that stays. librdkafka drops the connection by which it first heard of the brokers;
    /// a question about transactions that is under way there is lost, and asked again only after 500 ms (its
    /// `rdkafka_txnmgr.c`). The first answer here comes by that connection, the second by one to a broker that it named.
    fn meet_brokers(&self, wait: Duration) {
        let Some(topic) = self.topics.first() else { return };
        for _ in 0..2 {
            // What is wrong is told by what comes after.
            if self.base.client().fetch_metadata(Some(&topic.name), wait.min(MEET_WAIT)).is_err() {
                return;
            }
        }
    }

    /// Begins a transaction; sends nothing.
    pub fn begin(&self) -> Result<(), Error> {
        // SAFETY: as above.
        unsafe { Error::of_transaction(sys::rd_kafka_begin_transaction(self.native())) }
    }

    /// Queues a record; its bytes are copied. A refusal that is known at once is kept like one that
    /// the broker sends later: see [`Producer::refusals`]. Waits while the queue is full.
    #[inline]
    pub fn produce(&mut self, record: &Produce<'_>) {
        let Some(topic) = self.topics.get(record.topic.0) else {
            return;
        };
        let raw = topic.raw;
        loop {
            let code = self.enqueue(raw, record);
            match code {
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => return,
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL => {
                    self.serve(Duration::from_millis(1))
                }
                code => return self.refuse(record.origin, record.topic.0, code.into()),
            }
        }
    }

    #[inline]
    fn enqueue(
        &mut self,
        topic: *mut sys::rd_kafka_topic_t,
        record: &Produce<'_>,
    ) -> sys::rd_kafka_resp_err_t {
        let mem = |bytes: Option<&[u8]>| Value {
            mem: Bytes {
                ptr: bytes.map_or(ptr::null_mut(), |bytes| bytes.as_ptr() as *mut _),
                size: bytes.map_or(0, <[u8]>::len),
            },
        };
        let headers =
            if record.headers.is_empty() { ptr::null_mut() } else { native_headers(record.headers) };
        let fields = &mut self.fields;
        fields[0].u = Value { rkt: topic };
        fields[2].u = mem(record.value);
        fields[3].u = mem(record.key);
        fields[4].u = Value { ptr: record.origin.0 as *mut _ };
        fields[5].u = Value { i64_: record.timestamp_ms.unwrap_or(0) };
        fields[6].u = Value { i32_: record.partition.unwrap_or(ANY_PARTITION) };
        fields[7].u = Value { headers };
        let count = if headers.is_null() { fields.len() - 1 } else { fields.len() };
        // SAFETY: client, topic, and all pointers live through the call, which copies key and value;
        // the headers pass to librdkafka only when it succeeds.
        unsafe {
            let error = sys::rd_kafka_produceva(self.base.client().native_ptr(), fields.as_ptr(), count);
            if error.is_null() {
                return sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            }
            let code = sys::rd_kafka_error_code(error);
            sys::rd_kafka_error_destroy(error);
            if !headers.is_null() {
                sys::rd_kafka_headers_destroy(headers);
            }
            code
        }
    }

    /// Takes reports of refused records and client errors; waits at most `wait` for the first.
    pub fn serve(&mut self, wait: Duration) {
        let mut wait_ms = millis(wait);
        loop {
            // SAFETY: the queue is alive; the event is destroyed below.
            let event = unsafe { sys::rd_kafka_queue_poll(self.reports.0, wait_ms) };
            if event.is_null() {
                return;
            }
            wait_ms = 0;
            // SAFETY: the event is alive until destroyed here.
            unsafe {
                match sys::rd_kafka_event_type(event) {
                    sys::RD_KAFKA_EVENT_DR => self.take_reports(event),
                    sys::RD_KAFKA_EVENT_ERROR => self.take_error(event),
                    _ => {}
                }
                sys::rd_kafka_event_destroy(event);
            }
        }
    }

    /// # Safety
    /// `event` is a live delivery report event.
    unsafe fn take_reports(&mut self, event: *mut sys::rd_kafka_event_t) {
        loop {
            // SAFETY: the caller's event is alive; messages belong to it.
            let message = unsafe { sys::rd_kafka_event_message_next(event) };
            if message.is_null() {
                return;
            }
            // SAFETY: alive as long as the event.
            let message = unsafe { &*message };
            if message.err as i32 != 0 {
                let topic = self.topics.iter().position(|topic| topic.raw == message.rkt).unwrap_or(0);
                self.refuse(Origin(message._private as u64), topic, message.err.into());
            }
        }
    }

    /// # Safety
    /// `event` is a live error event.
    unsafe fn take_error(&mut self, event: *mut sys::rd_kafka_event_t) {
        // SAFETY: the caller's event is alive; the text is copied.
        let (code, text, is_fatal) = unsafe {
            (
                sys::rd_kafka_event_error(event),
                std::ffi::CStr::from_ptr(sys::rd_kafka_event_error_string(event))
                    .to_string_lossy()
                    .into_owned(),
                sys::rd_kafka_event_error_is_fatal(event) != 0,
            )
        };
        if is_fatal {
            let code = RDKafkaErrorCode::from(code);
            self.fatal = Some(match Error::of_code(code, &text) {
                Error::Fenced(text) => Error::Fenced(text),
                _ => Error::Fatal(text),
            });
        } else if code.is_error() {
            self.base.context().error(KafkaError::Global(code.into()), &text);
        }
    }

    fn refuse(&mut self, origin: Origin, topic: usize, code: RDKafkaErrorCode) {
        use RDKafkaErrorCode as C;
        // Purged by an abort: not refused, just not sent.
        if matches!(code, C::PurgeQueue | C::PurgeInflight) {
            return;
        }
        let is_final = matches!(
            code,
            C::MessageSizeTooLarge
                | C::InvalidMessageSize
                | C::InvalidMessage
                | C::InvalidTimestamp
                | C::InvalidRecord
                | C::TopicAuthorizationFailed
                | C::PolicyViolation
                | C::InvalidTopic
        );
        // One culprit is enough to know; a thousand siblings of a broken connection are not.
        if self.refusals.len() < 1000 {
            let topic = self.topics.get(topic).map_or_else(String::new, |topic| topic.name.clone());
            self.refusals.push(Refusal { origin, topic, reason: code.to_string(), is_final });
        }
    }

    /// What was refused since the last call.
    pub fn refusals(&mut self) -> Vec<Refusal> {
        std::mem::take(&mut self.refusals)
    }

    /// Something was refused since [`Producer::refusals`] was last called.
    #[inline]
    pub fn has_refusals(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// Waits until every queued record is acknowledged or refused. `false`: not in time.
    pub fn flush(&mut self, wait: Duration) -> bool {
        self.flush_while(wait, || true)
    }

    /// The same, and no longer than it is worth while.
    pub fn flush_while(&mut self, wait: Duration, mut is_worth: impl FnMut() -> bool) -> bool {
        const STEP: Duration = Duration::from_millis(50);
        let mut left = wait;
        loop {
            let step = STEP.min(left);
            // SAFETY: the client is alive. In event mode this only waits for the count to reach zero
            // and lifts the linger; refused records count until their report is taken.
            let result = unsafe { sys::rd_kafka_flush(self.native(), millis(step)) };
            self.serve(Duration::ZERO);
            if !result.is_error() {
                return true;
            }
            left = left.saturating_sub(step);
            if left.is_zero() || self.fatal.is_some() || !is_worth() {
                return false;
            }
        }
    }

    /// An error after which this producer is of no use.
    pub fn fatal(&self) -> Option<&Error> {
        self.fatal.as_ref()
    }

    /// Puts the consumer's offsets into the transaction, while other things are done: what was written is flushed
    /// meanwhile.
    pub fn send_offsets(&self, commits: &[Commit], consumer: &Consumer) -> Result<OffsetsOnTheWay, Error> {
        self.send_as(commits, consumer.membership()?)
    }

    /// The same for a group that nobody joins: what fences an earlier writer of its offsets is the transactional id
    /// alone. The broker refuses it when the group has members.
    pub fn send_offsets_of_nobody(&self, commits: &[Commit], reader: &Consumer) -> Result<(), Error> {
        self.send_as(commits, reader.no_membership()?)?.wait()
    }

    /// On a thread of its own, since the call may not come back before the brokers do. Given up, the thread keeps this
    /// client alive until then; what it put into the transaction ends with it, when the next producer fences this one.
    fn send_as(
        &self,
        commits: &[Commit],
        membership: ConsumerGroupMetadata,
    ) -> Result<OffsetsOnTheWay, Error> {
        let list = partition::commit_list(commits)?;
        let base = Arc::clone(&self.base);
        let (tell, told) = std::sync::mpsc::channel();
        let send = move || {
            let never = rdkafka::util::Timeout::Never;
            // Nobody listens any more when it was given up.
            let _ = tell.send(base.send_offsets_to_transaction(&list, &membership, never));
        };
        let thread = std::thread::Builder::new().name("offsets".to_owned()).spawn(send);
        thread.map_err(|error| Error::Away(format!("no thread can be started: {error}")))?;
        Ok(OffsetsOnTheWay { told, result: None })
    }

    /// Commits the transaction. Everything must be flushed. An error that says neither "abort" nor
    /// "fenced" leaves the outcome unknown.
    pub fn commit(&self) -> Result<(), Error> {
        let wait = millis(COMMIT_WAIT);
        // SAFETY: the client is alive; the error passes to the callee. A limit risks to desynchronise librdkafka's state
        // (rdkafka.h), but of a commit that it ends the outcome is unknown, and such a producer is not used again.
        let result = unsafe { Error::of_transaction(sys::rd_kafka_commit_transaction(self.native(), wait)) };
        result.map_err(|error| match error {
            Error::Away(text) | Error::Fatal(text) => Error::Unknown(text),
            error => error,
        })
    }

    /// Aborts the transaction: nothing that it wrote will be seen. Brokers that do not take the abort in time are
    /// [`Error::Away`]; the next producer of the same id ends the transaction then.
    pub fn abort(&mut self) -> Result<(), Error> {
        let is_done = AtomicBool::new(false);
        let queue = SharedQueue(self.reports.0);
        let native = SharedClient(self.native());
        let result = std::thread::scope(|scope| {
            let is_done = &is_done;
            scope.spawn(move || queue.drain(is_done));
            let wait = millis(ABORT_WAIT);
            // SAFETY: the client is alive; the error passes to the callee.
            let result = unsafe { Error::of_transaction(sys::rd_kafka_abort_transaction(native.0, wait)) };
            is_done.store(true, Ordering::Release);
            result
        });
        self.refusals.clear();
        result
    }
}

/// Offsets on their way into a transaction.
pub struct OffsetsOnTheWay {
    told: Receiver<Result<(), KafkaError>>,
    result: Option<Result<(), KafkaError>>,
}

impl OffsetsOnTheWay {
    /// They were refused, or could not be brought.
    pub fn have_failed(&mut self) -> bool {
        if self.result.is_none() {
            self.result = self.told.try_recv().ok();
        }
        matches!(self.result, Some(Err(_)))
    }

    /// Waits until the group's coordinator has taken them.
    pub fn wait(self) -> Result<(), Error> {
        match self.result.map_or_else(|| self.told.recv_timeout(COMMIT_WAIT), Ok) {
            Ok(result) => result.map_err(of_safe),
            Err(_) => Err(Error::Fatal("the group's coordinator does not take offsets".to_owned())),
        }
    }
}

struct SharedQueue(*mut sys::rd_kafka_queue_t);

// SAFETY: librdkafka's handles may be used from any thread (rdkafka.h, "Threads and callbacks").
unsafe impl Send for SharedQueue {}

impl SharedQueue {
    /// Takes and drops reports until told to stop.
    fn drain(self, is_done: &AtomicBool) {
        while !is_done.load(Ordering::Acquire) {
            // SAFETY: the queue outlives the scope this runs in.
            unsafe {
                let event = sys::rd_kafka_queue_poll(self.0, 5);
                if !event.is_null() {
                    sys::rd_kafka_event_destroy(event);
                }
            }
        }
    }
}

struct SharedClient(*mut sys::rd_kafka_t);

fn of_safe(error: KafkaError) -> Error {
    match error {
        KafkaError::Transaction(error) => {
            let text = error.to_string();
            match Error::of_code(error.code(), &text) {
                sorted @ (Error::Stale(_) | Error::Fenced(_) | Error::Refused(_)) => sorted,
                _ if error.txn_requires_abort() => Error::Abort(text),
                _ if error.is_retriable() => Error::Away(text),
                _ => Error::Fatal(text),
            }
        }
        error => Error::of_call(&error),
    }
}

fn native_headers(headers: &[Header<'_>]) -> *mut sys::rd_kafka_headers_t {
    // SAFETY: names and values are copied by librdkafka before the call returns.
    unsafe {
        let native = sys::rd_kafka_headers_new(headers.len());
        for header in headers {
            let (value, size) = header.value.map_or((ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            sys::rd_kafka_header_add(
                native,
                header.name.as_ptr().cast(),
                header.name.len() as isize,
                value.cast(),
                size as isize,
            );
        }
        native
    }
}

fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
}
