//! What the process's functions and workers are doing, as they last reported it. A worker writes its
//! report at cuts, at most a few times a second, into a slot of its own, so nothing here is touched per
//! record; `/functions`, `/healthz`, `/readyz` and the gauges of `/metrics` read it.
//!
//! Times are `Duration`s of the clock's monotonic time; one clock must be used throughout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::totals::Totals;

/// The state of a lane in which nothing is called but probes.
pub const CIRCUIT_OPEN: &str = "circuitOpen";

/// The state of a lane whose state is still being read: nothing else happens in it.
pub const RESTORING: &str = "restoring";

/// The shortest time between two reports of a worker.
pub const REPORT_EVERY: Duration = Duration::from_millis(250);

/// The state of every function in the process. Clones share everything.
#[derive(Clone, Default)]
pub struct Status {
    functions: Arc<Mutex<BTreeMap<String, FunctionReport>>>,
    problems: Arc<Mutex<Problems>>,
}

/// What of the manifests on disk is not taken up, and why. One text a problem, which may have several lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// Those of functions that go on as they were, by name.
    pub of_functions: BTreeMap<String, String>,
    /// Those of manifests that belong to no function here.
    pub others: BTreeSet<String>,
}

/// What is known of a function before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionInfo {
    /// `<namespace>/<name>`.
    pub name: String,
    /// Its consumer group.
    pub group: String,
    /// `exactlyOnce` or `atLeastOnce`.
    pub guarantee: &'static str,
    /// A worker that gave no sign of life for this long counts as stuck. It must be longer than anything that
    /// rightly blocks a worker: the handler's timeout, a commit, a revoke.
    #[serde(skip)]
    pub stuck_after: Duration,
}

/// What a worker is at, for whoever wonders why it is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Listens to the group, reads.
    Listen,
    /// Takes records through the function, calls its handler.
    Handle,
    /// Waits for the brokers to take outputs and offsets.
    Cut,
    /// Waits for the brokers to say what is committed, or to abort.
    Recover,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Listen, Self::Handle, Self::Cut, Self::Recover];

    /// What a worker waits for that does not come round.
    pub fn waits_for(self) -> &'static str {
        match self {
            Self::Listen => "the consumer group",
            Self::Handle => "the handler",
            Self::Cut => "the brokers to take a cut",
            Self::Recover => "the brokers to undo a cut",
        }
    }
}

/// A worker that has not come round for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// Its number.
    pub worker: u32,
    /// For how long.
    pub time: Duration,
    /// What it is at.
    pub phase: Phase,
}

/// The handler that a function calls now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandlerInfo {
    /// The plugin's SHA-256, lower-case hex.
    pub digest: String,
    /// The handler's name in the plugin.
    pub entry: String,
}

/// Where a function is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum State {
    /// Being built; no worker has an assignment yet.
    Starting,
    /// Waiting for a topic that does not exist.
    Waiting {
        /// The topic.
        topic: String,
    },
    /// Works.
    Running,
    /// Was asked to rest: nothing is called, nothing is uncut, and its workers stay in the group.
    Paused,
    /// Nothing has come for a while: its workers keep their partitions and state, and have no handler until something does.
    Parked,
    /// No worker runs while nothing comes: the first event, or what falls due, wakes it.
    Asleep,
    /// Finishing what is in flight.
    Stopping,
    /// Ended, and not by itself again.
    Stopped {
        /// Why: asked to, or the error.
        reason: String,
    },
}

impl State {
    /// Every state's word, for metrics.
    pub const WORDS: [&'static str; 8] =
        ["starting", "waiting", "running", "paused", "parked", "asleep", "stopping", "stopped"];

    /// The state's word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Waiting { .. } => "waiting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Parked => "parked",
            Self::Asleep => "asleep",
            Self::Stopping => "stopping",
            Self::Stopped { .. } => "stopped",
        }
    }
}

/// A function as `/functions` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionStatus {
    /// `<namespace>/<name>`.
    pub name: String,
    /// Its consumer group.
    pub group: String,
    /// `exactlyOnce` or `atLeastOnce`.
    pub guarantee: &'static str,
    /// The handler; `None` before it is loaded, and for built-in steps only.
    pub handler: Option<HandlerInfo>,
    /// Where it is in its life.
    pub state: State,
    /// Why what its manifest or plugin says now is not taken up; `None`: it is.
    pub problem: Option<String>,
    /// Its workers in this process.
    pub workers: Vec<WorkerStatus>,
    /// What its workers counted since the process started, those that have ended included.
    pub totals: Totals,
}

/// A worker's report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Its number within the function and the process.
    pub id: u32,
    /// It has been given an assignment, which may be empty when there are more workers than partitions.
    pub assigned: bool,
    /// How it joined its group: `classic`, or `consumer` (KIP-848).
    pub protocol: &'static str,
    /// It was asked to rest, and does.
    pub paused: bool,
    /// Nothing has come for `scale.parkAfter`: it has no handler until something does.
    pub parked: bool,
    /// Its partitions.
    pub lanes: Vec<LaneStatus>,
    /// Records taken and not finished.
    pub in_flight: u64,
    /// What its state takes about, in bytes.
    pub state_bytes: u64,
    /// How many keys have something in the state.
    pub state_keys: u64,
    /// How far event time is behind the clock in that of its partitions where it is furthest behind, in milliseconds; `None`: no
    /// event time is kept, or there was no event yet.
    pub watermark_delay_ms: Option<u64>,
    /// When its last cut committed, milliseconds since the epoch.
    pub last_cut_ms: Option<i64>,
    /// What went wrong last.
    pub last_error: Option<ErrorNote>,
    /// What it counted.
    pub totals: Totals,
}

/// One partition of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneStatus {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub position: i64,
    /// The committed offset; `None` before the first commit is known.
    pub committed: Option<i64>,
    /// End offset minus committed offset; `None` while the end is not known.
    pub lag: Option<i64>,
    /// Events that wait in memory: for their next attempt, or behind one that does.
    pub held: u64,
    /// What it does, in a word: reading, retrying, full (as many events wait as may), ahead (of other partitions), paused (the
    /// function is), [`RESTORING`] or [`CIRCUIT_OPEN`].
    pub state: &'static str,
    /// While it is restoring: how many entries of its state were read so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<u64>,
}

/// An error of the engine or of Kafka; never a handler's text, which may quote a payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorNote {
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// What.
    pub message: String,
}

/// Where a function's state is reported. Clones report the same function.
#[derive(Clone)]
pub struct FunctionReport {
    shared: Arc<Function>,
}

struct Function {
    info: FunctionInfo,
    now: Mutex<Now>,
}

struct Now {
    state: State,
    handler: Option<HandlerInfo>,
    workers: Vec<Arc<Slot>>,
    ended: Totals,
}

struct Slot {
    beat_us: AtomicU64,
    phase: AtomicU8,
    status: Mutex<WorkerStatus>,
}

impl Slot {
    fn silent(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_micros(self.beat_us.load(Ordering::Relaxed)))
    }
}

/// Where one worker reports; dropping it takes the worker off the list and keeps its totals.
pub struct WorkerReport {
    function: FunctionReport,
    slot: Arc<Slot>,
    reported: Option<Duration>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Status {
    /// Puts a function on the list, in place of one of the same name, whose totals it takes over.
    pub fn register(&self, info: FunctionInfo) -> FunctionReport {
        let mut functions = lock(&self.functions);
        let ended = functions.get(&info.name).map(|before| lock(&before.shared.now).ended);
        let now = Now {
            state: State::Starting,
            handler: None,
            workers: Vec::new(),
            ended: ended.unwrap_or_default(),
        };
        let name = info.name.clone();
        let report = FunctionReport { shared: Arc::new(Function { info, now: Mutex::new(now) }) };
        functions.insert(name, report.clone());
        report
    }

    /// The state of the function `name` from now on, if it is on the list.
    pub fn set_state(&self, name: &str, state: State) {
        if let Some(function) = lock(&self.functions).get(name) {
            function.set_state(state);
        }
    }

    /// The state of the function `name`, if it is on the list.
    pub fn state(&self, name: &str) -> Option<State> {
        lock(&self.functions).get(name).map(|function| function.status().state)
    }

    /// What of the manifests is not taken up from now on; returns what it was.
    pub fn set_problems(&self, problems: Problems) -> Problems {
        std::mem::replace(&mut *lock(&self.problems), problems)
    }

    /// What of the manifests is not taken up.
    pub fn problems(&self) -> Problems {
        lock(&self.problems).clone()
    }

    /// Takes a function off the list.
    pub fn remove(&self, name: &str) {
        lock(&self.functions).remove(name);
    }

    /// Every function, by name.
    pub fn functions(&self) -> Vec<FunctionStatus> {
        let problems = self.problems().of_functions;
        let status = |function: &FunctionReport| FunctionStatus {
            problem: problems.get(&function.shared.info.name).cloned(),
            ..function.status()
        };
        lock(&self.functions).values().map(status).collect()
    }

    /// What makes the process unfit to live on, one line each: workers that are stuck at `now`.
    /// Nothing: healthy. A function that has stopped is not on it, since a restart would harm the others.
    pub fn ailments(&self, now: Duration) -> Vec<String> {
        let functions = lock(&self.functions);
        let mut ailments = Vec::new();
        for function in functions.values() {
            let Function { info, now: state } = &*function.shared;
            for slot in &lock(state).workers {
                let silent = slot.silent(now);
                if silent > info.stuck_after {
                    let id = lock(&slot.status).id;
                    let seconds = silent.as_secs();
                    ailments.push(format!("{} worker {id} gave no sign of life for {seconds} s", info.name));
                }
            }
        }
        ailments
    }

    /// What the process is not ready for, one line each. Ready means that each function runs with all
    /// workers assigned, or waits for a topic that does not exist, or was paused: that is for somebody else to mend, and
    /// must not hold up a rollout.
    pub fn unreadiness(&self) -> Vec<String> {
        let unready = |function: FunctionStatus| match &function.state {
            State::Waiting { .. } | State::Paused | State::Parked | State::Asleep => None,
            State::Running if function.workers.is_empty() => Some(format!("{} has no worker", function.name)),
            State::Running => function
                .workers
                .iter()
                .find(|worker| !worker.assigned)
                .map(|worker| format!("{} worker {} has no assignment yet", function.name, worker.id)),
            State::Stopped { reason } => Some(format!("{} is stopped: {reason}", function.name)),
            State::Starting | State::Stopping => {
                Some(format!("{} is {}", function.name, function.state.as_str()))
            }
        };
        self.functions().into_iter().filter_map(unready).collect()
    }
}

impl FunctionReport {
    /// The function's state from now on.
    pub fn set_state(&self, state: State) {
        lock(&self.shared.now).state = state;
    }

    /// The handler from now on.
    pub fn set_handler(&self, handler: HandlerInfo) {
        lock(&self.shared.now).handler = Some(handler);
    }

    /// Puts worker `id` on the list, alive at `now`.
    pub fn worker(&self, id: u32, now: Duration) -> WorkerReport {
        let slot = Arc::new(Slot {
            beat_us: AtomicU64::new(now.as_micros() as u64),
            phase: AtomicU8::new(Phase::Listen as u8),
            status: Mutex::new(WorkerStatus { id, ..WorkerStatus::default() }),
        });
        lock(&self.shared.now).workers.push(slot.clone());
        WorkerReport { function: self.clone(), slot, reported: None }
    }

    /// Each worker, and for how long it has not come round.
    pub fn silences(&self, now: Duration) -> Vec<Silence> {
        let state = lock(&self.shared.now);
        let silence = |slot: &Arc<Slot>| Silence {
            worker: lock(&slot.status).id,
            time: slot.silent(now),
            phase: Phase::ALL[usize::from(slot.phase.load(Ordering::Relaxed))],
        };
        state.workers.iter().map(silence).collect()
    }

    fn status(&self) -> FunctionStatus {
        let now = lock(&self.shared.now);
        let workers: Vec<_> = now.workers.iter().map(|slot| lock(&slot.status).clone()).collect();
        let mut totals = now.ended;
        for worker in &workers {
            totals.add(&worker.totals);
        }
        let FunctionInfo { name, group, guarantee, .. } = self.shared.info.clone();
        let all = |is_so: fn(&WorkerStatus) -> bool| !workers.is_empty() && workers.iter().all(is_so);
        let state = match &now.state {
            State::Running if all(|worker| worker.paused) => State::Paused,
            State::Running if all(|worker| worker.parked) => State::Parked,
            state => state.clone(),
        };
        let handler = now.handler.clone();
        FunctionStatus { name, group, guarantee, handler, state, problem: None, workers, totals }
    }
}

impl WorkerReport {
    /// A sign of life, one relaxed store: once in every round of the worker's loop.
    pub fn beat(&self, now: Duration) {
        self.slot.beat_us.store(now.as_micros() as u64, Ordering::Relaxed);
    }

    /// What the worker is at from now on; one relaxed store.
    pub fn is_at(&self, phase: Phase) {
        self.slot.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// [`REPORT_EVERY`] has passed since the last report.
    pub fn is_due(&self, now: Duration) -> bool {
        self.reported.is_none_or(|reported| now.saturating_sub(reported) >= REPORT_EVERY)
    }

    /// Reports, whether due or not: `update` changes what was reported last, in place.
    pub fn report(&mut self, now: Duration, update: impl FnOnce(&mut WorkerStatus)) {
        self.beat(now);
        self.reported = Some(now);
        update(&mut lock(&self.slot.status));
    }

    /// The state of the worker's function from now on.
    pub fn set_state(&self, state: State) {
        self.function.set_state(state);
    }
}

impl Drop for WorkerReport {
    fn drop(&mut self) {
        let mut now = lock(&self.function.shared.now);
        now.workers.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        now.ended.add(&lock(&self.slot.status).totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str) -> FunctionInfo {
        FunctionInfo {
            name: name.to_owned(),
            group: format!("tidemill.{name}"),
            guarantee: "exactlyOnce",
            stuck_after: Duration::from_secs(30),
        }
    }

    #[test]
    fn a_worker_that_has_not_come_round_says_what_it_waits_for() {
        let report = Status::default().register(info("default/echo"));
        let worker = report.worker(3, Duration::from_secs(1));
        worker.is_at(Phase::Cut);
        let silences = report.silences(Duration::from_secs(8));
        let time = Duration::from_secs(7);
        assert_eq!(silences, [Silence { worker: 3, time, phase: Phase::Cut }]);
    }

    #[test]
    fn a_silent_worker_makes_the_process_ill_and_a_beat_cures_it() {
        let status = Status::default();
        let function = status.register(info("default/echo"));
        let worker = function.worker(0, Duration::from_secs(100));
        assert_eq!(status.ailments(Duration::from_secs(130)), Vec::<String>::new());
        assert_eq!(
            status.ailments(Duration::from_secs(131)),
            ["default/echo worker 0 gave no sign of life for 31 s"]
        );
        worker.beat(Duration::from_secs(131));
        assert_eq!(status.ailments(Duration::from_secs(131)), Vec::<String>::new());
    }

    #[test]
    fn a_worker_that_ended_is_not_missed() {
        let status = Status::default();
        let function = status.register(info("default/echo"));
        drop(function.worker(0, Duration::ZERO));
        assert_eq!(status.ailments(Duration::from_secs(1000)), Vec::<String>::new());
    }

    #[test]
    fn ready_means_running_with_every_worker_assigned() {
        let status = Status::default();
        assert!(status.unreadiness().is_empty(), "a process without functions is ready for some");
        let function = status.register(info("default/echo"));
        assert_eq!(status.unreadiness(), ["default/echo is starting"]);
        function.set_state(State::Running);
        assert_eq!(status.unreadiness(), ["default/echo has no worker"]);
        let mut first = function.worker(0, Duration::ZERO);
        let mut second = function.worker(1, Duration::ZERO);
        first.report(Duration::ZERO, |worker| worker.assigned = true);
        assert_eq!(status.unreadiness(), ["default/echo worker 1 has no assignment yet"]);
        second.report(Duration::ZERO, |worker| worker.assigned = true);
        assert!(status.unreadiness().is_empty());
        function.set_state(State::Stopped { reason: "fenced".to_owned() });
        assert_eq!(status.unreadiness(), ["default/echo is stopped: fenced"]);
    }

    #[test]
    fn a_function_is_paused_once_all_of_its_workers_rest() {
        let status = Status::default();
        let function = status.register(info("default/echo"));
        function.set_state(State::Running);
        let mut workers = [0, 1].map(|id| function.worker(id, Duration::ZERO));
        let mut expected = [State::Running, State::Paused].into_iter();
        for worker in &mut workers {
            worker.report(Duration::ZERO, |worker| worker.paused = true);
            assert_eq!(status.state("default/echo"), expected.next());
        }
        for worker in &mut workers {
            worker.report(Duration::ZERO, |worker| (worker.paused, worker.parked) = (false, true));
        }
        assert_eq!(status.state("default/echo"), Some(State::Parked));
        assert!(status.unreadiness().is_empty(), "it is as somebody wants it, though nothing is assigned");
        function.set_state(State::Stopping);
        assert_eq!(status.state("default/echo"), Some(State::Stopping));
    }

    #[test]
    fn waiting_for_a_topic_is_ready() {
        let status = Status::default();
        status.register(info("default/echo")).set_state(State::Waiting { topic: "rides".to_owned() });
        assert!(status.unreadiness().is_empty());
    }

    #[test]
    fn totals_outlive_their_workers() {
        let status = Status::default();
        let function = status.register(info("default/echo"));
        let mut first = function.worker(0, Duration::ZERO);
        first.report(Duration::ZERO, |worker| worker.totals.consumed = 3);
        drop(first);
        let mut second = function.worker(1, Duration::ZERO);
        second.report(Duration::ZERO, |worker| worker.totals.consumed = 4);
        assert_eq!(status.functions()[0].totals.consumed, 7);
        drop(second);
        status.register(info("default/echo"));
        assert_eq!(status.functions()[0].totals.consumed, 7, "also those of the run before");
        status.remove("default/echo");
        assert!(status.functions().is_empty());
    }

    #[test]
    fn a_report_is_due_four_times_a_second() {
        let function = Status::default().register(info("default/echo"));
        let mut worker = function.worker(0, Duration::ZERO);
        assert!(worker.is_due(Duration::ZERO));
        worker.report(Duration::ZERO, |_| ());
        assert!(!worker.is_due(Duration::from_millis(249)));
        assert!(worker.is_due(Duration::from_millis(250)));
    }
}
