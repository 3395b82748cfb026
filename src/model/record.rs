//! A record as it lies in a topic, borrowed from whoever read it.

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
