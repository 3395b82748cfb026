//! A record as it lies in a topic, borrowed from whoever read it.

/// One header of a record. Kafka allows a name to come more than once and a value to be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 name.
    pub name: &'a str,
    /// The bytes, or `None` for Kafka's null.
    pub value: Option<&'a [u8]>,
}

/// Headers that are looked at only when somebody asks: librdkafka parses a record's headers on first
/// use, and most bytes-to-bytes functions never do.
pub trait Headers {
    /// The header at `index`, in the record's order; `None` past the end.
    fn get(&self, index: usize) -> Option<Header<'_>>;

    /// The last header called `name`: in Kafka the last one wins (`Headers.lastHeader`).
    fn last(&self, name: &str) -> Option<Header<'_>> {
        let mut found = None;
        let mut index = 0;
        while let Some(header) = self.get(index) {
            if header.name == name {
                found = Some(header);
            }
            index += 1;
        }
        found
    }
}

/// A record without headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHeaders;

impl Headers for NoHeaders {
    fn get(&self, _index: usize) -> Option<Header<'_>> {
        None
    }
}

impl Headers for [Header<'_>] {
    fn get(&self, index: usize) -> Option<Header<'_>> {
        <[Header<'_>]>::get(self, index).copied()
    }
}

impl Headers for Vec<Header<'_>> {
    fn get(&self, index: usize) -> Option<Header<'_>> {
        self.as_slice().get(index).copied()
    }
}

impl Headers for Vec<(String, Option<Vec<u8>>)> {
    fn get(&self, index: usize) -> Option<Header<'_>> {
        let (name, value) = self.as_slice().get(index)?;
        Some(Header { name, value: value.as_deref() })
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
    /// The headers, parsed on demand.
    pub headers: &'a dyn Headers,
}
