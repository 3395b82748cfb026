//! W3C trace context: what came with an event goes on with its outputs, unless they bring their own; of a sampled event
//! the span of its call does. It travels as Kafka headers, as the CloudEvents extensions of the same names, or both.

use crate::model::{Event, Header, Shape};
use crate::observe::trace::TraceParent;

/// The trace context of an event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace<'a> {
    /// In headers.
    headers: Context<'a>,
    /// In CloudEvents attributes.
    attributes: Context<'a>,
}

/// `tracestate` means nothing without its `traceparent`, so they are carried together or not at all.
#[derive(Debug, Clone, Copy, Default)]
struct Context<'a> {
    parent: Option<&'a [u8]>,
    state: Option<&'a [u8]>,
}

impl<'a> Context<'a> {
    fn push(self, names: [&'static str; 2], list: &mut Vec<Header<'a>>) {
        if self.parent.is_none() {
            return;
        }
        for (name, value) in names.into_iter().zip([self.parent, self.state]) {
            if value.is_some() {
                list.push(Header { name, value });
            }
        }
    }
}

impl<'a> Trace<'a> {
    /// The context of `event`; none of an event into which nobody looked.
    pub fn of(event: &'a Event<'_>) -> Self {
        if event.is_opaque { Self::default() } else { Self::read(event) }
    }

    /// The context of `event`, looked for.
    pub fn read(event: &'a Event<'_>) -> Self {
        let mut trace = Self::default();
        let is_binary = event.shape == Shape::Binary;
        for header in event.record.headers() {
            match header.name {
                "traceparent" => trace.headers.parent = header.value,
                "tracestate" => trace.headers.state = header.value,
                "ce_traceparent" if is_binary => trace.attributes.parent = header.value,
                "ce_tracestate" if is_binary => trace.attributes.state = header.value,
                _ => {}
            }
        }
        if let Shape::Structured(attributes) = &event.shape {
            for (name, value) in attributes {
                match name.as_str() {
                    "traceparent" => trace.attributes.parent = Some(value.as_bytes()),
                    "tracestate" => trace.attributes.state = Some(value.as_bytes()),
                    _ => {}
                }
            }
        }
        trace
    }

    /// The span before this event's, with its `tracestate`. The header goes first: it is of whoever wrote the record, the
    /// attribute may be of whoever made the event.
    pub fn parent(&self) -> Option<(TraceParent, Option<&'a [u8]>)> {
        [self.headers, self.attributes]
            .iter()
            .find_map(|context| Some((TraceParent::parse(context.parent?)?, context.state)))
    }

    /// With the span `own` in every place where a context is, or in both places if there is none.
    pub fn within(mut self, own: Option<&'a [u8]>) -> Self {
        let Some(own) = own else { return self };
        let is_new = self.is_empty();
        for context in [&mut self.headers, &mut self.attributes] {
            if context.parent.is_none_or(|parent| TraceParent::parse(parent).is_none()) {
                context.state = None;
            }
            if is_new || context.parent.is_some() {
                context.parent = Some(own);
            }
        }
        self
    }

    /// There is nothing to carry.
    pub fn is_empty(&self) -> bool {
        self.headers.parent.is_none() && self.attributes.parent.is_none()
    }

    /// Adds the headers that an output with the headers `own` still needs; `to_cloudevent`: attributes
    /// stay attributes, else they become headers where there are none.
    pub fn push_headers(&self, own: &[Header<'_>], to_cloudevent: bool, list: &mut Vec<Header<'a>>) {
        if self.is_empty() || own.iter().any(|header| header.name == "traceparent") {
            return;
        }
        let carried = match self.headers.parent {
            None if !to_cloudevent => self.attributes,
            _ => self.headers,
        };
        carried.push(["traceparent", "tracestate"], list);
    }

    /// Adds the attributes, as `ce_` headers, that a CloudEvent with the headers `own` still needs.
    pub fn push_attributes(&self, own: &[Header<'_>], list: &mut Vec<Header<'a>>) {
        if !own.iter().any(|header| header.name == "ce_traceparent") {
            self.attributes.push(["ce_traceparent", "ce_tracestate"], list);
        }
    }
}
