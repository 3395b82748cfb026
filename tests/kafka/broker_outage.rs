//! The only broker goes away under load, in order and at once: the worker says so and waits, and goes on by itself
//! when the broker is back.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Follower, Load, PrivateBroker, ReadRecord, Stage, Worker, assert_each_once, assert_none_lost, wait_until,
};

const WITHIN: Duration = Duration::from_secs(90);

#[test]
fn an_outage_is_waited_out_and_each_event_has_one_result() {
    let (count, results) = outlive_outages("exactlyOnce", 2);
    assert_each_once(count, &results);
}

#[test]
fn at_least_once_loses_nothing_in_an_outage() {
    let (count, results) = outlive_outages("atLeastOnce", 1);
    assert_none_lost(count, &results);
}

fn outlive_outages(guarantee: &str, outages: u32) -> (u64, Vec<ReadRecord>) {
    let mut broker = PrivateBroker::start();
    let stage = Stage::new(broker.kafka(), "outage", 4).with("/spec/delivery/guarantee", json!(guarantee));
    let follower = Follower::start(broker.kafka(), &stage.sink);
    let load = Load::start(broker.kafka(), &stage.source, 20);
    let mut worker = stage.spawn("a");
    follower.wait_for(500, WITHIN);
    for outage in 0..outages {
        let said = warnings(&worker).len();
        if outage == 0 {
            broker.kill();
        } else {
            broker.stop();
        }
        wait_until(WITHIN, "the worker to say that the broker is away", || warnings(&worker).len() > said);
        let cuts = || worker.log().matches("cut committed").count();
        let before = cuts();
        broker.start_again();
        // Results of before may come late, and the cut that was under way: the worker itself must have gone on.
        wait_until(WITHIN, "the worker to cut again", || cuts() > before + 1);
        follower.wait_for_more(500, WITHIN);
    }
    assert!(worker.is_running());
    let count = load.finish();
    stage.wait_until_drained(WITHIN);
    follower.wait_for(count as usize, WITHIN);
    assert!(worker.terminate(WITHIN).success());
    let warnings = warnings(&worker);
    assert!(warnings.len() < 60, "an outage is said, not chanted: {warnings:#?}");
    (count, follower.read())
}

fn warnings(worker: &Worker) -> Vec<String> {
    worker.log().lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
}

#[test]
fn a_worker_that_starts_before_its_broker_begins_when_it_comes() {
    let mut broker = PrivateBroker::start();
    let stage = Stage::new(broker.kafka(), "early", 1);
    broker.kafka().produce(&stage.source, [crate::harness::ToSend::new("k", "0")]);
    broker.stop();
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "the worker to wait visibly", || worker.log().contains("waiting for kafka"));
    broker.start_again();
    let follower = Follower::start(broker.kafka(), &stage.sink);
    assert_each_once(1, &follower.wait_for(1, WITHIN));
    assert!(worker.terminate(WITHIN).success());
}
