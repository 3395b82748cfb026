//! The host's side of a call: the callbacks, and what they read and write.
//!
//! Everything a plugin passes in is looked at before it is used: lengths, UTF-8, numbers with a
//! meaning. Pointers cannot be.

use std::borrow::Cow;
use std::ffi::c_void;
use std::time::Duration;

use tidemill_abi as abi;

use super::keyed::{lookup, state_get, state_put, timer_cancel, timer_set};
use crate::model::{
    Emit, Event, Failure, FailureKind, Header, KeyChoice, Keyed, Outbox, TimerCall, WindowCall,
};

/// The callbacks of every call.
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

/// The longest failure message, log line, and name of a counter, sink, media type, state, timer or table; bytes.
const MAX_MESSAGE: usize = 8 * 1024;
const MAX_LINE: usize = 4 * 1024;
const MAX_NAME: usize = 256;
/// The most counters of an instance, headers of an output, and log lines in a second.
const MAX_COUNTERS: usize = 64;
const MAX_HEADERS: usize = 1024;
const MAX_LINES: u32 = 100;

/// What an instance keeps from call to call.
pub(super) struct Memory {
    function: String,
    /// Attributes that had to be made up for the call; slices of them are valid until it ends.
    texts: Vec<String>,
    counts: Vec<(String, u64)>,
    log_second: i64,
    lines: u32,
}

impl Memory {
    pub(super) fn new(function: String) -> Self {
        Self { function, texts: Vec::new(), counts: Vec::new(), log_second: 0, lines: 0 }
    }

    pub(super) fn function(&self) -> &str {
        &self.function
    }

    pub(super) fn begin(&mut self) {
        self.texts.clear();
    }

    pub(super) fn counts(&mut self) -> &mut [(String, u64)] {
        &mut self.counts
    }

    fn count(&mut self, name: &str, by: u64) {
        if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| known == name) {
            *count = count.saturating_add(by);
        } else if self.counts.len() < MAX_COUNTERS {
            self.counts.push((name.to_owned(), by));
            if self.counts.len() == MAX_COUNTERS {
                tracing::warn!(
                    function = self.function,
                    "{MAX_COUNTERS} counters: further names are dropped"
                );
            }
        }
    }

    /// Whether one more line may be logged now.
    fn may_log(&mut self, now_ms: i64) -> bool {
        let second = now_ms.div_euclid(1000);
        if second != self.log_second {
            if self.lines > MAX_LINES {
                let dropped = self.lines - MAX_LINES;
                tracing::warn!(function = self.function, dropped, "log lines of the handler were dropped");
            }
            (self.log_second, self.lines) = (second, 0);
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= MAX_LINES
    }
}

/// What a call is about.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    Event(&'a Event<'a>),
    Window(&'a WindowCall<'a>),
    Timer(&'a TimerCall<'a>),
}

/// What a call is about, what it knows, and where what it does is staged.
pub(super) struct Staging<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) keyed: Option<&'a dyn Keyed>,
    pub(super) has_on_timer: bool,
    pub(super) outbox: &'a mut Outbox,
}

/// What the callbacks of one call read and write; its address is the call's `context`.
pub(super) struct Frame<'a> {
    pub(super) call: Option<Staging<'a>>,
    memory: &'a mut Memory,
    now_ms: i64,
    /// What the plugin said about its failure.
    pub(super) told: Option<Told>,
}

impl<'a> Frame<'a> {
    pub(super) fn of_call(call: Staging<'a>, memory: &'a mut Memory, now_ms: i64) -> Self {
        Self { call: Some(call), memory, now_ms, told: None }
    }

    pub(super) fn of_init(memory: &'a mut Memory) -> Self {
        Self { call: None, memory, now_ms: 0, told: None }
    }

    /// The event that the call is about, if it is about one.
    fn event(&self) -> Option<&'a Event<'a>> {
        match self.call {
            Some(Staging { subject: Subject::Event(event), .. }) => Some(event),
            _ => None,
        }
    }

    /// The event at this place of the window that the call is about, if there is one.
    fn event_at(&self, place: usize) -> Option<&'a Event<'a>> {
        match self.call {
            Some(Staging { subject: Subject::Window(window), .. }) => window.events.get(place),
            _ => None,
        }
    }

    /// The frame behind a context.
    ///
    /// # Safety
    /// `context` is the address of a frame whose call goes on, on this thread, and nothing else
    /// refers to that frame now.
    pub(super) unsafe fn behind(context: *mut c_void) -> &'a mut Self {
        // SAFETY: the caller's promise.
        unsafe { &mut *context.cast::<Self>() }
    }
}

/// What a plugin said about its failure.
#[derive(Default)]
pub(super) struct Told {
    message: String,
    code: Option<String>,
    retry_after_ms: u64,
}

impl Told {
    /// The failure that `status` together with this means.
    pub(super) fn failure(self, status: i32) -> Failure {
        let kind = match status {
            abi::RETRY => {
                let after = (self.retry_after_ms > 0).then(|| Duration::from_millis(self.retry_after_ms));
                FailureKind::Retry { after }
            }
            abi::REJECT => FailureKind::Reject { code: self.code },
            abi::STOP => FailureKind::Stop,
            // A number without a meaning comes from broken code as a panic does.
            _ => FailureKind::Panic,
        };
        let message = match status {
            _ if !self.message.is_empty() => self.message,
            abi::RETRY | abi::REJECT | abi::PANIC | abi::STOP => "the handler gave no reason".to_owned(),
            status => format!("the handler returned {status}, which has no meaning"),
        };
        Failure { kind, message }
    }
}

unsafe extern "C" fn header(context: *mut c_void, index: usize, out: *mut abi::Header) -> i32 {
    // SAFETY: the contract: the context of this call.
    let event = unsafe { Frame::behind(context) }.event();
    // SAFETY: as above: a place for a header.
    unsafe { show_header(event, index, out) }
}

unsafe extern "C" fn window_header(
    context: *mut c_void,
    event: usize,
    index: usize,
    out: *mut abi::Header,
) -> i32 {
    // SAFETY: the contract: the context of this call.
    let event = unsafe { Frame::behind(context) }.event_at(event);
    // SAFETY: as above: a place for a header.
    unsafe { show_header(event, index, out) }
}

unsafe extern "C" fn attribute(context: *mut c_void, name: abi::Slice, out: *mut abi::Slice) -> i32 {
    // SAFETY: the contract: the context of this call.
    let frame = unsafe { Frame::behind(context) };
    // SAFETY: as above: bytes that live until this returns, and a place for the text.
    unsafe { show_attribute(frame.event(), frame.memory, name, out) }
}

unsafe extern "C" fn window_attribute(
    context: *mut c_void,
    event: usize,
    name: abi::Slice,
    out: *mut abi::Slice,
) -> i32 {
    // SAFETY: the contract: the context of this call.
    let frame = unsafe { Frame::behind(context) };
    // SAFETY: as above: bytes that live until this returns, and a place for the text.
    unsafe { show_attribute(frame.event_at(event), frame.memory, name, out) }
}

/// Fills in `out` with the header at `index`, if there is one.
///
/// # Safety
/// `out` is a place for a header.
unsafe fn show_header(event: Option<&Event<'_>>, index: usize, out: *mut abi::Header) -> i32 {
    let Some(header) = event.and_then(|event| event.record.headers().get(index)) else { return abi::ABSENT };
    let found = abi::Header {
        name: abi::Slice::of(header.name.as_bytes()),
        value: abi::Slice::of_option(header.value),
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(found) };
    abi::FOUND
}

/// Fills in `out` with the attribute `name`, if there is one; text that has to be made up is kept in `memory`.
///
/// # Safety
/// `name` is what it claims, `out` is a place for a slice.
unsafe fn show_attribute(
    event: Option<&Event<'_>>,
    memory: &mut Memory,
    name: abi::Slice,
    out: *mut abi::Slice,
) -> i32 {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    let found = match event.zip(name).and_then(|(event, name)| event.attribute(name)) {
        Some(Cow::Borrowed(value)) => abi::Slice::of(value.as_bytes()),
        Some(Cow::Owned(value)) => {
            // The bytes stay where they are when the list grows.
            let slice = abi::Slice::of(value.as_bytes());
            memory.texts.push(value);
            slice
        }
        None => return abi::ABSENT,
    };
    // SAFETY: the caller's promise.
    unsafe { out.write(found) };
    abi::FOUND
}

unsafe extern "C" fn emit(context: *mut c_void, output: *const abi::Output) -> i32 {
    // SAFETY: the contract: the context of this call, and an output that lives until this returns.
    let (frame, output) = unsafe { (Frame::behind(context), &*output) };
    let Some(Staging { subject, outbox, .. }) = &mut frame.call else { return abi::INVALID };
    // SAFETY: as above: what the output points to lives until this returns.
    match unsafe { stage(output, *subject, outbox) } {
        Some(true) => abi::FOUND,
        Some(false) => abi::TOO_LARGE,
        None => abi::INVALID,
    }
}

/// Stages an output; `None` when a field of it has no meaning. One of a window or a timer says key and time in full: the
/// record by which it comes to be called may have others.
///
/// # Safety
/// All slices and the headers of `output` are what they claim.
unsafe fn stage(output: &abi::Output, subject: Subject<'_>, outbox: &mut Outbox) -> Option<bool> {
    if (output.size as usize) < size_of::<abi::Output>() || output.version != abi::VERSION {
        return None;
    }
    // SAFETY: the caller's promise.
    let (key, value) = unsafe { (output.key.bytes(), output.value.bytes()) };
    // SAFETY: the caller's promise.
    let (sink, content_type) = unsafe { (name(output.sink)?, name(output.content_type)?) };
    let (own_key, own_time_ms) = match subject {
        Subject::Event(_) => (KeyChoice::OfEvent, None),
        Subject::Window(window) => (KeyChoice::Bytes(window.key), Some(window.time_ms)),
        Subject::Timer(timer) => (KeyChoice::Bytes(timer.key), Some(timer.at.time_ms())),
    };
    let key = match (output.key_kind, key) {
        (abi::KEY_OF_EVENT, _) => own_key,
        (abi::KEY_NULL, _) | (abi::KEY_BYTES, None) => KeyChoice::Null,
        (abi::KEY_BYTES, Some(key)) => KeyChoice::Bytes(key),
        _ => return None,
    };
    let timestamp_ms = match output.has_timestamp {
        0 => own_time_ms.filter(|time| *time >= 0),
        _ if output.timestamp_ms < 0 => return None,
        _ => Some(output.timestamp_ms),
    };
    let emit = Emit { sink, key, value, content_type, timestamp_ms, headers: &[] };
    if output.header_count == 0 {
        return Some(outbox.push(&emit));
    }
    if output.headers.is_null() || !output.headers.is_aligned() || output.header_count > MAX_HEADERS {
        return None;
    }
    // SAFETY: not null, aligned, of a possible length; the rest is the caller's promise.
    let tables = unsafe { std::slice::from_raw_parts(output.headers, output.header_count) };
    // Outputs with more headers than this are rare enough to allocate.
    let (mut few, mut many);
    let headers: &mut [Header<'_>] = if tables.len() <= 16 {
        few = [Header { name: "", value: None }; 16];
        &mut few[..tables.len()]
    } else {
        many = vec![Header { name: "", value: None }; tables.len()];
        &mut many
    };
    for (header, table) in headers.iter_mut().zip(tables) {
        // SAFETY: the caller's promise.
        *header = unsafe { Header { name: text(table.name)?, value: table.value.bytes() } };
    }
    Some(outbox.push(&Emit { headers, ..emit }))
}

unsafe extern "C" fn log(context: *mut c_void, level: u32, line: abi::Slice) {
    // SAFETY: the contract: the context of this call, and bytes that live until this returns.
    let (frame, line) = unsafe { (Frame::behind(context), lossy(line, MAX_LINE)) };
    if !frame.memory.may_log(frame.now_ms) {
        return;
    }
    let function = frame.memory.function();
    match level {
        abi::LOG_ERROR => tracing::error!(target: "tidemill::handler", function, "{line}"),
        abi::LOG_WARN => tracing::warn!(target: "tidemill::handler", function, "{line}"),
        abi::LOG_INFO => tracing::info!(target: "tidemill::handler", function, "{line}"),
        _ => tracing::debug!(target: "tidemill::handler", function, "{line}"),
    }
}

unsafe extern "C" fn count(context: *mut c_void, counter: abi::Slice, by: u64) {
    // SAFETY: the contract: the context of this call, and bytes that live until this returns.
    let (frame, counter) = unsafe { (Frame::behind(context), name(counter)) };
    if let Some(Some(counter)) = counter {
        frame.memory.count(counter, by);
    }
}

unsafe extern "C" fn fail(context: *mut c_void, failure: *const abi::Failure) {
    // SAFETY: the contract: the context of this call, and a failure that lives until this returns.
    let (frame, failure) = unsafe { (Frame::behind(context), &*failure) };
    if (failure.size as usize) < size_of::<abi::Failure>() || failure.version != abi::VERSION {
        return;
    }
    // SAFETY: as above: what the failure points to lives until this returns.
    let (message, code) = unsafe { (lossy(failure.message, MAX_MESSAGE), name(failure.code)) };
    frame.told = Some(Told {
        message: message.into_owned(),
        code: code.flatten().map(str::to_owned),
        retry_after_ms: failure.retry_after_ms,
    });
}

/// The text of a slice; `None` when it is absent or not UTF-8.
///
/// # Safety
/// The slice is what it claims, for `'a`.
unsafe fn text<'a>(slice: abi::Slice) -> Option<&'a str> {
    // SAFETY: the caller's promise.
    std::str::from_utf8(unsafe { slice.bytes() }?).ok()
}

/// A short text that may be absent (`Some(None)`); `None` when it is too long or not UTF-8.
///
/// # Safety
/// The slice is what it claims, for `'a`.
pub(super) unsafe fn name<'a>(slice: abi::Slice) -> Option<Option<&'a str>> {
    // SAFETY: the caller's promise.
    match unsafe { slice.bytes() } {
        None => Some(None),
        Some(bytes) if bytes.len() > MAX_NAME => None,
        Some(bytes) => std::str::from_utf8(bytes).ok().map(Some),
    }
}

/// Text for people: what is not UTF-8 is replaced, what is beyond `longest` bytes is cut off.
///
/// # Safety
/// The slice is what it claims, for `'a`.
unsafe fn lossy<'a>(slice: abi::Slice, longest: usize) -> Cow<'a, str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice.bytes() }.unwrap_or_default();
    if bytes.len() <= longest {
        return String::from_utf8_lossy(bytes);
    }
    let text = String::from_utf8_lossy(&bytes[..longest]);
    // A character that the cut parted is left out rather than shown as broken.
    Cow::Owned(format!("{}…", text.trim_end_matches('\u{fffd}')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NoHeaders, Record};

    fn output() -> abi::Output {
        abi::Output {
            size: size_of::<abi::Output>() as u32,
            version: abi::VERSION,
            key_kind: abi::KEY_OF_EVENT,
            has_timestamp: 0,
            timestamp_ms: 0,
            sink: abi::Slice::ABSENT,
            key: abi::Slice::ABSENT,
            value: abi::Slice::of(b"v"),
            content_type: abi::Slice::ABSENT,
            headers: std::ptr::null(),
            header_count: 0,
        }
    }

    fn staged(output: &abi::Output, outbox: &mut Outbox) -> Option<bool> {
        let record = Record {
            topic: "in",
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: &NoHeaders,
        };
        // SAFETY: all slices in these tests are of live bytes.
        unsafe { stage(output, Subject::Event(&Event::plain(record, "in")), outbox) }
    }

    #[test]
    fn outputs_without_a_meaning_are_refused() {
        assert_eq!(staged(&output(), &mut Outbox::default()), Some(true));
        let broken = abi::Slice::of(b"\xff");
        let long = [b'a'; MAX_NAME + 1];
        let nameless = [abi::Header { name: abi::Slice::ABSENT, value: abi::Slice::ABSENT }];
        for (what, output) in [
            ("too short", abi::Output { size: 8, ..output() }),
            ("another version", abi::Output { version: 2, ..output() }),
            ("an unknown key kind", abi::Output { key_kind: 3, ..output() }),
            ("a time below zero", abi::Output { has_timestamp: 1, timestamp_ms: -1, ..output() }),
            ("a sink that is not UTF-8", abi::Output { sink: broken, ..output() }),
            ("an endless sink", abi::Output { sink: abi::Slice::of(&long), ..output() }),
            ("a media type that is not UTF-8", abi::Output { content_type: broken, ..output() }),
            ("headers at null", abi::Output { header_count: 1, ..output() }),
            ("no name", abi::Output { headers: nameless.as_ptr(), header_count: 1, ..output() }),
            (
                "a million headers",
                abi::Output { headers: nameless.as_ptr(), header_count: 1 << 20, ..output() },
            ),
        ] {
            assert_eq!(staged(&output, &mut Outbox::default()), None, "{what}");
        }
    }

    #[test]
    fn few_and_many_headers_arrive() {
        for count in [1, 16, 17, 40] {
            let headers =
                vec![abi::Header { name: abi::Slice::of(b"n"), value: abi::Slice::of(b"v") }; count];
            let output = abi::Output { headers: headers.as_ptr(), header_count: count, ..output() };
            let mut outbox = Outbox::default();
            assert_eq!(staged(&output, &mut outbox), Some(true));
            outbox
                .visit::<()>(|emit| {
                    assert_eq!(emit.headers, vec![Header { name: "n", value: Some(b"v") }; count]);
                    Ok(())
                })
                .unwrap();
        }
    }

    #[test]
    fn statuses_without_a_meaning_count_as_broken_code() {
        let failure = Told::default().failure(77);
        assert_eq!(failure.kind, FailureKind::Panic);
        assert_eq!(failure.message, "the handler returned 77, which has no meaning");
        assert_eq!(Told::default().failure(abi::RETRY).message, "the handler gave no reason");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let line = "é".repeat(10);
        // SAFETY: bytes of a live string.
        let cut = unsafe { lossy(abi::Slice::of(line.as_bytes()), 5) };
        assert_eq!(cut, "éé…");
    }

    #[test]
    fn lines_and_counters_are_bounded() {
        let mut memory = Memory::new("default/f".to_owned());
        let logged = (0..500).filter(|_| memory.may_log(1_500)).count();
        assert_eq!(logged, MAX_LINES as usize);
        assert!(memory.may_log(2_000), "the next second begins anew");
        for name in 0..500 {
            memory.count(&name.to_string(), 1);
            memory.count(&name.to_string(), 2);
        }
        assert_eq!(memory.counts().len(), MAX_COUNTERS);
        assert_eq!(memory.counts()[0], ("0".to_owned(), 3));
    }
}
