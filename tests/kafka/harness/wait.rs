//! Waiting for a condition with a deadline: the only way a test waits.

use std::time::{Duration, Instant};

/// Polls `condition` until it holds. Panics with `what` when it has not after `within`.
#[track_caller]
pub fn wait_until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    try_wait(within, what, || if condition() { Ok(()) } else { Err("it has not come".to_owned()) })
}

/// Polls `attempt` until it gives a value. Panics with `what` and the last reason after `within`.
#[track_caller]
pub fn try_wait<T>(within: Duration, what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Deadline::after(within);
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if deadline.is_over() => panic!("waited {within:?} for {what}: {reason}"),
            Err(_) => pause(),
        }
    }
}

/// Holds `condition` to be true all the while.
#[track_caller]
pub fn holds_for(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Deadline::after(time);
    while !deadline.is_over() {
        assert!(condition(), "{what}: not so before {time:?} were over");
        pause();
    }
}

/// A moment after which waiting is over.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "tests on a real broker run in real time")]
    pub fn after(within: Duration) -> Self {
        Self(Instant::now() + within)
    }

    #[expect(clippy::disallowed_methods, reason = "tests on a real broker run in real time")]
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// The pause between two looks at a condition.
#[expect(clippy::disallowed_methods, reason = "between two looks at a condition, not in place of one")]
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
