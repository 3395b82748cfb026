//! What the topics say of a function's events, held against what its lanes have committed. Does no I/O.

use std::collections::BTreeMap;
use std::fmt;

use roaring::RoaringTreemap;
use serde::Serialize;

use crate::kafka::Partition;
use crate::pipeline::{Account, Checkpoint, Origin};

/// How many findings are named; the others are counted.
pub const NAMED: usize = 1000;

/// One partition that the function reads.
pub struct Lane {
    /// The partition.
    pub partition: Partition,
    /// What the group has committed for it.
    pub checkpoint: Checkpoint,
    /// Where the partition begins now: what stood before has expired.
    pub first: i64,
    /// Filters are not tried again: brought-back events come from any source.
    pub is_redriven: bool,
    /// Finished events that pass the filters.
    events: RoaringTreemap,
    filtered: u64,
    /// Those with the n-th of their records.
    have: BTreeMap<u32, RoaringTreemap>,
    /// Those that say how many records they made, if more than one.
    want: BTreeMap<u32, RoaringTreemap>,
    outputs: u64,
    dead_letters: u64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "finding", rename_all = "camelCase")]
pub enum Finding {
    /// An event's result is not there.
    Missing {
        /// `topic/partition@offset` of the event.
        event: String,
        /// How many of its results.
        results: u32,
        /// How many there should be.
        of: u32,
    },
    /// A result is there more than once.
    Twice {
        /// `topic/partition@offset` of the event.
        event: String,
        /// Which of its results, from 1.
        result: u32,
        /// `topic/partition@offset` of the second one.
        at: String,
    },
    /// Of these events, which have neither result nor dead letter, more are there than the lane has counted.
    Bare {
        /// `topic/partition` of the events.
        lane: String,
        /// How many are too many.
        too_many: u64,
        /// Their offsets, or the first of them.
        among: Vec<u64>,
        /// How many there are in all.
        of: u64,
    },
    /// The topics do not hold what the lane has counted.
    Differs {
        /// `topic/partition` of the events.
        lane: String,
        /// Of what.
        of: &'static str,
        /// How many the lane has counted.
        counted: u64,
        /// How many are there.
        found: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { event, results, of } => {
                write!(f, "missing  {event}: {results} of its {of} results")
            }
            Self::Twice { event, result, at } => write!(f, "twice    {event}: result {result} again in {at}"),
            Self::Bare { lane, too_many, among, of } => {
                let offsets: Vec<_> = among.iter().take(20).map(u64::to_string).collect();
                let more = if *of > 20 { ", …" } else { "" };
                write!(
                    f,
                    "missing  {lane}: {too_many} of these {of} events without any result, the others "
                )?;
                write!(f, "were skipped or wrote nothing: offset {}{more}", offsets.join(", "))
            }
            Self::Differs { lane, of, counted, found } => {
                write!(f, "differs  {lane}: {counted} {of} were counted, {found} are there")
            }
        }
    }
}

/// One lane in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `topic/partition`.
    pub lane: String,
    /// The first offset that was counted.
    pub since: i64,
    /// The committed offset.
    pub committed: i64,
    /// Events that have ended.
    pub consumed: u64,
    /// Of these: handled.
    pub ok: u64,
    /// Skipped by the handler.
    pub skipped: u64,
    /// Refused by a filter.
    pub filtered: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Taken, and not ended.
    pub in_flight: u64,
    /// Records written to sinks.
    pub outputs: u64,
    /// Those found there, if outputs name their origin.
    pub found: Option<u64>,
}

/// What could not be looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sight {
    /// Outputs say in a header which event made them.
    pub has_origins: bool,
    /// A sink has lost or compacted records away.
    pub is_sink_cut: bool,
    /// The dead-letter topic has.
    pub is_dead_cut: bool,
}

impl Lane {
    /// Nothing seen yet.
    pub fn new(partition: Partition, checkpoint: Checkpoint, first: i64, is_redriven: bool) -> Self {
        Self {
            partition,
            checkpoint,
            first,
            is_redriven,
            events: RoaringTreemap::new(),
            filtered: 0,
            have: BTreeMap::new(),
            want: BTreeMap::new(),
            outputs: 0,
            dead_letters: 0,
        }
    }

    fn account(&self) -> &Account {
        &self.checkpoint.account
    }

    /// The offsets that can be looked at: counted, and still there.
    pub fn stretch(&self) -> (i64, i64) {
        (self.account().since.max(self.first), self.checkpoint.ledger.next())
    }

    /// Its event at `offset` was counted as finished, and is still there.
    fn is_counted(&self, offset: i64) -> bool {
        offset >= self.stretch().0 && self.checkpoint.ledger.is_finished(offset)
    }

    /// The event at `offset` is there.
    pub fn event(&mut self, offset: i64, is_filtered: bool) {
        match self.is_counted(offset) {
            true if is_filtered => self.filtered += 1,
            true => drop(self.events.insert(offset as u64)),
            false => {}
        }
    }

    /// A result is there, at `place`. What was made after the lane's last commit, or before counting began, is passed
    /// over.
    pub fn result(
        &mut self,
        origin: &Origin<'_>,
        is_dead: bool,
        place: &dyn fmt::Display,
    ) -> Option<Finding> {
        if !self.is_counted(origin.offset) {
            return None;
        }
        match is_dead {
            true => self.dead_letters += 1,
            false => self.outputs += 1,
        }
        let offset = origin.offset as u64;
        if origin.of > 1 {
            self.want.entry(origin.of).or_default().insert(offset);
        }
        let is_new = self.have.entry(origin.number).or_default().insert(offset);
        (!is_new).then(|| Finding::Twice {
            event: self.name(offset),
            result: origin.number + 1,
            at: place.to_string(),
        })
    }

    fn name(&self, offset: u64) -> String {
        format!("{}@{offset}", self.partition)
    }

    /// Everything seen: what is missing, or is not as counted.
    pub fn close(&self, sight: Sight) -> Vec<Finding> {
        let mut findings = Vec::new();
        if sight.has_origins && !sight.is_sink_cut {
            for (of, events) in &self.want {
                for offset in events {
                    let has = |number: &u32| self.have.get(number).is_some_and(|have| have.contains(offset));
                    let results = (0..*of).filter(|number| !has(number)).count() as u32;
                    if results > 0 {
                        findings.push(Finding::Missing { event: self.name(offset), results, of: *of });
                    }
                }
            }
        }
        if self.first > self.account().since {
            // What has expired was counted: sums can no longer be compared.
            return findings;
        }
        let lane = || self.partition.to_string();
        let mut compare = |of, counted, found| {
            if counted != found {
                findings.push(Finding::Differs { lane: lane(), of, counted, found });
            }
        };
        let account = self.account();
        compare("events", account.consumed(), self.events.len() + self.filtered);
        if !self.is_redriven {
            compare("filtered events (by the filters as they are now)", account.filtered, self.filtered);
        }
        if !sight.is_dead_cut {
            compare("dead letters", account.dead_letters, self.dead_letters);
        }
        if !sight.has_origins || sight.is_sink_cut || sight.is_dead_cut {
            return findings;
        }
        compare("results", account.outputs, self.outputs);
        let with: RoaringTreemap = self.have.values().fold(RoaringTreemap::new(), |all, some| all | some);
        let bare = &self.events - with;
        let filtered = if self.is_redriven { account.filtered } else { 0 };
        let too_many = bare.len().saturating_sub(account.silent + account.skipped + filtered);
        if too_many > 0 {
            let among = bare.iter().take(NAMED).collect();
            findings.push(Finding::Bare { lane: lane(), too_many, among, of: bare.len() });
        }
        findings
    }

    /// The lane in numbers.
    pub fn row(&self, sight: Sight) -> Row {
        let account = self.account();
        Row {
            lane: self.partition.to_string(),
            since: account.since,
            committed: self.checkpoint.offset(),
            consumed: account.consumed(),
            ok: account.ok,
            skipped: account.skipped,
            filtered: account.filtered,
            dead_letters: account.dead_letters,
            in_flight: self.checkpoint.ledger.open().len() as u64,
            outputs: account.outputs,
            found: sight.has_origins.then_some(self.outputs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Sight = Sight { has_origins: true, is_sink_cut: false, is_dead_cut: false };

    /// A lane whose offsets 10 to 16 are counted: 2 ok with a result each, one with two, one silent, one skipped, one
    /// filtered, one dead; 17 is in flight, 18 finished beyond it.
    fn lane() -> Lane {
        let mut checkpoint = Checkpoint::fresh(10);
        for offset in 10..17 {
            checkpoint.ledger.finish(offset);
        }
        checkpoint.ledger.admit(17);
        checkpoint.ledger.finish(18);
        checkpoint.account =
            Account { since: 10, ok: 5, silent: 1, skipped: 1, filtered: 1, dead_letters: 1, outputs: 5 };
        let partition = Partition { topic: "rides".to_owned(), partition: 2 };
        Lane::new(partition, checkpoint, 0, false)
    }

    fn tell(lane: &mut Lane, offset: i64, (number, of): (u32, u32), is_dead: bool) -> Option<Finding> {
        let origin = Origin { function: "default/f", topic: "rides", partition: 2, offset, number, of };
        lane.result(&origin, is_dead, &"out/0@7")
    }

    /// Everything is there, but for `without`: an event's offset and which of its results.
    fn filled(without: &[(i64, u32)]) -> Lane {
        let mut lane = lane();
        for offset in 5..25 {
            lane.event(offset, offset == 15);
        }
        let results = [(10, 0, 1), (11, 0, 1), (12, 0, 2), (12, 1, 2), (18, 0, 1)];
        for (offset, number, of) in results {
            if !without.contains(&(offset, number)) {
                assert_eq!(tell(&mut lane, offset, (number, of), false), None);
            }
        }
        // Before counting began, in flight, and not taken yet.
        for offset in [5, 17, 20] {
            assert_eq!(tell(&mut lane, offset, (0, 1), false), None);
        }
        tell(&mut lane, 16, (0, 1), true);
        lane
    }

    #[test]
    fn what_is_whole_has_no_findings() {
        assert_eq!(filled(&[]).close(WHOLE), []);
    }

    #[test]
    fn a_second_result_is_named_with_its_place() {
        let mut lane = filled(&[]);
        let found = tell(&mut lane, 12, (1, 2), false);
        let twice = Finding::Twice { event: "rides/2@12".into(), result: 2, at: "out/0@7".into() };
        assert_eq!(found, Some(twice));
    }

    #[test]
    fn a_result_that_is_missing_beside_others_is_named() {
        let differs = Finding::Differs { lane: "rides/2".into(), of: "results", counted: 5, found: 4 };
        let missing = Finding::Missing { event: "rides/2@12".into(), results: 1, of: 2 };
        assert_eq!(filled(&[(12, 0)]).close(WHOLE), [missing, differs]);
    }

    #[test]
    fn an_only_result_that_is_missing_is_among_the_events_without() {
        let findings = filled(&[(11, 0)]).close(WHOLE);
        let bare = Finding::Bare { lane: "rides/2".into(), too_many: 1, among: vec![11, 13, 14], of: 3 };
        assert_eq!(findings[1], bare);
        assert!(matches!(findings[0], Finding::Differs { of: "results", .. }));
    }

    #[test]
    fn what_cannot_be_seen_is_not_missing() {
        let lane = filled(&[(11, 0), (12, 0)]);
        assert_eq!(lane.close(Sight { is_sink_cut: true, ..WHOLE }), []);
        assert_eq!(lane.close(Sight { has_origins: false, ..WHOLE }), []);
        let mut expired = filled(&[(10, 0)]);
        expired.first = 11;
        assert_eq!(expired.close(WHOLE), [], "the event itself has expired");
    }

    #[test]
    fn events_that_were_not_counted_show() {
        let mut lane = lane();
        lane.checkpoint.account.ok -= 1;
        for offset in 10..19 {
            lane.event(offset, offset == 15);
        }
        let unseen = Sight { has_origins: false, ..WHOLE };
        let findings = lane.close(unseen);
        assert_eq!(
            findings[0],
            Finding::Differs { lane: "rides/2".into(), of: "events", counted: 7, found: 8 }
        );
    }
}
