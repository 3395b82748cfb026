//! An event that a test makes.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{AsKey, Key};

/// An event to deliver.
///
/// ```
/// # use serde_json::json;
/// # use tidemill_sdk::testing::Given;
/// Given::json("ride-1", &json!({ "fare": 12.5 }))
///     .source("rides")
///     .attribute("type", "com.example.ride.completed")
///     .header("region", "eu")
///     .at(1_767_225_600_000);
/// ```
#[derive(Debug, Clone)]
pub struct Given {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    source: String,
    topic: Option<String>,
    partition: i32,
    pub(super) offset: Option<i64>,
    content_type: Option<String>,
    attributes: BTreeMap<String, String>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    time_ms: Option<i64>,
    attempt: u32,
}

impl Given {
    /// An event with a JSON payload.
    ///
    /// # Panics
    /// When the value has no form in JSON.
    pub fn json<V: Serialize + ?Sized>(key: impl AsKey, value: &V) -> Self {
        let json = serde_json::to_vec(value).expect("the value has a form in JSON");
        Self::new(&key, Some(json)).content_type("application/json")
    }

    /// An event with a text payload.
    pub fn text(key: impl AsKey, value: &str) -> Self {
        Self::bytes(key, value)
    }

    /// An event with these bytes.
    pub fn bytes(key: impl AsKey, value: impl AsRef<[u8]>) -> Self {
        Self::new(&key, Some(value.as_ref().to_vec()))
    }

    /// An event with Kafka's null for a value.
    pub fn tombstone(key: impl AsKey) -> Self {
        Self::new(&key, None)
    }

    fn new(key: &impl AsKey, value: Option<Vec<u8>>) -> Self {
        let key = match key.as_key() {
            Key::Bytes(key) => Some(key.to_vec()),
            Key::Null | Key::OfEvent => None,
        };
        Self {
            key,
            value,
            source: "events".to_owned(),
            topic: None,
            partition: 0,
            offset: None,
            content_type: None,
            attributes: BTreeMap::new(),
            headers: Vec::new(),
            time_ms: None,
            attempt: 1,
        }
    }

    /// From this source, `events` otherwise.
    #[must_use]
    pub fn source(mut self, name: &str) -> Self {
        self.source = name.to_owned();
        self
    }

    /// From this topic, that of the source's name otherwise.
    #[must_use]
    pub fn topic(mut self, name: &str) -> Self {
        self.topic = Some(name.to_owned());
        self
    }

    /// From this place, partition 0 and the next offset otherwise.
    #[must_use]
    pub fn place(mut self, partition: i32, offset: i64) -> Self {
        self.partition = partition;
        self.offset = Some(offset);
        self
    }

    /// As a CloudEvent in binary mode with this attribute.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        if name == "datacontenttype" {
            return self.content_type(value);
        }
        self.attributes.insert(name.to_owned(), value.to_owned());
        self.header(&format!("ce_{name}"), value)
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), Some(value.as_ref().to_vec())));
        self
    }

    /// With this media type.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.content_type = Some(media_type.to_owned());
        self
    }

    /// At this time, milliseconds since the epoch; the harness's clock otherwise.
    #[must_use]
    pub fn at(mut self, time_ms: i64) -> Self {
        self.time_ms = Some(time_ms);
        self
    }

    /// In this attempt, the first otherwise.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The event as the handler will see it.
    pub(super) fn placed(self, offset: i64, now_ms: i64) -> Placed {
        let topic = self.topic.unwrap_or_else(|| self.source.clone());
        let time_ms = self.time_ms.unwrap_or(now_ms);
        let mut attributes = self.attributes;
        // A CloudEvent has what it has; anything else gets attributes made up, as in production.
        if attributes.is_empty() {
            attributes.insert("specversion".into(), "1.0".into());
            attributes.insert("id".into(), format!("{topic}/{}/{offset}", self.partition));
            attributes.insert("source".into(), format!("/topics/{topic}"));
            attributes.insert("type".into(), "dev.tidemill.record".into());
            if let Some(subject) = self.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()) {
                attributes.insert("subject".into(), subject.to_owned());
            }
            if time_ms >= 0 {
                attributes.insert("time".into(), rfc3339(time_ms));
            }
        }
        if let Some(content_type) = &self.content_type {
            attributes.insert("datacontenttype".into(), content_type.clone());
        }
        Placed {
            key: self.key,
            value: self.value,
            source: self.source,
            topic,
            partition: self.partition,
            offset,
            content_type: self.content_type,
            attributes,
            headers: self.headers,
            time_ms,
            now_ms,
            attempt: self.attempt,
        }
    }
}

/// An event with everything decided.
pub(super) struct Placed {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub source: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub content_type: Option<String>,
    pub attributes: BTreeMap<String, String>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub time_ms: i64,
    pub now_ms: i64,
    pub attempt: u32,
}

/// RFC 3339 in UTC, with a fraction only when there is one. Days to civil date after Howard Hinnant's
/// `civil_from_days`.
fn rfc3339(time_ms: i64) -> String {
    let (days, in_day) = (time_ms.div_euclid(86_400_000), time_ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, fraction) = (in_day / 1_000 % 60, in_day % 1_000);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:03}") };
    let fraction = fraction.trim_end_matches('0');
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_read_as_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_767_225_599_120, "2025-12-31T23:59:59.12Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }
}
