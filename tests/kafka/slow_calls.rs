//! Calls that take long are done all the same, and their neighbours with them.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Follower, Signal, Stage, ToSend, assert_each_once, cluster, holds_for, wait_until};

const WITHIN: Duration = Duration::from_secs(90);

#[test]
fn work_that_outlasts_the_transaction_is_done_again_in_transactions_of_its_own() {
    // The transaction that the first output opens ends after 12 s: what is stopped for longer finds it gone.
    let stage = Stage::new(cluster(), "outlasts", 1)
        .with_trial()
        .with("/spec/handler/timeout", json!("2s"))
        .with("/spec/delivery/commitInterval", json!("3s"));
    let follower = Follower::start(cluster(), &stage.sink);
    let records = (0..5).map(|n| ToSend::new("key", n.to_string()).header("sleep-ms", "1000"));
    cluster().produce(&stage.source, records);
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "the second call", || stage.calls().len() >= 2);
    worker.signal(Signal::Stop);
    holds_for(Duration::from_secs(14), "nothing is seen", || follower.count() == 0);
    worker.signal(Signal::Continue);
    assert_each_once(5, &follower.wait_for(5, WITHIN));
    assert!(worker.terminate(WITHIN).success());
    let calls = stage.calls();
    assert_eq!(calls.values().map(Vec::len).max(), Some(2), "{calls:?}");
}

#[test]
fn work_may_take_as_long_as_cuts_are_apart() {
    let stage = Stage::new(cluster(), "apart", 1)
        .with_trial()
        .with("/spec/handler/timeout", json!("2s"))
        .with("/spec/delivery/commitInterval", json!("30s"));
    let follower = Follower::start(cluster(), &stage.sink);
    let records = (0..13).map(|n| ToSend::new("key", n.to_string()).header("sleep-ms", "1000"));
    cluster().produce(&stage.source, records);
    let mut worker = stage.spawn("a");
    assert_each_once(13, &follower.wait_for(13, WITHIN));
    assert!(worker.terminate(WITHIN).success());
    let calls = stage.calls();
    assert_eq!(calls.values().map(Vec::len).max(), Some(1), "in one transaction: {calls:?}");
}

#[test]
fn a_call_that_takes_longer_than_its_timeout_is_said_and_counts() {
    for concurrency in [1, 2] {
        let stage = Stage::new(cluster(), "overruns", 1)
            .with_trial()
            .with("/spec/handler/concurrency", json!(concurrency))
            .with("/spec/handler/timeout", json!("1s"));
        let follower = Follower::start(cluster(), &stage.sink);
        cluster().produce(&stage.source, [ToSend::new("key", "0").header("sleep-ms", "1500")]);
        let mut worker = stage.spawn("a");
        assert_each_once(1, &follower.wait_for(1, WITHIN));
        let log = worker.log();
        assert!(log.contains("call took longer than its timeout"), "{log}");
        assert!(worker.terminate(WITHIN).success());
    }
}
