//! `tidemill scale` fixes a number of workers for a while, in the process that decides and in `autoscale`; `top`, `explain`
//! and `/functions` show it, and it ends when it is lifted, when its time is over, or by `wake`.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Listeners, Stage, ToSend, cluster, holds_for, wait_until};

const WITHIN: Duration = Duration::from_secs(90);

/// Runs a verb as a person does, who knows of no listener unless it is given.
fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(args).args(["--output", "json", "--brokers", cluster().brokers()]);
    command.env("TIDEMILL_ADMIN", "off").output().expect("tidemill starts")
}

#[track_caller]
fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("a JSON document")
}

/// The function's row in `top`.
fn row(stage: &Stage, admin: &[&str]) -> Value {
    let document = said(&run(&[&["top"], admin].concat()));
    let name = format!("default/{}", stage.name);
    let rows = document["functions"].as_array().expect("functions").clone();
    rows.into_iter().find(|row| row["function"] == name.as_str()).expect("it is found by its group")
}

#[test]
fn a_person_may_fix_the_number_of_workers_for_a_while() {
    let stage = Stage::new(cluster(), "fixed", 4)
        .with_trial()
        .with("/spec/scale", json!({ "min": 0, "max": 4, "zeroAfter": "1h" }));
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    wait_until(WITHIN, "its worker", || stage.members() == 1);

    let document = said(&run(&["scale", &stage.name, "3", "--for", "1h"]));
    assert_eq!(document["processes"].as_array().map(Vec::len), Some(1), "{document}");
    wait_until(WITHIN, "three", || stage.members() == 3);
    let standing = || listeners.scale(&stage.name).unwrap_or_default();
    wait_until(WITHIN, "it to be shown", || standing()["reason"] == "fixed" && standing()["running"] == 3);
    let function = listeners.function(&stage.name).expect("shown");
    assert_eq!(function["override"]["workers"], 3);
    let left = function["override"]["leftMs"].as_u64().expect("a time");
    assert!((3_000_000..=3_600_000).contains(&left), "{left}");
    let shown = row(&stage, &[]);
    assert_eq!((&shown["state"], &shown["wanted"]), (&json!("running"), &json!(3)), "{shown}");
    assert_eq!((&shown["workers"], &shown["override"]["workers"]), (&json!(3), &json!(3)), "{shown}");
    let manifest = stage.manifest();
    let explained = run(&["explain", manifest.to_str().expect("text"), "--interval", "200ms"]);
    assert_eq!(said(&explained)["override"]["workers"], 3);
    let (_, metrics) = listeners.metrics("/metrics");
    let series = format!("tidemill_scale_desired_workers{{function=\"default/{}\"}} 3", stage.name);
    assert!(metrics.contains(&series), "{metrics}");
    assert!(metrics.contains("reason=\"fixed\""), "{metrics}");

    // None, whatever comes.
    said(&run(&["scale", &stage.name, "0", "--for", "1h"]));
    wait_until(WITHIN, "none", || stage.members() == 0 && listeners.state(&stage.name) == "asleep");
    cluster().produce(&stage.source, (0..10).map(|n| ToSend::new(format!("key-{n}"), n.to_string())));
    holds_for(Duration::from_secs(3), "nobody comes", || stage.members() == 0);
    let shown = row(&stage, &["--admin", &listeners.admin]);
    assert_eq!((&shown["state"], &shown["lag"]), (&json!("asleep"), &json!(10)), "{shown}");
    assert!(shown["behindMs"].as_u64().is_some_and(|ms| ms >= 3000), "{shown}");

    // Nobody is in the group whom it could name.
    let missed = run(&["scale", &stage.name, "auto"]);
    assert!(String::from_utf8_lossy(&missed.stderr).contains("--admin"), "{missed:?}");
    said(&run(&["scale", &stage.name, "2", "--for", "2s", "--admin", &listeners.admin]));
    stage.wait_until_drained(WITHIN);
    wait_until(WITHIN, "its time to be over", || {
        listeners.function(&stage.name).is_some_and(|function| function["override"].is_null())
    });
    said(&run(&["scale", &stage.name, "0", "--for", "1h"]));
    wait_until(WITHIN, "none", || stage.members() == 0);
    said(&run(&["wake", &stage.name, "--admin", &listeners.admin]));
    wait_until(WITHIN, "a worker", || stage.members() == 1);
    assert!(listeners.function(&stage.name).is_some_and(|function| function["override"].is_null()));
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn what_may_not_sleep_is_not_told_to() {
    let stage = Stage::new(cluster(), "fixed-awake", 2).with("/spec/scale", json!({ "min": 1, "max": 2 }));
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    wait_until(WITHIN, "its worker", || stage.members() == 1);
    let refused = run(&["scale", &stage.name, "0"]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(errors.contains("min: 0") && errors.contains("tidemill pause"), "{errors}");
    assert!(worker.terminate(WITHIN).success());

    let stage = Stage::new(cluster(), "fixed-never", 2).with("/spec/scale", json!({ "min": 1, "max": 1 }));
    let mut worker = stage.spawn_with("a", &[("TIDEMILL_ADMIN", "127.0.0.1:0")]);
    wait_until(WITHIN, "its worker", || stage.members() == 1);
    let refused = run(&["scale", &stage.name, "2"]);
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && errors.contains("has no `scale`"), "{errors}");
    assert!(worker.terminate(WITHIN).success());
}

#[test]
fn autoscale_takes_a_persons_number_too() {
    let stage = Stage::new(cluster(), "fixed-outside", 4).with_trial();
    let stage = stage.with("/spec/scale", json!({ "min": 0, "max": 4 }));
    let listeners = Listeners::free();
    let manifest = stage.manifest();
    let args = ["autoscale", manifest.to_str().expect("text")];
    let mut scaler = stage.spawn_args("scaler", &args, &listeners.env());
    let desired = || listeners.scale(&stage.name).and_then(|standing| standing["desired"].as_u64());
    wait_until(WITHIN, "a decision", || desired() == Some(0));
    said(&run(&["scale", &stage.name, "2", "--admin", &listeners.admin]));
    wait_until(WITHIN, "two processes", || stage.members() == 2);
    let shown = row(&stage, &["--admin", &listeners.admin]);
    assert_eq!((&shown["wanted"], &shown["override"]["workers"]), (&json!(2), &json!(2)), "{shown}");
    let woke = format!(
        "tidemill_scale_wake_duration_seconds_count{{function=\"default/{}\",tier=\"off\"}} 1",
        stage.name
    );
    wait_until(WITHIN, "its waking to be measured", || listeners.metrics("/metrics").1.contains(&woke));
    // Its processes are found.
    assert_eq!(said(&run(&["pause", &stage.name]))["processes"].as_array().map(Vec::len), Some(2));
    said(&run(&["scale", &stage.name, "0", "--admin", &listeners.admin]));
    wait_until(WITHIN, "none", || stage.members() == 0);
    assert!(scaler.terminate(WITHIN).success(), "{}", scaler.log());
}
