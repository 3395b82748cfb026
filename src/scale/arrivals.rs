//! The arrival rate to reckon with. One interval's says too much: a burst that is over is backlog and no rate, and a rate that
//! jumps with each sample would change the number of workers with each.
//!
//! λ is the median of the last [`SUSTAINED`]: it takes up a step after half of that and passes over shorter bursts. Where they
//! come again and again they stand in the backlog, which is drained in time all the same. A partition's share of λ is its share
//! of what came over `drainWithin`.

use std::collections::VecDeque;
use std::time::Duration;

use super::inputs::Inputs;

/// The window of the median.
const SUSTAINED: Duration = Duration::from_secs(10);

/// The fewest intervals that it is taken of, where samples are far apart, and the most, where they are close.
const INTERVALS: [usize; 2] = [3, 100];

/// Arrival rates of the last while.
#[derive(Debug, Clone)]
pub(super) struct Arrivals {
    drain_within: Duration,
    /// When, and the rate until then.
    recent: VecDeque<(Duration, f64)>,
    /// Of each partition, its rate smoothed.
    shares: Vec<f64>,
}

impl Arrivals {
    pub fn new(drain_within: Duration) -> Self {
        Self { drain_within, recent: VecDeque::new(), shares: Vec::new() }
    }

    /// Takes note of what came until `at`.
    pub fn note(&mut self, at: Duration, inputs: &Inputs) {
        let last = self.recent.back().map(|(last, _)| *last);
        self.recent.push_back((at, inputs.arrival_rate()));
        let [fewest, most] = INTERVALS;
        let is_over = |then: Duration| then + SUSTAINED <= at;
        while self.recent.len() > most
            || self.recent.len() > fewest && self.recent.front().is_some_and(|(then, _)| is_over(*then))
        {
            self.recent.pop_front();
        }
        self.shares.resize(inputs.loads.len(), 0.0);
        let weight = last.map_or(1.0, |last| {
            let (seconds, long) = (at.saturating_sub(last).as_secs_f64(), self.drain_within.as_secs_f64());
            1.0 - (-seconds / long.max(1e-3)).exp()
        });
        for (share, load) in self.shares.iter_mut().zip(&inputs.loads) {
            *share += weight * (load.arrival_rate - *share);
        }
    }

    /// λ, records a second.
    pub fn rate(&self) -> f64 {
        let mut rates: Vec<f64> = self.recent.iter().map(|(_, rate)| *rate).collect();
        rates.sort_by(f64::total_cmp);
        rates.len().checked_sub(1).and_then(|last| rates.get(last / 2)).copied().unwrap_or(0.0)
    }

    /// λ shared out among the partitions.
    pub fn rates(&self) -> Vec<f64> {
        let (rate, sum) = (self.rate(), self.shares.iter().sum::<f64>());
        self.shares.iter().map(|share| if sum > 0.0 { rate * share / sum } else { 0.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::inputs::Load;
    use super::*;

    /// The rate after each of these came in so many seconds.
    fn rate(apart: u64, each: impl IntoIterator<Item = f64>) -> f64 {
        let mut arrivals = Arrivals::new(Duration::from_secs(30));
        for (n, arrival_rate) in each.into_iter().enumerate() {
            let loads = vec![Load { arrival_rate, ..Load::default() }];
            arrivals.note(Duration::from_secs(n as u64 * apart), &Inputs { loads, ..Inputs::default() });
        }
        arrivals.rate()
    }

    #[test]
    fn a_step_counts_soon_and_a_burst_does_not() {
        let quiet = || std::iter::repeat_n(0.0, 60);
        let busy = |seconds| std::iter::repeat_n(100.0, seconds);
        assert_eq!(rate(1, []), 0.0);
        assert_eq!(rate(1, [100.0]), 100.0);
        assert_eq!(rate(1, quiet().chain(busy(5))), 0.0);
        assert_eq!(rate(1, quiet().chain(busy(6))), 100.0);
        assert_eq!(rate(1, busy(60).chain(quiet().take(5))), 0.0);
        assert_eq!(rate(30, quiet().chain(busy(1))), 0.0);
        assert_eq!(rate(30, quiet().chain(busy(2))), 100.0);
    }

    #[test]
    fn each_partition_has_its_share() {
        let mut arrivals = Arrivals::new(Duration::from_secs(30));
        for second in 0..30 {
            let loads = [90.0, 10.0, 0.0].map(|arrival_rate| Load { arrival_rate, ..Load::default() });
            let inputs = Inputs { loads: loads.to_vec(), ..Inputs::default() };
            arrivals.note(Duration::from_secs(second), &inputs);
        }
        let rates: Vec<i64> = arrivals.rates().iter().map(|rate| rate.round() as i64).collect();
        assert_eq!(rates, [90, 10, 0]);
    }
}
