//! Where the pipeline puts what it wants written.

use crate::model::Header;

/// Which topic an output goes to, as an index, so that nothing is looked up by name per record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The sink at this place in the manifest.
    Sink(usize),
    /// The function's dead-letter topic.
    DeadLetter,
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
