//! Cases: which events a function is given, and what must come of them. A `cases.yaml` beside the
//! manifest holds a list of these; `tidemill test` runs them.
//!
//! ```yaml
//! cases:
//!   - name: a ride becomes a receipt
//!     given:                        # the fields of a sample's line, and `source`, `attempt`
//!       - key: r-1
//!         value: { rider: ada, fare_cents: 2380 }
//!     expect:
//!       outcome: ok                 # of every event: ok | skip | filtered | retry | deadLetter | stop
//!       emits:                      # all of them, in order; what is left out of one is not compared
//!         - { key: ada, value: { total_cents: 2380 }, attributes: { subject: r-1 } }
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::sample::Sample;
use super::tick;
use super::verdict::START_MS;
use crate::manifest::{Errors, Typed};
use crate::model::Function;

/// A file of cases.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CaseFile {
    /// The cases.
    #[schemars(length(min = 1))]
    cases: Vec<WrittenCase>,
}

/// A case as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenCase {
    /// The promise that it checks.
    #[schemars(length(min = 1))]
    name: String,
    /// The events, in order.
    #[schemars(length(min = 1))]
    given: Vec<WrittenEvent>,
    /// What must come of them.
    expect: Expect,
}

/// An event as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenEvent {
    /// The source that it comes from. Default: the one of its topic, or the only one.
    source: Option<String>,
    /// The topic, instead of the source.
    topic: Option<String>,
    /// The key: text, or JSON whose text is the key. Default: Kafka's null.
    key: Option<Value>,
    /// A key that is no text.
    key_base64: Option<String>,
    /// The value: text as it is, anything else as compact JSON. Default: Kafka's null; of a clock, its tick.
    value: Option<Value>,
    /// A value that is no text.
    value_base64: Option<String>,
    /// Headers by name.
    headers: Option<Value>,
    /// The attributes of a CloudEvent in binary mode.
    attributes: Option<Value>,
    /// The record's timestamp: milliseconds since the epoch or RFC 3339. Default: now, that is 2026-01-01T00:00:00Z.
    timestamp: Option<Value>,
    /// Which attempt at this event it is. Default: 1.
    #[schemars(range(min = 1))]
    attempt: Option<u32>,
}

/// What must come of a case's events.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// How each event ends. Default: ok.
    #[serde(default)]
    pub outcome: Ending,
    /// The reason of the dead letters, as in their header `tidemill-reason`.
    pub reason: Option<Reason>,
    /// A part of the error's text.
    pub error: Option<String>,
    /// How many outputs there are in all.
    pub count: Option<usize>,
    /// Every output, in order.
    pub emits: Option<Vec<ExpectedEmit>>,
}

/// How an event ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// Handled.
    #[default]
    Ok,
    /// Skipped by the handler.
    Skip,
    /// Refused by a filter.
    Filtered,
    /// To be tried again.
    Retry,
    /// A dead letter.
    DeadLetter,
    /// The function stops.
    Stop,
}

impl Ending {
    /// The word in cases and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Filtered => "filtered",
            Self::Retry => "retry",
            Self::DeadLetter => "deadLetter",
            Self::Stop => "stop",
        }
    }
}

/// The reason of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It could not be decoded.
    Malformed,
    /// Key or time are missing.
    Unkeyed,
    /// The handler rejected it.
    Rejected,
    /// Out of attempts.
    Exhausted,
    /// Older than `maxEventAge`.
    TooOld,
    /// An output was refused.
    Unwritable,
    /// An output is not as its sink asks.
    BadOutput,
}

impl Reason {
    /// The word in the dead letter's header.
    pub fn as_str(self) -> &'static str {
        use crate::model::DeadLetterReason as Known;
        match self {
            Self::Malformed => Known::Malformed,
            Self::Unkeyed => Known::Unkeyed,
            Self::Rejected => Known::Rejected,
            Self::Exhausted => Known::Exhausted,
            Self::TooOld => Known::TooOld,
            Self::Unwritable => Known::Unwritable,
            Self::BadOutput => Known::BadOutput,
        }
        .as_str()
    }
}

/// One output that must come. What is left out is not compared.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedEmit {
    /// The name of the sink.
    pub sink: Option<String>,
    /// Its key, as text; null for Kafka's null.
    #[serde(default, deserialize_with = "present")]
    pub key: Option<Value>,
    /// Its payload, compared as JSON; text for one that is no JSON; null for a tombstone.
    #[serde(default, deserialize_with = "present")]
    pub value: Option<Value>,
    /// Its timestamp, milliseconds since the epoch.
    pub timestamp: Option<i64>,
    /// Headers that it must have; others do not matter.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// CloudEvents attributes that it must have; others do not matter.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// Tells null from nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// One case, ready to run.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it promises.
    pub name: String,
    /// Where it begins in its file.
    pub line: usize,
    /// Its events.
    pub given: Vec<Given>,
    /// What must come of them.
    pub expect: Expect,
}

/// One event of a case.
#[derive(Debug, Clone)]
pub struct Given {
    /// The source's place in the manifest.
    pub source: usize,
    /// The record.
    pub sample: Sample,
    /// Calls of it that failed before.
    pub failed: u32,
}

/// The cases in `text`, the content of `file`, for `function`.
pub fn parse(file: &Path, text: &str, function: &Function) -> Result<Vec<Case>, Errors> {
    let mut typed = Typed::<CaseFile>::read(file, text)?;
    let mut cases = Vec::new();
    for (index, written) in std::mem::take(&mut typed.value.cases).into_iter().enumerate() {
        let path = format!("cases[{index}]");
        let mut given = Vec::new();
        for (number, event) in written.given.into_iter().enumerate() {
            match event.against(function) {
                Ok(event) => given.push(event),
                Err(error) => typed.refuse(&format!("{path}.given[{number}]"), format!("{error:#}")),
            }
        }
        if let Err((key, message)) = written.expect.check(function) {
            typed.refuse(&format!("{path}.expect.{key}"), message);
        }
        let line = typed.line(&format!("{path}.name"));
        cases.push(Case { name: written.name, line, given, expect: written.expect });
    }
    if typed.errors().is_empty() { Ok(cases) } else { Err(typed.errors().clone()) }
}

impl WrittenEvent {
    fn against(self, function: &Function) -> anyhow::Result<Given> {
        let source = source_of(function, self.source.as_deref(), self.topic.as_deref())?;
        let mut line = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                line.insert(name.to_owned(), value);
            }
        };
        put("key", self.key);
        put("keyBase64", self.key_base64.map(Value::String));
        put("value", self.value);
        put("valueBase64", self.value_base64.map(Value::String));
        put("headers", self.headers);
        put("attributes", self.attributes);
        put("timestamp", self.timestamp);
        let mut sample = Sample::parse(&Value::Object(line).to_string())?;
        tick::fill(&mut sample, &function.sources[source], START_MS);
        Ok(Given { source, sample, failed: self.attempt.unwrap_or(1) - 1 })
    }
}

/// The place of the source that is meant by name, by topic, or by being the only one.
pub fn source_of(function: &Function, name: Option<&str>, topic: Option<&str>) -> anyhow::Result<usize> {
    let sources = &function.sources;
    let known = |of: fn(&crate::model::Source) -> &str| {
        sources.iter().map(|source| format!("`{}`", of(source))).collect::<Vec<_>>().join(", ")
    };
    match (name, topic) {
        (Some(name), _) => sources
            .iter()
            .position(|source| source.name == name)
            .filter(|&place| topic.is_none_or(|topic| sources[place].topic == topic))
            .with_context(|| format!("no source `{name}`; there is {}", known(|source| &source.name))),
        (None, Some(topic)) => sources.iter().position(|source| source.topic == topic).with_context(|| {
            format!("no source reads the topic `{topic}`, only {}", known(|source| &source.topic))
        }),
        (None, None) if sources.len() == 1 => Ok(0),
        (None, None) => bail!("say which `source` it comes from: {}", known(|source| &source.name)),
    }
}

impl Expect {
    /// What cannot be meant: the key and why.
    fn check(&self, function: &Function) -> Result<(), (String, String)> {
        let refuse = |key: &str, message: String| Err((key.to_owned(), message));
        if self.reason.is_some() && self.outcome != Ending::DeadLetter {
            return refuse("reason", "only a dead letter has one: add `outcome: deadLetter`".to_owned());
        }
        let fails = matches!(self.outcome, Ending::DeadLetter | Ending::Retry | Ending::Stop);
        if self.error.is_some() && !fails {
            return refuse("error", "add `outcome: deadLetter` or `outcome: retry`".to_owned());
        }
        let emits = self.emits.as_deref().unwrap_or_default();
        if self.outcome != Ending::Ok && (!emits.is_empty() || self.count.unwrap_or(0) > 0) {
            let outcome = self.outcome.as_str();
            return refuse("outcome", format!("an event that ends as `{outcome}` writes nothing to a sink"));
        }
        if self.count.is_some_and(|count| self.emits.is_some() && count != emits.len()) {
            return refuse("count", format!("`emits` lists {}", emits.len()));
        }
        for (index, emit) in emits.iter().enumerate() {
            if let Some(name) =
                emit.sink.as_deref().filter(|name| !function.sinks.iter().any(|s| s.name == *name))
            {
                let known: Vec<_> = function.sinks.iter().map(|sink| format!("`{}`", sink.name)).collect();
                return refuse(
                    &format!("emits[{index}].sink"),
                    format!("no sink `{name}`; there is {}", known.join(", ")),
                );
            }
            if let Some(key) = emit.key.as_ref().filter(|key| !key.is_string() && !key.is_null()) {
                return refuse(&format!("emits[{index}].key"), format!("a key is text: write \"{key}\""));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function() -> Function {
        let text = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: { name: f }\nspec:\n  \
            sources: [{ topic: rides, name: ride }, { topic: payments }]\n  sinks: [{ topic: out, name: o }]\n";
        crate::manifest::parse(Path::new("function.yaml"), text).unwrap().remove(0)
    }

    fn refused(case: &str) -> String {
        let text = format!("cases:\n  - name: n\n{case}");
        parse(Path::new("cases.yaml"), &text, &function()).unwrap_err().to_string()
    }

    #[test]
    fn events_find_their_source_by_name_or_topic() {
        let text = "cases:\n  - name: n\n    given: [{ source: ride }, { topic: payments, attempt: 3 }]\n    \
            expect: { count: 0 }\n";
        let cases = parse(Path::new("cases.yaml"), text, &function()).unwrap();
        let given: Vec<_> = cases[0].given.iter().map(|given| (given.source, given.failed)).collect();
        assert_eq!((given, cases[0].line), (vec![(0, 0), (1, 2)], 2));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_place() {
        let given = "    given: [{ source: ride }]\n";
        for (case, message) in [
            (
                "    given: [{ source: rid }]\n    expect: {}\n",
                "cases.yaml:3: cases[0].given[0]: no source `rid`; there is `ride`, `payments`",
            ),
            (
                "    given: [{}]\n    expect: {}\n",
                "cases.yaml:3: cases[0].given[0]: say which `source` it comes from: `ride`, `payments`",
            ),
            (
                "    given: [{ topic: rids }]\n    expect: {}\n",
                "cases.yaml:3: cases[0].given[0]: no source reads the topic `rids`, only `rides`, `payments`",
            ),
            (
                "    given: [{ vlaue: 1 }]\n    expect: {}\n",
                "cases.yaml:3: cases[0].given[0].vlaue: unknown key, did you mean `value`?",
            ),
            (
                &format!("{given}    expct: {{}}\n"),
                "cases.yaml:4: cases[0].expct: unknown key, did you mean `expect`?",
            ),
            (
                &format!("{given}    expect: {{ outcome: deadletter }}\n"),
                "cases.yaml:4: cases[0].expect.outcome: unknown word `deadletter`, did you mean `deadLetter`?",
            ),
            (
                &format!("{given}    expect:\n      reason: rejected\n"),
                "cases.yaml:5: cases[0].expect.reason: only a dead letter has one: add `outcome: deadLetter`",
            ),
            (
                &format!("{given}    expect: {{ outcome: skip, count: 1 }}\n"),
                "cases.yaml:4: cases[0].expect.outcome: an event that ends as `skip` writes nothing to a sink",
            ),
            (
                &format!("{given}    expect: {{ emits: [{{ sink: p }}] }}\n"),
                "cases.yaml:4: cases[0].expect.emits[0].sink: no sink `p`; there is `o`",
            ),
            (
                &format!("{given}    expect: {{ emits: [{{ key: 7 }}] }}\n"),
                "cases.yaml:4: cases[0].expect.emits[0].key: a key is text: write \"7\"",
            ),
        ] {
            let found = refused(case);
            assert!(found.lines().any(|line| line == message), "{case}\n{found}");
        }
    }
}
