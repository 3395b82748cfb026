//! The call of a timer, or of a window that time has closed, that ends the process: no event is to blame for it, so it counts
//! its own attempts, and becomes a dead letter in the end. All others go on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Follower, ReadRecord, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn trying(stem: &str) -> Stage {
    Stage::new(cluster(), stem, 1)
        .with_trial()
        .with_short_sessions()
        .with("/spec/delivery/retry", json!({ "maxAttempts": 3, "initial": "50ms", "max": "200ms" }))
}

/// Starts a worker anew as often as it dies, until so many results and a dead letter are there.
#[track_caller]
fn run(stage: &Stage, results: usize) -> (Vec<ReadRecord>, ReadRecord) {
    let mut worker = stage.spawn("a");
    let follower = Follower::start(cluster(), &stage.sink);
    let mut deaths = 0;
    wait_until(WITHIN, "all results and a dead letter", || {
        if !worker.is_running() {
            deaths += 1;
            worker = stage.spawn("a");
        }
        follower.count() >= results && stage.read_dead_letters().len() == 1
    });
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    // Three of the one that does not end otherwise, and one of the other; a death may come before the note is settled.
    assert!((4..=6).contains(&deaths), "died {deaths} times:\n{}", worker.log());
    let results = cluster().read_all_ended(&stage.sink);
    (results, stage.read_dead_letters().remove(0))
}

#[track_caller]
fn assert_crashed(letter: &ReadRecord, key: &str) -> Value {
    assert_eq!((letter.key_text(), letter.header("tidemill-reason")), (key, Some("crashed")));
    assert_eq!(letter.header("tidemill-attempts"), Some("3"));
    serde_json::from_str(letter.text()).expect("a dead letter of no event is JSON")
}

fn by_key(results: &[ReadRecord]) -> BTreeMap<&str, Vec<&str>> {
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    results.iter().for_each(|result| by_key.entry(result.key_text()).or_default().push(result.text()));
    by_key
}

#[test]
fn a_timer_that_ends_the_process_becomes_a_dead_letter() {
    let stage =
        trying("deadly-timer").with("/spec/state", json!({})).with("/spec/time", json!({ "idle": "1s" }));
    let of = |key: &str| ToSend::new(key, "x").header("clock-timer-ms", "200").at(1_700_000_000_000);
    let events = [
        of("ada").header("timer-abort", "99"),
        of("bob").header("timer-abort", "1"),
        of("eve").header("event-timer-ms", "100"),
        ToSend::new("eve", "y").at(1_700_000_000_001),
    ];
    cluster().produce(&stage.source, events);
    let (results, letter) = run(&stage, 7);
    let by_key = by_key(&results);
    assert_eq!(by_key["ada"], ["x"], "{by_key:?}");
    let is_clock = |told: &&&str| told.starts_with("clock clock ");
    assert_eq!((by_key["bob"].len(), by_key["bob"].iter().filter(is_clock).count()), (2, 1), "{by_key:?}");
    assert_eq!((by_key["eve"].len(), by_key["eve"].iter().filter(is_clock).count()), (4, 1), "{by_key:?}");
    assert!(by_key["eve"].contains(&"event event 1700000000100"), "{by_key:?}");
    let timer = &assert_crashed(&letter, "ada")["timer"];
    assert_eq!((&timer["name"], &timer["clock"]), (&json!("clock"), &json!("wall")));
}

#[test]
fn a_window_that_time_closed_and_that_ends_the_process_becomes_a_dead_letter() {
    let stage = trying("deadly-window")
        .with("/spec/sources/0/key", json!({ "header": "by" }))
        .with("/spec/window", json!({ "session": { "gap": "500ms" }, "idle": "1s" }));
    let of = |by: &str, value: &str| ToSend::new(value, value).header("by", by).at(1_700_000_000_000);
    let events = [
        of("ada", "1").header("abort", "99"),
        of("bob", "1").header("abort", "1"),
        of("ada", "2"),
        of("bob", "2"),
        of("eve", "1"),
    ];
    cluster().produce(&stage.source, events);
    let (results, letter) = run(&stage, 2);
    assert_eq!(by_key(&results), BTreeMap::from([("bob", vec!["1+2"]), ("eve", vec!["1"])]));
    let window = assert_crashed(&letter, "ada");
    assert_eq!(window[&stage.source], json!(["1", "2"]), "{window}");
    assert_eq!(
        (&window["window"]["start"], &window["window"]["fired"]),
        (&json!(1_700_000_000_000i64), &json!("close"))
    );
}
