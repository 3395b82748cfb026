//! Runs a case and says what is not as it should be.
//!
//! Each case runs three times: plainly, with every event delivered twice, and with a fresh handler for
//! every event. The plain run is held against the expectation, the others against the plain run: where
//! they differ, the handler keeps something that a redelivery or a restart would betray.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::cases::{Case, Expect, ExpectedEmit, Given};
use super::trial::{Delivery, Make, Trial, Written};
use crate::model::{Function, Moment, Record};

/// 2026-01-01T00:00:00Z, when every case begins.
pub const START_MS: i64 = 1_767_225_600_000;

/// What is wrong with a case, one finding a line; nothing if it is as it should be. An error: no
/// handler can be made.
pub fn judge(function: &Arc<Function>, make: Make<'_>, case: &Case) -> anyhow::Result<Vec<String>> {
    let plain = plain_run(function, make, case)?;
    let mut findings = unexpected(&case.expect, &plain);
    findings.extend(hidden_state(function, make, case, &plain)?);
    Ok(findings)
}

fn plain_run(function: &Arc<Function>, make: Make<'_>, case: &Case) -> anyhow::Result<Vec<Delivery>> {
    let mut trial = Trial::new(function, make()?);
    Ok(case
        .given
        .iter()
        .enumerate()
        .map(|(number, given)| deliver(&mut trial, function, number, given))
        .collect())
}

/// Event `number` of a case, at its place in virtual time: one millisecond after the one before.
fn deliver(trial: &mut Trial, function: &Function, number: usize, given: &Given) -> Delivery {
    let elapsed_ms = i64::try_from(number).unwrap_or(i64::MAX);
    let now =
        Moment { wall_ms: START_MS + elapsed_ms, elapsed: Duration::from_millis(elapsed_ms.unsigned_abs()) };
    let record = Record {
        topic: &function.sources[given.source].topic,
        partition: 0,
        offset: elapsed_ms,
        timestamp_ms: given.sample.timestamp_ms.unwrap_or(now.wall_ms),
        key: given.sample.key.as_deref(),
        value: given.sample.value.as_deref(),
        headers: &given.sample.borrowed_headers(),
    };
    trial.deliver(given.source, &record, given.failed, now)
}

fn hidden_state(
    function: &Arc<Function>,
    make: Make<'_>,
    case: &Case,
    plain: &[Delivery],
) -> anyhow::Result<Option<String>> {
    let mut twice = Trial::new(function, make()?);
    let mut fresh = Trial::new(function, None);
    for (number, (given, first)) in case.given.iter().zip(plain).enumerate() {
        for _ in 0..2 {
            let again = deliver(&mut twice, function, number, given);
            if again != *first {
                return Ok(Some(betrayed(number, "when events are delivered twice", first, &again)));
            }
        }
        fresh.set_handler(make()?);
        let elsewhere = deliver(&mut fresh, function, number, given);
        if elsewhere != *first {
            return Ok(Some(betrayed(number, "in a fresh handler", first, &elsewhere)));
        }
    }
    Ok(None)
}

fn betrayed(number: usize, how: &str, first: &Delivery, other: &Delivery) -> String {
    let (before, after) = (told(first), told(other));
    format!(
        "state hidden in the handler: event {} gives something else {how}; what `self` keeps is lost on a restart \
         and not shared between workers\n  at first: {before}\n  then:     {after}",
        number + 1
    )
}

/// A delivery in one line.
fn told(delivery: &Delivery) -> String {
    let mut text = delivery.ending().as_str().to_owned();
    if let Some(error) = delivery.error() {
        let _ = write!(text, " ({error})");
    }
    for written in delivery.outputs() {
        let _ = write!(text, " {}", summary(written));
    }
    text
}

/// An output in one line.
fn summary(written: &Written) -> String {
    let sink = written.sink.as_deref().unwrap_or("dead letter");
    format!("{sink}: {} = {}", written.key.text(), written.value.json())
}

/// Where `deliveries` are not as expected.
fn unexpected(expect: &Expect, deliveries: &[Delivery]) -> Vec<String> {
    let mut findings = Vec::new();
    let is_one = deliveries.len() == 1;
    for (number, delivery) in deliveries.iter().enumerate() {
        let event = if is_one { String::new() } else { format!("event {}: ", number + 1) };
        let (ending, error) = (delivery.ending(), delivery.error().unwrap_or_default());
        if ending != expect.outcome {
            let because = if error.is_empty() { String::new() } else { format!(" ({error})") };
            findings.push(format!(
                "{event}outcome: expected {}, got {}{because}",
                expect.outcome.as_str(),
                ending.as_str()
            ));
            continue;
        }
        let reason = expect.reason.map(|reason| reason.as_str());
        if let (Some(expected), Some(found)) = (reason, delivery.reason())
            && expected != found
        {
            findings.push(format!("{event}reason: expected {expected}, got {found} ({error})"));
        }
        if let Some(part) = expect.error.as_deref().filter(|part| !error.contains(part)) {
            findings.push(format!("{event}error: expected one with {part:?}, got {error:?}"));
        }
    }
    let outputs: Vec<&Written> = deliveries.iter().flat_map(Delivery::outputs).collect();
    if let Some(count) = expect.count.filter(|count| expect.emits.is_none() && *count != outputs.len()) {
        findings.push(format!("count: expected {count} outputs, got {}", outputs.len()));
        findings.extend(outputs.iter().map(|written| format!("  {}", summary(written))));
    }
    if let Some(emits) = &expect.emits {
        for (index, expected) in emits.iter().enumerate() {
            match outputs.get(index) {
                Some(written) => compare_emit(index, expected, written, &mut findings),
                None => findings.push(format!("emits[{index}]: expected an output, got none")),
            }
        }
        let more = outputs.iter().enumerate().skip(emits.len());
        findings.extend(
            more.map(|(index, written)| format!("emits[{index}]: not expected: {}", summary(written))),
        );
    }
    findings
}

fn compare_emit(index: usize, expected: &ExpectedEmit, written: &Written, findings: &mut Vec<String>) {
    let mut differ = |part: &str, expected: &dyn Display, found: &dyn Display| {
        findings.push(format!("emits[{index}].{part}: expected {expected}, got {found}"));
    };
    if let Some(sink) = &expected.sink
        && Some(sink) != written.sink.as_ref()
    {
        differ("sink", &Value::from(sink.as_str()), &Value::from(written.sink.as_deref()));
    }
    if let Some(key) = expected.key.as_ref().filter(|key| **key != written.key.text()) {
        differ("key", key, &written.key.text());
    }
    if let Some(timestamp) = expected.timestamp.filter(|timestamp| Some(*timestamp) != written.timestamp) {
        differ("timestamp", &Value::from(timestamp), &Value::from(written.timestamp));
    }
    for (name, text) in &expected.attributes {
        let found = written.attributes.get(name).unwrap_or(&Value::Null);
        if found.as_str() != Some(text) {
            differ(&format!("attributes.{name}"), &Value::from(text.as_str()), found);
        }
    }
    for (name, text) in &expected.headers {
        let found = written.headers.iter().rev().find(|(known, _)| known == name);
        let found = found.map_or(Value::Null, |(_, value)| value.text());
        if found.as_str() != Some(text) {
            differ(&format!("headers.{name}"), &Value::from(text.as_str()), &found);
        }
    }
    if let Some(value) = &expected.value {
        let found = match value {
            // A JSON string may stand for itself or, as in samples, for the characters in it.
            Value::String(_) if written.value.text() == *value => value.clone(),
            _ => written.value.json(),
        };
        if written.value.0.is_none() != value.is_null() {
            differ("value", value, &written.value.text());
        } else {
            compare_json("value", value, &found, &mut differ);
        }
    }
}

/// Calls `differ` for each place where `found` is not `expected`.
fn compare_json(
    path: &str,
    expected: &Value,
    found: &Value,
    differ: &mut impl FnMut(&str, &dyn Display, &dyn Display),
) {
    match (expected, found) {
        (Value::Object(wanted), Value::Object(there)) => {
            for (key, value) in wanted {
                let path = format!("{path}.{key}");
                match there.get(key) {
                    Some(found) => compare_json(&path, value, found, differ),
                    None => differ(&path, value, &"nothing"),
                }
            }
            for (key, value) in there.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
                differ(&format!("{path}.{key}"), &"nothing", value);
            }
        }
        (Value::Array(wanted), Value::Array(there)) if wanted.len() == there.len() => {
            for (index, (wanted, there)) in wanted.iter().zip(there).enumerate() {
                compare_json(&format!("{path}[{index}]"), wanted, there, differ);
            }
        }
        (Value::Number(wanted), Value::Number(there)) if wanted.as_f64() == there.as_f64() => {
            // Beyond 2^53 equal floats do not make equal whole numbers.
            if wanted.is_f64() == there.is_f64() && wanted != there {
                differ(path, expected, found);
            }
        }
        _ if expected == found => {}
        _ => differ(path, expected, found),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::cli::cases;
    use crate::manifest;
    use crate::model::{Emit, Failure, FailureKind, KeyChoice, Outbox, Outcome};
    use crate::pipeline::{Call, Handler};

    /// A handler made of a closure.
    struct Made<F>(F);

    impl<F: FnMut(&Call<'_>) -> Result<String, Failure> + Send> Handler for Made<F> {
        fn call(&mut self, call: &Call<'_>, outbox: &mut Outbox) -> Outcome {
            match (self.0)(call) {
                Err(failure) => Outcome::Failed(failure),
                Ok(text) => {
                    let emit = Emit {
                        sink: None,
                        key: KeyChoice::OfEvent,
                        value: Some(text.as_bytes()),
                        content_type: None,
                        timestamp_ms: None,
                        headers: &[],
                    };
                    assert!(outbox.push(&emit));
                    Outcome::Ok
                }
            }
        }

        fn take_counts(&mut self, _: &mut dyn FnMut(&str, u64)) {}
    }

    fn function() -> Arc<Function> {
        let text = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: { name: f }\nspec:\n  \
            handler: { plugin: f }\n  sources: [{ topic: in, format: json }]\n  sinks: [{ topic: out }]\n";
        Arc::new(manifest::parse(Path::new("function.yaml"), text).unwrap().remove(0))
    }

    fn case(given: Value, expect: Value) -> Case {
        let text = json!({ "cases": [{ "name": "n", "given": given, "expect": expect }] }).to_string();
        cases::parse(Path::new("cases.yaml"), &text, &function()).unwrap().remove(0)
    }

    fn judged<F>(handler: impl Fn() -> F, case: &Case) -> String
    where
        F: FnMut(&Call<'_>) -> Result<String, Failure> + Send + 'static,
    {
        judge(&function(), &|| Ok(Some(Box::new(Made(handler())))), case).unwrap().join("\n")
    }

    fn echo() -> impl FnMut(&Call<'_>) -> Result<String, Failure> + Send {
        |call: &Call<'_>| Ok(String::from_utf8_lossy(call.event.data()).into_owned())
    }

    #[test]
    fn a_case_that_holds_has_no_findings() {
        let value = json!({ "a": [1, 2.0, null], "b": { "c": "d" } });
        let emits =
            json!([{ "sink": "default", "key": "k", "value": { "a": [1.0, 2, null], "b": { "c": "d" } } }]);
        let case = case(json!([{ "key": "k", "value": value }]), json!({ "emits": emits, "count": 1 }));
        assert_eq!(judged(echo, &case), "");
    }

    #[test]
    fn what_is_not_as_expected_is_named_place_by_place() {
        let given = json!([{ "key": "k", "value": { "a": 1, "more": true, "list": [{ "x": 1 }] } }]);
        for (expect, findings) in [
            (json!({ "emits": [{ "key": "j" }] }), "emits[0].key: expected \"j\", got \"k\""),
            (
                json!({ "emits": [{ "value": { "a": 2, "list": [{ "x": 2 }], "less": 0 } }] }),
                "emits[0].value.a: expected 2, got 1\n\
                 emits[0].value.less: expected 0, got nothing\n\
                 emits[0].value.list[0].x: expected 2, got 1\n\
                 emits[0].value.more: expected nothing, got true",
            ),
            (json!({ "emits": [{ "value": null }] }), "emits[0].value: expected null, got "),
            (
                json!({ "emits": [{ "headers": { "h": "1" } }] }),
                "emits[0].headers.h: expected \"1\", got null",
            ),
            (
                json!({ "emits": [{ "attributes": { "type": "t" } }] }),
                "emits[0].attributes.type: expected \"t\"",
            ),
            (json!({ "emits": [{}, {}] }), "emits[1]: expected an output, got none"),
            (json!({ "emits": [] }), "emits[0]: not expected: default: \"k\" = {\"a\":1,"),
            (json!({ "count": 2 }), "count: expected 2 outputs, got 1"),
            (json!({ "outcome": "skip" }), "outcome: expected skip, got ok"),
        ] {
            let found = judged(echo, &case(given.clone(), expect.clone()));
            assert!(found.starts_with(findings), "{expect}:\n{found}");
        }
    }

    #[test]
    fn failures_are_compared_by_outcome_reason_and_error() {
        let reject = || {
            |_: &Call<'_>| -> Result<String, Failure> {
                Err(Failure {
                    kind: FailureKind::Reject { code: Some("c".into()) },
                    message: "too old".into(),
                })
            }
        };
        let given = json!([{ "value": 1 }, { "value": 2 }]);
        let expect = json!({ "outcome": "deadLetter", "reason": "rejected", "error": "c: too" });
        assert_eq!(judged(reject, &case(given.clone(), expect)), "");
        let expect = json!({ "outcome": "deadLetter", "reason": "unkeyed", "error": "no key" });
        assert_eq!(
            judged(reject, &case(given, expect)),
            "event 1: reason: expected unkeyed, got rejected (c: too old)\n\
             event 1: error: expected one with \"no key\", got \"c: too old\"\n\
             event 2: reason: expected unkeyed, got rejected (c: too old)\n\
             event 2: error: expected one with \"no key\", got \"c: too old\""
        );
        let expect = json!({ "outcome": "ok" });
        let found = judged(reject, &case(json!([{ "value": 1 }]), expect));
        assert_eq!(found, "outcome: expected ok, got deadLetter (c: too old)");
    }

    #[test]
    fn attempts_run_out() {
        let retry = || {
            |_: &Call<'_>| -> Result<String, Failure> {
                Err(Failure { kind: FailureKind::Retry { after: None }, message: "away".into() })
            }
        };
        let expect = json!({ "outcome": "retry", "error": "away" });
        assert_eq!(judged(retry, &case(json!([{ "value": 1 }]), expect)), "");
        let expect = json!({ "outcome": "deadLetter", "reason": "exhausted" });
        assert_eq!(judged(retry, &case(json!([{ "value": 1, "attempt": 12 }]), expect)), "");
    }

    #[test]
    fn state_hidden_in_the_handler_is_found() {
        let counting = || {
            let mut calls = 0;
            move |_: &Call<'_>| {
                calls += 1;
                Ok(calls.to_string())
            }
        };
        let once = case(json!([{ "key": "k", "value": 0 }]), json!({ "emits": [{ "value": 1 }] }));
        assert_eq!(
            judged(counting, &once),
            "state hidden in the handler: event 1 gives something else when events are delivered twice; what \
             `self` keeps is lost on a restart and not shared between workers\n  \
             at first: ok default: \"k\" = 1\n  then:     ok default: \"k\" = 2"
        );
        // Deduplicates, so delivering twice is no matter, but a restart is.
        let remembering = || {
            let mut seen = Vec::new();
            move |call: &Call<'_>| {
                if !seen.contains(&call.event.record.offset) {
                    seen.push(call.event.record.offset);
                }
                Ok(seen.len().to_string())
            }
        };
        let two = case(json!([{ "value": 0 }, { "value": 0 }]), json!({ "count": 2 }));
        let found = judged(remembering, &two);
        assert!(
            found.starts_with("state hidden in the handler: event 2 gives something else in a fresh"),
            "{found}"
        );
    }
}
