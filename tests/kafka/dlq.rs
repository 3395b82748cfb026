//! Dead letters can be looked at and brought back: each exactly once, however often a redrive is run, killed or run
//! beside another, in the order of their events, to the source that they came from.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};

use crate::harness::{
    Isolation, ReadRecord, Stage, ToSend, Worker, assert_each_once, cluster, unique, wait_until,
};

const WITHIN: Duration = Duration::from_secs(90);

/// Runs `tidemill dlq VERB MANIFEST ARGS…` to its end.
fn dlq(stage: &Stage, verb: &str, args: &[&str]) -> Output {
    stage.tidemill(&["dlq", verb], args)
}

fn tidemill(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(args).env_remove("TIDEMILL_BROKERS").output().expect("tidemill runs")
}

#[track_caller]
fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[track_caller]
fn list(stage: &Stage, args: &[&str]) -> Vec<Value> {
    let printed = stdout(&dlq(stage, "list", &[args, &["--output", "json"]].concat()));
    printed.lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect()
}

fn values(letters: &[Value]) -> BTreeSet<String> {
    let value = |letter: &Value| match &letter["event"]["value"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    letters.iter().map(value).collect()
}

fn redrive_topic(stage: &Stage) -> String {
    format!("{}.redrive", stage.name)
}

fn read(topic: &str) -> Vec<ReadRecord> {
    match cluster().partitions(topic) {
        Some(_) => cluster().read_all(topic, Isolation::ReadCommitted),
        None => Vec::new(),
    }
}

fn mended(stage: Stage) -> Stage {
    stage.with("/spec/handler/config/mended", json!(true))
}

#[test]
fn dead_letters_are_shown_and_brought_back_after_the_handler_was_mended() {
    let stage = Stage::new(cluster(), "back", 3)
        .with_trial()
        .with("/spec/delivery/retry", json!({ "maxAttempts": 2, "initial": "20ms", "max": "40ms" }));
    // Of each key some are rejected, and one is tried in vain.
    let records = (0..40u32).map(|n| {
        let record = ToSend::new(format!("key-{}", n % 5), n.to_string())
            .header("mine", n.to_string())
            .at(1_700_000_000_000 + i64::from(n));
        match n {
            11 => record.header("fail", "99"),
            n if n % 3 == 1 => record.header("reject", "no-rider"),
            _ => record,
        }
    });
    cluster().produce(&stage.source, records);
    let rejected: BTreeSet<String> = (0..40).filter(|n| n % 3 == 1).map(|n: u32| n.to_string()).collect();
    let mut worker = stage.spawn("a");
    stage.wait_until_drained(WITHIN);

    let all = list(&stage, &[]);
    assert_eq!(all.len(), 14, "{all:#?}");
    for (args, expected) in [
        (&["--reason", "rejected"][..], rejected.clone()),
        (&["--reason", "exhausted"], BTreeSet::from(["11".to_owned()])),
        (&["--since", "1h", "--reason", "exhausted"], BTreeSet::from(["11".to_owned()])),
        (&["--until", "1h"], BTreeSet::new()),
        (&["--key", "key-1", "--reason", "exhausted"], BTreeSet::from(["11".to_owned()])),
        (&["--key", "key-2", "--reason", "exhausted"], BTreeSet::new()),
    ] {
        assert_eq!(values(&list(&stage, args)), expected, "{args:?}");
    }
    assert_eq!(list(&stage, &["--limit", "3"]).len(), 3);
    let one = all.iter().find(|letter| letter["event"]["value"] == json!(4)).expect("number 4 was rejected");
    let event = &one["event"];
    let place = format!("{}/{}@{}", stage.source, event["partition"], event["offset"]);
    assert_eq!(list(&stage, &["--where", &place]), std::slice::from_ref(one));
    assert_eq!(event["topic"], json!(stage.source));
    assert_eq!(event["timestamp"], json!(1_700_000_000_004i64));
    assert_eq!(event["headers"], json!({ "mine": "4", "reject": "no-rider" }));
    assert_eq!(
        (&one["reason"], &one["attempts"], &one["redriven"]),
        (&json!("rejected"), &json!(1), &json!(false))
    );
    let text = stdout(&dlq(&stage, "list", &[]));
    let summary = format!(
        "14 dead letters of default/{} in {}: 1 exhausted, 13 rejected",
        stage.name, stage.dead_letters
    );
    assert_eq!(text.lines().last(), Some(summary.as_str()), "{text}");
    assert_eq!(text.lines().count(), 15, "{text}");

    let id = one["id"].as_str().expect("an id");
    let shown = stdout(&dlq(&stage, "show", &[id]));
    for part in [id, "no-rider: rejected as asked", &place, "mine: 4", "2023-11-14T22:13:20.004Z"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    the_case_fails_until_the_handler_is_mended(&stage, id);

    // Nothing moves in a dry run.
    let dry = stdout(&dlq(&stage, "redrive", &["--reason", "rejected", "--dry-run", "--output", "json"]));
    assert_eq!(dry.lines().count(), 13, "{dry}");
    assert_eq!(read(&redrive_topic(&stage)), []);
    assert_eq!(list(&stage, &[]), all);

    // What dies again is a dead letter of the same event, and counts the round.
    let exhausted = list(&stage, &["--reason", "exhausted"]).remove(0);
    let again = |round: usize| {
        let id =
            list(&stage, &["--reason", "exhausted"])[round - 1]["id"].as_str().expect("an id").to_owned();
        let report = stdout(&dlq(&stage, "redrive", &[&id, "--output", "json"]));
        assert!(report.contains(r#""redriven":1"#), "{report}");
        wait_until(WITHIN, "it to die again", || list(&stage, &["--reason", "exhausted"]).len() == round + 1);
        let letters = list(&stage, &["--reason", "exhausted"]);
        let newest = letters.last().expect("it has died");
        assert_eq!(newest["round"], json!(round));
        assert_eq!(newest["event"], exhausted["event"]);
        assert!(letters[..round].iter().all(|letter| letter["redriven"] == json!(true)), "{letters:#?}");
    };
    again(1);
    again(2);
    let rounds: Vec<_> = read(&redrive_topic(&stage))
        .iter()
        .map(|r| r.header("tidemill-redrive").map(str::to_owned))
        .collect();
    assert_eq!(rounds.into_iter().flatten().collect::<Vec<_>>(), ["1", "2"]);

    // The handler is mended; nothing need run while letters are brought back.
    assert!(worker.terminate(WITHIN).success());
    let stage = mended(stage);
    let report = stdout(&dlq(&stage, "redrive", &["--reason", "rejected"]));
    assert_eq!(
        report,
        format!("13 dead letters of default/{} redriven to {}\n", stage.name, redrive_topic(&stage))
    );
    let report = stdout(&dlq(&stage, "redrive", &["--reason", "rejected", "--output", "json"]));
    let report: Value = serde_json::from_str(&report).expect("one document");
    assert_eq!((&report["redriven"], &report["before"]), (&json!(0), &json!(13)));

    let mut worker = stage.spawn("a");
    let mut other = stage.spawn("b");
    wait_until(WITHIN, "all results", || read(&stage.sink).len() >= 39);
    // One may have been through before the other had joined.
    wait_until(WITHIN, "each to have partitions", || {
        [&worker, &other].iter().all(|worker| !begun(&worker.log(), &stage.source).is_empty())
    });
    let metrics = stdout(&tidemill(&["lag", &stage.group(), "--brokers", cluster().brokers()]));
    assert!(metrics.contains(&redrive_topic(&stage)), "{metrics}");
    assert!(worker.terminate(WITHIN).success());
    assert!(other.terminate(WITHIN).success());
    for worker in [&worker, &other] {
        let log = worker.log();
        let (redriven, of_source) = (begun(&log, &redrive_topic(&stage)), begun(&log, &stage.source));
        assert_eq!(redriven, of_source, "who has the one has the other");
    }
    let results = read(&stage.sink);
    let numbers: Vec<u32> = results.iter().map(|record| record.text().parse().expect("a number")).collect();
    let expected: BTreeSet<u32> = (0..40).filter(|n| *n != 11).collect();
    assert_eq!((numbers.len(), numbers.iter().copied().collect::<BTreeSet<_>>()), (39, expected));
    for record in &results {
        assert_eq!(record.timestamp_ms, 1_700_000_000_000 + record.text().parse::<i64>().expect("a number"));
    }
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    for record in results.iter().filter(|record| rejected.contains(record.text())) {
        let number = record.text().parse().expect("a number");
        let before = last.insert(record.key_text(), number);
        assert!(
            before.is_none_or(|before| before < number),
            "{}: {before:?} then {number}",
            record.key_text()
        );
    }
    let events: Vec<_> = stage.calls().into_iter().filter(|(event, _)| *event == place).collect();
    assert_eq!(events, [(place, vec![1, 1])], "the handler saw it where it stood first");
    assert_eq!(list(&stage, &["--reason", "rejected"]).len(), 13, "nothing died again");
}

/// Partitions of a topic that began there.
fn begun(log: &str, topic: &str) -> BTreeSet<String> {
    let topic = format!("topic=\"{topic}\"");
    let lines = log.lines().filter(|line| line.contains("lane begins") && line.contains(&topic));
    let partition = |line: &str| line.split("partition=").nth(1).map(|rest| rest[..1].to_owned());
    lines.filter_map(partition).collect()
}

/// A user appends the case and mends the handler.
#[track_caller]
fn the_case_fails_until_the_handler_is_mended(stage: &Stage, id: &str) {
    let case = stdout(&dlq(stage, "show", &[id, "--as-case"]));
    let folder = stage.manifest();
    let file = folder.join("cases.yaml");
    std::fs::write(&file, &case).expect("a file");
    let test = || tidemill(&["test", "--no-build", folder.to_str().expect("text")]);
    let failed = test();
    let said = String::from_utf8_lossy(&failed.stdout).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{case}\n{said}\n{}", String::from_utf8_lossy(&failed.stderr));
    assert!(said.contains("rejected as asked"), "{said}");
    let written = std::fs::read_to_string(folder.join("function.yaml")).expect("a manifest");
    let mut manifest: Value = serde_json::from_str(&written).expect("JSON");
    manifest["spec"]["handler"]["config"]["mended"] = json!(true);
    std::fs::write(folder.join("function.yaml"), manifest.to_string()).expect("a file");
    stdout(&test());
    std::fs::remove_file(file).expect("it was there");
}

/// Dead letters of `stage`'s function, numbered, in runs of ten by reason, and some of another function between them.
fn fill_dead_letters(stage: &Stage, count: usize) {
    cluster().create_topic(&stage.dead_letters, 2, &[]);
    add_dead_letters(stage, count);
}

fn add_dead_letters(stage: &Stage, count: usize) {
    let letters = (0..count).map(|n| {
        let function =
            if n % 7 == 6 { "default/other".to_owned() } else { format!("default/{}", stage.name) };
        ToSend::new(format!("key-{}", n % 23), n.to_string())
            .header("tidemill-function", function)
            .header("tidemill-reason", if n % 5000 < 4990 { "rejected" } else { "exhausted" })
            .header("tidemill-topic", &stage.source)
            .header("tidemill-partition", "0")
            .header("tidemill-offset", n.to_string())
            .header("tidemill-timestamp", "1700000000000")
    });
    cluster().produce(&stage.dead_letters, letters);
}

/// Which numbers are to go, renumbered without gaps, so that they can be counted.
fn renumbered(count: usize, records: Vec<ReadRecord>) -> (u64, Vec<ReadRecord>) {
    let goes = |n: &usize| n % 7 != 6 && n % 5000 < 4990;
    let numbers: BTreeMap<String, String> =
        (0..count).filter(goes).enumerate().map(|(at, n)| (n.to_string(), at.to_string())).collect();
    let records = records.into_iter().map(|record| {
        let value = numbers.get(record.text()).unwrap_or_else(|| panic!("{} was not chosen", record.text()));
        ReadRecord { value: Some(value.clone().into_bytes()), ..record }
    });
    (numbers.len() as u64, records.collect())
}

fn start_redrive(stage: &Stage, who: &str) -> Worker {
    let manifest = stage.manifest();
    let manifest = manifest.to_str().expect("text");
    let args = ["dlq", "redrive", manifest, "--reason", "rejected", "--brokers", cluster().brokers()];
    Worker::spawn(stage.folder(), who, &args)
}

const LETTERS: usize = 40_000;

#[test]
fn a_redrive_that_is_killed_and_run_again_brings_each_back_once() {
    let stage = Stage::new(cluster(), "killed", 2);
    fill_dead_letters(&stage, LETTERS);
    let mut first = start_redrive(&stage, "first");
    wait_until(WITHIN, "the first ones to go", || first.log().contains("tidemill: 500 of "));
    first.kill();
    let mut second = start_redrive(&stage, "second");
    assert!(second.wait(WITHIN).success(), "{}", second.log());
    let (expected, records) = renumbered(LETTERS, read(&redrive_topic(&stage)));
    assert_each_once(expected, &records);
    let said = second.log();
    let went = said.trim_end().rsplit_once("; ").and_then(|(_, went)| went.strip_suffix(" went before"));
    let went: u64 = went.and_then(|went| went.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!((1..expected).contains(&went), "it was killed in between: {said}");

    // Kafka forgets what a group without members committed; the redrive topic still tells.
    let admin: AdminClient<DefaultClientContext> = cluster().config().create().expect("a client");
    let group = format!("{}.redrive", stage.group());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let deleted = runtime.block_on(admin.delete_groups(&[&group], &AdminOptions::new()));
    assert!(deleted.expect("the broker answers").iter().all(Result::is_ok));
    let mut third = start_redrive(&stage, "third");
    assert!(third.wait(WITHIN).success(), "{}", third.log());
    assert_eq!(read(&redrive_topic(&stage)).len() as u64, expected, "{}", third.log());
}

#[test]
fn of_two_redrives_at_once_the_first_is_stopped_and_none_goes_twice() {
    let stage = Stage::new(cluster(), "two", 2);
    fill_dead_letters(&stage, LETTERS);
    let mut first = start_redrive(&stage, "first");
    wait_until(WITHIN, "the first ones to go", || first.log().contains("tidemill: 500 of "));
    let mut second = start_redrive(&stage, "second");
    assert!(second.wait(WITHIN).success(), "{}", second.log());
    assert!(!first.wait(WITHIN).success(), "{}", first.log());
    assert!(first.log().contains("another redrive of"), "{}", first.log());
    let (expected, records) = renumbered(LETTERS, read(&redrive_topic(&stage)));
    assert_each_once(expected, &records);
}

#[test]
fn letters_can_be_listed_while_others_die() {
    let stage = Stage::new(cluster(), "dying", 3);
    fill_dead_letters(&stage, 100);
    let is_enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let more = (0..200).take_while(|_| !is_enough.load(Relaxed));
            more.for_each(|_| add_dead_letters(&stage, 5_000));
        });
        let mut listed = 0;
        for _ in 0..5 {
            let before = listed;
            listed = list(&stage, &[]).len();
            assert!(listed >= before, "{listed} after {before}");
        }
        is_enough.store(true, Relaxed);
    });
}

#[test]
fn what_cannot_be_meant_or_cannot_go_is_said() {
    let stage = Stage::without_topics(cluster(), "said");
    let said = |args: &[&str]| {
        let output = dlq(&stage, args[0], &args[1..]);
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(said(&["list"]).contains("does not exist"));
    for topic in [&stage.source, &stage.dead_letters] {
        cluster().create_topic(topic, 1, &[]);
    }
    let letter = |topic: &str| {
        ToSend::value("v")
            .header("tidemill-function", format!("default/{}", stage.name))
            .header("tidemill-reason", "rejected")
            .header("tidemill-topic", topic)
            .header("tidemill-partition", "0")
            .header("tidemill-offset", "7")
            .header("tidemill-timestamp", "-1")
    };
    cluster().produce(&stage.dead_letters, [letter("elsewhere"), letter(&stage.source)]);
    assert!(said(&["show", "0@2"]).contains("no dead letter 0@2"));
    assert!(said(&["show", "4@0"]).contains("no dead letter 4@0"));
    assert!(said(&["redrive", "0@1", "0@9"]).contains("no dead letter 0@9"));
    let missing = unique("missing");
    assert!(said(&["redrive", "--to", &missing]).contains(&format!("topic {missing} does not exist")));
    assert_eq!(read(&redrive_topic(&stage)), [], "nothing went");
    let stuck = said(&["redrive"]);
    assert!(stuck.contains("0@0 cannot go: it came from topic elsewhere"), "{stuck}");
    assert_eq!(read(&redrive_topic(&stage)).len(), 1, "the other one went");
    let other = unique("other");
    cluster().create_topic(&other, 1, &[]);
    stdout(&dlq(&stage, "redrive", &["--to", &other]));
    assert_eq!(read(&other)[0].header("tidemill-topic"), Some("elsewhere"));
}
