//! What the desk knows of one lane: its progress, and who waits there.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use super::circuit::Circuit;
use super::{Policy, Strand};
use crate::model::Order;
use crate::pipeline::{Checkpoint, Ledger};

/// One lane's progress, and its waiting events.
#[derive(Debug)]
pub struct Track {
    /// The lane's number in the worker.
    pub lane: u16,
    /// What the next cut would commit.
    pub checkpoint: Checkpoint,
    /// One past the last record taken from the log. All below are finished, in flight or waiting here; so reading
    /// goes on here whatever the group does, and begins anew at the ledger's position only after an abort.
    pub read_to: i64,
    /// Tells tickets from those of before an abort.
    pub epoch: u32,
    /// The ledger has moved since the last cut.
    pub is_dirty: bool,
    order: Order,
    salt: u64,
    /// Events in memory that nobody calls now.
    pub(super) held: usize,
    /// Calls in flight that were begun in this epoch.
    pub(super) out: usize,
    /// Strands whose first event failed.
    pub(super) failing: usize,
    /// Heads of failing strands whose failures are committed, by when they are due.
    pub(super) due: BTreeSet<(Duration, Strand)>,
    /// Those whose failures are not.
    pub(super) unarmed: Vec<(Duration, Strand)>,
    /// Strands that wait for nothing but a thread.
    pub(super) ready: VecDeque<Strand>,
    pub(super) circuit: Circuit,
    /// That of results, where events are not called.
    pub(super) of_results: Option<Circuit>,
}

impl Track {
    /// A lane that goes on at `checkpoint`.
    pub fn new(
        policy: &Policy,
        lane: u16,
        (topic, partition): (&str, i32),
        checkpoint: Checkpoint,
        epoch: u32,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        (topic, partition).hash(&mut hasher);
        Self {
            lane,
            read_to: checkpoint.offset(),
            checkpoint,
            epoch,
            is_dirty: false,
            order: policy.order,
            salt: hasher.finish(),
            held: 0,
            out: 0,
            failing: 0,
            due: BTreeSet::new(),
            unarmed: Vec::new(),
            ready: VecDeque::new(),
            circuit: Circuit::new(policy.circuit),
            of_results: None,
        }
    }

    /// Progress, about to move.
    #[inline]
    pub fn ledger(&mut self) -> &mut Ledger {
        self.is_dirty = true;
        &mut self.checkpoint.ledger
    }

    /// The record at `offset` needs nobody any more, or is in hand already.
    #[inline]
    pub fn is_known(&self, offset: i64) -> bool {
        offset < self.read_to || self.checkpoint.ledger.is_finished(offset)
    }

    /// What the event at `offset` must wait for, by the function's order. Events without a key wait for none.
    #[inline]
    pub fn strand(&self, offset: i64, key: Option<&[u8]>) -> Strand {
        if let (Order::Key, Some(key)) = (self.order, key) {
            return self.strand_of_key(key);
        }
        let mut hasher = DefaultHasher::new();
        self.salt.hash(&mut hasher);
        match (self.order, key) {
            (Order::Partition, _) => {}
            (Order::Key | Order::None, _) => offset.hash(&mut hasher),
        }
        Strand(hasher.finish())
    }

    /// What results of this key wait for: events of the same key are in the same strand.
    pub(super) fn strand_of_key(&self, key: &[u8]) -> Strand {
        let mut hasher = DefaultHasher::new();
        self.salt.hash(&mut hasher);
        hasher.write(key);
        Strand(hasher.finish())
    }

    /// Events that were taken and have not ended: waiting here, or being called.
    pub fn in_flight(&self) -> usize {
        self.checkpoint.ledger.open().range(..self.read_to).count()
    }

    /// Events in memory that wait.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Some of them wait because a call failed, or because the circuit is open: that may take long.
    pub fn is_held_up(&self) -> bool {
        self.failing > 0 || self.circuit.is_open()
    }

    /// When the circuit opened, if it is open.
    pub fn open_since(&self) -> Option<Duration> {
        self.circuit.open_since().or(self.of_results.as_ref()?.open_since())
    }

    /// A cut committed the checkpoint: failures so far outlive a crash, and their events may be called again when due.
    pub fn committed(&mut self) {
        self.is_dirty = false;
        self.checkpoint.cut += 1;
        self.due.extend(self.unarmed.drain(..));
    }
}
