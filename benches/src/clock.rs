//! The machine's clock. A benchmark measures real time, so nothing here can be virtual.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Lets the measured process run for `time` without looking at it.
#[expect(clippy::disallowed_methods, reason = "the pace of sampling, and the length of an idle measurement")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Asks `look` every `pace` until it has an answer; fails with `what` when `deadline` has passed.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    pace: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begin = now();
    loop {
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if begin.elapsed() > deadline {
            bail!("{what}: not within {} s", deadline.as_secs());
        }
        pause(pace);
    }
}
