//! Events that waited: behind others of their key, for their next attempt, or for a handler thread; and calls that
//! threads have ended.

use std::time::Duration;

use super::rate::Budget;
use super::suspects::Treatment;
use super::tap::Settlement;
use super::threads::{Call, Done, Job};
use super::{LOOK_AGAIN, Stopped, Worker};
use crate::kafka::{Origin, Partition};
use crate::model::{DeadLetterReason, FailureKind, Moment};
use crate::observe::events::{
    CallOverran, CallRetried, CircuitClosed, CircuitOpened, DeadLettered, LanePaused, LaneResumed,
};
use crate::observe::metrics::Id;
use crate::observe::{CallOutcome, Phase};
use crate::pipeline::{End, Failed, Pass, Settled, Ticket};

impl Worker {
    /// Runs or sends what waited and may go on now.
    pub(super) fn work_waiting(&mut self, now: &mut Moment, until: Duration) -> Result<(), Stopped> {
        for place in 0..self.lanes.len() {
            while !self.must_cut && self.recovery.is_none() && now.elapsed < until {
                let Some(lane) = self.lanes.at(place) else { break };
                if lane.track.held() == 0
                    || self.budget.as_mut().is_some_and(|budget| !budget.take(now.elapsed))
                {
                    break;
                }
                let Some(ticket) = self.desk.next(&mut lane.track, now.elapsed) else {
                    self.budget.as_mut().map(Budget::give_back);
                    break;
                };
                let failed = lane.track.checkpoint.ledger.attempts(ticket.offset);
                let partition = &lane.partition;
                let treatment = self.suspects.treatment(&partition.topic, partition.partition, ticket.offset);
                let is_alone = treatment != Treatment::Normal || lane.calls_alone(ticket.offset);
                if let Some(deaths) = lane.deaths.remove(&ticket.offset) {
                    lane.deadly.insert(ticket.offset);
                    self.count_deaths(ticket, (failed, deaths), *now)?;
                    continue;
                }
                match &mut self.threads {
                    _ if is_alone => self.run_alone(ticket, failed, treatment)?,
                    Some(threads) => threads.push(ticket, failed),
                    None => self.run_ticket(ticket, failed, *now, Treatment::Normal)?,
                }
                *now = self.now();
                self.must_cut |= self.pace.wait(now.elapsed, false).is_zero() && self.is_dirty();
            }
        }
        Ok(())
    }

    /// An event that is under suspicion gets a cut of its own.
    fn run_alone(
        &mut self,
        ticket: Ticket<Box<Job>>,
        failed: u32,
        treatment: Treatment,
    ) -> Result<(), Stopped> {
        if self.outputs.is_open() {
            self.cut()?;
        }
        if self.recovery.is_some() {
            // After an abort it is read again.
            self.drop_ticket(ticket);
            return Ok(());
        }
        let now = self.now();
        self.run_ticket(ticket, failed, now, treatment)?;
        self.cut()
    }

    /// The process died during calls for this event: those were attempts.
    fn count_deaths(
        &mut self,
        mut ticket: Ticket<Box<Job>>,
        (failed, deaths): (u32, u32),
        now: Moment,
    ) -> Result<(), Stopped> {
        let origin = Origin::new(ticket.lane, ticket.offset);
        let mut writer = self.outputs.writer(origin, &mut self.meter, self.tap.as_mut());
        let Job { record, source, .. } = &mut *ticket.job;
        let (source, pipeline) = (*source, &mut self.pipeline);
        let settled = record.lend(&mut self.headers, |record| {
            let pass = Pass { source, record, failed, is_probe: false, now };
            pipeline.died(&pass, deaths, &mut writer)
        });
        if let (Settled::Retry { .. }, Some(lane)) = (&settled, self.lanes.by_number_mut(ticket.lane)) {
            // The last one is counted like any failure.
            for _ in 1..deaths {
                lane.track.ledger().fail(ticket.offset);
            }
        }
        self.settle(ticket, failed + deaths - 1, settled, Duration::ZERO)
    }

    /// Calls the handler on this thread.
    fn run_ticket(
        &mut self,
        mut ticket: Ticket<Box<Job>>,
        failed: u32,
        now: Moment,
        treatment: Treatment,
    ) -> Result<(), Stopped> {
        self.report.is_at(Phase::Handle);
        let origin = Origin::new(ticket.lane, ticket.offset);
        let mut writer = self.outputs.writer(origin, &mut self.meter, self.tap.as_mut());
        let Job { record, source, .. } = &mut *ticket.job;
        let (source, is_probe) = (*source, ticket.is_probe);
        let pipeline = &mut self.pipeline;
        let lane = self.lanes.by_number(ticket.lane);
        let partition = lane.map(|lane| lane.partition.partition);
        let watermark = lane.map(|lane| lane.track.checkpoint.watermark_ms);
        let mut watermark = watermark.filter(|_| pipeline.is_sent(source));
        let states = self.states.as_mut().filter(|_| watermark.is_none());
        let mut windows = states.and_then(|states| states.enter(partition?, now.elapsed));
        let settled = record.lend(&mut self.headers, |record| {
            let pass = Pass { source, record, failed, is_probe, now };
            match treatment {
                Treatment::DeadLetter(error) => {
                    let reason = DeadLetterReason::Unwritable;
                    let end = End { reason, error, attempts: failed + 1, called: None };
                    pipeline.bury(&pass, end, &mut writer)
                }
                Treatment::Normal | Treatment::Alone => match (&mut watermark, windows.take()) {
                    (Some(watermark), _) => pipeline.send(&pass, watermark, &mut writer),
                    (None, None) => pipeline.process(&pass, &mut writer),
                    (None, Some((windows, is_held))) => {
                        pipeline.hold_results(is_held);
                        pipeline.gather(&pass, windows, &mut writer)
                    }
                },
            }
        });
        if let (Some(watermark), Some(lane)) = (watermark, self.lanes.by_number_mut(ticket.lane)) {
            lane.track.checkpoint.watermark_ms = watermark;
        }
        let took = self.now().elapsed.saturating_sub(now.elapsed);
        self.note_given(ticket.lane, took)?;
        self.settle(ticket, failed, settled, took)?;
        self.give_fresh()
    }

    /// Takes what handler threads have ended.
    pub(super) fn collect(&mut self) -> Result<(), Stopped> {
        let Some(threads) = &mut self.threads else { return Ok(()) };
        let mut done = self.done.take().or_else(|| threads.take(Duration::ZERO));
        if done.is_none() && threads.has_died() {
            return Err(Stopped::DeadThread);
        }
        let timeout = self.config.longest_call();
        if done.is_none() && threads.hangs(timeout * 2) {
            return Err(Stopped::Hangs { timeout });
        }
        let (mut calls_ended, mut took_all) = (0, Duration::ZERO);
        while let Some(ended) = done {
            let Done { mut calls, counts, cpu, .. } = ended;
            self.meter.cpu_of_threads(cpu);
            self.count(counts);
            for Call { ticket, failed, ended, span } in calls.drain(..) {
                calls_ended += u32::from(ended.is_some());
                took_all += ended.as_ref().map_or(Duration::ZERO, |(_, took)| *took);
                let is_stale = !self.is_current(&ticket);
                if let Some((spans, span)) = self.spans.as_mut().zip(span) {
                    spans.keep(*span, is_stale);
                }
                self.take_back(ticket, failed, ended)?;
            }
            let Some(threads) = &mut self.threads else { return Ok(()) };
            threads.recycle(calls);
            done = threads.take(Duration::ZERO);
        }
        if let Some(mean) = took_all.checked_div(calls_ended) {
            let (batch, depth) = batch_for(mean);
            self.desk.set_batch(batch, depth);
        }
        Ok(())
    }

    /// Publishes what handlers counted.
    pub(super) fn count(&self, counts: Vec<(String, u64)>) {
        if counts.is_empty() {
            return;
        }
        let function = self.config.function.name.to_string();
        for (name, count) in counts {
            let labels = [("function", function.as_str()), ("name", &name)];
            self.config.exposition.counter(Id::HandlerCounts, &labels).increment(count);
        }
    }

    fn take_back(
        &mut self,
        ticket: Ticket<Box<Job>>,
        failed: u32,
        ended: Option<(Settled, Duration)>,
    ) -> Result<(), Stopped> {
        let is_current = self.is_current(&ticket);
        let Some(lane) = self.lanes.by_number_mut(ticket.lane).filter(|_| is_current) else {
            // Begun before an abort, or for a lane that is gone.
            self.drop_ticket(ticket);
            return Ok(());
        };
        let Some((settled, took)) = ended else {
            self.desk.bounced(&mut lane.track, ticket);
            return Ok(());
        };
        let origin = Origin::new(ticket.lane, ticket.offset);
        let mut writer = self.outputs.writer(origin, &mut self.meter, self.tap.as_mut());
        ticket.job.written.write_to(&mut self.headers, &mut writer);
        self.settle(ticket, failed, settled, took)
    }

    /// It was begun since the last abort, for a lane that is still here.
    fn is_current(&self, ticket: &Ticket<Box<Job>>) -> bool {
        self.lanes.by_number(ticket.lane).is_some_and(|lane| lane.track.epoch == ticket.epoch)
    }

    /// Nothing becomes of this call; what waited for it goes on.
    fn drop_ticket(&mut self, ticket: Ticket<Box<Job>>) {
        let woken = self.desk.dropped(&ticket).and_then(|lane| self.lanes.by_number_mut(lane));
        if let Some(lane) = woken {
            self.desk.wake(&mut lane.track, ticket.strand);
        }
        self.spare.push(ticket.job);
    }

    /// What a call came to.
    pub(super) fn settle(
        &mut self,
        ticket: Ticket<Box<Job>>,
        failed: u32,
        settled: Settled,
        took: Duration,
    ) -> Result<(), Stopped> {
        let now = self.now().elapsed;
        if let Some(tap) = &mut self.tap {
            ticket.job.record.lend(&mut self.headers, |record| {
                tap.settled(&Settlement { record, attempt: failed + 1, settled: &settled, took });
            });
        }
        let Some(lane) = self.lanes.by_number_mut(ticket.lane) else { return Ok(()) };
        let Partition { topic, partition } = &lane.partition;
        let (partition, offset) = (*partition, ticket.offset);
        let called = outcome_of(&settled);
        // Sent on to the partition of its key: that was no call.
        // Nor is the row of a table.
        let is_call = self.pipeline.calls_for_events()
            && !self.pipeline.is_sent(ticket.job.source)
            && (self.threads.is_some() || self.pipeline.has_called());
        let called = called.filter(|_| is_call);
        if let Some(outcome) = called {
            self.meter.called_many(outcome, 1, took);
            let limit = self.config.longest_call();
            if took > limit {
                CallOverran { topic, partition, offset, took, limit }.emit(&mut self.meter);
            }
        }
        lane.track.checkpoint.account.add(&settled);
        match settled {
            Settled::Ok { unrouted, .. } => {
                self.meter.ok();
                (0..unrouted).for_each(|_| self.meter.unrouted());
            }
            Settled::Skipped => self.meter.skipped(),
            Settled::Filtered => self.meter.filtered(),
            Settled::DeadLetter { reason, error, .. } => {
                DeadLettered { topic, partition, offset, reason: reason.as_str(), error: &error }
                    .emit(&mut self.meter);
            }
            Settled::Retry { after, message, .. } => {
                let chance = (now, self.dice.roll());
                let Failed { attempts, pause, has_opened } =
                    self.desk.failed(&mut lane.track, ticket, after, chance);
                CallRetried { topic, partition, offset, attempt: attempts, after: pause, error: &message }
                    .emit(&mut self.meter);
                if has_opened {
                    let keys = self.desk.policy().circuit.keys;
                    CircuitOpened { topic, partition, keys, error: &message }.emit(&mut self.meter);
                }
                return Ok(());
            }
            Settled::Stop { message, .. } => {
                return Err(Stopped::Exhausted {
                    topic: topic.clone(),
                    partition,
                    offset,
                    attempts: failed + 1,
                    message,
                });
            }
        }
        let went_well = matches!(called, Some(CallOutcome::Ok | CallOutcome::Skip | CallOutcome::Reject));
        let since = lane.track.open_since();
        if self.desk.finished(&mut lane.track, &ticket, went_well) {
            let open_for = now.saturating_sub(since.unwrap_or(now));
            CircuitClosed { topic, partition, open_for }.emit(&mut self.meter);
        }
        self.spare.push(ticket.job);
        Ok(())
    }

    /// Waits at most so long for calls that threads have, and takes what they come to.
    pub(super) fn finish_calls(&mut self, within: Duration) -> Result<(), Stopped> {
        self.report.is_at(Phase::Handle);
        let deadline = self.now().elapsed + within;
        while self.recovery.is_none() && self.desk.in_flight() > 0 && self.now().elapsed < deadline {
            let Some(threads) = &mut self.threads else { break };
            threads.flush();
            self.done = threads.take(LOOK_AGAIN);
            self.collect()?;
            self.report.beat(self.now().elapsed);
        }
        Ok(())
    }

    /// Reads nothing more of a lane that holds as much as it may.
    pub(super) fn pause_lane(&mut self, partition: &Partition) -> Result<(), Stopped> {
        let Some(lane) = self.lanes.find(&partition.topic, partition.partition) else { return Ok(()) };
        self.consumer.pause(std::slice::from_ref(partition))?;
        lane.is_paused = true;
        let results = self.states.as_ref().filter(|_| !self.pipeline.is_sent(lane.source));
        let results = results.map_or(0, |states| states.count_waiting(partition.partition));
        let held = lane.track.held() + results;
        LanePaused { topic: &partition.topic, partition: partition.partition, held }.emit(&mut self.meter);
        Ok(())
    }

    /// Reads lanes again that have room again.
    pub(super) fn go_on_reading(&mut self) -> Result<(), Stopped> {
        let (states, pipeline, desk) = (self.states.as_ref(), &self.pipeline, &self.desk);
        let takes_results = |lane: &super::Lane| {
            let states = states.filter(|_| !pipeline.is_sent(lane.source));
            let waiting = states.map_or(0, |states| states.count_waiting(lane.partition.partition));
            waiting <= desk.policy().max_held / 2
        };
        let may_go_on = |lane: &&mut super::Lane| {
            lane.is_paused && !lane.is_ahead && desk.may_go_on(&lane.track) && takes_results(lane)
        };
        let mut again = Vec::new();
        for lane in self.lanes.iter_mut().filter(may_go_on) {
            lane.is_paused = false;
            again.push(lane.partition.clone());
        }
        if again.is_empty() {
            return Ok(());
        }
        for Partition { topic, partition } in &again {
            if self.config.function.stitch_topic.is_some() {
                continue;
            }
            LaneResumed { topic, partition: *partition }.emit(&mut self.meter);
        }
        // What was fetched and passed over meanwhile is fetched again.
        self.stand_firm()?;
        self.consumer.resume(&again)?;
        Ok(())
    }
}

/// How a call ended, if there was one.
pub(super) fn outcome_of(settled: &Settled) -> Option<CallOutcome> {
    let failed = |kind: &FailureKind| match kind {
        FailureKind::Reject { .. } => CallOutcome::Reject,
        FailureKind::Retry { .. } | FailureKind::Stop => CallOutcome::Retry,
        FailureKind::Panic => CallOutcome::Panic,
    };
    match settled {
        Settled::Ok { .. } => Some(CallOutcome::Ok),
        Settled::Skipped => Some(CallOutcome::Skip),
        Settled::Filtered => None,
        Settled::DeadLetter { called, .. } => called.as_ref().map(failed),
        Settled::Retry { is_panic, .. } | Settled::Stop { is_panic, .. } => {
            Some(if *is_panic { CallOutcome::Panic } else { CallOutcome::Retry })
        }
    }
}

/// How many calls of this length are handed to a thread at once: enough that handing them over costs little beside them.
/// And how many a thread may have: enough to be busy while the worker cuts, few enough that none waits long behind its
/// neighbours.
fn batch_for(mean: Duration) -> (u32, u32) {
    const WORTH: Duration = Duration::from_micros(200);
    const CUT: Duration = Duration::from_millis(20);
    const MOST: u128 = 256;
    let within = |time: Duration| (time.as_nanos() / mean.as_nanos().max(1)).clamp(1, MOST) as u32;
    (within(WORTH), within(CUT))
}
