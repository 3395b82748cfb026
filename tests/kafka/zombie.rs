//! A worker that stood still while the group went on without it commits nothing when it wakes: the events that it
//! held have one result, its successor's. It joins again and lives on.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Follower, Load, ReadRecord, Signal, Stage, Worker, assert_each_once, assert_none_lost, cluster,
    wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_worker_that_wakes_after_its_session_commits_nothing_and_lives_on() {
    let (count, results) = stand_still_and_wake("exactlyOnce");
    assert_each_once(count, &results);
}

#[test]
fn at_least_once_a_worker_that_wakes_loses_nothing() {
    let (count, results) = stand_still_and_wake("atLeastOnce");
    assert_none_lost(count, &results);
}

fn stand_still_and_wake(guarantee: &str) -> (u64, Vec<ReadRecord>) {
    let stage = Stage::new(cluster(), "zombie", 4)
        .with_short_sessions()
        .with("/spec/delivery/guarantee", json!(guarantee));
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 20);
    let mut zombie = stage.spawn("zombie");
    follower.wait_for(500, WITHIN);
    let mut heir = None;
    for round in 1..=2 {
        zombie.signal(Signal::Stop);
        if heir.is_none() {
            heir = Some(stage.spawn("heir"));
        }
        // More than was on its way: the heir has all partitions.
        wait_until(WITHIN, "the heir to have everything", || stage.members() == 1);
        follower.wait_for_more(1000, WITHIN);
        let before = begun(&zombie);
        zombie.signal(Signal::Continue);
        wait_until(WITHIN, "the zombie to notice", || {
            zombie.log().matches("partitions lost").count() >= round
        });
        // A member gets its partitions in a later round of the group; only then is there something to lose.
        wait_until(WITHIN, "the zombie to work again", || stage.members() == 2 && begun(&zombie) > before);
        follower.wait_for_more(500, WITHIN);
    }
    // It works again: alone, all comes out.
    let mut heir = heir.expect("it was started");
    assert!(heir.terminate(WITHIN).success());
    follower.wait_for_more(500, WITHIN);
    let count = load.finish();
    stage.wait_until_drained(WITHIN);
    follower.wait_for(count as usize, WITHIN);
    assert!(zombie.terminate(WITHIN).success());
    (count, follower.read())
}

/// How often a lane began.
fn begun(worker: &Worker) -> usize {
    worker.log().matches("lane begins").count()
}
