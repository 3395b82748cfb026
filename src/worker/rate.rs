//! How many calls a second a worker may make: its share of the function's `rate`, which holds for all workers of all
//! processes together, and what the process's own limit leaves. Of the first, workers do not talk to each other: each
//! takes as much as it has of the partitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Rate;

/// What a worker may call.
#[derive(Debug)]
pub struct Budget {
    share: Option<Share>,
    process: Option<ProcessRate>,
    asked_at: Duration,
}

impl Budget {
    /// `None`: as much as it can.
    pub fn new(rate: Option<Rate>, process: Option<ProcessRate>, now: Duration) -> Option<Self> {
        let is_bounded = rate.is_some() || process.is_some();
        is_bounded.then(|| Self { share: rate.map(|rate| Share::new(rate, now)), process, asked_at: now })
    }

    /// The worker has so many of the function's partitions.
    pub fn share(&mut self, mine: usize, all: usize, now: Duration) {
        if let Some(share) = &mut self.share {
            share.share(mine, all, now);
        }
    }

    /// A call may begin, and takes its token.
    pub fn take(&mut self, now: Duration) -> bool {
        self.asked_at = now;
        if self.share.as_mut().is_some_and(|share| !share.take(now)) {
            return false;
        }
        let may = self.process.as_ref().is_none_or(|process| process.take(now));
        if !may && let Some(share) = &mut self.share {
            share.give_back();
        }
        may
    }

    /// There was no call after all.
    pub fn give_back(&mut self) {
        if let Some(share) = &mut self.share {
            share.give_back();
        }
        if let Some(process) = &self.process {
            process.give_back();
        }
    }

    /// How long, from when it was last asked, until a call may begin.
    pub fn wait(&self) -> Duration {
        let share = self.share.as_ref().map_or(Duration::ZERO, Share::wait);
        share.max(self.process.as_ref().map_or(Duration::ZERO, |process| process.wait(self.asked_at)))
    }
}

/// The calls of all workers of a process together, without a lock: the generic cell rate algorithm (ITU-T I.371) on one
/// number. Clones share it.
#[derive(Debug, Clone)]
pub struct ProcessRate {
    /// When the next call is due if all come evenly, in nanoseconds of the clock's monotonic time.
    due: Arc<AtomicU64>,
    /// Between two calls.
    step: u64,
    /// How much earlier than due one may come.
    ahead: u64,
}

impl ProcessRate {
    /// So many calls, evenly, a tenth of a second's worth at once.
    pub fn new(rate: Rate) -> Self {
        let step = (rate.per.as_nanos() / u128::from(rate.calls.max(1))) as u64;
        Self { due: Arc::default(), step, ahead: ((SAVED * 1e9) as u64).saturating_sub(step) }
    }

    fn take(&self, now: Duration) -> bool {
        let now = now.as_nanos() as u64;
        let next = |due: u64| (due <= now + self.ahead).then(|| due.max(now) + self.step);
        self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    fn give_back(&self) {
        let _ = self
            .due
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(due.saturating_sub(self.step)));
    }

    fn wait(&self, now: Duration) -> Duration {
        let due = self.due.load(Ordering::Relaxed);
        Duration::from_nanos(due.saturating_sub(self.ahead).saturating_sub(now.as_nanos() as u64))
    }
}

/// A worker's share of the function's rate: a bucket of tokens, one a call, that fills evenly and holds what comes in a
/// tenth of a second, at least one.
#[derive(Debug)]
struct Share {
    rate: Rate,
    /// Calls a second of this worker; 0: it has no partition.
    per_second: f64,
    tokens: f64,
    filled_at: Duration,
}

/// How much may be saved up.
const SAVED: f64 = 0.1;

impl Share {
    /// Of a worker without partitions.
    fn new(rate: Rate, now: Duration) -> Self {
        Self { rate, per_second: 0.0, tokens: 1.0, filled_at: now }
    }

    /// The worker has so many of the function's partitions.
    fn share(&mut self, mine: usize, all: usize, now: Duration) {
        self.fill(now);
        let whole = f64::from(self.rate.calls) / self.rate.per.as_secs_f64();
        self.per_second = whole * mine as f64 / all.max(mine).max(1) as f64;
    }

    /// A call may begin, and takes its token.
    fn take(&mut self, now: Duration) -> bool {
        self.fill(now);
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }

    /// There was no call after all.
    fn give_back(&mut self) {
        self.tokens += 1.0;
    }

    /// How long until a call may begin.
    fn wait(&self) -> Duration {
        let missing = (1.0 - self.tokens).max(0.0);
        Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::MAX)
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled_at);
        self.filled_at = now;
        let most = (self.per_second * SAVED).max(1.0);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.per_second).min(most.max(self.tokens));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn taken(budget: &mut Share, from: u32, to: u32) -> usize {
        (from..to).filter(|ms| budget.take(MS * *ms)).count()
    }

    #[test]
    fn a_worker_with_half_of_the_partitions_makes_half_of_the_calls() {
        let mut budget = Share::new(Rate { calls: 100, per: Duration::from_secs(1) }, Duration::ZERO);
        budget.share(2, 4, Duration::ZERO);
        assert!((50..=51).contains(&taken(&mut budget, 0, 1000)));
        budget.share(4, 4, MS * 1000);
        assert!((99..=101).contains(&taken(&mut budget, 1000, 2000)));
        budget.share(0, 4, MS * 2000);
        assert!(taken(&mut budget, 2000, 9000) <= 1);
        assert_eq!(budget.wait(), Duration::MAX);
    }

    #[test]
    fn little_is_saved_up_and_slow_rates_are_kept() {
        let mut budget = Share::new(Rate { calls: 100, per: Duration::from_secs(1) }, Duration::ZERO);
        budget.share(1, 1, Duration::ZERO);
        let at_once = (0..100).filter(|_| budget.take(MS * 60_000)).count();
        assert_eq!(at_once, 10, "a tenth of a second's worth");
        let mut budget = Share::new(Rate { calls: 6, per: Duration::from_secs(60) }, Duration::ZERO);
        budget.share(1, 1, Duration::ZERO);
        assert!((6..=7).contains(&taken(&mut budget, 0, 60_000)));
        assert!(budget.wait() <= Duration::from_secs(10));
    }

    #[test]
    fn the_workers_of_a_process_share_its_rate() {
        let process = ProcessRate::new(Rate { calls: 100, per: Duration::from_secs(1) });
        let budget = || Budget::new(None, Some(process.clone()), Duration::ZERO).expect("a bound");
        let mut workers = [budget(), budget()];
        let mut taken = 0;
        for ms in 0..1000 {
            taken += workers.iter_mut().filter_map(|worker| worker.take(MS * ms).then_some(())).count();
        }
        assert!((100..=110).contains(&taken), "{taken}");
        assert!(!workers[0].take(MS * 1000) || !workers[1].take(MS * 1000));
        assert!(workers[0].wait() <= MS * 10 || workers[1].wait() <= MS * 10);
        workers[0].give_back();
        assert!(workers[1].take(MS * 1000), "what was given back is there for all");
        assert!(Budget::new(None, None, Duration::ZERO).is_none());
    }

    #[test]
    fn what_the_process_does_not_allow_costs_no_share() {
        let rate = |calls| Rate { calls, per: Duration::from_secs(1) };
        let mut budget =
            Budget::new(Some(rate(100)), Some(ProcessRate::new(rate(10))), Duration::ZERO).expect("a bound");
        budget.share(1, 1, Duration::ZERO);
        let taken = (0..1000).filter(|ms| budget.take(MS * *ms)).count();
        assert!((10..=11).contains(&taken), "{taken}");
    }

    #[test]
    fn a_record_that_was_not_called_costs_nothing() {
        let mut budget = Share::new(Rate { calls: 1, per: Duration::from_secs(3600) }, Duration::ZERO);
        budget.share(1, 1, Duration::ZERO);
        for _ in 0..10 {
            assert!(budget.take(Duration::ZERO));
            budget.give_back();
        }
    }
}
