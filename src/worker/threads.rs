//! Handler threads, for `concurrency` above 1: each has a pipeline and an instance of the handler of its own, is sent
//! batches of events and gives them back with what they came to. They touch no state, no client and no lock of
//! the worker's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Stopped;
use crate::model::{Clock, HeaderBuffer, OwnedRecord, Watch};
use crate::observe::trace::CallSpan;
use crate::observe::{REPORT_EVERY, thread_cpu};
use crate::pipeline::{Handler, Pass, Pipeline, Settled, Strand, Ticket, Written};

/// A copy of a record, and what its call writes; its memory goes from event to event.
#[derive(Debug, Default)]
pub struct Job {
    /// The record.
    pub record: OwnedRecord,
    /// Which of the function's sources it came from.
    pub source: usize,
    /// What its call wrote.
    pub written: Written,
}

/// An event on its way to a thread and back.
#[derive(Debug)]
pub struct Call {
    /// Which.
    pub ticket: Ticket<Box<Job>>,
    /// How many calls for it failed before.
    pub failed: u32,
    /// How it ended and how long that took; `None`: it was not called, since an event before it failed.
    pub ended: Option<(Settled, Duration)>,
    /// Its span, if it is sampled.
    pub span: Option<Box<CallSpan>>,
}

enum Order {
    /// With how many batches of this thread the worker has taken back.
    Calls(Vec<Call>, u64),
    Handler(Box<dyn Handler>),
}

/// What a thread gives back.
pub struct Done {
    thread: u16,
    /// The events, in the order of their calls.
    pub calls: Vec<Call>,
    /// What the handler's author counted, by name.
    pub counts: Vec<(String, u64)>,
    /// CPU time of the thread since it told last.
    pub cpu: Duration,
}

struct Line {
    orders: Sender<Order>,
    filling: Vec<Call>,
    taken_back: u64,
    /// When its call began, as [`Hand::begun`] says it, and how long that was seen to take.
    begun: Arc<AtomicU64>,
    watch: Watch,
    thread: JoinHandle<Pipeline>,
}

/// The handler threads of a worker. Dropped, they end when they have given back what they have; one whose call hangs is
/// left behind.
pub struct Threads {
    clock: Arc<dyn Clock>,
    lines: Vec<Line>,
    done: Receiver<Done>,
    /// Lists to send, empty.
    spare: Vec<Vec<Call>>,
}

impl Threads {
    /// Starts a thread for each pipeline.
    pub fn start(name: &str, pipelines: Vec<Pipeline>, clock: &Arc<dyn Clock>) -> std::io::Result<Self> {
        let (sender, done) = mpsc::channel();
        let mut lines = Vec::with_capacity(pipelines.len());
        for (number, pipeline) in pipelines.into_iter().enumerate() {
            let (orders, receiver) = mpsc::channel();
            let begun = Arc::new(AtomicU64::new(0));
            let hand = Hand {
                begun: Arc::clone(&begun),
                thread: number as u16,
                pipeline,
                clock: Arc::clone(clock),
                done: sender.clone(),
                given: 0,
                failed: HashMap::new(),
                headers: HeaderBuffer::default(),
                spans: Vec::new(),
                told: Duration::ZERO,
                cpu: Duration::ZERO,
            };
            let span = tracing::Span::current();
            let thread = std::thread::Builder::new()
                .name(format!("{name}.{number}"))
                .spawn(move || span.in_scope(|| hand.run(&receiver)))?;
            let watch = Watch::default();
            lines.push(Line { orders, filling: Vec::new(), taken_back: 0, begun, watch, thread });
        }
        Ok(Self { clock: Arc::clone(clock), lines, done, spare: Vec::new() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Adds an event to what the thread in its ticket is sent with the next [`Threads::flush`].
    pub fn push(&mut self, ticket: Ticket<Box<Job>>, failed: u32) {
        if let Some(line) = self.lines.get_mut(usize::from(ticket.thread)) {
            line.filling.push(Call { ticket, failed, ended: None, span: None });
        }
    }

    /// Sends what was added. Must come before [`Threads::take`]: a thread gives back what it is sent of a key whose
    /// failure was not taken yet.
    pub fn flush(&mut self) {
        for line in self.lines.iter_mut().filter(|line| !line.filling.is_empty()) {
            let empty = self.spare.pop().unwrap_or_default();
            let calls = std::mem::replace(&mut line.filling, empty);
            // A thread ends only after its sender, or by a panic of the engine's own, which ends the worker.
            let _ = line.orders.send(Order::Calls(calls, line.taken_back));
        }
    }

    /// Every thread calls another handler from the next batch on.
    pub fn set_handlers(&mut self, handlers: impl Iterator<Item = Box<dyn Handler>>) {
        for (line, handler) in self.lines.iter().zip(handlers) {
            let _ = line.orders.send(Order::Handler(handler));
        }
    }

    /// Events that have ended; waits at most so long for the first.
    pub fn take(&mut self, wait: Duration) -> Option<Done> {
        let done = match self.done.recv_timeout(wait) {
            Ok(done) => done,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        };
        let line = &mut self.lines[usize::from(done.thread)];
        line.taken_back += 1;
        Some(done)
    }

    /// A call was seen to take longer than this.
    pub fn hangs(&mut self, limit: Duration) -> bool {
        let now = self.clock.now().elapsed;
        let mut hangs = false;
        for line in &mut self.lines {
            let begun = line.begun.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_nanos);
            hangs |= line.watch.look(begun, now) > limit;
        }
        hangs
    }

    /// A list whose events were settled, to be used again.
    pub fn recycle(&mut self, list: Vec<Call>) {
        const MOST: usize = 64;
        if self.spare.len() < MOST {
            self.spare.push(list);
        }
    }

    /// Ends the threads, of which none may have a call; their pipelines, without handlers.
    pub fn end(self) -> Result<Vec<Pipeline>, Stopped> {
        // Without their senders they end.
        let threads: Vec<_> = self.lines.into_iter().map(|line| line.thread).collect();
        let ended = threads.into_iter().map(|thread| {
            let mut pipeline = thread.join().map_err(|_| Stopped::DeadThread)?;
            pipeline.set_handler(None);
            Ok(pipeline)
        });
        ended.collect()
    }

    /// A thread has died: of a panic in the engine, since those of handlers are caught.
    pub fn has_died(&self) -> bool {
        self.lines.iter().any(|line| line.thread.is_finished())
    }
}

/// One thread at work.
struct Hand {
    /// When its call began, in nanoseconds of the clock's monotonic time and one more; 0: none is under way.
    begun: Arc<AtomicU64>,
    thread: u16,
    pipeline: Pipeline,
    clock: Arc<dyn Clock>,
    done: Sender<Done>,
    /// Batches given back.
    given: u64,
    /// Strands of which an event failed or was not called, with the batch in which it was given back: until the worker
    /// has taken that, what it sends of the strand was sent in ignorance.
    failed: HashMap<Strand, u64>,
    headers: HeaderBuffer,
    /// The span of the last call, if it is sampled.
    spans: Vec<CallSpan>,
    /// When it told its CPU time last, and how much that was.
    told: Duration,
    cpu: Duration,
}

impl Hand {
    fn run(mut self, orders: &Receiver<Order>) -> Pipeline {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Handler(handler) => self.pipeline.set_handler(Some(handler)),
                Order::Calls(mut calls, taken_back) => {
                    self.failed.retain(|_, batch| *batch >= taken_back);
                    self.call_all(&mut calls);
                    self.given += 1;
                    let counts = self.pipeline.take_counts();
                    let done = Done { thread: self.thread, calls, counts, cpu: self.cpu() };
                    if self.done.send(done).is_err() {
                        break;
                    }
                }
            }
        }
        self.pipeline
    }

    /// What this thread used since it told last; now and then, since asking takes a system call.
    fn cpu(&mut self) -> Duration {
        let now = self.clock.now().elapsed;
        if now.saturating_sub(self.told) < REPORT_EVERY {
            return Duration::ZERO;
        }
        self.told = now;
        let used = thread_cpu();
        used.saturating_sub(std::mem::replace(&mut self.cpu, used))
    }

    fn call_all(&mut self, calls: &mut [Call]) {
        let mut began = self.clock.now();
        for call in calls {
            let ticket = &mut call.ticket;
            if !self.failed.is_empty() && self.failed.contains_key(&ticket.strand) {
                // The worker knows that this one comes back when it has taken this batch, and not before.
                self.failed.insert(ticket.strand, self.given);
                continue;
            }
            let Job { record, source, written } = &mut *ticket.job;
            written.clear();
            self.begun.store(began.elapsed.as_nanos() as u64 + 1, Ordering::Relaxed);
            let pipeline = &mut self.pipeline;
            let settled = record.lend(&mut self.headers, |record| {
                let (source, is_probe) = (*source, ticket.is_probe);
                pipeline.process(&Pass { source, record, failed: call.failed, is_probe, now: began }, written)
            });
            if matches!(settled, Settled::Retry { .. } | Settled::Stop { .. }) {
                self.failed.insert(ticket.strand, self.given);
            }
            // One at a time, so none is too many to keep.
            self.pipeline.take_spans(&mut self.spans);
            call.span = self.spans.pop().map(Box::new);
            let now = self.clock.now();
            call.ended = Some((settled, now.elapsed.saturating_sub(began.elapsed)));
            began = now;
        }
        self.begun.store(0, Ordering::Relaxed);
    }
}
