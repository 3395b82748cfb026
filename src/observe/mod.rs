//! How the process is seen from outside: the table of metrics, what workers count and report, logs.
//!
//! A worker's thread owns a [`Meter`] and a [`WorkerReport`]. It counts in plain numbers; a committed
//! cut publishes them to the [`Exposition`], an aborted one drops them. What happens now and then is an
//! [`events`] type that makes log line and count together. The [`Status`] holds the last report of each worker.
//! A sampled event leaves a span ([`trace`]); [`otlp`] encodes spans and numbers. Nothing here knows Kafka or HTTP: the
//! admin server that shows it all and the exporter that sends it belong to the runtime.

#[cfg(test)]
pub(crate) mod checker;
mod cpu;
pub mod events;
mod exposition;
mod handles;
mod histogram;
pub mod log;
mod meter;
pub mod metrics;
pub mod otlp;
mod snapshot;
mod status;
mod totals;
pub mod trace;
mod words;

pub use cpu::thread_cpu;
pub use exposition::{AlreadyInstalled, Exposition, Level, Seconds, install};
pub use histogram::{BOUNDS_NS, BUCKETS, Histogram, SharedHistogram};
pub use meter::{CLASSES, CallOutcome, Meter, MeterSpec, Rebalance};
pub use snapshot::{Number, Point, Snapshot};
pub use status::{
    CIRCUIT_OPEN, ErrorNote, FunctionInfo, FunctionReport, FunctionStatus, HandlerInfo, LaneStatus, Phase,
    Problems, REPORT_EVERY, RESTORING, Silence, State, Status, WorkerReport, WorkerStatus,
};
pub use totals::Totals;
