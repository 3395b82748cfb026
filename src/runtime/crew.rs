//! How many workers a function has in this process, and whether it sleeps.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
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
    /// Rings while it sleeps.
    bell: Mutex<Option<Bell>>,
}

/// Since when a worker has nothing to do, on the clock's monotonic time. Clones share it.
#[derive(Clone)]
pub struct Idle(Arc<AtomicU64>);

impl Default for Idle {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(BUSY)))
    }
}

impl Idle {
    /// It is idle since then, or busy.
    pub fn set(&self, since: Option<Duration>) {
        let ms = since.map_or(BUSY, |since| u64::try_from(since.as_millis()).unwrap_or(BUSY - 1));
        self.0.store(ms, Ordering::Relaxed);
    }

    /// Since when.
    pub fn since(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ms| *ms != BUSY).map(Duration::from_millis)
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
