//! A key says what it waits for, whether or not a worker runs, and nothing of what its events hold unless it is asked to.

use std::fs;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

#[track_caller]
fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[track_caller]
fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[track_caller]
fn why(stage: &Stage, args: &[&str]) -> Value {
    let printed = text(&stage.tidemill(&["why"], &[args, &["--output", "json"]].concat()));
    serde_json::from_str(&printed).expect("one document")
}

/// Before its first run there is nothing to be asked.
#[track_caller]
fn wait_for_state(stage: &Stage) {
    let topic = format!("{}.state", stage.name);
    wait_until(WITHIN, "the state topic to be there", || cluster().partitions(&topic).is_some());
}

fn length(report: &Value, of: &str) -> usize {
    report[of].as_array().expect("a list").len()
}

/// Rides and their payments, which may take ten minutes. No time passes by the clock.
fn billing(stem: &str) -> (Stage, String) {
    let stage = Stage::new(cluster(), stem, 3);
    let payments = format!("{}.payments", stage.name);
    cluster().create_topic(&payments, 2, &[]);
    let sources = json!([
        { "topic": stage.source, "name": "ride", "format": "json" },
        { "topic": payments, "name": "payment", "format": "json", "key": { "fields": ["/ride"] } },
    ]);
    let stage = stage
        .with("/spec/sources", sources)
        .with("/spec/sinks/0/format", json!("json"))
        .with("/spec/window", json!({ "stitch": { "within": "10m" }, "idle": "10m", "maxSkew": "10s" }));
    (stage, payments)
}

#[test]
fn a_stitch_says_what_it_lacks_until_it_is_whole() {
    let (stage, payments) = billing("why");
    let missing = failure(&stage.tidemill(&["why"], &["r-1"]));
    assert!(missing.contains(&format!("state topic {}.state does not exist", stage.name)), "{missing}");

    let mut worker = stage.spawn("a");
    wait_for_state(&stage);
    let now = now_ms();
    cluster().produce(&stage.source, [ToSend::new("r-1", r#"{"fare":4711}"#).at(now)]);
    // Of the dead letters one has the key of its record, for want of another, and one that of its body.
    cluster().produce(
        &payments,
        [
            ToSend::new("r-1", "{").at(now),
            ToSend::new("p-1", r#"{"ride":"r-1"}"#).at(now + 60_000),
            ToSend::new("r-1", r#"{"ride":"r-2"}"#).at(now + 60_000),
            ToSend::new("r-1", r#"{"ride":"r-3"}"#).at(now + 60_000),
        ],
    );
    wait_until(WITHIN, "the ride to be in a stitch", || {
        let report = why(&stage, &["r-1"]);
        length(&report, "open") == 1 && length(&report, "refused") == 2
    });
    // Every source partition is heard of after a moment.
    wait_until(WITHIN, "all source partitions to be heard of", || {
        let report = why(&stage, &["r-1"]);
        let parts = report["time"]["parts"].as_array().expect("a list").clone();
        parts.len() == 5 && parts.iter().all(|part| part["standing"] == "active")
    });
    let report = why(&stage, &["r-1"]);
    let open = &report["open"][0];
    assert_eq!((&open["missing"], &open["bySource"]), (&json!(["payment"]), &json!({ "ride": 1 })));
    assert_eq!((&open["startMs"], &open["closesAtMs"]), (&json!(now), &json!(now + 600_001)));
    let ride = cluster().read_all_ended(&stage.source).remove(0);
    let place = format!("{}/{}@{}", stage.source, ride.partition, ride.offset);
    assert_eq!(open["members"], json!([{ "place": place, "timeMs": now }]));
    // Payments have none with a time yet.
    let holds = |part: &&Value| part["holdsTime"] == true;
    let holding: Vec<_> =
        report["time"]["parts"].as_array().into_iter().flatten().filter(holds).cloned().collect();
    assert!(holding.iter().any(|part| part["partition"] == format!("{payments}/0")), "{report:#}");
    assert_eq!((&report["workers"], report["cut"].as_u64().is_some_and(|cut| cut > 0)), (&json!(1), true));
    let mut reasons: Vec<_> =
        report["refused"].as_array().into_iter().flatten().map(|letter| letter["reason"].clone()).collect();
    reasons.sort_by_key(Value::to_string);
    assert_eq!(reasons, ["ahead", "malformed"], "{report:#}");

    // Nobody needs to run for it.
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    let printed = text(&stage.tidemill(&["why"], &["r-1"]));
    for part in ["waits for payment until event time has come to", "no worker runs", "time is held back by"] {
        assert!(printed.contains(part), "{part:?} is missing in: {printed}");
    }
    assert!(!printed.contains("4711"), "{printed}");
    let printed = text(&stage.tidemill(&["why"], &["r-1", "--show-values"]));
    assert!(printed.contains(r#""value":{"fare":4711}"#), "{printed}");
    let by_bytes = why(&stage, &["--key-base64", "ci0x"]);
    assert_eq!((&by_bytes["key"], length(&by_bytes, "open")), (&json!("r-1"), 1));
    let other = why(&stage, &["nobody"]);
    assert_eq!((length(&other, "open"), length(&other, "refused")), (0, 0));
    assert!(
        other["reasons"][0].as_str().is_some_and(|reason| reason.starts_with("nothing of this key is open"))
    );

    cluster().produce(&payments, [ToSend::new("p-2", r#"{"ride":"r-1"}"#).at(now)]);
    let report = why(&stage, &["r-1"]);
    assert!(report["reasons"].to_string().contains("still to be read"), "{report:#}");
    let mut worker = stage.spawn("a");
    let follower = Follower::start(cluster(), &stage.sink);
    follower.wait_for(1, WITHIN);
    let report = why(&stage, &["r-1"]);
    assert_eq!((length(&report, "open"), length(&report, "waiting")), (0, 0), "{report:#}");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());

    let reshaped = stage.with("/spec/window/stitch/within", json!("20m"));
    let refused = failure(&reshaped.tidemill(&["why"], &["r-1"]));
    assert!(refused.contains("written for other windows") && refused.contains("reset --state"), "{refused}");
}

#[test]
fn a_result_that_its_handler_does_not_take_is_seen_to_wait() {
    let stage = Stage::new(cluster(), "why-waiting", 2).with_trial();
    let outage = stage.folder().join("outage");
    fs::write(&outage, "").expect("a file");
    let stage = stage
        .with("/spec/handler/config/outage", json!(outage))
        .with("/spec/delivery/retry", json!({ "maxAttempts": 1000, "initial": "20ms", "max": "40ms" }))
        .with("/spec/window", json!({ "count": { "size": 2 } }));
    let mut worker = stage.spawn("a");
    wait_for_state(&stage);
    cluster().produce(&stage.source, (0..5).map(|n| ToSend::new("ada", format!("secret-{n}"))));
    wait_until(WITHIN, "two results to wait", || {
        let report = why(&stage, &["ada"]);
        length(&report, "waiting") == 2 && report["waiting"][0]["attempts"].as_u64() > Some(1)
    });
    let report = why(&stage, &["ada"]);
    let first = &report["waiting"][0];
    assert_eq!((&first["fired"], &first["events"]), (&json!("close"), &json!(2)), "{report:#}");
    assert_eq!((&report["open"][0]["events"], &report["open"][0]["takes"]), (&json!(1), &json!(2)));
    assert!(report["reasons"][0].as_str().is_some_and(|reason| reason.contains("waits for its handler")));
    assert!(!report.to_string().contains("secret"), "{report:#}");
    let printed = text(&stage.tidemill(&["why"], &["ada", "--show-values"]));
    assert!((0..5).all(|n| printed.contains(&format!("secret-{n}"))), "{printed}");
    let elsewhere = why(
        &stage,
        &["ada", "--partition", if report["partition"].to_string().contains("/0") { "1" } else { "0" }],
    );
    assert_eq!((length(&elsewhere, "waiting"), length(&elsewhere, "open")), (0, 0));

    fs::remove_file(outage).expect("the outage ends");
    let follower = Follower::start(cluster(), &stage.sink);
    follower.wait_for(2, WITHIN);
    let report = why(&stage, &["ada"]);
    assert_eq!((length(&report, "waiting"), length(&report, "open")), (0, 1), "{report:#}");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn what_came_too_late_is_seen_with_its_place() {
    let stage = Stage::new(cluster(), "why-late", 3).with("/spec/sources/0/format", json!("json"));
    let late = format!("{}.late", stage.name);
    let window = json!({
        "tumbling": { "size": "2s" },
        "idle": "10m",
        "late": { "topic": late },
        "aggregate": { "events": { "op": "count" }, "total": { "op": "sum", "field": "" } },
    });
    cluster().create_topic(&late, 5, &[]);
    let stage = stage.with("/spec/sinks/0/format", json!("json")).with("/spec/window", window);
    let mut worker = stage.spawn("a");
    wait_for_state(&stage);
    let start = now_ms() / 2000 * 2000;
    let at = |ms: i64, value: &str| ToSend::new("ada", value).at(ms);
    let misfits = [at(start - 60_000, "2"), at(start, "{"), at(start + 1, "40"), at(start - 60_001, "4")];
    cluster().produce(&stage.source, [at(start, "1")].into_iter().chain(misfits));
    stage.wait_until_drained(WITHIN);
    let report = why(&stage, &["ada", "--dead-letters", "2"]);
    assert_eq!(length(&report, "refused"), 2, "the newest of three: {report:#}");
    let report = why(&stage, &["ada"]);
    let refused = report["refused"].as_array().expect("a list");
    let mut seen: Vec<_> = refused
        .iter()
        .map(|letter| {
            [&letter["topic"], &letter["reason"], &letter["event"]].map(|part| part.as_str().unwrap_or(""))
        })
        .collect();
    seen.sort_unstable();
    let source = report["partition"].as_str().expect("a partition");
    let event = |offset: i64| format!("{source}@{offset}");
    let expected = [
        [stage.dead_letters.as_str(), "malformed", &event(2)],
        [&late, "late", &event(1)],
        [&late, "late", &event(4)],
    ];
    assert_eq!(seen, expected, "{report:#}");
    let open = &report["open"][0];
    assert_eq!((&open["events"], &open["endMs"]), (&json!(2), &json!(start + 2000)));
    assert_eq!((&report["time"]["watermarkMs"], open.get("aggregates")), (&json!(start + 1), None));
    assert_eq!(report["notes"], json!([]));
    let printed = text(&stage.tidemill(&["why"], &["ada", "--show-values"]));
    assert!(printed.contains(r#"{"events":2,"total":41}"#), "{printed}");
    assert!(printed.contains("was read to its end: event time goes on"), "{printed}");
    let printed = text(&stage.tidemill(&["why"], &["bob"]));
    assert!(printed.contains("--partition looks in another"), "{printed}");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn what_a_handler_keeps_of_a_key_and_its_timers_are_seen() {
    let stage = Stage::new(cluster(), "why-state", 2).with_trial();
    let rows = format!("{}.rows", stage.name);
    cluster().create_topic(&rows, 1, &[("cleanup.policy", "compact")]);
    let sources = json!([
        { "topic": stage.source, "format": "bytes" },
        { "topic": rows, "name": "table", "format": "json", "table": {} },
    ]);
    let stage = stage
        .with("/spec/sources", sources)
        .with("/spec/state", json!({ "ttl": "1h" }))
        .with("/spec/time", json!({ "idle": "10m", "maxSkew": "3650d" }))
        .with("/spec/delivery/retry", json!({ "maxAttempts": 1000, "initial": "20ms", "max": "40ms" }));
    let mut worker = stage.spawn("a");
    wait_for_state(&stage);
    let now = now_ms();
    cluster().produce(&rows, [ToSend::new("ada", r#""secret-row""#)]);
    let event = ToSend::new("ada", "x").at(now).header("timer-fail", "99");
    let event = event.header("event-timer-ms", "60000").header("clock-timer-ms", "200");
    cluster().produce(&stage.source, [event, ToSend::new("ada", "x").at(now + 1).header("count", "")]);
    // Of its two timers one has fired, and fails.
    wait_until(WITHIN, "a timer to wait and the row to be there", || {
        let report = why(&stage, &["ada"]);
        let attempts = report["waiting"][0]["attempts"].as_u64();
        attempts > Some(1) && length(&report, "rows") == 1 && length(&report, "values") == 2
    });
    let report = why(&stage, &["ada"]);
    let waiting = &report["waiting"][0]["timer"];
    assert_eq!((&waiting["name"], &waiting["clock"]), (&json!("clock"), &json!("wall")), "{report:#}");
    let timer = json!({ "name": "event", "clock": "event", "atMs": now + 60_000 });
    assert_eq!(report["timers"], json!([timer]), "{report:#}");
    let count = json!({ "name": "count", "expiresAtMs": now + 1 + 3_600_000, "bytes": 1 });
    assert_eq!((&report["values"][0], &report["values"][1]["name"]), (&count, &json!("later")), "{report:#}");
    assert_eq!(report["rows"], json!([{ "table": "table", "bytes": 12 }]), "{report:#}");
    let reasons = report["reasons"].to_string();
    for part in [
        "timer clock has fired and waits",
        "timer event fires when event time has come to",
        "time is held back",
    ] {
        assert!(reasons.contains(part), "{part:?} is missing in {reasons}");
    }
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    let printed = text(&stage.tidemill(&["why"], &["ada"]));
    assert!(
        printed.contains("value    count  1 byte  until event time ") && !printed.contains("secret"),
        "{printed}"
    );
    let printed = text(&stage.tidemill(&["why"], &["ada", "--show-values"]));
    assert!(printed.contains(r#""secret-row""#) && printed.contains(r#"{"fail":99,"#), "{printed}");
    let other = text(&stage.tidemill(&["why"], &["nobody"]));
    assert!(other.contains("nothing of this key waits") && other.contains("1 key has something"), "{other}");
}

#[test]
fn a_function_without_a_window_has_nothing_that_waits() {
    let stage = Stage::new(cluster(), "why-plain", 1);
    let refused = failure(&stage.tidemill(&["why"], &["ada"]));
    assert!(refused.contains("keeps nothing by key") && refused.contains("dlq list --key"), "{refused}");
    let wrong = stage.tidemill(&["why"], &["--key-base64", "%"]);
    assert_eq!(wrong.status.code(), Some(2));
}
