//! The one signal that runs from the top down: stop.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A flag that is set once, and that threads can wait for. Clones share it.
#[derive(Clone, Default)]
pub struct Stop {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Stop {
    /// Stop.
    pub fn set(&self) {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.1.notify_all();
    }

    /// It was set.
    pub fn is_set(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is set, at most so long; whether it is set.
    pub fn wait(&self, time: Duration) -> bool {
        let guard = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .shared
            .1
            .wait_timeout_while(guard, time, |is_set| !*is_set)
            .unwrap_or_else(PoisonError::into_inner);
        *guard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiter_wakes_when_it_is_set() {
        let stop = Stop::default();
        assert!(!stop.wait(Duration::from_millis(1)));
        let waiter = {
            let stop = stop.clone();
            std::thread::spawn(move || stop.wait(Duration::from_secs(60)))
        };
        stop.set();
        assert!(waiter.join().expect("the waiter ends"));
        assert!(stop.is_set());
    }
}
