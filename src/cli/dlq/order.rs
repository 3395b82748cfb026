//! In which order letters go back: as they stand in the dead-letter topic, so that what went is noted in few words,
//! but those of one key and one source partition in the order of their events. An event that was brought back and died
//! again stands behind younger ones of its key.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::letter::{Id, Letter};

/// What is remembered of a letter that goes back, until its turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub id: Id,
    /// Key, topic and partition of its event, by their hash: two that share one are only kept in order in vain.
    pub group: u64,
    /// The offset of its event.
    pub offset: i64,
    /// Key, value and headers.
    pub bytes: usize,
}

impl Entry {
    /// Of a letter; of one that does not say where its event stood, alone.
    pub fn of(letter: &Letter<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        let offset = match &letter.place {
            Ok(place) => {
                (letter.record.key, place.topic, place.partition).hash(&mut hasher);
                place.offset
            }
            Err(_) => {
                letter.id.hash(&mut hasher);
                0
            }
        };
        let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = letter.record.headers().iter().map(|header| header.name.len() + len(header.value));
        let bytes = len(letter.record.key) + len(letter.record.value) + headers.sum::<usize>();
        Self { id: letter.id, group: hasher.finish(), offset, bytes }
    }
}

/// Puts them in the order in which they go.
pub fn arrange(entries: &mut [Entry]) {
    entries.sort_by_key(|entry| entry.id);
    let mut groups: HashMap<u64, Vec<usize>> = HashMap::new();
    for (slot, entry) in entries.iter().enumerate() {
        groups.entry(entry.group).or_default().push(slot);
    }
    for slots in groups.into_values().filter(|slots| slots.len() > 1) {
        let mut members: Vec<_> = slots.iter().map(|slot| entries[*slot]).collect();
        members.sort_by_key(|entry| (entry.offset, entry.id));
        for (slot, member) in slots.into_iter().zip(members) {
            entries[slot] = member;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: i64, group: u64, offset: i64) -> Entry {
        Entry { id: Id { partition: 0, offset: at }, group, offset, bytes: 0 }
    }

    #[test]
    fn events_of_one_key_go_in_their_order_and_others_stay_in_place() {
        let mut entries = [entry(3, 1, 50), entry(0, 1, 40), entry(1, 2, 9), entry(2, 1, 30), entry(4, 2, 9)];
        arrange(&mut entries);
        let order: Vec<_> =
            entries.iter().map(|entry| (entry.group, entry.offset, entry.id.offset)).collect();
        assert_eq!(order, [(1, 30, 2), (2, 9, 1), (1, 40, 0), (1, 50, 3), (2, 9, 4)]);
    }
}
