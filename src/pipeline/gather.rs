//! Gather: an event of a function with a window is placed in it instead of being handled by itself. If the function has
//! several sources, or a key of its own, it is sent to the partition of its key first.

use thiserror::Error;

use super::envelope::{self, Envelope, EnvelopeError};
use super::pointer::Pointer;
use super::write::{OutRecord, Target, Writer};
use crate::model::{AggregateOp, DeadLetterReason, Event, Function, Moment, Record, WindowKind};
use crate::window::{Arrival, Damaged, Field, Number, Place, Placed, Results, Windows};

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
    /// It is a result that was brought back, and cannot be read.
    #[error("the result that is brought back cannot be read: {0}")]
    Result(#[from] Damaged),
    /// The function has neither windows nor timers any more.
    #[error("it is the result of a window or a timer, and the function has neither")]
    NoResults,
    /// It came through the stitch topic, and cannot be read.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
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
            Self::NoJson { .. }
            | Self::NotANumber { .. }
            | Self::Envelope(_)
            | Self::Result(_)
            | Self::NoResults => DeadLetterReason::Malformed,
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

/// Places events.
pub(super) struct Gatherer {
    takers: Vec<Taker>,
    /// Windows keep their events.
    keeps: bool,
    /// There are no windows: each event is handled by itself.
    is_of_each: bool,
    max_skew_ms: i64,
    /// A sink that writes the key as text.
    text_key: Option<String>,
    fields: Vec<Option<Field>>,
    body: Vec<u8>,
    partly_late: u64,
}

/// Where an event comes from, and what is known of it besides.
pub(super) struct Placing<'a> {
    /// The source's place in the manifest.
    pub source: usize,
    /// Where it stood.
    pub record: &'a Record<'a>,
    /// When.
    pub now: Moment,
    /// As it was brought here, if it was gathered from its source; else it comes from there.
    pub envelope: Option<(&'a Envelope<'a>, &'a [u8])>,
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
            keeps: window.aggregates.is_empty(),
            is_of_each: window.kind == WindowKind::Each,
            max_skew_ms: i64::try_from(window.max_skew.as_millis()).unwrap_or(i64::MAX),
            text_key: text_key.map(|sink| sink.name.clone()),
            fields: Vec::new(),
            body: Vec::new(),
            partly_late: 0,
        })
    }

    /// Windows that events came too late for, which were in time for others; since the last call.
    pub fn take_partly_late(&mut self) -> u64 {
        std::mem::take(&mut self.partly_late)
    }

    /// Somebody has to look into the events.
    pub fn reads_fields(&self) -> bool {
        self.takers.iter().any(|taker| !matches!(taker.wanted, Wanted::Nothing))
    }

    /// There are no windows: each event is handled by itself.
    pub fn is_of_each(&self) -> bool {
        self.is_of_each
    }

    /// What an event must have to be gathered at all: a key, a time that is not too far ahead, and what the aggregates
    /// take, which is then in `fields`.
    pub fn check(&mut self, event: &Event<'_>, now: Moment) -> Result<(), GatherError> {
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
        self.take_fields(event)
    }

    fn take_fields(&mut self, event: &Event<'_>) -> Result<(), GatherError> {
        let Self { takers, fields, .. } = self;
        fields.clear();
        for taker in takers.iter() {
            fields.push(taker.take(event)?);
        }
        Ok(())
    }

    /// Sends `event` to the partition of its key. Whether it moves time is `moves_time`; its source partition had come to
    /// `watermark_ms`.
    pub fn send<W: Writer>(
        &mut self,
        (event, record, now): (&Event<'_>, &Record<'_>, Moment),
        (watermark_ms, moves_time): (i64, bool),
        writer: &mut W,
    ) -> Result<(), GatherError> {
        self.check(event, now)?;
        self.pass_on(event, record, (watermark_ms, moves_time), writer);
        Ok(())
    }

    /// Sends a row of a table to the partition of its key. It moves no time.
    pub fn send_row<W: Writer>(
        &mut self,
        event: &Event<'_>,
        record: &Record<'_>,
        writer: &mut W,
    ) -> Result<(), GatherError> {
        event.key.as_deref().ok_or(GatherError::NoKey)?;
        self.pass_on(event, record, (i64::MIN, false), writer);
        Ok(())
    }

    /// Sends a result that had died to the partition of its key.
    pub fn send_result<W: Writer>(
        &mut self,
        key: Option<&[u8]>,
        (result, round): (&[u8], u32),
        writer: &mut W,
    ) {
        self.body.clear();
        self.body.push(envelope::RESULT);
        self.body.extend_from_slice(&round.to_be_bytes());
        self.body.extend_from_slice(result);
        writer.write(&OutRecord {
            target: Target::Stitch,
            key,
            value: Some(&self.body),
            headers: &[],
            timestamp_ms: None,
        });
    }

    fn pass_on<W: Writer>(
        &mut self,
        event: &Event<'_>,
        record: &Record<'_>,
        (watermark_ms, moves_time): (i64, bool),
        writer: &mut W,
    ) {
        self.body.clear();
        Envelope::write(record, (event.time_ms, watermark_ms, moves_time), &mut self.body);
        writer.write(&OutRecord {
            target: Target::Stitch,
            key: event.key.as_deref(),
            value: Some(&self.body),
            headers: &[],
            timestamp_ms: None,
        });
    }

    /// Places `event`. What it makes windows give goes to `results`.
    pub fn place(
        &mut self,
        event: &Event<'_>,
        placing: &Placing<'_>,
        windows: &mut Windows,
        results: &mut Results<'_>,
    ) -> Result<(), GatherError> {
        let Placing { source, record, now, envelope } = *placing;
        match envelope {
            None => self.check(event, now)?,
            Some(_) => self.take_fields(event)?,
        }
        let key = event.key.as_deref().ok_or(GatherError::NoKey)?;
        let Self { fields, body, keeps, .. } = self;
        let time_ms = event.time_ms;
        let source = u16::try_from(source).unwrap_or(u16::MAX);
        let place = Place { time_ms, source, partition: record.partition, offset: record.offset };
        let (watermark_ms, moves_time) =
            envelope.map_or((i64::MIN, true), |(envelope, _)| (envelope.watermark_ms, envelope.moves_time));
        let body = match envelope {
            _ if !*keeps => &[][..],
            Some((_, bytes)) => bytes,
            None => {
                body.clear();
                Envelope::write(record, (time_ms, watermark_ms, moves_time), body);
                body
            }
        };
        let arrival = Arrival { key, place, fields, body, watermark_ms };
        match windows.add(&arrival, results) {
            Placed::In { missed } => {
                if moves_time {
                    windows.moved(place);
                }
                self.partly_late += u64::from(missed);
                Ok(())
            }
            Placed::Late => {
                Err(GatherError::Late { time_ms, watermark_ms: windows.watermark_ms().max(watermark_ms) })
            }
        }
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
