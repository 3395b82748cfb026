//! One member of a function's consumer group: an OS thread that owns everything it touches, one
//! consumer, one producer, its lanes, one instance of the handler.
//!
//! The loop is: hear the group, read a batch, run it through the pipeline, cut. A **cut** makes outputs,
//! dead letters and offsets visible together. Whatever goes wrong between two cuts is undone by one
//! way, `recover`: abort, fetch what is committed, rewind every lane to it, go on.

mod config;
mod contact;
mod cut;
mod error;
mod group;
mod lanes;
mod output;
mod pace;
mod recover;
mod start;
mod suspects;
mod tap;
mod work;

use std::sync::Arc;
use std::time::Duration;

pub use config::{CLIENT_ID_PREFIX, Config};
pub use error::Stopped;
pub use lanes::{Lane, Lanes};
pub use tap::{Settlement, Tap};

use crate::kafka::{Consumer, ConsumerConfig, Partition};
use crate::model::{DeadLetterReason, Moment};
use crate::observe::events::{WorkerStarted, WorkerStopped};
use crate::observe::metrics::Id;
use crate::observe::{LaneStatus, Meter, MeterSpec, Phase, WorkerReport, thread_cpu};
use crate::pipeline::{Handler, Pipeline};
use contact::Contact;
use output::Outputs;
use pace::{CutPace, Dice, Stride};
use suspects::Suspects;
use work::Held;

/// How long a worker waits for records before it looks at everything else again.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// The longest wait for one answer of the brokers, so that the group is heard in between.
const ASK_WAIT: Duration = Duration::from_secs(1);

/// What the runtime gives a worker besides its configuration.
pub trait Supervision: Send {
    /// Stop: finish what is begun, cut, leave the group.
    fn is_stopping(&self) -> bool;
    /// Waits so long, or until told to stop; whether it was.
    fn pause(&self, time: Duration) -> bool;
    /// A newer handler, if there is one since the last call; asked between two cuts.
    fn newer_handler(&mut self) -> Option<Box<dyn Handler>>;
}

/// What a worker is built of, besides its configuration.
pub struct Parts {
    /// The function, compiled.
    pub pipeline: Pipeline,
    /// Who tells it to stop.
    pub supervision: Box<dyn Supervision>,
    /// Where it reports what it does.
    pub report: WorkerReport,
    /// Sees what happens, in `dev`.
    pub tap: Option<Box<dyn Tap>>,
}

/// One worker.
pub struct Worker {
    config: Config,
    supervision: Box<dyn Supervision>,
    tap: Option<Box<dyn Tap>>,
    consumer: Consumer,
    outputs: Outputs,
    pipeline: Pipeline,
    lanes: Lanes,
    /// Given by the group, waiting for their committed offsets.
    arriving: Vec<Partition>,
    /// Events of the group that were answered.
    heard: u64,
    /// When the group is asked for them next, on the clock's monotonic time.
    ask_at: Duration,
    /// The event at the head of the batch waits for its next attempt.
    held: Option<Held>,
    /// Set when work since the last cut was undone and lanes are not rewound yet.
    recovery: Option<recover::Recovery>,
    contact: Contact,
    suspects: Suspects,
    /// The event at the head runs alone: cut before and after it.
    is_alone: bool,
    /// A cut is due, whatever the time.
    must_cut: bool,
    stride: Stride,
    /// When the batch at hand was read.
    read_at: Duration,
    pace: CutPace,
    meter: Meter,
    report: WorkerReport,
    /// The group has given an assignment, be it an empty one.
    is_assigned: bool,
    last_cut_ms: Option<i64>,
    dice: Dice,
}

impl Worker {
    /// Connects and joins the group. Waits for the brokers, visibly, until told to stop.
    pub fn start(config: Config, parts: Parts) -> Result<Option<Self>, Stopped> {
        let Parts { pipeline, supervision, report, tap } = parts;
        let function = Arc::clone(&config.function);
        let consumer = Consumer::new(&ConsumerConfig {
            cluster: &config.cluster,
            group: &function.group,
            client_id: &config.client_id(),
            longest_silence: config.transaction_timeout() * 2,
            settings: &function.kafka.consumer,
        })?;
        let Some(outputs) = Outputs::open(&config, supervision.as_ref())? else {
            return Ok(None);
        };
        let topics: Vec<&str> = function.sources.iter().map(|source| source.topic.as_str()).collect();
        consumer.subscribe(&topics)?;
        let now = config.clock.now();
        Ok(Some(Self {
            supervision,
            tap,
            consumer,
            outputs,
            pipeline,
            lanes: Lanes::default(),
            arriving: Vec::new(),
            heard: 0,
            ask_at: Duration::ZERO,
            held: None,
            recovery: None,
            contact: Contact::default(),
            suspects: Suspects::default(),
            is_alone: false,
            must_cut: false,
            stride: Stride::new(),
            read_at: now.elapsed,
            pace: CutPace::new(function.delivery.commit_interval, now.elapsed),
            meter: Meter::new(
                &config.exposition,
                &MeterSpec {
                    function: &function.name.to_string(),
                    sinks: &function.sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>(),
                    reasons: &DeadLetterReason::ALL.map(DeadLetterReason::as_str),
                },
            ),
            report,
            is_assigned: false,
            last_cut_ms: None,
            dice: Dice::new(now.wall_ms as u64),
            config,
        }))
    }

    /// Runs until told to stop, or until something only a person can mend.
    pub fn run(mut self) -> Result<(), Stopped> {
        WorkerStarted.emit(&mut self.meter);
        let result = self.turn();
        self.leave(result)
    }

    fn turn(&mut self) -> Result<(), Stopped> {
        loop {
            self.hear()?;
            self.report();
            if self.supervision.is_stopping() {
                return Ok(());
            }
            if !self.arriving.is_empty() {
                self.take_over()?;
            }
            if self.recovery.is_some() {
                self.recover()?;
                continue;
            }
            self.check_contact();
            let now = self.now();
            if let Some(held) = &self.held {
                if now.elapsed < held.until {
                    self.hear_for((held.until - now.elapsed).min(IDLE_WAIT))?;
                    continue;
                }
                self.held = None;
            }
            if !self.is_dirty() {
                self.swap();
            }
            self.read();
            self.work()?;
            self.cut_if_due()?;
        }
    }

    /// Fills the batch; waits no longer than until the next cut is due.
    fn read(&mut self) {
        if self.consumer.at_hand() > 0 {
            return;
        }
        if self.consumer.fill(Duration::ZERO) == 0 {
            let wait = if self.is_dirty() {
                self.pace.wait(self.now().elapsed, self.is_drained()).min(IDLE_WAIT)
            } else {
                IDLE_WAIT
            };
            if !wait.is_zero() {
                self.consumer.fill(wait);
            }
        }
        self.read_at = self.now().elapsed;
    }

    fn cut_if_due(&mut self) -> Result<(), Stopped> {
        if self.recovery.is_some() || !self.is_dirty() {
            self.must_cut = false;
            return Ok(());
        }
        let wait = self.pace.wait(self.now().elapsed, self.is_drained());
        if wait.is_zero() || self.must_cut || self.outputs.is_full() {
            self.cut()?;
        }
        Ok(())
    }

    /// Nothing is left to read, as far as the last fetch told. An empty queue alone does not say so: under
    /// load it is empty between two fetches, and a cut each time would halve the throughput.
    fn is_drained(&self) -> bool {
        self.consumer.at_hand() == 0
            && self.lanes.iter().all(|lane| {
                let end = self.consumer.known_end(&lane.partition);
                end.is_none_or(|end| end <= lane.checkpoint.ledger.next())
            })
    }

    /// Takes a newer handler; only while nothing is uncut, so that no call of the old one is undecided.
    /// Also while nothing comes: whoever replaced it expects the next event to meet the new one.
    fn swap(&mut self) {
        if let Some(handler) = self.supervision.newer_handler() {
            self.pipeline.set_handler(Some(handler));
        }
    }

    fn is_dirty(&self) -> bool {
        self.outputs.is_open() || self.lanes.is_dirty()
    }

    fn now(&self) -> Moment {
        self.config.clock.now()
    }

    /// A sign of life in every round, a report a few times a second.
    fn report(&mut self) {
        let now = self.now();
        self.report.beat(now.elapsed);
        self.report.is_at(Phase::Listen);
        if !self.report.is_due(now.elapsed) {
            return;
        }
        self.meter.cpu(thread_cpu());
        let (exposition, function) = (&self.config.exposition, self.config.function.name.to_string());
        self.pipeline.take_counts(&mut |name, count| {
            exposition
                .counter(Id::HandlerCounts, &[("function", &function), ("name", name)])
                .increment(count);
        });
        self.meter.publish();
        let (held, consumer) = (self.held.as_ref(), &self.consumer);
        let lanes = self.lanes.iter().map(|lane| {
            let end = consumer.known_end(&lane.partition).or(lane.end);
            LaneStatus {
                topic: lane.partition.topic.clone(),
                partition: lane.partition.partition,
                position: lane.checkpoint.offset(),
                committed: Some(lane.committed),
                lag: end.map(|end| (end - lane.committed).max(0)),
                state: match held {
                    Some(held) if held.partition == lane.partition => "retrying",
                    Some(_) => "paused",
                    None => "reading",
                },
            }
        });
        let lanes: Vec<_> = lanes.collect();
        // Calls run inline, so what is begun and unfinished is the event that waits for its next attempt.
        let in_flight = u64::from(held.is_some());
        let (is_assigned, last_cut_ms, meter) = (self.is_assigned, self.last_cut_ms, &self.meter);
        self.report.report(now.elapsed, |status| {
            status.assigned = is_assigned;
            status.lanes = lanes;
            status.in_flight = in_flight;
            status.last_cut_ms = last_cut_ms;
            status.totals = *meter.totals();
        });
    }

    /// Cuts what is finished, if things are well, and leaves the group so that others go on at once.
    fn leave(mut self, result: Result<(), Stopped>) -> Result<(), Stopped> {
        let is_well = result.is_ok() && self.recovery.is_none();
        let result = match result {
            Ok(()) if is_well && self.is_dirty() => self.cut(),
            result => result,
        };
        self.outputs.abort_if_open();
        WorkerStopped { error: result.as_ref().err().map(|error| error as &dyn std::fmt::Display) }
            .emit(&mut self.meter);
        let meter = &self.meter;
        let now = self.config.clock.now().elapsed;
        self.report.report(now, |status| {
            status.lanes.clear();
            status.totals = *meter.totals();
        });
        self.consumer.close();
        result
    }
}
