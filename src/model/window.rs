//! What a function gathers by key and time before it gives a result.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A function's window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowSpec {
    /// Which events belong together.
    pub kind: WindowKind,
    /// When a result is given.
    pub fire: Fire,
    /// What is made of the events, by the result's field; at least one.
    pub aggregates: BTreeMap<String, AggregateSpec>,
    /// How long a window stays open after its end, in event time.
    pub grace: Duration,
    /// How long a partition that was read to its end must be quiet until event time goes on without it.
    pub idle: Duration,
    /// How far ahead of the wall clock an event's time may be.
    pub max_skew: Duration,
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
}

/// When a window gives a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fire {
    /// Once, when it is complete: its end has passed, or it has its count.
    Close,
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
