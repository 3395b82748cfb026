//! Who is called when: events of one key (partition, or nobody) one after the other, failed ones again after a
//! pause, everything else at once. No I/O and no clock in it: the worker asks, and does what it is told.
//!
//! A **strand** is what orders calls: two events of one strand are never called at the same time, nor the later
//! one before the earlier has ended. On the worker's own thread an event whose strand is free is called at
//! once, and nothing here is touched. With handler threads a strand with events in flight keeps its thread, so that
//! order needs no waiting; a free one goes to any thread.
//!
//! A failed event waits at the head of its strand, and others of the strand behind it; all else goes on. It is
//! called again when its pause is over **and** the failure is committed, so attempts outlive a crash. What its thread
//! was sent of the strand before the worker knew of the failure, the thread gives back uncalled ([`Desk::bounced`]).
//!
//! After an abort every lane is read again from what is committed, with a new epoch: results of calls from before
//! are dropped, and a strand whose old call still runs stays with its thread until that is over.

mod circuit;
mod lines;
mod results;
mod track;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use self::lines::Lines;
pub use self::results::Agenda;
pub use self::track::Track;
use super::checkpoint::Checkpoint;
use super::invoke::back_off;
use crate::model::{CircuitSpec, Order, Retry};

/// What orders calls. Two keys may share one (it is a hash): they are ordered more than they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Strand(u64);

/// How a function wants its calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// What orders them.
    pub order: Order,
    /// Pauses between attempts.
    pub retry: Retry,
    /// The most events of a lane that wait in memory.
    pub max_held: usize,
    /// The most bytes of all events of a worker that wait in memory.
    pub max_held_bytes: usize,
    /// When failures count as an outage.
    pub circuit: CircuitSpec,
    /// The most bytes of metadata that a lane may commit.
    pub max_metadata: usize,
}

/// One event that waits or is being called.
#[derive(Debug)]
pub struct Ticket<J> {
    /// Its lane.
    pub lane: u16,
    /// The lane's epoch when it was read.
    pub epoch: u32,
    /// What orders it.
    pub strand: Strand,
    /// Its offset.
    pub offset: i64,
    /// How much memory it takes.
    pub bytes: u32,
    /// The thread that has it.
    pub thread: u16,
    /// It is called to find out whether an outage is over: nothing is counted if it fails.
    pub is_probe: bool,
    /// The record.
    pub job: J,
}

/// Where an event that was just read goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Call it at once.
    Now,
    /// Give it to this thread.
    Thread(u16),
    /// It waits: [`Desk::hold`].
    Behind,
    /// Nothing more can be taken until a call ends.
    Busy,
    /// The lane holds as much as it may: read nothing more of it until [`Desk::may_go_on`].
    Full,
}

/// A failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// Failed calls so far; a probe does not count.
    pub attempts: u32,
    /// How long its event waits at least.
    pub pause: Duration,
    /// This failure opened the lane's circuit.
    pub has_opened: bool,
}

#[derive(Debug)]
struct Queue<J> {
    lane: u16,
    /// Events that are being called, all on `thread`, in order.
    out: u32,
    thread: u16,
    /// The head failed and waits for its time.
    is_failing: bool,
    /// By offset.
    waiting: VecDeque<Ticket<J>>,
}

/// The desk of one worker.
#[derive(Debug)]
pub struct Desk<J> {
    policy: Policy,
    queues: HashMap<Strand, Queue<J>, BuildHasherDefault<Identity>>,
    lines: Lines,
    /// What events that wait take up.
    held_bytes: usize,
}

/// Strands are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl<J> Desk<J> {
    /// A desk with so many handler threads; 0: calls run on the worker's own.
    pub fn new(policy: Policy, threads: usize) -> Self {
        Self { policy, queues: HashMap::default(), lines: Lines::new(threads), held_bytes: 0 }
    }

    /// How calls are wanted.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Calls run on the worker's own thread, no event waits, and none has to: nothing needs to be asked.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.queues.is_empty() && self.lines.is_inline()
    }

    /// Events are handed to threads so many at a time, and a thread may have up to `depth`: few when calls are slow.
    pub fn set_batch(&mut self, batch: u32, depth: u32) {
        self.lines.set_batch(batch, depth);
    }

    /// Calls that threads have, those included whose results will be dropped.
    pub fn in_flight(&self) -> u64 {
        self.lines.total()
    }

    /// When something of this lane is due next that nobody calls for.
    pub fn next_due(&self, track: &Track) -> Option<Duration> {
        if track.held == 0 {
            return None;
        }
        if track.circuit.is_open() {
            return track.circuit.probe_at();
        }
        // With calls in flight what is ready waits for a thread.
        if self.lines.total() == 0 && self.first_ready(track).is_some() {
            return Some(Duration::ZERO);
        }
        track.due.first().map(|(due, _)| *due)
    }

    /// Where the event of `strand` goes that was just read at `offset`.
    pub fn place(&mut self, track: &Track, strand: Strand, offset: i64) -> Placement {
        let is_open = track.circuit.is_open();
        let is_full = self.is_full(track, offset);
        match self.queues.get(&strand) {
            None if is_open || is_full || !self.fits(track, offset) => self.behind(track, is_full),
            None if self.lines.is_inline() => Placement::Now,
            None => self.lines.pick().map_or(Placement::Busy, Placement::Thread),
            Some(queue) => {
                let may_follow = !is_open && !queue.is_failing && queue.waiting.is_empty() && queue.out > 0;
                if may_follow && self.lines.has_room(queue.thread) && !is_full && self.fits(track, offset) {
                    return Placement::Thread(queue.thread);
                }
                self.behind(track, is_full)
            }
        }
    }

    fn behind(&self, track: &Track, is_full: bool) -> Placement {
        match is_full {
            // Others hold it all.
            false if self.holds_all() => Placement::Full,
            false => Placement::Behind,
            true if track.is_held_up() => Placement::Full,
            true => Placement::Busy,
        }
    }

    /// An offset that a restart finds unfinished among finished ones is in the metadata already. It must not wait for
    /// those to become shorter: it is what makes them long.
    fn is_full(&self, track: &Track, offset: i64) -> bool {
        track.held >= self.policy.max_held
            || (track.held > 0 && self.holds_all())
            || (offset >= track.checkpoint.ledger.next()
                && track.checkpoint.metadata_bytes() > self.admit_metadata())
    }

    /// At three quarters of the metadata no more offsets are begun.
    fn admit_metadata(&self) -> usize {
        self.policy.max_metadata / 4 * 3
    }

    /// The event at `offset` may be called: whatever it comes to, and the calls in flight, the metadata can be
    /// committed. One that failed has its place there already, and its end makes no more of it. So does the end of the
    /// first unfinished one, for whose failure some is kept back: something always goes on.
    fn fits(&self, track: &Track, offset: i64) -> bool {
        let ledger = &track.checkpoint.ledger;
        let more = track.checkpoint.metadata_growth();
        ledger.attempts(offset) > 0
            || offset <= ledger.position()
            || track.checkpoint.metadata_bytes() + (track.out + 2) * more <= self.policy.max_metadata
    }

    /// As many bytes as may wait do.
    fn holds_all(&self) -> bool {
        self.held_bytes >= self.policy.max_held_bytes
    }

    /// A lane that was full has room again.
    pub fn may_go_on(&self, track: &Track) -> bool {
        track.held <= self.policy.max_held / 2
            && self.held_bytes <= self.policy.max_held_bytes / 2
            && track.checkpoint.metadata_bytes() <= self.admit_metadata() / 4 * 3
    }

    /// A ticket for the event at `offset`, which takes so much memory.
    pub fn ticket(&self, track: &Track, strand: Strand, (offset, bytes): (i64, usize), job: J) -> Ticket<J> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Ticket {
            lane: track.lane,
            epoch: track.epoch,
            strand,
            offset,
            bytes,
            thread: 0,
            is_probe: false,
            job,
        }
    }

    fn queue(&mut self, lane: u16, strand: Strand) -> &mut Queue<J> {
        let queue = self.queues.entry(strand).or_insert_with(|| Queue {
            lane,
            out: 0,
            thread: 0,
            is_failing: false,
            waiting: VecDeque::new(),
        });
        queue.lane = lane;
        queue
    }

    /// The event waits behind others of its strand, or for the circuit to close.
    pub fn hold(&mut self, track: &mut Track, ticket: Ticket<J>) {
        track.ledger().admit(ticket.offset);
        track.held += 1;
        self.held_bytes += ticket.bytes as usize;
        let strand = ticket.strand;
        let queue = self.queue(track.lane, strand);
        queue.waiting.push_back(ticket);
        if queue.out == 0 && !queue.is_failing && queue.waiting.len() == 1 {
            track.ready.push_back(strand);
        }
    }

    /// The event is given to a thread.
    pub fn send(&mut self, track: &mut Track, ticket: &mut Ticket<J>, thread: u16) {
        track.ledger().admit(ticket.offset);
        ticket.thread = thread;
        track.out += 1;
        let queue = self.queue(track.lane, ticket.strand);
        queue.out += 1;
        queue.thread = thread;
        self.lines.sent(thread);
    }

    /// The next event of this lane that waited and may be called now: on the thread in its ticket, or on the worker's
    /// own. It counts as in flight until it is [`Desk::finished`], [`Desk::failed`], [`Desk::bounced`] or
    /// [`Desk::dropped`].
    pub fn next(&mut self, track: &mut Track, now: Duration) -> Option<Ticket<J>> {
        if track.held == 0 {
            return None;
        }
        if track.circuit.is_open() {
            return self.next_probe(track, now);
        }
        // What is left of those is ready again when the thread has given back what it has.
        while track.ready.front().is_some_and(|strand| self.head(strand).is_none()) {
            track.ready.pop_front();
        }
        if let Some(strand) = self.first_ready(track) {
            return self.start(track, strand);
        }
        let is_free = |strand: &Strand| self.queues.get(strand).is_some_and(|queue| queue.out == 0);
        let due = track.due.iter().take_while(|(due, _)| *due <= now).find(|(_, strand)| is_free(strand));
        let due = *due?;
        let ticket = self.start(track, due.1)?;
        track.due.remove(&due);
        Some(ticket)
    }

    /// The first ready strand whose head may be called.
    fn first_ready(&self, track: &Track) -> Option<Strand> {
        let may_begin =
            |strand: &&Strand| self.head(strand).is_some_and(|head| self.fits(track, head.offset));
        track.ready.iter().find(may_begin).copied()
    }

    /// The event of a strand that waits for nothing but a call.
    fn head(&self, strand: &Strand) -> Option<&Ticket<J>> {
        let queue = self.queues.get(strand).filter(|queue| !queue.is_failing)?;
        let has_room = queue.out == 0 || self.lines.has_room(queue.thread);
        queue.waiting.front().filter(|_| has_room)
    }

    fn next_probe(&mut self, track: &mut Track, now: Duration) -> Option<Ticket<J>> {
        if !track.circuit.may_probe(now) {
            return None;
        }
        let is_free = |strand: &Strand, is_failing: bool| {
            let queue = self.queues.get(strand);
            queue.is_some_and(|queue| {
                let head = queue.waiting.front().filter(|_| queue.out == 0 && queue.is_failing == is_failing);
                head.is_some_and(|head| self.fits(track, head.offset))
            })
        };
        let fresh = track.ready.iter().position(|strand| is_free(strand, false));
        let failed = track.due.iter().find(|(_, strand)| is_free(strand, true)).copied();
        let mut ticket = match (fresh, failed) {
            (Some(at), failed) if failed.is_none() || track.circuit.wants_fresh() => {
                let strand = track.ready[at];
                let ticket = self.start(track, strand)?;
                track.ready.remove(at);
                ticket
            }
            (_, Some(due)) => {
                let ticket = self.start(track, due.1)?;
                track.due.remove(&due);
                ticket
            }
            _ => return None,
        };
        ticket.is_probe = true;
        track.circuit.probing();
        Some(ticket)
    }

    /// Takes the head of a strand off; `None`: no thread has room.
    fn start(&mut self, track: &mut Track, strand: Strand) -> Option<Ticket<J>> {
        let queue = self.queues.get_mut(&strand)?;
        let thread = match self.lines.is_inline() {
            true => 0,
            false if queue.out > 0 => queue.thread,
            false => self.lines.pick()?,
        };
        let mut ticket = queue.waiting.pop_front()?;
        if std::mem::take(&mut queue.is_failing) {
            track.failing -= 1;
        }
        track.held -= 1;
        track.out += 1;
        self.held_bytes -= ticket.bytes as usize;
        (queue.out, queue.thread) = (queue.out + 1, thread);
        (ticket.thread, ticket.is_probe) = (thread, false);
        self.lines.sent(thread);
        Some(ticket)
    }

    /// A call ended; the strand goes on. Returns the lane whose strand has become ready.
    fn give_back(&mut self, strand: Strand, thread: u16) -> Option<u16> {
        self.lines.returned(thread);
        let queue = self.queues.get_mut(&strand)?;
        queue.out = queue.out.saturating_sub(1);
        if queue.out > 0 {
            return None;
        }
        if queue.waiting.is_empty() {
            self.queues.remove(&strand);
            return None;
        }
        (!queue.is_failing).then_some(queue.lane)
    }

    /// An event ended for good at once, on the worker's own thread. `went_well`: it was called.
    #[inline]
    pub fn finished_at_once(&mut self, track: &mut Track, offset: i64, went_well: bool) -> bool {
        track.ledger().finish(offset);
        went_well && track.circuit.went_well()
    }

    /// An event ended for good: as a result, a drop that is counted, or a dead letter. `went_well`: its call did, so
    /// there is no outage; whether that closed the circuit.
    pub fn finished(&mut self, track: &mut Track, ticket: &Ticket<J>, went_well: bool) -> bool {
        track.ledger().finish(ticket.offset);
        track.out = track.out.saturating_sub(1);
        if self.give_back(ticket.strand, ticket.thread).is_some() {
            track.ready.push_back(ticket.strand);
        }
        if went_well {
            return track.circuit.went_well();
        }
        if ticket.is_probe {
            track.circuit.forget_probe();
        }
        false
    }

    /// A call failed and is to be tried again. `after`: the pause that the handler asked for; `dice` is uniform in 0..1.
    pub fn failed(
        &mut self,
        track: &mut Track,
        ticket: Ticket<J>,
        after: Option<Duration>,
        (now, dice): (Duration, f64),
    ) -> Failed {
        let Ticket { strand, offset, thread, is_probe, .. } = ticket;
        self.lines.returned(thread);
        track.out = track.out.saturating_sub(1);
        if let Some(queue) = self.queues.get_mut(&strand) {
            queue.out = queue.out.saturating_sub(1);
        }
        let retry = &self.policy.retry;
        // What was on its way when the circuit opened tells nothing new, and a probe is none of its event's attempts.
        let is_counted = !is_probe && !track.circuit.is_open();
        let attempts = match is_counted {
            true => track.ledger().fail(offset),
            false => {
                track.ledger().admit(offset);
                track.checkpoint.ledger.attempts(offset)
            }
        };
        let pause = after.unwrap_or_else(|| back_off(retry, attempts.max(1), dice));
        let has_opened = is_counted && track.circuit.failed(strand, attempts == 1, now, pause);
        if is_probe {
            track.circuit.probe_failed(retry, (now, dice));
        }
        track.failing += 1;
        track.held += 1;
        self.held_bytes += ticket.bytes as usize;
        track.unarmed.push((now + pause, strand));
        // A cut makes the attempt outlive a crash; without one nothing would arm it.
        track.is_dirty = true;
        let queue = self.queue(track.lane, strand);
        queue.is_failing = true;
        queue.waiting.push_front(ticket);
        Failed { attempts, pause, has_opened }
    }

    /// A thread gave the event back uncalled, since an earlier one of its strand failed.
    pub fn bounced(&mut self, track: &mut Track, ticket: Ticket<J>) {
        let strand = ticket.strand;
        self.held_bytes += ticket.bytes as usize;
        self.lines.returned(ticket.thread);
        track.out = track.out.saturating_sub(1);
        let queue = self.queue(track.lane, strand);
        queue.out = queue.out.saturating_sub(1);
        let at = queue.waiting.partition_point(|other| other.offset < ticket.offset);
        queue.waiting.insert(at, ticket);
        track.held += 1;
        if queue.out == 0 && !queue.is_failing {
            self.wake(track, strand);
        }
    }

    /// A result from before an abort, or of a lane that is gone, was dropped. Returns a lane for which the strand is ready
    /// now: see [`Desk::wake`].
    pub fn dropped(&mut self, ticket: &Ticket<J>) -> Option<u16> {
        self.give_back(ticket.strand, ticket.thread)
    }

    /// A strand that waited for a dropped call goes on.
    pub fn wake(&mut self, track: &mut Track, strand: Strand) {
        if !track.ready.contains(&strand) {
            track.ready.push_back(strand);
        }
    }

    /// The lane is read again from `checkpoint`, in a new epoch: nothing of it waits any more.
    pub fn rewind(&mut self, track: &mut Track, checkpoint: Checkpoint, epoch: u32) {
        self.forget(track.lane);
        track.read_to = checkpoint.offset();
        track.checkpoint = checkpoint;
        (track.epoch, track.is_dirty) = (epoch, false);
        (track.held, track.failing, track.out) = (0, 0, 0);
        track.due.clear();
        track.unarmed.clear();
        track.ready.clear();
        track.circuit.forget_probe();
    }

    /// The lane is gone: what waited there is dropped.
    pub fn forget(&mut self, lane: u16) {
        self.queues.retain(|_, queue| {
            if queue.lane == lane {
                self.held_bytes -= queue.waiting.iter().map(|ticket| ticket.bytes as usize).sum::<usize>();
                queue.waiting.clear();
                queue.is_failing = false;
            }
            queue.out > 0 || !queue.waiting.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Order;
    use crate::pipeline::METADATA_LIMIT;

    fn policy() -> Policy {
        Policy {
            order: Order::Key,
            retry: Retry {
                max_attempts: 3,
                initial: Duration::from_millis(1),
                factor: 2.0,
                max: Duration::from_secs(1),
                jitter: 0.0,
            },
            max_held: 10,
            max_held_bytes: 1000,
            circuit: CircuitSpec { keys: 0, within: Duration::ZERO },
            max_metadata: METADATA_LIMIT,
        }
    }

    /// A worker that comes back finds so many unfinished offsets between finished ones that nothing more is begun, and
    /// nothing in memory whose end would make room.
    #[test]
    fn what_makes_the_metadata_long_is_always_taken() {
        for threads in [0, 4] {
            let mut checkpoint = Checkpoint::fresh(0);
            (0..3000).for_each(|offset| checkpoint.ledger.admit(offset));
            (0..3000).filter(|offset| offset % 2 > 0).for_each(|offset| checkpoint.ledger.finish(offset));
            let mut desk: Desk<()> = Desk::new(policy(), threads);
            assert!(checkpoint.metadata_bytes() > desk.admit_metadata());
            let mut track = Track::new(desk.policy(), 0, ("rides", 0), checkpoint, 0);
            let mut place = |track: &mut Track, offset: i64| {
                let strand = track.strand(offset, Some(&offset.to_le_bytes()));
                desk.place(track, strand, offset)
            };
            assert!(
                matches!(place(&mut track, 0), Placement::Now | Placement::Thread(_)),
                "{threads} threads"
            );
            assert_eq!(place(&mut track, 3000), Placement::Busy, "nothing is begun beyond");
        }
    }
}
