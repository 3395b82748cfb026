//! Where the pipeline puts what it wants written.

use std::ops::Range;

use crate::model::{Header, HeaderBuffer};

/// Which topic an output goes to, as an index, so that nothing is looked up by name per record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The sink at this place in the manifest.
    Sink(usize),
    /// The function's dead-letter topic.
    DeadLetter,
    /// Its topic for late events.
    Late,
    /// Its stitch topic, to the partition of the key.
    Stitch,
}

/// One encoded output, borrowed: whoever takes it copies what it needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutRecord<'a> {
    /// Where it goes.
    pub target: Target,
    /// Kafka key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Kafka value; `None` is null.
    pub value: Option<&'a [u8]>,
    /// Kafka headers, in order.
    pub headers: &'a [Header<'a>],
    /// Kafka timestamp, milliseconds since the epoch; `None`: the time of writing.
    pub timestamp_ms: Option<i64>,
}

/// Takes outputs: the worker's producer, or a list in a test.
pub trait Writer {
    /// Takes one output. Errors surface at the cut: a write is only done when its cut is.
    fn write(&mut self, out: &OutRecord<'_>);
}

/// Outputs that wait for the worker that writes them: all bytes in one place, whose memory is used again.
#[derive(Debug, Default)]
pub struct Written {
    bytes: Vec<u8>,
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
    records: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    target: Target,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
    timestamp_ms: Option<i64>,
}

impl Written {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.headers.clear();
        self.records.clear();
    }

    /// Writes everything to `writer`, in order.
    pub fn write_to<W: Writer>(&self, buffer: &mut HeaderBuffer, writer: &mut W) {
        let bytes = |range: &Range<usize>| &self.bytes[range.clone()];
        for kept in &self.records {
            let mut headers = buffer.lend();
            headers.extend(self.headers[kept.headers.clone()].iter().map(|(name, value)| Header {
                name: std::str::from_utf8(bytes(name)).expect("a name is kept as text"),
                value: value.as_ref().map(bytes),
            }));
            writer.write(&OutRecord {
                target: kept.target,
                key: kept.key.as_ref().map(bytes),
                value: kept.value.as_ref().map(bytes),
                headers: &headers,
                timestamp_ms: kept.timestamp_ms,
            });
            buffer.put_back(headers);
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}

impl Writer for Written {
    fn write(&mut self, out: &OutRecord<'_>) {
        let key = out.key.map(|key| self.keep(key));
        let value = out.value.map(|value| self.keep(value));
        let first = self.headers.len();
        for header in out.headers {
            let name = self.keep(header.name.as_bytes());
            let value = header.value.map(|value| self.keep(value));
            self.headers.push((name, value));
        }
        let headers = first..self.headers.len();
        let (target, timestamp_ms) = (out.target, out.timestamp_ms);
        self.records.push(Kept { target, key, value, headers, timestamp_ms });
    }
}
