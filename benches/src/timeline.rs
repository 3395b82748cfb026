//! Event time: when the records of an input happened and whose they are, and what windows are to make of them: a model
//! written from the definitions, to which what a contestant says is held.

use std::collections::BTreeSet;

use clap::ValueEnum;

use crate::contest::Name;
use crate::fill;

/// How many records happen in a millisecond, however many there are in all: what a window holds, and so what a record
/// costs, does not depend on how much is measured.
const PER_MS: u64 = 10;

/// Sessions: so long a part of the keys is there, and is then gone until all others were.
const SHIFT_MS: u64 = 20_000;

/// Sessions: parts of the keys.
const SHIFTS: u64 = 4;

/// Which windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Of 10 s each, 10 000 keys, 10 events in each
    Tumbling,
    /// With pauses of at most 10 s, 100 000 keys of which a quarter is there at a time, 8 events in each
    Session,
    /// The 30 s before each event, 100 000 keys, 4 events in each
    Sliding,
}

impl Kind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tumbling => "tumbling",
            Self::Session => "session",
            Self::Sliding => "sliding",
        }
    }

    /// How long a window, or the pause in a session, is.
    pub fn size_ms(self) -> i64 {
        match self {
            Self::Tumbling | Self::Session => 10_000,
            Self::Sliding => 30_000,
        }
    }

    /// How many keys.
    pub fn keys(self) -> u64 {
        match self {
            Self::Tumbling => fill::KEYS,
            Self::Session | Self::Sliding => 100_000,
        }
    }

    /// How many events each window holds, of a key whose events happened at these `times`, in order. Kafka Streams
    /// has one more kind of sliding windows: those that begin after an event, if they hold any.
    fn counts(self, times: &[i64], who: Name) -> Vec<u64> {
        let size = self.size_ms();
        let lengths = |is_one: fn(i64, i64, i64) -> bool| {
            times.chunk_by(|a, b| is_one(*a, *b, size)).map(|chunk| chunk.len() as u64).collect()
        };
        match self {
            Self::Tumbling => lengths(|a, b, size| a.div_euclid(size) == b.div_euclid(size)),
            Self::Session => lengths(|a, b, size| b - a <= size),
            Self::Sliding => {
                let held = |end: i64| {
                    let first = times.partition_point(|time| *time < end - size);
                    (times.partition_point(|time| *time <= end) - first) as u64
                };
                let mut ends: BTreeSet<i64> = times.iter().copied().collect();
                if matches!(who, Name::Streams | Name::StreamsMemory) {
                    ends.extend(times.iter().map(|time| time + 1 + size).filter(|end| held(*end) > 0));
                }
                ends.into_iter().map(held).collect()
            }
        }
    }
}

/// When records happened, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    kind: Kind,
    records: u64,
    begin_ms: i64,
}

/// Results, and the events that they count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many results.
    pub results: u64,
    /// The sum of their counts.
    pub events: u64,
}

impl Tally {
    /// One more result.
    pub fn add(&mut self, events: u64) {
        self.results += 1;
        self.events += events;
    }
}

impl Timeline {
    /// Of so many records, all of which are over at `now_ms`, and not long since: a broker deletes what is old.
    pub fn new(kind: Kind, records: u64, now_ms: i64) -> Self {
        let mut timeline = Self { kind, records, begin_ms: 0 };
        let size = kind.size_ms();
        timeline.begin_ms = (now_ms - timeline.over() - size).div_euclid(size) * size;
        timeline
    }

    /// When record `n` happened, milliseconds since the epoch.
    pub fn at(&self, n: u64) -> i64 {
        self.begin_ms + (n / PER_MS).cast_signed()
    }

    /// Whose it is.
    pub fn key(&self, n: u64) -> u64 {
        let keys = self.kind.keys();
        match self.kind {
            Kind::Tumbling | Kind::Sliding => fill::number(n, keys),
            Kind::Session => {
                let shift = n / PER_MS / SHIFT_MS % SHIFTS;
                shift * (keys / SHIFTS) + fill::number(n, keys / SHIFTS)
            }
        }
    }

    /// By then every window has closed.
    pub fn over(&self) -> i64 {
        self.at(self.records) + 2 * self.kind.size_ms()
    }

    /// What the contestant has said when every window has closed.
    pub fn expected(&self, who: Name) -> Tally {
        let mut times = vec![Vec::new(); self.kind.keys() as usize];
        for n in 0..self.records {
            times[self.key(n) as usize].push(self.at(n));
        }
        let mut tally = Tally::default();
        let counts = times.iter().flat_map(|times| self.kind.counts(times, who));
        counts.for_each(|count| tally.add(count));
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_what_their_definitions_say() {
        let s = |seconds: &[i64]| seconds.iter().map(|second| second * 1000).collect::<Vec<_>>();
        for (kind, who, times, expected) in [
            (Kind::Tumbling, Name::Tidemill, s(&[0, 9, 10, 25]), vec![2, 1, 1]),
            (Kind::Session, Name::Tidemill, s(&[0, 10, 21, 22]), vec![2, 2]),
            (Kind::Sliding, Name::Tidemill, s(&[0, 30, 61]), vec![1, 2, 1]),
            // The window that begins after 0 holds 30 alone; none begins after 30, since it would hold nothing.
            (Kind::Sliding, Name::Streams, s(&[0, 30]), vec![1, 2, 1]),
        ] {
            assert_eq!(kind.counts(&times, who), expected, "{kind:?} of {times:?}");
        }
    }

    #[test]
    fn tumbling_windows_hold_every_event_once() {
        let timeline = Timeline::new(Kind::Tumbling, 700_000, 1_800_000_000_123);
        let expected = Tally { results: 70_000, events: 700_000 };
        assert_eq!(timeline.expected(Name::Tidemill), expected);
        let (first, last) = (timeline.at(0), timeline.at(699_999));
        assert_eq!((first.rem_euclid(10_000), last - first), (0, 69_999));
        assert!(timeline.over() < 1_800_000_000_123);
    }

    #[test]
    fn every_key_has_several_sessions_of_several_events() {
        let timeline = Timeline::new(Kind::Session, 2_000_000, 1_800_000_000_123);
        let expected = Tally { results: 250_000, events: 2_000_000 };
        assert_eq!(timeline.expected(Name::Tidemill), expected);
    }
}
