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
mod keys;
mod open;
mod own;
mod pending;
mod progress;
mod result;
mod session;
mod sliding;
mod stitch;
mod view;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
pub use cell::{Cell, Field, Number, Place};
pub use entry::{Damaged, Entry};
use keys::Keys;
pub use open::OpenWindow;
use own::{ClockTimers, Own};
use pending::{Orphans, Waiting};
pub use pending::{Pending, Verdict};
pub use progress::{Part, Progress};
use result::Span;
pub use result::{Fired, Members, Why};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use thin_vec::ThinVec;
pub use view::{KeptValue, Open};

use crate::model::{AfterFire, AggregateOp, Fire, StitchSpec, WindowKind, WindowSpec};

type Key = Arc<[u8]>;

/// One an aggregate; most windows have one.
type Cells = SmallVec<[Cell; 1]>;

/// The key whose entry says, without a value, that all entries before it are given up: it names the kind of windows that
/// they are of. Those that are written later begin with it again.
pub const FORGOTTEN: &[u8] = entry::SHAPE;

/// No deadline.
const NEVER: i64 = i64::MAX;

/// One event, as windows see it.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The function's key.
    pub key: &'a [u8],
    /// When and where.
    pub place: Place,
    /// What it has for each aggregate, in the order of their names.
    pub fields: &'a [Option<Field>],
    /// The event itself, for windows that keep events: a form that whoever placed it can read again.
    pub body: &'a [u8],
    /// How far the event's own source partition had come before it, in milliseconds since the epoch: what is closed by
    /// this or by the lane's watermark is closed for the event.
    pub watermark_ms: i64,
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

/// Takes results. Behind one of the same key that waits, which the flag says, a result waits too.
pub type Results<'a> = dyn FnMut(&Fired<'_>, bool) -> Verdict + 'a;

/// Takes results, none of which waits.
type Taken<'a> = dyn FnMut(&Fired<'_>) + 'a;

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
    cells: Cells,
}

/// An event that is kept: because windows share it, or because results are made of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    place: Place,
    fields: Box<[Option<Field>]>,
    /// The event itself, where results are made of events; else empty.
    body: Bytes,
    /// The sliding window that ends with it has given its result, or never will.
    is_done: bool,
    /// What its time does not say of where it belongs: which of its key's stitches it is in; of hopping and sliding windows
    /// how many milliseconds after it those end, at the least, that it came in time for.
    belongs: u64,
}

impl Kept {
    fn new(arrival: &Arrival<'_>) -> Self {
        let body = Bytes::copy_from_slice(arrival.body);
        Self { place: arrival.place, fields: arrival.fields.into(), body, is_done: false, belongs: 0 }
    }

    /// When and where.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The window that ends at `end` was not closed for it.
    fn came_in_time_for(&self, end: i64) -> bool {
        self.belongs <= end.abs_diff(self.place.time_ms)
    }

    /// The event, as it was placed.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// What one key has.
#[derive(Debug, Clone, PartialEq, Default)]
struct Held {
    /// By start. Sliding windows and stitches are made of their events.
    windows: SmallVec<[Window; 1]>,
    /// By place.
    events: ThinVec<Kept>,
    /// What else there is of it; `None`: nothing.
    own: Option<Box<Own>>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.events.is_empty() && self.own.is_none()
    }

    fn keep(&mut self, arrival: &Arrival<'_>) -> &mut Kept {
        let at = self.events.partition_point(|kept| kept.place < arrival.place);
        self.events.reserve_exact(1);
        self.events.insert(at, Kept::new(arrival));
        &mut self.events[at]
    }

    /// Forgets the events that are in no window any more.
    fn sweep(&mut self, rules: &Rules) {
        let Self { windows, events, .. } = self;
        events.retain(|kept| windows.iter().any(|window| rules.span(window).has(kept)));
    }

    fn bytes(&self) -> usize {
        // The first window stands with its key, its first cell with the window.
        let of_window = |window: &Window| {
            let others = window.cells.len().saturating_sub(1) * size_of::<Cell>();
            others + window.cells.iter().map(Cell::heap_bytes).sum::<usize>()
        };
        let others = self.windows.len().saturating_sub(1) * size_of::<Window>();
        let of_field = |field: &Option<Field>| match field {
            Some(Field::Json(json)) => json.len(),
            _ => 0,
        };
        let of_event = |event: &Kept| {
            let fields = event.fields.iter().map(of_field).sum::<usize>();
            size_of::<Kept>() + size_of_val(&*event.fields) + fields + event.body.len()
        };
        let of_own = self.own.as_ref().map_or(0, |own| own.bytes());
        of_own
            + others
            + self.windows.iter().map(of_window).sum::<usize>()
            + self.events.iter().map(of_event).sum::<usize>()
    }
}

/// The spec, in the units of the work.
#[derive(Debug)]
struct Rules {
    kind: Kind,
    grace: i64,
    fire: Fire,
    ops: Vec<AggregateOp>,
    /// Results are made of events.
    keeps: bool,
    stitch: StitchSpec,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Aligned {
        size: i64,
        advance: i64,
    },
    Sliding {
        size: i64,
    },
    Session {
        gap: i64,
    },
    Count {
        size: u64,
    },
    Stitch {
        within: i64,
    },
    /// Each event is handled by itself: there are no windows.
    Each,
}

impl Rules {
    fn new(spec: &WindowSpec) -> Self {
        let kind = match spec.kind {
            WindowKind::Tumbling { size } => Kind::Aligned { size: ms(size), advance: ms(size) },
            WindowKind::Hopping { size, advance } => Kind::Aligned { size: ms(size), advance: ms(advance) },
            WindowKind::Sliding { size } => Kind::Sliding { size: ms(size) },
            WindowKind::Session { gap } => Kind::Session { gap: ms(gap) },
            WindowKind::Count { size } => Kind::Count { size },
            WindowKind::Stitch { within } => Kind::Stitch { within: ms(within) },
            WindowKind::Each => Kind::Each,
        };
        let ops = spec.aggregates.values().map(|aggregate| aggregate.op).collect();
        let (keeps, stitch) = (spec.aggregates.is_empty(), spec.stitch.clone());
        Self { kind, grace: ms(spec.grace), fire: spec.fire, ops, keeps, stitch }
    }

    /// The first watermark at which the window that ends at `end` is closed.
    fn deadline(&self, end: i64) -> i64 {
        match self.kind {
            Kind::Aligned { .. } => end.saturating_add(self.grace),
            Kind::Sliding { .. } | Kind::Stitch { .. } => end.saturating_add(self.grace + 1),
            Kind::Session { gap } => end.saturating_add(gap + self.grace + 1),
            Kind::Count { .. } | Kind::Each => NEVER,
        }
    }

    /// How long after `time` a window ends, at the least, that is not closed at `closed`.
    fn first_open(&self, time: i64, closed: i64) -> u64 {
        u64::try_from(closed.saturating_sub(self.deadline(time)).saturating_add(1)).unwrap_or(0)
    }

    fn empty_cells(&self) -> Cells {
        self.ops.iter().map(|op| Cell::empty(*op)).collect()
    }

    /// When somebody has to look at what a key holds.
    fn next_look(&self, held: &Held) -> i64 {
        let next = match self.kind {
            Kind::Sliding { .. } => sliding::next_look(&held.events, self),
            Kind::Stitch { within } => stitch::next_look(&held.events, within, self),
            _ => held.windows.iter().map(|window| self.deadline(window.end)).min(),
        };
        let of_own = held.own.as_ref().and_then(|own| own.next_look());
        next.into_iter().chain(of_own).min().unwrap_or(NEVER)
    }

    /// When everything that a key holds has closed, and its timers have fired.
    fn last_look(&self, held: &Held) -> Option<i64> {
        let last = match self.kind {
            Kind::Sliding { .. } => held.events.last().map(|kept| self.deadline(kept.place.time_ms)),
            Kind::Stitch { within } => {
                held.events.last().map(|kept| self.deadline(kept.place.time_ms.saturating_add(within)))
            }
            _ => held.windows.iter().map(|window| self.deadline(window.end)).filter(|at| *at != NEVER).max(),
        };
        let of_own = held.own.as_ref().and_then(|own| own.last_timer());
        last.into_iter().chain(of_own).max()
    }

    /// Which events are in a window.
    fn span(&self, window: &Window) -> Span {
        match self.kind {
            Kind::Aligned { .. } => Span::Until(window.start, window.end),
            Kind::Count { .. } => Span::All,
            _ => Span::To(window.start, window.end),
        }
    }

    /// A window has taken an event: it may give a result at once. `true`: it is to be forgotten now, with its events.
    fn fire_early(
        &self,
        key: &[u8],
        window: &mut Window,
        events: &mut ThinVec<Kept>,
        results: &mut Taken<'_>,
    ) -> bool {
        let why = match (self.kind, self.fire) {
            (Kind::Count { size }, _) if window.events >= size => Why::Close,
            (_, Fire::Update) => Why::Update,
            (_, Fire::Count { every, .. }) if window.events.is_multiple_of(every) => Why::Count,
            _ => return false,
        };
        let span = self.span(window);
        results(&window.fired(key, why, window.newest, Members { events, span }));
        let is_over = why == Why::Close
            || (why == Why::Count && matches!(self.fire, Fire::Count { then: AfterFire::Reset, .. }));
        if is_over {
            window.events = 0;
            window.cells = self.empty_cells();
            events.retain(|kept| !span.has(kept));
        }
        is_over
    }
}

impl Window {
    fn new(start: i64, end: i64, rules: &Rules) -> Self {
        Self { start, end, newest: i64::MIN, events: 0, cells: rules.empty_cells() }
    }

    fn fold(&mut self, place: Place, fields: &[Option<Field>]) {
        self.newest = self.newest.max(place.time_ms);
        self.events += 1;
        for (cell, field) in self.cells.iter_mut().zip(fields) {
            if let Some(field) = field {
                cell.fold(place, field);
            }
        }
    }

    fn fired<'a>(&'a self, key: &'a [u8], why: Why, time_ms: i64, members: Members<'a>) -> Fired<'a> {
        Fired { key, bounds: (self.start, self.end), why, time_ms, cells: &self.cells, members, missing: &[] }
    }
}

/// The open windows of one lane.
pub struct Windows {
    rules: Rules,
    keys: Keys,
    /// Timers by the wall clock.
    clock_timers: ClockTimers,
    /// Of values and timers; each is held once.
    names: Vec<Arc<str>>,
    /// How long a value is kept that says nothing of it, in milliseconds; `None`: for ever.
    ttl: Option<i64>,
    watermark_ms: i64,
    committed_watermark_ms: i64,
    /// As of the last cut.
    bytes: usize,
    /// What of the spec the state depends on, as JSON, and whether it stands in the state.
    shape: String,
    is_shape_written: bool,
    /// Results that their handler did not take.
    waiting: Waiting,
    orphans: Orphans,
    /// The first entry that could not be restored.
    damaged: Option<Damaged>,
    /// Of a lane that several source partitions feed.
    progress: Option<Progress>,
    /// Sources that say nothing of time.
    timeless: Vec<u16>,
    committed_progress: Option<Progress>,
    is_progress_dirty: bool,
}

impl Windows {
    /// None is open, and time stands at `watermark_ms`, `i64::MIN` before any event.
    pub fn new(spec: &WindowSpec, watermark_ms: i64) -> Self {
        Self {
            rules: Rules::new(spec),
            keys: Keys::default(),
            clock_timers: ClockTimers::new(),
            names: Vec::new(),
            ttl: spec.state.as_ref().and_then(|state| state.ttl).map(ms),
            watermark_ms,
            committed_watermark_ms: watermark_ms,
            bytes: 0,
            shape: shape(spec),
            is_shape_written: false,
            waiting: Waiting::default(),
            orphans: Orphans::new(),
            damaged: None,
            progress: None,
            timeless: spec.tables.iter().map(|(source, _)| *source).collect(),
            committed_progress: None,
            is_progress_dirty: false,
        }
    }

    /// Event time has come so far, in milliseconds since the epoch.
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// The watermark at which the next window may close; `None`: nothing waits for time.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.keys.next_deadline()
    }

    /// The watermark at which the last of all that is open has closed, at the latest.
    pub fn last_deadline_ms(&self) -> Option<i64> {
        self.keys.iter().filter_map(|(_, held)| self.rules.last_look(held)).max()
    }

    /// The watermark has passed the end of a window that has not given its result: [`Windows::close_next`] comes
    /// before the next event.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.keys.next_deadline().is_some_and(|deadline| deadline <= self.watermark_ms)
    }

    /// A cut has something to write.
    pub fn is_dirty(&self) -> bool {
        self.keys.is_touched() || self.is_progress_dirty || self.waiting.is_dirty()
    }

    /// What is open takes about so many bytes, as of the last cut.
    pub fn bytes(&self) -> usize {
        self.bytes + self.waiting.bytes()
    }

    /// How many keys have something open.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Places an event. It moves no time: that is for [`Windows::advance_to`], once it is placed. Early results go to
    /// `results`.
    pub fn add(&mut self, arrival: &Arrival<'_>, results: &mut Results<'_>) -> Placed {
        self.taking(results, |windows, results| match windows.rules.kind {
            Kind::Aligned { size, advance } => windows.add_aligned(arrival, (size, advance), results),
            Kind::Sliding { size } => windows.add_sliding(arrival, size, results),
            Kind::Session { gap } => windows.add_to_session(arrival, gap, results),
            Kind::Count { .. } => windows.add_to_count(arrival, results),
            Kind::Stitch { within } => windows.add_to_stitch(arrival, within, results),
            Kind::Each => Placed::In { missed: 0 },
        })
    }

    /// Keeps results that wait.
    #[inline]
    fn taking<T>(
        &mut self,
        results: &mut Results<'_>,
        act: impl FnOnce(&mut Self, &mut Taken<'_>) -> T,
    ) -> T {
        let mut waiting = std::mem::take(&mut self.waiting);
        let done = act(self, &mut |fired| match results(fired, waiting.has(fired.key)) {
            Verdict::Done => {}
            wait => waiting.push(fired, wait),
        });
        self.waiting = waiting;
        done
    }

    /// Results that wait, in the order in which they fired.
    pub fn waiting(&self) -> impl Iterator<Item = (u64, &Arc<Pending>)> {
        self.waiting.iter()
    }

    /// Those that came since the last question and have no other of their key before them.
    pub fn take_fresh(&mut self) -> Vec<u64> {
        self.waiting.take_fresh()
    }

    /// How many results wait.
    #[inline]
    pub fn count_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Nobody gives those now that came since the last question: they wait like all others.
    pub fn forget_fresh(&mut self) {
        self.waiting.forget_fresh();
    }

    /// Results wait that came since [`Windows::take_fresh`].
    #[inline]
    pub fn has_fresh(&self) -> bool {
        self.waiting.has_fresh()
    }

    /// One that waits.
    pub fn waiting_at(&self, number: u64) -> Option<&Arc<Pending>> {
        self.waiting.get(number)
    }

    /// A further call for one that waits failed.
    pub fn failed_again(&mut self, number: u64) {
        self.waiting.failed(number);
    }

    /// A result that had died is given again.
    pub fn revive(&mut self, pending: Pending) {
        self.waiting.revive(pending);
    }

    /// One that waited is done with.
    pub fn settled(&mut self, number: u64) {
        self.waiting.done(number);
    }

    /// Of a lane that several source partitions feed: time is the least of theirs.
    pub fn of_sources(mut self, sources: usize) -> Self {
        self.progress = Some(Progress::new(sources).without(&self.timeless));
        self
    }

    /// An event was placed: time goes on to it. One that is late moves nothing.
    #[inline]
    pub fn moved(&mut self, place: Place) {
        match &mut self.progress {
            None => self.advance_to(place.time_ms),
            Some(progress) => {
                progress.placed(place.source, place.partition, place.time_ms);
                let lane_ms = progress.lane_ms();
                self.is_progress_dirty = true;
                self.advance_to(lane_ms.unwrap_or(i64::MIN));
            }
        }
    }

    /// The same for an event that was handled, which may have waited for that.
    pub fn handled(&mut self, place: Place) {
        let is_past = |progress: &Progress| progress.is_past(place.source, place.partition, place.time_ms);
        if !self.progress.as_ref().is_some_and(is_past) {
            self.moved(place);
        }
    }

    /// How far the source partitions have come that feed this lane, if there are several.
    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// Something is said of source partitions: how many a source has, or how far they have come.
    pub fn hear(&mut self, counts: impl Iterator<Item = (u16, u32)>, parts: impl Iterator<Item = Part>) {
        let Some(progress) = &mut self.progress else { return };
        counts.for_each(|(source, count)| progress.announce(source, count));
        parts.for_each(|part| progress.report(part));
        self.is_progress_dirty = true;
        let lane_ms = progress.lane_ms();
        self.advance_to(lane_ms.unwrap_or(i64::MIN));
    }

    /// What is closed for an event.
    fn closed_ms(&self, arrival: &Arrival<'_>) -> i64 {
        self.watermark_ms.max(arrival.watermark_ms)
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
        if let Some((key, timers)) = self.taking(results, Self::close_first) {
            timers.iter().for_each(|timer| self.waiting.push_timer(&key, timer));
        }
        true
    }

    /// Which timers fire too, and whose they are.
    fn close_first(&mut self, results: &mut Taken<'_>) -> Option<(Key, Vec<own::Timer>)> {
        let (at, deadline) = self.keys.pop_due()?;
        let mut fired = None;
        let rules = &self.rules;
        // A session may have grown since somebody said when to look.
        if rules.next_look(self.keys.held(at)) <= deadline {
            self.keys.touch_at(at);
            let (key, held) = self.keys.held_mut(at);
            match rules.kind {
                Kind::Sliding { .. } => sliding::close(key, &mut held.events, deadline, rules, results),
                Kind::Stitch { within } => {
                    stitch::close(key, held, (within, deadline), rules, results);
                }
                _ => close_windows(key, held, deadline, rules, results),
            }
            let timers = held.take_due(deadline);
            fired = (!timers.is_empty()).then(|| (Key::clone(key), timers));
        }
        self.look_again(at);
        fired
    }

    fn look_again(&mut self, at: keys::At) {
        self.keys.look_by(at, self.rules.next_look(self.keys.held(at)));
    }

    fn add_to_count(&mut self, arrival: &Arrival<'_>, results: &mut Taken<'_>) -> Placed {
        let at = self.keys.touch(arrival.key);
        let (_, held) = self.keys.held_mut(at);
        if self.rules.keeps {
            held.keep(arrival);
        }
        let Held { windows, events, .. } = held;
        let time = arrival.place.time_ms;
        if windows.is_empty() {
            windows.push(Window::new(time, time, &self.rules));
        }
        let window = &mut windows[0];
        (window.start, window.end) = (window.start.min(time), window.end.max(time));
        window.fold(arrival.place, arrival.fields);
        if self.rules.fire_early(arrival.key, window, events, results) {
            windows.clear();
        }
        Placed::In { missed: 0 }
    }

    /// An entry that may be written at any time: it says what the others are entries of, and nothing new.
    pub fn heading(&self) -> (&'static [u8], &[u8]) {
        (entry::SHAPE, self.shape.as_bytes())
    }

    /// What the cut is to write, entry by entry: `None` where one is gone.
    pub fn changes(&self, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
        if self.is_dirty() && !self.is_shape_written {
            each(entry::SHAPE, Some(self.shape.as_bytes()));
        }
        let mut buffers = entry::Buffers::default();
        if let Some(progress) = self.progress.as_ref().filter(|_| self.is_progress_dirty) {
            buffers.progress(progress);
            each(entry::PROGRESS, Some(buffers.value()));
        }
        self.waiting.changes(|number, before, after| {
            entry::pending(number, (before, after), &mut buffers, &mut each);
        });
        for (at, before) in self.keys.touched() {
            let (key, after) = (self.keys.key(at), self.keys.held(at));
            entry::difference(key, before, after, &mut buffers, &mut each);
        }
    }

    /// The cut that wrote [`Windows::changes`] is committed.
    pub fn committed(&mut self) {
        self.is_shape_written |= self.is_dirty();
        if std::mem::take(&mut self.is_progress_dirty) {
            self.committed_progress.clone_from(&self.progress);
        }
        self.waiting.committed();
        let mut touched = self.keys.take_touched();
        for (at, before) in touched.drain(..) {
            let (key, after) = (self.keys.key(at), self.keys.held(at));
            self.bytes += bytes_of(key, after);
            self.bytes = self.bytes.saturating_sub(bytes_of(key, &before));
            if after.is_empty() {
                self.keys.forget(at);
            }
        }
        self.keys.give_back(touched);
        self.committed_watermark_ms = self.watermark_ms;
    }

    /// Everything is again as the last cut left it.
    pub fn rolled_back(&mut self) {
        for (at, before) in self.keys.take_touched() {
            let is_empty = before.is_empty();
            let (key, held) = self.keys.held_mut(at);
            let (own, after) = (before.own.clone(), std::mem::replace(held, before).own);
            if own != after {
                let key = Key::clone(key);
                self.index_clock_timers(&key, (after.as_deref(), own.as_deref()));
            }
            if is_empty {
                self.keys.forget(at);
            } else {
                self.look_again(at);
            }
        }
        self.waiting.rolled_back();
        if std::mem::take(&mut self.is_progress_dirty) {
            self.progress = match (&self.progress, &self.committed_progress) {
                (Some(progress), None) => Some(Progress::new(progress.sources()).without(&self.timeless)),
                (_, committed) => committed.clone(),
            };
        }
        self.watermark_ms = self.committed_watermark_ms;
    }

    /// Takes up what an earlier run wrote: one entry of [`Windows::changes`], in the order of the topic. Nothing of it is to
    /// be written again. Whether it can be read is said in the end: what is of no use may have been given up later.
    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) {
        if key == FORGOTTEN && value.is_none() {
            return self.forget_all();
        }
        if let Err(damaged) = self.take_up(key, value) {
            self.damaged.get_or_insert(damaged);
        }
    }

    /// Everything that was read so far was given up.
    fn forget_all(&mut self) {
        self.keys.clear();
        self.clock_timers.clear();
        self.waiting = Waiting::default();
        self.orphans.clear();
        let anew = |progress: Progress| Progress::new(progress.sources()).without(&self.timeless);
        self.progress = self.progress.take().map(anew);
        (self.committed_progress, self.damaged, self.is_shape_written) = (None, None, false);
    }

    fn take_up(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Damaged> {
        if key == entry::SHAPE {
            let written = String::from_utf8_lossy(value.unwrap_or_default());
            self.is_shape_written = true;
            return match written == self.shape {
                true => Ok(()),
                false => Err(Damaged::Other { written: written.into_owned(), wanted: self.shape.clone() }),
            };
        }
        if key == entry::PROGRESS {
            let progress = value.map(entry::read_progress).transpose()?;
            let known = |empty| progress.map_or(empty, |progress: Progress| progress.without(&self.timeless));
            self.progress = self.progress.take().map(known);
            self.committed_progress.clone_from(&self.progress);
            return Ok(());
        }
        if let Some(number) = entry::timer_number(key)? {
            let pending = value.map(entry::read_timer).transpose()?;
            self.waiting.restore(number, pending);
            return Ok(());
        }
        if let Some((number, place)) = entry::pending_name(key)? {
            match place {
                None => {
                    let pending = value.map(entry::read_pending).transpose()?;
                    self.waiting.restore(number, pending);
                }
                Some(place) => self.waiting.restore_event(number, place, value, &mut self.orphans),
            }
            return Ok(());
        }
        let entry = Entry::read(key, value)?;
        let own = entry.own_name().map(|own| self.name(own));
        let aggregates = self.rules.ops.len();
        let held = self.keys.restore(entry.key);
        entry.put_into(held, own, aggregates)
    }

    /// All entries are restored. An error: one that counts cannot be read.
    pub fn restored(&mut self) -> Result<(), Damaged> {
        if let Some(damaged) = self.damaged.take() {
            return Err(damaged);
        }
        self.waiting.restored(std::mem::take(&mut self.orphans));
        self.bytes = 0;
        for at in self.keys.places() {
            let (key, held) = (self.keys.key(at), self.keys.held(at));
            if held.is_empty() {
                self.keys.forget(at);
                continue;
            }
            self.bytes += bytes_of(key, held);
            let timers = held.own.as_deref().into_iter().flat_map(Own::clock_timers);
            self.clock_timers.extend(timers.map(|(at, name)| (at, Key::clone(key), Arc::clone(name))));
            self.look_again(at);
        }
        Ok(())
    }
}

/// What a key takes, roughly, with what it holds.
fn bytes_of(key: &Key, held: &Held) -> usize {
    if held.is_empty() { 0 } else { keys::OVERHEAD + key.len() + held.bytes() }
}

/// Closes the windows whose deadline has come, in order.
fn close_windows(key: &[u8], held: &mut Held, deadline: i64, rules: &Rules, results: &mut Taken<'_>) {
    let Held { windows, events, .. } = held;
    windows.retain(|window| {
        let is_over = rules.deadline(window.end) <= deadline;
        if is_over && rules.fire == Fire::Close {
            let is_end_out = matches!(rules.kind, Kind::Aligned { .. });
            let members = Members { events, span: rules.span(window) };
            results(&window.fired(key, Why::Close, window.end - i64::from(is_end_out), members));
        }
        !is_over
    });
    held.sweep(rules);
}

/// What of `spec` the state depends on. Grace, and when results are given, may change while windows are open.
fn shape(spec: &WindowSpec) -> String {
    if matches!(spec.kind, WindowKind::Stitch { .. }) {
        return serde_json::to_string(&(&spec.kind, &spec.sources)).expect("plain types are always JSON");
    }
    serde_json::to_string(&(&spec.kind, &spec.aggregates, &spec.sources))
        .expect("plain types are always JSON")
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}
