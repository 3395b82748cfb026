//! The functions at work: the same runtime as that of `run`, with an ear in it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::Context as _;

use super::Signal;
use super::tap::{Ending, tapper};
use crate::kafka::Cluster;
use crate::manifest::Platform;
use crate::model::{Clock, Function, ProtocolChoice, SystemClock};
use crate::observe::{self, State};
use crate::plugin::Registry;
use crate::runtime::{Handlers, Instance, Protocols, Runtime, Shared, Stop, Tapper};

/// Runs functions, other ones after a manifest was changed.
pub struct Engine {
    shared: Shared,
    registry: Arc<Registry>,
    state_dir: PathBuf,
    tapper: Tapper,
    ending: Ending,
    running: Option<Running>,
    /// Holds the id that the workers' producers have.
    _instance: Instance,
}

struct Running {
    stop: Stop,
    runtime: Runtime,
    functions: Vec<(Arc<Function>, Handlers)>,
}

impl Engine {
    /// Nothing runs yet.
    pub fn new(
        platform: &Platform,
        cluster: Cluster,
        can_prepare: bool,
        signals: SyncSender<Signal>,
    ) -> anyhow::Result<Self> {
        let instance = match &platform.instance {
            Some(id) => Instance::configured(id),
            None => Instance::of_state_dir(&platform.state_dir)?,
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let ending = Ending::default();
        let exposition = observe::install().context("metrics")?;
        // The embedded broker has no other.
        let choice = if can_prepare { platform.group_protocol } else { ProtocolChoice::Classic };
        let protocols = Protocols::new(choice);
        let shared =
            Shared { can_prepare, protocols, ..Shared::new(cluster, instance.id(), clock, exposition) };
        Ok(Self {
            shared,
            registry: Arc::new(Registry::default()),
            state_dir: platform.state_dir.clone(),
            tapper: tapper(signals, ending.clone()),
            ending,
            running: None,
            _instance: instance,
        })
    }

    /// Time.
    pub fn clock(&self) -> &dyn Clock {
        self.shared.clock.as_ref()
    }

    /// Loads the plugins of functions; an error leaves everything as it is.
    pub fn load(&self, functions: Vec<Function>) -> anyhow::Result<Vec<(Arc<Function>, Handlers)>> {
        let load = |function| {
            let function = Arc::new(function);
            let handlers = Handlers::load(&function, &self.registry, &self.state_dir)?;
            Ok((function, handlers))
        };
        functions.into_iter().map(load).collect()
    }

    /// Starts functions; none may run.
    pub fn start(&mut self, functions: Vec<(Arc<Function>, Handlers)>) -> anyhow::Result<()> {
        let stop = Stop::default();
        let runtime = Runtime::start(functions.clone(), &self.shared, &stop, Some(&self.tapper))?;
        self.running = Some(Running { stop, runtime, functions });
        Ok(())
    }

    /// The functions that run.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<Function>> {
        self.running.iter().flat_map(|running| running.functions.iter().map(|(function, _)| function))
    }

    /// Loads the plugins again; their functions take them over before the next event.
    pub fn reload(&self) -> anyhow::Result<()> {
        let handlers = self.running.iter().flat_map(|running| &running.functions);
        handlers.map(|(_, handlers)| handlers).try_for_each(Handlers::reload)
    }

    /// Asks the functions to finish.
    pub fn stop(&self) {
        if let Some(running) = &self.running {
            running.stop.set();
        }
    }

    /// Nothing more will come: windows close and timers fire whatever time it is.
    pub fn end(&self) {
        self.ending.begin();
    }

    /// That was done, everywhere; `None`: nobody has said that it shall be.
    pub fn has_ended(&self) -> Option<bool> {
        self.ending.has_begun().then(|| self.ending.open() == 0)
    }

    /// No function runs any more.
    pub fn is_finished(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.runtime.is_finished())
    }

    /// Once they have finished: takes them away, and says why they ended if nobody asked them to.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        for (function, _) in &running.functions {
            self.shared.status.remove(&function.name.to_string());
        }
        running.runtime.wait()
    }

    /// What the functions wait for before they can take events, one line each.
    pub fn waits_for(&self) -> Vec<String> {
        self.shared.status.unreadiness()
    }

    /// Functions that stopped though nobody asked them to, with the reason.
    pub fn stopped(&self) -> Vec<(String, String)> {
        let stopped =
            self.shared.status.functions().into_iter().filter_map(|function| match function.state {
                State::Stopped { reason } => Some((function.name, reason)),
                _ => None,
            });
        stopped.collect()
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock().now().elapsed
    }
}
