//! Partitions are shared out at once when workers come and go, and those that stay where they are hardly notice.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Load, PrivateBroker, Stage, ToSend, Worker, cluster, wait_until};

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

/// By KIP-848 there is no exactly once.
fn guarantee(protocol: &str) -> serde_json::Value {
    json!(if protocol == "consumer" { "atLeastOnce" } else { "exactlyOnce" })
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
        let stage = Stage::new(kafka.kafka(), "together", PARTITIONS)
            .with("/spec/delivery/guarantee", guarantee(protocol));
        let folder = stage.manifest();
        let args = ["run", folder.to_str().expect("a path that is text"), "--workers", "4"];
        let mut worker = stage.spawn_args("a", &args, &env);
        let all_start = |log: &str| log.matches("worker started").count() == WORKERS;
        let together = time_to_share(&worker, all_start, WORKERS);
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());

        let scale = json!({ "min": 1, "max": WORKERS, "drainWithin": "1s" });
        let stage =
            Stage::new(kafka.kafka(), "one-by-one", PARTITIONS).with_trial().with("/spec/scale", scale);
        let stage = stage.with("/spec/delivery/guarantee", guarantee(protocol));
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

#[test]
fn what_stays_where_it_is_hardly_notices_that_workers_come_and_go() {
    for protocol in ["consumer", "classic"] {
        let env = [("TIDEMILL_GROUP_PROTOCOL", protocol)];
        let stage = Stage::without_topics(cluster(), "unnoticed")
            .with("/spec/delivery/guarantee", guarantee(protocol));
        cluster().create_topic(&stage.source, PARTITIONS, &[]);
        // When the broker took it, not when the event happened.
        cluster().create_topic(&stage.sink, PARTITIONS, &[("message.timestamp.type", "LogAppendTime")]);
        let follower = Follower::start(cluster(), &stage.sink);
        let even = |n: u64, _: ToSend| {
            let partition = n % PARTITIONS as u64;
            ToSend::new(format!("key-{partition}"), n.to_string()).to(partition as i32)
        };
        let load = Load::start_with(cluster(), &stage.source, PARTITIONS as u64, even);
        let mut stays = stage.spawn_with("stays", &env);
        follower.wait_for_more(500, WITHIN);
        let quiet_from = now_ms();
        load.wait_for_more(1000);
        let from = now_ms();
        for _ in 0..3 {
            let mut comes = stage.spawn_with("comes", &env);
            wait_until(WITHIN, "it to have partitions", || !at_work(&comes).is_empty());
            follower.wait_for_more(500, WITHIN);
            assert!(comes.terminate(WITHIN).success(), "{}", comes.log());
            follower.wait_for_more(500, WITHIN);
        }
        let to = now_ms();
        let count = load.finish();
        follower.wait_for(count as usize, WITHIN);
        let records = follower.read();
        assert!(stays.terminate(WITHIN).success(), "{}", stays.log());
        if protocol == "classic" {
            stage.assert_each_ends_once(count);
        }
        let never_left: Vec<i32> =
            (0..PARTITIONS).filter(|partition| begun(&stays, *partition) == 1).collect();
        assert!(!never_left.is_empty(), "{}", stays.log());
        // Each event goes to the sink's partition of its key; who reads it is told by its number.
        let longest = |from: i64, to: i64| {
            let gaps = never_left.iter().map(|partition| {
                let is_of = |text: &str| {
                    text.parse::<u64>().is_ok_and(|n| n % PARTITIONS as u64 == *partition as u64)
                };
                let mut times: Vec<i64> = records
                    .iter()
                    .filter(|record| is_of(record.text()) && (from..to).contains(&record.timestamp_ms))
                    .map(|record| record.timestamp_ms)
                    .collect();
                times.sort_unstable();
                times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
            });
            gaps.max().unwrap_or(0)
        };
        let (quiet, noticed) = (longest(quiet_from, from), longest(from, to));
        println!(
            "{protocol}: {count} events; longest pause of {} partitions that stayed {noticed} ms, {quiet} ms before",
            never_left.len()
        );
        // A thread of librdkafka that nobody wakes sleeps for a second. By the classic protocol it may.
        assert!(protocol == "classic" || noticed < quiet + 900, "{noticed} ms, {quiet} ms before");
    }
}

/// How often a partition of the source began there.
fn begun(worker: &Worker, partition: i32) -> usize {
    let is_it = |line: &&str| {
        line.contains("lane begins")
            && line.contains(".in\"")
            && line.contains(&format!("partition={partition} "))
    };
    worker.log().lines().filter(is_it).count()
}
