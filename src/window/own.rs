//! What a key has besides windows: what the handler keeps for it, timers, and rows of tables. Time is event time but for
//! timers by the wall clock, which are in an order of their own.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Held, Key, Kind, NEVER, Results, Windows};
use crate::model::{At, Effect, Fire};

/// What a handler keeps under a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    pub name: Arc<str>,
    pub kept: KeptValue,
}

/// The same, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptValue {
    /// The watermark at which it is gone.
    pub expires_ms: i64,
    pub bytes: Bytes,
}

/// A timer that has not fired.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timer {
    pub name: Arc<str>,
    pub at: At,
}

/// What a table has for the key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub source: u16,
    pub bytes: Bytes,
}

/// All of that, each kind by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Own {
    pub values: Vec<Value>,
    pub timers: Vec<Timer>,
    pub rows: Vec<Row>,
}

/// Timers by the wall clock, of all keys.
pub(super) type ClockTimers = BTreeSet<(i64, Key, Arc<str>)>;

impl Own {
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.timers.is_empty() && self.rows.is_empty()
    }

    pub fn bytes(&self) -> usize {
        let values = self.values.iter().map(|value| size_of::<Value>() + value.kept.bytes.len());
        let rows = self.rows.iter().map(|row| size_of::<Row>() + row.bytes.len());
        size_of::<Self>() + self.timers.len() * size_of::<Timer>() + values.chain(rows).sum::<usize>()
    }

    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let at = self.values.binary_search_by(|value| (*value.name).cmp(name)).ok()?;
        Some(&self.values[at].kept.bytes)
    }

    pub fn row(&self, source: u16) -> Option<&[u8]> {
        let at = self.rows.binary_search_by_key(&source, |row| row.source).ok()?;
        Some(&self.rows[at].bytes)
    }

    pub fn set_value(&mut self, name: Arc<str>, kept: Option<KeptValue>) {
        match (self.values.binary_search_by(|value| value.name.cmp(&name)), kept) {
            (Ok(at), Some(kept)) => self.values[at].kept = kept,
            (Err(at), Some(kept)) => {
                self.values.reserve_exact(1);
                self.values.insert(at, Value { name, kept });
            }
            (Ok(at), None) => {
                self.values.remove(at);
            }
            (Err(_), None) => {}
        }
    }

    /// Sets or takes away a timer; when it was to fire before.
    pub fn set_timer(&mut self, name: Arc<str>, at: Option<At>) -> Option<At> {
        match (self.timers.binary_search_by(|timer| timer.name.cmp(&name)), at) {
            (Ok(place), Some(at)) => Some(std::mem::replace(&mut self.timers[place].at, at)),
            (Err(place), Some(at)) => {
                self.timers.reserve_exact(1);
                self.timers.insert(place, Timer { name, at });
                None
            }
            (Ok(place), None) => Some(self.timers.remove(place).at),
            (Err(_), None) => None,
        }
    }

    pub fn set_row(&mut self, source: u16, bytes: Option<Bytes>) {
        match (self.rows.binary_search_by_key(&source, |row| row.source), bytes) {
            (Ok(at), Some(bytes)) => self.rows[at].bytes = bytes,
            (Err(at), Some(bytes)) => {
                self.rows.reserve_exact(1);
                self.rows.insert(at, Row { source, bytes });
            }
            (Ok(at), None) => {
                self.rows.remove(at);
            }
            (Err(_), None) => {}
        }
    }

    /// The watermark at which something of it is due.
    pub fn next_look(&self) -> Option<i64> {
        let timers = self.timers.iter().filter_map(|timer| match timer.at {
            At::Event(at) => Some(at),
            At::Clock(_) => None,
        });
        let values = self.values.iter().map(|value| value.kept.expires_ms);
        timers.chain(values.filter(|expires_ms| *expires_ms != NEVER)).min()
    }

    /// When the last timer by event time fires.
    pub fn last_timer(&self) -> Option<i64> {
        let times = self.timers.iter().filter_map(|timer| match timer.at {
            At::Event(at) => Some(at),
            At::Clock(_) => None,
        });
        times.max()
    }

    /// Takes out the timers that fire at this watermark, in the order of their times, and forgets what is over.
    pub fn take_due(&mut self, watermark_ms: i64) -> Vec<Timer> {
        let is_due = |timer: &mut Timer| matches!(timer.at, At::Event(at) if at <= watermark_ms);
        let mut due: Vec<Timer> = self.timers.extract_if(.., is_due).collect();
        due.sort_by_key(|timer| timer.at.time_ms());
        self.values.retain(|value| value.kept.expires_ms > watermark_ms);
        due
    }

    /// Shows the timers by the wall clock.
    pub fn clock_timers(&self) -> impl Iterator<Item = (i64, &Arc<str>)> {
        self.timers.iter().filter_map(|timer| match timer.at {
            At::Clock(at) => Some((at, &timer.name)),
            At::Event(_) => None,
        })
    }
}

impl Held {
    pub(super) fn own_mut(&mut self) -> &mut Own {
        self.own.get_or_insert_default()
    }

    /// Nothing stays where nothing is kept.
    fn tidy_own(&mut self) {
        if self.own.as_ref().is_some_and(|own| own.is_empty()) {
            self.own = None;
        }
    }

    pub(super) fn take_due(&mut self, watermark_ms: i64) -> Vec<Timer> {
        let due = self.own.as_mut().map(|own| own.take_due(watermark_ms)).unwrap_or_default();
        self.tidy_own();
        due
    }
}

impl Windows {
    /// What a call did to its key. `time_ms` is the event time of the call: what is kept for a while is kept from there
    /// or, if that is later, from the watermark on.
    pub fn apply<'e>(&mut self, key: &[u8], time_ms: i64, effects: impl Iterator<Item = Effect<'e>>) {
        let now_ms = self.watermark_ms.max(time_ms).max(0);
        for effect in effects {
            let name = match effect {
                Effect::Put { name, .. }
                | Effect::Delete { name }
                | Effect::Timer { name, .. }
                | Effect::Cancel { name } => self.name(name),
            };
            if let Effect::Timer { .. } | Effect::Cancel { .. } = effect {
                // One that has fired, and whose call failed, is set anew or cancelled too.
                self.waiting.cancel(key, &name);
            }
            let is_nothing = matches!(effect, Effect::Delete { .. } | Effect::Cancel { .. });
            if is_nothing && self.keys.get(key).is_none_or(|held| held.own.is_none()) {
                continue;
            }
            let place = self.keys.touch(key);
            let (key, held) = self.keys.held_mut(place);
            let own = held.own_mut();
            match effect {
                Effect::Put { value, ttl, .. } => {
                    let ttl = ttl.map(super::ms).or(self.ttl);
                    let expires_ms = ttl.map_or(NEVER, |ttl| now_ms.saturating_add(ttl));
                    let bytes = Bytes::copy_from_slice(value);
                    own.set_value(name, Some(KeptValue { expires_ms, bytes }));
                }
                Effect::Delete { .. } => own.set_value(name, None),
                Effect::Timer { at, .. } => {
                    let before = own.set_timer(Arc::clone(&name), Some(at));
                    index(&mut self.clock_timers, (key, &name), (before, Some(at)));
                }
                Effect::Cancel { .. } => {
                    let before = own.set_timer(Arc::clone(&name), None);
                    index(&mut self.clock_timers, (key, &name), (before, None));
                }
            }
            held.tidy_own();
            self.look_again(place);
        }
    }

    /// The newest row of a table for a key; `None`: it is deleted. Results of stitches that waited for it go to `results`.
    pub fn set_row(&mut self, (source, key): (u16, &[u8]), row: Option<&[u8]>, results: &mut Results<'_>) {
        let place = self.keys.touch(key);
        let (_, held) = self.keys.held_mut(place);
        held.own_mut().set_row(source, row.map(Bytes::copy_from_slice));
        held.tidy_own();
        let is_waited_for = self.rules.fire == Fire::Complete && self.rules.stitch.need.contains(&source);
        if let Kind::Stitch { within } = self.rules.kind
            && is_waited_for
            && row.is_some()
        {
            self.taking(results, |windows, results| windows.complete_stitches(key, within, results));
        }
    }

    /// What a key has under a name.
    pub fn value(&self, key: &[u8], name: &str) -> Option<&[u8]> {
        self.keys.get(key)?.own.as_ref()?.value(name)
    }

    /// What a table has for a key.
    pub fn row(&self, key: &[u8], source: u16) -> Option<&[u8]> {
        self.keys.get(key)?.own.as_ref()?.row(source)
    }

    /// Timers of a key that have not fired, by name.
    pub fn timers(&self, key: &[u8]) -> impl Iterator<Item = (&str, At)> {
        let own = self.keys.get(key).and_then(|held| held.own.as_ref());
        own.into_iter().flat_map(|own| own.timers.iter().map(|timer| (&*timer.name, timer.at)))
    }

    /// When the first timer by the wall clock fires, milliseconds since the epoch.
    pub fn next_clock_ms(&self) -> Option<i64> {
        self.clock_timers.first().map(|(at, ..)| *at)
    }

    /// When the last one fires.
    pub fn last_clock_ms(&self) -> Option<i64> {
        self.clock_timers.last().map(|(at, ..)| *at)
    }

    /// Lets the first timer fire that is due by the wall clock: its call waits to be made. `false`: none is.
    pub fn fire_by_clock(&mut self, wall_ms: i64) -> bool {
        if self.next_clock_ms().is_none_or(|at| at > wall_ms) {
            return false;
        }
        let Some((at, key, name)) = self.clock_timers.pop_first() else { return false };
        let place = self.keys.touch(&key);
        let (_, held) = self.keys.held_mut(place);
        held.own_mut().set_timer(Arc::clone(&name), None);
        held.tidy_own();
        self.waiting.push_timer(&key, &Timer { name, at: At::Clock(at) });
        true
    }

    /// The name, as it is held already.
    pub(super) fn name(&mut self, name: &str) -> Arc<str> {
        /// More are made up as they come.
        const MOST: usize = 64;
        if let Some(known) = self.names.iter().find(|known| ***known == *name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        if self.names.len() < MOST {
            self.names.push(Arc::clone(&name));
        }
        name
    }

    /// What a key holds was replaced as a whole.
    pub(super) fn index_clock_timers(&mut self, key: &Key, (before, after): (Option<&Own>, Option<&Own>)) {
        for (at, name) in before.into_iter().flat_map(Own::clock_timers) {
            self.clock_timers.remove(&(at, Key::clone(key), Arc::clone(name)));
        }
        for (at, name) in after.into_iter().flat_map(Own::clock_timers) {
            self.clock_timers.insert((at, Key::clone(key), Arc::clone(name)));
        }
    }
}

/// A timer was to fire at the first time, and is to fire at the second.
fn index(
    timers: &mut ClockTimers,
    (key, name): (&Key, &Arc<str>),
    (before, after): (Option<At>, Option<At>),
) {
    let entry = |at| (at, Key::clone(key), Arc::clone(name));
    if let Some(At::Clock(at)) = before {
        timers.remove(&entry(at));
    }
    if let Some(At::Clock(at)) = after {
        timers.insert(entry(at));
    }
}
