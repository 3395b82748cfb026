//! What a call asks and does about its key, through callbacks: state, timers, and what tables hold.
//!
//! What it does is staged in the call's outbox, where a failed call leaves nothing; what it asks is answered from there
//! first, since a call sees what it has done itself.

use std::ffi::c_void;
use std::time::Duration;

use tidemill_abi as abi;

use super::host::{Frame, Staging, name};
use crate::model::{At, Effect, Keyed, LookupError};

pub(super) unsafe extern "C" fn state_get(context: *mut c_void, of: abi::Slice, out: *mut abi::Slice) -> i32 {
    // SAFETY: the contract: the context of this call, and bytes that live until this returns.
    let (frame, of) = unsafe { (Frame::behind(context), own_name(of)) };
    let Some((call, keyed)) = stateful(frame) else { return abi::NO_STATE };
    let Some(of) = of else { return abi::INVALID };
    // The outbox is cleared before each call, so what it has staged is this call's.
    let value = call.outbox.staged_value(of).unwrap_or_else(|| keyed.value(of));
    // SAFETY: as above: a place for a slice.
    unsafe { show(value, out) }
}

pub(super) unsafe extern "C" fn state_put(
    context: *mut c_void,
    of: abi::Slice,
    value: abi::Slice,
    ttl_ms: u64,
) -> i32 {
    // SAFETY: the contract: the context of this call, and bytes that live until this returns.
    let (frame, of, value) = unsafe { (Frame::behind(context), own_name(of), value.bytes()) };
    let Some((call, _)) = stateful(frame) else { return abi::NO_STATE };
    let Some(name) = of else { return abi::INVALID };
    let ttl = (ttl_ms > 0).then(|| Duration::from_millis(ttl_ms));
    stage(call, &value.map_or(Effect::Delete { name }, |value| Effect::Put { name, value, ttl }))
}

pub(super) unsafe extern "C" fn timer_set(
    context: *mut c_void,
    of: abi::Slice,
    clock: u32,
    at_ms: i64,
) -> i32 {
    // SAFETY: the contract: the context of this call, and bytes that live until this returns.
    let (frame, of) = unsafe { (Frame::behind(context), own_name(of)) };
    let Some((call, _)) = stateful(frame) else { return abi::NO_STATE };
    if !call.has_on_timer {
        return abi::NO_ON_TIMER;
    }
    let at = match clock {
        abi::CLOCK_EVENT => At::Event(at_ms),
        abi::CLOCK_WALL => At::Clock(at_ms),
        _ => return abi::INVALID,
    };
    let Some(name) = of.filter(|_| at_ms >= 0) else { return abi::INVALID };
    stage(call, &Effect::Timer { name, at })
}

pub(super) unsafe extern "C" fn timer_cancel(context: *mut c_void, of: abi::Slice) -> i32 {
    // SAFETY: the contract: the context of this call, and bytes that live until this returns.
    let (frame, of) = unsafe { (Frame::behind(context), own_name(of)) };
    let Some((call, _)) = stateful(frame) else { return abi::NO_STATE };
    let Some(name) = of else { return abi::INVALID };
    stage(call, &Effect::Cancel { name })
}

pub(super) unsafe extern "C" fn lookup(
    context: *mut c_void,
    table: abi::Slice,
    key: abi::Slice,
    out: *mut abi::Slice,
) -> i32 {
    // SAFETY: the contract: the context of this call, and bytes that live until this returns.
    let (frame, table, key) = unsafe { (Frame::behind(context), own_name(table), key.bytes()) };
    let keyed = frame.call.as_ref().and_then(|call| call.keyed);
    let (Some(keyed), Some(table), Some(key)) = (keyed, table, key) else { return abi::INVALID };
    match keyed.lookup(table, key) {
        // SAFETY: as above: a place for a slice.
        Ok(value) => unsafe { show(value, out) },
        Err(LookupError::NoTable) => abi::INVALID,
        Err(LookupError::OtherKey) => abi::OTHER_KEY,
    }
}

/// The call, if its function keeps state, and what it knows of its key.
fn stateful<'f, 'a>(frame: &'f mut Frame<'a>) -> Option<(&'f mut Staging<'a>, &'a dyn Keyed)> {
    let call = frame.call.as_mut()?;
    let keyed = call.keyed.filter(|keyed| keyed.has_state())?;
    Some((call, keyed))
}

fn stage(call: &mut Staging<'_>, effect: &Effect<'_>) -> i32 {
    if call.outbox.push_effect(effect) { abi::FOUND } else { abi::TOO_LARGE }
}

/// The name of something of the key's; `None` when it is absent, empty, too long or not UTF-8.
///
/// # Safety
/// The slice is what it claims, for `'a`.
unsafe fn own_name<'a>(slice: abi::Slice) -> Option<&'a str> {
    // SAFETY: the caller's promise.
    unsafe { name(slice) }.flatten().filter(|name| !name.is_empty())
}

/// Fills in `out` with the value, if there is one.
///
/// # Safety
/// `out` is a place for a slice.
unsafe fn show(value: Option<&[u8]>, out: *mut abi::Slice) -> i32 {
    let Some(value) = value else { return abi::ABSENT };
    // SAFETY: the caller's promise.
    unsafe { out.write(abi::Slice::of(value)) };
    abi::FOUND
}
