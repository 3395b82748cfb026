//! A dead letter as a case for cases.yaml: the event as it was, and that it is handled.

use serde_json::Value;

use super::letter::Letter;
use crate::cli::sample;
use crate::model::{DeadLetterReason, Function};

/// The longest name of a case, in characters.
const LONGEST_NAME: usize = 100;

/// The case, indented as an item of `cases:`.
pub fn render(letter: &Letter<'_>, function: &Function) -> String {
    let line = letter.with_event(sample::render);
    let line: Value = serde_json::from_str(&line).expect("a rendered record is JSON");
    let name: String = format!("{} is handled, not {}: {}", letter.origin(), letter.reason, letter.error)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_NAME)
        .collect();
    let mut fields = Vec::new();
    if let (Ok(place), true) = (&letter.place, function.sources.len() > 1) {
        fields.push(match function.sources.iter().find(|source| source.topic == place.topic) {
            Some(source) => format!("source: {}", quoted(&source.name)),
            None => format!("topic: {}", quoted(place.topic)),
        });
    }
    let text = |bytes: Option<&[u8]>| bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let field = |name: &str| line.get(name).map(|value| format!("{name}: {}", plain(&value.to_string())));
    fields.extend(text(letter.record.key).map(|key| format!("key: {}", quoted(&key))));
    fields.extend(field("keyBase64"));
    fields.extend(text(letter.record.value).map(|value| format!("value: {}", value_of(&value))));
    fields.extend(field("valueBase64"));
    fields.extend(field("headers"));
    // Cases run at a time of their own, at which the event would be of another age.
    let is_age = letter.reason == DeadLetterReason::TooOld.as_str();
    if is_age || function.delivery.max_event_age.is_zero() {
        fields.extend(line.get("timestamp").map(|ms| format!("timestamp: {ms}")));
    }
    if fields.is_empty() {
        fields.push("value: null".to_owned());
    }
    format!(
        "  - name: {}\n    given:\n      - {}\n    expect:\n      outcome: ok\n",
        quoted(&name),
        fields.join("\n        ")
    )
}

/// JSON where the same bytes stand in it but for their order and the blanks between them, else text.
fn value_of(text: &str) -> String {
    let sorted = |text: &str| {
        let mut bytes: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        bytes.sort_unstable();
        bytes
    };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::String(_) | Value::Null) | Err(_) => quoted(text),
        Ok(value) if sorted(&value.to_string()) == sorted(text) => plain(&value.to_string()),
        Ok(_) => quoted(text),
    }
}

/// Text in YAML's double quotes, which are JSON's but for what YAML does not take as it stands.
fn quoted(text: &str) -> String {
    plain(&Value::from(text).to_string())
}

fn plain(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out += &format!("\\u{:04x}", character as u32);
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::letter::tests::dead;
    use super::super::letter::{Id, Kept};
    use super::*;
    use crate::cli::cases;
    use crate::model::{Record, lend_headers};

    fn function() -> Function {
        let text = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: { name: f }\nspec:\n  \
            sources: [{ topic: other }, { topic: rides, name: ride }]\n  sinks: [{ topic: out }]\n";
        crate::manifest::parse(Path::new("function.yaml"), text).unwrap().remove(0)
    }

    fn case_of(kept: &Kept) -> String {
        let headers = kept.headers();
        render(&Letter::of(&kept.record("f.dlq", &headers), "default/f").unwrap(), &function())
    }

    #[test]
    fn it_is_a_case_that_a_person_would_write() {
        let case = case_of(&dead(Id { partition: 0, offset: 5 }, &[]));
        let expected = r#"  - name: "rides/3@42 is handled, not rejected: no rider"
    given:
      - source: "ride"
        key: "k"
        value: {"a":1}
        headers: {"own":"h"}
        timestamp: 1000
    expect:
      outcome: ok
"#;
        assert_eq!(case, expected);
    }

    #[test]
    fn values_stay_what_they_are() {
        for (text, written) in [
            (r#"{"b": 1, "a": [ ]}"#, r#"{"a":[],"b":1}"#),
            ("1.50", "\"1.50\""),
            ("12345678901234567890123", "\"12345678901234567890123\""),
            (r#"{"a":1,"a":2}"#, r#""{\"a\":1,\"a\":2}""#),
            ("null", "\"null\""),
            ("\"text\"", r#""\"text\"""#),
            ("no json", "\"no json\""),
            ("", "\"\""),
        ] {
            assert_eq!(value_of(text), written, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_case_is_given_the_same_event(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..8)),
            value in prop::option::of(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..20),
                "\\PC{0,12}".prop_map(String::into_bytes),
                any::<String>().prop_map(String::into_bytes),
            ]),
            own in prop::collection::vec(("[a-c]", prop::option::of(any::<String>())), 0..3),
        ) {
            let mut headers: Vec<_> =
                own.into_iter().map(|(name, value)| (name, value.map(String::into_bytes))).collect();
            let template = dead(Id { partition: 0, offset: 5 }, &[]);
            let death = template.headers();
            headers.extend(crate::model::own_headers(&death[1..]));
            let (lent, none) = (lend_headers(&headers), Vec::new());
            let record = Record {
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &lent,
                ..template.record("f.dlq", &none)
            };
            let text = format!("cases:\n{}", render(&Letter::of(&record, "default/f").unwrap(), &function()));
            let cases = cases::parse(Path::new("cases.yaml"), &text, &function());
            let given = match &cases {
                Ok(cases) => cases[0].given[0].event().expect("an event"),
                Err(errors) => return Err(TestCaseError::fail(format!("{errors}\n{text}"))),
            };
            prop_assert_eq!(given.source, 1);
            prop_assert_eq!(&given.sample.key, &key);
            prop_assert_eq!(given.sample.timestamp_ms, Some(1000));
            let expected: Vec<_> =
                headers.iter().filter(|(name, _)| !name.starts_with("tidemill-")).cloned().collect();
            let mut sorted = given.sample.headers.clone();
            let mut expected_sorted = expected;
            sorted.sort();
            expected_sorted.sort();
            prop_assert_eq!(sorted, expected_sorted);
            let parsed = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(|b| serde_json::from_slice::<Value>(b).ok());
            if given.sample.value != value {
                prop_assert_eq!(parsed(&given.sample.value), parsed(&value), "{}", text);
                prop_assert!(parsed(&value).flatten().is_some());
            }
        }
    }
}
