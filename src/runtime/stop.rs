//! The one signal that runs from the top down: stop.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// A flag that is set once, and that threads can wait for. Clones share it.
#[derive(Clone, Default)]
pub struct Stop {
    shared: Arc<Flag>,
}

#[derive(Default)]
struct Flag {
    state: Mutex<State>,
    rings: Condvar,
}

#[derive(Default)]
struct State {
    is_set: bool,
    children: Vec<Weak<Flag>>,
    then: Vec<Then>,
}

/// What is done when it is set.
type Then = Box<dyn FnOnce() + Send>;

impl Flag {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        let (children, then) = {
            let mut state = self.state();
            state.is_set = true;
            (std::mem::take(&mut state.children), std::mem::take(&mut state.then))
        };
        self.rings.notify_all();
        then.into_iter().for_each(|then| then());
        children.iter().filter_map(Weak::upgrade).for_each(|child| child.set());
    }
}

impl Stop {
    /// Stop.
    pub fn set(&self) {
        self.shared.set();
    }

    /// A stop of a part: set by itself, or with this one.
    pub fn child(&self) -> Self {
        let child = Self::default();
        let mut state = self.shared.state();
        child.shared.state().is_set = state.is_set;
        state.children.retain(|child| child.strong_count() > 0);
        state.children.push(Arc::downgrade(&child.shared));
        drop(state);
        child
    }

    /// Does this when it is set, on the thread that sets it, which may hold locks: no more than a word to somebody else.
    /// At once if it is set already.
    pub fn then(&self, then: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state();
        if !state.is_set {
            return state.then.push(Box::new(then));
        }
        drop(state);
        then();
    }

    /// It was set.
    pub fn is_set(&self) -> bool {
        self.shared.state().is_set
    }

    /// Waits until it is set, at most so long; whether it is set.
    pub fn wait(&self, time: Duration) -> bool {
        let (state, _) = self
            .shared
            .rings
            .wait_timeout_while(self.shared.state(), time, |state| !state.is_set)
            .unwrap_or_else(PoisonError::into_inner);
        state.is_set
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

    #[test]
    fn what_is_to_follow_follows_once() {
        let (sender, told) = std::sync::mpsc::channel();
        let (whole, word) = (Stop::default(), |n| {
            let sender = sender.clone();
            move || sender.send(n).expect("somebody listens")
        });
        let part = whole.child();
        part.then(word(1));
        assert!(told.try_recv().is_err());
        whole.set();
        part.set();
        part.then(word(2));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_part_stops_alone_and_the_whole_stops_its_parts() {
        let whole = Stop::default();
        let parts = [whole.child(), whole.child()];
        parts[0].set();
        assert!(parts[0].is_set() && !parts[1].is_set() && !whole.is_set());
        whole.set();
        assert!(parts[1].wait(Duration::ZERO));
        assert!(whole.child().is_set(), "too late to begin");
    }
}
