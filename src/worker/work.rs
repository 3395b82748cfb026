//! One batch through the pipeline.

use std::time::Duration;

use super::rate::Budget;
use super::states::States;
use super::suspects::Treatment;
use super::tap::Settlement;
use super::{Stopped, Worker};
use crate::kafka::{Error, Fetched, Origin, Partition};
use crate::model::{Clock, Moment, Record};
use crate::observe::events::{CallOverran, OffsetsLost};
use crate::observe::{CallOutcome, Phase};
use crate::pipeline::{Pass, Placement, Settled};

/// How long records are worked on before the group, a stop or a pause is heard again: cuts may be further apart.
pub(super) const ROUND: Duration = Duration::from_millis(100);

/// What a group of records came to, timed as a whole.
#[derive(Default)]
struct Tally {
    /// By calls that went well.
    called: u64,
    skipped: u64,
    /// Lane and offset of the last call.
    last: (u16, i64),
    bytes: u64,
    records: u64,
    /// Some had been sent on to the stitch topic.
    has_stitched: bool,
}

impl Tally {
    #[inline]
    fn took(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.bytes += (record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len)) as u64;
    }
}

/// What the loop over a group does next.
enum Next {
    /// The head is done with.
    Advance,
    /// The head stays until a call ends.
    Wait,
    /// Windows close before the head is looked at.
    Close,
    /// The lane of this partition holds as much as it may.
    Pause(Partition),
    /// The position of a partition is out of range.
    OutOfRange(Partition),
}

impl Worker {
    /// Runs what waited and what is at hand through the pipeline, until a cut is due or others have waited for long
    /// enough.
    pub(super) fn work(&mut self) -> Result<(), Stopped> {
        let mut began = self.now();
        let until = began.elapsed + ROUND;
        self.report.is_at(Phase::Handle);
        if !self.is_dirty() {
            self.pace.begin(began.elapsed);
        }
        self.work_waiting(&mut began, until)?;
        while self.consumer.at_hand() > 0 && !self.must_cut && !self.is_busy && self.recovery.is_none() {
            began = self.work_group(began)?;
            let is_cut_due = self.pace.wait(began.elapsed, false).is_zero() || self.outputs.is_full();
            if is_cut_due || began.elapsed >= until {
                break;
            }
        }
        if let Some(threads) = &mut self.threads {
            threads.flush();
        }
        if self.recovery.is_none() {
            self.open_state();
        }
        self.outputs.serve();
        Ok(())
    }

    /// Runs up to a stride of records through; returns when that ended.
    fn work_group(&mut self, began: Moment) -> Result<Moment, Stopped> {
        let mut tally = Tally::default();
        let mut left = self.stride.records();
        while left > 0 && !self.must_cut && !self.is_busy {
            match self.step(began, &mut tally)? {
                None => break,
                Some(Next::Advance) => {
                    self.consumer.advance();
                    left -= 1;
                }
                Some(Next::Wait) => self.is_busy = true,
                Some(Next::Close) => self.close_windows()?,
                Some(Next::Pause(partition)) => self.pause_lane(&partition)?,
                Some(Next::OutOfRange(partition)) => {
                    self.consumer.advance();
                    self.skip_lost(&partition)?;
                }
            }
        }
        let now = self.now();
        let took = now.elapsed.saturating_sub(began.elapsed);
        if left == 0 {
            self.stride.took(took);
        }
        if tally.has_stitched {
            self.pace.came_back(now.elapsed);
        }
        let calls = tally.called + tally.skipped;
        if calls > 0 {
            let each = took / u32::try_from(calls).unwrap_or(u32::MAX);
            self.meter.called_many(CallOutcome::Ok, tally.called, each);
            self.meter.called_many(CallOutcome::Skip, tally.skipped, each);
            let limit = self.config.longest_call();
            if calls == 1
                && each > limit
                && let Some(lane) = self.lanes.by_number(tally.last.0)
            {
                let Partition { topic, partition } = &lane.partition;
                let (partition, offset) = (*partition, tally.last.1);
                CallOverran { topic, partition, offset, took: each, limit }.emit(&mut self.meter);
            }
        }
        let waited = began.elapsed.saturating_sub(self.read_at);
        self.meter.waited_many(waited, tally.records);
        self.meter.read(tally.records, tally.bytes);
        Ok(now)
    }

    /// The record at the head. `None`: there is none.
    fn step(&mut self, now: Moment, tally: &mut Tally) -> Result<Option<Next>, Stopped> {
        let record = match self.consumer.head() {
            None => return Ok(None),
            Some(Fetched::Record(record)) => record,
            Some(Fetched::End { topic, partition, offset }) => {
                if let Some(lane) = self.lanes.find(topic, partition).filter(|lane| !lane.is_paused) {
                    lane.end = Some(offset);
                    lane.track.read_to = lane.track.read_to.max(offset);
                    if lane.track.checkpoint.offset() < offset {
                        lane.track.ledger().reach(offset);
                    }
                }
                return Ok(Some(Next::Advance));
            }
            Some(Fetched::Error { topic, partition, code, text }) => {
                let partition = Partition { topic: topic.to_owned(), partition };
                return trouble(partition, code, &text).map(Some);
            }
        };
        let Some(lane) = self.lanes.find(record.topic, record.partition) else {
            return Ok(Some(Next::Advance));
        };
        if lane.is_paused || lane.track.is_known(record.offset) {
            return Ok(Some(Next::Advance));
        }
        let is_sent = self.pipeline.is_sent(lane.source);
        if let Some(states) = self.states.as_mut().filter(|_| !is_sent) {
            if states.is_due(record.partition) {
                return Ok(Some(Next::Close));
            }
            if states.count_waiting(record.partition) >= self.desk.policy().max_held {
                return Ok(Some(Next::Pause(lane.partition.clone())));
            }
            if record.key.is_none() && self.pipeline.is_stitch(lane.source) {
                states.hear(record.partition, record.value.unwrap_or_default())?;
                lane.track.read_to = record.offset + 1;
                self.desk.finished_at_once(&mut lane.track, record.offset, false);
                return Ok(Some(Next::Advance));
            }
        }
        let now = match &mut self.budget {
            None => now,
            Some(budget) => {
                let now = self.config.clock.now();
                if !budget.take(now.elapsed) {
                    return Ok(Some(Next::Wait));
                }
                now
            }
        };
        let treatment = self.suspects.treatment(record.topic, record.partition, record.offset);
        let is_alone = treatment != Treatment::Normal || lane.calls_alone(record.offset);
        if is_alone || !self.desk.is_quiet() || lane.track.open_since().is_some() {
            let strand =
                self.pipeline.with_key(lane.source, &record, |key| lane.track.strand(record.offset, key));
            match self.desk.place(&lane.track, strand, record.offset) {
                Placement::Now if !is_alone => {}
                Placement::Busy => {
                    self.budget.as_mut().map(Budget::give_back);
                    return Ok(Some(Next::Wait));
                }
                Placement::Full => {
                    self.budget.as_mut().map(Budget::give_back);
                    return Ok(Some(Next::Pause(lane.partition.clone())));
                }
                place => {
                    let mut job = self.spare.pop().unwrap_or_default();
                    job.record.copy(&record, &lane.topic);
                    job.source = lane.source;
                    let event = (record.offset, job.record.weight());
                    let mut ticket = self.desk.ticket(&lane.track, strand, event, job);
                    lane.track.read_to = record.offset + 1;
                    tally.took(&record);
                    self.meter.consumed();
                    match (place, &mut self.threads) {
                        (Placement::Thread(thread), Some(threads)) if !is_alone => {
                            let failed = lane.track.checkpoint.ledger.attempts(record.offset);
                            self.desk.send(&mut lane.track, &mut ticket, thread);
                            threads.push(ticket, failed);
                        }
                        _ => {
                            self.budget.as_mut().map(Budget::give_back);
                            self.desk.hold(&mut lane.track, ticket);
                        }
                    }
                    return Ok(Some(Next::Advance));
                }
            }
        }
        let failed = lane.track.checkpoint.ledger.attempts(record.offset);
        let (source, origin) = (lane.source, Origin::new(lane.track.lane, record.offset));
        // Groups are timed as a whole; who looks on wants to know of each event.
        let calls_for_windows = self.pipeline.has_handler() && !self.pipeline.calls_for_events();
        let is_timed = self.tap.is_some() || calls_for_windows;
        let before = is_timed.then(|| self.config.clock.now().elapsed);
        let mut writer = self.outputs.writer(origin, &mut self.meter, self.tap.as_mut());
        let pass = Pass { source, record: &record, failed, is_probe: false, now };
        let states = self.states.as_mut().filter(|_| !is_sent);
        let windows = states.and_then(|states| states.enter(record.partition, now.elapsed));
        let settled = match windows {
            None if is_sent => {
                self.pipeline.send(&pass, &mut lane.track.checkpoint.watermark_ms, &mut writer)
            }
            None => self.pipeline.process(&pass, &mut writer),
            Some((windows, is_held)) => {
                self.pipeline.hold_results(is_held);
                self.pipeline.gather(&pass, windows, &mut writer)
            }
        };
        let has_given = !self.pipeline.given().is_plain();
        tally.took(&record);
        tally.has_stitched |= self.pipeline.is_stitch(source);
        tally.last = (lane.track.lane, record.offset);
        lane.track.read_to = record.offset + 1;
        self.meter.consumed();
        let took = |clock: &dyn Clock| clock.now().elapsed.saturating_sub(before.unwrap_or(now.elapsed));
        match settled {
            Settled::Ok { unrouted, .. } => {
                tally.called += u64::from(self.pipeline.has_called());
                self.meter.ok();
                (0..unrouted).for_each(|_| self.meter.unrouted());
            }
            Settled::Skipped => {
                tally.skipped += 1;
                self.meter.skipped();
            }
            Settled::Filtered => {
                self.budget.as_mut().map(Budget::give_back);
                self.meter.filtered();
            }
            settled => {
                // Rare enough to take the way of those that waited.
                let mut job = self.spare.pop().unwrap_or_default();
                job.record.copy(&record, &lane.topic);
                job.source = source;
                let strand =
                    self.pipeline.with_key(source, &record, |key| lane.track.strand(record.offset, key));
                let event = (record.offset, job.record.weight());
                let ticket = self.desk.ticket(&lane.track, strand, event, job);
                let took = took(self.config.clock.as_ref());
                self.settle(ticket, failed, settled, took)?;
                return Ok(Some(Next::Advance));
            }
        }
        self.sent += i64::from(is_sent && matches!(settled, Settled::Ok { .. }));
        // Of an event that was sent on it was told already.
        if let Some(tap) = self.tap.as_mut().filter(|_| self.pipeline.is_stitch(source)) {
            self.sent -= 1;
            tap.gave();
        } else if let Some(tap) = &mut self.tap {
            let took = took(self.config.clock.as_ref());
            tap.settled(&Settlement { record: &record, attempt: failed + 1, settled: &settled, took });
        }
        lane.track.checkpoint.account.add(&settled);
        self.desk.finished_at_once(&mut lane.track, record.offset, self.pipeline.has_called());
        if has_given {
            let number = lane.track.lane;
            let took = took(self.config.clock.as_ref());
            self.note_given(number, took)?;
        }
        if calls_for_windows && self.states.as_ref().is_some_and(States::has_fresh) {
            self.give_fresh()?;
        }
        Ok(Some(Next::Advance))
    }

    /// The next record of a partition was deleted before it was read: go on behind the gap, loudly.
    fn skip_lost(&mut self, partition: &Partition) -> Result<(), Stopped> {
        let Some(lane) = self.lanes.find(&partition.topic, partition.partition) else {
            return Ok(());
        };
        let from = lane.track.checkpoint.ledger.next();
        let (first, next) = self.consumer.ends(partition, super::ASK_WAIT)?;
        if from > next {
            return Err(Stopped::BeyondEnd { partition: partition.to_string(), committed: from, end: next });
        }
        let position = lane.track.checkpoint.offset();
        if first > position {
            // Those that had begun, failed and waited too.
            let lost = lane.track.ledger().expire(first);
            let Partition { topic, partition } = partition;
            OffsetsLost { topic, partition: *partition, from: position, to: first, lost }
                .emit(&mut self.meter);
            lane.track.read_to = lane.track.read_to.max(first);
        }
        self.cut()?;
        // librdkafka has stopped fetching there, and only a new consumer starts again.
        Err(Error::Fatal(format!("partition {partition} stood at offset {from}; it has {first} to {next}"))
            .into())
    }
}

fn trouble(partition: Partition, code: crate::kafka::Code, text: &str) -> Result<Next, Stopped> {
    use crate::kafka::Code;
    match code {
        Code::OffsetOutOfRange | Code::AutoOffsetReset => Ok(Next::OutOfRange(partition)),
        Code::TopicAuthorizationFailed => {
            Err(Error::Refused(format!("reading {partition}: {text}; grant READ on the topic")).into())
        }
        _ => {
            tracing::warn!(%partition, "kafka client: {text}");
            Ok(Next::Advance)
        }
    }
}
