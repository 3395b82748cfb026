//! What one worker counts: plain numbers of its own thread, published to the process at cuts.
//!
//! Two groups, apart in types. [`Committed`] counts what a cut makes visible: it is published when the
//! cut commits and dropped when it aborts, because the records are then read and counted again. [`Live`] counts
//! what happened (calls, errors, time), which an abort does not undo.

use std::time::Duration;

use super::exposition::Exposition;
use super::handles::Handles;
use super::histogram::Histogram;
use super::metrics::Id;
use super::totals::Totals;
use super::words::Words;

/// What a meter belongs to.
#[derive(Debug, Clone, Copy)]
pub struct MeterSpec<'a> {
    /// `<namespace>/<name>`.
    pub function: &'a str,
    /// Names of its sinks, in the manifest's order.
    pub sinks: &'a [&'a str],
    /// Every reason for which it may write a dead letter, so that each stands at 0 from the start.
    pub reasons: &'a [&'static str],
}

/// How a call of the handler ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// Handled.
    Ok,
    /// Deliberately not handled.
    Skip,
    /// To be tried again.
    Retry,
    /// Never to be tried again.
    Reject,
    /// The handler panicked.
    Panic,
}

pub(super) const OUTCOMES: [&str; 5] = ["ok", "skip", "retry", "reject", "panic"];

/// Classes of errors as [`Meter::error`] takes them.
pub const CLASSES: [&str; 3] = ["transient", "poison", "fatal"];

/// What happened to a worker's assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebalance {
    /// Partitions were given.
    Assigned,
    /// Partitions were taken, with time to finish.
    Revoked,
    /// Partitions were taken without asking: the session had expired.
    Lost,
}

pub(super) const REBALANCES: [&str; 3] = ["assigned", "revoked", "lost"];

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Volume {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// Since the last cut: published when the next one commits, dropped when it aborts.
pub(super) struct Committed {
    /// Records taken, among them those that a former cut left in flight.
    pub(super) consumed: u64,
    pub(super) ok: u64,
    pub(super) skipped: u64,
    pub(super) filtered: u64,
    pub(super) dead_letters: Words,
    /// Those of them that are of no record: results of windows.
    pub(super) dead_windows: u64,
    pub(super) emitted: Vec<Volume>,
    pub(super) unrouted: u64,
}

impl Committed {
    pub(super) fn finished(&self) -> u64 {
        self.ok + self.skipped + self.filtered + self.dead_records()
    }

    /// Records that became dead letters.
    pub(super) fn dead_records(&self) -> u64 {
        self.dead_letters.pending() - self.dead_windows
    }

    fn clear(&mut self) {
        (self.ok, self.skipped, self.filtered, self.unrouted) = (0, 0, 0, 0);
        self.dead_letters.clear();
        self.dead_windows = 0;
        self.emitted.fill(Volume::default());
    }
}

/// Since it was last published; never dropped.
pub(super) struct Live {
    pub(super) calls: [u64; OUTCOMES.len()],
    pub(super) errors: Words,
    pub(super) duration: Histogram,
    pub(super) queue_wait: Histogram,
    pub(super) read: Volume,
    pub(super) lost_offsets: u64,
    pub(super) overruns: u64,
    pub(super) circuits_opened: u64,
    pub(super) pauses: u64,
    pub(super) commits: u64,
    pub(super) aborts: u64,
    pub(super) cut_duration: Histogram,
    pub(super) restored_entries: u64,
    pub(super) restore_duration: Histogram,
    pub(super) rebalances: [u64; REBALANCES.len()],
    pub(super) failures: u64,
    pub(super) cpu: Duration,
}

/// The counters of one worker.
pub struct Meter {
    committed: Committed,
    live: Live,
    totals: Totals,
    cpu: Duration,
    cpu_seen: Option<Duration>,
    process: Handles,
}

impl Meter {
    /// A meter that publishes to `exposition`.
    pub fn new(exposition: &Exposition, spec: &MeterSpec<'_>) -> Self {
        let words =
            |id, label, words: &[&'static str]| Words::new(exposition, spec.function, id, label, words);
        let committed = Committed {
            consumed: 0,
            ok: 0,
            skipped: 0,
            filtered: 0,
            dead_letters: words(Id::DeadLetters, "reason", spec.reasons),
            dead_windows: 0,
            emitted: vec![Volume::default(); spec.sinks.len()],
            unrouted: 0,
        };
        let live = Live {
            calls: [0; OUTCOMES.len()],
            errors: words(Id::HandlerErrors, "class", &CLASSES),
            duration: Histogram::new(),
            queue_wait: Histogram::new(),
            read: Volume::default(),
            lost_offsets: 0,
            overruns: 0,
            circuits_opened: 0,
            pauses: 0,
            commits: 0,
            aborts: 0,
            cut_duration: Histogram::new(),
            restored_entries: 0,
            restore_duration: Histogram::new(),
            rebalances: [0; REBALANCES.len()],
            failures: 0,
            cpu: Duration::ZERO,
        };
        Self {
            committed,
            live,
            totals: Totals::default(),
            cpu: Duration::ZERO,
            cpu_seen: None,
            process: Handles::new(exposition, spec),
        }
    }

    /// Records finished and records written to sinks since the last cut.
    pub fn uncommitted(&self) -> (u64, u64) {
        let emitted = self.committed.emitted.iter().map(|volume| volume.records).sum();
        (self.committed.finished(), emitted)
    }

    /// A record was taken in; it is in flight until it is counted as ok, skipped, filtered or dead-lettered.
    #[inline]
    pub fn consumed(&mut self) {
        self.committed.consumed += 1;
    }

    /// A record is done, the handler (or the built-in steps) having handled it.
    #[inline]
    pub fn ok(&mut self) {
        self.committed.ok += 1;
    }

    /// A record is done, the handler having skipped it.
    #[inline]
    pub fn skipped(&mut self) {
        self.committed.skipped += 1;
    }

    /// A record is done: a source's filters refused it.
    #[inline]
    pub fn filtered(&mut self) {
        self.committed.filtered += 1;
    }

    /// A record is done: a dead letter for `reason` is on its way. Whether it is the first for this reason
    /// since the last cut.
    pub fn dead_lettered(&mut self, reason: &'static str) -> bool {
        self.committed.dead_letters.count(reason) == 1
    }

    /// The same of the result of a window, which is no record that was taken in.
    pub fn window_dead_lettered(&mut self, reason: &'static str) -> bool {
        self.committed.dead_windows += 1;
        self.dead_lettered(reason)
    }

    /// An output of `bytes` went to the sink at this place in the manifest.
    #[inline]
    pub fn emitted(&mut self, sink: usize, bytes: usize) {
        if let Some(volume) = self.committed.emitted.get_mut(sink) {
            volume.records += 1;
            volume.bytes += bytes as u64;
        }
    }

    /// No sink took an output.
    #[inline]
    pub fn unrouted(&mut self) {
        self.committed.unrouted += 1;
    }

    /// Records in flight left with their partition; its next owner takes them in again.
    pub fn released(&mut self, records: u64) {
        debug_assert!(records <= self.in_flight(), "only records in flight can leave");
        self.committed.consumed -= records.min(self.in_flight());
    }

    /// Records taken in and not done.
    pub fn in_flight(&self) -> u64 {
        self.committed.consumed.saturating_sub(self.committed.finished())
    }

    /// A batch of records was read.
    #[inline]
    pub fn read(&mut self, records: u64, bytes: u64) {
        self.live.read.records += records;
        self.live.read.bytes += bytes;
    }

    /// A call of the handler ended; it took `took`, after its record had waited for `waited`.
    #[inline]
    pub fn called(&mut self, outcome: CallOutcome, took: Duration, waited: Duration) {
        self.live.calls[outcome as usize] += 1;
        self.live.duration.record(took);
        self.live.queue_wait.record(waited);
    }

    /// `times` calls that were timed as a whole ended; each took `took` on the average.
    pub fn called_many(&mut self, outcome: CallOutcome, times: u64, took: Duration) {
        self.live.calls[outcome as usize] += times;
        self.live.duration.record_many(took, times);
    }

    /// `times` records waited about so long between being read and being handled.
    pub fn waited_many(&mut self, waited: Duration, times: u64) {
        self.live.queue_wait.record_many(waited, times);
    }

    /// Something failed; `class` is one of [`CLASSES`].
    pub fn error(&mut self, class: &'static str) {
        self.live.errors.count(class);
    }

    /// The broker had deleted `offsets` before they were read.
    pub fn lost_offsets(&mut self, offsets: u64) {
        self.live.lost_offsets += offsets;
    }

    /// A call took longer than its timeout.
    pub fn overran(&mut self) {
        self.live.overruns += 1;
    }

    /// A lane's circuit opened.
    pub fn circuit_opened(&mut self) {
        self.live.circuits_opened += 1;
    }

    /// A lane holds as much as it may.
    pub fn paused(&mut self) {
        self.live.pauses += 1;
    }

    /// The assignment changed.
    pub fn rebalanced(&mut self, kind: Rebalance) {
        self.live.rebalances[kind as usize] += 1;
    }

    /// The state of partitions that arrived was read.
    pub fn restored(&mut self, entries: u64, took: Duration) {
        self.live.restored_entries += entries;
        self.live.restore_duration.record(took);
    }

    /// The worker stopped because of an error.
    pub fn failed(&mut self) {
        self.live.failures += 1;
    }

    /// CPU time of the worker's thread so far, as [`super::thread_cpu`] reads it on that thread.
    pub fn cpu(&mut self, used: Duration) {
        self.live.cpu += used.saturating_sub(self.cpu_seen.unwrap_or(used));
        self.cpu_seen = Some(used);
    }

    /// CPU time that handler threads used.
    pub fn cpu_of_threads(&mut self, used: Duration) {
        self.live.cpu += used;
    }

    /// What was published so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The cut committed after `took`: publishes everything counted since the last one.
    pub fn fold(&mut self, took: Duration) {
        debug_assert!(self.committed.finished() <= self.committed.consumed, "a record was finished twice");
        self.live.commits += 1;
        self.live.cut_duration.record(took);
        let committed = &mut self.committed;
        let finished = committed.finished();
        self.process.commit(committed);
        self.totals.consumed += finished;
        self.totals.ok += committed.ok;
        self.totals.skipped += committed.skipped;
        self.totals.filtered += committed.filtered;
        self.totals.dead_lettered += committed.dead_letters.pending();
        self.totals.unrouted += committed.unrouted;
        for volume in &committed.emitted {
            self.totals.emitted += volume.records;
            self.totals.emitted_bytes += volume.bytes;
        }
        committed.consumed = committed.consumed.saturating_sub(finished);
        committed.clear();
        self.publish();
    }

    /// The cut aborted after `took`: drops what it would have made visible, and what is in flight, since every lane
    /// goes back to its committed offset.
    pub fn drop_uncommitted(&mut self, took: Duration) {
        self.live.aborts += 1;
        self.live.cut_duration.record(took);
        self.committed.consumed = 0;
        self.committed.clear();
        self.publish();
    }

    /// Publishes the live group alone: for a worker that has had no cut for a while.
    pub fn publish(&mut self) {
        let live = &mut self.live;
        self.totals.read += live.read.records;
        self.totals.read_bytes += live.read.bytes;
        self.totals.lost_offsets += live.lost_offsets;
        self.totals.calls += live.calls.iter().sum::<u64>();
        self.totals.failed_calls += live.calls[CallOutcome::Retry as usize..].iter().sum::<u64>();
        self.totals.commits += live.commits;
        self.totals.aborts += live.aborts;
        self.totals.rebalances += live.rebalances.iter().sum::<u64>();
        self.cpu += live.cpu;
        self.totals.cpu_ms = self.cpu.as_millis() as u64;
        self.process.publish(live);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::checker::samples;
    use super::super::status::Status;
    use super::*;

    const SPEC: MeterSpec<'_> =
        MeterSpec { function: "default/echo", sinks: &["default", "review"], reasons: &["malformed"] };
    const TOOK: Duration = Duration::from_millis(1);

    /// What can come between two records.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take,
        Ok,
        Skip,
        Filter,
        DeadLetter(bool),
        Emit(usize),
        Call(u8),
        Release,
        Fold,
        Drop,
        Publish,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => Just(Step::Take),
            3 => Just(Step::Ok),
            1 => Just(Step::Skip),
            1 => Just(Step::Filter),
            1 => any::<bool>().prop_map(Step::DeadLetter),
            2 => (0usize..2).prop_map(Step::Emit),
            2 => (0u8..5).prop_map(Step::Call),
            1 => Just(Step::Release),
            2 => Just(Step::Fold),
            1 => Just(Step::Drop),
            1 => Just(Step::Publish),
        ];
        proptest::collection::vec(step, 0..200)
    }

    fn outcome(place: u8) -> CallOutcome {
        [CallOutcome::Ok, CallOutcome::Skip, CallOutcome::Retry, CallOutcome::Reject, CallOutcome::Panic]
            [place as usize]
    }

    /// The same sums kept the dull way: what a cut holds, and what was visible after it.
    #[derive(Default, Clone, Copy)]
    struct Sums {
        ok: u64,
        skipped: u64,
        filtered: u64,
        dead: [u64; 2],
        emitted: [u64; 2],
    }

    impl Sums {
        fn finished(&self) -> u64 {
            self.ok + self.skipped + self.filtered + self.dead[0] + self.dead[1]
        }

        fn add(&mut self, cut: &Self) {
            self.ok += cut.ok;
            self.skipped += cut.skipped;
            self.filtered += cut.filtered;
            for place in 0..2 {
                self.dead[place] += cut.dead[place];
                self.emitted[place] += cut.emitted[place];
            }
        }
    }

    proptest! {
        #[test]
        fn any_interleaving_of_counts_folds_and_drops_keeps_the_sums(steps in steps()) {
            let exposition = Exposition::new();
            let mut meter = Meter::new(&exposition, &SPEC);
            let (mut cut, mut visible, mut in_flight, mut calls) = (Sums::default(), Sums::default(), 0u64, [0u64; 5]);
            for step in steps.into_iter().chain([Step::Publish]) {
                let can_finish = in_flight > 0;
                match step {
                    Step::Take => { meter.consumed(); in_flight += 1; }
                    Step::Ok if can_finish => { meter.ok(); cut.ok += 1; in_flight -= 1; }
                    Step::Skip if can_finish => { meter.skipped(); cut.skipped += 1; in_flight -= 1; }
                    Step::Filter if can_finish => { meter.filtered(); cut.filtered += 1; in_flight -= 1; }
                    Step::DeadLetter(known) if can_finish => {
                        let place = usize::from(!known);
                        let first = meter.dead_lettered(["malformed", "not-listed"][place]);
                        prop_assert_eq!(first, cut.dead[place] == 0);
                        cut.dead[place] += 1;
                        in_flight -= 1;
                    }
                    Step::Emit(sink) => { meter.emitted(sink, 10); cut.emitted[sink] += 1; }
                    Step::Call(place) => { meter.called(outcome(place), TOOK, TOOK); calls[place as usize] += 1; }
                    Step::Release if can_finish => { meter.released(1); in_flight -= 1; }
                    Step::Fold => { meter.fold(TOOK); visible.add(&std::mem::take(&mut cut)); }
                    Step::Drop => { meter.drop_uncommitted(TOOK); cut = Sums::default(); in_flight = 0; }
                    Step::Publish => meter.publish(),
                    _ => {}
                }
                prop_assert_eq!(meter.in_flight(), in_flight);
                prop_assert_eq!(meter.totals().consumed, visible.finished());
            }
            let totals = *meter.totals();
            prop_assert_eq!(totals.consumed, totals.ok + totals.skipped + totals.filtered + totals.dead_lettered);
            let text = exposition.render(&Status::default());
            let samples = samples(&text);
            let of = |metric: &str, label: &str| {
                let comma = if label.is_empty() { "" } else { "," };
                let series = format!("tidemill_{metric}{{function=\"default/echo\"{comma}{label}}}");
                samples.get(&series).copied().unwrap_or(0.0) as u64
            };
            let finished = |result: &str| of("source_finished_records_total", &format!("result=\"{result}\""));
            prop_assert_eq!(of("source_consumed_records_total", ""), visible.finished());
            prop_assert_eq!(finished("ok"), visible.ok);
            prop_assert_eq!(finished("skipped"), visible.skipped);
            prop_assert_eq!(finished("filtered"), visible.filtered);
            prop_assert_eq!(finished("dead-lettered"), visible.dead[0] + visible.dead[1]);
            let dead = |reason: &str| of("dead_letter_written_records_total", &format!("reason=\"{reason}\""));
            prop_assert_eq!([dead("malformed"), dead("not-listed")], visible.dead);
            for (place, sink) in SPEC.sinks.iter().enumerate() {
                let label = format!("sink=\"{sink}\"");
                prop_assert_eq!(of("sink_emitted_records_total", &label), visible.emitted[place]);
                prop_assert_eq!(of("sink_emitted_bytes_total", &label), 10 * visible.emitted[place]);
            }
            for (place, word) in OUTCOMES.iter().enumerate() {
                prop_assert_eq!(of("handler_calls_total", &format!("outcome=\"{word}\"")), calls[place]);
            }
            prop_assert_eq!(of("handler_duration_seconds_count", ""), calls.iter().sum::<u64>());
        }
    }

    #[test]
    fn every_series_stands_at_zero_before_anything_happened() {
        let exposition = Exposition::new();
        Meter::new(&exposition, &SPEC);
        let samples = samples(&exposition.render(&Status::default()));
        let malformed =
            r#"tidemill_dead_letter_written_records_total{function="default/echo",reason="malformed"}"#;
        assert_eq!(samples.get(malformed), Some(&0.0), "an alert on growth needs the zero");
        assert_eq!(samples.get(r#"tidemill_worker_failures_total{function="default/echo"}"#), Some(&0.0));
    }

    #[test]
    fn an_abort_is_counted_and_its_calls_are_not_forgotten() {
        let mut meter = Meter::new(&Exposition::new(), &SPEC);
        meter.read(2, 200);
        meter.consumed();
        meter.called_many(CallOutcome::Ok, 3, TOOK);
        meter.called(CallOutcome::Retry, TOOK, TOOK);
        meter.ok();
        meter.drop_uncommitted(TOOK);
        let totals = meter.totals();
        assert_eq!((totals.consumed, totals.ok, totals.commits, totals.aborts), (0, 0, 0, 1));
        assert_eq!((totals.read, totals.read_bytes, totals.calls, totals.failed_calls), (2, 200, 4, 1));
    }

    #[test]
    fn cpu_time_counts_from_the_first_reading() {
        let mut meter = Meter::new(&Exposition::new(), &SPEC);
        for used_ms in [1000, 1250, 1240, 1340] {
            meter.cpu(Duration::from_millis(used_ms));
        }
        meter.publish();
        assert_eq!(meter.totals().cpu_ms, 350);
    }
}
