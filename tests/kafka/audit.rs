//! `tidemill audit` finds what is missing or there twice, and nothing where nothing is.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{ReadRecord, Stage, ToSend, cluster, unique};

const WITHIN: Duration = Duration::from_secs(90);

/// What the audit says, which it must find balanced or not.
#[track_caller]
fn audit(stage: &Stage, is_balanced: bool) -> Value {
    let output = run(stage, &["--output", "json"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(i32::from(!is_balanced)), "{text} {output:?}");
    serde_json::from_str(&text).expect("one document")
}

fn run(stage: &Stage, args: &[&str]) -> Output {
    stage.tidemill(&["audit"], args)
}

/// A number of all lanes together.
fn sum(report: &Value, of: &str) -> u64 {
    report["lanes"].as_array().into_iter().flatten().filter_map(|lane| lane[of].as_u64()).sum()
}

fn findings(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().into_iter().flatten();
    findings.filter_map(|finding| finding["finding"].as_str()).collect()
}

/// A function with two sinks, one of which takes only some outputs. Of 200 events one in ten is refused by a filter and
/// one in ten rejected.
fn mixed(stem: &str) -> Stage {
    let second = unique("audit-second");
    cluster().create_topic(&second, 1, &[]);
    let stage = Stage::new(cluster(), stem, 2).with_trial();
    let sinks = json!([{ "topic": stage.sink }, { "name": "second", "topic": second }]);
    let stage = stage
        .with("/spec/delivery/originHeaders", json!(true))
        .with("/spec/sources/0/filters", json!([{ "header": { "name": "refuse", "exists": false } }]))
        .with("/spec/sinks", sinks);
    cluster().produce(
        &stage.source,
        (0..200).map(|n| {
            let record = ToSend::new(format!("k{}", n % 7), n.to_string());
            match n % 10 {
                3 => record.header("refuse", "1"),
                7 => record.header("reject", "as asked"),
                _ => record,
            }
        }),
    );
    let mut worker = stage.spawn("a");
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());
    stage
}

#[test]
fn what_is_whole_balances_also_after_dead_letters_were_brought_back() {
    let stage = mixed("audit-whole");
    let report = audit(&stage, true);
    for (of, count) in [
        ("consumed", 200),
        ("ok", 160),
        ("filtered", 20),
        ("deadLetters", 20),
        ("outputs", 320),
        ("found", 320),
    ] {
        assert_eq!(sum(&report, of), count, "{of} in {report:#}");
    }
    let redriven = stage.tidemill(&["dlq", "redrive"], &[]);
    assert!(redriven.status.success(), "{redriven:?}");
    let mut worker = stage.spawn("a");
    stage.wait_until_drained(WITHIN);
    crate::harness::wait_until(WITHIN, "those brought back", || {
        let report: Value = serde_json::from_slice(&run(&stage, &["--output", "json"]).stdout).unwrap();
        sum(&report, "consumed") == 220 && sum(&report, "inFlight") == 0
    });
    assert!(worker.terminate(WITHIN).success());
    let report = audit(&stage, true);
    assert_eq!(sum(&report, "deadLetters"), 40, "rejected again: {report:#}");
    let text = String::from_utf8(run(&stage, &[]).stdout).unwrap();
    assert!(text.contains("balanced: each of 220 events"), "{text}");
}

#[test]
fn a_result_that_is_there_twice_or_missing_is_named() {
    let stage = mixed("audit-forged");
    let results = cluster().read_all_ended(&stage.sink);
    let origin = |result: &ReadRecord| result.header("tidemill-origin").unwrap().to_owned();
    let (first, second) = (origin(&results[0]), origin(&results[1]));
    let of_five = format!("{}/4/5", second.strip_suffix("/0/2").expect("the first of two"));
    let forged = |origin: String| ToSend::new("k", "forged").header("tidemill-origin", origin);
    // Those of other functions, and of events that the function has not come to, are none of its business.
    let others = first.replace(&stage.name, "other");
    let later = format!("default/{}/{}/0/100000/0/1", stage.name, stage.source);
    cluster().produce(&stage.sink, [first.clone(), of_five, others, later].map(forged));
    let report = audit(&stage, false);
    let named: BTreeSet<&str> = findings(&report).into_iter().collect();
    assert_eq!(named, BTreeSet::from(["differs", "missing", "twice"]), "{report:#}");
    let text = String::from_utf8(run(&stage, &[]).stdout).unwrap();
    let event = |origin: &str| {
        let parts: Vec<&str> = origin.split('/').collect();
        format!("{}/{}@{}", parts[2], parts[3], parts[4])
    };
    for line in [
        format!("twice    {}: result 1 again in {}/", event(&first), stage.sink),
        format!("missing  {}: 2 of its 5 results", event(&second)),
        "not balanced: ".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
}

#[test]
fn results_that_do_not_name_their_origin_are_not_looked_at() {
    let stage = Stage::new(cluster(), "audit-plain", 1);
    cluster().produce(&stage.source, (0..10).map(|n| ToSend::new("k", n.to_string())));
    let mut worker = stage.spawn("a");
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());
    let report = audit(&stage, true);
    assert_eq!((sum(&report, "consumed"), sum(&report, "outputs")), (10, 10));
    assert!(report["notes"][0].as_str().unwrap().contains("originHeaders"), "{report:#}");
    let never = Stage::new(cluster(), "audit-never", 1);
    let output = run(&never, &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("has not run yet"), "{output:?}");
}
