//! The lanes of one worker: each is one assigned partition with its order and its progress.

use crate::kafka::Partition;
use crate::pipeline::{Checkpoint, Ledger};

/// One assigned partition.
pub struct Lane {
    /// Tells outputs of this lane from those of others, even if the partition comes back later.
    pub number: u16,
    /// The partition.
    pub partition: Partition,
    /// Which of the function's sources it belongs to.
    pub source: usize,
    /// What the next cut would commit.
    pub checkpoint: Checkpoint,
    /// What the last cut committed.
    pub committed: i64,
    /// The ledger has moved, or outputs were written for this lane, since the last cut.
    pub is_dirty: bool,
    /// Where the partition ended when it was last read to its end.
    pub end: Option<i64>,
    /// Records below run alone, each in a cut of its own: their calls outlasted a transaction.
    pub alone_until: i64,
}

impl Lane {
    /// Progress.
    #[inline]
    pub fn ledger(&mut self) -> &mut Ledger {
        self.is_dirty = true;
        &mut self.checkpoint.ledger
    }
}

/// All lanes of a worker.
#[derive(Default)]
pub struct Lanes {
    lanes: Vec<Lane>,
    next_number: u16,
    /// Where the last look-up hit: records of one partition come in runs.
    last: usize,
}

impl Lanes {
    /// Opens a lane that goes on at `checkpoint`.
    pub fn open(&mut self, partition: Partition, source: usize, checkpoint: Checkpoint, is_dirty: bool) {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let committed = checkpoint.offset();
        self.lanes.push(Lane {
            number,
            partition,
            source,
            checkpoint,
            committed,
            is_dirty,
            end: None,
            alone_until: i64::MIN,
        });
    }

    /// Closes lanes; what they had not committed is forgotten.
    pub fn close(&mut self, partitions: &[Partition]) {
        self.lanes.retain(|lane| !partitions.contains(&lane.partition));
        self.last = 0;
    }

    /// The lane of a partition.
    #[inline]
    pub fn find(&mut self, topic: &str, partition: i32) -> Option<&mut Lane> {
        let is_it = |lane: &Lane| lane.partition.partition == partition && lane.partition.topic == topic;
        if !self.lanes.get(self.last).is_some_and(is_it) {
            self.last = self.lanes.iter().position(is_it)?;
        }
        self.lanes.get_mut(self.last)
    }

    /// The lane with this number.
    pub fn by_number(&self, number: u16) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.number == number)
    }

    /// All lanes.
    pub fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// All lanes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Something would be committed by a cut.
    pub fn is_dirty(&self) -> bool {
        self.lanes.iter().any(|lane| lane.is_dirty)
    }
}
