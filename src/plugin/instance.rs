//! A handler at work: one instance per worker thread.

use std::ffi::c_void;
use std::ptr;

use tidemill_abi as abi;

use super::host::{Frame, HOST, Memory, Staging, Subject};
use super::load::Entry;
use super::notes::Slot;
use super::timer::{OfTimer, fired_table};
use super::window::{OfWindow, Tables};
use crate::model::{Event, Failure, FailureKind, FunctionName, Keyed, Outbox, Outcome};

/// One call.
pub struct Call<'a> {
    /// With what.
    pub event: &'a Event<'a>,
    /// Topic, partition and offset of the record that is worked on: that of an event which was brought back stands
    /// elsewhere than the event did.
    pub stands_at: (&'a str, i32, i64),
    /// What it knows of its key; `None`: of no key.
    pub keyed: Option<&'a dyn Keyed>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Wall clock, milliseconds since the epoch.
    pub now_ms: i64,
    /// When the call should be over, milliseconds since the epoch.
    pub deadline_ms: i64,
}

/// The same, and a call with a window or a timer, as far as they are alike.
struct Circumstances<'a> {
    subject: Subject<'a>,
    keyed: Option<&'a dyn Keyed>,
    stands_at: Option<(&'a str, i32, i64)>,
    attempt: u32,
    now_ms: i64,
    deadline_ms: i64,
}

/// A handler that was made, and is called by one thread at a time.
pub struct Instance {
    entry: Entry,
    /// The author's instance; `None` after a panic, until the next call makes a new one.
    author: Option<*mut c_void>,
    handler: String,
    config: String,
    memory: Memory,
    tables: Tables,
    /// Where each call is noted while it lasts.
    note: Option<Slot>,
}

// SAFETY: by the contract an instance may move between threads as long as no two calls overlap, which
// `&mut self` sees to. The rest is plain data.
unsafe impl Send for Instance {}

impl Instance {
    pub(super) fn start(
        entry: Entry,
        function: &FunctionName,
        handler: &str,
        config: &serde_json::Value,
    ) -> Result<Self, Failure> {
        let mut instance = Self {
            entry,
            author: None,
            handler: handler.to_owned(),
            config: config.to_string(),
            memory: Memory::new(function.to_string()),
            tables: Tables::default(),
            note: None,
        };
        instance.init()?;
        Ok(instance)
    }

    /// Each call is noted there from now on.
    pub fn noted_in(mut self, slot: Option<Slot>) -> Self {
        self.note = slot;
        self
    }

    /// The handler's name in the plugin.
    pub fn handler(&self) -> &str {
        &self.handler
    }

    /// Calls the handler. What it emits and does to its key is pushed to `outbox`; unless the outcome is [`Outcome::Ok`] what this call
    /// pushed is taken back. Does not allocate once warm, unless the call fails.
    pub fn call(&mut self, call: &Call<'_>, outbox: &mut Outbox) -> Outcome {
        let handle = self.entry.handle;
        let table = event_table(call.event);
        let circumstances = Circumstances {
            subject: Subject::Event(call.event),
            keyed: call.keyed,
            stands_at: Some(call.stands_at),
            attempt: call.attempt,
            now_ms: call.now_ms,
            deadline_ms: call.deadline_ms,
        };
        self.run(&circumstances, outbox, |author, call| {
            // SAFETY: `run` calls back with what this entry's `init` made, and keeps other calls of it away; the tables
            // and all they point to live until this returns.
            unsafe { handle(author, &table, call) }
        })
    }

    /// It has an `on_window`.
    pub fn has_on_window(&self) -> bool {
        self.entry.on_window.is_some()
    }

    /// Calls the handler with a window. All is as in [`Instance::call`], but that outputs under the key or at the time of
    /// what is handled have the window's, spelt out. A handler that has no `on_window` rejects.
    pub fn call_window(&mut self, call: &OfWindow<'_>, outbox: &mut Outbox) -> Outcome {
        let Some(on_window) = self.entry.on_window else { return Outcome::Failed(OfWindow::refusal()) };
        let mut tables = std::mem::take(&mut self.tables);
        let table = tables.of(call.window);
        let circumstances = Circumstances {
            subject: Subject::Window(call.window),
            keyed: call.keyed,
            stands_at: call.stands_at,
            attempt: call.attempt,
            now_ms: call.now_ms,
            deadline_ms: call.deadline_ms,
        };
        let outcome = self.run(&circumstances, outbox, |author, call| {
            // SAFETY: `run` calls back with what this entry's `init` made, and keeps other calls of it away; the tables
            // and all they point to live until this returns.
            unsafe { on_window(author, &table, call) }
        });
        tables.clear();
        self.tables = tables;
        outcome
    }

    /// It has an `on_timer`.
    pub fn has_on_timer(&self) -> bool {
        self.entry.on_timer.is_some()
    }

    /// Calls the handler with a timer that fires. All is as in [`Instance::call_window`]; no note is taken of it, since no
    /// record is to blame. A handler that has no `on_timer` rejects.
    pub fn call_timer(&mut self, call: &OfTimer<'_>, outbox: &mut Outbox) -> Outcome {
        let Some(on_timer) = self.entry.on_timer else { return Outcome::Failed(OfTimer::refusal()) };
        let table = fired_table(&call.timer);
        let circumstances = Circumstances {
            subject: Subject::Timer(&call.timer),
            keyed: Some(call.keyed),
            stands_at: Some(call.stands_at),
            attempt: call.attempt,
            now_ms: call.now_ms,
            deadline_ms: call.deadline_ms,
        };
        self.run(&circumstances, outbox, |author, call| {
            // SAFETY: `run` calls back with what this entry's `init` made, and keeps other calls of it away; the tables
            // and all they point to live until this returns.
            unsafe { on_timer(author, &table, call) }
        })
    }

    /// Makes one call, whatever it is about: `enter` is the way into the handler.
    #[inline]
    fn run(
        &mut self,
        call: &Circumstances<'_>,
        outbox: &mut Outbox,
        enter: impl FnOnce(*mut c_void, &abi::Call) -> i32,
    ) -> Outcome {
        let author = match self.author {
            Some(author) => author,
            None => match self.init() {
                Ok(author) => author,
                Err(failure) => return Outcome::Failed(failure),
            },
        };
        let mark = outbox.mark();
        self.memory.begin();
        let function: *const [u8] = self.memory.function().as_bytes();
        let staging = Staging {
            subject: call.subject,
            keyed: call.keyed,
            has_on_timer: self.entry.on_timer.is_some(),
            outbox: &mut *outbox,
        };
        let mut frame = Frame::of_call(staging, &mut self.memory, call.now_ms);
        let call_table = abi::Call {
            size: size_of::<abi::Call>() as u32,
            version: abi::VERSION,
            host: &HOST,
            context: ptr::from_mut(&mut frame).cast(),
            function: abi::Slice { pointer: function.cast(), length: function.len() },
            now_ms: call.now_ms,
            deadline_ms: call.deadline_ms,
            attempt: call.attempt,
            reserved: 0,
            watermark_ms: call.keyed.map_or(abi::NO_WATERMARK, Keyed::watermark_ms),
        };
        if let (Some(note), Some((topic, partition, offset))) = (&mut self.note, call.stands_at) {
            note.begin(topic, partition, offset);
        }
        // `author` came from this entry's `init` and was not dropped; `&mut self` keeps other calls away.
        let status = enter(author, &call_table);
        if let Some(note) = &self.note {
            note.end();
        }
        let told = frame.told.take();
        if status == abi::OK {
            return Outcome::Ok;
        }
        outbox.rollback(mark);
        if status == abi::SKIP {
            return Outcome::Skip;
        }
        let failure = told.unwrap_or_default().failure(status);
        if failure.kind == FailureKind::Panic {
            // What the panic left half done is not used again.
            self.drop_author();
        }
        Outcome::Failed(failure)
    }

    /// Hands over what the author counted since the last time, and begins anew.
    pub fn take_counts(&mut self, mut each: impl FnMut(&str, u64)) {
        for (name, count) in self.memory.counts() {
            if *count > 0 {
                each(name, std::mem::take(count));
            }
        }
    }

    fn init(&mut self) -> Result<*mut c_void, Failure> {
        let function: *const [u8] = self.memory.function().as_bytes();
        let mut frame = Frame::of_init(&mut self.memory);
        let setup = abi::Setup {
            size: size_of::<abi::Setup>() as u32,
            version: abi::VERSION,
            host: &HOST,
            context: ptr::from_mut(&mut frame).cast(),
            function: abi::Slice { pointer: function.cast(), length: function.len() },
            handler: abi::Slice::of(self.handler.as_bytes()),
            config: abi::Slice::of(self.config.as_bytes()),
        };
        let mut author = ptr::null_mut();
        // SAFETY: a checked entry; `setup`, the frame and all they point to, and the place for the
        // instance live until this returns.
        let status = unsafe { (self.entry.init)(&setup, &mut author) };
        let told = frame.told.take();
        if status != abi::OK {
            return Err(told.unwrap_or_default().failure(status));
        }
        self.author = Some(author);
        Ok(author)
    }

    fn drop_author(&mut self) {
        if let Some(author) = self.author.take() {
            // SAFETY: it came from this entry's `init`, and is not used again.
            unsafe { (self.entry.drop)(author) };
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.drop_author();
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("handler", &self.handler).finish_non_exhaustive()
    }
}

/// An event as the contract has it; it lives no longer than the event.
pub(super) fn event_table(event: &Event<'_>) -> abi::Event {
    abi::Event {
        size: size_of::<abi::Event>() as u32,
        version: abi::VERSION,
        source: abi::Slice::of(event.source.as_bytes()),
        topic: abi::Slice::of(event.record.topic.as_bytes()),
        partition: event.record.partition,
        reserved: 0,
        offset: event.record.offset,
        timestamp_ms: event.record.timestamp_ms,
        time_ms: event.time_ms,
        key: abi::Slice::of_option(event.key.as_deref()),
        data: abi::Slice::of_option(event.data.as_deref()),
        content_type: abi::Slice::of_option(event.content_type.as_deref().map(str::as_bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::path::PathBuf;

    use super::*;
    use crate::model::{NoHeaders, Record, WindowCall};
    use crate::plugin::Notes;

    thread_local! {
        /// Where the notes are.
        static FOLDER: RefCell<PathBuf> = const { RefCell::new(PathBuf::new()) };
        /// What the next process would have found if this one had died in a call: offsets.
        static FOUND: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
    }

    /// Looks into the notes in the middle of a call.
    fn look() -> i32 {
        let next = FOLDER.with_borrow(|folder| Notes::open(folder, "pod").unwrap());
        FOUND.with_borrow_mut(|found| found.extend(next.crashes("default/f", "in", 3).into_keys()));
        next.settle("default/f", ("in", 3), i64::MAX, &[]);
        abi::OK
    }

    unsafe extern "C" fn init(_: *const abi::Setup, _: *mut *mut c_void) -> i32 {
        abi::OK
    }

    unsafe extern "C" fn handle(_: *mut c_void, _: *const abi::Event, _: *const abi::Call) -> i32 {
        look()
    }

    unsafe extern "C" fn on_window(_: *mut c_void, _: *const abi::Window, _: *const abi::Call) -> i32 {
        look()
    }

    unsafe extern "C" fn drop_nothing(_: *mut c_void) {}

    #[test]
    fn a_call_is_noted_under_the_record_to_blame() {
        let folder = tempfile::tempdir().unwrap();
        FOLDER.set(folder.path().to_owned());
        let notes = Notes::open(folder.path(), "pod").unwrap();
        let entry = Entry { init, handle, drop: drop_nothing, on_window: Some(on_window), on_timer: None };
        let function = FunctionName { namespace: "default".to_owned(), name: "f".to_owned() };
        let started = Instance::start(entry, &function, "h", &serde_json::Value::Null).unwrap();
        let mut instance = started.noted_in(notes.slot("default/f"));
        let record = Record {
            topic: "in",
            partition: 3,
            offset: 40,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: &NoHeaders,
        };
        let event = Event::plain(record, "in");
        let call = Call {
            event: &event,
            stands_at: ("in", 3, 41),
            keyed: None,
            attempt: 1,
            now_ms: 0,
            deadline_ms: 1,
        };
        assert_eq!(instance.call(&call, &mut Outbox::default()), Outcome::Ok);
        let window = WindowCall {
            key: b"k",
            start_ms: 0,
            end_ms: 1,
            time_ms: 0,
            why: "close",
            events: &[],
            aggregates: None,
            missing: &[],
        };
        for stands_at in [Some(("in", 3, 42)), None] {
            let call =
                OfWindow { window: &window, stands_at, keyed: None, attempt: 1, now_ms: 0, deadline_ms: 1 };
            assert_eq!(instance.call_window(&call, &mut Outbox::default()), Outcome::Ok);
        }
        assert_eq!(FOUND.take(), [41, 42], "a window that no record is to blame for is not noted");
    }
}
