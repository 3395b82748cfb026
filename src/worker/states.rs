//! The state of a worker's lanes: windows, each of one partition of the source. It comes with the partition, is written
//! to the state topic in every cut, and goes with the partition.
//!
//! It belongs to the partition and not to the lane, since events that are brought back enter it too: they are read by the
//! lane of the redrive topic that has the same partition.
//!
//! **Time without events.** A partition that was read to its end and has been quiet for `window.idle` lets event time go
//! on with the clock, as far as that closes something. Before it does the broker is asked: what the last fetch told of the
//! end can be old, and time must not pass what is still to be read.

use std::sync::Arc;
use std::time::Duration;

use super::{ASK_WAIT, Stopped, Worker};
use crate::kafka::{Origin, Partition};
use crate::model::WindowSpec;
use crate::observe::metrics::Id;
use crate::pipeline::Routed;
use crate::window::Windows;

/// A worker that has not come round for so long stood still: it does not know how long its partitions were quiet.
const STOOD_STILL: Duration = Duration::from_secs(2);

/// The windows of one partition.
struct State {
    partition: i32,
    windows: Windows,
    /// When an event was placed last, or a look at the partition began.
    heard_at: Duration,
    /// Since when it is idle, and where event time stood then.
    idle: Option<(Duration, i64)>,
}

/// The state of all partitions of a worker.
pub struct States {
    /// The topic of the events.
    topic: Arc<str>,
    spec: WindowSpec,
    max_bytes: u64,
    states: Vec<State>,
    looked_at: Duration,
}

impl States {
    /// Of a function that reads `topic`.
    pub fn new(topic: &str, spec: &WindowSpec, max_bytes: u64) -> Self {
        Self {
            topic: topic.into(),
            spec: spec.clone(),
            max_bytes,
            states: Vec::new(),
            looked_at: Duration::ZERO,
        }
    }

    /// What is gathered.
    pub fn spec(&self) -> &WindowSpec {
        &self.spec
    }

    /// The partition's events are gathered here.
    pub fn is_of(&self, partition: &Partition) -> bool {
        *partition.topic == *self.topic
    }

    /// Takes over the windows of a partition.
    pub fn open(&mut self, partition: i32, windows: Windows, now: Duration) {
        self.states.retain(|state| state.partition != partition);
        self.states.push(State { partition, windows, heard_at: now, idle: None });
    }

    /// These partitions are somebody else's.
    pub fn close(&mut self, gone: &[Partition]) {
        let topic = &self.topic;
        let is_gone = |state: &State| {
            gone.iter().any(|gone| gone.partition == state.partition && *gone.topic == **topic)
        };
        self.states.retain(|state| !is_gone(state));
    }

    /// The windows of a partition, for an event that is placed there `now`.
    #[inline]
    pub fn enter(&mut self, partition: i32, now: Duration) -> Option<&mut Windows> {
        let state = self.states.iter_mut().find(|state| state.partition == partition)?;
        (state.heard_at, state.idle) = (now, None);
        Some(&mut state.windows)
    }

    /// Windows of this partition are to be closed before its next event.
    #[inline]
    pub fn is_due(&self, partition: i32) -> bool {
        self.states.iter().any(|state| state.partition == partition && state.windows.is_due())
    }

    /// Where event time stands in a partition.
    pub fn watermark_ms(&self, partition: &Partition) -> Option<i64> {
        let state = self.states.iter().find(|state| state.partition == partition.partition);
        state.filter(|_| self.is_of(partition)).map(|state| state.windows.watermark_ms())
    }

    /// What a partition's state has that the last cut did not: entries of the state topic.
    pub fn changes(&self, mut each: impl FnMut(i32, &[u8], Option<&[u8]>)) {
        for state in &self.states {
            state.windows.changes(|key, value| each(state.partition, key, value));
        }
    }

    /// Partitions whose state the next cut writes.
    pub fn dirty(&self) -> impl Iterator<Item = i32> {
        self.states.iter().filter(|state| state.windows.is_dirty()).map(|state| state.partition)
    }

    /// The cut is committed.
    pub fn committed(&mut self) -> Result<(), Stopped> {
        self.states.iter_mut().for_each(|state| state.windows.committed());
        let bytes = self.bytes();
        match bytes > self.max_bytes {
            true => Err(Stopped::StateFull { bytes, max_bytes: self.max_bytes }),
            false => Ok(()),
        }
    }

    /// What was done since the last cut is undone.
    pub fn rolled_back(&mut self) {
        for state in &mut self.states {
            state.windows.rolled_back();
            state.idle = None;
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

    /// Lets event time go on in partitions that are quiet; `has_more` says of one that something may be left to read, and
    /// `is_read` whether the broker says so too.
    fn tick(&mut self, now: Duration, has_more: impl Fn(i32) -> bool, is_read: impl Fn(i32) -> bool) {
        let has_stood_still = now.saturating_sub(self.looked_at) > STOOD_STILL;
        self.looked_at = now;
        for state in &mut self.states {
            if has_stood_still || has_more(state.partition) {
                (state.heard_at, state.idle) = (now, None);
                continue;
            }
            let since = state.heard_at + self.spec.idle;
            if now < since {
                continue;
            }
            let (since, base) = *state.idle.get_or_insert((since, state.windows.watermark_ms()));
            let passed = i64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(i64::MAX);
            // Before the first event there is no time to go on from, and nothing that waits for it.
            let time_ms = base.saturating_add(passed);
            if state.windows.next_deadline_ms().is_none_or(|deadline| deadline > time_ms) {
                continue;
            }
            if is_read(state.partition) {
                state.windows.advance_to(time_ms);
            } else {
                (state.heard_at, state.idle) = (now, None);
            }
        }
    }
}

impl Worker {
    /// Lets event time go on where nothing comes, and closes what is due.
    pub(super) fn let_time_pass(&mut self) -> Result<(), Stopped> {
        let now = self.now().elapsed;
        let Some(states) = &mut self.states else { return Ok(()) };
        let (lanes, consumer) = (&self.lanes, &self.consumer);
        let is_heard = !self.contact.is_doubtful();
        let topic = Arc::clone(&states.topic);
        let is_read_to = |partition: i32, end: &dyn Fn(&Partition) -> Option<i64>| {
            let is_it = |lane: &&super::Lane| {
                lane.partition.partition == partition && *lane.partition.topic == *topic
            };
            lanes.iter().find(is_it).is_some_and(|lane| {
                let next = lane.track.checkpoint.ledger.next();
                lane.track.held() == 0 && end(&lane.partition).is_some_and(|end| end <= next)
            })
        };
        let has_more = |partition| !(is_heard && is_read_to(partition, &|at| consumer.known_end(at)));
        let ask = |at: &Partition| consumer.ends(at, ASK_WAIT / 10).ok().map(|(_, end)| end);
        states.tick(now, has_more, |partition| is_read_to(partition, &ask));
        self.close_windows()
    }

    /// Closes windows that are due, as many as fit into a cut; the rest follows in the next.
    pub(super) fn close_windows(&mut self) -> Result<(), Stopped> {
        let Some(states) = &mut self.states else { return Ok(()) };
        for state in states.states.iter_mut().filter(|state| state.windows.is_due()) {
            let Some(lane) = self.lanes.find(&states.topic, state.partition) else { continue };
            let origin = Origin::of_no_record(lane.track.lane);
            let place = (lane.partition.topic.as_str(), state.partition);
            while !self.outputs.is_full() {
                let mut writer = self.outputs.writer(origin, &mut self.meter, self.tap.as_mut());
                let Some(result) = self.pipeline.close_next(place, &mut state.windows, &mut writer) else {
                    break;
                };
                let Routed { written, unrouted } = result.map_err(Stopped::Result)?;
                lane.track.checkpoint.account.outputs += u64::from(written);
                (0..unrouted).for_each(|_| self.meter.unrouted());
                lane.track.is_dirty = true;
            }
        }
        self.must_cut |= self.outputs.is_full();
        Ok(())
    }

    /// Writes what the state has that is not in its topic, and notes where event time stands.
    pub(super) fn write_state(&mut self) {
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
            }
        }
        let (lanes, outputs, topic) = (&mut self.lanes, &mut self.outputs, &states.topic);
        states.changes(|partition, key, value| {
            let Some(lane) = lanes.find(topic, partition) else { return };
            outputs.write_state(partition, Origin::of_no_record(lane.track.lane), (key, value));
        });
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
