//! Give: what becomes of a window's result. The handler's `on_window` is called with it, or it is emitted as JSON. One
//! that its handler did not take waits in the state, and is given again.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::dead_letter::{DeadLetters, Death};
use super::decode::Intake;
use super::emit::{EmitError, Routed, Router};
use super::envelope::Envelope;
use super::invoke::{Handler, OfTimer, OfWindow, result_number};
use super::process::{DIED, ENOUGH_DEATHS};
use super::tables::{Tables, View};
use super::write::Writer;
use crate::codec::{self, json};
use crate::model::{
    At, DeadLetterReason, Emit, Event, FailureKind, Format, Function, KeyChoice, Keyed, Moment, NoHeaders,
    OnExhausted, OnTimeout, Outbox, Outcome, Record, Repeat, TimerCall, WindowCall, WindowKind,
};
use crate::window::{Fired, Pending, Verdict, Why, Windows};

/// What results came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Records written to sinks.
    pub written: u32,
    /// Outputs that no sink took.
    pub unrouted: u32,
    /// Calls by how they ended: ok, skip, retry, reject, panic.
    pub calls: [u32; 5],
    /// Unfinished stitches that the manifest says to forget.
    pub dropped: u32,
    /// Results, or events of unfinished stitches, that became dead letters: why, and the error.
    pub dead: Vec<(DeadLetterReason, String)>,
    /// What the last call said that is to be made again.
    pub error: String,
    /// The key of that call, and whether it was the first that failed.
    pub failed: Option<(Vec<u8>, bool)>,
    /// The manifest says to stop when attempts run out, and they have.
    pub must_stop: bool,
}

impl Given {
    /// There is nothing to tell but what was written.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.calls == [0; 5] && self.dropped == 0 && self.dead.is_empty()
    }

    /// A call came to an end: whatever it needs is there.
    pub fn went_well(&self) -> bool {
        let [ok, skip, _, reject, _] = self.calls;
        ok + skip + reject > 0
    }
}

/// What a result is made of, whether it is new or has waited.
struct Giving<'a> {
    key: &'a [u8],
    bounds: (i64, i64),
    why: Why,
    time_ms: i64,
    /// Its aggregates as one JSON object.
    aggregates: Option<&'a [u8]>,
    missing: &'a [u16],
    name: &'a [u8],
    /// How many calls failed.
    failed: u32,
    /// It is none of a window but of this timer.
    timer: Option<(&'a str, At)>,
    /// How often it was brought back after it had died.
    round: u32,
}

/// The most bytes that a dead letter takes which can be brought back: brokers take a mebibyte unless told otherwise.
const MOST_PACKED: usize = 900_000;

impl<'a> Giving<'a> {
    /// As it waits, to be brought back.
    fn packed(&self, events: &[Event<'_>], records: &[Record<'_>]) -> Vec<u8> {
        let bodies = events.iter().zip(records).map(|(event, record)| {
            let mut body = Vec::new();
            Envelope::write(record, (event.time_ms, i64::MIN, false), &mut body);
            Bytes::from(body)
        });
        let pending = Pending {
            key: Bytes::copy_from_slice(self.key),
            bounds: self.bounds,
            why: self.why,
            time_ms: self.time_ms,
            aggregates: self.aggregates.map(Bytes::copy_from_slice),
            missing: self.missing.to_vec(),
            name: Bytes::copy_from_slice(self.name),
            attempts: 0,
            events: bodies.collect(),
            timer: self.timer.map(|(name, at)| (name.into(), at)),
            round: self.round,
        };
        pending.pack()
    }

    fn of(pending: &'a Pending) -> Self {
        Self {
            key: &pending.key,
            bounds: pending.bounds,
            why: pending.why,
            time_ms: pending.time_ms,
            aggregates: pending.aggregates.as_deref(),
            missing: &pending.missing,
            name: &pending.name,
            failed: pending.attempts,
            timer: pending.timer.as_ref().map(|(name, at)| (&**name, *at)),
            round: pending.round,
        }
    }
}

/// Gives results of one function.
pub(super) struct Giver {
    /// Each source has at most one event in a window.
    has_single_events: bool,
    has_fields: bool,
    json: Vec<u8>,
    name: Vec<u8>,
}

/// What is needed to give a result.
pub(super) struct Means<'a, W> {
    pub function: &'a Function,
    pub intakes: &'a [Intake],
    pub handler: Option<&'a mut Box<dyn Handler>>,
    pub router: &'a mut Router,
    pub dead_letters: &'a mut DeadLetters,
    pub outbox: &'a mut Outbox,
    pub writer: &'a mut W,
    /// The partition whose events the windows hold.
    pub place: (&'a str, i32),
    /// The record there by which windows give results before their end: it is to blame if a call ends the process.
    pub offset: Option<i64>,
    /// How many calls for that record failed before.
    pub failed: u32,
    pub now: Moment,
    pub timeout_ms: i64,
    /// What it comes to.
    pub given: &'a mut Given,
    pub tables: &'a Tables,
    /// Calls see state or tables.
    pub is_keyed: bool,
    /// No calls are made now: what needs one waits.
    pub is_held: bool,
    /// The call is made to find out whether an outage is over: attempts do not run out.
    pub is_probe: bool,
    /// Numbers of results during whose calls the process died.
    pub suspects: &'a BTreeSet<i64>,
    /// Where their keys' state is, for calls that see it; windows that give results just now cannot show any.
    pub windows: Option<&'a mut Windows>,
}

impl Giver {
    pub fn new(function: &Function) -> Self {
        let window = function.window.as_ref();
        Self {
            has_single_events: window.is_some_and(|window| {
                matches!(window.kind, WindowKind::Stitch { .. }) && window.stitch.repeat != Repeat::Collect
            }),
            has_fields: window.is_some_and(|window| !window.aggregates.is_empty()),
            json: Vec::new(),
            name: Vec::new(),
        }
    }

    /// Gives a result as it fires. `trigger` is the record by which it does so before its end; `is_behind`: others of its
    /// key wait, so it does too.
    pub fn give<'n, W: Writer>(
        &mut self,
        fired: &Fired<'_>,
        (trigger, is_behind): (Option<&Record<'_>>, bool),
        names: impl Iterator<Item = &'n str> + Clone,
        means: &mut Means<'_, W>,
    ) -> Verdict {
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        write_name(fired, trigger, &mut name);
        // Where calls see state, they are made when the windows have done what they do.
        let is_suspect = || !means.suspects.is_empty() && means.suspects.contains(&result_number(&name));
        let waits =
            || means.is_keyed || is_suspect() || (means.is_held && is_call(fired.why, means.function));
        let is_behind = is_behind || (means.handler.is_some() && waits());
        let mut aggregates = None;
        if self.has_fields && (means.handler.is_some() || is_behind) {
            let mut object = Vec::new();
            fired.write_aggregates(names.clone(), &mut object);
            aggregates = Some(object);
        }
        let result = Giving {
            key: fired.key,
            bounds: fired.bounds,
            why: fired.why,
            time_ms: fired.time_ms,
            aggregates: aggregates.as_deref(),
            missing: fired.missing,
            name: &name,
            failed: means.failed,
            timer: None,
            round: 0,
        };
        let bodies = || fired.members.iter().map(|kept| kept.body());
        let is_done = match is_behind {
            true => false,
            false if means.handler.is_none() && self.has_fields => {
                self.json.clear();
                fired.write_json(names, &mut self.json);
                self.emit(&result, None, means);
                true
            }
            false => self.settle(&result, bodies(), means),
        };
        let verdict = match is_done {
            true => Verdict::Done,
            false => {
                let attempts = if is_behind { 0 } else { means.failed + 1 };
                Verdict::Wait { attempts, name: name.clone(), aggregates }
            }
        };
        self.name = name;
        verdict
    }

    /// Gives a result again that has waited; `true`: it is done with.
    pub fn give_again<W: Writer>(&mut self, pending: &Pending, means: &mut Means<'_, W>) -> bool {
        let result = Giving::of(pending);
        if let Some(timer) = result.timer {
            return self.call_timer(&result, timer, means);
        }
        self.settle(&result, pending.events.iter().map(|body| &**body), means)
    }

    /// What becomes of a result that waits when the process died in its calls; `true`: it is done with.
    pub fn died<W: Writer>(&mut self, pending: &Pending, means: &mut Means<'_, W>) -> bool {
        let delivery = &means.function.delivery;
        means.given.error = DIED.to_owned();
        if pending.attempts < delivery.retry.max_attempts.max(ENOUGH_DEATHS) {
            return false;
        }
        if delivery.on_exhausted == OnExhausted::Stop {
            means.given.must_stop = true;
            return false;
        }
        let mut result = Giving::of(pending);
        result.failed = result.failed.saturating_sub(1);
        let envelopes: Vec<_> = pending.events.iter().filter_map(|body| Envelope::read(body).ok()).collect();
        let records: Vec<Record<'_>> = envelopes.iter().map(Envelope::record).collect();
        let events = opened(&result, (&envelopes, &records), means.intakes);
        self.bury_all(&result, (&events, &records), (DeadLetterReason::Crashed, DIED), means);
        true
    }

    /// Calls the handler, or emits; `true`: the result is done with.
    fn settle<'b, W: Writer>(
        &mut self,
        result: &Giving<'_>,
        bodies: impl Iterator<Item = &'b [u8]>,
        means: &mut Means<'_, W>,
    ) -> bool {
        // What is kept was read once: it can be read again.
        let envelopes: Vec<Envelope<'_>> = bodies.filter_map(|body| Envelope::read(body).ok()).collect();
        let on_timeout = means.function.window.as_ref().map(|window| &window.stitch.on_timeout);
        let mut sink = None;
        if result.why == Why::Timeout {
            match on_timeout {
                Some(OnTimeout::Drop) => {
                    means.given.dropped += 1;
                    return true;
                }
                Some(OnTimeout::DeadLetter) => {
                    let missing = self.missing(result, means.function).join(", ");
                    let error = format!("its stitch ended without {missing}");
                    let death = Death::of(DeadLetterReason::Incomplete, &error);
                    for envelope in &envelopes {
                        bury(&envelope.record(), &death, means);
                    }
                    return true;
                }
                Some(OnTimeout::Emit(name)) => sink = Some(name.as_str()),
                _ => {}
            }
        }
        let records: Vec<Record<'_>> = envelopes.iter().map(Envelope::record).collect();
        let events = opened(result, (&envelopes, &records), means.intakes);
        if means.handler.is_none() || sink.is_some() {
            self.write_events(result, &events, means.function);
            self.emit(result, sink, means);
            return true;
        }
        self.call(result, &events, &records, means)
    }

    fn call<W: Writer>(
        &mut self,
        result: &Giving<'_>,
        events: &[Event<'_>],
        records: &[Record<'_>],
        means: &mut Means<'_, W>,
    ) -> bool {
        let Some(handler) = means.handler.as_mut() else { return true };
        let missing = self.missing(result, means.function);
        let window = WindowCall {
            key: result.key,
            start_ms: result.bounds.0,
            end_ms: result.bounds.1,
            time_ms: result.time_ms,
            why: result.why.as_str(),
            events,
            aggregates: result.aggregates,
            missing: &missing,
        };
        let now_ms = means.now.wall_ms;
        let view = view(means.windows.as_deref(), (means.tables, means.function), result.key);
        let call = OfWindow {
            window: &window,
            stands_at: Some(match means.offset {
                Some(offset) => (means.place.0, means.place.1, offset),
                None => (means.function.state_topic.as_str(), means.place.1, result_number(result.name)),
            }),
            keyed: means.is_keyed.then_some(&view as &dyn Keyed),
            attempt: result.failed + 1,
            now_ms,
            deadline_ms: now_ms.saturating_add(means.timeout_ms),
        };
        means.outbox.clear();
        let outcome = handler.call_window(&call, means.outbox);
        self.ended(result, outcome, (events, records), means)
    }

    /// Calls the handler with a timer that fired; `true`: it is done with.
    fn call_timer<W: Writer>(
        &mut self,
        result: &Giving<'_>,
        (name, at): (&str, At),
        means: &mut Means<'_, W>,
    ) -> bool {
        // Without a handler nobody sets any: it was taken away.
        let Some(handler) = means.handler.as_mut() else { return true };
        let now_ms = means.now.wall_ms;
        let view = view(means.windows.as_deref(), (means.tables, means.function), result.key);
        let call = OfTimer {
            timer: TimerCall { key: result.key, name, at },
            stands_at: (means.function.state_topic.as_str(), means.place.1, result_number(result.name)),
            keyed: &view,
            attempt: result.failed + 1,
            now_ms,
            deadline_ms: now_ms.saturating_add(means.timeout_ms),
        };
        means.outbox.clear();
        let outcome = handler.call_timer(&call, means.outbox);
        self.ended(result, outcome, (&[], &[]), means)
    }

    /// What a call came to; `true`: the result is done with.
    fn ended<W: Writer>(
        &mut self,
        result: &Giving<'_>,
        outcome: Outcome,
        holds: (&[Event<'_>], &[Record<'_>]),
        means: &mut Means<'_, W>,
    ) -> bool {
        let failure = match outcome {
            Outcome::Ok => {
                means.given.calls[0] += 1;
                if self.deliver(result, holds, means)
                    && let Some(windows) = &mut means.windows
                {
                    windows.apply(result.key, result.time_ms, means.outbox.effects());
                }
                return true;
            }
            Outcome::Skip => {
                means.given.calls[1] += 1;
                return true;
            }
            Outcome::Failed(failure) => failure,
        };
        let (reason, message) = match failure.kind {
            FailureKind::Reject { code } => {
                means.given.calls[3] += 1;
                let message = match code {
                    Some(code) => format!("{code}: {}", failure.message),
                    None => failure.message,
                };
                (DeadLetterReason::Rejected, message)
            }
            kind => {
                means.given.calls[if kind == FailureKind::Panic { 4 } else { 2 }] += 1;
                let is_last = result.failed + 1 >= means.function.delivery.retry.max_attempts;
                let is_over = is_last && !means.is_probe;
                if kind != FailureKind::Stop && !is_over {
                    means.given.error = failure.message;
                    means.given.failed = Some((result.key.to_vec(), result.failed == 0));
                    return false;
                }
                let stops = means.function.delivery.on_exhausted == OnExhausted::Stop;
                if stops || kind == FailureKind::Stop {
                    means.given.error = failure.message;
                    means.given.must_stop = true;
                    return false;
                }
                (DeadLetterReason::Exhausted, failure.message)
            }
        };
        self.bury_all(result, holds, (reason, &message), means);
        true
    }

    /// One dead letter for the whole window: its key, and the window with its events as the value.
    fn bury_all<W: Writer>(
        &mut self,
        result: &Giving<'_>,
        (events, records): (&[Event<'_>], &[Record<'_>]),
        (reason, error): (DeadLetterReason, &str),
        means: &mut Means<'_, W>,
    ) {
        match result.timer {
            Some(timer) => self.write_timer(result.key, timer),
            None => self.write_events(result, events, means.function),
        }
        let headers = vec![crate::model::Header { name: "content-type", value: Some(b"application/json") }];
        let first = records.first();
        let record = Record {
            topic: first.map_or(means.place.0, |record| record.topic),
            partition: first.map_or(means.place.1, |record| record.partition),
            offset: first.map_or(-1, |record| record.offset),
            timestamp_ms: result.time_ms,
            key: Some(result.key),
            value: Some(&self.json),
            headers: &headers,
        };
        let packed = result.packed(events, records);
        let packed = Some(packed.as_slice()).filter(|packed| packed.len() + self.json.len() <= MOST_PACKED);
        let (attempts, round) = (result.failed + 1, result.round);
        bury(&record, &Death { attempts, round, result: Some(packed), ..Death::of(reason, error) }, means);
    }

    fn missing<'f>(&self, result: &Giving<'_>, function: &'f Function) -> Vec<&'f str> {
        let name = |at: &u16| function.sources.get(usize::from(*at)).map(|source| source.name.as_str());
        result.missing.iter().filter_map(name).collect()
    }

    /// Emits the JSON that stands ready.
    fn emit<W: Writer>(&mut self, result: &Giving<'_>, sink: Option<&str>, means: &mut Means<'_, W>) {
        let emit = Emit {
            sink,
            key: KeyChoice::OfEvent,
            value: Some(&self.json),
            content_type: Some("application/json"),
            timestamp_ms: Some(result.time_ms),
            headers: &[],
        };
        means.outbox.clear();
        // A result that does not fit its gigabyte is beyond every broker's limits.
        let _ = match means.function.window.as_ref().map(|window| &window.stitch.on_timeout) {
            // The sink of unfinished stitches gets nothing else.
            Some(OnTimeout::Emit(apart)) if sink.is_none() => {
                let mut others = means.function.sinks.iter().filter(|sink| sink.name != *apart);
                others.all(|sink| means.outbox.push(&Emit { sink: Some(&sink.name), ..emit }))
            }
            _ => means.outbox.push(&emit),
        };
        self.deliver(result, (&[], &[]), means);
    }

    /// Writes what is staged; a result that cannot be written becomes a dead letter, which `false` says.
    fn deliver<W: Writer>(
        &mut self,
        result: &Giving<'_>,
        holds: (&[Event<'_>], &[Record<'_>]),
        means: &mut Means<'_, W>,
    ) -> bool {
        match self.route(result, means) {
            Ok(routed) => {
                means.given.written += routed.written;
                means.given.unrouted += routed.unrouted;
                true
            }
            Err(error) => {
                let (reason, text) = (error.reason(), error.to_string());
                self.bury_all(result, holds, (reason, &text), means);
                false
            }
        }
    }

    fn route<W: Writer>(&self, result: &Giving<'_>, means: &mut Means<'_, W>) -> Result<Routed, EmitError> {
        let record = Record {
            topic: means.place.0,
            partition: means.place.1,
            offset: -1,
            timestamp_ms: result.time_ms,
            key: Some(result.key),
            value: None,
            headers: &NoHeaders,
        };
        means.router.begin(&record);
        let mut event = Event::plain(record, means.place.0);
        event.name = Some(result.name);
        means.router.route((&event, None), means.outbox, means.writer)
    }

    /// A timer as JSON: `{"key": …, "timer": {"name": …, "at": …, "clock": "event"}}`.
    fn write_timer(&mut self, key: &[u8], (name, at): (&str, At)) {
        let out = &mut self.json;
        out.clear();
        Fired::open_key(key, out);
        out.extend_from_slice(br#","timer":{"name":"#);
        text(name, out);
        out.extend_from_slice(br#","at":"#);
        out.extend_from_slice(itoa::Buffer::new().format(at.time_ms()).as_bytes());
        out.extend_from_slice(match at {
            At::Event(_) => br#","clock":"event"}}"#,
            At::Clock(_) => br#","clock":"wall"}}"#,
        });
    }

    /// The result as JSON, with its events or its aggregates.
    fn write_events(&mut self, result: &Giving<'_>, events: &[Event<'_>], function: &Function) {
        let out = &mut self.json;
        out.clear();
        Fired::open(result.key, result.bounds, result.why, out);
        if let Some(aggregates) = result.aggregates
            && aggregates.len() > 2
        {
            out.push(b',');
            out.extend_from_slice(&aggregates[1..aggregates.len() - 1]);
        }
        for source in &function.sources {
            let mut of_source = events.iter().filter(|event| event.record.topic == source.topic).peekable();
            if of_source.peek().is_none() {
                continue;
            }
            out.push(b',');
            text(&source.name, out);
            out.push(b':');
            if self.has_single_events {
                of_source.for_each(|event| write_data(event, source.format, out));
                continue;
            }
            let mut before = b'[';
            for event in of_source {
                out.push(std::mem::replace(&mut before, b','));
                write_data(event, source.format, out);
            }
            out.push(b']');
        }
        if !result.missing.is_empty() {
            out.extend_from_slice(br#","missing":"#);
            let name = |at: &u16| function.sources.get(usize::from(*at)).map(|source| &source.name);
            let names: Vec<&String> = result.missing.iter().filter_map(name).collect();
            serde_json::to_writer(&mut *out, &names).expect("text is always JSON");
        }
        out.push(b'}');
    }
}

/// The handler is called with a result that fires for this reason.
fn is_call(why: Why, function: &Function) -> bool {
    let on_timeout = function.window.as_ref().map(|window| &window.stitch.on_timeout);
    let has_end = matches!(on_timeout, Some(OnTimeout::Drop | OnTimeout::DeadLetter | OnTimeout::Emit(_)));
    why != Why::Timeout || !has_end
}

/// What the call with a result sees of its key.
fn view<'a>(
    windows: Option<&'a Windows>,
    (tables, function): (&'a Tables, &Function),
    key: &'a [u8],
) -> View<'a> {
    let windows = windows.map(|windows| (windows, key));
    View { windows, tables, has_state: function.keeps_state() }
}

/// A result's events, as their handler sees them. They were read once before they were kept.
fn opened<'e>(
    result: &Giving<'e>,
    (envelopes, records): (&'e [Envelope<'e>], &'e [Record<'e>]),
    intakes: &'e [Intake],
) -> Vec<Event<'e>> {
    let open = |(record, envelope): (&Record<'e>, &Envelope<'e>)| {
        let intake = intakes.iter().find(|intake| intake.source().topic == record.topic)?;
        let mut event = intake.open(*record);
        let _ = codec::decode_in_place(&mut event, intake.source().format);
        event.key = Some(result.key.into());
        event.time_ms = envelope.time_ms;
        Some(event)
    };
    records.iter().zip(envelopes).filter_map(open).collect()
}

fn bury<W: Writer>(record: &Record<'_>, death: &Death<'_>, means: &mut Means<'_, W>) {
    means.dead_letters.write((record, record), death, means.now.wall_ms, means.writer);
    means.given.dead.push((death.reason, death.error.to_owned()));
}

/// JSON as it is, other text as a string, anything else in base64.
fn write_data(event: &Event<'_>, format: Format, out: &mut Vec<u8>) {
    let Some(data) = event.data.as_deref() else { return out.extend_from_slice(b"null") };
    let is_json = !matches!(format, Format::Text | Format::Bytes) && json::check(data).is_ok();
    match std::str::from_utf8(data) {
        Ok(_) if is_json => out.extend_from_slice(data),
        Ok(data) => text(data, out),
        Err(_) => text(&STANDARD.encode(data), out),
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text is always JSON");
}

/// What a result is called, the same in every run: `key/start/end`, and of one before the end also the place of the record
/// by which it fired.
fn write_name(fired: &Fired<'_>, trigger: Option<&Record<'_>>, name: &mut Vec<u8>) {
    let mut number = itoa::Buffer::new();
    Pending::begin_name(fired.key, name);
    for bound in [fired.bounds.0, fired.bounds.1] {
        name.push(b'/');
        name.extend_from_slice(number.format(bound).as_bytes());
    }
    if let Some(record) = trigger {
        name.push(b'/');
        name.extend_from_slice(record.topic.as_bytes());
        for part in [i64::from(record.partition), record.offset] {
            name.push(b'/');
            name.extend_from_slice(number.format(part).as_bytes());
        }
    }
}
