//! One dead letter: a record of the dead-letter topic, and what its headers say of the death.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::sample;
use crate::codec::rfc3339::Timestamp;
use crate::model::{Header, Record, lend_headers, own_headers};
use crate::pipeline::{FUNCTION, Place, PlaceError, own_headers_of};

/// Where a dead letter stands in its topic: `PARTITION@OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The partition of the dead-letter topic.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (partition, offset) = text.split_once('@')?;
            let id = Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? };
            (id.partition >= 0 && id.offset >= 0).then_some(id)
        };
        read().ok_or_else(|| "an id is PARTITION@OFFSET, as `dlq list` shows it: 0@5".to_owned())
    }
}

/// A dead letter, borrowed from its record.
pub struct Letter<'a> {
    /// Where it stands.
    pub id: Id,
    /// The time of death, milliseconds since the epoch.
    pub died_ms: i64,
    /// Why, in a word.
    pub reason: &'a str,
    /// Why, in full.
    pub error: &'a str,
    /// How often it was called.
    pub attempts: u32,
    /// Where the event stood first; an error for a letter that somebody else wrote.
    pub place: Result<Place<'a>, PlaceError>,
    /// The record in the dead-letter topic.
    pub record: Record<'a>,
}

impl<'a> Letter<'a> {
    /// The dead letter in `record`; `None`: it is none of `function`'s.
    pub fn of(record: &Record<'a>, function: &str) -> Option<Self> {
        let text = |name| record.header(name).and_then(|header| std::str::from_utf8(header.value?).ok());
        if text(FUNCTION)? != function {
            return None;
        }
        Some(Self {
            id: Id { partition: record.partition, offset: record.offset },
            died_ms: record.timestamp_ms,
            reason: text("tidemill-reason").unwrap_or("unknown"),
            error: text("tidemill-error").unwrap_or_default(),
            attempts: text("tidemill-attempts").and_then(|count| count.parse().ok()).unwrap_or(0),
            place: Place::read(record.headers()),
            record: *record,
        })
    }

    /// How often the event was brought back before it died this time.
    pub fn round(&self) -> u32 {
        self.place.as_ref().map_or(0, |place| place.round)
    }

    /// `TOPIC/PARTITION@OFFSET` of the event.
    pub fn origin(&self) -> String {
        match &self.place {
            Ok(Place { topic, partition, offset, .. }) => format!("{topic}/{partition}@{offset}"),
            Err(_) => "unknown".to_owned(),
        }
    }

    /// Hands the event as it was to `take`; the letter itself, without the headers of the death, when it does not say
    /// what it was.
    pub fn with_event<R>(&self, take: impl FnOnce(&Record<'_>) -> R) -> R {
        let headers = own_headers_of(self.record.headers());
        let mut record = Record { headers: &headers, ..self.record };
        if let Ok(Place { topic, partition, offset, timestamp_ms, .. }) = self.place {
            record = Record { topic, partition, offset, timestamp_ms, ..record };
        }
        take(&record)
    }

    /// All of it as one JSON document; `event` is a line as `produce --records` and samples have it.
    pub fn json(&self, is_redriven: Option<bool>) -> String {
        let event = RawValue::from_string(self.with_event(sample::render));
        let document = Document {
            id: self.id.to_string(),
            time: time(self.died_ms),
            reason: self.reason,
            error: self.error,
            attempts: self.attempts,
            round: self.round(),
            redriven: is_redriven,
            event: event.expect("a rendered record is JSON"),
        };
        serde_json::to_string(&document).expect("text and numbers can always be written")
    }
}

#[derive(Serialize)]
struct Document<'a> {
    id: String,
    time: String,
    reason: &'a str,
    error: &'a str,
    attempts: u32,
    round: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    redriven: Option<bool>,
    event: Box<RawValue>,
}

/// A time for people and programs; the number where no calendar reaches.
pub fn time(ms: i64) -> String {
    let rendered = Timestamp::from_millisecond(ms).render();
    rendered.map_or_else(|| ms.to_string(), |time| time.as_str().to_owned())
}

/// A record that is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Kept {
    /// A copy.
    pub fn new(record: &Record<'_>) -> Self {
        Self {
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: own_headers(record.headers()),
        }
    }

    /// The headers, to be lent to [`Kept::record`].
    pub fn headers(&self) -> Vec<Header<'_>> {
        lend_headers(&self.headers)
    }

    /// The record as it was read from `topic`.
    pub fn record<'a>(&'a self, topic: &'a str, headers: &'a Vec<Header<'a>>) -> Record<'a> {
        Record {
            topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A dead letter as the engine writes it.
    pub fn dead(id: Id, more: &[(&'static str, &'static str)]) -> Kept {
        let all = [
            ("own", "h"),
            ("tidemill-function", "default/f"),
            ("tidemill-reason", "rejected"),
            ("tidemill-error", "no rider"),
            ("tidemill-attempts", "1"),
            ("tidemill-topic", "rides"),
            ("tidemill-partition", "3"),
            ("tidemill-offset", "42"),
            ("tidemill-timestamp", "1000"),
        ];
        let headers =
            all.iter().chain(more).map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())));
        Kept {
            partition: id.partition,
            offset: id.offset,
            timestamp_ms: 5000,
            key: Some(b"k".to_vec()),
            value: Some(b"{\"a\":1}".to_vec()),
            headers: headers.collect(),
        }
    }

    #[test]
    fn an_id_is_read_as_it_is_shown() {
        let id = Id { partition: 3, offset: 12 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "3", "3@", "@12", "-1@2", "1@-2", "rides/3@12"] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_document_holds_the_event_as_it_was() {
        let kept = dead(Id { partition: 0, offset: 5 }, &[("tidemill-redrive", "1")]);
        let headers = kept.headers();
        let record = kept.record("f.dlq", &headers);
        assert!(Letter::of(&record, "default/g").is_none(), "of another function");
        let letter = Letter::of(&record, "default/f").unwrap();
        assert_eq!(
            letter.json(Some(false)),
            concat!(
                r#"{"id":"0@5","time":"1970-01-01T00:00:05Z","reason":"rejected","error":"no rider","attempts":1,"#,
                r#""round":1,"redriven":false,"event":{"topic":"rides","partition":3,"offset":42,"timestamp":1000,"#,
                r#""key":"k","value":{"a":1},"headers":{"own":"h"}}}"#
            )
        );
    }
}
