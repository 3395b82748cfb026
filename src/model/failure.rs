//! How a call ends, and why an event could not be handled.

use std::time::Duration;

/// What the engine does about an error: the pipeline decides by class alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may go well later: try again.
    Transient,
    /// It will never go well: dead letter.
    Poison,
    /// The worker cannot go on.
    Fatal,
}

/// The result of one call of a handler.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Handled; what it emitted is written.
    Ok,
    /// Deliberately not handled; nothing is written, it is counted.
    Skip,
    /// Not handled; what it emitted is dropped.
    Failed(Failure),
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// The author's (or the panic's) text.
    pub message: String,
}

/// What to do about a failed call.
#[derive(Debug, Clone, PartialEq)]
pub enum FailureKind {
    /// Try again, after `after` if the handler asked for a pause of its own.
    Retry {
        /// The pause the handler asked for; `None`: the manifest's back-off.
        after: Option<Duration>,
    },
    /// Never try again: dead letter, with the author's code.
    Reject {
        /// A short machine-readable reason of the author's.
        code: Option<String>,
    },
    /// The handler panicked: tried again like a retry, counted apart.
    Panic,
    /// It cannot go on with anything: the function stops, and when it starts again the call is made again.
    Stop,
}

/// Why an event became a dead letter; written into the `tidemill-reason` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterReason {
    /// The record could not be decoded in the source's format.
    Malformed,
    /// The key or the time that the manifest asks for is not in the event.
    Unkeyed,
    /// The handler rejected it.
    Rejected,
    /// Out of attempts.
    Exhausted,
    /// Calls for it ended the process, until attempts ran out.
    Crashed,
    /// Older than `maxEventAge`.
    TooOld,
    /// Every window that it could enter is closed.
    Late,
    /// Further ahead of the clock than `window.maxSkew`.
    Ahead,
    /// Its stitch ended without something that it needs.
    Incomplete,
    /// The broker (or the client's limits) refused an output made from it.
    Unwritable,
    /// An output cannot be written as its sink asks: unknown sink, not the format's shape.
    BadOutput,
}

impl DeadLetterReason {
    /// Every reason, for tables and docs.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::Unkeyed,
        Self::Rejected,
        Self::Exhausted,
        Self::Crashed,
        Self::TooOld,
        Self::Late,
        Self::Ahead,
        Self::Incomplete,
        Self::Unwritable,
        Self::BadOutput,
    ];

    /// The word in the header and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unkeyed => "unkeyed",
            Self::Rejected => "rejected",
            Self::Exhausted => "exhausted",
            Self::Crashed => "crashed",
            Self::TooOld => "too-old",
            Self::Late => "late",
            Self::Ahead => "ahead",
            Self::Incomplete => "incomplete",
            Self::Unwritable => "unwritable",
            Self::BadOutput => "bad-output",
        }
    }
}
