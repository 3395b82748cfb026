//! Workers join and leave while others work: each event has one result, in the order of its key, and partitions that
//! stay where they are do not notice.

use std::time::Duration;

use crate::harness::{Follower, Load, Stage, ToSend, Worker, assert_each_once, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_worker_joins_and_leaves_under_load() {
    let stage = Stage::new(cluster(), "rebalance", 4);
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 20);
    let mut stays = stage.spawn("stays");
    follower.wait_for(500, WITHIN);
    for _ in 0..2 {
        let mut comes = stage.spawn("comes");
        wait_until(WITHIN, "it to have partitions", || assigned(&comes) > 0);
        follower.wait_for_more(500, WITHIN);
        assert!(comes.terminate(WITHIN).success());
        follower.wait_for_more(500, WITHIN);
    }
    let revoked: Vec<_> =
        stays.log().lines().filter(|line| line.contains("revoked")).map(str::to_owned).collect();
    assert!(
        revoked.iter().all(|line| line.matches(&stage.source).count() < 4),
        "never were all of them taken away: {revoked:#?}"
    );
    let count = load.finish();
    follower.wait_for(count as usize, WITHIN);
    assert!(stays.terminate(WITHIN).success());
    assert_each_once(count, &follower.read());
}

/// librdkafka would go on one record behind the end of a partition that was read to its end.
#[test]
fn nothing_is_skipped_when_the_group_changes_at_the_end_of_a_partition() {
    let stage = Stage::new(cluster(), "at-the-end", 4);
    let follower = Follower::start(cluster(), &stage.sink);
    let mut written = 0u64;
    let mut write = |records: u64| {
        for partition in 0..4 {
            let record = |n: u64| ToSend::new(format!("p{partition}"), n.to_string()).to(partition);
            cluster().produce(&stage.source, (written..written + records).map(record));
            written += records;
        }
        written
    };
    let mut stays = stage.spawn("stays");
    let mut count = write(5);
    follower.wait_for(count as usize, WITHIN);
    for _ in 0..2 {
        // At its end with every partition, the group changes.
        stage.wait_until_drained(WITHIN);
        let mut comes = stage.spawn("comes");
        wait_until(WITHIN, "it to have partitions", || assigned(&comes) > 0);
        stage.wait_until_drained(WITHIN);
        count = write(1);
        follower.wait_for(count as usize, WITHIN);
        assert!(comes.terminate(WITHIN).success());
        count = write(1);
        follower.wait_for(count as usize, WITHIN);
    }
    assert!(!stays.log().contains("starts again"), "{}", stays.log());
    assert!(stays.terminate(WITHIN).success());
    let mut numbers: Vec<u64> = follower.read().iter().map(|record| record.text().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
}

/// How many times partitions were assigned to it.
fn assigned(worker: &Worker) -> usize {
    worker.log().lines().filter(|line| line.contains("partitions assigned") && line.contains(".in/")).count()
}
