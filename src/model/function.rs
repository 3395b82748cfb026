//! A function as the engine knows it: every default filled in, every name checked. The manifest
//! makes these; nothing below it knows YAML.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use super::window::{TableScope, WindowKind, WindowSpec};

/// `namespace` and `name` of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FunctionName {
    /// The namespace, `default` unless the manifest says otherwise.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A registered function.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Function {
    /// Its name.
    pub name: FunctionName,
    /// The author's labels.
    pub labels: BTreeMap<String, String>,
    /// Its consumer group; also the prefix of transactional ids and internal topics.
    pub group: String,
    /// What is called; `None`: built-in steps only.
    pub handler: Option<HandlerSpec>,
    /// What it reads.
    pub sources: Vec<Source>,
    /// In which order calls must happen.
    pub order: Order,
    /// What is gathered by key; `None`: each event is handled by itself, and nothing is kept.
    pub window: Option<WindowSpec>,
    /// The most bytes that the state of one worker may take.
    pub max_state: u64,
    /// Where the state is kept, a topic that nobody else writes.
    pub state_topic: String,
    /// Where its sources are brought together by key before they are gathered; `None`: it gathers from its only source.
    pub stitch_topic: Option<String>,
    /// What it writes.
    pub sinks: Vec<Sink>,
    /// How it delivers.
    pub delivery: Delivery,
    /// How many workers run.
    pub workers: u32,
    /// Between which bounds their number may be, and what it is for.
    pub scale: ScaleSpec,
    /// The number of workers follows the load; else it is always `workers`.
    pub is_scaled: bool,
    /// Memory for what is under way in one worker, in bytes.
    pub memory: u64,
    /// librdkafka settings that pass through.
    pub kafka: KafkaSettings,
    /// The manifest's file, for messages.
    pub file: PathBuf,
}

/// How many workers a function may have, and how soon a backlog has to be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ScaleSpec {
    /// At least so many.
    pub min: u32,
    /// At most so many; `None`: as many as there are partitions.
    pub max: Option<u32>,
    /// How long a backlog may take to be handled.
    pub drain_within: Duration,
    /// How long nothing may have come before a worker keeps its partitions and state alone; `None`: it keeps everything.
    pub park_after: Option<Duration>,
    /// How long nothing may have come before the last worker goes; only where `min` is 0.
    pub zero_after: Duration,
}

impl Function {
    /// The topic whose partitions its windows are of.
    pub fn gathered_topic(&self) -> Option<&str> {
        self.window.as_ref()?;
        let first = || self.shared_sources().next().map(|source| source.topic.as_str());
        self.stitch_topic.as_deref().or_else(first)
    }

    /// The sources whose partitions its workers share.
    pub fn shared_sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| !source.is_read_by_all())
    }

    /// The topics whose partitions the group shares out among its workers. Where its sources are brought together those
    /// go along with the stitch topic's.
    pub fn subscribed_topics(&self) -> impl Iterator<Item = &str> {
        let stitch = self.stitch_topic.as_deref();
        let sources = self.shared_sources().filter(move |_| stitch.is_none());
        stitch.into_iter().chain(sources.map(|source| source.topic.as_str()))
    }

    /// It gathers events in windows: its handler is called with those, and not with events.
    pub fn has_window(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.kind != WindowKind::Each)
    }

    /// Its handler may keep values for each key, and set timers.
    pub fn keeps_state(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.state.is_some())
    }
}

/// Which plugin, and how it is called.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HandlerSpec {
    /// The plugin's file, resolved: absolute, with the platform's prefix and extension.
    pub plugin: PathBuf,
    /// The crate that `dev` and `build` make it from, resolved to a folder.
    pub crate_dir: Option<PathBuf>,
    /// The digest that the file must have, lower-case hex.
    pub sha256: Option<String>,
    /// Which handler of the plugin; `None`: its only one.
    pub entry: Option<String>,
    /// Given to the handler's init.
    pub config: serde_json::Value,
    /// The longest a call may take.
    pub timeout: Duration,
    /// Calls in flight per worker; 1: they run on the worker's own thread.
    pub concurrency: u32,
    /// What happens when a call does not come back.
    pub on_hang: OnHang,
    /// The most calls in a time, of all workers together; `None`: as many as they can.
    pub rate: Option<Rate>,
}

/// So many in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// How many, at least 1.
    pub calls: u32,
    /// In how long, more than zero.
    pub per: Duration,
}

/// A topic that a function reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    /// The topic.
    pub topic: String,
    /// How handlers name it.
    pub name: String,
    /// How its records are decoded.
    pub format: Format,
    /// Where a new function begins.
    pub start_at: StartAt,
    /// All must hold.
    pub filters: Vec<Filter>,
    /// Where the function's key is.
    pub key: KeySpec,
    /// Where the event time is.
    pub time: TimeSpec,
    /// It is a clock, and the topic is the function's own: whoever has its first partition writes the ticks there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// It is a table: its newest values are kept, and nothing is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableScope>,
}

impl Source {
    /// Each worker reads all of it by itself: it is none of the topics that workers share.
    pub fn is_read_by_all(&self) -> bool {
        self.table == Some(TableScope::All)
    }
}

/// How values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// CloudEvents by content type and headers, JSON by content type, else bytes.
    Auto,
    /// As they are. No header is looked at, so a trace context is not carried.
    Bytes,
    /// UTF-8.
    Text,
    /// JSON.
    Json,
    /// CloudEvents 1.0 over Kafka, binary or structured.
    CloudEvents,
}

/// Where a function that is registered for the first time begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StartAt {
    /// At the log's start.
    Earliest,
    /// At the log's end.
    Latest,
    /// At the first record whose timestamp is at or after this, milliseconds since the epoch.
    Time(i64),
}

/// A predicate over one event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// Every named CloudEvents attribute equals the string.
    Exact(BTreeMap<String, String>),
    /// Every named attribute begins with the string.
    Prefix(BTreeMap<String, String>),
    /// Every named attribute ends with the string.
    Suffix(BTreeMap<String, String>),
    /// Knative's old `filter.attributes`: equals, and the empty string means "present".
    Attributes(BTreeMap<String, String>),
    /// All of these.
    All(Vec<Filter>),
    /// At least one of these.
    Any(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
    /// The record's last header of this name.
    Header {
        /// The header's name.
        name: String,
        /// All must hold; the header's value is compared as UTF-8 text.
        tests: Vec<FieldTest>,
    },
    /// The field of the JSON body at this pointer (RFC 6901).
    Field {
        /// The pointer, `""` for the whole body.
        path: String,
        /// All must hold.
        tests: Vec<FieldTest>,
    },
}

/// One comparison of a `header` or `field` predicate.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FieldTest {
    /// Equal; numbers compare as numbers.
    Eq(serde_json::Value),
    /// Present and not equal.
    Ne(serde_json::Value),
    /// Less than; numbers with numbers, text with text.
    Lt(serde_json::Value),
    /// Less or equal.
    Le(serde_json::Value),
    /// Greater.
    Gt(serde_json::Value),
    /// Greater or equal.
    Ge(serde_json::Value),
    /// Equal to one of these.
    In(Vec<serde_json::Value>),
    /// There, or not there. A JSON null is there.
    Exists(bool),
}

/// Where the function's key is in an event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum KeySpec {
    /// The record's key.
    Record,
    /// A header's bytes.
    Header(String),
    /// A CloudEvents attribute.
    Attribute(String),
    /// Fields of the JSON body. One: its text; several: a compact JSON array.
    Fields(Vec<String>),
}

/// Where the event time is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TimeSpec {
    /// The record's timestamp.
    Record,
    /// A CloudEvents attribute, RFC 3339.
    Attribute(String),
    /// A field of the JSON body.
    Field {
        /// The pointer (RFC 6901).
        path: String,
        /// How to read it.
        format: TimeFormat,
    },
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeFormat {
    /// RFC 3339 text.
    Rfc3339,
    /// Seconds since the epoch.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

/// In which order calls must happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// One at a time per key.
    Key,
    /// One at a time per partition.
    Partition,
    /// Any order.
    None,
}

/// A topic that a function writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sink {
    /// How handlers address it.
    pub name: String,
    /// The topic.
    pub topic: String,
    /// How outputs are encoded; [`Format::Auto`]: as the handler made them.
    pub format: Format,
    /// Attributes of the CloudEvents it writes.
    pub cloudevents: CloudEventsSink,
    /// All must hold for an output to be written here.
    pub filters: Vec<Filter>,
    /// Make the topic when it is missing.
    pub create: Option<CreateTopic>,
}

/// How a sink writes CloudEvents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CloudEventsSink {
    /// `type` of outputs that bring none; default `<namespace>.<function>.<sink>`.
    pub event_type: String,
    /// `source` of outputs that bring none; default `/tidemill/<namespace>/<function>`.
    pub source: String,
    /// Binary or structured.
    pub mode: CloudEventsMode,
    /// Write the output's key as the `partitionkey` extension too.
    pub partition_key: bool,
}

/// Content mode of the Kafka protocol binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CloudEventsMode {
    /// Attributes in headers, data in the value.
    Binary,
    /// Everything in one JSON document.
    Structured,
}

/// How to make a missing topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CreateTopic {
    /// Partitions; `None`: the broker's default.
    pub partitions: Option<u32>,
    /// Replication factor; `None`: the broker's default.
    pub replication: Option<u16>,
    /// Topic settings.
    pub config: BTreeMap<String, String>,
}

/// How a function delivers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Delivery {
    /// Exactly once or at least once.
    pub guarantee: Guarantee,
    /// The longest time between cuts.
    pub commit_interval: Duration,
    /// When and how often a failed call is tried again.
    pub retry: Retry,
    /// The most events of a partition that wait in memory because a call failed.
    pub max_held: usize,
    /// When failures count as an outage.
    pub circuit: CircuitSpec,
    /// What happens when attempts run out.
    pub on_exhausted: OnExhausted,
    /// Where dead letters go.
    pub dead_letter_topic: String,
    /// Where dead letters come back from; nobody else reads it.
    pub redrive_topic: String,
    /// Events older than this are dead letters; zero: any age.
    pub max_event_age: Duration,
    /// Outputs say in a header which event made them.
    pub origin_headers: bool,
}

/// Delivery guarantee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Guarantee {
    /// Outputs and offsets in one transaction.
    ExactlyOnce,
    /// Flush, then commit.
    AtLeastOnce,
}

/// Back-off between attempts: `initial * factor^(n-1)`, at most `max`, plus or minus `jitter` of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Retry {
    /// Calls in all, the first included; at least 1.
    pub max_attempts: u32,
    /// The first pause.
    pub initial: Duration,
    /// Growth.
    pub factor: f64,
    /// The longest pause.
    pub max: Duration,
    /// Share of the pause that is random, 0 to 1.
    pub jitter: f64,
}

/// When failures count as an outage, and not as the events' fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CircuitSpec {
    /// First calls of so many keys must fail in a row; 0: never.
    pub keys: usize,
    /// Within so long.
    pub within: Duration,
}

/// What happens when a call does not come back within twice its timeout: a thread cannot be ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnHang {
    /// The process ends, after the other functions have finished; whoever started it starts it again.
    Exit,
    /// The function stops, and the process goes on.
    Stop,
}

/// What happens when attempts run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnExhausted {
    /// A dead letter; the lane goes on.
    DeadLetter,
    /// The function stops.
    Stop,
}

/// librdkafka settings that pass through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KafkaSettings {
    /// For the consumer.
    pub consumer: BTreeMap<String, String>,
    /// For the producer.
    pub producer: BTreeMap<String, String>,
}
