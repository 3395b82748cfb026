//! Where an event stood before it died, as its dead letter's headers say, and as the record says that
//! brings it back: of such a record the pipeline sees the event that it was.

use thiserror::Error;

use super::dead_letter::PREFIX;
use crate::model::{Header, Headers, Record};

/// Names the function that the dead letter is of.
pub const FUNCTION: &str = "tidemill-function";
/// Counts how often an event was brought back, from 1.
pub const ROUND: &str = "tidemill-redrive";
/// Holds the result of a window or a timer as a whole, in its dead letter.
pub const RESULT: &str = "tidemill-result";
pub(super) const TOPIC: &str = "tidemill-topic";
pub(super) const PARTITION: &str = "tidemill-partition";
pub(super) const OFFSET: &str = "tidemill-offset";
pub(super) const TIMESTAMP: &str = "tidemill-timestamp";

/// The place of an event in its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Its timestamp there, milliseconds since the epoch; -1 when it had none.
    pub timestamp_ms: i64,
    /// How often it has been brought back; 0: never.
    pub round: u32,
}

/// Why it cannot be told where a redriven record comes from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlaceError {
    /// A header is missing or null.
    #[error("the header `{header}` is missing, so it is not known which event is redriven")]
    Missing {
        /// Which.
        header: &'static str,
    },
    /// A header holds something else than it should.
    #[error("the header `{header}` is {found:?}, so it is not known which event is redriven")]
    Wrong {
        /// Which.
        header: &'static str,
        /// What it holds.
        found: String,
    },
    /// The function does not read that topic, or not any more.
    #[error("redriven from topic `{topic}`, which no source of the function reads")]
    NoSource {
        /// The topic.
        topic: String,
    },
}

impl<'a> Place<'a> {
    /// Reads the headers of a dead letter, or of a record that was redriven.
    pub fn read(headers: &[Header<'a>]) -> Result<Self, PlaceError> {
        let topic = text(headers, TOPIC)?;
        let round = match text(headers, ROUND) {
            Err(PlaceError::Missing { .. }) => 0,
            _ => number(headers, ROUND)?,
        };
        Ok(Self {
            topic,
            partition: number(headers, PARTITION)?,
            offset: number(headers, OFFSET)?,
            timestamp_ms: number(headers, TIMESTAMP)?,
            round,
        })
    }

    /// The event that stood there, as `record` brings it back, with these headers.
    pub(super) fn record<'r>(&self, record: &Record<'r>, headers: &'r dyn Headers) -> Record<'r>
    where
        'a: 'r,
    {
        let Self { topic, partition, offset, timestamp_ms, .. } = *self;
        Record { topic, partition, offset, timestamp_ms, key: record.key, value: record.value, headers }
    }
}

/// The headers that are the event's own: all but those of its death.
pub fn own_headers_of<'a>(headers: &[Header<'a>]) -> Vec<Header<'a>> {
    headers.iter().filter(|header| !header.name.starts_with(PREFIX)).copied().collect()
}

fn text<'a>(headers: &[Header<'a>], name: &'static str) -> Result<&'a str, PlaceError> {
    let value = headers.iter().rev().find(|header| header.name == name).and_then(|header| header.value);
    let bytes = value.ok_or(PlaceError::Missing { header: name })?;
    std::str::from_utf8(bytes)
        .map_err(|_| PlaceError::Wrong { header: name, found: String::from_utf8_lossy(bytes).into_owned() })
}

fn number<T: std::str::FromStr>(headers: &[Header<'_>], name: &'static str) -> Result<T, PlaceError> {
    let text = text(headers, name)?;
    text.parse().map_err(|_| PlaceError::Wrong { header: name, found: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [(&str, &str); 5] =
        [(TOPIC, "rides"), (PARTITION, "3"), (OFFSET, "42"), (TIMESTAMP, "-1"), (ROUND, "2")];

    fn headers(of: &[(&'static str, &'static str)]) -> Vec<Header<'static>> {
        of.iter().map(|(name, value)| Header { name, value: Some(value.as_bytes()) }).collect()
    }

    #[test]
    fn the_place_is_what_the_headers_say() {
        let place = Place { topic: "rides", partition: 3, offset: 42, timestamp_ms: -1, round: 2 };
        assert_eq!(Place::read(&headers(&WHOLE)), Ok(place));
        assert_eq!(Place::read(&headers(&WHOLE[..4])), Ok(Place { round: 0, ..place }));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for left_out in 0..4 {
            let mut some = WHOLE.to_vec();
            let (header, _) = some.remove(left_out);
            assert_eq!(Place::read(&headers(&some)), Err(PlaceError::Missing { header }));
        }
        for (place, found) in [(1, "x"), (2, ""), (3, "1.5"), (4, "-1")] {
            let mut some = WHOLE;
            some[place].1 = found;
            let (header, found) = (WHOLE[place].0, found.to_owned());
            assert_eq!(Place::read(&headers(&some)), Err(PlaceError::Wrong { header, found }));
        }
    }
}
