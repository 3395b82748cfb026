//! Partitions are shared out at once when workers come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{PrivateBroker, Stage, ToSend, Worker, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 8;
const WORKERS: usize = 4;

/// What Apache Kafka has of itself, not the short times of other tests.
const AS_SHIPPED: [(&str, &str); 3] = [
    ("group.consumer.heartbeat.interval.ms", "5000"),
    ("group.consumer.session.timeout.ms", "45000"),
    ("group.initial.rebalance.delay.ms", "3000"),
];

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

/// Which workers of the process have had a partition of the source.
fn at_work(worker: &Worker) -> BTreeSet<String> {
    let log = worker.log();
    let lanes = log.lines().filter(|line| line.contains("lane begins") && line.contains(".in\""));
    let number = |line: &str| line.split("worker=").nth(1)?.split(['}', ' ', ':']).next().map(str::to_owned);
    lanes.filter_map(number).collect()
}

/// From `begins`, in the log, to the moment when so many workers have partitions, in milliseconds.
fn time_to_share(worker: &Worker, begins: impl Fn(&str) -> bool, workers: usize) -> i64 {
    wait_until(WITHIN, "it to begin", || begins(&worker.log()));
    let from = now_ms();
    wait_until(WITHIN, "all workers to have partitions", || at_work(worker).len() == workers);
    now_ms() - from
}

#[test]
fn workers_share_partitions_out_at_once() {
    let kafka = PrivateBroker::start_with(&AS_SHIPPED);
    for (protocol, most_ms) in [("consumer", 3000), ("classic", 20_000)] {
        let env = [("TIDEMILL_GROUP_PROTOCOL", protocol)];
        let stage = Stage::new(kafka.kafka(), "together", PARTITIONS);
        let folder = stage.manifest();
        let args = ["run", folder.to_str().expect("a path that is text"), "--workers", "4"];
        let mut worker = stage.spawn_args("a", &args, &env);
        let all_start = |log: &str| log.matches("worker started").count() == WORKERS;
        let together = time_to_share(&worker, all_start, WORKERS);
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());

        let scale = json!({ "min": 1, "max": WORKERS, "drainWithin": "1s" });
        let stage =
            Stage::new(kafka.kafka(), "one-by-one", PARTITIONS).with_trial().with("/spec/scale", scale);
        let mut worker = stage.spawn_with("a", &env);
        let alone = time_to_share(&worker, |log| log.contains("worker started"), 1);
        let slow = |n: u32| ToSend::new(format!("key-{n}"), n.to_string()).header("sleep-ms", "20");
        kafka.kafka().produce(&stage.source, (0..2000).map(slow));
        let all_start = |log: &str| log.matches("worker started").count() == WORKERS;
        let joined = time_to_share(&worker, all_start, WORKERS);
        println!("{protocol}: 4 at once {together} ms, one alone {alone} ms, from 1 to 4 {joined} ms");
        assert!(together.max(alone).max(joined) < most_ms, "{protocol}: {together} {alone} {joined}");
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    }
}
