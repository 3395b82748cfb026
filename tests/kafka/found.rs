//! Orders and `lag` find the processes that run a function through its group, wherever their admin listeners are.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Follower, Load, Stage, assert_each_once, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// Runs a verb as a person does whose settings have no admin listener.
fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(args).args(["--output", "json", "--brokers", cluster().brokers()]);
    command.env("TIDEMILL_ADMIN", "off").output().expect("tidemill starts")
}

fn said(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON document: {output:?}"))
}

#[test]
fn every_process_of_a_function_is_found_and_told() {
    let stage = Stage::new(cluster(), "found", 4).with_short_sessions();
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 20);
    let any_port = [("TIDEMILL_ADMIN", "127.0.0.1:0")];
    let mut workers = ["a", "b"].map(|who| stage.spawn_with(who, &any_port));
    wait_until(WITHIN, "both to be members", || stage.members() == 2);
    follower.wait_for_more(200, WITHIN);

    let paused = run(&["pause", &stage.name]);
    assert!(paused.status.success(), "{paused:?}");
    let document = said(&paused);
    let processes = document["processes"].as_array().expect("processes");
    assert_eq!(processes.len(), 2, "{document}");
    assert!(processes.iter().all(|process| process["state"]["is"] == "paused"), "{document}");

    let lag = run(&["lag", stage.manifest().join("function.yaml").to_str().expect("text")]);
    let partitions = said(&lag)["partitions"].as_array().expect("partitions").clone();
    let of_source = partitions.iter().filter(|row| row["topic"] == stage.source.as_str());
    assert!(
        of_source.clone().count() == 4 && of_source.clone().all(|row| row["state"] == "paused"),
        "{lag:?}"
    );

    assert!(run(&["resume", &stage.name]).status.success());
    follower.wait_for_more(200, WITHIN);

    // One whose listener is off works on, and that is said.
    let mut third = stage.spawn("c");
    wait_until(WITHIN, "three members", || stage.members() == 3);
    let paused = run(&["pause", &stage.name]);
    let errors = String::from_utf8_lossy(&paused.stderr).into_owned();
    assert_eq!(
        (paused.status.code(), said(&paused)["processes"].as_array().map(Vec::len)),
        (Some(1), Some(2))
    );
    assert!(errors.contains("was not told: it runs on") && errors.contains("listeners.admin"), "{errors}");
    assert!(third.terminate(WITHIN).success());
    assert!(run(&["resume", &stage.name]).status.success());
    let count = load.finish();
    assert_each_once(count, &follower.wait_for(count as usize, WITHIN));
    workers.iter_mut().for_each(|worker| assert!(worker.terminate(WITHIN).success()));
}
