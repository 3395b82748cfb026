//! A record as one line of JSON: the lines of sample files, of `produce --records` and of
//! `tail --output json`, so that what one prints another takes.
//!
//! ```json
//! {"topic": "rides", "key": "r-1", "value": {"fare": 12}, "headers": {"trace": "abc"}, "timestamp": 1700000000000}
//! {"attributes": {"type": "ride.ended", "source": "/app", "id": "7"}, "value": {"fare": 12}}
//! ```
//!
//! * `value`: any JSON, whose text is the record's value; a JSON string stands for its characters; `null` or
//!   nothing is Kafka's null. `key` likewise. Other bytes: `valueBase64`, `keyBase64`.
//! * `headers`: an object, or a list of `[name, value]` pairs where a name comes twice. A value is text, null or
//!   `{"base64": "…"}`.
//! * `attributes`: those of a CloudEvent in binary mode; they become `ce_` headers, `datacontenttype` the
//!   `content-type`, which is `application/json` by itself for a JSON value.
//! * `timestamp`: milliseconds since the epoch or RFC 3339 text. `partition` and `offset` are printed by `tail` and
//!   not looked at here.

use std::fmt;
use std::marker::PhantomData;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::codec::attribute;
use crate::codec::rfc3339::Timestamp;
use crate::model::{Header, Record, lend_headers};

/// One record of a sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Where it goes, when the line says so.
    pub topic: Option<String>,
    /// Key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since the epoch, when the line says so.
    pub timestamp_ms: Option<i64>,
}

impl Sample {
    /// Reads one line.
    pub fn parse(line: &str) -> anyhow::Result<Self> {
        let line: Line<'_> = serde_json::from_str(line)?;
        let mut headers = Vec::new();
        if let Some(attributes) = &line.attributes {
            let is_json = line.value.is_some_and(|value| !value.get().starts_with('"'));
            let names_type = |headers: &Pairs<_>| headers.0.iter().any(|(name, _)| name == "content-type");
            cloudevent_headers(
                attributes,
                is_json && !line.headers.as_ref().is_some_and(names_type),
                &mut headers,
            )?;
        }
        for (name, value) in line.headers.unwrap_or_default().0 {
            let value =
                value.map(|value| value.bytes().with_context(|| format!("header {name}"))).transpose()?;
            headers.push((name, value));
        }
        Ok(Self {
            topic: line.topic,
            key: bytes("key", line.key, line.key_base64)?,
            value: bytes("value", line.value, line.value_base64)?,
            headers,
            timestamp_ms: line.timestamp.map(Time::millisecond).transpose()?,
        })
    }

    /// The headers as a writer takes them.
    pub fn borrowed_headers(&self) -> Vec<Header<'_>> {
        lend_headers(&self.headers)
    }
}

/// A time as samples have it: milliseconds since the epoch, or RFC 3339 text.
pub fn time_ms(value: serde_json::Value) -> anyhow::Result<i64> {
    serde_json::from_value::<Time>(value)?.millisecond()
}

/// Writes a record as one line, without the line's end.
pub fn render(record: &Record<'_>) -> String {
    let utf8 = |bytes: Option<&'_ [u8]>| bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let base64 = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) if std::str::from_utf8(bytes).is_err() => Some(STANDARD.encode(bytes)),
        _ => None,
    };
    let key_base64 = base64(record.key);
    let value_base64 = base64(record.value);
    let printed = Printed {
        topic: record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: (record.timestamp_ms >= 0).then_some(record.timestamp_ms),
        key: key_base64.is_none().then(|| utf8(record.key)),
        key_base64,
        value: value_base64.is_none().then(|| utf8(record.value).map(embedded)),
        value_base64,
        headers: (!record.headers().is_empty()).then_some(PrintedHeaders(record.headers())),
    };
    serde_json::to_string(&printed).expect("strings, numbers and checked JSON can always be written")
}

/// A value as JSON: itself when reading it back gives the same bytes, else a string.
fn embedded(text: String) -> Box<RawValue> {
    let is_whole = !text.contains(['\n', '\r']) && text.trim() == text;
    let is_itself = is_whole && !text.starts_with('"') && text != "null";
    // Taken over only when it is JSON.
    match is_itself.then(|| RawValue::from_string(text.clone())) {
        Some(Ok(value)) => value,
        _ => serde_json::value::to_raw_value(&text).expect("a string can always be written"),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line<'a> {
    topic: Option<String>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    key_base64: Option<String>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    value_base64: Option<String>,
    headers: Option<Pairs<Option<HeaderValue>>>,
    attributes: Option<Pairs<serde_json::Value>>,
    timestamp: Option<Time>,
    #[serde(rename = "partition")]
    _partition: Option<IgnoredAny>,
    #[serde(rename = "offset")]
    _offset: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a header's value is text, null or {\"base64\": \"…\"}")]
enum HeaderValue {
    Text(String),
    Base64 { base64: String },
}

impl HeaderValue {
    fn bytes(self) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Base64 { base64 } => Ok(STANDARD.decode(base64)?),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a timestamp is milliseconds since the epoch or RFC 3339 text")]
enum Time {
    Milliseconds(i64),
    Text(String),
}

impl Time {
    fn millisecond(self) -> anyhow::Result<i64> {
        match self {
            Self::Milliseconds(ms) => Ok(ms),
            Self::Text(text) => Timestamp::parse(&text)
                .map(Timestamp::as_millisecond)
                .with_context(|| format!("timestamp {text:?} is not RFC 3339, such as 2024-05-01T12:00:00Z")),
        }
    }
}

/// Names with values in the order in which they are written, from an object or a list of pairs.
struct Pairs<T>(Vec<(String, T)>);

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or a list of [name, value] pairs")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = list.next_element()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

fn bytes(what: &str, json: Option<&RawValue>, base64: Option<String>) -> anyhow::Result<Option<Vec<u8>>> {
    match (json.map(RawValue::get), base64) {
        (Some(_), Some(_)) => bail!("{what} and {what}Base64 exclude each other"),
        (None, None) => Ok(None),
        (None, Some(base64)) => Ok(Some(STANDARD.decode(base64).with_context(|| format!("{what}Base64"))?)),
        (Some(text), None) if text.starts_with('"') => {
            Ok(Some(serde_json::from_str::<String>(text)?.into_bytes()))
        }
        (Some(text), None) => Ok(Some(text.as_bytes().to_vec())),
    }
}

fn cloudevent_headers(
    attributes: &Pairs<serde_json::Value>,
    is_json: bool,
    headers: &mut Vec<(String, Option<Vec<u8>>)>,
) -> anyhow::Result<()> {
    let has = |name: &str| attributes.0.iter().any(|(known, _)| known == name);
    let missing: Vec<_> =
        attribute::REQUIRED.into_iter().filter(|name| *name != "specversion" && !has(name)).collect();
    if !missing.is_empty() {
        bail!("a CloudEvent needs the attributes id, source and type; missing: {}", missing.join(", "));
    }
    if !has("specversion") {
        headers.push((format!("{}specversion", attribute::PREFIX), Some(b"1.0".to_vec())));
    }
    if is_json && !has("datacontenttype") {
        headers.push(("content-type".to_owned(), Some(b"application/json".to_vec())));
    }
    for (name, value) in &attributes.0 {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(flag) => flag.to_string(),
            _ => bail!("attribute {name} must be text, a number or a boolean"),
        };
        attribute::check_name(name)?;
        attribute::check_value(name, &text)?;
        let header = match name.as_str() {
            "datacontenttype" => "content-type".to_owned(),
            name => format!("{}{name}", attribute::PREFIX),
        };
        headers.push((header, Some(text.into_bytes())));
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Option<Box<RawValue>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<PrintedHeaders<'a>>,
}

struct PrintedHeaders<'a>(&'a [Header<'a>]);

impl Serialize for PrintedHeaders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let has_twins =
            self.0.iter().enumerate().any(|(at, h)| self.0[..at].iter().any(|o| o.name == h.name));
        if has_twins {
            let mut list = serializer.serialize_seq(Some(self.0.len()))?;
            for header in self.0 {
                list.serialize_element(&(header.name, PrintedHeader(header.value)))?;
            }
            return list.end();
        }
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for header in self.0 {
            map.serialize_entry(header.name, &PrintedHeader(header.value))?;
        }
        map.end()
    }
}

struct PrintedHeader<'a>(Option<&'a [u8]>);

impl Serialize for PrintedHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(bytes) = self.0 else { return serializer.serialize_none() };
        match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &STANDARD.encode(bytes))?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(sample: &Sample) -> Vec<(&str, &str)> {
        let text = |value: &'_ Option<Vec<u8>>| match value {
            Some(value) => String::from_utf8(value.clone()).unwrap().leak(),
            None => "<null>",
        };
        sample.headers.iter().map(|(name, value)| (name.as_str(), text(value) as &str)).collect()
    }

    #[test]
    fn values_and_keys_are_the_bytes_that_stand_in_the_line() {
        for (line, key, value) in [
            (r#"{"value": {"b":1,  "a":2}}"#, None, Some(r#"{"b":1,  "a":2}"#)),
            (r#"{"key": "k", "value": "plain \"text\""}"#, Some("k"), Some(r#"plain "text""#)),
            (r#"{"key": 12, "value": 1.50}"#, Some("12"), Some("1.50")),
            (r#"{"key": "", "value": ""}"#, Some(""), Some("")),
            (r#"{"key": null, "value": null}"#, None, None),
            (r#"{"keyBase64": "aw==", "valueBase64": "dg=="}"#, Some("k"), Some("v")),
        ] {
            let sample = Sample::parse(line).unwrap();
            assert_eq!(sample.key.as_deref(), key.map(str::as_bytes), "{line}");
            assert_eq!(sample.value.as_deref(), value.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn attributes_become_headers_of_a_cloudevent() {
        let line = r#"{"attributes": {"type": "t", "source": "/s", "id": "1", "priority": 5}, "value": {}, "headers": {"x": "y"}}"#;
        let sample = Sample::parse(line).unwrap();
        let expected = [
            ("ce_specversion", "1.0"),
            ("content-type", "application/json"),
            ("ce_type", "t"),
            ("ce_source", "/s"),
            ("ce_id", "1"),
            ("ce_priority", "5"),
            ("x", "y"),
        ];
        assert_eq!(headers(&sample), expected);
        let line = r#"{"attributes": {"type": "t", "source": "/s", "id": "1", "datacontenttype": "text/xml"}, "value": 1}"#;
        assert!(headers(&Sample::parse(line).unwrap()).contains(&("content-type", "text/xml")));
    }

    #[test]
    fn headers_keep_their_order_and_may_repeat() {
        let sample = Sample::parse(r#"{"headers": {"z": "1", "a": null}}"#).unwrap();
        assert_eq!(headers(&sample), [("z", "1"), ("a", "<null>")]);
        let sample = Sample::parse(r#"{"headers": [["a", "1"], ["a", {"base64": "Mg=="}]]}"#).unwrap();
        assert_eq!(headers(&sample), [("a", "1"), ("a", "2")]);
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        for (line, part) in [
            (r#"{"vlaue": 1}"#, "vlaue"),
            (r#"{"attributes": {"type": "t"}}"#, "missing: id, source"),
            (r#"{"attributes": {"type": "t", "source": "/s", "id": "1", "Bad": "x"}}"#, "Bad"),
            (r#"{"timestamp": "yesterday"}"#, "RFC 3339"),
            (r#"{"value": 1, "valueBase64": "dg=="}"#, "exclude each other"),
            (r#"{"headers": {"a": 1}}"#, "base64"),
            ("not json", "line 1 column"),
        ] {
            let message = format!("{:#}", Sample::parse(line).unwrap_err());
            assert!(message.contains(part), "{line}: {message}");
        }
    }

    #[test]
    fn times_are_milliseconds_or_text() {
        for line in [r#"{"timestamp": 1700000000000}"#, r#"{"timestamp": "2023-11-14T22:13:20Z"}"#] {
            assert_eq!(Sample::parse(line).unwrap().timestamp_ms, Some(1_700_000_000_000));
        }
    }

    fn maybe_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
        let json = r#"(null|true|-?[1-9][0-9]{0,3}|"a"| 1|1 |\{"a":[1, 2]\}|\{\n\}|"[a-z]?)"#;
        prop::option::of(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            json.prop_map(String::into_bytes),
            ".{0,10}".prop_map(String::into_bytes),
        ])
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same_record(
            key in maybe_bytes(),
            value in maybe_bytes(),
            headers in prop::collection::vec(("[a-c]", maybe_bytes()), 0..4),
            timestamp_ms in -1i64..2_000_000_000_000,
        ) {
            let record = Record {
                topic: "t",
                partition: 3,
                offset: 9,
                timestamp_ms,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &lend_headers(&headers),
            };
            let line = render(&record);
            prop_assert!(!line.contains('\n'));
            let expected = Sample {
                topic: Some("t".to_owned()),
                key: key.clone(),
                value: value.clone(),
                headers: headers.clone(),
                timestamp_ms: (timestamp_ms >= 0).then_some(timestamp_ms),
            };
            prop_assert_eq!(Sample::parse(&line).unwrap(), expected, "{}", line);
        }
    }
}
