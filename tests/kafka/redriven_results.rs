//! Dead letters of windows and timers come back as what they were: once the handler is mended each gives its result once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Follower, Isolation, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// By the record's key, or by a header: then its events are brought together first.
fn trying(stem: &str, is_gathered: bool) -> Stage {
    let stage = Stage::new(cluster(), stem, 2).with_trial();
    match is_gathered {
        true => stage.with("/spec/sources/0/key", json!({ "header": "by" })),
        false => stage,
    }
}

fn of(key: &str, value: &str) -> ToSend {
    ToSend::new(key, value).header("by", key)
}

#[track_caller]
fn redrive(stage: &Stage) -> Value {
    let output = stage.tidemill(&["dlq", "redrive"], &["--reason", "rejected", "--output", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one document")
}

/// Waits until it has died, for another time if `round` is not 0, and is so told.
#[track_caller]
fn wait_for_death(stage: &Stage, round: usize) {
    wait_until(WITHIN, "it to die", || stage.read_dead_letters().len() == round + 1);
    let mut rounds: Vec<_> = stage
        .read_dead_letters()
        .iter()
        .map(|letter| {
            assert_eq!(letter.header("tidemill-reason"), Some("rejected"));
            letter.header("tidemill-redrive").unwrap_or("0").to_owned()
        })
        .collect();
    rounds.sort();
    assert_eq!(rounds, (0..=round).map(|round| round.to_string()).collect::<Vec<_>>());
}

/// Lets what died for one reason or another die twice more, and mends the handler. What came out then, by key.
#[track_caller]
fn die_and_come_back(
    stage: Stage,
    events: impl Iterator<Item = ToSend>,
    results: usize,
) -> BTreeMap<String, Vec<String>> {
    let follower = Follower::start(cluster(), &stage.sink);
    let mut worker = stage.spawn("a");
    cluster().produce(&stage.source, events);
    wait_for_death(&stage, 0);
    assert_eq!(redrive(&stage)["redriven"], json!(1));
    wait_for_death(&stage, 1);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    // Nothing need run while it is brought back.
    assert_eq!(redrive(&stage)["redriven"], json!(1));
    let stage = stage.with("/spec/handler/config/mended", json!(true));
    let mut worker = stage.spawn("a");
    follower.wait_for(results, WITHIN);
    let again = redrive(&stage);
    assert_eq!((&again["redriven"], &again["before"]), (&json!(0), &json!(2)), "{again}");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    wait_for_death(&stage, 1);
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for result in cluster().read_all(&stage.sink, Isolation::ReadCommitted) {
        by_key.entry(result.key_text().to_owned()).or_default().push(result.text().to_owned());
    }
    by_key
}

#[test]
fn a_window_that_was_rejected_gives_its_result_once_the_handler_is_mended() {
    for is_gathered in [false, true] {
        let stage =
            trying("back-windows", is_gathered).with("/spec/window", json!({ "count": { "size": 2 } }));
        let events = [
            of("ada", "1").header("reject", "no"),
            of("bob", "1"),
            of("ada", "2"),
            of("bob", "2"),
            of("ada", "3"),
        ];
        let results = die_and_come_back(stage, events.into_iter(), 2);
        let expected = [("ada", "1+2"), ("bob", "1+2")];
        let expected = expected.map(|(key, told)| (key.to_owned(), vec![told.to_owned()]));
        assert_eq!(results, expected.into(), "{is_gathered}");
    }
}

#[test]
fn a_timer_that_was_rejected_fires_once_the_handler_is_mended() {
    for is_gathered in [false, true] {
        let stage = trying("back-timers", is_gathered)
            .with("/spec/state", json!({}))
            .with("/spec/time", json!({ "idle": "1s" }));
        let timed = |key: &str| of(key, "x").header("event-timer-ms", "100").at(1_700_000_000_000);
        let events = [timed("ada").header("timer-reject", "no"), timed("bob")];
        let results = die_and_come_back(stage, events.into_iter(), 4);
        let told = ["x", "event event 1700000000100"].map(str::to_owned).to_vec();
        assert_eq!(
            results,
            [("ada", &told), ("bob", &told)].map(|(key, told)| (key.to_owned(), told.clone())).into()
        );
    }
}
