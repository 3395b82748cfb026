//! What a call emits goes to the sinks that it addresses or that take it, in their format; one bad
//! output and nothing of the call is written.

use serde_json::json;
use tidemill::codec;
use tidemill::model::{
    DeadLetterReason, Emit, FieldTest, Filter, Format, Header, KeyChoice, Sink, own_headers,
};
use tidemill::pipeline::{EmitError, Routed, Router, Target};

use crate::scene::{
    Recorder, Stored, TIME_MS, Written, emit, filtered, function, outbox, sink, source, structured_sink,
};

fn route(sinks: Vec<Sink>, input: &Stored, emits: &[Emit<'_>]) -> (Result<Routed, EmitError>, Vec<Written>) {
    let source = source(Format::Auto);
    let event = codec::decode(input.record(), &source).unwrap();
    let mut writer = Recorder::default();
    let routed = Router::new(&function(sinks)).route((&event, None), &outbox(emits), &mut writer);
    (routed, writer.0)
}

fn targets(written: &[Written]) -> Vec<usize> {
    let place = |one: &Written| match one.target {
        Target::Sink(place) => place,
        Target::DeadLetter | Target::Late | Target::Stitch => panic!("no dead letter is routed"),
    };
    written.iter().map(place).collect()
}

fn header<'a>(name: &'a str, value: &'a str) -> Header<'a> {
    Header { name, value: Some(value.as_bytes()) }
}

fn exact(name: &str, value: &str) -> Filter {
    Filter::Exact([(name.to_owned(), value.to_owned())].into())
}

#[test]
fn a_plain_output_is_written_as_it_is() {
    let headers = [header("a", "1"), header("a", "2"), Header { name: "n", value: None }];
    let emits = [Emit { headers: &headers, ..emit(b"\xff\x00") }];
    for format in [Format::Auto, Format::Bytes] {
        let (routed, written) = route(vec![sink("out", format)], &Stored::new("in"), &emits);
        assert_eq!(routed, Ok(Routed { written: 1, unrouted: 0 }));
        assert_eq!(written[0].value.as_deref(), Some(&b"\xff\x00"[..]));
        assert_eq!(written[0].key.as_deref(), Some(&b"k1"[..]));
        assert_eq!(written[0].timestamp_ms, Some(TIME_MS));
        assert_eq!(written[0].headers, own_headers(&headers));
    }
}

#[test]
fn key_and_time_are_the_outputs_own_where_it_brings_them() {
    let emits = [
        Emit { key: KeyChoice::Bytes(b""), timestamp_ms: Some(5), ..emit(b"1") },
        Emit { key: KeyChoice::Null, timestamp_ms: Some(-5), ..emit(b"2") },
        Emit { value: None, ..emit(b"") },
    ];
    let mut input = Stored::new("in");
    input.timestamp_ms = -1;
    let (_, written) = route(vec![sink("out", Format::Auto)], &input, &emits);
    let seen: Vec<_> = written.iter().map(|one| (one.key.as_deref(), one.timestamp_ms)).collect();
    assert_eq!(seen, [(Some(&b""[..]), Some(5)), (None, None), (Some(b"k1"), None)]);
    assert_eq!(written[2].value, None);
}

#[test]
fn an_address_goes_before_filters_and_an_unwanted_output_is_counted() {
    let field = |test| Filter::Field { path: "/amount".to_owned(), tests: vec![test] };
    let sinks = || {
        vec![
            filtered(sink("small", Format::Json), field(FieldTest::Lt(json!(100)))),
            filtered(sink("large", Format::Json), field(FieldTest::Ge(json!(100)))),
            filtered(sink("any", Format::Json), field(FieldTest::Exists(true))),
        ]
    };
    let emits = [
        emit(br#"{"amount":5}"#),
        emit(br#"{"amount":500}"#),
        Emit { sink: Some("large"), ..emit(br#"{"amount":5}"#) },
        emit(b"{}"),
    ];
    let (routed, written) = route(sinks(), &Stored::new("in"), &emits);
    assert_eq!(routed, Ok(Routed { written: 5, unrouted: 1 }));
    assert_eq!(targets(&written), [0, 2, 1, 2, 1]);
    assert_eq!(route(sinks(), &Stored::new("in"), &[]).0, Ok(Routed::default()));
    assert_eq!(route(vec![], &Stored::new("in"), &[emit(b"")]).0, Ok(Routed { written: 0, unrouted: 1 }));
}

#[test]
fn routing_filters_see_the_attributes_that_the_output_would_have() {
    let headers = [header("ce_type", "a"), header("ce_level", "high"), header("plain", "7")];
    let emits = [Emit { headers: &headers, content_type: Some("text/plain"), ..emit(b"x") }];
    let plain = Filter::Header { name: "plain".to_owned(), tests: vec![FieldTest::Gt(json!(6))] };
    for (filter, takes) in [
        (exact("type", "a"), true),
        (exact("type", "default.receipts.out"), false),
        (exact("source", "/tidemill/default/receipts"), true),
        (exact("id", "receipts/rides/3/42/0"), true),
        (exact("time", "2023-11-14T22:13:20.500Z"), true),
        (exact("level", "high"), true),
        (exact("datacontenttype", "text/plain"), true),
        (exact("specversion", "1.0"), true),
        (exact("subject", "k1"), false),
        (plain, true),
    ] {
        let (routed, _) =
            route(vec![filtered(sink("out", Format::Auto), filter.clone())], &Stored::new("in"), &emits);
        assert_eq!(routed.unwrap().written == 1, takes, "{filter:?}");
    }
}

#[test]
fn formats_name_their_media_type_unless_the_output_does() {
    let own = [header("content-type", "application/vnd.x+json")];
    for (format, emit, expected) in [
        (Format::Json, emit(b"{}"), Some("application/json")),
        (Format::Text, emit(b"x"), Some("text/plain; charset=utf-8")),
        (Format::Auto, emit(b"x"), None),
        (Format::Bytes, Emit { content_type: Some("a/b"), ..emit(b"x") }, Some("a/b")),
        (Format::Json, Emit { content_type: Some("a/b"), ..emit(b"{}") }, Some("a/b")),
        (
            Format::Json,
            Emit { headers: &own, content_type: Some("a/b"), ..emit(b"{}") },
            Some("application/vnd.x+json"),
        ),
        (Format::Json, Emit { value: None, ..emit(b"") }, Some("application/json")),
    ] {
        let (_, written) = route(vec![sink("out", format)], &Stored::new("in"), &[emit]);
        assert_eq!(written[0].header("content-type"), expected, "{format:?}");
    }
}

#[test]
fn one_bad_output_leaves_nothing_of_its_call() {
    let bad_name = [header("ce_Bad", "x")];
    let null = [Header { name: "ce_subject", value: None }];
    let version = [header("ce_specversion", "0.3")];
    let raw = [Header { name: "content-type", value: Some(b"\xff") }];
    for (bad, reason) in [
        (
            Emit { sink: Some("lost"), ..emit(b"") },
            "an output is addressed to the sink `lost`, which is not one of: good, text, json, events, documents",
        ),
        (
            Emit { sink: Some("text"), ..emit(b"a\xff") },
            "an output to the text sink `text` is not UTF-8: byte 1 begins no character",
        ),
        (
            Emit { sink: Some("json"), ..emit(b"{\n}}") },
            "an output to the json sink `json` is not JSON: trailing characters at line 2 column 2",
        ),
        (
            Emit { sink: Some("events"), headers: &bad_name, ..emit(b"") },
            "an output to the sink `events` is no CloudEvent: `Bad` cannot name a CloudEvents attribute: use a-z and 0-9, and not `data`",
        ),
        (
            Emit { sink: Some("documents"), headers: &null, ..emit(b"") },
            "an output to the sink `documents` is no CloudEvent: the CloudEvents attribute `subject` has no value",
        ),
        (
            Emit { sink: Some("events"), headers: &version, ..emit(b"") },
            "an output to the sink `events` is no CloudEvent: CloudEvents `specversion` `0.3` is not supported: only 1.0 is",
        ),
        (
            Emit { sink: Some("events"), headers: &raw, ..emit(b"") },
            "an output to the sink `events` has a `content-type` that is not UTF-8",
        ),
        (
            Emit { sink: Some("events"), content_type: Some("application/cloudevents+json"), ..emit(b"{}") },
            "an output to the cloudevents sink `events` is a `application/cloudevents+json` already: use a sink of format auto",
        ),
        (
            Emit { sink: Some("documents"), key: KeyChoice::Bytes(b"\xff"), ..emit(b"{}") },
            "an output to the sink `documents` has a key that is not UTF-8, so it cannot be its `partitionkey`",
        ),
    ] {
        let mut documents = structured_sink("documents");
        documents.cloudevents.partition_key = true;
        let sinks = vec![
            sink("good", Format::Auto),
            sink("text", Format::Text),
            sink("json", Format::Json),
            sink("events", Format::CloudEvents),
            documents,
        ];
        let good = Emit { sink: Some("good"), ..emit(b"fine") };
        let (routed, written) = route(sinks, &Stored::new("in"), &[good, bad]);
        let error = routed.unwrap_err();
        assert_eq!(error.to_string(), reason);
        assert_eq!(error.reason(), DeadLetterReason::BadOutput);
        assert_eq!(written, [], "{reason}");
    }
}

#[test]
fn a_router_serves_again_after_a_bad_output() {
    let source = source(Format::Auto);
    let input = Stored::new("in");
    let event = codec::decode(input.record(), &source).unwrap();
    let mut router = Router::new(&function(vec![sink("out", Format::Json)]));
    let mut writer = Recorder::default();
    for (value, works) in [(&b"{}"[..], true), (b"{", false), (b"[]", true), (b"{", false)] {
        assert_eq!(router.route((&event, None), &outbox(&[emit(value)]), &mut writer).is_ok(), works);
    }
    let values: Vec<_> = writer.0.iter().map(Written::text).collect();
    assert_eq!(values, ["{}", "[]"]);
}

#[test]
fn the_trace_goes_on_with_the_outputs_unless_they_bring_their_own() {
    let by_header = Stored::new("in").header("traceparent", "00-h").header("tracestate", "h=1");
    let by_attribute = Stored::binary("in").header("ce_traceparent", "00-a").header("ce_tracestate", "a=1");
    let by_document = Stored::structured(
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","traceparent":"00-a","tracestate":"a=1"}"#,
    );
    let state_only = Stored::new("in").header("tracestate", "h=1");
    for (input, format, own, carried) in [
        (&by_header, Format::Auto, None, [Some("00-h"), Some("h=1"), None, None]),
        (&by_header, Format::CloudEvents, None, [Some("00-h"), Some("h=1"), None, None]),
        (&by_attribute, Format::Auto, None, [Some("00-a"), Some("a=1"), None, None]),
        (&by_attribute, Format::CloudEvents, None, [None, None, Some("00-a"), Some("a=1")]),
        (&by_document, Format::CloudEvents, None, [None, None, Some("00-a"), Some("a=1")]),
        (&by_document, Format::Json, None, [Some("00-a"), Some("a=1"), None, None]),
        (&by_header, Format::Auto, Some("traceparent"), [Some("own"), None, None, None]),
        (&by_attribute, Format::CloudEvents, Some("ce_traceparent"), [None, None, Some("own"), None]),
        (&state_only, Format::Auto, None, [None, None, None, None]),
    ] {
        let headers: Vec<Header<'_>> = own.map(|name| header(name, "own")).into_iter().collect();
        let emits = [Emit { headers: &headers, ..emit(b"{}") }];
        let (_, written) = route(vec![sink("out", format)], input, &emits);
        let names = ["traceparent", "tracestate", "ce_traceparent", "ce_tracestate"];
        assert_eq!(names.map(|name| written[0].header(name)), carried, "{format:?} {own:?}");
    }
    let (_, written) = route(vec![structured_sink("out")], &by_attribute, &[emit(b"{}")]);
    assert!(written[0].text().contains(r#""traceparent":"00-a""#), "{}", written[0].text());
}

#[test]
fn of_an_attribute_that_an_output_sets_twice_the_last_counts() {
    let headers = [header("ce_subject", "first"), header("ce_subject", "last"), header("ce_id", "mine")];
    let emits = [Emit { headers: &headers, ..emit(b"{}") }];
    let (_, written) =
        route(vec![sink("b", Format::CloudEvents), structured_sink("s")], &Stored::new("in"), &emits);
    assert_eq!(written[0].header("ce_subject"), Some("last"));
    assert_eq!(written[0].header("ce_id"), Some("mine"));
    let document: serde_json::Value = serde_json::from_str(written[1].text()).unwrap();
    assert_eq!((&document["subject"], &document["id"]), (&json!("last"), &json!("mine")));
}
