//! Workers are killed, join and leave at any moment under load: each event has one visible result, in the order
//! of its key.
//!
//! `TIDEMILL_TEST_KILLS=200` for a long run, `TIDEMILL_TEST_SEED=…` to roll the same dice again.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Ended, Follower, Load, Siege, Stage, ToSend, cluster, trying};

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
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start_with(cluster(), &stage.source, 20, dress);
    let siege = Siege::lay(stage, &load, |dice| follower.wait_for_more(1 + dice.roll(300), WITHIN));
    let count = load.finish();
    stage.wait_until_drained(WITHIN);
    siege.raise();
    stage.assert_each_ends_once(count)
}
