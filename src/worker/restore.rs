//! Restoring: the state of partitions that were given to this worker, read from the state topic by threads with
//! consumers of their own, while the lanes that work go on.
//!
//! The order matters. The committed offsets came first, in a fetch that waited for open transactions, so nobody but this
//! worker commits for these partitions any more. Then the topic's end as uncommitted readers see it: the end for readers
//! of committed records can lie before the last cut for a moment (KAFKA-10167). Then everything up to there, committed
//! records alone; a dead owner's open transaction is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use super::{Stopped, Worker};
use crate::kafka::admin::{Isolation, OffsetAt};
use crate::kafka::{Admin, AdminError, Cluster, Consumer, Error, Fetched, Partition};
use crate::model::{Clock, WindowSpec};
use crate::observe::{LaneStatus, RESTORING};
use crate::pipeline::Checkpoint;
use crate::window::{Damaged, Windows};

/// How long it waits for records before it looks whether anybody still wants them.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So many offsets are worth a thread.
const FOR_A_THREAD: i64 = 100_000;
/// How often it says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// What a thread is restoring.
pub struct Restoring {
    wanted: Vec<Wanted>,
    restored: Receiver<Result<Restored, RestoreError>>,
    /// How many entries of each partition were read so far.
    entries: Arc<[AtomicU64]>,
    is_unwanted: Arc<AtomicBool>,
}

/// What came of it.
struct Restored {
    windows: Vec<Windows>,
    took: Duration,
}

/// A partition and where its owner stood.
#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    partition: i32,
    offset: i64,
    cut: u64,
    watermark_ms: i64,
}

/// Why state could not be restored.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Kafka(#[from] Error),
    #[error("partition {partition} of the state: {cause}")]
    Damaged { partition: i32, cause: Damaged },
}

impl Drop for Restoring {
    fn drop(&mut self) {
        self.is_unwanted.store(true, Ordering::Relaxed);
    }
}

/// How it stands.
pub enum Progress {
    /// Still under way.
    Going,
    /// Windows of each partition, how many entries were read, and how long that took.
    Done(Vec<(i32, Windows)>, u64, Duration),
    /// The brokers could not; to be tried again.
    Again,
}

/// What is read, and where.
pub struct Source<'a> {
    /// Where.
    pub cluster: &'a Cluster,
    /// The state topic.
    pub topic: &'a str,
    /// What is gathered.
    pub spec: &'a WindowSpec,
    /// How many sources feed a partition, if they are brought together first.
    pub sources: Option<usize>,
    /// Time.
    pub clock: &'a Arc<dyn Clock>,
}

impl Restoring {
    /// Begins, for partitions whose owner stood where their checkpoints say.
    pub fn start<'c>(
        source: &Source<'_>,
        partitions: impl Iterator<Item = (i32, &'c Checkpoint)>,
    ) -> Result<Self, Stopped> {
        let wanted = wanted(partitions);
        let (sender, restored) = channel();
        let is_unwanted = Arc::new(AtomicBool::new(false));
        let entries: Arc<[AtomicU64]> = wanted.iter().map(|_| AtomicU64::new(0)).collect();
        let job = Job {
            cluster: source.cluster.clone(),
            topic: source.topic.to_owned(),
            spec: source.spec.clone(),
            sources: source.sources,
            clock: Arc::clone(source.clock),
            wanted: wanted.clone(),
            entries: Arc::clone(&entries),
            is_unwanted: Arc::clone(&is_unwanted),
        };
        let run = move || {
            // Nobody may be left who wants to know.
            let _ = sender.send(job.run());
        };
        let thread = std::thread::Builder::new().name("restore".to_owned());
        thread.spawn(run).map_err(Stopped::Threads)?;
        Ok(Self { wanted, restored, entries, is_unwanted })
    }

    /// It is for these.
    pub fn is_for<'c>(&self, partitions: impl Iterator<Item = (i32, &'c Checkpoint)>) -> bool {
        self.wanted == wanted(partitions)
    }

    /// How far it is.
    pub fn progress(&self) -> Result<Progress, Stopped> {
        match self.restored.try_recv() {
            Err(TryRecvError::Empty) => Ok(Progress::Going),
            Err(TryRecvError::Disconnected) => Err(Stopped::DeadThread),
            Ok(Ok(Restored { windows, took })) => {
                let partitions = self.wanted.iter().map(|wanted| wanted.partition);
                let entries = self.entries.iter().map(|entries| entries.load(Ordering::Relaxed)).sum();
                Ok(Progress::Done(partitions.zip(windows).collect(), entries, took))
            }
            Ok(Err(RestoreError::Damaged { partition, cause })) => Err(Stopped::State { partition, cause }),
            Ok(Err(error)) => {
                tracing::warn!("state could not be restored yet: {error}");
                Ok(Progress::Again)
            }
        }
    }
}

impl Worker {
    /// Partitions whose state is being read: there are no lanes for them yet.
    pub(super) fn restoring_lanes(&self) -> Vec<LaneStatus> {
        let Some(restoring) = &self.restoring else { return Vec::new() };
        let topic = self.config.function.gathered_topic().unwrap_or_default();
        let lanes =
            restoring.wanted.iter().zip(restoring.entries.iter()).map(|(wanted, entries)| LaneStatus {
                topic: topic.to_owned(),
                partition: wanted.partition,
                position: wanted.offset,
                committed: Some(wanted.offset),
                lag: None,
                held: 0,
                state: RESTORING,
                restored: Some(entries.load(Ordering::Relaxed)),
            });
        lanes.collect()
    }
}

fn wanted<'c>(partitions: impl Iterator<Item = (i32, &'c Checkpoint)>) -> Vec<Wanted> {
    let wanted = partitions.map(|(partition, checkpoint)| Wanted {
        partition,
        offset: checkpoint.offset(),
        cut: checkpoint.cut,
        watermark_ms: checkpoint.watermark_ms,
    });
    let mut wanted: Vec<_> = wanted.collect();
    wanted.sort_unstable_by_key(|wanted| wanted.partition);
    wanted
}

struct Job {
    cluster: Cluster,
    topic: String,
    spec: WindowSpec,
    sources: Option<usize>,
    clock: Arc<dyn Clock>,
    wanted: Vec<Wanted>,
    entries: Arc<[AtomicU64]>,
    is_unwanted: Arc<AtomicBool>,
}

/// What one of its threads reads.
struct Share<'a> {
    wanted: &'a [Wanted],
    /// Where it is told how many entries were read.
    entries: &'a [AtomicU64],
    /// It says how far all are.
    says: bool,
    /// One of them cannot go on: what the others read is of no use.
    has_failed: &'a AtomicBool,
}

impl Share<'_> {
    fn part<'p>(&self, parts: &'p mut [Part], partition: i32) -> Option<&'p mut Part> {
        let at = self.wanted.binary_search_by_key(&partition, |wanted| wanted.partition).ok()?;
        parts.get_mut(at)
    }
}

/// One partition of the state topic, on its way.
struct Part {
    windows: Windows,
    /// How many entries were read.
    entries: u64,
    /// Where it begins.
    first: i64,
    /// Where it ends; `None`: it was reached.
    end: Option<i64>,
}

impl Job {
    fn run(&self) -> Result<Restored, RestoreError> {
        let began = self.clock.now().elapsed;
        let mut parts = self.look()?;
        let offsets: i64 = parts.iter().map(|part| part.end.map_or(0, |end| end - part.first)).sum();
        // Each has a consumer of its own, which is not worth it for little.
        let most = std::thread::available_parallelism().map_or(1, usize::from).min(parts.len());
        let threads = usize::try_from(offsets / FOR_A_THREAD).unwrap_or(most).clamp(1, most.max(1));
        let each = parts.len().div_ceil(threads).max(1);
        let has_failed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let shares = self.wanted.chunks(each).zip(parts.chunks_mut(each)).zip(self.entries.chunks(each));
            let readers: Vec<_> = shares
                .enumerate()
                .map(|(at, ((wanted, parts), entries))| {
                    let share = Share { wanted, entries, says: at == 0, has_failed: &has_failed };
                    scope.spawn(move || {
                        let end = self.read(&share, parts);
                        share.has_failed.fetch_or(end.is_err(), Ordering::Relaxed);
                        end
                    })
                })
                .collect();
            let ends = readers.into_iter().map(|reader| {
                reader.join().unwrap_or_else(|_| Err(Error::Away("its reader ended".to_owned()).into()))
            });
            ends.fold(Ok(()), Result::and)
        })?;
        let windows = parts.into_iter().map(|part| part.windows).collect();
        let took = self.clock.now().elapsed.saturating_sub(began);
        Ok(Restored { windows, took })
    }

    /// Reads some of the partitions to their ends.
    fn read(&self, share: &Share<'_>, parts: &mut [Part]) -> Result<(), RestoreError> {
        let Share { wanted, entries, says, has_failed } = *share;
        let is_wanted = || !self.is_unwanted.load(Ordering::Relaxed) && !has_failed.load(Ordering::Relaxed);
        let place = |wanted: &Wanted| Partition { topic: self.topic.clone(), partition: wanted.partition };
        let starts = wanted.iter().zip(parts.iter()).map(|(wanted, part)| (place(wanted), part.first));
        let mut consumer = Consumer::reader(&self.cluster, "restore")?;
        consumer.assign(&starts.collect::<Vec<_>>())?;
        let mut said_at = self.clock.now().elapsed;
        while parts.iter().any(|part| part.end.is_some()) && is_wanted() {
            while consumer.group_event().is_some() {}
            consumer.fill(LOOK_EVERY);
            while let Some(fetched) = consumer.head() {
                match fetched {
                    Fetched::Record(record) => {
                        if let Some(part) = share.part(parts, record.partition) {
                            part.windows.restore(record.key.unwrap_or_default(), record.value);
                            part.end = part.end.filter(|end| record.offset + 1 < *end);
                            part.entries += 1;
                        }
                    }
                    Fetched::End { partition, offset, .. } => {
                        if let Some(part) = share.part(parts, partition) {
                            part.end = part.end.filter(|end| offset < *end);
                        }
                    }
                    Fetched::Error { text, .. } => return Err(Error::Away(text).into()),
                }
                consumer.advance();
            }
            for (part, entries) in parts.iter().zip(entries) {
                entries.store(part.entries, Ordering::Relaxed);
            }
            let now = self.clock.now().elapsed;
            if says && now.saturating_sub(said_at) > SAY_EVERY {
                said_at = now;
                let entries: u64 = self.entries.iter().map(|entries| entries.load(Ordering::Relaxed)).sum();
                tracing::info!(topic = self.topic, entries, "restoring state");
            }
        }
        consumer.close();
        if !is_wanted() {
            return Ok(());
        }
        for (wanted, part) in wanted.iter().zip(parts) {
            let damaged = |cause| RestoreError::Damaged { partition: wanted.partition, cause };
            part.windows.restored().map_err(damaged)?;
        }
        Ok(())
    }

    /// Where each partition begins and ends.
    fn look(&self) -> Result<Vec<Part>, RestoreError> {
        let admin = Admin::new(&self.cluster)?;
        let list = |at| {
            let query = |wanted: &Wanted| (self.topic.as_str(), wanted.partition, at);
            let queries: Vec<_> = self.wanted.iter().map(query).collect();
            admin.list_offsets(&queries, Isolation::ReadUncommitted)
        };
        let bounds = list(OffsetAt::Earliest)?.into_iter().zip(list(OffsetAt::Latest)?);
        let part = |(wanted, (first, end)): (&Wanted, (Option<i64>, Option<i64>))| {
            let (first, end) = (first.unwrap_or(0), end.unwrap_or(0));
            let mut windows = Windows::new(&self.spec, wanted.watermark_ms);
            if let Some(sources) = self.sources {
                windows = windows.of_sources(sources);
            }
            Part { windows, entries: 0, first, end: Some(end).filter(|end| first < *end) }
        };
        Ok(self.wanted.iter().zip(bounds).map(part).collect())
    }
}
