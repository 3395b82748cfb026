//! Workers become four, and then two, while windows are open: each gives its result once, and the right one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Listeners, Load, Stage, ToSend, Worker, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const SIZE_MS: i64 = 4000;
const ADVANCE_MS: i64 = 1000;
const PARTITIONS: u64 = 8;
const KEYS: u64 = 23;
const TEAMS: u64 = 31;
const DAY_MS: i64 = 86_400_000;

/// Counts and sums numbers in windows that overlap. No time passes without events.
fn hopping(stage: Stage) -> Stage {
    stage.with_short_sessions().with("/spec/sinks/0/format", json!("json")).with(
        "/spec/window",
        json!({
            "hopping": { "size": "4s", "advance": "1s" },
            "grace": "1s",
            "idle": "10m",
            "aggregate": { "events": { "op": "count" }, "total": { "op": "sum", "field": "/n" } },
        }),
    )
}

/// Key and start of a window, to how many events it has and what their numbers are together.
type Windows = BTreeMap<(String, i64), (u64, u64)>;

fn expected(events: impl Iterator<Item = (String, i64, u64)>) -> Windows {
    let mut windows = Windows::new();
    for (key, time_ms, n) in events {
        let newest = time_ms.div_euclid(ADVANCE_MS) * ADVANCE_MS;
        for start in (0..SIZE_MS / ADVANCE_MS).map(|hops| newest - hops * ADVANCE_MS) {
            let window = windows.entry((key.clone(), start)).or_default();
            *window = (window.0 + 1, window.1 + n);
        }
    }
    windows
}

fn results(stage: &Stage) -> Windows {
    let records = cluster().read_all_ended(&stage.sink);
    let results = records.iter().map(|record| {
        let result: Value = serde_json::from_str(record.text()).expect("a result is JSON");
        let number = |pointer: &str| result.pointer(pointer).and_then(Value::as_i64).expect("a number");
        let name = (record.key_text().to_owned(), number("/window/start"));
        (name, (number("/events") as u64, number("/total") as u64))
    });
    let results: Windows = results.collect();
    assert_eq!(results.len(), records.len(), "no window gives two results");
    results
}

#[test]
fn one_worker_becomes_four_and_then_two_and_no_window_notices() {
    let single = Stage::new(cluster(), "scaling", PARTITIONS as i32);
    let (source, more) = (single.source.clone(), format!("{}.more", single.name));
    let input = |topic: &str| json!({ "topic": topic, "format": "json" });
    let by_team = |topic: &str| json!({ "topic": topic, "format": "json", "key": { "fields": ["/team"] } });
    // One goes by the records' keys; the other brings two topics together first.
    let single = hopping(single.with("/spec/sources/0", input(&source)));
    let joint = Stage::without_topics(cluster(), "scaling-joint");
    let joint = hopping(joint.with("/spec/sources", json!([by_team(&source), by_team(&more)])));
    cluster().create_topic(&more, 3, &[]);
    cluster().create_topic(&joint.sink, 3, &[]);
    joint.write_to(&single.manifest().join("joint.yaml"));

    let base = SystemClock::start().now().wall_ms - 10 * DAY_MS;
    // Out of order by less than the grace.
    let time_of = move |n: u64| base + n as i64 * 4 - (n * 7919 % 900) as i64;
    let (key, team) = (|n: u64| format!("key-{}", n % KEYS), |n: u64| format!("team-{}", n % TEAMS));
    // To every partition: one that is empty would hold time.
    let loads = [(&source, PARTITIONS), (&more, 3)].map(|(topic, partitions)| {
        Load::start_with(cluster(), topic, 10, move |n, _| {
            let event = ToSend::new(key(n), json!({ "n": n, "team": team(n) }).to_string());
            event.at(time_of(n)).to((n % KEYS % partitions) as i32)
        })
    });
    let followers = [&single, &joint].map(|stage| Follower::start(cluster(), &stage.sink));
    let come_through = || followers.each_ref().map(|follower| follower.wait_for_more(200, WITHIN));

    let mut workers = vec![single.spawn("a")];
    come_through();
    workers.extend(["b", "c", "d"].map(|who| single.spawn(who)));
    wait_until(WITHIN, "all to have partitions of both", || {
        workers.iter().all(|worker| [&single, &joint].iter().all(|stage| works_at(worker, stage)))
    });
    come_through();
    for mut leaves in workers.drain(..2) {
        assert!(leaves.terminate(WITHIN).success(), "{}", leaves.log());
    }
    come_through();
    let counts = loads.map(Load::finish);

    // One more in each partition, for which all that was before has ended.
    let last = json!({ "n": 0, "team": "last" }).to_string();
    for (topic, partitions) in [(&source, PARTITIONS), (&more, 3)] {
        let last = |partition| ToSend::new("last", &last).at(base + 5 * DAY_MS).to(partition as i32);
        cluster().produce(topic, (0..partitions).map(last));
    }
    let of_single = expected((0..counts[0]).map(|n| (key(n), time_of(n), n)));
    let all = counts.iter().flat_map(|count| 0..*count);
    let of_joint = expected(all.map(|n| (team(n), time_of(n), n)));
    for (follower, expected) in followers.iter().zip([&of_single, &of_joint]) {
        follower.wait_for(expected.len(), WITHIN);
    }
    for worker in &mut workers {
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    }
    println!("{counts:?} events, {} and {} windows", of_single.len(), of_joint.len());
    for (stage, expected) in [(&single, &of_single), (&joint, &of_joint)] {
        assert!(results(stage) == *expected, "{}: other results than counted", stage.name);
        assert!(stage.read_dead_letters().is_empty());
    }
}

/// It has a lane of the function.
fn works_at(worker: &Worker, stage: &Stage) -> bool {
    let is_of = |line: &str| line.contains("lane begins") && line.contains(&format!("{}.", stage.name));
    worker.log().lines().any(is_of)
}

/// Counts what two sources bring of a key, with each event anew. No time passes without events.
fn counting(stem: &str) -> (Stage, String) {
    let stage = Stage::without_topics(cluster(), stem).with_short_sessions();
    let more = format!("{}.more", stage.name);
    let sources = [&stage.source, &more].map(|topic| json!({ "topic": topic, "format": "json" }));
    let stage = stage.with("/spec/sources", json!(sources)).with("/spec/sinks/0/format", json!("json"));
    let window = json!({
        "tumbling": { "size": "1d" },
        "fire": { "at": "update" },
        "idle": "10m",
        "aggregate": { "events": { "op": "count" } },
    });
    (stage.with("/spec/window", window), more)
}

/// The partitions of which `/functions` shows that they are read, by the end of their topics' names.
fn lanes(listeners: &Listeners, stage: &Stage) -> BTreeMap<String, BTreeSet<i64>> {
    let function = listeners.function(&stage.name).unwrap_or_default();
    let mut lanes: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let shown = function["workers"][0]["lanes"].as_array().into_iter().flatten();
    for lane in shown.filter(|lane| lane["state"] != "restoring") {
        let topic = lane["topic"].as_str().expect("a topic").rsplit('.').next().expect("an end").to_owned();
        lanes.entry(topic).or_default().insert(lane["partition"].as_i64().expect("a number"));
    }
    lanes
}

#[test]
fn two_workers_have_half_of_each_topic_that_is_brought_together() {
    const STITCHED: i64 = 8;
    let (stage, more) = counting("halves");
    let listeners = [Listeners::free(), Listeners::free()];
    // It waits for its sources to be there.
    let mut first = stage.spawn_with("a", &listeners[0].env());
    wait_until(WITHIN, "it to wait", || first.log().contains("waiting for a topic that does not exist"));
    for (topic, partitions) in [(&stage.sink, 1), (&more, 3), (&stage.source, STITCHED as i32)] {
        cluster().create_topic(topic, partitions, &[]);
    }
    let all: BTreeSet<i64> = (0..STITCHED).collect();
    wait_until(WITHIN, "it to have all", || lanes(&listeners[0], &stage).get("stitch") == Some(&all));
    let mut second = stage.spawn_with("b", &listeners[1].env());
    let both = || listeners.each_ref().map(|listeners| lanes(listeners, &stage));
    let is_half = |lanes: &BTreeMap<String, BTreeSet<i64>>| {
        lanes.get("stitch").is_some_and(|stitch| stitch.len() as i64 == STITCHED / 2)
    };
    wait_until(WITHIN, "each to have half", || both().iter().all(is_half));
    for lanes in both() {
        let stitch = &lanes["stitch"];
        for (topic, partitions) in [("in", STITCHED), ("redrive", STITCHED), ("more", 3)] {
            let expected: BTreeSet<_> = stitch.iter().copied().filter(|s| *s < partitions).collect();
            assert_eq!(lanes.get(topic).cloned().unwrap_or_default(), expected, "{topic}: {lanes:?}");
        }
    }
    assert!(second.terminate(WITHIN).success(), "{}", second.log());
    let is_whole = |lanes: &BTreeMap<String, BTreeSet<i64>>| {
        [("stitch", STITCHED), ("in", STITCHED), ("redrive", STITCHED), ("more", 3)]
            .iter()
            .all(|(topic, partitions)| lanes.get(*topic).is_some_and(|has| has.len() as i64 == *partitions))
    };
    wait_until(WITHIN, "who stays to have all again", || is_whole(&lanes(&listeners[0], &stage)));
    assert!(first.terminate(WITHIN).success(), "{}", first.log());
}

#[test]
fn a_source_that_grows_under_two_workers_loses_nothing() {
    const BEFORE: u64 = 2;
    const AFTER: u64 = 4;
    let (stage, more) = counting("growing");
    for (topic, partitions) in [(&stage.source, BEFORE), (&more, 3), (&stage.sink, 3)] {
        cluster().create_topic(topic, partitions as i32, &[]);
    }
    // What is written to a partition before anybody knows of it is no less to be read.
    let stage = stage.with("/spec/sources/0/startAt", json!("latest"));
    let listeners = [Listeners::free(), Listeners::free()];
    let mut first = stage.spawn_with("a", &listeners[0].env());
    wait_until(WITHIN, "it to have all", || {
        lanes(&listeners[0], &stage).get("stitch").is_some_and(|stitch| stitch.len() == 3)
    });
    let mut second = stage.spawn_with("b", &listeners[1].env());
    wait_until(WITHIN, "both to have some", || {
        listeners.iter().all(|listeners| lanes(listeners, &stage).contains_key("stitch"))
    });
    let now = SystemClock::start().now().wall_ms;
    let load = |topic: &str, partitions: u64| {
        Load::start_with(cluster(), topic, 10, move |n, _| {
            let event = ToSend::new(format!("key-{}", n % KEYS), n.to_string());
            event.at(now).to((n % partitions) as i32)
        })
    };
    let beside = load(&more, 3);
    let before = load(&stage.source, BEFORE);
    let follower = Follower::start(cluster(), &stage.sink);
    follower.wait_for_more(200, WITHIN);
    cluster().add_partitions(&stage.source, AFTER as usize);
    let after = load(&stage.source, AFTER);
    let of_source = || {
        let found = listeners.iter().filter_map(|listeners| lanes(listeners, &stage).remove("in"));
        found.flatten().collect::<Vec<_>>()
    };
    wait_until(WITHIN, "the new partitions to be read", || of_source().len() as u64 == AFTER);
    for lanes in listeners.each_ref().map(|listeners| lanes(listeners, &stage)) {
        let leads = |q: &i64| lanes["stitch"].contains(&(q % 3));
        assert!(lanes.get("in").is_none_or(|read| read.iter().all(leads)), "{lanes:?}");
    }
    follower.wait_for_more(200, WITHIN);
    // They go on where they were read to.
    assert!(first.terminate(WITHIN).success(), "{}", first.log());
    wait_until(WITHIN, "who stays to have all", || {
        lanes(&listeners[1], &stage).get("in").is_some_and(|read| read.len() as u64 == AFTER)
    });
    follower.wait_for_more(200, WITHIN);
    let counts = [beside, before, after].map(Load::finish);
    follower.wait_for(counts.iter().sum::<u64>() as usize, WITHIN);
    assert!(second.terminate(WITHIN).success(), "{}", second.log());
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in cluster().read_all_ended(&stage.sink) {
        let result: Value = serde_json::from_str(record.text()).expect("a result is JSON");
        let events = result["events"].as_u64().expect("a number");
        seen.entry(record.key_text().to_owned()).or_default().push(events);
    }
    let events =
        |key: u64| counts.iter().map(|count| (key..*count).step_by(KEYS as usize).count()).sum::<usize>();
    let expected = (0..KEYS).map(|key| (format!("key-{key}"), (1..=events(key) as u64).collect()));
    assert_eq!(seen, expected.collect());
    assert!(stage.read_dead_letters().is_empty());
}
