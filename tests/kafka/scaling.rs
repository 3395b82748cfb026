//! Workers become four, and then two, while windows are open: each gives its result once, and the right one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Load, Stage, ToSend, Worker, cluster, wait_until};

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
