//! What keys have, in memory, and the callbacks by which a handler under test reads and changes it.

use std::collections::BTreeMap;
use std::ffi::c_void;

use tidemill_abi as abi;

use super::host::{Frame, frame};
use crate::At;
use crate::event::{bytes, text};

/// What every key has, and what is in tables.
#[derive(Default)]
pub(super) struct Keys {
    values: BTreeMap<(Vec<u8>, String), Kept>,
    timers: BTreeMap<(Vec<u8>, String), Pending>,
    /// By table and key.
    pub rows: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    /// How far event time has come.
    pub watermark_ms: Option<i64>,
}

struct Kept {
    value: Vec<u8>,
    /// When it is gone, by event time.
    expires_ms: Option<i64>,
}

/// A timer that is set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub at: At,
    /// How often it fired in vain.
    pub attempts: u32,
}

/// A timer that is set, and whose.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub key: Vec<u8>,
    pub name: String,
    pub pending: Pending,
}

/// What a call did to its key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Effect {
    Put { name: String, value: Vec<u8>, ttl_ms: u64 },
    Delete { name: String },
    Timer { name: String, at: At },
    Cancel { name: String },
}

impl Keys {
    /// What the key has under this name, unless it has expired.
    pub fn value(&self, key: &[u8], name: &str) -> Option<&[u8]> {
        let kept = self.values.get(&place(key, name))?;
        let is_gone = kept.expires_ms.zip(self.watermark_ms).is_some_and(|(expires, now)| now >= expires);
        (!is_gone).then_some(kept.value.as_slice())
    }

    pub fn timer(&self, key: &[u8], name: &str) -> Option<Pending> {
        self.timers.get(&place(key, name)).copied()
    }

    /// The timer that fires next, if any is due: those by the wall clock go first, then the earliest.
    pub fn next_due(&self, now_ms: i64) -> Option<Due> {
        let order = |at: At| match at {
            At::Clock(at_ms) => (0, at_ms),
            At::Event(at_ms) => (1, at_ms),
        };
        let is_due = |at: At| match at {
            At::Clock(at_ms) => at_ms <= now_ms,
            At::Event(at_ms) => self.watermark_ms.is_some_and(|now| at_ms <= now),
        };
        let due = self.timers.iter().filter(|(_, pending)| is_due(pending.at));
        let ((key, name), pending) = due.min_by_key(|(place, pending)| (order(pending.at), *place))?;
        Some(Due { key: key.clone(), name: name.clone(), pending: *pending })
    }

    /// Applies what a call that ended well did to its key, in order. What it put expires so long after the time of
    /// `time_ms`, or of event time if that has come further.
    pub fn apply(&mut self, key: &[u8], time_ms: i64, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Put { name, value, ttl_ms } => {
                    let since = self.watermark_ms.map_or(time_ms, |now| now.max(time_ms));
                    let ttl_ms = i64::try_from(ttl_ms).unwrap_or(i64::MAX);
                    let expires_ms = (ttl_ms > 0).then(|| since.saturating_add(ttl_ms));
                    self.values.insert(place(key, &name), Kept { value, expires_ms });
                }
                Effect::Delete { name } => {
                    self.values.remove(&place(key, &name));
                }
                Effect::Timer { name, at } => {
                    self.timers.insert(place(key, &name), Pending { at, attempts: 0 });
                }
                Effect::Cancel { name } => self.cancel(key, &name),
            }
        }
    }

    pub fn cancel(&mut self, key: &[u8], name: &str) {
        self.timers.remove(&place(key, name));
    }

    /// The timer has fired in vain once more.
    pub fn failed(&mut self, key: &[u8], name: &str) {
        if let Some(pending) = self.timers.get_mut(&place(key, name)) {
            pending.attempts += 1;
        }
    }
}

fn place(key: &[u8], name: &str) -> (Vec<u8>, String) {
    (key.to_vec(), name.to_owned())
}

impl Effect {
    /// The value under `name` after this; `None`: as it was.
    fn value(&self, name: &str) -> Option<Option<&[u8]>> {
        match self {
            Self::Put { name: put, value, .. } if put == name => Some(Some(value)),
            Self::Delete { name: deleted } if deleted == name => Some(None),
            _ => None,
        }
    }
}

pub(super) unsafe extern "C" fn state_get(
    context: *mut c_void,
    name: abi::Slice,
    out: *mut abi::Slice,
) -> i32 {
    // SAFETY: the contract: the context of this call, and a place for the value.
    let (frame, out) = unsafe { (frame(context), &mut *out) };
    let Some((keys, key)) = keyed(frame) else { return abi::NO_STATE };
    let Some(name) = text(name) else { return abi::INVALID };
    let staged = frame.effects.iter().rev().find_map(|effect| effect.value(name));
    show(staged.unwrap_or_else(|| keys.value(key, name)), out)
}

pub(super) unsafe extern "C" fn state_put(
    context: *mut c_void,
    name: abi::Slice,
    value: abi::Slice,
    ttl_ms: u64,
) -> i32 {
    // SAFETY: the contract: the context of this call.
    let frame = unsafe { frame(context) };
    stage(frame, name, |name| match bytes(value) {
        Some(value) => Effect::Put { name, value: value.to_vec(), ttl_ms },
        None => Effect::Delete { name },
    })
}

pub(super) unsafe extern "C" fn timer_set(
    context: *mut c_void,
    name: abi::Slice,
    clock: u32,
    at_ms: i64,
) -> i32 {
    // SAFETY: the contract: the context of this call.
    let frame = unsafe { frame(context) };
    if !frame.has_on_timer {
        frame.misuse.get_or_insert(
            "the handler sets a timer: make the harness with `.with_timers()`, for which the handler is `OnTimer`",
        );
        return abi::NO_ON_TIMER;
    }
    let at = if clock == abi::CLOCK_WALL { At::Clock(at_ms) } else { At::Event(at_ms) };
    stage(frame, name, |name| Effect::Timer { name, at })
}

pub(super) unsafe extern "C" fn timer_cancel(context: *mut c_void, name: abi::Slice) -> i32 {
    // SAFETY: the contract: the context of this call.
    let frame = unsafe { frame(context) };
    stage(frame, name, |name| Effect::Cancel { name })
}

pub(super) unsafe extern "C" fn lookup(
    context: *mut c_void,
    table: abi::Slice,
    key: abi::Slice,
    out: *mut abi::Slice,
) -> i32 {
    // SAFETY: the contract: the context of this call, and a place for the value.
    let (frame, out) = unsafe { (frame(context), &mut *out) };
    let (Some(keys), Some(table), Some(key)) = (frame.keys, text(table), bytes(key)) else {
        return abi::INVALID;
    };
    show(keys.rows.get(&(table.to_owned(), key.to_vec())).map(Vec::as_slice), out)
}

fn stage(frame: &mut Frame<'_>, name: abi::Slice, effect: impl FnOnce(String) -> Effect) -> i32 {
    if keyed(frame).is_none() {
        return abi::NO_STATE;
    }
    let Some(name) = text(name) else { return abi::INVALID };
    frame.effects.push(effect(name.to_owned()));
    abi::FOUND
}

/// The keys, and that of the call.
fn keyed<'a>(frame: &mut Frame<'a>) -> Option<(&'a Keys, &'a [u8])> {
    let keys = frame.keys?;
    let key = frame.key();
    if key.is_none() {
        frame.misuse.get_or_insert(
            "the handler keeps state for an event without a key: with `state` such events never reach a handler, \
             but the dead letters",
        );
    }
    Some((keys, key?))
}

fn show(value: Option<&[u8]>, out: &mut abi::Slice) -> i32 {
    let Some(value) = value else { return abi::ABSENT };
    *out = abi::Slice::of(value);
    abi::FOUND
}
