//! What a call may know of its key, and what it does to it: state and timers of the key, and what tables hold.

use std::time::Duration;

use thiserror::Error;

/// When a timer fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// When event time has come so far: milliseconds since the epoch.
    Event(i64),
    /// When the wall clock has: milliseconds since the epoch.
    Clock(i64),
}

impl At {
    /// The time, by whichever clock: milliseconds since the epoch.
    pub fn time_ms(self) -> i64 {
        let (Self::Event(time_ms) | Self::Clock(time_ms)) = self;
        time_ms
    }
}

/// What a call reads besides what it is about. It stays as it is while the call lasts: what the call itself does is
/// staged beside it.
pub trait Keyed {
    /// What the key has under this name.
    fn value(&self, name: &str) -> Option<&[u8]>;

    /// What the table of this name has for `key`.
    fn lookup(&self, table: &str, key: &[u8]) -> Result<Option<&[u8]>, LookupError>;

    /// How far event time has come, in milliseconds since the epoch; `i64::MIN` before the first event.
    fn watermark_ms(&self) -> i64;

    /// The function's handler may keep state and set timers; else its manifest has no `state`.
    fn has_state(&self) -> bool;
}

/// Why a table has no answer, which is not the same as having nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LookupError {
    /// The manifest names no such table.
    #[error("the manifest has no table of this name: give a source `table`, and look its name up")]
    NoTable,
    /// What other keys have may stand elsewhere.
    #[error(
        "the table has `scope: lane` and is asked for another key than that of the call, which may stand elsewhere: use \
         `scope: all`"
    )]
    OtherKey,
}

/// What a call does to its key, staged until it has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect<'a> {
    /// The key has this value under this name from now on, for so long in event time; `None`: as long as the manifest
    /// says.
    Put {
        /// The name.
        name: &'a str,
        /// The value.
        value: &'a [u8],
        /// How long.
        ttl: Option<Duration>,
    },
    /// The key has nothing under this name.
    Delete {
        /// The name.
        name: &'a str,
    },
    /// The key's timer of this name fires then, and not when it was to fire before.
    Timer {
        /// The name.
        name: &'a str,
        /// When.
        at: At,
    },
    /// The key has no timer of this name.
    Cancel {
        /// The name.
        name: &'a str,
    },
}

/// A timer that fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerCall<'a> {
    /// The key that it was set for.
    pub key: &'a [u8],
    /// Its name.
    pub name: &'a str,
    /// When it was to fire; outputs that say no time of their own have this one.
    pub at: At,
}
