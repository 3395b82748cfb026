//! Workers are stopped, killed, started and stand still in random turns, several at a time, under load with retries and
//! dead letters: each event ends exactly once, as a result or as a dead letter.
//!
//! With `TIDEMILL_TEST_IMAGE=tidemill:0.1.0 TIDEMILL_TEST_TURNS=100` the same befalls containers of that image.
//! `TIDEMILL_TEST_SEED=…` rolls the same dice again.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Deadline, Dice, Ended, Follower, Load, Signal, Stage, Worker, cluster, number, trying, wait_until,
};

const WITHIN: Duration = Duration::from_secs(120);
/// Longer than the sessions, so that the group goes on without a worker that stands still.
const STANDSTILL: Duration = Duration::from_secs(4);
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn each_event_ends_once_whatever_befalls_the_workers() {
    let turns = number("TIDEMILL_TEST_TURNS").unwrap_or(15);
    let dice = Dice::new();
    // Shown when the test fails.
    println!("{dice} TIDEMILL_TEST_TURNS={turns}");
    let stage = Stage::new(cluster(), "turmoil", 6)
        .with_short_sessions()
        .with_trial()
        .with("/spec/handler/concurrency", json!(16))
        .with("/spec/delivery/originHeaders", json!(true))
        // Twice as long, and five seconds more, a transaction of one that stands still hides what others wrote.
        .with("/spec/handler/timeout", json!("5s"))
        .with(
            "/spec/delivery/retry",
            json!({ "maxAttempts": 30, "initial": "20ms", "max": "200ms", "maxHeld": 50_000 }),
        );
    let load = Load::start_with(cluster(), &stage.source, 10, trying);
    let mut crew = Crew::new(&stage, dice);
    for turn in 1..=turns {
        crew.turn();
        println!("turn {turn}: {}", crew.states());
    }
    let count = load.finish();
    crew.wake_all();
    stage.wait_until_drained(WITHIN);
    crew.end();
    let Ended { results, dead } = stage.assert_each_ends_once(count);
    println!("{count} events, {} results, {} dead letters, {:?}", results.len(), dead.len(), crew.tally);
    assert!(dead.iter().all(|letter| letter.header("tidemill-reason") == Some("rejected")), "{dead:#?}");
}

enum Seat {
    Empty,
    Works(Worker),
    /// Stands still at least until then.
    StandsStill(Worker, Deadline),
}

#[derive(Debug, Default)]
struct Tally {
    started: u32,
    stopped: u32,
    killed: u32,
    restarted: u32,
    stood_still: u32,
}

/// The workers of the scenario, and the dice.
struct Crew<'s> {
    stage: &'s Stage,
    follower: Follower,
    seats: [Seat; NAMES.len()],
    dice: Dice,
    tally: Tally,
}

impl<'s> Crew<'s> {
    fn new(stage: &'s Stage, dice: Dice) -> Self {
        let follower = Follower::start(cluster(), &stage.sink);
        let seats = NAMES.map(|who| Seat::Works(stage.spawn(who)));
        Self { stage, follower, seats, dice, tally: Tally::default() }
    }

    /// One thing befalls one of them, once something has come out since the last.
    fn turn(&mut self) {
        self.follower.wait_for_more(1 + self.dice.roll(200), WITHIN);
        let who = self.dice.roll(NAMES.len());
        let others = self.seats.iter().filter(|seat| matches!(seat, Seat::Works(_))).count() - 1;
        let (stage, tally) = (self.stage, &mut self.tally);
        let spawn = || Seat::Works(stage.spawn(NAMES[who]));
        let seat = std::mem::replace(&mut self.seats[who], Seat::Empty);
        self.seats[who] = match (seat, self.dice.roll(5)) {
            (Seat::Empty, _) => {
                tally.started += 1;
                spawn()
            }
            (Seat::StandsStill(mut worker, until), roll) => {
                if roll == 0 {
                    tally.killed += 1;
                    worker.kill();
                    Seat::Empty
                } else if until.is_over() {
                    worker.signal(Signal::Continue);
                    Seat::Works(worker)
                } else {
                    Seat::StandsStill(worker, until)
                }
            }
            (Seat::Works(mut worker), 0) if others > 0 => {
                tally.stopped += 1;
                stop(&mut worker);
                Seat::Empty
            }
            (Seat::Works(mut worker), 1) if others > 0 => {
                tally.killed += 1;
                worker.kill();
                Seat::Empty
            }
            (Seat::Works(mut worker), 2) if others > 0 => {
                tally.stood_still += 1;
                worker.signal(Signal::Stop);
                Seat::StandsStill(worker, Deadline::after(STANDSTILL))
            }
            (Seat::Works(mut worker), roll) => {
                tally.restarted += 1;
                if roll == 3 {
                    stop(&mut worker)
                } else {
                    worker.kill()
                }
                spawn()
            }
        };
    }

    fn states(&self) -> String {
        let letter = |seat: &Seat| match seat {
            Seat::Empty => '-',
            Seat::Works(_) => 'w',
            Seat::StandsStill(..) => 's',
        };
        let read = self.follower.count();
        format!("{} {read} results", self.seats.iter().map(letter).collect::<String>())
    }

    /// All that stand still go on, and those that are gone come back.
    fn wake_all(&mut self) {
        for (seat, who) in self.seats.iter_mut().zip(NAMES) {
            *seat = match std::mem::replace(seat, Seat::Empty) {
                Seat::Empty => Seat::Works(self.stage.spawn(who)),
                Seat::Works(worker) => Seat::Works(worker),
                Seat::StandsStill(mut worker, _) => {
                    worker.signal(Signal::Continue);
                    Seat::Works(worker)
                }
            };
        }
    }

    /// They are kept to the end: what they logged is shown when something is missing.
    fn end(&mut self) {
        for seat in &mut self.seats {
            let Seat::Works(worker) = seat else { panic!("all were woken") };
            stop(worker);
        }
    }
}

/// In order, one that stood still for long too.
fn stop(worker: &mut Worker) {
    wait_until(WITHIN, "it to listen to signals", || worker.has_begun());
    let status = worker.terminate(WITHIN);
    assert!(status.success(), "{status}: {}", worker.log());
}
