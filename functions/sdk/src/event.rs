//! An event that is being handled, by itself or in a window: a view of what the host holds. Headers and attributes are
//! asked for one by one, since most handlers want few of them or none.

use serde::Deserialize;
use tidemill_abi as abi;

use crate::Failure;

/// One event, borrowed for the call.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    raw: &'a abi::Event,
    call: &'a abi::Call,
    /// Its place in the window that the call is about; `None`: the call is about this event.
    place: Option<usize>,
}

/// One header of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name. Kafka allows a name to come more than once.
    pub name: &'a str,
    /// Its bytes, or `None` for Kafka's null.
    pub value: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    pub(crate) fn new(raw: &'a abi::Event, call: &'a abi::Call) -> Self {
        Self { raw, call, place: None }
    }

    pub(crate) fn of_window(raw: &'a abi::Event, call: &'a abi::Call, place: usize) -> Self {
        Self { raw, call, place: Some(place) }
    }

    /// The payload decoded from JSON. Use a type with borrowed fields to save copies.
    ///
    /// # Errors
    /// A reject when it is null or not of this shape.
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, Failure> {
        let Some(data) = self.value() else {
            return Err(Failure::reject("the event's value is null, not JSON"));
        };
        serde_json::from_slice(data)
            .map_err(|error| Failure::reject(format_args!("the event is not the expected JSON: {error}")))
    }

    /// The payload as text; empty for null.
    ///
    /// # Errors
    /// A reject when it is not UTF-8.
    pub fn text(&self) -> Result<&'a str, Failure> {
        std::str::from_utf8(self.data())
            .map_err(|error| Failure::reject(format_args!("the event is not UTF-8 text: {error}")))
    }

    /// The payload's bytes; empty for null.
    pub fn data(&self) -> &'a [u8] {
        self.value().unwrap_or_default()
    }

    /// The payload's bytes; `None` for Kafka's null, which deletes a key on a compacted topic.
    pub fn value(&self) -> Option<&'a [u8]> {
        bytes(self.raw.data)
    }

    /// The function's key of this event: the record's key unless the manifest says otherwise.
    pub fn key(&self) -> Option<&'a [u8]> {
        bytes(self.raw.key)
    }

    /// The key as text; `None` when there is none or it is not UTF-8.
    pub fn key_str(&self) -> Option<&'a str> {
        text(self.raw.key)
    }

    /// The payload's media type, when it is known.
    pub fn content_type(&self) -> Option<&'a str> {
        text(self.raw.content_type)
    }

    /// A CloudEvents attribute: `id`, `source`, `type`, `subject`, `time`, an extension … An event
    /// that came as no CloudEvent has ones made up from topic, key and time.
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        let mut out = abi::Slice::ABSENT;
        let (host, context) = (self.call.host, self.call.context);
        let name = abi::Slice::of(name.as_bytes());
        // SAFETY: the contract: a call's host table is valid while the call lasts, and has the callbacks for windows if the
        // call is about one; each takes its own context and fills in `out`. No reference to the table is made: an older
        // host's is shorter.
        let found = unsafe {
            match self.place {
                None => ((*host).attribute)(context, name, &mut out),
                Some(place) => ((*host).window_attribute)(context, place, name, &mut out),
            }
        };
        if found == abi::FOUND { text(out) } else { None }
    }

    /// The value of the last header called `name`, which is the one that counts in Kafka. `None` when
    /// there is none or its value is null.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().filter(|header| header.name == name).last()?.value
    }

    /// The headers, in the record's order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let event = *self;
        (0..).map_while(move |index| event.header_at(index))
    }

    /// The source's name in the manifest.
    pub fn source(&self) -> &'a str {
        text(self.raw.source).unwrap_or_default()
    }

    /// The topic it was read from.
    pub fn topic(&self) -> &'a str {
        text(self.raw.topic).unwrap_or_default()
    }

    /// The partition it was read from.
    pub fn partition(&self) -> i32 {
        self.raw.partition
    }

    /// Its offset. Offsets grow, with gaps.
    pub fn offset(&self) -> i64 {
        self.raw.offset
    }

    /// Event time as the manifest defines it, milliseconds since the epoch; `None` when it has none.
    pub fn time_ms(&self) -> Option<i64> {
        (self.raw.time_ms >= 0).then_some(self.raw.time_ms)
    }

    /// Kafka's timestamp of the record, milliseconds since the epoch; `None` when it has none.
    pub fn timestamp_ms(&self) -> Option<i64> {
        (self.raw.timestamp_ms >= 0).then_some(self.raw.timestamp_ms)
    }

    fn header_at(&self, index: usize) -> Option<Header<'a>> {
        let mut out = abi::Header { name: abi::Slice::ABSENT, value: abi::Slice::ABSENT };
        let (host, context) = (self.call.host, self.call.context);
        // SAFETY: as in `attribute`.
        let found = unsafe {
            match self.place {
                None => ((*host).header)(context, index, &mut out),
                Some(place) => ((*host).window_header)(context, place, index, &mut out),
            }
        };
        (found == abi::FOUND)
            .then(|| Header { name: text(out.name).unwrap_or_default(), value: bytes(out.value) })
    }
}

/// The bytes of a slice that the host passed in.
pub(crate) fn bytes<'a>(slice: abi::Slice) -> Option<&'a [u8]> {
    // SAFETY: the contract: what the host passes in is valid until the call ends, and the views that
    // call this have the lifetime of the call.
    unsafe { slice.bytes() }
}

/// The text of a slice that the host passed in; `None` when absent or not UTF-8.
pub(crate) fn text<'a>(slice: abi::Slice) -> Option<&'a str> {
    std::str::from_utf8(bytes(slice)?).ok()
}
