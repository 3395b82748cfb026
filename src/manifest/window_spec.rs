//! A function's `window` and `state` as YAML has them. The comments are the reference and the descriptions
//! in the JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::defaults;
use super::spec::DurationText;
use crate::model::{AfterFire, AggregateOp, Repeat, TableScope};

/// What is gathered by key and time, and what is made of it. Exactly one of `tumbling`, `hopping`, `sliding`, `session`,
/// `count` and `stitch` says which events of a key belong together. With a handler its `on_window` is called with each
/// window that fires. Without one a result has the events' key and goes to the sinks as
/// `{"key": …, "window": {"start": …, "end": …, "fired": …}}`, with a field for each `aggregate` or, if there is none,
/// for the events of each source, by its name; `start` and `end` are milliseconds since the epoch, `fired` is `close`,
/// `update`, `count`, `complete` or `timeout`. Several sources, or one with a `key` of its own, are first brought
/// together by key in the topic `<function>.stitch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Window {
    /// Windows of one size, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tumbling: Option<Tumbling>,
    /// Windows of one size, a new one every `advance`; they overlap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hopping: Option<Hopping>,
    /// For each event, those that came shortly before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding: Option<Sliding>,
    /// Events with no long pause between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// So many events, as they come; time has no part in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<CountWindow>,
    /// One event of each source that is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stitch: Option<Stitch>,
    /// When a result is given.
    #[serde(default)]
    pub fire: Fire,
    /// What is made of the events, by the name that it has in the result; none is called `key`, `window` or `missing`.
    /// Without any the window keeps the events themselves. Not for `stitch`, which always does.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aggregate: BTreeMap<String, Aggregate>,
    /// How long a window stays open after its end, in event time, for events that come late; at most `3650d`. Those
    /// that are later still are dead letters. Not for `count`.
    #[serde(default = "defaults::grace")]
    pub grace: DurationText,
    /// A partition that was read to its end and has been quiet for so long no longer keeps windows open. When all are
    /// quiet, event time goes on with the clock.
    #[serde(default = "defaults::idle")]
    pub idle: DurationText,
    /// How far ahead of the clock an event's time may be. Events further ahead are dead letters: one of them would
    /// close the windows of all others.
    #[serde(default = "defaults::max_skew")]
    pub max_skew: DurationText,
    /// How far, in event time, a source partition may be read ahead of the slowest one that is not idle: what it brings
    /// would only wait, and fill the state.
    #[serde(default = "defaults::max_drift")]
    pub max_drift: DurationText,
    /// Where events go that come too late for every window. Default: to the dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<LateTopic>,
    /// What becomes of a stitch that ends without something that it needs; for `stitch` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_timeout: Option<OnTimeout>,
}

/// One event of each source that is needed, no further apart than `within`: from the first event to `within` after it, both
/// in. Each source of the function that is no table is either needed or optional.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Stitch {
    /// How far apart they may be, at most `3650d`.
    pub within: DurationText,
    /// Names of the sources without which it is unfinished. Default: all that are not optional, and no tables. A table of
    /// scope `lane` that is named here must have a row for the key, which is waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub need: Vec<String>,
    /// Names of sources that it takes along, if they come in time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub optional: Vec<String>,
    /// What becomes of a second event of one source.
    #[serde(default)]
    pub repeat: Repeat,
}

/// Where late events go, as they came, with headers that say why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LateTopic {
    /// The topic; made if it is missing.
    pub topic: String,
}

/// What becomes of a stitch that ends without something that it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OnTimeout {
    /// What.
    #[serde(default)]
    pub action: TimeoutAction,
    /// With `emit`, and only there: the sink that gets its result. All other results go to the other sinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
}

/// What becomes of a stitch that ends without something that it needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum TimeoutAction {
    /// It gives a result like any other, `fired` is `timeout` and `missing` names the sources.
    #[default]
    Call,
    /// It is forgotten.
    Drop,
    /// Its events become dead letters.
    DeadLetter,
    /// Its result goes to a sink of its own, and no handler is called.
    Emit,
}

/// Windows of one size, one after the other, aligned to the epoch: `start` is in, `end` is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Tumbling {
    /// How long each is, at most `3650d`.
    pub size: DurationText,
}

/// Windows of one size that overlap, aligned to the epoch: `start` is in, `end` is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hopping {
    /// How long each is, at most `3650d`.
    pub size: DurationText,
    /// From one start to the next: at most `size`, and at least a ten-thousandth of it.
    pub advance: DurationText,
}

/// For each event those of its key in the `size` before it, both ends in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Sliding {
    /// How far back it goes, at most `3650d`.
    pub size: DurationText,
}

/// Events no further apart than `gap`, from the first to the last, both in. An event between two sessions can make one
/// of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Session {
    /// The longest pause within a session, at most `3650d`.
    pub gap: DurationText,
}

/// So many events of a key, as they come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CountWindow {
    /// How many.
    #[schemars(range(min = 1))]
    pub size: u64,
}

/// When a window gives a result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Fire {
    /// At which moments. Default: `close`; of a `stitch`: `complete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<FireAt>,
    /// With every how many events; with `at: count`, which needs it, and only there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<u64>,
    /// What becomes of the events then; for `at: count` only. Default: `continue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub then: Option<AfterFire>,
}

/// At which moments a window gives a result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum FireAt {
    /// Once: its end has passed, or it has its count.
    Close,
    /// At once when it has all that it needs, for `stitch` only. At its end it is unfinished, see `onTimeout`.
    Complete,
    /// With every event; there is none at the close, which would say the same.
    Update,
    /// With every so many events, and not at the close. Not for `count`, which has its own, and not for `stitch`.
    Count,
}

/// One value that is made of a window's events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Aggregate {
    /// How.
    pub op: AggregateOp,
    /// The field of the body, as a JSON pointer: `/ride/fare`. All but `count` need it; `""` is the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// What a worker keeps. Where it is written, be it as `state: {}`, the handler may keep values for each key and set timers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct State {
    /// How long a value that the handler keeps stays after it was last written, in event time. Default: until it is
    /// deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<DurationText>,
    /// The most bytes that the state of one worker may take, as a Kubernetes quantity; at least `1Mi`.
    #[serde(default = "defaults::max_state")]
    pub max_bytes: String,
}

/// How event time goes on where there is no `window`, which says these itself: for functions with `state` or a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EventTime {
    /// A partition that was read to its end and has been quiet for so long no longer keeps timers waiting. When all are
    /// quiet, event time goes on with the clock.
    #[serde(default = "defaults::idle")]
    pub idle: DurationText,
    /// How far ahead of the clock an event's time may be. Events further ahead are dead letters: one of them would
    /// let the timers of all others fire.
    #[serde(default = "defaults::max_skew")]
    pub max_skew: DurationText,
    /// How far, in event time, a source partition may be read ahead of the slowest one that is not idle.
    #[serde(default = "defaults::max_drift")]
    pub max_drift: DurationText,
}

/// The newest value of each key is kept to be looked up, instead of being handled. A null value deletes. What a filter
/// refuses leaves the table as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Table {
    /// `lane`: by the function's key, kept in its state, and a call can look its own key up. `all`: each worker has all of
    /// it, as the topic has it when it looks, and a call can look any key up.
    #[serde(default = "defaults::table_scope")]
    pub scope: TableScope,
}
