//! Keeps a process's functions as the manifests on disk say, while it runs: new ones start, changed ones take their
//! new handler between two cuts or begin anew, those that are gone finish and leave. Others do not notice.
//!
//! What is broken is not taken up: the function goes on as it was, and why stands in the log, once a change, and in
//! `/functions` until it is mended.

mod change;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

use change::{Change, Taken, Wanted, change};
use look::{Eye, Look};

use super::{Folders, Handlers, Runtime, Stop, folder_of};
use crate::manifest::{self, Survey};
use crate::model::{Function, FunctionName};
use crate::observe::{Problems, Status};
use crate::plugin::Registry;

/// Files are looked at this often though nothing was heard of them: network file systems tell nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The longest wait between two looks whether the process stops.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// Two looks so far apart must be alike, or somebody is still writing.
const QUIET: Duration = Duration::from_millis(300);
/// After so many looks that differ, what is there is taken as it is: one file that never rests holds up no other.
const RESTLESS: u32 = 20;

/// A process's functions and the manifests that they follow.
pub struct Follow {
    paths: Vec<PathBuf>,
    state_dir: PathBuf,
    runtime: Runtime,
    status: Status,
    taken: BTreeMap<FunctionName, (Arc<Function>, Handlers)>,
    /// Those of functions that are taken up, and of those that could not be.
    plugins: BTreeSet<PathBuf>,
    eye: Eye,
    /// What was acted upon last.
    seen: Look,
    folders: BTreeSet<(PathBuf, bool)>,
    hears: Option<Folders>,
    sender: SyncSender<()>,
    hints: Receiver<()>,
}

impl Follow {
    /// Follows the manifests at `paths`, of which `functions` were made.
    pub fn new(
        paths: Vec<PathBuf>,
        state_dir: PathBuf,
        runtime: Runtime,
        status: Status,
        functions: &[(Arc<Function>, Handlers)],
    ) -> Self {
        // One hint says all.
        let (sender, hints) = mpsc::sync_channel(1);
        let taken = functions.iter().map(|taken| (taken.0.name.clone(), taken.clone())).collect();
        let plugins = functions.iter().filter_map(|(function, _)| plugin_of(function)).collect();
        Self {
            paths,
            state_dir,
            runtime,
            status,
            taken,
            plugins,
            eye: Eye::default(),
            // Nothing: what was written while the functions started is found by the first look.
            seen: Look::new(),
            folders: BTreeSet::new(),
            hears: None,
            sender,
            hints,
        }
    }

    /// Until told to stop.
    pub fn run(mut self, stop: &Stop) {
        while !stop.is_set() {
            self.listen();
            let look = self.look();
            if look != self.seen
                && let Some(look) = self.settle(look, stop)
            {
                self.take_up();
                self.seen = look;
            }
            self.wait(stop);
        }
    }

    fn look(&mut self) -> Look {
        self.eye.look(&self.paths, &self.plugins)
    }

    /// Waits until files are as they were a moment ago. `None`: told to stop.
    fn settle(&mut self, mut look: Look, stop: &Stop) -> Option<Look> {
        for _ in 0..RESTLESS {
            if stop.wait(QUIET) {
                return None;
            }
            let again = self.look();
            if again == look {
                break;
            }
            look = again;
        }
        Some(look)
    }

    /// Until something is heard, or it is time to look.
    fn wait(&self, stop: &Stop) {
        let mut waited = Duration::ZERO;
        while waited < LOOK_EVERY && !stop.is_set() && self.hints.recv_timeout(STOP_LOOK).is_err() {
            waited += STOP_LOOK;
        }
    }

    /// Hears of writes where manifests and plugins are. Without that, regular looks have to do.
    fn listen(&mut self) {
        let plugins = self.plugins.iter().filter_map(|plugin| folder_of(plugin));
        let below = self.paths.iter().flat_map(|path| folders_in(path));
        let folders = below.chain(plugins).filter(|folder| folder.is_dir());
        let folders: BTreeSet<_> = folders.map(|folder| (folder, false)).collect();
        if folders == self.folders {
            return;
        }
        let sender = self.sender.clone();
        // A full channel holds a hint already.
        let heard = Folders::watch(&folders, move |_| {
            !matches!(sender.try_send(()), Err(mpsc::TrySendError::Disconnected(())))
        });
        self.hears = heard
            .map_err(|error| {
                tracing::warn!("manifests are looked at every {LOOK_EVERY:?} only: {error:#}");
            })
            .ok();
        self.folders = folders;
    }

    /// Brings the functions to what the manifests say.
    fn take_up(&mut self) {
        let Survey { functions, faults } = manifest::survey(&self.paths);
        let mut problems = Problems::default();
        let mut unknown = BTreeSet::new();
        for fault in &faults {
            let concerned = self.taken.values().filter(|(function, _)| fault.concerns(function));
            let concerned: Vec<_> = concerned.map(|(function, _)| function.name.clone()).collect();
            if concerned.is_empty() {
                problems.others.insert(fault.errors.to_string());
            }
            for name in concerned {
                add(&mut problems, &name, &fault.errors.to_string());
                unknown.insert(name);
            }
        }
        let wanted: BTreeMap<_, _> =
            functions.into_iter().map(|function| (function.name.clone(), Arc::new(function))).collect();
        let names: BTreeSet<_> = self.taken.keys().chain(wanted.keys()).cloned().collect();
        for name in names {
            let wanted = wanted.get(&name);
            let brought = self
                .check_group(wanted, &unknown)
                .and_then(|()| self.bring(&name, wanted, !unknown.contains(&name)));
            if let Err(error) = brought {
                let place = wanted.map(|function| function.file.display().to_string());
                let error = format!("{}: {error:#}", place.unwrap_or_default());
                if self.taken.contains_key(&name) {
                    add(&mut problems, &name, &error);
                } else {
                    problems.others.insert(error);
                }
            }
        }
        let functions = self.taken.values().map(|(function, _)| function).chain(wanted.values());
        self.plugins = functions.filter_map(|function| plugin_of(function)).collect();
        self.tell(problems);
    }

    /// Beside valid manifests a group was checked already; a function whose manifest is broken goes on in its own.
    fn check_group(
        &self,
        wanted: Option<&Arc<Function>>,
        unknown: &BTreeSet<FunctionName>,
    ) -> anyhow::Result<()> {
        let Some(wanted) = wanted else { return Ok(()) };
        let others = unknown.iter().filter(|name| **name != wanted.name);
        let mut others = others.filter_map(|name| self.taken.get(name));
        match others.find(|(other, _)| other.group == wanted.group) {
            Some((other, _)) => anyhow::bail!(
                "the group {:?} is that of {}, whose manifest is broken and which goes on",
                wanted.group,
                other.name
            ),
            None => Ok(()),
        }
    }

    /// Brings one function to what its manifest says.
    fn bring(
        &mut self,
        name: &FunctionName,
        wanted: Option<&Arc<Function>>,
        is_known: bool,
    ) -> anyhow::Result<()> {
        let before = self.taken.get(name).cloned();
        let loaded = before.as_ref().and_then(|(_, handlers)| handlers.info());
        let plugin = wanted.and_then(|wanted| self.eye.digest(&plugin_of(wanted)?).ok());
        let change = change(
            before.as_ref().map(|(function, _)| Taken {
                function,
                plugin: loaded.as_ref().map(|loaded| loaded.digest.as_str()),
                has_failed: self.runtime.has_failed(&name.to_string()),
            }),
            wanted.map(|function| Wanted { function, plugin: plugin.as_deref() }),
            is_known,
        );
        let function = name.to_string();
        match (change, wanted, before) {
            (Change::Start | Change::Restart, Some(wanted), _) => {
                // A registry of its own: workers of the old manifest must not take this handler.
                let handlers = Handlers::load(wanted, &Arc::new(Registry::default()), &self.state_dir)?;
                let why = if change == Change::Start { "new" } else { "changed" };
                tracing::info!(function, file = %wanted.file.display(), "{why} manifest is taken up");
                self.runtime.put(Arc::clone(wanted), handlers.clone())?;
                self.taken.insert(name.clone(), (Arc::clone(wanted), handlers));
            }
            (Change::Swap, Some(wanted), Some((_, handlers))) => {
                handlers.replace(wanted)?;
                self.runtime.adopt(Arc::clone(wanted));
                self.taken.insert(name.clone(), (Arc::clone(wanted), handlers));
            }
            (Change::Keep, Some(wanted), Some((_, handlers))) => {
                self.taken.insert(name.clone(), (Arc::clone(wanted), handlers));
            }
            (Change::Remove, _, _) => {
                tracing::info!(function, "its manifest is gone: function leaves");
                self.runtime.remove(&function);
                self.taken.remove(name);
            }
            _ => {}
        }
        Ok(())
    }

    /// Shows what is not taken up, and logs what was not so before.
    fn tell(&self, problems: Problems) {
        let before = self.status.set_problems(problems.clone());
        for (function, problem) in &problems.of_functions {
            if before.of_functions.get(function) != Some(problem) {
                tracing::warn!(function, "not taken up, the function goes on as it was: {problem}");
            }
        }
        for problem in problems.others.difference(&before.others) {
            tracing::warn!("not taken up: {problem}");
        }
        for function in before.of_functions.keys() {
            if !problems.of_functions.contains_key(function) {
                tracing::info!(function, "mended: what the manifests say is taken up");
            }
        }
    }
}

fn plugin_of(function: &Function) -> Option<PathBuf> {
    function.handler.as_ref().map(|handler| handler.plugin.clone())
}

fn add(problems: &mut Problems, name: &FunctionName, problem: &str) {
    let text = problems.of_functions.entry(name.to_string()).or_default();
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(problem);
}

/// The folders whose entries say which manifests there are: that of a file, or a folder and those in it.
fn folders_in(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return folder_of(path).into_iter().collect();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let shown = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let folders = shown.map(|entry| entry.path()).filter(|entry| entry.is_dir());
    folders.chain([path.to_owned()]).collect()
}
