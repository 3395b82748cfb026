//! The doorbell: watches the topics of all functions that sleep in this process, with one consumer that is in no group.
//!
//! A sleeper is watched from what its group has committed, so nothing is missed that comes while it falls asleep. A record
//! that its filters take rings: the function starts a worker, which reads that record. One that they refuse is counted as
//! filtered and moves the empty group's offset on, so that a function that wants one topic's rare events stays asleep. A
//! timer or a window's end that falls due rings too (`wakeAt` of the commit metadata), and so does the age of the offsets:
//! brokers forget those of a group that had no members for long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Stop;
use crate::kafka::admin::Isolation;
use crate::kafka::{
    Admin, AdminError, Cluster, Commit, Consumer, ConsumerConfig, Error, Fetched, Partition,
    offsets_retention,
};
use crate::model::{Clock, Function, GroupProtocol, Moment, Record};
use crate::observe::Exposition;
use crate::observe::metrics::Id;
use crate::pipeline::{Checkpoint, Intake};
use crate::scale::Target;

/// The longest wait for records: whoever falls asleep is heard between two of them.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often offsets are moved on behind refused records.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// How often it looks whether topics have more partitions.
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// From a failure to the next attempt.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long a group may be empty if the brokers do not say when they forget its offsets: a quarter of their default.
const KEEP_FOR: Duration = Duration::from_secs(42 * 3600);

/// Brokers let a fetch wait for records no shorter and no longer than this.
const FETCH_WAIT_MS: std::ops::RangeInclusive<usize> = 50..=2000;

/// So many partitions of a fetch let it wait for a millisecond longer. librdkafka sends and reads all of them with every
/// fetch, so the fewer they are the more fetches cost the same.
const PARTITIONS_A_MS: usize = 8;

/// How long the clients are kept when nobody sleeps any more: who sleeps is woken, and soon sleeps again.
const KEEP_CLIENTS: Duration = Duration::from_secs(30);

/// How long one answer of the brokers may take.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// Why a function was woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    /// A record came that its filters take.
    Record,
    /// Something falls due.
    Deadline,
    /// The brokers would forget its offsets.
    Offsets,
}

impl Ring {
    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Deadline => "deadline",
            Self::Offsets => "offsets",
        }
    }
}

/// Rung for one function.
#[derive(Clone)]
pub struct Bell {
    /// Set when it rings, or with what it is a part of.
    pub stop: Stop,
    why: Arc<Mutex<Option<Ring>>>,
}

impl Bell {
    /// One that has not rung.
    pub fn new(stop: Stop) -> Self {
        Self { stop, why: Arc::default() }
    }

    fn ring(&self, why: Ring) {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.stop.set();
    }

    /// Why it has rung, if it was the doorbell.
    pub fn why(&self) -> Option<Ring> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The doorbell of a process. Its thread begins with the first sleeper. Clones share it.
#[derive(Clone)]
pub struct Doorbell {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    exposition: Exposition,
    sleepers: Mutex<Option<Sender<Sleeper>>>,
}

/// Who sleeps.
struct Sleeper {
    function: Arc<Function>,
    bell: Bell,
}

impl Doorbell {
    /// For this cluster.
    pub fn new(cluster: &Cluster, clock: &Arc<dyn Clock>, exposition: &Exposition) -> Self {
        let inner = Inner {
            cluster: cluster.clone(),
            clock: Arc::clone(clock),
            exposition: exposition.clone(),
            sleepers: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Watches for a function that has no worker here until its bell has rung, or is set by somebody else.
    pub fn watch(&self, function: &Arc<Function>, bell: &Bell) -> std::io::Result<()> {
        let mut sender = self.inner.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        let sleeper = || Sleeper { function: Arc::clone(function), bell: bell.clone() };
        if sender.as_ref().is_some_and(|sender| sender.send(sleeper()).is_ok()) {
            return Ok(());
        }
        let (fresh, sleepers) = channel();
        let watch = Watch {
            cluster: self.inner.cluster.clone(),
            clock: Arc::clone(&self.inner.clock),
            exposition: self.inner.exposition.clone(),
            watched: Vec::new(),
            positions: BTreeMap::new(),
            keep_for: None,
        };
        std::thread::Builder::new().name("doorbell".to_owned()).spawn(move || watch.run(&sleepers))?;
        // The thread has just begun and takes it.
        let _ = fresh.send(sleeper());
        *sender = Some(fresh);
        Ok(())
    }
}

/// One that is watched.
struct Watched {
    function: Arc<Function>,
    bell: Bell,
    intakes: Vec<Intake>,
    lanes: BTreeMap<Partition, Lane>,
    wake_at_ms: Option<i64>,
    since: Duration,
}

struct Lane {
    checkpoint: Checkpoint,
    /// Refused records that the committed offset is not behind yet.
    refused: u64,
}

impl Lane {
    fn new(checkpoint: Checkpoint) -> Self {
        Self { checkpoint, refused: 0 }
    }
}

/// The thread.
struct Watch {
    cluster: Cluster,
    clock: Arc<dyn Clock>,
    exposition: Exposition,
    watched: Vec<Watched>,
    /// Where the consumer reads next, of the partitions that it has.
    positions: BTreeMap<Partition, i64>,
    /// How long a group may be without members.
    keep_for: Option<Duration>,
}

/// The consumer by which records are heard of.
struct Ear {
    consumer: Consumer,
    fetch_wait_ms: usize,
}

impl Ear {
    /// It was made for far more partitions, or far fewer. What is added while a fetch waits is fetched only by the next
    /// one, and what a transaction writes may be seen no sooner: so the wait is as short as the number allows.
    fn is_ill_fitted(&self, partitions: usize) -> bool {
        let wanted = fetch_wait_ms(partitions);
        wanted > self.fetch_wait_ms * 2 || wanted * 4 < self.fetch_wait_ms
    }
}

fn fetch_wait_ms(partitions: usize) -> usize {
    (partitions / PARTITIONS_A_MS).clamp(*FETCH_WAIT_MS.start(), *FETCH_WAIT_MS.end())
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Kafka(#[from] Error),
}

impl Watch {
    fn run(mut self, sleepers: &Receiver<Sleeper>) {
        let mut pending: Vec<Sleeper> = Vec::new();
        loop {
            if pending.is_empty() && self.watched.is_empty() {
                // Nobody sleeps: nothing is to be watched, nor kept open.
                match sleepers.recv() {
                    Ok(sleeper) => pending.push(sleeper),
                    Err(_) => return,
                }
            }
            if let Err(error) = self.watch(sleepers, &mut pending) {
                tracing::warn!("the topics of functions that sleep cannot be watched: {error}");
            }
            // What it watched is looked at anew, with a new consumer.
            pending.extend(self.watched.drain(..).map(Watched::into_sleeper));
            self.positions.clear();
            pending.retain(|sleeper| !sleeper.bell.stop.is_set());
            if !pending.is_empty() {
                match sleepers.recv_timeout(AGAIN_AFTER) {
                    Ok(sleeper) => pending.push(sleeper),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    /// Until nobody has slept for a while.
    fn watch(&mut self, sleepers: &Receiver<Sleeper>, pending: &mut Vec<Sleeper>) -> Result<(), WatchError> {
        // It asks rarely; its connections need not stand meanwhile.
        let idle = self.cluster.clone().with("connections.max.idle.ms", "10000");
        let admin = Admin::new(&idle)?.within(ASK_WITHIN);
        let mut ear = self.ear()?;
        let began = self.clock.now().elapsed;
        let (mut commit_at, mut count_at) = (began + COMMIT_EVERY, began + COUNT_EVERY);
        loop {
            if pending.is_empty() && self.watched.is_empty() {
                match sleepers.recv_timeout(KEEP_CLIENTS) {
                    Ok(sleeper) => pending.push(sleeper),
                    Err(_) => return Ok(()),
                }
            }
            loop {
                match sleepers.try_recv() {
                    Ok(sleeper) => pending.push(sleeper),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            while let Some(sleeper) = pending.last() {
                let watched = self.look(&admin, sleeper)?;
                pending.pop();
                self.take_up(watched, &mut ear.consumer)?;
            }
            let now = self.clock.now();
            self.ring_for_time(now);
            self.let_go(&mut ear.consumer)?;
            if ear.is_ill_fitted(self.positions.len()) {
                let starts: Vec<_> = self.positions.iter().map(|(place, at)| (place.clone(), *at)).collect();
                ear = self.ear()?;
                ear.consumer.assign(&starts)?;
            }
            while ear.consumer.group_event().is_some() {}
            ear.consumer.fill(self.patience(now));
            self.listen(&mut ear.consumer);
            if now.elapsed >= commit_at {
                commit_at = now.elapsed + COMMIT_EVERY;
                self.move_on(&admin);
            }
            if now.elapsed >= count_at {
                count_at = now.elapsed + COUNT_EVERY;
                self.look_for_partitions(&admin, &mut ear.consumer)?;
            }
        }
    }

    /// For the partitions that are watched now, or will be; none is assigned yet.
    fn ear(&self) -> Result<Ear, Error> {
        let fetch_wait_ms = fetch_wait_ms(self.positions.len());
        let wait = fetch_wait_ms.to_string();
        let settings = [
            ("fetch.wait.max.ms", wait.as_str()),
            // Small queues: many topics, and mostly nothing in them.
            ("queued.min.messages", "10000"),
            ("queued.max.messages.kbytes", "4096"),
            ("fetch.message.max.bytes", "262144"),
            ("fetch.max.bytes", "4194304"),
        ];
        let consumer = Consumer::new(&ConsumerConfig {
            cluster: &self.cluster,
            group: &format!("tidemill.doorbell.{}", std::process::id()),
            protocol: GroupProtocol::Classic,
            client_id: "tidemill-doorbell",
            longest_silence: Duration::ZERO,
            settings: &settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        })?;
        Ok(Ear { consumer, fetch_wait_ms })
    }

    /// Where a sleeper's group stands.
    fn look(&mut self, admin: &Admin, sleeper: &Sleeper) -> Result<Watched, WatchError> {
        let function = &sleeper.function;
        // No tables, which are caught up on when it wakes.
        let target = Target::of(function);
        let names: Vec<&str> = target.sources.iter().map(|source| source.topic.as_str()).collect();
        let counts = admin.topics(&names)?;
        let partitions = counts.iter().flat_map(|(topic, count)| {
            let count = i32::try_from(count.unwrap_or(0)).unwrap_or(i32::MAX);
            (0..count).map(|partition| Partition { topic: topic.clone(), partition })
        });
        let partitions: Vec<_> = partitions.collect();
        let mut lanes = BTreeMap::new();
        let mut wake_at_ms: Option<i64> = None;
        for found in admin.committed(&function.group, Some(&partitions), true)? {
            let Some(offset) = found.offset else { continue };
            // One that cannot be read is for the worker to complain of.
            let Ok(checkpoint) = Checkpoint::read(offset, &found.metadata) else {
                sleeper.bell.ring(Ring::Record);
                continue;
            };
            let topic = &found.partition.topic;
            let mut sources = target.sources.iter();
            let has_deadlines = sources.any(|source| source.has_deadlines && source.topic == *topic);
            if let Some(at) = checkpoint.wake_at_ms.filter(|_| has_deadlines) {
                let at = i64::try_from(at).unwrap_or(i64::MAX);
                wake_at_ms = Some(wake_at_ms.map_or(at, |known| known.min(at)));
            }
            lanes.insert(found.partition, Lane::new(checkpoint));
        }
        // A partition that came lately is read from its beginning.
        let is_new = |partition: &&Partition| !lanes.contains_key(*partition);
        let new: Vec<_> = partitions.iter().filter(is_new).cloned().collect();
        for (partition, bounds) in admin.bounds(&new, Isolation::ReadCommitted)? {
            lanes.insert(partition, Lane::new(Checkpoint::fresh(bounds.log_start)));
        }
        Ok(Watched {
            intakes: function.sources.iter().map(Intake::new).collect(),
            function: Arc::clone(function),
            bell: sleeper.bell.clone(),
            lanes,
            wake_at_ms,
            since: self.clock.now().elapsed,
        })
    }

    /// Watches from where it stands; what is read already behind that rings at once.
    fn take_up(&mut self, watched: Watched, consumer: &mut Consumer) -> Result<(), WatchError> {
        let mut starts = Vec::new();
        for (partition, lane) in &watched.lanes {
            let from = lane.checkpoint.offset();
            match self.positions.get(partition) {
                Some(position) if *position > from => watched.bell.ring(Ring::Record),
                Some(_) => {}
                None => {
                    self.positions.insert(partition.clone(), from);
                    starts.push((partition.clone(), from));
                }
            }
        }
        self.watched.push(watched);
        if !starts.is_empty() {
            consumer.assign(&starts)?;
        }
        Ok(())
    }

    /// How long nothing but a record is to be waited for.
    fn patience(&self, now: Moment) -> Duration {
        let left =
            |at: i64| Duration::from_millis(u64::try_from(at.saturating_sub(now.wall_ms)).unwrap_or(0));
        let first = self.watched.iter().filter_map(|watched| watched.wake_at_ms).min();
        first.map_or(LOOK_EVERY, left).min(LOOK_EVERY)
    }

    fn ring_for_time(&mut self, now: Moment) {
        let is_due = |watched: &Watched| watched.wake_at_ms.is_some_and(|at| at <= now.wall_ms);
        self.watched
            .iter()
            .filter(|watched| is_due(watched))
            .for_each(|watched| watched.bell.ring(Ring::Deadline));
        let keep_for = *self.keep_for.get_or_insert_with(|| {
            offsets_retention(&self.cluster).map_or(KEEP_FOR, |retention| retention / 4)
        });
        let is_old = |watched: &Watched| now.elapsed.saturating_sub(watched.since) >= keep_for;
        self.watched
            .iter()
            .filter(|watched| is_old(watched))
            .for_each(|watched| watched.bell.ring(Ring::Offsets));
    }

    /// Whoever was woken, by whom it may be, is not watched any more, nor are partitions of nobody.
    fn let_go(&mut self, consumer: &mut Consumer) -> Result<(), WatchError> {
        let before = self.watched.len();
        self.watched.retain(|watched| !watched.bell.stop.is_set());
        if self.watched.len() == before {
            return Ok(());
        }
        let is_needed =
            |partition: &Partition| self.watched.iter().any(|watched| watched.lanes.contains_key(partition));
        let gone: Vec<Partition> =
            self.positions.keys().filter(|partition| !is_needed(partition)).cloned().collect();
        self.positions.retain(|partition, _| !gone.contains(partition));
        if !gone.is_empty() {
            consumer.release(&gone)?;
        }
        Ok(())
    }

    fn listen(&mut self, consumer: &mut Consumer) {
        let mut at = Partition { topic: String::new(), partition: -1 };
        // Records come in runs: whoever watches the partition is looked up once for each.
        let mut heard_by: Vec<usize> = Vec::new();
        while let Some(fetched) = consumer.head() {
            match fetched {
                Fetched::Record(record) => {
                    if at.partition != record.partition || at.topic != record.topic {
                        at = Partition { topic: record.topic.to_owned(), partition: record.partition };
                        let all = self.watched.iter().enumerate();
                        let of_it = all.filter(|(_, watched)| watched.lanes.contains_key(&at));
                        heard_by = of_it.map(|(number, _)| number).collect();
                    }
                    if let Some(position) = self.positions.get_mut(&at) {
                        *position = record.offset + 1;
                    }
                    for number in &heard_by {
                        if let Some(watched) = self.watched.get_mut(*number) {
                            watched.hear(&at, &record);
                        }
                    }
                }
                Fetched::End { .. } => {}
                Fetched::Error { topic, partition, text, .. } => {
                    // Deleted, or forbidden: its worker says what to do.
                    tracing::debug!(topic, partition, "watched for who sleeps: {text}");
                    let place = Partition { topic: topic.to_owned(), partition };
                    let of_it = self.watched.iter().filter(|watched| watched.lanes.contains_key(&place));
                    of_it.for_each(|watched| watched.bell.ring(Ring::Record));
                }
            }
            consumer.advance();
        }
    }

    /// Moves the offsets of empty groups on behind refused records.
    fn move_on(&mut self, admin: &Admin) {
        let sleeps = |watched: &&mut Watched| !watched.bell.stop.is_set();
        let has_refused = |watched: &&mut Watched| watched.lanes.values().any(|lane| lane.refused > 0);
        let mut moving: Vec<_> = self.watched.iter_mut().filter(sleeps).filter(has_refused).collect();
        if moving.is_empty() {
            return;
        }
        let function = |watched: &Watched| Arc::clone(&watched.function);
        let functions: Vec<_> = moving.iter().map(|watched| function(watched)).collect();
        let commits = functions.iter().zip(&moving).map(|(function, watched)| {
            let refused = watched.lanes.iter().filter(|(_, lane)| lane.refused > 0);
            let commit = refused.map(|(partition, lane)| Commit {
                partition: partition.clone(),
                offset: lane.checkpoint.offset(),
                metadata: lane.checkpoint.metadata(),
            });
            (function.group.as_str(), commit.collect())
        });
        let answers = admin.commit_for_empty_groups(&commits.collect::<Vec<_>>());
        for ((watched, function), moved) in moving.iter_mut().zip(&functions).zip(answers) {
            if let Err(error) = &moved
                && !matches!(error, AdminError::GroupInUse { .. })
            {
                tracing::debug!("offsets behind refused records: {error}");
                continue;
            }
            let refused: u64 = watched.lanes.values_mut().map(|lane| std::mem::take(&mut lane.refused)).sum();
            // Else workers elsewhere have refused the same, and counted it.
            if moved.is_ok() {
                let function = function.name.to_string();
                let labels = [("function", function.as_str())];
                self.exposition.counter(Id::SourceConsumed, &labels).increment(refused);
                let labels = [labels[0], ("result", "filtered")];
                self.exposition.counter(Id::SourceFinished, &labels).increment(refused);
            }
        }
    }

    fn look_for_partitions(&mut self, admin: &Admin, consumer: &mut Consumer) -> Result<(), WatchError> {
        let topics: BTreeSet<&str> = self.positions.keys().map(|known| known.topic.as_str()).collect();
        let counts = admin.topics(&topics.into_iter().collect::<Vec<_>>())?;
        let there = counts.iter().flat_map(|(topic, count)| {
            let count = i32::try_from(count.unwrap_or(0)).unwrap_or(i32::MAX);
            (0..count).map(|partition| Partition { topic: topic.clone(), partition })
        });
        let new: Vec<_> = there.filter(|partition| !self.positions.contains_key(partition)).collect();
        for (partition, bounds) in admin.bounds(&new, Isolation::ReadCommitted)? {
            let first = bounds.log_start;
            for watched in &mut self.watched {
                if watched.lanes.keys().any(|known| known.topic == partition.topic) {
                    watched.lanes.insert(partition.clone(), Lane::new(Checkpoint::fresh(first)));
                }
            }
            self.positions.insert(partition.clone(), first);
            consumer.assign(&[(partition, first)])?;
        }
        Ok(())
    }
}

impl Watched {
    fn into_sleeper(self) -> Sleeper {
        Sleeper { function: self.function, bell: self.bell }
    }

    /// A record has come.
    fn hear(&mut self, partition: &Partition, record: &Record<'_>) {
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        let ledger = &mut lane.checkpoint.ledger;
        if record.offset < ledger.position() || ledger.is_finished(record.offset) {
            return;
        }
        let intake = self.intakes.iter().find(|intake| intake.source().topic == record.topic);
        // What cannot be read is for the worker, as is all that is brought back or gathered.
        let is_refused = intake.is_some_and(|intake| matches!(intake.take(*record), Ok(None)));
        if !is_refused {
            self.bell.ring(Ring::Record);
        } else if ledger.next() == record.offset || ledger.position() == ledger.next() {
            // Nothing before it is unfinished.
            ledger.reach(record.offset + 1);
            lane.checkpoint.account.filtered += 1;
            lane.refused += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_of_many_partitions_waits_longer() {
        for (partitions, wait_ms) in [(0, 50), (400, 50), (1200, 150), (12_000, 1500), (100_000, 2000)] {
            assert_eq!(fetch_wait_ms(partitions), wait_ms, "{partitions}");
        }
    }
}
