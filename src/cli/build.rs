//! `tidemill build`: makes plugins from their crates and puts them beside their manifests.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{Global, Output};
use crate::manifest;
use crate::model::{Function, HandlerSpec};
use crate::plugin::{Plugin, Profile, build_crate};

/// Build the plugins of functions that name their `crate:`, and put them where their manifests look for them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidemill build functions/echo\n\n\
    A plugin that is in use may be built again: running workers keep the version that they loaded.\n\n\
    Exit codes: 0 built, 1 failed, 2 an invalid manifest.")]
pub struct Build {
    /// Manifests, or folders of them
    #[arg(value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,
    /// Without optimisations: builds faster, runs slower
    #[arg(long)]
    dev: bool,
}

impl Build {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let functions = manifest::load(&self.files)?;
        let profile = if self.dev { Profile::Dev } else { Profile::Release };
        let mut built: Vec<(&HandlerSpec, Plugin)> = Vec::new();
        for function in &functions {
            let Some((handler, crate_dir)) = of_crate(function) else { continue };
            if !built.iter().any(|(known, _)| known.plugin == handler.plugin) {
                if global.output == Output::Text {
                    eprintln!("building {}", crate_dir.display());
                }
                build_crate(crate_dir, &handler.plugin, profile)?;
                built.push((handler, look_at(handler)?));
            }
            let plugin = built.iter().find(|(known, _)| known.plugin == handler.plugin);
            if let Some((_, plugin)) = plugin {
                plugin.entry(handler.entry.as_deref())?;
                warn_of_digest(function, handler, plugin);
            }
        }
        if built.is_empty() {
            bail!("nothing to build: no function here has a handler with `crate:`");
        }
        report(global, &built);
        Ok(ExitCode::SUCCESS)
    }
}

/// The handler and crate of a function that has both.
fn of_crate(function: &Function) -> Option<(&HandlerSpec, &PathBuf)> {
    let handler = function.handler.as_ref()?;
    Some((handler, handler.crate_dir.as_ref()?))
}

/// Loads what was built: a plugin that cannot be loaded shows here, not in production.
fn look_at(handler: &HandlerSpec) -> anyhow::Result<Plugin> {
    // The copy may go when it is loaded: the mapping keeps it.
    let private = tempfile::tempdir().context("cannot make a temporary folder")?;
    Ok(Plugin::load(&handler.plugin, None, private.path())?)
}

fn warn_of_digest(function: &Function, handler: &HandlerSpec, plugin: &Plugin) {
    if handler.sha256.as_deref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(plugin.sha256())) {
        eprintln!(
            "warning: {}: `sha256:` of {} is of another build: change it to {}",
            function.file.display(),
            function.name,
            plugin.sha256()
        );
    }
}

fn report(global: &Global, built: &[(&HandlerSpec, Plugin)]) {
    match global.output {
        Output::Text => {
            for (handler, plugin) in built {
                let handlers: Vec<_> = plugin.handlers().collect();
                println!("{}", handler.plugin.display());
                println!("  handlers  {}", handlers.join(", "));
                println!("  sha256    {}", plugin.sha256());
            }
        }
        Output::Json => {
            let plugins = built.iter().map(|(handler, plugin)| {
                json!({
                    "plugin": handler.plugin,
                    "handlers": plugin.handlers().collect::<Vec<_>>(),
                    "sha256": plugin.sha256(),
                })
            });
            println!("{}", json!({ "plugins": plugins.collect::<Vec<Value>>() }));
        }
    }
}
