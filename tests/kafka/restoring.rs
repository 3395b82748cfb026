//! Whoever waits for a partition whose state is still being read sees that it is, and how far.

use std::process::Command;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Listeners, Stage, ToSend, cluster, unique, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// `tidemill lag` of the stage's function, as it stands in JSON or as text.
fn lag(stage: &Stage, listeners: &Listeners, output: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.arg("lag").arg(stage.manifest()).args(["--admin", &listeners.admin, "--output", output]);
    command.args(["--brokers", cluster().brokers()]).env_remove("TIDEMILL_BROKERS");
    let output = command.output().expect("tidemill runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What the process says of the only partition.
fn lane(listeners: &Listeners) -> Option<Value> {
    let functions = listeners.functions()?;
    functions["functions"].as_array()?.first()?["workers"].as_array()?.first()?["lanes"]
        .as_array()?
        .first()
        .cloned()
}

/// The value of a metric of the stage's function.
fn metric(stage: &Stage, listeners: &Listeners, name: &str) -> Option<f64> {
    let (_, text) = listeners.metrics("/metrics");
    let is_it = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(&stage.name);
    text.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_partition_is_seen_to_restore_until_an_open_transaction_ends() {
    let window = json!({
        "tumbling": { "size": "1h" },
        "idle": "10m",
        "aggregate": { "events": { "op": "count" } },
    });
    let stage = Stage::new(cluster(), "restoring", 1)
        .with("/spec/sinks/0/format", json!("json"))
        .with("/spec/window", window);
    let mut worker = stage.spawn("a");
    let now = SystemClock::start().now().wall_ms;
    let at = |ms: i64| (0..5).map(move |n| ToSend::new(format!("key-{n}"), "x").at(ms));
    cluster().produce(&stage.source, at(now - 7_200_000));
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());

    // As if a worker had died in the middle of a cut.
    let mut config = cluster().config();
    config.set("transactional.id", unique("dead")).set("transaction.timeout.ms", "60000");
    let dead: BaseProducer = config.create().expect("a producer");
    dead.init_transactions(WITHIN).expect("transactions");
    dead.begin_transaction().expect("a transaction");
    let state = format!("{}.state", stage.name);
    dead.send(BaseRecord::to(&state).partition(0).key("t").payload("never read")).expect("a record");
    dead.flush(WITHIN).expect("it is written");

    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    // The five windows, and what kind they are of.
    wait_until(WITHIN, "the partition to be seen restoring", || {
        lane(&listeners).is_some_and(|lane| lane["state"] == "restoring" && lane["restored"] == 6)
    });
    let report: Value = serde_json::from_str(&lag(&stage, &listeners, "json")).expect("a document");
    let row = &report["partitions"][0];
    assert_eq!((&row["state"], &row["restored"]), (&json!("restoring"), &json!(6)), "{report:#}");
    assert!(lag(&stage, &listeners, "text").contains("  restoring (6 entries)  tm1:"));
    let metric = |name| metric(&stage, &listeners, name);
    assert_eq!(metric("tidemill_state_restored_entries_total"), Some(0.0), "it has not ended");
    assert_eq!(metric("tidemill_window_delay_seconds"), None, "nobody knows yet");

    dead.abort_transaction(WITHIN).expect("the transaction is aborted");
    let follower = Follower::start(cluster(), &stage.sink);
    cluster().produce(&stage.source, at(now));
    follower.wait_for(5, WITHIN);
    wait_until(WITHIN, "the partition to be read", || {
        lane(&listeners).is_some_and(|lane| lane["state"] == "reading" && lane.get("restored").is_none())
    });
    wait_until(WITHIN, "numbers to be published", || {
        metric("tidemill_state_restored_entries_total") == Some(6.0)
    });
    assert_eq!(metric("tidemill_state_restore_duration_seconds_count"), Some(1.0));
    // The newest event is of a moment ago.
    wait_until(WITHIN, "event time to be near the clock", || {
        metric("tidemill_window_delay_seconds").is_some_and(|delay| (0.0..300.0).contains(&delay))
    });
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}
