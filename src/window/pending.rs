//! Results that their handler did not take: they wait in the state until it does, those of one key in order. Each is an
//! entry of its own and one for each of its events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::{self, Damaged};
use super::own::Timer;
use super::{Fired, Why};
use crate::model::At;

/// One result that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The key.
    pub key: Bytes,
    /// The window's bounds, milliseconds since the epoch.
    pub bounds: (i64, i64),
    /// Why it fired.
    pub why: Why,
    /// When, in event time.
    pub time_ms: i64,
    /// Its aggregates as one JSON object, if it has any.
    pub aggregates: Option<Bytes>,
    /// Needed sources of which a stitch has nothing, by their places in the manifest.
    pub missing: Vec<u16>,
    /// What its outputs are named after.
    pub name: Bytes,
    /// How many calls failed.
    pub attempts: u32,
    /// Its events, as they were placed.
    #[serde(skip)]
    pub events: Vec<Bytes>,
    /// It is no window's but of this timer, which fired.
    #[serde(skip)]
    pub timer: Option<(Arc<str>, At)>,
    /// How often it was brought back after it had died. Written behind the rest, where it is not 0.
    #[serde(skip)]
    pub round: u32,
}

/// A result as a whole, with its events.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    #[serde(borrow)]
    timer: Option<FiredTimer<'a>>,
    pending: Pending,
    events: Vec<&'a [u8]>,
}

/// A timer that fired and whose call is to be made, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FiredTimer<'a> {
    #[serde(borrow)]
    key: &'a [u8],
    name: &'a str,
    is_by_clock: bool,
    at_ms: i64,
    attempts: u32,
    round: u32,
}

impl Pending {
    pub(super) fn of_timer(key: &[u8], (name, at): (Arc<str>, At), attempts: u32) -> Self {
        let at_ms = at.time_ms();
        let mut out_name = Vec::new();
        Self::begin_name(key, &mut out_name);
        out_name.extend_from_slice(format!("/{name}/{at_ms}").as_bytes());
        Self {
            key: Bytes::copy_from_slice(key),
            bounds: (at_ms, at_ms),
            why: Why::Close,
            time_ms: at_ms,
            aggregates: None,
            missing: Vec::new(),
            name: out_name.into(),
            attempts,
            events: Vec::new(),
            timer: Some((name, at)),
            round: 0,
        }
    }

    /// Appends what the name of every result begins with: its key, in hex where that is no text.
    pub fn begin_name(key: &[u8], name: &mut Vec<u8>) {
        match std::str::from_utf8(key) {
            Ok(key) => name.extend_from_slice(key.as_bytes()),
            Err(_) => key.iter().for_each(|byte| name.extend_from_slice(format!("{byte:02x}").as_bytes())),
        }
    }

    /// All of it in one piece, so that it can be brought back after it has died.
    pub fn pack(&self) -> Vec<u8> {
        let events = self.events.iter().map(|body| &**body).collect();
        let packed = Packed { timer: self.fired_timer(), pending: self.clone(), events };
        postcard::to_extend(&packed, vec![entry::VERSION]).expect("memory takes every plain type")
    }

    /// Reads what [`Pending::pack`] made: no call for it has failed.
    pub fn unpack(bytes: &[u8], round: u32) -> Result<Self, Damaged> {
        let Packed { timer, pending, events } = entry::decode(bytes)?;
        let events = events.into_iter().map(Bytes::copy_from_slice).collect();
        let of_timer = timer.map(|timer| timer.pending());
        let pending = of_timer.unwrap_or(Self { events, ..pending });
        Ok(Self { attempts: 0, round, ..pending })
    }

    /// What is written down of one that is a timer's.
    pub(super) fn fired_timer(&self) -> Option<FiredTimer<'_>> {
        let (name, at) = self.timer.as_ref()?;
        let (is_by_clock, at_ms) = match at {
            At::Clock(at_ms) => (true, *at_ms),
            At::Event(at_ms) => (false, *at_ms),
        };
        let (attempts, round) = (self.attempts, self.round);
        Some(FiredTimer { key: &self.key, name, is_by_clock, at_ms, attempts, round })
    }
}

impl FiredTimer<'_> {
    pub fn pending(&self) -> Pending {
        let at = if self.is_by_clock { At::Clock(self.at_ms) } else { At::Event(self.at_ms) };
        Pending { round: self.round, ..Pending::of_timer(self.key, (self.name.into(), at), self.attempts) }
    }
}

/// What becomes of a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is done with.
    Done,
    /// It waits: its call failed, or one of its key waits already.
    Wait {
        /// How many calls failed.
        attempts: u32,
        /// What its outputs are named after.
        name: Vec<u8>,
        /// Its aggregates as one JSON object.
        aggregates: Option<Vec<u8>>,
    },
}

/// All that wait, in the order in which they fired.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    list: BTreeMap<u64, Arc<Pending>>,
    /// What the last cut committed, if something changed since.
    committed: Option<BTreeMap<u64, Arc<Pending>>>,
    /// How many of each key wait.
    keys: HashMap<Bytes, usize>,
    /// Those that came since somebody asked last.
    fresh: Vec<u64>,
}

impl Waiting {
    pub fn has(&self, key: &[u8]) -> bool {
        !self.keys.is_empty() && self.keys.contains_key(key)
    }

    pub fn is_dirty(&self) -> bool {
        self.committed.is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Arc<Pending>)> {
        self.list.iter().map(|(number, pending)| (*number, pending))
    }

    pub fn get(&self, number: u64) -> Option<&Arc<Pending>> {
        self.list.get(&number)
    }

    pub fn bytes(&self) -> usize {
        let of = |pending: &Arc<Pending>| {
            size_of::<Pending>() + pending.events.iter().map(Bytes::len).sum::<usize>()
        };
        self.list.values().map(of).sum()
    }

    fn touch(&mut self) {
        if self.committed.is_none() {
            self.committed = Some(self.list.clone());
        }
    }

    pub fn push(&mut self, fired: &Fired<'_>, verdict: Verdict) {
        let Verdict::Wait { attempts, name, aggregates } = verdict else { return };
        self.insert(Pending {
            key: Bytes::copy_from_slice(fired.key),
            bounds: fired.bounds,
            why: fired.why,
            time_ms: fired.time_ms,
            aggregates: aggregates.map(Bytes::from),
            missing: fired.missing.to_vec(),
            name: name.into(),
            attempts,
            events: fired.members.iter().map(|kept| kept.body.clone()).collect(),
            timer: None,
            round: 0,
        });
    }

    /// One that had died is brought back.
    pub fn revive(&mut self, pending: Pending) {
        self.insert(pending);
    }

    /// A timer has fired: its call is to be made.
    pub fn push_timer(&mut self, key: &[u8], timer: &Timer) {
        self.insert(Pending::of_timer(key, (Arc::clone(&timer.name), timer.at), 0));
    }

    fn insert(&mut self, pending: Pending) {
        self.touch();
        // Not one that a result had which is done with since the last cut: its entries would be taken for this one's.
        let lists = [Some(&self.list), self.committed.as_ref()].into_iter().flatten();
        let last = lists.filter_map(|list| list.last_key_value()).map(|(last, _)| *last).max();
        let number = last.map_or(0, |last| last + 1);
        *self.keys.entry(pending.key.clone()).or_default() += 1;
        if pending.attempts == 0 {
            self.fresh.push(number);
        }
        self.list.insert(number, Arc::new(pending));
    }

    /// Those that came since the last question and have no other of their key before them.
    pub fn take_fresh(&mut self) -> Vec<u64> {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.retain(|number| self.list.get(number).is_some_and(|pending| self.is_first(*number, pending)));
        fresh
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Those that came since the last question wait like all others.
    pub fn forget_fresh(&mut self) {
        self.fresh.clear();
    }

    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    fn is_first(&self, number: u64, pending: &Pending) -> bool {
        let others = self.keys.get(&pending.key).is_some_and(|count| *count > 1);
        !others || !self.list.range(..number).any(|(_, other)| other.key == pending.key)
    }

    /// The timer of this key and name is not to fire, or not for that.
    pub fn cancel(&mut self, key: &[u8], name: &str) {
        if !self.has(key) {
            return;
        }
        let is_it = |pending: &Pending| {
            pending.key == key && pending.timer.as_ref().is_some_and(|(of, _)| **of == *name)
        };
        let numbers: Vec<u64> =
            self.list.iter().filter(|(_, pending)| is_it(pending)).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.done(number));
    }

    /// One more call failed.
    pub fn failed(&mut self, number: u64) {
        self.touch();
        if let Some(pending) = self.list.get_mut(&number) {
            Arc::make_mut(pending).attempts += 1;
        }
    }

    pub fn done(&mut self, number: u64) {
        self.touch();
        let Some(pending) = self.list.remove(&number) else { return };
        if let Some(count) = self.keys.get_mut(&pending.key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&pending.key);
            }
        }
    }

    fn count(&mut self) {
        self.keys.clear();
        for pending in self.list.values() {
            *self.keys.entry(pending.key.clone()).or_default() += 1;
        }
    }

    pub fn committed(&mut self) {
        self.committed = None;
    }

    pub fn rolled_back(&mut self) {
        if let Some(committed) = self.committed.take() {
            self.list = committed;
            self.fresh.clear();
            self.count();
        }
    }

    /// Shows what changed since the last cut: number, what was, what is.
    pub fn changes(&self, mut each: impl FnMut(u64, Option<&Pending>, Option<&Pending>)) {
        let Some(before) = &self.committed else { return };
        for (number, old) in before {
            let new = self.list.get(number);
            if new.is_none_or(|new| !Arc::ptr_eq(old, new)) {
                each(*number, Some(old), new.map(|new| &**new));
            }
        }
        for (number, new) in self.list.iter().filter(|(number, _)| !before.contains_key(number)) {
            each(*number, None, Some(new));
        }
    }

    /// Takes up an entry of an earlier run.
    pub fn restore(&mut self, number: u64, pending: Option<Pending>) {
        match pending {
            None => {
                self.list.remove(&number);
            }
            Some(pending) => {
                self.list.insert(number, Arc::new(pending));
            }
        }
    }

    /// Takes up an event of an entry, which may come before it.
    pub fn restore_event(&mut self, number: u64, place: u32, body: Option<&[u8]>, orphans: &mut Orphans) {
        match body {
            Some(body) => orphans.insert((number, place), Bytes::copy_from_slice(body)),
            None => orphans.remove(&(number, place)),
        };
    }

    /// All entries are there.
    pub fn restored(&mut self, orphans: Orphans) {
        for ((number, _), body) in orphans {
            if let Some(pending) = self.list.get_mut(&number) {
                Arc::make_mut(pending).events.push(body);
            }
        }
        self.count();
    }
}

/// Events of entries, while state is restored.
pub(super) type Orphans = BTreeMap<(u64, u32), Bytes>;
