//! Functions without a handler: the event itself goes out, filtered, re-keyed and routed.
//!
//! Where the sink's format allows, the record is written as it came, with the function's key. Only a
//! `cloudevents` sink that gets an event in another mode, or one that is no CloudEvent, has it encoded
//! anew; a CloudEvent then keeps all its attributes and gets none besides.

use super::super::stamp;
use super::super::write::{OutRecord, Target, Writer};
use super::output::Output;
use super::trace::Trace;
use super::{EmitError, Encoder, Planned, Route, Routed, Router, check_value, implied_content_type, prepare};
use crate::codec::attribute::PREFIX;
use crate::model::{CloudEventsMode, Emit, Event, Format, Header, HeaderBuffer, KeyChoice, Shape, Sink};

impl Router {
    /// Writes `event` to each sink whose filters take it, in the trace of its `span` if it has one. After an error nothing
    /// was written.
    pub fn passthrough<W: Writer>(
        &mut self,
        event: &Event<'_>,
        span: Option<&[u8]>,
        writer: &mut W,
    ) -> Result<Routed, EmitError> {
        self.plan.clear();
        self.scratch.clear();
        let names = attribute_names(event);
        let trace = span.map_or_else(Trace::default, |span| Trace::read(event).within(Some(span)));
        for (place, Route { sink, filters }) in self.routes.iter().enumerate() {
            if !filters.is_empty() && !filters.pass(event) {
                continue;
            }
            let rendered = if is_unchanged(event, sink) {
                check_unchanged(event, sink)?;
                0..0
            } else {
                as_output(event, (&self.function, &names, &trace), &mut self.event_headers, |output| {
                    prepare(output, sink, &trace, &mut self.scratch)
                })?
            };
            self.plan.push(Planned { n: 0, sink: place, rendered });
        }
        let of = self.plan.len() as u32;
        for (planned, number) in self.plan.iter().zip(0..) {
            let origin = self.stamp.as_mut().map(|stamp| stamp.header(number, of));
            let sink = &self.routes[planned.sink].sink;
            if is_unchanged(event, sink) {
                write_unchanged(event, (planned.sink, sink, &trace), origin, &mut self.headers, writer);
                continue;
            }
            let rendered = &self.scratch[planned.rendered.clone()];
            let encoder = Encoder { sink, place: planned.sink, rendered, trace: &trace, origin };
            as_output(event, (&self.function, &names, &trace), &mut self.event_headers, |output| {
                encoder.write(output, &mut self.headers, writer);
            });
        }
        Ok(Routed { written: of, unrouted: u32::from(of == 0) })
    }
}

/// Whether the record can go to `sink` as it is.
fn is_unchanged(event: &Event<'_>, sink: &Sink) -> bool {
    match (sink.format, &event.shape, sink.cloudevents.mode) {
        (Format::CloudEvents, Shape::Binary, mode) => mode == CloudEventsMode::Binary,
        (Format::CloudEvents, Shape::Structured(_), mode) => {
            // The document would have to be taken apart to add the key to it.
            mode == CloudEventsMode::Structured
                && (!sink.cloudevents.partition_key || event.attribute("partitionkey").is_some())
        }
        (Format::CloudEvents, Shape::Plain, _) => false,
        _ => true,
    }
}

fn check_unchanged(event: &Event<'_>, sink: &Sink) -> Result<(), EmitError> {
    match sink.format {
        Format::Text | Format::Json => check_value(event.record.value, sink),
        Format::CloudEvents => match added_partition_key(event, sink).map(std::str::from_utf8) {
            Some(Err(_)) => Err(EmitError::PartitionKey { sink: sink.name.clone() }),
            _ => Ok(()),
        },
        Format::Auto | Format::Bytes => Ok(()),
    }
}

/// The `partitionkey` that a sink adds to an event in binary mode that has none.
fn added_partition_key<'e>(event: &'e Event<'_>, sink: &Sink) -> Option<&'e [u8]> {
    let wanted = sink.format == Format::CloudEvents
        && sink.cloudevents.partition_key
        && event.shape == Shape::Binary
        && event.attribute("partitionkey").is_none();
    event.key.as_deref().filter(|key| wanted && !key.is_empty())
}

fn write_unchanged<W: Writer>(
    event: &Event<'_>,
    (place, sink, trace): (usize, &Sink, &Trace<'_>),
    origin: Option<Header<'_>>,
    buffer: &mut HeaderBuffer,
    writer: &mut W,
) {
    let mut out = OutRecord {
        target: Target::Sink(place),
        key: event.key.as_deref(),
        value: event.record.value,
        headers: &[],
        timestamp_ms: Some(event.time_ms).filter(|ms| *ms >= 0),
    };
    let implied = implied_content_type(sink.format);
    let added = added_partition_key(event, sink);
    let own_key = match sink.format {
        Format::CloudEvents if sink.cloudevents.partition_key => event.attribute("partitionkey"),
        _ => None,
    };
    if let Some(key) = &own_key {
        out.key = Some(key.as_bytes());
    }
    let is_plain = implied.is_none() && added.is_none() && origin.is_none() && trace.is_empty();
    if is_plain && event.record.headers().is_empty() {
        return writer.write(&out);
    }
    let mut headers = buffer.lend();
    if trace.is_empty() {
        headers.extend_from_slice(event.record.headers());
    } else {
        let is_binary = event.shape == Shape::Binary;
        let others = event.record.headers().iter().filter(|header| !is_replaced(header.name, is_binary));
        headers.extend(others);
        // A document stays as it is, so its context goes into the headers, which are looked at first.
        let to_cloudevent = is_binary && sink.format == Format::CloudEvents;
        trace.push_headers(&[], to_cloudevent, &mut headers);
        if is_binary {
            trace.push_attributes(&[], &mut headers);
        }
    }
    if let Some(media_type) = implied
        && !headers.iter().any(|header| header.name == "content-type")
    {
        headers.push(Header { name: "content-type", value: Some(media_type.as_bytes()) });
    }
    if added.is_some() {
        headers.push(Header { name: "ce_partitionkey", value: added });
    }
    stamp::push(origin, &mut headers);
    writer.write(&OutRecord { headers: &headers, ..out });
    buffer.put_back(headers);
}

/// A span's context takes the place of this header.
fn is_replaced(name: &str, is_binary: bool) -> bool {
    matches!(name, "traceparent" | "tracestate")
        || is_binary && matches!(name, "ce_traceparent" | "ce_tracestate")
}

/// `ce_<name>` for each attribute of a structured event.
fn attribute_names(event: &Event<'_>) -> Vec<String> {
    match &event.shape {
        Shape::Structured(attributes) => {
            attributes.iter().map(|(name, _)| format!("{PREFIX}{name}")).collect()
        }
        Shape::Plain | Shape::Binary => Vec::new(),
    }
}

/// Shows `act` the event as if a handler had emitted it, attributes as `ce_` headers. Only a plain
/// event gets attributes made up: its subject here, the others where they are written. A context gives way to `trace`.
fn as_output<R>(
    event: &Event<'_>,
    (function, names, trace): (&str, &[String], &Trace<'_>),
    buffer: &mut HeaderBuffer,
    act: impl FnOnce(&Output<'_>) -> R,
) -> R {
    let mut headers = buffer.lend();
    match &event.shape {
        Shape::Structured(attributes) => {
            let named = names.iter().zip(attributes);
            headers.extend(named.map(|(name, (_, value))| Header { name, value: Some(value.as_bytes()) }));
            headers.retain(|header| trace.is_empty() || !is_replaced(header.name, true));
        }
        Shape::Plain => {
            let subject = event.record.key.filter(|key| !key.is_empty() && std::str::from_utf8(key).is_ok());
            headers.extend(subject.map(|key| Header { name: "ce_subject", value: Some(key) }));
        }
        Shape::Binary => {}
    }
    for header in event.record.headers() {
        if !trace.is_empty() && is_replaced(header.name, event.shape == Shape::Binary) {
            continue;
        }
        if header.name.starts_with(PREFIX) {
            if event.shape != Shape::Binary {
                // Repeated by the sender of a structured event, or nothing to do with CloudEvents.
                continue;
            }
            if header.value.is_none() {
                headers.retain(|earlier| earlier.name != header.name);
                continue;
            }
        }
        let is_known = event.content_type.is_some() || event.shape != Shape::Plain;
        if header.name != "ce_datacontenttype" && !(is_known && header.name == "content-type") {
            headers.push(*header);
        }
    }
    let emit = Emit {
        sink: None,
        key: KeyChoice::OfEvent,
        value: event.data.as_deref(),
        content_type: event.content_type.as_deref(),
        timestamp_ms: None,
        headers: &headers,
    };
    let mut output = Output::new(&emit, event, function, 0);
    output.is_whole = event.shape != Shape::Plain;
    let result = act(&output);
    buffer.put_back(headers);
    result
}
