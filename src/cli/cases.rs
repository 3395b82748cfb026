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
//!   - name: a ride that is not paid within an hour stays unpaid
//!     at: 2026-03-01T08:00:00Z      # when it begins; time stands still but for what is given
//!     given:                        # a sequence: also pauses, restarts, and what must come of each step
//!       - { source: ride, key: r-1, value: { rider: ada } }
//!       - advance: 59m              # the clock goes on, and nothing comes
//!         expect: { count: 0 }
//!       - restart: true             # another process takes over: state and offsets are all that stays
//!       - advance: 2m
//!         expect: { emits: [{ sink: unpaid, key: r-1 }] }
//!       - { source: payment, key: r-1, timestamp: 2026-03-01T07:59:00Z, expect: { outcome: deadLetter, reason: late } }
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::sample::{Sample, time_ms};
use super::tick;
use crate::manifest::{Errors, Typed, duration};
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
    /// When it begins: milliseconds since the epoch or RFC 3339. Default: 2026-01-01T00:00:00Z.
    at: Option<Value>,
    /// The events, and what happens between them, in order.
    #[schemars(length(min = 1))]
    given: Vec<WrittenStep>,
    /// What must come of all of it. May be left out where steps say what must come of them.
    expect: Option<Expect>,
}

/// A step as it is written: an event, or one of `advance` and `restart`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenStep {
    /// No event: the clock goes on by so much, as in `5m`, and nothing comes meanwhile. What a window's source brought
    /// no event of for `window.idle` holds event time no more, and when that goes for all of them it goes on with the clock.
    advance: Option<String>,
    /// No event: another process takes over, with a new handler, from the state and the offsets that were written.
    restart: Option<bool>,
    /// What must come of this step alone.
    expect: Option<Expect>,
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
    /// The record's timestamp: milliseconds since the epoch or RFC 3339. Default: now, as the case's clock shows it.
    timestamp: Option<Value>,
    /// Which attempt at this event it is. Default: 1.
    #[schemars(range(min = 1))]
    attempt: Option<u32>,
}

/// What must come of a case, or of one of its steps.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// How each event ends that does not say so itself. Default: ok.
    pub outcome: Option<Ending>,
    /// The reason of the dead letters, as in their header `tidemill-reason`.
    pub reason: Option<Reason>,
    /// A part of the error's text.
    pub error: Option<String>,
    /// How many outputs there are in all.
    pub count: Option<usize>,
    /// Every output, in order.
    pub emits: Option<Vec<ExpectedEmit>>,
    /// Every dead letter, in order: of events, which then need no `outcome`, and of windows. Late events are among them,
    /// also where the manifest gives those a topic of their own.
    pub dead_letters: Option<Vec<ExpectedLetter>>,
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
    /// Every window for it is closed.
    Late,
    /// Further ahead of the clock than `maxSkew`.
    Ahead,
    /// Its stitch ended without something that it needs.
    Incomplete,
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
            Self::Late => Known::Late,
            Self::Ahead => Known::Ahead,
            Self::Incomplete => Known::Incomplete,
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

/// One dead letter that must come. What is left out is not compared.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExpectedLetter {
    /// Why, as in its header `tidemill-reason`.
    pub reason: Option<Reason>,
    /// A part of the error's text.
    pub error: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// Its key, as text; null for Kafka's null.
    #[serde(default, deserialize_with = "present")]
    pub key: Option<Value>,
    /// Its value: that of the event, or the window's result.
    #[serde(default, deserialize_with = "present")]
    pub value: Option<Value>,
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
    /// When it begins, milliseconds since the epoch.
    pub at_ms: i64,
    /// Its steps.
    pub given: Vec<Step>,
    /// What must come of them.
    pub expect: Expect,
}

/// One step of a case.
#[derive(Debug, Clone)]
pub struct Step {
    /// What happens.
    pub act: Act,
    /// What must come of it.
    pub expect: Option<Expect>,
}

impl Step {
    /// The event that comes.
    pub fn event(&self) -> Option<&Given> {
        match &self.act {
            Act::Event(given) => Some(given),
            _ => None,
        }
    }
}

/// What happens in a step.
#[derive(Debug, Clone)]
pub enum Act {
    /// An event comes.
    Event(Given),
    /// The clock goes on, and nothing comes.
    Advance(Duration),
    /// Another process takes over.
    Restart,
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

/// 2026-01-01T00:00:00Z, when a case begins that does not say.
const START_MS: i64 = 1_767_225_600_000;

/// The cases in `text`, the content of `file`, for `function`.
pub fn parse(file: &Path, text: &str, function: &Function) -> Result<Vec<Case>, Errors> {
    let mut typed = Typed::<CaseFile>::read(file, text)?;
    let mut cases = Vec::new();
    for (index, written) in std::mem::take(&mut typed.value.cases).into_iter().enumerate() {
        let path = format!("cases[{index}]");
        let at_ms = written.at.map_or(Ok(START_MS), time_ms).unwrap_or_else(|error| {
            typed.refuse(&format!("{path}.at"), format!("{error:#}"));
            START_MS
        });
        let mut now_ms = at_ms;
        let mut given = Vec::new();
        for (number, mut step) in written.given.into_iter().enumerate() {
            let path = format!("{path}.given[{number}]");
            let expect = step.expect.take();
            match step.against(function, now_ms) {
                Ok(act) => {
                    if let Some((key, message)) =
                        expect.as_ref().and_then(|expect| expect.check(function, Some(&act)).err())
                    {
                        typed.refuse(&format!("{path}.expect.{key}"), message);
                    }
                    if let Act::Advance(by) = act {
                        now_ms = now_ms.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
                    }
                    given.push(Step { act, expect });
                }
                Err((key, message)) => typed.refuse(&format!("{path}{key}"), message),
            }
        }
        let is_told = given.iter().any(|step| step.expect.is_some());
        if written.expect.is_none() && !is_told && typed.errors().is_empty() {
            typed.refuse(&format!("{path}.expect"), "is missing");
        }
        let expect = written.expect.unwrap_or_default();
        if let Err((key, message)) = expect.check(function, None) {
            typed.refuse(&format!("{path}.expect.{key}"), message);
        }
        let line = typed.line(&format!("{path}.name"));
        cases.push(Case { name: written.name, line, at_ms, given, expect });
    }
    if typed.errors().is_empty() { Ok(cases) } else { Err(typed.errors().clone()) }
}

impl WrittenStep {
    /// What happens, at `now_ms`; or the key that cannot be meant, if it is one, and why.
    fn against(self, function: &Function, now_ms: i64) -> Result<Act, (String, String)> {
        let refuse = |key: &str, message: &str| Err((key.to_owned(), message.to_owned()));
        let is_event = [&self.key, &self.value, &self.headers, &self.attributes, &self.timestamp]
            .into_iter()
            .any(Option::is_some)
            || [&self.source, &self.topic, &self.key_base64, &self.value_base64]
                .into_iter()
                .any(Option::is_some)
            || self.attempt.is_some();
        match (&self.advance, self.restart) {
            (Some(_), Some(_)) => refuse("", "`advance` and `restart` are two steps: part them"),
            (Some(_), None) if is_event => {
                refuse(".advance", "an event takes no time: make it a step of its own")
            }
            (None, Some(_)) if is_event => {
                refuse(".restart", "nothing restarts within an event: make it a step of its own")
            }
            (Some(text), None) => {
                duration(text).map(Act::Advance).map_err(|message| (".advance".to_owned(), message))
            }
            (None, Some(true)) => Ok(Act::Restart),
            (None, Some(false)) => refuse(".restart", "write `restart: true`, or leave the step out"),
            (None, None) if self.attempt.is_some() && function.has_window() => {
                refuse(".attempt", "no call is made for an event by itself, only for windows: leave it out")
            }
            (None, None) => {
                let event = self.event(function, now_ms);
                event.map(Act::Event).map_err(|error| (String::new(), format!("{error:#}")))
            }
        }
    }

    fn event(self, function: &Function, now_ms: i64) -> anyhow::Result<Given> {
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
        tick::fill(&mut sample, &function.sources[source], now_ms);
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
    /// It says which outputs there are.
    pub fn tells_outputs(&self) -> bool {
        self.emits.is_some() || self.count.is_some()
    }

    /// What cannot be meant of a step, or of a whole case: the key and why.
    fn check(&self, function: &Function, act: Option<&Act>) -> Result<(), (String, String)> {
        let refuse = |key: &str, message: String| Err((key.to_owned(), message));
        let outcome = self.outcome.unwrap_or_default();
        if matches!(act, Some(Act::Advance(_) | Act::Restart))
            && !matches!(outcome, Ending::Ok | Ending::Stop)
        {
            let message =
                "no event ends here, and what becomes of windows stands in `emits` and `deadLetters`";
            return refuse("outcome", message.to_owned());
        }
        if self.reason.is_some() && outcome != Ending::DeadLetter {
            return refuse("reason", "only a dead letter has one: add `outcome: deadLetter`".to_owned());
        }
        let fails = matches!(outcome, Ending::DeadLetter | Ending::Retry | Ending::Stop);
        if self.error.is_some() && !fails {
            return refuse("error", "add `outcome: deadLetter` or `outcome: retry`".to_owned());
        }
        let emits = self.emits.as_deref().unwrap_or_default();
        // Windows may have given something before.
        let is_single = !function.has_window() && self.outcome.is_some_and(|outcome| outcome != Ending::Ok);
        if is_single && (!emits.is_empty() || self.count.unwrap_or(0) > 0) {
            let outcome = outcome.as_str();
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
        for (index, letter) in self.dead_letters.iter().flatten().enumerate() {
            if let Some(key) = letter.key.as_ref().filter(|key| !key.is_string() && !key.is_null()) {
                let message = format!("a key is text: write \"{key}\"");
                return refuse(&format!("deadLetters[{index}].key"), message);
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
        let event = |step: &Step| step.event().map(|given| (given.source, given.failed));
        let given: Vec<_> = cases[0].given.iter().filter_map(event).collect();
        assert_eq!((given, cases[0].line), (vec![(0, 0), (1, 2)], 2));
    }

    #[test]
    fn steps_between_events_are_told_from_them() {
        let text = "cases:\n  - name: n\n    at: 2026-03-01T08:00:00Z\n    given:\n      - advance: 5m\n      \
                    - restart: true\n      - { source: ride, expect: { outcome: filtered } }\n";
        let case = parse(Path::new("cases.yaml"), text, &function()).unwrap().remove(0);
        assert!(matches!(case.given[0].act, Act::Advance(by) if by == Duration::from_secs(300)));
        assert!(matches!(case.given[1].act, Act::Restart));
        let outcome = case.given[2].expect.as_ref().and_then(|expect| expect.outcome);
        assert_eq!((case.at_ms, outcome), (1_772_352_000_000, Some(Ending::Filtered)));
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
            (given, "cases.yaml:2: cases[0].expect: is missing"),
            (
                &format!("{given}    at: today\n    expect: {{}}\n"),
                "cases.yaml:4: cases[0].at: timestamp \"today\" is not RFC 3339, such as 2024-05-01T12:00:00Z",
            ),
            (
                "    given:\n      - advance: 5\n    expect: {}\n",
                "cases.yaml:4: cases[0].given[0].advance: expected text, found the number 5: write \"5\"",
            ),
            (
                "    given:\n      - advance: 5 minutes\n    expect: {}\n",
                "cases.yaml:4: cases[0].given[0].advance: \"5 minutes\" is no duration: write a whole number and ms, s, \
                 m, h or d, as in `10s`",
            ),
            (
                "    given:\n      - source: ride\n        advance: 5m\n    expect: {}\n",
                "cases.yaml:5: cases[0].given[0].advance: an event takes no time: make it a step of its own",
            ),
            (
                "    given: [{ restart: true, value: 1 }]\n    expect: {}\n",
                "cases.yaml:3: cases[0].given[0].restart: nothing restarts within an event: make it a step of its own",
            ),
            (
                "    given: [{ restart: false }]\n    expect: {}\n",
                "cases.yaml:3: cases[0].given[0].restart: write `restart: true`, or leave the step out",
            ),
            (
                "    given: [{ restart: true, advance: 1s }]\n    expect: {}\n",
                "cases.yaml:3: cases[0].given[0]: `advance` and `restart` are two steps: part them",
            ),
            (
                "    given:\n      - advance: 1s\n        expect: { outcome: deadLetter }\n",
                "cases.yaml:5: cases[0].given[0].expect.outcome: no event ends here, and what becomes of windows stands \
                 in `emits` and `deadLetters`",
            ),
            (
                "    given:\n      - source: ride\n        expect:\n          deadLetters: [{ key: 7 }]\n",
                "cases.yaml:6: cases[0].given[0].expect.deadLetters[0].key: a key is text: write \"7\"",
            ),
        ] {
            let found = refused(case);
            assert!(found.lines().any(|line| line == message), "{case}\n{found}");
        }
    }
}
