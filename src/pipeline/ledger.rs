//! Which offsets of a lane are finished: the one truth about progress.
//!
//! Only what is *not* finished is kept: every offset below `next` is finished unless it stands in
//! `open`. Offsets have gaps (transaction markers, aborted and compacted records), and a gap is
//! finished by itself this way. In order, with nothing open, finishing a record is one assignment.

use std::collections::BTreeMap;

/// Progress of one lane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Everything below is finished, but for `open`.
    next: i64,
    /// Admitted and unfinished offsets with the failed calls counted so far.
    open: BTreeMap<i64, u32>,
    /// Runs of neighbours in `open`, and how many of it have failed calls: what writing it down takes.
    runs: usize,
    failed: usize,
}

impl Ledger {
    /// A ledger in which everything below `offset` is finished and nothing else.
    pub fn starting_at(offset: i64) -> Self {
        Self { next: offset, ..Self::default() }
    }

    /// A ledger as it was committed.
    pub(super) fn from_parts(next: i64, open: BTreeMap<i64, u32>) -> Self {
        debug_assert!(open.keys().all(|offset| *offset < next), "open offsets lie below next");
        let begins = |offset: &&i64| !open.contains_key(&(**offset - 1));
        let (runs, failed) = (open.keys().filter(begins).count(), open.values().filter(|n| **n > 0).count());
        Self { next, open, runs, failed }
    }

    /// The first unfinished offset: what is committed, and where reading begins.
    pub fn position(&self) -> i64 {
        self.open.first_key_value().map_or(self.next, |(offset, _)| *offset)
    }

    /// One past the highest offset that was admitted.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// The unfinished offsets below [`Ledger::next`] with their failed calls.
    pub fn open(&self) -> &BTreeMap<i64, u32> {
        &self.open
    }

    /// How many runs of neighbours the unfinished offsets form, and how many of them have failed calls.
    pub fn shape(&self) -> (usize, usize) {
        (self.runs, self.failed)
    }

    /// The record at `offset` needs no call any more.
    #[inline]
    pub fn is_finished(&self, offset: i64) -> bool {
        offset < self.next && (self.open.is_empty() || !self.open.contains_key(&offset))
    }

    /// The record at `offset` has begun; it stays unfinished until [`Ledger::finish`].
    pub fn admit(&mut self, offset: i64) {
        if offset >= self.next {
            let is_neighbour = self.open.last_key_value().is_some_and(|(last, _)| last + 1 == offset);
            self.runs += usize::from(!is_neighbour);
            self.open.insert(offset, 0);
            self.next = offset + 1;
        }
    }

    /// The record at `offset` ended: as a result, a drop that is counted, or a dead letter.
    #[inline]
    pub fn finish(&mut self, offset: i64) {
        if !self.open.is_empty()
            && let Some(calls) = self.open.remove(&offset)
        {
            self.failed -= usize::from(calls > 0);
            let neighbours = [offset - 1, offset + 1].map(|beside| self.open.contains_key(&beside));
            match neighbours {
                [true, true] => self.runs += 1,
                [false, false] => self.runs -= 1,
                _ => {}
            }
        }
        if offset >= self.next {
            self.next = offset + 1;
        }
    }

    /// Nothing readable is left below `offset`: the end of the partition was reached there. A
    /// drained lane commits this, not last + 1, or markers at the end would look like lag for ever.
    pub fn reach(&mut self, offset: i64) {
        self.next = self.next.max(offset);
    }

    /// Nothing below `offset` is there any more, what had begun included; returns how many offsets were not finished.
    pub fn expire(&mut self, offset: i64) -> u64 {
        let open = self.open.split_off(&offset);
        let lost = self.open.len() as u64 + (offset - self.next).max(0) as u64;
        *self = Self::from_parts(self.next.max(offset), open);
        lost
    }

    /// A call for `offset` failed; returns how many did.
    pub fn fail(&mut self, offset: i64) -> u32 {
        self.admit(offset);
        // A finished one is not called.
        let Some(attempts) = self.open.get_mut(&offset) else { return 0 };
        self.failed += usize::from(*attempts == 0);
        *attempts = attempts.saturating_add(1);
        *attempts
    }

    /// How many calls for `offset` have failed.
    #[inline]
    pub fn attempts(&self, offset: i64) -> u32 {
        if self.open.is_empty() { 0 } else { self.open.get(&offset).copied().unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gap_is_finished_by_itself() {
        let mut ledger = Ledger::starting_at(5);
        ledger.finish(5);
        ledger.finish(9);
        assert_eq!(ledger.position(), 10);
        assert!(ledger.is_finished(7));
    }

    #[test]
    fn a_drained_lane_stands_where_the_partition_ends() {
        let mut ledger = Ledger::starting_at(0);
        ledger.finish(3);
        ledger.reach(6);
        assert_eq!(ledger.position(), 6);
        ledger.reach(2);
        assert_eq!(ledger.position(), 6, "a ledger never goes back");
    }

    #[test]
    fn a_failed_call_holds_the_position_and_counts() {
        let mut ledger = Ledger::starting_at(0);
        assert_eq!(ledger.fail(2), 1);
        assert_eq!(ledger.fail(2), 2);
        ledger.finish(3);
        assert_eq!(ledger.position(), 2);
        assert!(ledger.is_finished(3) && !ledger.is_finished(2));
        ledger.finish(2);
        assert_eq!((ledger.position(), ledger.attempts(2)), (4, 0));
    }

    #[test]
    fn what_has_expired_is_not_waited_for() {
        let mut ledger = Ledger::starting_at(0);
        (0..10).for_each(|offset| ledger.admit(offset));
        ledger.fail(2);
        assert_eq!(ledger.expire(5), 5);
        assert_eq!((ledger.position(), ledger.attempts(2), ledger.next()), (5, 0, 10));
        assert_eq!(ledger.expire(20), 15);
        assert_eq!((ledger.position(), ledger.next()), (20, 20));
    }

    proptest! {
        /// Whatever the order in which admitted records end, the position is the first unfinished
        /// one, and a record is finished exactly when it ended.
        #[test]
        fn any_order_of_ends_keeps_the_position(
            offsets in proptest::collection::btree_set(0i64..200, 1..60),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let offsets: Vec<i64> = offsets.into_iter().collect();
            let mut ledger = Ledger::starting_at(offsets[0]);
            for offset in &offsets {
                ledger.admit(*offset);
            }
            let mut ended = std::collections::BTreeSet::new();
            for pick in order {
                let offset = *pick.get(&offsets);
                ledger.finish(offset);
                ended.insert(offset);
                let first_open = offsets.iter().find(|offset| !ended.contains(offset)).copied();
                prop_assert_eq!(&ledger, &Ledger::from_parts(ledger.next, ledger.open.clone()));
                prop_assert_eq!(ledger.position(), first_open.unwrap_or(offsets[offsets.len() - 1] + 1));
                for offset in &offsets {
                    prop_assert_eq!(ledger.is_finished(*offset), ended.contains(offset));
                }
            }
        }
    }
}
