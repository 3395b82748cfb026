//! What a change of the number of workers costs: how long new ones take to be there, and how long nobody works while
//! partitions change hands. Both are learnt from the changes that were made.

use std::time::Duration;

use super::inputs::Inputs;

/// How much of the latest change the learnt times take over.
const WEIGHT: f64 = 0.5;

/// A change that has not come about in this time is not waited for: there is no room for more workers, or somebody else
/// decides.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(600);

/// Throughput that has not come back in this time will not, whatever the reason.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);

/// Workers that finish nothing in this time are stalled: their events fail, or take longer than anybody would wait.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Changes of the number of workers, and what they have cost.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    current: Option<Change>,
    /// From a decision until the workers are there.
    pub start_up: Duration,
    /// From then until as much is finished as before.
    pub rebalance: Duration,
    workers: Option<u32>,
    /// When somebody came or went last; `None`: nobody has since this began.
    steady_since: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Change {
    at: Duration,
    from: u32,
    to: u32,
    reached: Option<Duration>,
    /// Of workers that had no rest, or none at all; `None`: they had.
    throughput: Option<f64>,
}

impl Changes {
    pub fn new(start_up: Duration, rebalance: Duration) -> Self {
        Self { current: None, start_up, rebalance, workers: None, steady_since: None }
    }

    pub fn begin(&mut self, at: Duration, [from, to]: [u32; 2], inputs: &Inputs) {
        let throughput = inputs.throughput();
        let tells = from == 0 || (inputs.busy() > 0 && throughput > 0.0);
        let throughput = tells.then_some(throughput);
        self.current = Some(Change { at, from, to, reached: None, throughput });
    }

    /// Takes note of how far the current change is.
    pub fn observe(&mut self, at: Duration, inputs: &Inputs) {
        if self.workers.replace(inputs.workers).is_some_and(|before| before != inputs.workers) {
            self.steady_since = Some(at);
        }
        let Some(change) = &mut self.current else { return };
        let is_up = change.to > change.from;
        let Some(reached) = change.reached else {
            if (is_up && inputs.workers >= change.to) || (!is_up && inputs.workers <= change.to) {
                change.reached = Some(at);
                if is_up {
                    learn(&mut self.start_up, at - change.at);
                }
            } else if at.saturating_sub(change.at) >= GIVEN_UP_AFTER {
                self.current = None;
            }
            return;
        };
        let took = at.saturating_sub(reached);
        let is_over = match change.throughput.filter(|_| is_up) {
            Some(before) if inputs.throughput() > 0.0 && inputs.throughput() >= before * 0.9 => {
                learn(&mut self.rebalance, took);
                true
            }
            // Nothing waits any more.
            Some(_) if inputs.lagging() == 0 => true,
            Some(_) => took >= RECOVERED_WITHIN,
            None => took >= self.rebalance,
        };
        if is_over {
            self.current = None;
        }
    }

    /// No change is under way.
    pub fn is_settled(&self) -> bool {
        self.current.is_none()
    }

    /// No change is under way, and nobody came or went for so long that what is measured is the work of these workers.
    pub fn is_steady(&self, at: Duration) -> bool {
        self.is_steady_for(at, self.rebalance)
    }

    /// The same for so long that workers which finished nothing will not by themselves.
    pub fn is_long_steady(&self, at: Duration) -> bool {
        self.is_steady_for(at, self.rebalance + STALLED_AFTER)
    }

    fn is_steady_for(&self, at: Duration, time: Duration) -> bool {
        self.is_settled() && self.steady_since.is_none_or(|since| at.saturating_sub(since) > time)
    }

    /// How long it takes from a decision until new workers work.
    pub fn ahead(&self) -> Duration {
        self.start_up + self.rebalance
    }

    /// Would the backlog be gone sooner with `to` workers than with `from`, although those are still to come and nobody works
    /// while partitions change hands? `lambda` and `mu` are records a second.
    pub fn pays_up(&self, [from, to]: [u32; 2], backlog: u64, [lambda, mu]: [f64; 2]) -> bool {
        let (backlog, capacity) = (backlog as f64, |workers: u32| f64::from(workers) * mu);
        if capacity(from) <= lambda {
            return true;
        }
        let as_it_is = backlog / (capacity(from) - lambda);
        let (start_up, rebalance) = (self.start_up.as_secs_f64(), self.rebalance.as_secs_f64());
        // The old ones go on until the new ones are there.
        let left = (backlog - (capacity(from) - lambda) * start_up).max(0.0) + lambda * rebalance;
        let changed = start_up + rebalance + left / (capacity(to) - lambda).max(1e-9);
        changed < as_it_is
    }

    /// Is going down worth that nobody works while partitions change hands, now and when they have to come again? What has
    /// held so long is taken to hold as long again.
    pub fn pays_down(&self, [from, to]: [u32; 2], held: Duration) -> bool {
        let going = f64::from(from.saturating_sub(to));
        let (start_up, rebalance) = (self.start_up.as_secs_f64(), self.rebalance.as_secs_f64());
        going * held.as_secs_f64() > f64::from(from) * rebalance * 2.0 + going * start_up
    }
}

fn learn(known: &mut Duration, took: Duration) {
    *known = known.mul_f64(1.0 - WEIGHT) + took.mul_f64(WEIGHT);
}

#[cfg(test)]
mod tests {
    use super::super::inputs::Load;
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn busy(workers: u32, throughput: f64) -> Inputs {
        let load = Load { backlog: 1000, throughput, is_lagging: true, ..Load::default() };
        Inputs { workers, partitions: 1, loads: vec![load], wake_in: None }
    }

    #[test]
    fn what_changes_cost_is_learnt_from_them() {
        let mut changes = Changes::new(s(5), s(5));
        changes.observe(s(0), &busy(1, 100.0));
        changes.begin(s(0), [1, 4], &busy(1, 100.0));
        changes.observe(s(10), &busy(3, 100.0));
        assert!(!changes.is_settled());
        changes.observe(s(25), &busy(4, 0.0));
        changes.observe(s(30), &busy(4, 0.0));
        changes.observe(s(40), &busy(4, 380.0));
        assert!(changes.is_settled());
        assert_eq!((changes.start_up, changes.rebalance), (s(15), Duration::from_secs(10)));
        assert!(!changes.is_steady(s(35)) && changes.is_steady(s(36)));
    }

    #[test]
    fn a_change_that_does_not_come_about_is_given_up() {
        let mut changes = Changes::new(s(5), s(5));
        changes.begin(s(0), [1, 4], &busy(1, 100.0));
        changes.observe(s(599), &busy(1, 100.0));
        assert!(!changes.is_settled());
        changes.observe(s(600), &busy(1, 100.0));
        assert!(changes.is_settled());
        assert_eq!(changes.start_up, s(5), "nothing was learnt");
    }

    #[test]
    fn a_change_has_to_bring_more_than_it_costs() {
        let changes = Changes::new(s(20), s(10));
        // From, to, backlog, arrivals at 100 a second and worker.
        for ((from, to), backlog, lambda, pays) in [
            // Gone in 20 s as it is, when the others would just have come.
            ((1, 2), 2000, 0.0, false),
            ((1, 4), 20_000, 0.0, true),
            // It never gets less by itself.
            ((1, 2), 10, 100.0, true),
            ((2, 3), 3000, 100.0, false),
            ((2, 3), 30_000, 100.0, true),
        ] {
            assert_eq!(changes.pays_up([from, to], backlog, [lambda, 100.0]), pays, "{from} {to} {backlog}");
        }
        for ((from, to), held, pays) in
            [((2, 1), 60, false), ((2, 1), 61, true), ((20, 19), 420, false), ((20, 19), 421, true)]
        {
            assert_eq!(changes.pays_down([from, to], s(held)), pays, "{from} {to} {held}");
        }
    }
}
