//! Timers fire once each, whoever is killed; and what was due while nothing ran fires where it belongs: by the clock before
//! the backlog, by event time after it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Isolation, Load, Siege, Stage, ToSend, cluster, wait_until};

/// Key and value of each result, and how often it came.
type Told = BTreeMap<(String, String), usize>;

const WITHIN: Duration = Duration::from_secs(60);
/// Of a timer that is not to fire while the test runs.
const NEVER: &str = "3000000";

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

/// Three events of a key have a plan for its timers: set once, with calls that fail, moved, cancelled, or set by an event
/// that is itself called twice.
fn planned(stem: &str, n: u64, partitions: u64, base: i64) -> ToSend {
    let (key, step) = (format!("{stem}-{}", n / 3), n % 3);
    // The record's own key says nothing of where its function's key is.
    let event = ToSend::new(&key, n.to_string())
        .header("by", &key)
        .to((n / 3 % partitions) as i32)
        .at(base + n as i64 * 2);
    let both = |event: ToSend, by_event: &str, by_clock: &str| {
        event.header("event-timer-ms", by_event).header("clock-timer-ms", by_clock)
    };
    match (n / 3 % 5, step) {
        (0, 0) => both(event, "500", "300"),
        (1, 0) => both(event, "500", "300").header("timer-fail", "1"),
        (2 | 3, 0) => both(event, NEVER, NEVER),
        (2, 1) => both(event, "400", "200"),
        (3, 1) => event.header("cancel", ""),
        (4, 0) => both(event, "500", "300").header("fail", "1"),
        _ => event,
    }
}

/// What comes out for so many events, each once: their values, and what timers say; those by the clock without their time.
fn expected(stem: &str, count: u64, base: i64) -> Told {
    let mut timers: BTreeMap<(String, &str), String> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for n in 0..count {
        let event = planned(stem, n, 1, base);
        let header = |name: &str| {
            let found = event.headers.iter().find(|(known, _)| known == name)?;
            Some(String::from_utf8(found.1.clone()?).expect("text"))
        };
        let key = || format!("{stem}-{}", n / 3);
        all.insert((key(), n.to_string()), 1);
        if header("cancel").is_some() {
            timers.retain(|(of, _), _| *of != key());
        }
        if let Some(pause) = header("event-timer-ms") {
            let at = base + n as i64 * 2 + pause.parse::<i64>().expect("a number");
            timers.insert(
                (key(), "event"),
                if pause == NEVER { NEVER.into() } else { format!("event event {at}") },
            );
        }
        if let Some(pause) = header("clock-timer-ms") {
            timers.insert((key(), "clock"), if pause == NEVER { pause } else { "clock clock".into() });
        }
    }
    all.extend(timers.into_iter().filter(|(_, told)| told != NEVER).map(|((key, _), told)| ((key, told), 1)));
    all
}

/// What came out, and how often.
fn seen(stage: &Stage) -> Told {
    let mut seen = BTreeMap::new();
    for result in cluster().read_all_ended(&stage.sink) {
        let told = result.text();
        let told = told.strip_prefix("clock clock ").map_or(told, |_| "clock clock").to_owned();
        *seen.entry((result.key_text().to_owned(), told)).or_default() += 1;
    }
    seen
}

/// How many timers are set, or wait for their calls.
fn timers_left(stage: &Stage) -> usize {
    let mut newest = BTreeMap::new();
    for entry in cluster().read_all_ended(&format!("{}.state", stage.name)) {
        newest.insert((entry.partition, entry.key.unwrap_or_default()), entry.value.is_some());
    }
    newest
        .iter()
        .filter(|((_, key), is_there)| **is_there && matches!(key.first(), Some(b'f' | b'o')))
        .count()
}

fn keeping(stem: &str, partitions: i32) -> Stage {
    Stage::new(cluster(), stem, partitions)
        .with_trial()
        .with("/spec/state", json!({}))
        .with("/spec/time", json!({ "idle": "1s" }))
        .with("/spec/delivery/retry", json!({ "maxAttempts": 1000, "initial": "50ms", "max": "200ms" }))
}

#[track_caller]
fn assert_same((seen, expected): (Told, Told)) {
    let wrong: Vec<_> = expected.keys().filter(|told| seen.get(*told) != Some(&1)).collect();
    let besides: Vec<_> = seen.keys().filter(|told| !expected.contains_key(*told)).collect();
    assert!(wrong.is_empty() && besides.is_empty(), "not once: {wrong:?}; besides: {besides:?}");
}

#[test]
fn each_timer_fires_once_whatever_befalls_the_workers() {
    let stage = keeping("timers", 4).with_short_sessions();
    let base = now_ms() - 60_000;
    let load = Load::start_with(cluster(), &stage.source, 20, move |n, _| planned("k", n, 4, base));
    let follower = Follower::start(cluster(), &stage.sink);
    let siege = Siege::lay(&stage, &load, |dice| follower.wait_for_more(1 + dice.roll(50), WITHIN));
    let count = load.finish();
    let expected = expected("k", count, base);
    // The last ones fire by the clock: nothing comes any more.
    follower.wait_for(expected.len(), WITHIN);
    siege.raise();
    assert_same((seen(&stage), expected));
    assert!(stage.read_dead_letters().is_empty());
    // At most those of a key whose second event has not come.
    assert!(timers_left(&stage) <= 2, "{} timers are left", timers_left(&stage));
}

#[test]
fn each_timer_of_sources_that_are_brought_together_fires_once_whatever_befalls_the_workers() {
    let stage = keeping("brought-timers", 3).with_short_sessions();
    let other = format!("{}.other", stage.name);
    cluster().create_topic(&other, 2, &[]);
    let sources = json!([
        { "topic": stage.source, "format": "bytes" },
        { "topic": other, "format": "bytes", "key": { "header": "by" } },
    ]);
    let stage = stage.with("/spec/sources", sources);
    let base = now_ms() - 60_000;
    let first = Load::start_with(cluster(), &stage.source, 10, move |n, _| planned("k", n, 3, base));
    let second = Load::start_with(cluster(), &other, 10, move |n, _| planned("other", n, 2, base));
    let follower = Follower::start(cluster(), &stage.sink);
    let siege = Siege::lay(&stage, &first, |dice| follower.wait_for_more(1 + dice.roll(50), WITHIN));
    let mut all = expected("k", first.finish(), base);
    all.extend(expected("other", second.finish(), base));
    follower.wait_for(all.len(), WITHIN);
    siege.raise();
    assert_same((seen(&stage), all));
    assert!(stage.read_dead_letters().is_empty());
    assert!(timers_left(&stage) <= 4, "{} timers are left", timers_left(&stage));
}

#[test]
fn what_was_due_while_nothing_ran_fires_by_the_clock_before_the_backlog_and_by_event_time_after_it() {
    for is_gathered in [false, true] {
        let stage = keeping("due", 1);
        let stage = match is_gathered {
            true => stage.with("/spec/sources/0/key", json!({ "header": "by" })),
            false => stage,
        };
        let follower = Follower::start(cluster(), &stage.sink);
        let mut worker = stage.spawn("a");
        let base = now_ms() - 600_000;
        let event =
            |key: &str, value: &str, after: i64| ToSend::new(key, value).header("by", key).at(base + after);
        let first =
            event("ada", "first", 0).header("event-timer-ms", "1000").header("clock-timer-ms", "4000");
        cluster().produce(&stage.source, [first]);
        let results = follower.wait_for(1, WITHIN);
        assert_eq!(results[0].text(), "first");
        stage.wait_until_drained(WITHIN);
        let set = now_ms();
        worker.kill();
        assert_eq!(
            cluster().read_all(&stage.sink, Isolation::ReadCommitted).len(),
            1,
            "no timer has fired yet"
        );
        // The last of them are later than the timer: those before them are not held up by it.
        let backlog = (0..40i64).map(|n| event(&format!("key-{}", n % 7), &n.to_string(), n * 20));
        cluster().produce(&stage.source, backlog);
        wait_until(WITHIN, "the timer by the clock to be due", || now_ms() > set + 4000);
        let mut worker = stage.spawn("a");
        let results = follower.wait_for(43, WITHIN);
        let told: Vec<&str> = results.iter().map(|result| result.text()).collect();
        let numbers: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        assert!(told[1].starts_with("clock clock "), "{told:?}");
        assert_eq!(told[2..42], numbers, "{told:?}");
        assert_eq!(told[42], format!("event event {}", base + 1000));
        assert_eq!(results[42].timestamp_ms, base + 1000, "the time that it was set to");
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
        assert_eq!(timers_left(&stage), 0);
    }
}
