//! Spans of calls wait here for the end of their cut, and go out with the cut's own span, which links them.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::model::{Dice, Function};
use crate::observe::trace::{Batch, CallSpan, CutSpan, SpanQueue, TraceParent};

/// Spans that wait for the end of a cut; there are more only of handler threads.
const MOST_KEPT: usize = 4096;

/// What a worker keeps for traces.
pub struct Spans {
    queue: SpanQueue,
    function: Arc<str>,
    group: Arc<str>,
    /// Of calls since the last cut.
    calls: Vec<CallSpan>,
    dice: Dice,
}

impl Spans {
    /// None yet.
    pub fn new(queue: SpanQueue, function: &Function) -> Self {
        Self {
            queue,
            function: function.name.to_string().into(),
            group: function.group.as_str().into(),
            calls: Vec::new(),
            dice: Dice::random(),
        }
    }

    /// Keeps that of a call of a handler thread; `is_stale`: nothing became of it.
    pub fn keep(&mut self, span: CallSpan, is_stale: bool) {
        if self.calls.len() < MOST_KEPT {
            self.calls.push(CallSpan { is_stale, ..span });
        } else {
            self.queue.drop_spans(1);
        }
    }
}

impl Worker {
    /// A cut ended, `committed` or not: hands over the spans of its calls. To be called before what was counted since
    /// the last cut is published or dropped.
    pub(super) fn trace_cut(&mut self, took: Duration, is_committed: bool) {
        let Some(spans) = &mut self.spans else { return };
        let dropped = self.pipeline.take_spans(&mut spans.calls);
        spans.queue.drop_spans(dropped);
        if spans.calls.is_empty() {
            return;
        }
        let (records, outputs) = self.meter.uncommitted();
        let end_ns = self.config.clock.now().wall_ms.max(0) as u64 * 1_000_000;
        let mut id = || spans.dice.bits().max(1).to_be_bytes();
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&id());
        trace_id[8..].copy_from_slice(&id());
        let cut = CutSpan {
            context: TraceParent::root(trace_id, id()),
            is_committed,
            records,
            outputs,
            begin_ns: end_ns.saturating_sub(took.as_nanos() as u64),
            end_ns,
        };
        spans.queue.push(Batch {
            function: Arc::clone(&spans.function),
            group: Arc::clone(&spans.group),
            cut,
            calls: std::mem::take(&mut spans.calls),
        });
    }
}
