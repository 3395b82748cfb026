//! Bringing sources together: what a worker says about the source partitions that it reads, so that windows elsewhere know
//! how far time has come.
//!
//! Each partition of the stitch topic hears how far each source partition has come, and whether it is idle: read to its
//! end and quiet. All of it goes through the log, in the transaction of the events, so it stands between them where it
//! belongs.
//!
//! A source partition that is far ahead of the slowest is not read for a while: what it brings would only wait for the
//! other in the windows' state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::lanes::Lanes;
use super::states::ASK_AGAIN;
use super::tables::Gate;
use super::{ASK_WAIT, Stopped, Worker};
use crate::kafka::{Admin, Cluster, Origin, Partition};
use crate::model::{Function, Moment};
use crate::pipeline::{Given, Tidings};

/// From one message to the next.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// From one look at the source partitions to the next.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// From one trimming of the stitch topic to the next.
const TRIM_EVERY: Duration = Duration::from_secs(10);

/// What is known of one source partition.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// What was said of it last: how far it has come, and whether it is idle.
    said: Option<(i64, bool)>,
    /// Where its reader stood when it was last seen to move, and when that was.
    moved: (i64, Duration),
    is_idle: bool,
    /// Its reader before would take it for idle by now: it is, if nothing has come since.
    was_quiet: bool,
}

/// What a worker keeps about the source partitions that it reads.
#[derive(Default)]
pub struct Gathers {
    known: BTreeMap<Partition, Known>,
    /// How many partitions each source has, as far as brokers told.
    pub counts: Vec<(String, u32)>,
    /// When that is asked next.
    pub count_at: Duration,
    tell_at: Duration,
    trim_at: Duration,
    looked_at: Duration,
    /// When it is said next that a result waits.
    pub warn_at: Duration,
    /// Whether events may be sent on, and when that is asked next.
    pub gate: Gate,
    pub gate_at: Duration,
    trimmer: Option<Sender<Vec<(Partition, i64)>>>,
}

impl Gathers {
    /// Notes for whoever reads the source partitions next since when they are quiet.
    pub fn note_quiet(&self, lanes: &mut Lanes, (now, idle): (Moment, Duration)) {
        for lane in lanes.iter_mut().filter(|lane| lane.track.is_dirty) {
            let Some(known) = self.known.get(&lane.partition) else { continue };
            let left = (known.moved.1 + idle).saturating_sub(now.elapsed);
            let left = if known.is_idle { 0 } else { i64::try_from(left.as_millis()).unwrap_or(i64::MAX) };
            lane.track.checkpoint.wake_at_ms = u64::try_from(now.wall_ms.saturating_add(left)).ok();
        }
    }

    /// What was said since the last cut was not said.
    pub fn rolled_back(&mut self) {
        self.known.values_mut().for_each(|known| known.said = None);
    }

    /// The source partitions are looked at in the next round.
    pub fn look_at_once(&mut self) {
        (self.looked_at, self.gate_at) = (Duration::ZERO, Duration::ZERO);
    }

    /// These partitions are somebody else's.
    pub fn close(&mut self, gone: &[Partition]) {
        self.known.retain(|partition, _| !gone.contains(partition));
    }
}

impl Worker {
    /// Says how far the source partitions have come, if that is another place than was said last.
    pub(super) fn tell_progress(&mut self) -> Result<(), Stopped> {
        let function = Arc::clone(&self.config.function);
        let is_timed = |lane: &super::Lane| is_timed(&function, lane.source);
        let Some(window) = &function.window else { return Ok(()) };
        if self.config.function.stitch_topic.is_none() {
            return Ok(());
        }
        let (idle, max_drift) = (window.idle, window.max_drift);
        let Moment { wall_ms, elapsed: now } = self.now();
        let gathers = &mut self.gathers;
        if now < gathers.looked_at + LOOK_EVERY {
            return Ok(());
        }
        let has_stood_still = now.saturating_sub(gathers.looked_at) > super::states::STOOD_STILL;
        gathers.looked_at = now;
        let is_heard = !self.contact.is_doubtful();
        for lane in self.lanes.iter().filter(|lane| is_timed(lane)) {
            let next = lane.track.checkpoint.ledger.next();
            let quiet_at = lane.track.checkpoint.wake_at_ms.and_then(|at| i64::try_from(at).ok());
            let was_quiet = quiet_at.is_some_and(|at| at <= wall_ms);
            let fresh = Known { said: None, moved: (next, now), is_idle: false, was_quiet };
            let known = gathers.known.entry(lane.partition.clone()).or_insert(fresh);
            let is_read = || {
                let is_at = |end: Option<i64>| end.is_some_and(|end| end <= next);
                is_heard && lane.track.held() == 0 && is_at(self.consumer.known_end(&lane.partition))
            };
            if known.was_quiet && self.consumer.known_end(&lane.partition).is_none() {
                continue;
            }
            if std::mem::take(&mut known.was_quiet) && known.moved.0 == next && is_read() {
                known.is_idle = true;
            } else if has_stood_still || known.moved.0 != next || !is_read() {
                (known.moved, known.is_idle) = ((next, now), false);
            } else if !known.is_idle && now.saturating_sub(known.moved.1) >= idle {
                // What the last fetch told of the end can be old.
                let end = self.consumer.ends(&lane.partition, ASK_WAIT / 10).map(|(_, end)| end);
                match end {
                    Ok(end) if end <= next => known.is_idle = true,
                    Ok(_) => known.moved.1 = now,
                    // Not known: asked again soon.
                    Err(_) => known.moved.1 = (now + ASK_AGAIN).saturating_sub(idle),
                }
            }
        }
        let waits = self.waits_for_rows(now);
        self.align(max_drift, waits)?;
        if now < self.gathers.tell_at {
            return Ok(());
        }
        if self.arriving.is_empty() {
            // Sources may have grown.
            self.take_along();
        }
        let gathers = &mut self.gathers;
        let mut tidings = Tidings::default();
        let mut told = Vec::new();
        for lane in self.lanes.iter().filter(|lane| is_timed(lane)) {
            let Some(known) = gathers.known.get_mut(&lane.partition) else { continue };
            let says = (lane.track.checkpoint.watermark_ms, known.is_idle);
            if known.said == Some(says) || known.was_quiet {
                continue;
            }
            let at = match tidings.topics.iter().position(|(topic, _)| *topic == lane.partition.topic) {
                Some(at) => at,
                None => {
                    let Some(count) = gathers.counts.iter().find(|(topic, _)| *topic == lane.partition.topic)
                    else {
                        continue;
                    };
                    tidings.topics.push(count.clone());
                    tidings.topics.len() - 1
                }
            };
            known.said = Some(says);
            tidings.parts.push((at as u16, lane.partition.partition, says.0, says.1));
            told.push(lane.track.lane);
        }
        let Some(first) = told.first() else { return Ok(()) };
        gathers.tell_at = now + TELL_EVERY;
        if !self.is_dirty() {
            self.pace.begin(now);
        }
        let (value, origin) = (tidings.write(), Origin::of_no_record(*first));
        for partition in 0..self.config.stitch_partitions {
            self.outputs.write_tidings(partition, origin, &value);
        }
        // Every transaction commits each lane that it wrote for.
        for lane in self.lanes.iter_mut().filter(|lane| told.contains(&lane.track.lane)) {
            lane.track.is_dirty = true;
        }
        Ok(())
    }

    /// Reads nothing more of source partitions that are too far ahead of the slowest, nor of any while they wait for rows of
    /// tables.
    fn align(&mut self, max_drift: Duration, waits_for_rows: bool) -> Result<(), Stopped> {
        let function = Arc::clone(&self.config.function);
        let is_timed = |lane: &super::Lane| is_timed(&function, lane.source);
        let max_drift = i64::try_from(max_drift.as_millis()).unwrap_or(i64::MAX);
        let known = &self.gathers.known;
        let own = self.lanes.iter().filter(|lane| is_timed(lane)).filter_map(|lane| {
            let is_idle = known.get(&lane.partition).is_some_and(|known| known.is_idle);
            (!is_idle).then_some(lane.track.checkpoint.watermark_ms)
        });
        let topics = &function.sources;
        let is_own = |source: u16, partition: i32| {
            topics.get(usize::from(source)).is_some_and(|source| {
                let place = Partition { topic: source.topic.clone(), partition };
                known.contains_key(&place)
            })
        };
        let others = self.states.iter().flat_map(|states| states.active_parts());
        let others = others.filter(|part| !is_own(part.source, part.partition)).map(|part| part.watermark_ms);
        // One without an event yet says nothing of time.
        let slowest = own.chain(others).filter(|watermark_ms| *watermark_ms != i64::MIN).min();
        let limit = slowest.map_or(i64::MAX, |slowest| slowest.saturating_add(max_drift));
        let mut ahead = Vec::new();
        for lane in self.lanes.iter_mut().filter(|lane| is_timed(lane)) {
            let is_ahead = waits_for_rows || lane.track.checkpoint.watermark_ms > limit;
            if is_ahead && !lane.is_paused {
                ahead.push(lane.partition.clone());
            }
            lane.is_ahead = is_ahead;
        }
        for partition in &ahead {
            match waits_for_rows {
                true => tracing::info!(%partition, "not read until what stands in the tables is there"),
                false => tracing::debug!(
                    %partition,
                    "far ahead of the slowest source partition: not read for a while"
                ),
            }
            self.consumer.pause(std::slice::from_ref(partition))?;
            if let Some(lane) = self.lanes.find(&partition.topic, partition.partition) {
                lane.is_paused = true;
            }
        }
        Ok(())
    }

    /// Lets the broker delete what was gathered from the stitch topic and is committed.
    pub(super) fn trim(&mut self) {
        let now = self.now().elapsed;
        if self.config.function.stitch_topic.is_none() || now < self.gathers.trim_at {
            return;
        }
        self.gathers.trim_at = now + TRIM_EVERY;
        let is_stitch = |lane: &&super::Lane| self.pipeline.is_stitch(lane.source);
        let below = self.lanes.iter().filter(is_stitch).map(|lane| (lane.partition.clone(), lane.committed));
        let below: Vec<_> = below.filter(|(_, offset)| *offset > 0).collect();
        if below.is_empty() {
            return;
        }
        let cluster = &self.config.cluster;
        let trimmer = self.gathers.trimmer.get_or_insert_with(|| trimmer(cluster.clone()));
        // One that has ended has said why.
        let _ = trimmer.send(below);
    }

    /// Counts and tells what results came to that no event stands for.
    pub(super) fn note(&mut self, given: &Given, place: (&str, i32), took: Duration) -> Result<(), Stopped> {
        let each = took.checked_div(given.calls.iter().sum()).unwrap_or_default();
        use crate::observe::CallOutcome as Outcome;
        use crate::observe::events::DeadLettered;
        let outcomes = [Outcome::Ok, Outcome::Skip, Outcome::Retry, Outcome::Reject, Outcome::Panic];
        for (outcome, calls) in outcomes.into_iter().zip(given.calls).filter(|(_, calls)| *calls > 0) {
            self.meter.called_many(outcome, u64::from(calls), each);
        }
        for (reason, error) in &given.dead {
            let (topic, partition) = place;
            DeadLettered { topic, partition, offset: -1, reason: reason.as_str(), error }
                .emit_of_window(&mut self.meter);
        }
        if given.dropped > 0 {
            let function = self.config.function.name.to_string();
            let id = crate::observe::metrics::Id::WindowsDropped;
            self.config
                .exposition
                .counter(id, &[("function", &function)])
                .increment(u64::from(given.dropped));
        }
        if given.must_stop {
            let attempts = self.config.function.delivery.retry.max_attempts;
            return Err(Stopped::WindowExhausted { attempts, message: given.error.clone() });
        }
        Ok(())
    }
}

/// Events of this source move time: it is one of the function's, and no table.
fn is_timed(function: &Function, source: usize) -> bool {
    function.sources.get(source).is_some_and(|source| source.table.is_none())
}

/// A thread that trims.
fn trimmer(cluster: Cluster) -> Sender<Vec<(Partition, i64)>> {
    let (sender, receiver) = channel::<Vec<(Partition, i64)>>();
    let run = move || {
        let mut admin = None;
        let mut is_said = false;
        while let Ok(mut below) = receiver.recv() {
            while let Ok(newer) = receiver.try_recv() {
                below = newer;
            }
            if admin.is_none() {
                admin = Admin::new(&cluster).ok().map(|admin| admin.within(Duration::from_secs(5)));
            }
            let Some(admin) = &admin else { continue };
            if let Err(error) = admin.delete_records(&below)
                && !error.is_transient()
                && !error.is_unsupported()
                && !std::mem::replace(&mut is_said, true)
            {
                tracing::warn!("what was read of the stitch topic stays there: {error}; grant DELETE on it");
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("trim".to_owned()).spawn(run) {
        tracing::warn!("what was read of the stitch topic stays there: {error}");
    }
    sender
}
