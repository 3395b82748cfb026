//! CloudEvents in structured mode: the whole event is one JSON document in the value.
//!
//! Documents are written through the `cloudevents` crate's types. They are read here: the crate keeps
//! data as parsed JSON (and so loses number digits and the bytes behind `data_base64`), rewrites
//! times and schema URIs, and takes names, integers and repeated members that CloudEvents forbids.
//! The tests hold both against the crate.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cloudevents::{EventBuilder, EventBuilderV10};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::attribute::{REQUIRED, check_name, check_value};
use super::error::{AttributeError, DecodeError};
use super::{json, media_type};

/// What a document holds.
pub(super) struct Document<'a> {
    /// Every attribute but `datacontenttype`, with its canonical string, in the document's order.
    pub attributes: Vec<(String, String)>,
    /// The payload.
    pub data: Option<Cow<'a, [u8]>>,
    /// `datacontenttype`; `application/json` where data comes without it (JSON format, section 3.1).
    pub content_type: Option<Cow<'a, str>>,
}

/// Reads one document.
pub(super) fn read(value: &[u8]) -> Result<Document<'_>, DecodeError> {
    let text =
        std::str::from_utf8(value).map_err(|error| DecodeError::NotUtf8 { at: error.valid_up_to() })?;
    let Members(members) =
        serde_json::from_str(text).map_err(|error| DecodeError::NotObject { reason: error.to_string() })?;
    let mut attributes: Vec<(String, String)> = Vec::with_capacity(members.len());
    let (mut data, mut base64, mut content_type) = (None, None, None);
    for (place, (name, raw)) in members.iter().enumerate() {
        if members[..place].iter().any(|(earlier, _)| earlier == name) {
            return Err(DecodeError::Twice { member: name.clone().into_owned() });
        }
        match name.as_ref() {
            "data" => data = Some(*raw),
            // A null member is one that is not set.
            "data_base64" => base64 = Some(*raw).filter(|raw| raw.get() != "null"),
            "datacontenttype" => content_type = string(name, raw)?,
            name => {
                check_name(name)?;
                if let Some(value) = attribute(name, raw)? {
                    check_value(name, &value)?;
                    attributes.push((name.to_owned(), value.into_owned()));
                }
            }
        }
    }
    for required in REQUIRED {
        if !attributes.iter().any(|(name, _)| name == required) {
            return Err(AttributeError::Missing { attribute: required }.into());
        }
    }
    let is_json = content_type.as_deref().is_none_or(media_type::is_json);
    let data = match (data, base64) {
        (Some(_), Some(_)) => return Err(DecodeError::TwoData),
        (None, None) => None,
        (None, Some(raw)) => Some(Cow::Owned(from_base64(raw)?)),
        (Some(raw), None) => member_data(raw, is_json)?,
    };
    if data.is_some() && content_type.is_none() {
        content_type = Some(Cow::Borrowed(media_type::JSON));
    }
    Ok(Document { attributes, data, content_type })
}

/// `data` as bytes: JSON as it stands in the document; of other media types a string's text, nothing
/// for null, and the JSON text of anything else, which the format does not forbid.
fn member_data(raw: &RawValue, is_json: bool) -> Result<Option<Cow<'_, [u8]>>, DecodeError> {
    let text = raw.get();
    if is_json {
        return Ok(Some(Cow::Borrowed(text.as_bytes())));
    }
    match text.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => Ok(Some(match unescaped("data", text)? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })),
        bytes => Ok(Some(Cow::Borrowed(bytes))),
    }
}

fn from_base64(raw: &RawValue) -> Result<Vec<u8>, DecodeError> {
    let text = string("data_base64", raw)?.unwrap_or_default();
    BASE64_STANDARD.decode(text.as_bytes()).map_err(|error| DecodeError::Base64 { reason: error.to_string() })
}

/// The canonical string of an attribute (CloudEvents, "Type System"); `None` for null, which is unset.
fn attribute<'a>(name: &str, raw: &'a RawValue) -> Result<Option<Cow<'a, str>>, DecodeError> {
    const CORE: [&str; 7] = ["specversion", "id", "source", "type", "dataschema", "subject", "time"];
    let text = raw.get();
    if CORE.contains(&name) {
        return string(name, raw);
    }
    match text.as_bytes() {
        [b'"', ..] | b"null" => string(name, raw),
        b"true" | b"false" => Ok(Some(Cow::Borrowed(text))),
        [b'-' | b'0'..=b'9', ..] => match text.parse::<i32>() {
            Ok(number) => Ok(Some(Cow::Owned(number.to_string()))),
            Err(_) => Err(wrong_type(name, "a whole number from -2147483648 to 2147483647", text)),
        },
        _ => Err(wrong_type(name, "a string, a whole number, or true or false", text)),
    }
}

fn string<'a>(name: &str, raw: &'a RawValue) -> Result<Option<Cow<'a, str>>, DecodeError> {
    match raw.get().as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => unescaped(name, raw.get()).map(Some),
        _ => Err(wrong_type(name, "a string", raw.get())),
    }
}

fn unescaped<'a>(name: &str, text: &'a str) -> Result<Cow<'a, str>, DecodeError> {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Ok(Cow::Borrowed(inner)),
        _ => serde_json::from_str(text)
            .map(Cow::Owned)
            .map_err(|_| wrong_type(name, "a string of whole characters", text)),
    }
}

fn wrong_type(attribute: &str, expected: &'static str, found: &str) -> DecodeError {
    const SHOWN: usize = 40;
    let found = match found.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &found[..end]),
        None => found.to_owned(),
    };
    AttributeError::Type { attribute: attribute.to_owned(), expected, found }.into()
}

/// The members of an object, in order, with repeated names.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(12);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A member's name, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// One event to write: `id`, `source` and `type` are there, and all attributes hold the rules.
pub struct Structured<'a> {
    /// Every attribute but `specversion` and `datacontenttype`, with its canonical string.
    pub attributes: &'a [(Cow<'a, str>, Cow<'a, str>)],
    /// The payload; `None` is an event without data, which has a value nevertheless.
    pub data: Option<&'a [u8]>,
    /// The payload's media type.
    pub content_type: Option<&'a str>,
}

/// Appends the event's document to `out`. JSON data (or data of no media type that is JSON) stands in
/// it byte by byte but for blanks around it, text as a string, everything else in `data_base64`.
pub fn write(event: &Structured<'_>, out: &mut Vec<u8>) -> Result<(), AttributeError> {
    let mut builder = EventBuilderV10::new();
    // The crate's types for these two rewrite the text (`56.78` to `56.780`, a `/` after a host), so
    // they are put in after it.
    let mut verbatim = Vec::new();
    for (name, value) in event.attributes {
        let value = value.as_ref();
        builder = match name.as_ref() {
            "id" => builder.id(value),
            "source" => builder.source(value),
            "type" => builder.ty(value),
            "subject" => builder.subject(value),
            "time" | "dataschema" => {
                verbatim.push((name.clone().into_owned(), value));
                builder
            }
            name => builder.extension(name, value),
        };
    }
    let built = builder.build().map_err(incomplete)?;
    let Ok(Value::Object(mut members)) = serde_json::to_value(&built) else {
        unreachable!("an event is an object of strings")
    };
    for (name, value) in verbatim {
        members.insert(name, Value::from(value));
    }
    if let Some(content_type) = event.content_type {
        members.insert("datacontenttype".to_owned(), Value::from(content_type));
    }
    to_json(out, &members);
    if let Some(data) = event.data {
        out.pop();
        write_data(data, event.content_type, out);
        out.push(b'}');
    }
    Ok(())
}

fn write_data(data: &[u8], content_type: Option<&str>, out: &mut Vec<u8>) {
    if content_type.is_none_or(media_type::is_json) && json::check(data).is_ok() {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.trim_ascii());
    } else if let Some(text) = std::str::from_utf8(data).ok().filter(|_| {
        content_type.is_some_and(|content_type| {
            media_type::is_text(content_type) && !media_type::is_json(content_type)
        })
    }) {
        out.extend_from_slice(b",\"data\":");
        to_json(out, text);
    } else {
        out.extend_from_slice(b",\"data_base64\":");
        to_json(out, BASE64_STANDARD.encode(data).as_str());
    }
}

fn to_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("strings and maps of strings are always JSON");
}

fn incomplete(error: cloudevents::event::EventBuilderError) -> AttributeError {
    use cloudevents::event::EventBuilderError as Builder;
    match error {
        Builder::MissingRequiredAttribute { attribute_name } => {
            AttributeError::Missing { attribute: attribute_name }
        }
        Builder::ParseUrlError { attribute_name, .. }
        | Builder::InvalidUriRefError { attribute_name }
        | Builder::ParseTimeError { attribute_name, .. } => {
            AttributeError::Empty { attribute: attribute_name }
        }
    }
}
