//! A clock as a source: when it ticks, and what becomes of ticks that nobody made.
//!
//! Ticks are instants, each later than the one before, whatever the zone's clocks do. Where they skip an hour or
//! repeat one, the Open Cron Pattern Specification rules: a time of day (`30 2 * * *`) that is skipped ticks at the
//! first instant after the gap, one that comes twice ticks the first time; what recurs within the hour (`*/5 * * * *`)
//! ticks as the clock shows it, not in the gap and in both of two equal hours.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tick that somebody comes for so late was missed: longer than others need to take over from one who was killed.
const LATE_MS: i64 = 60_000;

/// Missed ticks are counted no further.
const MOST_COUNTED: u64 = 10_000;

/// What becomes of ticks that nobody made when they were due, because nothing ran or the function was paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CatchUp {
    /// They are skipped; but for the last one if it was due within the last minute, as when another worker takes over.
    None,
    /// One event for all of them, at the time of the last.
    One,
    /// Each, in order.
    All,
}

/// When a source ticks.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// The cron expression, as it was written.
    pub cron: String,
    /// The time zone's name.
    pub zone: String,
    /// What becomes of missed ticks.
    pub catch_up: CatchUp,
    #[serde(skip)]
    pattern: Cron,
    #[serde(skip)]
    time_zone: TimeZone,
}

/// Why an expression is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It has another number of fields.
    #[error("has {0} fields")]
    Fields(usize),
    /// A field says nothing.
    #[error("{0}")]
    Field(String),
    /// There is no such time.
    #[error("never ticks: there is no such day")]
    Never,
}

/// One tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// When it was due, milliseconds since the epoch.
    pub at_ms: i64,
    /// So many ticks before it, for which there is no event, are made good by this one; counted up to 10 000.
    pub missed: u64,
}

/// What is to be done about ticks that are due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// The events to be made, in order.
    pub ticks: Vec<Tick>,
    /// So many ticks become no event; counted up to 10 000.
    pub skipped: u64,
    /// The last tick that this deals with, milliseconds since the epoch.
    pub until_ms: i64,
    /// Others are due after it.
    pub has_more: bool,
}

impl Schedule {
    /// `cron` has five fields (minute, hour, day of the month, month, day of the week), or six with seconds before
    /// them, or is one of `@hourly`, `@daily` and the like.
    pub fn new(
        cron: &str,
        (zone, time_zone): (&str, TimeZone),
        catch_up: CatchUp,
    ) -> Result<Self, ScheduleError> {
        let fields = cron.split_whitespace().count();
        if !cron.trim_start().starts_with('@') && !(5..=6).contains(&fields) {
            return Err(ScheduleError::Fields(fields));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).build();
        let pattern = parser.parse(cron).map_err(|error| ScheduleError::Field(error.to_string()))?;
        let (cron, zone) = (cron.to_owned(), zone.to_owned());
        let schedule = Self { cron, zone, catch_up, pattern, time_zone };
        match schedule.next_after(0) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never),
        }
    }

    /// The first tick after `time_ms`, milliseconds since the epoch. `None`: there is none until the year 5000.
    pub fn next_after(&self, time_ms: i64) -> Option<i64> {
        let next = self.pattern.find_next_occurrence(&self.zoned(time_ms)?, false).ok()?;
        Some(next.timestamp().as_millisecond()).filter(|next| *next > time_ms)
    }

    /// The last tick at or before `time_ms`.
    fn last_until(&self, time_ms: i64) -> Option<i64> {
        let last = self.pattern.find_previous_occurrence(&self.zoned(time_ms)?, true).ok()?;
        Some(last.timestamp().as_millisecond()).filter(|last| *last <= time_ms)
    }

    /// What is to be done `now_ms` about the ticks after `last_ms`, of which no more than `most` events come at once.
    pub fn due(&self, last_ms: i64, now_ms: i64, most: usize) -> Due {
        if self.catch_up == CatchUp::All {
            return self.each(last_ms, now_ms, most);
        }
        let Some((newest, count)) = self.newest(last_ms, now_ms) else {
            return Due { until_ms: last_ms, ..Due::default() };
        };
        let before = count - 1;
        match self.catch_up {
            CatchUp::None if now_ms.saturating_sub(newest) > LATE_MS => {
                Due { skipped: count, until_ms: newest, ..Due::default() }
            }
            CatchUp::None => {
                let ticks = vec![Tick { at_ms: newest, missed: 0 }];
                Due { ticks, skipped: before, until_ms: newest, has_more: false }
            }
            CatchUp::One | CatchUp::All => {
                let ticks = vec![Tick { at_ms: newest, missed: before }];
                Due { ticks, skipped: 0, until_ms: newest, has_more: false }
            }
        }
    }

    fn each(&self, last_ms: i64, now_ms: i64, most: usize) -> Due {
        let mut due = Due { until_ms: last_ms, ..Due::default() };
        for at_ms in self.between(last_ms, now_ms) {
            if due.ticks.len() == most {
                due.has_more = true;
                break;
            }
            due.ticks.push(Tick { at_ms, missed: 0 });
            due.until_ms = at_ms;
        }
        due
    }

    /// The newest tick after `last_ms` and until `now_ms`, and how many there are.
    fn newest(&self, last_ms: i64, now_ms: i64) -> Option<(i64, u64)> {
        let (mut newest, mut count) = (None, 0);
        for at_ms in self.between(last_ms, now_ms) {
            if count == MOST_COUNTED {
                newest = self.last_until(now_ms).max(newest);
                break;
            }
            (newest, count) = (Some(at_ms), count + 1);
        }
        newest.map(|newest| (newest, count))
    }

    fn between(&self, last_ms: i64, now_ms: i64) -> impl Iterator<Item = i64> {
        std::iter::successors(self.next_after(last_ms), |last| self.next_after(*last))
            .take_while(move |at_ms| *at_ms <= now_ms)
    }

    /// A time in the schedule's zone, as RFC 3339 has it: `2026-03-29T03:00:00+02:00`.
    pub fn text(&self, time_ms: i64) -> String {
        let zoned = self.zoned(time_ms);
        zoned.map_or_else(String::new, |zoned| zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    }

    /// The value of a tick's record: `{"scheduled":"2026-03-29T03:00:00+02:00","missed":0}`.
    pub fn value(&self, tick: Tick) -> String {
        let (scheduled, missed) = (self.text(tick.at_ms), tick.missed);
        format!(r#"{{"scheduled":"{scheduled}","missed":{missed}}}"#)
    }

    /// The next `count` ticks after `time_ms`, each with its zone: `2026-03-29T03:00:00+02:00[Europe/Berlin]`.
    pub fn upcoming(&self, time_ms: i64, count: usize) -> Vec<String> {
        let ticks = self.between(time_ms, i64::MAX).take(count);
        ticks.filter_map(|at_ms| Some(self.zoned(at_ms)?.to_string())).collect()
    }

    fn zoned(&self, time_ms: i64) -> Option<Zoned> {
        Some(Timestamp::from_millisecond(time_ms).ok()?.to_zoned(self.time_zone.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(cron: &str, zone: &str, catch_up: CatchUp) -> Schedule {
        Schedule::new(cron, (zone, TimeZone::get(zone).unwrap()), catch_up).unwrap()
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    /// The first `count` ticks after `from`.
    fn ticks(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = schedule(cron, zone, CatchUp::All);
        let due = schedule.due(ms(from), i64::MAX / 4, count);
        due.ticks.into_iter().map(|tick| schedule.text(tick.at_ms)).collect()
    }

    #[test]
    fn a_tick_is_a_time_of_the_zone() {
        let cases = [
            ("0 9 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T09:00:00+01:00"),
            ("0 9 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T09:00:00+02:00"),
            ("0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-01T09:00:00+05:30"),
            ("0 9 * * *", "UTC", "2026-01-01T09:00:00Z", "2026-01-02T09:00:00+00:00"),
            ("0 9 * * *", "UTC", "2026-01-01T08:59:59.999Z", "2026-01-01T09:00:00+00:00"),
            ("0 9 * * mon", "UTC", "2026-01-01T09:00:00Z", "2026-01-05T09:00:00+00:00"),
            ("*/20 * * * * *", "UTC", "2026-01-01T09:00:00.5Z", "2026-01-01T09:00:20+00:00"),
            ("@daily", "UTC", "2026-01-01T09:00:00Z", "2026-01-02T00:00:00+00:00"),
            ("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00+00:00"),
            ("0 0 L * *", "UTC", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00+00:00"),
        ];
        for (cron, zone, from, expected) in cases {
            assert_eq!(ticks(cron, zone, from, 1), [expected], "{cron} {zone}");
        }
    }

    /// In Berlin 02:00 to 03:00 is skipped on 2026-03-29, and 02:00 to 03:00 comes twice on 2026-10-25.
    #[test]
    fn a_switch_of_the_clocks_skips_no_day_and_repeats_none() {
        let cases: [(&str, &str, &[&str]); 6] = [
            (
                "30 2 * * *",
                "2026-03-28T12:00:00Z",
                &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
            ),
            (
                "30 2 * * *",
                "2026-10-24T12:00:00Z",
                &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
            ),
            (
                "0 0 * * *",
                "2026-03-28T12:00:00Z",
                &["2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"],
            ),
            (
                "*/30 * * * *",
                "2026-03-29T00:00:00Z",
                &["2026-03-29T01:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"],
            ),
            (
                "*/30 * * * *",
                "2026-10-25T00:00:00Z",
                &[
                    "2026-10-25T02:30:00+02:00",
                    "2026-10-25T02:00:00+01:00",
                    "2026-10-25T02:30:00+01:00",
                    "2026-10-25T03:00:00+01:00",
                ],
            ),
            (
                "0 * * * *",
                "2026-10-24T23:30:00Z",
                &["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
            ),
        ];
        for (cron, from, expected) in cases {
            assert_eq!(ticks(cron, "Europe/Berlin", from, expected.len()), expected, "{cron} from {from}");
        }
    }

    #[test]
    fn missed_ticks_become_what_catch_up_says() {
        let hour = 3_600_000;
        let nine = ms("2026-01-01T09:00:00Z");
        let tick = |hours: i64, missed| Tick { at_ms: nine + hours * hour, missed };
        let at = |hours: i64| nine + hours * hour;
        // Ticks each hour; the last was at nine.
        let cases = [
            // One is due, and somebody is there.
            (CatchUp::None, at(1), (vec![tick(1, 0)], 0, 1)),
            (CatchUp::One, at(1), (vec![tick(1, 0)], 0, 1)),
            (CatchUp::All, at(1), (vec![tick(1, 0)], 0, 1)),
            // Nobody was there for a minute: another had to take over.
            (CatchUp::None, at(1) + 60_000, (vec![tick(1, 0)], 0, 1)),
            (CatchUp::None, at(1) + 60_001, (vec![], 1, 1)),
            // Nobody was there for hours.
            (CatchUp::None, at(3) + hour / 2, (vec![], 3, 3)),
            (CatchUp::None, at(3), (vec![tick(3, 0)], 2, 3)),
            (CatchUp::One, at(3) + hour / 2, (vec![tick(3, 2)], 0, 3)),
            (CatchUp::All, at(3) + hour / 2, (vec![tick(1, 0), tick(2, 0), tick(3, 0)], 0, 3)),
            // None is due: too early, or the clock went back.
            (CatchUp::One, at(1) - 1, (vec![], 0, 0)),
            (CatchUp::All, at(-5), (vec![], 0, 0)),
            (CatchUp::None, at(-5), (vec![], 0, 0)),
        ];
        for (catch_up, now_ms, (ticks, skipped, until)) in cases {
            let due = schedule("0 * * * *", "UTC", catch_up).due(nine, now_ms, 100);
            let expected = Due { ticks, skipped, until_ms: at(until), has_more: false };
            assert_eq!(due, expected, "{catch_up:?} {}", now_ms - nine);
        }
    }

    #[test]
    fn many_missed_ticks_come_in_portions_and_are_counted_so_far() {
        let from = ms("2026-01-01T00:00:00Z");
        let now = from + 30_000_500;
        let all = schedule("* * * * * *", "UTC", CatchUp::All);
        let due = all.due(from, now, 1000);
        assert_eq!((due.ticks.len(), due.until_ms, due.has_more), (1000, from + 1_000_000, true));
        let due = all.due(from + 29_990_000, now, 1000);
        assert_eq!((due.ticks.len(), due.until_ms, due.has_more), (10, from + 30_000_000, false));
        let one = schedule("* * * * * *", "UTC", CatchUp::One).due(from, now, 1000);
        assert_eq!(one.ticks, [Tick { at_ms: from + 30_000_000, missed: MOST_COUNTED - 1 }]);
    }

    #[test]
    fn what_never_ticks_is_no_schedule() {
        let new = |cron: &str| Schedule::new(cron, ("UTC", TimeZone::UTC), CatchUp::One).map(|_| ());
        assert_eq!(new("0 0 30 2 *"), Err(ScheduleError::Never));
        assert_eq!(new("0 9 * *"), Err(ScheduleError::Fields(4)));
        assert_eq!(new("0 0 9 * * * 2026"), Err(ScheduleError::Fields(7)));
        assert!(matches!(new("0 25 * * *"), Err(ScheduleError::Field(_))));
        assert!(matches!(new("@never"), Err(ScheduleError::Field(_))));
    }

    #[test]
    fn a_tick_is_written_as_json() {
        let schedule = schedule("0 9 * * *", "Europe/Berlin", CatchUp::One);
        let tick = Tick { at_ms: ms("2026-03-30T07:00:00Z"), missed: 2 };
        assert_eq!(schedule.value(tick), r#"{"scheduled":"2026-03-30T09:00:00+02:00","missed":2}"#);
    }

    /// A container without tzdata knows the zones too.
    #[test]
    fn zones_are_known_without_the_system() {
        let bundled = jiff::tz::TimeZoneDatabase::bundled();
        assert!(!bundled.is_definitively_empty());
        assert!(bundled.get("Europe/Berlin").is_ok());
    }

    proptest! {
        /// Whatever the zone's clocks do: ticks grow, and the way back finds what the way forth finds.
        #[test]
        fn ticks_are_later_and_later(
            cron in prop::sample::select(vec!["30 2 * * *", "*/7 * * * *", "0 */3 * * *", "15,45 1-3 * * *", "59 59 1 * * *"]),
            zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
            from in 1_700_000_000_000i64..1_830_000_000_000,
        ) {
            let schedule = schedule(cron, zone, CatchUp::All);
            let mut last = from;
            for tick in schedule.due(from, i64::MAX / 4, 40).ticks {
                prop_assert!(tick.at_ms > last);
                prop_assert_eq!(schedule.last_until(tick.at_ms), Some(tick.at_ms));
                last = tick.at_ms;
            }
        }
    }
}
