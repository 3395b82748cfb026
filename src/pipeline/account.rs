//! What became of a lane's events, in numbers that are committed with its progress: what was consumed has ended once,
//! or is in flight.

use super::process::Settled;

/// The ends of a lane's events since counting began. `consumed = ok + skipped + filtered + dead_letters`, and what the
/// ledger holds open is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// The first offset that is counted.
    pub since: i64,
    /// Handled.
    pub ok: u64,
    /// Of these, those that wrote nothing: no output, or none that a sink takes.
    pub silent: u64,
    /// The handler skipped them.
    pub skipped: u64,
    /// A filter refused them.
    pub filtered: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Records written to sinks.
    pub outputs: u64,
}

impl Account {
    /// How many numbers follow `since` when it is written down.
    pub(super) const COUNTS: usize = 6;

    /// Counting begins at `offset`.
    pub fn starting_at(offset: i64) -> Self {
        Self { since: offset, ..Self::default() }
    }

    /// Events that have ended.
    pub fn consumed(&self) -> u64 {
        self.ok + self.skipped + self.filtered + self.dead_letters
    }

    /// One more has ended; one that is tried again has not.
    #[inline]
    pub fn add(&mut self, settled: &Settled) {
        match settled {
            Settled::Ok { written, .. } => {
                self.ok += 1;
                self.silent += u64::from(*written == 0);
                self.outputs += u64::from(*written);
            }
            Settled::Skipped => self.skipped += 1,
            Settled::Filtered => self.filtered += 1,
            Settled::DeadLetter { .. } => self.dead_letters += 1,
            Settled::Retry { .. } | Settled::Stop { .. } => {}
        }
    }

    /// The numbers, in the order in which they are written down. New ones go to the end.
    pub(super) fn counts(&self) -> [u64; Self::COUNTS] {
        [self.ok, self.silent, self.skipped, self.filtered, self.dead_letters, self.outputs]
    }

    /// The same read back.
    pub(super) fn from_counts(since: i64, counts: [u64; Self::COUNTS]) -> Self {
        let [ok, silent, skipped, filtered, dead_letters, outputs] = counts;
        Self { since, ok, silent, skipped, filtered, dead_letters, outputs }
    }
}
