//! Whatever fails, and in whatever order calls end: what a lane commits beside its offset fits into the broker's limit,
//! and every event comes to its end.

use std::time::Duration;

use proptest::prelude::*;
use tidemill::model::{CircuitSpec, Dice, Order, Retry};
use tidemill::pipeline::{Checkpoint, Desk, Placement, Policy, Ticket, Track};

const EVENTS: i64 = 1500;

struct Mill {
    desk: Desk<()>,
    track: Track,
    out: Vec<Ticket<()>>,
    now: Duration,
    dice: Dice,
    max_metadata: usize,
    /// Of a hundred calls so many fail.
    failures: u64,
}

impl Mill {
    fn new(threads: usize, max_metadata: usize, circuit_keys: usize, (failures, seed): (u64, u64)) -> Self {
        let retry = Retry {
            max_attempts: 1000,
            initial: Duration::from_millis(20),
            factor: 2.0,
            max: Duration::from_millis(100),
            jitter: 0.0,
        };
        let policy = Policy {
            order: Order::Key,
            retry,
            max_held: 1000,
            max_held_bytes: usize::MAX,
            circuit: CircuitSpec { keys: circuit_keys, within: Duration::from_secs(10) },
            max_metadata,
        };
        let mut desk = Desk::new(policy, threads);
        desk.set_batch(8, 16);
        let track = Track::new(desk.policy(), 0, ("rides", 0), Checkpoint::fresh(0), 0);
        let (out, now, dice) = (Vec::new(), Duration::ZERO, Dice::new(seed));
        Self { desk, track, out, now, dice, max_metadata, failures }
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.dice.bits() >> 33) % bound
    }

    /// The next event is read, if the lane takes it.
    fn read(&mut self) -> bool {
        let offset = self.track.read_to;
        if offset == EVENTS {
            return false;
        }
        let strand = self.track.strand(offset, Some(&(offset % 500).to_le_bytes()));
        let place = self.desk.place(&self.track, strand, offset);
        if matches!(place, Placement::Busy | Placement::Full) {
            return false;
        }
        let mut ticket = self.desk.ticket(&self.track, strand, (offset, 1), ());
        self.track.read_to += 1;
        match place {
            Placement::Thread(thread) => {
                self.desk.send(&mut self.track, &mut ticket, thread);
                self.out.push(ticket);
            }
            Placement::Behind => self.desk.hold(&mut self.track, ticket),
            _ => self.end(ticket),
        }
        true
    }

    fn end(&mut self, ticket: Ticket<()>) {
        if self.below(100) < self.failures {
            self.desk.failed(&mut self.track, ticket, None, (self.now, 0.5));
        } else {
            self.desk.finished(&mut self.track, &ticket, true);
        }
    }

    /// A call of any strand ends, which may be the last that was begun; those of one strand end in turns.
    fn end_any(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let any = self.below(self.out.len() as u64) as usize;
        let strand = self.out[any].strand;
        let first = self.out.iter().position(|ticket| ticket.strand == strand).unwrap();
        let ticket = self.out.remove(first);
        let has_failed = self.below(100) < self.failures;
        if !has_failed {
            self.desk.finished(&mut self.track, &ticket, true);
            return;
        }
        self.desk.failed(&mut self.track, ticket, None, (self.now, 0.5));
        // The thread gives back what it was sent behind it.
        let (behind, others) = self.out.drain(..).partition(|ticket| ticket.strand == strand);
        self.out = others;
        behind.into_iter().for_each(|ticket| self.desk.bounced(&mut self.track, ticket));
    }

    fn go_on(&mut self) {
        let Some(ticket) = self.desk.next(&mut self.track, self.now) else { return };
        if self.desk.in_flight() > 0 { self.out.push(ticket) } else { self.end(ticket) }
    }

    fn cut(&mut self) -> Result<(), TestCaseError> {
        let length = self.track.checkpoint.metadata().len();
        prop_assert!(length <= self.max_metadata, "{length} of {} bytes", self.max_metadata);
        self.track.committed();
        Ok(())
    }

    fn is_through(&self) -> bool {
        self.track.checkpoint.offset() == EVENTS
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_failures_in_any_order_fit_and_end(
        threads in prop::sample::select(vec![0usize, 4, 64]),
        max_metadata in prop::sample::select(vec![300usize, 1000, 4096]),
        circuit_keys in prop::sample::select(vec![0usize, 3]),
        failures in prop::sample::select(vec![10u64, 50, 95]),
        seed in any::<u64>(),
    ) {
        let mut mill = Mill::new(threads, max_metadata, circuit_keys, (failures, seed));
        for round in 0.. {
            prop_assert!(round < 40_000, "it comes to no end: {:?}", mill.track.checkpoint.offset());
            // An outage ends some time.
            if round == 100 {
                mill.failures = mill.failures.min(30);
            }
            let most = mill.below(200);
            (0..most).take_while(|_| mill.read()).count();
            for _ in 0..mill.below(60) {
                mill.go_on();
                mill.end_any();
            }
            mill.cut()?;
            mill.now += Duration::from_millis(50);
            if mill.is_through() {
                break;
            }
        }
    }
}
