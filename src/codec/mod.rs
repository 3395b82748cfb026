//! Formats: from a record to an event, and back. Decoding borrows: a `bytes` source costs nothing, a
//! CloudEvent in binary mode one look at its headers. What is not as its format promises is poison,
//! with a reason that names the place.
//!
//! Where outputs go and which attributes they get is the pipeline's business; Avro, Protobuf and the
//! schema registry will stand here beside the others.

pub mod attribute;
mod binary;
mod error;
pub mod json;
pub mod media_type;
pub mod rfc3339;
mod structured;

use std::borrow::Cow;

pub use error::{AttributeError, DecodeError};
pub use structured::{Structured, write as write_structured};

use crate::model::{Event, Format, Record, Shape, Source};
use media_type::Mode;

/// Makes an event of a record in its source's format. A null value is an event in every format but
/// structured CloudEvents.
#[inline]
pub fn decode<'a>(record: Record<'a>, source: &'a Source) -> Result<Event<'a>, DecodeError> {
    let mut event = Event::plain(record, &source.name);
    decode_in_place(&mut event, source.format)?;
    Ok(event)
}

/// The same for a plain event that stands where it will be used: an event is 240 bytes, and moving it
/// out of a result costs more than decoding bytes.
#[inline]
pub fn decode_in_place(event: &mut Event<'_>, format: Format) -> Result<(), DecodeError> {
    match format {
        Format::Bytes => Ok(()),
        format => {
            event.is_opaque = false;
            look_into(format, event)
        }
    }
}

fn look_into(format: Format, event: &mut Event<'_>) -> Result<(), DecodeError> {
    let record = event.record;
    match format {
        Format::Bytes => {}
        Format::Text => {
            if let Some(Err(error)) = record.value.map(std::str::from_utf8) {
                return Err(DecodeError::NotUtf8 { at: error.valid_up_to() });
            }
            event.content_type = Some(Cow::Borrowed(media_type::TEXT));
        }
        Format::Json => {
            check_json(&record)?;
            event.content_type = Some(Cow::Borrowed(media_type::JSON));
        }
        Format::CloudEvents => decode_cloudevent(event, Hints::of(&record)?)?,
        Format::Auto => {
            let hints = Hints::of(&record)?;
            if hints.is_cloudevent {
                decode_cloudevent(event, hints)?;
            } else {
                if hints.content_type.is_some_and(media_type::is_json) {
                    check_json(&record)?;
                }
                event.content_type = hints.content_type.map(Cow::Borrowed);
            }
        }
    }
    Ok(())
}

/// What the headers tell about the content mode.
struct Hints<'a> {
    content_type: Option<&'a str>,
    mode: Mode,
    /// Structured by its content type, or binary by its `ce_specversion`.
    is_cloudevent: bool,
}

impl<'a> Hints<'a> {
    fn of(record: &Record<'a>) -> Result<Self, DecodeError> {
        let (mut content_type, mut is_binary) = (None, false);
        for header in record.headers() {
            match header.name {
                "content-type" => content_type = header.value,
                "ce_specversion" => is_binary = true,
                _ => {}
            }
        }
        let content_type =
            content_type.map(std::str::from_utf8).transpose().map_err(|_| DecodeError::ContentType)?;
        let mode = content_type.map_or(Mode::Other, media_type::mode);
        Ok(Self { content_type, mode, is_cloudevent: is_binary || mode != Mode::Other })
    }
}

fn decode_cloudevent<'a>(event: &mut Event<'a>, hints: Hints<'a>) -> Result<(), DecodeError> {
    let media_type = || hints.content_type.unwrap_or_default().to_owned();
    match hints.mode {
        Mode::Batch => Err(DecodeError::Batch { media_type: media_type() }),
        Mode::Unreadable => Err(DecodeError::EventFormat { media_type: media_type() }),
        Mode::Other => {
            event.shape = binary::check(&event.record)?;
            event.content_type = hints.content_type.map(Cow::Borrowed);
            Ok(())
        }
        Mode::Structured => {
            let document = structured::read(event.record.value.ok_or(DecodeError::NoValue)?)?;
            event.shape = Shape::Structured(document.attributes);
            event.data = document.data;
            event.content_type = document.content_type;
            Ok(())
        }
    }
}

fn check_json(record: &Record<'_>) -> Result<(), DecodeError> {
    match record.value.map(json::check) {
        Some(Err(reason)) => Err(DecodeError::NotJson { reason }),
        _ => Ok(()),
    }
}
