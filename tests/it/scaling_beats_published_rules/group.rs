//! A consumer group as a scaler sees it, in virtual time: partitions that fill, workers that take a while to come, and stand
//! still while partitions change hands.

use std::time::Duration;

use tidemill::kafka::{Bounds, Partition};
use tidemill::pipeline::Checkpoint;
use tidemill::scale::{LaneSample, Sample};

/// What a group is like.
#[derive(Debug, Clone)]
pub struct Terms {
    pub partitions: usize,
    /// What one worker finishes, records a second.
    pub service_rate: f64,
    /// What all together can, whatever their number; more workers than that takes only get in each other's way.
    pub downstream: Option<f64>,
    pub start_up: u64,
    /// How long all stand still when one comes or goes.
    pub rebalance: u64,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// How long the record that waited longest waited, in seconds: the time to drain.
    pub longest_wait: u64,
    pub worker_seconds: u64,
    pub rebalances: u64,
    pub most_workers: u32,
}

pub struct Group {
    terms: Terms,
    pub now: u64,
    lanes: Vec<Lane>,
    ready: u32,
    /// When each that was started is there.
    coming: Vec<u64>,
    still_until: u64,
    pub outcome: Outcome,
}

#[derive(Default)]
struct Lane {
    /// Records that have come until each second.
    came: Vec<f64>,
    done: f64,
    /// The second whose records are being handled.
    at: usize,
}

impl Lane {
    fn arrived(&self) -> f64 {
        self.came.last().copied().unwrap_or(0.0)
    }

    fn backlog(&self) -> f64 {
        self.arrived() - self.done
    }

    /// How long the oldest has waited.
    fn wait(&mut self) -> u64 {
        while self.came.get(self.at).is_some_and(|came| *came <= self.done + 1e-6) {
            self.at += 1;
        }
        (self.came.len() - self.at) as u64
    }
}

impl Group {
    pub fn new(terms: Terms) -> Self {
        let lanes = (0..terms.partitions).map(|_| Lane::default()).collect();
        Self {
            terms,
            now: 0,
            lanes,
            ready: 0,
            coming: Vec::new(),
            still_until: 0,
            outcome: Outcome::default(),
        }
    }

    /// Workers that there are or will be.
    pub fn asked_for(&self) -> u32 {
        self.ready + self.coming.len() as u32
    }

    pub fn ready(&self) -> u32 {
        self.ready
    }

    pub fn partitions(&self) -> u64 {
        self.lanes.len() as u64
    }

    pub fn service_rate(&self) -> f64 {
        self.terms.service_rate
    }

    /// End less committed, of all partitions.
    pub fn lag(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.backlog().floor() as u64).sum()
    }

    /// What a sampler would find.
    pub fn sample(&self) -> Sample {
        let lanes = self.lanes.iter().enumerate().map(|(partition, lane)| {
            let (committed, end) = (lane.done.ceil() as i64, lane.arrived().floor() as i64);
            LaneSample {
                partition: Partition { topic: "rides".to_owned(), partition: partition as i32 },
                goes_along: false,
                bounds: Bounds { log_start: 0, end: end.max(committed) },
                committed: Some(committed),
                ledger: Checkpoint::fresh(committed).ledger,
                wake_at_ms: None,
            }
        });
        Sample { lanes: lanes.collect() }
    }

    /// There are to be so many workers.
    pub fn scale_to(&mut self, workers: u32) {
        while self.asked_for() < workers {
            self.coming.push(self.now + self.terms.start_up);
        }
        while self.asked_for() > workers && self.coming.pop().is_some() {}
        if self.ready > workers {
            self.ready = workers;
            self.rebalance();
        }
    }

    fn rebalance(&mut self) {
        self.outcome.rebalances += 1;
        self.still_until = self.now + self.terms.rebalance;
    }

    /// One second passes in which so much comes to each partition.
    pub fn second(&mut self, arrivals: &[f64]) {
        for (lane, arrivals) in self.lanes.iter_mut().zip(arrivals) {
            let came = lane.arrived() + arrivals;
            lane.came.push(came);
        }
        let there = self.coming.iter().filter(|at| **at <= self.now).count() as u32;
        if there > 0 {
            self.coming.retain(|at| *at > self.now);
            self.ready += there;
            self.rebalance();
        }
        if self.now >= self.still_until && self.ready > 0 {
            self.work();
        }
        let outcome = &mut self.outcome;
        outcome.worker_seconds += u64::from(self.ready) + self.coming.len() as u64;
        outcome.most_workers = outcome.most_workers.max(self.ready + self.coming.len() as u32);
        let wait = self.lanes.iter_mut().map(Lane::wait).max();
        outcome.longest_wait = outcome.longest_wait.max(wait.unwrap_or(0));
        self.now += 1;
    }

    /// Each worker shares its second evenly among those of its partitions that have something.
    fn work(&mut self) {
        let workers = self.ready as usize;
        let rate = self.terms.service_rate;
        let of = |worker: usize| (worker..self.terms.partitions).step_by(workers);
        let loads = (0..workers).map(|worker| of(worker).map(|lane| self.lanes[lane].backlog()).sum::<f64>());
        let wanted: f64 = loads.map(|load| load.min(rate)).sum();
        let share = self.terms.downstream.map_or(1.0, |most| (most / wanted.max(1e-9)).min(1.0));
        for worker in 0..workers {
            let mut left = rate * share;
            let mut lanes: Vec<usize> = of(worker).collect();
            lanes.sort_by(|a, b| self.lanes[*a].backlog().total_cmp(&self.lanes[*b].backlog()));
            for (place, lane) in lanes.iter().enumerate() {
                let fair = left / (lanes.len() - place) as f64;
                let done = self.lanes[*lane].backlog().min(fair);
                self.lanes[*lane].done += done;
                left -= done;
            }
        }
    }

    pub fn at(&self) -> Duration {
        Duration::from_secs(self.now)
    }
}
