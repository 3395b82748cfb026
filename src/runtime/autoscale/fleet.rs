//! The processes of each function on this host: as many as its decided workers need, started again when they die.
//!
//! A process is told to stop by the end of its standard input, which it reads (`run --until-stdin-ends`): then it finishes,
//! cuts and leaves as after SIGTERM. The same end comes when this process dies, however it dies, so no process outlives it.
//! Each has a place with a name of its own, so one that is started anew has the transactional ids of its dead self and fences
//! it. A place is left from the highest number down.

use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::back_off::BackOff;
use super::board::{Board, Process};
use crate::model::Clock;
use crate::observe::Exposition;
use crate::observe::metrics::Id;
use crate::runtime::Stop;

/// How often it is looked who died and how many there should be.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The command of a function's process: given the function, and the name of its place.
pub type ToCommand = Box<dyn Fn(&str, &str) -> Command + Send>;

/// How processes are started and ended.
pub struct Launch {
    /// What is started.
    pub command: ToCommand,
    /// Of names of places.
    pub instance: String,
    /// Workers in one process.
    pub workers_per_process: u32,
    /// A process that was told to stop is killed after this time.
    pub killed_after: Duration,
}

/// The processes of all functions.
pub struct Fleet {
    launch: Launch,
    crews: Vec<Crew>,
    board: Board,
    exposition: Exposition,
    clock: Arc<dyn Clock>,
}

/// The processes of one function, by the numbers of their places.
struct Crew {
    function: String,
    places: Vec<Place>,
    /// What stands on the board.
    shown: Vec<Process>,
}

#[derive(Default)]
struct Place {
    instance: String,
    running: Option<Running>,
    back_off: BackOff,
    last_end: Option<String>,
}

struct Running {
    child: Child,
    since: Duration,
    /// `None`: it was told to stop.
    stdin: Option<ChildStdin>,
    stopping_since: Option<Duration>,
}

impl Fleet {
    /// No process yet. Decisions come from `board`, and what becomes of them is shown there.
    pub fn new(launch: Launch, board: &Board, exposition: &Exposition, clock: Arc<dyn Clock>) -> Self {
        let crew = |function: String| Crew { function, places: Vec::new(), shown: Vec::new() };
        Self {
            launch,
            crews: board.read().into_keys().map(crew).collect(),
            board: board.clone(),
            exposition: exposition.clone(),
            clock,
        }
    }

    /// Keeps processes until told to stop, then ends them and waits for all of them.
    pub fn run(mut self, stop: &Stop) {
        let pause = Stop::default();
        loop {
            let is_stopping = stop.is_set();
            self.turn(is_stopping);
            if is_stopping && self.is_empty() {
                return;
            }
            pause.wait(LOOK_EVERY);
        }
    }

    fn is_empty(&self) -> bool {
        self.crews.iter().flat_map(|crew| &crew.places).all(|place| place.running.is_none())
    }

    fn turn(&mut self, is_stopping: bool) {
        let now = self.clock.now().elapsed;
        for crew in &mut self.crews {
            let desired = self.board.desired(&crew.function).filter(|_| !is_stopping).unwrap_or(0);
            let wanted = desired.div_ceil(self.launch.workers_per_process.max(1)) as usize;
            while crew.places.len() < wanted {
                let instance = place_name(&self.launch.instance, &crew.function, crew.places.len());
                crew.places.push(Place { instance, ..Place::default() });
            }
            for (number, place) in crew.places.iter_mut().enumerate() {
                if place.reap(&crew.function, now) {
                    let died = self.exposition.counter(Id::ScaleDied, &[("function", &crew.function)]);
                    died.increment(1);
                }
                match number < wanted {
                    true => place.keep(&crew.function, now, &self.launch),
                    false => place.end(&crew.function, now, self.launch.killed_after),
                }
            }
            let numbered = crew.places.iter().enumerate();
            let shown = numbered.filter(|(number, place)| *number < wanted || place.running.is_some());
            let shown: Vec<Process> = shown.map(|(_, place)| place.shown()).collect();
            if shown != crew.shown {
                crew.shown.clone_from(&shown);
                self.board.put(&crew.function, |standing| standing.processes = shown);
            }
        }
    }
}

/// Of characters that an instance's name may have, and different for each place of each function.
fn place_name(instance: &str, function: &str, number: usize) -> String {
    format!("{instance}.{}.{number}", function.replace('/', "."))
}

impl Place {
    fn shown(&self) -> Process {
        let state = match &self.running {
            Some(running) if running.stdin.is_some() => "running",
            Some(_) => "stopping",
            None => "waiting",
        };
        Process {
            instance: self.instance.clone(),
            pid: self.running.as_ref().map(|running| running.child.id()),
            state,
            deaths: self.back_off.deaths(),
            last_end: self.last_end.clone(),
        }
    }

    /// Takes note of its end; whether it died without being told to.
    fn reap(&mut self, function: &str, now: Duration) -> bool {
        let Some(running) = &mut self.running else { return false };
        let status = match running.child.try_wait() {
            Ok(None) => return false,
            Ok(Some(status)) => Ok(status),
            Err(error) => Err(error),
        };
        let (was_told, since) = (running.stdin.is_none(), running.since);
        let end = status.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
        self.running = None;
        if was_told {
            tracing::info!(function, instance = self.instance, end, "process ended");
            return false;
        }
        let wait = self.back_off.died(since, now);
        let deaths = self.back_off.deaths();
        tracing::warn!(function, instance = self.instance, end, deaths, again_in = ?wait, "process died");
        self.last_end = Some(end);
        true
    }

    /// Sees to it that it is there.
    fn keep(&mut self, function: &str, now: Duration, launch: &Launch) {
        if let Some(running) = &mut self.running {
            // It was told to stop before more were needed again: it comes back when it has ended.
            return running.hasten(function, now, launch.killed_after);
        }
        if !self.back_off.is_over(now) {
            return;
        }
        let mut command = (launch.command)(function, &self.instance);
        match command.stdin(Stdio::piped()).spawn() {
            Ok(mut child) => {
                tracing::info!(function, instance = self.instance, pid = child.id(), "process started");
                let stdin = child.stdin.take();
                self.running = Some(Running { child, since: now, stdin, stopping_since: None });
            }
            Err(error) => {
                let wait = self.back_off.died(now, now);
                tracing::error!(function, %error, again_in = ?wait, "process cannot be started");
                self.last_end = Some(error.to_string());
            }
        }
    }

    /// Sees to it that it goes.
    fn end(&mut self, function: &str, now: Duration, killed_after: Duration) {
        let Some(running) = &mut self.running else { return };
        if running.stdin.take().is_some() {
            running.stopping_since = Some(now);
            tracing::info!(function, instance = self.instance, "process told to stop");
        }
        running.hasten(function, now, killed_after);
    }
}

impl Running {
    /// Kills it when it was told to stop long ago.
    fn hasten(&mut self, function: &str, now: Duration, killed_after: Duration) {
        let is_late = |since: Duration| now.saturating_sub(since) >= killed_after;
        if self.stopping_since.is_some_and(is_late) {
            tracing::error!(function, pid = self.child.id(), "process did not end in time: killed");
            if let Err(error) = self.child.kill() {
                tracing::error!(function, pid = self.child.id(), %error, "process cannot be killed");
            }
            // Once, until it is long ago again.
            self.stopping_since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ManualClock;

    const FUNCTION: &str = "default/rides";

    struct Scene {
        fleet: Fleet,
        board: Board,
        clock: Arc<ManualClock>,
    }

    /// Processes that run this script of the shell.
    fn scene(script: &'static str, workers_per_process: u32) -> Scene {
        let (board, clock) = (Board::new([FUNCTION]), Arc::new(ManualClock::at(0)));
        let command = move |_: &str, _: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let killed_after = Duration::from_secs(30);
        let (command, instance) = (Box::new(command), "host".to_owned());
        let launch = Launch { command, instance, workers_per_process, killed_after };
        Scene { fleet: Fleet::new(launch, &board, &Exposition::new(), clock.clone()), board, clock }
    }

    impl Scene {
        fn decide(&self, workers: u32) {
            self.board.put(FUNCTION, |standing| standing.desired = Some(workers));
        }

        fn processes(&self) -> Vec<Process> {
            self.board.read()[FUNCTION].processes.clone()
        }

        /// Turn after turn until what is shown is so.
        fn turn_until(&mut self, what: &str, is_so: impl Fn(&[Process]) -> bool) -> Vec<Process> {
            for _ in 0..1000 {
                self.fleet.turn(false);
                let shown = self.processes();
                if is_so(&shown) {
                    return shown;
                }
                Stop::default().wait(Duration::from_millis(10));
            }
            panic!("not {what} but {:?}", self.processes());
        }
    }

    fn pids(shown: &[Process]) -> Vec<Option<u32>> {
        shown.iter().map(|process| process.pid).collect()
    }

    #[test]
    fn there_are_as_many_as_the_workers_need() {
        let mut scene = scene("cat", 2);
        scene.fleet.turn(false);
        assert!(scene.processes().is_empty(), "nothing is decided");
        scene.decide(5);
        let three = scene.turn_until("three", |shown| shown.len() == 3);
        let names: Vec<&str> = three.iter().map(|process| process.instance.as_str()).collect();
        assert_eq!(names, ["host.default.rides.0", "host.default.rides.1", "host.default.rides.2"]);
        scene.decide(1);
        let one = scene.turn_until("one", |shown| shown.len() == 1);
        assert_eq!(pids(&one), pids(&three[..1]), "the first stays");
        scene.decide(0);
        scene.turn_until("none", <[Process]>::is_empty);
    }

    #[test]
    fn who_died_comes_again_in_its_place_and_after_a_while() {
        let mut scene = scene("exit 3", 1);
        scene.decide(1);
        let died = scene.turn_until("dead", |shown| shown.iter().any(|process| process.deaths == 1));
        assert_eq!((died[0].state, died[0].last_end.as_deref()), ("waiting", Some("exit status: 3")));
        (0..10).for_each(|_| scene.fleet.turn(false));
        assert_eq!(pids(&scene.processes()), [None], "half a second is not over");
        scene.clock.advance(Duration::from_millis(500));
        scene.fleet.turn(false);
        let again = scene.processes();
        assert!(again[0].pid.is_some() && again[0].instance == died[0].instance, "{again:?}");
        scene.turn_until("dead again", |shown| shown.iter().any(|process| process.deaths == 2));
    }

    #[test]
    fn who_does_not_heed_is_killed() {
        let mut scene = scene("exec sleep 1000", 1);
        scene.decide(1);
        scene.turn_until("there", |shown| shown.len() == 1);
        scene.decide(0);
        let shown =
            scene.turn_until("stopping", |shown| shown.iter().all(|process| process.state == "stopping"));
        assert_eq!(shown.len(), 1, "it does not read its standard input");
        scene.clock.advance(Duration::from_secs(30));
        scene.turn_until("gone", <[Process]>::is_empty);
    }

    #[test]
    fn the_end_of_the_fleet_is_the_end_of_all() {
        let mut scene = scene("cat", 1);
        scene.decide(3);
        scene.turn_until("three", |shown| shown.len() == 3);
        let (stop, board) = (Stop::default(), scene.board.clone());
        stop.set();
        scene.fleet.run(&stop);
        assert!(board.read()[FUNCTION].processes.is_empty());
    }
}
