//! One function that is scaled from outside: two samples make a decision, which is logged, counted and put on the board.

use std::time::Duration;

use super::board::{Board, Standing};
use crate::model::{Function, Moment, StartAt};
use crate::observe::Exposition;
use crate::runtime::decided::{Numbers, Tier};
use crate::runtime::overrides::Overrides;
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
    /// The process that decides instead of this one.
    decided_by: Option<String>,
    /// Since when it has no worker and should have one.
    waking_since: Option<Duration>,
    numbers: Numbers,
}

impl Watched {
    pub fn new(function: &Function, policy: Policy, exposition: &Exposition) -> Self {
        let name = function.name.to_string();
        let needs_worker = |topic: &str| {
            let mut sources = function.shared_sources().filter(|source| source.topic == topic);
            sources.any(|source| source.schedule.is_some() || source.start_at == StartAt::Latest)
        };
        let topics = Target::of(function).sources.into_iter().map(|source| source.topic);
        Self {
            decider: Decider::new(function.scale, policy),
            before: None,
            registers: topics.filter(|topic| needs_worker(topic)).collect(),
            desired: None,
            failures: 0,
            decided_by: None,
            waking_since: None,
            numbers: Numbers::new(&name, exposition),
            name,
        }
    }

    /// Takes in a sample of now, and decides when there is one before it.
    pub fn see(
        &mut self,
        now: Moment,
        sample: Sample,
        members: u32,
        (board, overrides): (&Board, &Overrides),
    ) {
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
        let mut decision = self.decider.decide(at, &inputs);
        let fixed = overrides.of(&self.name);
        if let Some(fixed) = fixed {
            decision = self.decider.fix(decision, fixed.workers, Duration::from_millis(fixed.left_ms));
        }
        let (desired, reason) = (decision.workers, decision.reason);
        let from = self.desired.replace(desired).unwrap_or(members);
        if from != desired {
            tracing::info!(function = self.name, from, to = desired, %reason, "workers decided");
        }
        self.numbers.decided(&decision, &inputs);
        let was_waking = self.waking_since.take();
        match (desired, members) {
            (0, 0) => {}
            (_, 0) => self.waking_since = was_waking.or(Some(at)),
            _ => was_waking.into_iter().for_each(|since| self.numbers.woke(Tier::Off, at - since)),
        }
        board.put(&self.name, |standing| standing.decide(at, &decision, &inputs, fixed));
    }

    /// It is decided here.
    pub fn take_up(&mut self) {
        if self.decided_by.take().is_some() {
            tracing::info!(function = self.name, "it is decided here from now on");
        }
    }

    /// It is not known yet who decides.
    pub fn pause(&mut self) {
        // What happens meanwhile would count as one second's.
        self.before = None;
        self.waking_since = None;
    }

    /// Another process decides: nothing is wanted here.
    pub fn stand_by(&mut self, who: String, board: &Board) {
        self.pause();
        self.numbers.rest();
        if self.decided_by.as_ref() != Some(&who) {
            tracing::warn!(function = self.name, by = who, "another process decides; this one stands by");
            self.decided_by = Some(who.clone());
        }
        board.put(&self.name, |standing| {
            *standing = Standing {
                processes: std::mem::take(&mut standing.processes),
                deployment: std::mem::take(&mut standing.deployment),
                decided_by: Some(who),
                ..Standing::default()
            };
        });
    }

    /// It could not be looked at: the last decision holds on.
    pub fn fail(&mut self, problem: &str, board: &Board) {
        // What happened meanwhile would count as one second's.
        self.before = None;
        self.numbers.failed();
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
    use std::sync::Arc;

    use super::*;
    use crate::kafka::{Bounds, Partition};
    use crate::manifest;
    use crate::model::{Clock, ManualClock};
    use crate::pipeline::Ledger;
    use crate::scale::LaneSample;

    fn watched(source: &str) -> (Watched, (Board, Overrides)) {
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
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(0));
        let overrides = Overrides::new(&clock);
        overrides.admit(&function, true);
        let watched = Watched::new(&function, Policy::default(), &Exposition::new());
        (watched, (Board::new(["default/rides"]), overrides))
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
        let (mut function, (board, overrides)) = watched("{ topic: in }");
        function.see(at(0), sample(Some(0), 0), 0, (&board, &overrides));
        assert_eq!(desired(&board), None, "one look tells no rate");
        function.see(at(1), sample(Some(0), 0), 0, (&board, &overrides));
        assert_eq!(desired(&board), Some(0));
        function.see(at(2), sample(Some(0), 5), 0, (&board, &overrides));
        assert_eq!((desired(&board), board.read()["default/rides"].backlog), (Some(1), 5));
        function.see(at(3), sample(Some(5), 5), 1, (&board, &overrides));
        (4..6).for_each(|second| function.see(at(second), sample(Some(5), 5), 1, (&board, &overrides)));
        assert_eq!(desired(&board), Some(1), "three seconds are not over");
        function.see(at(6), sample(Some(5), 5), 1, (&board, &overrides));
        assert_eq!((desired(&board), board.read()["default/rides"].reason), (Some(0), "idle"));
    }

    #[test]
    fn what_cannot_be_looked_at_keeps_its_workers() {
        let (mut function, (board, overrides)) = watched("{ topic: in }");
        (0..2).for_each(|second| function.see(at(second), sample(Some(0), 5), 0, (&board, &overrides)));
        (2..60).for_each(|_| function.fail("nobody answers", &board));
        let standing = board.read().remove("default/rides").unwrap();
        assert_eq!((standing.desired, standing.problem.as_deref()), (Some(1), Some("nobody answers")));
        function.see(at(60), sample(Some(0), 5), 1, (&board, &overrides));
        assert!(board.read()["default/rides"].problem.is_some(), "one look tells no rate");
        function.see(at(61), sample(Some(0), 5), 1, (&board, &overrides));
        assert_eq!(board.read()["default/rides"].problem, None);
    }

    /// Nobody would ever see what comes to a topic that is read from its end.
    #[test]
    fn a_function_that_begins_at_the_end_has_a_worker_once() {
        let (mut function, (board, overrides)) = watched("{ topic: in, startAt: latest }");
        (0..2).for_each(|second| function.see(at(second), sample(None, 7), 0, (&board, &overrides)));
        assert_eq!(desired(&board), Some(1));
        (2..9).for_each(|second| function.see(at(second), sample(Some(7), 7), 1, (&board, &overrides)));
        assert_eq!(desired(&board), Some(0));
    }

    #[test]
    fn what_a_person_fixed_holds_and_is_gone_on_from() {
        let (mut function, (board, overrides)) = watched("{ topic: in }");
        overrides.fix("default/rides", 7, Duration::from_secs(60)).unwrap();
        (0..2).for_each(|second| function.see(at(second), sample(Some(0), 5), 1, (&board, &overrides)));
        let standing = board.read().remove("default/rides").unwrap();
        assert_eq!((standing.desired, standing.reason), (Some(7), "fixed"));
        assert_eq!(standing.fixed.map(|fixed| fixed.left_ms), Some(60_000));
        overrides.lift("default/rides").unwrap();
        function.see(at(2), sample(Some(0), 5), 7, (&board, &overrides));
        assert_eq!(desired(&board), Some(1), "as many as there are partitions");
    }
}
