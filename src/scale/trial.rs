//! Did more workers bring more? Each growth is a trial: what a busy worker finishes is measured before and after. Where a
//! database, an API or a broker behind the handler is the limit, each new worker only takes from the others
//! (<https://github.com/kedacore/keda/issues/7092> tells how that ends). Then there is no growth beyond the number that would
//! have been enough, until it is tried again after a while, and after a longer one each time it was in vain.

use std::time::Duration;

use super::inputs::Inputs;

/// How long throughput is measured after a growth.
const MEASURED_FOR: Duration = Duration::from_secs(10);

/// A new worker has to bring this share of what one brought before.
const GAIN: f64 = 0.5;

/// After how long growth is tried again, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(3600)];

/// Fewer workers that finish less than this share of what more did were too few.
const AS_MUCH: f64 = 0.9;

/// A busy worker that finishes so much more than it did at the limit: the limit is no more.
const RECOVERED: f64 = 1.3;

/// Growths and what came of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Trials {
    running: Option<Trial>,
    limit: Option<Limit>,
    in_vain: u32,
}

#[derive(Debug, Clone)]
struct Trial {
    from: u32,
    to: u32,
    /// Of one busy worker, before.
    service_rate: f64,
    after: Measured,
}

/// Throughput beyond which more workers bring no more.
#[derive(Debug, Clone)]
struct Limit {
    /// So many are enough.
    workers: u32,
    /// So many were tried.
    tried: u32,
    throughput: f64,
    retry_at: Duration,
    /// What `workers` finish, until that is known to be as much.
    check: Option<Measured>,
}

/// A mean over [`MEASURED_FOR`].
#[derive(Debug, Clone, Default)]
struct Measured {
    since: Option<Duration>,
    sum: f64,
    count: u32,
}

impl Measured {
    /// Adds a rate; the mean when it was measured for long enough.
    fn add(&mut self, at: Duration, rate: f64) -> Option<f64> {
        let since = *self.since.get_or_insert(at);
        self.sum += rate;
        self.count += 1;
        (at.saturating_sub(since) >= MEASURED_FOR).then(|| self.sum / f64::from(self.count))
    }
}

impl Trials {
    /// There are to be more workers; one that was busy finished so much until now, 0 if that is not known.
    pub fn begin(&mut self, [from, to]: [u32; 2], service_rate: f64) {
        // Of a growth in several steps the whole counts.
        let (from, service_rate) =
            self.running.as_ref().map_or((from, service_rate), |before| (before.from, before.service_rate));
        self.running = (from > 0).then(|| Trial { from, to, service_rate, after: Measured::default() });
    }

    /// There are to be fewer.
    pub fn end(&mut self) {
        self.running = None;
    }

    /// Takes note of what workers finish that have been there for a while.
    pub fn observe(&mut self, at: Duration, inputs: &Inputs) {
        // What some do that have nothing to do tells nothing.
        let are_all_busy = inputs.workers > 0 && inputs.lagging() >= inputs.workers;
        let rate = inputs.service_rate().unwrap_or(0.0);
        if let Some(trial) = self.running.as_mut().filter(|trial| inputs.workers >= trial.to) {
            if !are_all_busy {
                (self.running, self.in_vain) = (None, 0);
            } else if let Some(after) = trial.after.add(at, rate) {
                let trial = self.running.take();
                self.limit = trial.and_then(|trial| self.judge(at, &trial, after));
            }
            return;
        }
        let Some(limit) = self.limit.as_mut().filter(|limit| are_all_busy && inputs.workers == limit.workers)
        else {
            return;
        };
        let workers = f64::from(inputs.workers);
        if rate * workers > limit.throughput * RECOVERED {
            (self.limit, self.in_vain) = (None, 0);
        } else if let Some(rate) = limit.check.as_mut().and_then(|check| check.add(at, rate)) {
            limit.check = None;
            if rate * workers < limit.throughput * AS_MUCH {
                limit.workers = limit.tried;
            }
        }
    }

    fn judge(&mut self, at: Duration, trial: &Trial, after: f64) -> Option<Limit> {
        let &Trial { from, to, service_rate: before, .. } = trial;
        let (throughput, was) = (f64::from(to) * after, f64::from(from) * before);
        let gain = throughput - was;
        if gain > f64::from(to - from) * before * GAIN {
            self.in_vain = 0;
            return None;
        }
        let enough = if before > 0.0 { (throughput / before - 0.1).ceil() as u32 } else { from };
        let [first, longest] = RETRY;
        let wait = first.saturating_mul(1 << self.in_vain.min(10)).min(longest);
        self.in_vain += 1;
        let workers = enough.clamp(from, to);
        let check = (workers < to && workers > from).then(Measured::default);
        Some(Limit { workers, tried: to, throughput, retry_at: at + wait, check })
    }

    /// The most workers that are worth it now; `None`: nothing is known against more.
    pub fn most(&self, at: Duration) -> Option<u32> {
        let limit = self.limit.as_ref()?;
        let more = limit.workers + (limit.workers / 2).max(1);
        Some(if at >= limit.retry_at { more } else { limit.workers })
    }

    /// How long until more are tried.
    pub fn retry_in(&self, at: Duration) -> Duration {
        self.limit.as_ref().map_or(Duration::ZERO, |limit| limit.retry_at.saturating_sub(at))
    }
}

#[cfg(test)]
mod tests {
    use super::super::inputs::Load;
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// As many lagging partitions as workers, and what each worker finishes.
    fn busy(workers: u32, each: f64) -> Inputs {
        let load = Load { backlog: 100_000, throughput: each, is_lagging: true, ..Load::default() };
        Inputs { workers, partitions: workers, loads: vec![load; workers as usize], wake_in: None }
    }

    fn observe(trials: &mut Trials, seconds: std::ops::Range<u64>, inputs: &Inputs) {
        seconds.for_each(|second| trials.observe(s(second), inputs));
    }

    /// From 2 workers of 100/s each to 8 which finish so much each.
    fn grown(each: f64) -> Trials {
        let mut trials = Trials::default();
        trials.begin([2, 8], 100.0);
        observe(&mut trials, 0..11, &busy(8, each));
        trials
    }

    #[test]
    fn workers_that_bring_less_than_half_are_too_many() {
        for (each, most) in
            [(100.0, None), (70.0, None), (62.0, Some(5)), (40.0, Some(4)), (25.0, Some(2)), (1.0, Some(2))]
        {
            assert_eq!(grown(each).most(s(20)), most, "{each}");
        }
    }

    #[test]
    fn growth_in_steps_counts_as_a_whole() {
        let mut trials = Trials::default();
        trials.begin([1, 8], 100.0);
        trials.begin([8, 9], 40.0);
        observe(&mut trials, 0..11, &busy(9, 33.0));
        assert_eq!(trials.most(s(20)), Some(3));
    }

    #[test]
    fn growth_that_drained_the_backlog_was_right() {
        let mut trials = Trials::default();
        trials.begin([2, 8], 100.0);
        observe(&mut trials, 0..5, &busy(8, 10.0));
        trials.observe(s(5), &Inputs { workers: 8, ..busy(3, 10.0) });
        observe(&mut trials, 6..20, &busy(8, 10.0));
        assert_eq!(trials.most(s(20)), None);
    }

    #[test]
    fn it_is_tried_again_after_longer_each_time() {
        let mut trials = grown(25.0);
        assert_eq!((trials.most(s(309)), trials.most(s(310))), (Some(2), Some(3)));
        trials.begin([2, 3], 100.0);
        observe(&mut trials, 320..331, &busy(3, 66.0));
        assert_eq!((trials.most(s(929)), trials.most(s(930))), (Some(2), Some(3)));
        trials.begin([2, 3], 100.0);
        observe(&mut trials, 940..951, &busy(3, 100.0));
        assert_eq!(trials.most(s(951)), None);
    }

    #[test]
    fn too_few_are_noticed_and_so_is_a_limit_that_is_gone() {
        let mut trials = grown(40.0);
        observe(&mut trials, 20..31, &busy(4, 60.0));
        assert_eq!(trials.most(s(31)), Some(8), "4 finish 240/s, 8 did 320/s");
        let mut trials = grown(40.0);
        observe(&mut trials, 20..31, &busy(4, 80.0));
        assert_eq!(trials.most(s(31)), Some(4));
        observe(&mut trials, 31..32, &busy(4, 110.0));
        assert_eq!(trials.most(s(32)), None);
    }
}
