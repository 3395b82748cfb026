//! An event on its way to the windows: as it stands in the stitch topic, and as windows keep it. It is whole, so that
//! whoever reads it sees the record that it was: topic, partition, offset, timestamp, key, value and headers.
//!
//! A record of the stitch topic has the function's key, and no headers: those cost more than all else. One without a key
//! brings no event: it says how far source partitions have come.
//!
//! | part | form |
//! |---|---|
//! | version | 1; 2: what follows is no event but a result that is brought back |
//! | head | in postcard's form (<https://postcard.jamesmunns.com/wire-format>) |
//! | value | the rest |

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{Header, Record};

/// The first byte.
const VERSION: u8 = 1;
/// The first byte of what is no event but a result that had died and is brought back.
pub(super) const RESULT: u8 = 2;

/// What cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// It is cut off, or of somebody else.
    #[error("it is not as this function writes it to its stitch topic: who else writes there?")]
    Broken,
    /// Of a release that knew more.
    #[error("it has version {0}, which this release does not know: run the release that wrote it")]
    Newer(u8),
}

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    time_ms: i64,
    watermark_ms: i64,
    moves_time: bool,
    key: Option<&'a [u8]>,
    has_value: bool,
    #[serde(borrow)]
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
}

/// An event on its way.
pub struct Envelope<'a> {
    /// Event time, milliseconds since the epoch.
    pub time_ms: i64,
    /// How far its source partition had come before it, milliseconds since the epoch; `i64::MIN`: not known.
    pub watermark_ms: i64,
    /// It moves time on. One that was brought back does not.
    pub moves_time: bool,
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<Header<'a>>,
}

impl<'a> Envelope<'a> {
    /// Appends `record`.
    pub fn write(
        record: &Record<'_>,
        (time_ms, watermark_ms, moves_time): (i64, i64, bool),
        out: &mut Vec<u8>,
    ) {
        let headers = record.headers().iter().map(|header| (header.name, header.value));
        let head = Head {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            time_ms,
            watermark_ms,
            moves_time,
            key: record.key,
            has_value: record.value.is_some(),
            headers: headers.collect(),
        };
        out.push(VERSION);
        *out = postcard::to_extend(&head, std::mem::take(out)).expect("memory takes every plain type");
        out.extend_from_slice(record.value.unwrap_or_default());
    }

    /// Reads what [`Envelope::write`] wrote.
    pub fn read(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (version, rest) = bytes.split_first().ok_or(EnvelopeError::Broken)?;
        if *version != VERSION {
            return Err(EnvelopeError::Newer(*version));
        }
        let (head, value): (Head<'a>, _) =
            postcard::take_from_bytes(rest).map_err(|_| EnvelopeError::Broken)?;
        Ok(Self {
            time_ms: head.time_ms,
            watermark_ms: head.watermark_ms,
            moves_time: head.moves_time,
            topic: head.topic,
            partition: head.partition,
            offset: head.offset,
            timestamp_ms: head.timestamp_ms,
            key: head.key,
            value: head.has_value.then_some(value),
            headers: head.headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
        })
    }

    /// The record that it was.
    pub fn record(&self) -> Record<'_> {
        Record {
            topic: self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key,
            value: self.value,
            headers: &self.headers,
        }
    }
}

/// How far source partitions have come, for a partition of the stitch topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tidings {
    /// Topics and how many partitions they have.
    pub topics: Vec<(String, u32)>,
    /// The place of a topic in `topics`, a partition, its watermark in milliseconds since the epoch, and whether it is idle.
    pub parts: Vec<(u16, i32, i64, bool)>,
}

impl Tidings {
    /// As the value of a record without a key.
    pub fn write(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("memory takes every plain type")
    }

    /// Reads what [`Tidings::write`] wrote.
    pub fn read(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let (version, rest) = bytes.split_first().ok_or(EnvelopeError::Broken)?;
        match *version {
            VERSION => postcard::from_bytes(rest).map_err(|_| EnvelopeError::Broken),
            newer => Err(EnvelopeError::Newer(newer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_out_as_it_went_in() {
        let headers = vec![
            Header { name: "h", value: Some(b"v") },
            Header { name: "h", value: None },
            Header { name: "", value: Some(b"") },
        ];
        let none: Vec<Header<'_>> = Vec::new();
        for (key, value) in [(None, None), (Some(&b""[..]), Some(&b""[..])), (Some(b"k"), Some(b"\xff{}"))] {
            for headers in [&headers, &none] {
                let record = Record {
                    topic: "rides",
                    partition: 3,
                    offset: 1 << 40,
                    timestamp_ms: -1,
                    key,
                    value,
                    headers,
                };
                let mut bytes = Vec::new();
                Envelope::write(&record, (7, i64::MIN, true), &mut bytes);
                let envelope = Envelope::read(&bytes).unwrap();
                let seen = envelope.record();
                assert_eq!((seen.topic, seen.partition, seen.offset), ("rides", 3, 1 << 40));
                assert_eq!((seen.timestamp_ms, seen.key, seen.value), (-1, key, value));
                assert_eq!(seen.headers(), &headers[..]);
                assert_eq!(
                    (envelope.time_ms, envelope.watermark_ms, envelope.moves_time),
                    (7, i64::MIN, true)
                );
                bytes[0] = 9;
                assert_eq!(Envelope::read(&bytes).err(), Some(EnvelopeError::Newer(9)));
            }
        }
        for broken in [&b""[..], b"\x01", b"\x01\xff\xff", b"\x01\x05rid"] {
            assert_eq!(Envelope::read(broken).err(), Some(EnvelopeError::Broken));
        }
        let tidings = Tidings { topics: vec![("a".to_owned(), 3)], parts: vec![(0, 2, i64::MIN, true)] };
        assert_eq!(Tidings::read(&tidings.write()), Ok(tidings));
    }
}
