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

/// Says after each event how many there were of its key, and what their numbers come to.
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
                "aggregate": { "events": { "op": "count" }, "total": { "op": "sum", "field": "" } },
            }),
        )
}

#[test]
fn no_count_has_a_gap_however_often_its_partition_is_handed_over() {
    let stage = counting("handovers", PARTITIONS as i32);
    let load = load(&stage.source, 20);
    let follower = Follower::start(cluster(), &stage.sink);
    let mut stays = hand_over(&stage, &follower, "in");
    let count = load.finish();
    stage.wait_until_drained(WITHIN);
    follower.wait_for(count as usize, WITHIN);
    assert!(stays.terminate(WITHIN).success(), "{}", stays.log());
    let expected: BTreeMap<_, _> =
        (0..KEYS).map(|key| (format!("key-{key}"), running((key..count).step_by(KEYS as usize)))).collect();
    assert_same(&counts(&cluster().read_all_ended(&stage.sink)), &expected);
}

/// Whoever is given a partition of the stitch topic has the same ones of both sources with it.
#[test]
fn no_count_of_what_is_brought_together_has_a_gap_either() {
    let stage = counting("joint-handovers", PARTITIONS as i32);
    let more = format!("{}.more", stage.name);
    cluster().create_topic(&more, PARTITIONS as i32, &[]);
    let sources = [&stage.source, &more].map(|topic| json!({ "topic": topic, "format": "json" }));
    let stage = stage.with("/spec/sources", json!(sources));
    let loads = [&stage.source, &more].map(|topic| load(topic, 10));
    let follower = Follower::start(cluster(), &stage.sink);
    let mut stays = hand_over(&stage, &follower, "stitch");
    let counts_of = loads.map(Load::finish);
    follower.wait_for(counts_of.iter().sum::<u64>() as usize, WITHIN);
    assert!(stays.terminate(WITHIN).success(), "{}", stays.log());
    for topic in ["in", "more"] {
        assert_eq!(begun(&stays, topic), begun(&stays, "stitch"), "{topic}");
    }
    // In which order the two come is anybody's guess, but each event counts once.
    let of_key = |key: u64| counts_of.iter().flat_map(move |count| (key..*count).step_by(KEYS as usize));
    let expected: BTreeMap<_, _> = (0..KEYS)
        .map(|key| (format!("key-{key}"), (of_key(key).count() as u64, of_key(key).sum::<u64>())))
        .collect();
    let counts = counts(&cluster().read_all_ended(&stage.sink));
    for (key, seen) in &counts {
        let gap = seen.iter().zip(1..).find(|((events, _), expected)| events != expected);
        assert_eq!(gap, None, "{key}");
    }
    let last = counts.into_iter().map(|(key, seen)| (key, *seen.last().expect("a result")));
    assert_eq!(last.collect::<BTreeMap<_, _>>(), expected);
}

/// Writes numbers to all partitions of a topic, each key's to one. All of them are in one window.
fn load(topic: &str, burst: u64) -> Load {
    let now = now_ms();
    Load::start_with(cluster(), topic, burst, move |n, _| {
        let event = ToSend::new(format!("key-{}", n % KEYS), n.to_string()).at(now);
        event.to((n % PARTITIONS) as i32)
    })
}

/// Half of the lanes of a topic go to a worker that comes and goes, and come back when it does: returns who stays, with all.
fn hand_over(stage: &Stage, follower: &Follower, topic: &str) -> Worker {
    let (all, half) = (PARTITIONS as usize, PARTITIONS as usize / 2);
    let stays = stage.spawn("stays");
    wait_until(WITHIN, "it to have all partitions", || begun(&stays, topic) == all);
    let mut came = 0;
    for _ in 0..ROUNDS {
        let mut comes = stage.spawn("comes");
        wait_until(WITHIN, "it to have half of the partitions", || begun(&comes, topic) >= came + half);
        follower.wait_for_more(50, WITHIN);
        let stayed = begun(&stays, topic);
        let status = comes.terminate(WITHIN);
        assert!(status.success(), "{status}: {}", comes.log());
        wait_until(WITHIN, "them to be back", || begun(&stays, topic) >= stayed + half);
        follower.wait_for_more(50, WITHIN);
        came = begun(&comes, topic);
    }
    let handovers = came + begun(&stays, topic) - all;
    println!("{handovers} times a partition of {topic} went to the other worker");
    assert!(handovers >= 200, "{handovers}");
    stays
}

#[track_caller]
fn assert_same(counts: &Counts, expected: &Counts) {
    for (key, expected) in expected {
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
    assert_eq!(counts(&cluster().read_all_ended(&stage.sink)), [("ada".to_owned(), running(0..9))].into());
}

/// How often a lane of this topic began with the worker, and with those before it that had its name.
fn begun(worker: &Worker, topic: &str) -> usize {
    let end = format!(".{topic}\"");
    let is_of_topic = |line: &&str| line.contains("lane begins") && line.contains(&end);
    worker.log().lines().filter(is_of_topic).count()
}

/// Of each key, in order: how many events there were, and the sum of their numbers.
type Counts = BTreeMap<String, Vec<(u64, u64)>>;

/// What is to come out of these numbers, one after the other.
fn running(numbers: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut total = 0;
    let mut add = |n| {
        total += n;
        total
    };
    numbers.zip(1..).map(|(n, events)| (events, add(n))).collect()
}

/// What came out.
fn counts(results: &[ReadRecord]) -> Counts {
    let mut counts = Counts::new();
    for record in results {
        let result: Value = serde_json::from_str(record.text()).expect("a result is JSON");
        let number = |name: &str| result[name].as_u64().expect("a number");
        counts.entry(record.key_text().to_owned()).or_default().push((number("events"), number("total")));
    }
    counts
}
