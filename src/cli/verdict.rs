//! Runs a case and says what is not as it should be.
//!
//! Each case runs three times: plainly, with every step taken twice, and with a fresh handler for every step. The plain run
//! is held against the expectation, the others against the plain run: where they differ, the handler keeps something that
//! a redelivery or a restart would betray. What is gathered in windows is rolled back before a step comes again, and read
//! from the state that was written by each fresh handler.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use serde_json::Value;

use super::cases::{Act, Case, Ending, Expect, ExpectedEmit, ExpectedLetter};
use super::trial::{Delivery, Make, Trial, Written};
use crate::model::Function;

/// What is wrong with a case, one finding a line; nothing if it is as it should be. An error: no
/// handler can be made.
pub fn judge(function: &Arc<Function>, make: Make<'_>, case: &Case) -> anyhow::Result<Vec<String>> {
    let plain = plain_run(function, make, case)?;
    let mut findings = unexpected(case, &plain);
    findings.extend(hidden_state(function, make, case, &plain)?);
    Ok(findings)
}

fn plain_run(function: &Arc<Function>, make: Make<'_>, case: &Case) -> anyhow::Result<Vec<Delivery>> {
    let mut trial = Trial::new(function, make()?, case.at_ms);
    let mut deliveries = Vec::new();
    for number in 0..case.given.len() {
        deliveries.push(trial.take(case, number, make)?);
        trial.keep();
    }
    Ok(deliveries)
}

fn hidden_state(
    function: &Arc<Function>,
    make: Make<'_>,
    case: &Case,
    plain: &[Delivery],
) -> anyhow::Result<Option<String>> {
    let mut twice = Trial::new(function, make()?, case.at_ms);
    let mut fresh = Trial::new(function, None, case.at_ms);
    let has_handler = function.handler.is_some();
    for (number, first) in plain.iter().enumerate() {
        let betrayed = |how: &str, again: &Delivery| {
            let step = label(case, number).unwrap_or_else(|| format!("event {}", number + 1));
            Ok(Some(betrayed(&step, how, (first, again), has_handler)))
        };
        for is_again in [false, true] {
            if is_again {
                twice.undo(case, number);
            }
            let again = twice.take(case, number, make)?;
            if again != *first {
                return betrayed("when events are delivered twice", &again);
            }
        }
        twice.keep();
        fresh.hand_over(make()?)?;
        let elsewhere = fresh.take(case, number, make)?;
        if elsewhere != *first {
            return betrayed("in a fresh handler", &elsewhere);
        }
        fresh.keep();
    }
    Ok(None)
}

fn betrayed(step: &str, how: &str, (first, other): (&Delivery, &Delivery), has_handler: bool) -> String {
    let (before, after) = (told(first), told(other));
    let lines = format!("\n  at first: {before}\n  then:     {after}");
    if !has_handler {
        return format!("{step} gives something else {how}, and there is no handler: report this{lines}");
    }
    format!(
        "state hidden in the handler: {step} gives something else {how}; what `self` keeps is lost on a restart \
         and not shared between workers{lines}"
    )
}

/// How findings call a step; `None`: it is the only one.
fn label(case: &Case, number: usize) -> Option<String> {
    let is_plain = case.given.iter().all(|step| matches!(step.act, Act::Event(_)) && step.expect.is_none());
    let step = match case.given[number].act {
        _ if is_plain && case.given.len() == 1 => return None,
        _ if is_plain => return Some(format!("event {}", number + 1)),
        Act::Event(_) => "event",
        Act::Advance(_) => "advance",
        Act::Restart => "restart",
    };
    Some(format!("given[{number}] ({step})"))
}

/// A delivery in one line.
fn told(delivery: &Delivery) -> String {
    let mut text = delivery.ending().as_str().to_owned();
    if let Some(error) = delivery.error() {
        let _ = write!(text, " ({error})");
    }
    if let Some(message) = &delivery.waiting {
        let _ = write!(text, " (waits: {message})");
    }
    for written in delivery.outputs().chain(delivery.letters_of_windows()) {
        let _ = write!(text, " {}", summary(written));
    }
    text
}

/// An output, or a dead letter, in one line.
fn summary(written: &Written) -> String {
    let what = match &written.sink {
        Some(sink) => sink.clone(),
        None => {
            let of = |name| written.header(name).unwrap_or_default();
            format!("dead letter ({}: {})", of("tidemill-reason"), of("tidemill-error"))
        }
    };
    format!("{what}: {} = {}", written.key.text(), written.value.json())
}

/// Where `deliveries` are not as expected.
fn unexpected(case: &Case, deliveries: &[Delivery]) -> Vec<String> {
    let mut findings = Vec::new();
    let whole = &case.expect;
    let tells_by_step = case.given.iter().flat_map(|step| &step.expect).any(Expect::tells_outputs);
    let none = Expect { emits: Some(Vec::new()), ..Expect::default() };
    for (number, (step, delivery)) in case.given.iter().zip(deliveries).enumerate() {
        let at = label(case, number).map_or(String::new(), |label| format!("{label}: "));
        let mut found = Vec::new();
        let own = step.expect.as_ref();
        let is_listed = own.is_some_and(|own| own.dead_letters.is_some()) || whole.dead_letters.is_some();
        let ends = match (own.filter(|own| own.outcome.is_some()), &step.act) {
            (Some(own), _) => own,
            (None, Act::Event(_)) => whole,
            (None, _) => &Expect::default(),
        };
        compare_ending(ends, delivery, is_listed, &mut found);
        match own.filter(|own| own.tells_outputs()) {
            Some(own) => compare_outputs(own, std::slice::from_ref(delivery), &mut found),
            None if tells_by_step && !whole.tells_outputs() => {
                compare_outputs(&none, std::slice::from_ref(delivery), &mut found);
            }
            None => {}
        }
        match own.and_then(|own| own.dead_letters.as_ref()) {
            Some(letters) => compare_letters(letters, std::slice::from_ref(delivery), &mut found),
            None if !is_listed => {
                let letters = delivery.letters_of_windows();
                found.extend(letters.map(|letter| format!("deadLetters: not expected: {}", summary(letter))));
            }
            None => {}
        }
        findings.extend(found.into_iter().map(|finding| format!("{at}{finding}")));
    }
    compare_outputs(whole, deliveries, &mut findings);
    if let Some(letters) = &whole.dead_letters {
        compare_letters(letters, deliveries, &mut findings);
    }
    findings
}

/// How an event ended. One whose dead letter is listed need not say so besides.
fn compare_ending(expect: &Expect, delivery: &Delivery, is_listed: bool, findings: &mut Vec<String>) {
    let (ending, error) = (delivery.ending(), delivery.error().unwrap_or_default());
    if expect.outcome.is_none() && is_listed && ending == Ending::DeadLetter {
        return;
    }
    let outcome = expect.outcome.unwrap_or_default();
    if ending != outcome {
        let because = if error.is_empty() { String::new() } else { format!(" ({error})") };
        findings.push(format!("outcome: expected {}, got {}{because}", outcome.as_str(), ending.as_str()));
        return;
    }
    let reason = expect.reason.map(|reason| reason.as_str());
    if let (Some(expected), Some(found)) = (reason, delivery.reason())
        && expected != found
    {
        findings.push(format!("reason: expected {expected}, got {found} ({error})"));
    }
    if let Some(part) = expect.error.as_deref().filter(|part| !error.contains(part)) {
        findings.push(format!("error: expected one with {part:?}, got {error:?}"));
    }
}

fn compare_outputs(expect: &Expect, deliveries: &[Delivery], findings: &mut Vec<String>) {
    let outputs: Vec<&Written> = deliveries.iter().flat_map(Delivery::outputs).collect();
    if let Some(count) = expect.count.filter(|count| expect.emits.is_none() && *count != outputs.len()) {
        findings.push(format!("count: expected {count} outputs, got {}", outputs.len()));
        findings.extend(outputs.iter().map(|written| format!("  {}", summary(written))));
    }
    if let Some(emits) = &expect.emits {
        for (index, expected) in emits.iter().enumerate() {
            match outputs.get(index) {
                Some(written) => compare_emit(index, expected, written, findings),
                None => findings.push(format!("emits[{index}]: expected an output, got none")),
            }
        }
        let more = outputs.iter().enumerate().skip(emits.len());
        findings.extend(
            more.map(|(index, written)| format!("emits[{index}]: not expected: {}", summary(written))),
        );
    }
}

fn compare_letters(letters: &[ExpectedLetter], deliveries: &[Delivery], findings: &mut Vec<String>) {
    let found: Vec<&Written> = deliveries.iter().flat_map(Delivery::letters).collect();
    for (index, expected) in letters.iter().enumerate() {
        let at = format!("deadLetters[{index}]");
        let Some(letter) = found.get(index) else {
            findings.push(format!("{at}: expected a dead letter, got none"));
            continue;
        };
        let mut differ = |part: &str, expected: &dyn Display, found: &dyn Display| {
            findings.push(format!("{at}.{part}: expected {expected}, got {found}"));
        };
        let of = |name| letter.header(name).unwrap_or_default();
        let (reason, error) = (of("tidemill-reason"), of("tidemill-error"));
        if let Some(expected) = expected.reason.filter(|expected| expected.as_str() != reason) {
            differ("reason", &expected.as_str(), &format_args!("{reason} ({error})"));
        }
        if let Some(part) = expected.error.as_ref().filter(|part| !error.contains(*part)) {
            differ("error", &format_args!("one with {part:?}"), &format_args!("{error:?}"));
        }
        if let Some(topic) = expected.topic.as_ref().filter(|topic| **topic != letter.topic) {
            differ("topic", topic, &letter.topic);
        }
        if let Some(key) = expected.key.as_ref().filter(|key| **key != letter.key.text()) {
            differ("key", key, &letter.key.text());
        }
        if let Some(value) = &expected.value {
            compare_value(value, letter, &mut differ);
        }
    }
    let more = found.iter().enumerate().skip(letters.len());
    findings.extend(
        more.map(|(index, letter)| format!("deadLetters[{index}]: not expected: {}", summary(letter))),
    );
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
        compare_value(value, written, &mut differ);
    }
}

fn compare_value(
    value: &Value,
    written: &Written,
    differ: &mut impl FnMut(&str, &dyn Display, &dyn Display),
) {
    let found = match value {
        // A JSON string may stand for itself or, as in samples, for the characters in it.
        Value::String(_) if written.value.text() == *value => value.clone(),
        _ => written.value.json(),
    };
    if written.value.0.is_none() != value.is_null() {
        differ("value", value, &written.value.text());
    } else {
        compare_json("value", value, &found, differ);
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
