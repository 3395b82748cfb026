//! What a handler keeps is there again whoever is killed, and each timer fires once; rows of tables are there before the
//! events that look for them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Isolation, Load, ReadRecord, Siege, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn keeping(stem: &str, partitions: i32) -> Stage {
    Stage::new(cluster(), stem, partitions).with_trial().with("/spec/state", json!({}))
}

/// Each key's counts are 1, 2, 3 and so on, in this order.
#[track_caller]
fn assert_counted(results: &[ReadRecord], expected: u64) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for result in results {
        let count = counts.entry(result.key_text()).or_default();
        *count += 1;
        assert_eq!(result.text(), count.to_string(), "of {}", result.key_text());
    }
    assert_eq!(counts.values().sum::<u64>(), expected);
}

#[test]
fn counts_go_up_by_one_whatever_befalls_the_workers() {
    let stage = keeping("counts", 4).with_short_sessions();
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start_with(cluster(), &stage.source, 20, |_, record| record.header("count", ""));
    let siege = Siege::lay(&stage, &load, |dice| follower.wait_for_more(1 + dice.roll(50), WITHIN));
    let count = load.finish();
    stage.wait_until_drained(WITHIN);
    siege.raise();
    assert_counted(&cluster().read_all_ended(&stage.sink), count);
    assert!(stage.read_dead_letters().is_empty());
}

#[test]
fn rows_are_there_before_the_events_that_look_for_them() {
    for scope in ["lane", "all"] {
        let stage = keeping("rows", 3);
        let table = format!("{}.rows", stage.name);
        cluster().create_topic(&table, 2, &[("cleanup.policy", "compact")]);
        let row = |n: u32, value: &str| ToSend::new(format!("key-{n}"), format!("\"{value}-{n}\""));
        cluster().produce(&table, (0..5_000).map(|n| row(n, "old")).chain((0..5_000).map(|n| row(n, "new"))));
        let event = |n: u32| ToSend::new(format!("key-{n}"), "x").header("lookup", format!("key-{n}"));
        cluster().produce(&stage.source, (0..5_000).map(event));
        let sources = json!([
            { "topic": stage.source, "format": "bytes" },
            { "topic": table, "name": "table", "format": "json", "table": { "scope": scope } },
        ]);
        let stage = stage.with("/spec/sources", sources);
        let follower = Follower::start(cluster(), &stage.sink);
        let mut workers = ["a", "b"].map(|who| stage.spawn(who));
        let results = follower.wait_for(5_000, WITHIN);
        for result in &results {
            let number = result.key_text().strip_prefix("key-").expect("a key");
            assert_eq!(result.text(), format!("\"new-{number}\""), "{scope}");
        }
        // A row that is deleted, and one that comes later.
        cluster().produce(&table, [ToSend::tombstone("key-0"), row(1, "newer")]);
        wait_until(WITHIN, "the rows to be seen", || {
            cluster().produce(&stage.source, [event(0), event(1)]);
            let results = cluster().read_all(&stage.sink, Isolation::ReadCommitted);
            let has = |key: &str, text: &str| results.iter().any(|r| r.key_text() == key && r.text() == text);
            has("key-0", "null") && has("key-1", "\"newer-1\"")
        });
        for worker in &mut workers {
            assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
        }
        assert!(stage.read_dead_letters().is_empty());
    }
}

#[test]
fn a_stitch_waits_for_the_row_that_it_needs() {
    let stage = keeping("needed", 2);
    let table = format!("{}.rows", stage.name);
    cluster().create_topic(&table, 1, &[("cleanup.policy", "compact")]);
    let sources = json!([
        { "topic": stage.source, "name": "ride", "format": "bytes" },
        { "topic": table, "name": "table", "format": "json", "table": {} },
    ]);
    let stage = stage.with("/spec/sources", sources).with(
        "/spec/window",
        json!({ "stitch": { "within": "10m", "need": ["ride", "table"] }, "idle": "10m" }),
    );
    let mut worker = stage.spawn("a");
    let follower = Follower::start(cluster(), &stage.sink);
    cluster().produce(&table, [ToSend::new("ada", "1")]);
    wait_until(WITHIN, "the row to be there", || {
        cluster().produce(&stage.source, [ToSend::new("ada", "there")]);
        follower.count() > 0
    });
    // Nobody has a row for bob yet: what waits for it outlives the worker.
    cluster().produce(&stage.source, ["first", "second"].map(|value| ToSend::new("bob", value)));
    stage.wait_until_drained(WITHIN);
    wait_until(WITHIN, "both rides to wait", || {
        let report = stage.tidemill(&["why"], &["bob", "--output", "json"]).stdout;
        let report: Value = serde_json::from_slice(&report).unwrap_or_default();
        let missing = |open: &Value| open["missing"] == json!(["table"]);
        report["open"].as_array().is_some_and(|open| open.len() == 2 && open.iter().all(missing))
    });
    worker.kill();
    let mut worker = stage.spawn("a");
    cluster().produce(&table, [ToSend::new("bob", "2")]);
    let of_bob = || -> Vec<String> {
        let results = follower.read();
        results
            .iter()
            .filter(|result| result.key_text() == "bob")
            .map(|result| result.text().to_owned())
            .collect()
    };
    wait_until(WITHIN, "both rides", || of_bob().len() == 2);
    assert_eq!(of_bob(), ["first", "second"]);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    assert!(
        follower
            .read()
            .iter()
            .filter(|result| result.key_text() == "ada")
            .all(|result| result.text() == "there")
    );
    assert!(stage.read_dead_letters().is_empty());
}

#[test]
fn time_goes_on_beside_a_table_that_nobody_commits_for() {
    let stage = keeping("beside", 2);
    let (table, other) = (format!("{}.rows", stage.name), format!("{}.other", stage.name));
    cluster().create_topic(&table, 1, &[]);
    cluster().create_topic(&other, 1, &[]);
    cluster().produce(&table, [ToSend::new("row", "1")]);
    let sources = json!([
        { "topic": stage.source, "format": "bytes" },
        { "topic": other, "format": "bytes" },
        { "topic": table, "name": "table", "format": "json", "table": { "scope": "all" } },
    ]);
    let stage = stage.with("/spec/sources", sources).with("/spec/time", json!({ "idle": "1s" }));
    let mut worker = stage.spawn("a");
    let event = ToSend::new("ada", "x").at(SystemClock::start().now().wall_ms);
    cluster().produce(&stage.source, [event.header("event-timer-ms", "500")]);
    let follower = Follower::start(cluster(), &stage.sink);
    let results = follower.wait_for(2, WITHIN);
    assert!(results[1].text().starts_with("event event "), "{}", results[1].text());
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}
