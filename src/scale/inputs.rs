//! What a decision stands on: the load of each partition, and how many workers there are. Two samples make it.

use std::time::Duration;

use super::backlog::unread;
use super::sample::{LaneSample, Sample};

/// A partition is lagging when what waits there is more than its worker finishes in this time. Less is what lies between two
/// cuts: a worker that keeps up has it too, and taking that for a full load would ask for one worker more, for ever.
const LAGGING_S: f64 = 1.0;

/// What is known of a function at a moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inputs {
    /// Members of its group that have their partitions.
    pub workers: u32,
    /// How many partitions can be shared out among workers.
    pub partitions: u32,
    /// Each partition that it reads.
    pub loads: Vec<Load>,
    /// How long until its next deadline; `None`: it waits for none.
    pub wake_in: Option<Duration>,
}

/// The load of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Records to be handled, at most.
    pub backlog: u64,
    /// Records that came, a second.
    pub arrival_rate: f64,
    /// Records that were finished, a second.
    pub throughput: f64,
    /// More waited all the time than is finished in a second: its worker had no moment of rest.
    pub is_lagging: bool,
}

impl Load {
    /// What happened in a partition between two samples, `seconds` apart.
    fn between(before: &LaneSample, after: &LaneSample, seconds: f64) -> Self {
        let (was, backlog) = (before.backlog(), after.backlog());
        let came = (after.bounds.end - before.bounds.end).max(0) as f64;
        // What would wait now if nothing had been done meanwhile: records that were deleted were not handled.
        let undone = unread(&before.ledger, after.bounds);
        let throughput = undone.saturating_sub(backlog) as f64 / seconds;
        let is_lagging = was.min(backlog) as f64 > throughput * LAGGING_S;
        Self { backlog, arrival_rate: came / seconds, throughput, is_lagging }
    }
}

impl Inputs {
    /// What two samples, so far apart, say of a function with `workers` workers. `wall_ms` is the time of the later one,
    /// milliseconds since the epoch.
    pub fn between(samples: [&Sample; 2], apart: Duration, workers: u32, wall_ms: u64) -> Self {
        let [before, after] = samples;
        let seconds = apart.as_secs_f64().max(1e-3);
        let loads = after.lanes.iter().map(|lane| {
            let same = before.lanes.iter().find(|was| was.partition == lane.partition);
            // A partition that was not there before has no rates yet.
            same.map_or(Load { backlog: lane.backlog(), ..Load::default() }, |was| {
                Load::between(was, lane, seconds)
            })
        });
        let shared = after.lanes.iter().filter(|lane| !lane.goes_along).count();
        let wake_in = after.wake_at_ms().map(|at| Duration::from_millis(at.saturating_sub(wall_ms)));
        Self { workers, partitions: shared as u32, loads: loads.collect(), wake_in }
    }

    /// Records to be handled.
    pub fn backlog(&self) -> u64 {
        self.loads.iter().map(|load| load.backlog).sum()
    }

    /// λ: records that came, a second.
    pub fn arrival_rate(&self) -> f64 {
        self.loads.iter().map(|load| load.arrival_rate).sum()
    }

    /// Records that were finished, a second.
    pub fn throughput(&self) -> f64 {
        self.loads.iter().map(|load| load.throughput).sum()
    }

    /// How many partitions lag.
    pub fn lagging(&self) -> u32 {
        self.loads.iter().filter(|load| load.is_lagging).count() as u32
    }

    /// How many workers had no moment of rest: a lagging partition keeps one busy, and there are no more than there are.
    pub fn busy(&self) -> u32 {
        self.workers.min(self.lagging())
    }

    /// μ: what one busy worker finishes, records a second. Only busy workers tell; `None`: none is, or it finished nothing.
    pub fn service_rate(&self) -> Option<f64> {
        let lagging = self.loads.iter().filter(|load| load.is_lagging);
        let throughput: f64 = lagging.map(|load| load.throughput).sum();
        (self.busy() > 0 && throughput > 0.0).then(|| throughput / f64::from(self.busy()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{Bounds, Partition};
    use crate::pipeline::Ledger;

    fn lane(partition: i32, committed: i64, log_start: i64, end: i64) -> LaneSample {
        LaneSample {
            partition: Partition { topic: "rides".to_owned(), partition },
            goes_along: false,
            bounds: Bounds { log_start, end },
            committed: Some(committed),
            ledger: Ledger::starting_at(committed),
            wake_at_ms: None,
        }
    }

    fn between(before: LaneSample, after: LaneSample) -> Load {
        Load::between(&before, &after, 2.0)
    }

    #[test]
    fn rates_are_what_happened_between_two_samples() {
        // Committed, log start and end before and after; arrivals and throughput a second, whether it lags.
        let cases = [
            ((0, 0, 100), (0, 0, 100), (0.0, 0.0, true)),
            ((100, 0, 100), (100, 0, 100), (0.0, 0.0, false)),
            ((0, 0, 1000), (200, 0, 1100), (50.0, 100.0, true)),
            // It keeps up: what waits is less than a second's work.
            ((90, 0, 100), (390, 0, 400), (150.0, 150.0, false)),
            // 500 were deleted before anybody read them: no throughput.
            ((0, 0, 1000), (0, 500, 1000), (0.0, 0.0, true)),
            ((0, 0, 1000), (700, 500, 1000), (0.0, 100.0, true)),
            // An offset that went back is no throughput either.
            ((500, 0, 1000), (0, 0, 1000), (0.0, 0.0, true)),
        ];
        for (before, after, (arrival_rate, throughput, is_lagging)) in cases {
            let load = between(lane(0, before.0, before.1, before.2), lane(0, after.0, after.1, after.2));
            let found = (load.arrival_rate, load.throughput, load.is_lagging);
            assert_eq!(found, (arrival_rate, throughput, is_lagging), "{before:?} {after:?}");
        }
    }

    #[test]
    fn what_is_finished_out_of_order_is_throughput() {
        let before = lane(0, 0, 0, 1000);
        let mut after = lane(0, 0, 0, 1000);
        (0..200).for_each(|offset| after.ledger.admit(offset));
        (100..200).for_each(|offset| after.ledger.finish(offset));
        assert_eq!(between(before, after).throughput, 50.0);
    }

    #[test]
    fn only_busy_workers_tell_how_fast_one_is() {
        let lagging = |throughput| Load { backlog: 1000, throughput, is_lagging: true, ..Load::default() };
        let idle = Load { throughput: 30.0, ..Load::default() };
        // Workers, loads, service rate.
        let cases = [
            (2, vec![idle, idle], None),
            (2, vec![lagging(100.0), idle], Some(100.0)),
            (2, vec![lagging(50.0), lagging(50.0), lagging(100.0)], Some(100.0)),
            (0, vec![lagging(0.0)], None),
            (1, vec![lagging(0.0)], None),
        ];
        for (workers, loads, rate) in cases {
            let inputs = Inputs { workers, partitions: loads.len() as u32, loads, wake_in: None };
            assert_eq!(inputs.service_rate(), rate, "{inputs:?}");
        }
    }

    #[test]
    fn redriven_letters_are_work_but_no_reason_for_workers() {
        let mut letters = lane(1, 0, 0, 5);
        letters.goes_along = true;
        letters.wake_at_ms = Some(5_000);
        let sample = Sample { lanes: vec![lane(0, 0, 0, 7), letters] };
        let inputs = Inputs::between([&sample, &sample], Duration::from_secs(1), 1, 2_000);
        assert_eq!((inputs.partitions, inputs.backlog()), (1, 12));
        assert_eq!(inputs.wake_in, Some(Duration::from_secs(3)));
    }
}
