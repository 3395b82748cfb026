//! How others decide, as far as they publish it, and Tidemill. Each is asked once a second and keeps its own pace.

use std::collections::VecDeque;
use std::time::Duration;

use tidemill::model::ScaleSpec;
use tidemill::scale::{Decider, Inputs, Policy, Sample};

use super::group::Group;

/// What decides how many workers a group has.
pub trait Rule {
    fn name(&self) -> String;
    fn decide(&mut self, group: &Group, arrivals: f64) -> u32;
}

/// What was asked for over a while.
#[derive(Default)]
struct Window(VecDeque<(u64, u32)>);

impl Window {
    /// Adds `value`; the greatest of the last `seconds`.
    fn greatest(&mut self, now: u64, seconds: u64, value: u32) -> u32 {
        self.0.push_back((now, value));
        self.0.retain(|(at, _)| at + seconds > now);
        self.0.iter().map(|(_, value)| *value).max().unwrap_or(value)
    }
}

/// The most that Kubernetes' horizontal autoscaler goes up to in 15 s: twice as many, or four more, whichever is greater
/// (<https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#default-behavior>).
fn stepped(current: u32) -> u32 {
    (current * 2).max(current + 4)
}

/// KEDA's `kafka` scaler under the horizontal autoscaler (`pkg/scalers/kafka_scaler.go` of kedacore/keda at 8b4f083, the
/// ScaledObject's reference for 2.17): `lagThreshold`, `pollingInterval` 30 s and `cooldownPeriod` 300 s between none and one; the
/// autoscaler looks every 15 s, with a tolerance of a tenth, and goes down to the greatest of 300 s.
pub struct Keda {
    pub lag_threshold: u64,
    active: u64,
    window: Window,
}

impl Keda {
    pub fn new(lag_threshold: u64) -> Self {
        Self { lag_threshold, active: 0, window: Window::default() }
    }
}

impl Rule for Keda {
    fn name(&self) -> String {
        format!("KEDA, lagThreshold {}", self.lag_threshold)
    }

    fn decide(&mut self, group: &Group, _: f64) -> u32 {
        let (now, current, lag) = (group.now, group.asked_for(), group.lag());
        if now.is_multiple_of(30) {
            if lag > 0 {
                self.active = now;
            }
            match (current, lag) {
                (0, 1..) => return 1,
                (1.., 0) if now - self.active >= 300 => return 0,
                _ => {}
            }
        }
        if current == 0 || !now.is_multiple_of(15) {
            return current;
        }
        // Whole numbers are divided, so there may be one worker more than partitions.
        let most = group.partitions() * self.lag_threshold;
        let metric = if lag / self.lag_threshold > group.partitions() { most } else { lag };
        let ratio = metric as f64 / (self.lag_threshold * u64::from(current)) as f64;
        let wanted = match (ratio - 1.0).abs() <= 0.1 {
            true => current,
            false => metric.div_ceil(self.lag_threshold).clamp(1, 100) as u32,
        };
        let wanted = wanted.min(stepped(current));
        self.window.greatest(now, 300, wanted).min(wanted.max(current))
    }
}

/// Google's cloud-run-kafka-scaler (its README): every 5 s `ceil(max(current, 1) × lag / target)`, with a tolerance of a tenth; up
/// by as much as the horizontal autoscaler, down by half every 30 s at most, to the greatest of 300 s.
pub struct CloudRun {
    pub target_lag: u64,
    up_at: u64,
    down_at: u64,
    window: Window,
}

impl CloudRun {
    pub fn new(target_lag: u64) -> Self {
        Self { target_lag, up_at: 0, down_at: 0, window: Window::default() }
    }
}

impl Rule for CloudRun {
    fn name(&self) -> String {
        format!("Cloud Run, target lag {}", self.target_lag)
    }

    fn decide(&mut self, group: &Group, _: f64) -> u32 {
        let (now, current) = (group.now, group.asked_for());
        if !now.is_multiple_of(5) {
            return current;
        }
        let ratio = group.lag() as f64 / self.target_lag as f64;
        let wanted = (f64::from(current.max(1)) * ratio).ceil().min(group.partitions() as f64) as u32;
        let wanted = if (ratio - 1.0).abs() <= 0.1 { current } else { wanted };
        if wanted > current {
            self.window.greatest(now, 300, wanted);
            if now < self.up_at {
                return current;
            }
            self.up_at = now + 15;
            return wanted.min(stepped(current));
        }
        let lower = self.window.greatest(now, 300, wanted).min(current);
        if lower < current && now >= self.down_at {
            self.down_at = now + 30;
            return lower.max(current / 2);
        }
        current
    }
}

/// Lambda's event source mapping for Kafka without provisioned pollers (AWS's developer guide): the lag is looked at every
/// minute, and a change lands within three. By how much is not published: it is taken to know what a worker does, and to ask
/// for just as many as would drain the lag within the minute, which land after one. The last one stays.
#[derive(Default)]
pub struct Lambda {
    landing: Option<u32>,
}

impl Rule for Lambda {
    fn name(&self) -> String {
        "Lambda, on demand".to_owned()
    }

    fn decide(&mut self, group: &Group, arrivals: f64) -> u32 {
        let current = group.asked_for().max(1);
        if !group.now.is_multiple_of(60) {
            return current;
        }
        let needed = (group.lag() as f64 / 60.0 + arrivals) / group.service_rate();
        let next = (needed.ceil() as u32).clamp(1, group.partitions() as u32);
        // What was asked for at the last look lands now.
        self.landing.replace(next).unwrap_or(current)
    }
}

/// Tidemill's, which samples every second.
pub struct Tidemill {
    decider: Decider,
    before: Option<Sample>,
    pub decisions: Vec<(u64, u32, String)>,
}

/// What users of Tidemill ask for: a backlog is gone in half a minute.
pub const DRAIN_WITHIN: u64 = 30;

impl Tidemill {
    pub fn new() -> Self {
        let drain_within = Duration::from_secs(DRAIN_WITHIN);
        let zero_after = Duration::from_secs(60);
        let scale = ScaleSpec { min: 0, max: None, drain_within, park_after: None, zero_after };
        Self { decider: Decider::new(scale, Policy::default()), before: None, decisions: Vec::new() }
    }
}

impl Rule for Tidemill {
    fn name(&self) -> String {
        "Tidemill".to_owned()
    }

    fn decide(&mut self, group: &Group, _: f64) -> u32 {
        let sample = group.sample();
        let before = self.before.replace(sample.clone()).unwrap_or_else(|| sample.clone());
        let inputs = Inputs::between([&before, &sample], Duration::from_secs(1), group.ready(), 0);
        let decision = self.decider.decide(group.at(), &inputs);
        if self.decisions.last().is_none_or(|(_, workers, _)| *workers != decision.workers) {
            self.decisions.push((group.now, decision.workers, decision.reason.to_string()));
        }
        decision.workers
    }
}
