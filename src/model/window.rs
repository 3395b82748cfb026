//! What a function gathers by key and time before it gives a result.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a function gathers: its window, and what it keeps for each key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowSpec {
    /// Which events belong together.
    pub kind: WindowKind,
    /// When a result is given.
    pub fire: Fire,
    /// What is made of the events, by the result's field; none: the events themselves are kept.
    pub aggregates: BTreeMap<String, AggregateSpec>,
    /// The topics that it is made of, if there are several: state of others is none of it.
    pub sources: Vec<String>,
    /// What a stitch is made of; empty for all other kinds.
    pub stitch: StitchSpec,
    /// How long a window stays open after its end, in event time.
    pub grace: Duration,
    /// How long a partition that was read to its end must be quiet until event time goes on without it.
    pub idle: Duration,
    /// How far ahead of the wall clock an event's time may be.
    pub max_skew: Duration,
    /// Where late events go; `None`: to the dead letters.
    pub late_topic: Option<String>,
    /// How far ahead of the slowest source partition another may be read.
    pub max_drift: Duration,
    /// What the handler may keep for each key, and timers; `None`: nothing.
    pub state: Option<StateSpec>,
    /// Sources that are tables, by their places in the manifest: they are no part of a window, and move no time.
    pub tables: Vec<(u16, TableScope)>,
}

/// What a handler may keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct StateSpec {
    /// How long a value is kept in event time after it was written; `None`: until it is deleted.
    pub ttl: Option<Duration>,
}

/// How much of a table each worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableScope {
    /// Rows of the keys whose events it has: a call can look its own key up.
    Lane,
    /// All of it.
    All,
}

/// Which events of a key belong together. All but [`WindowKind::Count`] go by event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WindowKind {
    /// `[start, end)`, aligned to the epoch, one after the other.
    Tumbling {
        /// How long each is.
        size: Duration,
    },
    /// `[start, end)`, aligned to the epoch, one every `advance`.
    Hopping {
        /// How long each is.
        size: Duration,
        /// From one start to the next; more than zero, at most `size`.
        advance: Duration,
    },
    /// For each event those of the last `size`: `[t - size, t]`, both in.
    Sliding {
        /// How far back it goes.
        size: Duration,
    },
    /// Events no further apart than `gap`: `[first, last]`, both in.
    Session {
        /// The longest pause within a session.
        gap: Duration,
    },
    /// So many events, as they come.
    Count {
        /// How many, at least 1.
        size: u64,
    },
    /// One event of each source that is needed, `[first, first + within]`, both in.
    Stitch {
        /// How far apart they may be.
        within: Duration,
    },
    /// Each event is handled by itself: what a function gathers that keeps state without a window.
    Each,
}

/// What a stitch is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StitchSpec {
    /// Sources without which it is unfinished, by their places in the manifest.
    pub need: Vec<u16>,
    /// Sources that it takes along.
    pub optional: Vec<u16>,
    /// What becomes of a second event of one source.
    pub repeat: Repeat,
    /// What becomes of one that ends unfinished.
    pub on_timeout: OnTimeout,
}

/// What becomes of a second event of one source in a stitch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Repeat {
    /// It opens the key's next stitch. Partners go to the oldest that lacks them.
    #[default]
    Next,
    /// The later of the two stays, by time, source, partition, offset.
    Replace,
    /// Both stay.
    Collect,
}

/// What becomes of a stitch that ends unfinished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OnTimeout {
    /// It gives a result as any other, which says what is missing.
    #[default]
    Call,
    /// Nothing; it is counted.
    Drop,
    /// Its events are dead letters.
    DeadLetter,
    /// Its result goes to this sink alone.
    Emit(String),
}

/// When a window gives a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fire {
    /// Once, when it is complete: its end has passed, or it has its count.
    Close,
    /// A stitch: at once when it has all that it needs.
    Complete,
    /// With every event.
    Update,
    /// With every so many events.
    Count {
        /// How many, at least 1.
        every: u64,
        /// What becomes of the window then.
        then: AfterFire,
    },
}

/// What becomes of a window's events once they have given a result before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AfterFire {
    /// They are forgotten: counting begins anew.
    Reset,
    /// They stay.
    Continue,
}

/// One number (or list) that is made of a window's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AggregateSpec {
    /// How.
    pub op: AggregateOp,
    /// The field of the body, a JSON pointer (RFC 6901); `None` for [`AggregateOp::Count`] of all events.
    pub field: Option<String>,
}

/// How a window's events are put together. Whole numbers are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AggregateOp {
    /// How many events; with a field, how many have it.
    Count,
    /// The sum of a field's numbers.
    Sum,
    /// The least of a field's numbers.
    Min,
    /// The greatest of a field's numbers.
    Max,
    /// The mean of a field's numbers.
    Avg,
    /// The field of the earliest event, by time, source, partition, offset.
    First,
    /// The field of the latest event.
    Last,
    /// How many different values the field has.
    Distinct,
}
