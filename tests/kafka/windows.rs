//! Windows give each result once, and the right one, whatever befalls the workers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{
    Follower, Isolation, Load, ReadRecord, Siege, Stage, ToSend, Worker, cluster, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);
const SIZE_MS: i64 = 2000;

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

/// Counts and sums numbers in windows of two seconds.
fn counting(stem: &str, partitions: i32) -> Stage {
    Stage::new(cluster(), stem, partitions)
        .with("/spec/sources/0/format", json!("json"))
        .with("/spec/sinks/0/format", json!("json"))
        .with(
            "/spec/window",
            json!({
                "tumbling": { "size": "2s" },
                "grace": "1s",
                "idle": "1s",
                "aggregate": { "events": { "op": "count" }, "total": { "op": "sum", "field": "" } },
            }),
        )
}

/// Key and start of a window, and what it came to.
fn result(record: &ReadRecord) -> ((String, i64), (u64, i64)) {
    let result: Value = serde_json::from_str(record.text()).expect("a result is JSON");
    let key = result["key"].as_str().expect("a key").to_owned();
    assert_eq!(key, record.key_text());
    let number = |pointer: &str| result.pointer(pointer).and_then(Value::as_i64).expect("a number");
    assert_eq!(number("/window/end") - number("/window/start"), SIZE_MS);
    ((key, number("/window/start")), (number("/events") as u64, number("/total")))
}

#[test]
fn each_window_closes_once_with_all_its_events_whatever_befalls_the_workers() {
    let stage = counting("windows", 4).with_short_sessions();
    let base = now_ms();
    // Out of order by less than the grace.
    let time_of = move |n: u64| base - 60_000 + n as i64 * 2 - (n * 7919 % 900) as i64;
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start_with(cluster(), &stage.source, 20, move |n, record| record.at(time_of(n)));
    let siege = Siege::lay(&stage, &load, |dice| follower.wait_for_more(1 + dice.roll(30), WITHIN));
    let count = load.finish();
    stage.wait_until_drained(WITHIN);
    let mut expected: BTreeMap<(String, i64), (u64, i64)> = BTreeMap::new();
    for n in 0..count {
        let start = time_of(n).div_euclid(SIZE_MS) * SIZE_MS;
        let window = expected.entry((format!("key-{}", n % 23), start)).or_default();
        *window = (window.0 + 1, window.1 + n as i64);
    }
    // The last windows close by the clock: nothing comes any more.
    follower.wait_for(expected.len(), WITHIN);
    siege.raise();
    let audit = stage.tidemill(&["audit"], &[]);
    assert!(audit.status.success(), "the audit finds it too: {}", String::from_utf8_lossy(&audit.stdout));
    let results = cluster().read_all_ended(&stage.sink);
    let seen: BTreeMap<_, _> = results.iter().map(result).collect();
    assert_eq!(results.len(), seen.len(), "no window gives two results");
    assert_eq!(seen, expected);
    assert!(stage.read_dead_letters().is_empty());
    assert!(state(&stage).values().all(Option::is_none), "what has closed leaves nothing");
}

/// The newest entry of each key of the state topic but those that say what kind of windows it has.
fn state(stage: &Stage) -> BTreeMap<(i32, Vec<u8>), Option<Vec<u8>>> {
    let entries = cluster().read_all_ended(&format!("{}.state", stage.name));
    let named = entries.into_iter().filter(|entry| entry.key.as_deref() != Some(b"s"));
    named.map(|entry| ((entry.partition, entry.key.unwrap_or_default()), entry.value)).collect()
}

#[test]
fn a_window_closes_after_a_restart_though_nothing_comes() {
    let stage = counting("reopened", 1);
    let mut worker = stage.spawn("a");
    let now = now_ms();
    cluster().produce(&stage.source, (0..10).map(|n| ToSend::new("ada", n.to_string()).at(now)));
    stage.wait_until_drained(WITHIN);
    worker.kill();
    assert!(cluster().read_all(&stage.sink, Isolation::ReadCommitted).is_empty());
    let mut worker = stage.spawn("a");
    let follower = Follower::start(cluster(), &stage.sink);
    let results = follower.wait_for(1, WITHIN);
    assert_eq!(result(&results[0]).1, (10, 45));
    // One before its end, which is not in it.
    assert_eq!(results[0].timestamp_ms, now.div_euclid(SIZE_MS) * SIZE_MS + SIZE_MS - 1);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn what_fits_no_window_is_a_dead_letter_with_the_reason() {
    let stage = counting("misfits", 1).with("/spec/window/maxSkew", json!("10s"));
    let mut worker = stage.spawn("a");
    let now = now_ms();
    let at = |ms: i64, value: &str| ToSend::new("ada", value).at(ms);
    cluster().produce(
        &stage.source,
        [
            at(now, "1"),
            at(now - 60_000, "2"),
            at(now, "\"three\""),
            at(now, "{"),
            ToSend::value("5").at(now),
            at(now + 5_000, "6"),
            at(now + 60_000, "7"),
        ],
    );
    let follower = Follower::start(cluster(), &stage.sink);
    let results = follower.wait_for(1, WITHIN);
    assert_eq!(result(&results[0]).1, (1, 1));
    wait_until(WITHIN, "five dead letters", || stage.read_dead_letters().len() == 5);
    let dead = stage.read_dead_letters();
    // The one without a key may lie in another partition: no order is promised for it.
    let reasons: BTreeMap<_, _> =
        dead.iter().map(|letter| (letter.text(), letter.header("tidemill-reason"))).collect();
    let expected = [
        ("2", Some("late")),
        ("\"three\"", Some("malformed")),
        ("{", Some("malformed")),
        ("5", Some("unkeyed")),
        ("7", Some("ahead")),
    ];
    assert_eq!(reasons, BTreeMap::from(expected));
    let late =
        dead.iter().find(|letter| letter.text() == "2").and_then(|letter| letter.header("tidemill-error"));
    assert!(late.is_some_and(|error| error.contains("came too late")), "{late:?}");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn state_of_other_windows_is_refused() {
    let stage = counting("reshaped", 1);
    let mut worker = stage.spawn("a");
    cluster().produce(&stage.source, [ToSend::new("ada", "1").at(now_ms())]);
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    let stage = stage.with("/spec/window/tumbling/size", json!("3s"));
    let mut worker: Worker = stage.spawn("a");
    wait_until(WITHIN, "the refusal to be said", || worker.log().contains("written for other windows"));
    worker.kill();
}

#[test]
fn a_window_closes_when_it_would_have_though_nothing_ran_meanwhile() {
    let stage = counting("meanwhile", 1).with("/spec/window/idle", json!("12s"));
    let mut worker = stage.spawn("a");
    cluster().produce(&stage.source, (0..10).map(|n| ToSend::new("ada", n.to_string()).at(now_ms())));
    let read_at = now_ms();
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    wait_until(WITHIN, "the time at which it closes", || now_ms() > read_at + 16_000);
    let started = now_ms();
    let mut worker = stage.spawn("a");
    let follower = Follower::start(cluster(), &stage.sink);
    let results = follower.wait_for(1, WITHIN);
    assert_eq!(result(&results[0]).1, (10, 45));
    assert!(now_ms() < started + 14_000, "it did not wait for the time anew");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}
