//! How many workers a function should have is told from outside, by a backlog that is what is still to be handled.

use std::process::Output;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tidemill::kafka::{Admin, Commit, Partition};
use tidemill::pipeline::Checkpoint;
use tidemill::scale::{Role, Sampler, Source, Target};

use crate::harness::{Stage, ToSend, cluster, unique, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

#[track_caller]
fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[track_caller]
fn explain(stage: &Stage, args: &[&str]) -> Value {
    let args = [&["--output", "json"], args].concat();
    serde_json::from_str(&text(&stage.tidemill(&["explain"], &args))).expect("one document")
}

/// Of each partition of the source.
fn backlogs(stage: &Stage) -> Vec<u64> {
    let report = explain(stage, &["--interval", "100ms"]);
    let rows = report["partitions"].as_array().expect("a list").iter();
    let own = rows.filter(|row| row["topic"] == stage.source.as_str());
    own.map(|row| row["backlog"].as_u64().expect("a number")).collect()
}

fn producer() -> BaseProducer {
    let producer: BaseProducer =
        cluster().config().set("transactional.id", unique("explain")).create().expect("a producer");
    producer.init_transactions(WITHIN).expect("the broker answers");
    producer
}

/// Begins a transaction and writes so many records, which have come when this returns.
fn write(producer: &BaseProducer, topic: &str, partition: i32, count: usize) {
    producer.begin_transaction().expect("a transaction");
    for _ in 0..count {
        let record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(partition).payload("open");
        producer.send(record).expect("room");
    }
    producer.flush(WITHIN).expect("the broker answers");
}

#[test]
fn the_backlog_is_what_is_still_to_be_handled() {
    let stage = Stage::new(cluster(), "explain", 2);
    let at = |partition| Partition { topic: stage.source.clone(), partition };
    let records = |partition, count| (0..count).map(move |n| ToSend::value(n.to_string()).to(partition));
    cluster().produce(&stage.source, records(0, 10).chain(records(1, 5)));
    assert_eq!(backlogs(&stage), [10, 5], "nothing is committed");

    // What was deleted waits for nobody; what was aborted has offsets, and a marker.
    let admin = Admin::new(&cluster().as_cluster()).expect("a client");
    admin.delete_records(&[(at(0), 4)]).expect("the broker answers");
    let aborting = producer();
    write(&aborting, &stage.source, 0, 3);
    aborting.abort_transaction(WITHIN).expect("the broker answers");
    wait_until(WITHIN, "the marker to be counted", || backlogs(&stage) == [10, 5]);

    // Nobody could read past an open transaction.
    let open = producer();
    write(&open, &stage.source, 1, 7);
    cluster().produce(&stage.source, records(1, 2));
    assert_eq!(backlogs(&stage), [10, 5], "7 records of an open transaction, and 2 behind it");

    // What is finished beyond the committed offset does not wait either.
    let mut checkpoint = Checkpoint::fresh(5);
    (5..9).for_each(|offset| checkpoint.ledger.admit(offset));
    [6, 7].into_iter().for_each(|offset| checkpoint.ledger.finish(offset));
    let commits = [
        Commit { partition: at(0), offset: 5, metadata: checkpoint.metadata() },
        Commit { partition: at(1), offset: 2, metadata: "another program's".to_owned() },
    ];
    admin.commit_for_empty_group(&stage.group(), &commits).expect("the broker answers");
    assert_eq!(backlogs(&stage), [7, 3]);
    open.commit_transaction(WITHIN).expect("the broker answers");
    wait_until(WITHIN, "the transaction to count", || backlogs(&stage) == [7, 13]);

    let report = explain(&stage, &["--interval", "100ms", "--service-rate", "0.5", "--oldest"]);
    let row = &report["partitions"][0];
    let offsets = (&row["logStart"], &row["committed"], &row["end"], &row["finishedBeyond"]);
    assert_eq!(offsets, (&json!(4), &json!(5), &json!(14), &json!(2)));
    assert!(row["oldestMs"].as_i64().is_some_and(|oldest| oldest > 1_700_000_000_000), "{row}");
    // 20 / 30 s / 0.5 are one worker and a third; there are two partitions.
    assert_eq!((&report["workers"], &report["decision"]["workers"]), (&json!(0), &json!(2)), "{report:#}");
    let printed = text(&stage.tidemill(&["explain"], &["--interval", "100ms"]));
    assert!(printed.contains("2 finished out of order"), "{printed}");

    // A worker drains it, markers and all.
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "nothing to be left", || backlogs(&stage) == [0, 0]);
    let report = explain(&stage, &["--interval", "100ms"]);
    assert_eq!((&report["workers"], &report["backlog"]), (&json!(1), &json!(0)));
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn what_a_busy_worker_does_is_measured() {
    let stage = Stage::new(cluster(), "measured", 4)
        .with_trial()
        .with("/spec/handler/rate", json!("100/s"))
        .with("/spec/scale", json!({ "min": 1, "max": 3 }));
    let records = (0..8000).map(|n| ToSend::value(n.to_string()).to(n % 4));
    cluster().produce(&stage.source, records);
    // One, that does not scale itself.
    let manifest = stage.manifest();
    let args = ["run", manifest.to_str().expect("text"), "--workers", "1"];
    let mut worker = stage.spawn_args("a", &args, &[]);
    wait_until(WITHIN, "work to begin", || backlogs(&stage).iter().sum::<u64>() < 8000);
    let report = explain(&stage, &[]);
    let rate = report["serviceRate"].as_f64().expect("a busy worker");
    assert!((50.0..150.0).contains(&rate), "{report:#}");
    assert_eq!((&report["arrivalRate"], &report["busyWorkers"]), (&json!(0.0), &json!(1)), "{report:#}");
    assert_eq!(
        (&report["decision"]["workers"], &report["scale"]["max"]),
        (&json!(3), &json!(3)),
        "{report:#}"
    );
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn functions_are_sampled_together_and_one_that_cannot_be_takes_no_other_along() {
    let stages = [2, 3].map(|partitions| Stage::new(cluster(), "together", partitions));
    let missing = Stage::without_topics(cluster(), "missing");
    for stage in &stages {
        cluster().produce(&stage.source, (0..30).map(|n| ToSend::new(n.to_string(), "")));
    }
    let target = |stage: &Stage| Target {
        group: stage.group(),
        sources: vec![Source {
            topic: stage.source.clone(),
            starts_at_end: false,
            role: Role::Source,
            has_deadlines: true,
            goes_along: false,
        }],
    };
    let targets = [target(&stages[0]), target(&missing), target(&stages[1]), target(&stages[0])];
    let mut sampler = Sampler::new(&cluster().as_cluster(), WITHIN);
    for _ in 0..3 {
        let samples = sampler.sample(&targets).expect("the broker answers");
        let found: Vec<_> = samples
            .iter()
            .map(|sample| sample.as_ref().ok().map(|sample| (sample.lanes.len(), sample.backlog())))
            .collect();
        assert_eq!(found, [Some((2, 30)), None, Some((3, 30)), Some((2, 30))], "{samples:?}");
    }
    let refused = missing.tidemill(&["explain"], &[]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("topic {} does not exist; create it", missing.source)), "{told}");
}
