//! What a handler needs is away while windows close and timers fire: nobody's fault, and nobody's dead letter.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Follower, Listeners, ReadRecord, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const BASE_MS: i64 = 1_700_000_000_000;
const OPENED: &str = "calls fail for one key";

/// A handler whose database is away while the file is there.
fn stage(stem: &str) -> (Stage, PathBuf) {
    let stage = Stage::new(cluster(), stem, 1).with_trial().with_short_sessions();
    let outage = stage.folder().join("outage");
    let stage = stage.with("/spec/handler/config/outage", json!(outage)).with(
        "/spec/delivery/retry",
        json!({ "maxAttempts": 3, "initial": "20ms", "max": "100ms", "maxHeld": 100 }),
    );
    (stage, outage)
}

fn is_open(listeners: &Listeners, stage: &Stage) -> bool {
    let lanes = |worker: &Value| worker["lanes"].as_array().cloned().unwrap_or_default();
    let function = listeners.function(&stage.name).unwrap_or_default();
    let workers = function["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().flat_map(lanes).any(|lane| lane["state"] == "circuitOpen")
}

fn open_circuits(listeners: &Listeners) -> Option<u64> {
    let (_, text) = listeners.metrics("/metrics");
    let line = text.lines().find(|line| line.starts_with("tidemill_lane_open_circuits{"))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn calls(stage: &Stage) -> usize {
    stage.calls().values().map(Vec::len).sum()
}

fn by_key(results: &[ReadRecord]) -> BTreeMap<&str, Vec<&str>> {
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    results.iter().for_each(|result| by_key.entry(result.key_text()).or_default().push(result.text()));
    by_key
}

#[test]
fn windows_that_close_in_an_outage_are_given_when_it_is_over() {
    const KEYS: usize = 60;
    const WINDOWS: usize = 10;
    let (stage, outage) = stage("outage-windows");
    let stage = stage.with("/spec/window", json!({ "tumbling": { "size": "1s" }, "idle": "1s" }));
    fs::write(&outage, "").expect("a file");
    let events = (0..WINDOWS).flat_map(|window| {
        let at = BASE_MS + window as i64 * 1000;
        (0..KEYS).map(move |key| ToSend::new(format!("k{key}"), window.to_string()).at(at))
    });
    cluster().produce(&stage.source, events);
    let follower = Follower::start(cluster(), &stage.sink);
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "the circuit to open", || worker.log().contains(OPENED));
    wait_until(WITHIN, "reading to stop: as many results wait as may", || {
        worker.log().contains("reading stops")
    });
    let before = calls(&stage);
    wait_until(WITHIN, "probes", || calls(&stage) > before + 20);
    // What waits, and that no attempts were counted, outlives a kill.
    worker.kill();
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    wait_until(WITHIN, "it to be seen", || {
        is_open(&listeners, &stage) && open_circuits(&listeners) == Some(1)
    });
    let before = calls(&stage);
    wait_until(WITHIN, "probes", || calls(&stage) > before + 20);
    assert!(follower.read().is_empty());
    fs::remove_file(&outage).expect("a file");
    let results = follower.wait_for(KEYS * WINDOWS, WITHIN);
    let in_order: Vec<String> = (0..WINDOWS).map(|window| window.to_string()).collect();
    for (key, windows) in by_key(&results) {
        assert_eq!(windows, in_order, "{key}");
    }
    stage.wait_until_drained(WITHIN);
    wait_until(WITHIN, "it to be over", || open_circuits(&listeners) == Some(0));
    assert!(worker.log().contains("the outage is over"), "{}", worker.log());
    assert!(worker.terminate(WITHIN).success());
    assert_eq!(follower.read().len(), KEYS * WINDOWS, "nothing came twice");
    assert!(stage.read_dead_letters().is_empty());
}

#[test]
fn timers_that_fire_in_an_outage_are_called_when_it_is_over() {
    const KEYS: usize = 300;
    let (stage, outage) = stage("outage-timers");
    let stage = stage.with("/spec/state", json!({})).with("/spec/time", json!({ "idle": "1s" }));
    let of =
        |key: usize| ToSend::new(format!("k{key}"), "event").header("clock-timer-ms", "8000").at(BASE_MS);
    cluster().produce(&stage.source, (0..KEYS).map(of));
    let follower = Follower::start(cluster(), &stage.sink);
    let mut worker = stage.spawn("a");
    follower.wait_for(KEYS, WITHIN);
    fs::write(&outage, "").expect("a file");
    wait_until(WITHIN, "the circuit to open", || worker.log().contains(OPENED));
    // Events share it: they wait, uncalled but for probes.
    cluster().produce(&stage.source, (0..KEYS).map(|key| ToSend::new(format!("k{key}"), "late").at(BASE_MS)));
    let before = calls(&stage);
    wait_until(WITHIN, "probes", || calls(&stage) > before + 40);
    let given = follower.read().len();
    fs::remove_file(&outage).expect("a file");
    let results = follower.wait_for(KEYS * 3, WITHIN);
    for (key, told) in by_key(&results) {
        let of_clock = told.iter().filter(|told| told.starts_with("clock clock")).count();
        assert_eq!((told.len(), told[0], of_clock), (3, "event", 1), "{key}: {told:?}");
    }
    stage.wait_until_drained(WITHIN);
    assert!(worker.log().contains("the outage is over"), "{}", worker.log());
    assert!(worker.terminate(WITHIN).success());
    assert!(given < KEYS * 2, "there was an outage: {given}");
    assert_eq!(follower.read().len(), KEYS * 3, "nothing came twice");
    assert!(stage.read_dead_letters().is_empty());
    let counted =
        stage.calls().into_values().filter(|calls| calls.iter().any(|attempt| *attempt > 1)).count();
    assert!(counted <= 10, "an attempt was counted of {counted}: of those that opened it, no more");
}
