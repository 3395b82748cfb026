//! The handler of a function, as its workers get it: an instance each, and a newer one when the plugin
//! was replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::manifest;
use crate::model::{Function, HandlerSpec};
use crate::observe::HandlerInfo;
use crate::pipeline::Handler;
use crate::plugin::{Current, Instance, Notes, Plugin, Registry};

/// Where a function's handlers come from. Clones share the plugin.
#[derive(Clone)]
pub struct Handlers {
    function: Arc<Function>,
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
            function: Arc::clone(function),
            registry: Arc::clone(registry),
            private_dir: state_dir.join("plugins"),
        };
        handlers.reload()?;
        Ok(handlers)
    }

    /// Loads the plugin's file again; workers take it over between two cuts. On an error the old one stays.
    pub fn reload(&self) -> anyhow::Result<()> {
        let Some(spec) = &self.function.handler else {
            return Ok(());
        };
        let plugin = Plugin::load(&spec.plugin, spec.sha256.as_deref(), &self.private_dir)?;
        self.instance(&plugin, spec)?;
        self.registry.put(&self.function.name, Arc::new(plugin));
        Ok(())
    }

    /// What is called now.
    pub fn info(&self) -> Option<HandlerInfo> {
        let spec = self.function.handler.as_ref()?;
        let current = self.registry.get(&self.function.name)?;
        let entry = current.plugin.entry(spec.entry.as_deref()).ok()?.to_owned();
        Some(HandlerInfo { digest: current.plugin.sha256().to_owned(), entry })
    }

    /// An instance of what is called now, whose calls are noted in `notes`; `None`: the function has no handler.
    pub fn handler(&self, notes: Option<&Arc<Notes>>) -> anyhow::Result<Option<Box<dyn Handler>>> {
        let (Some(spec), Some(current)) = (&self.function.handler, self.registry.get(&self.function.name))
        else {
            return Ok(None);
        };
        let slot = notes.and_then(|notes| notes.slot(&self.function.name.to_string()));
        Ok(Some(Box::new(self.instance(&current.plugin, spec)?.noted_in(slot))))
    }

    pub(super) fn for_worker(&self, notes: Option<Arc<Notes>>) -> WorkerHandlers {
        WorkerHandlers { handlers: self.clone(), notes, current: None }
    }

    fn instance(&self, plugin: &Plugin, spec: &HandlerSpec) -> anyhow::Result<Instance> {
        let config = manifest::resolve_config(&spec.config).context("a secret in spec.handler.config")?;
        Ok(plugin.instance(&self.function.name, spec.entry.as_deref(), &config)?)
    }
}

impl WorkerHandlers {
    /// The instance to begin with.
    pub(super) fn first(&mut self) -> anyhow::Result<Option<Box<dyn Handler>>> {
        self.current = self.handlers.registry.get(&self.handlers.function.name);
        self.another()
    }

    /// One more instance.
    pub(super) fn another(&self) -> anyhow::Result<Option<Box<dyn Handler>>> {
        self.handlers.handler(self.notes.as_ref())
    }

    /// So many newer ones, if the plugin was replaced since; one load of an atomic if not.
    pub(super) fn newer(&mut self, count: usize) -> Option<(Vec<Box<dyn Handler>>, HandlerInfo)> {
        if !self.current.as_ref()?.is_outdated() {
            return None;
        }
        self.current = self.handlers.registry.get(&self.handlers.function.name);
        let handlers: anyhow::Result<Option<Vec<_>>> = (0..count).map(|_| self.another()).collect();
        match handlers {
            Ok(handlers) => Some((handlers?, self.handlers.info()?)),
            Err(error) => {
                tracing::error!("the newer handler cannot be made, the old one stays: {error:#}");
                None
            }
        }
    }
}
