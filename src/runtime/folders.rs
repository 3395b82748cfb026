//! Hears that something was written in a folder, once it is over: for `dev`, which builds what was saved, and for
//! `run --watch`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::Context as _;
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Saving is over when nothing was written for so long: editors write in several steps.
const QUIET: Duration = Duration::from_millis(200);

/// Watches until it is dropped.
pub struct Folders {
    _watcher: RecommendedWatcher,
}

/// What happened to a path last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// Its content or its name is new.
    Written,
    /// It was removed.
    Removed,
}

impl Folders {
    /// Watches folders, those that are marked with everything below them. `hears` is told what was touched, and
    /// ends the watch when it answers `false`.
    pub fn watch(
        folders: &BTreeSet<(PathBuf, bool)>,
        mut hears: impl FnMut(&BTreeMap<PathBuf, Touch>) -> bool + Send + 'static,
    ) -> anyhow::Result<Self> {
        let (sender, events) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(sender).context("cannot watch files")?;
        for (folder, is_deep) in folders {
            let mode = if *is_deep { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            match watcher.watch(folder, mode) {
                // A crate whose sources lie elsewhere.
                Err(_) if *is_deep && !folder.exists() => {}
                watched => watched.with_context(|| format!("cannot watch {}", folder.display()))?,
            }
        }
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            // Whoever looks at a file that was touched touches nothing by it.
            let mut is_wanted = |touched: BTreeMap<_, _>| touched.is_empty() || hears(&touched);
            while next_touches(&events).is_some_and(&mut is_wanted) {}
        })?;
        Ok(Self { _watcher: watcher })
    }
}

/// The folder that a file is in.
pub fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}

/// What is touched from the next event on until it is quiet; `None`: the watcher is gone.
fn next_touches(events: &Receiver<notify::Result<Event>>) -> Option<BTreeMap<PathBuf, Touch>> {
    let mut touched = BTreeMap::new();
    let mut next = Some(events.recv().ok()?);
    while let Some(event) = next {
        if let Ok(event) = event
            && let Some(touch) = touch(event.kind)
        {
            touched.extend(event.paths.into_iter().map(|path| (path, touch)));
        }
        next = events.recv_timeout(QUIET).ok();
    }
    Some(touched)
}

fn touch(kind: EventKind) -> Option<Touch> {
    match kind {
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Other => None,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) => Some(Touch::Written),
        EventKind::Remove(_) => Some(Touch::Removed),
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{AccessKind, CreateKind, MetadataKind, RemoveKind, RenameMode};

    use super::*;

    #[test]
    fn reading_is_no_touch() {
        let touches = [
            (EventKind::Access(AccessKind::Read), None),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::AccessTime)), None),
            (EventKind::Create(CreateKind::File), Some(Touch::Written)),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), Some(Touch::Written)),
            (EventKind::Remove(RemoveKind::File), Some(Touch::Removed)),
        ];
        for (kind, expected) in touches {
            assert_eq!(touch(kind), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_write_is_heard_once_it_is_over_and_a_look_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("function.yaml");
        std::fs::write(&file, "a: 1").unwrap();
        let (sender, heard) = mpsc::channel();
        let folders = BTreeSet::from([(folder.path().to_owned(), false)]);
        let hears = move |touched: &BTreeMap<PathBuf, Touch>| sender.send(touched.clone()).is_ok();
        let _folders = Folders::watch(&folders, hears).unwrap();
        std::fs::read(&file).unwrap();
        std::fs::read_dir(folder.path()).unwrap().for_each(drop);
        assert!(heard.recv_timeout(QUIET * 3).is_err(), "nobody wrote");
        std::fs::write(&file, "a:").unwrap();
        std::fs::write(&file, "a: 2").unwrap();
        let touched = heard.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(touched, BTreeMap::from([(file, Touch::Written)]));
    }
}
