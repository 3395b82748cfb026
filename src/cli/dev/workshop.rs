//! Builds the plugins of functions that name their crate.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::model::Function;
use crate::plugin::{BuildError, Profile, build_crate};

/// What is to be built: crates with the plugins that they make.
#[derive(Debug, Clone, Default)]
pub struct Workshop {
    crates: BTreeSet<(PathBuf, PathBuf)>,
}

impl Workshop {
    /// The crates of these functions.
    pub fn new<'a>(functions: impl Iterator<Item = &'a Function>) -> Self {
        let specs = functions.filter_map(|function| function.handler.as_ref());
        let crates = specs.filter_map(|spec| Some((spec.crate_dir.clone()?, spec.plugin.clone())));
        Self { crates: crates.collect() }
    }

    /// Builds all. Cargo tells on standard error what it does and what is wrong.
    ///
    /// In the profile that this program was built in: a crate in the same workspace then finds most of
    /// what it needs built already.
    pub fn build(&self) -> Result<(), BuildError> {
        let profile = if cfg!(debug_assertions) { Profile::Dev } else { Profile::Release };
        self.crates.iter().try_for_each(|(crate_dir, plugin)| build_crate(crate_dir, plugin, profile))
    }
}
