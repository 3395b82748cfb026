//! State as it is written down: one entry a window, or one a kept event, each by itself, so that what changes is written
//! and nothing else. Entries go to a compacted topic: the newest of a key counts.
//!
//! | part | form |
//! |---|---|
//! | key | `w` and the window's start, or `e` and the event's time, source, partition, offset, as big-endian numbers; then the function's key |
//! | | or `p` and the number of a result that waits, or `q`, that number and the place of one of its events |
//! | | or `v` (a value), `f` (a timer), the length of its name in two bytes, the name; then the function's key |
//! | | or `r`, the number of a source that is a table in two bytes; then the function's key |
//! | | or `o` and the number of a timer that fired and whose call is still to be made |
//! | | or `t` alone: how far source partitions have come |
//! | | or `s` alone: what kind of windows these are, as JSON, so that state meets no manifest that reads it otherwise; |
//! | | without a value it gives up all entries before it, readable or not |
//! | value | the version (1), then what it is of in postcard's form (<https://postcard.jamesmunns.com/wire-format>), a table's row as it is; |
//! | | null: it is gone |

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::own::{KeptValue, Own};
use super::pending::FiredTimer;
use super::{Held, Kept, Pending, Place, Progress, Window};
use crate::model::At;

/// The first byte of every value.
pub(super) const VERSION: u8 = 1;

const WINDOW: u8 = b'w';
const EVENT: u8 = b'e';
/// The key of the entry that says what kind of windows these are.
pub(super) const SHAPE: &[u8] = b"s";
/// The key of the entry that says how far source partitions have come.
pub(super) const PROGRESS: &[u8] = b"t";
const PENDING: u8 = b'p';
const PENDING_EVENT: u8 = b'q';
const FIRED_TIMER: u8 = b'o';
const VALUE: u8 = b'v';
const TIMER: u8 = b'f';
const ROW: u8 = b'r';

/// An entry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Damaged {
    /// It is cut off, or of something else.
    #[error("an entry of the state is damaged: {0}")]
    Broken(&'static str),
    /// Of windows that are not those of today's manifest.
    #[error(
        "it was written for other windows ({written}) than the manifest asks for now ({wanted}): set those back, or \
         begin anew"
    )]
    Other {
        /// What it was written for.
        written: String,
        /// What the manifest says.
        wanted: String,
    },
    /// Of a release that knew more.
    #[error(
        "an entry of the state has version {0}, which this release does not know: run the release that wrote it"
    )]
    Newer(u8),
}

/// One entry, read.
pub struct Entry<'a> {
    /// The function's key.
    pub key: &'a [u8],
    name: Name<'a>,
    content: Content,
}

enum Name<'a> {
    Window(i64),
    Event(Place),
    Value(&'a str),
    Timer(&'a str),
    Row(u16),
}

enum Content {
    Gone,
    Window(Window),
    Event(Kept),
    Value(KeptValue),
    Timer(At),
    Row(Bytes),
}

/// Memory that goes from entry to entry.
#[derive(Default)]
pub(super) struct Buffers {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> Entry<'a> {
    /// Reads an entry; `None` as a value: it is gone.
    pub fn read(key: &'a [u8], value: Option<&[u8]>) -> Result<Self, Damaged> {
        let (tag, mut rest) = key.split_first().ok_or(Damaged::Broken("it has no key"))?;
        let name = match *tag {
            WINDOW => Name::Window(i64::from_be_bytes(take(&mut rest)?)),
            EVENT => Name::Event(Place {
                time_ms: i64::from_be_bytes(take(&mut rest)?),
                source: u16::from_be_bytes(take(&mut rest)?),
                partition: i32::from_be_bytes(take(&mut rest)?),
                offset: i64::from_be_bytes(take(&mut rest)?),
            }),
            VALUE => Name::Value(take_name(&mut rest)?),
            TIMER => Name::Timer(take_name(&mut rest)?),
            ROW => Name::Row(u16::from_be_bytes(take(&mut rest)?)),
            _ => return Err(Damaged::Broken("it is of no kind that this release knows")),
        };
        let content = match value {
            None => Content::Gone,
            Some(value) => match name {
                Name::Window(_) => Content::Window(decode(value)?),
                Name::Event(_) => Content::Event(decode(value)?),
                Name::Value(_) => Content::Value(decode(value)?),
                Name::Timer(_) => {
                    let (is_by_clock, at_ms) = decode(value)?;
                    Content::Timer(if is_by_clock { At::Clock(at_ms) } else { At::Event(at_ms) })
                }
                Name::Row(_) => Content::Row(Bytes::copy_from_slice(body(value)?)),
            },
        };
        Ok(Self { key: rest, name, content })
    }

    /// The name of the value or the timer that it is of.
    pub(super) fn own_name(&self) -> Option<&'a str> {
        match self.name {
            Name::Value(name) | Name::Timer(name) => Some(name),
            _ => None,
        }
    }

    /// Takes it up in what its key holds, which has so many aggregates; `own` is its [`Entry::own_name`].
    pub(super) fn put_into(
        self,
        held: &mut Held,
        own: Option<Arc<str>>,
        aggregates: usize,
    ) -> Result<(), Damaged> {
        const OTHER: Damaged = Damaged::Broken("it is of another kind of window");
        match self.name {
            Name::Window(start) => {
                let windows = &mut held.windows;
                let at = windows.partition_point(|window| window.start < start);
                let is_there = windows.get(at).is_some_and(|window| window.start == start);
                match self.content {
                    Content::Window(window) if window.cells.len() != aggregates || window.start != start => {
                        return Err(OTHER);
                    }
                    Content::Window(window) if is_there => windows[at] = window,
                    Content::Window(window) => {
                        windows.reserve_exact(1);
                        windows.insert(at, window);
                    }
                    _ if is_there => {
                        windows.remove(at);
                    }
                    _ => {}
                }
            }
            Name::Event(place) => {
                let events = &mut held.events;
                let found = events.binary_search_by(|kept| kept.place.cmp(&place));
                match (self.content, found) {
                    (Content::Event(kept), _) if kept.fields.len() != aggregates || kept.place != place => {
                        return Err(OTHER);
                    }
                    (Content::Event(kept), Ok(at)) => events[at] = kept,
                    (Content::Event(kept), Err(at)) => events.insert(at, kept),
                    (_, Ok(at)) => {
                        events.remove(at);
                    }
                    (_, Err(_)) => {}
                }
            }
            name => {
                let to = held.own_mut();
                match (name, self.content, own) {
                    (Name::Row(source), Content::Row(row), _) => to.set_row(source, Some(row)),
                    (Name::Row(source), ..) => to.set_row(source, None),
                    (Name::Value(_), Content::Value(kept), Some(own)) => to.set_value(own, Some(kept)),
                    (Name::Value(_), _, Some(own)) => to.set_value(own, None),
                    (Name::Timer(_), Content::Timer(at), Some(own)) => drop(to.set_timer(own, Some(at))),
                    (_, _, Some(own)) => drop(to.set_timer(own, None)),
                    (_, _, None) => return Err(OTHER),
                }
                if to.is_empty() {
                    held.own = None;
                }
            }
        }
        Ok(())
    }
}

/// Reads what [`PROGRESS`] says.
pub(super) fn read_progress(value: &[u8]) -> Result<Progress, Damaged> {
    decode(value)
}

/// Reads a result that waits, without its events.
pub(super) fn read_pending(value: &[u8]) -> Result<Pending, Damaged> {
    let broken = |_| Damaged::Broken("its value does not end where it should");
    let (pending, rest): (Pending, _) = postcard::take_from_bytes(body(value)?).map_err(broken)?;
    let round = if rest.is_empty() { 0 } else { postcard::from_bytes(rest).map_err(broken)? };
    Ok(Pending { round, ..pending })
}

/// Reads a timer that fired.
pub(super) fn read_timer(value: &[u8]) -> Result<Pending, Damaged> {
    decode::<FiredTimer<'_>>(value).map(|timer| timer.pending())
}

pub(super) fn decode<'v, T: serde::Deserialize<'v>>(value: &'v [u8]) -> Result<T, Damaged> {
    postcard::from_bytes(body(value)?).map_err(|_| Damaged::Broken("its value does not end where it should"))
}

/// What stands behind the version.
fn body(value: &[u8]) -> Result<&[u8], Damaged> {
    let (version, body) = value.split_first().ok_or(Damaged::Broken("its value is empty"))?;
    if *version != VERSION {
        return Err(Damaged::Newer(*version));
    }
    Ok(body)
}

/// The number of a timer that fired.
pub(super) fn timer_number(key: &[u8]) -> Result<Option<u64>, Damaged> {
    match key.split_first() {
        Some((&FIRED_TIMER, mut rest)) => Ok(Some(u64::from_be_bytes(take(&mut rest)?))),
        _ => Ok(None),
    }
}

/// The number of a result that waits and, if the entry is of one of its events, that event's place.
pub(super) fn pending_name(key: &[u8]) -> Result<Option<(u64, Option<u32>)>, Damaged> {
    match key.split_first() {
        Some((&PENDING, mut rest)) => Ok(Some((u64::from_be_bytes(take(&mut rest)?), None))),
        Some((&PENDING_EVENT, mut rest)) => {
            let number = u64::from_be_bytes(take(&mut rest)?);
            Ok(Some((number, Some(u32::from_be_bytes(take(&mut rest)?)))))
        }
        _ => Ok(None),
    }
}

/// Shows `each` the entries in which a result that waits differs from what it was.
pub(super) fn pending(
    number: u64,
    (before, after): (Option<&Pending>, Option<&Pending>),
    buffers: &mut Buffers,
    each: &mut impl FnMut(&[u8], Option<&[u8]>),
) {
    if before.or(after).is_some_and(|pending| pending.timer.is_some()) {
        buffers.name(FIRED_TIMER, number, None);
        let fired = after.and_then(Pending::fired_timer);
        if let Some(fired) = &fired {
            buffers.encode(fired);
        }
        return each(&buffers.key, fired.map(|_| buffers.value.as_slice()));
    }
    buffers.name(PENDING, number, None);
    if let Some(after) = after {
        buffers.encode(after);
        if after.round > 0 {
            let value = std::mem::take(&mut buffers.value);
            buffers.value = postcard::to_extend(&after.round, value).expect("memory takes every plain type");
        }
    }
    each(&buffers.key, after.map(|_| buffers.value.as_slice()));
    let events = |pending: Option<&Pending>| pending.map_or(0, |pending| pending.events.len());
    // Its events never change: they come and go with it.
    if before.is_some() && after.is_some() {
        return;
    }
    for place in 0..events(before.or(after)) {
        buffers.name(PENDING_EVENT, number, Some(place as u32));
        each(&buffers.key, after.and_then(|after| Some(&**after.events.get(place)?)));
    }
}

fn take_name<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Damaged> {
    let length = usize::from(u16::from_be_bytes(take(bytes)?));
    let (name, rest) = bytes.split_at_checked(length).ok_or(Damaged::Broken("its key is cut off"))?;
    *bytes = rest;
    std::str::from_utf8(name).map_err(|_| Damaged::Broken("its name is no text"))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Damaged> {
    let (first, rest) = bytes.split_first_chunk().ok_or(Damaged::Broken("its key is cut off"))?;
    *bytes = rest;
    Ok(*first)
}

/// Shows `each` the entries in which `before` and `after` differ.
pub(super) fn difference(
    key: &[u8],
    before: &Held,
    after: &Held,
    buffers: &mut Buffers,
    each: &mut impl FnMut(&[u8], Option<&[u8]>),
) {
    differ(
        &before.windows,
        &after.windows,
        |window| window.start,
        |window, is_there| {
            buffers.window(key, window);
            each(&buffers.key, is_there.then_some(&buffers.value));
        },
    );
    differ(
        &before.events,
        &after.events,
        |kept| kept.place,
        |kept, is_there| {
            buffers.event(key, kept);
            each(&buffers.key, is_there.then_some(&buffers.value));
        },
    );
    if before.own.is_some() || after.own.is_some() {
        let nothing = Own::default();
        let (before, after) = (before.own.as_deref(), after.own.as_deref());
        own_difference(key, (before.unwrap_or(&nothing), after.unwrap_or(&nothing)), buffers, each);
    }
}

fn own_difference(
    key: &[u8],
    (before, after): (&Own, &Own),
    buffers: &mut Buffers,
    each: &mut impl FnMut(&[u8], Option<&[u8]>),
) {
    differ(
        &before.values,
        &after.values,
        |value| Arc::clone(&value.name),
        |value, is_there| {
            buffers.named(VALUE, &value.name, key);
            buffers.encode(&value.kept);
            each(&buffers.key, is_there.then_some(&buffers.value));
        },
    );
    differ(
        &before.timers,
        &after.timers,
        |timer| Arc::clone(&timer.name),
        |timer, is_there| {
            buffers.named(TIMER, &timer.name, key);
            buffers.encode(&(matches!(timer.at, At::Clock(_)), timer.at.time_ms()));
            each(&buffers.key, is_there.then_some(&buffers.value));
        },
    );
    differ(
        &before.rows,
        &after.rows,
        |row| row.source,
        |row, is_there| {
            buffers.row(row.source, key);
            buffers.value.clear();
            buffers.value.push(VERSION);
            buffers.value.extend_from_slice(&row.bytes);
            each(&buffers.key, is_there.then_some(&buffers.value));
        },
    );
}

/// Walks two lists that are sorted by `name`: what is new or changed, and what is gone.
fn differ<T: PartialEq, N: Ord>(
    before: &[T],
    after: &[T],
    name: impl Fn(&T) -> N,
    mut write: impl FnMut(&T, bool),
) {
    let mut before = before.iter().peekable();
    for item in after {
        while let Some(gone) = before.next_if(|old| name(old) < name(item)) {
            write(gone, false);
        }
        match before.next_if(|old| name(old) == name(item)) {
            Some(same) if same == item => {}
            _ => write(item, true),
        }
    }
    before.for_each(|gone| write(gone, false));
}

impl Buffers {
    fn window(&mut self, key: &[u8], window: &Window) {
        self.key.clear();
        self.key.push(WINDOW);
        self.key.extend_from_slice(&window.start.to_be_bytes());
        self.key.extend_from_slice(key);
        self.encode(window);
    }

    fn event(&mut self, key: &[u8], kept: &Kept) {
        let Place { time_ms, source, partition, offset } = kept.place;
        self.key.clear();
        self.key.push(EVENT);
        self.key.extend_from_slice(&time_ms.to_be_bytes());
        self.key.extend_from_slice(&source.to_be_bytes());
        self.key.extend_from_slice(&partition.to_be_bytes());
        self.key.extend_from_slice(&offset.to_be_bytes());
        self.key.extend_from_slice(key);
        self.encode(kept);
    }

    fn named(&mut self, tag: u8, name: &str, key: &[u8]) {
        self.key.clear();
        self.key.push(tag);
        // Longer ones are refused where they are given.
        let length = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.key.extend_from_slice(&length.to_be_bytes());
        self.key.extend_from_slice(name.as_bytes());
        self.key.extend_from_slice(key);
    }

    fn row(&mut self, source: u16, key: &[u8]) {
        self.key.clear();
        self.key.push(ROW);
        self.key.extend_from_slice(&source.to_be_bytes());
        self.key.extend_from_slice(key);
    }

    fn name(&mut self, tag: u8, number: u64, place: Option<u32>) {
        self.key.clear();
        self.key.push(tag);
        self.key.extend_from_slice(&number.to_be_bytes());
        self.key.extend(place.map(u32::to_be_bytes).into_iter().flatten());
    }

    pub(super) fn progress(&mut self, progress: &Progress) {
        self.encode(progress);
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }

    fn encode(&mut self, content: &impl serde::Serialize) {
        let mut value = std::mem::take(&mut self.value);
        value.clear();
        value.push(VERSION);
        self.value = postcard::to_extend(content, value).expect("memory takes every plain type");
    }
}
