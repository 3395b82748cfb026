//! A timer that fires.

use std::fmt::Write as _;

use tidemill_abi as abi;

use crate::event::{bytes, text};
use crate::{At, Timer};

/// A timer that fires, borrowed for the call.
#[derive(Clone, Copy)]
pub struct Fired<'a> {
    raw: &'a abi::Fired,
}

impl<'a> Fired<'a> {
    pub(crate) fn new(raw: &'a abi::Fired) -> Self {
        Self { raw }
    }

    /// It is this one.
    pub fn is(&self, timer: &Timer) -> bool {
        self.name() == timer.name()
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        text(self.raw.name).unwrap_or_default()
    }

    /// The key that it was set for.
    pub fn key(&self) -> &'a [u8] {
        bytes(self.raw.key).unwrap_or_default()
    }

    /// The key as text; `None` when it is not UTF-8.
    pub fn key_str(&self) -> Option<&'a str> {
        text(self.raw.key)
    }

    /// When it was to fire. That clock may have come further by now.
    pub fn at(&self) -> At {
        match self.raw.clock {
            abi::CLOCK_WALL => At::Clock(self.raw.at_ms),
            _ => At::Event(self.raw.at_ms),
        }
    }

    /// When it was to fire, by whichever clock, milliseconds since the epoch. Outputs that say no time of their own have it.
    pub fn time_ms(&self) -> i64 {
        self.raw.at_ms
    }

    /// `key/name/clock/at`, where the clock is `event` or `wall`.
    pub(crate) fn own_name(&self) -> String {
        let mut name = String::new();
        match self.key_str() {
            Some(key) => name.push_str(key),
            None => self.key().iter().for_each(|byte| {
                // Writing to a `String` does not fail.
                let _ = write!(name, "{byte:02x}");
            }),
        }
        let clock = match self.at() {
            At::Event(_) => "event",
            At::Clock(_) => "wall",
        };
        let _ = write!(name, "/{}/{clock}/{}", self.name(), self.raw.at_ms);
        name
    }
}
