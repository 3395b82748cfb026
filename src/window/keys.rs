//! The keys of a lane: what each holds, and when somebody looks at it.
//!
//! Of a million keys every byte counts. What a key has stands in a slab, in one piece with its first window; table and heap
//! hold places in the slab. The heap knows where in it each key stands, so that a key moves in it or leaves it without being
//! searched for.

use std::hash::BuildHasher as _;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use slab::Slab;

use super::{Held, Key, NEVER};

/// Where in the slab a key's owner stands.
pub(super) type At = u32;

/// It is not in the heap.
const NOWHERE: u32 = u32::MAX;

/// What is roughly taken by a key besides itself and what it holds, in bytes: the owner, the key's counts, and its part of
/// table and heap.
pub(super) const OVERHEAD: usize = size_of::<Owner>() + 16 + 12 + size_of::<Due>();

/// A key, and what it holds.
#[derive(Debug)]
struct Owner {
    key: Key,
    held: Held,
    /// Where in the heap it stands.
    due: u32,
    /// What it held when the last cut was committed stands in [`Keys::touched`].
    is_touched: bool,
}

/// When somebody looks at a key. Twelve bytes.
#[derive(Debug, Clone, Copy)]
#[repr(Rust, packed(4))]
struct Due {
    deadline: i64,
    at: At,
}

/// All keys of a lane.
#[derive(Debug, Default)]
pub(super) struct Keys {
    owners: Slab<Owner>,
    table: HashTable<At>,
    hasher: DefaultHashBuilder,
    /// A heap of two branches, the first deadline at its top; of one deadline the first key.
    heap: Vec<Due>,
    /// What keys held when the last cut was committed, of those that were touched since.
    touched: Vec<(At, Held)>,
}

impl Keys {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    fn place(&self, key: &[u8]) -> Option<At> {
        let is_it = |at: &At| *self.owner(*at).key == *key;
        self.table.find(self.hasher.hash_one(key), is_it).copied()
    }

    fn owner(&self, at: At) -> &Owner {
        &self.owners[at as usize]
    }

    fn owner_mut(&mut self, at: At) -> &mut Owner {
        &mut self.owners[at as usize]
    }

    /// What a key holds.
    pub fn get(&self, key: &[u8]) -> Option<&Held> {
        self.place(key).map(|at| &self.owner(at).held)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Held)> {
        self.owners.iter().map(|(_, owner)| (&owner.key, &owner.held))
    }

    pub fn key(&self, at: At) -> &Key {
        &self.owner(at).key
    }

    pub fn held(&self, at: At) -> &Held {
        &self.owner(at).held
    }

    /// The key at a place, and what it holds, to be changed by who has touched it.
    pub fn held_mut(&mut self, at: At) -> (&Key, &mut Held) {
        let owner = self.owner_mut(at);
        (&owner.key, &mut owner.held)
    }

    /// The place of a key, which is new if it is not there.
    fn find(&mut self, key: &[u8]) -> (At, bool) {
        let Self { owners, table, hasher, .. } = self;
        let is_it = |at: &At| *owners[*at as usize].key == *key;
        let hash_of = |at: &At| hasher.hash_one(&*owners[*at as usize].key);
        match table.entry(hasher.hash_one(key), is_it, hash_of) {
            Entry::Occupied(entry) => (*entry.get(), false),
            Entry::Vacant(entry) => {
                let at =
                    At::try_from(owners.vacant_key()).expect("memory ends before four thousand million keys");
                entry.insert(at);
                owners.insert(Owner {
                    key: key.into(),
                    held: Held::default(),
                    due: NOWHERE,
                    is_touched: false,
                });
                (at, true)
            }
        }
    }

    /// What `key` holds is restored: there is nothing to go back to.
    pub fn restore(&mut self, key: &[u8]) -> &mut Held {
        let (at, _) = self.find(key);
        &mut self.owner_mut(at).held
    }

    /// The place of `key`, which is about to change.
    #[inline]
    pub fn touch(&mut self, key: &[u8]) -> At {
        let (at, is_new) = self.find(key);
        if is_new {
            self.owner_mut(at).is_touched = true;
            self.touched.push((at, Held::default()));
        } else {
            self.touch_at(at);
        }
        at
    }

    /// The same, where the place is known.
    #[inline]
    pub fn touch_at(&mut self, at: At) {
        let owner = &mut self.owners[at as usize];
        if !std::mem::replace(&mut owner.is_touched, true) {
            self.touched.push((at, owner.held.clone()));
        }
    }

    /// Something was touched since the last cut.
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// What was touched, and what it held before.
    pub fn touched(&self) -> impl Iterator<Item = (At, &Held)> {
        self.touched.iter().map(|(at, before)| (*at, before))
    }

    /// The same; from here on it counts as untouched.
    pub fn take_touched(&mut self) -> Vec<(At, Held)> {
        for (at, _) in &self.touched {
            self.owners[*at as usize].is_touched = false;
        }
        std::mem::take(&mut self.touched)
    }

    /// Gives the list back when it was gone through, so that the next cut need not grow one.
    pub fn give_back(&mut self, mut touched: Vec<(At, Held)>) {
        touched.clear();
        if self.touched.is_empty() {
            self.touched = touched;
        }
    }

    /// A key that holds nothing is nobody's.
    pub fn forget(&mut self, at: At) {
        self.unqueue(at);
        let owner = self.owners.remove(at as usize);
        if let Ok(entry) = self.table.find_entry(self.hasher.hash_one(&*owner.key), |other| *other == at) {
            entry.remove();
        }
    }

    /// Everything that was restored so far is given up.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The places of all keys.
    pub fn places(&self) -> Vec<At> {
        self.owners.iter().map(|(at, _)| at as At).collect()
    }

    /// When somebody looks at the first key: no later than its first window closes.
    #[inline]
    pub fn next_deadline(&self) -> Option<i64> {
        self.heap.first().map(|due| due.deadline)
    }

    /// Takes out the key that is looked at first, and the deadline.
    pub fn pop_due(&mut self) -> Option<(At, i64)> {
        let Due { deadline, at } = *self.heap.first()?;
        self.unqueue(at);
        Some((at, deadline))
    }

    /// Somebody looks at a key no later than at this watermark.
    #[inline]
    pub fn look_by(&mut self, at: At, deadline: i64) {
        let stands = self.owner(at).due;
        match self.heap.get(stands as usize).map(|due| due.deadline) {
            None if deadline == NEVER => {}
            None => {
                self.heap.push(Due { deadline, at });
                self.rise(self.heap.len() - 1);
            }
            Some(known) if known <= deadline => {}
            Some(_) => {
                self.heap[stands as usize].deadline = deadline;
                self.rise(stands as usize);
            }
        }
    }

    fn unqueue(&mut self, at: At) {
        let stands = std::mem::replace(&mut self.owner_mut(at).due, NOWHERE);
        if stands == NOWHERE {
            return;
        }
        let stands = stands as usize;
        self.heap.swap_remove(stands);
        if stands < self.heap.len() {
            self.sink(stands);
            self.rise(stands);
        }
    }

    fn is_before(&self, one: Due, other: Due) -> bool {
        let (deadline, others) = (one.deadline, other.deadline);
        deadline < others || (deadline == others && self.key(one.at) < self.key(other.at))
    }

    fn set(&mut self, stands: usize, due: Due) {
        self.heap[stands] = due;
        self.owner_mut(due.at).due = stands as u32;
    }

    /// What stands there goes up to its place.
    fn rise(&mut self, mut stands: usize) {
        let due = self.heap[stands];
        while stands > 0 {
            let above = (stands - 1) / 2;
            if !self.is_before(due, self.heap[above]) {
                break;
            }
            self.set(stands, self.heap[above]);
            stands = above;
        }
        self.set(stands, due);
    }

    /// What stands there goes down to its place.
    fn sink(&mut self, mut stands: usize) {
        let due = self.heap[stands];
        loop {
            let mut below = stands * 2 + 1;
            if below >= self.heap.len() {
                break;
            }
            if below + 1 < self.heap.len() && self.is_before(self.heap[below + 1], self.heap[below]) {
                below += 1;
            }
            if !self.is_before(self.heap[below], due) {
                break;
            }
            self.set(stands, self.heap[below]);
            stands = below;
        }
        self.set(stands, due);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_with_one_window_takes_what_it_takes() {
        assert_eq!(size_of::<Due>(), 12);
        assert!(size_of::<Owner>() <= 120, "{}", size_of::<Owner>());
    }

    proptest! {
        /// Against a map: keys come, are looked at sooner, are taken out in order, and go.
        #[test]
        fn keys_are_taken_out_by_deadline_and_name(
            steps in proptest::collection::vec((0u8..4, 0u8..40, 0i64..12), 0..400),
        ) {
            let mut keys = Keys::default();
            let mut model: BTreeMap<Vec<u8>, Option<i64>> = BTreeMap::new();
            for (step, name, deadline) in steps {
                let name = vec![name];
                match step {
                    0 | 1 => {
                        let at = keys.touch(&name);
                        keys.look_by(at, deadline);
                        let known = model.entry(name).or_default();
                        *known = Some(known.map_or(deadline, |known| known.min(deadline)));
                    }
                    2 => {
                        let due = model.iter().filter_map(|(name, at)| Some(((*at)?, name.clone())));
                        let first = due.min();
                        let popped = keys.pop_due();
                        let popped = popped.map(|(at, deadline)| (deadline, keys.key(at).to_vec()));
                        prop_assert_eq!(&popped, &first);
                        if let Some((_, name)) = first {
                            model.insert(name, None);
                        }
                    }
                    _ => {
                        keys.take_touched();
                        if let Some(at) = keys.place(&name) {
                            keys.forget(at);
                        }
                        model.remove(&name);
                    }
                }
                let next = model.values().flatten().min().copied();
                prop_assert_eq!(keys.next_deadline(), next);
                prop_assert_eq!(keys.len(), model.len());
            }
        }
    }
}
