//! One output on its way to a sink: what it is made of, and what routing filters see of it.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::Value;

use super::super::filter::Subject;
use crate::codec::attribute::PREFIX;
use crate::codec::rfc3339::{Rendered, Timestamp};
use crate::model::{Emit, Event, Header, KeyChoice, Sink};

/// What a handler emitted, or an event that passes through, before encoding.
pub struct Output<'a> {
    /// The output itself.
    pub emit: &'a Emit<'a>,
    /// What it was made from.
    pub event: &'a Event<'a>,
    /// The function's name.
    pub function: &'a str,
    /// Its place among the outputs of its call.
    pub n: u32,
    /// It came as a CloudEvent: nothing but what it had is written.
    pub is_whole: bool,
    body: OnceCell<Option<Value>>,
}

impl<'a> Output<'a> {
    /// An output of `function`'s call for `event`.
    pub fn new(emit: &'a Emit<'a>, event: &'a Event<'a>, function: &'a str, n: u32) -> Self {
        Self { emit, event, function, n, is_whole: false, body: OnceCell::new() }
    }

    /// The Kafka timestamp: its own or the event's time; `None` when there is none.
    pub fn timestamp_ms(&self) -> Option<i64> {
        Some(self.emit.timestamp_ms.unwrap_or(self.event.time_ms)).filter(|ms| *ms >= 0)
    }

    /// The same as RFC 3339 text.
    pub fn time(&self) -> Option<Rendered> {
        Timestamp::from_millisecond(self.timestamp_ms()?).render()
    }

    /// The key as the handler chose it.
    pub fn key(&self) -> Option<&'a [u8]> {
        match self.emit.key {
            KeyChoice::OfEvent => self.event.key.as_deref(),
            KeyChoice::Null => None,
            KeyChoice::Bytes(key) => Some(key),
        }
    }

    /// The last header `name`.
    pub fn header(&self, name: &str) -> Option<&'a Header<'a>> {
        self.emit.headers.iter().rev().find(|header| header.name == name)
    }

    /// The payload's media type: what a header says goes before what the handler's encoder said.
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.header("content-type")
            .or_else(|| self.header("ce_datacontenttype"))
            .and_then(|header| header.value)
            .or(self.emit.content_type.map(str::as_bytes))
    }

    /// Appends the event's id, which is the same in every run: `function/topic/partition/offset/n`, or `function/name` of what
    /// no single event made, and of its further ones `function/name/n`.
    pub fn write_id(&self, out: &mut Vec<u8>) {
        let record = &self.event.record;
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(self.function.as_bytes());
        out.push(b'/');
        if let Some(name) = self.event.name {
            out.extend_from_slice(name);
            if self.n > 0 {
                out.push(b'/');
                out.extend_from_slice(number.format(self.n).as_bytes());
            }
            return;
        }
        out.extend_from_slice(record.topic.as_bytes());
        out.push(b'/');
        out.extend_from_slice(number.format(record.partition).as_bytes());
        out.push(b'/');
        out.extend_from_slice(number.format(record.offset).as_bytes());
        out.push(b'/');
        out.extend_from_slice(number.format(self.n).as_bytes());
    }

    /// The key of the record in `sink`: a sink that writes `partitionkey` also takes it as the key
    /// (Kafka protocol binding, section 3.1).
    pub fn key_in(&self, sink: &Sink) -> Option<&'a [u8]> {
        let own = self.header("ce_partitionkey").filter(|_| sink.cloudevents.partition_key);
        own.and_then(|header| header.value).or_else(|| self.key())
    }

    /// What filters see of it in `sink`.
    pub fn seen_by<'o>(&'o self, sink: &'o Sink) -> Seen<'o> {
        Seen { output: self, sink }
    }
}

/// An output as the filters of one sink see it: with the attributes that it would have there.
pub struct Seen<'o> {
    output: &'o Output<'o>,
    sink: &'o Sink,
}

impl Subject for Seen<'_> {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let output = self.output;
        let text = |bytes| std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
        if name == "datacontenttype" {
            return output.content_type().and_then(text);
        }
        let own =
            output.emit.headers.iter().rev().find(|header| header.name.strip_prefix(PREFIX) == Some(name));
        if let Some(header) = own {
            return header.value.and_then(text);
        }
        match name {
            "specversion" => Some(Cow::Borrowed("1.0")),
            "type" => Some(Cow::Borrowed(&self.sink.cloudevents.event_type)),
            "source" => Some(Cow::Borrowed(&self.sink.cloudevents.source)),
            "id" => {
                let mut id = Vec::new();
                output.write_id(&mut id);
                String::from_utf8(id).ok().map(Cow::Owned)
            }
            "time" => output.time().map(|time| Cow::Owned(time.as_str().to_owned())),
            "partitionkey" if self.sink.cloudevents.partition_key => output.key().and_then(text),
            _ => None,
        }
    }

    fn header(&self, name: &str) -> Option<Option<&[u8]>> {
        self.output.header(name).map(|header| header.value)
    }

    fn json(&self) -> Option<&Value> {
        let parse = || serde_json::from_slice(self.output.emit.value?).ok();
        self.output.body.get_or_init(parse).as_ref()
    }
}
