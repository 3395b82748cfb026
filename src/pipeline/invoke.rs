//! Invoke: the call of a handler, and what its outcome means for the event.

use std::time::Duration;

use crate::model::{Outbox, Outcome, Retry};
use crate::plugin::Instance;
pub use crate::plugin::{Call, OfTimer, OfWindow, result_number};

/// Something that handles events: a loaded plugin's instance, or a closure in a test. Each worker
/// thread has its own, so it needs no locks.
pub trait Handler: Send {
    /// Handles one event; what it emits is staged in `outbox` and dropped by the caller on failure.
    fn call(&mut self, call: &Call<'_>, outbox: &mut Outbox) -> Outcome;

    /// It takes windows.
    fn has_on_window(&self) -> bool {
        false
    }

    /// Handles a window that gives its result, in the same way; one that takes no windows rejects it. Outputs without a
    /// key or a time of their own get the window's; a plugin's have them when they are staged, for others whoever routes
    /// them sees to it.
    fn call_window(&mut self, call: &OfWindow<'_>, outbox: &mut Outbox) -> Outcome {
        let _ = (call, outbox);
        Outcome::Failed(OfWindow::refusal())
    }

    /// It takes timers.
    fn has_on_timer(&self) -> bool {
        false
    }

    /// Handles a timer that fires, in the same way; one that takes no timers rejects it.
    fn call_timer(&mut self, call: &OfTimer<'_>, outbox: &mut Outbox) -> Outcome {
        let _ = (call, outbox);
        Outcome::Failed(OfTimer::refusal())
    }

    /// Hands over what the author counted since the last time, by name.
    fn take_counts(&mut self, each: &mut dyn FnMut(&str, u64));
}

impl Handler for Instance {
    fn call(&mut self, call: &Call<'_>, outbox: &mut Outbox) -> Outcome {
        Instance::call(self, call, outbox)
    }

    fn has_on_window(&self) -> bool {
        Instance::has_on_window(self)
    }

    fn call_window(&mut self, call: &OfWindow<'_>, outbox: &mut Outbox) -> Outcome {
        Instance::call_window(self, call, outbox)
    }

    fn has_on_timer(&self) -> bool {
        Instance::has_on_timer(self)
    }

    fn call_timer(&mut self, call: &OfTimer<'_>, outbox: &mut Outbox) -> Outcome {
        Instance::call_timer(self, call, outbox)
    }

    fn take_counts(&mut self, each: &mut dyn FnMut(&str, u64)) {
        Instance::take_counts(self, each);
    }
}

/// The pause before attempt `attempts + 1`: `initial * factor^(attempts-1)`, at most `max`, moved by up to
/// `jitter` of itself to either side. `dice` is uniform in 0..1.
pub fn back_off(retry: &Retry, attempts: u32, dice: f64) -> Duration {
    let exponent = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
    let plain = (retry.initial.as_secs_f64() * retry.factor.powi(exponent)).min(retry.max.as_secs_f64());
    let moved = plain * (1.0 + retry.jitter * (2.0 * dice - 1.0));
    Duration::try_from_secs_f64(moved.clamp(0.0, retry.max.as_secs_f64())).unwrap_or(retry.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_jitter_around_it() {
        let retry = Retry {
            max_attempts: 12,
            initial: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.2,
        };
        let pauses: Vec<_> = (1..=10).map(|attempts| back_off(&retry, attempts, 0.5).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
        assert_eq!(back_off(&retry, 1, 0.0), Duration::from_millis(160));
        assert_eq!(back_off(&retry, 1, 1.0), Duration::from_millis(240));
        assert_eq!(back_off(&retry, u32::MAX, 1.0), Duration::from_secs(30));
    }
}
