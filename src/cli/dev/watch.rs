//! Notices when an author saves: sources of a plugin's crate, manifests, plugins that are built elsewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use anyhow::Context as _;
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Signal;
use crate::model::Function;

/// Saving is over when nothing was written for so long: editors write in several steps.
const QUIET: Duration = Duration::from_millis(200);

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
    _watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches what these functions are made of.
    pub fn start<'a>(
        functions: impl Iterator<Item = &'a Function>,
        signals: SyncSender<Signal>,
    ) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(sender).context("cannot watch files")?;
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
        for (folder, is_deep) in &folders {
            let mode = if *is_deep { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            match watcher.watch(folder, mode) {
                // A crate whose sources lie elsewhere.
                Err(_) if *is_deep && !folder.exists() => {}
                watched => watched.with_context(|| format!("cannot watch {}", folder.display()))?,
            }
        }
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || report(&events, &plugins, &signals))?;
        Ok(Self { _watcher: watcher })
    }
}

fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}

/// Tells of what was saved, once it is quiet; ends with the watcher.
fn report(
    events: &Receiver<notify::Result<Event>>,
    plugins: &BTreeSet<PathBuf>,
    signals: &SyncSender<Signal>,
) {
    while let Ok(first) = events.recv() {
        let mut saved = Saved::default();
        let mut next = Some(first);
        while let Some(event) = next {
            if let Ok(event) = event
                && is_write(event.kind)
            {
                event.paths.iter().for_each(|path| note(path, plugins, &mut saved));
            }
            next = events.recv_timeout(QUIET).ok();
        }
        if saved != Saved::default() && signals.send(Signal::Saved(saved)).is_err() {
            return;
        }
    }
}

fn is_write(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) => true,
        EventKind::Remove(_) | EventKind::Other => false,
    }
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
