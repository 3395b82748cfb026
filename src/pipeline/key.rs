//! The function's key and the event's time, taken from where the manifest says they are.

use std::borrow::Cow;

use serde_json::Value;
use thiserror::Error;

use super::pointer::Pointer;
use crate::codec::json;
use crate::codec::rfc3339::Timestamp;
use crate::model::{DeadLetterReason, Event, KeySpec, Shape, Source, TimeFormat, TimeSpec};

/// The last millisecond of the year 9999: what lies beyond is a time in another unit.
const LATEST_MS: i64 = 253_402_300_799_999;

/// Why an event has no key or no time. Always poison: the same event will never have one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// No header of that name, or its value is null.
    #[error("the key's header `{header}` is missing or null")]
    NoHeader {
        /// The header.
        header: String,
    },
    /// No such attribute.
    #[error("the {what}'s CloudEvents attribute `{attribute}` is missing")]
    NoAttribute {
        /// `key` or `time`.
        what: &'static str,
        /// The attribute.
        attribute: String,
    },
    /// The body has no fields, since it is no JSON.
    #[error("the {what}'s field `{path}` is missing: the body is not JSON: {reason}")]
    NoJson {
        /// `key` or `time`.
        what: &'static str,
        /// The field's pointer.
        path: String,
        /// The parser's message.
        reason: String,
    },
    /// No such field, or it is null.
    #[error("the {what}'s field `{path}` is missing or null")]
    NoField {
        /// `key` or `time`.
        what: &'static str,
        /// The field's pointer.
        path: String,
    },
    /// The time is not written as the manifest says.
    #[error("the time in `{place}` is not {expected}: `{found}`")]
    NotATime {
        /// The attribute or the field's pointer.
        place: String,
        /// How it should be written.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Events cannot lie before the epoch.
    #[error("the time in `{place}` is before 1970: {ms} ms")]
    Negative {
        /// The attribute or the field's pointer.
        place: String,
        /// Milliseconds since the epoch.
        ms: i64,
    },
    /// More likely another unit than the far future.
    #[error("the time in `{place}` is after the year 9999: is its format {format}?")]
    TooLate {
        /// The attribute or the field's pointer.
        place: String,
        /// The manifest's format.
        format: &'static str,
    },
}

impl KeyError {
    /// The reason of the dead letter.
    pub fn reason(&self) -> DeadLetterReason {
        DeadLetterReason::Unkeyed
    }
}

/// Sets key and time of a source's events.
#[derive(Debug, Clone)]
pub struct Keyer {
    key: KeyFrom,
    time: TimeFrom,
}

#[derive(Debug, Clone)]
enum KeyFrom {
    Record,
    Header(String),
    Attribute(String),
    Fields(Vec<Field>),
}

#[derive(Debug, Clone)]
enum TimeFrom {
    Record,
    Attribute(String),
    Field(Field, TimeFormat),
}

#[derive(Debug, Clone)]
struct Field {
    path: String,
    pointer: Pointer,
}

impl Field {
    fn new(path: &str) -> Self {
        Self { path: path.to_owned(), pointer: Pointer::new(path) }
    }
}

impl Keyer {
    /// Compiles `key` and `time` of a source.
    pub fn new(source: &Source) -> Self {
        let key = match &source.key {
            KeySpec::Record => KeyFrom::Record,
            KeySpec::Header(name) => KeyFrom::Header(name.clone()),
            KeySpec::Attribute(name) => KeyFrom::Attribute(name.clone()),
            KeySpec::Fields(paths) => KeyFrom::Fields(paths.iter().map(|path| Field::new(path)).collect()),
        };
        let time = match &source.time {
            TimeSpec::Record => TimeFrom::Record,
            TimeSpec::Attribute(name) => TimeFrom::Attribute(name.clone()),
            TimeSpec::Field { path, format } => TimeFrom::Field(Field::new(path), *format),
        };
        Self { key, time }
    }

    /// The function's key is the record's.
    pub fn is_of_record(&self) -> bool {
        matches!(self.key, KeyFrom::Record)
    }

    /// Sets `key` and `time_ms` of `event`. The record's own key and timestamp are taken as they are,
    /// null and -1 included: whether those do is for the step that needs them to say.
    #[inline]
    pub fn apply(&self, event: &mut Event<'_>) -> Result<(), KeyError> {
        match (&self.key, &self.time) {
            (KeyFrom::Record, TimeFrom::Record) => Ok(()),
            _ => self.look_up(event),
        }
    }

    fn look_up(&self, event: &mut Event<'_>) -> Result<(), KeyError> {
        match &self.key {
            KeyFrom::Record => {}
            KeyFrom::Header(name) => event.key = Some(header_key(event, name)?),
            KeyFrom::Attribute(name) => event.key = Some(attribute_key(event, name)?),
            KeyFrom::Fields(fields) => event.key = Some(Cow::Owned(fields_key(event, fields)?)),
        }
        match &self.time {
            TimeFrom::Record => {}
            TimeFrom::Attribute(name) => event.time_ms = attribute_time(event, name)?,
            TimeFrom::Field(field, format) => event.time_ms = field_time(event, field, *format)?,
        }
        Ok(())
    }
}

fn header_key<'a>(event: &Event<'a>, name: &str) -> Result<Cow<'a, [u8]>, KeyError> {
    let value = event.record.header(name).and_then(|header| header.value);
    value.map(Cow::Borrowed).ok_or_else(|| KeyError::NoHeader { header: name.to_owned() })
}

fn attribute_key<'a>(event: &Event<'a>, name: &str) -> Result<Cow<'a, [u8]>, KeyError> {
    let missing = || KeyError::NoAttribute { what: "key", attribute: name.to_owned() };
    if event.shape == Shape::Binary && name != "datacontenttype" {
        // Borrowed from the record, which outlives the event.
        let value = event.record.attribute_header(name).and_then(|header| header.value);
        return value.map(Cow::Borrowed).ok_or_else(missing);
    }
    let value = event.attribute(name).ok_or_else(missing)?;
    Ok(Cow::Owned(value.into_owned().into_bytes()))
}

fn field<'e>(event: &'e Event<'_>, field: &Field, what: &'static str) -> Result<&'e Value, KeyError> {
    let body = event.json().map_err(|reason| KeyError::NoJson {
        what,
        path: field.path.clone(),
        reason: reason.to_owned(),
    })?;
    match field.pointer.find(body) {
        None | Some(Value::Null) => Err(KeyError::NoField { what, path: field.path.clone() }),
        Some(value) => Ok(value),
    }
}

/// One field: its text; several: a compact JSON array. The text is canonical: members sorted, numbers
/// as JSON writes them, and two values of different types never have the same: a string that reads
/// as JSON (`1`, `true`, `"x"`) keeps its quotes, any other is bare.
fn fields_key(event: &Event<'_>, fields: &[Field]) -> Result<Vec<u8>, KeyError> {
    let mut text = Vec::with_capacity(32);
    if let [only] = fields {
        match field(event, only, "key")? {
            Value::String(bare) if !reads_as_json(bare) => text.extend_from_slice(bare.as_bytes()),
            value => append(&mut text, value),
        }
        return Ok(text);
    }
    text.push(b'[');
    for (place, one) in fields.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        append(&mut text, field(event, one, "key")?);
    }
    text.push(b']');
    Ok(text)
}

fn reads_as_json(text: &str) -> bool {
    match text.as_bytes().first() {
        Some(b'"') => true,
        Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n' | b'[' | b'{') => json::check(text.as_bytes()).is_ok(),
        _ => false,
    }
}

fn append(text: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(text, value).expect("a JSON value is always JSON");
}

fn attribute_time(event: &Event<'_>, name: &str) -> Result<i64, KeyError> {
    let text = event
        .attribute(name)
        .ok_or_else(|| KeyError::NoAttribute { what: "time", attribute: name.to_owned() })?;
    rfc3339(&text, name)
}

fn rfc3339(text: &str, place: &str) -> Result<i64, KeyError> {
    let time = Timestamp::parse(text).ok_or_else(|| not_a_time(place, "an RFC 3339 time", text))?;
    in_range(Some(time.as_millisecond()), place, "rfc3339")
}

fn field_time(event: &Event<'_>, from: &Field, format: TimeFormat) -> Result<i64, KeyError> {
    let value = field(event, from, "time")?;
    let place = from.path.as_str();
    let (unit_per_ms, ms_per_unit, name) = match format {
        TimeFormat::Rfc3339 => {
            return match value {
                Value::String(text) => rfc3339(text, place),
                other => Err(not_a_time(place, "an RFC 3339 time", &other.to_string())),
            };
        }
        TimeFormat::S => (1, 1000, "s"),
        TimeFormat::Ms => (1, 1, "ms"),
        TimeFormat::Us => (1_000, 1, "us"),
        TimeFormat::Ns => (1_000_000, 1, "ns"),
    };
    let Value::Number(number) = value else {
        return Err(not_a_time(place, "a number", &value.to_string()));
    };
    let ms = if let Some(whole) = number.as_i64() {
        whole.div_euclid(unit_per_ms).checked_mul(ms_per_unit)
    } else {
        // Fractions of a unit (and whole numbers beyond 64 bits, which are out of range anyway).
        number.as_f64().map(|units| (units * ms_per_unit as f64 / unit_per_ms as f64).floor() as i64)
    };
    in_range(ms, place, name)
}

fn in_range(ms: Option<i64>, place: &str, format: &'static str) -> Result<i64, KeyError> {
    match ms {
        Some(ms) if ms < 0 => Err(KeyError::Negative { place: place.to_owned(), ms }),
        Some(ms) if ms <= LATEST_MS => Ok(ms),
        _ => Err(KeyError::TooLate { place: place.to_owned(), format }),
    }
}

fn not_a_time(place: &str, expected: &'static str, found: &str) -> KeyError {
    const SHOWN: usize = 40;
    let found = match found.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &found[..end]),
        None => found.to_owned(),
    };
    KeyError::NotATime { place: place.to_owned(), expected, found }
}
