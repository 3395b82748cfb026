//! One batch through the pipeline.

use std::time::Duration;

use super::suspects::Treatment;
use super::tap::Settlement;
use super::{Stopped, Worker};
use crate::kafka::{Error, Fetched, Origin, Partition};
use crate::model::{DeadLetterReason, FailureKind, Moment};
use crate::observe::events::{CallRetried, DeadLettered, OffsetsLost};
use crate::observe::{CallOutcome, Phase};
use crate::pipeline::{End, Pass, Settled, back_off};

/// The event at the head of the batch waits for its next attempt.
pub(super) struct Held {
    /// Until then, on the clock's monotonic time.
    pub until: Duration,
    /// Its partition.
    pub partition: Partition,
}

/// What a group of records came to, timed as a whole.
#[derive(Default)]
struct Tally {
    ok: u64,
    skipped: u64,
    other: Option<CallOutcome>,
    bytes: u64,
    records: u64,
}

/// What the loop over a group does next.
enum Next {
    /// The head is done with.
    Advance,
    /// The head stays; a cut comes first.
    Cut,
    /// The position of a partition is out of range.
    OutOfRange(Partition),
}

impl Worker {
    /// Runs what is at hand through the pipeline, until a cut is due.
    pub(super) fn work(&mut self) -> Result<(), Stopped> {
        let mut began = self.now();
        self.report.is_at(Phase::Handle);
        if !self.is_dirty() {
            self.pace.begin(began.elapsed);
        }
        while self.consumer.at_hand() > 0 && !self.must_cut && self.recovery.is_none() {
            began = self.work_group(began)?;
            if self.pace.wait(began.elapsed, false).is_zero() || self.outputs.is_full() {
                break;
            }
        }
        self.outputs.serve();
        Ok(())
    }

    /// Runs up to a stride of records through; returns when that ended.
    fn work_group(&mut self, began: Moment) -> Result<Moment, Stopped> {
        let mut tally = Tally::default();
        let mut left = self.stride.records();
        while left > 0 && !self.must_cut {
            match self.step(began, &mut tally)? {
                None => break,
                Some(Next::Advance) => {
                    self.consumer.advance();
                    self.must_cut = self.is_alone;
                    left -= 1;
                }
                Some(Next::Cut) => self.must_cut = true,
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
        let calls = tally.ok + tally.skipped + u64::from(tally.other.is_some());
        if calls > 0 && self.pipeline.has_handler() {
            let each = took / u32::try_from(calls).unwrap_or(u32::MAX);
            self.meter.called_many(CallOutcome::Ok, tally.ok, each);
            self.meter.called_many(CallOutcome::Skip, tally.skipped, each);
            if let Some(outcome) = tally.other {
                self.meter.called_many(outcome, 1, each);
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
                if let Some(lane) = self.lanes.find(topic, partition) {
                    lane.end = Some(offset);
                    if lane.checkpoint.offset() < offset {
                        lane.ledger().reach(offset);
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
        if lane.checkpoint.ledger.is_finished(record.offset) {
            return Ok(Some(Next::Advance));
        }
        let mut force = None;
        let treatment = match self.suspects.treatment(record.topic, record.partition, record.offset) {
            Treatment::Normal if record.offset < lane.alone_until => Treatment::Alone,
            treatment => treatment,
        };
        match treatment {
            Treatment::Normal => {}
            _ if self.outputs.is_open() && !self.is_alone => return Ok(Some(Next::Cut)),
            Treatment::Alone => self.is_alone = true,
            Treatment::DeadLetter(reason) => {
                self.is_alone = true;
                force = Some(reason);
            }
        }
        let failed = lane.checkpoint.ledger.attempts(record.offset);
        let (source, origin) = (lane.source, Origin::new(lane.number, record.offset));
        // Groups are timed as a whole; who looks on wants to know of each event.
        let before = self.tap.as_ref().map(|_| self.config.clock.now().elapsed);
        let mut writer = self.outputs.writer(origin, &mut self.meter, self.tap.as_mut());
        let pass = Pass { source, record: &record, failed, now };
        let settled = match force {
            None => self.pipeline.process(&pass, &mut writer),
            Some(error) => {
                let end =
                    End { reason: DeadLetterReason::Unwritable, error, attempts: failed + 1, called: None };
                self.pipeline.bury(&pass, end, &mut writer)
            }
        };
        tally.records += 1;
        tally.bytes += (record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len)) as u64;
        if let Some(tap) = &mut self.tap {
            let took = self.config.clock.now().elapsed.saturating_sub(before.unwrap_or(now.elapsed));
            tap.settled(&Settlement { record: &record, attempt: failed + 1, settled: &settled, took });
        }
        match settled {
            Settled::Ok { unrouted } => {
                tally.ok += 1;
                self.meter.ok();
                (0..unrouted).for_each(|_| self.meter.unrouted());
            }
            Settled::Skipped => {
                tally.skipped += 1;
                self.meter.skipped();
            }
            Settled::Filtered => self.meter.filtered(),
            Settled::DeadLetter { reason, error, called } => {
                tally.other = called.map(|kind| match kind {
                    FailureKind::Reject { .. } => CallOutcome::Reject,
                    FailureKind::Retry { .. } => CallOutcome::Retry,
                    FailureKind::Panic => CallOutcome::Panic,
                });
                let (topic, partition, offset) = (record.topic, record.partition, record.offset);
                DeadLettered { topic, partition, offset, reason: reason.as_str(), error: &error }
                    .emit(&mut self.meter);
            }
            Settled::Retry { after, message, is_panic } => {
                tally.other = Some(if is_panic { CallOutcome::Panic } else { CallOutcome::Retry });
                let attempts = lane.ledger().fail(record.offset);
                let (partition, offset) = (lane.partition.clone(), record.offset);
                let pause = after.unwrap_or_else(|| {
                    back_off(&self.config.function.delivery.retry, attempts, self.dice.roll())
                });
                CallRetried {
                    topic: &partition.topic,
                    partition: partition.partition,
                    offset,
                    attempt: attempts,
                    after: pause,
                    error: &message,
                }
                .emit(&mut self.meter);
                self.held = Some(Held { until: now.elapsed + pause, partition });
                // Attempts are committed outcomes: they survive a crash.
                return Ok(Some(Next::Cut));
            }
            Settled::Stop { message, .. } => {
                return Err(Stopped::Exhausted {
                    topic: record.topic.to_owned(),
                    partition: record.partition,
                    offset: record.offset,
                    attempts: failed + 1,
                    message,
                });
            }
        }
        self.meter.consumed();
        lane.ledger().finish(record.offset);
        Ok(Some(Next::Advance))
    }

    /// The next record of a partition was deleted before it was read: go on behind the gap, loudly.
    fn skip_lost(&mut self, partition: &Partition) -> Result<(), Stopped> {
        let Some(lane) = self.lanes.find(&partition.topic, partition.partition) else {
            return Ok(());
        };
        let from = lane.checkpoint.ledger.next();
        let (first, next) = self.consumer.ends(partition, super::ASK_WAIT)?;
        if from > next {
            return Err(Stopped::BeyondEnd { partition: partition.to_string(), committed: from, end: next });
        }
        if first > from {
            OffsetsLost { topic: &partition.topic, partition: partition.partition, from, to: first }
                .emit(&mut self.meter);
            lane.ledger().reach(first);
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
