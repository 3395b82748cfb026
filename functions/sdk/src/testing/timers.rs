//! State, timers and tables of a handler under test.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keyed::{Due, Effect};
use super::{Harness, host};
use crate::{At, Done, Failure, FailureKind, Handler, OnTimer, Outcome, State, Table, Timer, export};

/// More timers than fire one after the other, unless they set each other for ever.
const MAX_FIRED: usize = 10_000;

impl<H: OnTimer> Harness<H> {
    /// With timers, which fire as soon as they are due: after each event, and when the test moves a clock.
    #[must_use]
    pub fn with_timers(mut self) -> Self {
        self.table.on_timer = Some(export::on_timer::<H>);
        self
    }

    /// Fires the timer of this key that is set, due or not, and says how the call ended. One that ended well is done with;
    /// another stays set, and its next call is the next attempt.
    ///
    /// # Panics
    /// When it is not set; when the harness is [`strict`](Self::strict) and the deliveries differ.
    pub fn fire(&mut self, key: impl AsRef<[u8]>, timer: &Timer) -> Outcome {
        let (key, name) = (key.as_ref().to_vec(), timer.name().to_owned());
        let Some(pending) = self.keys.timer(&key, &name) else {
            panic!("the key `{}` has no timer `{name}` set", String::from_utf8_lossy(&key));
        };
        let outcome = self.call_timer(&Due { key, name, pending });
        self.fire_due();
        outcome
    }
}

impl<H: Handler> Harness<H> {
    /// Moves the clock on. Timers that are due then fire, those by the wall clock first.
    ///
    /// # Panics
    /// When such a call fails: use [`fire`](Self::fire) to look at failures.
    pub fn advance(&mut self, by: Duration) {
        self.now_ms += i64::try_from(by.as_millis()).expect("no test waits that long");
        self.fire_due();
    }

    /// Moves event time on to this, milliseconds since the epoch, as events of other keys do; it never goes back. Each event
    /// that is delivered moves it to its own time as well, once it has been handled, as if there were one source. Timers that
    /// are due then fire, those by the wall clock first, and what has expired is gone.
    ///
    /// # Panics
    /// When such a call fails: use [`fire`](Self::fire) to look at failures.
    pub fn advance_event_time(&mut self, to_ms: i64) {
        self.keys.watermark_ms = self.keys.watermark_ms.max(Some(to_ms));
        self.fire_due();
    }

    /// How far event time has come, milliseconds since the epoch; `None` before the first event.
    pub fn watermark_ms(&self) -> Option<i64> {
        self.keys.watermark_ms
    }

    /// What the key has.
    ///
    /// # Panics
    /// When it is not of this shape.
    pub fn state<T: DeserializeOwned>(&self, key: impl AsRef<[u8]>, state: &State<T>) -> Option<T> {
        let value = self.keys.value(key.as_ref(), state.name())?;
        let decoded = serde_json::from_slice(value);
        Some(decoded.unwrap_or_else(|error| panic!("the state `{}`: {error}", state.name())))
    }

    /// Gives the key a value, as an earlier call, or an earlier version of the handler, would have.
    ///
    /// # Panics
    /// When the value has no form in JSON.
    pub fn put_state<T: Serialize>(&mut self, key: impl AsRef<[u8]>, state: &State<T>, value: &T) {
        let value = serde_json::to_vec(value).expect("the value has a form in JSON");
        let put = Effect::Put { name: state.name().to_owned(), value, ttl_ms: 0 };
        self.keys.apply(key.as_ref(), self.now_ms, vec![put]);
    }

    /// When the key's timer fires; `None`: it is not set.
    pub fn timer(&self, key: impl AsRef<[u8]>, timer: &Timer) -> Option<At> {
        self.keys.timer(key.as_ref(), timer.name()).map(|pending| pending.at)
    }

    /// Gives the table this row for `key`, in place of the one that it had.
    ///
    /// # Panics
    /// When the value has no form in JSON.
    pub fn put_row<T, V: Serialize + ?Sized>(&mut self, table: &Table<T>, key: impl AsRef<[u8]>, value: &V) {
        let value = serde_json::to_vec(value).expect("the value has a form in JSON");
        self.keys.rows.insert((table.name().to_owned(), key.as_ref().to_vec()), value);
    }

    /// Takes the row for `key` from the table.
    pub fn delete_row<T>(&mut self, table: &Table<T>, key: impl AsRef<[u8]>) {
        self.keys.rows.remove(&(table.name().to_owned(), key.as_ref().to_vec()));
    }

    /// Fires what is due until nothing is.
    pub(super) fn fire_due(&mut self) {
        for _ in 0..MAX_FIRED {
            let Some(due) = self.keys.next_due(self.now_ms) else { return };
            if let Err(failure) = self.call_timer(&due) {
                let Due { key, name, .. } = due;
                let key = String::from_utf8_lossy(&key);
                panic!(
                    "the timer `{name}` of the key `{key}` failed: {failure}; to look at failures use `fire`"
                );
            }
        }
        panic!("{MAX_FIRED} timers fired one after the other: does one set itself to a time that has come?");
    }

    fn call_timer(&mut self, due: &Due) -> Outcome {
        let on_timer = self.table.on_timer.expect("without it none can be set");
        let now_ms = self.now_ms;
        let what = format!("the timer `{}`", due.name);
        let (outcome, effects) = self
            .deliver(&what, |instance, setting| host::on_timer(on_timer, instance, (due, now_ms), setting));
        match outcome {
            Ok(_) => self.keys.cancel(&due.key, &due.name),
            Err(_) => self.keys.failed(&due.key, &due.name),
        }
        let time_ms = match due.pending.at {
            At::Event(at_ms) => at_ms,
            At::Clock(_) => self.keys.watermark_ms.unwrap_or(now_ms),
        };
        self.keys.apply(&due.key, time_ms, effects);
        outcome
    }

    /// Event time has come as far as an event that is done with.
    pub(super) fn moved_by(&mut self, time_ms: i64, outcome: &Outcome) {
        let is_done_with = match outcome {
            Ok(Done::Ok | Done::Skip) => true,
            Err(failure) => is_reject(failure),
        };
        if is_done_with && time_ms >= 0 {
            self.advance_event_time(time_ms);
        }
    }
}

fn is_reject(failure: &Failure) -> bool {
    matches!(failure.kind(), FailureKind::Reject(_))
}
