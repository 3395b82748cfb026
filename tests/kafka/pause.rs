//! A paused function has cut everything, calls nothing and keeps its place in the group; a drained one has finished
//! what it read and left. Both go on with `resume`.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Follower, Listeners, Load, Stage, ToSend, assert_each_once, cluster, holds_for, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);
/// Longer than a session on these stages.
const LONG: Duration = Duration::from_secs(5);

/// Gives an order as a person does.
fn order(verb: &str, function: &str, listeners: &Listeners) -> Output {
    let args = [verb, function, "--admin", &listeners.admin, "--output", "json"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(args).output().expect("tidemill starts")
}

#[track_caller]
fn ordered(verb: &str, function: &str, listeners: &Listeners) -> String {
    let output = order(verb, function, listeners);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{verb}: {errors}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a JSON document");
    document["state"]["is"].as_str().expect("a state").to_owned()
}

#[test]
fn a_paused_function_rests_where_it_is_and_goes_on() {
    let stage = Stage::new(cluster(), "paused", 4).with_short_sessions();
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 20);
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    follower.wait_for(500, WITHIN);
    let members = stage.member_ids();

    assert_eq!(ordered("pause", &stage.name, &listeners), "paused");
    let committed: i64 = stage.committed().into_iter().flatten().sum();
    // Each event has one result and the source has no markers, so offsets and results are equal in number.
    let results = follower.wait_for(committed as usize, WITHIN).len();
    load.wait_for_more(100);
    holds_for(LONG, "nothing is called, nobody leaves", || {
        stage.committed().into_iter().flatten().sum::<i64>() == committed
            && follower.count() == results
            && stage.member_ids() == members
    });
    assert_eq!(results as i64, committed, "everything that was done is cut");
    assert_eq!(listeners.metrics("/readyz").0, 200, "as somebody wants it");
    let (_, metrics) = listeners.metrics("/metrics");
    let paused = |line: &&str| line.contains(&stage.name) && line.contains(r#"state="paused""#);
    assert!(metrics.lines().find(paused).is_some_and(|line| line.ends_with(" 1")), "{metrics}");

    assert_eq!(ordered("pause", &stage.name, &listeners), "paused", "asked twice is asked once");
    assert_eq!(ordered("resume", &stage.name, &listeners), "running");
    follower.wait_for_more(500, WITHIN);
    assert_eq!(stage.member_ids(), members, "the group did not notice");
    assert_eq!(worker.log().matches("partitions assigned").count(), 1, "{}", worker.log());
    let count = load.finish();
    assert_each_once(count, &follower.wait_for(count as usize, WITHIN));

    ordered("pause", &stage.name, &listeners);
    assert_eq!(worker.terminate(WITHIN).code(), Some(0), "a process ends though it is paused");
}

#[test]
fn a_pause_cuts_what_is_done_and_begins_nothing_of_what_is_at_hand() {
    const EVENTS: u64 = 300;
    let stage = Stage::new(cluster(), "paused-midway", 1)
        .with_trial()
        .with("/spec/delivery/commitInterval", json!("30s"));
    let follower = Follower::start(cluster(), &stage.sink);
    let slow = |n: u64| ToSend::new("key", n.to_string()).header("sleep-ms", "20");
    cluster().produce(&stage.source, (0..EVENTS).map(slow));
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    wait_until(WITHIN, "calls", || stage.calls().len() > 20);
    assert_eq!(ordered("pause", &stage.name, &listeners), "paused");
    let calls = stage.calls().len();
    assert!(calls < EVENTS as usize, "at once, not at the next cut: {calls}");
    assert_eq!(stage.committed(), [Some(calls as i64)], "what was done is cut");
    holds_for(Duration::from_secs(1), "nothing is called", || stage.calls().len() == calls);
    ordered("resume", &stage.name, &listeners);
    wait_until(WITHIN, "all calls", || stage.calls().len() == EVENTS as usize);
    ordered("pause", &stage.name, &listeners);
    assert_each_once(EVENTS, &follower.wait_for(EVENTS as usize, WITHIN));
    assert!(stage.calls().values().all(|attempts| attempts == &[1]), "what was at hand was not read again");
    assert!(worker.terminate(WITHIN).success());
}

/// Who did not hear the group while it rests would hold up everybody.
#[test]
fn partitions_may_come_and_go_during_a_pause() {
    let stage = Stage::new(cluster(), "paused-rebalance", 4).with_short_sessions();
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 20);
    let listeners = Listeners::free();
    let mut paused = stage.spawn_with("paused", &listeners.env());
    follower.wait_for(500, WITHIN);
    ordered("pause", &stage.name, &listeners);
    let mut other = stage.spawn("other");
    follower.wait_for_more(500, WITHIN);
    assert_eq!(listeners.state(&stage.name), "paused");
    ordered("resume", &stage.name, &listeners);
    follower.wait_for_more(500, WITHIN);
    ordered("pause", &stage.name, &listeners);
    assert!(other.terminate(WITHIN).success());
    wait_until(WITHIN, "the paused one to be alone", || stage.members() == 1);
    ordered("resume", &stage.name, &listeners);
    let count = load.finish();
    assert_each_once(count, &follower.wait_for(count as usize, WITHIN));
    assert!(paused.terminate(WITHIN).success());
}

#[test]
fn a_drained_function_finishes_what_it_read_and_leaves_until_it_is_resumed() {
    let stage = Stage::new(cluster(), "drained", 1).with_trial();
    let follower = Follower::start(cluster(), &stage.sink);
    let calls = || stage.calls().len();
    // In one batch: they are there before the first is read.
    let slow = |n: usize| ToSend::new("key", n.to_string()).header("sleep-ms", "100");
    cluster().produce(&stage.source, (0..20).map(slow));
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    wait_until(WITHIN, "the first call", || calls() > 0);

    assert_eq!(ordered("drain", &stage.name, &listeners), "stopped");
    assert_eq!(stage.committed(), [Some(20)], "what was read is finished");
    assert_eq!(stage.members(), 0, "it has left");
    let function = listeners.function(&stage.name).expect("it is still shown");
    assert_eq!(function["state"], json!({ "is": "stopped", "reason": "drained" }));
    assert_eq!(function["totals"]["ok"], 20);
    let refused = order("pause", &stage.name, &listeners);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("resume"), "{refused:?}");
    let unknown = order("drain", "nobody", &listeners);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains(&stage.name), "it names those that are there");

    cluster().produce(&stage.source, [ToSend::new("key", "20")]);
    holds_for(Duration::from_secs(1), "nobody reads", || calls() == 20 && worker.is_running());
    let state = ordered("resume", &stage.name, &listeners);
    assert!(["starting", "running"].contains(&state.as_str()), "{state}");
    assert_each_once(21, &follower.wait_for(21, WITHIN));
    assert_eq!(listeners.function(&stage.name).expect("shown")["state"]["is"], "running");

    ordered("drain", &stage.name, &listeners);
    assert_eq!(
        worker.terminate(WITHIN).code(),
        Some(0),
        "a process ends though its only function is drained"
    );
}
