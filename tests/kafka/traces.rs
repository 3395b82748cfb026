//! Traces and metrics reach a collector: one trace over functions that are chained by a topic, a cut's span that links
//! its calls, the numbers of `/metrics`; and a collector that is away disturbs nobody.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;
use tidemill::observe::trace::TraceParent;

use crate::harness::{
    Collector, Isolation, Listeners, Stage, ToSend, attribute, cluster, free_port, try_wait, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traced(stem: &str) -> Stage {
    Stage::new(cluster(), stem, 1)
        .with("/spec/sources/0/format", json!("auto"))
        .with("/spec/sinks/0/format", json!("auto"))
}

/// The one span called `process <topic>` once it is there.
fn process_span(collector: &Collector, topic: &str) -> Span {
    let name = format!("process {topic}");
    try_wait(WITHIN, &name, || {
        let mut found = collector.spans().into_iter().filter(|span| span.name == name);
        match (found.next(), found.next()) {
            (Some(span), None) => Ok(span),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn functions_that_are_chained_by_a_topic_make_one_trace() {
    let collector = Collector::start();
    let (endpoint, listeners) = (collector.endpoint(), Listeners::free());
    let mut env = vec![
        ("TIDEMILL_OTLP_ENDPOINT", endpoint.as_str()),
        ("TIDEMILL_OTLP_HEADERS", "authorization=Bearer abc"),
        ("TIDEMILL_TRACE_RATIO", "1"),
        ("TIDEMILL_METRICS_INTERVAL", "500ms"),
    ];
    let first = traced("traced-first").with_trial();
    // A call of a handler thread brings its span back with it.
    let first = first.with("/spec/handler/concurrency", json!(2));
    let second = traced("traced-second").with("/spec/sources/0/topic", json!(first.sink));
    let mut second_worker = second.spawn_with("second", &env);
    env.extend(listeners.env());
    let mut first_worker = first.spawn_with("first", &env);
    cluster().produce(&first.source, [ToSend::new("k", "v").header("traceparent", PARENT)]);

    let (one, two) = (process_span(&collector, &first.source), process_span(&collector, &first.sink));
    let parent = TraceParent::parse(PARENT.as_bytes()).expect("valid");
    assert_eq!((&one.trace_id[..], &one.parent_span_id[..]), (&parent.trace_id[..], &parent.span_id[..]));
    assert_eq!((&two.trace_id, &two.parent_span_id), (&one.trace_id, &one.span_id));
    assert!(one.end_time_unix_nano >= one.start_time_unix_nano);
    for (key, value) in [
        ("messaging.system", "kafka"),
        ("messaging.destination.name", first.source.as_str()),
        ("messaging.destination.partition.id", "0"),
        ("messaging.kafka.offset", "0"),
        ("messaging.consumer.group.name", &first.group()),
        ("tidemill.outcome", "ok"),
        ("tidemill.attempt", "1"),
        ("tidemill.cut.outcome", "committed"),
    ] {
        assert_eq!(attribute(&one.attributes, key), value, "{key}");
    }
    let written = cluster().read_all(&second.sink, Isolation::ReadCommitted);
    let carried = TraceParent::parse(written[0].header("traceparent").expect("there").as_bytes()).unwrap();
    assert_eq!((&carried.trace_id[..], &carried.span_id[..]), (&two.trace_id[..], &two.span_id[..]));

    let cuts: Vec<_> = collector.spans().into_iter().filter(|span| span.name == "cut").collect();
    for span in [&one, &two] {
        let linking: Vec<_> =
            cuts.iter().filter(|cut| cut.links.iter().any(|link| link.span_id == span.span_id)).collect();
        let [cut] = &linking[..] else { panic!("{cuts:?}") };
        assert_ne!(cut.trace_id, span.trace_id);
        assert_eq!(attribute(&cut.attributes, "tidemill.cut.outcome"), "committed");
        assert_eq!(attribute(&cut.attributes, "tidemill.cut.records"), "1");
        assert_eq!(attribute(&cut.attributes, "tidemill.cut.outputs"), "1");
    }

    cluster().produce(&first.source, (0..9).map(|n| ToSend::new("k", n.to_string())));
    let function = format!("default/{}", first.name);
    let name = "tidemill_source_consumed_records_total";
    wait_until(WITHIN, "the numbers", || collector.counter(name, ("function", &function)) == Some(10));
    let (_, page) = listeners.metrics("/metrics");
    assert!(page.contains(&format!("{name}{{function=\"{function}\"}} 10\n")), "{page}");
    for head in collector.heads() {
        assert!(head.to_ascii_lowercase().contains("\r\nauthorization: bearer abc\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
    }
    for worker in [&mut first_worker, &mut second_worker] {
        assert!(worker.terminate(WITHIN).success());
    }
}

#[test]
fn events_flow_on_while_the_collector_is_away() {
    let address = format!("127.0.0.1:{}", free_port());
    let endpoint = format!("http://{address}");
    let env = [
        ("TIDEMILL_OTLP_ENDPOINT", endpoint.as_str()),
        ("TIDEMILL_TRACE_RATIO", "1"),
        ("TIDEMILL_METRICS_INTERVAL", "500ms"),
    ];
    let stage = traced("traced-away");
    let mut worker = stage.spawn_with("away", &env);
    cluster().produce(&stage.source, (0..100).map(|n| ToSend::new("k", n.to_string())));
    stage.wait_until_drained(WITHIN);
    assert_eq!(cluster().read_all(&stage.sink, Isolation::ReadCommitted).len(), 100);
    wait_until(WITHIN, "the log", || worker.log().contains("telemetry is not exported"));
    // What waited is sent when it is back, and what is left when the process stops.
    let collector = Collector::at(&address);
    let calls = || collector.spans().iter().filter(|span| span.name.starts_with("process ")).count();
    wait_until(WITHIN, "the spans that waited", || calls() == 100);
    cluster().produce(&stage.source, [ToSend::new("k", "last")]);
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());
    assert_eq!(calls(), 101);
    let said = worker.log().matches("telemetry is not exported").count();
    assert_eq!(said, 1, "said once, not at every try");
}

#[test]
fn the_spans_of_an_aborted_cut_say_so() {
    let collector = Collector::start();
    let endpoint = collector.endpoint();
    let env = [("TIDEMILL_OTLP_ENDPOINT", endpoint.as_str()), ("TIDEMILL_TRACE_RATIO", "1")];
    let stage = Stage::without_topics(cluster(), "traced-abort").with_trial();
    cluster().create_topic(&stage.source, 1, &[]);
    cluster().create_topic(&stage.sink, 1, &[("max.message.bytes", "20000")]);
    let refused = ToSend::new("k", "refused").header("size", "30000");
    cluster().produce(&stage.source, [ToSend::new("k", "fine"), refused]);
    let mut worker = stage.spawn_with("abort", &env);
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());

    let spans = collector.spans();
    let outcomes = |offset: &str| {
        let mut calls: Vec<_> = spans
            .iter()
            .filter(|span| attribute(&span.attributes, "messaging.kafka.offset") == offset)
            .map(|span| (span.start_time_unix_nano, attribute(&span.attributes, "tidemill.cut.outcome")))
            .collect();
        calls.sort();
        calls.into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>()
    };
    assert_eq!(outcomes("0").last().map(String::as_str), Some("committed"));
    let refused = outcomes("1");
    assert!(!refused.is_empty() && refused.iter().all(|outcome| outcome == "aborted"), "{refused:?}");
    let aborted = spans.iter().filter(|span| {
        span.name == "cut" && attribute(&span.attributes, "tidemill.cut.outcome") == "aborted"
    });
    assert!(aborted.count() >= 1);
}
