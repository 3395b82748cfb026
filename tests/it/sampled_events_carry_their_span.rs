//! What a sampled event's outputs and dead letter carry of its trace: its own span, in the places where the context
//! stood; and that nothing changes for an event that is not sampled.

use std::sync::Arc;
use std::time::Duration;

use tidemill::model::{Clock, Dice, Format, Function, ManualClock, Moment, Outbox, Outcome, Sink};
use tidemill::observe::trace::{CallSpan, TraceParent};
use tidemill::pipeline::{Call, Handler, Pass, Pipeline, Sampler, Target};

use crate::scene::{Recorder, Stored, Written, emit, function, sink, source, structured_sink};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const NOW: Moment = Moment { wall_ms: 1_700_000_000_500, elapsed: Duration::ZERO };

/// Emits one output, or rejects what says `bad`.
struct Emits(Arc<ManualClock>);

impl Handler for Emits {
    fn call(&mut self, call: &Call<'_>, outbox: &mut Outbox) -> Outcome {
        self.0.advance(Duration::from_micros(7));
        if call.event.data() == b"bad" {
            let kind = tidemill::model::FailureKind::Reject { code: None };
            return Outcome::Failed(tidemill::model::Failure { kind, message: "bad".to_owned() });
        }
        assert!(outbox.push(&emit(b"{}")));
        Outcome::Ok
    }

    fn take_counts(&mut self, _: &mut dyn FnMut(&str, u64)) {}
}

fn run(function: Function, has_handler: bool, stored: &Stored, ratio: f64) -> (Vec<CallSpan>, Vec<Written>) {
    let clock = Arc::new(ManualClock::at(NOW.wall_ms));
    let handler = has_handler.then(|| Box::new(Emits(Arc::clone(&clock))) as Box<dyn Handler>);
    let sampler = Sampler::new(ratio, Arc::clone(&clock) as Arc<dyn Clock>, Dice::new(7));
    let sampler = Some(sampler).filter(|_| ratio > 0.0);
    let mut pipeline = Pipeline::new(Arc::new(function), handler).with_sampler(sampler);
    let (record, mut writer, mut spans) = (stored.record(), Recorder::default(), Vec::new());
    let pass = Pass { source: 0, record: &record, failed: 0, is_probe: false, now: NOW };
    pipeline.process(&pass, &mut writer);
    assert_eq!(pipeline.take_spans(&mut spans), 0);
    (spans, writer.0)
}

fn binary(name: &str) -> Sink {
    sink(name, Format::CloudEvents)
}

fn document(traceparent: Option<&str>) -> Stored {
    let more = traceparent.map(|text| format!(r#","traceparent":"{text}""#)).unwrap_or_default();
    Stored::structured(format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{more}}}"#))
}

/// What a written record has in header and attribute: the span, what came in, or nothing.
fn places(written: &Written, span: &CallSpan) -> [&'static str; 2] {
    let own = span.context.render();
    let word = |value: Option<&str>| match value {
        None => "-",
        Some(text) if text.as_bytes() == own => "span",
        Some(SAMPLED) => "parent",
        Some(other) => panic!("{other}"),
    };
    let document: serde_json::Value =
        serde_json::from_slice(written.value.as_deref().unwrap_or_default()).unwrap_or_default();
    let attribute = written.header("ce_traceparent").or(document["traceparent"].as_str());
    [word(written.header("traceparent")), word(attribute)]
}

#[test]
fn the_span_stands_where_the_context_stood() {
    let none = Stored::new("{}");
    let by_header = Stored::new("{}").header("traceparent", SAMPLED).header("tracestate", "a=1");
    let by_attribute = Stored::binary("{}").header("ce_traceparent", SAMPLED);
    let by_both = Stored::binary("{}").header("traceparent", SAMPLED).header("ce_traceparent", SAMPLED);
    let binary_none = Stored::binary("{}");
    let (by_document, document_none) = (document(Some(SAMPLED)), document(None));
    let invalid = Stored::new("{}").header("traceparent", "00-0-0-01").header("tracestate", "a=1");
    // What comes in, to a plain, a binary and a structured sink: of a handler's output, and passed through.
    for (input, handled, passed) in [
        (&none, ["span -", "span span", "span span"], ["span -", "span span", "span span"]),
        (&by_header, ["span -", "span -", "span -"], ["span -", "span -", "span -"]),
        (&by_attribute, ["span -", "- span", "- span"], ["span span", "- span", "- span"]),
        (&by_both, ["span -", "span span", "span span"], ["span span", "span span", "span span"]),
        (&binary_none, ["span -", "span span", "span span"], ["span span", "span span", "span span"]),
        // A document that is written as it came keeps what it says; the header goes first.
        (&by_document, ["span -", "- span", "- span"], ["span parent", "- span", "span parent"]),
        (&document_none, ["span -", "span span", "span span"], ["span -", "span span", "span -"]),
        (&invalid, ["span -", "span -", "span -"], ["span -", "span -", "span -"]),
    ] {
        for (has_handler, expected) in [(true, handled), (false, passed)] {
            let sinks = vec![sink("plain", Format::Auto), binary("binary"), structured_sink("structured")];
            let (spans, written) = run(function(sinks), has_handler, input, 1.0);
            let [span] = &spans[..] else { panic!("{spans:?}") };
            let found: Vec<_> = written.iter().map(|written| places(written, span).join(" ")).collect();
            assert_eq!(found, expected, "handler: {has_handler}, {:?}", input.headers);
            let has_parent = [&by_header, &by_attribute, &by_both, &by_document]
                .iter()
                .any(|traced| std::ptr::eq(*traced, input));
            let parent = TraceParent::parse(SAMPLED.as_bytes()).filter(|_| has_parent);
            assert_eq!(span.parent, parent.map(|parent| parent.span_id));
            assert!(parent.is_none_or(|parent| parent.trace_id == span.context.trace_id));
        }
    }
}

#[test]
fn the_state_goes_on_with_its_trace_and_not_with_another() {
    let carried = |state_of: &str| {
        let input = Stored::new("{}").header("traceparent", state_of).header("tracestate", "a=1");
        let (_, written) = run(function(vec![sink("out", Format::Auto)]), true, &input, 1.0);
        written[0].header("tracestate").map(str::to_owned)
    };
    assert_eq!(carried(SAMPLED).as_deref(), Some("a=1"));
    assert_eq!(carried("00-0-0-01"), None);
}

#[test]
fn what_is_not_sampled_goes_on_as_it_came() {
    let sinks = || vec![sink("plain", Format::Auto), binary("binary"), structured_sink("structured")];
    let untraced = [Stored::new("{}"), Stored::binary("{}"), document(None)];
    for headers in [NOT_SAMPLED, "00-0-0-01"] {
        for input in untraced.clone().map(|input| input.header("traceparent", headers)) {
            for has_handler in [true, false] {
                // So rare that no event of this test is chosen.
                let (spans, written) = run(function(sinks()), has_handler, &input, 1e-18);
                let (_, without) = run(function(sinks()), has_handler, &input, 0.0);
                assert_eq!((spans.len(), written), (0, without));
            }
        }
    }
}

#[test]
fn a_source_of_bytes_begins_traces_and_does_not_look_for_them() {
    let mut function = function(vec![sink("out", Format::Bytes)]);
    function.sources = vec![source(Format::Bytes)];
    for (input, has_handler, parent) in [
        (Stored::new("x").header("traceparent", SAMPLED), true, false),
        (Stored::new("x").header("traceparent", NOT_SAMPLED), true, false),
        (Stored::new("x").header("traceparent", SAMPLED), false, true),
    ] {
        let (spans, written) = run(function.clone(), has_handler, &input, 1.0);
        let [span] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!(span.parent.is_some(), parent, "handler: {has_handler}");
        assert_eq!(written[0].header("traceparent").map(str::as_bytes), Some(&span.context.render()[..]));
    }
}

#[test]
fn a_span_says_what_became_of_the_event_and_its_dead_letter_belongs_to_it() {
    let (spans, written) = run(
        function(vec![sink("out", Format::Auto)]),
        true,
        &Stored::new("bad").header("traceparent", SAMPLED),
        1.0,
    );
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((span.outcome, span.error, span.attempt), ("dead-letter", Some("rejected"), 1));
    assert_eq!((span.topic.as_str(), span.partition, span.offset), ("rides", 3, 42));
    assert_eq!(span.end_ns - span.begin_ns, 7_000);
    assert_eq!(written[0].target, Target::DeadLetter);
    assert_eq!(written[0].header("traceparent").map(str::as_bytes), Some(&span.context.render()[..]));
    // Of an event that came without, and of one that was never called, it is the record as it was.
    let (spans, written) = run(function(vec![sink("out", Format::Auto)]), true, &Stored::new("bad"), 1.0);
    assert_eq!((spans.len(), written[0].header("traceparent")), (1, None));
    let mut json = function(vec![sink("out", Format::Auto)]);
    json.sources = vec![source(Format::Json)];
    let (spans, written) = run(json, true, &Stored::new("{").header("traceparent", SAMPLED), 1.0);
    assert_eq!((spans.len(), written[0].header("traceparent")), (0, Some(SAMPLED)));
}
