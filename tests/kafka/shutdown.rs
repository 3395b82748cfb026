//! SIGTERM: what is finished is committed, the group is left at once, the process ends with 0. A second signal, or
//! the deadline, ends it with 143, and what was begun is done again.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Follower, Load, Signal, Stage, ToSend, assert_each_once, cluster, free_port, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);
/// Of the default session of 10 s: who leaves properly is not waited for.
const AT_ONCE: Duration = Duration::from_secs(8);

#[test]
fn a_terminated_worker_commits_what_is_finished_and_leaves_at_once() {
    let stage = Stage::new(cluster(), "terminated", 4);
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 20);
    let mut leaver = stage.spawn("leaver");
    follower.wait_for(500, WITHIN);
    assert_eq!(leaver.terminate(WITHIN).code(), Some(0));
    assert_eq!(stage.members(), 0, "it has left");
    // Each event has one result and the source has no markers, so offsets and results must be equal in number.
    let committed: i64 = stage.committed().into_iter().flatten().sum();
    let results = follower.wait_for(committed as usize, WITHIN);
    assert_eq!(results.len() as i64, committed);

    let mut heir = stage.spawn("heir");
    follower.wait_for_more(100, WITHIN);
    let mut other = stage.spawn("other");
    wait_until(WITHIN, "both to be members", || stage.members() == 2);
    wait_until(WITHIN, "the other to have partitions", || other.log().contains("partitions assigned lanes="));
    follower.wait_for_more(500, WITHIN);
    let before = heir.log().matches("partitions assigned").count();
    assert_eq!(other.terminate(WITHIN).code(), Some(0));
    wait_until(AT_ONCE, "the heir to be given the partitions", || {
        heir.log().matches("partitions assigned").count() > before
    });
    let count = load.finish();
    stage.wait_until_drained(WITHIN);
    assert_each_once(count, &follower.wait_for(count as usize, WITHIN));
    assert_eq!(heir.terminate(WITHIN).code(), Some(0));
}

/// However much is at hand, and however long until the next cut: what is not begun is left to others.
#[test]
fn a_terminated_worker_ends_within_its_deadline_under_slow_calls() {
    const EVENTS: u64 = 600;
    let deadline = Duration::from_secs(5);
    let stage =
        Stage::new(cluster(), "deadline", 4).with_trial().with("/spec/delivery/commitInterval", json!("30s"));
    let follower = Follower::start(cluster(), &stage.sink);
    let slow = |n: u64| ToSend::new(format!("key-{}", n % 23), n.to_string()).header("sleep-ms", "20");
    cluster().produce(&stage.source, (0..EVENTS).map(slow));

    let mut worker = stage.spawn_with("a", &[("TIDEMILL_SHUTDOWN_DEADLINE", "5s")]);
    wait_until(WITHIN, "calls", || stage.calls().len() > 50);
    assert_eq!(worker.terminate(deadline).code(), Some(0), "finished, not cut short");
    assert_eq!(stage.members(), 0, "it has left");
    let committed: i64 = stage.committed().into_iter().flatten().sum();
    assert!(committed < EVENTS as i64, "the scenario is about work that is left: {committed}");
    assert_eq!(stage.calls().len() as i64, committed, "every call that was begun is cut");
    let results = follower.wait_for(committed as usize, WITHIN);
    assert_eq!(results.len() as i64, committed);

    // No transaction of the heir may time out, however slow the machine is.
    let stage = stage.with("/spec/delivery/commitInterval", json!("100ms"));
    let mut heir = stage.spawn("heir");
    assert_each_once(EVENTS, &follower.wait_for(EVENTS as usize, WITHIN));
    assert!(stage.calls().values().all(|attempts| attempts == &[1]), "no event was called twice");
    assert_eq!(heir.terminate(WITHIN).code(), Some(0));
}

#[test]
fn a_second_signal_or_the_deadline_ends_it_and_the_event_is_done_again() {
    let stage = Stage::new(cluster(), "hurried", 1).with_trial().with_short_sessions();
    let follower = Follower::start(cluster(), &stage.sink);
    let calls = || stage.calls().values().map(Vec::len).sum::<usize>();
    let slow = ToSend::new("key", "1").header("sleep-ms", "8000");
    cluster().produce(&stage.source, [ToSend::new("key", "0"), slow]);

    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "the slow call", || calls() == 2);
    worker.signal(Signal::Terminate);
    wait_until(WITHIN, "the first signal to be heard", || worker.log().contains("once more to stop at once"));
    worker.signal(Signal::Interrupt);
    assert_eq!(worker.wait(AT_ONCE).code(), Some(143));

    let mut worker = stage.spawn_with("a", &[("TIDEMILL_SHUTDOWN_DEADLINE", "500ms")]);
    wait_until(WITHIN, "the slow call again", || calls() >= 3 && stage.calls().len() == 2);
    worker.signal(Signal::Terminate);
    assert_eq!(worker.wait(AT_ONCE).code(), Some(143));
    assert!(worker.log().contains("not finished in time"));

    let mut worker = stage.spawn("a");
    assert_each_once(2, &follower.wait_for(2, WITHIN));
    assert_eq!(worker.terminate(WITHIN).code(), Some(0));
}

#[test]
fn a_worker_that_waits_for_its_broker_can_be_stopped() {
    let stage = Stage::without_topics(cluster(), "unreached");
    let nowhere = format!("127.0.0.1:{}", free_port());
    let mut worker = stage.spawn_with("a", &[("TIDEMILL_BROKERS", &nowhere)]);
    wait_until(WITHIN, "the worker to wait", || worker.log().contains("waiting for kafka"));
    assert_eq!(worker.terminate(WITHIN).code(), Some(0));
}
