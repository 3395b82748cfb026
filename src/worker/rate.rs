//! How many calls a second a worker may make: its share of the function's `rate`, which holds for all workers of all
//! processes together. They do not talk to each other: each takes as much as it has of the partitions.

use std::time::Duration;

use crate::model::Rate;

/// A bucket of tokens, one a call, that fills evenly and holds what comes in a tenth of a second, at least one.
#[derive(Debug)]
pub struct Budget {
    rate: Rate,
    /// Calls a second of this worker; 0: it has no partition.
    per_second: f64,
    tokens: f64,
    filled_at: Duration,
}

/// How much may be saved up.
const SAVED: f64 = 0.1;

impl Budget {
    /// Of a worker without partitions.
    pub fn new(rate: Rate, now: Duration) -> Self {
        Self { rate, per_second: 0.0, tokens: 1.0, filled_at: now }
    }

    /// The worker has so many of the function's partitions.
    pub fn share(&mut self, mine: usize, all: usize, now: Duration) {
        self.fill(now);
        let whole = f64::from(self.rate.calls) / self.rate.per.as_secs_f64();
        self.per_second = whole * mine as f64 / all.max(mine).max(1) as f64;
    }

    /// A call may begin, and takes its token.
    pub fn take(&mut self, now: Duration) -> bool {
        self.fill(now);
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }

    /// There was no call after all.
    pub fn give_back(&mut self) {
        self.tokens += 1.0;
    }

    /// How long until a call may begin.
    pub fn wait(&self) -> Duration {
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

    fn taken(budget: &mut Budget, from: u32, to: u32) -> usize {
        (from..to).filter(|ms| budget.take(MS * *ms)).count()
    }

    #[test]
    fn a_worker_with_half_of_the_partitions_makes_half_of_the_calls() {
        let mut budget = Budget::new(Rate { calls: 100, per: Duration::from_secs(1) }, Duration::ZERO);
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
        let mut budget = Budget::new(Rate { calls: 100, per: Duration::from_secs(1) }, Duration::ZERO);
        budget.share(1, 1, Duration::ZERO);
        let at_once = (0..100).filter(|_| budget.take(MS * 60_000)).count();
        assert_eq!(at_once, 10, "a tenth of a second's worth");
        let mut budget = Budget::new(Rate { calls: 6, per: Duration::from_secs(60) }, Duration::ZERO);
        budget.share(1, 1, Duration::ZERO);
        assert!((6..=7).contains(&taken(&mut budget, 0, 60_000)));
        assert!(budget.wait() <= Duration::from_secs(10));
    }

    #[test]
    fn a_record_that_was_not_called_costs_nothing() {
        let mut budget = Budget::new(Rate { calls: 1, per: Duration::from_secs(3600) }, Duration::ZERO);
        budget.share(1, 1, Duration::ZERO);
        for _ in 0..10 {
            assert!(budget.take(Duration::ZERO));
            budget.give_back();
        }
    }
}
