//! The path of one record: take in, invoke, emit; and what its end is.

use std::sync::Arc;
use std::time::Duration;

use super::dead_letter::{DeadLetters, Death};
use super::decode::{Intake, Poison};
use super::emit::{EmitError, Routed, Router};
use super::gather::Gatherer;
use super::invoke::{Call, Handler};
use super::origin::{Place, PlaceError, own_headers_of};
use super::sampler::Sampler;
use super::write::Writer;
use crate::model::{
    DeadLetterReason, Failure, FailureKind, Function, Moment, OnExhausted, Outbox, Outcome, Record,
};
use crate::observe::trace::CallSpan;
use crate::window::Windows;

/// How one pass of a record ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// Handled.
    Ok {
        /// Records written to sinks.
        written: u32,
        /// Outputs that no sink took.
        unrouted: u32,
    },
    /// The handler skipped it.
    Skipped,
    /// A filter refused it.
    Filtered,
    /// A dead letter was written.
    DeadLetter {
        /// Why.
        reason: DeadLetterReason,
        /// The error's text.
        error: String,
        /// A handler was called, and how that ended.
        called: Option<FailureKind>,
    },
    /// To be tried again.
    Retry {
        /// The pause that the handler asked for.
        after: Option<Duration>,
        /// What went wrong.
        message: String,
        /// It panicked.
        is_panic: bool,
    },
    /// Out of attempts, and the manifest says to stop then.
    Stop {
        /// What went wrong last.
        message: String,
        /// It panicked.
        is_panic: bool,
    },
}

/// One pass of a record.
pub struct Pass<'a> {
    /// Which of the function's sources it came from; one past the last: from the redrive topic.
    pub source: usize,
    /// The record.
    pub record: &'a Record<'a>,
    /// How many calls for it failed before.
    pub failed: u32,
    /// It is called to find out whether an outage is over: attempts do not run out.
    pub is_probe: bool,
    /// When.
    pub now: Moment,
}

/// Why a record becomes a dead letter.
pub struct End {
    /// Why, in a word.
    pub reason: DeadLetterReason,
    /// Why, in the error's text.
    pub error: String,
    /// How often it was called.
    pub attempts: u32,
    /// How its last call ended, if that is why.
    pub called: Option<FailureKind>,
}

/// Everything that happens to a function's records.
pub struct Pipeline {
    function: Arc<Function>,
    intakes: Vec<Intake>,
    handler: Option<Box<dyn Handler>>,
    router: Router,
    dead_letters: DeadLetters,
    outbox: Outbox,
    /// Set when there are traces to make.
    sampler: Option<Sampler>,
    /// Set when the function has a window.
    gatherer: Option<Gatherer>,
    /// How long a call may take, in milliseconds.
    timeout_ms: i64,
}

impl Pipeline {
    /// Compiles a function. Without a handler the event itself goes to the sinks.
    pub fn new(function: Arc<Function>, handler: Option<Box<dyn Handler>>) -> Self {
        Self {
            intakes: function.sources.iter().map(Intake::new).collect(),
            handler,
            router: Router::new(&function),
            dead_letters: DeadLetters::new(&function),
            outbox: Outbox::default(),
            sampler: None,
            gatherer: Gatherer::new(&function),
            timeout_ms: function.handler.as_ref().map_or(0, |handler| handler.timeout.as_millis() as i64),
            function,
        }
    }

    /// With traces of sampled events.
    pub fn with_sampler(self, sampler: Option<Sampler>) -> Self {
        Self { sampler, ..self }
    }

    /// Moves the spans of events that ended since the last time to `list`; how many were too many to keep.
    pub fn take_spans(&mut self, list: &mut Vec<CallSpan>) -> usize {
        self.sampler.as_mut().map_or(0, |sampler| sampler.take(list))
    }

    /// There is a handler to call; else the event itself goes to the sinks.
    pub fn has_handler(&self) -> bool {
        self.handler.is_some()
    }

    /// What the handler's author counted since the last time, by name.
    pub fn take_counts(&mut self) -> Vec<(String, u64)> {
        let mut counts = Vec::new();
        if let Some(handler) = &mut self.handler {
            handler.take_counts(&mut |name, count| counts.push((name.to_owned(), count)));
        }
        counts
    }

    /// Another handler from the next record on.
    pub fn set_handler(&mut self, handler: Option<Box<dyn Handler>>) {
        self.handler = handler;
    }

    /// Which source a topic belongs to; the redrive topic stands behind the last, since its records say
    /// each for itself which source they came from.
    pub fn source_of(&self, topic: &str) -> Option<usize> {
        let is_redrive = topic == self.function.delivery.redrive_topic;
        self.intake_of(topic).or(is_redrive.then_some(self.intakes.len()))
    }

    fn intake_of(&self, topic: &str) -> Option<usize> {
        self.intakes.iter().position(|intake| intake.source().topic == topic)
    }

    /// Shows `act` the function's key of a record of this source: what orders its calls.
    pub fn with_key<R>(&self, source: usize, record: &Record<'_>, act: impl FnOnce(Option<&[u8]>) -> R) -> R {
        if let Some(intake) = self.intakes.get(source) {
            return intake.with_key(record, act);
        }
        match self.origin(record) {
            Err(_) => act(None),
            Ok((place, source)) => {
                let headers = own_headers_of(record.headers());
                self.intakes[source].with_key(&place.record(record, &headers), act)
            }
        }
    }

    /// Where an event that was brought back stood, and which source that is.
    fn origin<'a>(&self, record: &Record<'a>) -> Result<(Place<'a>, usize), PlaceError> {
        let place = Place::read(record.headers())?;
        let no_source = || PlaceError::NoSource { topic: place.topic.to_owned() };
        Ok((place, self.intake_of(place.topic).ok_or_else(no_source)?))
    }

    /// Runs one record through. What it writes goes to `writer`, and only if the call succeeded or the
    /// record became a dead letter.
    pub fn process<W: Writer>(&mut self, pass: &Pass<'_>, writer: &mut W) -> Settled {
        self.process_in(pass, None, writer)
    }

    /// The same for a function with a window: the event is placed in `windows` instead of being handled by itself, and what
    /// that makes them give is written.
    pub fn gather<W: Writer>(&mut self, pass: &Pass<'_>, windows: &mut Windows, writer: &mut W) -> Settled {
        self.process_in(pass, Some(windows), writer)
    }

    /// Closes the window of `windows` that is due first and writes its result; `None`: none is due. `place` is the
    /// partition whose events it holds.
    pub fn close_next<W: Writer>(
        &mut self,
        place: (&str, i32),
        windows: &mut Windows,
        writer: &mut W,
    ) -> Option<Result<Routed, EmitError>> {
        let out = (&mut self.router, &mut self.outbox);
        self.gatherer.as_mut()?.close_next(place, windows, out, writer)
    }

    /// Windows for which events came too late that were in time for others; since the last call.
    pub fn take_partly_late(&mut self) -> u64 {
        self.gatherer.as_mut().map_or(0, Gatherer::take_partly_late)
    }

    #[inline]
    fn process_in<W: Writer>(
        &mut self,
        pass: &Pass<'_>,
        windows: Option<&mut Windows>,
        writer: &mut W,
    ) -> Settled {
        let settled = match pass.source < self.intakes.len() {
            true => self.run(pass, (pass.source, pass.record), windows, writer),
            false => self.process_redriven(pass, windows, writer),
        };
        if let Some(sampler) = &mut self.sampler {
            sampler.end(pass, &settled);
        }
        settled
    }

    /// Runs `record` through the stages of its source: that of the pass, or the event that this brings back.
    #[inline]
    fn run<W: Writer>(
        &mut self,
        pass: &Pass<'_>,
        (source, record): (usize, &Record<'_>),
        windows: Option<&mut Windows>,
        writer: &mut W,
    ) -> Settled {
        let now = pass.now;
        let intake = &self.intakes[source];
        let mut event = intake.open(*record);
        match intake.admit(&mut event) {
            Ok(true) => {}
            Ok(false) => return Settled::Filtered,
            Err(poison) => {
                drop(event);
                return self.poison(pass, pass.failed, &poison, writer);
            }
        }
        let max_age = self.function.delivery.max_event_age;
        if !max_age.is_zero() && event.time_ms >= 0 {
            let age = Duration::from_millis(u64::try_from(now.wall_ms - event.time_ms).unwrap_or(0));
            if age > max_age {
                drop(event);
                let error = format!("{age:?} old, maxEventAge is {max_age:?}");
                let end =
                    End { reason: DeadLetterReason::TooOld, error, attempts: pass.failed, called: None };
                return self.bury(pass, end, writer);
            }
        }
        self.router.begin(pass.record);
        if let Some((windows, gatherer)) = windows.zip(self.gatherer.as_mut()) {
            self.outbox.clear();
            let placed = gatherer.place(&event, (source, record, now), windows, &mut self.outbox);
            let placed = placed.map_err(Poison::from);
            let router = &mut self.router;
            let route = |()| Ok(router.route((&event, None), &self.outbox, writer)?);
            return match placed.and_then(route) {
                Ok(Routed { written, unrouted }) => Settled::Ok { written, unrouted },
                Err(poison) => {
                    drop(event);
                    self.poison(pass, pass.failed, &poison, writer)
                }
            };
        }
        let mut span = None;
        if let Some(sampler) = &mut self.sampler {
            // What passes through has its headers listed to be written.
            sampler.begin(&event, !event.is_opaque || self.handler.is_none());
            span = sampler.active();
        }
        let Some(handler) = &mut self.handler else {
            return match self.router.passthrough(&event, span, writer) {
                Ok(Routed { written, unrouted }) => Settled::Ok { written, unrouted },
                Err(error) => {
                    drop(event);
                    self.poison(pass, pass.failed, &Poison::from(error), writer)
                }
            };
        };
        self.outbox.clear();
        let call = Call {
            event: &event,
            stands_at: (pass.record.topic, pass.record.partition, pass.record.offset),
            attempt: pass.failed + 1,
            now_ms: now.wall_ms,
            deadline_ms: now.wall_ms.saturating_add(self.timeout_ms),
        };
        match handler.call(&call, &mut self.outbox) {
            Outcome::Ok => match self.router.route((&event, span), &self.outbox, writer) {
                Ok(Routed { written, unrouted }) => Settled::Ok { written, unrouted },
                Err(error) => {
                    drop(event);
                    self.poison(pass, pass.failed + 1, &Poison::from(error), writer)
                }
            },
            Outcome::Skip => Settled::Skipped,
            Outcome::Failed(failure) => {
                drop(event);
                self.failed(pass, failure, writer)
            }
        }
    }

    /// An event that was brought back takes the way it would have taken from its source, as what it was.
    #[cold]
    fn process_redriven<W: Writer>(
        &mut self,
        pass: &Pass<'_>,
        windows: Option<&mut Windows>,
        writer: &mut W,
    ) -> Settled {
        let (place, source) = match self.origin(pass.record) {
            Ok(found) => found,
            Err(error) => return self.poison(pass, pass.failed, &Poison::from(error), writer),
        };
        let headers = own_headers_of(pass.record.headers());
        let record = place.record(pass.record, &headers);
        self.run(pass, (source, &record), windows, writer)
    }

    fn failed<W: Writer>(&mut self, pass: &Pass<'_>, failure: Failure, writer: &mut W) -> Settled {
        let attempts = pass.failed + 1;
        let Failure { kind, message } = failure;
        let (after, is_panic) = match kind {
            FailureKind::Reject { ref code } => {
                let error = match code {
                    Some(code) => format!("{code}: {message}"),
                    None => message,
                };
                let end = End { reason: DeadLetterReason::Rejected, error, attempts, called: Some(kind) };
                return self.bury(pass, end, writer);
            }
            FailureKind::Retry { after } => (after, false),
            FailureKind::Panic => (None, true),
        };
        if pass.is_probe || attempts < self.function.delivery.retry.max_attempts {
            return Settled::Retry { after, message, is_panic };
        }
        let reason = DeadLetterReason::Exhausted;
        self.exhausted(pass, End { reason, error: message, attempts, called: Some(kind) }, writer)
    }

    /// Out of attempts.
    fn exhausted<W: Writer>(&mut self, pass: &Pass<'_>, end: End, writer: &mut W) -> Settled {
        match self.function.delivery.on_exhausted {
            OnExhausted::DeadLetter => self.bury(pass, end, writer),
            OnExhausted::Stop => {
                Settled::Stop { message: end.error, is_panic: end.called == Some(FailureKind::Panic) }
            }
        }
    }

    /// What becomes of an event when the process died during calls for it, `deaths` times since that was last committed.
    /// Once is never enough for a dead letter: any process can be killed during any call.
    pub fn died<W: Writer>(&mut self, pass: &Pass<'_>, deaths: u32, writer: &mut W) -> Settled {
        const ENOUGH: u32 = 2;
        let attempts = pass.failed + deaths;
        let message = "the process ended during the call".to_owned();
        if attempts < self.function.delivery.retry.max_attempts.max(ENOUGH) {
            return Settled::Retry { after: None, message, is_panic: false };
        }
        let end = End { reason: DeadLetterReason::Crashed, error: message, attempts, called: None };
        self.exhausted(pass, end, writer)
    }

    fn poison<W: Writer>(
        &mut self,
        pass: &Pass<'_>,
        attempts: u32,
        poison: &Poison,
        writer: &mut W,
    ) -> Settled {
        let end = End { reason: poison.reason(), error: poison.to_string(), attempts, called: None };
        self.bury(pass, end, writer)
    }

    /// Writes a dead letter. That of an event that was brought back names the place where it stood first.
    pub fn bury<W: Writer>(&mut self, pass: &Pass<'_>, end: End, writer: &mut W) -> Settled {
        let End { reason, error, attempts, called } = end;
        let is_redriven = pass.source == self.intakes.len();
        let place = is_redriven.then(|| Place::read(pass.record.headers()).ok()).flatten();
        let round = place.map_or(0, |place| place.round);
        let record = place.map_or(*pass.record, |place| place.record(pass.record, pass.record.headers));
        let span = self.sampler.as_ref().and_then(Sampler::active_child);
        let death = Death { reason, error: &error, attempts, round, span };
        self.dead_letters.write((&record, pass.record), &death, pass.now.wall_ms, writer);
        Settled::DeadLetter { reason, error, called }
    }
}
