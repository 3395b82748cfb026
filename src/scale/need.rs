//! How many workers a load asks for.
//!
//! By Little's law (J. D. C. Little, *A Proof for the Queuing Formula L = λW*, Operations Research 9(3), 1961) λ records a second
//! keep λ/μ workers busy, each of which finishes μ a second. A backlog B that is to be gone in a time D asks for B/(D·μ) more:
//!
//! ```text
//! workers = ceil( (B / D + λ) / μ )
//! ```
//!
//! A partition has one worker at a time, so it can use no more than one, whatever waits there. The work is therefore reckoned
//! partition by partition, each counting for one worker at most:
//!
//! ```text
//! w_p = (B_p / D + λ_p) / μ        workers = ceil( Σ min(1, w_p) )
//! ```
//!
//! And a worker has whole partitions. An assignor deals them out by number and not by load: of P partitions one of n workers has
//! ceil(P/n). The one with the heaviest has with it, on average, that many less one of the others, and must be able to do them
//! all, a hot partition being entitled to [`ENTITLED`] of a worker:
//!
//! ```text
//! min(w_max, 0.9) + (ceil(P / n) - 1) · w_others <= 1
//! ```
//!
//! So twelve even partitions that are work for four and a half workers ask for six: with five, one would have three of them.

use std::time::Duration;

use super::inputs::Inputs;
use super::reason::Reason;

/// The share of its worker that the heaviest partition is to have, however much there is in it: nearly all, since the rest of
/// the way would take a worker for each partition.
const ENTITLED: f64 = 0.9;

/// How far above a whole number a need has to be to ask for another worker: less is the rounding of rates.
const SLACK: f64 = 1e-6;

/// Work of a load, in workers that have no moment of rest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Need {
    /// Of each partition.
    works: Vec<f64>,
}

impl Need {
    /// Of a load with these arrival rates, at `service_rate` records a second and worker, to be drained in a time.
    pub fn of(inputs: &Inputs, arrival_rates: &[f64], service_rate: f64, drain_within: Duration) -> Self {
        let drain = drain_within.as_secs_f64().max(1e-3);
        let loads = inputs.loads.iter().zip(arrival_rates);
        let work = |backlog: u64, rate: f64| (backlog as f64 / drain + rate) / service_rate.max(1e-9);
        Self { works: loads.map(|(load, rate)| work(load.backlog, *rate)).collect() }
    }

    /// The same when meanwhile as much has come that it is so many workers' work more, shared out like these rates.
    pub fn with(&self, more: f64, arrival_rates: &[f64]) -> Self {
        let all: f64 = arrival_rates.iter().sum();
        let works = self.works.iter().zip(arrival_rates);
        Self { works: works.map(|(work, rate)| work + more * rate / all.max(1e-9)).collect() }
    }

    /// Σ w: what there is to do.
    pub fn work(&self) -> f64 {
        self.works.iter().sum()
    }

    /// Σ min(1, w): what of it can be done side by side.
    pub fn shared(&self) -> f64 {
        self.works.iter().map(|work| work.min(1.0)).sum()
    }

    /// Workers for it that are busy for this share of their time.
    pub fn workers(&self, utilisation: f64) -> u32 {
        let works = || self.works.iter().map(|work| (work / utilisation).min(1.0));
        let shared: f64 = works().sum();
        let least = (shared - SLACK).ceil().max(0.0) as usize;
        let heaviest = works().fold(0.0, f64::max);
        let partitions = self.works.len();
        let others = (shared - heaviest) / partitions.saturating_sub(1).max(1) as f64;
        let fits = |workers: &usize| {
            let beside = partitions.div_ceil(*workers) - 1;
            heaviest.min(ENTITLED) + beside as f64 * others <= 1.0 + SLACK
        };
        let fitting = (least.max(1)..=partitions).find(fits).unwrap_or(partitions);
        if least == 0 { 0 } else { fitting as u32 }
    }

    /// What cannot be helped by any number of workers: partitions that have more to do than one can.
    pub fn limit(&self) -> Option<Reason> {
        let over = self.works.iter().filter(|work| **work > 1.0).count();
        let need = (self.work() - SLACK).ceil() as u32;
        match over {
            0 => None,
            all if all == self.works.len() && need as usize > all => Some(Reason::AtPartitions { need }),
            _ => (need > (self.shared() - SLACK).ceil() as u32).then_some(Reason::OnePartition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::inputs::Load;
    use super::*;

    type Case = (&'static [u64], &'static [f64], u32, Option<&'static str>);

    fn need(backlogs: &[u64], arrival_rates: &[f64]) -> Need {
        let loads = backlogs.iter().map(|&backlog| Load { backlog, ..Load::default() }).collect();
        let inputs = Inputs { loads, ..Inputs::default() };
        Need::of(&inputs, arrival_rates, 100.0, Duration::from_secs(30))
    }

    #[test]
    fn the_formula_is_what_it_says() {
        // Backlogs, arrival rates, workers asked for at 100/s and worker and 30 s, and what none can help.
        let cases: [Case; 12] = [
            (&[0, 0], &[0.0, 0.0], 0, None),
            (&[1], &[0.0], 1, None),
            (&[0; 4], &[25.0; 4], 1, None),
            (&[0; 4], &[25.1; 4], 2, None),
            // 3000 to be drained in 30 s are one worker's worth.
            (&[1000, 1000, 1000], &[0.0; 3], 1, None),
            (&[1000, 1000, 1000], &[40.0; 3], 3, None),
            // One partition can use one worker.
            (&[30_000, 0, 0], &[0.0; 3], 1, Some("onePartition")),
            (&[30_000, 30_000, 30_000], &[0.0; 3], 3, Some("atPartitions")),
            // And is to have it nearly for itself.
            (&[0, 0, 0], &[300.0, 20.0, 20.0], 3, Some("onePartition")),
            (&[0; 6], &[300.0, 5.0, 5.0, 5.0, 5.0, 5.0], 2, Some("onePartition")),
            // Whole partitions: one of three workers would have two of these.
            (&[0; 4], &[70.0; 4], 4, None),
            (&[0; 12], &[37.5; 12], 6, None),
        ];
        for (backlogs, arrival_rates, workers, limit) in cases {
            let need = need(backlogs, arrival_rates);
            assert_eq!(
                (need.workers(1.0), need.limit().map(Reason::name)),
                (workers, limit),
                "{backlogs:?} {arrival_rates:?}"
            );
        }
    }

    #[test]
    fn utilisation_leaves_room() {
        for (rate, at_nine_tenths) in [(0.0, 0), (90.0, 1), (95.0, 2), (180.0, 2), (200.0, 3)] {
            assert_eq!(need(&[0; 100], &[rate / 100.0; 100]).workers(0.9), at_nine_tenths, "{rate}");
        }
    }

    proptest::proptest! {
        /// Never more than partitions or fewer than the work takes, and more load never asks for fewer.
        #[test]
        fn more_load_asks_for_no_fewer(rates in proptest::collection::vec(0.0f64..300.0, 1..40)) {
            let backlogs = vec![0; rates.len()];
            let need = need(&backlogs, &rates);
            let workers = need.workers(1.0);
            proptest::prop_assert!(workers as usize <= rates.len());
            proptest::prop_assert!(f64::from(workers) >= need.shared() - SLACK);
            proptest::prop_assert!(need.workers(0.9) >= workers && workers >= need.workers(1.1));
        }
    }
}
