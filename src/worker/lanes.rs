//! The lanes of one worker: each is one assigned partition with its order and its progress.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kafka::Partition;
use crate::pipeline::{Checkpoint, Policy, Track};

/// One assigned partition.
pub struct Lane {
    /// Its progress, and who waits. Its number tells outputs of this lane from those of others, even if the partition
    /// comes back later.
    pub track: Track,
    /// The partition.
    pub partition: Partition,
    /// Its topic, for records that are kept.
    pub topic: Arc<str>,
    /// Which of the function's sources it belongs to; one past the last: the redrive topic.
    pub source: usize,
    /// What the last cut committed.
    pub committed: i64,
    /// It holds as many events as it may, and nothing more is read.
    pub is_paused: bool,
    /// It is paused because others are far behind.
    pub is_ahead: bool,
    /// Where the partition ended when it was last read to its end.
    pub end: Option<i64>,
    /// How often the process died during calls for events of this partition, not yet counted as attempts.
    pub deaths: BTreeMap<i64, u32>,
    /// Events during whose calls it died: each runs alone from then on, so that it takes no others with it.
    pub deadly: BTreeSet<i64>,
    /// Records below run alone, each in a cut of its own: their calls outlasted a transaction.
    pub alone_until: i64,
}

impl Lane {
    /// The event at this offset is called with nothing else in its cut.
    #[inline]
    pub fn calls_alone(&self, offset: i64) -> bool {
        offset < self.alone_until
            || (!self.deaths.is_empty() && self.deaths.contains_key(&offset))
            || (!self.deadly.is_empty() && self.deadly.contains(&offset))
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
    pub fn open(
        &mut self,
        policy: &Policy,
        partition: Partition,
        source: usize,
        (checkpoint, epoch): (Checkpoint, u32),
    ) -> &mut Lane {
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        let committed = checkpoint.offset();
        let place = (partition.topic.as_str(), partition.partition);
        self.lanes.push(Lane {
            track: Track::new(policy, number, place, checkpoint, epoch),
            topic: partition.topic.as_str().into(),
            partition,
            source,
            committed,
            is_paused: false,
            is_ahead: false,
            end: None,
            deaths: BTreeMap::new(),
            deadly: BTreeSet::new(),
            alone_until: i64::MIN,
        });
        self.lanes.last_mut().expect("it was just added")
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
        self.lanes.iter().find(|lane| lane.track.lane == number)
    }

    /// The lane with this number.
    pub fn by_number_mut(&mut self, number: u16) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.track.lane == number)
    }

    /// The lane at this place, below [`Lanes::len`].
    pub fn at(&mut self, place: usize) -> Option<&mut Lane> {
        self.lanes.get_mut(place)
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
        self.lanes.iter().any(|lane| lane.track.is_dirty)
    }
}
