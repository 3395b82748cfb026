//! One function of a process: prepared, then run by its workers, each a thread of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use anyhow::Context as _;

use super::crew::{Balance, Haste, Word};
use super::decided::{self, Tier};
use super::doorbell::{Bell, Ring};
use super::handlers::Handlers;
use super::prepare::{self, Prepared};
use super::protocol::Choice;
use super::seat::{Control, Job};
use super::watch::watch;
use super::{Shared, Stop};
use crate::kafka::{self, Admin, MessageLimits, message_limits};
use crate::model::{Class, Dice, Function, GroupProtocol, Guarantee};
use crate::observe::{FunctionInfo, FunctionReport, State};
use crate::pipeline::{Handler, Pipeline, Sampler};
use crate::worker::{Config, Parts, Stopped, Supervision, Tap, Worker};

/// Makes a tap for each worker, in `dev`.
pub type Tapper = Arc<dyn Fn(&Function) -> Box<dyn Tap> + Send + Sync>;

/// The pause before a worker that failed for a passing reason is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// From one look at how many workers there should be to the next.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The same where the number is always the same.
const JOIN_EVERY: Duration = Duration::from_millis(200);

/// Runs one function.
pub(super) struct Runner {
    function: Arc<Function>,
    handlers: Handlers,
    shared: Shared,
    control: Control,
    tapper: Option<Tapper>,
    on_hang: OnHung,
    /// By which its last worker joined.
    protocol: Mutex<Option<Choice>>,
    haste: Haste,
    /// Set once it is prepared.
    begun: Option<Begun>,
}

/// What is known of a function once it is prepared.
struct Begun {
    report: FunctionReport,
    prepared: Prepared,
    /// By which it sleeps.
    bell: Option<Bell>,
}

/// How a run ends.
pub(super) enum Ended {
    /// It was told to stop.
    Stopped,
    /// It sleeps: it is to run again when its bell is set.
    Asleep(Box<Runner>, Bell),
}

/// Told, with the reason, when a call does not come back.
pub(super) type OnHung = Box<dyn Fn(String) + Send + Sync>;

impl Runner {
    pub(super) fn new(job: Job, control: Control, shared: Shared, tapper: Option<Tapper>) -> Self {
        Self {
            function: job.function,
            handlers: job.handlers,
            shared,
            control,
            tapper,
            on_hang: Box::new(|_| {}),
            protocol: Mutex::default(),
            haste: Haste::default(),
            begun: None,
        }
    }

    /// Tells `on_hang` when a call does not come back.
    pub(super) fn on_hang(self, on_hang: OnHung) -> Self {
        Self { on_hang, ..self }
    }

    /// Prepares and runs until told to stop, until it may sleep, or until a worker cannot be helped. Who sleeps has no
    /// thread.
    pub(super) fn run(mut self) -> anyhow::Result<Ended> {
        let span = tracing::info_span!("function", function = %self.function.name);
        let _entered = span.enter();
        let begun = match self.begun.take() {
            Some(begun) => Some(begun),
            None => self.begin()?,
        };
        let Some(Begun { report, prepared, bell }) = begun else { return Ok(Ended::Stopped) };
        let mut woken_at = None;
        if let Some(bell) = bell {
            self.wake(&bell, &report);
            if self.control.stop.is_set() {
                return Ok(Ended::Stopped);
            }
            woken_at = Some(self.shared.clock.now().elapsed);
        }
        let may_sleep = std::thread::scope(|scope| {
            let done = Stop::default();
            let (watched, clock) = (done.clone(), Arc::clone(&self.shared.clock));
            let (told, longest_call, on_hang) = (&report, self.longest_call(), &self.on_hang);
            scope.spawn(move || watch(told, (clock.as_ref(), longest_call), on_hang, &watched));
            let result = self.run_workers(scope, (&report, prepared), woken_at);
            done.set();
            result
        })?;
        if !may_sleep {
            return Ok(Ended::Stopped);
        }
        let bell = self.sleep(&report)?;
        self.begun = Some(Begun { report, prepared, bell: Some(bell.clone()) });
        Ok(Ended::Asleep(Box::new(self), bell))
    }

    /// `None`: told to stop.
    fn begin(&self) -> anyhow::Result<Option<Begun>> {
        let report = self.register();
        // Without a look at the cluster nobody knows; the embedded broker would invent the topic.
        let mut prepared = Prepared::unseen(&self.function);
        if self.shared.can_prepare {
            match prepare::prepare(&self.function, &self.shared, &self.control.stop, &report)? {
                Some(seen) => prepared = seen,
                None => return Ok(None),
            }
        }
        report.set_state(State::Running);
        Ok(Some(Begun { report, prepared, bell: None }))
    }

    fn register(&self) -> FunctionReport {
        let report = self.shared.status.register(FunctionInfo {
            name: self.function.name.to_string(),
            group: self.function.group.clone(),
            guarantee: match self.function.delivery.guarantee {
                Guarantee::ExactlyOnce => "exactlyOnce",
                Guarantee::AtLeastOnce => "atLeastOnce",
            },
            // What rightly holds a worker up: a call, a flush, a commit that waits for brokers.
            stuck_after: self.longest_call() * 2 + Duration::from_secs(90),
        });
        if let Some(info) = self.handlers.info() {
            report.set_handler(info);
        }
        report
    }

    fn longest_call(&self) -> Duration {
        self.function.handler.as_ref().map_or(Duration::ZERO, |handler| handler.timeout)
    }

    /// Until the last worker has ended, with the first error of one; whether it is because none is needed.
    fn run_workers<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        (report, prepared): (&'scope FunctionReport, Prepared),
        mut woken_at: Option<Duration>,
    ) -> anyhow::Result<bool> {
        let mut hands: Vec<Hand<'scope>> = Vec::new();
        let mut result = Ok(());
        let mut registration = None;
        let mut balance = Balance::default();
        loop {
            if registration.is_none() && self.is_decided_for() {
                let scaling = &self.shared.scaling;
                registration = Some(scaling.register(&self.function, &self.control.crew)?);
            }
            if self.is_fixed_at(0) {
                // A person wants none.
                self.control.crew.falls_asleep();
                woken_at = None;
                registration = None;
                result = result.and(dismiss(&mut hands));
                if result.is_err() || self.control.stop.is_set() {
                    break;
                }
                self.rest(report);
                continue;
            }
            let wanted = self.wanted();
            while (hands.len() as u32) < wanted && !self.control.stop.is_set() {
                hands.push(self.hire(scope, hands.len() as u32, (report, prepared))?);
            }
            let leaving = hands.iter().skip(wanted as usize);
            leaving.for_each(|hand| hand.stop.set());
            // The last ones leave first: a slot is free again before it is taken anew.
            while hands.last().is_some_and(|hand| hand.thread.is_finished()) {
                result = result.and(hands.pop().map_or(Ok(()), Hand::end));
            }
            let now = self.shared.clock.now().elapsed;
            self.haste.set(balance.look(hands.iter().map(|hand| hand.word.partitions()), now));
            let has_first = hands.iter().any(|hand| hand.word.has_first());
            self.control.crew.runs(hands.len(), has_first);
            let has_partitions = hands.iter().any(|hand| hand.word.partitions() > 0);
            if let Some(since) = woken_at.take_if(|_| has_partitions) {
                let time = now.saturating_sub(since);
                let function = self.function.name.to_string();
                decided::woke(&self.shared.exposition, &function, Tier::Zero, time);
            }
            if hands.iter().any(|hand| hand.thread.is_finished()) {
                break;
            }
            if result.is_err() || self.control.stop.is_set() {
                break;
            }
            if self.may_sleep(&hands) {
                self.control.crew.falls_asleep();
                let result = result.and(dismiss(&mut hands));
                return result.map(|()| !self.control.stop.is_set());
            }
            self.control.stop.wait(if self.function.is_scaled { LOOK_EVERY } else { JOIN_EVERY });
        }
        if result.is_err() || hands.iter().any(|hand| hand.thread.is_finished()) {
            // One cannot be helped: the others finish.
            hands.iter().for_each(|hand| hand.stop.set());
        }
        for hand in hands {
            result = result.and(hand.end());
        }
        result.map(|()| false)
    }

    /// Somebody is to say how many workers there should be. One is enough where more are not allowed, unless a person wants them.
    fn is_decided_for(&self) -> bool {
        let may_change = || self.function.scale.max != Some(1) || self.fixed().is_some();
        self.function.is_scaled && self.shared.can_prepare && may_change()
    }

    /// How many workers a person wants.
    fn fixed(&self) -> Option<u32> {
        let fixed = self.shared.scaling.overrides().of(&self.function.name.to_string())?;
        Some(fixed.workers)
    }

    fn is_fixed_at(&self, workers: u32) -> bool {
        self.function.is_scaled && self.fixed() == Some(workers)
    }

    /// How many workers there should be now.
    fn wanted(&self) -> u32 {
        match self.function.is_scaled {
            true => self.control.crew.wanted().unwrap_or(self.function.workers),
            false => self.function.workers,
        }
    }

    fn hire<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        slot: u32,
        (report, prepared): (&'scope FunctionReport, Prepared),
    ) -> anyhow::Result<Hand<'scope>> {
        let (stop, word) = (self.control.stop.child(), Word::default());
        let told = (stop.clone(), word.clone());
        let thread = std::thread::Builder::new()
            .name(format!("{}#{slot}", self.function.name.name))
            .spawn_scoped(scope, move || self.keep_running(slot, (report, prepared), &told))
            .context("cannot start a worker's thread")?;
        Ok(Hand { thread, stop, word })
    }

    /// Nothing has come for so long that no worker is needed.
    fn may_sleep(&self, hands: &[Hand<'_>]) -> bool {
        let scale = &self.function.scale;
        let may = self.function.is_scaled && scale.min == 0 && self.shared.can_prepare;
        let now = self.shared.clock.now().elapsed;
        let is_quiet = |hand: &Hand<'_>| {
            hand.word.idle_since().is_some_and(|since| now.saturating_sub(since) >= scale.zero_after)
        };
        let may = may && !self.control.is_paused() && self.fixed().is_none();
        may && !hands.is_empty() && hands.iter().all(is_quiet)
    }

    /// Has its topics watched; the bell is set when it is to run again, or to stop.
    fn sleep(&self, report: &FunctionReport) -> anyhow::Result<Bell> {
        let bell = Bell::new(self.control.stop.child());
        self.control.crew.sleeps(Some(bell.clone()));
        report.set_state(State::Asleep);
        tracing::info!("falls asleep: nothing has come for {:?}", self.function.scale.zero_after);
        self.shared.doorbell.watch(&self.function, &bell).context("cannot watch its topics")?;
        Ok(bell)
    }

    fn wake(&self, bell: &Bell, report: &FunctionReport) {
        self.control.crew.sleeps(None);
        self.control.crew.want(1);
        if !self.control.stop.is_set() {
            let why = bell.why().map_or("request", Ring::as_str);
            tracing::info!(why, "wakes");
            report.set_state(State::Running);
        }
    }

    /// Until a person's 0 is over, or it is told to stop. Who asks for the function to be woken ends it.
    fn rest(&self, report: &FunctionReport) {
        let bell = Bell::new(self.control.stop.child());
        self.control.crew.sleeps(Some(bell.clone()));
        self.control.crew.runs(0, false);
        report.set_state(State::Asleep);
        tracing::info!("rests: a person wants no worker");
        while self.is_fixed_at(0) {
            if !bell.stop.wait(LOOK_EVERY * 4) {
                continue;
            }
            if self.control.stop.is_set() {
                break;
            }
            self.shared.scaling.overrides().lift_zero(&self.function.name.to_string());
        }
        self.control.crew.sleeps(None);
        self.control.crew.want(1);
        if !self.control.stop.is_set() {
            tracing::info!("has workers again");
            report.set_state(State::Running);
        }
    }

    /// Starts the worker again after what passes: a client that failed for good is made anew.
    fn keep_running(
        &self,
        slot: u32,
        (report, prepared): (&FunctionReport, Prepared),
        told: &(Stop, Word),
    ) -> anyhow::Result<()> {
        let span = crate::observe::log::worker_span(&self.function.name.to_string(), slot);
        let _entered = span.enter();
        loop {
            match self.run_worker(slot, (report, prepared), told) {
                Ok(()) => return Ok(()),
                Err(error) => match error.downcast_ref::<Stopped>() {
                    Some(
                        refusal @ (Stopped::Kafka(kafka::Error::NoProtocol(_)) | Stopped::NotAdmitted { .. }),
                    ) if self.shared.protocols.may_change() => {
                        self.change_protocol(refusal);
                        told.1.say(None, false, 0);
                        if told.0.is_set() {
                            return Ok(());
                        }
                    }
                    Some(Stopped::Kafka(cause)) if cause.class() != Class::Fatal => {
                        tracing::warn!("worker starts again: {cause}");
                        told.1.say(None, false, 0);
                        if told.0.wait(RESTART_AFTER) {
                            return Ok(());
                        }
                    }
                    Some(hangs @ Stopped::Hangs { .. }) => {
                        (self.on_hang)(hangs.to_string());
                        return Err(error);
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// The protocol for a worker that joins now; said when it is another than for the last one.
    fn protocol(&self) -> GroupProtocol {
        let choice = self.shared.protocols.of(&self.function, &self.shared.cluster);
        let mut last = self.protocol.lock().unwrap_or_else(PoisonError::into_inner);
        if last.replace(choice) != Some(choice) {
            let Choice { protocol, why } = choice;
            let hint = match protocol {
                GroupProtocol::Classic => {
                    "; an empty group begins after the brokers' group.initial.rebalance.delay.ms"
                }
                GroupProtocol::Consumer => "",
            };
            tracing::info!(protocol = protocol.as_str(), why, "joins its group{hint}");
        }
        choice.protocol
    }

    /// A worker was not taken by the protocol that it tried.
    fn change_protocol(&self, refusal: &Stopped) {
        let protocols = &self.shared.protocols;
        if matches!(refusal, Stopped::Kafka(_)) {
            tracing::info!("{refusal}");
            return protocols.is_missing();
        }
        let group = Admin::new(&self.shared.cluster).and_then(|admin| admin.group(&self.function.group));
        match group {
            Ok(group) => {
                let keeps = group.protocol == Some(GroupProtocol::Classic) && !group.members.is_empty();
                tracing::warn!(state = group.state, members = group.members.len(), "{refusal}");
                protocols.keeps_classic(&self.function.group, keeps);
            }
            Err(error) => tracing::warn!("{refusal}: {error}"),
        }
    }

    /// What the sinks and the dead-letter topic take.
    fn limits(&self) -> MessageLimits {
        let sinks = self.function.sinks.iter().map(|sink| &sink.topic);
        let topics: Vec<String> = sinks.chain([&self.function.delivery.dead_letter_topic]).cloned().collect();
        message_limits(&self.shared.cluster, &topics)
    }

    fn run_worker(
        &self,
        slot: u32,
        (report, prepared): (&FunctionReport, Prepared),
        (stop, word): &(Stop, Word),
    ) -> anyhow::Result<()> {
        let config = Config {
            function: Arc::clone(&self.function),
            cluster: self.shared.cluster.clone(),
            protocol: self.protocol(),
            may_change_protocol: self.shared.protocols.may_change(),
            instance: self.shared.instance.clone(),
            slot,
            admin: self.shared.admin.get().copied(),
            redrive_partitions: prepared.redrive_partitions,
            stitch_partitions: prepared.stitch_partitions,
            limits: self.shared.can_prepare.then(|| self.limits()),
            exposition: self.shared.exposition.clone(),
            rate: self.shared.limits.rate.clone(),
            spans: self.shared.tracing.as_ref().map(|tracing| tracing.spans.clone()),
            notes: self.shared.notes.clone(),
            clock: Arc::clone(&self.shared.clock),
        };
        let mut handlers = self.handlers.for_worker(self.shared.notes.clone());
        let sampler = || {
            let ratio = self.shared.tracing.as_ref()?.ratio;
            Some(Sampler::new(ratio, Arc::clone(&self.shared.clock), Dice::random()))
        };
        let pipeline = |handler| Pipeline::new(Arc::clone(&self.function), handler).with_sampler(sampler());
        let concurrency = self.function.handler.as_ref().map_or(1, |handler| handler.concurrency as usize);
        // One for the worker's own thread, and one for each of its handler threads, if it has any.
        let count = if concurrency > 1 { 1 + concurrency } else { 1 };
        let mut instances = handlers.first(count)?.unwrap_or_default();
        if let Some(info) = self.handlers.info() {
            report.set_handler(info);
        }
        let first = pipeline(instances.pop());
        let hands = instances.into_iter().map(|handler| pipeline(Some(handler))).collect();
        let parts = Parts {
            pipeline: first,
            hands,
            supervision: Box::new(Supervisor {
                control: self.control.clone(),
                stop: stop.clone(),
                word: word.clone(),
                haste: self.haste.clone(),
                handlers,
                report: report.clone(),
            }),
            report: report.worker(slot, self.shared.clock.now().elapsed),
            tap: self.tapper.as_ref().map(|tapper| tapper(&self.function)),
        };
        if let Some(worker) = Worker::start(config, parts)? {
            worker.run()?;
        }
        Ok(())
    }
}

/// Lets all workers leave; the first error of one.
fn dismiss(hands: &mut Vec<Hand<'_>>) -> anyhow::Result<()> {
    hands.iter().for_each(|hand| hand.stop.set());
    let mut result = Ok(());
    // All of them are waited for, whatever one says.
    for hand in hands.drain(..) {
        result = result.and(hand.end());
    }
    result
}

/// A worker's thread, and how it is told to leave.
struct Hand<'scope> {
    thread: std::thread::ScopedJoinHandle<'scope, anyhow::Result<()>>,
    stop: Stop,
    word: Word,
}

impl Hand<'_> {
    fn end(self) -> anyhow::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker's thread panicked")))
    }
}

struct Supervisor {
    control: Control,
    /// This worker's, set with the function's.
    stop: Stop,
    word: Word,
    haste: Haste,
    handlers: super::handlers::WorkerHandlers,
    report: FunctionReport,
}

impl Supervision for Supervisor {
    fn is_stopping(&self) -> bool {
        self.stop.is_set()
    }

    fn is_draining(&self) -> bool {
        self.control.is_draining()
    }

    fn is_paused(&self) -> bool {
        self.control.is_paused()
    }

    fn pause(&self, time: Duration) -> bool {
        self.stop.wait(time)
    }

    fn say(&self, idle_since: Option<Duration>, has_first: bool, partitions: usize) {
        self.word.say(idle_since, has_first, partitions);
    }

    fn is_in_haste(&self) -> bool {
        self.haste.is_on()
    }

    fn handlers_again(&mut self, count: usize) -> Result<Option<Vec<Box<dyn Handler>>>, String> {
        self.handlers.first(count).map_err(|error| format!("{error:#}"))
    }

    fn newer_handlers(&mut self, count: usize) -> Option<Vec<Box<dyn Handler>>> {
        let (handlers, info) = self.handlers.newer(count)?;
        tracing::info!(digest = info.digest, entry = info.entry, "handler replaced");
        self.report.set_handler(info);
        Some(handlers)
    }
}
