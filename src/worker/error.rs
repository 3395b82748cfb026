//! Why a worker stops for good.

use std::time::Duration;

use crate::kafka::{self, Partition};
use crate::pipeline::{Damaged, EnvelopeError};
use crate::window;

/// What to do about a call that hangs.
const HANGS: &str =
    "look for a lock, a loop, or a request without a deadline in the handler, or raise handler.timeout";

/// Something that only a person can mend. Everything else is waited for.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The client or the broker refuses what the worker needs.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// The group's coordinator answers, and does not take this member.
    #[error("the group has not taken this worker within {waited:?}")]
    NotAdmitted {
        /// For how long it tried.
        waited: Duration,
    },
    /// The committed metadata of a partition cannot be read.
    #[error(
        "partition {partition}: {cause}; going on could repeat or lose events: read the group's offsets, then \
         commit the partition's offset again without metadata"
    )]
    Metadata {
        /// Which.
        partition: String,
        /// What is wrong with it.
        cause: Damaged,
    },
    /// After a pause without events the handler cannot be made anew.
    #[error(
        "the handler cannot be made again after `scale.parkAfter`: {0}; mend it and start the function again"
    )]
    Handler(String),
    /// No threads can be started.
    #[error(
        "cannot start a handler thread: {0}; lower spec.handler.concurrency or raise the limit of threads"
    )]
    Threads(std::io::Error),
    /// A call does not come back.
    #[error("a call has not come back within twice handler.timeout ({timeout:?}): {}", HANGS)]
    Hangs {
        /// How long a call may take.
        timeout: Duration,
    },
    /// A handler thread died of a bug in the engine.
    #[error("a handler thread died: this is a bug of tidemill's own, its panic stands above")]
    DeadThread,
    /// Out of attempts with `onExhausted: stop`.
    #[error(
        "event {topic}/{partition}@{offset} failed {attempts} times and delivery.onExhausted is `stop`: {message}; mend \
         the handler and start again, or set onExhausted: deadLetter"
    )]
    Exhausted {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// Failed calls.
        attempts: u32,
        /// The last failure.
        message: String,
    },
    /// Out of attempts for the result of a window, with `onExhausted: stop`.
    #[error(
        "the result of a window failed {attempts} times and delivery.onExhausted is `stop`: {message}; mend the handler \
         and start again, or set onExhausted: deadLetter"
    )]
    WindowExhausted {
        /// Failed calls.
        attempts: u32,
        /// The last failure.
        message: String,
    },
    /// What stands in the stitch topic cannot be read.
    #[error("partition {partition} of the stitch topic: {cause}")]
    Tidings {
        /// Which.
        partition: i32,
        /// What is wrong with it.
        cause: EnvelopeError,
    },
    /// A dead letter was refused: going on would drop the event.
    #[error(
        "the dead letter of event {event} cannot be written to {topic}: {reason}; mend the topic and start again"
    )]
    DeadLetter {
        /// topic/partition@offset.
        event: String,
        /// The dead-letter topic.
        topic: String,
        /// What the broker says.
        reason: String,
    },
    /// The state that an earlier run wrote cannot be taken up.
    #[error(
        "partition {partition} of the state topic: {cause}; to begin anew with empty windows, stop the function everywhere \
         and run `tidemill reset FUNCTION --state`, or give it another name (metadata.name) or group"
    )]
    State {
        /// Which.
        partition: i32,
        /// What is wrong with it.
        cause: window::Damaged,
    },
    /// The state takes more than it may.
    #[error(
        "the state of this worker takes {bytes} bytes, more than state.maxBytes ({max_bytes}): raise that, add workers \
         (scale.min), or let windows be shorter{}; nothing is lost", slowest(held_by.as_ref())
    )]
    StateFull {
        /// What it takes.
        bytes: u64,
        /// What it may take.
        max_bytes: u64,
        /// The source partition that lets windows close no sooner.
        held_by: Option<Partition>,
    },
    /// The broker refused the state, or the result of a window that closed by time alone: no event is to blame.
    #[error("topic {topic} refused what windows have to write: {reason}; mend the topic and start again")]
    Refused {
        /// The topic.
        topic: String,
        /// What the broker says.
        reason: String,
    },
    /// The committed offset lies beyond the log.
    #[error(
        "partition {partition}: the committed offset {committed} lies beyond the log's end {end}: was the topic made \
         anew? commit offsets that fit (kafka-consumer-groups --reset-offsets) and start again"
    )]
    BeyondEnd {
        /// Which.
        partition: String,
        /// What the group committed.
        committed: i64,
        /// Where the log ends.
        end: i64,
    },
}

fn slowest(partition: Option<&Partition>) -> String {
    let held = |partition| {
        format!("; what waits for event time is held open by {partition}, which is the furthest behind")
    };
    partition.map(held).unwrap_or_default()
}
