//! The way out: which sinks take an output, and what is written there. All or nothing: every output of
//! a call is routed, checked and (where that can fail) encoded before the first is written, so a bad
//! one leaves nothing behind.
//!
//! Between two records only memory is kept. One output for the only sink is one visit of the outbox and one call
//! of the writer.

mod cloudevents;
mod error;
mod output;
mod passthrough;
mod trace;

use std::convert::Infallible;
use std::ops::Range;

pub use error::EmitError;

use super::filter::Filters;

use super::stamp::{self, Stamp};
use super::write::{OutRecord, Target, Writer};
use crate::codec::{json, media_type};
use crate::model::{CloudEventsMode, Event, Format, Function, Header, HeaderBuffer, Outbox, Record, Sink};
use cloudevents::MadeUp;
use output::Output;
pub(super) use trace::Trace;

/// What became of the outputs of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Routed {
    /// Records written; an output that two sinks take counts twice.
    pub written: u32,
    /// Outputs that no sink took.
    pub unrouted: u32,
}

/// Routes and encodes the outputs of one function.
pub struct Router {
    /// The function's name, without the namespace, which is in the default source.
    function: String,
    routes: Vec<Route>,
    /// Names the origin of each output, if the manifest asks for that.
    stamp: Option<Stamp>,
    plan: Vec<Planned>,
    scratch: Vec<u8>,
    headers: HeaderBuffer,
    /// Of events that pass through.
    event_headers: HeaderBuffer,
}

struct Route {
    sink: Sink,
    filters: Filters,
}

/// One record to be written.
struct Planned {
    /// The output's place in the call.
    n: u32,
    /// The sink's place in the manifest.
    sink: usize,
    /// What was rendered for it: the id in binary mode, the document in structured mode.
    rendered: Range<usize>,
}

impl Router {
    /// For the sinks of `function`.
    pub fn new(function: &Function) -> Self {
        let route = |sink: &Sink| Route { sink: sink.clone(), filters: Filters::compile(&sink.filters) };
        Self {
            function: function.name.name.clone(),
            routes: function.sinks.iter().map(route).collect(),
            stamp: function.delivery.origin_headers.then(|| Stamp::new(function)),
            plan: Vec::new(),
            scratch: Vec::new(),
            headers: HeaderBuffer::default(),
            event_headers: HeaderBuffer::default(),
        }
    }

    /// What is routed next is made of `record`, which stands where the function read it.
    #[inline]
    pub fn begin(&mut self, record: &Record<'_>) {
        if let Some(stamp) = &mut self.stamp {
            stamp.begin(record);
        }
    }

    /// Writes what the call for `event` staged in `outbox`, in the trace of the call's `span` if it has one. After an
    /// error nothing was written.
    pub fn route<W: Writer>(
        &mut self,
        (event, span): (&Event<'_>, Option<&[u8]>),
        outbox: &Outbox,
        writer: &mut W,
    ) -> Result<Routed, EmitError> {
        if outbox.is_empty() {
            return Ok(Routed::default());
        }
        let trace = Trace::of(event).within(span);
        if outbox.len() == 1 && self.routes.len() == 1 {
            return self.route_one(event, outbox, &trace, writer);
        }
        self.plan.clear();
        self.scratch.clear();
        let (mut n, mut unrouted) = (0, 0);
        outbox.visit(|emit| {
            let output = Output::new(emit, event, &self.function, n);
            let planned = self.plan.len();
            match emit.sink {
                Some(name) => {
                    let place = place_of(&self.routes, name)?;
                    let rendered = prepare(&output, &self.routes[place].sink, &trace, &mut self.scratch)?;
                    self.plan.push(Planned { n, sink: place, rendered });
                }
                None => {
                    for (place, route) in self.routes.iter().enumerate() {
                        if route.takes(&output) {
                            let rendered = prepare(&output, &route.sink, &trace, &mut self.scratch)?;
                            self.plan.push(Planned { n, sink: place, rendered });
                        }
                    }
                }
            }
            unrouted += u32::from(self.plan.len() == planned);
            n += 1;
            Ok(())
        })?;
        let of = self.plan.len() as u32;
        let mut plan = self.plan.iter().zip(0..).peekable();
        let mut n = 0;
        let Ok(()) = outbox.visit(|emit| -> Result<(), Infallible> {
            while let Some((planned, number)) = plan.next_if(|(planned, _)| planned.n == n) {
                let output = Output::new(emit, event, &self.function, n);
                let encoder = Encoder {
                    sink: &self.routes[planned.sink].sink,
                    place: planned.sink,
                    rendered: &self.scratch[planned.rendered.clone()],
                    trace: &trace,
                    origin: self.stamp.as_mut().map(|stamp| stamp.header(number, of)),
                };
                encoder.write(&output, &mut self.headers, writer);
            }
            n += 1;
            Ok(())
        });
        Ok(Routed { written: of, unrouted })
    }

    /// One output for the one sink, the usual case: all or nothing without a plan.
    fn route_one<W: Writer>(
        &mut self,
        event: &Event<'_>,
        outbox: &Outbox,
        trace: &Trace<'_>,
        writer: &mut W,
    ) -> Result<Routed, EmitError> {
        let Self { function, routes, stamp, scratch, headers, .. } = self;
        let mut routed = Routed::default();
        scratch.clear();
        outbox.visit(|emit| {
            let output = Output::new(emit, event, function, 0);
            let place = match emit.sink {
                Some(name) => place_of(routes, name)?,
                None if routes[0].takes(&output) => 0,
                None => {
                    routed.unrouted += 1;
                    return Ok(());
                }
            };
            let sink = &routes[place].sink;
            let rendered = prepare(&output, sink, trace, scratch)?;
            let origin = stamp.as_mut().map(|stamp| stamp.header(0, 1));
            Encoder { sink, place, rendered: &scratch[rendered], trace, origin }
                .write(&output, headers, writer);
            routed.written += 1;
            Ok(())
        })?;
        Ok(routed)
    }
}

impl Route {
    /// It takes an output that names no sink.
    #[inline]
    fn takes(&self, output: &Output<'_>) -> bool {
        self.filters.is_empty() || self.filters.pass(&output.seen_by(&self.sink))
    }
}

fn place_of(routes: &[Route], name: &str) -> Result<usize, EmitError> {
    routes.iter().position(|route| route.sink.name == name).ok_or_else(|| {
        let known: Vec<&str> = routes.iter().map(|route| route.sink.name.as_str()).collect();
        EmitError::UnknownSink { sink: name.to_owned(), known: known.join(", ") }
    })
}

/// Checks one output for one sink and renders what is not its value.
fn prepare(
    output: &Output<'_>,
    sink: &Sink,
    trace: &Trace<'_>,
    scratch: &mut Vec<u8>,
) -> Result<Range<usize>, EmitError> {
    let start = scratch.len();
    match sink.format {
        Format::Auto | Format::Bytes => {}
        Format::Text | Format::Json => check_value(output.emit.value, sink)?,
        Format::CloudEvents => {
            cloudevents::check(output, sink)?;
            match sink.cloudevents.mode {
                CloudEventsMode::Binary => output.write_id(scratch),
                CloudEventsMode::Structured => cloudevents::write_document(output, sink, trace, scratch)?,
            }
        }
    }
    Ok(start..scratch.len())
}

/// A `text` sink takes UTF-8, a `json` sink JSON, both take tombstones.
fn check_value(value: Option<&[u8]>, sink: &Sink) -> Result<(), EmitError> {
    let Some(value) = value else { return Ok(()) };
    if sink.format == Format::Json {
        return json::check(value).map_err(|reason| EmitError::NotJson { sink: sink.name.clone(), reason });
    }
    match std::str::from_utf8(value) {
        Ok(_) => Ok(()),
        Err(error) => Err(EmitError::NotUtf8 { sink: sink.name.clone(), at: error.valid_up_to() }),
    }
}

/// The media type that a sink's format implies.
fn implied_content_type(format: Format) -> Option<&'static str> {
    match format {
        Format::Json => Some(media_type::JSON),
        Format::Text => Some(media_type::TEXT),
        Format::Auto | Format::Bytes | Format::CloudEvents => None,
    }
}

/// Writes a checked output to one sink.
struct Encoder<'h> {
    sink: &'h Sink,
    place: usize,
    rendered: &'h [u8],
    trace: &'h Trace<'h>,
    origin: Option<Header<'h>>,
}

impl<'h> Encoder<'h> {
    fn write<W: Writer>(&self, output: &Output<'_>, buffer: &mut HeaderBuffer, writer: &mut W) {
        let mut out = OutRecord {
            target: Target::Sink(self.place),
            key: output.key(),
            value: output.emit.value,
            headers: &[],
            timestamp_ms: output.timestamp_ms(),
        };
        if self.sink.format != Format::CloudEvents {
            let implied = output.emit.content_type.or(implied_content_type(self.sink.format));
            if implied.is_none() && self.trace.is_empty() && self.origin.is_none() {
                out.headers = output.emit.headers;
                return writer.write(&out);
            }
            let mut headers = buffer.lend();
            headers.extend_from_slice(output.emit.headers);
            if let Some(media_type) = implied.filter(|_| output.header("content-type").is_none()) {
                headers.push(Header { name: "content-type", value: Some(media_type.as_bytes()) });
            }
            self.trace.push_headers(output.emit.headers, false, &mut headers);
            stamp::push(self.origin, &mut headers);
            writer.write(&OutRecord { headers: &headers, ..out });
            buffer.put_back(headers);
            return;
        }
        let time = output.time();
        let mut headers = buffer.lend();
        out.key = output.key_in(self.sink);
        match self.sink.cloudevents.mode {
            CloudEventsMode::Binary => {
                let made_up = MadeUp { id: self.rendered, time: time.as_ref().map(|time| time.as_bytes()) };
                cloudevents::push_binary(output, self.sink, made_up, self.trace, &mut headers);
            }
            CloudEventsMode::Structured => {
                cloudevents::push_structured(output, self.trace, &mut headers);
                out.value = Some(self.rendered);
            }
        }
        stamp::push(self.origin, &mut headers);
        writer.write(&OutRecord { headers: &headers, ..out });
        buffer.put_back(headers);
    }
}
