//! The host's side of the contract, in memory: what Tidemill does with a plugin, done for a test.

use std::ffi::c_void;
use std::ptr;
use std::time::Duration;

use tidemill_abi as abi;

use super::Emitted;
use super::given::Placed;
use super::given_window::PlacedWindow;
use crate::event::{bytes, text};
use crate::{Done, Failure, Level, Outcome};

/// What a call is about.
#[derive(Clone, Copy, Default)]
enum Subject<'a> {
    #[default]
    Nothing,
    Event(&'a Placed),
    Window(&'a PlacedWindow),
}

/// What the callbacks of one call read and write.
#[derive(Default)]
pub(super) struct Frame<'a> {
    subject: Subject<'a>,
    pub emitted: Vec<Emitted>,
    pub counts: Vec<(String, u64)>,
    pub logs: Vec<(Level, String)>,
    failure: Option<(String, Option<String>, u64)>,
}

impl<'a> Frame<'a> {
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

static HOST: abi::Host = abi::Host {
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
pub(super) fn init(table: &abi::Handler, config: &str) -> (Result<*mut c_void, Failure>, Frame<'static>) {
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
    (made, frame)
}

/// Delivers an event.
pub(super) fn handle<'a>(
    handle: unsafe extern "C" fn(*mut c_void, *const abi::Event, *const abi::Call) -> i32,
    instance: *mut c_void,
    given: &'a Placed,
    deadline_ms: i64,
) -> (Outcome, Frame<'a>) {
    let mut frame = Frame { subject: Subject::Event(given), ..Frame::default() };
    let call = call_table(&mut frame, given.now_ms, deadline_ms, given.attempt);
    let event = event_table(given, given.key.as_deref());
    // SAFETY: the function is of this crate's table, the instance came from its `init`, and all that is passed
    // lives until it returns.
    let status = unsafe { handle(instance, &event, &call) };
    let outcome = outcome(status, frame.failure.take());
    (outcome, frame)
}

/// Delivers a window.
pub(super) fn on_window<'a>(
    on_window: abi::OnWindowFn,
    instance: *mut c_void,
    given: &'a PlacedWindow,
    deadline_ms: i64,
) -> (Outcome, Frame<'a>) {
    let mut frame = Frame { subject: Subject::Window(given), ..Frame::default() };
    let call = call_table(&mut frame, given.now_ms, deadline_ms, given.attempt);
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
    let outcome = outcome(status, frame.failure.take());
    (outcome, frame)
}

fn call_table(frame: &mut Frame<'_>, now_ms: i64, deadline_ms: i64, attempt: u32) -> abi::Call {
    abi::Call {
        size: size_of::<abi::Call>() as u32,
        version: abi::VERSION,
        host: &HOST,
        context: ptr::from_mut(frame).cast(),
        function: abi::Slice::of(FUNCTION.as_bytes()),
        now_ms,
        deadline_ms,
        attempt,
        reserved: 0,
        watermark_ms: abi::NO_WATERMARK,
    }
}

fn event_table(given: &Placed, key: Option<&[u8]>) -> abi::Event {
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
/// `context` is the one that `init`, `handle` or `on_window` of this file passed to the call that now calls back.
unsafe fn frame<'a>(context: *mut c_void) -> &'a mut Frame<'a> {
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
    let own_key = match frame.subject {
        Subject::Nothing => return abi::INVALID,
        Subject::Event(given) => given.key.as_ref(),
        Subject::Window(given) => Some(&given.key),
    };
    if output.has_timestamp != 0 && output.timestamp_ms < 0 {
        return abi::INVALID;
    }
    let key = match output.key_kind {
        abi::KEY_OF_EVENT => own_key.cloned(),
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

unsafe extern "C" fn state_get(_: *mut c_void, _: abi::Slice, _: *mut abi::Slice) -> i32 {
    abi::NO_STATE
}

unsafe extern "C" fn state_put(_: *mut c_void, _: abi::Slice, _: abi::Slice, _: u64) -> i32 {
    abi::NO_STATE
}

unsafe extern "C" fn timer_set(_: *mut c_void, _: abi::Slice, _: u32, _: i64) -> i32 {
    abi::NO_STATE
}

unsafe extern "C" fn timer_cancel(_: *mut c_void, _: abi::Slice) -> i32 {
    abi::NO_STATE
}

unsafe extern "C" fn lookup(_: *mut c_void, _: abi::Slice, _: abi::Slice, _: *mut abi::Slice) -> i32 {
    abi::INVALID
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
