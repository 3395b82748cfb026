//! A call with a window, and how the window is shown to a plugin: as the contract's tables, in memory that goes from call to
//! call.

use tidemill_abi as abi;

use super::instance::event_table;
use crate::model::{Failure, FailureKind, Keyed, WindowCall};

/// One call with a window that gives its result.
pub struct OfWindow<'a> {
    /// With what.
    pub window: &'a WindowCall<'a>,
    /// Topic, partition and offset of the record to blame if the call ends the process, the one by which the window gives
    /// its result; or, where there is none, what [`super::result_number`] says. `None`: no note is taken of the call.
    pub stands_at: Option<(&'a str, i32, i64)>,
    /// What it knows of its key; `None`: of no key.
    pub keyed: Option<&'a dyn Keyed>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Wall clock, milliseconds since the epoch.
    pub now_ms: i64,
    /// When the call should be over, milliseconds since the epoch.
    pub deadline_ms: i64,
}

impl OfWindow<'_> {
    /// What a handler without `on_window` answers to such a call.
    pub fn refusal() -> Failure {
        Failure {
            kind: FailureKind::Reject { code: None },
            message: "the handler has no `on_window`, which the function's window calls".to_owned(),
        }
    }
}

/// Lists of one call; empty between calls.
#[derive(Default)]
pub(super) struct Tables {
    events: Vec<abi::Event>,
    listed: Vec<*const abi::Event>,
    missing: Vec<abi::Slice>,
}

impl Tables {
    /// The window as the contract has it; valid until these tables are touched again, and no longer than the window.
    pub(super) fn of(&mut self, window: &WindowCall<'_>) -> abi::Window {
        self.clear();
        self.events.extend(window.events.iter().map(event_table));
        self.listed.extend(self.events.iter().map(std::ptr::from_ref));
        self.missing.extend(window.missing.iter().map(|name| abi::Slice::of(name.as_bytes())));
        abi::Window {
            size: size_of::<abi::Window>() as u32,
            version: abi::VERSION,
            key: abi::Slice::of(window.key),
            start_ms: window.start_ms,
            end_ms: window.end_ms,
            time_ms: window.time_ms,
            fired: abi::Slice::of(window.why.as_bytes()),
            aggregates: abi::Slice::of_option(window.aggregates),
            events: self.listed.as_ptr(),
            event_count: self.listed.len(),
            missing: self.missing.as_ptr(),
            missing_count: self.missing.len(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.listed.clear();
        self.missing.clear();
    }
}
