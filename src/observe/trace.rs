//! Spans: what a call or a cut looks like in a trace, and the bounded queue to whoever exports them.
//!
//! Contexts are W3C's (<https://www.w3.org/TR/trace-context/>). Pipelines make spans of calls, workers hand them over
//! when their cut has ended, the runtime exports them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use metrics::Counter;

/// Spans that may wait to be exported.
const MOST_WAITING: usize = 65_536;
/// Cuts whose spans may wait to be exported.
const MOST_BATCHES: usize = 1024;

/// A place in a trace: a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not all zero.
    pub trace_id: [u8; 16],
    /// The span; not all zero.
    pub span_id: [u8; 8],
    /// Bit 0: sampled; bit 1: the trace's id is random.
    pub flags: u8,
}

impl TraceParent {
    /// The length of what [`Self::render`] gives.
    pub const LEN: usize = 55;
    const SAMPLED: u8 = 1;

    /// Reads a `traceparent` of version 00, or the part of a later version that is as in 00 (section 4.3).
    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_of_length = match text.get(..2)? {
            b"00" => text.len() == Self::LEN,
            _ => text.len() == Self::LEN || text.get(Self::LEN) == Some(&b'-'),
        };
        let [version] = hex(text.get(..2)?)?;
        let has_dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
        if !is_of_length || !has_dashes || version == 0xff {
            return None;
        }
        let (trace_id, span_id) = (hex(text.get(3..35)?)?, hex(text.get(36..52)?)?);
        let [flags] = hex(text.get(53..55)?)?;
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id, span_id, flags })
    }

    /// As the value of a `traceparent`, version 00.
    pub fn render(&self) -> [u8; Self::LEN] {
        let mut text = [b'-'; Self::LEN];
        put_hex(&mut text[..2], &[0]);
        put_hex(&mut text[3..35], &self.trace_id);
        put_hex(&mut text[36..52], &self.span_id);
        put_hex(&mut text[53..], &[self.flags & 3]);
        text
    }

    /// Whoever came before has sampled it.
    pub fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// A sampled span of this trace.
    pub fn child(&self, span_id: [u8; 8]) -> Self {
        Self { span_id, flags: self.flags | Self::SAMPLED, ..*self }
    }

    /// A sampled span of a trace that begins with it.
    pub fn root(trace_id: [u8; 16], span_id: [u8; 8]) -> Self {
        Self { trace_id, span_id, flags: Self::SAMPLED }
    }
}

/// Lower-case digits only (section 3.2.2).
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn put_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// One pass of an event that was called or went through.
#[derive(Debug, Clone, PartialEq)]
pub struct CallSpan {
    /// The span itself.
    pub context: TraceParent,
    /// The span before it, of whoever wrote the record.
    pub parent: Option<[u8; 8]>,
    /// The trace's `tracestate`, if it came with one.
    pub state: String,
    /// Where its record stands.
    pub topic: String,
    /// Where its record stands.
    pub partition: i32,
    /// Where its record stands.
    pub offset: i64,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// How it ended, in a word.
    pub outcome: &'static str,
    /// Why it failed, in a word, if it did.
    pub error: Option<&'static str>,
    /// Nanoseconds since the epoch.
    pub begin_ns: u64,
    /// Nanoseconds since the epoch.
    pub end_ns: u64,
    /// Nothing became of it, whatever becomes of the cut: it was begun before an abort.
    pub is_stale: bool,
}

/// A cut that held sampled events.
#[derive(Debug, Clone, PartialEq)]
pub struct CutSpan {
    /// The span itself.
    pub context: TraceParent,
    /// It committed; else it was aborted.
    pub is_committed: bool,
    /// Records that it finished.
    pub records: u64,
    /// Records that it wrote to sinks.
    pub outputs: u64,
    /// Nanoseconds since the epoch.
    pub begin_ns: u64,
    /// Nanoseconds since the epoch.
    pub end_ns: u64,
}

/// The spans of one cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// `<namespace>/<name>`.
    pub function: Arc<str>,
    /// Its consumer group.
    pub group: Arc<str>,
    /// The cut.
    pub cut: CutSpan,
    /// Its calls.
    pub calls: Vec<CallSpan>,
}

/// What traces cost where they are made: how many, and the way out. Clones share it.
#[derive(Clone)]
pub struct Tracing {
    /// The share of events without a context that are sampled, above 0 and up to 1.
    pub ratio: f64,
    /// Where spans go.
    pub spans: SpanQueue,
}

/// The way of spans to whoever exports them: bounded, and never waited for.
#[derive(Clone)]
pub struct SpanQueue {
    sender: SyncSender<Batch>,
    waiting: Arc<AtomicUsize>,
    dropped: Counter,
}

/// The other end of a [`SpanQueue`].
pub struct SpanSource {
    receiver: Receiver<Batch>,
    waiting: Arc<AtomicUsize>,
}

/// A queue; what does not fit in it is dropped and counted as `dropped`.
pub fn span_queue(dropped: Counter) -> (SpanQueue, SpanSource) {
    let (sender, receiver) = sync_channel(MOST_BATCHES);
    let waiting = Arc::new(AtomicUsize::new(0));
    (SpanQueue { sender, waiting: Arc::clone(&waiting), dropped }, SpanSource { receiver, waiting })
}

impl SpanQueue {
    /// Hands over the spans of a cut.
    pub fn push(&self, batch: Batch) {
        let spans = batch.calls.len() + 1;
        let before = self.waiting.fetch_add(spans, Ordering::Relaxed);
        if before + spans > MOST_WAITING || self.sender.try_send(batch).is_err() {
            self.waiting.fetch_sub(spans, Ordering::Relaxed);
            self.drop_spans(spans);
        }
    }

    /// Counts spans that were dropped before they came here.
    pub fn drop_spans(&self, spans: usize) {
        self.dropped.increment(spans as u64);
    }
}

impl SpanSource {
    /// The spans of a cut; `None`: none came in time.
    pub fn take(&self, wait: Duration) -> Option<Batch> {
        match self.receiver.recv_timeout(wait) {
            Ok(batch) => {
                self.waiting.fetch_sub(batch.calls.len() + 1, Ordering::Relaxed);
                Some(batch)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Exposition;
    use super::super::metrics::Id;
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_says() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = TraceParent::parse(valid.as_bytes()).unwrap();
        assert_eq!((read.trace_id[0], read.span_id[7], read.is_sampled()), (0x0a, 0x31, true));
        assert_eq!(read.render().as_slice(), valid.as_bytes());
        for (text, is_valid) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", false),
            ("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("", false),
        ] {
            assert_eq!(TraceParent::parse(text.as_bytes()).is_some(), is_valid, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let exposition = Exposition::new();
        let (queue, source) = span_queue(exposition.counter(Id::ProcessDroppedSpans, &[]));
        let context = TraceParent::root([1; 16], [2; 8]);
        let cut = CutSpan { context, is_committed: true, records: 1, outputs: 1, begin_ns: 1, end_ns: 2 };
        let batch = Batch { function: "f".into(), group: "g".into(), cut, calls: Vec::new() };
        for _ in 0..MOST_BATCHES + 3 {
            queue.push(batch.clone());
        }
        let dropped = || {
            let text = exposition.render(&super::super::Status::default());
            super::super::checker::samples(&text)["tidemill_process_dropped_spans_total"]
        };
        assert_eq!(dropped(), 3.0);
        assert_eq!(source.take(Duration::ZERO), Some(batch.clone()));
        queue.push(batch);
        assert_eq!(dropped(), 3.0, "there is room again");
    }
}
