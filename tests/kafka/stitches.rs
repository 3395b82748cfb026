//! Sources that are brought together by key give each result once, and the right one, whatever befalls the workers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Load, ReadRecord, Siege, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

/// The topic of the payments.
fn payments(stage: &Stage) -> String {
    format!("{}.payments", stage.name)
}

/// Puts rides and their payments together, which other partitioners wrote to other numbers of partitions.
fn billing(stem: &str) -> Stage {
    let stage = Stage::new(cluster(), stem, 3);
    let payments = payments(&stage);
    cluster().create_topic(&payments, 5, &[]);
    let source = stage.source.clone();
    let unpaid = format!("{}.unpaid", stage.name);
    let sink = stage.sink.clone();
    stage
        .with(
            "/spec/sources",
            json!([
                { "topic": source, "name": "ride", "format": "json" },
                { "topic": payments, "name": "payment", "format": "json", "key": { "fields": ["/ride"] } },
            ]),
        )
        .with(
            "/spec/sinks",
            json!([
                { "topic": sink, "name": "invoices", "format": "json" },
                { "topic": unpaid, "name": "unpaid", "format": "json", "create": { "partitions": 1 } },
            ]),
        )
        .with(
            "/spec/window",
            json!({
                "stitch": { "within": "2s" },
                "idle": "1s",
                "onTimeout": { "action": "emit", "sink": "unpaid" },
            }),
        )
}

fn parsed(record: &ReadRecord) -> Value {
    serde_json::from_str(record.text()).expect("a result is JSON")
}

/// How often each pair of ride and payment came out.
fn pairs(records: &[ReadRecord]) -> BTreeMap<(Option<u64>, Option<u64>), usize> {
    let mut pairs = BTreeMap::new();
    for record in records {
        let result = parsed(record);
        assert_eq!(result["key"].as_str(), Some(record.key_text()));
        let number = |name: &str| result.pointer(&format!("/{name}/n")).and_then(Value::as_u64);
        *pairs.entry((number("ride"), number("payment"))).or_default() += 1;
    }
    pairs
}

#[test]
fn each_ride_meets_its_payment_once_whatever_befalls_the_workers() {
    let stage = billing("billing").with_short_sessions();
    let unpaid = format!("{}.unpaid", stage.name);
    let base = now_ms();
    let time_of = move |n: u64| base - 60_000 + n as i64 * 2;
    let rides = Load::start_with(cluster(), &stage.source, 20, move |n, _| {
        ToSend::new(format!("ride-{n}"), json!({ "n": n }).to_string()).at(time_of(n))
    });
    // Every tenth is for a ride that nobody made.
    let paid = Load::start_with(cluster(), &payments(&stage), 20, move |n, _| {
        let ride = if n % 10 == 0 { format!("none-{n}") } else { format!("ride-{n}") };
        ToSend::new(format!("p-{n}"), json!({ "n": n, "ride": ride }).to_string()).at(time_of(n))
    });
    let follower = Follower::start(cluster(), &stage.sink);
    let siege = Siege::lay(&stage, &rides, |dice| follower.wait_for_more(1 + dice.roll(30), WITHIN));
    let (rides, paid) = (rides.finish(), paid.finish());
    let both = rides.min(paid);
    let is_pair = |n: &u64| !n.is_multiple_of(10) && *n < both;
    let complete = (0..both).filter(is_pair).count();
    let alone = rides as usize + paid as usize - 2 * complete;
    wait_until(WITHIN, "all pairs", || follower.count() >= complete);
    // What found no partner ends by the clock: nothing comes any more.
    let ended = || cluster().read_all_ended(&unpaid);
    wait_until(WITHIN, "all that found no partner", || ended().len() >= alone);
    siege.raise();
    let expected: BTreeMap<_, _> = (0..both).filter(is_pair).map(|n| ((Some(n), Some(n)), 1)).collect();
    assert_eq!(pairs(&cluster().read_all_ended(&stage.sink)), expected);
    let ended = ended();
    let of_rides = (0..rides).filter(|n| !is_pair(n)).map(|n| ((Some(n), None), 1));
    let of_payments = (0..paid).filter(|n| !is_pair(n)).map(|n| ((None, Some(n)), 1));
    assert_eq!(pairs(&ended), of_rides.chain(of_payments).collect());
    for result in ended.iter().map(parsed) {
        let missing = if result.get("ride").is_some() { "payment" } else { "ride" };
        assert_eq!((&result["window"]["fired"], &result["missing"]), (&json!("timeout"), &json!([missing])));
    }
    assert!(stage.read_dead_letters().is_empty());
    let leftovers = state(&stage).into_iter().filter(|((_, key), value)| value.is_some() && key != b"t");
    assert_eq!(leftovers.count(), 0, "what has ended leaves nothing");
}

/// The newest entry of each key of the state topic but those that say what kind of windows it has.
fn state(stage: &Stage) -> BTreeMap<(i32, Vec<u8>), Option<Vec<u8>>> {
    let entries = cluster().read_all_ended(&format!("{}.state", stage.name));
    let named = entries.into_iter().filter(|entry| entry.key.as_deref() != Some(b"s"));
    named.map(|entry| ((entry.partition, entry.key.unwrap_or_default()), entry.value)).collect()
}

/// Calls the handler of the tests with every three events of a key, by a key that is not the records' own.
fn threes(stem: &str) -> Stage {
    Stage::new(cluster(), stem, 2)
        .with_trial()
        .with("/spec/sources/0/key", json!({ "header": "by" }))
        .with("/spec/window", json!({ "count": { "size": 3 } }))
        .with("/spec/delivery/retry", json!({ "maxAttempts": 3, "initial": "50ms", "max": "200ms" }))
}

/// An event of a group.
fn of(by: &str, value: &str) -> ToSend {
    ToSend::new(value, value).header("by", by)
}

#[test]
fn a_handler_gets_windows_and_what_it_does_not_take_waits_in_order() {
    let stage = threes("threes");
    let mut worker = stage.spawn("a");
    let follower = Follower::start(cluster(), &stage.sink);
    // One partition, so that it is known in which order they come.
    let events = [
        of("ada", "1").header("fail", "2"),
        of("ada", "2"),
        of("bob", "1"),
        of("ada", "3"),
        of("ada", "4"),
        of("ada", "5"),
        of("bob", "2").header("reject", "no"),
        of("ada", "6"),
        of("eve", "1").header("fail", "99"),
        of("eve", "2"),
        of("eve", "3"),
        of("bob", "3"),
        of("dan", "1").header("reject", "no"),
        of("dan", "2"),
        of("dan", "3"),
    ];
    cluster().produce(&stage.source, events.map(|event| event.to(0)));
    let results = follower.wait_for(3, WITHIN);
    let of_key = |key: &str| -> Vec<&str> {
        let own = results.iter().filter(|result| result.key_text() == key);
        own.map(ReadRecord::text).collect()
    };
    assert_eq!(of_key("ada"), ["1+2+3", "4+5+6"], "the second waited for the first");
    assert_eq!(of_key("bob"), ["1+2+3"], "what the first event asks for counts");
    wait_until(WITHIN, "two dead letters", || stage.read_dead_letters().len() == 2);
    let dead = stage.read_dead_letters();
    let reasons: BTreeMap<_, _> = dead
        .iter()
        .map(|letter| {
            let events = parsed(letter)[&stage.source].as_array().map_or(0, Vec::len);
            let attempts = letter.header("tidemill-attempts").unwrap_or_default().to_owned();
            (letter.key_text(), (letter.header("tidemill-reason"), attempts, events))
        })
        .collect();
    let expected =
        [("dan", (Some("rejected"), "1".to_owned(), 3)), ("eve", (Some("exhausted"), "3".to_owned(), 3))];
    assert_eq!(reasons, BTreeMap::from(expected));
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    assert_eq!(follower.count(), 3);
}

#[test]
fn windows_that_fail_give_their_result_once_whatever_befalls_the_workers() {
    let stage = threes("failing").with_short_sessions();
    let stage = stage.with("/spec/delivery/retry/maxAttempts", json!(1000));
    let load = Load::start_with(cluster(), &stage.source, 20, |n, _| {
        let event = of(&format!("group-{}", n / 3), &n.to_string()).to((n / 3 % 2) as i32);
        // The first event of every fifth group lets its result wait.
        if n % 15 == 0 { event.header("fail", "2") } else { event }
    });
    let follower = Follower::start(cluster(), &stage.sink);
    let siege = Siege::lay(&stage, &load, |dice| follower.wait_for_more(1 + dice.roll(20), WITHIN));
    let groups = load.finish() / 3;
    follower.wait_for(groups as usize, WITHIN);
    siege.raise();
    let results = cluster().read_all_ended(&stage.sink);
    let seen: BTreeMap<_, _> = results.iter().map(|result| (result.key_text(), result.text())).collect();
    let expected: BTreeMap<String, String> = (0..groups)
        .map(|g| (format!("group-{g}"), format!("{}+{}+{}", 3 * g, 3 * g + 1, 3 * g + 2)))
        .collect();
    assert_eq!(results.len(), seen.len(), "no group gives two results");
    assert!(seen.iter().map(|(key, value)| (key.to_string(), value.to_string())).eq(expected));
    assert!(stage.read_dead_letters().is_empty());
}

#[test]
fn an_event_whose_window_ends_the_process_becomes_a_dead_letter() {
    let stage = threes("deadly").with_short_sessions();
    let mut worker = stage.spawn("a");
    let events = [
        of("ada", "1").header("abort", "99"),
        of("bob", "1").header("abort", "1"),
        of("ada", "2"),
        of("bob", "2"),
        of("ada", "3"),
        of("bob", "3"),
        of("eve", "1"),
        of("eve", "2"),
        of("eve", "3"),
    ];
    cluster().produce(&stage.source, events.map(|event| event.to(0)));
    let follower = Follower::start(cluster(), &stage.sink);
    let mut deaths = 0;
    wait_until(WITHIN, "two results and a dead letter", || {
        if !worker.is_running() {
            deaths += 1;
            worker = stage.spawn("a");
        }
        follower.count() >= 2 && stage.read_dead_letters().len() == 1
    });
    let results: BTreeMap<_, _> = follower
        .read()
        .iter()
        .map(|result| (result.key_text().to_owned(), result.text().to_owned()))
        .collect();
    let expected = [("bob", "1+2+3"), ("eve", "1+2+3")];
    assert_eq!(results, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let dead = stage.read_dead_letters();
    // The event by which the window was full: the others are still in it.
    assert_eq!((dead[0].text(), dead[0].header("tidemill-reason")), ("3", Some("crashed")));
    assert!((4..=6).contains(&deaths), "died {deaths} times:\n{}", worker.log());
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}
