//! What a handler may do besides looking at its event, window or timer; what it does to its key is in `keyed`.

use std::ffi::c_void;
use std::fmt::{self, Write as _};

use serde::Serialize;
use tidemill_abi as abi;

use crate::event::text;
use crate::out::{not_json, output};
use crate::{AsKey, Event, Failure, Fired, Out, Window};

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed that somebody should look at.
    Error,
    /// Something looks wrong.
    Warn,
    /// Worth knowing.
    Info,
    /// For whoever debugs the handler.
    Debug,
}

/// Buffers of an instance, reused from call to call.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) value: Vec<u8>,
    line: String,
    /// Pointers into an output while it is lent to the host; empty otherwise.
    headers: Vec<abi::Header>,
}

// SAFETY: the pointers in `headers` are only read while `Out::lend` runs, on one thread.
unsafe impl Send for Scratch {}

/// What a call is about.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Event(&'a Event<'a>),
    Window(&'a Window<'a>),
    Timer(&'a Fired<'a>),
}

/// Emits, clock, log and counters of one call, the state and timers of its key, and tables.
pub struct Context<'a> {
    pub(crate) call: &'a abi::Call,
    pub(crate) subject: Subject<'a>,
    pub(crate) scratch: &'a mut Scratch,
}

impl<'a> Context<'a> {
    pub(crate) fn new(call: &'a abi::Call, subject: Subject<'a>, scratch: &'a mut Scratch) -> Self {
        Self { call, subject, scratch }
    }

    /// Emits `value` as JSON under `key`, to each sink whose filters take it, at the time of the event, the window or the
    /// timer.
    ///
    /// # Errors
    /// A reject when the value has no form in JSON or does not fit. Pass it on with `?`.
    pub fn emit<V: Serialize + ?Sized>(&mut self, key: impl AsKey, value: &V) -> Result<(), Failure> {
        let mut buffer = std::mem::take(&mut self.scratch.value);
        buffer.clear();
        let written = serde_json::to_writer(&mut buffer, value).map_err(not_json);
        let json = abi::Slice::of(b"application/json");
        let sent = written.and_then(|()| self.push(&output(key.as_key(), json, Some(&buffer))));
        self.scratch.value = buffer;
        sent
    }

    /// Emits bytes as they are under `key`, or with `None` a tombstone, which deletes `key` on a
    /// compacted topic.
    ///
    /// # Errors
    /// A reject when it does not fit. Pass it on with `?`.
    pub fn emit_bytes<'v>(
        &mut self,
        key: impl AsKey,
        value: impl Into<Option<&'v [u8]>>,
    ) -> Result<(), Failure> {
        self.push(&output(key.as_key(), abi::Slice::ABSENT, value.into()))
    }

    /// Emits an output that has more to it than key and value: see [`Out`].
    ///
    /// # Errors
    /// A reject when it does not fit. Pass it on with `?`.
    pub fn send(&mut self, out: Out) -> Result<(), Failure> {
        let mut headers = std::mem::take(&mut self.scratch.headers);
        let sent = out.lend(&mut headers, |output| self.push(output));
        headers.clear();
        self.scratch.headers = headers;
        sent
    }

    /// The function's name, `namespace/name`.
    pub fn function(&self) -> &'a str {
        text(self.call.function).unwrap_or_default()
    }

    /// Wall clock at the start of the call, milliseconds since the epoch. Take the time from here: tests move it.
    pub fn now_ms(&self) -> i64 {
        self.call.now_ms
    }

    /// When the call must be done, on the same clock as [`now_ms`](Self::now_ms): the manifest's `timeout`.
    pub fn deadline_ms(&self) -> i64 {
        self.call.deadline_ms
    }

    /// Which attempt at this event, window or timer this is; the first is 1.
    pub fn attempt(&self) -> u32 {
        self.call.attempt
    }

    /// `function/topic/partition/offset` of the event, `function/key/start/end/digest` of the window, where the digest is
    /// of what it holds, `function/key/name/clock/at` of the timer: the same in every attempt and after every restart. Give it to services that tell repeated
    /// requests by a key.
    pub fn idempotency_key(&self) -> String {
        let function = self.function();
        match self.subject {
            Subject::Event(event) => {
                format!("{function}/{}/{}/{}", event.topic(), event.partition(), event.offset())
            }
            Subject::Window(window) => format!("{function}/{}", window.name()),
            Subject::Timer(fired) => format!("{function}/{}", fired.own_name()),
        }
    }

    /// Writes a line to Tidemill's log. Long lines are cut, and too many in a second are dropped and counted.
    pub fn log(&mut self, level: Level, message: impl fmt::Display) {
        self.scratch.line.clear();
        // Writing to a `String` fails only if `Display` does; what was written by then is logged.
        let _ = write!(self.scratch.line, "{message}");
        log(self.call.host, self.call.context, level, &self.scratch.line);
    }

    /// Adds `by` to the counter `name` of this function: `tidemill_handler_counts_total{name="…"}`. Names are few and fixed; do
    /// not build them from data.
    pub fn count(&mut self, name: &str, by: u64) {
        // SAFETY: the contract: a call's host table is valid while the call lasts; the callback takes
        // its own context and copies the name.
        unsafe { ((*self.call.host).count)(self.call.context, abi::Slice::of(name.as_bytes()), by) }
    }

    fn push(&mut self, output: &abi::Output) -> Result<(), Failure> {
        // SAFETY: the contract: a call's host table is valid while the call lasts; the callback takes
        // its own context and copies the output.
        match unsafe { ((*self.call.host).emit)(self.call.context, output) } {
            abi::FOUND => Ok(()),
            abi::TOO_LARGE => Err(Failure::reject("the outputs of one call are too large together")),
            code => Err(Failure::reject(format_args!(
                "the output was refused (code {code}): a timestamp below 0?"
            ))),
        }
    }
}

/// Hands a line to the host.
pub(crate) fn log(host: *const abi::Host, context: *mut c_void, level: Level, line: &str) {
    let level = match level {
        Level::Error => abi::LOG_ERROR,
        Level::Warn => abi::LOG_WARN,
        Level::Info => abi::LOG_INFO,
        Level::Debug => abi::LOG_DEBUG,
    };
    // SAFETY: the contract: the host table of a call or a setup is valid while it lasts; the callback
    // takes its own context and copies the line.
    unsafe { ((*host).log)(context, level, abi::Slice::of(line.as_bytes())) }
}
