//! The backlog of one partition: how many offsets are still to be handled, at most.

use crate::kafka::Bounds;
use crate::pipeline::Ledger;

/// How many of the offsets in `bounds` are not finished.
///
/// This is `end - max(committed, log start)` less what the ledger says is finished beyond the committed offset. It is an upper
/// bound: markers of transactions, aborted, compacted and expired records have offsets too, and nothing tells them from
/// records but reading. It comes to 0 all the same, since a lane that has read everything commits the position that the
/// partition's end reports, not the last record's. With the last stable offset as `end` (a `read_committed` question) an
/// open transaction of others is no backlog: nobody could read past it.
pub fn unread(ledger: &Ledger, bounds: Bounds) -> u64 {
    let Bounds { log_start, end } = bounds;
    let never_begun = end.saturating_sub(ledger.next().max(log_start)).max(0) as u64;
    let open = match log_start < end {
        true => ledger.open().range(log_start..end).count() as u64,
        false => 0,
    };
    never_begun + open
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger in which all below `committed` is finished, and of the rest that which is named.
    fn ledger(committed: i64, finished: &[i64]) -> Ledger {
        let mut ledger = Ledger::starting_at(committed);
        let next = finished.iter().max().map_or(committed, |last| last + 1);
        (committed..next).for_each(|offset| ledger.admit(offset));
        finished.iter().for_each(|offset| ledger.finish(*offset));
        ledger
    }

    #[test]
    fn a_backlog_is_what_is_there_and_not_finished() {
        // Committed, finished beyond it, log start, end, backlog.
        let cases: [(i64, &[i64], i64, i64, u64); 12] = [
            (0, &[], 0, 0, 0),
            (7, &[], 0, 10, 3),
            (10, &[], 0, 10, 0),
            // Nothing was committed, or what was has been deleted since.
            (0, &[], 4, 10, 6),
            (2, &[], 4, 10, 6),
            // Committed beyond the end: the topic was made anew, or an unclean election cut it.
            (12, &[], 0, 10, 0),
            // 3 waits for its retry, 4 to 7 are done.
            (3, &[4, 5, 6, 7], 0, 10, 3),
            (3, &[5], 0, 6, 2),
            (3, &[9], 0, 10, 6),
            // The deleted part of the ledger counts no more, on either side.
            (3, &[4, 7], 6, 10, 3),
            (3, &[4, 7], 9, 10, 1),
            // All of it is gone.
            (3, &[4, 7], 10, 10, 0),
        ];
        for (committed, finished, log_start, end, backlog) in cases {
            let ledger = ledger(committed, finished);
            let found = unread(&ledger, Bounds { log_start, end });
            assert_eq!(found, backlog, "{committed} {finished:?} {log_start}..{end}");
        }
    }

    proptest::proptest! {
        /// Counted one by one.
        #[test]
        fn it_is_counted_as_one_would_by_hand(
            committed in 0i64..40,
            finished in proptest::collection::btree_set(0i64..60, 0..30),
            log_start in 0i64..60,
            length in 0i64..60,
        ) {
            let finished: Vec<i64> = finished.into_iter().filter(|offset| *offset >= committed).collect();
            let ledger = ledger(committed, &finished);
            let by_hand = (log_start..log_start + length).filter(|offset| !ledger.is_finished(*offset)).count();
            let bounds = Bounds { log_start, end: log_start + length };
            proptest::prop_assert_eq!(unread(&ledger, bounds), by_hand as u64);
        }
    }
}
