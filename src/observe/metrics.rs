//! Every metric that Tidemill has, in one table: name, kind, unit, labels, help. Handles are made from
//! it, `# HELP` lines and `deploy/metrics.md` are written from it.
//!
//! A name is `tidemill_<area>_<what>_<unit>[_total]`. Labels name functions, sinks, topics and
//! partitions, or a word from a short list; never keys, offsets or anything of a payload.

use std::fmt::Write;

/// What kind of number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of durations by size, [`super::BOUNDS_NS`] being the bounds.
    Histogram,
}

impl Kind {
    /// Prometheus' word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// When a number moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When a cut commits, and never for work that was aborted: these agree with what is in the topics.
    Committed,
    /// When it happens, work included that is aborted and done again later.
    Live,
    /// Read from the workers' last report when somebody asks.
    Asked,
}

impl When {
    fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Live => "live",
            Self::Asked => "asked",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Which one it is.
    pub id: Id,
    /// The full name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What is counted or measured.
    pub unit: &'static str,
    /// When it moves.
    pub when: When,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence for people.
    pub help: &'static str,
}

/// A metric, by the place of its row in [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each row's help says what it is")]
pub enum Id {
    SourceConsumed,
    SourceFinished,
    SourceRead,
    SourceReadBytes,
    SourceLost,
    SourceMissedTicks,
    SourceInFlight,
    SourceLag,
    LaneHeld,
    LanePauses,
    CircuitIsOpen,
    CircuitOpened,
    HandlerCalls,
    HandlerErrors,
    HandlerOverruns,
    HandlerDuration,
    HandlerQueueWait,
    HandlerCounts,
    WindowsPartlyLate,
    WindowsDropped,
    WindowsDelay,
    StateSize,
    StateKeys,
    StateRestored,
    StateRestoreDuration,
    DeadLetters,
    SinkEmitted,
    SinkEmittedBytes,
    SinkUnrouted,
    CutCommits,
    CutAborts,
    CutDuration,
    CutLast,
    WorkerRebalances,
    WorkerCpu,
    WorkerFailures,
    FunctionWorkers,
    FunctionLanes,
    FunctionState,
    ScaleDesired,
    ScaleRunning,
    ScaleLag,
    ScaleDecisions,
    ScaleFailures,
    ScaleDied,
    ScaleReplicas,
    ScaleUnheld,
    ScaleWake,
    ProcessInfo,
    ProcessDroppedSpans,
}

impl Id {
    /// Its row.
    pub fn metric(self) -> &'static Metric {
        &TABLE[self as usize]
    }
}

const FUNCTION: &[&str] = &["function"];

/// The table.
pub const TABLE: [Metric; 50] = [
    Metric {
        id: Id::SourceConsumed,
        name: "tidemill_source_consumed_records_total",
        kind: Kind::Counter,
        unit: "records",
        when: When::Committed,
        labels: FUNCTION,
        help: "Records taken from the sources and finished; equals the sum of finished records over all results.",
    },
    Metric {
        id: Id::SourceFinished,
        name: "tidemill_source_finished_records_total",
        kind: Kind::Counter,
        unit: "records",
        when: When::Committed,
        labels: &["function", "result"],
        help: "Finished records by result: ok, skipped (by the handler), filtered, dead-lettered.",
    },
    Metric {
        id: Id::SourceRead,
        name: "tidemill_source_read_records_total",
        kind: Kind::Counter,
        unit: "records",
        when: When::Live,
        labels: FUNCTION,
        help: "Records read from the sources, those included that are read again after an abort.",
    },
    Metric {
        id: Id::SourceReadBytes,
        name: "tidemill_source_read_bytes_total",
        kind: Kind::Counter,
        unit: "bytes",
        when: When::Live,
        labels: FUNCTION,
        help: "Bytes of keys and values read from the sources.",
    },
    Metric {
        id: Id::SourceLost,
        name: "tidemill_source_lost_offsets_total",
        kind: Kind::Counter,
        unit: "offsets",
        when: When::Live,
        labels: FUNCTION,
        help: "Offsets that the broker had deleted before they were read.",
    },
    Metric {
        id: Id::SourceMissedTicks,
        name: "tidemill_source_missed_ticks_total",
        kind: Kind::Counter,
        unit: "ticks",
        when: When::Committed,
        labels: FUNCTION,
        help: "Ticks of a clock without an event of their own, because nobody was there to make them.",
    },
    Metric {
        id: Id::SourceInFlight,
        name: "tidemill_source_in_flight_records",
        kind: Kind::Gauge,
        unit: "records",
        when: When::Asked,
        labels: FUNCTION,
        help: "Records taken from the sources that are not finished yet.",
    },
    Metric {
        id: Id::SourceLag,
        name: "tidemill_source_lag_records",
        kind: Kind::Gauge,
        unit: "records",
        when: When::Asked,
        labels: &["function", "topic", "partition"],
        help: "End offset minus committed offset of a partition that this process works on; an upper bound.",
    },
    Metric {
        id: Id::LaneHeld,
        name: "tidemill_lane_held_events",
        kind: Kind::Gauge,
        unit: "events",
        when: When::Asked,
        labels: &["function", "topic", "partition"],
        help: "Events of a partition that wait in memory: for their next attempt, or behind one that does.",
    },
    Metric {
        id: Id::LanePauses,
        name: "tidemill_lane_pauses_total",
        kind: Kind::Counter,
        unit: "pauses",
        when: When::Live,
        labels: FUNCTION,
        help: "Times that a partition was not read on because as many events waited as may.",
    },
    Metric {
        id: Id::CircuitIsOpen,
        name: "tidemill_lane_open_circuits",
        kind: Kind::Gauge,
        unit: "circuits",
        when: When::Asked,
        labels: FUNCTION,
        help: "Partitions whose circuit is open now: calls failed for one key after the other, and only probes are made.",
    },
    Metric {
        id: Id::CircuitOpened,
        name: "tidemill_lane_circuit_openings_total",
        kind: Kind::Counter,
        unit: "openings",
        when: When::Live,
        labels: FUNCTION,
        help: "Times that a partition's circuit opened.",
    },
    Metric {
        id: Id::HandlerCalls,
        name: "tidemill_handler_calls_total",
        kind: Kind::Counter,
        unit: "calls",
        when: When::Live,
        labels: &["function", "outcome"],
        help: "Calls of the handler by outcome: ok, skip, retry, reject, panic.",
    },
    Metric {
        id: Id::HandlerErrors,
        name: "tidemill_handler_errors_total",
        kind: Kind::Counter,
        unit: "errors",
        when: When::Live,
        labels: &["function", "class"],
        help: "Errors by class: transient (tried again), poison (dead letter), fatal (the worker stops).",
    },
    Metric {
        id: Id::HandlerOverruns,
        name: "tidemill_handler_overruns_total",
        kind: Kind::Counter,
        unit: "overruns",
        when: When::Live,
        labels: FUNCTION,
        help: "Calls that took longer than the function's timeout; what they came to counts all the same.",
    },
    Metric {
        id: Id::HandlerDuration,
        name: "tidemill_handler_duration_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        when: When::Live,
        labels: FUNCTION,
        help: "Time that a call of the handler took.",
    },
    Metric {
        id: Id::HandlerQueueWait,
        name: "tidemill_handler_queue_wait_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        when: When::Live,
        labels: FUNCTION,
        help: "Time between taking a record from the consumer's queue and the call of the handler.",
    },
    Metric {
        id: Id::HandlerCounts,
        name: "tidemill_handler_counts_total",
        kind: Kind::Counter,
        unit: "counts",
        when: When::Live,
        labels: &["function", "name"],
        help: "What the handler counts itself, by the name that its author gives.",
    },
    Metric {
        id: Id::WindowsPartlyLate,
        name: "tidemill_window_partly_late_events_total",
        kind: Kind::Counter,
        unit: "events",
        when: When::Live,
        labels: FUNCTION,
        help: "How often events came too late for one of their windows and in time for another.",
    },
    Metric {
        id: Id::WindowsDropped,
        name: "tidemill_window_dropped_windows_total",
        kind: Kind::Counter,
        unit: "windows",
        when: When::Live,
        labels: FUNCTION,
        help: "Stitches that ended unfinished and were forgotten, as `onTimeout: drop` says.",
    },
    Metric {
        id: Id::WindowsDelay,
        name: "tidemill_window_delay_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        when: When::Asked,
        labels: FUNCTION,
        help: "How far event time is behind the clock in the partition in which it is furthest behind; it also grows while nothing comes, absent before the first event.",
    },
    Metric {
        id: Id::StateSize,
        name: "tidemill_state_size_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        when: When::Asked,
        labels: FUNCTION,
        help: "What open windows take about in memory.",
    },
    Metric {
        id: Id::StateKeys,
        name: "tidemill_state_open_keys",
        kind: Kind::Gauge,
        unit: "keys",
        when: When::Asked,
        labels: FUNCTION,
        help: "Keys with an open window.",
    },
    Metric {
        id: Id::StateRestored,
        name: "tidemill_state_restored_entries_total",
        kind: Kind::Counter,
        unit: "entries",
        when: When::Live,
        labels: FUNCTION,
        help: "Entries of the state topic that were read for partitions which arrived.",
    },
    Metric {
        id: Id::StateRestoreDuration,
        name: "tidemill_state_restore_duration_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        when: When::Live,
        labels: FUNCTION,
        help: "Time that it took to read the state of partitions which arrived together.",
    },
    Metric {
        id: Id::DeadLetters,
        name: "tidemill_dead_letter_written_records_total",
        kind: Kind::Counter,
        unit: "records",
        when: When::Committed,
        labels: &["function", "reason"],
        help: "Records written to the dead-letter topic by reason, the word in their tidemill-reason header.",
    },
    Metric {
        id: Id::SinkEmitted,
        name: "tidemill_sink_emitted_records_total",
        kind: Kind::Counter,
        unit: "records",
        when: When::Committed,
        labels: &["function", "sink"],
        help: "Records written to a sink.",
    },
    Metric {
        id: Id::SinkEmittedBytes,
        name: "tidemill_sink_emitted_bytes_total",
        kind: Kind::Counter,
        unit: "bytes",
        when: When::Committed,
        labels: &["function", "sink"],
        help: "Bytes of keys and values written to a sink.",
    },
    Metric {
        id: Id::SinkUnrouted,
        name: "tidemill_sink_unrouted_records_total",
        kind: Kind::Counter,
        unit: "records",
        when: When::Committed,
        labels: FUNCTION,
        help: "Outputs that no sink's filters took.",
    },
    Metric {
        id: Id::CutCommits,
        name: "tidemill_cut_commits_total",
        kind: Kind::Counter,
        unit: "commits",
        when: When::Live,
        labels: FUNCTION,
        help: "Cuts that committed: outputs and offsets became visible together.",
    },
    Metric {
        id: Id::CutAborts,
        name: "tidemill_cut_aborts_total",
        kind: Kind::Counter,
        unit: "aborts",
        when: When::Live,
        labels: FUNCTION,
        help: "Cuts that were aborted; their records are read again.",
    },
    Metric {
        id: Id::CutDuration,
        name: "tidemill_cut_duration_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        when: When::Live,
        labels: FUNCTION,
        help: "Time that a cut took, committed or aborted.",
    },
    Metric {
        id: Id::CutLast,
        name: "tidemill_cut_last_commit_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        when: When::Asked,
        labels: FUNCTION,
        help: "Wall-clock time of the newest committed cut, seconds since the epoch; absent before the first.",
    },
    Metric {
        id: Id::WorkerRebalances,
        name: "tidemill_worker_rebalances_total",
        kind: Kind::Counter,
        unit: "rebalances",
        when: When::Live,
        labels: &["function", "kind"],
        help: "Changes of a worker's assignment by kind: assigned, revoked, lost.",
    },
    Metric {
        id: Id::WorkerCpu,
        name: "tidemill_worker_cpu_seconds_total",
        kind: Kind::Counter,
        unit: "seconds",
        when: When::Live,
        labels: FUNCTION,
        help: "CPU time of the workers' own threads, the handler's inline calls included, Kafka's client threads not.",
    },
    Metric {
        id: Id::WorkerFailures,
        name: "tidemill_worker_failures_total",
        kind: Kind::Counter,
        unit: "failures",
        when: When::Live,
        labels: FUNCTION,
        help: "Workers that stopped because of an error.",
    },
    Metric {
        id: Id::FunctionWorkers,
        name: "tidemill_function_workers",
        kind: Kind::Gauge,
        unit: "workers",
        when: When::Asked,
        labels: FUNCTION,
        help: "Workers of the function that live in this process.",
    },
    Metric {
        id: Id::FunctionLanes,
        name: "tidemill_function_lanes",
        kind: Kind::Gauge,
        unit: "lanes",
        when: When::Asked,
        labels: FUNCTION,
        help: "Partitions assigned to the function's workers in this process.",
    },
    Metric {
        id: Id::FunctionState,
        name: "tidemill_function_state",
        kind: Kind::Gauge,
        unit: "state",
        when: When::Asked,
        labels: &["function", "state"],
        help: "1 for the state that the function is in, 0 for the others: starting, waiting, running, paused, parked, asleep, stopping, stopped.",
    },
    Metric {
        id: Id::ScaleDesired,
        name: "tidemill_scale_desired_workers",
        kind: Kind::Gauge,
        unit: "workers",
        when: When::Live,
        labels: FUNCTION,
        help: "Workers that a function should have by the last decision; told by who decides: `autoscale`, or the process that has the first partition.",
    },
    Metric {
        id: Id::ScaleRunning,
        name: "tidemill_scale_running_workers",
        kind: Kind::Gauge,
        unit: "workers",
        when: When::Live,
        labels: FUNCTION,
        help: "Members of the function's group when it was last decided, told by who decides.",
    },
    Metric {
        id: Id::ScaleLag,
        name: "tidemill_scale_lag_records",
        kind: Kind::Gauge,
        unit: "records",
        when: When::Live,
        labels: FUNCTION,
        help: "Records that are to be handled, an upper bound, told by who decides how many workers there should be.",
    },
    Metric {
        id: Id::ScaleDecisions,
        name: "tidemill_scale_decisions_total",
        kind: Kind::Counter,
        unit: "decisions",
        when: When::Live,
        labels: &["function", "reason"],
        help: "Decisions how many workers there should be, one a second, by reason.",
    },
    Metric {
        id: Id::ScaleFailures,
        name: "tidemill_scale_failed_samples_total",
        kind: Kind::Counter,
        unit: "samples",
        when: When::Live,
        labels: FUNCTION,
        help: "Looks at the cluster that failed: the last decision holds on.",
    },
    Metric {
        id: Id::ScaleDied,
        name: "tidemill_scale_died_processes_total",
        kind: Kind::Counter,
        unit: "processes",
        when: When::Live,
        labels: FUNCTION,
        help: "Processes of `autoscale --target process` that ended without being told to.",
    },
    Metric {
        id: Id::ScaleReplicas,
        name: "tidemill_scale_deployment_replicas",
        kind: Kind::Gauge,
        unit: "replicas",
        when: When::Live,
        labels: FUNCTION,
        help: "Replicas of the function's Deployment when `autoscale --target kubernetes` last saw or set them.",
    },
    Metric {
        id: Id::ScaleUnheld,
        name: "tidemill_scale_unheld_deployments",
        kind: Kind::Gauge,
        unit: "deployments",
        when: When::Live,
        labels: FUNCTION,
        help: "1 while `autoscale --target kubernetes` does not hold the function's Deployment, else 0; `/scale` says why.",
    },
    Metric {
        id: Id::ScaleWake,
        name: "tidemill_scale_wake_duration_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        when: When::Live,
        labels: &["function", "tier"],
        help: "Time from what woke a function without workers until one had its partitions, by how deep it slept: zero (its process was there), off (none was).",
    },
    Metric {
        id: Id::ProcessInfo,
        name: "tidemill_process_info",
        kind: Kind::Gauge,
        unit: "info",
        when: When::Asked,
        labels: &["version"],
        help: "Always 1; the label says which version runs.",
    },
    Metric {
        id: Id::ProcessDroppedSpans,
        name: "tidemill_process_dropped_spans_total",
        kind: Kind::Counter,
        unit: "spans",
        when: When::Live,
        labels: &[],
        help: "Spans that were not exported: too many waited, or the collector did not take them; absent without traces.",
    },
];

const _: () = {
    let mut row = 0;
    while row < TABLE.len() {
        assert!(TABLE[row].id as usize == row, "rows stand in the order of `Id`");
        row += 1;
    }
};

/// The table as Markdown: what stands in `deploy/metrics.md`.
pub fn reference() -> String {
    let mut text = String::from(REFERENCE_HEAD);
    for metric in &TABLE {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let Metric { name, kind, unit, when, help, .. } = metric;
        let (kind, when) = (kind.as_str(), when.as_str());
        writeln!(text, "| `{name}` | {kind} | {unit} | {when} | {labels} | {help} |")
            .expect("a string takes everything");
    }
    text
}

const REFERENCE_HEAD: &str = "\
# Metrics

Written by `observe::metrics::reference`; a test holds this file equal to the code.

**When** a number moves: `committed` with a committed cut only, so these agree with what is in the topics and
consumed = ok + skipped + filtered + dead-lettered holds exactly; `live` as it happens, work included that is
aborted and done again; `asked` is read from the workers' last report (at most a quarter of a second old) when
`/metrics` is asked for. `function` is `<namespace>/<name>`. Histograms have bounds 1, 2, 5 × 10ⁿ from 1 µs to 60 s.

| name | kind | unit | when | labels | what |
|---|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_follows_the_pattern() {
        const AREAS: [&str; 12] = [
            "source",
            "lane",
            "handler",
            "window",
            "state",
            "dead_letter",
            "sink",
            "cut",
            "worker",
            "function",
            "scale",
            "process",
        ];
        for metric in &TABLE {
            let rest = metric.name.strip_prefix("tidemill_").expect(metric.name);
            assert!(AREAS.iter().any(|area| rest.starts_with(&format!("{area}_"))), "{rest}");
            let ending = match metric.kind {
                Kind::Counter => format!("_{}_total", metric.unit),
                Kind::Gauge | Kind::Histogram => format!("_{}", metric.unit),
            };
            assert!(metric.name.ends_with(&ending), "{} must end with {ending}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(TABLE.iter().filter(|other| other.name == metric.name).count() == 1);
        }
    }

    #[test]
    fn no_label_carries_keys_offsets_or_payloads() {
        const ALLOWED: [&str; 12] = [
            "function",
            // A word in the author's code.
            "name",
            "sink",
            "topic",
            "partition",
            "outcome",
            "result",
            "class",
            "reason",
            "kind",
            "state",
            "tier",
        ];
        for label in TABLE.iter().flat_map(|metric| metric.labels) {
            assert!(ALLOWED.contains(label) || *label == "version", "{label}");
        }
    }

    #[test]
    fn the_reference_in_deploy_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/metrics.md");
        if std::env::var_os("TIDEMILL_WRITE_REFERENCE").is_some() {
            std::fs::write(path, reference()).expect("deploy/ can be written");
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            stored == reference(),
            "deploy/metrics.md is old: run this test with TIDEMILL_WRITE_REFERENCE=1 and commit the file"
        );
    }
}
