//! Outputs as CloudEvents: which attributes they get, and the two modes of the Kafka protocol binding.

use std::borrow::Cow;

use super::error::EmitError;
use super::output::Output;
use super::trace::Trace;
use crate::codec::attribute::{PREFIX, check_header};
use crate::codec::media_type::{self, Mode};
use crate::codec::{AttributeError, Structured, write_structured};
use crate::model::{Header, Sink};

/// Checks everything that could keep `output` from being a CloudEvent in `sink`.
pub fn check(output: &Output<'_>, sink: &Sink) -> Result<(), EmitError> {
    let broken = |rule| EmitError::Attribute { sink: sink.name.clone(), rule };
    for header in output.emit.headers {
        let Some(name) = header.name.strip_prefix(PREFIX) else { continue };
        let Some(value) = header.value else {
            return Err(broken(AttributeError::Null { attribute: name.to_owned() }));
        };
        check_header(name, value).map_err(broken)?;
    }
    if let Some(media_type) = output.content_type() {
        let media_type = std::str::from_utf8(media_type)
            .map_err(|_| EmitError::ContentType { sink: sink.name.clone() })?;
        if media_type::mode(media_type) != Mode::Other {
            return Err(EmitError::Nested { sink: sink.name.clone(), media_type: media_type.to_owned() });
        }
    }
    match partition_key(output, sink).map(std::str::from_utf8) {
        Some(Err(_)) => Err(EmitError::PartitionKey { sink: sink.name.clone() }),
        _ => Ok(()),
    }
}

/// The value of the `partitionkey` that the sink adds: none where the output brings its own, or has no
/// key (the extension must not be empty).
fn partition_key<'a>(output: &Output<'a>, sink: &Sink) -> Option<&'a [u8]> {
    if !sink.cloudevents.partition_key || output.header("ce_partitionkey").is_some() {
        return None;
    }
    output.key().filter(|key| !key.is_empty())
}

/// Lists every attribute but `datacontenttype` as a `ce_` header.
fn push_attributes<'h>(
    output: &'h Output<'_>,
    sink: &'h Sink,
    made_up: MadeUp<'h>,
    trace: &Trace<'h>,
    list: &mut Vec<Header<'h>>,
) {
    let own = output.emit.headers;
    let mut defaults = [
        ("ce_specversion", Some(b"1.0".as_slice())),
        ("ce_id", Some(made_up.id)),
        ("ce_source", Some(sink.cloudevents.source.as_bytes())),
        ("ce_type", Some(sink.cloudevents.event_type.as_bytes())),
        ("ce_time", made_up.time.filter(|_| !output.is_whole)),
    ];
    for header in own {
        if let Some((_, value)) = defaults.iter_mut().find(|(name, _)| *name == header.name) {
            *value = None;
        }
    }
    let set = defaults.into_iter().filter(|(_, value)| value.is_some());
    list.extend(set.map(|(name, value)| Header { name, value }));
    for (place, header) in own.iter().enumerate() {
        // Of attributes that come twice the last counts; two in a record would read differently
        // in different readers.
        let is_attribute = header.name.starts_with(PREFIX) && header.name != "ce_datacontenttype";
        if is_attribute && !own[place + 1..].iter().any(|later| later.name == header.name) {
            list.push(*header);
        }
    }
    if let Some(key) = partition_key(output, sink) {
        list.push(Header { name: "ce_partitionkey", value: Some(key) });
    }
    trace.push_attributes(own, list);
}

/// Lists the headers that are no attributes.
fn push_others<'h>(output: &'h Output<'_>, trace: &Trace<'h>, list: &mut Vec<Header<'h>>) {
    let is_other = |header: &&Header<'_>| !header.name.starts_with(PREFIX) && header.name != "content-type";
    list.extend(output.emit.headers.iter().filter(is_other));
    trace.push_headers(output.emit.headers, true, list);
}

/// Attributes that the engine makes for outputs that bring none.
#[derive(Clone, Copy)]
pub struct MadeUp<'h> {
    /// The id's bytes.
    pub id: &'h [u8],
    /// The time's text.
    pub time: Option<&'h [u8]>,
}

/// The headers of an output in binary mode.
pub fn push_binary<'h>(
    output: &'h Output<'_>,
    sink: &'h Sink,
    made_up: MadeUp<'h>,
    trace: &Trace<'h>,
    list: &mut Vec<Header<'h>>,
) {
    push_attributes(output, sink, made_up, trace, list);
    if let Some(media_type) = output.content_type() {
        list.push(Header { name: "content-type", value: Some(media_type) });
    }
    push_others(output, trace, list);
}

/// The headers of an output in structured mode.
pub fn push_structured<'h>(output: &'h Output<'_>, trace: &Trace<'h>, list: &mut Vec<Header<'h>>) {
    list.push(Header { name: "content-type", value: Some(media_type::STRUCTURED.as_bytes()) });
    push_others(output, trace, list);
}

/// Appends the document of a checked output in structured mode.
pub fn write_document(
    output: &Output<'_>,
    sink: &Sink,
    trace: &Trace<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EmitError> {
    let mut id = Vec::new();
    output.write_id(&mut id);
    let time = output.time();
    let made_up = MadeUp { id: &id, time: time.as_ref().map(|time| time.as_bytes()) };
    let mut headers = Vec::new();
    push_attributes(output, sink, made_up, trace, &mut headers);
    let attributes: Vec<(Cow<'_, str>, Cow<'_, str>)> = headers
        .iter()
        .filter_map(|header| Some((header.name.strip_prefix(PREFIX)?, header.value?)))
        .filter(|(name, _)| *name != "specversion")
        .map(|(name, value)| (Cow::Borrowed(name), String::from_utf8_lossy(value)))
        .collect();
    let content_type = output.content_type().and_then(|media_type| std::str::from_utf8(media_type).ok());
    write_structured(&Structured { attributes: &attributes, data: output.emit.value, content_type }, out)
        .map_err(|rule| EmitError::Attribute { sink: sink.name.clone(), rule })
}
