//! A function that stands still can be made to begin anew: with other windows, and with no memory of how late it was.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};
use tidemill::pipeline::Tidings;

use crate::harness::{Follower, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

fn reset(stage: &Stage, args: &[&str]) -> Output {
    stage.tidemill(&["reset"], &[&["--state"], args].concat())
}

#[track_caller]
fn document(output: &Output) -> Value {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one document")
}

#[track_caller]
fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Counts in windows that nothing but events closes.
fn counting(stem: &str) -> Stage {
    let window = json!({
        "tumbling": { "size": "2s" },
        "idle": "10m",
        "aggregate": { "events": { "op": "count" } },
    });
    Stage::new(cluster(), stem, 2)
        .with("/spec/sources/0/format", json!("json"))
        .with("/spec/sinks/0/format", json!("json"))
        .with("/spec/window", window)
}

#[test]
fn a_changed_window_starts_after_a_reset_and_nothing_is_late_by_the_old_time() {
    let stage = counting("reset");
    let missing = failure(&reset(&stage, &["--yes"]));
    assert!(missing.contains("does not exist"), "{missing}");
    let mut worker = stage.spawn("a");
    let now = now_ms();
    cluster().produce(&stage.source, ["ada", "bob", "eve"].map(|key| ToSend::new(key, "1").at(now)));
    stage.wait_until_drained(WITHIN);
    let refused = failure(&reset(&stage, &["--yes"]));
    assert!(refused.contains("runs: group") && refused.contains("drain"), "{refused}");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());

    let stage = stage.with("/spec/window/tumbling/size", json!("3s"));
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "the way out to be named", || worker.log().contains("reset FUNCTION --state"));
    worker.kill();
    wait_until(WITHIN, "the group to be empty", || stage.members() == 0);

    let unasked = failure(&reset(&stage, &[]));
    assert!(unasked.contains("--yes"), "{unasked}");
    let dry = document(&reset(&stage, &["--dry-run", "--output", "json"]));
    let expected = |dry: &Value| {
        let entries = dry["entries"].as_u64().expect("a number");
        let partitions = dry["partitions"].as_u64().expect("a number");
        // Three windows, and in each partition what kind they are of.
        entries == 3 + partitions && dry["watermarks"] == dry["partitions"]
    };
    assert!(expected(&dry), "{dry:#}");
    let done = document(&reset(&stage, &["--yes", "--output", "json"]));
    assert!(expected(&done), "nothing went before: {done:#}");
    assert_eq!(done["by"], "tombstones", "a compacted topic deletes nothing");
    let again = document(&reset(&stage, &["--yes", "--output", "json"]));
    assert_eq!(
        (&again["entries"], &again["watermarks"], &again["by"]),
        (&json!(0), &json!(0), &json!("nothing"))
    );

    let mut worker = stage.spawn("a");
    let follower = Follower::start(cluster(), &stage.sink);
    let earlier = (now - 3_600_000) / 3000 * 3000;
    let at = |ms: i64| ToSend::new("ada", "1").at(ms);
    cluster().produce(&stage.source, [at(earlier), at(earlier + 1000), at(earlier + 60_000)]);
    let result: Value = serde_json::from_str(follower.wait_for(1, WITHIN)[0].text()).expect("JSON");
    assert_eq!(result["window"], json!({ "start": earlier, "end": earlier + 3000, "fired": "close" }));
    assert_eq!(result["events"], 2, "what was gathered before is forgotten");
    assert!(stage.read_dead_letters().is_empty(), "nothing is late");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    let audit = stage.tidemill(&["audit"], &[]);
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    // What the second run wrote is whole.
    let mut worker = stage.spawn("a");
    cluster().produce(&stage.source, [at(earlier + 120_000)]);
    follower.wait_for(2, WITHIN);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn a_topic_that_may_delete_is_emptied() {
    let stage = counting("reset-deleting");
    cluster().create_topic(&format!("{}.state", stage.name), 2, &[("cleanup.policy", "compact,delete")]);
    let mut worker = stage.spawn("a");
    let now = now_ms();
    cluster().produce(&stage.source, ["ada", "bob"].map(|key| ToSend::new(key, "1").at(now)));
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    let done = document(&reset(&stage, &["--yes", "--output", "json"]));
    assert_eq!(done["by"], "deletion", "{done:#}");
    assert!(cluster().read_all_ended(&format!("{}.state", stage.name)).is_empty());
    let printed = reset(&stage, &["--yes"]);
    assert!(String::from_utf8_lossy(&printed.stdout).contains("nothing to forget"), "{printed:?}");
}

#[test]
fn without_a_window_there_is_no_state() {
    let stage = Stage::new(cluster(), "reset-plain", 1);
    assert!(failure(&reset(&stage, &["--yes"])).contains("has no window"));
    assert_eq!(stage.tidemill(&["reset"], &[]).status.code(), Some(2), "what is to be reset must be said");
}

#[test]
fn sources_that_are_brought_together_forget_how_far_each_had_come() {
    let stage = Stage::new(cluster(), "reset-stitch", 1);
    let payments = format!("{}.payments", stage.name);
    cluster().create_topic(&payments, 1, &[]);
    let sources = json!([
        { "topic": stage.source, "name": "ride", "format": "json" },
        { "topic": payments, "name": "payment", "format": "json" },
    ]);
    let stage = stage
        .with("/spec/sources", sources)
        .with("/spec/sinks/0/format", json!("json"))
        .with("/spec/window", json!({ "stitch": { "within": "10m" }, "idle": "10m" }));
    let mut worker = stage.spawn("a");
    let now = now_ms();
    let send = |topic: &str, key: &str, n: u32, ms: i64| {
        cluster().produce(topic, [ToSend::new(key, json!({ "n": n }).to_string()).at(ms)]);
    };
    send(&stage.source, "r-1", 1, now);
    send(&payments, "r-2", 1, now);
    let follower = Follower::start(cluster(), &stage.sink);
    // They have come as far as a stitch that was whole.
    send(&stage.source, "r-3", 1, now);
    send(&payments, "r-3", 1, now);
    follower.wait_for(1, WITHIN);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());

    // Nobody has read this yet: that both have come so far.
    let topics = vec![(stage.source.clone(), 1), (payments.clone(), 1)];
    let tidings = Tidings { topics, parts: vec![(0, 0, now, false), (1, 0, now, false)] };
    let stitch = format!("{}.stitch", stage.name);
    cluster().produce(&stitch, [ToSend::value(tidings.write()).to(0)]);
    let done = document(&reset(&stage, &["--yes", "--output", "json"]));
    assert!(done["entries"].as_u64() > Some(2), "{done:#}");
    assert_eq!(done["onTheirWay"], 0, "{done:#}");
    assert!(done["watermarks"].as_u64() >= Some(2), "of both sources: {done:#}");
    let mut worker = stage.spawn("a");
    let earlier = now - 3_600_000;
    send(&stage.source, "r-1", 2, earlier);
    send(&payments, "r-1", 2, earlier);
    let results = follower.wait_for(2, WITHIN);
    let result: Value = serde_json::from_str(results[1].text()).expect("JSON");
    assert_eq!((&result["key"], &result["window"]["fired"]), (&json!("r-1"), &json!("complete")));
    assert_eq!(
        (&result["ride"]["n"], &result["payment"]["n"]),
        (&json!(2), &json!(2)),
        "the first ride is forgotten"
    );
    assert!(stage.read_dead_letters().is_empty(), "nothing is late");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}
