//! Filters: which events a source lets in and which outputs a sink takes. Compiled once from the
//! manifest; inside a list what is cheap is asked first, and the body is parsed only when a `field`
//! predicate is reached. A filter never fails: what cannot be compared does not match.
//!
//! The dialects are Knative's (`exact`, `prefix`, `suffix`, `all`, `any`, `not`, and the old
//! `attributes`), so a missing attribute matches nothing. Where Knative's brokers differ, `attributes`
//! follows the channel-based one: the empty string means "there, whatever it says", while the Kafka
//! broker takes it for "anything, even missing". A CESQL dialect will be one more [`Predicate`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::Test;
use super::pointer::Pointer;
use crate::codec::rfc3339::Timestamp;
use crate::model::{Event, Filter};

/// What a filter looks at.
pub trait Subject {
    /// The CloudEvents attribute `name` as its canonical string.
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>>;

    /// The value of the last header `name`; `Some(None)` is Kafka's null.
    fn header(&self, name: &str) -> Option<Option<&[u8]>>;

    /// The body, if it is JSON. A body that is not has no fields.
    fn json(&self) -> Option<&Value>;
}

impl Subject for Event<'_> {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        Event::attribute(self, name)
    }

    fn header(&self, name: &str) -> Option<Option<&[u8]>> {
        self.record.header(name).map(|header| header.value)
    }

    fn json(&self) -> Option<&Value> {
        Event::json(self).ok()
    }
}

/// A list of filters, all of which must hold; an empty one lets everything pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Filters {
    predicates: Vec<Predicate>,
}

impl Filters {
    /// Compiles the filters of a source or a sink.
    pub fn compile(filters: &[Filter]) -> Self {
        Self { predicates: compile_list(filters) }
    }

    /// Nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.predicates.is_empty()
    }

    /// Whether all filters hold for `subject`.
    #[inline]
    pub fn pass(&self, subject: &impl Subject) -> bool {
        self.predicates.iter().all(|predicate| predicate.holds(subject))
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Predicate {
    Attribute { name: String, expected: Expected },
    All(Vec<Predicate>),
    Any(Vec<Predicate>),
    Not(Box<Predicate>),
    Header { name: String, tests: Vec<Test> },
    Field { path: Pointer, tests: Vec<Test> },
}

/// What an attribute must be.
#[derive(Debug, Clone, PartialEq)]
enum Expected {
    Present,
    Equal(String),
    /// The same moment, however it is written.
    Moment(Timestamp),
    Prefix(String),
    Suffix(String),
}

impl Predicate {
    fn holds(&self, subject: &impl Subject) -> bool {
        match self {
            Self::Attribute { name, expected } => {
                subject.attribute(name).is_some_and(|value| expected.is_met(&canonical(name, &value)))
            }
            Self::All(list) => list.iter().all(|predicate| predicate.holds(subject)),
            Self::Any(list) => list.iter().any(|predicate| predicate.holds(subject)),
            Self::Not(inner) => !inner.holds(subject),
            Self::Header { name, tests } => {
                let value = subject.header(name);
                tests.iter().all(|test| test.holds_for_header(value))
            }
            Self::Field { path, tests } => {
                let value = subject.json().and_then(|body| path.find(body));
                tests.iter().all(|test| test.holds_for_field(value))
            }
        }
    }

    /// How dear it is to ask, roughly: parsing a body outweighs everything else.
    fn cost(&self) -> u32 {
        match self {
            Self::Attribute { .. } | Self::Header { .. } => 1,
            Self::Field { .. } => 1000,
            Self::Not(inner) => inner.cost(),
            Self::All(list) | Self::Any(list) => list.iter().map(Self::cost).sum(),
        }
    }
}

impl Expected {
    fn is_met(&self, value: &Canonical<'_>) -> bool {
        match self {
            Self::Present => true,
            Self::Equal(text) => value.text() == text,
            Self::Moment(moment) => value.moment() == Some(*moment),
            Self::Prefix(text) => value.text().starts_with(text.as_str()),
            Self::Suffix(text) => value.text().ends_with(text.as_str()),
        }
    }
}

/// An attribute's canonical string: as it is, but for `time`, which is compared in UTC and without
/// trailing zeros.
enum Canonical<'a> {
    Text(&'a str),
    Time(Timestamp, crate::codec::rfc3339::Rendered),
}

fn canonical<'a>(name: &str, value: &'a str) -> Canonical<'a> {
    if name == "time"
        && let Some(time) = Timestamp::parse(value)
        && let Some(rendered) = time.render()
    {
        return Canonical::Time(time, rendered);
    }
    Canonical::Text(value)
}

impl Canonical<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Time(_, rendered) => rendered.as_str(),
        }
    }

    fn moment(&self) -> Option<Timestamp> {
        match self {
            Self::Text(_) => None,
            Self::Time(time, _) => Some(*time),
        }
    }
}

fn compile_list(filters: &[Filter]) -> Vec<Predicate> {
    let mut list: Vec<Predicate> = filters.iter().map(compile).collect();
    list.sort_by_key(Predicate::cost);
    list
}

fn compile(filter: &Filter) -> Predicate {
    match filter {
        Filter::Exact(attributes) => all_of(attributes, equal),
        Filter::Prefix(attributes) => all_of(attributes, |_, text| Expected::Prefix(text.to_owned())),
        Filter::Suffix(attributes) => all_of(attributes, |_, text| Expected::Suffix(text.to_owned())),
        Filter::Attributes(attributes) => all_of(attributes, |name, text| match text {
            "" => Expected::Present,
            text => equal(name, text),
        }),
        Filter::All(list) => Predicate::All(compile_list(list)),
        Filter::Any(list) => Predicate::Any(compile_list(list)),
        Filter::Not(inner) => Predicate::Not(Box::new(compile(inner))),
        Filter::Header { name, tests } => {
            Predicate::Header { name: name.clone(), tests: tests.iter().map(Test::compile).collect() }
        }
        Filter::Field { path, tests } => {
            Predicate::Field { path: Pointer::new(path), tests: tests.iter().map(Test::compile).collect() }
        }
    }
}

fn equal(name: &str, text: &str) -> Expected {
    match Timestamp::parse(text) {
        Some(moment) if name == "time" => Expected::Moment(moment),
        _ => Expected::Equal(text.to_owned()),
    }
}

fn all_of(attributes: &BTreeMap<String, String>, expected: impl Fn(&str, &str) -> Expected) -> Predicate {
    let mut list: Vec<Predicate> = attributes
        .iter()
        .map(|(name, text)| Predicate::Attribute { name: name.clone(), expected: expected(name, text) })
        .collect();
    match list.pop() {
        Some(only) if list.is_empty() => only,
        Some(last) => {
            list.push(last);
            Predicate::All(list)
        }
        None => Predicate::All(list),
    }
}
