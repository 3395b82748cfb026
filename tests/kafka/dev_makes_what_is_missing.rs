//! `dev --brokers` on a real Kafka: exactly once, topics that are missing are made, and said to be.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Isolation, cluster, unique};

#[test]
fn dev_runs_on_a_real_kafka_and_makes_the_topics_that_are_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (grain, flour) = (unique("grain"), unique("flour"));
    let manifest = format!(
        "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: {grain}-mill}}\nspec:\n  \
         sources: [{{topic: {grain}, format: json}}]\n  sinks: [{{topic: {flour}}}]\n"
    );
    fs::write(folder.path().join("function.yaml"), manifest).expect("written");
    let sample = "{\"key\": \"a\", \"value\": {\"kg\": 1}}\n{\"key\": \"b\", \"value\": \"no json\"}\n";
    fs::write(folder.path().join("sample.jsonl"), sample).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["dev", ".", "--once", "--output", "json", "--brokers", cluster().brokers()])
        .current_dir(folder.path())
        .env("XDG_STATE_HOME", folder.path().join("state"))
        .output()
        .expect("tidemill starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).expect("text");
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |what: &str| told.iter().filter(|line| line["happening"] == what).collect::<Vec<_>>();
    assert_eq!(of("start")[0]["embedded"], false);
    let made: Vec<_> = of("topic").iter().filter_map(|line| line["topic"].as_str()).collect();
    assert_eq!(made, [flour.as_str(), grain.as_str()]);
    assert_eq!((&of("totals")[0]["ok"], &of("totals")[0]["events"]), (&1.into(), &2.into()));
    let invoke = of("event").iter().find_map(|line| line["invoke"].as_str()).expect("a failed event");
    assert!(invoke.contains(&format!("--event {grain}/")) && invoke.contains("--brokers"), "{invoke}");

    let read = cluster().read_all(&flour, Isolation::ReadCommitted);
    assert_eq!(read.iter().map(|r| (r.key_text(), r.text())).collect::<Vec<_>>(), [("a", "{\"kg\": 1}")]);
    assert!(!folder.path().join(".tidemill").exists(), "that is for the embedded broker");
}
