//! What `/metrics` answers: counters of the `metrics` facade by the Prometheus exporter, histograms
//! and seconds of its own (the facade's counters are whole numbers), gauges read from [`Status`].

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::histogram::{BOUNDS_NS, SharedHistogram};
use super::metrics::{Id, Kind, TABLE, When};
use super::status::{CIRCUIT_OPEN, FunctionStatus, LaneStatus, State, Status};

/// All metrics of a process. Clones share everything.
#[derive(Clone)]
pub struct Exposition {
    shared: Arc<Shared>,
}

struct Shared {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    histograms: Mutex<BTreeMap<Series, Arc<SharedHistogram>>>,
    seconds: Mutex<BTreeMap<Series, Arc<Seconds>>>,
}

type Series = (Id, Vec<(&'static str, String)>);

/// A counter of time, shown in seconds.
#[derive(Debug, Default)]
pub struct Seconds(AtomicU64);

impl Seconds {
    /// Adds `time`.
    pub fn add(&self, time: Duration) {
        self.0.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
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
        for metric in TABLE.iter().filter(|metric| metric.kind == Kind::Counter && metric.when != When::Asked)
        {
            recorder.describe_counter(KeyName::from_const_str(metric.name), None, metric.help.into());
        }
        let handle = recorder.handle();
        let shared = Shared { recorder, handle, histograms: Mutex::default(), seconds: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The counter `id` with these labels, from 0 when it is new.
    pub fn counter(&self, id: Id, labels: &[(&'static str, &str)]) -> Counter {
        check_labels(id, labels);
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
        let key = Key::from_parts(id.metric().name, labels);
        self.shared.recorder.register_counter(&key, &Metadata::new(module_path!(), Level::INFO, None))
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

    /// Everything in Prometheus' text format 0.0.4, gauges from `status`.
    pub fn render(&self, status: &Status) -> String {
        let mut text = Text { text: self.shared.handle.render(), family: None };
        for ((id, labels), histogram) in
            self.shared.histograms.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            text.histogram(*id, labels, histogram);
        }
        for ((id, labels), seconds) in
            self.shared.seconds.lock().unwrap_or_else(PoisonError::into_inner).iter()
        {
            text.sample(*id, &borrowed(labels), seconds.0.load(Ordering::Relaxed) as f64 / 1e9);
        }
        gauges(&mut text, &status.functions());
        text.text
    }
}

impl Default for Exposition {
    fn default() -> Self {
        Self::new()
    }
}

fn series(id: Id, labels: &[(&'static str, &str)]) -> Series {
    check_labels(id, labels);
    (id, labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
}

fn check_labels(id: Id, labels: &[(&'static str, &str)]) {
    debug_assert!(
        labels.iter().map(|(name, _)| name).eq(id.metric().labels),
        "{} has the labels {:?}",
        id.metric().name,
        id.metric().labels
    );
}

fn borrowed<'a>(labels: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    labels.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// A sample for each lane of a function.
fn per_lane(text: &mut Text, id: Id, function: &FunctionStatus, number: impl Fn(&LaneStatus) -> Option<u64>) {
    // While a partition moves, two workers may report it: a series that comes twice spoils the scrape.
    let mut numbers = BTreeMap::new();
    for lane in function.workers.iter().flat_map(|worker| &worker.lanes) {
        numbers.extend(number(lane).map(|number| ((lane.topic.as_str(), lane.partition), number)));
    }
    for ((topic, partition), number) in numbers {
        let partition = partition.to_string();
        let labels = [("function", function.name.as_str()), ("topic", topic), ("partition", &partition)];
        text.sample(id, &labels, number);
    }
}

/// One family after the other, since the format wants a family's lines in one group.
fn gauges(text: &mut Text, functions: &[FunctionStatus]) {
    for function in functions {
        let in_flight: u64 = function.workers.iter().map(|worker| worker.in_flight).sum();
        text.sample(Id::SourceInFlight, &[("function", &function.name)], in_flight);
    }
    for function in functions {
        per_lane(text, Id::SourceLag, function, |lane| lane.lag.map(|lag| lag as u64));
    }
    for function in functions {
        per_lane(text, Id::LaneHeld, function, |lane| Some(lane.held));
    }
    for function in functions {
        let lanes = function.workers.iter().flat_map(|worker| &worker.lanes);
        let open = lanes.filter(|lane| lane.state == CIRCUIT_OPEN).count();
        text.sample(Id::CircuitIsOpen, &[("function", &function.name)], open);
    }
    for function in functions {
        if let Some(last_ms) = function.workers.iter().filter_map(|worker| worker.last_cut_ms).max() {
            text.sample(Id::CutLast, &[("function", &function.name)], last_ms as f64 / 1e3);
        }
    }
    for function in functions {
        text.sample(Id::FunctionWorkers, &[("function", &function.name)], function.workers.len());
    }
    for function in functions {
        let lanes: usize = function.workers.iter().map(|worker| worker.lanes.len()).sum();
        text.sample(Id::FunctionLanes, &[("function", &function.name)], lanes);
    }
    for function in functions {
        for state in State::WORDS {
            let is = u8::from(function.state.as_str() == state);
            text.sample(Id::FunctionState, &[("function", &function.name), ("state", state)], is);
        }
    }
    text.sample(Id::ProcessInfo, &[("version", env!("CARGO_PKG_VERSION"))], 1);
}

struct Text {
    text: String,
    family: Option<Id>,
}

impl Text {
    /// `# HELP` and `# TYPE`, before the first line of a family.
    fn head(&mut self, id: Id) {
        if self.family.replace(id) == Some(id) {
            return;
        }
        let metric = id.metric();
        let (name, help, kind) = (metric.name, metric.help, metric.kind.as_str());
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, id: Id, labels: &[(&'static str, &str)], value: impl Display) {
        check_labels(id, labels);
        self.head(id);
        self.line(id.metric().name, "", labels, value);
    }

    fn histogram(&mut self, id: Id, labels: &[(&'static str, String)], histogram: &SharedHistogram) {
        self.head(id);
        let (name, labels) = (id.metric().name, borrowed(labels));
        let (counts, sum_ns) = histogram.read();
        let mut count = 0;
        for (bucket, counted) in counts.into_iter().enumerate() {
            count += counted;
            let bound =
                BOUNDS_NS.get(bucket).map_or_else(|| "+Inf".to_owned(), |ns| (*ns as f64 / 1e9).to_string());
            self.line(name, "_bucket", &[&labels[..], &[("le", &bound)]].concat(), count);
        }
        self.line(name, "_sum", &labels, sum_ns as f64 / 1e9);
        self.line(name, "_count", &labels, count);
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
mod tests {
    use super::super::checker::samples;
    use super::super::meter::{CallOutcome, Meter, MeterSpec};
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
        }
    }

    fn one_of_everything() -> (Exposition, Status) {
        let (exposition, status) = (Exposition::new(), Status::default());
        let spec =
            MeterSpec { function: "default/we\"ird\\na\nme", sinks: &["default"], reasons: &["rejected"] };
        let mut meter = Meter::new(&exposition, &spec);
        meter.called(CallOutcome::Ok, Duration::from_micros(7), Duration::from_nanos(1));
        meter.called(CallOutcome::Panic, Duration::from_secs(100), Duration::from_millis(3));
        meter.cpu(Duration::from_millis(500));
        meter.cpu(Duration::from_millis(1750));
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
                });
                std::mem::forget(worker);
            }
        }
        exposition.counter(Id::HandlerCounts, &[("function", "default/echo"), ("name", "seen")]).increment(1);
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
        assert_eq!(of(r#"tidemill_source_in_flight_records{function="default/echo"}"#), Some(4.0));
        assert_eq!(
            of(r#"tidemill_cut_last_commit_timestamp_seconds{function="default/echo"}"#),
            Some(1_700_000_000.25)
        );
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
