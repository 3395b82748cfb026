//! Sampling: which events become spans, and the span that is under way. A pipeline without a sampler knows nothing of
//! traces but to carry on what came.

use std::sync::Arc;

use super::emit::Trace;
use super::process::{Pass, Settled};
use crate::model::{Clock, Dice, Event, Moment};
use crate::observe::trace::{CallSpan, TraceParent};

/// Spans that a pipeline keeps between two cuts.
const MOST_KEPT: usize = 4096;

/// Decides, and keeps what it began.
pub struct Sampler {
    dice: Dice,
    /// A root is sampled when the dice give no more than this.
    limit: u64,
    clock: Arc<dyn Clock>,
    /// The wall clock's time when the monotonic one stood at 0.
    origin_ns: i64,
    active: Option<Active>,
    finished: Vec<CallSpan>,
    dropped: usize,
}

/// The span of the event that is on its way through the pipeline.
struct Active {
    context: TraceParent,
    text: [u8; TraceParent::LEN],
    parent: Option<[u8; 8]>,
    state: String,
    begin_ns: u64,
}

impl Sampler {
    /// Samples events that come in a sampled trace, and this share of those that come in none; `dice` make the ids.
    pub fn new(ratio: f64, clock: Arc<dyn Clock>, dice: Dice) -> Self {
        Self {
            dice,
            // Exact at both ends: a cast from a float saturates.
            limit: (ratio * u64::MAX as f64) as u64,
            clock,
            origin_ns: 0,
            active: None,
            finished: Vec::new(),
            dropped: 0,
        }
    }

    /// Decides about an event that is called or passed on now; `is_listed`: its headers are looked at anyway.
    #[inline]
    pub(super) fn begin(&mut self, event: &Event<'_>, is_listed: bool) {
        let trace = if is_listed { Trace::read(event) } else { Trace::default() };
        let parent = trace.parent();
        let is_sampled = match &parent {
            Some((parent, _)) => parent.is_sampled(),
            None => self.dice.bits() <= self.limit,
        };
        if is_sampled {
            self.start(parent);
        }
    }

    #[cold]
    fn start(&mut self, parent: Option<(TraceParent, Option<&[u8]>)>) {
        let span_id = self.id();
        let (context, state) = match parent {
            Some((parent, state)) => (parent.child(span_id), state),
            None => {
                let mut trace_id = [0; 16];
                trace_id[..8].copy_from_slice(&self.id());
                trace_id[8..].copy_from_slice(&self.id());
                (TraceParent::root(trace_id, span_id), None)
            }
        };
        self.active = Some(Active {
            context,
            text: context.render(),
            parent: parent.map(|(parent, _)| parent.span_id),
            state: state.map(|state| String::from_utf8_lossy(state).into_owned()).unwrap_or_default(),
            begin_ns: self.now_ns(),
        });
    }

    /// The `traceparent` of the event that is under way, if it is sampled.
    pub(super) fn active(&self) -> Option<&[u8]> {
        self.active.as_ref().map(|active| active.text.as_slice())
    }

    /// The same, if that event came in a trace.
    pub(super) fn active_child(&self) -> Option<&[u8]> {
        self.active.as_ref().filter(|active| active.parent.is_some()).map(|active| active.text.as_slice())
    }

    /// The event's way ended so.
    #[inline]
    pub(super) fn end(&mut self, pass: &Pass<'_>, settled: &Settled) {
        if let Some(active) = self.active.take() {
            self.finish(active, pass, settled);
        }
    }

    #[cold]
    fn finish(&mut self, active: Active, pass: &Pass<'_>, settled: &Settled) {
        if self.finished.len() == MOST_KEPT {
            self.dropped += 1;
            return;
        }
        let failed = |is_panic: bool| if is_panic { "panic" } else { "retry" };
        let (outcome, error) = match settled {
            Settled::Ok { .. } => ("ok", None),
            Settled::Skipped => ("skipped", None),
            Settled::Filtered => ("filtered", None),
            Settled::DeadLetter { reason, .. } => ("dead-letter", Some(reason.as_str())),
            Settled::Retry { is_panic, .. } => ("retry", Some(failed(*is_panic))),
            Settled::Stop { is_panic, .. } => ("stop", Some(failed(*is_panic))),
        };
        let Active { context, parent, state, begin_ns, .. } = active;
        let end_ns = self.now_ns().max(begin_ns);
        self.finished.push(CallSpan {
            context,
            parent,
            state,
            topic: pass.record.topic.to_owned(),
            partition: pass.record.partition,
            offset: pass.record.offset,
            attempt: pass.failed + 1,
            outcome,
            error,
            begin_ns,
            end_ns,
            is_stale: false,
        });
    }

    /// Moves the spans that ended since the last time to `list`; how many were too many to keep.
    pub(super) fn take(&mut self, list: &mut Vec<CallSpan>) -> usize {
        list.append(&mut self.finished);
        std::mem::take(&mut self.dropped)
    }

    /// Random, and not zero.
    fn id(&mut self) -> [u8; 8] {
        self.dice.bits().max(1).to_be_bytes()
    }

    /// Nanoseconds since the epoch: the wall clock has milliseconds, the monotonic one tells what lies between.
    fn now_ns(&mut self) -> u64 {
        const MS: i64 = 1_000_000;
        let Moment { wall_ms, elapsed } = self.clock.now();
        let elapsed_ns = elapsed.as_nanos() as i64;
        let (wall_ns, reckoned_ns) = (wall_ms * MS, self.origin_ns + elapsed_ns);
        if (reckoned_ns - wall_ns).abs() > 2 * MS {
            self.origin_ns = wall_ns - elapsed_ns;
        }
        (self.origin_ns + elapsed_ns).max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Header, ManualClock, Record, Shape};

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

    fn sampler(ratio: f64) -> (Sampler, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        (Sampler::new(ratio, Arc::clone(&clock) as Arc<dyn Clock>, Dice::new(5)), clock)
    }

    fn with_record<R>(headers: &[(&str, &str)], act: impl FnOnce(&Record<'_>) -> R) -> R {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| Header { name, value: Some(value.as_bytes()) }).collect();
        act(&Record {
            topic: "rides",
            partition: 3,
            offset: 42,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: &headers,
        })
    }

    /// The span of an event with these headers, if it is sampled.
    fn span(sampler: &mut Sampler, headers: &[(&str, &str)], is_listed: bool) -> Option<CallSpan> {
        let now = Moment { wall_ms: 0, elapsed: Duration::ZERO };
        with_record(headers, |record| {
            let mut event = Event::plain(*record, "ride");
            if headers.iter().any(|(name, _)| name.starts_with("ce_")) {
                event.shape = Shape::Binary;
            }
            sampler.begin(&event, is_listed);
            let pass = Pass { source: 0, record, failed: 1, is_probe: false, now };
            sampler.end(&pass, &Settled::Skipped);
        });
        let mut spans = Vec::new();
        sampler.take(&mut spans);
        spans.pop()
    }

    #[test]
    fn who_came_before_decides_and_else_chance() {
        let (sampled, not) = (format!("{PARENT}-01"), format!("{PARENT}-00"));
        let later = format!("{PARENT}-03");
        let invalid = "00-0-0-01";
        // Ratio, headers, whether they are looked at: whether there is a span, and whether it has a parent.
        for (ratio, headers, is_listed, expected) in [
            (1.0, vec![], true, Some(false)),
            (1.0, vec![("traceparent", sampled.as_str())], true, Some(true)),
            (1.0, vec![("traceparent", later.as_str())], true, Some(true)),
            (1.0, vec![("traceparent", not.as_str())], true, None),
            (1.0, vec![("traceparent", invalid)], true, Some(false)),
            (1.0, vec![("ce_traceparent", sampled.as_str())], true, Some(true)),
            (1.0, vec![("ce_traceparent", not.as_str())], true, None),
            (1.0, vec![("traceparent", not.as_str()), ("ce_traceparent", sampled.as_str())], true, None),
            (1.0, vec![("traceparent", invalid), ("ce_traceparent", sampled.as_str())], true, Some(true)),
            (1.0, vec![("traceparent", not.as_str())], false, Some(false)),
            (1e-18, vec![], true, None),
            (1e-18, vec![("traceparent", sampled.as_str())], true, Some(true)),
            (1e-18, vec![("traceparent", sampled.as_str())], false, None),
            (1e-18, vec![("traceparent", invalid)], true, None),
        ] {
            let found = span(&mut sampler(ratio).0, &headers, is_listed);
            assert_eq!(found.map(|span| span.parent.is_some()), expected, "{ratio} {headers:?}");
        }
    }

    #[test]
    fn a_child_is_of_its_parents_trace_and_a_root_of_its_own() {
        let (mut sampler, _) = sampler(1.0);
        let sampled = format!("{PARENT}-01");
        let child = span(&mut sampler, &[("traceparent", &sampled), ("tracestate", "a=1")], true).unwrap();
        let parent = TraceParent::parse(sampled.as_bytes()).unwrap();
        assert_eq!((child.context.trace_id, child.parent), (parent.trace_id, Some(parent.span_id)));
        assert_ne!(child.context.span_id, parent.span_id);
        assert_eq!((child.state.as_str(), child.attempt, child.offset), ("a=1", 2, 42));
        let (first, second) =
            (span(&mut sampler, &[], true).unwrap(), span(&mut sampler, &[], true).unwrap());
        assert_ne!(first.context.trace_id, second.context.trace_id);
        assert!(first.context.is_sampled());
    }

    #[test]
    fn so_many_are_sampled_as_the_ratio_says() {
        let (mut sampler, _) = sampler(0.01);
        let sampled = (0..100_000).filter(|_| span(&mut sampler, &[], true).is_some()).count();
        assert!((800..1200).contains(&sampled), "{sampled}");
    }

    #[test]
    fn spans_are_timed_finer_than_the_wall_clock() {
        let (mut sampler, clock) = sampler(1.0);
        clock.advance(Duration::from_micros(2_750));
        assert_eq!(sampler.now_ns(), 1_700_000_000_002_000_000, "the first look sets the clock");
        clock.advance(Duration::from_micros(3));
        assert_eq!(sampler.now_ns(), 1_700_000_000_002_003_000);
    }

    #[test]
    fn what_is_too_much_to_keep_is_counted() {
        let (mut sampler, _) = sampler(1.0);
        let now = Moment { wall_ms: 0, elapsed: Duration::ZERO };
        for _ in 0..MOST_KEPT + 2 {
            with_record(&[], |record| {
                sampler.begin(&Event::plain(*record, "ride"), true);
                let pass = Pass { source: 0, record, failed: 0, is_probe: false, now };
                sampler.end(&pass, &Settled::Skipped);
            });
        }
        let mut spans = Vec::new();
        assert_eq!((sampler.take(&mut spans), spans.len()), (2, MOST_KEPT));
    }
}
