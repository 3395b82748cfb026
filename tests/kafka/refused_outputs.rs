//! One output that the broker refuses aborts its whole transaction: the event behind it is found and becomes a dead
//! letter, its neighbours have one result each.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Follower, Isolation, Load, ReadRecord, Stage, ToSend, assert_each_once, cluster, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn the_event_behind_a_refused_output_is_a_dead_letter_and_its_neighbours_go_on() {
    let stage = Stage::without_topics(cluster(), "refused").with_trial();
    cluster().create_topic(&stage.source, 2, &[]);
    cluster().create_topic(
        &stage.sink,
        2,
        &[("max.message.bytes", "20000"), ("message.timestamp.after.max.ms", "3600000")],
    );
    let records = (0..400u32).map(|n| {
        let record = ToSend::new(format!("k{}", n % 7), n.to_string());
        match n {
            100 => record.header("size", "30000"),
            101 => record.header("size", "40000"),
            200 => record.header("ahead-ms", "7200000"),
            _ => record,
        }
    });
    cluster().produce(&stage.source, records);
    let mut worker = stage.spawn("a");
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());

    let dead = cluster().read_all(&stage.dead_letters, Isolation::ReadCommitted);
    let mut culprits: Vec<_> = dead.iter().map(ReadRecord::text).collect();
    culprits.sort_unstable();
    assert_eq!(culprits, ["100", "101", "200"]);
    for letter in &dead {
        assert_eq!(letter.header("tidemill-reason"), Some("unwritable"));
        let error = letter.header("tidemill-error").unwrap();
        assert!(error.contains(&stage.sink), "{error}");
    }
    let mut results: Vec<u32> = cluster()
        .read_all(&stage.sink, Isolation::ReadCommitted)
        .iter()
        .map(|record| record.text().parse().unwrap())
        .collect();
    results.sort_unstable();
    let expected: Vec<u32> = (0..400).filter(|n| ![100, 101, 200].contains(n)).collect();
    assert_eq!(results, expected);
}

#[test]
fn a_sink_that_takes_small_batches_only_gets_small_batches() {
    let stage = Stage::without_topics(cluster(), "small-batches");
    cluster().create_topic(&stage.source, 1, &[]);
    cluster().create_topic(&stage.sink, 1, &[("max.message.bytes", "5000")]);
    // Each fits, a batch of them does not.
    let records = (0..3000).map(|n| ToSend::new("key", format!("{n:0100}")));
    cluster().produce(&stage.source, records);
    let follower = Follower::start(cluster(), &stage.sink);
    let mut worker = stage.spawn("a");
    assert_each_once(3000, &follower.wait_for(3000, WITHIN));
    assert!(worker.terminate(WITHIN).success());
    assert!(!worker.log().contains("refused"), "{}", worker.log());
}

#[test]
fn a_large_record_passes_where_its_topics_allow_it() {
    const LARGE: usize = 3 << 20;
    let stage = Stage::without_topics(cluster(), "large").with_trial();
    let large = [("max.message.bytes", "4194304")];
    cluster().create_topic(&stage.source, 1, &large);
    cluster().create_topic(&stage.sink, 1, &large);
    let [passes, dies] = ["passes", "dies"].map(|key| ToSend::new(key, vec![b'x'; LARGE]));
    cluster().produce_up_to(4 << 20, &stage.source, [passes, dies.header("reject", "because")]);
    let mut worker = stage.spawn("a");
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());
    for (topic, key) in [(&stage.sink, "passes"), (&stage.dead_letters, "dies")] {
        let read = cluster().read_all(topic, Isolation::ReadCommitted);
        let read: Vec<_> = read.iter().map(|record| (record.key_text(), record.text().len())).collect();
        assert_eq!(read, [(key, LARGE)], "{topic}");
    }
}

#[test]
fn a_sink_that_was_deleted_is_reported_and_nothing_is_lost() {
    let stage = Stage::new(cluster(), "deleted", 1).with(
        "/spec/kafka/producer",
        json!({ "topic.metadata.refresh.interval.ms": "1000",
            "topic.metadata.propagation.max.ms": "1000", "metadata.max.age.ms": "5000" }),
    );
    let load = Load::start(cluster(), &stage.source, 1);
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "some results", || {
        cluster().read_all(&stage.sink, Isolation::ReadCommitted).len() > 20
    });
    let before = cluster().read_all(&stage.sink, Isolation::ReadCommitted).len() as u64;
    cluster().delete_topics(&[&stage.sink]);
    wait_until(WITHIN, "the loss to be reported", || {
        let log = worker.log();
        log.lines()
            .any(|line| (line.contains("WARN") || line.contains("ERROR")) && line.contains(&stage.sink))
    });
    let count = load.finish();
    assert!(count > before);
    // It is made again: what was read since comes out, nothing went to the dead letters.
    cluster().create_topic(&stage.sink, 1, &[]);
    if !worker.is_running() {
        worker = stage.spawn("a");
    }
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());
    assert_eq!(cluster().read_all(&stage.dead_letters, Isolation::ReadCommitted).len(), 0);
    let results = cluster().read_all(&stage.sink, Isolation::ReadCommitted);
    assert_eq!(results.last().unwrap().text(), (count - 1).to_string());
    let numbers: Vec<u64> = results.iter().map(|record| record.text().parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no gap and nothing twice: {numbers:?}");
}
