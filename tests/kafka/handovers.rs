//! Whoever takes a partition over goes on from the last cut of its former owner (KAFKA-10167): a worker joins and leaves
//! again and again under load, each time with half of the partitions, and no key's count has a gap or comes twice.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{
    Follower, Isolation, Listeners, Load, ReadRecord, Stage, ToSend, Worker, cluster, unique, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);
const PARTITIONS: u64 = 32;
const KEYS: u64 = 3 * PARTITIONS;
/// How often the other worker comes and goes.
const ROUNDS: usize = 8;

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

/// Says after each event how many there were of its key, and which was the newest.
fn counting(stem: &str, partitions: i32) -> Stage {
    Stage::new(cluster(), stem, partitions)
        .with_short_sessions()
        .with("/spec/sources/0/format", json!("json"))
        .with("/spec/sinks/0/format", json!("json"))
        .with(
            "/spec/window",
            json!({
                "tumbling": { "size": "1d" },
                "fire": { "at": "update" },
                "idle": "10m",
                "aggregate": { "events": { "op": "count" }, "newest": { "op": "max", "field": "" } },
            }),
        )
}

#[test]
fn no_count_has_a_gap_however_often_its_partition_is_handed_over() {
    let stage = counting("handovers", PARTITIONS as i32);
    let now = now_ms();
    let load = Load::start_with(cluster(), &stage.source, 20, move |n, _| {
        // All in one window.
        let event = ToSend::new(format!("key-{}", n % KEYS), n.to_string()).at(now);
        event.to((n % PARTITIONS) as i32)
    });
    let follower = Follower::start(cluster(), &stage.sink);
    let (all, half) = (PARTITIONS as usize, PARTITIONS as usize / 2);
    let mut stays = stage.spawn("stays");
    wait_until(WITHIN, "it to have all partitions", || begun(&stays) == all);
    let mut came = 0;
    for _ in 0..ROUNDS {
        let mut comes = stage.spawn("comes");
        wait_until(WITHIN, "it to have half of the partitions", || begun(&comes) >= came + half);
        follower.wait_for_more(50, WITHIN);
        let stayed = begun(&stays);
        let status = comes.terminate(WITHIN);
        assert!(status.success(), "{status}: {}", comes.log());
        wait_until(WITHIN, "them to be back", || begun(&stays) >= stayed + half);
        follower.wait_for_more(50, WITHIN);
        came = begun(&comes);
    }
    let count = load.finish();
    stage.wait_until_drained(WITHIN);
    follower.wait_for(count as usize, WITHIN);
    assert!(stays.terminate(WITHIN).success(), "{}", stays.log());
    let handovers = came + begun(&stays) - all;
    println!("{handovers} times a partition went to the other worker, {count} events");
    assert!(handovers >= 200, "{handovers}");
    let expected: BTreeMap<_, _> = (0..KEYS)
        .map(|key| {
            let events = (key..count).step_by(KEYS as usize).zip(1..);
            (format!("key-{key}"), events.map(|(n, events)| (events, n)).collect::<Vec<(u64, u64)>>())
        })
        .collect();
    let counts = counts(&cluster().read_all_ended(&stage.sink));
    for (key, expected) in &expected {
        // The first that is wrong, since all behind it are.
        let wrong = expected.iter().zip(&counts[key]).find(|(expected, seen)| expected != seen);
        assert_eq!(wrong, None, "{key}");
    }
    assert_eq!(counts, expected);
}

#[test]
fn a_count_goes_on_though_readers_of_committed_records_do_not_see_the_last_cut_yet() {
    let stage = counting("unseen-cut", 1);
    let follower = Follower::start(cluster(), &stage.sink);
    let now = now_ms();
    let write = |numbers: std::ops::Range<u64>| {
        let came = numbers.end;
        cluster().produce(&stage.source, numbers.map(|n| ToSend::new("ada", n.to_string()).at(now)));
        came as usize
    };
    let mut owner = stage.spawn("owner");
    follower.wait_for(write(0..3), WITHIN);
    // What the owner commits behind an open transaction is committed, and not seen in its topic.
    let mut config = cluster().config();
    config.set("transactional.id", unique("open")).set("transaction.timeout.ms", "60000");
    let open: BaseProducer = config.create().expect("a producer");
    open.init_transactions(WITHIN).expect("transactions");
    open.begin_transaction().expect("a transaction");
    let state = format!("{}.state", stage.name);
    open.send(BaseRecord::to(&state).partition(0).key("t").payload("never read")).expect("a record");
    open.flush(WITHIN).expect("it is written");
    follower.wait_for(write(3..6), WITHIN);
    stage.wait_until_drained(WITHIN);
    assert!(owner.terminate(WITHIN).success(), "{}", owner.log());
    let seen = cluster().read_all(&state, Isolation::ReadCommitted);
    let written = cluster().read_all(&state, Isolation::ReadUncommitted);
    assert!(seen.len() + 1 < written.len(), "the last cut is seen: {} of {}", seen.len(), written.len());

    let listeners = Listeners::free();
    let mut heir = stage.spawn_with("heir", &listeners.env());
    let count = write(6..9);
    wait_until(WITHIN, "the heir to be seen waiting, or not to wait", || {
        let function = listeners.function(&stage.name).unwrap_or_default();
        function["workers"][0]["lanes"][0]["state"] == "restoring" || follower.count() == count
    });
    open.abort_transaction(WITHIN).expect("the transaction is aborted");
    follower.wait_for(count, WITHIN);
    assert!(heir.terminate(WITHIN).success(), "{}", heir.log());
    let expected = (1..).zip(0..9).collect();
    assert_eq!(counts(&cluster().read_all_ended(&stage.sink)), [("ada".to_owned(), expected)].into());
}

/// How often a lane of the worker, and of those before it that had its name, began.
fn begun(worker: &Worker) -> usize {
    let is_of_source = |line: &&str| line.contains("lane begins") && line.contains(".in\"");
    worker.log().lines().filter(is_of_source).count()
}

/// What came out of each key, in order: how many events there were, and the number of the newest.
fn counts(results: &[ReadRecord]) -> BTreeMap<String, Vec<(u64, u64)>> {
    let mut counts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in results {
        let result: Value = serde_json::from_str(record.text()).expect("a result is JSON");
        let number = |name: &str| result[name].as_u64().expect("a number");
        counts.entry(record.key_text().to_owned()).or_default().push((number("events"), number("newest")));
    }
    counts
}
