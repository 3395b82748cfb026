//! A record as it lies in a topic, borrowed from whoever read it.

use std::sync::Arc;

use super::headers::HeaderBuffer;

/// One header of a record. Kafka allows a name to come more than once and a value to be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 name.
    pub name: &'a str,
    /// The bytes, or `None` for Kafka's null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, listed when somebody asks: librdkafka parses them on demand, and for a record that is
/// only copied that is a tenth of the work, even if there are none.
pub trait Headers {
    /// All of them, in the record's order.
    fn list(&self) -> &[Header<'_>];
}

impl Headers for Vec<Header<'_>> {
    fn list(&self) -> &[Header<'_>] {
        self
    }
}

/// A record without headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn list(&self) -> &[Header<'_>] {
        &[]
    }
}

/// Headers that somebody owns, as a record lends them.
pub fn lend_headers(owned: &[(String, Option<Vec<u8>>)]) -> Vec<Header<'_>> {
    owned.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect()
}

/// A copy of headers, to keep.
pub fn own_headers(lent: &[Header<'_>]) -> Vec<(String, Option<Vec<u8>>)> {
    lent.iter().map(|header| (header.name.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}

/// A copy of a record, to keep: all its bytes in one place, whose memory goes from record to record.
#[derive(Debug, Clone, Default)]
pub struct OwnedRecord {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    bytes: Vec<u8>,
    key: Option<Span>,
    value: Option<Span>,
    headers: Vec<(Span, Option<Span>)>,
}

type Span = (u32, u32);

impl OwnedRecord {
    /// Becomes a copy of `record`, whose topic is `topic`.
    pub fn copy(&mut self, record: &Record<'_>, topic: &Arc<str>) {
        self.topic = Arc::clone(topic);
        (self.partition, self.offset, self.timestamp_ms) =
            (record.partition, record.offset, record.timestamp_ms);
        self.bytes.clear();
        self.headers.clear();
        self.key = record.key.map(|key| self.keep(key));
        self.value = record.value.map(|value| self.keep(value));
        for header in record.headers() {
            let name = self.keep(header.name.as_bytes());
            let value = header.value.map(|value| self.keep(value));
            self.headers.push((name, value));
        }
    }

    /// How much memory the copy takes, in bytes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.headers.len() * size_of::<(Span, Option<Span>)>()
    }

    /// Shows it to `act`; `headers` is where they are listed.
    pub fn lend<R>(&self, headers: &mut HeaderBuffer, act: impl FnOnce(&Record<'_>) -> R) -> R {
        let mut list = headers.lend();
        list.extend(self.headers.iter().map(|(name, value)| Header {
            name: std::str::from_utf8(self.bytes(*name)).expect("a name is kept as text"),
            value: value.map(|value| self.bytes(value)),
        }));
        let result = act(&Record {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.map(|key| self.bytes(key)),
            value: self.value.map(|value| self.bytes(value)),
            headers: &list,
        });
        headers.put_back(list);
        result
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        // A record is smaller than the broker's largest request, which is counted in 31 bits.
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        (start, self.bytes.len() as u32)
    }

    fn bytes(&self, (start, end): Span) -> &[u8] {
        &self.bytes[start as usize..end as usize]
    }
}

/// One record of one partition.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The topic it was read from.
    pub topic: &'a str,
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset. Offsets have gaps: transaction markers, aborted and compacted records.
    pub offset: i64,
    /// Kafka's timestamp, milliseconds since the epoch; -1 when the record has none.
    pub timestamp_ms: i64,
    /// The key; `None` is Kafka's null, which is not the empty key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is Kafka's null (a tombstone on a compacted topic).
    pub value: Option<&'a [u8]>,
    /// The headers: see [`Record::headers`].
    pub headers: &'a dyn Headers,
}

impl<'a> Record<'a> {
    /// The headers, in order.
    pub fn headers(&self) -> &'a [Header<'a>] {
        self.headers.list()
    }

    /// The last header `ce_<name>`: a CloudEvents attribute in binary mode.
    pub fn attribute_header(&self, name: &str) -> Option<&'a Header<'a>> {
        self.headers().iter().rev().find(|header| header.name.strip_prefix("ce_") == Some(name))
    }

    /// The last header called `name`: in Kafka the last one wins (`Headers.lastHeader`).
    pub fn header(&self, name: &str) -> Option<&'a Header<'a>> {
        self.headers().iter().rev().find(|header| header.name == name)
    }
}
