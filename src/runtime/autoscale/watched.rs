//! One function that is scaled from outside: two samples make a decision, which is logged, counted and put on the board.

use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use crate::model::{Function, Moment, StartAt};
use crate::observe::metrics::Id;
use crate::observe::{Exposition, Level};
use crate::scale::{Decider, Inputs, Policy, Sample, Target};

/// So many looks in a row that fail are worth a warning: one does now and then, when a coordinator moves.
const TOLD_AFTER: u32 = 3;

/// A function under watch.
pub(super) struct Watched {
    name: String,
    decider: Decider,
    before: Option<(Duration, Sample)>,
    /// Topics of which nothing tells that there is work as long as no worker ever came: a clock's, which its worker makes,
    /// and those that are read from where they end when the first worker comes.
    registers: Vec<String>,
    /// What was decided last.
    desired: Option<u32>,
    /// Looks that failed in a row.
    failures: u32,
    numbers: Numbers,
}

struct Numbers {
    exposition: Exposition,
    desired: Arc<Level>,
    running: Arc<Level>,
    lag: Arc<Level>,
}

impl Watched {
    pub fn new(function: &Function, policy: Policy, exposition: &Exposition) -> Self {
        let name = function.name.to_string();
        let needs_worker = |topic: &str| {
            let mut sources = function.shared_sources().filter(|source| source.topic == topic);
            sources.any(|source| source.schedule.is_some() || source.start_at == StartAt::Latest)
        };
        let topics = Target::of(function).sources.into_iter().map(|source| source.topic);
        let level = |id| exposition.level(id, &[("function", &name)]);
        Self {
            decider: Decider::new(function.scale, policy),
            before: None,
            registers: topics.filter(|topic| needs_worker(topic)).collect(),
            desired: None,
            failures: 0,
            numbers: Numbers {
                desired: level(Id::ScaleDesired),
                running: level(Id::ScaleRunning),
                lag: level(Id::ScaleLag),
                exposition: exposition.clone(),
            },
            name,
        }
    }

    /// Takes in a sample of now, and decides when there is one before it.
    pub fn see(&mut self, now: Moment, sample: Sample, members: u32, board: &Board) {
        if std::mem::take(&mut self.failures) >= TOLD_AFTER {
            tracing::info!(function = self.name, "it can be looked at again");
        }
        let at = now.elapsed;
        let Some((then, before)) = self.before.take() else {
            self.before = Some((at, sample));
            return;
        };
        let apart = at.saturating_sub(then);
        let mut inputs = Inputs::between([&before, &sample], apart, members, now.wall_ms.max(0) as u64);
        if self.is_to_register(&sample) {
            // As due as a deadline: until a worker has come, what arrives is nobody's.
            inputs.wake_in = Some(Duration::ZERO);
            inputs.partitions = inputs.partitions.max(1);
        }
        self.before = Some((at, sample));
        let decision = self.decider.decide(at, &inputs);
        let (desired, reason) = (decision.workers, decision.reason);
        let from = self.desired.replace(desired).unwrap_or(members);
        if from != desired {
            tracing::info!(function = self.name, from, to = desired, %reason, "workers decided");
        }
        self.numbers.desired.set(desired.into());
        self.numbers.running.set(members.into());
        self.numbers.lag.set(inputs.backlog());
        let labels = [("function", self.name.as_str()), ("reason", reason.name())];
        self.numbers.exposition.counter(Id::ScaleDecisions, &labels).increment(1);
        board.put(&self.name, |standing| standing.decide(at, &decision, &inputs));
    }

    /// It could not be looked at: the last decision holds on.
    pub fn fail(&mut self, problem: &str, board: &Board) {
        // What happened meanwhile would count as one second's.
        self.before = None;
        self.numbers.exposition.counter(Id::ScaleFailures, &[("function", &self.name)]).increment(1);
        self.failures = self.failures.saturating_add(1);
        if self.failures == TOLD_AFTER {
            tracing::warn!(
                function = self.name,
                problem,
                "it cannot be looked at; the last decision holds on"
            );
        }
        board.put(&self.name, |standing| standing.problem = Some(problem.to_owned()));
    }

    /// A worker has to come once, to fix where it begins.
    fn is_to_register(&self, sample: &Sample) -> bool {
        let is_known = |topic: &String| {
            sample.lanes.iter().any(|lane| lane.partition.topic == *topic && lane.committed.is_some())
        };
        !self.registers.iter().all(is_known)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kafka::{Bounds, Partition};
    use crate::manifest;
    use crate::pipeline::Ledger;
    use crate::scale::LaneSample;

    fn watched(source: &str) -> (Watched, Board) {
        let text = format!(
            "
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: {{ name: rides }}
spec:
  sources: [{source}]
  sinks: [{{ topic: out }}]
"
        );
        let mut function = manifest::parse(Path::new("function.yaml"), &text).unwrap().remove(0);
        function.scale.zero_after = Duration::from_secs(3);
        (Watched::new(&function, Policy::default(), &Exposition::new()), Board::new(["default/rides"]))
    }

    fn at(seconds: u64) -> Moment {
        Moment { wall_ms: 0, elapsed: Duration::from_secs(seconds) }
    }

    fn sample(committed: Option<i64>, end: i64) -> Sample {
        let lane = LaneSample {
            partition: Partition { topic: "in".to_owned(), partition: 0 },
            goes_along: false,
            bounds: Bounds { log_start: 0, end },
            committed,
            ledger: Ledger::starting_at(committed.unwrap_or(end)),
            wake_at_ms: None,
        };
        Sample { lanes: vec![lane] }
    }

    fn desired(board: &Board) -> Option<u32> {
        board.desired("default/rides")
    }

    #[test]
    fn a_backlog_starts_one_and_quiet_ends_it() {
        let (mut function, board) = watched("{ topic: in }");
        function.see(at(0), sample(Some(0), 0), 0, &board);
        assert_eq!(desired(&board), None, "one look tells no rate");
        function.see(at(1), sample(Some(0), 0), 0, &board);
        assert_eq!(desired(&board), Some(0));
        function.see(at(2), sample(Some(0), 5), 0, &board);
        assert_eq!((desired(&board), board.read()["default/rides"].backlog), (Some(1), 5));
        function.see(at(3), sample(Some(5), 5), 1, &board);
        (4..6).for_each(|second| function.see(at(second), sample(Some(5), 5), 1, &board));
        assert_eq!(desired(&board), Some(1), "three seconds are not over");
        function.see(at(6), sample(Some(5), 5), 1, &board);
        assert_eq!((desired(&board), board.read()["default/rides"].reason), (Some(0), "idle"));
    }

    #[test]
    fn what_cannot_be_looked_at_keeps_its_workers() {
        let (mut function, board) = watched("{ topic: in }");
        (0..2).for_each(|second| function.see(at(second), sample(Some(0), 5), 0, &board));
        (2..60).for_each(|_| function.fail("nobody answers", &board));
        let standing = board.read().remove("default/rides").unwrap();
        assert_eq!((standing.desired, standing.problem.as_deref()), (Some(1), Some("nobody answers")));
        function.see(at(60), sample(Some(0), 5), 1, &board);
        assert!(board.read()["default/rides"].problem.is_some(), "one look tells no rate");
        function.see(at(61), sample(Some(0), 5), 1, &board);
        assert_eq!(board.read()["default/rides"].problem, None);
    }

    /// Nobody would ever see what comes to a topic that is read from its end.
    #[test]
    fn a_function_that_begins_at_the_end_has_a_worker_once() {
        let (mut function, board) = watched("{ topic: in, startAt: latest }");
        (0..2).for_each(|second| function.see(at(second), sample(None, 7), 0, &board));
        assert_eq!(desired(&board), Some(1));
        (2..9).for_each(|second| function.see(at(second), sample(Some(7), 7), 1, &board));
        assert_eq!(desired(&board), Some(0));
    }
}
