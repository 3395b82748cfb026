//! Any CloudEvent that is written is read as the same event, in both modes, by Tidemill and by the
//! CloudEvents project's own crate.

use std::collections::BTreeMap;

use cloudevents::AttributesReader;
use proptest::prelude::*;
use tidemill::codec;
use tidemill::codec::rfc3339::Timestamp;
use tidemill::model::{CloudEventsMode, Event, Format, Sink};
use tidemill::pipeline::Router;

use crate::scene::{Recorder, Stored, Written, function, sink, source, structured_sink};

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    attributes: BTreeMap<String, String>,
    content_type: Option<String>,
    data: Option<Vec<u8>>,
}

fn sample() -> impl Strategy<Value = Sample> {
    let text = "[^\\x00-\\x1f\\x7f]{0,12}";
    let required = ("[!-~é🌍]{1,12}", "[!-~é]{1,12}", "\\PC{1,12}");
    let extensions = proptest::collection::btree_map("x[a-z0-9]{0,8}", text, 0..4);
    let time = proptest::option::of(0i64..253_402_300_799_999);
    let json = prop_oneof![
        Just(b"{\"a\" : 1.0, \"b\":[12345678901234567890123, \"\\u00e9\"]}".to_vec()),
        Just(b"null".to_vec()),
        Just(b"\"x\"".to_vec()),
        "[a-z \"\\\\]{0,9}".prop_map(|text| serde_json::to_vec(&text).unwrap()),
    ];
    // Blanks around JSON do not survive structured mode, where they would be blanks of the document.
    let bytes = proptest::collection::vec(any::<u8>(), 0..20)
        .prop_filter("blanks around", |data| data.trim_ascii() == data.as_slice());
    let payload = prop_oneof![
        Just((None, None)),
        bytes.clone().prop_map(|data| (Some("application/octet-stream"), Some(data))),
        bytes.clone().prop_map(|data| (Some("application/json"), Some(data))),
        bytes.prop_map(|data| (Some("text/plain"), Some(data))),
        "\\PC{0,12}".prop_map(|text| (Some("text/plain"), Some(text.into_bytes()))),
        json.prop_map(|data| (Some("application/json"), Some(data))),
    ];
    (required, proptest::option::of(text), time, extensions, payload).prop_map(
        |((id, source, kind), subject, time, mut attributes, (content_type, data))| {
            attributes.insert("specversion".to_owned(), "1.0".to_owned());
            attributes.insert("id".to_owned(), id);
            attributes.insert("source".to_owned(), source);
            attributes.insert("type".to_owned(), kind);
            attributes.extend(subject.map(|subject| ("subject".to_owned(), subject)));
            let time = time.map(|ms| Timestamp::from_millisecond(ms).render().unwrap().as_str().to_owned());
            attributes.extend(time.map(|time| ("time".to_owned(), time)));
            Sample { attributes, content_type: content_type.map(str::to_owned), data }
        },
    )
}

/// The sample as a record in binary mode.
fn binary(sample: &Sample) -> Stored {
    let mut stored = Stored { value: sample.data.clone(), ..Stored::null() };
    for (name, value) in &sample.attributes {
        stored = stored.header(&format!("ce_{name}"), value);
    }
    if let Some(content_type) = &sample.content_type {
        stored = stored.header("content-type", content_type);
    }
    stored
}

/// What a reader makes of a record.
fn read(stored: &Stored, names: impl IntoIterator<Item = String>) -> Sample {
    let source = source(Format::CloudEvents);
    let event: Event<'_> = codec::decode(stored.record(), &source).unwrap();
    let attributes = names
        .into_iter()
        .filter_map(|name| event.attribute(&name).map(|value| (name.clone(), value.into_owned())))
        .collect();
    Sample {
        attributes,
        content_type: event.content_type.as_deref().map(str::to_owned),
        data: event.data.as_deref().map(<[u8]>::to_vec),
    }
}

fn convert(stored: &Stored, sink: Sink) -> Written {
    let source = source(Format::CloudEvents);
    let event = codec::decode(stored.record(), &source).unwrap();
    let mut writer = Recorder::default();
    Router::new(&function(vec![sink])).passthrough(&event, None, &mut writer).unwrap();
    writer.0.remove(0)
}

proptest! {
    #[test]
    fn an_event_survives_from_binary_to_structured_and_back(sample in sample()) {
        let first = binary(&sample);
        let names = || sample.attributes.keys().cloned();
        prop_assert_eq!(&read(&first, names()), &sample);
        let structured = convert(&first, structured_sink("out"));
        prop_assert_eq!(&read(&structured.stored(), names()), &sample);
        let document: BTreeMap<String, serde_json::Value> = serde_json::from_str(structured.text()).unwrap();
        let expected = sample.attributes.len()
            + usize::from(sample.content_type.is_some())
            + usize::from(sample.data.is_some());
        prop_assert_eq!(document.len(), expected, "nothing is added");
        let back = convert(&structured.stored(), sink("out", Format::CloudEvents));
        prop_assert_eq!(sink("out", Format::CloudEvents).cloudevents.mode, CloudEventsMode::Binary);
        prop_assert_eq!(&read(&back.stored(), names()), &sample);
        prop_assert_eq!(back.headers.len(), first.headers.len());
    }

    #[test]
    fn the_cloudevents_crate_reads_what_is_written(sample in sample()) {
        let structured = convert(&binary(&sample), structured_sink("out"));
        let event: cloudevents::Event = serde_json::from_str(structured.text()).unwrap();
        prop_assert_eq!(event.id(), sample.attributes["id"].as_str());
        prop_assert_eq!(event.source(), sample.attributes["source"].as_str());
        prop_assert_eq!(event.ty(), sample.attributes["type"].as_str());
        prop_assert_eq!(event.subject(), sample.attributes.get("subject").map(String::as_str));
        prop_assert_eq!(event.datacontenttype(), sample.content_type.as_deref());
        let time = sample.attributes.get("time").map(|time| Timestamp::parse(time).unwrap().as_millisecond());
        prop_assert_eq!(event.time().map(|time| time.timestamp_millis()), time);
        let extensions: BTreeMap<String, String> =
            event.iter_extensions().map(|(name, value)| (name.to_owned(), value.to_string())).collect();
        let expected: BTreeMap<String, String> =
            sample.attributes.into_iter().filter(|(name, _)| name.starts_with('x')).collect();
        prop_assert_eq!(extensions, expected);
    }
}
