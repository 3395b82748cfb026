//! `tidemill new --from-topic` learns from a real topic: what it makes builds, and its tests and cases pass.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{ToSend, cluster, unique};

fn tidemill(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .current_dir(folder)
        .args(args)
        .env_remove("TIDEMILL_BROKERS")
        .envs(offline())
        .output()
        .expect("tidemill runs")
}

/// The new crate's dependencies are those of this workspace: they are there already, and compiled.
fn offline() -> [(&'static str, PathBuf); 2] {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    [("CARGO_NET_OFFLINE", PathBuf::from("true")), ("CARGO_TARGET_DIR", target.to_owned())]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes a function from the topic, builds it, runs its tests and its cases; returns what was found.
fn make(name: &str, topic: &str) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let brokers = cluster().brokers();
    let made = tidemill(
        folder.path(),
        &["new", name, "--path", ".", "--from-topic", topic, "--brokers", brokers, "--output", "json"],
    );
    assert!(made.status.success(), "{}", text(&made.stderr));
    let report: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let source = std::fs::read_to_string(folder.path().join("src/lib.rs")).expect("the code");
    let tests = Command::new(env!("CARGO")).arg("test").current_dir(folder.path()).envs(offline()).output();
    let tests = tests.expect("cargo runs");
    let said = text(&tests.stdout) + &text(&tests.stderr);
    assert!(tests.status.success() && said.contains("2 passed"), "{said}{source}");
    assert!(!said.contains("warning"), "{said}{source}");
    let cases = tidemill(folder.path(), &["test", "."]);
    assert!(cases.status.success(), "{}{}", text(&cases.stdout), text(&cases.stderr));
    (folder, report["found"].clone())
}

#[test]
fn a_function_made_from_a_topic_of_cloudevents_builds_and_passes() {
    let topic = unique("rides");
    cluster().create_topic(&topic, 3, &[]);
    let event = |n: i32, event_type: &str, value: Value| {
        ToSend::new(format!("r-{n}"), value.to_string())
            .header("ce_specversion", "1.0")
            .header("ce_id", n.to_string())
            .header("ce_source", "/app")
            .header("ce_type", event_type)
            .header("content-type", "application/json")
    };
    let ride = |n: i32| {
        let tip = if n % 2 == 0 { json!(null) } else { json!(n) };
        json!({
            "rideId": format!("r-{n}"), "type": "city", "fare": if n == 1 { json!(12.5) } else { json!(n) }, "tip": tip,
            "self": true, "stops": [{ "at": [9.99, 48.4], "note": null }], "to": { "town": "Ulm \"##" }, "any": [1, "a", {}],
        })
    };
    cluster().produce(&topic, (0..30).map(|n| event(n, "com.example.ride.completed", ride(n))));
    cluster().produce(&topic, (0..5).map(|n| event(n, "com.example.ride.begun", json!({ "at": n }))));
    cluster().produce(&topic, [ToSend::value("what is this")]);

    let (folder, found) = make("from-rides", &topic);
    assert_eq!(
        found,
        json!({
            "records": 36, "taken": 30, "filtered": 5, "others": 1, "format": "cloudevents", "body": "json",
            "eventType": "com.example.ride.completed", "isKeyed": true, "sample": 20,
        })
    );
    let source = std::fs::read_to_string(folder.path().join("src/lib.rs")).unwrap();
    for part in ["fare: f64,", "tip: Option<i64>,", "r#type: String,", "stops: Vec<Stop>,", "to: To,"] {
        assert!(source.contains(part), "{part} is not in {source}");
    }
    let sample = std::fs::read_to_string(folder.path().join("sample.jsonl")).unwrap();
    assert_eq!(sample.lines().count(), 20);
}

#[test]
fn functions_for_json_text_and_bytes_without_keys_build_and_pass() {
    for (format, values) in [
        ("json", [&br#"{"a": 1}"#[..], br#"{"b": "x"}"#, b"{}"]),
        ("text", [b"GET / 200", b"\"quoted\" \\ text", b"3"]),
        ("bytes", [b"\0\x01\x02", b"text", b"\xff"]),
    ] {
        let topic = unique(format);
        cluster().create_topic(&topic, 1, &[]);
        cluster().produce(&topic, values.map(ToSend::value));
        let (_folder, found) = make(&format!("from-{format}"), &topic);
        assert_eq!((&found["format"], &found["records"]), (&json!(format), &json!(3)));
        assert_eq!((&found["isKeyed"], &found["taken"]), (&json!(false), &json!(3)));
    }
}

#[test]
fn only_the_last_records_are_looked_at() {
    let topic = unique("changed");
    cluster().create_topic(&topic, 2, &[]);
    cluster().produce(&topic, (0..50).map(|n| ToSend::new("k", "old").to(n % 2)));
    cluster().produce(&topic, (0..10).map(|n| ToSend::new("k", r#"{"new":1}"#).to(n % 2)));
    let folder = tempfile::tempdir().expect("a folder");
    let args = ["new", "f", "--from-topic", &topic, "--samples", "10", "--brokers", cluster().brokers()];
    let made = tidemill(folder.path(), &args);
    let said = text(&made.stdout);
    assert!(
        said.contains(&format!("{topic} holds json.\nOf the 10 records")),
        "{said}{}",
        text(&made.stderr)
    );
}

#[test]
fn a_topic_that_tells_nothing_leaves_nothing_behind() {
    let empty = unique("empty");
    cluster().create_topic(&empty, 1, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    for (topic, brokers, part) in [
        (empty.as_str(), cluster().brokers(), "holds no records to learn from"),
        ("no-such-topic", cluster().brokers(), "topic no-such-topic does not exist"),
        (&empty, "127.0.0.1:1", "127.0.0.1:1"),
        ("f-out", cluster().brokers(), "which it writes itself"),
    ] {
        let made = tidemill(folder.path(), &["new", "f", "--from-topic", topic, "--brokers", brokers]);
        let said = text(&made.stderr);
        assert!(made.status.code() == Some(1) && said.contains(part), "{topic} {brokers}: {said}");
        assert!(!folder.path().join("f").exists());
    }
}
