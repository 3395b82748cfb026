//! Assembly: builds a function's parts, prepares its topics and start offsets, starts its workers,
//! restarts those that can be helped, drains and stops.

pub mod admin;
pub mod autoscale;
mod crew;
mod decided;
#[cfg(test)]
mod deploy;
mod doorbell;
mod folders;
mod follow;
mod function;
mod handlers;
mod instance;
pub mod overrides;
#[cfg(feature = "tls")]
mod pem;
mod prepare;
mod protocol;
mod scaling;
mod seat;
mod signal;
mod stop;
pub mod telemetry;
#[cfg(feature = "tls")]
pub mod tls;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use doorbell::Bell;
pub use doorbell::Doorbell;
pub use folders::{Folders, Touch, folder_of};
pub use follow::Follow;
pub use function::Tapper;
pub use handlers::Handlers;
pub use instance::{Instance, InstanceError};
pub use prepare::{EMBEDDED_PARTITIONS, PrepareError, make_redrive_topic};
pub use protocol::{Choice, Protocols};
pub use scaling::Scaling;
pub use signal::{watch_signals, watch_stdin};
pub use stop::Stop;

use crate::kafka::Cluster;
use crate::model::{Clock, Function, OnHang};
use crate::observe::trace::Tracing;
use crate::observe::{Exposition, State, Status};
use crate::plugin::Notes;
use crate::worker::{AdminAddress, ProcessRate};
use function::{Ended, Runner};
use seat::{Control, Job, Next, Seat};

/// What all functions of a process share.
#[derive(Clone)]
pub struct Shared {
    /// The brokers.
    pub cluster: Cluster,
    /// Which process this is, stable over restarts.
    pub instance: String,
    /// Where its admin listener is, once that is known; workers that begin before do not tell of it.
    pub admin: Arc<OnceLock<AdminAddress>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where numbers are published.
    pub exposition: Exposition,
    /// Where states are reported.
    pub status: Status,
    /// What becomes of traces; `None`: there are none.
    pub tracing: Option<Tracing>,
    /// What they may take up together.
    pub limits: Limits,
    /// Where calls are noted, so that one that ends the process is found out; `None`: they are not.
    pub notes: Option<Arc<Notes>>,
    /// Topics are made, start offsets committed: on every broker but the embedded one, which cannot.
    pub can_prepare: bool,
    /// How workers join their groups.
    pub protocols: Protocols,
    /// Watches for functions that sleep.
    pub doorbell: Doorbell,
    /// Decides how many workers those have that are awake.
    pub scaling: Scaling,
}

impl Shared {
    /// Of a process that exports no traces, bounds and notes nothing, and prepares topics.
    pub fn new(cluster: Cluster, instance: &str, clock: Arc<dyn Clock>, exposition: Exposition) -> Self {
        Self {
            doorbell: Doorbell::new(&cluster, &clock, &exposition),
            scaling: Scaling::new(&cluster, &clock, instance, &exposition),
            cluster,
            instance: instance.to_owned(),
            admin: Arc::default(),
            clock,
            exposition,
            status: Status::default(),
            tracing: None,
            limits: Limits::default(),
            notes: None,
            can_prepare: true,
            protocols: Protocols::default(),
        }
    }
}

/// What all functions of a process may take up together; `None`: that is not bounded.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// The sum of their workers' `limits.memory`, in bytes.
    pub memory: Option<u64>,
    /// Calls.
    pub rate: Option<ProcessRate>,
}

/// The functions of a process: each with a stop of its own, and a thread while it is awake. Clones share them.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Shared,
    stop: Stop,
    tapper: Option<Tapper>,
    seats: Mutex<BTreeMap<String, Seat>>,
    /// Rung when a function has ended.
    ended: Condvar,
    /// Takes functions that wake.
    wakes: Mutex<Option<Sender<(String, Go)>>>,
}

/// What a function's thread begins with.
enum Go {
    /// A run.
    New(Job, Control),
    /// One that has slept.
    On(Box<Runner>, Control),
}

/// What a person can ask of one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Finish what is begun, cut, call nothing more; stay in the group.
    Pause,
    /// Go on, after a pause, a drain or an error.
    Resume,
    /// Finish what has been read, cut, leave the group.
    Drain,
    /// Start a worker, if it sleeps.
    Wake,
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such function.
    #[error("no function {name} runs in this process; it has {}", list(.known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// Nothing that could rest.
    #[error("{name} has stopped: there is nothing to pause; `resume` starts it")]
    Stopped {
        /// The function.
        name: String,
    },
    /// The functions that are there leave too little memory.
    #[error(
        "{name} asks for {asked} MiB (limits.memory times its workers), and of the process's {limit} MiB the others leave \
         {left} MiB: give the process more (`spec.limits.memory` in tidemill.yaml), or the functions less"
    )]
    Memory {
        /// The function.
        name: String,
        /// What it asks for, in MiB.
        asked: u64,
        /// What the process has.
        limit: u64,
        /// What the others leave.
        left: u64,
    },
    /// The system gives no thread.
    #[error("cannot start {name}'s thread: {cause}")]
    Thread {
        /// The function.
        name: String,
        /// The system's words.
        cause: io::Error,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Between two looks whether the process stops, for whoever waits for a function's end.
const STOP_LOOK: Duration = Duration::from_millis(100);

impl Runtime {
    /// No function yet. All of them stop with `stop`.
    pub fn new(shared: &Shared, stop: &Stop, tapper: Option<&Tapper>) -> Self {
        let inner = Inner {
            shared: shared.clone(),
            stop: stop.clone(),
            tapper: tapper.cloned(),
            seats: Mutex::default(),
            ended: Condvar::default(),
            wakes: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Which process this is.
    pub fn instance(&self) -> &str {
        &self.inner.shared.instance
    }

    /// Starts every function on threads of its own. Nothing here waits for a broker.
    pub fn start(
        functions: Vec<(Arc<Function>, Handlers)>,
        shared: &Shared,
        stop: &Stop,
        tapper: Option<&Tapper>,
    ) -> anyhow::Result<Self> {
        let runtime = Self::new(shared, stop, tapper);
        for (function, handlers) in functions {
            runtime.put(function, handlers)?;
        }
        Ok(runtime)
    }

    /// Starts a function; one of the same name finishes, cuts and leaves its group before. A drained one stays so.
    pub fn put(&self, function: Arc<Function>, handlers: Handlers) -> Result<(), Refused> {
        let name = function.name.to_string();
        let mut seats = self.seats();
        self.check_memory(&seats, &name, &function)?;
        self.inner
            .shared
            .scaling
            .overrides()
            .admit(&function, function.is_scaled && self.inner.shared.can_prepare);
        let job = Job { function, handlers };
        let begins = match seats.get_mut(&name) {
            Some(seat) => seat.put(job),
            None => {
                seats.insert(name.clone(), Seat::new(job, &self.inner.stop));
                true
            }
        };
        self.follow_up(&mut seats, &name, begins)
    }

    fn check_memory(&self, seats: &Seats, name: &str, function: &Function) -> Result<(), Refused> {
        let Some(limit) = self.inner.shared.limits.memory else { return Ok(()) };
        let ask = |function: &Function| function.memory.saturating_mul(u64::from(function.workers));
        let others =
            seats.iter().filter(|(other, _)| *other != name).map(|(_, seat)| ask(seat.function())).sum();
        let (asked, left) = (ask(function), limit.saturating_sub(others));
        if asked <= left {
            return Ok(());
        }
        let mib = |bytes: u64| bytes >> 20;
        Err(Refused::Memory { name: name.to_owned(), asked: mib(asked), limit: mib(limit), left: mib(left) })
    }

    /// From the next run on a function is this one; the present one has its handler already.
    pub(crate) fn adopt(&self, function: Arc<Function>) {
        if let Some(seat) = self.seats().get_mut(&function.name.to_string()) {
            seat.adopt(function);
        }
    }

    /// Takes a function away: it finishes what is begun, cuts, leaves its group.
    pub fn remove(&self, name: &str) {
        self.inner.shared.scaling.overrides().forget(name);
        let mut seats = self.seats();
        let Some(seat) = seats.get_mut(name) else { return };
        if seat.remove() {
            seats.remove(name);
            self.inner.shared.status.remove(name);
        } else {
            self.inner.shared.status.set_state(name, State::Stopping);
        }
    }

    /// Gives an order to one function, and does not wait until it is carried out.
    pub fn tell(&self, name: &str, order: Order) -> Result<(), Refused> {
        let mut seats = self.seats();
        let Some(seat) = seats.get_mut(name) else {
            let known = seats.keys().cloned().collect();
            return Err(Refused::Unknown { name: name.to_owned(), known });
        };
        tracing::info!(function = name, ?order, "order given");
        let begins = match order {
            Order::Pause if !seat.pause() => return Err(Refused::Stopped { name: name.to_owned() }),
            Order::Pause => return Ok(()),
            Order::Drain => {
                seat.drain();
                false
            }
            Order::Resume => seat.resume(),
            Order::Wake => {
                seat.wake();
                // Its workers may be on their way to a person's 0.
                self.inner.shared.scaling.overrides().lift_zero(name);
                false
            }
        };
        self.follow_up(&mut seats, name, begins)
    }

    /// Wakes a function, if it sleeps here.
    pub fn wake(&self, name: &str) {
        if let Some(seat) = self.seats().get(name) {
            seat.wake();
        }
    }

    /// It has stopped though nobody asked it to.
    pub fn has_failed(&self, name: &str) -> bool {
        self.seats().get(name).is_some_and(|seat| seat.error().is_some())
    }

    /// Waits until every function has ended: because it was told to stop, or because of an error that
    /// only a person can mend; while one is drained, which can be resumed, until the process is told to stop.
    /// One function's error does not stop the others; the first is returned.
    pub fn wait(self) -> anyhow::Result<()> {
        let mut seats = self.seats();
        while seats.values().any(Seat::is_running)
            || !self.inner.stop.is_set() && seats.values().any(Seat::is_drained)
        {
            seats = self.await_end(seats);
        }
        let mut errors = seats.iter_mut().filter_map(|(name, seat)| {
            let error = seat.take_error()?;
            Some(error.context(format!("function {name} stopped")))
        });
        errors.next().map_or(Ok(()), Err)
    }

    /// All functions have ended.
    pub fn is_finished(&self) -> bool {
        !self.seats().values().any(Seat::is_running)
    }

    /// Asks every function to finish.
    pub fn stop(&self) {
        self.inner.stop.set();
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.inner.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until a function has ended, or it is time to look whether the process stops.
    fn await_end<'a>(&self, seats: MutexGuard<'a, Seats>) -> MutexGuard<'a, Seats> {
        self.inner.ended.wait_timeout(seats, STOP_LOOK).unwrap_or_else(PoisonError::into_inner).0
    }

    /// After a decision: the run that begins with it, or the end that was asked for.
    fn follow_up(&self, seats: &mut Seats, name: &str, begins: bool) -> Result<(), Refused> {
        let Some(seat) = seats.get_mut(name) else { return Ok(()) };
        if !begins {
            if seat.is_ending() {
                self.inner.shared.status.set_state(name, State::Stopping);
            } else if seat.is_drained() {
                self.inner.shared.status.set_state(name, drained());
            }
            return Ok(());
        }
        self.inner.shared.status.set_state(name, State::Starting);
        let (job, control) = seat.begin();
        self.go(name, Go::New(job, control)).map_err(|cause| {
            seat.ended(Err(anyhow::anyhow!("no thread: {cause}")));
            Refused::Thread { name: name.to_owned(), cause }
        })
    }

    /// A thread for a function.
    fn go(&self, name: &str, go: Go) -> io::Result<()> {
        let (runtime, owned) = (self.clone(), name.to_owned());
        let thread = std::thread::Builder::new().name(format!("fn {name}"));
        thread.spawn(move || runtime.work(&owned, go)).map(drop)
    }

    /// A function's thread: run after run, until nothing more is to come, or it sleeps.
    fn work(&self, name: &str, mut go: Go) {
        loop {
            let (result, control) = match go {
                Go::New(job, control) => (self.run(name, job, control.clone()), control),
                Go::On(runner, control) => (caught(*runner), control),
            };
            if control.is_given_up() {
                return;
            }
            let result = match result {
                Ok(Ended::Asleep(runner, bell)) => {
                    match self.wake_with(&bell, name, Go::On(runner, control)) {
                        Ok(()) => return,
                        Err(error) => Err(error),
                    }
                }
                Ok(Ended::Stopped) => Ok(()),
                Err(error) => Err(error),
            };
            match self.ended(name, result) {
                Some((job, control)) => go = Go::New(job, control),
                None => return,
            }
        }
    }

    /// A thread for it again when the bell is set. One thread starts them all: whoever sets a bell may hold locks.
    fn wake_with(&self, bell: &Bell, name: &str, go: Go) -> anyhow::Result<()> {
        let mut wakes = self.inner.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match &*wakes {
            Some(sender) => sender.clone(),
            None => {
                let (sender, woken) = channel::<(String, Go)>();
                let runtime = self.clone();
                let start = move || {
                    for (name, go) in woken {
                        if let Err(cause) = runtime.go(&name, go) {
                            runtime.ended(&name, Err(anyhow::anyhow!("no thread: {cause}")));
                        }
                    }
                };
                std::thread::Builder::new().name("wakes".to_owned()).spawn(start)?;
                wakes.insert(sender).clone()
            }
        };
        drop(wakes);
        let name = name.to_owned();
        bell.stop.then(move || {
            // The thread lasts as long as the process.
            let _ = sender.send((name, go));
        });
        Ok(())
    }

    fn run(&self, name: &str, job: Job, control: Control) -> anyhow::Result<Ended> {
        if !self.await_group(name, &job.function.group, &control.stop) {
            return Ok(Ended::Stopped);
        }
        let (shared, tapper) = (self.inner.shared.clone(), self.inner.tapper.clone());
        let (runtime, name) = (self.clone(), name.to_owned());
        let (on_hang, told) = (job.function.handler.as_ref().map(|handler| handler.on_hang), control.clone());
        let hung = move |reason: String| runtime.hung(&name, &told, on_hang, &reason);
        caught(Runner::new(job, control, shared, tapper).on_hang(Box::new(hung)))
    }

    /// A function that was renamed and kept its group: the one before leaves it first, or two would share partitions
    /// and transactional ids. `false`: told to stop.
    fn await_group(&self, name: &str, group: &str, stop: &Stop) -> bool {
        let mut seats = self.seats();
        while seats.iter().any(|(other, seat)| other != name && seat.uses(group)) && !stop.is_set() {
            seats = self.await_end(seats);
        }
        !stop.is_set()
    }

    /// A call of a function hangs: its thread cannot be ended, so nobody waits for it any more.
    fn hung(&self, name: &str, control: &Control, on_hang: Option<OnHang>, reason: &str) {
        if control.is_given_up() {
            return;
        }
        control.give_up();
        self.ended(name, Err(anyhow::anyhow!("{reason}")));
        if on_hang != Some(OnHang::Stop) {
            tracing::error!(
                function = name,
                "the process ends when its other functions have finished (handler.onHang)"
            );
            self.inner.stop.set();
        }
    }

    fn ended(&self, name: &str, result: anyhow::Result<()>) -> Option<(Job, Control)> {
        let mut seats = self.seats();
        let seat = seats.get_mut(name)?;
        if let Err(error) = &result {
            tracing::error!("function {name} stopped: {error:#}");
        }
        let next = seat.ended(result);
        let run = match next {
            Next::Again => Some(seat.begin()),
            Next::Rest => {
                let state = match seat.error() {
                    Some(error) => State::Stopped { reason: format!("{error:#}") },
                    None if seat.is_drained() => drained(),
                    None => State::Stopped { reason: "asked to".to_owned() },
                };
                self.inner.shared.status.set_state(name, state);
                None
            }
            Next::Leave => {
                seats.remove(name);
                self.inner.shared.status.remove(name);
                None
            }
        };
        self.inner.ended.notify_all();
        run
    }
}

fn caught(runner: Runner) -> anyhow::Result<Ended> {
    let run = std::panic::AssertUnwindSafe(|| runner.run());
    std::panic::catch_unwind(run).unwrap_or_else(|_| Err(anyhow::anyhow!("its thread panicked")))
}

type Seats = BTreeMap<String, Seat>;

fn drained() -> State {
    State::Stopped { reason: "drained".to_owned() }
}

/// How long the runtime waits between two looks at something that is missing.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
