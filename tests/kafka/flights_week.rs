//! The week of flights goes through tumbling, hopping and session windows and a stitch, while workers are killed: what
//! comes out is what a plain count of the week comes to, no window twice, none missing.
//!
//! The week of `functions/flights` comes round again and again, each time a week later, for as long as the scenario lasts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::harness::{Follower, Load, Siege, Stage, ToSend, cluster};

const WITHIN: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const WEEK_MS: i64 = 7 * DAY_MS;
/// A plane that does not leave for so long ends its session.
const GAP_MS: i64 = 6 * HOUR_MS;
/// Each origin has a partition of its own.
const ORIGINS: [&str; 3] = ["EWR", "JFK", "LGA"];

/// What was said of some flights in one week, in order.
#[derive(Clone)]
struct Week(Vec<Value>);

impl Week {
    fn read() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/flights/week.jsonl.gz");
        let unzipped = Command::new("gzip").arg("-dc").arg(file).output().expect("gzip runs");
        let lines = String::from_utf8(unzipped.stdout).expect("text");
        let flight = |line| serde_json::from_str::<Value>(line).expect("a record")["value"].take();
        Self(lines.lines().map(flight).collect())
    }

    /// Those of which there is a `time`, in its order, with `fields` alone.
    fn part(&self, time: &str, fields: &[&str]) -> Self {
        let mut known: Vec<_> = self.0.iter().filter(|flight| flight[time].is_i64()).collect();
        known.sort_by_key(|flight| flight[time].as_i64());
        let picked = |flight: &Value| -> Map<String, Value> {
            fields.iter().map(|field| ((*field).to_owned(), flight[*field].clone())).collect()
        };
        Self(known.into_iter().map(|flight| picked(flight).into()).collect())
    }

    /// Number `n`: behind the last of them the week begins again, a week later.
    fn nth(&self, n: u64) -> Value {
        let (round, place) = (n / self.0.len() as u64, n % self.0.len() as u64);
        let mut flight = self.0[place as usize].clone();
        flight["id"] = format!("{}/{round}", text(&flight, "id")).into();
        for time in ["sched", "dep", "landed"] {
            if let Some(ms) = flight[time].as_i64() {
                flight[time] = (ms + round as i64 * WEEK_MS).into();
            }
        }
        flight
    }

    fn first(&self, count: u64) -> Vec<Value> {
        (0..count).map(|n| self.nth(n)).collect()
    }
}

fn text<'f>(flight: &'f Value, field: &str) -> &'f str {
    flight[field].as_str().unwrap_or_default()
}

fn number(flight: &Value, field: &str) -> i64 {
    flight[field].as_i64().expect("a number")
}

fn route(flight: &Value) -> String {
    format!("{}-{}", text(flight, "origin"), text(flight, "dest"))
}

fn left(flight: &Value) -> bool {
    flight["dep"].is_i64()
}

/// A window's key and bounds, and what came of it.
type Windows = BTreeMap<(String, i64, i64), Value>;

/// What the aggregates of [`gathering`] are of these flights.
fn gathered(flights: &[&Value]) -> Value {
    let sum = |field: &str| flights.iter().map(|flight| number(flight, field)).sum::<i64>();
    let planes: BTreeSet<_> = flights.iter().map(|flight| text(flight, "tailnum")).collect();
    json!({ "flights": flights.len(), "scheduled": sum("sched"), "departed": sum("dep"), "planes": planes.len() })
}

/// Windows of one size that begin `advance` apart, of the flights that left.
fn aligned(flights: &[Value], (size, advance): (i64, i64), key: impl Fn(&Value) -> String) -> Windows {
    let mut windows: BTreeMap<_, Vec<&Value>> = BTreeMap::new();
    for flight in flights.iter().filter(|flight| left(flight)) {
        let mut start = number(flight, "sched").div_euclid(advance) * advance;
        while start + size > number(flight, "sched") {
            windows.entry((key(flight), start, start + size)).or_default().push(flight);
            start -= advance;
        }
    }
    windows.into_iter().map(|(window, flights)| (window, gathered(&flights))).collect()
}

/// Flights of a plane that left, no further apart than the gap.
fn sessions(flights: &[Value]) -> Windows {
    let mut planes: BTreeMap<_, Vec<&Value>> = BTreeMap::new();
    for flight in flights.iter().filter(|flight| left(flight)) {
        planes.entry(text(flight, "tailnum")).or_default().push(flight);
    }
    let sched = |flight: &&Value| number(flight, "sched");
    let mut windows = Windows::new();
    for (plane, mut flights) in planes {
        flights.sort_by_key(sched);
        for session in flights.chunk_by(|before, after| sched(after) - sched(before) <= GAP_MS) {
            let bounds = (sched(&session[0]), sched(&session[session.len() - 1]));
            windows.insert((plane.to_owned(), bounds.0, bounds.1), gathered(session));
        }
    }
    windows
}

/// The results in a topic. None is of a window that has one already.
fn results(topic: &str) -> Windows {
    let records = cluster().read_all_ended(topic);
    let mut windows = Windows::new();
    for record in &records {
        let mut result: Value = serde_json::from_str(record.text()).expect("a result is JSON");
        let result = result.as_object_mut().expect("an object");
        let (key, window) = (result.remove("key"), result.remove("window"));
        assert_eq!(key.as_ref().and_then(Value::as_str), Some(record.key_text()));
        let window = window.expect("a window");
        let name = (record.key_text().to_owned(), number(&window, "start"), number(&window, "end"));
        let before = windows.insert(name.clone(), Value::Object(result.clone()));
        assert_eq!(before, None, "{name:?} in {topic} gave a result before");
    }
    windows
}

#[track_caller]
fn assert_same(topic: &str, expected: &Windows) {
    let seen = results(topic);
    let differs = |(window, result): &(&_, &_)| expected.get(window) != Some(*result);
    let missing: Vec<_> = expected.keys().filter(|window| !seen.contains_key(window)).take(5).collect();
    let wrong: Vec<_> = seen
        .iter()
        .filter(differs)
        .map(|(window, seen)| (window, seen, expected.get(window)))
        .take(5)
        .collect();
    assert!(missing.is_empty() && wrong.is_empty(), "{topic}: missing {missing:?}, wrong {wrong:#?}");
}

/// A function of the flights that left, to which no time passes without flights.
fn gathering(flights: &str, stem: &str, window: Value) -> Stage {
    let stage = Stage::without_topics(cluster(), stem).with_short_sessions();
    cluster().create_topic(&stage.sink, 3, &[]);
    let source = json!({
        "topic": flights,
        "name": "flight",
        "format": "json",
        "filters": [{ "field": { "path": "/dep", "exists": true, "gt": 0 } }],
        "time": { "field": "/sched", "format": "ms" },
    });
    stage
        .with("/spec/sources/0", source)
        .with("/spec/sinks/0/format", json!("json"))
        .with("/spec/window", window)
        // A day's flights come in no order.
        .with("/spec/window/grace", json!("1d"))
        .with("/spec/window/idle", json!("10m"))
        .with(
            "/spec/window/aggregate",
            json!({
                "flights": { "op": "count" },
                "scheduled": { "op": "sum", "field": "/sched" },
                "departed": { "op": "sum", "field": "/dep" },
                "planes": { "op": "distinct", "field": "/tailnum" },
            }),
        )
}

/// Puts plan, departure and landing of each flight together.
fn stitching(topics: &[String; 3]) -> Stage {
    let stage = Stage::without_topics(cluster(), "flights-stitched").with_short_sessions();
    let incomplete = format!("{}.incomplete", stage.name);
    cluster().create_topic(&stage.sink, 3, &[]);
    cluster().create_topic(&incomplete, 1, &[]);
    let source = |topic: &String, name: &str, time: &str| {
        let time = json!({ "field": time, "format": "ms" });
        json!({ "topic": topic, "name": name, "format": "json", "key": { "fields": ["/id"] }, "time": time })
    };
    let [plans, departures, landings] = topics;
    let sources = json!([
        source(plans, "scheduled", "/sched"),
        source(departures, "departed", "/dep"),
        source(landings, "landed", "/landed"),
    ]);
    let sinks = json!([
        { "topic": stage.sink, "name": "flown", "format": "json" },
        { "topic": incomplete, "name": "incomplete", "format": "json" },
    ]);
    let window = json!({
        "stitch": { "within": "1d" },
        "grace": "1h",
        "idle": "10m",
        "onTimeout": { "action": "emit", "sink": "incomplete" },
    });
    stage.with("/spec/sources", sources).with("/spec/sinks", sinks).with("/spec/window", window)
}

/// What becomes of the stitches: of those that are complete, and of the others.
fn stitched(plans: &[Value], departures: &[Value], landings: &[Value]) -> [BTreeMap<String, Value>; 2] {
    let mut flights: BTreeMap<String, Value> = BTreeMap::new();
    for (name, events) in [("scheduled", plans), ("departed", departures), ("landed", landings)] {
        for event in events {
            let flight = flights.entry(text(event, "id").to_owned()).or_insert_with(|| json!({}));
            flight[name] = event.clone();
        }
    }
    let [mut complete, mut incomplete] = [BTreeMap::new(), BTreeMap::new()];
    for (id, mut flight) in flights {
        let is_missing = |name: &&str| flight.get(name).is_none();
        let missing: Vec<_> = ["scheduled", "departed", "landed"].into_iter().filter(is_missing).collect();
        if missing.is_empty() {
            complete.insert(id, flight);
        } else {
            flight["missing"] = json!(missing);
            incomplete.insert(id, flight);
        }
    }
    [complete, incomplete]
}

#[test]
fn the_week_comes_to_what_was_counted_plainly_whatever_befalls_the_workers() {
    let week = Week::read();
    assert_eq!(week.0.len(), 6099);
    let hourly = gathering("", "flights-hourly", json!({ "tumbling": { "size": "1h" } }))
        .with("/spec/sources/0/key", json!({ "fields": ["/carrier"] }));
    let flights = hourly.source.clone();
    let hourly = hourly.with("/spec/sources/0/topic", json!(flights));
    // By the records' keys: nothing is brought together.
    let hopping = json!({ "hopping": { "size": "6h", "advance": "2h" } });
    let routes = gathering(&flights, "flights-routes", hopping);
    let planes = gathering(&flights, "flights-planes", json!({ "session": { "gap": "6h" } }))
        .with("/spec/sources/0/key", json!({ "fields": ["/tailnum"] }));
    let topics = ["plans", "departures", "landings"].map(|what| format!("{flights}.{what}"));
    let stitches = stitching(&topics);
    let incomplete = format!("{}.incomplete", stitches.name);
    cluster().create_topic(&flights, 3, &[]);
    for (topic, partitions) in topics.iter().zip([3, 2, 4]) {
        cluster().create_topic(topic, partitions, &[]);
    }
    // All four run in each process.
    for stage in [&routes, &planes, &stitches] {
        stage.write_to(&hourly.manifest().join(format!("{}.yaml", stage.name)));
    }

    let sinks = [&hourly.sink, &routes.sink, &planes.sink, &stitches.sink];
    let followers = sinks.map(|sink| Follower::start(cluster(), sink));
    let parts = [
        week.part("sched", &["id", "carrier", "flight", "origin", "dest", "sched"]),
        week.part("dep", &["id", "tailnum", "dep"]),
        week.part("landed", &["id", "landed"]),
    ];
    let all = week.clone();
    let load = Load::start_with(cluster(), &flights, 6, move |n, _| {
        let flight = all.nth(n);
        let origin = ORIGINS.iter().position(|origin| *origin == text(&flight, "origin"));
        ToSend::new(route(&flight), flight.to_string()).to(origin.expect("one of three") as i32)
    });
    let loads = [0, 1, 2].map(|at: usize| {
        let part = parts[at].clone();
        Load::start_with(cluster(), &topics[at], 6, move |n, _| {
            // As other systems write them: by keys and to partitions of their own.
            ToSend::new(format!("{n}"), part.nth(n).to_string())
        })
    });
    let siege = Siege::lay_for(8, &hourly, &load, |dice| {
        let follower = &followers[dice.roll(followers.len())];
        follower.wait_for_more(1 + dice.roll(30), WITHIN);
    });
    let flown = week.first(load.finish());
    let counts = loads.map(Load::finish);
    // One more in each partition, for which all that was before has ended.
    let end = number(flown.last().expect("flights"), "sched") + 30 * DAY_MS;
    for (topic, partitions) in [&flights].into_iter().chain(&topics).zip([3, 3, 2, 4]) {
        cluster().produce(
            topic,
            (0..partitions).map(|partition| {
                let id = format!("end-{topic}-{partition}");
                let last = json!({ "id": id, "carrier": id, "tailnum": id, "sched": end, "dep": end, "landed": end });
                ToSend::new(id, last.to_string()).to(partition)
            }),
        );
    }
    let expected = [
        aligned(&flown, (HOUR_MS, HOUR_MS), |flight| text(flight, "carrier").to_owned()),
        aligned(&flown, (6 * HOUR_MS, 2 * HOUR_MS), route),
        sessions(&flown),
    ];
    let [complete, unfinished] =
        stitched(&parts[0].first(counts[0]), &parts[1].first(counts[1]), &parts[2].first(counts[2]));
    println!(
        "{} flights, windows {:?}, stitches {:?}",
        flown.len(),
        expected.each_ref().map(BTreeMap::len),
        (complete.len(), unfinished.len())
    );
    for (follower, windows) in followers.iter().zip(&expected) {
        follower.wait_for(windows.len(), WITHIN);
    }
    followers[3].wait_for(complete.len(), WITHIN);
    Follower::start(cluster(), &incomplete).wait_for(unfinished.len(), WITHIN);
    siege.raise();
    for (topic, windows) in sinks.into_iter().zip(&expected) {
        assert_same(topic, windows);
    }
    for (topic, stitches) in [(&stitches.sink, complete), (&incomplete, unfinished)] {
        let seen = results(topic).into_iter().map(|((id, ..), result)| (id, result));
        let seen: Vec<_> = seen.collect();
        assert_eq!(seen.len(), stitches.len(), "{topic}");
        let wrong = seen.into_iter().find(|(id, result)| stitches.get(id) != Some(result));
        assert_eq!(wrong, None, "{topic}");
    }
    for stage in [&hourly, &routes, &planes, &stitches] {
        assert!(stage.read_dead_letters().is_empty(), "{}", stage.name);
    }
}
