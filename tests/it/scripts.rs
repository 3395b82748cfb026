//! Random scripts of everything that can happen to events (calls that go well, fail, panic, are rejected; aborts, kills,
//! revoked partitions) against the pipeline's desk, ledger and checkpoint, with handler threads or without, in virtual
//! time. Whatever the script: each event ends once, in order, after no more attempts than allowed.
//!
//! A broker is a list here, and so is a thread: only which of them comes next is left to chance.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::model::{
    self, Emit, Failure, FailureKind, Format, Function, KeyChoice, Moment, Order, Outbox, Outcome, Record,
};
use tidemill::pipeline::{
    Call, Checkpoint, Desk, Handler, METADATA_LIMIT, OutRecord, Pass, Pipeline, Placement, Policy, Settled,
    Strand, Target, Ticket, Track, Writer,
};

use crate::scene::{function, sink};

const SCRIPTS: u64 = 10_000;
/// What every event takes of the memory for those that wait.
const BYTES: usize = 100;
const MOST_BATCH: usize = 4;

/// Chance, the same for the same seed.
struct Dice(model::Dice);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(model::Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.0.bits() >> 33) as usize % bound
    }
}

/// What an event's calls come to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Ok,
    Skip,
    Reject,
    /// So many calls fail, then one goes well.
    Fails(usize),
    Panics(usize),
}

#[derive(Debug, Clone)]
struct Logged {
    key: Option<String>,
    fate: Fate,
}

/// One end of an event, as a reader sees it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    lane: usize,
    offset: i64,
    attempts: Option<u32>,
}

/// What outlives a kill.
struct Broker {
    logs: Vec<Vec<Logged>>,
    committed: Vec<(i64, String)>,
    visible: Vec<Seen>,
}

/// Scripts of events, for the handler, and which were called.
#[derive(Default)]
struct Book {
    fates: BTreeMap<(i32, i64), Fate>,
    is_out: bool,
    calls: Vec<(i32, i64, u32)>,
}

struct Scripted(Arc<Mutex<Book>>);

impl Handler for Scripted {
    fn call(&mut self, call: &Call<'_>, outbox: &mut Outbox) -> Outcome {
        let record = &call.event.record;
        let mut book = self.0.lock().unwrap();
        book.calls.push((record.partition, record.offset, call.attempt));
        let failed = |kind| Outcome::Failed(Failure { kind, message: "as written".to_owned() });
        if book.is_out {
            return failed(FailureKind::Retry { after: None });
        }
        let place = (record.partition, record.offset);
        let calls = book.calls.iter().filter(|(partition, offset, _)| (*partition, *offset) == place).count();
        match book.fates[&place] {
            Fate::Skip => Outcome::Skip,
            Fate::Reject => failed(FailureKind::Reject { code: None }),
            Fate::Fails(times) if calls <= times => failed(FailureKind::Retry { after: None }),
            Fate::Panics(times) if calls <= times => failed(FailureKind::Panic),
            Fate::Ok | Fate::Fails(_) | Fate::Panics(_) => {
                let emit = Emit {
                    sink: None,
                    key: KeyChoice::OfEvent,
                    value: Some(b"result"),
                    content_type: None,
                    timestamp_ms: None,
                    headers: &[],
                };
                assert!(outbox.push(&emit));
                Outcome::Ok
            }
        }
    }

    fn take_counts(&mut self, _: &mut dyn FnMut(&str, u64)) {}
}

#[derive(Default)]
struct Outputs(Vec<Option<u32>>);

impl Writer for Outputs {
    fn write(&mut self, out: &OutRecord<'_>) {
        let attempts = out.headers.iter().find(|header| header.name == "tidemill-attempts");
        let attempts = attempts.and_then(|header| std::str::from_utf8(header.value?).ok()?.parse().ok());
        self.0.push((out.target == Target::DeadLetter).then_some(attempts.unwrap_or(0)));
    }
}

/// An event on its way to a thread.
struct Sent {
    ticket: Ticket<()>,
    failed: u32,
    /// How many results of the thread the worker had taken.
    taken: usize,
}

/// What a call came to, and what it wrote: a result, or the attempts in a dead letter.
type Ended = (Settled, Vec<Option<u32>>);

#[derive(Default)]
struct Thread {
    orders: VecDeque<Sent>,
    /// `None`: not called.
    results: VecDeque<(Ticket<()>, Option<Ended>)>,
    given: usize,
    taken: usize,
    failed: BTreeMap<Strand, usize>,
}

/// What a kill takes.
struct Worker {
    desk: Desk<()>,
    tracks: Vec<Option<Track>>,
    threads: Vec<Thread>,
    pipeline: Pipeline,
    staged: Vec<Seen>,
    epoch: u32,
    next_lane: u16,
}

struct Play {
    dice: Dice,
    policy: Policy,
    function: Arc<Function>,
    threads: usize,
    book: Arc<Mutex<Book>>,
    broker: Broker,
    worker: Worker,
    now: Duration,
}

fn worker(function: &Arc<Function>, policy: &Policy, threads: usize, book: &Arc<Mutex<Book>>) -> Worker {
    Worker {
        desk: Desk::new(*policy, threads),
        tracks: Vec::new(),
        threads: (0..threads).map(|_| Thread::default()).collect(),
        pipeline: Pipeline::new(Arc::clone(function), Some(Box::new(Scripted(Arc::clone(book))))),
        staged: Vec::new(),
        epoch: 0,
        next_lane: 0,
    }
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut function = function(vec![sink("default", Format::Bytes)]);
        function.sources[0].format = Format::Bytes;
        function.order = [Order::Key, Order::Key, Order::Partition, Order::None][dice.below(4)];
        function.delivery.retry.max_attempts = 1 + dice.below(5) as u32;
        function.delivery.retry.initial = Duration::from_millis(1 + dice.below(200) as u64);
        function.delivery.max_held = 1 + dice.below(12);
        function.delivery.circuit.keys = [0, 2, 3, 5][dice.below(4)];
        let policy = Policy {
            order: function.order,
            retry: function.delivery.retry,
            max_held: function.delivery.max_held,
            max_held_bytes: BYTES * (1 + dice.below(40)),
            circuit: function.delivery.circuit,
            max_metadata: [260, 400, METADATA_LIMIT][dice.below(3)],
        };
        let threads = [0, 0, 1, 2, 8, 64][dice.below(6)];
        let keys = 1 + dice.below(8);
        let mut book = Book::default();
        let lanes = 1 + dice.below(3);
        let mut logs = Vec::new();
        for lane in 0..lanes {
            let mut log = Vec::new();
            for offset in 0..1 + dice.below(25) {
                let fate = match dice.below(10) {
                    0 => Fate::Skip,
                    1 => Fate::Reject,
                    2 | 3 => Fate::Fails(1 + dice.below(7)),
                    4 => Fate::Panics(1 + dice.below(3)),
                    _ => Fate::Ok,
                };
                let key = (dice.below(9) > 0).then(|| dice.below(keys).to_string());
                book.fates.insert((lane as i32, offset as i64), fate);
                log.push(Logged { key, fate });
            }
            logs.push(log);
        }
        let committed = vec![(0, String::new()); lanes];
        let (function, book) = (Arc::new(function), Arc::new(Mutex::new(book)));
        let mut play = Self {
            worker: worker(&function, &policy, threads, &book),
            broker: Broker { logs, committed, visible: Vec::new() },
            now: Duration::ZERO,
            dice,
            policy,
            function,
            threads,
            book,
        };
        play.assign_all();
        play
    }

    fn checkpoint(&self, lane: usize) -> Checkpoint {
        let (offset, metadata) = &self.broker.committed[lane];
        Checkpoint::read(*offset, metadata).unwrap()
    }

    fn assign_all(&mut self) {
        for lane in 0..self.broker.logs.len() {
            if self.worker.tracks.len() == lane {
                self.worker.tracks.push(None);
            }
            if self.worker.tracks[lane].is_none() {
                let number = self.worker.next_lane;
                self.worker.next_lane += 1;
                let checkpoint = self.checkpoint(lane);
                let place = ("rides", lane as i32);
                let track = Track::new(&self.policy, number, place, checkpoint, self.worker.epoch);
                self.worker.tracks[lane] = Some(track);
            }
        }
    }

    /// One event is called, and what that came to.
    fn call(&mut self, (lane, offset): (usize, i64), failed: u32, is_probe: bool) -> Ended {
        let key = self.broker.logs[lane][offset as usize].key.clone();
        let no_headers = Vec::new();
        let record = Record {
            topic: "rides",
            partition: lane as i32,
            offset,
            timestamp_ms: 1,
            key: key.as_deref().map(str::as_bytes),
            value: Some(b"v"),
            headers: &no_headers,
        };
        let now = Moment { wall_ms: self.now.as_millis() as i64, elapsed: self.now };
        let mut outputs = Outputs::default();
        let pass = Pass { source: 0, record: &record, failed, is_probe, now };
        let settled = self.worker.pipeline.process(&pass, &mut outputs);
        if failed > 0 {
            let committed = self.checkpoint(lane).ledger.attempts(offset);
            assert_eq!(committed, failed, "an event is called again when its failure is committed");
        }
        (settled, outputs.0)
    }

    fn lane_of(&self, number: u16) -> Option<usize> {
        self.worker.tracks.iter().position(|track| track.as_ref().is_some_and(|track| track.lane == number))
    }

    fn settle(&mut self, ticket: Ticket<()>, settled: &Settled, outputs: &[Option<u32>]) {
        let lane = self.lane_of(ticket.lane).unwrap();
        let track = self.worker.tracks[lane].as_mut().unwrap();
        let seen = |attempts: &Option<u32>| Seen { lane, offset: ticket.offset, attempts: *attempts };
        self.worker.staged.extend(outputs.iter().map(seen));
        track.checkpoint.account.add(settled);
        let went_well = match settled {
            Settled::Retry { after, .. } => {
                let chance = (self.now, self.dice.below(100) as f64 / 100.0);
                self.worker.desk.failed(track, ticket, *after, chance);
                return;
            }
            Settled::DeadLetter { called, .. } => {
                !matches!(called, None | Some(FailureKind::Retry { .. } | FailureKind::Panic))
            }
            Settled::Skipped => {
                self.worker.staged.push(Seen { lane, offset: ticket.offset, attempts: None });
                true
            }
            _ => true,
        };
        self.worker.desk.finished(track, &ticket, went_well);
    }

    /// The next record of a lane is read, if there is one and the desk takes it.
    fn read(&mut self, lane: usize) {
        let Some(track) = self.worker.tracks[lane].as_mut() else { return };
        let offset = track.read_to;
        let Some(logged) = self.broker.logs[lane].get(offset as usize) else { return };
        if track.is_known(offset) {
            track.read_to += 1;
            return;
        }
        let desk = &mut self.worker.desk;
        let strand = track.strand(offset, logged.key.as_deref().map(str::as_bytes));
        let failed = track.checkpoint.ledger.attempts(offset);
        let place = desk.place(track, strand, offset);
        if matches!(place, Placement::Busy | Placement::Full) {
            return;
        }
        let mut ticket = desk.ticket(track, strand, (offset, BYTES), ());
        track.read_to += 1;
        match place {
            Placement::Thread(thread) => {
                desk.send(track, &mut ticket, thread);
                self.send(ticket, failed);
            }
            Placement::Behind => desk.hold(track, ticket),
            _ => {
                let (settled, outputs) = self.call((lane, offset), failed, false);
                self.settle(ticket, &settled, &outputs);
            }
        }
    }

    fn send(&mut self, ticket: Ticket<()>, failed: u32) {
        let thread = &mut self.worker.threads[usize::from(ticket.thread)];
        let taken = thread.taken;
        thread.orders.push_back(Sent { ticket, failed, taken });
    }

    /// What waited in a lane goes on, if it may.
    fn go_on(&mut self, lane: usize) {
        let Some(track) = self.worker.tracks[lane].as_mut() else { return };
        let Some(ticket) = self.worker.desk.next(track, self.now) else { return };
        let failed = track.checkpoint.ledger.attempts(ticket.offset);
        if self.threads > 0 {
            self.send(ticket, failed);
        } else {
            let (settled, outputs) = self.call((lane, ticket.offset), failed, ticket.is_probe);
            self.settle(ticket, &settled, &outputs);
        }
    }

    /// A thread ends the call that it has.
    fn end_call(&mut self, number: usize) {
        let thread = &mut self.worker.threads[number];
        let Some(Sent { ticket, failed, taken }) = thread.orders.pop_front() else { return };
        thread.failed.retain(|_, given| *given >= taken);
        let ended = if thread.failed.contains_key(&ticket.strand) {
            None
        } else {
            // A stale call of a lane that has moved on is made all the same.
            let is_current = self.lane_of(ticket.lane).is_some_and(|lane| {
                self.worker.tracks[lane].as_ref().is_some_and(|track| track.epoch == ticket.epoch)
            });
            let lane = self.lane_of(ticket.lane);
            match lane.filter(|_| is_current) {
                Some(lane) => Some(self.call((lane, ticket.offset), failed, ticket.is_probe)),
                None => Some((Settled::Ok { written: 1, unrouted: 0 }, vec![None])),
            }
        };
        let thread = &mut self.worker.threads[number];
        if matches!(ended, None | Some((Settled::Retry { .. }, _))) {
            thread.failed.insert(ticket.strand, thread.given);
        }
        thread.given += 1;
        thread.results.push_back((ticket, ended));
    }

    fn take_result(&mut self, number: usize) {
        let thread = &mut self.worker.threads[number];
        let Some((ticket, ended)) = thread.results.pop_front() else { return };
        thread.taken += 1;
        let lane = self.lane_of(ticket.lane);
        let track = lane.and_then(|lane| self.worker.tracks[lane].as_mut());
        match (track.filter(|track| track.epoch == ticket.epoch), ended) {
            (None, _) => {
                let woken = self.worker.desk.dropped(&ticket).and_then(|number| self.lane_of(number));
                if let Some(track) = woken.and_then(|lane| self.worker.tracks[lane].as_mut()) {
                    self.worker.desk.wake(track, ticket.strand);
                }
            }
            (Some(track), None) => self.worker.desk.bounced(track, ticket),
            (Some(_), Some((settled, outputs))) => self.settle(ticket, &settled, &outputs),
        }
    }

    fn cut(&mut self) {
        for (lane, track) in self.worker.tracks.iter_mut().enumerate() {
            let Some(track) = track.as_mut().filter(|track| track.is_dirty) else { continue };
            let mut checkpoint = track.checkpoint.clone();
            checkpoint.cut += 1;
            let metadata = checkpoint.metadata();
            assert!(metadata.len() <= self.policy.max_metadata, "{} bytes", metadata.len());
            self.broker.committed[lane] = (checkpoint.offset(), metadata);
            track.committed();
        }
        self.broker.visible.append(&mut self.worker.staged);
    }

    fn abort(&mut self) {
        self.worker.staged.clear();
        self.worker.epoch += 1;
        for lane in 0..self.broker.logs.len() {
            let checkpoint = self.checkpoint(lane);
            if let Some(track) = self.worker.tracks[lane].as_mut() {
                self.worker.desk.rewind(track, checkpoint, self.worker.epoch);
            }
        }
    }

    fn revoke(&mut self, lane: usize) {
        self.cut();
        if let Some(track) = self.worker.tracks[lane].take() {
            self.worker.desk.forget(track.lane);
        }
    }

    fn step(&mut self) {
        let lane = self.dice.below(self.broker.logs.len());
        let thread = self.dice.below(self.threads.max(1));
        match self.dice.below(100) {
            0 => self.worker = worker(&self.function, &self.policy, self.threads, &self.book),
            1 => self.abort(),
            2 => self.revoke(lane),
            3 => {
                let mut book = self.book.lock().unwrap();
                book.is_out = !book.is_out;
            }
            4 => self
                .worker
                .desk
                .set_batch(1 + self.dice.below(MOST_BATCH) as u32, self.dice.below(2 * MOST_BATCH) as u32),
            5..=12 => self.cut(),
            13..=25 => self.now += Duration::from_millis(self.dice.below(300) as u64),
            26..=50 => self.read(lane),
            51..=65 => self.go_on(lane),
            66..=82 if self.threads > 0 => self.end_call(thread),
            83..=99 if self.threads > 0 => self.take_result(thread),
            _ => self.read(lane),
        }
        self.assign_all();
        // What threads have may come back and wait too.
        let more = 2 * MOST_BATCH * self.threads.max(1);
        let mut held = 0;
        for track in self.worker.tracks.iter().flatten() {
            let bound = self.policy.max_held + more;
            assert!(track.held() <= bound, "{} wait, {bound} may", track.held());
            held += track.held();
        }
        // Each lane that holds nothing may find one that fails.
        let bound = self.policy.max_held_bytes / BYTES + more + self.worker.tracks.len();
        assert!(held <= bound, "{held} of {BYTES} bytes wait, {bound} may");
    }

    /// Without further accidents, to the end.
    fn finish(&mut self) {
        self.book.lock().unwrap().is_out = false;
        for _ in 0..100_000 {
            for lane in 0..self.broker.logs.len() {
                self.read(lane);
                self.go_on(lane);
            }
            for thread in 0..self.threads {
                self.end_call(thread);
                self.take_result(thread);
            }
            self.cut();
            self.now += Duration::from_millis(500);
            let ends = self.broker.logs.iter().zip(&self.broker.committed);
            if ends.into_iter().all(|(log, (offset, _))| *offset == log.len() as i64) {
                return;
            }
        }
        panic!("it comes to no end: {:?}", self.broker.committed);
    }

    fn check(&self) {
        let most = self.policy.retry.max_attempts;
        for (lane, log) in self.broker.logs.iter().enumerate() {
            let mut last_of_key: BTreeMap<Option<&str>, i64> = BTreeMap::new();
            let of_lane: Vec<&Seen> = self.broker.visible.iter().filter(|seen| seen.lane == lane).collect();
            assert_eq!(of_lane.len(), log.len(), "each event ends once");
            let account = self.checkpoint(lane).account;
            assert_eq!(account.consumed(), log.len() as u64, "the account is balanced: {account:?}");
            let dead = of_lane.iter().filter(|seen| seen.attempts.is_some()).count() as u64;
            assert_eq!(
                (account.dead_letters, account.outputs + account.skipped),
                (dead, log.len() as u64 - dead)
            );
            for seen in of_lane {
                let logged = &log[seen.offset as usize];
                match (logged.fate, seen.attempts) {
                    (Fate::Reject, Some(attempts)) => assert!((1..=most).contains(&attempts)),
                    (Fate::Ok | Fate::Skip | Fate::Reject, None) => assert_ne!(logged.fate, Fate::Reject),
                    (_, Some(attempts)) => assert_eq!(attempts, most, "out of attempts"),
                    (Fate::Fails(_) | Fate::Panics(_), None) => {}
                }
                let key = match self.policy.order {
                    Order::Key => logged.key.as_deref().map(Some),
                    Order::Partition => Some(None),
                    Order::None => None,
                };
                if let Some(key) = key {
                    let before = last_of_key.insert(key, seen.offset);
                    assert!(before.is_none_or(|before| before < seen.offset), "order is kept");
                }
            }
        }
        for (_, _, attempt) in &self.book.lock().unwrap().calls {
            // A probe after the last attempt but one is no attempt.
            assert!(*attempt <= most, "call {attempt} of {most}");
        }
    }
}

#[test]
fn any_script_ends_each_event_once_in_order() {
    for seed in 0..SCRIPTS {
        let result = std::panic::catch_unwind(|| {
            let mut play = Play::new(seed);
            let steps = 50 + play.dice.below(400);
            (0..steps).for_each(|_| play.step());
            play.finish();
            play.check();
        });
        assert!(result.is_ok(), "script {seed}");
    }
}
