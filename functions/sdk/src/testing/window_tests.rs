//! The whole way of a call with a window, as `tests.rs` has that of one with an event.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::export::{Probe, TakesNoWindows as _};
use crate::{FiredBy, Out, Window};

/// Does what the window's key says.
struct Till {
    calls: u32,
}

impl Handler for Till {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self { calls: 0 })
    }
}

impl OnWindow for Till {
    fn on_window(&mut self, window: &Window, ctx: &mut Context) -> Outcome {
        self.calls += 1;
        match window.key_str().unwrap_or("binary") {
            "show" => show(window, ctx)?,
            "skip" => return Ok(Done::Skip),
            "retry" => {
                ctx.emit("half", &1)?;
                return Err(Failure::retry_after("busy", Duration::from_secs(3)));
            }
            "reject" => return Err(Failure::reject("a till without money").code("no-money")),
            "panic" => panic!("the till broke at call {}", self.calls),
            "hidden" => ctx.emit("calls", &self.calls)?,
            "name" | "binary" => ctx.emit("name", &ctx.idempotency_key())?,
            "one" => ctx.emit(Key::OfEvent, &window.one("ride")?.offset())?,
            "aggregate" => {
                ctx.emit(Key::OfEvent, &window.aggregate::<i128>("total")?.to_string())?;
                ctx.emit(Key::OfEvent, &window.aggregate::<Option<f64>>("least")?)?;
                ctx.emit(Key::OfEvent, &window.aggregate::<&str>("last")?)?;
                ctx.emit(Key::OfEvent, &window.aggregates::<Totals>()?.total.to_string())?;
            }
            _ => ctx.emit(Key::OfEvent, &window.aggregates::<BTreeMap<String, u64>>()?)?,
        }
        Ok(Done::Ok)
    }
}

#[derive(Deserialize)]
struct Totals {
    total: i128,
}

/// Emits all that can be seen of a window.
fn show(window: &Window, ctx: &mut Context) -> Result<(), Failure> {
    let event = |event: &Event| {
        let headers: Vec<&str> = event.headers().map(|header| header.name).collect();
        json!([
            event.source(),
            event.offset(),
            event.text().unwrap(),
            event.key_str(),
            event.attribute("id"),
            headers
        ])
    };
    let seen = json!({
        "start": window.start_ms(), "end": window.end_ms(), "time": window.time_ms(),
        "fired": window.fired().as_str(), "missing": window.missing(), "attempt": ctx.attempt(),
        "events": window.events().iter().map(event).collect::<Vec<_>>(),
        "rides": window.all("ride").map(Event::offset).collect::<Vec<_>>(),
        "newest": window.all("ride").next_back().map(Event::offset),
        "get": window.get("ride").map(Event::offset), "promo": window.get("promo").is_some(),
    });
    ctx.send(Out::json(Key::OfEvent, &seen)?.to("here"))
}

fn till() -> Harness<Till> {
    Harness::new(())
}

fn at(time_ms: i64, text: &str) -> Given {
    Given::text("its own", text).at(time_ms)
}

#[test]
fn a_window_shows_what_it_was_given() {
    let mut till = till();
    let window = GivenWindow::of("show")
        .event("ride", at(900, "second").header("n", "1"))
        .event("payment", at(100, "payment").attribute("id", "p-1"))
        .event("ride", at(100, "first"))
        .bounds(-60_000, 60_000)
        .at(59_999)
        .fired(FiredBy::Timeout)
        .missing("promo")
        .missing("tip")
        .attempt(2);
    till.expect_ok_window(window);
    let seen = till.expect_emit(
        "show",
        &json!({
            "start": -60_000, "end": 60_000, "time": 59_999, "fired": "timeout", "missing": ["promo", "tip"],
            "attempt": 2, "rides": [2, 0], "newest": 0, "get": 2, "promo": false,
            "events": [
                ["payment", 1, "payment", "show", "p-1", ["ce_id"]],
                ["ride", 2, "first", "show", "ride/0/2", []],
                ["ride", 0, "second", "show", "ride/0/0", ["n"]],
            ],
        }),
    );
    assert_eq!(seen.sink.as_deref(), Some("here"));
    // What a window is not told it has from its events, or from the clock.
    till.expect_ok_window(GivenWindow::of("show").event("ride", at(7, "a")).event("ride", at(9, "b")));
    let seen: Value = till.take_emitted()[0].json();
    assert_eq!(
        [&seen["start"], &seen["end"], &seen["time"], &seen["rides"]],
        [&json!(7), &json!(9), &json!(9), &json!([3, 4])]
    );
    till.expect_ok_window(GivenWindow::of("show"));
    let seen: Value = till.take_emitted()[0].json();
    assert_eq!(
        [&seen["start"], &seen["fired"], &seen["get"]],
        [&json!(START_MS), &json!("close"), &Value::Null]
    );
    till.expect_nothing_more();
}

#[test]
fn one_event_of_a_source_is_neither_none_nor_two() {
    let mut till = till();
    let window = || GivenWindow::of("one").event("payment", at(0, "x"));
    assert_eq!(till.expect_reject_window(window()).message(), "the window has no event of `ride`");
    till.expect_ok_window(window().event("ride", at(1, "x").place(0, 41)));
    till.expect_emit("one", &41);
    let two = window().event("ride", at(1, "x")).event("ride", at(1, "x"));
    assert_eq!(till.expect_reject_window(two).message(), "the window has 2 events of `ride`, not one");
}

#[test]
fn aggregates_are_read_one_by_one_or_together() {
    let mut till = till();
    let huge = "170141183460469231731687303715884105727";
    let text = format!(r#"{{"least":null,"total":{huge},"last":"x"}}"#);
    let aggregates: Box<serde_json::value::RawValue> = serde_json::from_str(&text).unwrap();
    till.expect_ok_window(GivenWindow::of("aggregate").aggregates(&aggregates));
    for value in [json!(huge), json!(null), json!("x"), json!(huge)] {
        till.expect_emit("aggregate", &value);
    }
    till.expect_ok_window(GivenWindow::of("map").aggregates(&json!({ "rides": 3 })));
    till.expect_emit("map", &json!({ "rides": 3 }));
    for (window, message) in [
        (GivenWindow::of("aggregate"), "the window keeps its events"),
        (
            GivenWindow::of("aggregate").aggregates(&json!({ "b": 1, "a": 1 })),
            "no aggregate `total`, but a, b",
        ),
        (
            GivenWindow::of("aggregate").aggregates(&json!({ "total": "x" })),
            "the aggregate `total` is not of the",
        ),
        (
            GivenWindow::of("map").aggregates(&json!({ "rides": -1 })),
            "the aggregates are not of the expected",
        ),
    ] {
        let failure = till.expect_reject_window(window);
        assert!(failure.message().contains(message), "{failure}");
    }
    till.expect_nothing_more();
}

#[test]
fn each_way_to_end_a_call_with_a_window_arrives_as_it_was_meant() {
    let mut till = till();
    till.expect_skip_window(GivenWindow::of("skip"));
    let later = till.expect_retry_window(GivenWindow::of("retry"));
    assert_eq!(*later.kind(), FailureKind::Retry(Some(Duration::from_secs(3))));
    let coded = till.expect_reject_window(GivenWindow::of("reject"));
    assert_eq!(*coded.kind(), FailureKind::Reject(Some("no-money".into())));
    till.expect_nothing_more();
    let failure = till.send_window(GivenWindow::of("panic")).unwrap_err();
    assert_eq!((failure.kind(), failure.message()), (&FailureKind::Panic, "the till broke at call 4"));
    till.expect_ok_window(GivenWindow::of("hidden"));
    till.expect_emit("calls", &1);
}

#[test]
#[should_panic(expected = "the window delivered a second time gave another result")]
fn a_strict_harness_finds_state_hidden_between_windows() {
    let _ = till().strict().send_window(GivenWindow::of("hidden"));
}

#[test]
fn the_idempotency_key_is_the_windows_own() {
    let mut till = till();
    let mut name = |window: GivenWindow| -> String {
        till.expect_ok_window(window);
        till.take_emitted()[0].json()
    };
    let window = || GivenWindow::of("name").event("ride", at(1, "x").place(0, 1)).bounds(0, 60);
    let first = name(window());
    assert!(first.starts_with("default/test/name/0/60/"), "{first}");
    assert_eq!(first, name(window().attempt(2)), "in every attempt");
    for other in [
        window().event("ride", at(2, "x").place(0, 2)),
        GivenWindow::of("name").event("ride", at(1, "x").place(0, 2)).bounds(0, 60),
        GivenWindow::of("name").event("ride", at(1, "x").place(1, 1)).bounds(0, 60),
        window().fired(FiredBy::Update),
        window().bounds(0, 61),
        GivenWindow::of("name").bounds(0, 60).aggregates(&json!({ "rides": 1 })),
        GivenWindow::of("name").bounds(0, 60).aggregates(&json!({ "rides": 2 })),
    ] {
        assert_ne!(first, name(other));
    }
    let binary = name(GivenWindow::of([0xff, 0x01]).bounds(0, 60));
    assert!(binary.starts_with("default/test/ff01/0/60/"), "{binary}");
}

#[test]
fn a_handler_of_windows_needs_no_handle() {
    let failure = till().expect_reject(Given::text("k", "x"));
    assert!(failure.message().starts_with("this handler has no `handle`: "), "{failure}");
}

#[test]
fn whether_a_handler_takes_windows_is_found_out() {
    assert!(Probe::<Till>::ON_WINDOW.is_some());
    assert!(Probe::<Function>::ON_WINDOW.is_none());
}

#[test]
fn words_that_are_not_known_yet_are_no_error() {
    assert_eq!(FiredBy::of("close"), FiredBy::Close);
    assert_eq!(FiredBy::of("eclipse"), FiredBy::Other);
    assert_eq!(FiredBy::of("other"), FiredBy::Other);
}
