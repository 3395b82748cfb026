//! When a worker looks at the clock, and when it cuts.

use std::time::Duration;

/// How many records are handled between two looks at the clock.
///
/// A clock read costs as much as a cheap call, so cheap calls are timed in groups of about half a
/// millisecond and counted with their mean; a call that takes longer than that is timed alone.
#[derive(Debug)]
pub struct Stride(u32);

impl Stride {
    const LONGEST: u32 = 512;

    /// Begins with single records.
    pub fn new() -> Self {
        Self(1)
    }

    /// Records in the next group.
    pub fn records(&self) -> u32 {
        self.0
    }

    /// The last full group took so long.
    pub fn took(&mut self, time: Duration) {
        if time < Duration::from_micros(250) {
            self.0 = (self.0 * 2).min(Self::LONGEST);
        } else if time > Duration::from_millis(1) {
            self.0 = (self.0 / 2).max(1);
        }
    }
}

/// When the next cut is due.
#[derive(Debug)]
pub struct CutPace {
    interval: Duration,
    /// When the first record after the last cut came.
    opened: Duration,
    last_end: Duration,
    last_took: Duration,
    /// When something came that the last cut had sent on.
    came_back: Option<Duration>,
}

impl CutPace {
    /// Cuts at most `interval` apart.
    pub fn new(interval: Duration, now: Duration) -> Self {
        Self { interval, opened: now, last_end: now, last_took: Duration::ZERO, came_back: None }
    }

    /// A cut ended now and took so long.
    pub fn cut(&mut self, now: Duration, took: Duration) {
        self.opened = now;
        self.last_end = now;
        self.last_took = took;
        self.came_back = None;
    }

    /// Something came that was sent on in an earlier cut: it has waited for one already.
    pub fn came_back(&mut self, now: Duration) {
        self.came_back.get_or_insert(now);
    }

    /// How long what is open has been so.
    pub fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.opened)
    }

    /// Nothing was open until now: the interval begins here.
    pub fn begin(&mut self, now: Duration) {
        self.opened = now;
    }

    /// How long until a cut is due: at the interval while records keep coming; with nothing left to read at
    /// once, but from cut to cut no sooner than twice the last one's duration, so that commits never take most of the time.
    /// What came back after an earlier cut waits only for others that did: a quarter of that duration.
    pub fn wait(&self, now: Duration, is_drained: bool) -> Duration {
        let due = if is_drained {
            let rest = self.last_took.min(self.interval);
            let back = self.came_back.map_or(Duration::MAX, |at| at + rest / 4);
            back.min(self.last_end + rest)
        } else {
            self.opened + self.interval
        };
        due.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_drained_worker_cuts_at_once_but_not_more_than_half_of_the_time() {
        let mut pace = CutPace::new(100 * MS, Duration::ZERO);
        assert_eq!(pace.wait(Duration::ZERO, true), Duration::ZERO);
        assert_eq!(pace.wait(Duration::ZERO, false), 100 * MS);
        pace.cut(50 * MS, 10 * MS);
        assert_eq!(pace.wait(50 * MS, true), 10 * MS);
        assert_eq!(pace.wait(55 * MS, true), 5 * MS);
        assert_eq!(pace.wait(60 * MS, false), 90 * MS);
        assert_eq!(pace.wait(200 * MS, false), Duration::ZERO);
        pace.came_back(52 * MS);
        pace.came_back(54 * MS);
        assert_eq!(
            pace.wait(52 * MS, true),
            10 * MS / 4,
            "what has waited for a cut waits little for the next"
        );
        pace.cut(60 * MS, 10 * MS);
        assert_eq!(pace.wait(60 * MS, true), 10 * MS);
        pace.begin(500 * MS);
        assert_eq!(pace.wait(500 * MS, true), Duration::ZERO, "after a rest the first event is cut at once");
        assert_eq!(pace.wait(500 * MS, false), 100 * MS);
    }

    #[test]
    fn cheap_calls_are_timed_in_groups_and_slow_ones_alone() {
        let mut stride = Stride::new();
        for _ in 0..20 {
            stride.took(Duration::from_micros(10));
        }
        assert_eq!(stride.records(), 512);
        for _ in 0..20 {
            stride.took(5 * MS);
        }
        assert_eq!(stride.records(), 1);
    }
}
