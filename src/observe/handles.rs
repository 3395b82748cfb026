//! The process's side of a worker's [`super::Meter`]: handles that are looked up once, when the worker starts.

use std::sync::Arc;

use metrics::Counter;

use super::exposition::{Exposition, Seconds};
use super::histogram::SharedHistogram;
use super::meter::{Committed, Live, MeterSpec, OUTCOMES, REBALANCES};
use super::metrics::Id;

const RESULTS: [&str; 4] = ["ok", "skipped", "filtered", "dead-lettered"];

/// The process's counters, looked up once.
pub(super) struct Handles {
    consumed: Counter,
    finished: [Counter; RESULTS.len()],
    emitted: Vec<(Counter, Counter)>,
    unrouted: Counter,
    calls: [Counter; OUTCOMES.len()],
    read: (Counter, Counter),
    lost_offsets: Counter,
    overruns: Counter,
    circuits_opened: Counter,
    pauses: Counter,
    commits: Counter,
    aborts: Counter,
    rebalances: [Counter; REBALANCES.len()],
    failures: Counter,
    duration: Arc<SharedHistogram>,
    queue_wait: Arc<SharedHistogram>,
    cut_duration: Arc<SharedHistogram>,
    restored_entries: Counter,
    restore_duration: Arc<SharedHistogram>,
    cpu: Arc<Seconds>,
}

impl Handles {
    pub(super) fn new(exposition: &Exposition, spec: &MeterSpec<'_>) -> Self {
        let function = [("function", spec.function)];
        let plain = |id| exposition.counter(id, &function);
        let word =
            |id, label, word: &str| exposition.counter(id, &[("function", spec.function), (label, word)]);
        let sink =
            |sink: &&str| (word(Id::SinkEmitted, "sink", sink), word(Id::SinkEmittedBytes, "sink", sink));
        Self {
            consumed: plain(Id::SourceConsumed),
            finished: RESULTS.map(|result| word(Id::SourceFinished, "result", result)),
            emitted: spec.sinks.iter().map(sink).collect(),
            unrouted: plain(Id::SinkUnrouted),
            calls: OUTCOMES.map(|outcome| word(Id::HandlerCalls, "outcome", outcome)),
            read: (plain(Id::SourceRead), plain(Id::SourceReadBytes)),
            lost_offsets: plain(Id::SourceLost),
            overruns: plain(Id::HandlerOverruns),
            circuits_opened: plain(Id::CircuitOpened),
            pauses: plain(Id::LanePauses),
            commits: plain(Id::CutCommits),
            aborts: plain(Id::CutAborts),
            rebalances: REBALANCES.map(|kind| word(Id::WorkerRebalances, "kind", kind)),
            failures: plain(Id::WorkerFailures),
            duration: exposition.histogram(Id::HandlerDuration, &function),
            queue_wait: exposition.histogram(Id::HandlerQueueWait, &function),
            cut_duration: exposition.histogram(Id::CutDuration, &function),
            restored_entries: plain(Id::StateRestored),
            restore_duration: exposition.histogram(Id::StateRestoreDuration, &function),
            cpu: exposition.seconds(Id::WorkerCpu, &function),
        }
    }

    /// Publishes what a committed cut made visible.
    pub(super) fn commit(&self, committed: &Committed) {
        self.consumed.increment(committed.finished());
        let dead_letters = committed.dead_records();
        let results = [committed.ok, committed.skipped, committed.filtered, dead_letters];
        increment(&self.finished, results);
        committed.dead_letters.publish();
        for ((records, bytes), volume) in self.emitted.iter().zip(&committed.emitted) {
            records.increment(volume.records);
            bytes.increment(volume.bytes);
        }
        self.unrouted.increment(committed.unrouted);
    }

    /// Publishes and empties what happened.
    pub(super) fn publish(&self, live: &mut Live) {
        increment(&self.calls, std::mem::take(&mut live.calls));
        increment(&self.rebalances, std::mem::take(&mut live.rebalances));
        live.errors.publish();
        live.errors.clear();
        let read = std::mem::take(&mut live.read);
        self.read.0.increment(read.records);
        self.read.1.increment(read.bytes);
        self.lost_offsets.increment(std::mem::take(&mut live.lost_offsets));
        self.overruns.increment(std::mem::take(&mut live.overruns));
        self.circuits_opened.increment(std::mem::take(&mut live.circuits_opened));
        self.pauses.increment(std::mem::take(&mut live.pauses));
        self.commits.increment(std::mem::take(&mut live.commits));
        self.aborts.increment(std::mem::take(&mut live.aborts));
        self.failures.increment(std::mem::take(&mut live.failures));
        self.duration.fold(&mut live.duration);
        self.queue_wait.fold(&mut live.queue_wait);
        self.cut_duration.fold(&mut live.cut_duration);
        self.restored_entries.increment(std::mem::take(&mut live.restored_entries));
        self.restore_duration.fold(&mut live.restore_duration);
        self.cpu.add(std::mem::take(&mut live.cpu));
    }
}

fn increment<const N: usize>(counters: &[Counter; N], counted: [u64; N]) {
    for (counter, counted) in counters.iter().zip(counted) {
        counter.increment(counted);
    }
}
