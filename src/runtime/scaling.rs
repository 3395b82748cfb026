//! How many workers functions have in this process while they are awake: sampled and decided once a second, by one thread
//! for all functions.
//!
//! Of several processes that run a function one decides: that whose workers have the first partition. It reckons with the
//! workers that others have, and has the rest itself; each of the others has one worker while the function is awake, so
//! that whoever decides may go at any time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::autoscale::Board;
use super::crew::Crew;
use super::decided::Numbers;
use super::overrides::Overrides;
use crate::kafka::{Admin, AdminError, Cluster};
use crate::model::{Clock, Function};
use crate::observe::Exposition;
use crate::scale::{Decider, Inputs, Policy, Sample, Sampler, Target};
use crate::worker::ClientId;

/// From one decision to the next.
const DECIDE_EVERY: Duration = Duration::from_secs(1);

/// How often the members of groups are counted.
const COUNT_EVERY: Duration = Duration::from_secs(3);

/// How long the first partition may be elsewhere before another process decides.
const AWAY_FOR: Duration = Duration::from_secs(15);

/// How long the brokers have for an answer.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// Decides for the functions of a process. Its thread begins with the first one. Clones share it.
#[derive(Clone)]
pub struct Scaling {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    /// How the client ids of this process's workers begin.
    own: String,
    exposition: Exposition,
    board: Board,
    overrides: Overrides,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    next_id: u64,
    is_running: bool,
}

/// One function that is awake.
#[derive(Clone)]
struct Entry {
    id: u64,
    function: Arc<Function>,
    crew: Crew,
}

/// What the thread knows of one, from sample to sample.
struct Known {
    decider: Decider,
    last: Option<(Duration, Sample)>,
    /// Members of its group that are not this process's, and when they were counted.
    others: Option<(u32, Duration)>,
    said: u32,
    /// Since when none of its workers here has the first partition.
    away_since: Option<Duration>,
    numbers: Numbers,
    /// Keeps its place on the board.
    _place: Place,
}

/// A function's place on the board, which it leaves when nothing is decided here any more.
struct Place {
    board: Board,
    function: String,
}

impl Place {
    fn new(board: &Board, function: &Function) -> Self {
        Self { board: board.clone(), function: function.name.to_string() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.board.forget(&self.function);
    }
}

/// Decided for until it is dropped.
pub struct Registration {
    scaling: Scaling,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.scaling.inner.entries().list.retain(|entry| entry.id != self.id);
    }
}

impl Inner {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scaling {
    /// For the process of this name.
    pub fn new(cluster: &Cluster, clock: &Arc<dyn Clock>, instance: &str, exposition: &Exposition) -> Self {
        let inner = Inner {
            cluster: cluster.clone(),
            clock: Arc::clone(clock),
            own: ClientId::prefix(instance),
            exposition: exposition.clone(),
            board: Board::new([]),
            overrides: Overrides::new(clock),
            entries: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What was decided last of the functions that are decided here now.
    pub fn board(&self) -> &Board {
        &self.inner.board
    }

    /// What a person fixed instead.
    pub fn overrides(&self) -> &Overrides {
        &self.inner.overrides
    }

    /// Decides for a function that is awake, until what is returned is dropped.
    pub fn register(&self, function: &Arc<Function>, crew: &Crew) -> std::io::Result<Registration> {
        let mut entries = self.inner.entries();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.list.push(Entry { id, function: Arc::clone(function), crew: crew.clone() });
        if !std::mem::replace(&mut entries.is_running, true) {
            let inner = Arc::clone(&self.inner);
            std::thread::Builder::new().name("scale".to_owned()).spawn(move || run(&inner))?;
        }
        Ok(Registration { scaling: self.clone(), id })
    }
}

fn run(inner: &Inner) {
    let mut sampler = Sampler::new(&inner.cluster, ASK_WITHIN);
    let mut known: BTreeMap<u64, Known> = BTreeMap::new();
    let mut admin = None;
    let mut trouble = None;
    loop {
        std::thread::park_timeout(DECIDE_EVERY);
        // Copied, so that nobody waits for this thread.
        let entries = {
            let mut entries = inner.entries();
            if entries.list.is_empty() {
                entries.is_running = false;
                break;
            }
            entries.list.clone()
        };
        known.retain(|id, _| entries.iter().any(|entry| entry.id == *id));
        let result = round(inner, &mut sampler, (&entries, &mut known), &mut admin);
        // The same trouble is said once.
        match result.err().map(|error| error.to_string()) {
            Some(error) if trouble.as_ref() == Some(&error) => {}
            Some(error) => {
                tracing::warn!("the number of workers stays as it is: {error}");
                trouble = Some(error);
            }
            None => trouble = None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ScalingError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Sample(#[from] crate::scale::Error),
}

fn round(
    inner: &Inner,
    sampler: &mut Sampler,
    (entries, known): (&[Entry], &mut BTreeMap<u64, Known>),
    admin: &mut Option<Admin>,
) -> Result<(), ScalingError> {
    let now = inner.clock.now().elapsed;
    for Entry { id, crew, .. } in entries {
        let Some(known_of) = known.get_mut(id) else { continue };
        known_of.away_since = (!crew.decides()).then(|| known_of.away_since.unwrap_or(now));
        // While partitions change hands the first one is nobody's for a moment, and comes back to another worker here.
        if known_of.away_since.is_some_and(|since| now.saturating_sub(since) >= AWAY_FOR) {
            known.remove(id);
            crew.want(1);
        }
    }
    let entries: Vec<_> = entries.iter().filter(|entry| entry.crew.decides()).collect();
    if entries.is_empty() {
        return Ok(());
    }
    for Entry { id, function, crew } in &entries {
        known.entry(*id).or_insert_with(|| Known {
            decider: Decider::new(function.scale, Policy::default()),
            last: None,
            others: None,
            said: crew.wanted().unwrap_or(function.workers),
            away_since: None,
            numbers: Numbers::new(&function.name.to_string(), &inner.exposition),
            _place: Place::new(&inner.board, function),
        });
    }
    let client = match admin.take() {
        Some(client) => client,
        None => Admin::new(&inner.cluster)?.within(ASK_WITHIN),
    };
    // What went wrong may be that the client knows the cluster as it was.
    *admin = count_others(inner, &client, (&entries, known))?.then_some(client);
    let targets: Vec<Target> = entries.iter().map(|entry| Target::of(&entry.function)).collect();
    let samples = sampler.sample(&targets)?;
    for (Entry { id, function, crew }, sample) in entries.into_iter().zip(samples) {
        let Some(known) = known.get_mut(id) else { continue };
        let name = function.name.to_string();
        let sample = match sample {
            Ok(sample) => sample,
            Err(error) => {
                known.numbers.failed();
                inner.board.put(&name, |standing| standing.problem = Some(error.to_string()));
                continue;
            }
        };
        let now = inner.clock.now();
        let Some((others, _)) = known.others else { continue };
        if let Some((at, last)) = &known.last {
            let apart = now.elapsed.saturating_sub(*at);
            let wall_ms = u64::try_from(now.wall_ms).unwrap_or(0);
            let workers = others + crew.running();
            let inputs = Inputs::between([last, &sample], apart, workers, wall_ms);
            let mut decision = known.decider.decide(now.elapsed, &inputs);
            let fixed = inner.overrides.of(&name);
            if let Some(fixed) = fixed {
                let left = Duration::from_millis(fixed.left_ms);
                decision = known.decider.fix(decision, fixed.workers, left);
            }
            known.numbers.decided(&decision, &inputs);
            inner.board.admit(&name);
            inner.board.put(&name, |standing| standing.decide(now.elapsed, &decision, &inputs, fixed));
            // Whether none is needed is seen by the workers themselves.
            let own = decision.workers.saturating_sub(others).max(1);
            if own != known.said {
                tracing::info!(
                    function = %function.name,
                    from = known.said,
                    to = own,
                    others,
                    backlog = inputs.backlog(),
                    "workers: {}",
                    decision.reason
                );
                known.said = own;
            }
            crew.want(own);
        }
        known.last = Some((now.elapsed, sample));
    }
    Ok(())
}

/// Counts the members of groups that are not this process's, where that was not done for a while. All are asked at once; of
/// one that cannot be had the last count holds. `false`: there was such a one.
fn count_others(
    inner: &Inner,
    admin: &Admin,
    (entries, known): (&[&Entry], &mut BTreeMap<u64, Known>),
) -> Result<bool, AdminError> {
    let now = inner.clock.now().elapsed;
    let is_old = |entry: &&&Entry| {
        let counted = known.get(&entry.id).and_then(|known| known.others);
        counted.is_none_or(|(_, at)| now.saturating_sub(at) >= COUNT_EVERY)
    };
    let asked: Vec<&Entry> = entries.iter().filter(is_old).copied().collect();
    let groups: Vec<&str> = asked.iter().map(|entry| entry.function.group.as_str()).collect();
    let found = admin.groups(&groups)?;
    let is_well = found.iter().all(Result::is_ok);
    for (entry, group) in asked.iter().zip(found) {
        let (Ok(group), Some(known)) = (group, known.get_mut(&entry.id)) else { continue };
        let others = group.members.iter().filter(|member| !member.client_id.starts_with(&inner.own));
        known.others = Some((u32::try_from(others.count()).unwrap_or(u32::MAX), now));
    }
    Ok(is_well)
}
