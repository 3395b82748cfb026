//! The function manifest as YAML has it: one type a mapping, one YAML type a field. The comments
//! here are the reference that `check --reference` prints and the descriptions in the JSON Schema.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::schedule::Schedule;
use super::window_spec::{EventTime, State, Table, Window};
use super::{defaults, text};
use crate::model::{CloudEventsMode, Format, Guarantee, OnExhausted, OnHang, Order, TimeFormat};

/// A function: what it reads, what it calls for each event, what it writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FunctionManifest {
    /// The version of this schema.
    pub api_version: ApiVersion,
    /// Which kind of document this is.
    pub kind: FunctionKind,
    /// What the function is called.
    pub metadata: Metadata,
    /// What it does.
    pub spec: Spec,
}

/// The version of this schema.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) enum ApiVersion {
    #[serde(rename = "tidemill.dev/v1alpha1")]
    V1Alpha1,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) enum FunctionKind {
    Function,
}

/// What the function is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    /// Its name, up to 63 of `a-z`, `0-9` and `-`. Its consumer group and the topics that belong to
    /// it are named after it.
    pub name: String,
    /// Parts functions of the same name; same letters as the name.
    #[serde(default = "defaults::namespace")]
    pub namespace: String,
    /// Yours to choose; shown, otherwise without meaning to Tidemill.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What the function does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    /// The consumer group; also the prefix of transactional ids and internal topics. Default:
    /// `tidemill.<namespace>.<name>`. A changed group starts anew at `startAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The code that is called for each event. Without it the function filters, re-keys,
    /// gathers in a `window` and routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<Handler>,
    /// The topics that it reads, and clocks.
    #[schemars(length(min = 1))]
    pub sources: Vec<Source>,
    /// In which order calls must happen.
    #[serde(default = "defaults::order")]
    pub order: Order,
    /// What is gathered before there is a result. Without it each event is handled by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What a worker keeps: for functions with a `window`, and for those whose handler keeps values or sets timers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// How event time goes on, for functions with `state` or a table and no `window`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<EventTime>,
    /// The topics it writes. Without any, a handler works by its side effects alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<Sink>,
    /// How it delivers, and what becomes of events that cannot be handled.
    #[serde(default)]
    pub delivery: Delivery,
    /// How many workers run. Default: one, always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// What one of its workers may take up.
    #[serde(default)]
    pub limits: Limits,
    /// librdkafka settings that pass through.
    #[serde(default)]
    pub kafka: Kafka,
}

/// What one worker of a function may take up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Limits {
    /// Memory for events and outputs that are under way, as a Kubernetes quantity; at least `16Mi`. Of it: a sixteenth
    /// for what is read ahead, an eighth for events that wait (at that bound nothing more is read of partitions whose
    /// events would have to wait too), a quarter for what is written between two commits (at that bound a commit is
    /// due). What the handler takes is its own and not counted.
    #[serde(default = "defaults::memory")]
    pub memory: String,
}

/// The code that is called for each event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Handler {
    /// The plugin's file, relative to the manifest. Without an extension the platform's own is
    /// added: `loyalty` is `libloyalty.so` (Linux) or `libloyalty.dylib` (macOS).
    #[schemars(length(min = 1))]
    pub plugin: String,
    /// The folder of the crate that `dev` and `build` make the plugin from, relative to the manifest.
    #[serde(rename = "crate", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub crate_dir: Option<String>,
    /// The SHA-256 that the plugin's file must have, in hex; another file is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Which of the plugin's handlers to call. Default: its only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub entry: Option<String>,
    /// Handed to the handler when it is made. A text value `${env:NAME}` or `${file:path}` is
    /// replaced when the handler is made, and shown and logged unreplaced.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub config: serde_json::Map<String, Value>,
    /// The longest a call may take.
    #[serde(default = "defaults::timeout")]
    pub timeout: DurationText,
    /// Calls in flight per worker, each on a thread with a handler of its own; `order` still holds.
    /// 1: calls run on the worker's thread, which is the fastest for short ones.
    #[serde(default = "defaults::concurrency")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: u32,
    /// When a call is not over after twice its timeout: the process ends (after its other functions have finished, and
    /// to be started again), or the function stops. The call counts as an attempt after a restart.
    #[serde(default = "defaults::on_hang")]
    pub on_hang: OnHang,
    /// The most calls, of all workers together: `100/s`, `30/m`, `5/h`. Each worker takes the share that it has of
    /// the partitions. Default: as many as they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]+/(s|m|h)$"))]
    pub rate: Option<String>,
}

/// A topic that the function reads, or a clock: one of `topic`, `schedule`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Source {
    /// The topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// A clock: `name` and `filters` can stand beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How the handler names it. Default: the topic. A clock needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// How its records are decoded.
    #[serde(default = "defaults::format")]
    pub format: Format,
    /// Where a function that runs for the first time begins: `earliest`, `latest` or a time as in
    /// `2026-01-31T12:00:00Z` (RFC 3339).
    #[serde(default = "defaults::start_at")]
    pub start_at: String,
    /// Predicates over the event; all must hold, else the event is counted and passed over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Where the function's key is. Default: the record's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// Where the event time is. Default: the record's timestamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// It is a table, to be looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<Table>,
}

/// Where the function's key is: one of `fields`, `header`, `attribute`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Key {
    /// JSON pointers into the body. One: the field's text is the key; several: a compact JSON array.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub fields: Option<Vec<String>>,
    /// The record's header whose bytes are the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub header: Option<String>,
    /// The CloudEvents attribute that is the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
}

/// Where the event time is: `field` or `attribute`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(super) struct Time {
    /// A JSON pointer into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// How the field is written. Default: `rfc3339`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<TimeFormat>,
    /// A CloudEvents attribute, written as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
}

/// A predicate over one event: exactly one of its keys (the dialects are Knative's, with `header`
/// and `field` beside them).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Filter {
    /// Each CloudEvents attribute equals its text. Neither names nor texts may be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1))]
    pub exact: Option<BTreeMap<String, String>>,
    /// Each CloudEvents attribute begins with its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1))]
    pub prefix: Option<BTreeMap<String, String>>,
    /// Each CloudEvents attribute ends with its text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1))]
    pub suffix: Option<BTreeMap<String, String>>,
    /// Knative's older form: each attribute equals its text, and the empty text means that it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1))]
    pub attributes: Option<BTreeMap<String, String>>,
    /// All of these hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub all: Option<Vec<Filter>>,
    /// At least one of these holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub any: Option<Vec<Filter>>,
    /// This does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Filter>>,
    /// The record's last header of a name, compared as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderTest>,
    /// A field of the JSON body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<FieldTest>,
}

/// Tests of a header, at least one; all must hold. Only `exists: false` holds for a missing header.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 2))]
pub(super) struct HeaderTest {
    /// The header's name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Equal to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eq: Option<String>,
    /// There and not equal to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ne: Option<String>,
    /// Less than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<String>,
    /// Less than or equal to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub le: Option<String>,
    /// Greater than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<String>,
    /// Greater than or equal to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ge: Option<String>,
    /// Equal to one of these.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub one_of: Option<Vec<String>>,
    /// There (`true`) or not there (`false`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

/// Tests of a field, at least one; all must hold. Only `exists: false` holds for a missing field.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 2))]
pub(super) struct FieldTest {
    /// The field as a JSON pointer (RFC 6901), as in `/ride/fare`; `""` is the whole body.
    pub path: String,
    /// Equal to this text, number, `true`, `false` or `null`. Numbers compare as numbers.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub eq: Option<Value>,
    /// There and not equal to.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub ne: Option<Value>,
    /// Less than this number or text; numbers with numbers, text with text.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub lt: Option<Value>,
    /// Less than or equal to.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub le: Option<Value>,
    /// Greater than.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub gt: Option<Value>,
    /// Greater than or equal to.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub ge: Option<Value>,
    /// Equal to one of these.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub one_of: Option<Vec<Value>>,
    /// There (`true`) or not there (`false`). A JSON `null` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

/// A `null` that was written is a value, not an absence.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A topic that the function writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Sink {
    /// How the handler addresses it. Default: `default` for an only sink, else the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub name: Option<String>,
    /// The topic.
    pub topic: String,
    /// How outputs are encoded; `auto` leaves them as the handler made them.
    #[serde(default = "defaults::format")]
    pub format: Format,
    /// The CloudEvents it writes; for `format: cloudevents` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloudevents: Option<CloudEvents>,
    /// An output that the handler addresses to no sink goes to each sink whose filters all hold; to
    /// none: counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Make the topic when it is missing. Without this a missing topic is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<Create>,
}

/// The CloudEvents that a sink writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CloudEvents {
    /// `type` of outputs that bring none. Default: `<namespace>.<function>.<sink>`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub event_type: Option<String>,
    /// `source` of outputs that bring none. Default: `/tidemill/<namespace>/<function>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub source: Option<String>,
    /// Attributes in headers (`binary`) or everything in one JSON document (`structured`).
    #[serde(default = "defaults::mode")]
    pub mode: CloudEventsMode,
    /// Write the output's key as the `partitionkey` extension too.
    #[serde(default = "defaults::partition_key")]
    pub partition_key: bool,
}

/// How a missing topic is made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Create {
    /// How many partitions. Default: the broker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub partitions: Option<u32>,
    /// How many replicas. Default: the broker's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub replication: Option<u16>,
    /// Topic settings, all as text: `retention.ms: "604800000"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// How the function delivers, and what becomes of events that cannot be handled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Delivery {
    /// `exactlyOnce`: outputs and offsets become visible together. `atLeastOnce`: outputs first.
    #[serde(default = "defaults::guarantee")]
    pub guarantee: Guarantee,
    /// The longest time between two commits; an idle queue commits at once.
    #[serde(default = "defaults::commit_interval")]
    pub commit_interval: DurationText,
    /// When and how often a failed call is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// When failures count as an outage, and not as the events' fault.
    #[serde(default)]
    pub circuit: Circuit,
    /// When attempts run out: a dead letter, or the function stops.
    #[serde(default = "defaults::on_exhausted")]
    pub on_exhausted: OnExhausted,
    /// Where events go that cannot be handled.
    #[serde(default)]
    pub dead_letter: DeadLetter,
    /// Older events are dead letters, uncalled; `0s`: any age is taken.
    #[serde(default = "defaults::max_event_age")]
    pub max_event_age: DurationText,
    /// Each output says in the header `tidemill-origin` which event made it, as
    /// `namespace/function/topic/partition/offset/number/of`: number `number` of the `of` records that it made.
    /// `tidemill audit` then names each result that is missing or there twice.
    #[serde(default)]
    pub origin_headers: bool,
}

/// Pauses between attempts: `initial`, then `factor` times the one before, at most `max`, each
/// shortened or lengthened at random by up to `jitter` of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Retry {
    /// Calls in all, the first included.
    #[serde(default = "defaults::max_attempts")]
    #[schemars(range(min = 1))]
    pub max_attempts: u32,
    /// The first pause.
    #[serde(default = "defaults::initial")]
    pub initial: DurationText,
    /// Growth from pause to pause.
    #[serde(default = "defaults::factor")]
    #[schemars(range(min = 1))]
    pub factor: f64,
    /// The longest pause.
    #[serde(default = "defaults::max")]
    pub max: DurationText,
    /// The share of a pause that is random.
    #[serde(default = "defaults::jitter")]
    #[schemars(range(min = 0, max = 1))]
    pub jitter: f64,
    /// The most events of a partition that wait in memory: those whose calls failed, and those behind them by `order`; or
    /// results of windows and timers that wait in the state. With so many waiting nothing more of the partition is read.
    #[serde(default = "defaults::max_held")]
    #[schemars(range(min = 1, max = 50000))]
    pub max_held: u32,
}

/// When failures count as an outage: first calls with events, windows or timers of so many keys failed in a row. Then nothing
/// of the partition is called but now and then one of them, and no attempts are counted, until a call goes well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Circuit {
    /// Of how many keys; `0`: failures never count as an outage.
    #[serde(default = "defaults::circuit_keys")]
    #[schemars(range(max = 1000))]
    pub keys: u32,
    /// Within how long.
    #[serde(default = "defaults::circuit_within")]
    pub within: DurationText,
}

/// Where events go that cannot be handled. The topic is made when it is missing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DeadLetter {
    /// The topic. Default: `<name>.dlq`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
}

/// How many workers run: as many as the lag needs, from `min` to `max`; `tidemill explain` shows the computation. With
/// `min: 0` none runs while nothing comes: the function sleeps, and wakes by the first event that its filters take, by a
/// timer or a window's end that falls due, or by `tidemill wake`. Of several processes that run a function one decides;
/// each of the others has one worker while it is awake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Scale {
    /// The fewest workers.
    #[serde(default = "defaults::min")]
    #[schemars(range(max = 1024))]
    pub min: u32,
    /// The most workers; 0: as many as there are partitions, which is never exceeded.
    #[serde(default = "defaults::max_workers")]
    #[schemars(range(max = 1024))]
    pub max: u32,
    /// How long a backlog may take to be handled.
    #[serde(default = "defaults::drain_within")]
    pub drain_within: DurationText,
    /// How long nothing may have come before a worker is parked: it keeps its partitions, its state and its place in the
    /// group, and gives handler, handler threads and memory back until something comes or falls due. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub park_after: Option<DurationText>,
    /// With `min: 0`: how long nothing may have come before the function sleeps.
    #[serde(default = "defaults::zero_after")]
    pub zero_after: DurationText,
}

/// librdkafka settings that pass through, all as text: `linger.ms: "5"`. Those that the engine owns
/// are refused by name; brokers and security belong to the platform's settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kafka {
    /// For the consumer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub consumer: BTreeMap<String, String>,
    /// For the producer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub producer: BTreeMap<String, String>,
}

/// A whole number and a unit: `250ms`, `10s`, `15m`, `2h`, `7d`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct DurationText(pub String);

impl From<Duration> for DurationText {
    fn from(duration: Duration) -> Self {
        Self(text::duration_text(duration))
    }
}

impl JsonSchema for DurationText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A whole number and a unit: `250ms`, `10s`, `15m`, `2h`, `7d`.",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
        })
    }
}
