//! The handler of a function, as its workers get it: an instance each, and a newer one when the plugin
//! or what the manifest says of the handler was replaced.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

use crate::manifest;
use crate::model::{Function, FunctionName, HandlerSpec};
use crate::observe::HandlerInfo;
use crate::pipeline::Handler;
use crate::plugin::{Current, Instance, Notes, Plugin, Registry};

/// Where a function's handlers come from. Clones share the plugin.
#[derive(Clone)]
pub struct Handlers {
    function: FunctionName,
    /// It is called with windows.
    has_window: bool,
    /// What the manifest says; `None`: no handler. Locked while it is replaced or read together with the plugin.
    spec: Arc<Mutex<Option<Arc<HandlerSpec>>>>,
    registry: Arc<Registry>,
    private_dir: PathBuf,
}

/// The same for one worker, which remembers what it was given.
pub(super) struct WorkerHandlers {
    handlers: Handlers,
    notes: Option<Arc<Notes>>,
    current: Option<Current>,
}

impl Handlers {
    /// Loads the plugin of a function, if it has one, and tries it out: a handler whose init fails is
    /// told before any worker starts. Private copies of plugins are kept in `state_dir`.
    pub fn load(
        function: &Arc<Function>,
        registry: &Arc<Registry>,
        state_dir: &Path,
    ) -> anyhow::Result<Self> {
        let handlers = Self {
            function: function.name.clone(),
            has_window: function.has_window(),
            spec: Arc::default(),
            registry: Arc::clone(registry),
            private_dir: state_dir.join("plugins"),
        };
        handlers.replace(function)?;
        Ok(handlers)
    }

    /// Loads the plugin's file again; workers take it over between two cuts. On an error the old one stays.
    pub fn reload(&self) -> anyhow::Result<()> {
        let spec = self.spec().clone();
        spec.map_or(Ok(()), |spec| self.offer(spec))
    }

    /// The same with what `function`, the same one in a newer version, says of its handler.
    pub fn replace(&self, function: &Function) -> anyhow::Result<()> {
        function.handler.clone().map_or(Ok(()), |spec| self.offer(Arc::new(spec)))
    }

    /// What is called now.
    pub fn info(&self) -> Option<HandlerInfo> {
        let (spec, current) = self.current()?;
        let entry = current.plugin.entry(spec.entry.as_deref()).ok()?.to_owned();
        Some(HandlerInfo { digest: current.plugin.sha256().to_owned(), entry })
    }

    /// An instance of what is called now, whose calls are noted in `notes`; `None`: the function has no handler.
    pub fn handler(&self, notes: Option<&Arc<Notes>>) -> anyhow::Result<Option<Box<dyn Handler>>> {
        let Some((spec, current)) = self.current() else { return Ok(None) };
        self.noted(&current.plugin, &spec, notes).map(Some)
    }

    pub(super) fn for_worker(&self, notes: Option<Arc<Notes>>) -> WorkerHandlers {
        WorkerHandlers { handlers: self.clone(), notes, current: None }
    }

    fn offer(&self, spec: Arc<HandlerSpec>) -> anyhow::Result<()> {
        let plugin = Plugin::load(&spec.plugin, spec.sha256.as_deref(), &self.private_dir)?;
        if self.has_window {
            plugin.require_on_window(spec.entry.as_deref())?;
        }
        self.instance(&plugin, &spec)?;
        let mut now = self.spec();
        *now = Some(spec);
        self.registry.put(&self.function, Arc::new(plugin));
        Ok(())
    }

    fn spec(&self) -> MutexGuard<'_, Option<Arc<HandlerSpec>>> {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What belongs together: the manifest's words and the plugin that was tried out with them.
    fn current(&self) -> Option<(Arc<HandlerSpec>, Current)> {
        let spec = self.spec();
        Some((Arc::clone(spec.as_ref()?), self.registry.get(&self.function)?))
    }

    fn instance(&self, plugin: &Plugin, spec: &HandlerSpec) -> anyhow::Result<Instance> {
        let config = manifest::resolve_config(&spec.config).context("a secret in spec.handler.config")?;
        Ok(plugin.instance(&self.function, spec.entry.as_deref(), &config)?)
    }

    fn noted(
        &self,
        plugin: &Plugin,
        spec: &HandlerSpec,
        notes: Option<&Arc<Notes>>,
    ) -> anyhow::Result<Box<dyn Handler>> {
        let slot = notes.and_then(|notes| notes.slot(&self.function.to_string()));
        Ok(Box::new(self.instance(plugin, spec)?.noted_in(slot)))
    }
}

impl WorkerHandlers {
    /// So many instances to begin with, or to begin again with; `None`: the function has no handler.
    pub(super) fn first(&mut self, count: usize) -> anyhow::Result<Option<Vec<Box<dyn Handler>>>> {
        self.take(count)
    }

    /// So many newer ones, if the plugin was replaced since; one load of an atomic if not.
    pub(super) fn newer(&mut self, count: usize) -> Option<(Vec<Box<dyn Handler>>, HandlerInfo)> {
        if !self.current.as_ref()?.is_outdated() {
            return None;
        }
        match self.take(count) {
            Ok(handlers) => Some((handlers?, self.handlers.info()?)),
            Err(error) => {
                tracing::error!("the newer handler cannot be made, the old one stays: {error:#}");
                None
            }
        }
    }

    fn take(&mut self, count: usize) -> anyhow::Result<Option<Vec<Box<dyn Handler>>>> {
        let Some((spec, current)) = self.handlers.current() else {
            return Ok(None);
        };
        let one = |_| self.handlers.noted(&current.plugin, &spec, self.notes.as_ref());
        let instances: anyhow::Result<Vec<_>> = (0..count).map(one).collect();
        self.current = Some(current);
        instances.map(Some)
    }
}
