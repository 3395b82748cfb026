//! `produce`, `tail` and `lag` on a real Kafka: what one writes another shows, byte by byte.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tidemill::kafka::{Admin, Commit, EmbeddedBroker, Partition};

use crate::harness::{Isolation, ToSend, Worker, cluster, unique, wait_until};

const WITHIN: Duration = Duration::from_secs(30);

/// Runs a verb to its end on the shared cluster.
fn tidemill(args: &[&str], input: &str) -> Output {
    tidemill_in(Path::new("."), &[args, &["--brokers", cluster().brokers()]].concat(), input)
}

fn tidemill_in(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(args)
        .env_remove("TIDEMILL_BROKERS")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tidemill starts");
    // A verb that refuses its arguments reads nothing.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("tidemill ends")
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn failure(output: &Output) -> String {
    assert!(!output.status.success(), "it should have failed: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn lines_become_records_with_keys_and_headers() {
    let topic = unique("lines");
    cluster().create_topic(&topic, 1, &[]);
    let output = tidemill(&["produce", &topic, "--key-separator", "=", "--header", "h=1"], "a=x=y\nb=\r\n");
    assert_eq!(stdout(&output), format!("2 records written to {topic}\n"));
    let read = cluster().read_all(&topic, Isolation::ReadCommitted);
    let read: Vec<_> = read.iter().map(|r| (r.key_text(), r.text(), r.header("h"))).collect();
    assert_eq!(read, [("a", "x=y", Some("1")), ("b", "", Some("1"))]);
}

#[test]
fn what_tail_prints_produce_writes_again() {
    let (from, to) = (unique("from"), unique("to"));
    cluster().create_topic(&from, 1, &[]);
    cluster().create_topic(&to, 1, &[]);
    let sample = [
        r#"{"key":"k","value":{"b":1,"a":[ ]},"timestamp":"2024-05-01T12:00:00Z","headers":{"x":"y"}}"#,
        r#"{"key":null,"value":null}"#,
        "",
        r#"{"attributes":{"type":"t","source":"/s","id":"1"},"valueBase64":"/w=="}"#,
    ];
    let output = tidemill(&["produce", &from, "--records", "--output", "json"], &sample.join("\n"));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["written"], 3);

    let printed = stdout(&tidemill(&["tail", &from, "--until-end", "--output", "json"], ""));
    assert_eq!(printed.lines().count(), 3, "{printed}");
    stdout(&tidemill(&["produce", &to, "--records", "--to-topic"], &printed));
    let first = cluster().read_all(&from, Isolation::ReadCommitted);
    assert_eq!(first, cluster().read_all(&to, Isolation::ReadCommitted));
    assert_eq!(first[0].timestamp_ms, 1_714_564_800_000);
    assert_eq!(first[0].text(), r#"{"b":1,"a":[ ]}"#);
    assert_eq!((&first[1].key, &first[1].value), (&None, &None));
    assert_eq!(first[2].header("ce_specversion"), Some("1.0"));
    assert_eq!(first[2].value.as_deref(), Some(&[0xff][..]));
}

#[test]
fn keys_land_where_java_producers_put_them() {
    let topic = unique("partitioned");
    cluster().create_topic(&topic, 10, &[]);
    let lines: String = (0..20).map(|n| format!("k{n}:v\n")).collect();
    stdout(&tidemill(&["produce", &topic, "--key-separator", ":"], &lines));
    for record in cluster().read_all(&topic, Isolation::ReadCommitted) {
        let expected = (murmur2(record.key.as_deref().unwrap()) & 0x7fff_ffff) % 10;
        assert_eq!(record.partition as u32, expected, "{}", record.key_text());
    }
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * place);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[test]
fn a_missing_topic_is_said_before_anything_is_written_and_made_when_asked() {
    let topic = unique("missing");
    let message = failure(&tidemill(&["produce", &topic], "x\n"));
    assert!(message.contains(&format!("topic {topic} does not exist")), "{message}");
    let message = failure(&tidemill(&["tail", &topic], ""));
    assert!(message.contains(&format!("topic {topic} does not exist")), "{message}");
    stdout(&tidemill(&["produce", &topic, "--create", "3"], "x\n"));
    assert_eq!(cluster().partitions(&topic), Some(3));
}

#[test]
fn a_record_that_the_broker_refuses_fails_the_verb_with_its_line() {
    let topic = unique("compacted");
    cluster().create_topic(&topic, 1, &[("cleanup.policy", "compact")]);
    let output =
        tidemill(&["produce", &topic, "--records"], "{\"key\":\"k\",\"value\":1}\n\n{\"value\":2}\n");
    let message = failure(&output);
    assert!(message.contains(&format!("line 3: {topic} refused the record")), "{message}");
    let broken = failure(&tidemill(&["produce", &topic, "--records"], "{\"key\":\"k\"}\n{\n"));
    assert!(broken.contains("line 2"), "{broken}");
}

#[test]
fn tail_begins_where_it_is_told_and_ends_when_it_is_told() {
    let topic = unique("tailed");
    cluster().create_topic(&topic, 1, &[]);
    cluster()
        .produce(&topic, (0..10).map(|n| ToSend::new(format!("k{n}"), format!("v{n}")).at(1_000_000 + n)));
    for (args, expected) in [
        (&["--until-end"][..], 0..10),
        (&["--from", "-3", "--until-end"], 7..10),
        (&["--from", "4", "--max", "2"], 4..6),
        (&["--from", "1970-01-01T00:16:40.008Z", "--until-end"], 8..10),
        (&["--from", "beginning", "--max", "1", "--partition", "0"], 0..1),
    ] {
        let printed = stdout(&tidemill(&[&["tail", &topic, "--output", "json"], args].concat(), ""));
        let values: Vec<_> = printed
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["value"].clone())
            .collect();
        let expected: Vec<_> = expected.map(|n| serde_json::json!(format!("v{n}"))).collect();
        assert_eq!(values, expected, "{args:?}");
    }
    let text = stdout(&tidemill(&["tail", &topic, "--from", "9", "--until-end"], ""));
    assert_eq!(text, format!("{topic}/0@9  1970-01-01T00:16:40.009Z  key k9\n  v9\n"));
    let message = failure(&tidemill(&["tail", &topic, "--partition", "3"], ""));
    assert!(message.contains("has no partition 3"), "{message}");
}

#[test]
fn tail_shows_records_as_they_come() {
    let topic = unique("live");
    cluster().create_topic(&topic, 2, &[]);
    let folder = tempfile::tempdir().unwrap();
    let args = ["tail", &topic, "--brokers", cluster().brokers(), "--from", "beginning", "--output", "json"];
    let mut tail = Worker::spawn(folder.path(), "tail", &args);
    for n in 0..3 {
        cluster().produce(&topic, [ToSend::value(n.to_string()).to(n % 2)]);
        wait_until(WITHIN, "the record to be shown", || tail.log().lines().count() == n as usize + 1);
    }
    assert!(tail.is_running());
}

#[test]
fn the_embedded_broker_of_a_dev_in_this_folder_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let message = failure(&tidemill_in(folder.path(), &["tail", "rides", "--until-end"], ""));
    assert!(message.contains("--brokers"), "{message}");

    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("rides", 1).unwrap();
    fs::create_dir(folder.path().join(".tidemill")).unwrap();
    fs::write(folder.path().join(".tidemill/dev-broker"), broker.cluster().brokers()).unwrap();
    stdout(&tidemill_in(folder.path(), &["produce", "rides", "--key", "k"], "one\ntwo\n"));
    let printed =
        stdout(&tidemill_in(folder.path(), &["tail", "rides", "--until-end", "--output", "json"], ""));
    assert_eq!(printed.lines().count(), 2, "{printed}");
}

#[test]
fn lag_counts_what_a_group_has_not_read() {
    let (topic, group) = (unique("behind"), unique("group"));
    cluster().create_topic(&topic, 2, &[]);
    cluster().produce(&topic, (0..10).map(|n| ToSend::value("x").to(n % 2)));
    let message = failure(&tidemill(&["lag", &group], ""));
    assert!(message.contains("has committed nothing"), "{message}");

    let commits = [(0, 5, "done"), (1, 2, "half way")].map(|(partition, offset, metadata)| Commit {
        partition: Partition { topic: topic.clone(), partition },
        offset,
        metadata: metadata.to_owned(),
    });
    Admin::new(&cluster().as_cluster()).unwrap().commit_for_empty_group(&group, &commits).unwrap();
    let report = stdout(&tidemill(&["lag", &group, "--output", "json"], ""));
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["lag"], 3);
    assert_eq!(report["partitions"][1]["committed"], 2);
    assert_eq!(report["partitions"][1]["metadata"], "half way");
    let text = stdout(&tidemill(&["lag", &group], ""));
    assert!(text.ends_with(&format!("lag of {group}: 3, members: 0\n")), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let manifest = format!(
        "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{ name: behind }}\nspec:\n  \
         group: {group}\n  sources: [{{ topic: {topic} }}]\n  sinks: [{{ topic: {topic}-out }}]\n"
    );
    let file = folder.path().join("function.yaml");
    fs::write(&file, manifest).unwrap();
    cluster().create_topic(&format!("{topic}-out"), 1, &[]);
    let of_file = stdout(&tidemill(&["lag", file.to_str().unwrap()], ""));
    assert_eq!(of_file, text);
}
