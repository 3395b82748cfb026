//! The handler of a function, as its workers get it: an instance each, and a newer one when the plugin
//! was replaced.

use crate::observe::HandlerInfo;
use crate::pipeline::Handler;

/// Where a function's handlers come from.
#[derive(Clone)]
pub struct Handlers {}

/// The same for one worker, which remembers what it was given.
pub(super) struct WorkerHandlers {}

impl Handlers {
    /// Of a function without a handler.
    pub fn none() -> Self {
        Self {}
    }

    /// Loads the plugin of a function.
    pub fn load(_function: &crate::model::Function, _state_dir: &std::path::Path) -> anyhow::Result<Self> {
        Ok(Self::none())
    }

    /// What is called now.
    pub fn info(&self) -> Option<HandlerInfo> {
        None
    }

    pub(super) fn for_worker(&self) -> WorkerHandlers {
        WorkerHandlers {}
    }
}

impl WorkerHandlers {
    /// The instance to begin with.
    pub(super) fn first(&mut self) -> anyhow::Result<Option<Box<dyn Handler>>> {
        Ok(None)
    }

    /// A newer one, if the plugin was replaced since.
    pub(super) fn newer(&mut self) -> Option<(Box<dyn Handler>, HandlerInfo)> {
        None
    }
}
