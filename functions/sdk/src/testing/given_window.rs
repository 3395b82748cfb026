//! A window that a test makes.

use serde::Serialize;

use super::Given;
use super::given::Placed;
use crate::FiredBy;

/// A window to deliver.
///
/// ```
/// # use serde_json::json;
/// # use tidemill_sdk::FiredBy;
/// # use tidemill_sdk::testing::{Given, GivenWindow};
/// // a stitch that waited in vain
/// GivenWindow::of("ada")
///     .event("ride", Given::json("ada", &json!({ "fare": 12.5 })).at(1_767_225_600_000))
///     .missing("payment")
///     .fired(FiredBy::Timeout)
///     .bounds(1_767_225_600_000, 1_767_225_660_000);
/// // one with aggregates
/// GivenWindow::of("ada").aggregates(&json!({ "rides": 3 }));
/// ```
#[derive(Debug, Clone)]
pub struct GivenWindow {
    key: Vec<u8>,
    bounds: Option<(i64, i64)>,
    time_ms: Option<i64>,
    fired: FiredBy,
    events: Vec<Given>,
    aggregates: Option<Vec<u8>>,
    missing: Vec<String>,
    attempt: u32,
}

impl GivenWindow {
    /// A window of this key that closes, with nothing in it yet.
    pub fn of(key: impl AsRef<[u8]>) -> Self {
        Self {
            key: key.as_ref().to_vec(),
            bounds: None,
            time_ms: None,
            fired: FiredBy::Close,
            events: Vec::new(),
            aggregates: None,
            missing: Vec::new(),
            attempt: 1,
        }
    }

    /// From start to end, milliseconds since the epoch; from the first event to the last otherwise.
    #[must_use]
    pub fn bounds(mut self, start_ms: i64, end_ms: i64) -> Self {
        self.bounds = Some((start_ms, end_ms));
        self
    }

    /// With a result at this time, milliseconds since the epoch; at its end otherwise.
    #[must_use]
    pub fn at(mut self, time_ms: i64) -> Self {
        self.time_ms = Some(time_ms);
        self
    }

    /// For this reason, [`FiredBy::Close`] otherwise.
    #[must_use]
    pub fn fired(mut self, fired: FiredBy) -> Self {
        self.fired = fired;
        self
    }

    /// With an event of this source. Events may be added in any order; the handler sees them by time. Their key is that of
    /// the window, what they were given is their record's.
    #[must_use]
    pub fn event(mut self, source: &str, given: Given) -> Self {
        self.events.push(given.source(source));
        self
    }

    /// With these aggregates, an object with a field for each.
    ///
    /// # Panics
    /// When the value has no form in JSON.
    #[must_use]
    pub fn aggregates<V: Serialize + ?Sized>(mut self, aggregates: &V) -> Self {
        self.aggregates = Some(serde_json::to_vec(aggregates).expect("the aggregates have a form in JSON"));
        self
    }

    /// Without an event of this source, which is needed.
    #[must_use]
    pub fn missing(mut self, source: &str) -> Self {
        self.missing.push(source.to_owned());
        self
    }

    /// In this attempt, the first otherwise.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The window as the handler will see it. Events that say no offset get the next ones.
    pub(super) fn placed(self, next_offset: &mut i64, now_ms: i64) -> PlacedWindow {
        let place = |given: Given| {
            let offset = given.offset.unwrap_or(*next_offset);
            *next_offset = (*next_offset).max(offset + 1);
            given.placed(offset, now_ms)
        };
        let mut events: Vec<Placed> = self.events.into_iter().map(place).collect();
        fn order(event: &Placed) -> (i64, &str, i32, i64) {
            (event.time_ms, &event.source, event.partition, event.offset)
        }
        events.sort_by(|one, other| order(one).cmp(&order(other)));
        let time_of = |event: Option<&Placed>| event.map_or(now_ms, |event| event.time_ms);
        let (start_ms, end_ms) = self.bounds.unwrap_or((time_of(events.first()), time_of(events.last())));
        PlacedWindow {
            key: self.key,
            start_ms,
            end_ms,
            time_ms: self.time_ms.unwrap_or(end_ms),
            fired: self.fired,
            events,
            aggregates: self.aggregates,
            missing: self.missing,
            now_ms,
            attempt: self.attempt,
        }
    }
}

/// A window with everything decided.
pub(super) struct PlacedWindow {
    pub key: Vec<u8>,
    pub start_ms: i64,
    pub end_ms: i64,
    pub time_ms: i64,
    pub fired: FiredBy,
    pub events: Vec<Placed>,
    pub aggregates: Option<Vec<u8>>,
    pub missing: Vec<String>,
    pub now_ms: i64,
    pub attempt: u32,
}
