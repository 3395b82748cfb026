//! The path of one record: take in, invoke, emit; and what its end is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::dead_letter::{DeadLetters, Death};
use super::decode::{Intake, Poison};
use super::emit::{Routed, Router};
use super::envelope::{self, Envelope};
use super::gather::{GatherError, Gatherer, Placing};
use super::give::{Given, Giver, Means};
use super::invoke::{Call, Handler};
use super::origin::{Place, PlaceError, RESULT, own_headers_of};
use super::sampler::Sampler;
use super::tables::{Tables, View};
use super::write::Writer;
use crate::codec;
use crate::model::{
    DeadLetterReason, Event, Failure, FailureKind, Function, Keyed, Moment, OnExhausted, Outbox, Outcome,
    Record,
};
use crate::observe::trace::CallSpan;
use crate::window::{self, Pending, Windows};

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

/// What is needed to give results: parts of the pipeline, so that an event may go on borrowing from others.
macro_rules! means {
    ($self:ident, $writer:expr, $place:expr, ($offset:expr, $failed:expr), $now:expr) => {
        Means {
            tables: &$self.tables,
            is_keyed: $self.is_keyed,
            is_held: $self.holds_results,
            is_probe: false,
            suspects: &$self.suspects,
            windows: None,
            function: &$self.function,
            intakes: &$self.intakes,
            handler: $self.handler.as_mut(),
            router: &mut $self.router,
            dead_letters: &mut $self.dead_letters,
            outbox: &mut $self.outbox,
            writer: $writer,
            place: $place,
            offset: $offset,
            failed: $failed,
            now: $now,
            timeout_ms: $self.timeout_ms,
            given: &mut $self.given,
        }
    };
}

/// Places an event and gives what that makes windows give.
macro_rules! place {
    ($self:ident, $pass:expr, $event:expr, $placing:expr, $windows:expr, $writer:expr) => {{
        let place = ($pass.record.topic, $pass.record.partition);
        let mut means = means!($self, $writer, place, (Some($pass.record.offset), $pass.failed), $pass.now);
        let (giver, names) = (&mut $self.giver, &$self.names);
        let placing: &Placing<'_> = $placing;
        let placed = $self.gatherer.as_mut().map(|gatherer| {
            gatherer.place($event, placing, $windows, &mut |fired, is_behind| {
                let names = names.iter().map(String::as_str);
                giver.give(fired, (Some(placing.record), is_behind), names, &mut means)
            })
        });
        let Given { written, unrouted, .. } = $self.given;
        placed.unwrap_or(Ok(())).map(|()| Settled::Ok { written, unrouted })
    }};
}

/// Calls the handler with an event, or passes it on to the sinks. What a call does to its key goes into `$windows`, a lane's
/// state and where in it the event stands, if there is any; and time moves.
macro_rules! handle {
    ($self:ident, $pass:expr, $event:ident, $windows:expr, $writer:expr) => {{
        let mut windows: Option<(&mut Windows, Option<window::Place>)> = $windows;
        let mut span = None;
        if let Some(sampler) = &mut $self.sampler {
            // What passes through has its headers listed to be written.
            sampler.begin(&$event, !$event.is_opaque || $self.handler.is_none());
            span = sampler.active();
        }
        let Some(handler) = &mut $self.handler else {
            return match $self.router.passthrough(&$event, span, $writer) {
                Ok(Routed { written, unrouted }) => Settled::Ok { written, unrouted },
                Err(error) => {
                    drop($event);
                    $self.poison($pass, $pass.failed, &Poison::from(error), $writer)
                }
            };
        };
        $self.outbox.clear();
        $self.has_called = true;
        let key = $event.key.as_deref();
        let view = View {
            windows: windows.as_ref().and_then(|(windows, _)| Some((&**windows, key?))),
            tables: &$self.tables,
            has_state: windows.is_some() && $self.function.keeps_state(),
        };
        let call = Call {
            event: &$event,
            stands_at: ($pass.record.topic, $pass.record.partition, $pass.record.offset),
            keyed: $self.is_keyed.then_some(&view as &dyn Keyed),
            attempt: $pass.failed + 1,
            now_ms: $pass.now.wall_ms,
            deadline_ms: $pass.now.wall_ms.saturating_add($self.timeout_ms),
        };
        let settled = match handler.call(&call, &mut $self.outbox) {
            Outcome::Ok => match $self.router.route((&$event, span), &$self.outbox, $writer) {
                Ok(Routed { written, unrouted }) => {
                    if let (Some((windows, _)), Some(key)) = (&mut windows, key) {
                        windows.apply(key, $event.time_ms, $self.outbox.effects());
                    }
                    Settled::Ok { written, unrouted }
                }
                Err(error) => {
                    drop($event);
                    return $self.poison($pass, $pass.failed + 1, &Poison::from(error), $writer);
                }
            },
            Outcome::Skip => Settled::Skipped,
            Outcome::Failed(failure) => {
                drop($event);
                return $self.failed($pass, failure, $writer);
            }
        };
        if let Some((windows, Some(place))) = windows {
            windows.handled(place);
        }
        settled
    }};
}

/// Once is never enough for a dead letter: any process can be killed during any call.
pub(super) const ENOUGH_DEATHS: u32 = 2;
pub(super) const DIED: &str = "the process ended during the call";

/// One pass of a record.
pub struct Pass<'a> {
    /// Which of the function's sources it came from; one past the last: from the redrive topic; two: from the stitch topic.
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

/// Where an event goes once it is taken in.
enum Way<'a> {
    /// To the handler, or to the sinks.
    Handle,
    /// Into a window.
    Gather(&'a mut Windows),
    /// To the partition of its key; its own has come so far.
    Send(&'a mut i64),
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
    giver: Giver,
    /// Of the aggregates, in their order.
    names: Vec<String>,
    /// What results came to in the last step.
    given: Given,
    /// How long a call may take, in milliseconds.
    timeout_ms: i64,
    tables: Tables,
    /// Calls see state or tables.
    is_keyed: bool,
    /// The last record was handled by a call.
    has_called: bool,
    /// No calls are made with results that fire now.
    holds_results: bool,
    /// Numbers of results during whose calls the process died: they are given apart from what brings them about.
    suspects: BTreeSet<i64>,
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
            giver: Giver::new(&function),
            names: function.window.iter().flat_map(|window| window.aggregates.keys().cloned()).collect(),
            given: Given::default(),
            timeout_ms: function.handler.as_ref().map_or(0, |handler| handler.timeout.as_millis() as i64),
            is_keyed: function.keeps_state() || function.sources.iter().any(|source| source.table.is_some()),
            tables: Tables::new(&function),
            has_called: false,
            holds_results: false,
            suspects: BTreeSet::new(),
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

    /// The handler is called with events; else with what is gathered of them, if at all.
    pub fn calls_for_events(&self) -> bool {
        self.handler.is_some() && !self.function.has_window()
    }

    /// The last record was handled by a call.
    pub fn has_called(&self) -> bool {
        self.has_called
    }

    /// Takes up a row of a table of which each worker has all rows.
    pub fn take_row(&mut self, source: usize, record: &Record<'_>) -> Result<(), Poison> {
        let Some(intake) = self.intakes.get(source) else { return Ok(()) };
        let mut event = intake.open(*record);
        if intake.admit(&mut event)? {
            let key = event.key.as_deref().ok_or(GatherError::NoKey)?;
            self.tables.set(source, key, event.data.as_deref());
        }
        Ok(())
    }

    /// Takes such tables over from the pipeline that it follows: nobody reads them again.
    pub fn take_tables(&mut self, before: &mut Self) {
        self.tables = std::mem::take(&mut before.tables);
    }

    /// How many rows such tables have, and about how many bytes they take.
    pub fn table_size(&self) -> (u64, u64) {
        self.tables.size()
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

    /// Which source a topic belongs to; the redrive topic and the stitch topic stand behind the last, since their records
    /// say each for itself which source they came from.
    pub fn source_of(&self, topic: &str) -> Option<usize> {
        let is_redrive = topic == self.function.delivery.redrive_topic;
        let is_stitch = self.function.stitch_topic.as_deref() == Some(topic);
        let redrive = is_redrive.then_some(self.intakes.len());
        self.intake_of(topic).or(redrive).or(is_stitch.then_some(self.intakes.len() + 1))
    }

    /// It is the stitch topic's.
    #[inline]
    pub fn is_stitch(&self, source: usize) -> bool {
        source == self.intakes.len() + 1
    }

    /// Records of this source are sent to the stitch topic.
    #[inline]
    pub fn is_sent(&self, source: usize) -> bool {
        self.function.stitch_topic.is_some() && !self.is_stitch(source)
    }

    fn intake_of(&self, topic: &str) -> Option<usize> {
        self.intakes.iter().position(|intake| intake.source().topic == topic)
    }

    /// Shows `act` the function's key of a record of this source: what orders its calls.
    pub fn with_key<R>(&self, source: usize, record: &Record<'_>, act: impl FnOnce(Option<&[u8]>) -> R) -> R {
        if let Some(intake) = self.intakes.get(source) {
            return intake.with_key(record, act);
        }
        if self.is_stitch(source) {
            return act(record.key);
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
        self.process_in(pass, Way::Handle, writer)
    }

    /// The same for a function with a window: the event is placed in `windows` instead of being handled by itself, and what
    /// that makes them give is given: see [`Pipeline::given`].
    pub fn gather<W: Writer>(&mut self, pass: &Pass<'_>, windows: &mut Windows, writer: &mut W) -> Settled {
        self.given = Given::default();
        self.process_in(pass, Way::Gather(windows), writer)
    }

    /// The same for a function that brings several sources together: the event is sent to the partition of its key.
    /// `watermark_ms`, how far its own partition has come, goes on with it.
    pub fn send<W: Writer>(&mut self, pass: &Pass<'_>, watermark_ms: &mut i64, writer: &mut W) -> Settled {
        self.process_in(pass, Way::Send(watermark_ms), writer)
    }

    /// Closes the window of `windows` that is due first and gives its result; `false`: none is due. `place` is the
    /// partition whose events it holds.
    pub fn close_next<W: Writer>(
        &mut self,
        (place, now): ((&str, i32), Moment),
        windows: &mut Windows,
        writer: &mut W,
    ) -> bool {
        self.given = Given::default();
        if self.gatherer.is_none() {
            return false;
        }
        let (giver, names) = (&mut self.giver, &self.names);
        let mut means = means!(self, writer, place, (None, 0), now);
        windows.close_next(&mut |fired, is_behind| {
            let names = names.iter().map(String::as_str);
            giver.give(fired, (None, is_behind), names, &mut means)
        })
    }

    /// Whether results that need a call wait, instead of being given as they fire.
    #[inline]
    pub fn hold_results(&mut self, holds: bool) {
        self.holds_results = holds;
    }

    /// Gives a result again that waited; `true`: it is done with. `is_probe`: to find out whether an outage is over; attempts
    /// do not run out.
    pub fn give_again<W: Writer>(
        &mut self,
        (place, now): ((&str, i32), Moment),
        (pending, is_probe): (&Pending, bool),
        windows: &mut Windows,
        writer: &mut W,
    ) -> bool {
        self.given = Given::default();
        let mut means = means!(self, writer, place, (None, 0), now);
        (means.windows, means.is_probe) = (Some(windows), is_probe);
        self.giver.give_again(pending, &mut means)
    }

    /// The process died in calls with results of these numbers: they wait until somebody gives them.
    pub fn suspect(&mut self, numbers: impl Iterator<Item = i64>) {
        self.suspects.extend(numbers);
    }

    /// The process died in calls with the result of this number.
    pub fn is_suspect(&self, number: i64) -> bool {
        !self.suspects.is_empty() && self.suspects.contains(&number)
    }

    /// What becomes of a result that waits when the process died in its calls, which count among those that failed;
    /// `true`: it is done with. Else it is to be given again.
    pub fn give_died<W: Writer>(
        &mut self,
        (place, now): ((&str, i32), Moment),
        pending: &Pending,
        writer: &mut W,
    ) -> bool {
        self.given = Given::default();
        let mut means = means!(self, writer, place, (None, 0), now);
        self.giver.died(pending, &mut means)
    }

    /// What results came to in the last step that gave some.
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// The same, taken away.
    pub fn take_given(&mut self) -> Given {
        std::mem::take(&mut self.given)
    }

    /// Windows for which events came too late that were in time for others; since the last call.
    pub fn take_partly_late(&mut self) -> u64 {
        self.gatherer.as_mut().map_or(0, Gatherer::take_partly_late)
    }

    #[inline]
    fn process_in<W: Writer>(&mut self, pass: &Pass<'_>, way: Way<'_>, writer: &mut W) -> Settled {
        self.has_called = false;
        let settled = match pass.source < self.intakes.len() {
            true => self.run(pass, (pass.source, pass.record), (way, true), writer),
            false => match way {
                Way::Gather(windows) if self.is_stitch(pass.source) => {
                    self.process_sent(pass, windows, writer)
                }
                way => self.process_redriven(pass, way, writer),
            },
        };
        if let Some(sampler) = &mut self.sampler {
            sampler.end(pass, &settled);
        }
        settled
    }

    /// Runs `record` through the stages of its source: that of the pass, or the event that this brings back, which does not
    /// move time.
    #[inline]
    fn run<W: Writer>(
        &mut self,
        pass: &Pass<'_>,
        (source, record): (usize, &Record<'_>),
        (way, moves_time): (Way<'_>, bool),
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
        let windows = match (way, &mut self.gatherer) {
            (Way::Send(watermark_ms), Some(gatherer)) => {
                let is_table = self.tables.has(source);
                let moves_time = moves_time && !is_table;
                let before = if moves_time { *watermark_ms } else { i64::MIN };
                let sent = match is_table {
                    true => gatherer.send_row(&event, record, writer),
                    false => gatherer.send((&event, record, now), (before, moves_time), writer),
                };
                return match sent {
                    Ok(()) => {
                        if moves_time {
                            *watermark_ms = event.time_ms.max(*watermark_ms);
                        }
                        Settled::Ok { written: 0, unrouted: 0 }
                    }
                    Err(error) => {
                        drop(event);
                        self.poison(pass, pass.failed, &Poison::from(error), writer)
                    }
                };
            }
            (Way::Gather(windows), Some(gatherer)) if gatherer.is_of_each() => {
                if let Err(error) = gatherer.check(&event, now) {
                    drop(event);
                    return self.poison(pass, pass.failed, &Poison::from(error), writer);
                }
                let place = place_of(source, &event);
                Some((windows, moves_time.then_some(place)))
            }
            (Way::Gather(windows), Some(_)) => {
                let placing = Placing { source, record, now, envelope: None };
                return match place!(self, pass, &event, &placing, windows, writer) {
                    Ok(settled) => settled,
                    Err(error) => {
                        drop(event);
                        self.poison(pass, pass.failed, &Poison::from(error), writer)
                    }
                };
            }
            _ => None,
        };
        handle!(self, pass, event, windows, writer)
    }

    /// An event that came through the stitch topic: what it took there was checked.
    fn process_sent<W: Writer>(&mut self, pass: &Pass<'_>, windows: &mut Windows, writer: &mut W) -> Settled {
        let bytes = pass.record.value.unwrap_or_default();
        if let Some((&envelope::RESULT, rest)) = bytes.split_first()
            && let Some((round, result)) = rest.split_first_chunk()
        {
            let round = u32::from_be_bytes(*round);
            return self.revive(pass, (result, round), Way::Gather(windows), writer);
        }
        let envelope = match Envelope::read(bytes) {
            Ok(envelope) => envelope,
            Err(error) => return self.poison(pass, pass.failed, &GatherError::from(error).into(), writer),
        };
        let record = envelope.record();
        let Some(source) = self.intake_of(record.topic) else {
            let error = PlaceError::NoSource { topic: record.topic.to_owned() };
            return self.poison(pass, pass.failed, &error.into(), writer);
        };
        let gatherer = self.gatherer.as_ref();
        let is_table = self.tables.has(source);
        if is_table || gatherer.is_some_and(Gatherer::is_of_each) {
            let mut event = self.intakes[source].open(record);
            event.key = pass.record.key.map(Into::into);
            event.time_ms = envelope.time_ms;
            if let Err(error) = codec::decode_in_place(&mut event, self.intakes[source].source().format) {
                drop(event);
                return self.poison(pass, pass.failed, &error.into(), writer);
            }
            if is_table {
                let row =
                    (u16::try_from(source).unwrap_or(u16::MAX), event.key.as_deref().unwrap_or_default());
                let place = (pass.record.topic, pass.record.partition);
                let mut means =
                    means!(self, writer, place, (Some(pass.record.offset), pass.failed), pass.now);
                let (giver, names) = (&mut self.giver, &self.names);
                windows.set_row(row, event.data.as_deref(), &mut |fired, is_behind| {
                    let names = names.iter().map(String::as_str);
                    giver.give(fired, (Some(&record), is_behind), names, &mut means)
                });
                let Given { written, unrouted, .. } = self.given;
                return Settled::Ok { written, unrouted };
            }
            let place = envelope.moves_time.then(|| place_of(source, &event));
            self.router.begin(pass.record);
            return handle!(self, pass, event, Some((windows, place)), writer);
        }
        let mut event = Event::plain(record, "");
        event.key = pass.record.key.map(Into::into);
        event.time_ms = envelope.time_ms;
        if self.gatherer.as_ref().is_some_and(Gatherer::reads_fields)
            && let Err(error) = codec::decode_in_place(&mut event, self.intakes[source].source().format)
        {
            drop(event);
            return self.poison(pass, pass.failed, &error.into(), writer);
        }
        let placing = Placing { source, record: &record, now: pass.now, envelope: Some((&envelope, bytes)) };
        match place!(self, pass, &event, &placing, windows, writer) {
            Ok(settled) => settled,
            Err(error) => {
                drop(event);
                self.poison(pass, pass.failed, &Poison::from(error), writer)
            }
        }
    }

    /// An event that was brought back takes the way it would have taken from its source, as what it was.
    #[cold]
    fn process_redriven<W: Writer>(&mut self, pass: &Pass<'_>, way: Way<'_>, writer: &mut W) -> Settled {
        let headers = pass.record.headers();
        if let Some(result) = headers.iter().rev().find(|header| header.name == RESULT) {
            let round = Place::read(headers).map_or(1, |place| place.round);
            return self.revive(pass, (result.value.unwrap_or_default(), round), way, writer);
        }
        let (place, source) = match self.origin(pass.record) {
            Ok(found) => found,
            Err(error) => return self.poison(pass, pass.failed, &Poison::from(error), writer),
        };
        let headers = own_headers_of(pass.record.headers());
        let record = place.record(pass.record, &headers);
        self.run(pass, (source, &record), (way, false), writer)
    }

    /// The result of a window or a timer that is brought back waits to be given, where its key is.
    fn revive<W: Writer>(
        &mut self,
        pass: &Pass<'_>,
        (result, round): (&[u8], u32),
        way: Way<'_>,
        writer: &mut W,
    ) -> Settled {
        let revived = match (way, &mut self.gatherer) {
            (Way::Gather(windows), _) => Pending::unpack(result, round)
                .map(|pending| windows.revive(pending))
                .map_err(GatherError::from),
            (Way::Send(_), Some(gatherer)) => {
                gatherer.send_result(pass.record.key, (result, round), writer);
                Ok(())
            }
            _ => Err(GatherError::NoResults),
        };
        match revived {
            Ok(()) => Settled::Ok { written: 0, unrouted: 0 },
            Err(error) => self.poison(pass, pass.failed, &Poison::from(error), writer),
        }
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
            FailureKind::Stop => return Settled::Stop { message, is_panic: false },
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
    pub fn died<W: Writer>(&mut self, pass: &Pass<'_>, deaths: u32, writer: &mut W) -> Settled {
        let attempts = pass.failed + deaths;
        let message = DIED.to_owned();
        if attempts < self.function.delivery.retry.max_attempts.max(ENOUGH_DEATHS) {
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
        if self.is_stitch(pass.source)
            && let Ok(envelope) = Envelope::read(pass.record.value.unwrap_or_default())
        {
            let death = Death { attempts, ..Death::of(reason, &error) };
            self.dead_letters.write((&envelope.record(), pass.record), &death, pass.now.wall_ms, writer);
            return Settled::DeadLetter { reason, error, called };
        }
        let is_redriven = pass.source == self.intakes.len();
        let place = is_redriven.then(|| Place::read(pass.record.headers()).ok()).flatten();
        let round = place.map_or(0, |place| place.round);
        let record = place.map_or(*pass.record, |place| place.record(pass.record, pass.record.headers));
        let span = self.sampler.as_ref().and_then(Sampler::active_child);
        let death = Death { attempts, round, span, ..Death::of(reason, &error) };
        self.dead_letters.write((&record, pass.record), &death, pass.now.wall_ms, writer);
        Settled::DeadLetter { reason, error, called }
    }
}

/// Where an event stands in time.
fn place_of(source: usize, event: &Event<'_>) -> window::Place {
    let source = u16::try_from(source).unwrap_or(u16::MAX);
    let (partition, offset) = (event.record.partition, event.record.offset);
    window::Place { time_ms: event.time_ms, source, partition, offset }
}
