//! Workers come with the backlog and go with it, and of two processes one decides.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(90);

/// Slow, and to be done with what waits in two seconds.
fn slow(stem: &str) -> Stage {
    let scale = json!({ "min": 0, "max": 4, "drainWithin": "2s", "zeroAfter": "2s" });
    Stage::new(cluster(), stem, 4).with_trial().with("/spec/scale", scale)
}

fn events(numbers: std::ops::Range<u32>) -> impl Iterator<Item = ToSend> {
    numbers.map(|n| ToSend::new(format!("key-{n}"), n.to_string()).header("sleep-ms", "10"))
}

#[test]
fn workers_come_with_a_backlog_and_go_with_it() {
    let stage = slow("tide");
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "its first worker", || stage.members() == 1);
    cluster().produce(&stage.source, events(0..4_000));
    wait_until(WITHIN, "more workers", || stage.members() >= 3);
    stage.wait_until_drained(WITHIN);
    wait_until(WITHIN, "it to sleep", || stage.members() == 0);
    stage.assert_each_ends_once(4_000);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn of_two_processes_one_decides_and_the_other_takes_over() {
    let stage = slow("deciders");
    let mut workers = ["a", "b"].map(|who| stage.spawn(who));
    wait_until(WITHIN, "both", || stage.members() == 2);
    cluster().produce(&stage.source, events(0..10_000));
    let decides = |log: &str| log.contains("workers: ");
    wait_until(WITHIN, "one to decide", || workers.iter().any(|worker| decides(&worker.log())));
    wait_until(WITHIN, "more workers", || stage.members() >= 3);
    assert!(stage.members() <= 4, "no more than may be");
    let first = workers.iter().position(|worker| decides(&worker.log())).expect("one decides");
    workers[first].kill();
    cluster().produce(&stage.source, events(10_000..12_000));
    let other = 1 - first;
    wait_until(WITHIN, "the other to decide", || decides(&workers[other].log()));
    stage.wait_until_drained(WITHIN);
    stage.assert_each_ends_once(12_000);
    assert!(workers[other].terminate(WITHIN).success(), "{}", workers[other].log());
}
