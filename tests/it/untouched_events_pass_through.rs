//! A function without a handler writes the event itself: as it came where the sink allows, with all its
//! attributes where it must be encoded anew.

use serde_json::{Value, json};
use tidemill::model::{Filter, Format, KeySpec, Sink, Source};
use tidemill::pipeline::{EmitError, Intake, Routed, Router};

use crate::scene::{Recorder, Stored, TIME_MS, Written, filtered, function, sink, source, structured_sink};

fn pass(sinks: Vec<Sink>, source: &Source, input: &Stored) -> (Result<Routed, EmitError>, Vec<Written>) {
    let intake = Intake::new(source);
    let event = intake.take(input.record()).unwrap().unwrap();
    let mut writer = Recorder::default();
    let routed = Router::new(&function(sinks)).passthrough(&event, None, &mut writer);
    (routed, writer.0)
}

fn one(sink: Sink, format: Format, input: &Stored) -> Written {
    let (routed, mut written) = pass(vec![sink], &source(format), input);
    assert_eq!(routed, Ok(Routed { written: 1, unrouted: 0 }));
    written.remove(0)
}

const DOCUMENT: &str = r#"{"specversion":"1.0","id":"A1","source":"/rides","type":"ride.completed","hops":42,
    "dataschema":"http://example.com","data":{"fare" : 7.0}}"#;

#[test]
fn a_record_goes_on_unchanged_where_the_sink_allows() {
    let plain = Stored::new(r#"{"a" : 1}"#).header("h", "1").header("h", "2").null_header("n");
    let binary = Stored::binary("{}").header("content-type", "application/json").header("ce_hops", "1");
    let structured = Stored::structured(DOCUMENT).header("ce_id", "repeated");
    for (input, sink) in [
        (&plain, sink("out", Format::Auto)),
        (&plain, sink("out", Format::Bytes)),
        (&binary, sink("out", Format::Auto)),
        (&binary, sink("out", Format::Json)),
        (&binary, sink("out", Format::CloudEvents)),
        (&structured, sink("out", Format::Auto)),
        (&structured, sink("out", Format::Json)),
        (&structured, structured_sink("out")),
    ] {
        let written = one(sink.clone(), Format::Auto, input);
        assert_eq!(
            (&written.key, &written.value, &written.headers),
            (&input.key, &input.value, &input.headers)
        );
        assert_eq!(written.timestamp_ms, Some(TIME_MS));
    }
    let null = Stored { key: None, timestamp_ms: -1, ..Stored::null() };
    let written = one(sink("out", Format::Auto), Format::Bytes, &null);
    assert_eq!((written.key, written.value, written.timestamp_ms), (None, None, None));
}

#[test]
fn a_key_of_the_functions_own_re_keys_it() {
    let source = Source { key: KeySpec::Fields(vec!["/rider".to_owned()]), ..source(Format::Json) };
    let input = Stored::new(r#"{"rider":"r7"}"#).header("h", "1");
    for sink in [sink("out", Format::Auto), sink("out", Format::CloudEvents), structured_sink("out")] {
        let (_, written) = pass(vec![sink], &source, &input);
        assert_eq!(written[0].key.as_deref(), Some(&b"r7"[..]));
        assert_eq!(written[0].header("h"), Some("1"));
    }
}

#[test]
fn each_sink_takes_what_its_filters_take() {
    let is = |kind: &str| Filter::Exact([("type".to_owned(), kind.to_owned())].into());
    let sinks = || {
        vec![
            filtered(sink("a", Format::Auto), is("ride.completed")),
            filtered(sink("b", Format::Auto), is("ride.cancelled")),
        ]
    };
    let (routed, written) = pass(sinks(), &source(Format::Auto), &Stored::binary("x"));
    assert_eq!((routed, written.len()), (Ok(Routed { written: 1, unrouted: 0 }), 1));
    let (routed, _) = pass(sinks(), &source(Format::Auto), &Stored::new("x"));
    assert_eq!(routed, Ok(Routed { written: 0, unrouted: 1 }));
}

#[test]
fn a_structured_event_keeps_everything_in_binary_mode() {
    let input = Stored::structured(DOCUMENT).header("h", "1").header("ce_id", "repeated");
    let written = one(sink("out", Format::CloudEvents), Format::Auto, &input);
    assert_eq!(written.text(), r#"{"fare" : 7.0}"#);
    let headers: Vec<(&str, &str)> =
        written.headers.iter().map(|(name, _)| (name.as_str(), written.header(name).unwrap())).collect();
    assert_eq!(
        headers,
        [
            ("ce_specversion", "1.0"),
            ("ce_id", "A1"),
            ("ce_source", "/rides"),
            ("ce_type", "ride.completed"),
            ("ce_hops", "42"),
            ("ce_dataschema", "http://example.com"),
            ("content-type", "application/json"),
            ("h", "1"),
        ]
    );
}

#[test]
fn a_binary_event_keeps_everything_in_structured_mode() {
    let input = Stored::binary(r#"{"fare" : 7.0}"#)
        .header("ce_time", "2020-01-01T02:00:00.780+02:00")
        .header("ce_dataschema", "http://example.com")
        .header("ce_gone", "x")
        .null_header("ce_gone")
        .header("content-type", "application/json")
        .header("h", "1");
    let written = one(structured_sink("out"), Format::Auto, &input);
    assert!(written.text().ends_with(r#","data":{"fare" : 7.0}}"#), "{}", written.text());
    assert_eq!(
        serde_json::from_str::<Value>(written.text()).unwrap(),
        json!({
            "specversion": "1.0", "id": "A1", "source": "/rides", "type": "ride.completed",
            "time": "2020-01-01T02:00:00.780+02:00", "dataschema": "http://example.com",
            "datacontenttype": "application/json", "data": {"fare": 7.0}
        })
    );
    assert_eq!(written.header("content-type"), Some("application/cloudevents+json; charset=UTF-8"));
    assert_eq!(written.header("h"), Some("1"));
    assert_eq!(written.headers.len(), 2);
}

#[test]
fn a_plain_event_gets_attributes_made_up() {
    let input = Stored::new("[1]").header("content-type", "application/json").header("ce_odd", "dropped");
    let written = one(sink("out", Format::CloudEvents), Format::Auto, &input);
    for (name, value) in [
        ("ce_specversion", Some("1.0")),
        ("ce_id", Some("receipts/rides/3/42/0")),
        ("ce_source", Some("/tidemill/default/receipts")),
        ("ce_type", Some("default.receipts.out")),
        ("ce_time", Some("2023-11-14T22:13:20.5Z")),
        ("ce_subject", Some("k1")),
        ("content-type", Some("application/json")),
        ("ce_odd", None),
    ] {
        assert_eq!(written.header(name), value, "{name}");
    }
    let unread = one(sink("out", Format::CloudEvents), Format::Bytes, &input);
    assert_eq!(unread.header("content-type"), Some("application/json"), "kept though nobody looked at it");
    let document = one(structured_sink("out"), Format::Auto, &input);
    assert!(document.text().contains(r#""subject":"k1""#) && document.text().ends_with(r#""data":[1]}"#));
}

#[test]
fn a_sink_that_asks_for_partitionkey_gets_it_in_every_mode() {
    for mut sink in [sink("out", Format::CloudEvents), structured_sink("out")] {
        sink.cloudevents.partition_key = true;
        for (input, expected) in [
            (Stored::new("1"), "k1"),
            (Stored::binary("1"), "k1"),
            (Stored::structured(DOCUMENT), "k1"),
            (Stored::binary("1").header("ce_partitionkey", "own"), "own"),
            (Stored::structured(DOCUMENT.replace("\"hops\":42", "\"partitionkey\":\"own\"")), "own"),
        ] {
            let written = one(sink.clone(), Format::Auto, &input);
            assert_eq!(written.key.as_deref(), Some(expected.as_bytes()));
            let source = source(Format::CloudEvents);
            let stored = written.stored();
            let event = tidemill::codec::decode(stored.record(), &source).unwrap();
            assert_eq!(event.attribute("partitionkey").as_deref(), Some(expected));
        }
    }
}

#[test]
fn what_a_sink_cannot_take_is_found_before_anything_is_written() {
    let json_then = |last: Sink| vec![sink("first", Format::Auto), last];
    for (input, last, reason) in [
        (
            Stored::new("{"),
            sink("json", Format::Json),
            "an output to the json sink `json` is not JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            Stored::new([0xff]),
            sink("text", Format::Text),
            "an output to the text sink `text` is not UTF-8: byte 0 begins no character",
        ),
        (
            Stored::structured(DOCUMENT),
            sink("events", Format::CloudEvents),
            "an output to the cloudevents sink `events` is a `application/cloudevents+json; charset=UTF-8` already: use a sink of format auto",
        ),
    ] {
        let (routed, written) = pass(json_then(last), &source(Format::Bytes), &input);
        assert_eq!(routed.unwrap_err().to_string(), reason);
        assert_eq!(written, []);
    }
}
