//! The decision: up at once, down when that has lasted and is worth it, or stay.
//!
//! [`Need`] says how many workers a load asks for. What is held against it, in this order:
//!
//! - **Bounds**: `min` to `max`, and never more than there are partitions, which have one worker at a time.
//! - **Saturation**: no more than brought more the last time (`trial`).
//! - **Up** at once when the need is more than [`Policy::tolerance`] above the number, unless a change is under way that this
//!   would begin anew (then only to twice as many), or the backlog would be gone before the new workers had caught up with what
//!   their coming costs (`change`). Less above is not lost: it waits, and the backlog makes the need grow.
//! - **Down** to the most that was needed over [`Policy::stabilisation`], reckoned with workers that are busy for all but
//!   [`Policy::tolerance`] of their time so that they are not needed again at once; when it falls no more; and only when what
//!   is saved is more than the rebalances cost. To none when nothing came and nothing waited for [`ScaleSpec::zero_after`].
//! - **Unknown μ**: as long as no worker was seen busy nothing can be computed. From none to one; twice as many each time that
//!   all are busy and nothing is finished; half as many when none is busy for a while.
//!
//! A constant load brings no oscillation: going up takes a need above the present number, going down one that is a tenth below
//! the next, over the whole of a window.

use std::time::Duration;

use super::arrivals::Arrivals;
use super::change::Changes;
use super::hold::Held;
use super::inputs::Inputs;
use super::need::Need;
use super::reason::Reason;
use super::trial::Trials;
use crate::model::ScaleSpec;

/// How much the latest measurement of a busy worker's rate counts.
const WEIGHT: f64 = 0.3;

/// What is the same for all functions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// How long a lower need has to hold before workers go.
    pub stabilisation: Duration,
    /// By how much a need may differ from the number of workers without changing it, as a share: up when workers would be busy
    /// for more than so much above all their time, down to where they are busy for so much less.
    pub tolerance: f64,
    /// How long a new worker takes to be there, until that was measured.
    pub start_up: Duration,
    /// How long nobody works while partitions change hands, until that was measured.
    pub rebalance: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            stabilisation: Duration::from_secs(60),
            tolerance: 0.1,
            start_up: Duration::from_secs(1),
            // From 1 to 4 members: 5.06 s by KIP-848, 3.07 s by the classic protocol, measured on Apache Kafka 4.2.
            rebalance: Duration::from_secs(5),
        }
    }
}

/// What was decided, and from what.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// How many workers there should be.
    pub workers: u32,
    /// Why.
    pub reason: Reason,
    /// λ: the arrival rate that was reckoned with, records a second.
    pub arrival_rate: f64,
    /// μ: what one busy worker finishes, records a second; `None`: not known yet.
    pub service_rate: Option<f64>,
    /// What the load asks for; `None` without μ.
    pub need: Option<Need>,
}

/// Decides for one function, from one moment to the next.
#[derive(Debug, Clone)]
pub struct Decider {
    scale: ScaleSpec,
    policy: Policy,
    wanted: Option<u32>,
    arrivals: Arrivals,
    service_rate: Option<f64>,
    held: Held,
    quiet_since: Option<Duration>,
    changes: Changes,
    trials: Trials,
}

/// The number that a load asks for now.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// To go up to.
    up: u32,
    /// To go down to, were it to last.
    down: u32,
}

/// Between which numbers it may be.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: u32,
    high: u32,
}

impl Decider {
    /// A decider that has seen nothing.
    pub fn new(scale: ScaleSpec, policy: Policy) -> Self {
        Self {
            scale,
            policy,
            wanted: None,
            arrivals: Arrivals::new(scale.drain_within),
            service_rate: None,
            held: Held::default(),
            quiet_since: None,
            changes: Changes::new(policy.start_up, policy.rebalance),
            trials: Trials::default(),
        }
    }

    /// The same, with what a busy worker is known to finish, records a second.
    pub fn with_service_rate(mut self, rate: Option<f64>) -> Self {
        self.service_rate = rate;
        self
    }

    /// How many workers there should be from `at` on, a time that never goes back.
    pub fn decide(&mut self, at: Duration, inputs: &Inputs) -> Decision {
        let wanted = *self.wanted.get_or_insert(inputs.workers);
        self.learn(at, inputs);
        let need = self
            .service_rate
            .map(|rate| Need::of(inputs, &self.arrivals.rates(), rate, self.scale.drain_within));
        let asked = self.asked(at, wanted, inputs, need.as_ref());
        let (workers, reason) = self.choose(at, [wanted, asked.up, asked.down], inputs);
        let reason = match &need {
            Some(need) if reason == Reason::Enough => need.limit().unwrap_or(reason),
            None if reason == Reason::Enough || reason == Reason::MoreNeeded => Reason::Probing,
            _ => reason,
        };
        if workers != wanted {
            self.changes.begin(at, [wanted, workers], inputs);
            match workers > wanted {
                true => self.trials.begin([wanted, workers], self.service_rate.unwrap_or(0.0)),
                false => self.trials.end(),
            }
        }
        self.wanted = Some(workers);
        let (arrival_rate, service_rate) = (self.arrivals.rate(), self.service_rate);
        Decision { workers, reason, arrival_rate, service_rate, need }
    }

    /// A person wants another number than was decided, for so much longer: what is decided next goes on from there.
    pub fn fix(&mut self, decision: Decision, workers: u32, left: Duration) -> Decision {
        self.wanted = Some(workers);
        Decision { workers, reason: Reason::Fixed { left }, ..decision }
    }

    fn learn(&mut self, at: Duration, inputs: &Inputs) {
        self.arrivals.note(at, inputs);
        self.changes.observe(at, inputs);
        if self.changes.is_steady(at) {
            if let Some(measured) = inputs.service_rate() {
                let known = self.service_rate.unwrap_or(measured);
                self.service_rate = Some(known + WEIGHT * (measured - known));
            }
            self.trials.observe(at, inputs);
        }
        let is_quiet = inputs.backlog() == 0 && inputs.arrival_rate() <= 0.0 && !self.is_due(inputs);
        self.quiet_since = is_quiet.then(|| self.quiet_since.unwrap_or(at));
    }

    /// A worker has to be there before the deadline is.
    fn is_due(&self, inputs: &Inputs) -> bool {
        inputs.wake_in.is_some_and(|wake_in| wake_in <= self.changes.ahead())
    }

    /// What the load asks for, before any bound.
    fn asked(&self, at: Duration, wanted: u32, inputs: &Inputs, need: Option<&Need>) -> Asked {
        let least = u32::from(inputs.backlog() > 0 || self.is_due(inputs));
        if let Some(need) = need {
            let [below, above] = [1.0 - self.policy.tolerance, 1.0 + self.policy.tolerance];
            let enough = need.workers(1.0);
            let up = match need.workers(above) > wanted {
                true => self.when_they_are_there(need, inputs).workers(1.0).max(enough),
                false => enough.min(wanted),
            };
            return Asked { up: up.max(least), down: need.workers(below).max(least) };
        }
        let are_all_busy = inputs.lagging() >= wanted.max(1);
        match () {
            () if wanted == 0 => Asked { up: least, down: least },
            () if are_all_busy && self.changes.is_long_steady(at) => Asked { up: wanted * 2, down: wanted },
            () if inputs.lagging() > 0 => Asked { up: wanted, down: wanted },
            () => Asked { up: wanted, down: wanted.div_ceil(2).max(least) },
        }
    }

    /// What the load will ask for when new workers are there: what comes meanwhile, and is not finished, waits too.
    fn when_they_are_there(&self, need: &Need, inputs: &Inputs) -> Need {
        let rate = self.service_rate.unwrap_or(f64::INFINITY);
        let growing = (self.arrivals.rate() / rate - f64::from(inputs.workers)).max(0.0);
        let more =
            growing * self.changes.ahead().as_secs_f64() / self.scale.drain_within.as_secs_f64().max(1e-3);
        need.with(more, &self.arrivals.rates())
    }

    fn bounds(&self, inputs: &Inputs) -> Bounds {
        let high = self.scale.max.unwrap_or(u32::MAX).min(inputs.partitions);
        Bounds { low: self.scale.min.min(high), high }
    }

    /// The number to have, of the present one and those that are asked for.
    fn choose(&mut self, at: Duration, [wanted, up, down]: [u32; 3], inputs: &Inputs) -> (u32, Reason) {
        let Bounds { low, high } = self.bounds(inputs);
        let most = self.trials.most(at).unwrap_or(u32::MAX).max(low);
        let bounded = up.min(most).clamp(low, high);
        self.held.note(at, down.min(most).clamp(low, high));
        let why = self.bounding(at, up, most, inputs);
        if inputs.partitions == 0 {
            return (0, Reason::NoPartitions);
        }
        if wanted > high {
            return (high, why.unwrap_or(Reason::FewerNeeded));
        }
        if bounded > wanted {
            return self.go_up(at, [wanted, bounded], inputs, why);
        }
        if let Some(lower) = self.go_down(at, [wanted, down.min(most)], low) {
            return lower;
        }
        let reason = match why {
            Some(why) => why,
            None if wanted == 0 => Reason::Idle,
            None if down < wanted && wanted == low => Reason::AtMin,
            None if down < wanted => Reason::Holding { need: down.max(low) },
            None => Reason::Enough,
        };
        (wanted, reason)
    }

    /// What keeps the number below what is asked for.
    fn bounding(&self, at: Duration, need: u32, most: u32, inputs: &Inputs) -> Option<Reason> {
        let max = self.scale.max.unwrap_or(u32::MAX);
        if need > most && most < max.min(inputs.partitions) {
            return Some(Reason::Saturated { need, retry_in: self.trials.retry_in(at) });
        }
        (need > inputs.partitions.min(max)).then_some(match max < inputs.partitions {
            true => Reason::AtMax { need },
            false => Reason::AtPartitions { need },
        })
    }

    fn go_up(
        &self,
        at: Duration,
        [wanted, need]: [u32; 2],
        inputs: &Inputs,
        why: Option<Reason>,
    ) -> (u32, Reason) {
        if wanted < self.scale.min.min(inputs.partitions) {
            return (need, Reason::AtMin);
        }
        if wanted == 0 {
            let is_due = inputs.backlog() == 0 && self.is_due(inputs);
            return (need, if is_due { Reason::Deadline } else { why.unwrap_or(Reason::MoreNeeded) });
        }
        let is_settled = self.changes.is_steady(at);
        if !is_settled && need < wanted * 2 {
            return (wanted, Reason::Changing { need });
        }
        let rates = self.service_rate.map(|rate| [self.arrivals.rate(), rate]);
        let pays = rates.is_none_or(|rates| self.changes.pays_up([wanted, need], inputs.backlog(), rates));
        let why = match why {
            Some(Reason::Saturated { need, .. }) => Reason::TryingAgain { need },
            why => why.unwrap_or(Reason::MoreNeeded),
        };
        if pays { (need, why) } else { (wanted, Reason::NotWorthIt { need }) }
    }

    /// The lower number, or why not yet; `None`: nothing has held for long enough.
    fn go_down(&self, at: Duration, [wanted, now]: [u32; 2], low: u32) -> Option<(u32, Reason)> {
        let quiet = self.quiet_since.map(|since| at.saturating_sub(since));
        if low == 0 && wanted > 0 && quiet.is_some_and(|quiet| quiet >= self.scale.zero_after) {
            return Some((0, Reason::Idle));
        }
        let (most, held) = self.held.most(at, self.policy.stabilisation)?;
        // None is a matter of `zero_after`.
        let most = most.max(1);
        // Where it still falls, one step a little later takes the place of many.
        let is_level = most <= now + most / 10;
        if most >= wanted || !is_level || !self.changes.is_settled() {
            return None;
        }
        match self.changes.pays_down([wanted, most], held) {
            true => Some((most, Reason::FewerNeeded)),
            false => Some((wanted, Reason::NotWorthIt { need: most })),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::inputs::Load;
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const SCALE: ScaleSpec = ScaleSpec {
        min: 0,
        max: None,
        drain_within: Duration::from_secs(30),
        park_after: None,
        zero_after: Duration::from_secs(60),
    };

    fn decider(scale: ScaleSpec, service_rate: Option<f64>) -> Decider {
        Decider::new(scale, Policy::default()).with_service_rate(service_rate)
    }

    /// `partitions` which share this load evenly.
    fn inputs(workers: u32, partitions: u32, backlog: u64, arrival_rate: f64) -> Inputs {
        let each = f64::from(partitions.max(1));
        let load = Load {
            backlog: backlog / u64::from(partitions.max(1)),
            arrival_rate: arrival_rate / each,
            throughput: arrival_rate / each,
            is_lagging: false,
        };
        Inputs { workers, partitions, loads: vec![load; partitions as usize], wake_in: None }
    }

    #[test]
    fn the_first_decision_is_what_the_formula_says_within_its_bounds() {
        let scale = |min, max| ScaleSpec { min, max, ..SCALE };
        // Bounds, workers, partitions, backlog, arrivals; what is decided at 100/s and worker.
        let cases = [
            (scale(0, None), (0, 12, 0, 0.0), (0, "idle")),
            (scale(2, None), (0, 12, 0, 0.0), (2, "atMin")),
            (scale(0, None), (0, 12, 12, 0.0), (1, "moreNeeded")),
            (scale(0, None), (4, 12, 0, 390.0), (4, "enough")),
            (scale(0, None), (4, 12, 0, 430.0), (4, "enough")),
            (scale(0, None), (4, 12, 12_000, 390.0), (12, "moreNeeded")),
            (scale(0, None), (4, 12, 120_000, 390.0), (12, "moreNeeded")),
            (scale(0, Some(6)), (4, 12, 12_000, 390.0), (6, "atMax")),
            (scale(0, Some(40)), (0, 3, 90_000, 390.0), (3, "moreNeeded")),
            (scale(0, Some(40)), (3, 3, 90_000, 390.0), (3, "atPartitions")),
            (scale(0, None), (8, 12, 0, 200.0), (8, "holding")),
            (scale(0, None), (20, 12, 0, 200.0), (12, "fewerNeeded")),
            (scale(3, None), (3, 12, 0, 50.0), (3, "atMin")),
            (scale(3, None), (3, 0, 0, 0.0), (0, "noPartitions")),
        ];
        for (scale, (workers, partitions, backlog, arrivals), expected) in cases {
            let inputs = inputs(workers, partitions, backlog, arrivals);
            let decision = decider(scale, Some(100.0)).decide(s(0), &inputs);
            let found = (decision.workers, decision.reason.name());
            assert_eq!(found, expected, "{scale:?} {workers} of {partitions}, {backlog}, {arrivals}/s");
        }
    }

    #[test]
    fn fewer_are_needed_only_when_that_has_lasted_and_is_worth_it() {
        let mut decider = decider(SCALE, Some(100.0));
        let workers: Vec<u32> =
            (0..70).map(|second| decider.decide(s(second), &inputs(6, 12, 0, 150.0)).workers).collect();
        assert_eq!(workers.iter().position(|workers| *workers == 2), Some(60), "{workers:?}");
        // One of many saves little.
        let mut decider = self::decider(SCALE, Some(100.0));
        let mut last = None;
        for second in 0..200 {
            let decision = decider.decide(s(second), &inputs(20, 200, 0, 1600.0));
            last = (decision.workers == 19).then_some(second).filter(|_| last.is_none()).or(last);
            if second == 100 {
                assert_eq!(decision.reason, Reason::NotWorthIt { need: 19 });
            }
        }
        assert_eq!(last, None, "200 worker-seconds for a rebalance of 20 workers");
    }

    #[test]
    fn it_sleeps_when_nothing_came_for_a_while_and_wakes_for_a_deadline() {
        let mut decider = decider(SCALE, Some(100.0));
        decider.decide(s(0), &inputs(1, 12, 0, 5.0));
        for second in 1..=60 {
            assert_eq!(decider.decide(s(second), &inputs(1, 12, 0, 0.0)).workers, 1, "{second}");
        }
        assert_eq!(decider.decide(s(61), &inputs(1, 12, 0, 0.0)).workers, 0);
        let due = |wake_in| Inputs { wake_in: Some(s(wake_in)), ..inputs(0, 12, 0, 0.0) };
        assert_eq!(decider.decide(s(62), &due(60)).workers, 0);
        let decision = decider.decide(s(63), &due(5));
        assert_eq!((decision.workers, decision.reason), (1, Reason::Deadline));
    }

    /// Lagging partitions, one for each worker at least, and what each worker finishes.
    fn busy(workers: u32, each: f64) -> Inputs {
        let throughput = each * f64::from(workers) / 12.0;
        let load = Load { backlog: 50_000, arrival_rate: 10.0, throughput, is_lagging: true };
        Inputs { workers, partitions: 12, loads: vec![load; 12], wake_in: None }
    }

    #[test]
    fn what_nobody_was_seen_to_do_is_felt_for() {
        let mut decider = decider(SCALE, None);
        let (mut workers, mut found) = (0, Vec::new());
        for second in 0..200 {
            let decision = decider.decide(s(second), &busy(workers, 0.0));
            if decision.workers != workers {
                workers = decision.workers;
                found.push((workers, decision.reason.name()));
            }
        }
        // Two that finish nothing are no better than one.
        assert_eq!(found, [(1, "probing"), (2, "probing"), (1, "fewerNeeded")]);
        // As soon as it is seen it counts.
        assert_eq!(decider.decide(s(200), &busy(1, 100.0)).workers, 12);
    }

    #[test]
    fn what_is_not_worth_its_start_is_left() {
        let policy = Policy { start_up: s(60), ..Policy::default() };
        let mut decider = Decider::new(SCALE, policy).with_service_rate(Some(100.0));
        decider.decide(s(0), &inputs(2, 12, 0, 100.0));
        (1..10).for_each(|second| drop(decider.decide(s(second), &inputs(2, 12, 0, 100.0))));
        let decision = decider.decide(s(10), &inputs(2, 12, 5_000, 100.0));
        assert_eq!((decision.workers, decision.reason), (2, Reason::NotWorthIt { need: 3 }));
    }

    /// A group of `partitions` with this load, for so many seconds: the number of workers each second, and the most that
    /// waited in the last ten minutes.
    fn run(decider: &mut Decider, plant: Plant, seconds: u64) -> (Vec<u32>, f64) {
        let (mut workers, mut backlog, mut most) = (Vec::new(), 0.0f64, 0.0f64);
        for second in 0..seconds {
            let now = workers.last().copied().unwrap_or(0);
            let before = backlog;
            // A tenth more or less, as it comes.
            let noise = (second * 2_654_435_761 % 1000) as f64 / 1000.0 - 0.5;
            let arrivals = plant.arrivals * (1.0 + noise / 5.0);
            backlog += arrivals;
            let can = (f64::from(now) * plant.service_rate).min(plant.downstream);
            let done = backlog.min(can);
            backlog -= done;
            let each = |value: f64| value / f64::from(plant.partitions);
            let load = Load {
                backlog: each(backlog).round() as u64,
                arrival_rate: each(arrivals),
                throughput: each(done),
                is_lagging: each(before.min(backlog)) > each(done).max(0.5),
            };
            let loads = vec![load; plant.partitions as usize];
            let inputs = Inputs { workers: now, partitions: plant.partitions, loads, wake_in: None };
            workers.push(decider.decide(s(second), &inputs).workers);
            if second + 600 >= seconds {
                most = most.max(backlog);
            }
        }
        (workers, most)
    }

    #[derive(Debug, Clone, Copy)]
    struct Plant {
        partitions: u32,
        arrivals: f64,
        service_rate: f64,
        downstream: f64,
    }

    fn any_inputs() -> impl Strategy<Value = Inputs> {
        let load = (0u64..1_000_000, 0.0f64..1e5, 0.0f64..1e5, any::<bool>());
        let load = load.prop_map(|(backlog, arrival_rate, throughput, is_lagging)| Load {
            backlog,
            arrival_rate,
            throughput,
            is_lagging,
        });
        let wake_in = proptest::option::of((0u64..100).prop_map(Duration::from_secs));
        (0u32..40, proptest::collection::vec(load, 0..20), wake_in).prop_map(|(workers, loads, wake_in)| {
            Inputs { workers, partitions: loads.len() as u32, loads, wake_in }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn never_outside_the_bounds(
            min in 0u32..20,
            max in proptest::option::of(0u32..20),
            history in proptest::collection::vec((any_inputs(), 0u64..200), 1..60),
        ) {
            let max = max.map(|more| min + more).filter(|max| *max > 0);
            let mut decider = decider(ScaleSpec { min, max, ..SCALE }, None);
            let mut at = Duration::ZERO;
            for (inputs, seconds) in history {
                at += s(seconds);
                let Decision { workers, .. } = decider.decide(at, &inputs);
                let high = max.unwrap_or(u32::MAX).min(inputs.partitions);
                prop_assert!(workers >= min.min(high) && workers <= high, "{workers} for {min} to {max:?}: {inputs:?}");
            }
        }

        #[test]
        fn a_constant_load_is_met_and_brings_no_oscillation(
            partitions in 1u32..40,
            service_rate in 10.0f64..5_000.0,
            share in 0.02f64..0.9,
        ) {
            let arrivals = share * f64::from(partitions) * service_rate;
            let plant = Plant { partitions, arrivals, service_rate, downstream: f64::INFINITY };
            let (workers, waiting) = run(&mut decider(SCALE, None), plant, 3600);
            let settled = changes(&workers[1200..]);
            prop_assert!(settled.len() <= 1, "{:?}", changes(&workers));
            prop_assert!(changes(&workers).len() <= 8, "{:?}", changes(&workers));
            prop_assert!(waiting <= arrivals * 31.0, "{waiting} waits at {arrivals}/s");
        }

        #[test]
        fn where_the_downstream_is_the_limit_there_is_no_growth(
            partitions in 4u32..40,
            service_rate in 10.0f64..5_000.0,
            share in 0.05f64..0.4,
        ) {
            let enough = share * f64::from(partitions);
            let downstream = enough * service_rate;
            let plant = Plant { partitions, arrivals: downstream * 2.0, service_rate, downstream };
            let (workers, _) = run(&mut decider(SCALE, None), plant, 3600);
            let most = (enough * 2.0 + 2.0).max(4.0) * 1.5;
            let later = workers[600..].iter().max().copied().unwrap_or(0);
            prop_assert!(f64::from(later) <= most, "{enough}: {:?}", changes(&workers));
            prop_assert!(changes(&workers).len() <= 20, "{enough}: {:?}", changes(&workers));
        }
    }

    /// When the number changed, and to what.
    fn changes(workers: &[u32]) -> Vec<(usize, u32)> {
        let pairs = workers.windows(2).enumerate().filter(|(_, pair)| pair[0] != pair[1]);
        pairs.map(|(second, pair)| (second + 1, pair[1])).collect()
    }
}
