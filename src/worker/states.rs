//! The state of a worker's lanes: windows, each of one partition of the source. It comes with the partition, is written
//! to the state topic in every cut, and goes with the partition.
//!
//! It belongs to the partition and not to the lane, since events that are brought back enter it too: they are read by the
//! lane of the redrive topic that has the same partition.
//!
//! **Time without events.** A partition that was read to its end and has been quiet for `window.idle` lets event time go
//! on with the clock, as far as that closes something. Before it does the broker is asked: what the last fetch told of the
//! end can be old, and time must not pass what is still to be read.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{ASK_WAIT, Stopped, Worker};
use crate::kafka::{Consumer, Origin, Partition};
use crate::model::{Function, Moment, WindowSpec};
use crate::observe::Phase;
use crate::observe::events::{CircuitClosed, CircuitOpened};
use crate::observe::metrics::Id;
use crate::pipeline::{Agenda, Given, Tidings, back_off, result_number};
use crate::plugin::Notes;
use crate::window::{Part, Pending, Windows};

/// A worker that has not come round for so long stood still: it does not know how long its partitions were quiet.
pub(super) const STOOD_STILL: Duration = Duration::from_secs(2);

/// From a question that no broker answered to the next.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How much event time may pass without events before a cut remembers it.
const REMEMBER_EVERY_MS: i64 = 10_000;

/// From one word about results that wait to the next.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// The windows of one partition.
struct State {
    partition: i32,
    windows: Windows,
    /// When an event was placed last, or a look at the partition began.
    heard_at: Duration,
    /// Since when it is idle, and where event time stood then.
    idle: Option<(Duration, i64)>,
    /// When results that wait are given again.
    agenda: Agenda,
    /// The wall clock when somebody last looked which timers fire by it.
    wall_ms: i64,
    /// How often the process died during calls with results, by their numbers, and it is not yet counted as attempts.
    deaths: BTreeMap<i64, u32>,
    /// Those that are counted, and the count is not yet committed.
    counted: Vec<i64>,
    /// Its lane's circuit is open: results that fire wait.
    is_held: bool,
    /// Something was written to its topic since the last cut.
    is_open: bool,
    /// Nothing more will come: how far event time and the clock go, at most, for what was open when that was said.
    ends_at: Option<Ends>,
    /// Nothing has come since it was taken over: what its owner before expected, if nothing came, as event time and the
    /// wall clock at which it comes to that.
    expected: Option<(i64, i64)>,
}

/// Event time and the clock, milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
struct Ends {
    time_ms: i64,
    wall_ms: i64,
}

impl State {
    /// Nothing more will come: lets time go to where what is open closes. Who sets a timer anew each time that it fires sets
    /// it for later. `true`: something closes.
    fn end(&mut self) -> bool {
        let windows = &mut self.windows;
        let Ends { time_ms, wall_ms } = *self.ends_at.get_or_insert_with(|| Ends {
            time_ms: windows.last_deadline_ms().unwrap_or(i64::MIN),
            wall_ms: windows.last_clock_ms().unwrap_or(i64::MIN),
        });
        self.wall_ms = self.wall_ms.max(wall_ms);
        windows.advance_to(time_ms);
        self.is_due()
    }

    /// Something is open that closes when nothing more comes.
    fn has_open(&self) -> bool {
        let (time, wall) = (self.windows.next_deadline_ms(), self.windows.next_clock_ms());
        match self.ends_at {
            None => time.is_some() || wall.is_some(),
            Some(ends) => {
                time.is_some_and(|at| at <= ends.time_ms) || wall.is_some_and(|at| at <= ends.wall_ms)
            }
        }
    }

    /// Timers fire, or windows close, before the partition's next event.
    fn is_due(&self) -> bool {
        self.windows.is_due() || self.windows.next_clock_ms().is_some_and(|at| at <= self.wall_ms)
    }

    /// When something is due if nothing comes, by the wall clock, in milliseconds since the epoch.
    fn wake_at_ms(&self, now: Moment, idle: Duration) -> Option<i64> {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let by_event_time = self.windows.next_deadline_ms().and_then(|deadline| {
            let (time_ms, wait) = match (self.expected, self.idle) {
                (Some(expected), _) => (expected_at(expected, now.wall_ms), Duration::ZERO),
                (None, Some((since, base))) => {
                    (base.saturating_add(ms(now.elapsed.saturating_sub(since))), Duration::ZERO)
                }
                (None, None) => {
                    (self.windows.watermark_ms(), (self.heard_at + idle).saturating_sub(now.elapsed))
                }
            };
            let left = deadline.checked_sub(time_ms.max(self.windows.watermark_ms()))?;
            now.wall_ms.checked_add(ms(wait))?.checked_add(left)
        });
        by_event_time.into_iter().chain(self.windows.next_clock_ms()).min()
    }

    /// Something has come.
    fn is_heard(&mut self, now: Duration) {
        (self.heard_at, self.idle, self.expected, self.ends_at) = (now, None, None, None);
    }
}

/// Where event time stands at `wall_ms` if it comes to the first at the second.
fn expected_at((time_ms, at_ms): (i64, i64), wall_ms: i64) -> i64 {
    time_ms.saturating_sub(at_ms.saturating_sub(wall_ms))
}

/// What a partition's state needs besides its windows.
pub struct Takeover {
    /// When its owner before expected something to be due, by the wall clock, milliseconds since the epoch.
    pub wake_at_ms: Option<i64>,
    /// How often the process died during calls with its results, by their numbers.
    pub deaths: BTreeMap<i64, u32>,
}

/// The state of all partitions of a worker.
pub struct States {
    /// The topic of the events.
    topic: Arc<str>,
    /// The function's sources, if they are brought together there.
    sources: Option<Arc<[String]>>,
    spec: WindowSpec,
    max_bytes: u64,
    states: Vec<State>,
    looked_at: Duration,
    /// No broker is asked before.
    ask_at: Duration,
    /// Results are due that the last round had no time for.
    pub(super) has_more: bool,
}

impl States {
    /// Of a function with a window.
    pub fn new(function: &Function) -> Self {
        let topics = function.sources.iter().map(|source| source.topic.clone());
        Self {
            topic: function.gathered_topic().unwrap_or_default().into(),
            sources: function.stitch_topic.as_ref().map(|_| topics.collect()),
            spec: function.window.clone().expect("asked of functions with a window"),
            max_bytes: function.max_state,
            states: Vec::new(),
            looked_at: Duration::ZERO,
            ask_at: Duration::ZERO,
            has_more: false,
        }
    }

    /// What is gathered.
    pub fn spec(&self) -> &WindowSpec {
        &self.spec
    }

    /// How many sources are brought together, if they are.
    pub fn sources(&self) -> Option<usize> {
        self.sources.as_ref().map(|sources| sources.len())
    }

    /// What is known of source partitions that are not idle.
    pub fn active_parts(&self) -> impl Iterator<Item = &Part> {
        let parts = self.states.iter().filter_map(|state| state.windows.progress());
        parts.flat_map(|progress| progress.parts()).filter(|part| !part.is_idle)
    }

    /// Something is said about source partitions.
    pub fn hear(&mut self, partition: i32, bytes: &[u8]) -> Result<(), Stopped> {
        let tidings = Tidings::read(bytes).map_err(|cause| Stopped::Tidings { partition, cause })?;
        let Some(sources) = &self.sources else { return Ok(()) };
        let place = |topic: &String| u16::try_from(sources.iter().position(|known| known == topic)?).ok();
        let Some(state) = self.states.iter_mut().find(|state| state.partition == partition) else {
            return Ok(());
        };
        let topics: Vec<_> = tidings.topics.iter().map(|(topic, count)| (place(topic), *count)).collect();
        let counts = topics.iter().filter_map(|(source, count)| Some(((*source)?, *count)));
        let parts = tidings.parts.iter().filter_map(|(at, partition, watermark_ms, is_idle)| {
            let source = topics.get(usize::from(*at))?.0?;
            Some(Part { source, partition: *partition, watermark_ms: *watermark_ms, is_idle: *is_idle })
        });
        let before = state.windows.watermark_ms();
        state.windows.hear(counts, parts);
        if state.windows.watermark_ms() != before {
            // What was expected of time is behind it.
            (state.idle, state.expected) = (None, None);
        }
        Ok(())
    }

    /// The partition's events are gathered here.
    pub fn is_of(&self, partition: &Partition) -> bool {
        *partition.topic == *self.topic
    }

    /// Takes over the windows of a partition.
    pub fn open(&mut self, partition: i32, windows: Windows, takeover: Takeover, now: Moment) {
        self.states.retain(|state| state.partition != partition);
        let Takeover { wake_at_ms, deaths } = takeover;
        // What was expected of a timer says nothing of event time.
        let of_event_time = wake_at_ms.filter(|at| windows.next_clock_ms() != Some(*at));
        let expected = windows.next_deadline_ms().zip(of_event_time);
        self.states.push(State {
            partition,
            windows,
            heard_at: now.elapsed,
            idle: None,
            agenda: Agenda::default(),
            // What was due while nobody ran fires before the first event.
            wall_ms: now.wall_ms,
            deaths,
            counted: Vec::new(),
            is_held: false,
            is_open: false,
            ends_at: None,
            expected,
        });
    }

    /// These partitions are somebody else's.
    pub fn close(&mut self, gone: &[Partition]) {
        let topic = &self.topic;
        let is_gone = |state: &State| {
            gone.iter().any(|gone| gone.partition == state.partition && *gone.topic == **topic)
        };
        self.states.retain(|state| !is_gone(state));
    }

    /// The windows of a partition, for an event that is placed there `now`; and whether results that fire wait.
    #[inline]
    pub fn enter(&mut self, partition: i32, now: Duration) -> Option<(&mut Windows, bool)> {
        let state = self.states.iter_mut().find(|state| state.partition == partition)?;
        state.is_heard(now);
        Some((&mut state.windows, state.is_held))
    }

    /// Windows of some partition are to be closed, or timers fire.
    pub fn is_any_due(&self) -> bool {
        self.states.iter().any(State::is_due)
    }

    /// Windows of this partition are to be closed before its next event, or timers fire.
    #[inline]
    pub fn is_due(&self, partition: i32) -> bool {
        self.states.iter().any(|state| state.partition == partition && state.is_due())
    }

    /// How long until a timer fires by the wall clock; `None`: there is none.
    pub fn until_timer(&self, wall_ms: i64) -> Option<Duration> {
        let first = self.states.iter().filter_map(|state| state.windows.next_clock_ms()).min()?;
        Some(Duration::from_millis(u64::try_from(first.saturating_sub(wall_ms)).unwrap_or(0)))
    }

    /// How long until something is due in any partition if nothing comes; `None`: nothing ever is.
    pub fn until_due(&self, now: Moment) -> Option<Duration> {
        let first = self.states.iter().filter_map(|state| state.wake_at_ms(now, self.spec.idle)).min()?;
        Some(Duration::from_millis(u64::try_from(first.saturating_sub(now.wall_ms)).unwrap_or(0)))
    }

    /// When something is due in a partition if nothing comes, by the wall clock, in milliseconds since the epoch.
    fn wake_at_ms(&self, partition: i32, now: Moment) -> Option<i64> {
        let state = self.states.iter().find(|state| state.partition == partition)?;
        state.wake_at_ms(now, self.spec.idle)
    }

    /// Calls wait to be made, or to be made again.
    pub fn has_waiting(&self) -> bool {
        self.states.iter().any(|state| state.windows.waiting().next().is_some())
    }

    /// How many results wait in a partition.
    #[inline]
    pub fn count_waiting(&self, partition: i32) -> usize {
        let state = self.states.iter().find(|state| state.partition == partition);
        state.map_or(0, |state| state.windows.count_waiting())
    }

    /// Calls wait to be made that came just now.
    pub fn has_fresh(&self) -> bool {
        self.states.iter().any(|state| state.windows.has_fresh())
    }

    /// Where event time stands in a partition.
    pub fn watermark_ms(&self, partition: &Partition) -> Option<i64> {
        let state = self.states.iter().find(|state| state.partition == partition.partition);
        state.filter(|_| self.is_of(partition)).map(|state| state.windows.watermark_ms())
    }

    /// Where event time stands in the partition in which it is furthest behind; `None`: there was no event yet.
    pub fn least_watermark_ms(&self) -> Option<i64> {
        let known = self.states.iter().map(|state| state.windows.watermark_ms());
        known.filter(|watermark_ms| *watermark_ms != i64::MIN).min()
    }

    /// What a partition's state has that the last cut did not: entries of the state topic.
    pub fn changes(&self, mut each: impl FnMut(i32, &[u8], Option<&[u8]>)) {
        for state in &self.states {
            let (heading, _) = state.windows.heading();
            state.windows.changes(|key, value| {
                // Written already.
                if key != heading || !state.is_open {
                    each(state.partition, key, value);
                }
            });
        }
    }

    /// Headings of partitions whose state the next cut writes, once a cut.
    fn begin_writing(&mut self, mut each: impl FnMut(i32, &[u8], &[u8])) {
        for state in self.states.iter_mut().filter(|state| !state.is_open && state.windows.is_dirty()) {
            state.is_open = true;
            let (key, value) = state.windows.heading();
            each(state.partition, key, value);
        }
    }

    /// Something is open that closes when nothing more comes.
    pub fn has_open(&self) -> bool {
        self.states.iter().any(State::has_open)
    }

    /// Partitions whose state the next cut writes.
    pub fn dirty(&self) -> impl Iterator<Item = i32> {
        self.states.iter().filter(|state| state.windows.is_dirty()).map(|state| state.partition)
    }

    /// The cut is committed.
    pub fn committed(&mut self) -> Result<(), Stopped> {
        for state in &mut self.states {
            state.windows.committed();
            state.is_open = false;
        }
        let bytes = self.bytes();
        match bytes > self.max_bytes {
            true => Err(Stopped::StateFull { bytes, max_bytes: self.max_bytes, held_by: self.slowest() }),
            false => Ok(()),
        }
    }

    /// The source partition that holds windows open where most is held, if one does.
    fn slowest(&self) -> Option<Partition> {
        let fullest = self.states.iter().max_by_key(|state| state.windows.bytes())?;
        let (source, partition) = fullest.windows.progress()?.slowest()?;
        let topic = self.sources.as_ref()?.get(usize::from(source))?.clone();
        Some(Partition { topic, partition })
    }

    /// What was done since the last cut is undone.
    pub fn rolled_back(&mut self) {
        for state in &mut self.states {
            state.windows.rolled_back();
            state.agenda.clear();
            (state.idle, state.expected, state.is_open) = (None, None, false);
        }
    }

    /// What was counted of deaths is committed: it need not be noted any more.
    pub fn settle_deaths(&mut self, notes: &Notes, function: &Function) {
        for state in self.states.iter_mut().filter(|state| !state.counted.is_empty()) {
            let place = (function.state_topic.as_str(), state.partition);
            notes.settle(&function.name.to_string(), place, i64::MIN, &state.counted);
            state.counted.clear();
        }
    }

    /// What was counted of deaths since the last cut is undone, and counted again.
    pub fn recount_deaths(&mut self, deaths: impl Fn(i32) -> BTreeMap<i64, u32>) {
        for state in self.states.iter_mut().filter(|state| !state.counted.is_empty()) {
            state.counted.clear();
            state.deaths = deaths(state.partition);
        }
    }

    /// What it takes about, in bytes.
    pub fn bytes(&self) -> u64 {
        self.states.iter().map(|state| state.windows.bytes() as u64).sum()
    }

    /// How many keys have something open.
    pub fn keys(&self) -> u64 {
        self.states.iter().map(|state| state.windows.keys() as u64).sum()
    }

    /// Lets event time go on in partitions that are quiet, as far as that closes something or is worth to be remembered; says
    /// in which. `has_more` says of one whether something is left to read, if that is known, and
    /// `is_read` whether the broker says that nothing is, if it says anything.
    fn tick(
        &mut self,
        (Moment { wall_ms, elapsed: now }, is_over): (Moment, bool),
        has_more: impl Fn(i32) -> Option<bool>,
        is_read: impl Fn(i32) -> Option<bool>,
    ) -> Vec<i32> {
        let mut moved = Vec::new();
        let has_stood_still = now.saturating_sub(self.looked_at) > STOOD_STILL;
        self.looked_at = now;
        for state in &mut self.states {
            let has_more = has_more(state.partition);
            if has_more == Some(true) {
                state.is_heard(now);
                continue;
            }
            if is_over && has_more.is_some() {
                if state.has_open() && is_read(state.partition) == Some(true) && state.end() {
                    moved.push(state.partition);
                }
                continue;
            }
            if has_stood_still || has_more.is_none() {
                // Nobody can say how long it was quiet, but for who knows since when it was.
                (state.heard_at, state.idle) = (now, None);
                if has_more.is_none() {
                    continue;
                }
            }
            let since = state.heard_at + self.spec.idle;
            let is_held = state.windows.progress().is_some_and(|progress| !progress.is_idle());
            if is_held {
                state.expected = None;
            }
            let is_quiet = now >= since || state.expected.is_some();
            if is_held || !is_quiet {
                state.idle = None;
                continue;
            }
            let time_ms = match state.expected {
                Some(expected) => expected_at(expected, wall_ms),
                None => {
                    // Time goes on from the moment at which nobody holds it any more.
                    let since = if self.sources.is_some() { now } else { since };
                    let (since, base) = *state.idle.get_or_insert((since, state.windows.watermark_ms()));
                    let passed = i64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(i64::MAX);
                    // Before the first event there is no time to go on from, and nothing that waits for it.
                    base.saturating_add(passed)
                }
            };
            let Some(deadline) = state.windows.next_deadline_ms() else { continue };
            // What has passed outlives a restart, and an event that moves no time.
            let is_much = time_ms.saturating_sub(state.windows.watermark_ms()) >= REMEMBER_EVERY_MS;
            if deadline > time_ms && !is_much {
                continue;
            }
            if now < self.ask_at {
                continue;
            }
            match is_read(state.partition) {
                Some(true) => {
                    state.windows.advance_to(time_ms);
                    moved.push(state.partition);
                }
                Some(false) => state.is_heard(now),
                None => self.ask_at = now + ASK_AGAIN,
            }
        }
        moved
    }
}

impl Worker {
    /// Lets event time go on where nothing comes, and closes what is due.
    pub(super) fn let_time_pass(&mut self) -> Result<(), Stopped> {
        let moment = self.now();
        let now = moment.elapsed;
        let Some(states) = &mut self.states else { return Ok(()) };
        states.states.iter_mut().for_each(|state| state.wall_ms = moment.wall_ms);
        let (lanes, consumer) = (&self.lanes, &self.consumer);
        let is_heard = !self.contact.is_doubtful();
        let is_over = self.tap.as_ref().is_some_and(|tap| tap.is_over());
        let topic = Arc::clone(&states.topic);
        let lane_of = |partition: i32| {
            lanes.iter().find(|lane| lane.partition.partition == partition && *lane.partition.topic == *topic)
        };
        let is_at = |lane: &super::Lane, end: i64| {
            lane.track.held() == 0 && end <= lane.track.checkpoint.ledger.next()
        };
        let has_more = |partition| {
            let lane = lane_of(partition).filter(|_| is_heard)?;
            consumer.known_end(&lane.partition).map(|end| !is_at(lane, end))
        };
        let gathered = states.sources.is_some().then_some(&*self.config.function);
        // Whoever reads the sources may be gone, with events on their way that nobody has sent on.
        let all_sent = std::cell::OnceCell::new();
        let all_sent =
            || *all_sent.get_or_init(|| gathered.map_or(Some(true), |of| are_all_read(consumer, of)));
        let is_read = |partition| {
            let lane = lane_of(partition)?;
            let (_, end) = consumer.ends(&lane.partition, ASK_WAIT / 10).ok()?;
            if is_at(lane, end) { all_sent() } else { Some(false) }
        };
        let moved = states.tick((moment, is_over), has_more, is_read);
        for lane in self.lanes.iter_mut().filter(|lane| *lane.partition.topic == *topic) {
            lane.track.is_dirty |= moved.contains(&lane.partition.partition);
        }
        self.close_windows()?;
        self.give_again(now)
    }

    /// Gives results again that wait, those of one key in order.
    fn give_again(&mut self, now: Duration) -> Result<(), Stopped> {
        let Some(states) = &mut self.states else { return Ok(()) };
        states.has_more = false;
        let waiting = states.states.iter().filter(|state| state.windows.count_waiting() > 0);
        let partitions: Vec<i32> = waiting.map(|state| state.partition).collect();
        if partitions.is_empty() {
            return Ok(());
        }
        self.go_on()?;
        if !self.is_dirty() {
            self.pace.begin(now);
        }
        for partition in partitions {
            self.give_again_in(partition, now)?;
        }
        Ok(())
    }

    fn give_again_in(&mut self, partition: i32, now: Duration) -> Result<(), Stopped> {
        let retry = self.config.function.delivery.retry;
        let Some(states) = &mut self.states else { return Ok(()) };
        let Some(state) = states.states.iter_mut().find(|state| state.partition == partition) else {
            return Ok(());
        };
        let Some(lane) = self.lanes.find(&states.topic, partition) else { return Ok(()) };
        let State { windows, agenda, .. } = state;
        let mut seen = HashSet::new();
        let waiting = windows.waiting().filter(|(_, pending)| seen.insert(pending.key.clone()));
        let first = waiting.map(|(number, pending)| (number, pending.attempts));
        let due: Vec<u64> = match lane.track.holds_results() {
            true if !lane.track.may_probe_result(now) => return Ok(()),
            true => agenda.probe(first, lane.track.wants_fresh_result()).into_iter().collect(),
            false => {
                let mut is_due = |of: &(u64, u32)| agenda.is_due(*of, &retry, (now, self.dice.roll()));
                first.filter(|of| is_due(of)).map(|(number, _)| number).collect()
            }
        };
        for number in due {
            self.give_one(partition, number)?;
            let now_is = self.now().elapsed;
            self.must_cut |= self.pace.wait(now_is, false).is_zero() && self.is_dirty();
            if self.must_cut || now_is >= now + super::work::ROUND {
                self.states.iter_mut().for_each(|states| states.has_more = true);
                break;
            }
        }
        Ok(())
    }

    /// Makes the calls that came to be made just now.
    pub(super) fn give_fresh(&mut self) -> Result<(), Stopped> {
        let Some(states) = &mut self.states else { return Ok(()) };
        let mut fresh = Vec::new();
        for state in states.states.iter_mut().filter(|state| state.windows.has_fresh()) {
            let lane = self.lanes.find(&states.topic, state.partition);
            match lane.is_some_and(|lane| lane.track.holds_results()) {
                true => state.windows.forget_fresh(),
                false => fresh.push((state.partition, state.windows.take_fresh())),
            }
        }
        for (partition, number) in
            fresh.into_iter().flat_map(|(at, list)| list.into_iter().map(move |number| (at, number)))
        {
            self.give_one(partition, number)?;
        }
        Ok(())
    }

    /// Gives a result that waits, if the cut takes one more.
    fn give_one(&mut self, partition: i32, number: u64) -> Result<(), Stopped> {
        let Some(states) = &mut self.states else { return Ok(()) };
        let Some(state) = states.states.iter_mut().find(|state| state.partition == partition) else {
            return Ok(());
        };
        let Some(lane) = self.lanes.find(&states.topic, partition) else { return Ok(()) };
        let Some(pending) = state.windows.waiting_at(number).cloned() else { return Ok(()) };
        let began = self.config.clock.now();
        let is_probe = lane.track.holds_results();
        if is_probe && !lane.track.may_probe_result(began.elapsed) {
            return Ok(());
        }
        let result = result_number(&pending.name);
        let is_suspect = self.pipeline.is_suspect(result);
        if self.outputs.is_full() || self.recovery.is_some() || (is_suspect && self.outputs.is_open()) {
            self.must_cut = true;
            return Ok(());
        }
        let origin = Origin::of_no_record(lane.track.lane);
        let mut writer = self.outputs.writer(origin, &mut self.meter, self.tap.as_mut());
        self.report.is_at(Phase::Handle);
        let place = ((lane.partition.topic.as_str(), partition), began);
        state.agenda.take(number);
        let mut is_counted = true;
        let is_done = match state.deaths.remove(&result) {
            Some(times) => {
                state.counted.push(result);
                // The last one is counted below.
                (1..times).for_each(|_| state.windows.failed_again(number));
                let mut pending = Pending::clone(&pending);
                pending.attempts += times;
                self.pipeline.give_died(place, &pending, &mut writer)
            }
            None => {
                is_counted = !is_probe;
                self.pipeline.give_again(place, (&pending, is_probe), &mut state.windows, &mut writer)
            }
        };
        match is_done {
            true => state.windows.settled(number),
            false if is_counted => state.windows.failed_again(number),
            false => {
                let retry = &self.config.function.delivery.retry;
                let pause = back_off(retry, pending.attempts.max(1), self.dice.roll());
                state.agenda.put_off(number, began.elapsed + pause);
            }
        }
        if let Some(tap) = &mut self.tap {
            tap.gave();
        }
        lane.track.is_dirty |= is_done || is_counted;
        // One that may end the process takes no others with it.
        self.must_cut |= is_suspect;
        lane.track.checkpoint.account.outputs += u64::from(self.pipeline.given().written);
        let (lane, unrouted) = (lane.track.lane, self.pipeline.given().unrouted);
        (0..unrouted).for_each(|_| self.meter.unrouted());
        self.note_given(lane, self.now().elapsed.saturating_sub(began.elapsed))
    }

    /// Tells what the last results came to.
    pub(super) fn note_given(&mut self, lane: u16, took: Duration) -> Result<(), Stopped> {
        if self.pipeline.given().is_plain() {
            return Ok(());
        }
        let given = self.pipeline.take_given();
        let partition = self.lanes.by_number(lane).map(|lane| lane.partition.clone());
        let (topic, partition) = partition.map(|at| (at.topic, at.partition)).unwrap_or_default();
        let now = self.now().elapsed;
        if !given.error.is_empty() && now >= self.gathers.warn_at {
            // In an outage all of them say the same.
            self.gathers.warn_at = now + WARN_EVERY;
            tracing::warn!(topic, partition, "the result of a window waits: {}", given.error);
        }
        self.tell_circuit(partition, &given);
        self.note(&given, (&topic, partition), took)
    }

    /// What calls with results of a partition came to says whether there is an outage.
    fn tell_circuit(&mut self, partition: i32, given: &Given) {
        let now = self.now().elapsed;
        let Some(states) = &mut self.states else { return };
        let Some(lane) = self.lanes.find(&states.topic, partition) else { return };
        let topic = lane.partition.topic.as_str();
        if given.went_well() {
            let since = lane.track.open_since();
            if lane.track.result_went_well() {
                let open_for = now.saturating_sub(since.unwrap_or(now));
                CircuitClosed { topic, partition, open_for }.emit(&mut self.meter);
            }
        }
        if let Some((key, is_first)) = &given.failed {
            let chance = (now, self.dice.roll());
            if self.desk.result_failed(&mut lane.track, (key, *is_first), chance) {
                let keys = self.desk.policy().circuit.keys;
                CircuitOpened { topic, partition, keys, error: &given.error }.emit(&mut self.meter);
            }
        }
        if let Some(state) = states.states.iter_mut().find(|state| state.partition == partition) {
            state.is_held = lane.track.holds_results();
        }
    }

    /// Closes windows that are due, as many as fit into a cut; the rest follows in the next.
    pub(super) fn close_windows(&mut self) -> Result<(), Stopped> {
        if !self.states.as_ref().is_some_and(States::is_any_due) {
            return Ok(());
        }
        // Without its handler a result would be given as if the function had none.
        self.go_on()?;
        if self.pipeline.has_handler() {
            self.report.is_at(Phase::Handle);
        }
        let mut began = self.now();
        let until = began.elapsed + super::work::ROUND;
        if !self.is_dirty() {
            self.pace.begin(began.elapsed);
        }
        while let Some(lane) = self.close_some(began) {
            let now = self.now();
            self.note_given(lane, now.elapsed.saturating_sub(began.elapsed))?;
            self.give_fresh()?;
            began = now;
            self.must_cut |= self.pace.wait(now.elapsed, false).is_zero();
            if self.must_cut || now.elapsed >= until {
                break;
            }
        }
        self.must_cut |= self.outputs.is_full();
        if let Some(tap) = &mut self.tap {
            tap.gave();
        }
        Ok(())
    }

    /// Closes windows until there is something to tell about a lane, which it names; `None`: none is due, or no more fit
    /// into the cut.
    fn close_some(&mut self, now: Moment) -> Option<u16> {
        let states = self.states.as_mut()?;
        for state in states.states.iter_mut().filter(|state| state.is_due()) {
            let Some(lane) = self.lanes.find(&states.topic, state.partition) else { continue };
            let origin = Origin::of_no_record(lane.track.lane);
            let place = ((lane.partition.topic.as_str(), state.partition), now);
            self.pipeline.hold_results(state.is_held);
            while !self.outputs.is_full() {
                let mut writer = self.outputs.writer(origin, &mut self.meter, self.tap.as_mut());
                if !state.windows.fire_by_clock(state.wall_ms)
                    && !self.pipeline.close_next(place, &mut state.windows, &mut writer)
                {
                    break;
                }
                let given = self.pipeline.given();
                lane.track.checkpoint.account.outputs += u64::from(given.written);
                (0..given.unrouted).for_each(|_| self.meter.unrouted());
                lane.track.is_dirty = true;
                if !given.is_plain() || state.windows.has_fresh() {
                    return Some(lane.track.lane);
                }
            }
        }
        None
    }

    /// Begins to write where the next cut writes state, well before it: a partition's first record waits until the
    /// broker has taken the partition into the transaction.
    pub(super) fn open_state(&mut self) {
        let Some(states) = &mut self.states else { return };
        let (lanes, outputs, topic) = (&mut self.lanes, &mut self.outputs, &states.topic);
        let topic = topic.clone();
        states.begin_writing(|partition, key, value| {
            let Some(lane) = lanes.find(&topic, partition) else { return };
            outputs.write_state(partition, Origin::of_no_record(lane.track.lane), (key, Some(value)));
        });
    }

    /// Writes what the state has that is not in its topic, and notes where event time stands.
    pub(super) fn write_state(&mut self) {
        let now = self.now();
        let Some(states) = &mut self.states else { return };
        for partition in states.dirty() {
            if let Some(lane) = self.lanes.find(&states.topic, partition) {
                // An event that was brought back moves no offset there.
                lane.track.is_dirty = true;
            }
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.track.is_dirty) {
            if let Some(watermark_ms) = states.watermark_ms(&lane.partition) {
                lane.track.checkpoint.watermark_ms = watermark_ms;
                let wake_at_ms = states.wake_at_ms(lane.partition.partition, now);
                lane.track.checkpoint.wake_at_ms = wake_at_ms.and_then(|at| u64::try_from(at).ok());
            }
        }
        self.gathers.note_quiet(&mut self.lanes, (now, states.spec.idle));
        let (lanes, outputs, topic) = (&mut self.lanes, &mut self.outputs, &states.topic);
        states.changes(|partition, key, value| {
            let Some(lane) = lanes.find(topic, partition) else { return };
            outputs.write_state(partition, Origin::of_no_record(lane.track.lane), (key, value));
        });
    }

    /// What was done to the state is committed.
    pub(super) fn states_are_committed(&mut self) -> Result<(), Stopped> {
        let Some(states) = &mut self.states else { return Ok(()) };
        if let Some(notes) = &self.config.notes {
            states.settle_deaths(notes, &self.config.function);
        }
        states.committed()
    }

    /// Publishes how often events were late for some of their windows.
    pub(super) fn count_partly_late(&mut self) {
        let count = self.pipeline.take_partly_late();
        if count > 0 {
            let function = self.config.function.name.to_string();
            self.config
                .exposition
                .counter(Id::WindowsPartlyLate, &[("function", &function)])
                .increment(count);
        }
    }
}

/// Everything in the sources was read and committed; `None`: no broker says. Tables that each worker reads by itself are
/// committed by nobody.
fn are_all_read(consumer: &Consumer, function: &Function) -> Option<bool> {
    for source in function.shared_sources() {
        let partitions = consumer.partitions(&source.topic, ASK_WAIT / 2).ok()?;
        for found in consumer.committed(&partitions, ASK_WAIT / 2).ok()? {
            let (first, end) = consumer.ends(&found.partition, ASK_WAIT / 2).ok()?;
            if found.offset.is_none_or(|offset| end > offset.max(first)) {
                return Some(false);
            }
        }
    }
    Some(true)
}
