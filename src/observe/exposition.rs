//! What `/metrics` answers: every number of the process as a [`Snapshot`], and that as Prometheus' text.
//! Counters are counted through the `metrics` facade's handles; histograms and seconds are of its own (the
//! facade's counters are whole numbers), gauges are read from [`Status`].

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, CounterFn};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::histogram::{BOUNDS_NS, BUCKETS, SharedHistogram};
use super::metrics::Id;
use super::snapshot::{Number, Point, Snapshot, check_labels};
use super::status::Status;

/// All metrics of a process. Clones share everything.
#[derive(Clone)]
pub struct Exposition {
    shared: Arc<Shared>,
}

struct Shared {
    /// Of what other parts of the process count.
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    counts: Mutex<BTreeMap<Series, Arc<Count>>>,
    histograms: Mutex<BTreeMap<Series, Arc<SharedHistogram>>>,
    seconds: Mutex<BTreeMap<Series, Arc<Seconds>>>,
    levels: Mutex<BTreeMap<Series, Arc<Level>>>,
}

type Series = (Id, Vec<(&'static str, String)>);

/// A counter of whole numbers.
#[derive(Debug, Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

/// A counter of time, shown in seconds.
#[derive(Debug, Default)]
pub struct Seconds(AtomicU64);

impl Seconds {
    /// Adds `time`.
    pub fn add(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }
}

/// A gauge of whole numbers that is set, where nobody's report tells it.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    /// It stands at `value` now.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// The process has a recorder of metrics already.
#[derive(Debug, thiserror::Error)]
#[error("metrics are recorded elsewhere in this process already; install them once")]
pub struct AlreadyInstalled;

/// Makes the process's metrics and takes in what other parts count through the `metrics` facade;
/// once in a process.
pub fn install() -> Result<Exposition, AlreadyInstalled> {
    let exposition = Exposition::new();
    metrics::set_global_recorder(exposition.shared.recorder.clone()).map_err(|_| AlreadyInstalled)?;
    Ok(exposition)
}

impl Exposition {
    /// Metrics that belong to nobody's process: for tests, and for several engines in one process.
    pub fn new() -> Self {
        let recorder = Arc::new(PrometheusBuilder::new().build_recorder());
        let shared = Shared {
            handle: recorder.handle(),
            recorder,
            counts: Mutex::default(),
            histograms: Mutex::default(),
            seconds: Mutex::default(),
            levels: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The counter `id` with these labels, from 0 when it is new.
    pub fn counter(&self, id: Id, labels: &[(&'static str, &str)]) -> Counter {
        let mut all = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Counter::from_arc(all.entry(series(id, labels)).or_default().clone())
    }

    /// The histogram `id` with these labels.
    pub fn histogram(&self, id: Id, labels: &[(&'static str, &str)]) -> Arc<SharedHistogram> {
        let mut all = self.shared.histograms.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(series(id, labels)).or_insert_with(|| Arc::new(SharedHistogram::new())).clone()
    }

    /// The counter of time `id` with these labels.
    pub fn seconds(&self, id: Id, labels: &[(&'static str, &str)]) -> Arc<Seconds> {
        let mut all = self.shared.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(series(id, labels)).or_default().clone()
    }

    /// The gauge `id` with these labels, at 0 when it is new.
    pub fn level(&self, id: Id, labels: &[(&'static str, &str)]) -> Arc<Level> {
        let mut all = self.shared.levels.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(series(id, labels)).or_default().clone()
    }

    /// Takes the gauge `id` with these labels off: it is told here no more.
    pub fn forget_level(&self, id: Id, labels: &[(&'static str, &str)]) {
        let mut all = self.shared.levels.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&series(id, labels));
    }

    /// Every number of Tidemill's own as it stands now, gauges from `status`.
    pub fn snapshot(&self, status: &Status) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for ((id, labels), count) in self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            snapshot.put(*id, labels.clone(), Number::Whole(count.0.load(Ordering::Relaxed)));
        }
        for ((id, labels), histogram) in
            self.shared.histograms.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let (counts, sum_ns) = histogram.read();
            snapshot.put(*id, labels.clone(), Number::Histogram(Box::new(counts), sum_ns));
        }
        for ((id, labels), seconds) in
            self.shared.seconds.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let seconds = seconds.0.load(Ordering::Relaxed) as f64 / 1e9;
            snapshot.put(*id, labels.clone(), Number::Seconds(seconds));
        }
        for ((id, labels), level) in self.shared.levels.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            snapshot.put(*id, labels.clone(), Number::Whole(level.0.load(Ordering::Relaxed)));
        }
        snapshot.put_status(&status.functions());
        snapshot
    }

    /// Everything in Prometheus' text format 0.0.4, what others count first.
    pub fn render(&self, status: &Status) -> String {
        let mut text = Text { text: self.shared.handle.render() };
        for (id, points) in self.snapshot(status).families() {
            text.family(id, points);
        }
        text.text
    }
}

impl Default for Exposition {
    fn default() -> Self {
        Self::new()
    }
}

fn series(id: Id, labels: &[(&'static str, &str)]) -> Series {
    check_labels(id, labels.iter().map(|(name, _)| *name));
    (id, labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
}

struct Text {
    text: String,
}

impl Text {
    /// `# HELP`, `# TYPE` and the lines of a family, in one group as the format wants it.
    fn family(&mut self, id: Id, points: &[Point]) {
        let metric = id.metric();
        let (name, help, kind) = (metric.name, metric.help, metric.kind.as_str());
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for Point { labels, number } in points {
            let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            match number {
                Number::Whole(number) => self.line(name, "", &labels, number),
                Number::Seconds(number) => self.line(name, "", &labels, number),
                Number::Histogram(counts, sum_ns) => self.histogram(name, &labels, counts, *sum_ns),
            }
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[(&'static str, &str)],
        counts: &[u64; BUCKETS],
        sum_ns: u64,
    ) {
        let mut count = 0;
        for (bucket, counted) in counts.iter().enumerate() {
            count += counted;
            let bound =
                BOUNDS_NS.get(bucket).map_or_else(|| "+Inf".to_owned(), |ns| (*ns as f64 / 1e9).to_string());
            self.line(name, "_bucket", &[labels, &[("le", &bound)]].concat(), count);
        }
        self.line(name, "_sum", labels, sum_ns as f64 / 1e9);
        self.line(name, "_count", labels, count);
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &[(&'static str, &str)], value: impl Display) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        for (place, (label, value)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            self.put(format_args!("{before}{label}=\"{value}\""));
        }
        self.put(format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
    }

    fn put(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("a string takes everything");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::checker::samples;
    use super::super::histogram::Histogram;
    use super::super::meter::{CallOutcome, Meter, MeterSpec};
    use super::super::metrics::TABLE;
    use super::super::status::{FunctionInfo, LaneStatus};
    use super::*;

    fn lane(partition: i32, lag: Option<i64>) -> LaneStatus {
        LaneStatus {
            topic: "rides".to_owned(),
            partition,
            position: 10,
            committed: Some(7),
            lag,
            held: 0,
            state: "reading",
            restored: None,
        }
    }

    pub(crate) fn one_of_everything() -> (Exposition, Status) {
        let (exposition, status) = (Exposition::new(), Status::default());
        let spec =
            MeterSpec { function: "default/we\"ird\\na\nme", sinks: &["default"], reasons: &["rejected"] };
        let mut meter = Meter::new(&exposition, &spec);
        meter.called(CallOutcome::Ok, Duration::from_micros(7), Duration::from_nanos(1));
        meter.called(CallOutcome::Panic, Duration::from_secs(100), Duration::from_millis(3));
        meter.cpu(Duration::from_millis(500));
        meter.cpu(Duration::from_millis(1750));
        meter.restored(7, Duration::from_millis(250));
        meter.consumed();
        meter.dead_lettered("rejected");
        meter.fold(Duration::from_millis(12));
        for (name, lag) in [("default/echo", Some(3)), ("default/other", None)] {
            let function = status.register(FunctionInfo {
                name: name.to_owned(),
                group: name.to_owned(),
                guarantee: "exactlyOnce",
                stuck_after: Duration::from_secs(30),
            });
            for id in 0..2 {
                let mut worker = function.worker(id, Duration::ZERO);
                worker.report(Duration::ZERO, |worker| {
                    worker.lanes = vec![lane(0, lag), lane(1, lag)];
                    worker.last_cut_ms = Some(1_700_000_000_250);
                    worker.in_flight = 2;
                    worker.watermark_delay_ms = Some(1500 + u64::from(id));
                });
                std::mem::forget(worker);
            }
        }
        exposition.counter(Id::HandlerCounts, &[("function", "default/echo"), ("name", "seen")]).increment(1);
        exposition.counter(Id::WindowsPartlyLate, &[("function", "default/echo")]).increment(1);
        exposition.counter(Id::WindowsDropped, &[("function", "default/echo")]).increment(1);
        exposition.counter(Id::SourceMissedTicks, &[("function", "default/echo")]).increment(1);
        exposition.counter(Id::ProcessDroppedSpans, &[]).increment(1);
        let echo = [("function", "default/echo")];
        exposition.level(Id::ScaleDesired, &echo).set(3);
        exposition.level(Id::ScaleRunning, &echo).set(2);
        exposition.level(Id::ScaleLag, &echo).set(40);
        exposition.counter(Id::ScaleDecisions, &[echo[0], ("reason", "moreNeeded")]).increment(1);
        exposition.counter(Id::ScaleFailures, &echo).increment(1);
        exposition.counter(Id::ScaleDied, &echo).increment(1);
        exposition.level(Id::ScaleReplicas, &echo).set(2);
        exposition.level(Id::ScaleUnheld, &echo).set(1);
        let mut wakes = Histogram::new();
        wakes.record(Duration::from_millis(300));
        exposition.histogram(Id::ScaleWake, &[echo[0], ("tier", "zero")]).fold(&mut wakes);
        (exposition, status)
    }

    #[test]
    fn what_is_rendered_is_valid_and_holds_every_metric_of_the_table() {
        let (exposition, status) = one_of_everything();
        let text = exposition.render(&status);
        samples(&text);
        for metric in &TABLE {
            assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
            assert!(text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.as_str())));
        }
    }

    #[test]
    fn values_come_out_as_they_were_counted() {
        let (exposition, status) = one_of_everything();
        let samples = samples(&exposition.render(&status));
        let of = |series: &str| samples.get(series).copied();
        let weird = r#"function="default/we\"ird\\na\nme""#;
        assert_eq!(
            of(&format!("tidemill_handler_duration_seconds_bucket{{{weird},le=\"0.000005\"}}")),
            Some(0.0)
        );
        assert_eq!(
            of(&format!("tidemill_handler_duration_seconds_bucket{{{weird},le=\"0.00001\"}}")),
            Some(1.0)
        );
        assert_eq!(of(&format!("tidemill_handler_duration_seconds_bucket{{{weird},le=\"60\"}}")), Some(1.0));
        assert_eq!(of(&format!("tidemill_handler_duration_seconds_count{{{weird}}}")), Some(2.0));
        assert_eq!(of(&format!("tidemill_handler_duration_seconds_sum{{{weird}}}")), Some(100.000007));
        assert_eq!(of(&format!("tidemill_worker_cpu_seconds_total{{{weird}}}")), Some(1.25));
        assert_eq!(of(&format!("tidemill_handler_calls_total{{{weird},outcome=\"panic\"}}")), Some(1.0));
        assert_eq!(
            of(&format!("tidemill_dead_letter_written_records_total{{{weird},reason=\"rejected\"}}")),
            Some(1.0)
        );
        assert_eq!(of(r#"tidemill_scale_desired_workers{function="default/echo"}"#), Some(3.0));
        assert_eq!(of(r#"tidemill_source_in_flight_records{function="default/echo"}"#), Some(4.0));
        assert_eq!(
            of(r#"tidemill_cut_last_commit_timestamp_seconds{function="default/echo"}"#),
            Some(1_700_000_000.25)
        );
        assert_eq!(
            of(r#"tidemill_window_delay_seconds{function="default/echo"}"#),
            Some(1.501),
            "the greatest"
        );
        assert_eq!(of(&format!("tidemill_state_restored_entries_total{{{weird}}}")), Some(7.0));
        assert_eq!(of(&format!("tidemill_state_restore_duration_seconds_sum{{{weird}}}")), Some(0.25));
        assert_eq!(of(r#"tidemill_function_state{function="default/echo",state="starting"}"#), Some(1.0));
        assert_eq!(of(r#"tidemill_function_state{function="default/echo",state="running"}"#), Some(0.0));
    }

    #[test]
    fn a_partition_that_two_workers_report_is_one_series() {
        let (exposition, status) = one_of_everything();
        let samples = samples(&exposition.render(&status));
        let lag = |function: &str| {
            let series = format!(
                "tidemill_source_lag_records{{function=\"{function}\",topic=\"rides\",partition=\"1\"}}"
            );
            samples.get(&series).copied()
        };
        assert_eq!(lag("default/echo"), Some(3.0));
        assert_eq!(lag("default/other"), None, "an unknown lag is no lag of zero");
    }

    #[test]
    fn two_meters_of_a_function_add_up() {
        let (exposition, status) = (Exposition::new(), Status::default());
        let spec = MeterSpec { function: "default/echo", sinks: &[], reasons: &[] };
        for _ in 0..2 {
            let mut meter = Meter::new(&exposition, &spec);
            meter.called(CallOutcome::Ok, Duration::from_micros(1), Duration::ZERO);
            meter.publish();
        }
        let samples = samples(&exposition.render(&status));
        assert_eq!(samples[r#"tidemill_handler_calls_total{function="default/echo",outcome="ok"}"#], 2.0);
        assert_eq!(samples[r#"tidemill_handler_duration_seconds_count{function="default/echo"}"#], 2.0);
    }

    #[test]
    fn the_process_records_once_and_takes_in_what_others_count() {
        let exposition = install().expect("this is the only test that installs");
        assert!(install().is_err());
        metrics::counter!("somebody_elses_total").increment(2);
        assert!(exposition.render(&Status::default()).contains("somebody_elses_total 2\n"));
    }
}
