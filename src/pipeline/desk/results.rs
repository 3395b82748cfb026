//! Results of windows and timers wait in the state, not here. But an outage is theirs too: their calls feed the lane's
//! circuit, and while it is open one at a time is given to probe, of which no attempt is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::circuit::Circuit;
use super::{Desk, Policy, Track};
use crate::model::Retry;
use crate::pipeline::back_off;

impl Track {
    /// Events of this lane are placed and not called: they go on in an outage, and tell nothing of it.
    pub fn places_events(&mut self, policy: &Policy) {
        self.of_results = Some(Circuit::new(policy.circuit));
    }

    fn results(&self) -> &Circuit {
        self.of_results.as_ref().unwrap_or(&self.circuit)
    }

    /// No call with a result is made but a probe.
    #[inline]
    pub fn holds_results(&self) -> bool {
        self.results().is_open()
    }

    /// One result is to be given to probe. Where events wait too, they take turns.
    pub fn may_probe_result(&self, now: Duration) -> bool {
        let circuit = self.results();
        let is_alone = self.of_results.is_some() || self.held == 0;
        circuit.may_probe(now) && (is_alone || circuit.is_for_results())
    }

    /// The next probe is a result that was never called, if there is one: those that failed may be poison.
    pub fn wants_fresh_result(&self) -> bool {
        self.results().wants_fresh()
    }

    /// A call with a result went well; whether that closed the circuit.
    pub fn result_went_well(&mut self) -> bool {
        self.of_results.as_mut().unwrap_or(&mut self.circuit).went_well()
    }
}

impl<J> Desk<J> {
    /// A call with a result of this key failed and is to be made again; whether that opened the circuit. `is_first`: it is
    /// the first that failed; `dice` is uniform in 0..1.
    pub fn result_failed(
        &self,
        track: &mut Track,
        (key, is_first): (&[u8], bool),
        (now, dice): (Duration, f64),
    ) -> bool {
        let strand = track.strand_of_key(key);
        let retry = &self.policy.retry;
        let circuit = track.of_results.as_mut().unwrap_or(&mut track.circuit);
        if circuit.is_open() {
            circuit.probe_failed(retry, (now, dice));
            return false;
        }
        circuit.failed(strand, is_first, now, back_off(retry, 1, dice))
    }
}

/// When results that wait in a partition's state are given again, by their numbers.
#[derive(Debug, Default)]
pub struct Agenda {
    again_at: BTreeMap<u64, Duration>,
}

impl Agenda {
    /// Whether this one is due, whose call failed so often; `dice` is uniform in 0..1.
    pub fn is_due(
        &mut self,
        (number, attempts): (u64, u32),
        retry: &Retry,
        (now, dice): (Duration, f64),
    ) -> bool {
        let pause = match attempts {
            0 => Duration::ZERO,
            attempts => back_off(retry, attempts, dice),
        };
        *self.again_at.entry(number).or_insert(now + pause) <= now
    }

    /// The one to probe with, of those that have nothing of their key before them: number, and how many calls failed.
    pub fn probe(&self, first: impl Iterator<Item = (u64, u32)>, wants_fresh: bool) -> Option<u64> {
        let (mut fresh, mut failed) = (None, None);
        for (number, attempts) in first {
            match self.again_at.get(&number).copied() {
                None if attempts == 0 => fresh = fresh.or(Some(number)),
                at => {
                    let other = (at.unwrap_or_default(), number);
                    failed = Some(failed.map_or(other, |known| other.min(known)));
                }
            }
        }
        let failed = failed.map(|(_, number)| number);
        if wants_fresh { fresh.or(failed) } else { failed.or(fresh) }
    }

    /// It was a probe and failed: others come first.
    pub fn put_off(&mut self, number: u64, until: Duration) {
        self.again_at.insert(number, until);
    }

    /// It is given now.
    pub fn take(&mut self, number: u64) {
        self.again_at.remove(&number);
    }

    /// What was given since the last cut is undone.
    pub fn clear(&mut self) {
        self.again_at.clear();
    }
}
