//! The checklist of the CloudEvents Kafka protocol binding, rule by rule; each test is named after the
//! rules that it holds.

use serde_json::{Value, json};
use tidemill::codec;
use tidemill::model::{CloudEventsMode, Emit, Event, Format, Header, KeyChoice, Shape, Sink};
use tidemill::pipeline::Router;

use crate::scene::{Recorder, Stored, Written, emit, function, outbox, sink, source, structured_sink};

const CHECKLIST: &str = include_str!("data/cloudevents/kafka_binding_checklist.json");

/// The rules that the tests below name. KB-07 is met by a dead letter, which keeps the record as it is.
const HELD: [&str; 26] = [
    "KB-01", "KB-02", "KB-03", "KB-04", "KB-05", "KB-06", "KB-07", "KB-08", "KB-09", "KB-10", "KB-11",
    "KB-12", "KB-13", "KB-14", "KB-15", "KB-16", "KB-17", "KB-18", "KB-19", "KB-20", "CE-01", "CE-02",
    "CE-03", "CE-04", "CE-05", "CE-06",
];

#[test]
fn every_rule_of_the_checklist_is_named_by_a_test() {
    let checklist: Value = serde_json::from_str(CHECKLIST).unwrap();
    let ids: Vec<&str> =
        checklist["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids, HELD);
    let this_file = include_str!("cloudevents_binding.rs");
    for id in HELD {
        let part = format!("{}_", id.to_lowercase().replace('-', "_"));
        assert!(
            this_file.lines().any(|line| line.starts_with("fn ") && line.contains(&part)),
            "{id} has a test"
        );
    }
}

fn with_event<R>(stored: &Stored, format: Format, look: impl FnOnce(&Event<'_>) -> R) -> R {
    let source = source(format);
    look(&codec::decode(stored.record(), &source).unwrap())
}

fn written(sink: Sink, emit: &Emit<'_>) -> Written {
    let input = Stored::new("in");
    let mut writer = Recorder::default();
    with_event(&input, Format::Bytes, |event| {
        Router::new(&function(vec![sink])).route((event, None), &outbox(&[*emit]), &mut writer).unwrap();
    });
    writer.0.remove(0)
}

fn partition_keyed(mut sink: Sink) -> Sink {
    sink.cloudevents.partition_key = true;
    sink
}

fn header<'a>(name: &'a str, value: &'a str) -> Header<'a> {
    Header { name, value: Some(value.as_bytes()) }
}

#[test]
fn kb_01_kb_04_both_modes_reach_a_handler_as_the_same_event() {
    let binary = Stored::binary(r#"{"fare":7}"#)
        .header("content-type", "application/json")
        .header("ce_time", "2020-01-01T00:00:00Z")
        .header("ce_hops", "42");
    let structured = Stored::structured(
        r#"{"specversion":"1.0","id":"A1","source":"/rides","type":"ride.completed","datacontenttype":"application/json",
            "time":"2020-01-01T00:00:00Z","hops":42,"data":{"fare":7}}"#,
    );
    for format in [Format::CloudEvents, Format::Auto] {
        let seen = |stored: &Stored| {
            with_event(stored, format, |event| {
                let names =
                    ["specversion", "id", "source", "type", "datacontenttype", "time", "hops", "subject"];
                let attributes = names.map(|name| event.attribute(name).map(|value| value.into_owned()));
                (attributes, event.data().to_vec(), event.json().unwrap().clone())
            })
        };
        assert_eq!(seen(&binary), seen(&structured));
    }
}

#[test]
fn kb_02_kb_13_binary_data_is_the_value_byte_for_byte() {
    let data: Vec<u8> = (0..=255).collect();
    assert_eq!(written(sink("out", Format::CloudEvents), &emit(&data)).value, Some(data.clone()));
    with_event(&Stored::binary(&data), Format::Auto, |event| assert_eq!(event.data(), data));
}

#[test]
fn kb_03_kb_12_kb_17_attributes_are_ce_headers_and_the_media_type_is_content_type() {
    let emit = Emit { content_type: Some("application/json"), ..emit(b"{}") };
    let written = written(sink("out", Format::CloudEvents), &emit);
    let headers: Vec<(&str, &str)> =
        written.headers.iter().map(|(name, _)| (name.as_str(), written.header(name).unwrap())).collect();
    assert_eq!(
        headers,
        [
            ("ce_specversion", "1.0"),
            ("ce_id", "receipts/rides/3/42/0"),
            ("ce_source", "/tidemill/default/receipts"),
            ("ce_type", "default.receipts.out"),
            ("ce_time", "2023-11-14T22:13:20.5Z"),
            ("content-type", "application/json"),
        ]
    );
    with_event(&written.stored(), Format::Auto, |event| {
        assert_eq!(event.attribute("datacontenttype").as_deref(), Some("application/json"));
        assert_eq!(event.shape, Shape::Binary);
    });
}

#[test]
fn kb_03_kb_12_an_output_sets_its_media_type_in_any_of_three_ways_and_it_stands_once() {
    for (headers, field, expected) in [
        (vec![header("content-type", "a/b"), header("ce_datacontenttype", "c/d")], Some("e/f"), "a/b"),
        (vec![header("ce_datacontenttype", "c/d")], Some("e/f"), "c/d"),
        (vec![], Some("e/f"), "e/f"),
    ] {
        let emit = Emit { headers: &headers, content_type: field, ..emit(b"x") };
        let written = written(sink("out", Format::CloudEvents), &emit);
        assert_eq!(written.header("content-type"), Some(expected));
        assert_eq!(written.header("ce_datacontenttype"), None);
    }
}

#[test]
fn kb_05_kb_07_batches_and_foreign_event_formats_are_refused_without_a_crash() {
    for media_type in ["application/cloudevents-batch+json", "application/cloudevents+avro"] {
        let stored = Stored::binary("[]").header("content-type", media_type);
        for format in [Format::Auto, Format::CloudEvents] {
            let source = source(format);
            let error = codec::decode(stored.record(), &source).err().expect("not one event");
            assert!(error.to_string().contains(media_type), "{error}");
        }
    }
}

#[test]
fn kb_06_kb_18_the_content_type_decides_the_mode_without_regard_to_case() {
    let document = r#"{"specversion":"1.0","id":"B2","source":"/s","type":"t","data":1}"#;
    for media_type in [
        "application/cloudevents+json",
        "Application/CloudEvents+Json",
        "application/cloudevents+json; charset=UTF-8",
        "application/cloudevents+json;charset=utf-8",
    ] {
        with_event(&Stored::new(document).header("content-type", media_type), Format::Auto, |event| {
            assert_eq!(event.attribute("id").as_deref(), Some("B2"), "{media_type}");
        });
    }
    for stored in
        [Stored::binary(document), Stored::binary(document).header("content-type", "application/json")]
    {
        with_event(&stored, Format::Auto, |event| {
            assert_eq!(event.attribute("id").as_deref(), Some("A1"));
            assert_eq!(event.data(), document.as_bytes());
        });
    }
}

#[test]
fn kb_08_kb_11_the_handlers_key_is_the_records_key_and_no_attribute() {
    for (key, expected) in [
        (KeyChoice::OfEvent, Some(b"k1".to_vec())),
        (KeyChoice::Bytes(b"K"), Some(b"K".to_vec())),
        (KeyChoice::Null, None),
    ] {
        for sink in [sink("out", Format::CloudEvents), structured_sink("out")] {
            let written = written(sink, &Emit { key, ..emit(b"{}") });
            assert_eq!(written.key, expected);
            with_event(&written.stored(), Format::Auto, |event| {
                assert_eq!(event.attribute("partitionkey"), None)
            });
        }
    }
}

#[test]
fn kb_09_kb_10_partitionkey_becomes_the_key_where_the_sink_asks_and_stays_in_the_event() {
    let headers = [header("ce_partitionkey", "abc")];
    for sink in [sink("out", Format::CloudEvents), structured_sink("out")] {
        let emit = Emit { headers: &headers, ..emit(b"{}") };
        for (sink, key) in [(sink.clone(), "k1"), (partition_keyed(sink), "abc")] {
            let written = written(sink, &emit);
            assert_eq!(written.key.as_deref(), Some(key.as_bytes()));
            with_event(&written.stored(), Format::Auto, |event| {
                assert_eq!(event.attribute("partitionkey").as_deref(), Some("abc"));
            });
        }
    }
}

#[test]
fn kb_09_a_sink_that_asks_for_it_writes_the_key_as_partitionkey() {
    for sink in [sink("out", Format::CloudEvents), structured_sink("out")] {
        let written = written(partition_keyed(sink), &emit(b"{}"));
        with_event(&written.stored(), Format::Auto, |event| {
            assert_eq!(event.attribute("partitionkey").as_deref(), Some("k1"));
        });
    }
}

#[test]
fn kb_14_a_binary_event_without_data_is_a_record_without_value() {
    let written = written(sink("out", Format::CloudEvents), &Emit { value: None, ..emit(b"") });
    assert_eq!(written.value, None);
    with_event(&written.stored(), Format::Auto, |event| assert_eq!(event.data, None));
}

#[test]
fn kb_15_kb_16_extensions_and_text_of_any_script_survive_both_ways() {
    let subject = "Hello 世界 🌍";
    let headers = [
        header("ce_subject", subject),
        header("ce_one", "1"),
        header("ce_two", "true"),
        header("ce_three", "a\"b\\c"),
        header("plain", "kept"),
    ];
    for sink in [sink("out", Format::CloudEvents), structured_sink("out")] {
        let is_binary = sink.cloudevents.mode == CloudEventsMode::Binary;
        let written = written(sink, &Emit { headers: &headers, ..emit(b"{}") });
        assert_eq!(written.header("plain"), Some("kept"));
        assert_eq!(
            written.header("ce_subject"),
            is_binary.then_some(subject),
            "as it is, not percent-encoded"
        );
        with_event(&written.stored(), Format::CloudEvents, |event| {
            for header in &headers[..4] {
                let value = event.attribute(&header.name[3..]);
                assert_eq!(value.as_deref().map(str::as_bytes), header.value);
            }
        });
    }
}

#[test]
fn kb_19_a_structured_event_without_data_is_no_tombstone() {
    let written = written(structured_sink("out"), &Emit { value: None, ..emit(b"") });
    let document: Value = serde_json::from_str(written.text()).unwrap();
    assert_eq!(
        document,
        json!({
            "specversion": "1.0", "id": "receipts/rides/3/42/0", "source": "/tidemill/default/receipts",
            "type": "default.receipts.out", "time": "2023-11-14T22:13:20.5Z"
        })
    );
    with_event(&written.stored(), Format::Auto, |event| assert_eq!(event.data, None));
}

#[test]
fn kb_20_headers_that_repeat_attributes_of_a_structured_event_are_ignored() {
    let stored = Stored::structured(r#"{"specversion":"1.0","id":"body","source":"/s","type":"t"}"#)
        .header("ce_id", "header")
        .header("ce_subject", "header")
        .header("ce_Bad-Name", [0xff]);
    with_event(&stored, Format::Auto, |event| {
        assert_eq!(event.attribute("id").as_deref(), Some("body"));
        assert_eq!(event.attribute("subject"), None);
    });
}

#[test]
fn ce_01_an_event_lacking_a_required_attribute_is_not_delivered() {
    for required in ["specversion", "id", "source", "type"] {
        let mut binary = Stored::binary("x");
        binary.headers.retain(|(name, _)| *name != format!("ce_{required}"));
        let mut document = json!({"specversion": "1.0", "id": "A1", "source": "/s", "type": "t"});
        document.as_object_mut().unwrap().remove(required);
        for stored in [binary, Stored::structured(document.to_string())] {
            let source = source(Format::CloudEvents);
            let error = codec::decode(stored.record(), &source).err().expect("no CloudEvent");
            assert_eq!(
                error.to_string(),
                format!("the required CloudEvents attribute `{required}` is missing")
            );
        }
    }
}

#[test]
fn ce_02_names_outside_a_z_and_0_9_are_refused_in_and_out() {
    for name in ["a_invalid_name", "Upper", "with-dash", "", "data", "ümlaut"] {
        let header_name = format!("ce_{name}");
        let source = source(Format::Auto);
        let binary = Stored::binary("x").header(&header_name, "x");
        assert!(codec::decode(binary.record(), &source).is_err(), "{name}");
        let headers = [header(&header_name, "x")];
        let input = Stored::new("in");
        let event = codec::decode(input.record(), &source).unwrap();
        for sink in [sink("out", Format::CloudEvents), structured_sink("out")] {
            let outbox = outbox(&[Emit { headers: &headers, ..emit(b"{}") }]);
            let outcome =
                Router::new(&function(vec![sink])).route((&event, None), &outbox, &mut Recorder::default());
            assert!(outcome.is_err(), "{name}");
        }
    }
    with_event(&Stored::binary("x").header("ce_averyveryverylongname1", "x"), Format::Auto, |event| {
        assert_eq!(
            event.attribute("averyveryverylongname1").as_deref(),
            Some("x"),
            "longer than 20 is allowed"
        );
    });
}

#[test]
fn ce_03_ce_04_json_types_become_canonical_strings_and_null_is_unset() {
    let stored = Stored::structured(
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":null,"yes":true,"no":false,
            "least":-2147483648,"most":2147483647,"zero":-0,"bin":"AAE=","uri":"https://x.y/z","esc":"\u00e9\n"}"#,
    );
    with_event(&stored, Format::Auto, |event| {
        for (name, value) in [
            ("yes", Some("true")),
            ("no", Some("false")),
            ("least", Some("-2147483648")),
            ("most", Some("2147483647")),
            ("zero", Some("0")),
            ("bin", Some("AAE=")),
            ("uri", Some("https://x.y/z")),
            ("esc", Some("é\n")),
            ("subject", None),
        ] {
            assert_eq!(event.attribute(name).as_deref(), value, "{name}");
        }
    });
    for bad in ["1.0", "1e2", "2147483648", "-2147483649", "[]", "{}"] {
        let document = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","ext":{bad}}}"#);
        let source = source(Format::Auto);
        assert!(codec::decode(Stored::structured(document).record(), &source).is_err(), "{bad}");
    }
}

#[test]
fn ce_05_binary_data_is_base64_and_json_is_the_default() {
    let read = |more: &str| {
        let document = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t",{more}}}"#);
        with_event(&Stored::structured(document), Format::Auto, |event| {
            (event.content_type.as_deref().map(str::to_owned), event.data.as_deref().map(<[u8]>::to_vec))
        })
    };
    let json = || Some("application/json".to_owned());
    for (more, content_type, data) in [
        (r#""data":{"a" : 1.0}"#, json(), Some(&br#"{"a" : 1.0}"#[..])),
        (r#""data":"x""#, json(), Some(br#""x""#)),
        (r#""data":null"#, json(), Some(b"null")),
        (r#""data":123456789012345678901234567890.10"#, json(), Some(b"123456789012345678901234567890.10")),
        (r#""data_base64":"eyJhIjoxfQ==""#, json(), Some(br#"{"a":1}"#)),
        (r#""data_base64":null"#, None, None),
        (
            r#""datacontenttype":"application/vnd.a+json","data":[1]"#,
            Some("application/vnd.a+json".to_owned()),
            Some(b"[1]"),
        ),
        (
            r#""datacontenttype":"text/plain","data":"a\u0042\n""#,
            Some("text/plain".to_owned()),
            Some(b"aB\n"),
        ),
        (r#""datacontenttype":"text/xml","data":"<a/>""#, Some("text/xml".to_owned()), Some(b"<a/>")),
        (
            r#""datacontenttype":"image/png","data_base64":"AAH/""#,
            Some("image/png".to_owned()),
            Some(&[0, 1, 255]),
        ),
        (r#""datacontenttype":"image/png""#, Some("image/png".to_owned()), None),
    ] {
        assert_eq!(read(more), (content_type, data.map(<[u8]>::to_vec)), "{more}");
    }
    for (content_type, data, member) in [
        (None, &b"{\"a\" : 1.0}"[..], "\"data\":{\"a\" : 1.0}"),
        (Some("application/json"), b"[1]", "\"data\":[1]"),
        (Some("application/json"), b"{", "\"data_base64\":\"ew==\""),
        (Some("text/plain"), b"a\"b", "\"data\":\"a\\\"b\""),
        (Some("text/plain"), b"\xff", "\"data_base64\":\"/w==\""),
        (Some("image/png"), b"abc", "\"data_base64\":\"YWJj\""),
        (None, b"abc", "\"data_base64\":\"YWJj\""),
    ] {
        let written = written(structured_sink("out"), &Emit { content_type, ..emit(data) });
        assert!(written.text().ends_with(&format!(",{member}}}")), "{member} in {}", written.text());
    }
}

#[test]
fn ce_06_ids_of_outputs_differ_within_a_call_and_are_the_same_in_every_run() {
    let run = || {
        let input = Stored::new("in");
        let mut writer = Recorder::default();
        with_event(&input, Format::Bytes, |event| {
            let outbox = outbox(&[emit(b"1"), emit(b"2")]);
            Router::new(&function(vec![sink("out", Format::CloudEvents)]))
                .route((event, None), &outbox, &mut writer)
                .unwrap();
        });
        writer.0.iter().map(|written| written.header("ce_id").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(run(), ["receipts/rides/3/42/0", "receipts/rides/3/42/1"]);
    assert_eq!(run(), run());
}
