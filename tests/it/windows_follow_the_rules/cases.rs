//! The cases that are data: whole windows, assignment, sessions, and which windows are refused.

use serde_json::Value;

use super::{Bench, FAR, Given, IN_ALL, function};

const CASES: &str = include_str!("../data/windows/window_cases.json");
const ASSIGNMENT: &str = include_str!("../data/windows/assignment_and_validation.json");

/// A window of the expectations with the values of its events, and its newest event's time where the case has it.
type Content = (String, (i64, i64), Vec<String>, Option<i64>);

struct Case<'a> {
    json: &'a Value,
    kind: &'a str,
    input: &'a Vec<Value>,
}

impl Case<'_> {
    fn expected(&self, list_name: &str) -> Vec<Content> {
        let windows = list(&self.json["expect"][list_name]).iter();
        // Kafka Streams also has a sliding window that starts right after each event; Tidemill only those that end with one.
        let is_there = |window: &&Value| self.kind != "sliding" || window["max_ts"] == window["end"];
        let mut expected: Vec<Content> = windows
            .filter(is_there)
            .map(|window| {
                let values = list(&window["values"]).iter().map(text).collect();
                let bounds = (number(&window["start"]), number(&window["end"]));
                (text(&window["key"]), bounds, values, window.get("max_ts").map(number))
            })
            .collect();
        expected.sort();
        expected
    }

    fn content(&self, given: Vec<Given>) -> Vec<Content> {
        let content = |given: Given| {
            assert_eq!(given.count, given.events.len() as u64);
            let values = given.events.iter().map(|event| text(&self.input[*event]["value"])).collect();
            let newest = (self.kind != "session").then(|| self.newest(&given));
            (given.key, given.bounds, values, newest)
        };
        let mut content: Vec<Content> = given.into_iter().map(content).collect();
        content.sort();
        content
    }

    /// Takes out what Kafka Streams has not, windows that start before the epoch: they hold those of the first `events`
    /// that come before their end.
    fn without_negative(&self, given: Vec<Given>, events: usize) -> Vec<Given> {
        let (negative, others): (Vec<Given>, Vec<Given>) =
            given.into_iter().partition(|given| given.bounds.0 < 0);
        for given in negative {
            let is_in = |event: &usize| {
                let event = &self.input[*event];
                text(&event["key"]) == given.key && number(&event["ts"]) < given.bounds.1
            };
            assert_eq!(given.events, (0..events).filter(is_in).collect::<Vec<_>>(), "{given:?}");
            assert_ne!(self.kind, "sliding");
        }
        others
    }

    fn newest(&self, given: &Given) -> i64 {
        given.events.iter().map(|event| number(&self.input[*event]["ts"])).max().unwrap()
    }

    /// Closing: what is closed after each event, and what these windows hold.
    fn closes(&self, has_restarts: bool) {
        let mut bench = Bench::new(&manifest_of(&self.json["window"]));
        let mut closed = Vec::new();
        for (index, event) in self.input.iter().enumerate() {
            assert_eq!(
                bench.event(&text(&event["key"]), number(&event["ts"])),
                IN_ALL,
                "no case has late ones"
            );
            if has_restarts {
                bench.restart();
            }
            let now = self.without_negative(bench.results(), index + 1);
            if let Some(after_each) = self.json.get("closed_after_each") {
                let names =
                    now.iter().map(|Given { key, bounds, .. }| format!("{key} {} {}", bounds.0, bounds.1));
                let expected: Vec<String> = list(&after_each[index]).iter().map(text).collect();
                assert_eq!(names.collect::<Vec<_>>(), expected, "{}", self.json["id"]);
            }
            closed.extend(now);
        }
        for given in &closed {
            let is_end_out = matches!(self.kind, "tumbling" | "hopping");
            assert_eq!((given.fired.as_str(), given.time), ("close", given.bounds.1 - i64::from(is_end_out)));
        }
        assert_eq!(self.content(closed), self.expected("closed"), "{}", self.json["id"]);
    }

    /// With a result for every event, the last ones tell what is in the windows.
    fn updates(&self, has_restarts: bool) {
        let mut bench = Bench::new(&format!("{}, fire: {{at: update}}", manifest_of(&self.json["window"])));
        let mut last: Vec<Given> = Vec::new();
        for (index, event) in self.input.iter().enumerate() {
            assert_eq!(bench.event(&text(&event["key"]), number(&event["ts"])), IN_ALL);
            if has_restarts {
                bench.restart();
            }
            for given in self.without_negative(bench.results(), index + 1) {
                assert_eq!((given.fired.as_str(), given.time), ("update", self.newest(&given)));
                // It is the same window, or a session that has grown.
                let is_older = |older: &Given| {
                    let is_within = given.bounds.0 <= older.bounds.0 && older.bounds.1 <= given.bounds.1;
                    older.key == given.key && is_within
                };
                last.retain(|older| !is_older(older));
                last.push(given);
            }
        }
        assert_eq!(self.content(last), self.expected("final"), "{}", self.json["id"]);
    }
}

/// KStreamWindowAggregateTest, TimeWindowedKStreamImplTest, KStreamSlidingWindowAggregateTest,
/// KStreamSessionWindowAggregateProcessorTest (apache/kafka).
#[test]
fn every_window_case_of_kafka_streams_holds_across_restarts_too() {
    let cases: Value = serde_json::from_str(CASES).unwrap();
    let cases = list(&cases["cases"]);
    assert_eq!(cases.len(), 6);
    for json in cases {
        let kind = json["window"]["type"].as_str().unwrap();
        let case = Case { json, kind, input: list(&json["input"]) };
        assert_eq!(json["expect"]["late"], Value::Array(Vec::new()));
        for has_restarts in [false, true] {
            case.closes(has_restarts);
            case.updates(has_restarts);
        }
    }
}

/// TimeWindowTest, SlidingEventTimeWindowsTest, EventTimeSessionWindowsTest (apache/flink), TimeWindowsTest (apache/kafka).
#[test]
fn every_event_is_assigned_as_by_flink_and_kafka_streams() {
    let data: Value = serde_json::from_str(ASSIGNMENT).unwrap();
    let cases = list(&data["assignment"]);
    assert_eq!(cases.len(), 34);
    for case in cases {
        let mut window = case["window"].clone();
        let time = number(&case["ts"]);
        let windows = list(&case["windows"]).iter().map(pair);
        if window["type"] == "session" {
            // Flink's session [first, last + gap) is Tidemill's [first, last], open as long.
            let mut bench = Bench::new(&manifest_of(&window));
            assert_eq!(bench.event("a", time), IN_ALL);
            let (start, end) = windows.clone().next().unwrap();
            bench.watermark(end);
            assert_eq!(bench.bounds(), []);
            bench.watermark(end + 1);
            assert_eq!(bench.bounds(), [(start, end - number(&window["gap"]))], "{case}");
            continue;
        }
        // Windows are aligned to the epoch. Those of an offset are the same, seen from a shifted one; and since events
        // are not before the epoch, from one window later.
        let shift = number(&window["advance"]) - number(&window["offset"].take());
        let mut bench = Bench::new(&manifest_of(&window));
        assert_eq!(bench.event("a", time + shift), IN_ALL);
        bench.watermark(FAR);
        let expected: Vec<_> = windows.map(|(start, end)| (start + shift, end + shift)).collect();
        assert_eq!(bench.bounds(), expected, "{case}");
    }
}

/// Flink's windows here are spans of time; in events it is one every millisecond, no further apart than a gap of one.
/// (EventTimeSessionWindowsTest, apache/flink.)
#[test]
fn sessions_merge_as_in_flink() {
    let data: Value = serde_json::from_str(ASSIGNMENT).unwrap();
    let cases = list(&data["session_merge"]);
    assert_eq!(cases.len(), 3);
    for case in cases {
        let mut bench = Bench::new("session: {gap: 1ms}, grace: 1s");
        for (start, end) in list(&case["in"]).iter().map(pair) {
            (start..end).for_each(|time| assert_eq!(bench.event("a", time), IN_ALL));
        }
        bench.watermark(FAR);
        let expected: Vec<_> = list(&case["out"]).iter().map(pair).collect();
        let given: Vec<_> = bench.bounds().into_iter().map(|(first, last)| (first, last + 1)).collect();
        assert_eq!(given, expected, "{case}");
    }
}

/// A session `a` and the reach of an event, `b`: from a gap before it to a gap after it. (SessionWindowTest, apache/kafka.)
#[test]
fn sessions_overlap_as_in_kafka_streams() {
    let data: Value = serde_json::from_str(ASSIGNMENT).unwrap();
    let cases = list(&data["session_overlap"]);
    assert_eq!(cases.len(), 11);
    for case in cases {
        let ((first, last), (from, to)) = (pair(&case["a"]), pair(&case["b"]));
        // In half milliseconds, or the event in the middle of `b` would have no time.
        let (gap, middle) = (to - from, from + to);
        let mut bench = Bench::new(&format!("session: {{gap: {gap}ms}}, grace: 1s"));
        for time in (2 * first..2 * last).step_by(gap as usize).chain([2 * last]) {
            assert_eq!(bench.event("a", time), IN_ALL);
        }
        assert_eq!(bench.event("a", middle), IN_ALL);
        bench.watermark(FAR);
        assert_eq!(bench.results().len() == 1, case["overlap"] == true, "{case}");
    }
}

/// TimeWindowsTest, SessionWindowsTest, SlidingWindowsTest (apache/kafka), FixedWindowsTest (apache/beam),
/// SlidingEventTimeWindowsTest, EventTimeSessionWindowsTest (apache/flink).
#[test]
fn windows_of_no_sense_are_refused_as_elsewhere() {
    let data: Value = serde_json::from_str(ASSIGNMENT).unwrap();
    let cases = list(&data["window_spec_validation"]).iter();
    let mut tried = 0;
    for case in cases.filter(|case| case["spec"]["type"] != "join") {
        tried += 1;
        let written = manifest_of(&case["spec"]);
        // Kafka Streams takes a sliding window of no length.
        let is_valid = case["valid"] == true && written != "sliding: {size: 0ms}";
        match function(&written) {
            Ok(_) => assert!(is_valid, "{case}"),
            Err(errors) => {
                assert!(!is_valid, "{case}: {errors}");
                assert!(errors.contains("spec.window."), "for its own sake: {errors}");
            }
        }
    }
    assert_eq!(tried, 23);
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn pair(value: &Value) -> (i64, i64) {
    (number(&value[0]), number(&value[1]))
}

/// A window of the cases as the manifest has it. A length that is not given is none of this kind.
fn manifest_of(window: &Value) -> String {
    let length = |name: &str| {
        let given = window.get(name).filter(|length| !length.is_null());
        given.map(|length| format!("{name}: {length}ms"))
    };
    let kind = window["type"].as_str().unwrap();
    // A tumbling window advances by its size.
    let advance = length("advance").filter(|_| kind == "hopping");
    let offset = length("offset").filter(|_| window["offset"] != 0);
    let lengths: Vec<String> =
        [length("size"), advance, length("gap"), offset].into_iter().flatten().collect();
    let grace = length("grace").map_or_else(String::new, |grace| format!(", {grace}"));
    format!("{kind}: {{{}}}{grace}", lengths.join(", "))
}
