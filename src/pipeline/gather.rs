//! Gather: an event of a function with a window is placed in it instead of being handled by itself, and what windows give is
//! emitted.

use thiserror::Error;

use super::emit::{EmitError, Routed, Router};
use super::pointer::Pointer;
use super::write::Writer;
use crate::model::{
    AggregateOp, DeadLetterReason, Emit, Event, Function, KeyChoice, Moment, NoHeaders, Outbox, Record,
};
use crate::window::{Arrival, Field, Fired, Number, Place, Placed, Windows};

/// Why an event is in no window.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GatherError {
    /// Windows are by key.
    #[error("it has no key, and windows are by key: give the records keys")]
    NoKey,
    /// The sink writes the key as an attribute, which is text.
    #[error("its key is not UTF-8, and sink `{sink}` writes it as the attribute `partitionkey`")]
    KeyNotText {
        /// The sink.
        sink: String,
    },
    /// The record has no timestamp.
    #[error("it has no time: its timestamp is {0}")]
    NoTime(i64),
    /// Its time would close windows that others are still to come for.
    #[error("its time is {ahead_ms} ms ahead of the clock, more than window.maxSkew ({max_skew_ms} ms)")]
    Ahead {
        /// How far.
        ahead_ms: i64,
        /// How far it may be.
        max_skew_ms: i64,
    },
    /// It has no fields to aggregate.
    #[error("the field `{path}` of aggregate `{name}` is missing: the body is not JSON: {reason}")]
    NoJson {
        /// The aggregate.
        name: String,
        /// Its field.
        path: String,
        /// The parser's message.
        reason: String,
    },
    /// What is to be added up is no number.
    #[error("the field `{path}` of aggregate `{name}` is not a number: {found}")]
    NotANumber {
        /// The aggregate.
        name: String,
        /// Its field.
        path: String,
        /// What kind of value it is.
        found: &'static str,
    },
    /// Every window that it could enter is closed.
    #[error(
        "it came too late: its time is {time_ms}, event time had come to {watermark_ms}, and every window for it is \
         closed (window.grace lets them wait longer)"
    )]
    Late {
        /// Its time.
        time_ms: i64,
        /// Where event time stood.
        watermark_ms: i64,
    },
}

impl GatherError {
    /// The reason of the dead letter.
    pub fn reason(&self) -> DeadLetterReason {
        match self {
            Self::NoKey | Self::KeyNotText { .. } | Self::NoTime(_) => DeadLetterReason::Unkeyed,
            Self::NoJson { .. } | Self::NotANumber { .. } => DeadLetterReason::Malformed,
            Self::Ahead { .. } => DeadLetterReason::Ahead,
            Self::Late { .. } => DeadLetterReason::Late,
        }
    }
}

/// What an aggregate looks for in an event.
enum Wanted {
    /// Nothing: it counts.
    Nothing,
    /// That the field is there.
    Presence(Pointer),
    /// A number.
    Number(Pointer),
    /// The value.
    Value(Pointer),
}

struct Taker {
    name: String,
    path: String,
    wanted: Wanted,
}

/// Places events, and makes outputs of results.
pub(super) struct Gatherer {
    takers: Vec<Taker>,
    max_skew_ms: i64,
    /// A sink that writes the key as text.
    text_key: Option<String>,
    fields: Vec<Option<Field>>,
    json: Vec<u8>,
    id: Vec<u8>,
    partly_late: u64,
}

impl Gatherer {
    /// For a function with a window.
    pub fn new(function: &Function) -> Option<Self> {
        let window = function.window.as_ref()?;
        let takers = window.aggregates.iter().map(|(name, aggregate)| {
            let path = aggregate.field.clone().unwrap_or_default();
            let pointer = Pointer::new(&path);
            let wanted = match aggregate.op {
                AggregateOp::Count if aggregate.field.is_none() => Wanted::Nothing,
                AggregateOp::Count => Wanted::Presence(pointer),
                AggregateOp::Sum | AggregateOp::Min | AggregateOp::Max | AggregateOp::Avg => {
                    Wanted::Number(pointer)
                }
                AggregateOp::First | AggregateOp::Last | AggregateOp::Distinct => Wanted::Value(pointer),
            };
            Taker { name: name.clone(), path, wanted }
        });
        let text_key = function.sinks.iter().find(|sink| sink.cloudevents.partition_key);
        Some(Self {
            takers: takers.collect(),
            max_skew_ms: i64::try_from(window.max_skew.as_millis()).unwrap_or(i64::MAX),
            text_key: text_key.map(|sink| sink.name.clone()),
            fields: Vec::new(),
            json: Vec::new(),
            id: Vec::new(),
            partly_late: 0,
        })
    }

    /// Windows that events came too late for, which were in time for others; since the last call.
    pub fn take_partly_late(&mut self) -> u64 {
        std::mem::take(&mut self.partly_late)
    }

    /// Places `event`, which stands in the log where `read` does. What it makes windows give is staged in `outbox`.
    pub fn place(
        &mut self,
        event: &Event<'_>,
        (source, read, now): (usize, &Record<'_>, Moment),
        windows: &mut Windows,
        outbox: &mut Outbox,
    ) -> Result<(), GatherError> {
        let key = event.key.as_deref().ok_or(GatherError::NoKey)?;
        if let Some(sink) = &self.text_key
            && std::str::from_utf8(key).is_err()
        {
            return Err(GatherError::KeyNotText { sink: sink.clone() });
        }
        let time_ms = event.time_ms;
        if time_ms < 0 {
            return Err(GatherError::NoTime(time_ms));
        }
        let ahead_ms = time_ms.saturating_sub(now.wall_ms);
        if ahead_ms > self.max_skew_ms {
            return Err(GatherError::Ahead { ahead_ms, max_skew_ms: self.max_skew_ms });
        }
        let Self { takers, fields, json, .. } = self;
        fields.clear();
        for taker in takers.iter() {
            fields.push(taker.take(event)?);
        }
        let source = u16::try_from(source).unwrap_or(u16::MAX);
        let place = Place { time_ms, source, partition: read.partition, offset: read.offset };
        let names = || takers.iter().map(|taker| taker.name.as_str());
        let placed = windows.add(&Arrival { key, place, fields }, &mut |fired| {
            stage(fired, names(), json, outbox);
        });
        match placed {
            Placed::In { missed } => {
                self.partly_late += u64::from(missed);
                Ok(())
            }
            Placed::Late => Err(GatherError::Late { time_ms, watermark_ms: windows.watermark_ms() }),
        }
    }

    /// Closes what is due first, of one key, and writes its results; `None`: nothing is due. `place` is the partition of
    /// the events.
    pub fn close_next<W: Writer>(
        &mut self,
        (topic, partition): (&str, i32),
        windows: &mut Windows,
        (router, outbox): (&mut Router, &mut Outbox),
        writer: &mut W,
    ) -> Option<Result<Routed, EmitError>> {
        let Self { takers, json, id, .. } = self;
        let mut all = Ok(Routed::default());
        let has_closed = windows.close_next(&mut |fired| {
            let Ok(sum) = &mut all else { return };
            outbox.clear();
            stage(fired, takers.iter().map(|taker| taker.name.as_str()), json, outbox);
            id.clear();
            write_name(fired, id);
            let record = Record {
                topic,
                partition,
                offset: -1,
                timestamp_ms: fired.time_ms,
                key: Some(fired.key),
                value: None,
                headers: &NoHeaders,
            };
            router.begin(&record);
            let mut event = Event::plain(record, topic);
            event.name = Some(id);
            match router.route((&event, None), outbox, writer) {
                Ok(routed) => {
                    sum.written += routed.written;
                    sum.unrouted += routed.unrouted;
                }
                Err(error) => all = Err(error),
            }
        });
        has_closed.then_some(all)
    }
}

/// Stages a result as an output.
fn stage<'n>(
    fired: &Fired<'_>,
    names: impl Iterator<Item = &'n str>,
    json: &mut Vec<u8>,
    outbox: &mut Outbox,
) {
    json.clear();
    fired.write_json(names, json);
    // A result that does not fit its gigabyte is beyond every broker's limits.
    let _ = outbox.push(&Emit {
        sink: None,
        key: KeyChoice::OfEvent,
        value: Some(json),
        content_type: Some("application/json"),
        timestamp_ms: Some(fired.time_ms),
        headers: &[],
    });
}

/// What the result of a close is called: `key/start/end`, the same in every run.
fn write_name(fired: &Fired<'_>, id: &mut Vec<u8>) {
    let mut number = itoa::Buffer::new();
    match std::str::from_utf8(fired.key) {
        Ok(key) => id.extend_from_slice(key.as_bytes()),
        Err(_) => fired.key.iter().for_each(|byte| id.extend_from_slice(format!("{byte:02x}").as_bytes())),
    }
    for bound in [fired.bounds.0, fired.bounds.1] {
        id.push(b'/');
        id.extend_from_slice(number.format(bound).as_bytes());
    }
}

impl Taker {
    /// What the aggregate takes of the event: nothing where the field is missing or null, or there is no value at all.
    fn take(&self, event: &Event<'_>) -> Result<Option<Field>, GatherError> {
        let pointer = match &self.wanted {
            Wanted::Nothing => return Ok(Some(Field::There)),
            _ if event.data.is_none() => return Ok(None),
            Wanted::Presence(pointer) | Wanted::Number(pointer) | Wanted::Value(pointer) => pointer,
        };
        let (name, path) = (|| self.name.clone(), || self.path.clone());
        let body = event.json().map_err(|reason| GatherError::NoJson {
            name: name(),
            path: path(),
            reason: reason.to_owned(),
        })?;
        let value = match pointer.find(body) {
            None | Some(serde_json::Value::Null) => return Ok(None),
            Some(value) => value,
        };
        Ok(Some(match self.wanted {
            Wanted::Number(_) => {
                let not_a_number =
                    || GatherError::NotANumber { name: name(), path: path(), found: kind(value) };
                Field::Number(Number::of(value).ok_or_else(not_a_number)?)
            }
            Wanted::Value(_) => Field::Json(value.to_string().into()),
            Wanted::Nothing | Wanted::Presence(_) => Field::There,
        }))
    }
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "true or false",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "text",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}
