//! Where a function begins is settled when it is registered, and committed before it reads anything: later restarts
//! do not move it.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::json;

use crate::harness::{Follower, Stage, ToSend, cluster, unique, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn record(n: u32) -> ToSend {
    ToSend::new("key", n.to_string()).to((n % 2) as i32).at(1_700_000_000_000 + i64::from(n) * 1000)
}

#[test]
fn earliest_latest_and_a_time_are_resolved_once_and_survive_restarts() {
    // 2023-11-14T22:13:24Z is 4 s after the first record.
    for (start_at, skipped) in [("earliest", 0u32), ("2023-11-14T22:13:24Z", 4), ("latest", 10)] {
        let stage = Stage::new(cluster(), "start", 2)
            .with_short_sessions()
            .with("/spec/sources/0/startAt", json!(start_at));
        let follower = Follower::start(cluster(), &stage.sink);
        cluster().produce(&stage.source, (0..10).map(record));
        let mut worker = stage.spawn("a");
        wait_until(WITHIN, "registration", || worker.log().contains("start offsets registered"));
        assert!(stage.committed().iter().all(Option::is_some), "committed before anything runs");
        worker.kill();
        // Written while nothing runs.
        cluster().produce(&stage.source, (10..20).map(record));
        let mut worker = stage.spawn("a");
        let results = follower.wait_for((20 - skipped) as usize, WITHIN);
        stage.wait_until_drained(WITHIN);
        let mut numbers: Vec<u32> = results.iter().map(|record| record.text().parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (skipped..20).collect::<Vec<_>>(), "startAt: {start_at}");
        assert!(worker.terminate(WITHIN).success());
        assert_eq!(worker.log().matches("start offsets registered").count(), 1);
    }
}

#[test]
fn partitions_that_were_added_later_are_read_from_their_beginning() {
    let stage = Stage::new(cluster(), "added", 1)
        .with("/spec/sources/0/startAt", json!("latest"))
        .with("/spec/kafka/consumer/topic.metadata.refresh.interval.ms", json!("1000"));
    let follower = Follower::start(cluster(), &stage.sink);
    cluster().produce(&stage.source, [ToSend::value("before")]);
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "a running worker", || worker.log().contains("lane begins"));

    // While it runs.
    cluster().add_partitions(&stage.source, 2);
    cluster().produce(&stage.source, (0..5).map(|n| ToSend::new("k", n.to_string()).to(1)));
    let values = |count: usize| {
        let read = follower.wait_for(count, WITHIN);
        let mut values: Vec<_> = read.iter().map(|record| record.text().to_owned()).collect();
        values.sort();
        values
    };
    assert_eq!(values(5), ["0", "1", "2", "3", "4"]);

    // While nothing runs.
    assert!(worker.terminate(WITHIN).success());
    cluster().add_partitions(&stage.source, 3);
    cluster().produce(&stage.source, (5..8).map(|n| ToSend::new("k", n.to_string()).to(2)));
    let mut worker = stage.spawn("a");
    assert_eq!(values(8), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert!(worker.terminate(WITHIN).success());
}

#[test]
fn a_missing_source_is_waited_for_and_a_missing_sink_is_refused() {
    let stage = Stage::without_topics(cluster(), "missing");
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "the worker to wait", || {
        worker.log().contains("waiting for a topic that does not exist")
            && worker.log().contains(&stage.source)
    });
    cluster().create_topic(&stage.source, 1, &[]);
    // Now the sink: nobody said how to make it.
    let status = worker.wait(WITHIN);
    assert!(!status.success());
    let message = format!("sink topic {} does not exist: create it, or add `create: {{}}`", stage.sink);
    assert!(worker.log().contains(&message), "{}", worker.log());

    let stage = stage.with("/spec/sinks/0/create", json!({ "partitions": 3 }));
    cluster().produce(&stage.source, [ToSend::value("x")]);
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "the sink to be made", || cluster().partitions(&stage.sink) == Some(3));
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());
}

#[test]
fn a_group_with_foreign_members_is_refused() {
    let stage = Stage::new(cluster(), "foreign", 1);
    let name = unique("somebody");
    let foreign: BaseConsumer =
        cluster().config().set("group.id", stage.group()).set("client.id", &name).create().unwrap();
    foreign.subscribe(&[&stage.source]).unwrap();
    wait_until(WITHIN, "the foreign member", || {
        foreign.poll(Duration::from_millis(50));
        stage.members() == 1
    });
    let mut worker = stage.spawn("a");
    let ended = wait_for_end(&mut worker, &foreign);
    assert!(!ended.success());
    let log = worker.log();
    assert!(log.contains("has members that are not Tidemill's") && log.contains(&name), "{log}");
}

/// Polls the foreign member meanwhile, so that it stays one.
fn wait_for_end(worker: &mut crate::harness::Worker, foreign: &BaseConsumer) -> std::process::ExitStatus {
    wait_until(WITHIN, "the worker to end", || {
        foreign.poll(Duration::from_millis(50));
        !worker.is_running()
    });
    worker.wait(WITHIN)
}
