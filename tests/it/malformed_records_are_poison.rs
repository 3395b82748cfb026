//! Every way in which a record can break its source's format, and the reason that its dead letter gives.

use tidemill::codec;
use tidemill::model::{Class, DeadLetterReason, Format};

use crate::scene::{Stored, source};

#[track_caller]
fn refused(stored: &Stored, format: Format, reason: &str) {
    let source = source(format);
    let error = match codec::decode(stored.record(), &source) {
        Ok(_) => panic!("decoded, but should be refused: {reason}"),
        Err(error) => error,
    };
    assert_eq!(error.to_string(), reason);
    assert_eq!((error.class(), error.reason()), (Class::Poison, DeadLetterReason::Malformed));
}

#[test]
fn text_must_be_utf_8() {
    refused(&Stored::new(b"ab\xffc"), Format::Text, "the value is not UTF-8: byte 2 begins no character");
}

#[test]
fn json_must_parse_and_the_reason_names_line_and_column() {
    for (value, reason) in [
        (&b"{\"a\": 1,\n  b}"[..], "the value is not JSON: key must be a string at line 2 column 3"),
        (b"", "the value is not JSON: EOF while parsing a value at line 1 column 0"),
        (b"1 2", "the value is not JSON: trailing characters at line 1 column 3"),
        (b"{\"a\":\n\"\xff\"}", "the value is not JSON: not UTF-8 at line 2 column 2"),
        (b"\xef\xbb\xbf{}", "the value is not JSON: expected value at line 1 column 1"),
        (b"NaN", "the value is not JSON: expected value at line 1 column 1"),
    ] {
        refused(&Stored::new(value), Format::Json, reason);
        let by_content_type = Stored::new(value).header("content-type", "application/json");
        refused(&by_content_type, Format::Auto, reason);
    }
}

#[test]
fn a_binary_event_must_keep_the_rules_of_attributes() {
    let event = || Stored::binary("x");
    for (stored, reason) in [
        (Stored::new("x"), "the required CloudEvents attribute `specversion` is missing"),
        (event().null_header("ce_id"), "the required CloudEvents attribute `id` is missing"),
        (event().header("ce_id", ""), "the required CloudEvents attribute `id` is empty"),
        (event().header("ce_type", ""), "the required CloudEvents attribute `type` is empty"),
        (event().header("ce_source", ""), "the required CloudEvents attribute `source` is empty"),
        (
            event().header("ce_source", "a b"),
            "the CloudEvents attribute `source` is no URI reference: `a b` has blanks or control characters",
        ),
        (
            event().header("ce_specversion", "0.3"),
            "CloudEvents `specversion` `0.3` is not supported: only 1.0 is",
        ),
        (event().header("ce_time", "noon"), "the CloudEvents attribute `time` is no RFC 3339 time: `noon`"),
        (event().header("ce_subject", [0xff]), "the CloudEvents attribute `subject` is not UTF-8"),
        (
            event().header("ce_a_b", "x"),
            "`a_b` cannot name a CloudEvents attribute: use a-z and 0-9, and not `data`",
        ),
        (
            event().null_header("ce_Upper"),
            "`Upper` cannot name a CloudEvents attribute: use a-z and 0-9, and not `data`",
        ),
        (
            event().header("ce_data", "x"),
            "`data` cannot name a CloudEvents attribute: use a-z and 0-9, and not `data`",
        ),
        (
            event().header("ce_", "x"),
            "`` cannot name a CloudEvents attribute: use a-z and 0-9, and not `data`",
        ),
        (event().header("content-type", [0xff]), "the header `content-type` is not UTF-8"),
    ] {
        refused(&stored, Format::CloudEvents, reason);
    }
    let marked = Stored::new("x").header("ce_specversion", "1.0");
    refused(&marked, Format::Auto, "the required CloudEvents attribute `id` is missing");
}

/// A document with the required attributes and `more` members.
fn document(more: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"A1","source":"/s","type":"t"{more}}}"#)
}

#[test]
fn a_structured_event_must_keep_the_rules_of_the_json_format() {
    for (document, reason) in [
        (
            "[]".to_owned(),
            "the structured CloudEvent is not a JSON object: invalid type: sequence, expected an object at line 1 column 0",
        ),
        (
            "{".to_owned(),
            "the structured CloudEvent is not a JSON object: EOF while parsing an object at line 1 column 1",
        ),
        (
            r#"{"specversion":"1.0","source":"/s","type":"t"}"#.to_owned(),
            "the required CloudEvents attribute `id` is missing",
        ),
        (
            r#"{"specversion":"1.0","id":null,"source":"/s","type":"t"}"#.to_owned(),
            "the required CloudEvents attribute `id` is missing",
        ),
        (
            r#"{"specversion":"1.0","id":1,"source":"/s","type":"t"}"#.to_owned(),
            "the CloudEvents attribute `id` must be a string, not `1`",
        ),
        (document(r#","id":"B""#), "the structured CloudEvent has `id` twice"),
        (
            document(r#","data":1,"data_base64":"AA==""#),
            "the structured CloudEvent has both `data` and `data_base64`: only one may be present",
        ),
        (
            document(r#","data":null,"data_base64":"AA==""#),
            "the structured CloudEvent has both `data` and `data_base64`: only one may be present",
        ),
        (
            document(r#","data_base64":"A""#),
            "`data_base64` of the structured CloudEvent is not Base64: Invalid input length: 1",
        ),
        (
            document(r#","data_base64":5"#),
            "the CloudEvents attribute `data_base64` must be a string, not `5`",
        ),
        (
            document(r#","a_invalid_name":"x""#),
            "`a_invalid_name` cannot name a CloudEvents attribute: use a-z and 0-9, and not `data`",
        ),
        (
            document(r#","ext":1.5"#),
            "the CloudEvents attribute `ext` must be a whole number from -2147483648 to 2147483647, not `1.5`",
        ),
        (
            document(r#","ext":1e2"#),
            "the CloudEvents attribute `ext` must be a whole number from -2147483648 to 2147483647, not `1e2`",
        ),
        (
            document(r#","ext":2147483648"#),
            "the CloudEvents attribute `ext` must be a whole number from -2147483648 to 2147483647, not `2147483648`",
        ),
        (
            document(r#","ext":{"a":1}"#),
            r#"the CloudEvents attribute `ext` must be a string, a whole number, or true or false, not `{"a":1}`"#,
        ),
        (document(r#","time":"2020""#), "the CloudEvents attribute `time` is no RFC 3339 time: `2020`"),
        (document(r#","subject":true"#), "the CloudEvents attribute `subject` must be a string, not `true`"),
        (
            document(r#","datacontenttype":{}"#),
            "the CloudEvents attribute `datacontenttype` must be a string, not `{}`",
        ),
    ] {
        refused(&Stored::structured(&document), Format::CloudEvents, reason);
        refused(&Stored::structured(&document), Format::Auto, reason);
    }
    let null = Stored { headers: Stored::structured("").headers, ..Stored::null() };
    refused(&null, Format::Auto, "a structured CloudEvent must have a value, this record has none");
    refused(
        &Stored::structured(b"{\xff"),
        Format::Auto,
        "the value is not UTF-8: byte 1 begins no character",
    );
}

#[test]
fn batches_and_unknown_event_formats_are_not_read_as_events() {
    for (media_type, reason) in [
        (
            "application/cloudevents-batch+json",
            "`application/cloudevents-batch+json` is a batch, which the Kafka binding of CloudEvents does not know: write one event a record",
        ),
        (
            "application/cloudevents+avro",
            "`application/cloudevents+avro` is an event format that is not supported: use application/cloudevents+json",
        ),
    ] {
        let stored = Stored::new("[]").header("content-type", media_type);
        refused(&stored, Format::Auto, reason);
        refused(&stored, Format::CloudEvents, reason);
    }
}

#[test]
fn what_a_format_does_not_promise_is_not_looked_at() {
    let broken = Stored::new([0xff]).header("content-type", [0xff]).header("ce_specversion", "9");
    let bytes = source(Format::Bytes);
    let event = codec::decode(broken.record(), &bytes).unwrap();
    assert_eq!((event.data(), event.content_type.as_deref()), (&[0xff][..], None));
    for format in [Format::Bytes, Format::Text, Format::Json, Format::Auto] {
        let source = source(format);
        assert_eq!(
            codec::decode(Stored::null().record(), &source).unwrap().data,
            None,
            "a tombstone is an event"
        );
    }
}
