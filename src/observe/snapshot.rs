//! Every number of the process at one moment: what `/metrics` renders and what is pushed to a collector.

use std::collections::BTreeMap;

use super::histogram::BUCKETS;
use super::metrics::Id;
use super::status::{CIRCUIT_OPEN, FunctionStatus, LaneStatus, State, WorkerStatus};

/// Every number, family by family in the order of the table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    families: BTreeMap<Id, Vec<Point>>,
}

/// One series and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Its labels, in the table's order.
    pub labels: Vec<(&'static str, String)>,
    /// Its number.
    pub number: Number,
}

/// A number of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Number {
    /// A whole one.
    Whole(u64),
    /// Seconds.
    Seconds(f64),
    /// Counts by bucket (not cumulated), and the sum in nanoseconds.
    Histogram(Box<[u64; BUCKETS]>, u64),
}

impl Snapshot {
    /// Adds a series to its family.
    pub(super) fn put(&mut self, id: Id, labels: Vec<(&'static str, String)>, number: Number) {
        check_labels(id, labels.iter().map(|(name, _)| *name));
        self.families.entry(id).or_default().push(Point { labels, number });
    }

    /// The families that have a series.
    pub fn families(&self) -> impl Iterator<Item = (Id, &[Point])> {
        self.families.iter().map(|(id, points)| (*id, points.as_slice()))
    }

    /// Adds what is read from the functions' last reports.
    pub(super) fn put_status(&mut self, functions: &[FunctionStatus]) {
        for function in functions {
            let own = || vec![("function", function.name.clone())];
            let workers = &function.workers;
            let lanes = || workers.iter().flat_map(|worker| &worker.lanes);
            let in_flight = workers.iter().map(|worker| worker.in_flight).sum();
            self.put(Id::SourceInFlight, own(), Number::Whole(in_flight));
            let sum = |of: fn(&WorkerStatus) -> u64| Number::Whole(workers.iter().map(of).sum());
            self.put(Id::StateSize, own(), sum(|worker| worker.state_bytes));
            self.put(Id::StateKeys, own(), sum(|worker| worker.state_keys));
            if let Some(delay_ms) = workers.iter().filter_map(|worker| worker.watermark_delay_ms).max() {
                self.put(Id::WindowsDelay, own(), Number::Seconds(delay_ms as f64 / 1e3));
            }
            self.put_lanes(Id::SourceLag, function, |lane| lane.lag.map(|lag| lag as u64));
            self.put_lanes(Id::LaneHeld, function, |lane| Some(lane.held));
            let open = lanes().filter(|lane| lane.state == CIRCUIT_OPEN).count();
            self.put(Id::CircuitIsOpen, own(), Number::Whole(open as u64));
            if let Some(last_ms) = workers.iter().filter_map(|worker| worker.last_cut_ms).max() {
                self.put(Id::CutLast, own(), Number::Seconds(last_ms as f64 / 1e3));
            }
            self.put(Id::FunctionWorkers, own(), Number::Whole(workers.len() as u64));
            self.put(Id::FunctionLanes, own(), Number::Whole(lanes().count() as u64));
            for state in State::WORDS {
                let labels = [own(), vec![("state", state.to_owned())]].concat();
                let is = u64::from(function.state.as_str() == state);
                self.put(Id::FunctionState, labels, Number::Whole(is));
            }
        }
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        self.put(Id::ProcessInfo, version, Number::Whole(1));
    }

    /// A series for each lane of a function.
    fn put_lanes(&mut self, id: Id, function: &FunctionStatus, number: impl Fn(&LaneStatus) -> Option<u64>) {
        // While a partition moves, two workers may report it: a series that comes twice spoils the scrape.
        let mut numbers = BTreeMap::new();
        for lane in function.workers.iter().flat_map(|worker| &worker.lanes) {
            numbers.extend(number(lane).map(|number| ((lane.topic.as_str(), lane.partition), number)));
        }
        for ((topic, partition), number) in numbers {
            let (topic, partition) = (topic.to_owned(), partition.to_string());
            let labels =
                vec![("function", function.name.clone()), ("topic", topic), ("partition", partition)];
            self.put(id, labels, Number::Whole(number));
        }
    }
}

/// A series has the labels of its row, in that order.
pub(super) fn check_labels<'a>(id: Id, names: impl Iterator<Item = &'a str>) {
    debug_assert!(
        names.eq(id.metric().labels.iter().copied()),
        "{} has the labels {:?}",
        id.metric().name,
        id.metric().labels
    );
}
