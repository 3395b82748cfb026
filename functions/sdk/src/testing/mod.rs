//! Tests of a handler without a broker: events in, what it emits out, a clock that the test moves.
//!
//! A [`Harness`] calls the handler through the same C tables as Tidemill does, so what is tested is what runs.
//!
//! ```
//! use tidemill_sdk::{Context, Done, Event, Outcome};
//! use tidemill_sdk::testing::{Function, Given, Harness};
//!
//! fn shout(event: &Event, ctx: &mut Context) -> Outcome {
//!     if event.attribute("type") == Some("whisper") { return Ok(Done::Skip); }
//!     ctx.emit(event.key(), &event.text()?.to_uppercase())?;
//!     Ok(Done::Ok)
//! }
//!
//! let mut harness = Harness::<Function>::of(shout).strict();
//! harness.expect_ok(Given::text("a", "hello"));
//! harness.expect_emit("a", "HELLO");
//! harness.expect_skip(Given::text("a", "hush").attribute("type", "whisper"));
//! harness.expect_nothing_more();
//! ```
//!
//! What a handler keeps for a key stays in the harness from call to call, and through a [`restart`](Harness::restart). Timers
//! fire [when they are due](Harness::with_timers), tables have [the rows that the test gives them](Harness::put_row).

mod emitted;
mod given;
mod given_window;
mod host;
mod keyed;
mod timers;

use serde::Serialize;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_void;
use std::marker::PhantomData;
use tidemill_abi as abi;

use crate::{
    AsKey, Context, Done, Event, Failure, FailureKind, Handler, Key, Level, OnWindow, Outcome, Setup, export,
};

pub use emitted::Emitted;
pub use given::Given;
pub use given_window::GivenWindow;
use host::{Left, Setting};
use keyed::{Effect, Keys};

/// A handler under test. Its clock starts at 2026-01-01T00:00:00Z and moves only when the test moves it.
pub struct Harness<H: Handler> {
    table: abi::Handler,
    config: String,
    function: Option<PlainFunction>,
    instance: *mut c_void,
    strict: bool,
    now_ms: i64,
    next_offset: i64,
    /// What keys have; not lost by a restart.
    keys: Keys,
    emitted: VecDeque<Emitted>,
    counts: BTreeMap<String, u64>,
    logs: Vec<(Level, String)>,
    handler: PhantomData<H>,
}

/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

/// The deadline of a call, as the manifest's default has it.
const TIMEOUT_MS: i64 = 5_000;

/// What one call left behind.
#[derive(Debug, PartialEq)]
struct Run {
    outcome: Outcome,
    emitted: Vec<Emitted>,
    effects: Vec<Effect>,
}

impl<H: Handler> Harness<H> {
    /// A handler made with `config`, as it stands in the manifest.
    ///
    /// # Panics
    /// When the handler's init fails.
    pub fn new(config: impl Serialize) -> Self {
        Self::try_new(config).unwrap_or_else(|failure| panic!("init failed: {failure}"))
    }

    /// A handler made with `config`, or why its init failed.
    ///
    /// # Panics
    /// When `config` has no form in JSON.
    pub fn try_new(config: impl Serialize) -> Result<Self, Failure> {
        Self::make(serde_json::to_string(&config).expect("the config has a form in JSON"), None)
    }

    fn make(config: String, function: Option<PlainFunction>) -> Result<Self, Failure> {
        let mut harness = Self {
            table: export::table::<H>("test", None, None),
            config,
            function,
            instance: std::ptr::null_mut(),
            strict: false,
            now_ms: START_MS,
            next_offset: 0,
            keys: Keys::default(),
            emitted: VecDeque::new(),
            counts: BTreeMap::new(),
            logs: Vec::new(),
            handler: PhantomData,
        };
        harness.instance = harness.init()?;
        Ok(harness)
    }

    /// From now on each event, window or timer is delivered twice to the instance, and once more to a fresh one: all three
    /// must end, emit, and change their key alike. A handler that fails here keeps something in `self` that a redelivery or
    /// a restart would betray.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Delivers an event. What a call that went well emitted is added to [`emitted`](Self::emitted), what it did to its key
    /// is kept. Then timers fire that are due, now that event time has come as far as the event.
    ///
    /// # Panics
    /// When the harness is [`strict`](Self::strict) and the deliveries differ.
    pub fn send(&mut self, given: Given) -> Outcome {
        let offset = given.offset.unwrap_or(self.next_offset);
        self.next_offset = self.next_offset.max(offset + 1);
        let given = given.placed(offset, self.now_ms);
        let handle = self.table.handle.expect("the tables of this crate are whole");
        let (outcome, effects) =
            self.deliver("the event", |instance, setting| host::handle(handle, instance, &given, setting));
        self.keys.apply(given.key.as_deref().unwrap_or_default(), given.time_ms, effects);
        self.moved_by(given.time_ms, &outcome);
        outcome
    }

    /// Delivers an event that must be handled.
    ///
    /// # Panics
    /// When the call ends otherwise.
    pub fn expect_ok(&mut self, given: Given) {
        expect_done(self.send(given), Done::Ok);
    }

    /// Delivers an event that must be skipped.
    ///
    /// # Panics
    /// When the call ends otherwise.
    pub fn expect_skip(&mut self, given: Given) {
        expect_done(self.send(given), Done::Skip);
    }

    /// Delivers an event that must be rejected; returns why.
    ///
    /// # Panics
    /// When the call ends otherwise.
    pub fn expect_reject(&mut self, given: Given) -> Failure {
        expect_reject(self.send(given))
    }

    /// Delivers an event that must be tried again; returns why.
    ///
    /// # Panics
    /// When the call ends otherwise.
    pub fn expect_retry(&mut self, given: Given) -> Failure {
        expect_retry(self.send(given))
    }

    /// Delivers an event that must stop the function; returns why.
    ///
    /// # Panics
    /// When the call ends otherwise.
    pub fn expect_stop(&mut self, given: Given) -> Failure {
        match self.send(given) {
            Err(failure) if *failure.kind() == FailureKind::Stop => failure,
            outcome => panic!("expected a stop, got {outcome:?}"),
        }
    }

    /// The oldest output not yet taken by an `expect_` must have this key and JSON value. Returns it, for a
    /// look at headers and sink.
    ///
    /// # Panics
    /// When there is none, or it is another.
    pub fn expect_emit<V: Serialize + ?Sized>(&mut self, key: impl AsKey, value: &V) -> Emitted {
        let expected = serde_json::to_value(value).expect("the expected value has a form in JSON");
        let Some(emitted) = self.emitted.pop_front() else {
            panic!("expected {expected} to be emitted, but nothing more was");
        };
        match key.as_key() {
            Key::Bytes(key) => assert_eq!(
                emitted.key.as_deref().map(String::from_utf8_lossy),
                Some(String::from_utf8_lossy(key)),
                "the key of {emitted:?}"
            ),
            Key::Null => assert_eq!(emitted.key, None, "the key of {emitted:?}"),
            Key::OfEvent => {}
        }
        let value: serde_json::Value = emitted.json();
        assert_eq!(value, expected, "the value under the key {:?}", emitted.key_str());
        emitted
    }

    /// Every output must have been taken by an `expect_`.
    ///
    /// # Panics
    /// When one is left.
    pub fn expect_nothing_more(&self) {
        assert!(self.emitted.is_empty(), "emitted as well: {:?}", self.emitted);
    }

    /// What was emitted and not yet taken by an `expect_`, oldest first.
    pub fn emitted(&self) -> impl ExactSizeIterator<Item = &Emitted> {
        self.emitted.iter()
    }

    /// Takes all that [`emitted`](Self::emitted) shows.
    pub fn take_emitted(&mut self) -> Vec<Emitted> {
        self.emitted.drain(..).collect()
    }

    /// Where the author's counter `name` stands. A strict harness counts every delivery.
    pub fn counted(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// The lines that were logged.
    pub fn logged(&self) -> &[(Level, String)] {
        &self.logs
    }

    /// The harness's clock, milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Drops the instance and makes a new one, as a restart of the worker does. State and timers stay.
    ///
    /// # Panics
    /// When the handler's init fails.
    pub fn restart(&mut self) {
        self.drop_instance(self.instance);
        self.instance = std::ptr::null_mut();
        self.instance = self.init().unwrap_or_else(|failure| panic!("init failed: {failure}"));
    }

    fn renew_after_panic(&mut self, run: &Run) {
        if matches!(&run.outcome, Err(failure) if *failure.kind() == FailureKind::Panic) {
            self.restart();
        }
    }

    fn init(&mut self) -> Result<*mut c_void, Failure> {
        FUNCTION.set(self.function);
        let (made, logs) = host::init(&self.table, &self.config);
        self.logs.extend(logs);
        made
    }

    /// Calls the handler, if the harness is strict three times in all. Returns what is to be done to its key.
    fn deliver(
        &mut self,
        what: &str,
        call: impl Fn(*mut c_void, &Setting<'_>) -> Left,
    ) -> (Outcome, Vec<Effect>) {
        let first = self.run(self.instance, &call);
        self.renew_after_panic(&first);
        if self.strict {
            let again = self.run(self.instance, &call);
            self.renew_after_panic(&again);
            assert_same(&format!("{what} delivered a second time"), &first, &again);
            let fresh = self.init().unwrap_or_else(|failure| panic!("init failed: {failure}"));
            let elsewhere = self.run(fresh, &call);
            self.drop_instance(fresh);
            assert_same(&format!("{what} delivered to a fresh instance"), &first, &elsewhere);
        }
        self.emitted.extend(first.emitted);
        (first.outcome, first.effects)
    }

    fn run(&mut self, instance: *mut c_void, call: &impl Fn(*mut c_void, &Setting<'_>) -> Left) -> Run {
        let has_on_timer = self.table.on_timer.is_some();
        let left = call(instance, &Setting { keys: &self.keys, has_on_timer, timeout_ms: TIMEOUT_MS });
        for (name, by) in left.counts {
            *self.counts.entry(name).or_default() += by;
        }
        self.logs.extend(left.logs);
        Run { outcome: left.outcome, emitted: left.emitted, effects: left.effects }
    }

    fn drop_instance(&self, instance: *mut c_void) {
        if let (Some(drop), false) = (self.table.drop, instance.is_null()) {
            // SAFETY: `init` of the same table made the instance, and no caller uses it again.
            unsafe { drop(instance) };
        }
    }
}

impl<H: OnWindow> Harness<H> {
    /// Delivers a window. What a call that went well emitted is added to [`emitted`](Self::emitted), what it did to its key
    /// is kept. It moves no time.
    ///
    /// # Panics
    /// When the harness is [`strict`](Self::strict) and the deliveries differ.
    pub fn send_window(&mut self, given: GivenWindow) -> Outcome {
        let given = given.placed(&mut self.next_offset, self.now_ms);
        let (outcome, effects) = self.deliver("the window", |instance, setting| {
            host::on_window(export::on_window::<H>, instance, &given, setting)
        });
        self.keys.apply(&given.key, given.time_ms, effects);
        self.fire_due();
        outcome
    }

    /// Delivers a window that must be handled.
    ///
    /// # Panics
    /// When the call ends otherwise.
    pub fn expect_ok_window(&mut self, given: GivenWindow) {
        expect_done(self.send_window(given), Done::Ok);
    }

    /// Delivers a window that must be skipped.
    ///
    /// # Panics
    /// When the call ends otherwise.
    pub fn expect_skip_window(&mut self, given: GivenWindow) {
        expect_done(self.send_window(given), Done::Skip);
    }

    /// Delivers a window that must be rejected; returns why.
    ///
    /// # Panics
    /// When the call ends otherwise.
    pub fn expect_reject_window(&mut self, given: GivenWindow) -> Failure {
        expect_reject(self.send_window(given))
    }

    /// Delivers a window that must be tried again; returns why.
    ///
    /// # Panics
    /// When the call ends otherwise.
    pub fn expect_retry_window(&mut self, given: GivenWindow) -> Failure {
        expect_retry(self.send_window(given))
    }
}

fn expect_done(outcome: Outcome, done: Done) {
    assert!(matches!(outcome, Ok(found) if found == done), "expected {done:?}, got {outcome:?}");
}

fn expect_reject(outcome: Outcome) -> Failure {
    match outcome {
        Err(failure) if matches!(failure.kind(), FailureKind::Reject(_)) => failure,
        outcome => panic!("expected a reject, got {outcome:?}"),
    }
}

fn expect_retry(outcome: Outcome) -> Failure {
    match outcome {
        Err(failure) if matches!(failure.kind(), FailureKind::Retry(_)) => failure,
        outcome => panic!("expected a retry, got {outcome:?}"),
    }
}

impl<H: Handler> Drop for Harness<H> {
    fn drop(&mut self) {
        self.drop_instance(self.instance);
    }
}

fn assert_same(how: &str, first: &Run, other: &Run) {
    assert!(
        first == other,
        "{how} gave another result: state hidden in `self`?\n first: {first:?}\n other: {other:?}"
    );
}

/// A function as it is exported with `"name" => fn path`.
type PlainFunction = fn(&Event<'_>, &mut Context<'_>) -> Outcome;

/// Stands for a plain function in a [`Harness`]; see [`Harness::of`].
pub struct Function(PlainFunction);

thread_local! {
    /// The function that the next `Function::init` on this thread is for.
    static FUNCTION: Cell<Option<PlainFunction>> = const { Cell::new(None) };
}

impl Handler for Function {
    fn init(_: &Setup<'_>) -> Result<Self, Failure> {
        FUNCTION.get().map(Self).ok_or_else(|| Failure::reject("make the harness with Harness::of"))
    }

    fn handle(&mut self, event: &Event<'_>, ctx: &mut Context<'_>) -> Outcome {
        (self.0)(event, ctx)
    }
}

impl Harness<Function> {
    /// A plain function under test.
    pub fn of(function: PlainFunction) -> Self {
        Self::make("null".to_owned(), Some(function))
            .unwrap_or_else(|failure| panic!("init failed: {failure}"))
    }
}

#[cfg(test)]
mod keyed_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;
