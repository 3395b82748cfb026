//! How many workers a function has in this process, and whether it sleeps.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::doorbell::Bell;

/// A worker that is not idle, or has not said anything.
const BUSY: u64 = u64::MAX;

/// What a function's thread, its workers, and whoever decides about them know of each other. Clones share it.
#[derive(Clone, Default)]
pub struct Crew {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// How many there should be while it is awake; 0: nobody has said.
    wanted: AtomicU32,
    /// How many there are.
    running: AtomicU32,
    /// One of them has the first partition.
    decides: AtomicBool,
    /// Rings while it sleeps.
    bell: Mutex<Option<Bell>>,
    /// Somebody wanted it awake since it began to fall asleep.
    is_called: AtomicBool,
}

/// What a worker says of itself. Clones share it.
#[derive(Clone)]
pub struct Word(Arc<Said>);

struct Said {
    idle_since_ms: AtomicU64,
    has_first: AtomicBool,
    partitions: AtomicU32,
}

impl Default for Word {
    fn default() -> Self {
        Self(Arc::new(Said {
            idle_since_ms: AtomicU64::new(BUSY),
            has_first: AtomicBool::default(),
            partitions: AtomicU32::default(),
        }))
    }
}

impl Word {
    /// It is idle since then, on the clock's monotonic time, or busy; has the first partition or not; and so many.
    pub fn say(&self, idle_since: Option<Duration>, has_first: bool, partitions: usize) {
        let ms = idle_since.map_or(BUSY, |since| u64::try_from(since.as_millis()).unwrap_or(BUSY - 1));
        self.0.idle_since_ms.store(ms, Ordering::Relaxed);
        self.0.has_first.store(has_first, Ordering::Relaxed);
        self.0.partitions.store(u32::try_from(partitions).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Since when it is idle.
    pub fn idle_since(&self) -> Option<Duration> {
        let ms = self.0.idle_since_ms.load(Ordering::Relaxed);
        Some(ms).filter(|ms| *ms != BUSY).map(Duration::from_millis)
    }

    /// It has the first partition.
    pub fn has_first(&self) -> bool {
        self.0.has_first.load(Ordering::Relaxed)
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> u32 {
        self.0.partitions.load(Ordering::Relaxed)
    }
}

/// Whether workers are to hurry: one came or went, and partitions are not shared out yet. Clones share what was said.
#[derive(Clone, Default)]
pub struct Haste(Arc<AtomicBool>);

impl Haste {
    /// They are.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// They are to, or not.
    pub fn set(&self, is_on: bool) {
        self.0.store(is_on, Ordering::Relaxed);
    }
}

/// How partitions are shared out among the workers, seen from time to time.
#[derive(Default)]
pub struct Balance {
    /// How many each has.
    seen: Vec<u32>,
    /// When that changed last.
    since: Duration,
    /// They hurry no longer than until then.
    until: Duration,
}

impl Balance {
    /// The longest hurry; there may be more workers than partitions.
    const LONGEST: Duration = Duration::from_secs(5);
    /// So long nothing may have changed for it to end.
    const QUIET: Duration = Duration::from_millis(500);

    /// How many partitions each worker has `now`; whether they are to hurry.
    pub fn look(&mut self, partitions: impl Iterator<Item = u32>, now: Duration) -> bool {
        let partitions: Vec<u32> = partitions.collect();
        let has_lost = self.seen.iter().zip(&partitions).any(|(before, now)| *before > 0 && *now == 0);
        if self.seen.len() != partitions.len() || has_lost {
            self.until = now + Self::LONGEST;
        }
        if self.seen != partitions {
            self.seen = partitions;
            self.since = now;
        }
        let is_quiet = now.saturating_sub(self.since) >= Self::QUIET;
        if is_quiet && self.seen.iter().all(|has| *has > 0) {
            self.until = Duration::ZERO;
        }
        now < self.until
    }
}

impl Crew {
    /// How many workers there should be from now on; `None`: nobody has said.
    pub fn wanted(&self) -> Option<u32> {
        Some(self.inner.wanted.load(Ordering::Relaxed)).filter(|wanted| *wanted > 0)
    }

    /// There should be so many, at least one.
    pub fn want(&self, workers: u32) {
        self.inner.wanted.store(workers.max(1), Ordering::Relaxed);
    }

    /// How many workers there are here.
    pub fn running(&self) -> u32 {
        self.inner.running.load(Ordering::Relaxed)
    }

    /// This process decides how many workers there are: one of its own has the first partition.
    pub fn decides(&self) -> bool {
        self.inner.decides.load(Ordering::Relaxed)
    }

    /// There are so many, and one of them has the first partition or not.
    pub fn runs(&self, workers: usize, has_first: bool) {
        self.inner.decides.store(has_first, Ordering::Relaxed);
        self.inner.running.store(u32::try_from(workers).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Its workers are about to go, for which there is no bell yet.
    pub fn falls_asleep(&self) {
        self.inner.is_called.store(false, Ordering::SeqCst);
    }

    /// It sleeps until this rings, at once if somebody wanted it awake while it fell asleep; `None`: it is awake.
    pub fn sleeps(&self, bell: Option<Bell>) {
        let mut place = self.bell();
        if self.inner.is_called.swap(false, Ordering::SeqCst) {
            bell.iter().for_each(|bell| bell.stop.set());
        }
        *place = bell;
    }

    /// Wakes it; `false`: it does not sleep.
    pub fn wake(&self) -> bool {
        let bell = self.bell();
        bell.iter().for_each(|bell| bell.stop.set());
        self.inner.is_called.store(bell.is_none(), Ordering::SeqCst);
        bell.is_some()
    }

    fn bell(&self) -> std::sync::MutexGuard<'_, Option<Bell>> {
        self.inner.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_hurry_until_each_has_partitions_and_nothing_changes_any_more() {
        let mut balance = Balance::default();
        for (ms, partitions, hurry) in [
            (0, vec![0], true),
            (600, vec![0], true),
            (700, vec![8], true),
            (1199, vec![8], true),
            (1200, vec![8], false),
            (3000, vec![8, 0], true),
            (3100, vec![4, 4], true),
            (3600, vec![4, 4], false),
            // Others took some: nobody came or went here.
            (4000, vec![3, 2], false),
            (5000, vec![3], true),
            (5100, vec![8], true),
            (5600, vec![8], false),
            // More of them than partitions, and that is all.
            (7000, vec![8, 0], true),
            (11_999, vec![8, 0], true),
            (12_000, vec![8, 0], false),
            // It was started again.
            (13_000, vec![0, 0], true),
        ] {
            let now = Duration::from_millis(ms);
            assert_eq!(balance.look(partitions.iter().copied(), now), hurry, "{ms}: {partitions:?}");
        }
    }
}
