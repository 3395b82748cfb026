//! The contract between Tidemill and a native plugin: C structs, C functions, nothing else.
//!
//! A plugin is a shared library that exports one function, [`SYMBOL`], which returns a static
//! [`Plugin`]. Authors in Rust use `tidemill-sdk`, which writes all of this; authors in other languages
//! include `tidemill.h`, which says the same and is held equal by a test.
//!
//! # Rules
//!
//! - **Nobody frees anybody's memory.** Every slice that crosses is borrowed. What the host passes
//!   in is valid until the call returns; what a plugin passes to a callback is copied before the
//!   callback returns. An instance is made by `init` and destroyed by `drop` of the same handler.
//! - **A [`Slice`] whose pointer is null is absent** (Kafka's null), whatever its length; one with a
//!   pointer and length 0 is empty. Text is UTF-8 without a terminating zero.
//! - **Every table begins with its size and the version.** A table may grow at its end within a
//!   version, so a reader looks at `size` before it reads a field that the first release of that
//!   version did not have, and ignores what lies beyond what it knows. Anything else is a new [`VERSION`]. Only
//!   `size` and `version` of [`Plugin`] and the name [`SYMBOL`] stay as they are for ever: by them a
//!   host tells an old plugin from a broken one. A list of such tables is one of pointers, since only
//!   their owner knows how far apart they are.
//! - **One call at a time.** An instance may move to another thread between calls, but no two calls
//!   of it overlap. Callbacks are for the calling thread, while the call lasts.
//! - **Nothing unwinds across.** No panic and no exception may leave a plugin's function.
#![no_std]
#![allow(unsafe_code, reason = "the contract is made of raw pointers")]

use core::ffi::c_void;

/// The version of this contract.
pub const VERSION: u32 = 1;

/// The one symbol that a plugin exports: a [`PluginFn`].
pub const SYMBOL: &str = "tidemill_plugin";

/// The type of the exported function. What it returns lives as long as the process.
pub type PluginFn = unsafe extern "C" fn() -> *const Plugin;

/// Result of `init` and of every call: done.
pub const OK: i32 = 0;
/// Result of every call: deliberately not handled; what it emitted and did to its key is dropped, the event, window or
/// timer is counted.
pub const SKIP: i32 = 1;
/// Result of `init` and of every call: it may go well later. Say why with [`Host::fail`].
pub const RETRY: i32 = 2;
/// Result of `init` and of every call: it will never go well. Say why with [`Host::fail`].
pub const REJECT: i32 = 3;
/// Result of `init` and of every call: the handler's code broke (a panic that was caught). The instance
/// is dropped and a new one made before the next call.
pub const PANIC: i32 = 4;
/// Result of every call: nothing can go on. The function stops, and the call is made again when it starts. Say why with
/// [`Host::fail`]. A host that has [`Host::state_get`] knows it.
pub const STOP: i32 = 5;

/// Answer of a callback: done, or found.
pub const FOUND: i32 = 0;
/// Answer of `header`, `attribute` and their like for windows, `state_get` and `lookup`: there is none.
pub const ABSENT: i32 = 1;
/// Answer of `emit`, `state_put`, `timer_set` and `timer_cancel`: it does not fit, nothing was staged.
pub const TOO_LARGE: i32 = 2;
/// Answer of callbacks: text is not UTF-8, too long or empty, a number has no meaning, there is no such table; nothing was
/// staged.
pub const INVALID: i32 = 3;
/// Answer of `state_get`, `state_put`, `timer_set` and `timer_cancel`: the function's manifest has no `state`.
pub const NO_STATE: i32 = 4;
/// Answer of `timer_set`: the handler has no `on_timer`.
pub const NO_ON_TIMER: i32 = 5;
/// Answer of `lookup`: the table has what belongs to the key of the call alone, and was asked for another, which may well
/// stand elsewhere.
pub const OTHER_KEY: i32 = 6;

/// [`Output::key_kind`]: the key of the event, window or timer that is being handled.
pub const KEY_OF_EVENT: u32 = 0;
/// [`Output::key_kind`]: Kafka's null key.
pub const KEY_NULL: u32 = 1;
/// [`Output::key_kind`]: the bytes in [`Output::key`].
pub const KEY_BYTES: u32 = 2;

/// A timer's clock: event time, which is as far as the events have come.
pub const CLOCK_EVENT: u32 = 0;
/// A timer's clock: the wall clock.
pub const CLOCK_WALL: u32 = 1;

/// [`Call::watermark_ms`]: event time has not begun.
pub const NO_WATERMARK: i64 = i64::MIN;

/// Levels of [`Host::log`].
pub const LOG_ERROR: u32 = 1;
/// A warning.
pub const LOG_WARN: u32 = 2;
/// Information.
pub const LOG_INFO: u32 = 3;
/// For debugging.
pub const LOG_DEBUG: u32 = 4;

/// Borrowed bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// The first byte; null: absent.
    pub pointer: *const u8,
    /// How many bytes.
    pub length: usize,
}

impl Slice {
    /// No bytes at all: Kafka's null.
    pub const ABSENT: Self = Self { pointer: core::ptr::null(), length: 0 };

    /// These bytes.
    #[inline]
    pub const fn of(bytes: &[u8]) -> Self {
        Self { pointer: bytes.as_ptr(), length: bytes.len() }
    }

    /// These bytes, or absent.
    #[inline]
    pub const fn of_option(bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => Self::of(bytes),
            None => Self::ABSENT,
        }
    }

    /// The bytes; `None` when absent, or longer than memory can be.
    ///
    /// # Safety
    /// Unless the pointer is null, `length` bytes from it on are initialised and stay unchanged for `'a`.
    #[inline]
    pub const unsafe fn bytes<'a>(self) -> Option<&'a [u8]> {
        if self.pointer.is_null() || self.length > isize::MAX as usize {
            return None;
        }
        // SAFETY: not null and of a possible length; the rest is the caller's promise.
        Some(unsafe { core::slice::from_raw_parts(self.pointer, self.length) })
    }
}

/// What a plugin exports. Owned by the plugin, lives as long as the process.
#[repr(C)]
#[derive(Debug)]
pub struct Plugin {
    /// `sizeof` of this struct as the plugin was compiled.
    pub size: u32,
    /// The [`VERSION`] that the plugin was compiled for.
    pub version: u32,
    /// What it was made with, for messages: `tidemill-sdk 0.1.0`.
    pub made_with: Slice,
    /// `handler_count` pointers to handlers.
    pub handlers: *const *const Handler,
    /// How many handlers.
    pub handler_count: usize,
}

// SAFETY: tables are constant data.
unsafe impl Sync for Plugin {}

/// One handler of a plugin. Owned by the plugin, lives as long as the process.
///
/// The first release of this version ended with `drop`: see [`Handler::FIRST_SIZE`].
#[repr(C)]
#[derive(Debug)]
pub struct Handler {
    /// `sizeof` of this struct as the plugin was compiled.
    pub size: u32,
    /// The [`VERSION`] that the plugin was compiled for.
    pub version: u32,
    /// Its name in the manifest's `entry`; unique in the plugin, not empty.
    pub name: Slice,
    /// Makes an instance: [`OK`], and `*instance` set (null if it needs none), or [`RETRY`], [`REJECT`] or
    /// [`PANIC`], and no instance. `setup` is valid until `init` returns.
    pub init: Option<unsafe extern "C" fn(setup: *const Setup, instance: *mut *mut c_void) -> i32>,
    /// Handles one event: [`OK`], [`SKIP`], [`RETRY`], [`REJECT`], [`PANIC`] or [`STOP`]. `event` and `call`
    /// are valid until it returns.
    pub handle:
        Option<unsafe extern "C" fn(instance: *mut c_void, event: *const Event, call: *const Call) -> i32>,
    /// Destroys an instance that `init` made. Called once.
    pub drop: Option<unsafe extern "C" fn(instance: *mut c_void)>,
    /// Handles a window that gives its result; null: the handler takes no windows. Answers as `handle` does. `window`
    /// and `call` are valid until it returns.
    pub on_window: Option<OnWindowFn>,
    /// Handles a timer that fires; null: the handler sets none. Answers as `handle` does. `fired` and `call` are valid
    /// until it returns.
    pub on_timer: Option<OnTimerFn>,
}

/// The type of [`Handler::on_window`].
pub type OnWindowFn =
    unsafe extern "C" fn(instance: *mut c_void, window: *const Window, call: *const Call) -> i32;

/// The type of [`Handler::on_timer`].
pub type OnTimerFn =
    unsafe extern "C" fn(instance: *mut c_void, fired: *const Fired, call: *const Call) -> i32;

impl Handler {
    /// How large the table was in the first release of this version: the least that a host takes.
    pub const FIRST_SIZE: usize = core::mem::offset_of!(Self, on_window);

    /// What [`Handler::on_window`] is, `None` too in a table that ends before it.
    ///
    /// # Safety
    /// `table` points to a table of this version that has at least [`Handler::FIRST_SIZE`] bytes, and as many as it
    /// says.
    pub const unsafe fn on_window(table: *const Self) -> Option<OnWindowFn> {
        // SAFETY: the caller's promise; `size` comes first.
        let size = unsafe { (*table).size };
        if (size as usize) < core::mem::offset_of!(Self, on_window) + size_of::<Option<OnWindowFn>>() {
            return None;
        }
        // SAFETY: the table reaches beyond the field.
        unsafe { (*table).on_window }
    }

    /// What [`Handler::on_timer`] is, `None` too in a table that ends before it.
    ///
    /// # Safety
    /// As of [`Handler::on_window`].
    pub const unsafe fn on_timer(table: *const Self) -> Option<OnTimerFn> {
        // SAFETY: the caller's promise; `size` comes first.
        let size = unsafe { (*table).size };
        if (size as usize) < core::mem::offset_of!(Self, on_timer) + size_of::<Option<OnTimerFn>>() {
            return None;
        }
        // SAFETY: the table reaches beyond the field.
        unsafe { (*table).on_timer }
    }
}

// SAFETY: tables are constant data.
unsafe impl Sync for Handler {}

/// What `init` is given.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// `sizeof` of this struct as the host was compiled.
    pub size: u32,
    /// The host's [`VERSION`].
    pub version: u32,
    /// The callbacks; in `init` only `log` and `fail` do something.
    pub host: *const Host,
    /// First argument of every callback.
    pub context: *mut c_void,
    /// The function's name, `namespace/name`.
    pub function: Slice,
    /// The handler's name.
    pub handler: Slice,
    /// The manifest's `config` as JSON text; `null` when there is none.
    pub config: Slice,
}

/// One event.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// `sizeof` of this struct as the host was compiled.
    pub size: u32,
    /// The host's [`VERSION`].
    pub version: u32,
    /// The source's name in the manifest.
    pub source: Slice,
    /// The topic it was read from.
    pub topic: Slice,
    /// The partition it was read from.
    pub partition: i32,
    /// Zero.
    pub reserved: u32,
    /// Its offset.
    pub offset: i64,
    /// Kafka's timestamp, milliseconds since the epoch; -1: none.
    pub timestamp_ms: i64,
    /// Event time, milliseconds since the epoch; -1: none.
    pub time_ms: i64,
    /// The function's key of the event; may be absent.
    pub key: Slice,
    /// The payload: the record's value, or the `data` of a structured CloudEvent; absent for null.
    pub data: Slice,
    /// The payload's media type; absent when unknown.
    pub content_type: Slice,
}

/// One window that gives its result.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// `sizeof` of this struct as the host was compiled.
    pub size: u32,
    /// The host's [`VERSION`].
    pub version: u32,
    /// The key whose events it holds; never absent.
    pub key: Slice,
    /// Where it begins, milliseconds since the epoch; may lie before it.
    pub start_ms: i64,
    /// Where it ends, milliseconds since the epoch; whether the end is in it depends on its kind.
    pub end_ms: i64,
    /// Event time of the result, milliseconds since the epoch.
    pub time_ms: i64,
    /// Why it gives a result: `close`, `update`, `count`, `complete` or `timeout`; later releases may add words.
    pub fired: Slice,
    /// What was made of its events, one JSON object with a field an aggregate; absent: it holds the events themselves.
    pub aggregates: Slice,
    /// `event_count` pointers to the events that it holds, by (time, source, partition, offset). Their headers and
    /// attributes are asked for with [`Host::window_header`] and [`Host::window_attribute`].
    pub events: *const *const Event,
    /// How many events; 0 where there are aggregates instead.
    pub event_count: usize,
    /// `missing_count` names of the needed sources that have no event.
    pub missing: *const Slice,
    /// How many of them.
    pub missing_count: usize,
}

/// One timer that fires.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Fired {
    /// `sizeof` of this struct as the host was compiled.
    pub size: u32,
    /// The host's [`VERSION`].
    pub version: u32,
    /// The key that it was set for; never absent.
    pub key: Slice,
    /// Its name.
    pub name: Slice,
    /// [`CLOCK_EVENT`] or [`CLOCK_WALL`].
    pub clock: u32,
    /// Zero.
    pub reserved: u32,
    /// When it was to fire, milliseconds since the epoch; that clock may have come further by now.
    pub at_ms: i64,
}

/// The circumstances of a call, whatever is called.
///
/// The first release of this version ended with `reserved`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// `sizeof` of this struct as the host was compiled.
    pub size: u32,
    /// The host's [`VERSION`].
    pub version: u32,
    /// The callbacks.
    pub host: *const Host,
    /// First argument of every callback.
    pub context: *mut c_void,
    /// The function's name, `namespace/name`.
    pub function: Slice,
    /// Wall clock at the start of the call, milliseconds since the epoch.
    pub now_ms: i64,
    /// When the call must be done, on the same clock.
    pub deadline_ms: i64,
    /// Which attempt this is; the first is 1.
    pub attempt: u32,
    /// Zero.
    pub reserved: u32,
    /// How far event time has come, milliseconds since the epoch; [`NO_WATERMARK`] before the first event, and where the
    /// function has no use for it.
    pub watermark_ms: i64,
}

impl Call {
    /// A copy of a table that may end before [`Call::watermark_ms`], which is then [`NO_WATERMARK`].
    ///
    /// # Safety
    /// `table` points to a table of this version that has as many bytes as it says.
    pub const unsafe fn read(table: *const Self) -> Self {
        // SAFETY: the caller's promise; no reference is made, and what the first release did not have is read only where
        // the table reaches beyond it.
        unsafe {
            let reaches =
                (*table).size as usize >= core::mem::offset_of!(Self, watermark_ms) + size_of::<i64>();
            Self {
                size: (*table).size,
                version: (*table).version,
                host: (*table).host,
                context: (*table).context,
                function: (*table).function,
                now_ms: (*table).now_ms,
                deadline_ms: (*table).deadline_ms,
                attempt: (*table).attempt,
                reserved: (*table).reserved,
                watermark_ms: if reaches { (*table).watermark_ms } else { NO_WATERMARK },
            }
        }
    }
}

/// The host's callbacks: constant data of the host. Each takes the `context` of the [`Call`] or
/// [`Setup`] it belongs to.
///
/// The first release of this version ended with `fail`: see [`Host::FIRST_SIZE`]. A host that has one of the callbacks for
/// state, timers and tables has them all: see [`Host::keeps_state`].
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// `sizeof` of this struct as the host was compiled.
    pub size: u32,
    /// The host's [`VERSION`].
    pub version: u32,
    /// The header at `index`, in the record's order: [`FOUND`] and `*out` filled in, or
    /// [`ABSENT`] past the end, and in a call that is not about an event. Valid until the call ends.
    pub header: unsafe extern "C" fn(context: *mut c_void, index: usize, out: *mut Header) -> i32,
    /// The CloudEvents attribute `name` as text: [`FOUND`] and `*out` filled in, or [`ABSENT`], as always in
    /// a call that is not about an event. Valid until the call ends.
    pub attribute: unsafe extern "C" fn(context: *mut c_void, name: Slice, out: *mut Slice) -> i32,
    /// Stages an output, copied: [`FOUND`], [`TOO_LARGE`] or [`INVALID`]. Written if the call
    /// returns [`OK`], dropped otherwise.
    pub emit: unsafe extern "C" fn(context: *mut c_void, output: *const Output) -> i32,
    /// Writes a line to the host's log at one of the `LOG_` levels. Lines may be cut or dropped when there
    /// are too many.
    pub log: unsafe extern "C" fn(context: *mut c_void, level: u32, text: Slice),
    /// Adds `by` to the author's counter `name`.
    pub count: unsafe extern "C" fn(context: *mut c_void, name: Slice, by: u64),
    /// Says why the call is about to return [`RETRY`], [`REJECT`], [`PANIC`] or [`STOP`]; copied, the last one counts.
    pub fail: unsafe extern "C" fn(context: *mut c_void, failure: *const Failure),
    /// [`Host::header`] of the event at `event` of [`Window::events`]; [`ABSENT`] past their end too, and in a call
    /// without a window. A host that calls `on_window` has it.
    pub window_header:
        unsafe extern "C" fn(context: *mut c_void, event: usize, index: usize, out: *mut Header) -> i32,
    /// [`Host::attribute`] of the event at `event` of [`Window::events`]; [`ABSENT`] past their end too, and in a call
    /// without a window. A host that calls `on_window` has it.
    pub window_attribute:
        unsafe extern "C" fn(context: *mut c_void, event: usize, name: Slice, out: *mut Slice) -> i32,
    /// What the key of the call has under `name`, what the call itself has put there included: [`FOUND`] and `*out` filled
    /// in, [`ABSENT`], [`INVALID`] or [`NO_STATE`]. Valid until the next callback. Names are 1 to 256 bytes.
    pub state_get: unsafe extern "C" fn(context: *mut c_void, name: Slice, out: *mut Slice) -> i32,
    /// Gives the key of the call this value under `name`, copied; absent: none any more. After `ttl_ms` of event time it is
    /// gone; 0: as the manifest says. [`FOUND`], [`TOO_LARGE`], [`INVALID`] or [`NO_STATE`]. As with all that a call does to
    /// its key it holds if the call returns [`OK`], and else was never done.
    pub state_put: unsafe extern "C" fn(context: *mut c_void, name: Slice, value: Slice, ttl_ms: u64) -> i32,
    /// Sets the timer `name` of the call's key to `at_ms`, not negative, on [`CLOCK_EVENT`] or [`CLOCK_WALL`]; one of that
    /// name that was set before does not fire any more. [`FOUND`], [`TOO_LARGE`], [`INVALID`], [`NO_STATE`] or
    /// [`NO_ON_TIMER`].
    pub timer_set: unsafe extern "C" fn(context: *mut c_void, name: Slice, clock: u32, at_ms: i64) -> i32,
    /// Takes back the timer `name` of the call's key, if there is one: [`FOUND`], [`TOO_LARGE`], [`INVALID`] or
    /// [`NO_STATE`].
    pub timer_cancel: unsafe extern "C" fn(context: *mut c_void, name: Slice) -> i32,
    /// What the table has for `key`: [`FOUND`] and `*out` filled in, [`ABSENT`], [`INVALID`] where there is no such table,
    /// or [`OTHER_KEY`]. Valid until the next callback.
    pub lookup: unsafe extern "C" fn(context: *mut c_void, table: Slice, key: Slice, out: *mut Slice) -> i32,
}

impl Host {
    /// How large the table was in the first release of this version: a plugin finds at least this much.
    pub const FIRST_SIZE: usize = core::mem::offset_of!(Self, window_header);

    /// The table reaches as far as the callbacks for state, timers and tables.
    ///
    /// # Safety
    /// `table` points to a table of this version.
    pub const unsafe fn keeps_state(table: *const Self) -> bool {
        // SAFETY: the caller's promise; `size` comes first.
        let size = unsafe { (*table).size };
        size as usize >= core::mem::offset_of!(Self, lookup) + size_of::<usize>()
    }
}

/// One header of a record, in or out.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// UTF-8 name.
    pub name: Slice,
    /// The bytes; absent is Kafka's null.
    pub value: Slice,
}

/// One output. All zeros but `size` and `version` is a tombstone under the key and at the time of the event, window or
/// timer that is being handled.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// `sizeof` of this struct as the plugin was compiled.
    pub size: u32,
    /// The [`VERSION`] that the plugin was compiled for.
    pub version: u32,
    /// [`KEY_OF_EVENT`], [`KEY_NULL`] or [`KEY_BYTES`].
    pub key_kind: u32,
    /// Not 0: `timestamp_ms` counts.
    pub has_timestamp: u32,
    /// Kafka timestamp, milliseconds since the epoch, not negative. Without one: the time of the event,
    /// the window or the timer.
    pub timestamp_ms: i64,
    /// The sink it is addressed to; absent: each sink whose filters take it.
    pub sink: Slice,
    /// The key, for [`KEY_BYTES`].
    pub key: Slice,
    /// The payload; absent is a tombstone.
    pub value: Slice,
    /// The payload's media type; absent: the sink's format says.
    pub content_type: Slice,
    /// `header_count` headers; may be null when that is 0. Those named `ce_…` set CloudEvents attributes.
    pub headers: *const Header,
    /// How many headers.
    pub header_count: usize,
}

/// Why a call failed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// `sizeof` of this struct as the plugin was compiled.
    pub size: u32,
    /// The [`VERSION`] that the plugin was compiled for.
    pub version: u32,
    /// For people, UTF-8.
    pub message: Slice,
    /// For programs, with [`REJECT`]: a short word; may be absent.
    pub code: Slice,
    /// With [`RETRY`]: try again after this many milliseconds; 0: as the manifest says.
    pub retry_after_ms: u64,
}
