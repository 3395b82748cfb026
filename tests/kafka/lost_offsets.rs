//! Records that the topic no longer keeps cannot be read: the worker says so, counts them, and goes on behind the gap,
//! once. An offset that lies beyond the log stops it: nobody can know what was meant.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidemill::kafka::{Admin, Commit, Partition};

use crate::harness::{Follower, Stage, ToSend, cluster};

const WITHIN: Duration = Duration::from_secs(60);

/// Writes these numbers to both partitions.
fn produce(stage: &Stage, numbers: std::ops::Range<u32>) {
    let both = numbers.flat_map(|n| [0, 1].map(|p| ToSend::new(format!("p{p}"), n.to_string()).to(p)));
    cluster().produce(&stage.source, both);
}

#[test]
fn a_gap_is_said_and_passed_over_and_the_neighbour_does_not_notice() {
    let stage = Stage::new(cluster(), "gap", 2);
    let follower = Follower::start(cluster(), &stage.sink);
    produce(&stage, 0..10);
    let mut worker = stage.spawn("a");
    follower.wait_for(20, WITHIN);
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());

    produce(&stage, 10..30);
    delete_before(&stage.source, 0, 25);
    let mut worker = stage.spawn("a");
    stage.wait_until_drained(WITHIN);
    follower.wait_for(20 + 5 + 20, WITHIN);
    produce(&stage, 30..31);
    let results = follower.wait_for(47, WITHIN);
    stage.wait_until_drained(WITHIN);
    let numbers = |key: &str| {
        let of_key = results.iter().filter(|result| result.key_text() == key);
        of_key.map(|result| result.text().parse().expect("a number")).collect::<Vec<u32>>()
    };
    assert_eq!(numbers("p0"), (0..10).chain(25..31).collect::<Vec<_>>());
    assert_eq!(numbers("p1"), (0..31).collect::<Vec<_>>());
    let log = worker.log();
    assert!(log.contains("offsets were deleted before they were read: data lost"), "{log}");
    assert!(log.contains("from=10") && log.contains("to=25"), "{log}");
    assert!(worker.terminate(WITHIN).success());
}

#[test]
fn an_offset_beyond_the_log_stops_the_function_with_advice() {
    let stage = Stage::new(cluster(), "beyond", 2);
    produce(&stage, 0..3);
    let admin = Admin::new(&cluster().as_cluster()).expect("a client");
    let commit = |partition: i32, offset: i64| Commit {
        partition: Partition { topic: stage.source.clone(), partition },
        offset,
        metadata: String::new(),
    };
    admin.commit_for_empty_group(&stage.group(), &[commit(0, 99), commit(1, 0)]).expect("an empty group");
    let mut worker = stage.spawn("a");
    assert!(!worker.wait(WITHIN).success());
    let log = worker.log();
    assert!(log.contains("the committed offset 99 lies beyond the log's end 3"), "{log}");
    assert!(log.contains("--reset-offsets"), "{log}");
}

fn delete_before(topic: &str, partition: i32, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = cluster().config().create().expect("an admin client");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).expect("records are deleted");
}
