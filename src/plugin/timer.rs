//! A call with a timer that fires, and how the timer is shown to a plugin.

use tidemill_abi as abi;

use crate::model::{At, Failure, FailureKind, Keyed, TimerCall};

/// One call with a timer that fires.
pub struct OfTimer<'a> {
    /// Which.
    pub timer: TimerCall<'a>,
    /// Topic, partition and number to blame if the call ends the process: see [`super::result_number`].
    pub stands_at: (&'a str, i32, i64),
    /// What it knows of its key.
    pub keyed: &'a dyn Keyed,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Wall clock, milliseconds since the epoch.
    pub now_ms: i64,
    /// When the call should be over, milliseconds since the epoch.
    pub deadline_ms: i64,
}

impl OfTimer<'_> {
    /// What a handler without `on_timer` answers to such a call.
    pub fn refusal() -> Failure {
        Failure {
            kind: FailureKind::Reject { code: None },
            message: "the handler has no `on_timer`, which its timers call".to_owned(),
        }
    }
}

/// The timer as the contract has it; it lives no longer than the timer.
pub(super) fn fired_table(timer: &TimerCall<'_>) -> abi::Fired {
    abi::Fired {
        size: size_of::<abi::Fired>() as u32,
        version: abi::VERSION,
        key: abi::Slice::of(timer.key),
        name: abi::Slice::of(timer.name.as_bytes()),
        clock: match timer.at {
            At::Event(_) => abi::CLOCK_EVENT,
            At::Clock(_) => abi::CLOCK_WALL,
        },
        reserved: 0,
        at_ms: timer.at.time_ms(),
    }
}
