//! A clock gives each tick as one event, however many workers run and whatever befalls them.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{
    Dice, Follower, Listeners, ReadRecord, Signal, Stage, Worker, cluster, holds_for, number, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

/// A function that ticks each second and passes that on.
fn ticking(stem: &str, catch_up: &str) -> Stage {
    let mut stage = Stage::without_topics(cluster(), stem)
        .with(
            "/spec/sources/0",
            json!({
                "name": "beat",
                "schedule": { "cron": "* * * * * *", "zone": "Europe/Berlin", "catchUp": catch_up },
            }),
        )
        .with_short_sessions();
    stage.source = format!("{}.schedule.beat", stage.name);
    cluster().create_topic(&stage.sink, 1, &[]);
    stage
}

/// Which second it stands for, and how many before it.
fn tick(record: &ReadRecord) -> (i64, i64) {
    let value: Value = serde_json::from_str(record.text()).expect("a tick is JSON");
    let scheduled = value["scheduled"].as_str().expect("a time");
    let time: jiff::Timestamp = scheduled.parse().expect("a time as RFC 3339 has it");
    assert_eq!(record.key_text(), "beat");
    assert_eq!(record.timestamp_ms, time.as_millisecond(), "the event's time is the tick's");
    assert!(scheduled.ends_with("+01:00") || scheduled.ends_with("+02:00"), "{scheduled}");
    (time.as_second(), value["missed"].as_i64().expect("a number"))
}

/// Each second from the first tick to the last has an event, or a later event that says so.
#[track_caller]
fn assert_each_second_counts_once(records: &[ReadRecord]) -> i64 {
    let ticks: Vec<_> = records.iter().map(tick).collect();
    for pair in ticks.windows(2) {
        let [(before, _), (after, missed)] = pair else { continue };
        assert_eq!(after - before, 1 + missed, "between {before} and {after} of {ticks:?}");
    }
    ticks.iter().skip(1).map(|(_, missed)| missed).sum()
}

/// Three workers, and every few ticks the one that makes them is killed or stands still until others have taken over.
fn besieged(stage: &Stage, rounds: u64) -> Vec<ReadRecord> {
    let follower = Follower::start(cluster(), &stage.sink);
    let rounds = number("TIDEMILL_TEST_KILLS").unwrap_or(rounds);
    let mut dice = Dice::new();
    // Shown when the test fails.
    println!("{dice} TIDEMILL_TEST_KILLS={rounds}");
    let mut workers: Vec<(String, Worker)> =
        ["a", "b", "c"].map(|who| (who.to_owned(), stage.spawn(who))).into();
    for _ in 0..rounds {
        follower.wait_for_more(1 + dice.roll(3), WITHIN);
        let owner = owner(&mut workers);
        // Around the moment of the next tick, or while the clock rests.
        let moment = [0, 10, 20, 30, 60, 500][dice.roll(6)];
        wait_until(WITHIN, "the moment", || (now_ms() - moment).rem_euclid(1000) < 40);
        let (who, worker) = &mut workers[owner];
        if dice.roll(3) == 0 {
            // It comes back from a long sleep and takes itself for the owner still.
            worker.signal(Signal::Stop);
            follower.wait_for_more(2, WITHIN);
            worker.signal(Signal::Continue);
        } else {
            worker.kill();
            *worker = stage.spawn(who);
        }
    }
    follower.wait_for_more(3, WITHIN);
    for (_, worker) in &mut workers {
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    }
    cluster().read_all_ended(&stage.sink)
}

/// Who was given the clock's partition last.
fn owner(workers: &mut [(String, Worker)]) -> usize {
    let mut found = None;
    wait_until(WITHIN, "somebody to have the clock", || {
        let last = workers
            .iter()
            .enumerate()
            .filter_map(|(place, (_, worker))| Some((placed_at(&worker.log())?, place)));
        found = last.max().map(|(_, place)| place);
        found.is_some()
    });
    found.expect("it was waited for")
}

/// When a worker took the clock's partition last.
fn placed_at(log: &str) -> Option<String> {
    let line =
        log.lines().rev().find(|line| line.contains("lane begins") && line.contains(".schedule.beat"))?;
    line.split_whitespace().next().map(str::to_owned)
}

#[test]
fn each_tick_is_one_event_whoever_is_killed() {
    let stage = ticking("ticks-all", "all");
    let records = besieged(&stage, 6);
    assert_eq!(assert_each_second_counts_once(&records), 0, "none stands for others");
    let audit = stage.tidemill(&["audit"], &[]);
    assert!(audit.status.success(), "the audit finds it too: {}", String::from_utf8_lossy(&audit.stdout));
    assert!(stage.read_dead_letters().is_empty());
}

#[test]
fn at_least_once_no_tick_is_missing() {
    let stage = ticking("ticks-twice", "all").with("/spec/delivery/guarantee", json!("atLeastOnce"));
    let records = besieged(&stage, 4);
    let seconds: BTreeSet<i64> = records.iter().map(|record| tick(record).0).collect();
    let (first, last) = (seconds.first().expect("it ticks"), seconds.last().expect("it ticks"));
    assert_eq!(seconds.len() as i64, last - first + 1, "{seconds:?}");
}

#[test]
fn one_event_stands_for_all_ticks_that_nobody_made() {
    let stage = ticking("ticks-one", "one");
    let records = besieged(&stage, 3);
    assert_each_second_counts_once(&records);
    // Nothing runs for some seconds.
    let (last, _) = tick(records.last().expect("it has ticked"));
    wait_until(WITHIN, "ticks to be missed", || now_ms() / 1000 > last + 4);
    let follower = Follower::start(cluster(), &stage.sink);
    let mut worker = stage.spawn("a");
    let records = follower.wait_for(records.len() + 3, WITHIN);
    let after = records.iter().map(tick).find(|(at, _)| *at > last).expect("it ticks again");
    assert!(after.1 >= 3, "{after:?} stands for those that were missed");
    assert_each_second_counts_once(&records);
    assert!(worker.log().contains("ticks were missed"), "that is said");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn a_paused_function_makes_no_ticks_until_it_goes_on() {
    let stage = ticking("ticks-paused", "one");
    let listeners = Listeners::free();
    let follower = Follower::start(cluster(), &stage.sink);
    let mut worker = stage.spawn_with("a", &listeners.env());
    follower.wait_for(2, WITHIN);
    order("pause", &stage, &listeners);
    let before = stage.ends();
    let (paused_at, count) = (now_ms(), follower.count());
    holds_for(Duration::from_secs(3), "nothing ticks", || stage.ends() == before);
    order("resume", &stage, &listeners);
    let records = follower.wait_for(count + 3, WITHIN);
    let (_, missed) = records.iter().map(tick).find(|(at, _)| at * 1000 > paused_at).expect("it ticks again");
    assert!(missed >= 2, "{missed} were missed");
    assert_each_second_counts_once(&records);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

/// Gives an order as a person does; it is answered when it is carried out.
fn order(verb: &str, stage: &Stage, listeners: &Listeners) {
    let args = [verb, &stage.name, "--admin", &listeners.admin];
    let output = Command::new(env!("CARGO_BIN_EXE_tidemill")).args(args).output().expect("tidemill starts");
    assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn skipped_ticks_leave_no_event_and_no_tick_comes_twice() {
    let stage = ticking("ticks-none", "none");
    let records = besieged(&stage, 2);
    let ticks: Vec<_> = records.iter().map(tick).collect();
    assert!(ticks.iter().all(|(_, missed)| *missed == 0));
    assert!(ticks.is_sorted_by(|before, after| before.0 < after.0), "{ticks:?}");
    let seconds: BTreeSet<_> = ticks.iter().map(|(at, _)| at).collect();
    assert_eq!(seconds.len(), ticks.len());
}
