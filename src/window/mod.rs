//! Windows: what a function gathers by key and time before it gives a result. One [`Windows`] holds the open windows of
//! one lane. Events and a watermark go in; results come out, and what of the state has changed. No I/O and no clock.
//!
//! **When a window closes.** Those whose end is not in them (tumbling, hopping) when the watermark reaches end + grace;
//! those whose end is in them (sliding, session, whose end counts as last + gap) when it passes it: with "reaches", events
//! of one time would be parted by the order in which they came. So each window has a first watermark at which it is
//! closed, its *deadline*, and windows close in the order of deadlines and, of one deadline, of keys. Closed is final. A
//! window is closed by the watermark alone, whether or not somebody has come round to give its result.
//!
//! **Late** is an event for which every window that it could enter is closed. It is placed before it moves the watermark,
//! and a late one moves nothing.
//!
//! **Provisional.** What happens between two cuts is kept beside what was before: [`Windows::changes`] says what the cut is
//! to write, [`Windows::committed`] settles it, [`Windows::rolled_back`] undoes it. The unit is the key: the first time
//! that one is touched after a cut, what it held is copied.

mod aligned;
mod cell;
mod entry;
mod result;
mod session;
mod sliding;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub use cell::{Cell, Field, Number, Place};
pub use entry::{Damaged, Entry};
pub use result::{Fired, Why};
use serde::{Deserialize, Serialize};

use crate::model::{AfterFire, AggregateOp, Fire, WindowKind, WindowSpec};

type Key = Arc<[u8]>;

/// No deadline.
const NEVER: i64 = i64::MAX;

/// What is roughly taken by a key and by a window besides what they hold, in bytes.
const KEY_OVERHEAD: usize = 160;

/// One event, as windows see it.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The function's key.
    pub key: &'a [u8],
    /// When and where.
    pub place: Place,
    /// What it has for each aggregate, in the order of their names.
    pub fields: &'a [Option<Field>],
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is in every window that takes it, but for so many that were closed.
    In {
        /// Windows that it came too late for.
        missed: u32,
    },
    /// All of them are closed.
    Late,
}

/// Takes results.
pub type Results<'a> = dyn FnMut(&Fired<'_>) + 'a;

/// A window that keeps aggregates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Its first millisecond.
    start: i64,
    /// Its end; of sessions and counted windows the time of the newest event.
    end: i64,
    /// The newest event's time.
    newest: i64,
    /// Events since it began or was last reset.
    events: u64,
    cells: Box<[Cell]>,
}

/// An event that windows share: each sliding window is made of those of its span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    place: Place,
    fields: Box<[Option<Field>]>,
    /// The window that ends with it has given its result, or never will.
    is_done: bool,
}

/// What one key has.
#[derive(Debug, Clone, PartialEq)]
enum Held {
    /// By start.
    Windows(Vec<Window>),
    /// By place.
    Events(Vec<Kept>),
}

impl Held {
    fn is_empty(&self) -> bool {
        match self {
            Self::Windows(windows) => windows.is_empty(),
            Self::Events(events) => events.is_empty(),
        }
    }

    fn bytes(&self) -> usize {
        let of_cell = |cell: &Cell| size_of::<Cell>() + cell.heap_bytes();
        let of_window =
            |window: &Window| size_of::<Window>() + window.cells.iter().map(of_cell).sum::<usize>();
        let of_field = |field: &Option<Field>| match field {
            Some(Field::Json(json)) => json.len(),
            _ => 0,
        };
        let of_event = |event: &Kept| {
            let fields = event.fields.iter().map(of_field).sum::<usize>();
            size_of::<Kept>() + size_of_val(&*event.fields) + fields
        };
        match self {
            Self::Windows(windows) => windows.iter().map(of_window).sum(),
            Self::Events(events) => events.iter().map(of_event).sum(),
        }
    }
}

#[derive(Debug)]
struct Owner {
    held: Held,
    /// No window of this key closes before this watermark, and here somebody looks.
    look_at: i64,
    /// What it held when the last cut was committed stands in `touched`.
    is_touched: bool,
}

/// The spec, in the units of the work.
#[derive(Debug)]
struct Rules {
    kind: Kind,
    grace: i64,
    fire: Fire,
    ops: Vec<AggregateOp>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Aligned { size: i64, advance: i64 },
    Sliding { size: i64 },
    Session { gap: i64 },
    Count { size: u64 },
}

impl Rules {
    fn new(spec: &WindowSpec) -> Self {
        let kind = match spec.kind {
            WindowKind::Tumbling { size } => Kind::Aligned { size: ms(size), advance: ms(size) },
            WindowKind::Hopping { size, advance } => Kind::Aligned { size: ms(size), advance: ms(advance) },
            WindowKind::Sliding { size } => Kind::Sliding { size: ms(size) },
            WindowKind::Session { gap } => Kind::Session { gap: ms(gap) },
            WindowKind::Count { size } => Kind::Count { size },
        };
        let ops = spec.aggregates.values().map(|aggregate| aggregate.op).collect();
        Self { kind, grace: ms(spec.grace), fire: spec.fire, ops }
    }

    /// The first watermark at which the window that ends at `end` is closed.
    fn deadline(&self, end: i64) -> i64 {
        match self.kind {
            Kind::Aligned { .. } => end.saturating_add(self.grace),
            Kind::Sliding { .. } => end.saturating_add(self.grace + 1),
            Kind::Session { gap } => end.saturating_add(gap + self.grace + 1),
            Kind::Count { .. } => NEVER,
        }
    }

    fn empty_cells(&self) -> Box<[Cell]> {
        self.ops.iter().map(|op| Cell::empty(*op)).collect()
    }

    /// When somebody has to look at what a key holds.
    fn next_look(&self, held: &Held) -> i64 {
        let next = match held {
            Held::Windows(windows) => windows.iter().map(|window| self.deadline(window.end)).min(),
            Held::Events(events) => sliding::next_look(events, self),
        };
        next.unwrap_or(NEVER)
    }

    fn nothing(&self) -> Held {
        match self.kind {
            Kind::Sliding { .. } => Held::Events(Vec::new()),
            _ => Held::Windows(Vec::new()),
        }
    }

    /// A window has taken an event: it may give a result at once. `true`: it is to be forgotten now.
    fn fire_early(&self, key: &[u8], window: &mut Window, results: &mut Results<'_>) -> bool {
        let why = match (self.kind, self.fire) {
            (Kind::Count { size }, _) if window.events >= size => Why::Close,
            (_, Fire::Update) => Why::Update,
            (_, Fire::Count { every, .. }) if window.events.is_multiple_of(every) => Why::Count,
            _ => return false,
        };
        results(&window.fired(key, why, window.newest));
        let is_over = why == Why::Close
            || (why == Why::Count && matches!(self.fire, Fire::Count { then: AfterFire::Reset, .. }));
        if is_over {
            window.events = 0;
            window.cells = self.empty_cells();
        }
        is_over
    }
}

impl Window {
    fn new(start: i64, end: i64, rules: &Rules) -> Self {
        Self { start, end, newest: i64::MIN, events: 0, cells: rules.empty_cells() }
    }

    fn fold(&mut self, arrival: &Arrival<'_>) {
        self.newest = self.newest.max(arrival.place.time_ms);
        self.events += 1;
        for (cell, field) in self.cells.iter_mut().zip(arrival.fields) {
            if let Some(field) = field {
                cell.fold(arrival.place, field);
            }
        }
    }

    fn fired<'a>(&'a self, key: &'a [u8], why: Why, time_ms: i64) -> Fired<'a> {
        Fired { key, bounds: (self.start, self.end), why, time_ms, cells: &self.cells }
    }
}

/// The open windows of one lane.
pub struct Windows {
    rules: Rules,
    keys: HashMap<Key, Owner>,
    /// When somebody looks at a key: no later than its first window closes.
    due: BTreeSet<(i64, Key)>,
    watermark_ms: i64,
    /// What keys held when the last cut was committed, of those that were touched since.
    touched: Vec<(Key, Held)>,
    committed_watermark_ms: i64,
    /// As of the last cut.
    bytes: usize,
    /// What of the spec the state depends on, as JSON, and whether it stands in the state.
    shape: String,
    is_shape_written: bool,
}

impl Windows {
    /// None is open, and time stands at `watermark_ms`, `i64::MIN` before any event.
    pub fn new(spec: &WindowSpec, watermark_ms: i64) -> Self {
        Self {
            rules: Rules::new(spec),
            keys: HashMap::new(),
            due: BTreeSet::new(),
            watermark_ms,
            touched: Vec::new(),
            committed_watermark_ms: watermark_ms,
            bytes: 0,
            shape: shape(spec),
            is_shape_written: false,
        }
    }

    /// Event time has come so far, in milliseconds since the epoch.
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// The watermark at which the next window may close; `None`: nothing waits for time.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.due.first().map(|(deadline, _)| *deadline)
    }

    /// The watermark has passed the end of a window that has not given its result: [`Windows::close_next`] comes
    /// before the next event.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.due.first().is_some_and(|(deadline, _)| *deadline <= self.watermark_ms)
    }

    /// A cut has something to write.
    pub fn is_dirty(&self) -> bool {
        !self.touched.is_empty()
    }

    /// What is open takes about so many bytes, as of the last cut.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many keys have something open.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Places an event, which then moves time on. Early results go to `results`.
    pub fn add(&mut self, arrival: &Arrival<'_>, results: &mut Results<'_>) -> Placed {
        let placed = match self.rules.kind {
            Kind::Aligned { size, advance } => self.add_aligned(arrival, (size, advance), results),
            Kind::Sliding { size } => self.add_sliding(arrival, size, results),
            Kind::Session { gap } => self.add_to_session(arrival, gap, results),
            Kind::Count { .. } => self.add_to_count(arrival, results),
        };
        if matches!(placed, Placed::In { .. }) {
            self.advance_to(arrival.place.time_ms);
        }
        placed
    }

    /// Event time has come to `time_ms`, be it without an event. It never goes back.
    pub fn advance_to(&mut self, time_ms: i64) {
        self.watermark_ms = self.watermark_ms.max(time_ms);
    }

    /// Closes what is due first, of one key; `false`: nothing is.
    pub fn close_next(&mut self, results: &mut Results<'_>) -> bool {
        if !self.is_due() {
            return false;
        }
        let Some((deadline, key)) = self.due.pop_first() else { return false };
        let Some(owner) = self.keys.get_mut(&key) else { return true };
        owner.look_at = NEVER;
        let rules = &self.rules;
        // A session may have grown since somebody said when to look.
        if rules.next_look(&owner.held) <= deadline {
            let owner = touch(&mut self.keys, &mut self.touched, &self.rules, &key);
            match &mut owner.held {
                Held::Windows(windows) => close_windows(&key, windows, deadline, &self.rules, results),
                Held::Events(events) => sliding::close(&key, events, deadline, &self.rules, results),
            }
        }
        self.look_again(&key);
        true
    }

    /// Somebody looks at `key` when its next window closes.
    fn look_again(&mut self, key: &Key) {
        let Some(owner) = self.keys.get_mut(key) else { return };
        let next = self.rules.next_look(&owner.held);
        if next < owner.look_at {
            if owner.look_at != NEVER {
                self.due.remove(&(owner.look_at, Key::clone(key)));
            }
            owner.look_at = next;
            self.due.insert((next, Key::clone(key)));
        }
    }

    fn add_to_count(&mut self, arrival: &Arrival<'_>, results: &mut Results<'_>) -> Placed {
        let owner = touch(&mut self.keys, &mut self.touched, &self.rules, arrival.key);
        let Held::Windows(windows) = &mut owner.held else { return Placed::Late };
        let time = arrival.place.time_ms;
        if windows.is_empty() {
            windows.push(Window::new(time, time, &self.rules));
        }
        let window = &mut windows[0];
        (window.start, window.end) = (window.start.min(time), window.end.max(time));
        window.fold(arrival);
        if self.rules.fire_early(arrival.key, window, results) {
            windows.clear();
        }
        Placed::In { missed: 0 }
    }

    /// What the cut is to write, entry by entry: `None` where one is gone.
    pub fn changes(&self, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
        if self.is_dirty() && !self.is_shape_written {
            each(entry::SHAPE, Some(self.shape.as_bytes()));
        }
        let mut buffers = entry::Buffers::default();
        for (key, before) in &self.touched {
            let after = self.keys.get(key).map(|owner| &owner.held);
            entry::difference(key, before, after, &mut buffers, &mut each);
        }
    }

    /// The cut that wrote [`Windows::changes`] is committed.
    pub fn committed(&mut self) {
        self.is_shape_written |= self.is_dirty();
        for (key, before) in self.touched.drain(..) {
            let Some(owner) = self.keys.get_mut(&key) else { continue };
            owner.is_touched = false;
            let overhead = |held: &Held| if held.is_empty() { 0 } else { KEY_OVERHEAD + key.len() };
            self.bytes += owner.held.bytes() + overhead(&owner.held);
            self.bytes = self.bytes.saturating_sub(before.bytes() + overhead(&before));
            if owner.held.is_empty() {
                forget(&mut self.keys, &mut self.due, key);
            }
        }
        self.committed_watermark_ms = self.watermark_ms;
    }

    /// Everything is again as the last cut left it.
    pub fn rolled_back(&mut self) {
        for (key, before) in std::mem::take(&mut self.touched) {
            let Some(owner) = self.keys.get_mut(&key) else { continue };
            owner.is_touched = false;
            owner.held = before;
            if owner.held.is_empty() {
                forget(&mut self.keys, &mut self.due, key);
            } else {
                self.look_again(&key);
            }
        }
        self.watermark_ms = self.committed_watermark_ms;
    }

    /// Takes up what an earlier run wrote: one entry of [`Windows::changes`], the newest of its key. Nothing of it is to
    /// be written again.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Damaged> {
        if key == entry::SHAPE {
            let written = String::from_utf8_lossy(value.unwrap_or_default());
            self.is_shape_written = true;
            return match written == self.shape {
                true => Ok(()),
                false => Err(Damaged::Other { written: written.into_owned(), wanted: self.shape.clone() }),
            };
        }
        let entry = Entry::read(key, value)?;
        let name: Key = entry.key.into();
        if !self.keys.contains_key(&name) {
            let held = self.rules.nothing();
            self.keys.insert(Key::clone(&name), Owner { held, look_at: NEVER, is_touched: false });
        }
        let Some(owner) = self.keys.get_mut(&name) else { return Ok(()) };
        entry.put_into(&mut owner.held, self.rules.ops.len())
    }

    /// All entries are restored.
    pub fn restored(&mut self) {
        self.keys.retain(|_, owner| !owner.held.is_empty());
        let keys: Vec<Key> = self.keys.keys().cloned().collect();
        self.bytes = self.keys.iter().map(|(key, owner)| KEY_OVERHEAD + key.len() + owner.held.bytes()).sum();
        keys.iter().for_each(|key| self.look_again(key));
    }
}

/// The owner of `key`, about to change.
fn touch<'w>(
    keys: &'w mut HashMap<Key, Owner>,
    touched: &mut Vec<(Key, Held)>,
    rules: &Rules,
    key: &[u8],
) -> &'w mut Owner {
    match keys.get_key_value(key) {
        Some((_, owner)) if owner.is_touched => {}
        Some((name, owner)) => touched.push((Key::clone(name), owner.held.clone())),
        None => {
            let name: Key = key.into();
            let owner = Owner { held: rules.nothing(), look_at: NEVER, is_touched: true };
            touched.push((Key::clone(&name), rules.nothing()));
            keys.insert(name, owner);
        }
    }
    let owner = keys.get_mut(key).expect("it is there or was just put there");
    owner.is_touched = true;
    owner
}

/// A key that holds nothing is nobody's.
fn forget(keys: &mut HashMap<Key, Owner>, due: &mut BTreeSet<(i64, Key)>, key: Key) {
    if let Some(owner) = keys.remove(&key)
        && owner.look_at != NEVER
    {
        due.remove(&(owner.look_at, key));
    }
}

/// Closes the windows whose deadline has come, in order.
fn close_windows(
    key: &[u8],
    windows: &mut Vec<Window>,
    deadline: i64,
    rules: &Rules,
    results: &mut Results<'_>,
) {
    windows.retain(|window| {
        let is_over = rules.deadline(window.end) <= deadline;
        if is_over && rules.fire == Fire::Close {
            let is_end_out = matches!(rules.kind, Kind::Aligned { .. });
            results(&window.fired(key, Why::Close, window.end - i64::from(is_end_out)));
        }
        !is_over
    });
}

/// What of `spec` the state depends on. Grace, and when results are given, may change while windows are open.
fn shape(spec: &WindowSpec) -> String {
    serde_json::to_string(&(&spec.kind, &spec.aggregates)).expect("plain types are always JSON")
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}
