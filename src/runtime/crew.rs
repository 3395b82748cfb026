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
}

/// What a worker says of itself. Clones share it.
#[derive(Clone)]
pub struct Word(Arc<(AtomicU64, AtomicBool)>);

impl Default for Word {
    fn default() -> Self {
        Self(Arc::new((AtomicU64::new(BUSY), AtomicBool::new(false))))
    }
}

impl Word {
    /// It is idle since then, on the clock's monotonic time, or busy; and has the first partition or not.
    pub fn say(&self, idle_since: Option<Duration>, has_first: bool) {
        let ms = idle_since.map_or(BUSY, |since| u64::try_from(since.as_millis()).unwrap_or(BUSY - 1));
        self.0.0.store(ms, Ordering::Relaxed);
        self.0.1.store(has_first, Ordering::Relaxed);
    }

    /// Since when it is idle.
    pub fn idle_since(&self) -> Option<Duration> {
        Some(self.0.0.load(Ordering::Relaxed)).filter(|ms| *ms != BUSY).map(Duration::from_millis)
    }

    /// It has the first partition.
    pub fn has_first(&self) -> bool {
        self.0.1.load(Ordering::Relaxed)
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

    /// It sleeps until this rings; `None`: it is awake.
    pub fn sleeps(&self, bell: Option<Bell>) {
        *self.bell() = bell;
    }

    /// Wakes it; `false`: it does not sleep.
    pub fn wake(&self) -> bool {
        let bell = self.bell();
        bell.iter().for_each(|bell| bell.stop.set());
        bell.is_some()
    }

    fn bell(&self) -> std::sync::MutexGuard<'_, Option<Bell>> {
        self.inner.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
