//! The host's side of the contract, in memory: what Tidemill does with a plugin, done for a test.

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use tidemill_abi as abi;

use super::Emitted;
use super::given::Placed;
use super::given_window::PlacedWindow;
use super::keyed::{Due, Effect, Keys, lookup, state_get, state_put, timer_cancel, timer_set};
use crate::event::{bytes, text};
use crate::{At, Done, Failure, Level, Outcome};

/// What a call is about.
#[derive(Clone, Copy, Default)]
enum Subject<'a> {
    #[default]
    Nothing,
    Event(&'a Placed),
    Window(&'a PlacedWindow),
    Timer(&'a Due),
}

/// What the callbacks of one call read and write.
#[derive(Default)]
pub(super) struct Frame<'a> {
    subject: Subject<'a>,
    pub keys: Option<&'a Keys>,
    pub has_on_timer: bool,
    pub effects: Vec<Effect>,
    /// What the test should have done otherwise.
    pub misuse: Option<&'static str>,
    emitted: Vec<Emitted>,
    counts: Vec<(String, u64)>,
    logs: Vec<(Level, String)>,
    failure: Option<(String, Option<String>, u64)>,
}

/// What the calls of a harness have in common.
pub(super) struct Setting<'a> {
    pub keys: &'a Keys,
    pub has_on_timer: bool,
    /// How long a call may take.
    pub timeout_ms: i64,
}

/// What one call left behind.
pub(super) struct Left {
    pub outcome: Outcome,
    pub emitted: Vec<Emitted>,
    pub effects: Vec<Effect>,
    pub counts: Vec<(String, u64)>,
    pub logs: Vec<(Level, String)>,
}

impl<'a> Frame<'a> {
    fn of_call(subject: Subject<'a>, setting: &Setting<'a>) -> Self {
        Self { subject, keys: Some(setting.keys), has_on_timer: setting.has_on_timer, ..Self::default() }
    }

    /// What is left when the call has returned this. What it emitted and did to its key counts if it went well.
    fn end(self, status: i32) -> Left {
        if let Some(misuse) = self.misuse {
            panic!("{misuse}");
        }
        let Self { mut emitted, mut effects, counts, logs, failure, .. } = self;
        let outcome = outcome(status, failure);
        if !matches!(outcome, Ok(Done::Ok)) {
            emitted.clear();
            effects.clear();
        }
        Left { outcome, emitted, effects, counts, logs }
    }

    /// The key that the call is about, if it is about one.
    pub fn key(&self) -> Option<&'a [u8]> {
        match self.subject {
            Subject::Nothing => None,
            Subject::Event(given) => given.key.as_deref(),
            Subject::Window(given) => Some(&given.key),
            Subject::Timer(due) => Some(&due.key),
        }
    }

    /// The event that the call is about, if it is about one.
    fn event(&self) -> Option<&'a Placed> {
        match self.subject {
            Subject::Event(given) => Some(given),
            _ => None,
        }
    }

    /// The event at this place of the window that the call is about, if there is one.
    fn event_at(&self, place: usize) -> Option<&'a Placed> {
        match self.subject {
            Subject::Window(given) => given.events.get(place),
            _ => None,
        }
    }
}

const FUNCTION: &str = "default/test";

pub(super) static HOST: abi::Host = abi::Host {
    size: size_of::<abi::Host>() as u32,
    version: abi::VERSION,
    header,
    attribute,
    emit,
    log,
    count,
    fail,
    window_header,
    window_attribute,
    state_get,
    state_put,
    timer_set,
    timer_cancel,
    lookup,
};

/// Makes an instance.
pub(super) fn init(
    table: &abi::Handler,
    config: &str,
) -> (Result<*mut c_void, Failure>, Vec<(Level, String)>) {
    let mut frame = Frame::default();
    let setup = abi::Setup {
        size: size_of::<abi::Setup>() as u32,
        version: abi::VERSION,
        host: &HOST,
        context: ptr::from_mut(&mut frame).cast(),
        function: abi::Slice::of(FUNCTION.as_bytes()),
        handler: table.name,
        config: abi::Slice::of(config.as_bytes()),
    };
    let mut instance = ptr::null_mut();
    let init = table.init.expect("the tables of this crate are whole");
    // SAFETY: the table is this crate's, `setup` and `instance` live until it returns.
    let status = unsafe { init(&setup, &mut instance) };
    let made = match outcome(status, frame.failure.take()) {
        Ok(_) => Ok(instance),
        Err(failure) => Err(failure),
    };
    (made, frame.logs)
}

/// Delivers an event.
pub(super) fn handle(
    handle: unsafe extern "C" fn(*mut c_void, *const abi::Event, *const abi::Call) -> i32,
    instance: *mut c_void,
    given: &Placed,
    setting: &Setting<'_>,
) -> Left {
    let mut frame = Frame::of_call(Subject::Event(given), setting);
    let call = call_table(&mut frame, setting, given.now_ms, given.attempt);
    let event = event_table(given, given.key.as_deref());
    // SAFETY: the function is of this crate's table, the instance came from its `init`, and all that is passed
    // lives until it returns.
    let status = unsafe { handle(instance, &event, &call) };
    frame.end(status)
}

/// Delivers a window.
pub(super) fn on_window(
    on_window: abi::OnWindowFn,
    instance: *mut c_void,
    given: &PlacedWindow,
    setting: &Setting<'_>,
) -> Left {
    let mut frame = Frame::of_call(Subject::Window(given), setting);
    let call = call_table(&mut frame, setting, given.now_ms, given.attempt);
    let events: Vec<_> = given.events.iter().map(|event| event_table(event, Some(&given.key))).collect();
    let listed: Vec<_> = events.iter().map(ptr::from_ref).collect();
    let missing: Vec<_> = given.missing.iter().map(|name| abi::Slice::of(name.as_bytes())).collect();
    let window = abi::Window {
        size: size_of::<abi::Window>() as u32,
        version: abi::VERSION,
        key: abi::Slice::of(&given.key),
        start_ms: given.start_ms,
        end_ms: given.end_ms,
        time_ms: given.time_ms,
        fired: abi::Slice::of(given.fired.as_str().as_bytes()),
        aggregates: abi::Slice::of_option(given.aggregates.as_deref()),
        events: listed.as_ptr(),
        event_count: listed.len(),
        missing: missing.as_ptr(),
        missing_count: missing.len(),
    };
    // SAFETY: the function is of this crate's table, the instance came from its `init`, and all that is passed
    // lives until it returns.
    let status = unsafe { on_window(instance, &window, &call) };
    frame.end(status)
}

/// Fires a timer at this wall clock.
pub(super) fn on_timer(
    on_timer: abi::OnTimerFn,
    instance: *mut c_void,
    (due, now_ms): (&Due, i64),
    setting: &Setting<'_>,
) -> Left {
    let mut frame = Frame::of_call(Subject::Timer(due), setting);
    let call = call_table(&mut frame, setting, now_ms, due.pending.attempts + 1);
    let fired = abi::Fired {
        size: size_of::<abi::Fired>() as u32,
        version: abi::VERSION,
        key: abi::Slice::of(&due.key),
        name: abi::Slice::of(due.name.as_bytes()),
        clock: match due.pending.at {
            At::Event(_) => abi::CLOCK_EVENT,
            At::Clock(_) => abi::CLOCK_WALL,
        },
        reserved: 0,
        at_ms: due.pending.at.time_ms(),
    };
    // SAFETY: the function is of this crate's table, the instance came from its `init`, and all that is passed
    // lives until it returns.
    let status = unsafe { on_timer(instance, &fired, &call) };
    frame.end(status)
}

fn call_table(frame: &mut Frame<'_>, setting: &Setting<'_>, now_ms: i64, attempt: u32) -> abi::Call {
    abi::Call {
        size: size_of::<abi::Call>() as u32,
        version: abi::VERSION,
        host: &HOST,
        context: ptr::from_mut(frame).cast(),
        function: abi::Slice::of(FUNCTION.as_bytes()),
        now_ms,
        deadline_ms: now_ms + setting.timeout_ms,
        attempt,
        reserved: 0,
        watermark_ms: setting.keys.watermark_ms.unwrap_or(abi::NO_WATERMARK),
    }
}

pub(super) fn event_table(given: &Placed, key: Option<&[u8]>) -> abi::Event {
    abi::Event {
        size: size_of::<abi::Event>() as u32,
        version: abi::VERSION,
        source: abi::Slice::of(given.source.as_bytes()),
        topic: abi::Slice::of(given.topic.as_bytes()),
        partition: given.partition,
        reserved: 0,
        offset: given.offset,
        timestamp_ms: given.time_ms,
        time_ms: given.time_ms,
        key: abi::Slice::of_option(key),
        data: abi::Slice::of_option(given.value.as_deref()),
        content_type: abi::Slice::of_option(given.content_type.as_deref().map(str::as_bytes)),
    }
}

fn outcome(status: i32, failure: Option<(String, Option<String>, u64)>) -> Outcome {
    let (message, code, retry_after_ms) = failure.unwrap_or_default();
    let retry_after = (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms));
    match (status, code) {
        (abi::OK, _) => Ok(Done::Ok),
        (abi::SKIP, _) => Ok(Done::Skip),
        (abi::RETRY, _) => Err(retry_after
            .map_or_else(|| Failure::retry(&message), |pause| Failure::retry_after(&message, pause))),
        (abi::REJECT, Some(code)) => Err(Failure::reject_with_code(code, message)),
        (abi::REJECT, None) => Err(Failure::reject(message)),
        (abi::STOP, _) => Err(Failure::stop(message)),
        _ => Err(Failure::panic(message)),
    }
}

/// The frame behind a context.
///
/// # Safety
/// `context` is the one that `init`, `handle`, `on_window` or `on_timer` of this file passed to the call that now calls back.
pub(super) unsafe fn frame<'a>(context: *mut c_void) -> &'a mut Frame<'a> {
    // SAFETY: the caller's promise; nobody else looks at the frame while the call runs.
    unsafe { &mut *context.cast::<Frame<'a>>() }
}

unsafe extern "C" fn header(context: *mut c_void, index: usize, out: *mut abi::Header) -> i32 {
    // SAFETY: the contract: the context of this call, and a place for the header.
    let (frame, out) = unsafe { (frame(context), &mut *out) };
    show_header(frame.event(), index, out)
}

unsafe extern "C" fn window_header(
    context: *mut c_void,
    event: usize,
    index: usize,
    out: *mut abi::Header,
) -> i32 {
    // SAFETY: the contract: the context of this call, and a place for the header.
    let (frame, out) = unsafe { (frame(context), &mut *out) };
    show_header(frame.event_at(event), index, out)
}

fn show_header(event: Option<&Placed>, index: usize, out: &mut abi::Header) -> i32 {
    let Some((name, value)) = event.and_then(|event| event.headers.get(index)) else {
        return abi::ABSENT;
    };
    out.name = abi::Slice::of(name.as_bytes());
    out.value = abi::Slice::of_option(value.as_deref());
    abi::FOUND
}

unsafe extern "C" fn attribute(context: *mut c_void, name: abi::Slice, out: *mut abi::Slice) -> i32 {
    // SAFETY: the contract: the context of this call, and a place for the text.
    let (frame, out) = unsafe { (frame(context), &mut *out) };
    show_attribute(frame.event(), name, out)
}

unsafe extern "C" fn window_attribute(
    context: *mut c_void,
    event: usize,
    name: abi::Slice,
    out: *mut abi::Slice,
) -> i32 {
    // SAFETY: the contract: the context of this call, and a place for the text.
    let (frame, out) = unsafe { (frame(context), &mut *out) };
    show_attribute(frame.event_at(event), name, out)
}

fn show_attribute(event: Option<&Placed>, name: abi::Slice, out: &mut abi::Slice) -> i32 {
    let value = text(name).and_then(|name| event?.attributes.get(name));
    let Some(value) = value else { return abi::ABSENT };
    *out = abi::Slice::of(value.as_bytes());
    abi::FOUND
}

unsafe extern "C" fn emit(context: *mut c_void, output: *const abi::Output) -> i32 {
    // SAFETY: the contract: the context of this call, and an output that lives until this returns.
    let (frame, output) = unsafe { (frame(context), &*output) };
    if matches!(frame.subject, Subject::Nothing) {
        return abi::INVALID;
    }
    if output.has_timestamp != 0 && output.timestamp_ms < 0 {
        return abi::INVALID;
    }
    let key = match output.key_kind {
        abi::KEY_OF_EVENT => frame.key().map(<[u8]>::to_vec),
        abi::KEY_BYTES => bytes(output.key).map(<[u8]>::to_vec),
        _ => None,
    };
    let headers: &[abi::Header] = if output.header_count == 0 {
        &[]
    } else {
        // SAFETY: the contract: that many headers, alive until this returns.
        unsafe { std::slice::from_raw_parts(output.headers, output.header_count) }
    };
    frame.emitted.push(Emitted {
        sink: text(output.sink).map(str::to_owned),
        key,
        value: bytes(output.value).map(<[u8]>::to_vec),
        content_type: text(output.content_type).map(str::to_owned),
        time_ms: (output.has_timestamp != 0).then_some(output.timestamp_ms),
        headers: headers
            .iter()
            .map(|header| {
                (text(header.name).unwrap_or_default().to_owned(), bytes(header.value).map(<[u8]>::to_vec))
            })
            .collect(),
    });
    abi::FOUND
}

unsafe extern "C" fn log(context: *mut c_void, level: u32, line: abi::Slice) {
    let level = match level {
        abi::LOG_ERROR => Level::Error,
        abi::LOG_WARN => Level::Warn,
        abi::LOG_INFO => Level::Info,
        _ => Level::Debug,
    };
    // SAFETY: the contract: the context of this call.
    unsafe { frame(context) }.logs.push((level, text(line).unwrap_or_default().to_owned()));
}

unsafe extern "C" fn count(context: *mut c_void, name: abi::Slice, by: u64) {
    // SAFETY: the contract: the context of this call.
    unsafe { frame(context) }.counts.push((text(name).unwrap_or_default().to_owned(), by));
}

unsafe extern "C" fn fail(context: *mut c_void, failure: *const abi::Failure) {
    // SAFETY: the contract: the context of this call, and a failure that lives until this returns.
    let (frame, failure) = unsafe { (frame(context), &*failure) };
    let message = text(failure.message).unwrap_or_default().to_owned();
    frame.failure = Some((message, text(failure.code).map(str::to_owned), failure.retry_after_ms));
}
