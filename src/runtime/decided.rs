//! The numbers of decisions: how many workers a function should have and has, what waits for them, and why.

use std::sync::Arc;
use std::time::Duration;

use crate::observe::metrics::Id;
use crate::observe::{Exposition, Histogram, Level};
use crate::scale::{Decision, Inputs};

/// A function's. The gauges go with this value: who decides no more tells nothing that is old.
pub struct Numbers {
    function: String,
    exposition: Exposition,
    desired: Arc<Level>,
    running: Arc<Level>,
    lag: Arc<Level>,
}

const LEVELS: [Id; 3] = [Id::ScaleDesired, Id::ScaleRunning, Id::ScaleLag];

impl Numbers {
    /// Of a function about which nothing is decided yet.
    pub fn new(function: &str, exposition: &Exposition) -> Self {
        let [desired, running, lag] = LEVELS.map(|id| exposition.level(id, &[("function", function)]));
        Self { function: function.to_owned(), exposition: exposition.clone(), desired, running, lag }
    }

    /// So it was decided, of this.
    pub fn decided(&self, decision: &Decision, inputs: &Inputs) {
        self.desired.set(decision.workers.into());
        self.running.set(inputs.workers.into());
        self.lag.set(inputs.backlog());
        let labels = [("function", self.function.as_str()), ("reason", decision.reason.name())];
        self.exposition.counter(Id::ScaleDecisions, &labels).increment(1);
    }

    /// Nothing is decided here now.
    pub fn rest(&self) {
        [&self.desired, &self.running, &self.lag].into_iter().for_each(|level| level.set(0));
    }

    /// It has a worker again, after so long.
    pub fn woke(&self, tier: Tier, time: Duration) {
        woke(&self.exposition, &self.function, tier, time);
    }

    /// The cluster could not be looked at.
    pub fn failed(&self) {
        self.exposition.counter(Id::ScaleFailures, &[("function", &self.function)]).increment(1);
    }
}

/// How deep a function slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Its process was there, without workers.
    Zero,
    /// There was no process.
    Off,
}

/// It took so long until a woken function had a worker with its partitions.
pub fn woke(exposition: &Exposition, function: &str, tier: Tier, time: Duration) {
    let tier = match tier {
        Tier::Zero => "zero",
        Tier::Off => "off",
    };
    let mut one = Histogram::new();
    one.record(time);
    exposition.histogram(Id::ScaleWake, &[("function", function), ("tier", tier)]).fold(&mut one);
    tracing::info!(function, tier, ?time, "has woken");
}

impl Drop for Numbers {
    fn drop(&mut self) {
        for id in LEVELS {
            self.exposition.forget_level(id, &[("function", &self.function)]);
        }
    }
}
