//! Reads a topic from its start to the end that stood when it was opened, as readers of committed records see it,
//! and single records of it again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::letter::{Id, Kept};
use super::progress::Redriven;
use crate::cli::scan::{self, SILENT_FOR, Stretch};
use crate::kafka::admin::Isolation;
use crate::kafka::{Admin, Cluster, Commit, Consumer, ConsumerConfig, Partition};
use crate::model::{GroupProtocol, Record};

/// How long somebody who only looks waits for what was redriven.
pub const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// A topic as it stood when it was opened.
pub struct Log {
    consumer: Consumer,
    topic: String,
    /// First and next offset of each partition.
    bounds: Vec<(i64, i64)>,
    /// The consumer reads them.
    is_assigned: bool,
}

impl Log {
    /// Looks where `topic` begins and ends; [`Log::redriven`] will ask for the offsets of `group`.
    pub fn open(cluster: &Cluster, topic: &str, group: &str) -> anyhow::Result<Self> {
        let admin = Admin::new(cluster)?;
        let whole = scan::whole(&admin, &[topic], Isolation::ReadCommitted)?;
        if whole.is_empty() {
            bail!("topic {topic} does not exist");
        }
        Ok(Self {
            consumer: Consumer::new(&ConsumerConfig {
                cluster,
                group,
                protocol: GroupProtocol::Classic,
                client_id: "tidemill-dlq",
                longest_silence: Duration::ZERO,
                // The end of a partition is told by a fetch that comes back empty, once for each partition.
                settings: &BTreeMap::from([("fetch.wait.max.ms".to_owned(), "10".to_owned())]),
            })?,
            topic: topic.to_owned(),
            is_assigned: false,
            bounds: whole.iter().map(|stretch| (stretch.from, stretch.to)).collect(),
        })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The consumer, which has joined no group.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    fn partition(&self, partition: i32) -> Partition {
        Partition { topic: self.topic.clone(), partition }
    }

    /// Which records of each partition the group notes as redriven; `None`: it knows nothing of this topic. While a
    /// transaction that would change that is open, this waits.
    pub fn redriven(&self, wait: Duration) -> anyhow::Result<Option<Vec<Redriven>>> {
        let partitions: Vec<_> = (0..self.bounds.len() as i32).map(|n| self.partition(n)).collect();
        let committed = self.consumer.committed(&partitions, wait).context(
            "asked which were redriven (while a redrive is at work, and for a minute after one was killed, nobody \
             can tell)",
        )?;
        let mut redriven = vec![Redriven::default(); self.bounds.len()];
        for found in &committed {
            let Partition { partition, .. } = found.partition;
            let (_, end) = self.bounds[partition as usize];
            if found.offset.is_some_and(|offset| offset > end) {
                bail!(
                    "{} ends at offset {end}, and redriven is noted beyond it: the topic was made anew; delete the \
                     group that keeps these notes (kafka-consumer-groups.sh --delete)",
                    found.partition
                );
            }
            redriven[partition as usize] = Redriven::read(found.offset, &found.metadata)
                .with_context(|| format!("what is noted as redriven of {}", found.partition))?;
        }
        Ok(committed.iter().any(|found| found.offset.is_some()).then_some(redriven))
    }

    /// What to commit for each partition, of which `letters` holds all letters in order, and whether each went.
    pub fn commits(&self, letters: &[BTreeMap<i64, bool>]) -> anyhow::Result<Vec<Commit>> {
        let numbered = letters.iter().zip(&self.bounds).zip(0..);
        let commits = numbered.map(|((letters, (_, end)), number)| {
            let partition = self.partition(number);
            let went = letters.iter().map(|(offset, went)| (*offset, *went));
            let (offset, metadata) =
                super::progress::commit(went, *end).with_context(|| partition.to_string())?;
            Ok(Commit { partition, offset, metadata })
        });
        commits.collect()
    }

    /// The same for somebody who only looks, and goes on without.
    pub fn redriven_if_known(&self) -> Vec<Redriven> {
        match self.redriven(LOOK_WITHIN) {
            Ok(redriven) => redriven.unwrap_or_default(),
            Err(error) => {
                eprintln!("tidemill: which of them were redriven is not known: {error:#}");
                Vec::new()
            }
        }
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> usize {
        self.bounds.len()
    }

    /// Shows every record to `visit`, one partition after the other, until it breaks off.
    pub fn read(
        &mut self,
        visit: &mut dyn FnMut(&Record<'_>) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        for partition in 0..self.bounds.len() {
            let (first, end) = self.bounds[partition];
            if first < end && self.read_ranges(&[(partition as i32, first, end)], visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Reads these records again, in their order.
    pub fn fetch(&mut self, ids: &[Id]) -> anyhow::Result<Vec<Kept>> {
        let mut ranges: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        for id in ids {
            let range = ranges.entry(id.partition).or_insert((id.offset, id.offset + 1));
            *range = (range.0.min(id.offset), range.1.max(id.offset + 1));
        }
        let ranges: Vec<_> =
            ranges.into_iter().map(|(partition, (from, to))| (partition, from, to)).collect();
        for &(partition, from, to) in &ranges {
            let bounds = self.bounds.get(partition as usize).copied().unwrap_or((0, 0));
            if from < bounds.0 || to > bounds.1 {
                let (first, end) = bounds;
                bail!(
                    "no dead letter {}: {} holds the offsets {first} to {end}, the end not included",
                    Id { partition, offset: if from < first { from } else { to - 1 } },
                    self.partition(partition)
                );
            }
        }
        let wanted: HashSet<Id> = ids.iter().copied().collect();
        let mut found: HashMap<Id, Kept> = HashMap::new();
        let _ = self.read_ranges(&ranges, &mut |record| {
            let id = Id { partition: record.partition, offset: record.offset };
            if wanted.contains(&id) {
                found.insert(id, Kept::new(record));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let taken = ids.iter().map(|id| {
            found.remove(id).with_context(|| {
                format!(
                    "no dead letter {id}: that offset holds no record, but a transaction's marker perhaps"
                )
            })
        });
        taken.collect()
    }

    fn read_ranges(
        &mut self,
        ranges: &[(i32, i64, i64)],
        visit: &mut dyn FnMut(&Record<'_>) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<ControlFlow<()>> {
        if !self.is_assigned {
            self.assign()?;
        }
        let starts: Vec<_> =
            ranges.iter().map(|&(partition, from, _)| (self.partition(partition), from)).collect();
        self.consumer.rewind(&starts, SILENT_FOR)?;
        let stretch = |&(partition, from, to): &_| Stretch { partition: self.partition(partition), from, to };
        let stretches: Vec<_> = ranges.iter().map(stretch).collect();
        scan::read(&mut self.consumer, &stretches, visit)
    }

    /// Takes all partitions over, each at its end, and waits until they are read from: finding their brokers takes most
    /// of the time, and where one is not yet read from, [`Consumer::rewind`] does nothing. They stay assigned:
    /// librdkafka ends the forwarding of a queue some time after its partition was released, and if that was
    /// assigned again meanwhile, nothing ever comes.
    fn assign(&mut self) -> anyhow::Result<()> {
        let ends: Vec<_> =
            self.bounds.iter().zip(0..).map(|(&(_, end), number)| (self.partition(number), end)).collect();
        self.consumer.assign(&ends)?;
        self.is_assigned = true;
        // The mark at the end is all that comes.
        let stretch = |(partition, end): (Partition, i64)| Stretch { partition, from: end - 1, to: end };
        let stretches: Vec<_> = ends.into_iter().map(stretch).collect();
        let _ = scan::read(&mut self.consumer, &stretches, &mut |_| Ok(ControlFlow::Continue(())))?;
        Ok(())
    }
}
