//! Assembly: builds a function's parts, prepares its topics and start offsets, starts its workers,
//! restarts those that can be helped, drains and stops.

pub mod admin;
#[cfg(test)]
mod deploy;
mod function;
mod handlers;
mod instance;
mod prepare;
mod signal;
mod stop;
mod watch;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use function::Tapper;
pub use handlers::Handlers;
pub use instance::{Instance, InstanceError};
pub use prepare::PrepareError;
pub use signal::watch_signals;
pub use stop::Stop;

use crate::kafka::Cluster;
use crate::model::{Clock, Function};
use crate::observe::{Exposition, Status};
use crate::plugin::Notes;
use function::Runner;

/// What all functions of a process share.
#[derive(Clone)]
pub struct Shared {
    /// The brokers.
    pub cluster: Cluster,
    /// Which process this is, stable over restarts.
    pub instance: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where numbers are published.
    pub exposition: Exposition,
    /// Where states are reported.
    pub status: Status,
    /// Where calls are noted, so that one that ends the process is found out; `None`: they are not.
    pub notes: Option<Arc<Notes>>,
    /// Topics are made, start offsets committed: on every broker but the embedded one, which cannot.
    pub can_prepare: bool,
}

/// The functions of a process, running.
pub struct Runtime {
    stop: Stop,
    threads: Vec<(String, JoinHandle<anyhow::Result<()>>)>,
}

impl Runtime {
    /// Starts every function on threads of its own. Nothing here waits for a broker.
    pub fn start(
        functions: Vec<(Arc<Function>, Handlers)>,
        shared: &Shared,
        stop: &Stop,
        tapper: Option<&Tapper>,
    ) -> anyhow::Result<Self> {
        let mut threads = Vec::new();
        for (function, handlers) in functions {
            let name = function.name.to_string();
            let runner = Runner::new(function, handlers, shared.clone(), stop.clone(), tapper.cloned());
            let thread =
                std::thread::Builder::new().name(format!("fn {name}")).spawn(move || runner.run())?;
            threads.push((name, thread));
        }
        Ok(Self { stop: stop.clone(), threads })
    }

    /// Waits until every function has ended: because it was told to stop, or because of an error that
    /// only a person can mend. One function's error does not stop the others; the first is returned.
    pub fn wait(self) -> anyhow::Result<()> {
        let mut result = Ok(());
        for (name, thread) in self.threads {
            let ended = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("its thread panicked")));
            if let Err(error) = ended {
                let error = error.context(format!("function {name} stopped"));
                tracing::error!("{error:#}");
                if result.is_ok() {
                    result = Err(error);
                }
            }
        }
        result
    }

    /// All functions have ended.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(|(_, thread)| thread.is_finished())
    }

    /// Asks every function to finish.
    pub fn stop(&self) {
        self.stop.set();
    }
}

/// How long the runtime waits between two looks at something that is missing.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(500);
