//! A window's result, as JSON: `{"key": …, "window": {"start": …, "end": …, "fired": …}, <name>: …}`, times in
//! milliseconds since the epoch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Kept;
use super::cell::Cell;

/// Why a window gave a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It closed.
    Close,
    /// An event came.
    Update,
    /// So many events came.
    Count,
    /// A stitch has all that it needs.
    Complete,
    /// A stitch ended without something that it needs.
    Timeout,
}

impl Why {
    /// The word in the result.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Update => "update",
            Self::Count => "count",
            Self::Complete => "complete",
            Self::Timeout => "timeout",
        }
    }
}

/// Which of a key's events are in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// Those from the first time until the second, which is not in it.
    Until(i64, i64),
    /// Those from the first time to the second, both in.
    To(i64, i64),
    /// Those of this stitch.
    Stitch(u64),
    /// All of them.
    All,
}

impl Span {
    pub fn has(self, kept: &Kept) -> bool {
        let time = kept.place.time_ms;
        match self {
            Self::Until(start, end) => (start..end).contains(&time) && kept.came_in_time_for(end),
            Self::To(start, end) => (start..=end).contains(&time) && kept.came_in_time_for(end),
            Self::Stitch(number) => kept.belongs == number,
            Self::All => true,
        }
    }
}

/// The events of a window that keeps them.
#[derive(Debug, Clone, Copy)]
pub struct Members<'a> {
    pub(super) events: &'a [Kept],
    pub(super) span: Span,
}

impl<'a> Members<'a> {
    /// By time, source, partition and offset.
    pub fn iter(self) -> impl Iterator<Item = &'a Kept> {
        self.events.iter().filter(move |kept| self.span.has(kept))
    }
}

/// What a window has to say.
#[derive(Debug, Clone, Copy)]
pub struct Fired<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its bounds, milliseconds since the epoch; whether the end is in it depends on its kind.
    pub bounds: (i64, i64),
    /// Why now.
    pub why: Why,
    /// When, in event time: its end if it closed (one before, if that is not in it), else its newest event's time.
    pub time_ms: i64,
    /// What came of it, in the order of the aggregates' names.
    pub cells: &'a [Cell],
    /// The events that it is made of, if it keeps them.
    pub members: Members<'a>,
    /// Sources that a stitch needs and has nothing of, by their places in the manifest.
    pub missing: &'a [u16],
}

impl Fired<'_> {
    /// Appends the result. A key that is no text is written in base64, as `keyBase64`.
    pub fn write_json<'n>(&self, names: impl Iterator<Item = &'n str>, out: &mut Vec<u8>) {
        Self::open(self.key, self.bounds, self.why, out);
        for (name, cell) in names.zip(self.cells) {
            out.push(b',');
            string(name, out);
            out.push(b':');
            cell.write_json(out);
        }
        out.push(b'}');
    }

    /// Appends the aggregates as one object.
    pub fn write_aggregates<'n>(&self, names: impl Iterator<Item = &'n str>, out: &mut Vec<u8>) {
        out.push(b'{');
        let first = out.len();
        for (name, cell) in names.zip(self.cells) {
            if out.len() > first {
                out.push(b',');
            }
            string(name, out);
            out.push(b':');
            cell.write_json(out);
        }
        out.push(b'}');
    }

    /// Appends the beginning of a result: key and window.
    pub fn open(key: &[u8], bounds: (i64, i64), why: Why, out: &mut Vec<u8>) {
        Self::open_key(key, out);
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(br#","window":{"start":"#);
        out.extend_from_slice(number.format(bounds.0).as_bytes());
        out.extend_from_slice(br#","end":"#);
        out.extend_from_slice(number.format(bounds.1).as_bytes());
        out.extend_from_slice(br#","fired":""#);
        out.extend_from_slice(why.as_str().as_bytes());
        out.extend_from_slice(br#""}"#);
    }

    /// Appends the beginning of an object: the key.
    pub fn open_key(key: &[u8], out: &mut Vec<u8>) {
        match std::str::from_utf8(key) {
            Ok(text) => {
                out.extend_from_slice(br#"{"key":"#);
                string(text, out);
            }
            Err(_) => {
                out.extend_from_slice(br#"{"keyBase64":"#);
                string(&STANDARD.encode(key), out);
            }
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text is always JSON");
}
