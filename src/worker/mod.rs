//! One member of a function's consumer group: an OS thread that owns everything it touches, one
//! consumer, one producer, its lanes, one instance of the handler.
//!
//! The loop is: hear the group, read a batch, run it through the pipeline, cut. A **cut** makes outputs,
//! dead letters and offsets visible together. Whatever goes wrong between two cuts is undone by one
//! way, `recover`: abort, fetch what is committed, rewind every lane to it, go on.

mod along;
mod client_id;
mod config;
mod contact;
mod cut;
mod error;
mod gathers;
mod group;
mod lanes;
mod output;
mod pace;
mod park;
mod rate;
mod recover;
mod restore;
mod spans;
mod start;
mod states;
mod suspects;
mod tables;
mod tap;
mod threads;
mod ticks;
mod waiting;
mod work;

use std::sync::Arc;
use std::time::Duration;

pub use client_id::{AdminAddress, CLIENT_ID_PREFIX, ClientId};
pub use config::Config;
pub use error::Stopped;
pub use lanes::{Lane, Lanes};
pub use rate::ProcessRate;
pub use tap::{Settlement, Tap};

use crate::kafka::{Consumer, ConsumerConfig, Partition};
use crate::model::{DeadLetterReason, Dice, Function, HeaderBuffer, Moment};
use crate::observe::events::{WorkerStarted, WorkerStopped};
use crate::observe::{CIRCUIT_OPEN, LaneStatus, Meter, MeterSpec, Phase, WorkerReport, thread_cpu};
use crate::pipeline::{Desk, Handler, METADATA_LIMIT, Pipeline, Policy};
use contact::Contact;
use gathers::Gathers;
use output::Outputs;
use pace::{CutPace, Stride};
use park::Parked;
use rate::Budget;
use restore::Restoring;
use spans::Spans;
use states::States;
use suspects::Suspects;
use tables::AllTables;
use threads::{Done, Job, Threads};
use ticks::Ticks;

/// How long a worker waits for records before it looks at everything else again.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// How long a worker waits for calls to end before it looks for records again.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The longest wait for one answer of the brokers, so that the group is heard in between.
const ASK_WAIT: Duration = Duration::from_secs(1);
/// How long a group may keep a member waiting for its first answer, while brokers answer.
const ADMITTED_WITHIN: Duration = Duration::from_secs(10);

/// What the runtime gives a worker besides its configuration.
pub trait Supervision: Send {
    /// Stop: finish what is begun, cut, leave the group.
    fn is_stopping(&self) -> bool;
    /// While stopping: what has been read is worth finishing first.
    fn is_draining(&self) -> bool;
    /// Rest: finish what is begun, cut, call nothing more, and stay in the group.
    fn is_paused(&self) -> bool;
    /// Waits so long, or until told to stop; whether it was.
    fn pause(&self, time: Duration) -> bool;
    /// Told in every round: since when there is nothing to do, on the clock's monotonic time, if that is so; whether the
    /// function's first partition is read here; and how many partitions the worker has.
    fn say(&self, idle_since: Option<Duration>, has_first: bool, partitions: usize);
    /// Members came or went: partitions are to be shared out at once.
    fn is_in_haste(&self) -> bool;
    /// So many instances of the handler of now; `None`: the function has none.
    fn handlers_again(&mut self, count: usize) -> Result<Option<Vec<Box<dyn Handler>>>, String>;
    /// So many instances of a newer handler, if there is one since the last call; asked between two cuts.
    fn newer_handlers(&mut self, count: usize) -> Option<Vec<Box<dyn Handler>>>;
}

/// What a worker is built of, besides its configuration.
pub struct Parts {
    /// The function, compiled.
    pub pipeline: Pipeline,
    /// The same for each handler thread; none: calls run on the worker's own.
    pub hands: Vec<Pipeline>,
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
    /// What is kept between events, if the function keeps anything.
    states: Option<States>,
    /// What is said about source partitions, if they are brought together.
    gathers: Gathers,
    /// Tables of which this worker has all rows.
    tables: AllTables,
    /// Sources that are clocks.
    ticks: Ticks,
    /// State of partitions that are arriving.
    restoring: Option<Restoring>,
    /// Events that were sent to the stitch topic and have not come back, for who looks on.
    sent: i64,
    /// Given by the group, waiting for their committed offsets.
    arriving: Vec<Partition>,
    /// Events of the group that were answered.
    heard: u64,
    /// When the group is asked for them next, on the clock's monotonic time.
    ask_at: Duration,
    /// Who is called when.
    desk: Desk<Box<Job>>,
    /// Tells what was begun before an abort from what came after.
    epoch: u32,
    threads: Option<Threads>,
    /// Set while it is parked.
    parked: Option<Parked>,
    /// Calls that ended, not looked at yet.
    done: Option<Done>,
    /// Nothing more can be taken until a call ends.
    is_busy: bool,
    /// How many calls may begin, if that is bounded.
    budget: Option<Budget>,
    /// Copies of records, to be used again.
    #[expect(clippy::vec_box, reason = "a ticket takes the box along and brings it back")]
    spare: Vec<Box<Job>>,
    headers: HeaderBuffer,
    /// Set when work since the last cut was undone and lanes are not rewound yet.
    recovery: Option<recover::Recovery>,
    contact: Contact,
    suspects: Suspects,
    /// A cut is due, whatever the time.
    must_cut: bool,
    stride: Stride,
    /// When the batch at hand was read.
    read_at: Duration,
    pace: CutPace,
    meter: Meter,
    /// Set when there are traces to make.
    spans: Option<Spans>,
    report: WorkerReport,
    /// The group has given an assignment, be it an empty one.
    is_assigned: bool,
    /// When the group was asked to take this worker, on the clock's monotonic time.
    asked_at: Duration,
    /// When the group is asked next whether anything has changed, on the clock's monotonic time.
    hurry_at: Duration,
    /// Paused, and nothing is uncut.
    is_resting: bool,
    last_cut_ms: Option<i64>,
    /// Since when there is nothing to do.
    idle_since: Option<Duration>,
    dice: Dice,
}

impl Worker {
    /// Connects and joins the group. Waits for the brokers, visibly, until told to stop.
    pub fn start(config: Config, parts: Parts) -> Result<Option<Self>, Stopped> {
        let Parts { pipeline, hands, supervision, report, tap } = parts;
        let function = Arc::clone(&config.function);
        let consumer = Consumer::new(&ConsumerConfig {
            cluster: &config.cluster,
            group: &function.group,
            protocol: config.protocol,
            client_id: &config.client_id(),
            longest_silence: config.transaction_timeout() * 2,
            settings: &config.consumer_settings(),
        })?;
        let Some(outputs) = Outputs::open(&config, supervision.as_ref())? else {
            return Ok(None);
        };
        consumer.subscribe(&function.subscribed_topics().collect::<Vec<_>>())?;
        let now = config.clock.now();
        Ok(Some(Self {
            supervision,
            tap,
            consumer,
            outputs,
            pipeline,
            lanes: Lanes::default(),
            states: states(&function),
            gathers: Gathers::default(),
            tables: AllTables::start(&config).map_err(Stopped::Threads)?,
            ticks: Ticks::new(&function),
            restoring: None,
            sent: 0,
            arriving: Vec::new(),
            heard: 0,
            ask_at: Duration::ZERO,
            desk: Desk::new(policy(&function), hands.len()),
            epoch: 0,
            threads: match hands.is_empty() {
                true => None,
                false => Some(
                    Threads::start(&function.name.name, hands, &config.clock).map_err(Stopped::Threads)?,
                ),
            },
            parked: None,
            done: None,
            is_busy: false,
            budget: function
                .handler
                .as_ref()
                .and_then(|handler| Budget::new(handler.rate, config.rate.clone(), now.elapsed)),
            spare: Vec::new(),
            headers: HeaderBuffer::default(),
            recovery: None,
            contact: Contact::default(),
            suspects: Suspects::default(),
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
            spans: config.spans.clone().map(|queue| Spans::new(queue, &function)),
            report,
            is_assigned: false,
            asked_at: now.elapsed,
            hurry_at: now.elapsed,
            is_resting: false,
            last_cut_ms: None,
            idle_since: None,
            dice: Dice::new(now.wall_ms as u64),
            config,
        }))
    }

    /// Runs until told to stop, or until something only a person can mend.
    pub fn run(mut self) -> Result<(), Stopped> {
        WorkerStarted { protocol: self.config.protocol.as_str() }.emit(&mut self.meter);
        let result = self.turn();
        self.leave(result)
    }

    fn turn(&mut self) -> Result<(), Stopped> {
        loop {
            self.hear()?;
            self.await_admission()?;
            self.hurry()?;
            self.report();
            if self.supervision.is_stopping() && !self.finishes_batch() {
                return Ok(());
            }
            self.take_rows();
            if !self.arriving.is_empty() {
                self.take_over()?;
            }
            if self.recovery.is_some() {
                self.recover()?;
                continue;
            }
            self.check_contact();
            self.tell_idle();
            if self.supervision.is_paused() {
                self.rest()?;
                continue;
            }
            self.set_resting(false);
            if !self.is_dirty() {
                self.swap();
            }
            self.go_on_reading()?;
            self.read();
            self.collect()?;
            self.tell_progress()?;
            self.let_time_pass()?;
            self.make_ticks();
            self.park_or_go_on()?;
            self.work()?;
            self.cut_if_due()?;
        }
    }

    /// Draining, and something that was read can be finished without waiting for it.
    fn finishes_batch(&self) -> bool {
        self.supervision.is_draining() && self.consumer.at_hand() > 0 && self.recovery.is_none()
    }

    /// One round of a pause: cut what is done, then only hear the group, which keeps the member and its
    /// partitions however long it takes. What is at hand stays there.
    fn rest(&mut self) -> Result<(), Stopped> {
        self.finish_calls(IDLE_WAIT)?;
        if self.is_dirty() && self.recovery.is_none() {
            return self.cut();
        }
        self.swap();
        self.set_resting(self.desk.in_flight() == 0);
        self.hear_for(IDLE_WAIT)
    }

    /// Reported at once, and before the first call that follows: who reads that a worker rests may rely on it.
    fn set_resting(&mut self, is_resting: bool) {
        if std::mem::replace(&mut self.is_resting, is_resting) != is_resting {
            self.publish();
        }
    }

    /// Fills the batch. With nothing to do it waits: for records, for calls to end, but no longer than until something
    /// is due.
    fn read(&mut self) {
        let is_busy = std::mem::take(&mut self.is_busy);
        if self.consumer.at_hand() > 0 && !is_busy {
            return;
        }
        let has_calls = self.desk.in_flight() > 0;
        if self.consumer.fill(Duration::ZERO) == 0 || is_busy {
            let now = self.now().elapsed;
            let wait = self.patience(now, is_busy);
            match &mut self.threads {
                _ if wait.is_zero() => {}
                Some(threads) if has_calls => {
                    // Records may come meanwhile, unless there is no room for them.
                    let wait = if is_busy { wait } else { wait.min(LOOK_AGAIN) };
                    self.done = threads.take(wait);
                }
                _ if is_busy => {
                    self.supervision.pause(wait);
                }
                _ => {
                    self.consumer.fill(wait);
                }
            }
        }
        self.read_at = self.now().elapsed;
        if self.consumer.at_hand() > 0 {
            // It may be done with before anybody asks again.
            self.idle_since = None;
        }
    }

    /// How long there is nothing to do but to wait for records and calls.
    fn patience(&self, now: Duration, is_busy: bool) -> Duration {
        if self.states.as_ref().is_some_and(|states| states.has_more || states.is_any_due()) {
            return Duration::ZERO;
        }
        let due = self.lanes.iter().filter_map(|lane| self.desk.next_due(&lane.track)).min();
        let longest = self.longest_wait();
        let mut call = due.map_or(longest, |due| due.saturating_sub(now));
        if let Some(budget) = &self.budget {
            // Whatever is due, nothing may be called before.
            let next = budget.wait();
            call = if is_busy { next } else { call.max(next) };
        }
        let cut = match self.is_dirty() {
            true => self.pace.wait(now, self.is_drained()),
            false => longest,
        };
        let timer = self.states.as_ref().and_then(|states| states.until_timer(self.now().wall_ms));
        let group = if self.supervision.is_in_haste() { LOOK_AGAIN } else { longest };
        call.min(cut).min(self.until_tick()).min(timer.unwrap_or(longest)).min(group)
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
        // What ends while a cut is under way waits for it, and so do the threads.
        self.desk.in_flight() == 0
            && self.consumer.at_hand() == 0
            && self.lanes.iter().all(|lane| {
                let end = self.consumer.known_end(&lane.partition);
                end.is_none_or(|end| end <= lane.track.checkpoint.ledger.next())
            })
    }

    /// Says since when there is nothing to do: nothing to read, nothing uncut, nothing that waits to be called again.
    fn tell_idle(&mut self) {
        let is_idle = self.is_assigned
            && self.arriving.is_empty()
            && self.restoring.is_none()
            && !self.is_dirty()
            && self.is_drained()
            && !self.contact.is_doubtful()
            && self
                .lanes
                .iter()
                .all(|lane| lane.track.held() == 0 && self.consumer.known_end(&lane.partition).is_some())
            && !self.states.as_ref().is_some_and(States::has_waiting);
        if is_idle
            && let Some(tap) = self.tap.as_mut().filter(|tap| tap.is_over())
            && !self.states.as_ref().is_some_and(States::has_open)
        {
            tap.ended();
        }
        let now = self.config.clock.now().elapsed;
        self.idle_since = is_idle.then(|| self.idle_since.unwrap_or(now));
        let function = &self.config.function;
        let first = function.shared_sources().next().map(|source| source.topic.as_str());
        let is_first =
            |lane: &Lane| lane.partition.partition == 0 && Some(lane.partition.topic.as_str()) == first;
        let partitions = self.lanes.len() + self.arriving.len();
        self.supervision.say(self.idle_since, self.lanes.iter().any(is_first), partitions);
    }

    /// Takes a newer handler; only while nothing is uncut, so that no call of the old one is undecided.
    /// Also while nothing comes: whoever replaced it expects the next event to meet the new one.
    fn swap(&mut self) {
        if self.parked.is_some() {
            return;
        }
        let hands = self.threads.as_ref().map_or(0, Threads::len);
        let Some(mut handlers) = self.supervision.newer_handlers(1 + hands) else { return };
        self.pipeline.set_handler(handlers.pop());
        if let Some(threads) = &mut self.threads {
            threads.set_handlers(handlers.into_iter());
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
        if self.report.is_due(now.elapsed) {
            self.publish();
        }
    }

    /// Numbers and the worker's state, for others to see.
    fn publish(&mut self) {
        let now = self.now();
        self.meter.cpu(thread_cpu());
        let counts = self.pipeline.take_counts();
        self.count(counts);
        self.count_partly_late();
        self.meter.publish();
        let (consumer, is_resting) = (&self.consumer, self.is_resting);
        let lanes = self.lanes.iter().map(|lane| {
            let end = consumer.known_end(&lane.partition).or(lane.end);
            LaneStatus {
                topic: lane.partition.topic.clone(),
                partition: lane.partition.partition,
                position: lane.track.checkpoint.offset(),
                committed: Some(lane.committed),
                lag: end.map(|end| (end - lane.committed).max(0)),
                held: lane.track.held() as u64,
                state: match () {
                    () if is_resting => "paused",
                    () if lane.track.open_since().is_some() => CIRCUIT_OPEN,
                    () if lane.is_ahead => "ahead",
                    () if lane.is_paused => "full",
                    () if lane.track.is_held_up() => "retrying",
                    () => "reading",
                },
                restored: None,
            }
        });
        let lanes: Vec<_> = lanes.chain(self.restoring_lanes()).collect();
        let in_flight = self.lanes.iter().map(|lane| lane.track.in_flight() as u64).sum();
        let state = self.states.as_ref().map_or((0, 0), |states| (states.bytes(), states.keys()));
        let least_ms = self.states.as_ref().and_then(|states| states.least_watermark_ms());
        // A watermark may be ahead of the clock by as much as an event's time may.
        let delay_ms =
            least_ms.map(|least_ms| u64::try_from(now.wall_ms.saturating_sub(least_ms)).unwrap_or(0));
        let (protocol, is_parked) = (self.config.protocol.as_str(), self.parked.is_some());
        let (is_assigned, last_cut_ms, meter) = (self.is_assigned, self.last_cut_ms, &self.meter);
        self.report.report(now.elapsed, |status| {
            status.assigned = is_assigned;
            status.protocol = protocol;
            status.paused = is_resting;
            status.parked = is_parked;
            status.lanes = lanes;
            status.in_flight = in_flight;
            (status.state_bytes, status.state_keys) = state;
            status.watermark_delay_ms = delay_ms;
            status.last_cut_ms = last_cut_ms;
            status.totals = *meter.totals();
        });
    }

    /// Cuts what is finished, if things are well, and leaves the group so that others go on at once.
    fn leave(mut self, result: Result<(), Stopped>) -> Result<(), Stopped> {
        let is_well = result.is_ok() && self.recovery.is_none();
        let result = match result {
            Ok(()) if is_well => self.finish_calls(self.config.longest_call()),
            result => result,
        };
        let is_well = result.is_ok() && self.recovery.is_none();
        let result = match result {
            Ok(()) if is_well && self.is_dirty() => self.cut(),
            result => result,
        };
        self.outputs.abort_if_open();
        self.trace_cut(Duration::ZERO, false);
        WorkerStopped { error: result.as_ref().err().map(|error| error as &dyn std::fmt::Display) }
            .emit(&mut self.meter);
        let meter = &self.meter;
        let now = self.config.clock.now().elapsed;
        self.report.report(now, |status| {
            status.lanes.clear();
            status.totals = *meter.totals();
        });
        if is_well {
            self.await_membership();
        }
        self.consumer.close();
        result
    }
}

/// Where what a function gathers is kept.
fn states(function: &Function) -> Option<States> {
    function.window.as_ref()?;
    Some(States::new(function))
}

/// How a function wants its calls.
fn policy(function: &Function) -> Policy {
    let delivery = &function.delivery;
    Policy {
        order: function.order,
        retry: delivery.retry,
        max_held: delivery.max_held,
        max_held_bytes: usize::try_from(function.memory / 8).unwrap_or(usize::MAX),
        circuit: delivery.circuit,
        max_metadata: METADATA_LIMIT,
    }
}
