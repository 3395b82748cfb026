//! What a function keeps for each key: typed values, timers, and tables to look up, by named constants.

use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_abi as abi;

use crate::context::Subject;
use crate::event::bytes;
use crate::out::not_json;
use crate::{AsKey, Context, Failure, Key};

/// A value that each key has at most one of, kept as JSON. The name is for ever, or what was kept is not found any more.
///
/// ```
/// # use std::time::Duration;
/// # use serde::{Deserialize, Serialize};
/// # use tidemill_sdk::{Context, Done, Event, Outcome, State};
/// #[derive(Serialize, Deserialize)]
/// struct Visit { count: u64 }
///
/// const VISIT: State<Visit> = State::named("visit").expires_after(Duration::from_secs(30 * 86_400));
///
/// fn count(event: &Event, ctx: &mut Context) -> Outcome {
///     let before = ctx.get(&VISIT)?.map_or(0, |visit| visit.count);
///     ctx.put(&VISIT, &Visit { count: before + 1 })?;
///     ctx.emit(event.key(), &(before + 1))?;
///     Ok(Done::Ok)
/// }
/// ```
pub struct State<T> {
    name: &'static str,
    expires_after: Option<Duration>,
    value: PhantomData<fn() -> T>,
}

impl<T> State<T> {
    /// The value of this name.
    ///
    /// # Panics
    /// Unless the name has 1 to 256 bytes; in a constant that is an error of the compiler.
    pub const fn named(name: &'static str) -> Self {
        Self { name: checked(name), expires_after: None, value: PhantomData }
    }

    /// Gone when so much event time has passed since it was last put, instead of when the manifest's `state.ttl` says.
    ///
    /// # Panics
    /// When that is less than a millisecond; in a constant that is an error of the compiler.
    #[must_use]
    pub const fn expires_after(self, time: Duration) -> Self {
        assert!(time.as_millis() > 0, "what expires at once was never kept");
        Self { name: self.name, expires_after: Some(time), value: PhantomData }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// A timer that each key has at most one of. When it fires the handler's [`on_timer`](crate::OnTimer::on_timer) is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timer {
    name: &'static str,
}

impl Timer {
    /// The timer of this name.
    ///
    /// # Panics
    /// Unless the name has 1 to 256 bytes; in a constant that is an error of the compiler.
    pub const fn named(name: &'static str) -> Self {
        Self { name: checked(name) }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// What a source with `table` in its manifest has for each key, as JSON.
pub struct Table<T> {
    name: &'static str,
    value: PhantomData<fn() -> T>,
}

impl<T> Table<T> {
    /// The source's name in the manifest.
    ///
    /// # Panics
    /// Unless the name has 1 to 256 bytes; in a constant that is an error of the compiler.
    pub const fn named(name: &'static str) -> Self {
        Self { name: checked(name), value: PhantomData }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

const fn checked(name: &'static str) -> &'static str {
    assert!(!name.is_empty() && name.len() <= 256, "a name has 1 to 256 bytes");
    name
}

/// When a timer fires; a time that has already come is soon enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// When event time has come so far, milliseconds since the epoch: once all events before it are handled, however late
    /// that is by the clock. [`Context::in_event_time`] counts from what is being handled.
    Event(i64),
    /// When the wall clock has, milliseconds since the epoch. [`Context::in_wall_time`] counts from now.
    Clock(i64),
}

impl At {
    /// The time, by whichever clock: milliseconds since the epoch.
    pub const fn time_ms(self) -> i64 {
        let (Self::Event(time_ms) | Self::Clock(time_ms)) = self;
        time_ms
    }
}

/// The state and timers of the key of the event, window or timer that is being handled, and tables. Of a call that does not
/// end well nothing is kept.
impl Context<'_> {
    /// What the key has under this name, what this call has put there included.
    ///
    /// # Errors
    /// A [stop](Failure::stop) when the value is not of this shape: it was put by another version of the handler, and nothing
    /// of it should be lost. A stop, too, when the manifest has no `state`. Pass it on with `?`.
    pub fn get<T: DeserializeOwned>(&self, state: &State<T>) -> Result<Option<T>, Failure> {
        let host = self.stateful_host()?;
        let mut out = abi::Slice::ABSENT;
        // SAFETY: the contract: a call's host table is valid while the call lasts, and has this callback; it takes its own
        // context and fills in `out`.
        let answer = unsafe { ((*host).state_get)(self.call.context, slice(state.name), &mut out) };
        match answer {
            abi::FOUND => decode(out).map_err(|error| {
                Failure::stop(format_args!(
                    "the key's state `{}` is not of the expected shape: {error}: let the handler read what it once kept, \
                     or keep the new shape under a new name",
                    state.name
                ))
            }),
            abi::ABSENT => Ok(None),
            code => Err(refused("state", state.name, code)),
        }
    }

    /// Gives the key this value, in place of the one that it had.
    ///
    /// # Errors
    /// A reject when the value has no form in JSON or does not fit, a [stop](Failure::stop) when the manifest has no `state`.
    /// Pass it on with `?`.
    pub fn put<T: Serialize>(&mut self, state: &State<T>, value: &T) -> Result<(), Failure> {
        let mut buffer = std::mem::take(&mut self.scratch.value);
        buffer.clear();
        let written = serde_json::to_writer(&mut buffer, value).map_err(not_json);
        let kept = written.and_then(|()| self.keep(state, Some(&buffer)));
        self.scratch.value = buffer;
        kept
    }

    /// Takes the value from the key, if it has one.
    ///
    /// # Errors
    /// A [stop](Failure::stop) when the manifest has no `state`. Pass it on with `?`.
    pub fn delete<T>(&mut self, state: &State<T>) -> Result<(), Failure> {
        self.keep(state, None)
    }

    /// Sets the key's timer. If it was set before, it does not fire then any more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tidemill_sdk::{Context, Failure, Timer};
    /// const QUIET: Timer = Timer::named("quiet");
    ///
    /// fn watch(ctx: &mut Context) -> Result<(), Failure> {
    ///     ctx.timer(&QUIET, ctx.in_event_time(Duration::from_secs(300)))
    /// }
    /// ```
    ///
    /// # Errors
    /// A reject when the time lies before 1970, a [stop](Failure::stop) when the handler is not [`OnTimer`](crate::OnTimer) or
    /// the manifest has no `state`. Pass it on with `?`.
    pub fn timer(&mut self, timer: &Timer, at: At) -> Result<(), Failure> {
        let host = self.stateful_host()?;
        let (clock, at_ms) = match at {
            At::Event(at_ms) => (abi::CLOCK_EVENT, at_ms),
            At::Clock(at_ms) => (abi::CLOCK_WALL, at_ms),
        };
        if at_ms < 0 {
            return Err(Failure::reject(format_args!(
                "the timer `{}` was to fire at {at_ms} ms, before 1970",
                timer.name
            )));
        }
        // SAFETY: the contract: a call's host table is valid while the call lasts, and has this callback; it takes its own
        // context and copies the name.
        let answer = unsafe { ((*host).timer_set)(self.call.context, slice(timer.name), clock, at_ms) };
        done("timer", timer.name, answer)
    }

    /// Takes the timer back, if it is set.
    ///
    /// # Errors
    /// A [stop](Failure::stop) when the manifest has no `state`. Pass it on with `?`.
    pub fn cancel(&mut self, timer: &Timer) -> Result<(), Failure> {
        let host = self.stateful_host()?;
        // SAFETY: the contract: a call's host table is valid while the call lasts, and has this callback; it takes its own
        // context and copies the name.
        let answer = unsafe { ((*host).timer_cancel)(self.call.context, slice(timer.name)) };
        done("timer", timer.name, answer)
    }

    /// What the table has for `key`. [`Key::OfEvent`] is the key of what is being handled.
    ///
    /// # Errors
    /// A reject when the value is not of this shape, when there is no key, and when a table of `scope: lane` is asked for
    /// another key than that of what is being handled. A [stop](Failure::stop) when the manifest has no such table. Pass it on
    /// with `?`.
    pub fn lookup<T: DeserializeOwned>(
        &self,
        table: &Table<T>,
        key: impl AsKey,
    ) -> Result<Option<T>, Failure> {
        let host = self.stateful_host()?;
        let name = table.name;
        let key = match key.as_key() {
            Key::Bytes(key) => Some(key),
            Key::OfEvent => self.subject.key(),
            Key::Null => None,
        };
        let key = key.ok_or_else(|| {
            Failure::reject(format_args!("the table `{name}` is asked for no key: not even null has a row"))
        })?;
        let mut out = abi::Slice::ABSENT;
        // SAFETY: the contract: a call's host table is valid while the call lasts, and has this callback; it takes its own
        // context and fills in `out`.
        let answer =
            unsafe { ((*host).lookup)(self.call.context, slice(name), abi::Slice::of(key), &mut out) };
        match answer {
            abi::FOUND => decode(out).map_err(|error| {
                Failure::reject(format_args!(
                    "a row of the table `{name}` is not of the expected shape: {error}"
                ))
            }),
            abi::ABSENT => Ok(None),
            abi::OTHER_KEY => Err(Failure::reject(format_args!(
                "the table `{name}` has `scope: lane` and is asked for another key than that of the call, which may stand \
                 elsewhere: give it `scope: all`"
            ))),
            _ => Err(Failure::stop(format_args!(
                "the function has no table `{name}`: give the source of this name `table: {{}}` in the manifest"
            ))),
        }
    }

    /// How far event time has come, milliseconds since the epoch: no event before this is still expected. `None` before the
    /// first event, and where the function has no use for it.
    pub fn watermark_ms(&self) -> Option<i64> {
        Some(self.call.watermark_ms).filter(|watermark_ms| *watermark_ms != abi::NO_WATERMARK)
    }

    /// So long after the time of the event, window or timer that is being handled, by event time. An event without a time
    /// counts as one of now.
    pub fn in_event_time(&self, pause: Duration) -> At {
        let from_ms = match self.subject {
            Subject::Event(event) => {
                event.time_ms().or_else(|| event.timestamp_ms()).unwrap_or(self.call.now_ms)
            }
            Subject::Window(window) => window.time_ms(),
            Subject::Timer(fired) => fired.time_ms(),
        };
        At::Event(from_ms.saturating_add(millis(pause)))
    }

    /// So long after the start of the call, by the wall clock.
    pub fn in_wall_time(&self, pause: Duration) -> At {
        At::Clock(self.call.now_ms.saturating_add(millis(pause)))
    }

    fn keep<T>(&mut self, state: &State<T>, value: Option<&[u8]>) -> Result<(), Failure> {
        let host = self.stateful_host()?;
        let ttl_ms = state.expires_after.map_or(0, |time| millis(time).unsigned_abs());
        // SAFETY: the contract: a call's host table is valid while the call lasts, and has this callback; it takes its own
        // context and copies name and value.
        let answer = unsafe {
            let value = abi::Slice::of_option(value);
            ((*host).state_put)(self.call.context, slice(state.name), value, ttl_ms)
        };
        done("state", state.name, answer)
    }

    /// The callbacks, once it is sure that those for state are among them. No reference to the table is made: an older
    /// host's is shorter.
    fn stateful_host(&self) -> Result<*const abi::Host, Failure> {
        // SAFETY: the contract: a call's host table is valid while the call lasts.
        if unsafe { abi::Host::keeps_state(self.call.host) } {
            return Ok(self.call.host);
        }
        Err(Failure::stop(concat!(
            "this tidemill is older than the handler, and has no state, timers and tables for it: run ",
            env!("CARGO_PKG_VERSION"),
            " or newer"
        )))
    }
}

impl<'a> Subject<'a> {
    fn key(self) -> Option<&'a [u8]> {
        match self {
            Self::Event(event) => event.key(),
            Self::Window(window) => Some(window.key()),
            Self::Timer(fired) => Some(fired.key()),
        }
    }
}

fn slice(name: &'static str) -> abi::Slice {
    abi::Slice::of(name.as_bytes())
}

/// Whole milliseconds, as many as there can be.
fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn decode<T: DeserializeOwned>(found: abi::Slice) -> Result<Option<T>, serde_json::Error> {
    serde_json::from_slice(bytes(found).unwrap_or_default()).map(Some)
}

fn done(what: &str, name: &str, answer: i32) -> Result<(), Failure> {
    if answer == abi::FOUND { Ok(()) } else { Err(refused(what, name, answer)) }
}

/// What an answer means that is none.
#[cold]
fn refused(what: &str, name: &str, answer: i32) -> Failure {
    match answer {
        abi::NO_STATE => Failure::stop(format_args!(
            "the {what} `{name}` has no place: the manifest has no `state:`; add `state: {{}}`"
        )),
        abi::NO_ON_TIMER => Failure::stop(format_args!(
            "the timer `{name}` would call nothing: implement `tidemill_sdk::OnTimer` for the handler"
        )),
        abi::TOO_LARGE => Failure::reject(format_args!(
            "what one call emits and keeps is too large together: the {what} `{name}` did not fit"
        )),
        code => Failure::reject(format_args!("the {what} `{name}` was refused (code {code})")),
    }
}
