//! A worker that stood still after it closed windows by the clock, in a transaction that moves no offset, commits nothing
//! when it wakes: each window has one result, its successor's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::kafka::Admin;
use tidemill::kafka::admin::{Isolation, OffsetAt};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Signal, Stage, ToSend, Worker, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// So many that it takes a while to close their windows.
const KEYS: usize = 20_000;
/// How often it may be stopped at another moment.
const TRIES: usize = 20;

#[test]
fn a_worker_that_wakes_after_it_closed_windows_by_the_clock_commits_nothing() {
    let stage = Stage::new(cluster(), "idle-zombie", 1)
        .with_short_sessions()
        .with("/spec/sinks/0/format", json!("json"))
        .with(
            "/spec/window",
            json!({
                "tumbling": { "size": "1s" },
                "idle": "1s",
                "aggregate": { "events": { "op": "count" } },
            }),
        );
    let mut zombie = stage.spawn("zombie");
    wait_until(WITHIN, "the zombie to have the partition", || begun(&zombie) == 1);
    let mut heir = stage.spawn("heir");
    wait_until(WITHIN, "the heir to be there", || stage.members() == 2);
    let admin = Admin::new(&cluster().as_cluster()).expect("a client");
    let ends = |topic: &str| ends(&admin, topic);
    let is_open = |topic: &str| {
        let [committed, all] = ends(topic);
        committed < all
    };
    let state = format!("{}.state", stage.name);
    let mut windows = 0;
    let mut is_caught = false;
    while !is_caught {
        assert!(windows < TRIES, "never did it stand still between closing windows and committing that");
        // One window each, which closes when nothing has come for a while.
        let now = SystemClock::start().now().wall_ms;
        cluster().produce(&stage.source, (0..KEYS).map(|n| ToSend::new(format!("key-{n}"), "x").at(now)));
        windows += 1;
        stage.wait_until_drained(WITHIN);
        let (moved, ended) = (stage.committed(), ends(&stage.sink));
        wait_until(WITHIN, "results", || ends(&stage.sink) > ended);
        zombie.signal(Signal::Stop);
        // Nobody sees the results yet, and what the cut writes behind them is not there.
        if !is_open(&stage.sink) || is_open(&state) {
            zombie.signal(Signal::Continue);
            wait_until(WITHIN, "all windows to close", || open_windows(&stage) == 0);
            continue;
        }
        let before = lost(&zombie);
        wait_until(WITHIN, "the heir to close the windows", || open_windows(&stage) == 0);
        assert_eq!(stage.committed(), moved);
        // Had it timed out meanwhile, the broker would have ended it.
        is_caught = is_open(&stage.sink);
        zombie.signal(Signal::Continue);
        wait_until(WITHIN, "the zombie to notice", || lost(&zombie) > before);
        wait_until(WITHIN, "both to be members", || stage.members() == 2);
        (zombie, heir) = (heir, zombie);
    }
    println!("caught with window {windows}");
    let mut results: BTreeMap<(String, i64), u32> = BTreeMap::new();
    for record in cluster().read_all_ended(&stage.sink) {
        let result: Value = serde_json::from_str(record.text()).expect("a result is JSON");
        assert_eq!(result["events"], 1, "{result}");
        let start = result["window"]["start"].as_i64().expect("a number");
        *results.entry((record.key_text().to_owned(), start)).or_default() += 1;
    }
    let twice = results.iter().filter(|(_, times)| **times > 1).count();
    assert_eq!((results.len(), twice), (windows * KEYS, 0), "windows, and of these twice");
    for worker in [&mut heir, &mut zombie] {
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    }
}

/// How often its partitions were lost.
fn lost(worker: &Worker) -> usize {
    worker.log().matches("partitions lost").count()
}

/// How often a lane of the source began.
fn begun(worker: &Worker) -> usize {
    let is_of_source = |line: &&str| line.contains("lane begins") && line.contains(".in\"");
    worker.log().lines().filter(is_of_source).count()
}

/// Where the only partition of a topic ends for readers of committed records, and for all others.
fn ends(admin: &Admin, topic: &str) -> [i64; 2] {
    [Isolation::ReadCommitted, Isolation::ReadUncommitted].map(|isolation| {
        let ends = admin.list_offsets(&[(topic, 0, OffsetAt::Latest)], isolation);
        ends.expect("the broker answers")[0].expect("an end")
    })
}

/// How many windows the committed state has.
fn open_windows(stage: &Stage) -> usize {
    let entries =
        cluster().read_all(&format!("{}.state", stage.name), crate::harness::Isolation::ReadCommitted);
    let newest: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    let is_open = |(key, value): &(&Option<Vec<u8>>, &Option<Vec<u8>>)| {
        key.as_deref().is_some_and(|key| key.starts_with(b"w")) && value.is_some()
    };
    newest.iter().filter(is_open).count()
}
