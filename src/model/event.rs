//! An event: a record after decoding. Its attributes are looked up when asked for, its body is
//! parsed at most once.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::record::Record;

/// In which shape the event came, which decides where its attributes are.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// No CloudEvent: attributes are made up from topic, key and time.
    Plain,
    /// A CloudEvent in binary mode: attributes are the `ce_` headers.
    Binary,
    /// A CloudEvent in structured mode: name and canonical string of each attribute but `data`
    /// and `datacontenttype`, in the order of the document.
    Structured(Vec<(String, String)>),
}

/// One decoded event, borrowed from its record.
pub struct Event<'a> {
    /// The record it came in.
    pub record: Record<'a>,
    /// The source's name in the manifest.
    pub source: &'a str,
    /// Where the attributes are.
    pub shape: Shape,
    /// Nobody looked into it: its format is `bytes`.
    pub is_opaque: bool,
    /// The payload: the record's value, or the `data` of a structured CloudEvent. `None` is null.
    pub data: Option<Cow<'a, [u8]>>,
    /// The payload's media type, if known (`content-type`, `datacontenttype`, or the format's).
    pub content_type: Option<Cow<'a, str>>,
    /// The function's key of this event: the record's key unless the source says otherwise.
    pub key: Option<Cow<'a, [u8]>>,
    /// Event time, milliseconds since the epoch; -1 when there is none.
    pub time_ms: i64,
    /// What outputs are named after, where it is not the place of a record: no single event made them.
    pub name: Option<&'a [u8]>,
    json: OnceCell<Result<serde_json::Value, String>>,
}

impl<'a> Event<'a> {
    /// An event of `record` with the record's own value, key and timestamp; decoding fills in the rest.
    #[inline]
    pub fn plain(record: Record<'a>, source: &'a str) -> Self {
        Self {
            record,
            source,
            shape: Shape::Plain,
            is_opaque: true,
            data: record.value.map(Cow::Borrowed),
            content_type: None,
            key: record.key.map(Cow::Borrowed),
            time_ms: record.timestamp_ms,
            name: None,
            json: OnceCell::new(),
        }
    }

    /// The payload's bytes; empty for a null value.
    pub fn data(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }

    /// The payload as JSON, parsed at most once. The error is the parser's message.
    pub fn json(&self) -> Result<&serde_json::Value, &str> {
        self.json
            .get_or_init(|| serde_json::from_slice(self.data()).map_err(|error| error.to_string()))
            .as_ref()
            .map_err(String::as_str)
    }

    /// The CloudEvents attribute `name` as its canonical string (`id`, `source`, `type`,
    /// `specversion`, `time`, `subject`, `datacontenttype`, `dataschema` or an extension).
    ///
    /// An event that came as no CloudEvent has made-up ones: `specversion` 1.0, `id`
    /// `topic/partition/offset`, `source` `/topics/<topic>`, `type` `dev.tidemill.record`, `subject` the key when it is
    /// UTF-8, `time` the event time.
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        if name == "datacontenttype" {
            return self.content_type.as_deref().map(Cow::Borrowed);
        }
        match &self.shape {
            Shape::Plain => self.made_up(name),
            Shape::Binary => self.header_attribute(name),
            Shape::Structured(attributes) => attributes
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| Cow::Borrowed(value.as_str())),
        }
    }

    fn header_attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.record.attribute_header(name)?.value?;
        std::str::from_utf8(value).ok().map(Cow::Borrowed)
    }

    fn made_up(&self, name: &str) -> Option<Cow<'_, str>> {
        let record = &self.record;
        match name {
            "specversion" => Some(Cow::Borrowed("1.0")),
            "id" => Some(Cow::Owned(format!("{}/{}/{}", record.topic, record.partition, record.offset))),
            "source" => Some(Cow::Owned(format!("/topics/{}", record.topic))),
            "type" => Some(Cow::Borrowed("dev.tidemill.record")),
            "subject" => record.key.and_then(|key| std::str::from_utf8(key).ok()).map(Cow::Borrowed),
            "time" if self.time_ms >= 0 => {
                jiff::Timestamp::from_millisecond(self.time_ms).ok().map(|time| Cow::Owned(time.to_string()))
            }
            _ => None,
        }
    }
}
