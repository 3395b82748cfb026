//! Which event each call is about, in a file that outlives the process: a call that ends it (abort, segmentation
//! fault, stack overflow, too much memory) is found out at the next start, counts as a failed attempt, and so
//! its event ends as a dead letter instead of travelling from worker to worker.
//!
//! The file is mapped, so a note costs four stores and no system call; the kernel keeps what a dying process has written.
//! It cannot tell a call that killed its process from one that was only under way when something else did. So
//! one such death never makes a dead letter: see [`Notes::crashes`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The most calls at a time that are noted; those of further threads are not.
const SLOTS: usize = 4096;
const WORDS: usize = 4;
const BYTES: usize = SLOTS * WORDS * size_of::<u64>();

/// The notes of one process. They are read and begun anew when the next one with the same file starts.
pub struct Notes {
    map: Map,
    free: Mutex<Vec<usize>>,
    /// Deaths in calls that were found at the start, and are not yet committed as attempts.
    crashed: Mutex<BTreeMap<Event, u32>>,
    crashed_file: PathBuf,
}

/// Partition and offset, and a hash of the function's and the topic's name.
type Event = (u64, i32, i64);

struct Map(*mut std::ffi::c_void);

// SAFETY: the mapping is shared memory that is only touched through atomics.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at < SLOTS * WORDS);
        // SAFETY: the mapping is page-aligned, holds so many words, and lives as long as `self`; nobody else in this
        // process has a reference to it that is not to an atomic.
        unsafe { &*self.0.cast::<AtomicU64>().add(at) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `Notes::open` with this length, and unmapped once. A failure leaves it mapped.
        let _ = unsafe { munmap(self.0, BYTES) };
    }
}

impl Notes {
    /// Opens the notes of the process named `instance`, and takes what its predecessor left.
    pub fn open(state_dir: &Path, instance: &str) -> io::Result<Arc<Self>> {
        fs::create_dir_all(state_dir)?;
        // An id is a pod's name or made by this program; what else it may hold must not leave the folder.
        let name: String =
            instance.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(state_dir.join(format!("calls-{name}")))?;
        let crashed_file = state_dir.join(format!("crashed-{name}"));
        file.set_len(BYTES as u64)?;
        // SAFETY: a fresh mapping of a file of this length, at an address that the kernel chooses. The file is this
        // process's own: whoever cut it off would end the process by SIGBUS.
        let map = Map(unsafe {
            mmap(std::ptr::null_mut(), BYTES, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)?
        });
        let mut crashed = read_crashed(&fs::read_to_string(&crashed_file).unwrap_or_default());
        for slot in 0..SLOTS {
            let word = |at: usize| map.word(slot * WORDS + at);
            if word(0).swap(0, Ordering::Relaxed) == 1 {
                let [tag, partition, offset] = [1, 2, 3].map(|at| word(at).load(Ordering::Relaxed));
                *crashed.entry((tag, partition as i32, offset as i64)).or_default() += 1;
            }
        }
        let notes = Self {
            map,
            free: Mutex::new((0..SLOTS).rev().collect()),
            crashed: Mutex::new(crashed),
            crashed_file,
        };
        notes.keep(&notes.crashed());
        Ok(Arc::new(notes))
    }

    /// A place for the calls of one thread.
    pub fn slot(self: &Arc<Self>, function: &str) -> Option<Slot> {
        let at = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Slot {
            notes: Arc::clone(self),
            at,
            function: function.to_owned(),
            topic: String::new(),
            tag: 0,
        })
    }

    /// How often the process died during calls for events of this partition, by offset, and it is not committed yet.
    pub fn crashes(&self, function: &str, topic: &str, partition: i32) -> BTreeMap<i64, u32> {
        let tag = tag(function, topic);
        let crashed = self.crashed();
        let found = crashed.range((tag, partition, i64::MIN)..=(tag, partition, i64::MAX));
        found.map(|((_, _, offset), times)| (*offset, *times)).collect()
    }

    /// The process is about to end of its own will: no call is to blame.
    pub fn forget(&self) {
        for slot in 0..SLOTS {
            self.map.word(slot * WORDS).store(0, Ordering::Release);
        }
    }

    /// These deaths are committed as attempts, or their events are finished: those below `offset` of the partition, and
    /// those in `counted`.
    pub fn settle(&self, function: &str, (topic, partition): (&str, i32), offset: i64, counted: &[i64]) {
        let tag = tag(function, topic);
        let mut crashed = self.crashed();
        let before = crashed.len();
        crashed.retain(|(of, at, event), _| {
            (*of, *at) != (tag, partition) || (*event >= offset && !counted.contains(event))
        });
        if crashed.len() != before {
            self.keep(&crashed);
        }
    }

    fn crashed(&self) -> MutexGuard<'_, BTreeMap<Event, u32>> {
        self.crashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kept in a file of their own until they are settled: the process may die again before.
    fn keep(&self, crashed: &BTreeMap<Event, u32>) {
        let lines = crashed
            .iter()
            .map(|((tag, partition, offset), times)| format!("{tag:016x} {partition} {offset} {times}\n"));
        let kept = fs::write(&self.crashed_file, lines.collect::<String>());
        if let Err(error) = kept {
            tracing::warn!(file = %self.crashed_file.display(), "deaths in calls cannot be kept: {error}");
        }
    }
}

impl std::fmt::Debug for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notes").field("crashed_file", &self.crashed_file).finish_non_exhaustive()
    }
}

fn read_crashed(text: &str) -> BTreeMap<Event, u32> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let tag = u64::from_str_radix(words.next()?, 16).ok()?;
        let event = (tag, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((event, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// What stands for an offset in notes of calls that no record is to blame for: with windows that time closes, and timers.
/// Such a result has the same name in every run. The topic beside it is the function's state topic, where no call is about
/// a record.
pub fn result_number(name: &[u8]) -> i64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    (hasher.finish() >> 1) as i64
}

fn tag(function: &str, topic: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (function, topic).hash(&mut hasher);
    hasher.finish()
}

/// A place for the calls of one thread, one after the other.
pub struct Slot {
    notes: Arc<Notes>,
    at: usize,
    function: String,
    /// Of the last call: the tag is made anew when another comes.
    topic: String,
    tag: u64,
}

impl Slot {
    /// A call for this event begins.
    #[inline]
    pub(super) fn begin(&mut self, topic: &str, partition: i32, offset: i64) {
        if self.topic != topic {
            (self.topic, self.tag) = (topic.to_owned(), tag(&self.function, topic));
        }
        let word = |at: usize| self.notes.map.word(self.at * WORDS + at);
        word(1).store(self.tag, Ordering::Relaxed);
        word(2).store(partition as u64, Ordering::Relaxed);
        word(3).store(offset as u64, Ordering::Relaxed);
        word(0).store(1, Ordering::Release);
        // The call must not begin before its note is written; this thread's order is all that the kernel sees.
        compiler_fence(Ordering::SeqCst);
    }

    /// The call is over.
    #[inline]
    pub(super) fn end(&self) {
        self.notes.map.word(self.at * WORDS).store(0, Ordering::Release);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end();
        self.notes.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_did_not_end_is_found_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Notes::open(folder.path(), "pod/0").unwrap();
        let notes = open();
        let (mut a, mut b) = (notes.slot("default/f").unwrap(), notes.slot("default/f").unwrap());
        a.begin("rides", 3, 7);
        a.end();
        a.begin("rides", 3, 8);
        b.begin("rides", 3, 20);
        assert!(notes.crashes("default/f", "rides", 3).is_empty(), "it lives");
        // It dies: nothing is dropped.
        std::mem::forget((a, b));
        let notes = open();
        assert_eq!(notes.crashes("default/f", "rides", 3), BTreeMap::from([(8, 1), (20, 1)]));
        assert!(notes.crashes("default/g", "rides", 3).is_empty());
        assert!(notes.crashes("default/f", "rides", 4).is_empty());
        // It dies again in one of them, before the first death was committed.
        let mut a = notes.slot("default/f").unwrap();
        a.begin("rides", 3, 8);
        std::mem::forget(a);
        let notes = open();
        assert_eq!(notes.crashes("default/f", "rides", 3), BTreeMap::from([(8, 2), (20, 1)]));
        notes.settle("default/f", ("rides", 3), 0, &[8]);
        assert_eq!(open().crashes("default/f", "rides", 3), BTreeMap::from([(20, 1)]));
        notes.settle("default/f", ("rides", 3), 21, &[]);
        // It is told to end at once, during a call.
        let mut a = notes.slot("default/f").unwrap();
        a.begin("rides", 3, 30);
        notes.forget();
        std::mem::forget(a);
        assert!(open().crashes("default/f", "rides", 3).is_empty());
    }

    #[test]
    fn places_are_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::open(folder.path(), "a").unwrap();
        let all: Vec<_> = (0..SLOTS).map(|_| notes.slot("f").unwrap()).collect();
        assert!(notes.slot("f").is_none());
        drop(all);
        assert!(notes.slot("f").is_some());
    }
}
