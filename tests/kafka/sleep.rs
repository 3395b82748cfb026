//! A function that has nothing to do has no worker, and is woken by what it is for: an event that its filters take, a window
//! that ends, a timer, or whoever asks. Nothing that comes while it falls asleep is missed.

use std::time::Duration;

use serde_json::json;
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Dice, Follower, Isolation, PrivateBroker, Stage, ToSend, Worker, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// Sleeps after a second.
fn sleepy(stem: &str, partitions: i32) -> Stage {
    Stage::new(cluster(), stem, partitions)
        .with("/spec/scale", json!({ "min": 0, "max": 1, "zeroAfter": "1s" }))
}

fn times(worker: &Worker, what: &str) -> usize {
    worker.log().matches(what).count()
}

fn wait_until_asleep(stage: &Stage, worker: &Worker, time: usize) {
    wait_until(WITHIN, "it to sleep", || times(worker, "falls asleep") >= time && stage.members() == 0);
}

#[test]
fn an_event_wakes_it_and_one_that_is_refused_does_not() {
    let filters = json!([{ "header": { "name": "wake", "exists": true } }]);
    let stage = sleepy("rung", 3).with("/spec/sources/0/filters", filters);
    let worker = stage.spawn("a");
    wait_until_asleep(&stage, &worker, 1);
    let event = |n: u32| ToSend::new(format!("key-{n}"), n.to_string());
    cluster().produce(&stage.source, (0..100).map(event));
    wait_until(WITHIN, "the refused ones to be passed", || stage.committed() == stage.ends());
    assert_eq!((times(&worker, "wakes"), stage.members()), (0, 0), "{}", worker.log());
    cluster().produce(&stage.source, [event(100).header("wake", "")]);
    let follower = Follower::start(cluster(), &stage.sink);
    assert_eq!(follower.wait_for(1, WITHIN)[0].text(), "100");
    wait_until_asleep(&stage, &worker, 2);
    assert_eq!(times(&worker, "has woken"), 1, "{}", worker.log());
    let audit = stage.tidemill(&["audit"], &[]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    let mut worker = worker;
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn nothing_is_missed_that_comes_while_it_falls_asleep() {
    let stage = sleepy("dozing", 2);
    let mut worker = stage.spawn("a");
    let follower = Follower::start(cluster(), &stage.sink);
    let mut dice = Dice::new();
    let mut sent = 0;
    for round in 1..=12 {
        wait_until(WITHIN, "it to fall asleep", || times(&worker, "falls asleep") >= round);
        // Somewhere between its leaving, the look at its offsets and the first fetch.
        let moment = now_ms() + dice.roll(400) as i64;
        wait_until(WITHIN, "the moment", || now_ms() >= moment);
        cluster().produce(
            &stage.source,
            (0..5u32).map(|n| ToSend::new(format!("key-{n}"), (sent + n).to_string())),
        );
        sent += 5;
        follower.wait_for(sent as usize, WITHIN);
    }
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    let results = cluster().read_all(&stage.sink, Isolation::ReadCommitted);
    let mut numbers: Vec<u32> =
        results.iter().map(|result| result.text().parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "each once");
}

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

#[test]
fn who_sleeps_has_no_thread() {
    let stage = sleepy("threadless", 2);
    let mut worker = stage.spawn("a");
    let threads = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", worker.pid())).expect("the process's threads");
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        tasks.filter_map(name).filter(|name| name.starts_with("fn ")).count()
    };
    let follower = Follower::start(cluster(), &stage.sink);
    for round in 1..=2 {
        wait_until(WITHIN, "its thread to begin", || threads() >= 1);
        wait_until_asleep(&stage, &worker, round);
        wait_until(WITHIN, "its thread to end", || threads() == 0);
        cluster().produce(&stage.source, [ToSend::new("key", round.to_string())]);
        follower.wait_for(round, WITHIN);
    }
    wait_until_asleep(&stage, &worker, 3);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn a_window_that_ends_wakes_it() {
    let stage = sleepy("ends", 2).with("/spec/sinks/0/format", json!("json")).with(
        "/spec/window",
        json!({ "session": { "gap": "8s" }, "idle": "1s", "aggregate": { "n": { "op": "count" } } }),
    );
    let mut worker = stage.spawn("a");
    cluster().produce(&stage.source, [ToSend::new("ada", "1").at(now_ms())]);
    wait_until_asleep(&stage, &worker, 1);
    assert!(cluster().read_all(&stage.sink, Isolation::ReadCommitted).is_empty());
    let follower = Follower::start(cluster(), &stage.sink);
    assert!(follower.wait_for(1, WITHIN)[0].text().contains(r#""n":1"#));
    wait_until_asleep(&stage, &worker, 2);
    assert!(worker.log().contains(r#"why="deadline""#), "{}", worker.log());
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn a_broker_that_forgets_empty_groups_forgets_no_sleeper() {
    let kafka = PrivateBroker::start_with(&[
        ("offsets.retention.minutes", "1"),
        ("offsets.retention.check.interval.ms", "1000"),
    ]);
    let stage = Stage::new(kafka.kafka(), "kept", 1)
        .with("/spec/scale", json!({ "min": 0, "max": 1, "zeroAfter": "1s" }))
        .with("/spec/sources/0/startAt", json!("latest"));
    let mut worker = stage.spawn("a");
    let awake_for_offsets = || worker.log().matches(r#"why="offsets""#).count();
    // Twice as long as they would be kept.
    wait_until(Duration::from_secs(240), "its offsets to outlive their time", || awake_for_offsets() >= 5);
    assert_eq!(stage.committed(), [Some(0)]);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}
