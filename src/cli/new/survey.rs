//! What the records of a topic are: their format, their most common type, the shape of their bodies. Records
//! go in one by one; out comes what a new function is made from.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::Formatter;

use super::skeleton::{Body, Sdk, Skeleton};
use super::{shape, types};
use crate::cli::{cases, sample};
use crate::codec;
use crate::model::{Event, Format, Record, Shape};

/// Lines of `sample.jsonl`, and records that are looked at for an example.
const KEPT: usize = 20;
/// A longer line makes no sample.
const MAX_LINE: usize = 64 * 1024;
/// A longer example makes no test that one reads.
const MAX_EXAMPLE: usize = 2_000;
const MAX_TEXT_EXAMPLE: usize = 200;
const MAX_BYTES_EXAMPLE: usize = 32;

/// The records seen so far.
#[derive(Debug, Default)]
pub struct Survey {
    records: usize,
    keyed: usize,
    /// Kafka's null for a value, and no CloudEvent.
    nulls: usize,
    /// Why records could not be decoded: how many, and the first.
    malformed: Option<(usize, String)>,
    /// By the type of CloudEvents; `None`: no CloudEvents.
    groups: BTreeMap<Option<String>, Group>,
}

/// Records of one type.
#[derive(Debug, Default)]
struct Group {
    records: usize,
    /// Without a payload.
    empty: usize,
    objects: usize,
    json: usize,
    texts: usize,
    /// Of the objects alone, for topics on which something else strayed.
    object_shape: shape::Shape,
    shape: shape::Shape,
    examples: Vec<Value>,
    first_text: Option<String>,
    first_bytes: Option<Vec<u8>>,
    lines: Vec<String>,
}

/// What a topic turned out to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// Records that were looked at.
    pub records: usize,
    /// Those that the function takes.
    pub taken: usize,
    /// Those that its filter refuses.
    pub filtered: usize,
    /// The rest: of another format or shape.
    pub others: usize,
    /// The format of the source.
    pub format: String,
    /// What is in the payload: json, text or bytes.
    pub body: &'static str,
    /// The CloudEvents type that it takes.
    pub event_type: Option<String>,
    /// The records have keys.
    pub is_keyed: bool,
    /// Lines of the sample.
    pub sample: usize,
}

impl Survey {
    /// Takes a record in.
    pub fn add(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.keyed += usize::from(record.key.is_some());
        let mut event = Event::plain(*record, "");
        if let Err(error) = codec::decode_in_place(&mut event, Format::Auto) {
            self.malformed.get_or_insert_with(|| (0, error.to_string())).0 += 1;
            return;
        }
        let group = match event.shape {
            Shape::Plain if record.value.is_none() => {
                self.nulls += 1;
                return;
            }
            Shape::Plain => None,
            Shape::Binary | Shape::Structured(_) => event.attribute("type").map(|text| text.into_owned()),
        };
        self.groups.entry(group).or_default().add(&event);
    }

    /// Records seen.
    pub fn records(&self) -> usize {
        self.records
    }

    /// The function `name` for `topic`.
    pub fn skeleton(&self, name: &str, topic: &str, sdk: Sdk) -> anyhow::Result<(Skeleton, Found)> {
        let plain = self.groups.get(&None).map_or(0, |group| group.records);
        let events: usize = self.groups.values().map(|group| group.records).sum::<usize>() - plain;
        let is_cloudevents = events > plain;
        let groups = self.groups.iter().filter(|(event_type, _)| event_type.is_some() == is_cloudevents);
        // Of several that are equally common the first by name: the same topic makes the same function.
        let Some((event_type, group)) = groups.rev().max_by_key(|(_, group)| group.records) else {
            match &self.malformed {
                Some((_, error)) => bail!("no record of topic {topic} can be decoded: {error}"),
                None if self.nulls > 0 => bail!("topic {topic} holds nothing but null values"),
                None => bail!("topic {topic} holds no records to learn from: write some first"),
            }
        };
        let body = group.body();
        let format = match body {
            _ if is_cloudevents => "cloudevents",
            body => body.as_str(),
        };
        let is_keyed = self.keyed * 2 > self.records;
        let taken = group.taken(body);
        let filtered = if is_cloudevents { events - group.records } else { 0 };
        let found = Found {
            records: self.records,
            taken,
            filtered,
            others: self.records - taken - filtered,
            format: format.to_owned(),
            body: body.as_str(),
            event_type: event_type.clone(),
            is_keyed,
            sample: group.lines.len(),
        };
        let mut skeleton = Skeleton {
            name: name.to_owned(),
            sdk,
            topic: topic.to_owned(),
            format: format.to_owned(),
            event_type: event_type.clone(),
            is_keyed,
            body,
            types: String::new(),
            example: String::new(),
            sample: group.lines.iter().flat_map(|line| [line, "\n"]).collect(),
        };
        group.fill(&mut skeleton, taken)?;
        Ok((skeleton, found))
    }
}

impl Group {
    fn add(&mut self, event: &Event<'_>) {
        self.records += 1;
        if self.lines.len() < KEPT {
            self.lines.extend(Some(sample::render(&event.record)).filter(|line| line.len() <= MAX_LINE));
        }
        let Some(data) = event.data.as_deref() else {
            self.empty += 1;
            return;
        };
        if let Ok(value) = event.json() {
            self.json += 1;
            self.shape.add(value);
            if value.is_object() {
                self.objects += 1;
                self.object_shape.add(value);
            }
            if self.examples.len() < KEPT && data.len() <= MAX_EXAMPLE {
                self.examples.push(value.clone());
            }
        }
        // Binary numbers are often valid UTF-8, but seldom without control characters.
        let is_text = |text: &&str| !text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace());
        if let Some(text) = std::str::from_utf8(data).ok().filter(is_text) {
            self.texts += 1;
            self.first_text.get_or_insert_with(|| text.chars().take(MAX_TEXT_EXAMPLE).collect());
        }
        self.first_bytes.get_or_insert_with(|| data[..data.len().min(MAX_BYTES_EXAMPLE)].to_vec());
    }

    /// JSON if most are objects or all are JSON, text if all are text.
    fn body(&self) -> Body {
        let full = self.records - self.empty;
        if full > 0 && (self.is_mostly_objects() || self.json == full) {
            Body::Json
        } else if full > 0 && self.texts == full {
            Body::Text
        } else {
            Body::Bytes
        }
    }

    fn is_mostly_objects(&self) -> bool {
        self.objects * 2 > self.records - self.empty
    }

    /// How many records a function for this body takes.
    fn taken(&self, body: Body) -> usize {
        match body {
            Body::Json if self.is_mostly_objects() => self.objects,
            Body::Json => self.json,
            Body::Text | Body::Bytes => self.records,
        }
    }

    /// Adds types and example.
    fn fill(&self, skeleton: &mut Skeleton, taken: usize) -> anyhow::Result<()> {
        match skeleton.body {
            Body::Bytes => {
                let bytes = self.first_bytes.as_deref().unwrap_or_default();
                skeleton.example = Value::from(STANDARD.encode(bytes)).to_string();
            }
            Body::Text => {
                let first = self.first_text.as_deref().unwrap_or_default();
                skeleton.example = on_one_line(&Value::from(first));
                if !reads_back(skeleton, &Value::from(first))? {
                    skeleton.example = r#""a text""#.to_owned();
                }
            }
            Body::Json => {
                let objects = self.is_mostly_objects();
                let input = if objects { &self.object_shape } else { &self.shape }.as_type();
                let about = format!("What comes in, as {taken} records of `{}` have it.", skeleton.topic);
                skeleton.types = types::render(&input, &about);
                let samples = self.examples.iter().filter(|value| !objects || value.is_object());
                for value in samples.map(|value| input.written(value)).chain([input.plain_value()]) {
                    skeleton.example = on_one_line(&value);
                    if reads_back(skeleton, &value)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Is the example in cases.yaml what it is in JSON? YAML reads some numbers otherwise, and numbers with very many
/// digits change each time that they are read.
fn reads_back(skeleton: &Skeleton, value: &Value) -> anyhow::Result<bool> {
    let files = skeleton.files();
    let file =
        |name: &str| files.iter().find(|(file, _)| *file == name).map_or("", |(_, text)| text.as_str());
    let functions = crate::manifest::parse(Path::new("/f/function.yaml"), file("function.yaml"))?;
    let Some(function) = functions.first() else { bail!("the manifest holds no function") };
    let Ok(cases) = cases::parse(Path::new("cases.yaml"), file("cases.yaml"), function) else {
        return Ok(false);
    };
    let expected = cases[0].expect.emits.as_deref().and_then(|emits| emits[0].value.as_ref());
    let given = cases[0].given[0].event().and_then(|given| given.sample.value.as_deref()).unwrap_or_default();
    let is_given = match value {
        Value::String(text) if skeleton.body == Body::Text => given == text.as_bytes(),
        value => serde_json::from_slice::<Value>(given).is_ok_and(|given| given == *value),
    };
    let in_rust = serde_json::from_str::<Value>(&skeleton.example).is_ok_and(|read| read == *value);
    Ok(is_given && in_rust && expected.is_some_and(|expected| expected["event"] == *value))
}

/// JSON with spaces, as people write it, and without what would end the string of Rust that it stands in.
fn on_one_line(value: &Value) -> String {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Spaced);
    value.serialize(&mut serializer).expect("a value has a form in JSON");
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    text.replace("\"##", "\"\\u0023#")
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lend_headers;

    type Headers = Vec<(String, Option<Vec<u8>>)>;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec()))).collect()
    }

    fn binary(event_type: &str) -> Headers {
        headers(&[("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "/s"), ("ce_type", event_type)])
    }

    fn made(records: &[(&[u8], Headers)]) -> anyhow::Result<(Skeleton, Found)> {
        let mut survey = Survey::default();
        for (value, headers) in records {
            survey.add(&Record {
                topic: "t",
                partition: 0,
                offset: 0,
                timestamp_ms: 0,
                key: Some(b"k"),
                value: Some(*value),
                headers: &lend_headers(headers),
            });
        }
        survey.skeleton("f", "t", Sdk::Version("1".to_owned()))
    }

    fn plain(values: &[&str]) -> (Skeleton, Found) {
        let records: Vec<_> = values.iter().map(|value| (value.as_bytes(), Headers::new())).collect();
        made(&records).unwrap()
    }

    #[test]
    fn the_format_is_what_the_records_are() {
        for (values, format, others) in [
            (&[r#"{"a":1}"#, r#"{"a":2}"#][..], "json", 0),
            (&[r#"{"a":1}"#, r#"{"a":2}"#, "oops"], "json", 1),
            (&["1", "2.5"], "json", 0),
            (&["1", "two"], "text", 0),
            (&["line\n"], "text", 0),
            (&["line", "\0\0\0\u{1}"], "bytes", 0),
        ] {
            let found = plain(values).1;
            assert_eq!((found.format.as_str(), found.others), (format, others), "{values:?}");
        }
        assert_eq!(made(&[(&[0xff], Headers::new())]).unwrap().1.format, "bytes");
    }

    #[test]
    fn of_cloudevents_the_most_common_type_is_taken() {
        let structured = br#"{"specversion":"1.0","id":"1","source":"/s","type":"b","data":{"n":3}}"#;
        let (skeleton, found) = made(&[
            (br#"{"other":1}"#, binary("a")),
            (br#"{"n":1}"#, binary("b")),
            (structured, headers(&[("content-type", "application/cloudevents+json")])),
            (b"stray", Headers::new()),
        ])
        .unwrap();
        assert_eq!((skeleton.format.as_str(), skeleton.event_type.as_deref()), ("cloudevents", Some("b")));
        assert_eq!((found.taken, found.filtered, found.others), (2, 1, 1));
        assert!(skeleton.types.contains("n: i64") && !skeleton.types.contains("other"), "{}", skeleton.types);
        let function = crate::manifest::parse(Path::new("/f/function.yaml"), &skeleton.files()[1].1).unwrap();
        assert_eq!(function[0].sources[0].filters.len(), 1);
        assert_eq!(skeleton.sample.lines().count(), 2);
    }

    #[test]
    fn an_example_that_yaml_or_rust_would_read_otherwise_is_passed_over() {
        for (value, expected) in [
            (r###"{"a":"\"## \\ \u0007 #"}"###, None),
            (r#""a \"text\"""#, Some(r#""a \"text\"""#)),
            (r###"{"a":"##"}"###, Some(r###"{"a": "\u0023#"}"###)),
            (r#"{"a":18446744073709551615}"#, None),
            (r#"{"a":[1e300,1e-7,-0.0,1E2]}"#, None),
            (r#"{"a":"yes: {{types}} 'x' # no"}"#, Some(r#"{"a": "yes: {{types}} 'x' # no"}"#)),
        ] {
            let (skeleton, _) = plain(&[value]);
            if let Some(expected) = expected {
                assert_eq!(skeleton.example, expected);
            }
            let example: Value = serde_json::from_str(&skeleton.example).unwrap();
            assert!(reads_back(&skeleton, &example).unwrap(), "{}", skeleton.example);
            assert!(!skeleton.example.contains("\"##"), "{}", skeleton.example);
        }
    }

    #[test]
    fn topics_and_types_that_yaml_would_take_for_something_else_are_quoted() {
        for topic in ["1.5", "true", "0x1f", "_a", "1e3"] {
            let mut survey = Survey::default();
            let headers = binary("{x: #1}");
            let value = Some(&b"{\"a\":1}"[..]);
            let record = Record {
                topic,
                partition: 0,
                offset: 0,
                timestamp_ms: 0,
                key: None,
                value,
                headers: &lend_headers(&headers),
            };
            survey.add(&record);
            let (skeleton, found) = survey.skeleton("f", topic, Sdk::Version("1".to_owned())).unwrap();
            let example = serde_json::from_str(&skeleton.example).unwrap();
            assert!(reads_back(&skeleton, &example).unwrap() && !found.is_keyed, "{topic}");
        }
    }

    #[test]
    fn a_topic_that_tells_nothing_is_an_error() {
        let message = made(&[]).unwrap_err().to_string();
        assert!(message.contains("no records"), "{message}");
        let batch = headers(&[("content-type", "application/cloudevents-batch+json")]);
        let message = made(&[(b"[]", batch)]).unwrap_err().to_string();
        assert!(message.contains("can be decoded"), "{message}");
    }
}
