//! The path of one record: take in, invoke, emit; and what its end is.

use std::sync::Arc;
use std::time::Duration;

use super::dead_letter::{DeadLetters, Death};
use super::decode::{Intake, Poison};
use super::emit::Router;
use super::invoke::{Call, Handler};
use super::write::Writer;
use crate::model::{
    DeadLetterReason, Failure, FailureKind, Function, Moment, OnExhausted, Outbox, Outcome, Record,
};

/// How one pass of a record ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// Handled; so many outputs found no sink that takes them.
    Ok {
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

/// Everything that happens to a function's records.
pub struct Pipeline {
    function: Arc<Function>,
    intakes: Vec<Intake>,
    handler: Option<Box<dyn Handler>>,
    router: Router,
    dead_letters: DeadLetters,
    outbox: Outbox,
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
            function,
        }
    }

    /// There is a handler to call; else the event itself goes to the sinks.
    pub fn has_handler(&self) -> bool {
        self.handler.is_some()
    }

    /// Hands over what the handler's author counted since the last time.
    pub fn take_counts(&mut self, each: &mut dyn FnMut(&str, u64)) {
        if let Some(handler) = &mut self.handler {
            handler.take_counts(each);
        }
    }

    /// Another handler from the next record on.
    pub fn set_handler(&mut self, handler: Option<Box<dyn Handler>>) {
        self.handler = handler;
    }

    /// Which source a topic belongs to.
    pub fn source_of(&self, topic: &str) -> Option<usize> {
        self.intakes.iter().position(|intake| intake.source().topic == topic)
    }

    /// Runs one record through. `failed` calls of it came before. What it writes goes to `writer`, and
    /// only if the call succeeded or the record became a dead letter.
    pub fn process<W: Writer>(
        &mut self,
        source: usize,
        record: &Record<'_>,
        failed: u32,
        now: Moment,
        writer: &mut W,
    ) -> Settled {
        let intake = &self.intakes[source];
        let event = match intake.take(*record) {
            Ok(Some(event)) => event,
            Ok(None) => return Settled::Filtered,
            Err(poison) => return self.poison(record, &poison, failed, now, writer),
        };
        let max_age = self.function.delivery.max_event_age;
        if !max_age.is_zero() && event.time_ms >= 0 {
            let age = Duration::from_millis(u64::try_from(now.wall_ms - event.time_ms).unwrap_or(0));
            if age > max_age {
                let error = format!("{age:?} old, maxEventAge is {max_age:?}");
                drop(event);
                return self.bury(record, DeadLetterReason::TooOld, error, (failed, None), now, writer);
            }
        }
        let Some(handler) = &mut self.handler else {
            return match self.router.passthrough(&event, writer) {
                Ok(routed) => Settled::Ok { unrouted: routed.unrouted },
                Err(error) => self.poison(record, &Poison::from(error), failed, now, writer),
            };
        };
        self.outbox.clear();
        let timeout = self.function.handler.as_ref().map_or(Duration::ZERO, |handler| handler.timeout);
        let outcome = handler.call(
            &Call {
                event: &event,
                attempt: failed + 1,
                now_ms: now.wall_ms,
                deadline_ms: now.wall_ms.saturating_add(timeout.as_millis() as i64),
            },
            &mut self.outbox,
        );
        match outcome {
            Outcome::Ok => match self.router.route(&event, &self.outbox, writer) {
                Ok(routed) => Settled::Ok { unrouted: routed.unrouted },
                Err(error) => self.poison(record, &Poison::from(error), failed + 1, now, writer),
            },
            Outcome::Skip => Settled::Skipped,
            Outcome::Failed(failure) => {
                drop(event);
                self.failed(record, failure, failed + 1, now, writer)
            }
        }
    }

    fn failed<W: Writer>(
        &mut self,
        record: &Record<'_>,
        failure: Failure,
        attempts: u32,
        now: Moment,
        writer: &mut W,
    ) -> Settled {
        let Failure { kind, message } = failure;
        let (after, is_panic) = match kind {
            FailureKind::Reject { ref code } => {
                let error = match code {
                    Some(code) => format!("{code}: {message}"),
                    None => message,
                };
                return self.bury(
                    record,
                    DeadLetterReason::Rejected,
                    error,
                    (attempts, Some(kind)),
                    now,
                    writer,
                );
            }
            FailureKind::Retry { after } => (after, false),
            FailureKind::Panic => (None, true),
        };
        if attempts < self.function.delivery.retry.max_attempts {
            return Settled::Retry { after, message, is_panic };
        }
        match self.function.delivery.on_exhausted {
            OnExhausted::Stop => Settled::Stop { message, is_panic },
            OnExhausted::DeadLetter => {
                self.bury(record, DeadLetterReason::Exhausted, message, (attempts, Some(kind)), now, writer)
            }
        }
    }

    fn poison<W: Writer>(
        &mut self,
        record: &Record<'_>,
        poison: &Poison,
        attempts: u32,
        now: Moment,
        writer: &mut W,
    ) -> Settled {
        self.bury(record, poison.reason(), poison.to_string(), (attempts, None), now, writer)
    }

    /// Writes a dead letter. `history`: how often it was called, and how the last call ended.
    pub fn bury<W: Writer>(
        &mut self,
        record: &Record<'_>,
        reason: DeadLetterReason,
        error: String,
        history: (u32, Option<FailureKind>),
        now: Moment,
        writer: &mut W,
    ) -> Settled {
        let (attempts, called) = history;
        self.dead_letters.write(record, &Death { reason, error: &error, attempts }, now.wall_ms, writer);
        Settled::DeadLetter { reason, error, called }
    }
}
