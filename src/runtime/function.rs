//! One function of a process: prepared, then run by its workers, each a thread of its own.

use std::sync::Arc;
use std::thread::Scope;
use std::time::Duration;

use anyhow::Context as _;

use super::handlers::Handlers;
use super::prepare::{self, Prepared};
use super::seat::{Control, Job};
use super::watch::watch;
use super::{Shared, Stop};
use crate::kafka::{MessageLimits, message_limits};
use crate::model::{Class, Dice, Function, Guarantee};
use crate::observe::{FunctionInfo, FunctionReport, State};
use crate::pipeline::{Handler, Pipeline, Sampler};
use crate::worker::{Config, Parts, Stopped, Supervision, Tap, Worker};

/// Makes a tap for each worker, in `dev`.
pub type Tapper = Arc<dyn Fn(&Function) -> Box<dyn Tap> + Send + Sync>;

/// The pause before a worker that failed for a passing reason is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Runs one function.
pub(super) struct Runner {
    function: Arc<Function>,
    handlers: Handlers,
    shared: Shared,
    control: Control,
    tapper: Option<Tapper>,
    on_hang: OnHung,
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
        }
    }

    /// Tells `on_hang` when a call does not come back.
    pub(super) fn on_hang(self, on_hang: OnHung) -> Self {
        Self { on_hang, ..self }
    }

    /// Prepares and runs until told to stop, or until a worker cannot be helped.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let span = tracing::info_span!("function", function = %self.function.name);
        let _entered = span.enter();
        let report = self.register();
        self.run_reported(&report)
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

    fn run_reported(&self, report: &FunctionReport) -> anyhow::Result<()> {
        let mut prepared = None;
        if self.shared.can_prepare {
            prepared = prepare::prepare(&self.function, &self.shared, &self.control.stop, report)?;
            if prepared.is_none() {
                return Ok(());
            }
        }
        // Without a look at the cluster nobody knows; the embedded broker would invent the topic.
        let prepared = prepared.unwrap_or_else(|| Prepared::unseen(&self.function));
        report.set_state(State::Running);
        std::thread::scope(|scope| {
            let done = Stop::default();
            let (watched, clock) = (done.clone(), Arc::clone(&self.shared.clock));
            scope
                .spawn(move || watch(report, (clock.as_ref(), self.longest_call()), &self.on_hang, &watched));
            let result = self.run_workers(scope, report, prepared);
            done.set();
            result
        })
    }

    /// Until the last worker has ended; the first error of one.
    fn run_workers<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        report: &'scope FunctionReport,
        prepared: Prepared,
    ) -> anyhow::Result<()> {
        let mut workers = Vec::new();
        for slot in 0..self.function.workers {
            let thread = std::thread::Builder::new()
                .name(format!("{}#{slot}", self.function.name.name))
                .spawn_scoped(scope, move || self.keep_running(slot, report, prepared))
                .context("cannot start a worker's thread")?;
            workers.push(thread);
        }
        let mut result = Ok(());
        for worker in workers {
            let ended = worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a worker's thread panicked")));
            result = result.and(ended);
        }
        result
    }

    /// Starts the worker again after what passes: a client that failed for good is made anew.
    fn keep_running(&self, slot: u32, report: &FunctionReport, prepared: Prepared) -> anyhow::Result<()> {
        let span = crate::observe::log::worker_span(&self.function.name.to_string(), slot);
        let _entered = span.enter();
        loop {
            match self.run_worker(slot, report, prepared) {
                Ok(()) => return Ok(()),
                Err(error) => match error.downcast_ref::<Stopped>() {
                    Some(Stopped::Kafka(cause)) if cause.class() != Class::Fatal => {
                        tracing::warn!("worker starts again: {cause}");
                        if self.control.stop.wait(RESTART_AFTER) {
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

    /// What the sinks and the dead-letter topic take.
    fn limits(&self) -> MessageLimits {
        let sinks = self.function.sinks.iter().map(|sink| &sink.topic);
        let topics: Vec<String> = sinks.chain([&self.function.delivery.dead_letter_topic]).cloned().collect();
        message_limits(&self.shared.cluster, &topics)
    }

    fn run_worker(&self, slot: u32, report: &FunctionReport, prepared: Prepared) -> anyhow::Result<()> {
        let config = Config {
            function: Arc::clone(&self.function),
            cluster: self.shared.cluster.clone(),
            instance: self.shared.instance.clone(),
            slot,
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

struct Supervisor {
    control: Control,
    handlers: super::handlers::WorkerHandlers,
    report: FunctionReport,
}

impl Supervision for Supervisor {
    fn is_stopping(&self) -> bool {
        self.control.stop.is_set()
    }

    fn is_draining(&self) -> bool {
        self.control.is_draining()
    }

    fn is_paused(&self) -> bool {
        self.control.is_paused()
    }

    fn pause(&self, time: Duration) -> bool {
        self.control.stop.wait(time)
    }

    fn newer_handlers(&mut self, count: usize) -> Option<Vec<Box<dyn Handler>>> {
        let (handlers, info) = self.handlers.newer(count)?;
        tracing::info!(digest = info.digest, entry = info.entry, "handler replaced");
        self.report.set_handler(info);
        Some(handlers)
    }
}
