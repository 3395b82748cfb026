//! State that does not fit its limit stops the function, which says so and which source partition holds it up; nothing is lost
//! once there is room.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const RIDES: u64 = 300;

#[test]
fn state_that_does_not_fit_stops_the_function_and_nothing_is_lost_once_there_is_room() {
    let stage = Stage::new(cluster(), "full", 2);
    let payments = format!("{}.payments", stage.name);
    cluster().create_topic(&payments, 1, &[]);
    let sources = json!([
        { "topic": stage.source, "name": "ride", "format": "json" },
        { "topic": payments, "name": "payment", "format": "json", "key": { "fields": ["/ride"] } },
    ]);
    let stage = stage
        .with("/spec/sources", sources)
        .with("/spec/sinks/0/format", json!("json"))
        .with("/spec/state", json!({ "maxBytes": "1Mi" }))
        .with("/spec/window", json!({ "stitch": { "within": "10m" }, "idle": "10m" }));
    let base = SystemClock::start().now().wall_ms - 60_000;
    // A payment that is older than all rides: the next ones are still to come.
    let paid = |n: u64, at: i64| {
        ToSend::new(format!("p-{n}"), json!({ "ride": format!("r-{n}") }).to_string()).at(at)
    };
    let ride = |n: u64, note: &str| {
        let ride = json!({ "n": n, "note": note });
        ToSend::new(format!("r-{n}"), ride.to_string()).at(base + 30_000 + n as i64)
    };
    let mut worker = stage.spawn("a");
    cluster().produce(&payments, [paid(RIDES, base)]);
    cluster().produce(&stage.source, [ride(0, "").to(0), ride(1, "").to(1)]);
    wait_until(WITHIN, "all source partitions to be heard of", || {
        let output = stage.tidemill(&["why"], &["r-2", "--output", "json"]).stdout;
        let report: Value = serde_json::from_slice(&output).unwrap_or_default();
        let parts = report["time"]["parts"].as_array();
        parts.is_some_and(|parts| parts.iter().filter(|part| part["watermarkMs"].is_i64()).count() == 3)
    });
    let note = "x".repeat(10_000);
    cluster().produce(&stage.source, (2..RIDES).map(|n| ride(n, &note)));
    assert!(!worker.wait(WITHIN).success(), "{}", worker.log());
    let log = worker.log();
    for part in
        ["more than state.maxBytes (1048576)", "nothing is lost", &format!("held open by {payments}/0")]
    {
        assert!(log.contains(part), "{part:?} is missing in: {log}");
    }
    let stage = stage.with("/spec/state/maxBytes", json!("64Mi"));
    let mut worker = stage.spawn("a");
    cluster().produce(&payments, (0..RIDES).map(|n| paid(n, base + 31_000)));
    let follower = Follower::start(cluster(), &stage.sink);
    follower.wait_for(RIDES as usize, WITHIN);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    let results = cluster().read_all_ended(&stage.sink);
    let number = |text: &str| -> Option<u64> {
        serde_json::from_str::<Value>(text).ok()?.pointer("/ride/n")?.as_u64()
    };
    let numbers: BTreeSet<u64> = results.iter().filter_map(|result| number(result.text())).collect();
    assert_eq!((results.len() as u64, numbers), (RIDES, (0..RIDES).collect()));
    assert!(stage.read_dead_letters().is_empty());
}
