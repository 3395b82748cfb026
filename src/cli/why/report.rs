//! What was found out about a key, and how it is said.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::dlq::letter::time;
use crate::cli::tail::Shown;
use crate::model::{At, Fire, OnTimeout};

/// So many windows are explained, and so many events of each are named, where people read it.
const NAMED: usize = 10;

/// All of it. Times are milliseconds since the epoch.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub function: String,
    pub group: String,
    /// How many members the group has now.
    pub workers: usize,
    /// If it is text.
    pub key: Option<String>,
    #[serde(skip)]
    pub key_bytes: Vec<u8>,
    /// Where its windows are.
    pub partition: String,
    /// Its sources are brought together there.
    #[serde(skip)]
    pub is_gathered: bool,
    /// The cut as of which all this is; `null`: there was none.
    pub cut: Option<u64>,
    /// Names of the function's sources.
    #[serde(skip)]
    pub sources: Vec<String>,
    #[serde(skip)]
    pub max_attempts: u32,
    /// Its events are gathered in windows, and not handled each by itself.
    #[serde(skip)]
    pub has_window: bool,
    /// The end of a window is not in it.
    #[serde(skip)]
    pub is_end_out: bool,
    #[serde(skip)]
    pub fire: Fire,
    #[serde(skip)]
    pub on_timeout: OnTimeout,
    pub time: Time,
    pub open: Vec<Open>,
    pub waiting: Vec<Waiting>,
    /// What the handler keeps.
    pub values: Vec<Kept>,
    /// Those that have not fired.
    pub timers: Vec<Timer>,
    /// Of tables that are kept by the function's key.
    pub rows: Vec<Row>,
    /// Late events and dead letters, the newest first.
    pub refused: Vec<Refused>,
    pub lag: Vec<Lag>,
    pub notes: Vec<String>,
    /// How many keys have something open in the partition.
    #[serde(skip)]
    pub keys: usize,
}

/// Where event time stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Time {
    /// In the partition of the windows; `null`: there was no event yet.
    pub watermark_ms: Option<i64>,
    /// So long a partition must be quiet until time goes on without it.
    pub idle_ms: u64,
    /// All that feed it are idle.
    pub goes_by_clock: bool,
    /// In the source partitions, if they are brought together.
    pub parts: Vec<Part>,
}

/// One source partition.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    pub partition: String,
    pub watermark_ms: Option<i64>,
    pub standing: Standing,
    /// Time goes on no further before this one does.
    pub holds_time: bool,
}

/// How a source partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Time waits for it.
    Active,
    /// It was read to its end and is quiet.
    Idle,
    /// Nobody has said anything about it.
    Unheard,
}

/// A window that has not given its last result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    pub start_ms: i64,
    pub end_ms: i64,
    pub closes_at_ms: Option<i64>,
    pub events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takes: Option<u64>,
    pub by_source: BTreeMap<String, u64>,
    pub missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregates: Option<Box<RawValue>>,
    pub members: Vec<Event>,
}

/// An event that a window keeps.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub place: String,
    pub time_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
}

/// What a handler keeps under a name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub name: String,
    /// In event time; `null`: when it is deleted.
    pub expires_at_ms: Option<i64>,
    /// How long it is.
    pub bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
}

/// When a handler is called without an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timer {
    pub name: String,
    pub clock: Clock,
    pub at_ms: i64,
}

/// Which clock a timer goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Clock {
    /// Event time.
    Event,
    /// The wall clock.
    Wall,
}

/// What a table has for the key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub table: String,
    /// How long it is.
    pub bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
}

/// A result that waits for its handler.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// It is no window's but of this timer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    pub start_ms: i64,
    pub end_ms: i64,
    pub fired: &'static str,
    pub attempts: u32,
    pub events: usize,
    pub missing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregates: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Box<RawValue>>,
}

/// A late event or a dead letter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    pub topic: String,
    pub id: String,
    pub time_ms: i64,
    pub reason: String,
    pub error: String,
    pub attempts: u32,
    pub event: String,
}

/// A partition in which an event of the key may still be to be read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lag {
    pub partition: String,
    pub committed: Option<i64>,
    pub end: i64,
    pub lag: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(flatten)]
    report: &'a Report,
}

impl Report {
    /// As one document.
    pub fn json(&self) -> anyhow::Result<String> {
        let key_base64 = self.key.is_none().then(|| STANDARD.encode(&self.key_bytes));
        Ok(serde_json::to_string(&Document { reasons: self.reasons(), key_base64, report: self })?)
    }

    /// For people; it is `now_ms` by the clock.
    pub fn text(&self, now_ms: i64) -> String {
        let mut lines = Vec::new();
        let mut put = |tag: &'static str, line: String| lines.push((tag, line));
        self.reasons().into_iter().for_each(|reason| put("why", reason));
        let stands = match self.time.watermark_ms {
            Some(watermark_ms) => {
                let (at, behind) = (time(watermark_ms), span(now_ms.saturating_sub(watermark_ms)));
                format!("{at} in {}, {behind} behind the clock", self.partition)
            }
            None => format!("{} has had no event yet", self.partition),
        };
        put("time", stands);
        for part in &self.time.parts {
            let at = part.watermark_ms.map_or_else(|| "no event yet".to_owned(), time);
            let standing = match part.standing {
                Standing::Unheard => "not heard of yet",
                Standing::Idle => "idle",
                Standing::Active => "active",
            };
            let holds = if part.holds_time { ", holds time back" } else { "" };
            put("time", format!("{at} in {}: {standing}{holds}", part.partition));
        }
        for open in &self.open {
            put("open", format!("{}  {}", self.bounds(open.start_ms, open.end_ms), open.line()));
            open.members.iter().take(NAMED).for_each(|member| put("", member.line()));
            if open.members.len() > NAMED {
                put("", format!("… and {} events more (--output json)", open.members.len() - NAMED));
            }
            open.aggregates.iter().for_each(|object| put("", shown(object.get())));
        }
        for waiting in &self.waiting {
            let of = match &waiting.timer {
                Some(timer) => format!("timer {}", timer.line()),
                None => self.bounds(waiting.start_ms, waiting.end_ms),
            };
            put("waiting", format!("{of}  {}", waiting.line(self.max_attempts)));
            let values = waiting.aggregates.iter().chain(&waiting.members);
            values.for_each(|value| put("", shown(value.get())));
        }
        for timer in self.timers.iter().take(NAMED) {
            put("timer", timer.line());
        }
        for value in self.values.iter().take(NAMED) {
            put("value", value.line());
            value.value.iter().for_each(|value| put("", shown(value.get())));
        }
        for (of, count) in [("timers", self.timers.len()), ("values", self.values.len())] {
            if count > NAMED {
                put("", format!("… and {} {of} more (--output json)", count - NAMED));
            }
        }
        for row in &self.rows {
            put("row", format!("{}  {}", shown(&row.table), bytes(row.bytes)));
            row.value.iter().for_each(|value| put("", shown(value.get())));
        }
        for refused in &self.refused {
            put("refused", refused.line());
        }
        for lag in &self.lag {
            let committed = lag.committed.map_or_else(|| "nothing".to_owned(), |offset| offset.to_string());
            let Lag { partition, end, lag, .. } = lag;
            put("lag", format!("{lag} to read in {partition}: committed {committed} of {end}"));
        }
        self.notes.iter().for_each(|note| put("note", note.clone()));
        let mut text = self.head();
        for (tag, line) in lines {
            let _ = writeln!(text, "{tag:8} {line}");
        }
        text
    }

    fn head(&self) -> String {
        let as_of = match self.cut {
            None | Some(0) => "before its first cut".to_owned(),
            Some(cut) => format!("as of cut {cut}"),
        };
        let workers = match self.workers {
            0 => "no worker runs".to_owned(),
            1 => "1 worker runs".to_owned(),
            n => format!("{n} workers run"),
        };
        let (key, function, partition) = (Shown(Some(&self.key_bytes)), &self.function, &self.partition);
        format!("key {key} of {function}: {partition}, {as_of}; {workers}\n")
    }

    /// Why there is no result yet, in sentences.
    fn reasons(&self) -> Vec<String> {
        let mut reasons: Vec<String> =
            self.waiting.iter().take(1).map(|first| self.of_waiting(first)).collect();
        reasons.extend(self.open.iter().take(NAMED).map(|open| self.of_open(open)));
        reasons.extend(self.timers.iter().take(NAMED).map(|timer| self.of_timer(timer)));
        let by_event_time = self.timers.iter().filter(|timer| timer.clock == Clock::Event);
        let mut deadlines = self
            .open
            .iter()
            .filter_map(|open| open.closes_at_ms)
            .chain(by_event_time.map(|timer| timer.at_ms));
        if deadlines.any(|at| self.is_ahead(at)) {
            reasons.extend(self.of_time());
        }
        if self.open.is_empty() && self.waiting.is_empty() && self.timers.is_empty() {
            reasons.push(self.of_nothing());
        }
        let to_read: i64 = self.lag.iter().map(|lag| lag.lag).sum();
        if to_read > 0 {
            let records =
                if to_read == 1 { "1 offset is".to_owned() } else { format!("{to_read} offsets are") };
            reasons.push(format!("{records} still to be read: events of this key may be among them"));
        }
        if self.workers == 0 {
            reasons.push(format!("nobody is in group {}: nothing happens before a worker runs", self.group));
        }
        reasons
    }

    fn of_nothing(&self) -> String {
        let sources = self.sources.join(", ");
        let what = if self.has_window { "open" } else { "kept" };
        let others = match self.keys {
            0 => format!("no key has anything {what} in this partition"),
            1 => format!("1 key has something {what} in this partition"),
            n => format!("{n} keys have something {what} in this partition"),
        };
        if !self.has_window {
            let kept = match self.has_nothing() {
                true => "nothing is kept of it",
                false => "its next event finds what is kept of it",
            };
            return format!(
                "nothing of this key waits: each of its events was handled or refused, or there was none, and it has no \
                 timer; {kept} ({others})"
            );
        }
        format!(
            "nothing of this key is open: each of its events has given its results or was refused, or there was none; \
             the next event with this key in {sources} opens a window ({others})"
        )
    }

    fn of_waiting(&self, first: &Waiting) -> String {
        let calls =
            if first.attempts == 1 { "1 call".to_owned() } else { format!("{} calls", first.attempts) };
        let behind = match self.waiting.len() {
            1 => String::new(),
            2 => "; 1 more of this key waits behind it".to_owned(),
            n => format!("; {} more of this key wait behind it", n - 1),
        };
        let max_attempts = self.max_attempts;
        let Some(timer) = &first.timer else {
            let bounds = self.bounds(first.start_ms, first.end_ms);
            return format!(
                "the result of {bounds} waits for its handler, of which {calls} of {max_attempts} failed: it is given \
                 again{behind}"
            );
        };
        format!(
            "timer {} has fired and waits for its handler, of which {calls} of {max_attempts} failed: it is called \
             again{behind}",
            shown(&timer.name)
        )
    }

    fn of_timer(&self, timer: &Timer) -> String {
        let (name, at) = (shown(&timer.name), time(timer.at_ms));
        match (timer.clock, self.time.watermark_ms) {
            (Clock::Wall, _) => {
                format!("timer {name} fires at {at} by the clock, or when a worker runs after that")
            }
            (Clock::Event, Some(watermark_ms)) if watermark_ms >= timer.at_ms => {
                format!("timer {name} is due: it fires in the next cut")
            }
            (Clock::Event, Some(watermark_ms)) => {
                let ahead = span(timer.at_ms.saturating_sub(watermark_ms));
                format!("timer {name} fires when event time has come to {at}, {ahead} on")
            }
            (Clock::Event, None) => format!("timer {name} fires when event time has come to {at}"),
        }
    }

    fn of_open(&self, open: &Open) -> String {
        let mut text = self.bounds(open.start_ms, open.end_ms);
        let watermark_ms = self.time.watermark_ms;
        let Some(closes_at_ms) = open.closes_at_ms else {
            let takes = open.takes.unwrap_or(0);
            let _ = write!(text, " has {} of {takes} events: it closes with the last", open.events);
            return text;
        };
        if watermark_ms.is_some_and(|watermark_ms| watermark_ms >= closes_at_ms) {
            return text + " is over: it closes in the next cut";
        }
        text += &match self.fire {
            _ if !open.missing.is_empty() => format!(" waits for {} until", open.missing.join(" and ")),
            Fire::Close | Fire::Complete => " closes when".to_owned(),
            Fire::Update => " gives a result with each event, and closes without one when".to_owned(),
            Fire::Count { every, .. } => {
                format!(" gives a result with every {every} events, and closes without one when")
            }
        };
        let _ = write!(text, " event time has come to {}", time(closes_at_ms));
        if let Some(watermark_ms) = watermark_ms {
            let _ = write!(text, ", {} on", span(closes_at_ms.saturating_sub(watermark_ms)));
        }
        if !open.missing.is_empty() {
            text += &match &self.on_timeout {
                OnTimeout::Call => "; then its result says what is missing".to_owned(),
                OnTimeout::Drop => "; then it is forgotten (onTimeout: drop)".to_owned(),
                OnTimeout::DeadLetter => {
                    "; then its events are dead letters (onTimeout: deadLetter)".to_owned()
                }
                OnTimeout::Emit(sink) => format!("; then its result goes to sink `{sink}` (onTimeout: emit)"),
            };
        }
        text
    }

    /// As windows of this kind are written: an end that is not in them has a round bracket.
    fn bounds(&self, start_ms: i64, end_ms: i64) -> String {
        let end = if self.is_end_out { ')' } else { ']' };
        format!("[{}, {}{end}", time(start_ms), time(end_ms))
    }

    fn is_ahead(&self, deadline_ms: i64) -> bool {
        self.time.watermark_ms.is_none_or(|watermark_ms| watermark_ms < deadline_ms)
    }

    /// The function knows nothing of the key.
    pub fn has_nothing(&self) -> bool {
        let waits = self.open.len() + self.waiting.len() + self.timers.len();
        waits + self.values.len() + self.rows.len() == 0
    }

    /// What moves time, and what does not let it.
    fn of_time(&self) -> Option<String> {
        let idle = span(i64::try_from(self.time.idle_ms).unwrap_or(i64::MAX));
        if self.time.goes_by_clock {
            return Some(
                "all source partitions are idle: event time goes on with the clock, while a worker runs"
                    .into(),
            );
        }
        if self.is_gathered {
            let holding: Vec<&str> = self
                .time
                .parts
                .iter()
                .filter(|part| part.holds_time)
                .map(|part| part.partition.as_str())
                .collect();
            let (first, rest) = holding.split_first()?;
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            return Some(format!(
                "time is held back by {first}{more}: it goes on with newer events there, or without once that was read to \
                 its end and is quiet for {idle}"
            ));
        }
        let is_read =
            self.lag.iter().find(|lag| lag.partition == self.partition).is_some_and(|lag| lag.lag == 0);
        Some(match is_read {
            true => format!(
                "{} was read to its end: event time goes on with newer events there, or with the clock once it has been \
                 quiet for {idle}, while a worker runs",
                self.partition
            ),
            false => format!("event time goes on with what is read of {}", self.partition),
        })
    }
}

impl Open {
    fn line(&self) -> String {
        let mut text = events(self.events);
        if !self.by_source.is_empty() {
            let counts: Vec<_> =
                self.by_source.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let _ = write!(text, " ({})", counts.join(", "));
        }
        if !self.missing.is_empty() {
            let _ = write!(text, "  missing {}", self.missing.join(", "));
        }
        if let Some(at) = self.closes_at_ms {
            let _ = write!(text, "  closes at {}", time(at));
        }
        text
    }
}

impl Event {
    fn line(&self) -> String {
        let value = self.event.as_ref().map_or_else(String::new, |event| format!("  {}", shown(event.get())));
        format!("{} of {}{value}", self.place, time(self.time_ms))
    }
}

impl Kept {
    fn line(&self) -> String {
        let until =
            self.expires_at_ms.map_or_else(String::new, |at| format!("  until event time {}", time(at)));
        format!("{}  {}{until}", shown(&self.name), bytes(self.bytes))
    }
}

impl Timer {
    pub fn new(name: &str, at: At) -> Self {
        let clock = match at {
            At::Event(_) => Clock::Event,
            At::Clock(_) => Clock::Wall,
        };
        Self { name: name.to_owned(), clock, at_ms: at.time_ms() }
    }

    fn line(&self) -> String {
        let by = match self.clock {
            Clock::Event => "event time",
            Clock::Wall => "the clock",
        };
        format!("{}  at {} by {by}", shown(&self.name), time(self.at_ms))
    }
}

impl Waiting {
    fn line(&self, max_attempts: u32) -> String {
        if self.timer.is_some() {
            return format!("{} of {max_attempts} calls failed", self.attempts);
        }
        let mut text = format!(
            "{}  fired by {}  {} of {max_attempts} calls failed",
            events(self.events as u64),
            self.fired,
            self.attempts
        );
        if !self.missing.is_empty() {
            let _ = write!(text, "  missing {}", self.missing.join(", "));
        }
        text
    }
}

impl Refused {
    fn line(&self) -> String {
        let Self { topic, id, reason, event, .. } = self;
        let error = shown(&self.error);
        format!("{topic}/{id}  {}  {reason}  {event}  {error}", time(self.time_ms))
    }
}

fn bytes(count: usize) -> String {
    if count == 1 { "1 byte".to_owned() } else { format!("{count} bytes") }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}

/// Text that steers no terminal.
fn shown(text: &str) -> String {
    Shown(Some(text.as_bytes())).to_string()
}

/// A length of time for people, in its two largest units.
fn span(ms: i64) -> String {
    const UNITS: [(&str, i64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let (sign, ms) = if ms < 0 { ("-", ms.saturating_neg()) } else { ("", ms) };
    let Some(at) = UNITS.iter().position(|(_, unit)| ms >= *unit) else { return format!("{sign}{ms}ms") };
    let (name, unit) = UNITS[at];
    let (whole, rest) = (ms / unit, ms % unit);
    let (next, smaller) = UNITS.get(at + 1).copied().unwrap_or(("ms", 1));
    match rest / smaller {
        0 => format!("{sign}{whole}{name}"),
        part => format!("{sign}{whole}{name} {part}{next}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_714_564_800_000;

    fn part(partition: &str, watermark_ms: Option<i64>, standing: Standing, holds_time: bool) -> Part {
        Part { partition: partition.to_owned(), watermark_ms, standing, holds_time }
    }

    /// A ride without its payment.
    fn stitch() -> Report {
        let ride = Event { place: "rides/0@17".to_owned(), time_ms: NOON, event: None };
        Report {
            function: "default/billing".to_owned(),
            group: "tidemill.default.billing".to_owned(),
            workers: 1,
            key: Some("ride-7".to_owned()),
            key_bytes: b"ride-7".to_vec(),
            partition: "billing.stitch/1".to_owned(),
            is_gathered: true,
            cut: Some(42),
            sources: vec!["ride".to_owned(), "payment".to_owned()],
            max_attempts: 5,
            has_window: true,
            is_end_out: false,
            fire: Fire::Complete,
            on_timeout: OnTimeout::Drop,
            time: Time {
                watermark_ms: Some(NOON + 500),
                idle_ms: 10_000,
                goes_by_clock: false,
                parts: vec![
                    part("rides/0", Some(NOON + 1000), Standing::Active, false),
                    part("payments/0", Some(NOON + 500), Standing::Active, true),
                    part("payments/1", None, Standing::Idle, false),
                ],
            },
            open: vec![Open {
                start_ms: NOON,
                end_ms: NOON + 2000,
                closes_at_ms: Some(NOON + 2001),
                events: 1,
                takes: None,
                by_source: BTreeMap::from([("ride".to_owned(), 1)]),
                missing: vec!["payment".to_owned()],
                aggregates: None,
                members: vec![ride],
            }],
            waiting: Vec::new(),
            values: Vec::new(),
            timers: Vec::new(),
            rows: Vec::new(),
            refused: vec![Refused {
                topic: "billing.dlq".to_owned(),
                id: "0@5".to_owned(),
                time_ms: NOON,
                reason: "late".to_owned(),
                error: "it came too late\u{1b}".to_owned(),
                attempts: 0,
                event: "rides/0@3".to_owned(),
            }],
            lag: vec![Lag { partition: "billing.stitch/1".to_owned(), committed: Some(7), end: 7, lag: 0 }],
            notes: vec!["a note".to_owned()],
            keys: 1,
        }
    }

    fn nothing() -> Report {
        Report { open: Vec::new(), refused: Vec::new(), ..stitch() }
    }

    #[test]
    fn a_stitch_says_what_it_waits_for_until_when_and_what_holds_time_back() {
        let expected = "\
key ride-7 of default/billing: billing.stitch/1, as of cut 42; 1 worker runs
why      [2024-05-01T12:00:00Z, 2024-05-01T12:00:02Z] waits for payment until event time has come to \
2024-05-01T12:00:02.001Z, 1s 501ms on; then it is forgotten (onTimeout: drop)
why      time is held back by payments/0: it goes on with newer events there, or without once that was read to its end and \
is quiet for 10s
time     2024-05-01T12:00:00.5Z in billing.stitch/1, 1m 1s behind the clock
time     2024-05-01T12:00:01Z in rides/0: active
time     2024-05-01T12:00:00.5Z in payments/0: active, holds time back
time     no event yet in payments/1: idle
open     [2024-05-01T12:00:00Z, 2024-05-01T12:00:02Z]  1 event (ride 1)  missing payment  closes at \
2024-05-01T12:00:02.001Z
         rides/0@17 of 2024-05-01T12:00:00Z
refused  billing.dlq/0@5  2024-05-01T12:00:00Z  late  rides/0@3  it came too late\\u{1b}
lag      0 to read in billing.stitch/1: committed 7 of 7
note     a note
";
        assert_eq!(stitch().text(NOON + 62_000), expected);
    }

    #[test]
    fn nothing_open_says_what_would_open_something() {
        let mut report = nothing();
        let reasons = report.reasons();
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].starts_with("nothing of this key is open"), "{reasons:?}");
        assert!(
            reasons[0].contains(
                "the next event with this key in ride, payment opens a window (1 key has something"
            )
        );
        (report.lag[0].lag, report.workers) = (3, 0);
        let reasons = report.reasons();
        assert_eq!(reasons[1], "3 offsets are still to be read: events of this key may be among them");
        assert!(reasons[2].starts_with("nobody is in group tidemill.default.billing"), "{reasons:?}");
    }

    #[test]
    fn a_result_that_waits_comes_first() {
        let waiting = |attempts| Waiting {
            timer: None,
            start_ms: NOON,
            end_ms: NOON + 1000,
            fired: "timeout",
            attempts,
            events: 2,
            missing: vec!["payment".to_owned()],
            aggregates: None,
            members: Vec::new(),
        };
        let report = Report { waiting: vec![waiting(3), waiting(0)], ..nothing() };
        assert_eq!(
            report.reasons(),
            [
                "the result of [2024-05-01T12:00:00Z, 2024-05-01T12:00:01Z] waits for its handler, of which 3 calls of 5 \
              failed: it is given again; 1 more of this key waits behind it"
            ]
        );
        let text = report.text(NOON);
        assert!(
            text.contains("2 events  fired by timeout  3 of 5 calls failed  missing payment\n"),
            "{text}"
        );
    }

    #[test]
    fn what_a_handler_keeps_and_waits_for_is_named_and_not_shown() {
        let timer = |name: &str, at| Timer::new(name, at);
        let kept =
            |name: &str, expires_at_ms| Kept { name: name.to_owned(), expires_at_ms, bytes: 17, value: None };
        let mut report = Report {
            has_window: false,
            timers: vec![timer("gone", At::Event(NOON + 60_500)), timer("nightly", At::Clock(NOON))],
            values: vec![kept("seen", None), kept("visit", Some(NOON + 1000))],
            rows: vec![Row { table: "profiles".to_owned(), bytes: 1, value: None }],
            ..nothing()
        };
        report.time.parts[0].holds_time = true;
        let text = report.text(NOON + 62_000);
        for line in [
            "why      timer gone fires when event time has come to 2024-05-01T12:01:00.5Z, 1m on",
            "why      timer nightly fires at 2024-05-01T12:00:00Z by the clock, or when a worker runs after that",
            "why      time is held back by rides/0 and 1 more: it goes on with newer events there, or without once that \
             was read to its end and is quiet for 10s",
            "timer    gone  at 2024-05-01T12:01:00.5Z by event time",
            "timer    nightly  at 2024-05-01T12:00:00Z by the clock",
            "value    seen  17 bytes",
            "value    visit  17 bytes  until event time 2024-05-01T12:00:01Z",
            "row      profiles  1 byte",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in:\n{text}");
        }
        let document: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(document["timers"][1]["clock"], "wall");
        assert_eq!(document["values"][1]["expiresAtMs"], NOON + 1000);
        report.time.watermark_ms = Some(NOON + 60_500);
        assert_eq!(report.reasons()[0], "timer gone is due: it fires in the next cut");
        report.waiting = vec![Waiting {
            timer: Some(timer("gone", At::Event(NOON))),
            start_ms: NOON,
            end_ms: NOON,
            fired: "close",
            attempts: 1,
            events: 0,
            missing: Vec::new(),
            aggregates: None,
            members: Vec::new(),
        }];
        let fired =
            "timer gone has fired and waits for its handler, of which 1 call of 5 failed: it is called again";
        assert_eq!(report.reasons()[0], fired);
        assert!(
            report
                .text(NOON)
                .contains("timer gone  at 2024-05-01T12:00:00Z by event time  1 of 5 calls failed\n")
        );
        (report.waiting, report.timers) = (Vec::new(), Vec::new());
        let reasons = report.reasons();
        assert!(
            reasons[0].contains("its next event finds what is kept of it (1 key has something kept"),
            "{reasons:?}"
        );
    }

    #[test]
    fn each_kind_of_end_is_said() {
        let of = |change: fn(&mut Report)| {
            let mut report = stitch();
            report.open[0].missing.clear();
            report.fire = Fire::Close;
            change(&mut report);
            report.of_open(&report.open[0]).split_once("] ").expect("bounds").1.to_owned()
        };
        let at = "event time has come to 2024-05-01T12:00:02.001Z";
        assert_eq!(of(|_| ()), format!("closes when {at}, 1s 501ms on"));
        assert_eq!(of(|report| report.time.watermark_ms = None), format!("closes when {at}"));
        assert_eq!(
            of(|report| report.time.watermark_ms = Some(NOON + 2001)),
            "is over: it closes in the next cut"
        );
        assert_eq!(
            of(|report| report.fire = Fire::Update),
            format!("gives a result with each event, and closes without one when {at}, 1s 501ms on")
        );
        assert_eq!(
            of(|report| (report.open[0].takes, report.open[0].closes_at_ms) = (Some(3), None)),
            "has 1 of 3 events: it closes with the last"
        );
        let report = Report { is_end_out: true, ..stitch() };
        assert_eq!(report.bounds(NOON, NOON + 1), "[2024-05-01T12:00:00Z, 2024-05-01T12:00:00.001Z)");
    }

    #[test]
    fn time_goes_on_as_its_sources_let_it() {
        let of = |change: fn(&mut Report)| {
            let mut report = stitch();
            change(&mut report);
            report.of_time().expect("something moves it")
        };
        assert!(of(|report| report.time.goes_by_clock = true).starts_with("all source partitions are idle"));
        let several = of(|report| report.time.parts[0].holds_time = true);
        assert!(several.starts_with("time is held back by rides/0 and 1 more:"), "{several}");
        let read = of(|report| report.is_gathered = false);
        assert!(read.starts_with("billing.stitch/1 was read to its end: "), "{read}");
        let behind = of(|report| (report.is_gathered, report.lag[0].lag) = (false, 1));
        assert_eq!(behind, "event time goes on with what is read of billing.stitch/1");
    }

    #[test]
    fn the_document_has_the_key_as_text_or_in_base64() {
        let parsed =
            |report: &Report| -> serde_json::Value { serde_json::from_str(&report.json().unwrap()).unwrap() };
        let document = parsed(&stitch());
        assert_eq!((&document["key"], document.get("keyBase64")), (&"ride-7".into(), None));
        assert_eq!(document["open"][0]["missing"][0], "payment");
        assert_eq!(document["reasons"].as_array().map(Vec::len), Some(2));
        let document = parsed(&Report { key: None, key_bytes: vec![0, 255], ..stitch() });
        assert_eq!((&document["key"], &document["keyBase64"]), (&serde_json::Value::Null, &"AP8=".into()));
    }

    #[test]
    fn lengths_of_time_have_two_units() {
        for (ms, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (61_500, "1m 1s"),
            (3_600_000, "1h"),
            (90_000_000, "1d 1h"),
            (-1500, "-1s 500ms"),
            (i64::MIN, "-106751991167d 7h"),
        ] {
            assert_eq!(span(ms), expected);
        }
    }
}
