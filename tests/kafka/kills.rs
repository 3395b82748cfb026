//! Workers are killed, join and leave at any moment under load: each event has one visible result, in the order
//! of its key.
//!
//! `TIDEMILL_TEST_KILLS=200` for a long run, `TIDEMILL_TEST_SEED=…` to roll the same dice again.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Dice, Ended, Follower, Load, Stage, ToSend, Worker, cluster, number, trying};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn each_event_has_one_result_however_often_workers_are_killed() {
    let stage = Stage::new(cluster(), "kills", 4)
        .with_short_sessions()
        .with("/spec/delivery/originHeaders", json!(true));
    chaos(&stage, |_, record| record);
}

#[test]
fn calls_side_by_side_retries_and_dead_letters_survive_kills_too() {
    let stage = Stage::new(cluster(), "kills-more", 4)
        .with_short_sessions()
        .with_trial()
        .with("/spec/handler/concurrency", json!(16))
        .with("/spec/delivery/originHeaders", json!(true))
        .with("/spec/delivery/retry", json!({ "maxAttempts": 30, "initial": "20ms", "max": "100ms" }));
    let Ended { dead, .. } = chaos(&stage, trying);
    assert!(dead.iter().all(|letter| letter.header("tidemill-reason") == Some("rejected")), "{dead:#?}");
}

/// Kills, stops and starts workers under load, and looks at what became of each event.
fn chaos(stage: &Stage, dress: impl Fn(u64, ToSend) -> ToSend + Send + 'static) -> Ended {
    let kills: u32 = number("TIDEMILL_TEST_KILLS").map_or(20, |kills| kills as u32);
    let mut dice = Dice::new();
    // Shown when the test fails.
    println!("{dice} TIDEMILL_TEST_KILLS={kills}");

    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start_with(cluster(), &stage.source, 20, dress);
    let mut workers: Vec<Option<Worker>> = ["a", "b", "c"].map(|who| Some(stage.spawn(who))).into();
    let names = ["a", "b", "c"];
    let mut killed = 0;
    while killed < kills {
        // Something must have come out since, or nothing could ever.
        follower.wait_for_more(1 + dice.roll(300), WITHIN);
        load.wait_for_more(dice.roll(100) as u64);
        let who = dice.roll(3);
        let running = workers.iter().flatten().count();
        match (&mut workers[who], dice.roll(4)) {
            (Some(worker), 0) if running > 1 => {
                let status = worker.terminate(WITHIN);
                // One that was only just started may not listen to signals yet.
                let is_ended = status.success() || status.signal() == Some(15);
                assert!(is_ended, "{status}: {}", worker.log());
                workers[who] = None;
            }
            (Some(worker), roll) => {
                killed += 1;
                worker.kill();
                // Most come back at once, under the same name.
                workers[who] = (running == 1 || roll != 1).then(|| stage.spawn(names[who]));
            }
            (gone, _) => *gone = Some(stage.spawn(names[who])),
        }
    }
    if workers.iter().flatten().count() == 0 {
        workers.push(Some(stage.spawn("a")));
    }
    let count = load.finish();
    stage.wait_until_drained(WITHIN);
    // They are kept to the end: what they logged is shown when something is missing.
    for worker in workers.iter_mut().flatten() {
        let status = worker.terminate(WITHIN);
        assert!(status.success(), "{status}: {}", worker.log());
    }
    stage.assert_each_ends_once(count)
}
