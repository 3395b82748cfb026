//! What happens to a worker, one type a happening: emitting it writes the log line and moves the counters
//! together, so neither is forgotten. Function and worker come from the span that the worker works in
//! ([`super::log::worker_span`]).
//!
//! ERROR means that data was lost or a worker stopped; WARN that somebody may have to act; INFO is the life of
//! the process; DEBUG comes with every cut. What can come a thousand times between two cuts is told once.

use std::fmt::Display;
use std::time::Duration;

use super::meter::{CLASSES, Meter, Rebalance};

/// The log target of warnings about single events, for whoever shows each event anyway.
pub const OUTCOMES: &str = "tidemill::outcomes";

/// A worker's thread has begun.
#[derive(Debug)]
pub struct WorkerStarted {
    /// How it joins its group.
    pub protocol: &'static str,
}

impl WorkerStarted {
    /// Logs it.
    pub fn emit(self, _meter: &mut Meter) {
        tracing::info!(protocol = self.protocol, "worker started");
    }
}

/// Nothing has come for long: the worker keeps its partitions and little else.
pub struct WorkerParked {
    /// For how long.
    pub after: Duration,
}

impl WorkerParked {
    /// Logs it.
    pub fn emit(self, _meter: &mut Meter) {
        tracing::info!(after = ?self.after, "parked: nothing has come");
    }
}

/// A parked worker is at work again.
pub struct WorkerUnparked {
    /// How long its handler took to be made.
    pub took: Duration,
}

impl WorkerUnparked {
    /// Logs it.
    pub fn emit(self, _meter: &mut Meter) {
        tracing::info!(took = ?self.took, "at work again");
    }
}

/// A worker's thread ends.
pub struct WorkerStopped<'a> {
    /// The error that ended it; `None`: it was asked to.
    pub error: Option<&'a dyn Display>,
}

impl WorkerStopped<'_> {
    /// Logs it, counts a failure, and publishes what was not published yet.
    pub fn emit(self, meter: &mut Meter) {
        match self.error {
            None => tracing::info!("worker stopped"),
            Some(error) => {
                meter.failed();
                meter.error(CLASSES[2]);
                tracing::error!(%error, "worker stopped because of an error");
            }
        }
        meter.publish();
    }
}

/// The worker's assignment changed.
#[derive(Debug)]
pub struct Rebalanced<'a> {
    /// How.
    pub kind: Rebalance,
    /// Topic and partition of each lane that came or went.
    pub lanes: &'a [(&'a str, i32)],
}

impl Rebalanced<'_> {
    /// Logs and counts it.
    pub fn emit(self, meter: &mut Meter) {
        meter.rebalanced(self.kind);
        let lanes = Lanes(self.lanes);
        match self.kind {
            Rebalance::Assigned => tracing::info!(%lanes, "partitions assigned"),
            Rebalance::Revoked => tracing::info!(%lanes, "partitions revoked"),
            Rebalance::Lost => {
                tracing::warn!(%lanes, "partitions lost: the group went on without this worker; what was not committed is aborted");
            }
        }
    }
}

struct Lanes<'a>(&'a [(&'a str, i32)]);

impl Display for Lanes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (topic, partition)) in self.0.iter().enumerate() {
            let before = if place == 0 { "" } else { " " };
            write!(f, "{before}{topic}/{partition}")?;
        }
        Ok(())
    }
}

/// A lane begins to read.
#[derive(Debug)]
pub struct LanePlaced<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// The first offset that it reads.
    pub offset: i64,
    /// Offsets beyond it that are finished already and will be skipped.
    pub finished_beyond: u64,
}

impl LanePlaced<'_> {
    /// Logs it.
    pub fn emit(self, _meter: &mut Meter) {
        let Self { topic, partition, offset, finished_beyond } = self;
        tracing::debug!(topic, partition, offset, finished_beyond, "lane begins");
    }
}

/// The state of partitions that arrived was read.
#[derive(Debug)]
pub struct StateRestored {
    /// How many partitions.
    pub partitions: usize,
    /// How many entries were read.
    pub entries: u64,
    /// How long it took.
    pub took: Duration,
}

impl StateRestored {
    /// Counts and logs it.
    pub fn emit(self, meter: &mut Meter) {
        let Self { partitions, entries, took } = self;
        meter.restored(entries, took);
        tracing::info!(entries, partitions, ?took, "state restored");
    }
}

/// A cut committed.
#[derive(Debug)]
pub struct CutCommitted {
    /// How long it took.
    pub took: Duration,
}

impl CutCommitted {
    /// Publishes what was counted since the last cut, and logs it.
    pub fn emit(self, meter: &mut Meter) {
        let (before, emitted_before) = (meter.totals().consumed, meter.totals().emitted);
        meter.fold(self.took);
        let totals = meter.totals();
        let (finished, emitted) = (totals.consumed - before, totals.emitted - emitted_before);
        tracing::debug!(finished, emitted, took = ?self.took, "cut committed");
    }
}

/// A cut was aborted.
pub struct CutAborted<'a> {
    /// How long it took.
    pub took: Duration,
    /// Why.
    pub reason: &'a dyn Display,
}

impl CutAborted<'_> {
    /// Drops what was counted since the last cut, and logs it.
    pub fn emit(self, meter: &mut Meter) {
        meter.drop_uncommitted(self.took);
        tracing::warn!(reason = %self.reason, took = ?self.took, "cut aborted; its records are read again");
    }
}

/// An event could not be handled and became a dead letter.
#[derive(Debug)]
pub struct DeadLettered<'a> {
    /// Where its record stands.
    pub topic: &'a str,
    /// Where its record stands.
    pub partition: i32,
    /// Where its record stands.
    pub offset: i64,
    /// The word in the `tidemill-reason` header.
    pub reason: &'static str,
    /// What was wrong, as it stands in the dead letter.
    pub error: &'a str,
}

impl DeadLettered<'_> {
    /// Counts it; logs the first for each reason between two cuts as a warning, the others for debugging.
    pub fn emit(self, meter: &mut Meter) {
        let Self { topic, partition, offset, reason, error } = self;
        meter.error(CLASSES[1]);
        if meter.dead_lettered(reason) {
            tracing::warn!(target: OUTCOMES, topic, partition, offset, reason, error, "dead letter");
        } else {
            tracing::debug!(topic, partition, offset, reason, error, "dead letter");
        }
    }

    /// The same of the result of a window.
    pub fn emit_of_window(self, meter: &mut Meter) {
        let Self { topic, partition, reason, error, .. } = self;
        meter.error(CLASSES[1]);
        if meter.window_dead_lettered(reason) {
            tracing::warn!(target: OUTCOMES, topic, partition, reason, error, "dead letter of a window");
        } else {
            tracing::debug!(topic, partition, reason, error, "dead letter of a window");
        }
    }
}

/// A call failed and will be tried again.
#[derive(Debug)]
pub struct CallRetried<'a> {
    /// Where its record stands.
    pub topic: &'a str,
    /// Where its record stands.
    pub partition: i32,
    /// Where its record stands.
    pub offset: i64,
    /// How many calls there were, this one included.
    pub attempt: u32,
    /// When it is called again.
    pub after: Duration,
    /// What the handler said.
    pub error: &'a str,
}

impl CallRetried<'_> {
    /// Counts and logs it: the first failure for debugging, since most heal by themselves, later ones as warnings.
    pub fn emit(self, meter: &mut Meter) {
        let Self { topic, partition, offset, attempt, after, error } = self;
        meter.error(CLASSES[0]);
        if attempt > 1 {
            tracing::warn!(target: OUTCOMES, topic, partition, offset, attempt, ?after, error, "call failed again");
        } else {
            tracing::debug!(topic, partition, offset, attempt, ?after, error, "call failed");
        }
    }
}

/// A call took longer than it may.
#[derive(Debug)]
pub struct CallOverran<'a> {
    /// Where its record stands.
    pub topic: &'a str,
    /// Where its record stands.
    pub partition: i32,
    /// Where its record stands.
    pub offset: i64,
    /// How long it took.
    pub took: Duration,
    /// The manifest's `timeout`.
    pub limit: Duration,
}

impl CallOverran<'_> {
    /// Counts and logs it. What the call came to counts all the same.
    pub fn emit(self, meter: &mut Meter) {
        let Self { topic, partition, offset, took, limit } = self;
        meter.overran();
        tracing::warn!(target: OUTCOMES, topic, partition, offset, ?took, timeout = ?limit, "call took longer than its timeout");
    }
}

/// Calls failed for key after key: an outage, and nobody's fault.
#[derive(Debug)]
pub struct CircuitOpened<'a> {
    /// The lane.
    pub topic: &'a str,
    /// The lane.
    pub partition: i32,
    /// How many keys.
    pub keys: usize,
    /// What the handler said last.
    pub error: &'a str,
}

impl CircuitOpened<'_> {
    /// Counts and logs it.
    pub fn emit(self, meter: &mut Meter) {
        let Self { topic, partition, keys, error } = self;
        meter.circuit_opened();
        tracing::warn!(
            topic,
            partition,
            keys,
            error,
            "calls fail for one key after the other: nothing is called but a probe now and then, and no attempts are counted"
        );
    }
}

/// A call went well again.
#[derive(Debug)]
pub struct CircuitClosed<'a> {
    /// The lane.
    pub topic: &'a str,
    /// The lane.
    pub partition: i32,
    /// How long the outage was.
    pub open_for: Duration,
}

impl CircuitClosed<'_> {
    /// Logs it.
    pub fn emit(self, _: &mut Meter) {
        let Self { topic, partition, open_for } = self;
        tracing::info!(topic, partition, ?open_for, "a call went well: the outage is over");
    }
}

/// So many events wait that no more are read.
#[derive(Debug)]
pub struct LanePaused<'a> {
    /// The lane.
    pub topic: &'a str,
    /// The lane.
    pub partition: i32,
    /// How many events wait.
    pub held: usize,
}

impl LanePaused<'_> {
    /// Counts and logs it.
    pub fn emit(self, meter: &mut Meter) {
        let Self { topic, partition, held } = self;
        meter.paused();
        tracing::warn!(
            topic,
            partition,
            held,
            "reading stops until fewer events wait: calls failed, and others wait behind them (delivery.retry.maxHeld, limits.memory)"
        );
    }
}

/// A paused lane is read again.
#[derive(Debug)]
pub struct LaneResumed<'a> {
    /// The lane.
    pub topic: &'a str,
    /// The lane.
    pub partition: i32,
}

impl LaneResumed<'_> {
    /// Logs it.
    pub fn emit(self, _: &mut Meter) {
        let Self { topic, partition } = self;
        tracing::info!(topic, partition, "reading goes on");
    }
}

/// The broker had deleted records before they were read.
#[derive(Debug)]
pub struct OffsetsLost<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// Where reading stood.
    pub from: i64,
    /// Where it goes on.
    pub to: i64,
    /// How many of them had not ended.
    pub lost: u64,
}

impl OffsetsLost<'_> {
    /// Counts and logs the gap.
    pub fn emit(self, meter: &mut Meter) {
        let Self { topic, partition, from, to, lost } = self;
        meter.lost_offsets(lost);
        tracing::error!(
            topic,
            partition,
            from,
            to,
            lost,
            "offsets were deleted before they were read: data lost"
        );
    }
}

/// Ticks of a clock became no event of their own, because nobody was there to make them.
#[derive(Debug)]
pub struct TicksMissed<'a> {
    /// The source's name.
    pub source: &'a str,
    /// Made good by an event of a later one.
    pub made_good: u64,
    /// Without any event.
    pub skipped: u64,
}

impl TicksMissed<'_> {
    /// Logs it.
    pub fn emit(self) {
        let Self { source, made_good, skipped } = self;
        tracing::warn!(source, made_good, skipped, "ticks were missed: nobody was there when they were due");
    }
}

/// A source topic does not exist yet.
#[derive(Debug)]
pub struct WaitingForTopic<'a> {
    /// The topic.
    pub topic: &'a str,
}

impl WaitingForTopic<'_> {
    /// Logs it.
    pub fn emit(self, _meter: &mut Meter) {
        tracing::warn!(
            topic = self.topic,
            "waiting for a topic that does not exist; create it, or mend the manifest"
        );
    }
}

/// No broker can be reached.
pub struct BrokersAway<'a> {
    /// The client's words.
    pub error: &'a dyn Display,
}

impl BrokersAway<'_> {
    /// Logs it and counts a transient error.
    pub fn emit(self, meter: &mut Meter) {
        meter.error(CLASSES[0]);
        tracing::warn!(error = %self.error, "no broker can be reached; trying on");
    }
}

/// A broker answers again.
#[derive(Debug)]
pub struct BrokersBack;

impl BrokersBack {
    /// Logs it.
    pub fn emit(self, _meter: &mut Meter) {
        tracing::info!("brokers answer again");
    }
}

/// A new version of the handler took over between two cuts.
#[derive(Debug)]
pub struct HandlerSwapped<'a> {
    /// The plugin's digest.
    pub digest: &'a str,
    /// The handler's name in the plugin.
    pub entry: &'a str,
}

impl HandlerSwapped<'_> {
    /// Logs it.
    pub fn emit(self, _meter: &mut Meter) {
        tracing::info!(digest = self.digest, entry = self.entry, "handler replaced");
    }
}

/// Another producer took over this worker's transactional id.
#[derive(Debug)]
pub struct Fenced<'a> {
    /// The id.
    pub transactional_id: &'a str,
}

impl Fenced<'_> {
    /// Logs it.
    pub fn emit(self, _meter: &mut Meter) {
        tracing::warn!(
            transactional_id = self.transactional_id,
            "fenced: another producer uses this transactional id; give each process an instance of its own"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::exposition::Exposition;
    use super::super::log::Format;
    use super::super::log::tests::logged;
    use super::super::meter::MeterSpec;
    use super::*;

    fn meter() -> Meter {
        Meter::new(&Exposition::new(), &MeterSpec { function: "default/echo", sinks: &[], reasons: &[] })
    }

    fn dead_letter(meter: &mut Meter, reason: &'static str, offset: i64) {
        meter.consumed();
        DeadLettered { topic: "rides", partition: 1, offset, reason, error: "no fare" }.emit(meter);
    }

    #[test]
    fn a_flood_of_dead_letters_is_told_once_a_reason_and_cut() {
        let mut meter = meter();
        let text = logged("info", Format::Text, || {
            for offset in 0..100 {
                dead_letter(&mut meter, "rejected", offset);
                dead_letter(&mut meter, "malformed", offset);
            }
            CutCommitted { took: Duration::from_millis(5) }.emit(&mut meter);
            dead_letter(&mut meter, "rejected", 100);
        });
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.contains(r#"topic="rides" partition=1 offset=0 reason="rejected" error="no fare""#),
            "{text}"
        );
        assert_eq!(meter.totals().dead_lettered, 200);
    }

    #[test]
    fn a_cut_folds_and_an_abort_drops() {
        let mut meter = meter();
        let text = logged("debug", Format::Text, || {
            for _ in 0..2 {
                meter.consumed();
                meter.ok();
                CutCommitted { took: Duration::from_millis(5) }.emit(&mut meter);
            }
            meter.consumed();
            CutAborted { took: Duration::from_millis(5), reason: &"the broker refused an output" }
                .emit(&mut meter);
        });
        assert_eq!((meter.totals().consumed, meter.totals().aborts, meter.in_flight()), (2, 1, 0));
        assert!(
            text.contains("DEBUG") && text.contains("cut committed finished=1 emitted=0 took=5ms"),
            "{text}"
        );
        assert!(text.contains("WARN") && text.contains("reason=the broker refused an output"), "{text}");
    }

    #[test]
    fn only_lost_data_and_a_stopped_worker_are_errors() {
        let mut meter = meter();
        let text = logged("error", Format::Text, || {
            WorkerStarted { protocol: "classic" }.emit(&mut meter);
            for kind in [Rebalance::Assigned, Rebalance::Revoked, Rebalance::Lost] {
                Rebalanced { kind, lanes: &[("rides", 0), ("rides", 1)] }.emit(&mut meter);
            }
            CallRetried {
                topic: "rides",
                partition: 0,
                offset: 1,
                attempt: 2,
                after: Duration::from_secs(1),
                error: "busy",
            }
            .emit(&mut meter);
            LanePlaced { topic: "rides", partition: 0, offset: 5, finished_beyond: 0 }.emit(&mut meter);
            WaitingForTopic { topic: "rides" }.emit(&mut meter);
            BrokersAway { error: &"refused" }.emit(&mut meter);
            BrokersBack.emit(&mut meter);
            HandlerSwapped { digest: "9f2c", entry: "echo" }.emit(&mut meter);
            Fenced { transactional_id: "tidemill.default.echo/a/0" }.emit(&mut meter);
            OffsetsLost { topic: "rides", partition: 0, from: 5, to: 9, lost: 4 }.emit(&mut meter);
            WorkerStopped { error: None }.emit(&mut meter);
            WorkerStopped { error: Some(&"out of attempts") }.emit(&mut meter);
        });
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("data lost") && text.contains("out of attempts"), "{text}");
        assert_eq!((meter.totals().lost_offsets, meter.totals().rebalances), (4, 3));
    }

    #[test]
    fn lanes_are_named_in_one_line() {
        let mut meter = meter();
        let text = logged("info", Format::Text, || {
            Rebalanced { kind: Rebalance::Assigned, lanes: &[("rides", 0), ("payments", 11)] }
                .emit(&mut meter);
        });
        assert!(text.contains("partitions assigned lanes=rides/0 payments/11"), "{text}");
    }
}
