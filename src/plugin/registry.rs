//! Which plugin a function runs now: shared by the workers, who look at a number at each cut, and by
//! whoever brings a new version.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use super::Plugin;
use crate::model::FunctionName;

/// The plugin of every function that has one.
#[derive(Debug, Default)]
pub struct Registry {
    plugins: DashMap<FunctionName, Slot>,
}

#[derive(Debug)]
struct Slot {
    generation: Arc<AtomicU64>,
    plugin: Arc<Plugin>,
}

/// What a function runs.
#[derive(Debug, Clone)]
pub struct Current {
    /// Which version: 1 for the first, one more for each that took over.
    pub generation: u64,
    /// The function's generation as it will be: while it reads [`Current::generation`], this is still the current
    /// one. A worker reads it at each cut and asks the registry again only when it moved.
    pub latest: Arc<AtomicU64>,
    /// The plugin.
    pub plugin: Arc<Plugin>,
}

impl Current {
    /// A newer version waits in the registry.
    pub fn is_outdated(&self) -> bool {
        self.latest.load(Ordering::Acquire) != self.generation
    }
}

impl Registry {
    /// Makes `plugin` the one that `function` runs from now on; workers take it up at their next cut.
    /// Returns its generation.
    pub fn put(&self, function: &FunctionName, plugin: Arc<Plugin>) -> u64 {
        let mut slot = self
            .plugins
            .entry(function.clone())
            .or_insert_with(|| Slot { generation: Arc::new(AtomicU64::new(0)), plugin: Arc::clone(&plugin) });
        slot.plugin = plugin;
        // The entry is locked, so generation and plugin move together for whoever asks.
        slot.generation.fetch_add(1, Ordering::Release) + 1
    }

    /// What `function` runs now.
    pub fn get(&self, function: &FunctionName) -> Option<Current> {
        let slot = self.plugins.get(function)?;
        Some(Current {
            generation: slot.generation.load(Ordering::Acquire),
            latest: Arc::clone(&slot.generation),
            plugin: Arc::clone(&slot.plugin),
        })
    }

    /// Forgets `function`; its workers keep what they run.
    pub fn remove(&self, function: &FunctionName) {
        self.plugins.remove(function);
    }
}
