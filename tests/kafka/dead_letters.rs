//! An event that cannot be handled becomes a dead letter in the same transaction: the original, byte by byte, with
//! headers that say what happened. Its neighbours go on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Isolation, ReadRecord, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn quick_retries(stage: Stage, attempts: u32) -> Stage {
    stage.with(
        "/spec/delivery/retry",
        json!({ "maxAttempts": attempts, "initial": "50ms", "factor": 1.5, "max": "200ms" }),
    )
}

fn dead_letters(stage: &Stage) -> Vec<ReadRecord> {
    cluster().read_all(&stage.dead_letters, Isolation::ReadCommitted)
}

#[test]
fn whatever_fails_becomes_a_dead_letter_and_its_neighbours_go_on() {
    let stage = quick_retries(Stage::new(cluster(), "dead", 1), 3)
        .with_trial()
        .with("/spec/sources/0/format", json!("json"))
        .with("/spec/delivery/maxEventAge", json!("1h"));
    let now = SystemClock::start().now().wall_ms;
    let ok = |n: u32| ToSend::new("k", n.to_string()).at(now);
    let sent = [
        ok(0),
        ToSend::new("rejected", "1").header("reject", "no-rider").header("mine", [0, 255]).at(now),
        ok(2),
        ToSend::new("malformed", "{ no json").header("mine", "m").at(now),
        ToSend::new("too-old", "4").at(now - 2 * 3_600_000),
        ok(5),
        ToSend::new("exhausted", "6").header("fail", "99").at(now),
        ToSend::new("panics", "7").header("panic", "99").at(now),
        ToSend::new("heals", "8").header("fail", "2").at(now),
        ok(9),
    ];
    cluster().produce(&stage.source, sent.clone().map(|record| record.to(0)));
    let mut worker = stage.spawn("a");
    stage.wait_until_drained(WITHIN);
    let results = cluster().read_all(&stage.sink, Isolation::ReadCommitted);
    let values: Vec<_> = results.iter().map(ReadRecord::text).collect();
    assert_eq!(values, ["0", "2", "5", "9", "8"], "what fails waits, and lets others pass");

    let dead = dead_letters(&stage);
    let expected = [
        ("rejected", 1, "rejected", "no-rider: rejected as asked", "1"),
        ("malformed", 3, "malformed", "", "0"),
        ("too-old", 4, "too-old", "maxEventAge", "0"),
        ("exhausted", 6, "exhausted", "call 3 fails as asked", "3"),
        ("panics", 7, "exhausted", "call 3 panics as asked", "3"),
    ];
    assert_eq!(dead.len(), expected.len(), "{dead:#?}");
    for (key, offset, reason, error, attempts) in expected {
        let letter = dead.iter().find(|letter| letter.key_text() == key).unwrap_or_else(|| panic!("{key}"));
        let original = &sent[offset];
        assert_eq!(letter.value, original.value, "{key}");
        assert_eq!(letter.headers[..original.headers.len()], original.headers[..], "{key}");
        for (name, expected) in [
            ("function", format!("default/{}", stage.name)),
            ("reason", reason.to_owned()),
            ("attempts", attempts.to_owned()),
            ("topic", stage.source.clone()),
            ("partition", "0".to_owned()),
            ("offset", offset.to_string()),
            ("timestamp", original.timestamp_ms.unwrap().to_string()),
        ] {
            assert_eq!(letter.header(&format!("tidemill-{name}")), Some(expected.as_str()), "{key}: {name}");
        }
        let said = letter.header("tidemill-error").unwrap();
        assert!(said.contains(error), "{key}: {said}");
    }
    let log = worker.log();
    assert!(worker.terminate(WITHIN).success());
    assert!(log.contains("dead letter"), "it is said");
}

#[test]
fn failed_calls_are_counted_across_a_crash() {
    const ATTEMPTS: u32 = 6;
    let stage =
        quick_retries(Stage::new(cluster(), "counted", 1), ATTEMPTS).with_short_sessions().with_trial();
    let dead = |stage: &Stage| {
        if cluster().partitions(&stage.dead_letters).is_some() { dead_letters(stage) } else { Vec::new() }
    };
    let records = [ToSend::new("k", "0"), ToSend::new("k", "1").header("fail", "99"), ToSend::new("k", "2")];
    cluster().produce(&stage.source, records);
    let event = format!("{}/0@1", stage.source);
    let attempts = || stage.calls().remove(&event).unwrap_or_default();
    let mut crashes = 0;
    let mut worker = stage.spawn("a");
    for calls in [2, 4] {
        wait_until(WITHIN, "some calls to fail", || attempts().len() >= calls);
        worker.kill();
        crashes += 1;
        worker = stage.spawn("a");
    }
    wait_until(WITHIN, "the dead letter", || dead(&stage).len() == 1);
    stage.wait_until_drained(WITHIN);
    let attempts = attempts();
    // A crash can hit between a call and the commit of its failure: that call was not counted.
    assert!(attempts.len() <= ATTEMPTS as usize + crashes, "{attempts:?}");
    assert!(attempts.windows(2).all(|pair| pair[0] <= pair[1]), "{attempts:?}");
    assert!(attempts.windows(2).filter(|pair| pair[0] == pair[1]).count() <= crashes, "{attempts:?}");
    assert_eq!(attempts.last(), Some(&ATTEMPTS), "{attempts:?}");
    assert_eq!(dead(&stage)[0].header("tidemill-attempts"), Some("6"));
    let results = cluster().read_all(&stage.sink, Isolation::ReadCommitted);
    assert_eq!(results.iter().map(ReadRecord::text).collect::<Vec<_>>(), ["0", "2"]);
    assert!(worker.terminate(WITHIN).success());
}

#[test]
fn a_function_that_shall_stop_does_so_before_the_event_and_goes_on_there() {
    let stage = quick_retries(Stage::new(cluster(), "stops", 1), 2)
        .with_trial()
        .with("/spec/delivery/onExhausted", json!("stop"));
    let follower = Follower::start(cluster(), &stage.sink);
    let records = (0..5).map(|n| {
        let record = ToSend::new("k", n.to_string());
        // Heals at the third call: the first one after the restart.
        if n == 2 { record.header("fail", "2") } else { record }
    });
    cluster().produce(&stage.source, records);
    let mut worker = stage.spawn("a");
    let status = worker.wait(WITHIN);
    assert!(!status.success(), "{status}");
    let log = worker.log();
    for part in [
        format!("event {}/0@2 failed 2 times", stage.source),
        "delivery.onExhausted is `stop`".to_owned(),
        "call 2 fails as asked".to_owned(),
        "mend the handler".to_owned(),
    ] {
        assert!(log.contains(&part), "{part:?} is missing in\n{log}");
    }
    assert_eq!(stage.committed(), [Some(2)], "nothing is committed beyond it");
    assert_eq!(stage.members(), 0, "the group was left");
    let values = || follower.read().iter().map(|record| record.text().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(), ["0", "1"]);

    // The handler is mended.
    let stage = stage.with("/spec/delivery/retry/maxAttempts", json!(3));
    let mut worker = stage.spawn("a");
    follower.wait_for(5, WITHIN);
    assert_eq!(values(), ["0", "1", "2", "3", "4"]);
    assert!(worker.terminate(WITHIN).success());
}

#[test]
fn a_panic_leaves_nothing_and_the_next_instance_goes_on() {
    let stage = quick_retries(Stage::new(cluster(), "panics", 2), 4).with_trial();
    let records = (0..20).map(|n| {
        let record = ToSend::new(format!("k{}", n % 5), n.to_string());
        if n % 4 == 0 { record.header("panic", "1") } else { record }
    });
    cluster().produce(&stage.source, records);
    let mut worker = stage.spawn("a");
    stage.wait_until_drained(WITHIN);
    let results = cluster().read_all(&stage.sink, Isolation::ReadCommitted);
    crate::harness::assert_each_once(20, &results);
    let calls: BTreeMap<usize, usize> = stage.calls().values().fold(BTreeMap::new(), |mut counts, calls| {
        *counts.entry(calls.len()).or_default() += 1;
        counts
    });
    assert_eq!(calls, BTreeMap::from([(1, 15), (2, 5)]));
    assert!(worker.terminate(WITHIN).success());
}
