//! A window's result, as JSON: `{"key": …, "window": {"start": …, "end": …, "fired": …}, <name>: …}`, times in
//! milliseconds since the epoch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::cell::Cell;

/// Why a window gave a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It closed.
    Close,
    /// An event came.
    Update,
    /// So many events came.
    Count,
}

impl Why {
    /// The word in the result.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Update => "update",
            Self::Count => "count",
        }
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
}

impl Fired<'_> {
    /// Appends the result. A key that is no text is written in base64, as `keyBase64`.
    pub fn write_json<'n>(&self, names: impl Iterator<Item = &'n str>, out: &mut Vec<u8>) {
        match std::str::from_utf8(self.key) {
            Ok(text) => {
                out.extend_from_slice(br#"{"key":"#);
                string(text, out);
            }
            Err(_) => {
                out.extend_from_slice(br#"{"keyBase64":"#);
                string(&STANDARD.encode(self.key), out);
            }
        }
        let mut number = itoa::Buffer::new();
        out.extend_from_slice(br#","window":{"start":"#);
        out.extend_from_slice(number.format(self.bounds.0).as_bytes());
        out.extend_from_slice(br#","end":"#);
        out.extend_from_slice(number.format(self.bounds.1).as_bytes());
        out.extend_from_slice(br#","fired":""#);
        out.extend_from_slice(self.why.as_str().as_bytes());
        out.extend_from_slice(br#""}"#);
        for (name, cell) in names.zip(self.cells) {
            out.push(b',');
            string(name, out);
            out.push(b':');
            cell.write_json(out);
        }
        out.push(b'}');
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text is always JSON");
}
