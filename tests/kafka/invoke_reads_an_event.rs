//! `invoke` takes an event from its place in Kafka and leaves everything there as it was.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use crate::harness::{Isolation, cluster, unique};

const WITHIN: Duration = Duration::from_secs(30);

fn invoke(manifest: &Path, event: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["invoke", "--output", "json", "--brokers", cluster().brokers(), "--event", event])
        .arg(manifest)
        .env_remove("TIDEMILL_BROKERS")
        .output()
        .expect("tidemill runs")
}

#[test]
fn an_event_is_read_from_its_offset_and_nothing_is_written() {
    let (topic, sink) = (unique("invoked"), unique("sink"));
    cluster().create_topic(&topic, 1, &[]);
    cluster().create_topic(&sink, 1, &[]);
    // Two records and the marker of their transaction: offsets 0, 1 and 2.
    let producer: BaseProducer =
        cluster().config().set("transactional.id", &topic).create().expect("a transactional producer");
    producer.init_transactions(WITHIN).expect("a producer id");
    producer.begin_transaction().expect("a transaction");
    for (key, value) in [("a", r#"{"n":1}"#), ("b", r#"{"n":2}"#)] {
        producer
            .send(BaseRecord::to(&topic).partition(0).key(key).payload(value))
            .expect("room in the queue");
    }
    producer.commit_transaction(WITHIN).expect("a commit");

    let folder = tempfile::tempdir().expect("a folder");
    let manifest = folder.path().join("function.yaml");
    let text = format!(
        "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{ name: f }}\nspec:\n  sources: [{{ topic: {topic} }}]\n  \
         sinks: [{{ topic: {sink}, filters: [{{ field: {{ path: /n, eq: 2 }} }}] }}]\n"
    );
    std::fs::write(&manifest, text).expect("a manifest");

    let output = invoke(&manifest, &format!("{topic}/0@1"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&printed["outcome"], &printed["unrouted"]), (&Value::from("ok"), &Value::from(0)));
    assert_eq!(printed["emits"][0]["key"], "b");
    assert_eq!(printed["emits"][0]["topic"], sink);
    assert_eq!(printed["emits"][0]["value"]["n"], 2);
    let output = invoke(&manifest, &format!("{topic}/0@0"));
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((printed["emits"].as_array().map(Vec::len), &printed["unrouted"]), (Some(0), &Value::from(1)));

    for (place, part) in [
        (format!("{topic}/0@2"), "holds no record: a transaction's marker"),
        (format!("{topic}/0@3"), "holds the offsets 0 to 3, the end not included; 3 is not among them"),
    ] {
        let output = invoke(&manifest, &place);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && errors.contains(part), "{place}: {errors}");
    }
    assert!(cluster().read_all(&sink, Isolation::ReadUncommitted).is_empty());
}
