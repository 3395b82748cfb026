//! A window that gives its result: its events by source, or what was made of them.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Deserialize;
use serde_json::value::RawValue;
use tidemill_abi as abi;

use crate::event::{bytes, text};
use crate::{Event, Failure};

/// A window that gives its result, borrowed for the call.
///
/// It holds its events, or, if the manifest asks for aggregates, what was made of them.
pub struct Window<'a> {
    raw: &'a abi::Window,
    events: Vec<Event<'a>>,
    missing: Vec<&'a str>,
}

/// Why a window gives a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FiredBy {
    /// It closed: event time has passed its end, or it has its count.
    Close,
    /// An event came.
    Update,
    /// So many events came.
    Count,
    /// All needed sources have their event.
    Complete,
    /// It ended before all needed sources had theirs; [`Window::missing`] names the others.
    Timeout,
    /// For a reason that this version of the SDK does not know.
    Other,
}

/// Words and what they mean.
const FIRED: [(&str, FiredBy); 5] = [
    ("close", FiredBy::Close),
    ("update", FiredBy::Update),
    ("count", FiredBy::Count),
    ("complete", FiredBy::Complete),
    ("timeout", FiredBy::Timeout),
];

impl FiredBy {
    /// The word in the manifest and in results: `close`, `update`, `count`, `complete`, `timeout`; `other`.
    pub fn as_str(self) -> &'static str {
        FIRED.iter().find(|(_, fired)| *fired == self).map_or("other", |(word, _)| *word)
    }

    pub(crate) fn of(word: &str) -> Self {
        FIRED.iter().find(|(known, _)| *known == word).map_or(Self::Other, |(_, fired)| *fired)
    }
}

impl fmt::Display for FiredBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'a> Window<'a> {
    pub(crate) fn new(raw: &'a abi::Window, call: &'a abi::Call) -> Self {
        // SAFETY: the contract: so many pointers to events, and so many names, valid until the call ends.
        let (events, missing) = unsafe {
            (
                list::<*const abi::Event>(raw.events, raw.event_count),
                list::<abi::Slice>(raw.missing, raw.missing_count),
            )
        };
        let event = |(place, event): (usize, &*const abi::Event)| {
            // SAFETY: as above.
            Event::of_window(unsafe { &**event }, call, place)
        };
        Self {
            raw,
            events: events.iter().enumerate().map(event).collect(),
            missing: missing.iter().map(|name| text(*name).unwrap_or_default()).collect(),
        }
    }

    /// The key whose events it holds.
    pub fn key(&self) -> &'a [u8] {
        bytes(self.raw.key).unwrap_or_default()
    }

    /// The key as text; `None` when it is not UTF-8.
    pub fn key_str(&self) -> Option<&'a str> {
        text(self.raw.key)
    }

    /// Where it begins, milliseconds since the epoch. Aligned windows may begin before it.
    pub fn start_ms(&self) -> i64 {
        self.raw.start_ms
    }

    /// Where it ends, milliseconds since the epoch. The end is not in a tumbling or hopping window, and is in any other.
    pub fn end_ms(&self) -> i64 {
        self.raw.end_ms
    }

    /// Event time of the result, milliseconds since the epoch: the last moment that is in it, or when it did not close but
    /// gave a result early, its newest event's time. Outputs that say no time of their own have it.
    pub fn time_ms(&self) -> i64 {
        self.raw.time_ms
    }

    /// Why it gives a result.
    pub fn fired(&self) -> FiredBy {
        FiredBy::of(text(self.raw.fired).unwrap_or_default())
    }

    /// The events that it holds, by (time, source, partition, offset); none where there are aggregates.
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }

    /// The events of a source, by its name in the manifest, in the same order.
    pub fn all<'w>(&'w self, source: &str) -> impl DoubleEndedIterator<Item = &'w Event<'a>> {
        self.events.iter().filter(move |event| event.source() == source)
    }

    /// The only event of a source.
    ///
    /// # Errors
    /// A reject when there is none, or more than one.
    pub fn one(&self, source: &str) -> Result<&Event<'a>, Failure> {
        let mut all = self.all(source);
        match (all.next(), all.count()) {
            (Some(event), 0) => Ok(event),
            (None, _) => Err(Failure::reject(format_args!("the window has no event of `{source}`"))),
            (Some(_), more) => Err(Failure::reject(format_args!(
                "the window has {} events of `{source}`, not one",
                more + 1
            ))),
        }
    }

    /// The earliest event of a source, if there is any.
    pub fn get(&self, source: &str) -> Option<&Event<'a>> {
        self.all(source).next()
    }

    /// One aggregate, by its name in the manifest. Whole numbers are exact: take an `i128` where an `i64` may be too small.
    /// Where no event had the field `min`, `max`, `avg`, `first` and `last` are null: take an `Option`.
    ///
    /// # Errors
    /// A reject when the window keeps its events instead, when there is no such aggregate, or it is not of this shape.
    pub fn aggregate<T: Deserialize<'a>>(&self, name: &str) -> Result<T, Failure> {
        let all: BTreeMap<String, &'a RawValue> = self.aggregates()?;
        let one = all.get(name).ok_or_else(|| {
            let known: Vec<&str> = all.keys().map(String::as_str).collect();
            Failure::reject(format_args!("the window has no aggregate `{name}`, but {}", known.join(", ")))
        })?;
        serde_json::from_str(one.get()).map_err(|error| {
            Failure::reject(format_args!("the aggregate `{name}` is not of the expected shape: {error}"))
        })
    }

    /// All aggregates: a struct with a field for each, or a map.
    ///
    /// # Errors
    /// A reject when the window keeps its events instead, or they are not of this shape.
    pub fn aggregates<T: Deserialize<'a>>(&self) -> Result<T, Failure> {
        let json = bytes(self.raw.aggregates).ok_or_else(|| {
            Failure::reject("the window keeps its events: `window` in the manifest has no `aggregate`")
        })?;
        serde_json::from_slice(json).map_err(|error| {
            Failure::reject(format_args!("the aggregates are not of the expected shape: {error}"))
        })
    }

    /// The names of the needed sources that have no event.
    pub fn missing(&self) -> &[&'a str] {
        &self.missing
    }

    /// `key/start/end/digest`: the digest is of why it fired and what it holds, since two windows of a key may have the
    /// same bounds, and one window may give several results.
    pub(crate) fn name(&self) -> String {
        let mut name = String::new();
        match self.key_str() {
            Some(key) => name.push_str(key),
            None => self.key().iter().for_each(|byte| {
                // Writing to a `String` does not fail.
                let _ = write!(name, "{byte:02x}");
            }),
        }
        let mut digest = Fnv::new();
        digest.add(bytes(self.raw.fired).unwrap_or_default());
        digest.add(bytes(self.raw.aggregates).unwrap_or_default());
        for event in &self.events {
            digest.add(event.topic().as_bytes());
            digest.add(&event.partition().to_le_bytes());
            digest.add(&event.offset().to_le_bytes());
        }
        let _ = write!(name, "/{}/{}/{:016x}", self.raw.start_ms, self.raw.end_ms, digest.0);
        name
    }
}

/// FNV-1a of 64 bits, each part behind its length.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, part: &[u8]) {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(part) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A list that the host passed in; its pointer may be anything when it is empty.
///
/// # Safety
/// Unless `count` is 0 so many values from `first` on are initialised and stay unchanged for `'a`.
unsafe fn list<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(first, count) }
}
