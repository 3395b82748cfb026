//! Time: the one place that reads a clock. Everything else is handed a [`Moment`] or a [`Clock`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Wall clock, milliseconds since the epoch.
    pub wall_ms: i64,
    /// Monotonic time since the clock was made.
    pub elapsed: Duration,
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Both clocks, read together.
    fn now(&self) -> Moment;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { wall_ms: wall.as_millis() as i64, elapsed: self.origin.elapsed() }
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub struct ManualClock {
    start_ms: i64,
    elapsed_us: AtomicI64,
}

impl ManualClock {
    /// A clock that stands at `wall_ms` until it is moved.
    pub fn at(wall_ms: i64) -> Self {
        Self { start_ms: wall_ms, elapsed_us: AtomicI64::new(0) }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.elapsed_us.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        let elapsed = self.elapsed_us.load(Ordering::SeqCst);
        Moment { wall_ms: self.start_ms + elapsed / 1000, elapsed: Duration::from_micros(elapsed as u64) }
    }
}
