//! Notices when an author saves: sources of a plugin's crate, manifests, plugins that are built elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use super::Signal;
use crate::model::Function;
use crate::runtime::{Folders, Touch, folder_of};

/// What was saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Something that a plugin is made of, or a plugin.
    pub plugin: bool,
    /// A manifest.
    pub manifest: bool,
}

/// Watches until it is dropped.
pub struct Watch {
    _folders: Folders,
}

impl Watch {
    /// Watches what these functions are made of.
    pub fn start<'a>(
        functions: impl Iterator<Item = &'a Function>,
        signals: SyncSender<Signal>,
    ) -> anyhow::Result<Self> {
        let mut plugins = BTreeSet::new();
        let mut folders = BTreeSet::new();
        for function in functions {
            folders.extend(folder_of(&function.file).map(|folder| (folder, false)));
            let Some(spec) = &function.handler else { continue };
            match &spec.crate_dir {
                Some(crate_dir) => {
                    folders.insert((crate_dir.clone(), false));
                    folders.insert((crate_dir.join("src"), true));
                }
                None => {
                    folders.extend(folder_of(&spec.plugin).map(|folder| (folder, false)));
                    plugins.extend(spec.plugin.file_name().map(PathBuf::from));
                }
            }
        }
        let folders = Folders::watch(&folders, move |touched| {
            let saved = saved(touched, &plugins);
            saved == Saved::default() || signals.send(Signal::Saved(saved)).is_ok()
        })?;
        Ok(Self { _folders: folders })
    }
}

/// A file that is gone was not saved.
fn saved(touched: &BTreeMap<PathBuf, Touch>, plugins: &BTreeSet<PathBuf>) -> Saved {
    let mut saved = Saved::default();
    let written = touched.iter().filter(|(_, touch)| **touch == Touch::Written);
    written.for_each(|(path, _)| note(path, plugins, &mut saved));
    saved
}

/// What cargo and the build write, and what editors keep beside a file, is none of these.
fn note(path: &Path, plugins: &BTreeSet<PathBuf>, saved: &mut Saved) {
    let name = path.file_name().map(Path::new).unwrap_or(path);
    if name.to_string_lossy().starts_with('.') {
        return;
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("yaml" | "yml") => saved.manifest = true,
        Some("rs" | "toml" | "c" | "h" | "proto") => saved.plugin = true,
        _ if plugins.contains(name) => saved.plugin = true,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_manifests_and_foreign_plugins_count_and_nothing_else() {
        let plugins = BTreeSet::from([PathBuf::from("libecho.so")]);
        for (path, plugin, manifest) in [
            ("/f/src/lib.rs", true, false),
            ("/f/Cargo.toml", true, false),
            ("/f/function.yaml", false, true),
            ("/f/libecho.so", true, false),
            ("/f/libother.so", false, false),
            ("/f/sample.jsonl", false, false),
            ("/f/Cargo.lock", false, false),
            ("/f/src/.lib.rs.swp", false, false),
            ("/f/src/.#lib.rs", false, false),
            ("/f/src/lib.rs~", false, false),
        ] {
            let mut saved = Saved::default();
            note(Path::new(path), &plugins, &mut saved);
            assert_eq!(saved, Saved { plugin, manifest }, "{path}");
        }
    }
}
