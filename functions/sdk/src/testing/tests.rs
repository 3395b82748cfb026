//! The whole way of a call: author's types, shim, C tables, and back.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::{Done, Out};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    limit: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { limit: 100.0 }
    }
}

#[derive(Serialize, Deserialize)]
struct Payment {
    amount: f64,
    country: String,
}

struct Screen {
    limit: f64,
    calls: u32,
}

impl Handler for Screen {
    fn init(setup: &Setup) -> Result<Self, Failure> {
        setup.log(Level::Debug, format_args!("{} as {}", setup.function(), setup.handler()));
        Ok(Self { limit: setup.config::<Config>()?.limit, calls: 0 })
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        self.calls += 1;
        match event.text()? {
            "skip" => return Ok(Done::Skip),
            "hidden" => ctx.emit("calls", &self.calls)?,
            "panic" => panic!("the handler broke at call {}", self.calls),
            "later" => return Err(Failure::retry_after("limited", Duration::from_secs(3))),
            "coded" => return Err(Failure::reject("no rider").code("no-rider")),
            "io" => Err(std::io::Error::other("connection reset"))?,
            "gone" => ctx.emit_bytes(event.key(), None)?,
            "late" => ctx.send(Out::bytes(Key::Null, "x").at(-1))?,
            "half" => {
                ctx.emit("a", &1)?;
                return Err(Failure::retry("half way"));
            }
            _ => {
                let payment: Payment = event.json()?;
                let sink = if payment.amount > self.limit { "review" } else { "approved" };
                ctx.count(sink, 1);
                ctx.log(Level::Info, format_args!("attempt {}", ctx.attempt()));
                let out = Out::json(event.key(), &payment)?
                    .to(sink)
                    .header("key", ctx.idempotency_key())
                    .attribute("type", "com.example.screened")
                    .at(ctx.now_ms());
                ctx.send(out)?;
            }
        }
        Ok(Done::Ok)
    }
}

fn screen() -> Harness<Screen> {
    Harness::new(json!({ "limit": 50 }))
}

#[test]
fn an_output_carries_all_that_was_said_about_it() {
    let mut screen = screen();
    screen.advance(Duration::from_millis(7));
    let payment = json!({ "amount": 51.0, "country": "DE" });
    screen.expect_ok(Given::json("p", &payment).topic("payments").place(3, 41).attempt(2));
    let out = screen.expect_emit("p", &payment);
    assert_eq!(out.sink.as_deref(), Some("review"));
    assert_eq!(out.header("key"), Some("default/test/payments/3/41"));
    assert_eq!(out.attribute("type"), Some("com.example.screened"));
    assert_eq!(out.content_type.as_deref(), Some("application/json"));
    assert_eq!(out.time_ms, Some(START_MS + 7));
    assert_eq!(screen.counted("review"), 1);
    assert_eq!(screen.logged().last(), Some(&(Level::Info, "attempt 2".to_owned())));
    screen.expect_nothing_more();
}

#[test]
fn the_event_shows_what_it_came_with() {
    fn look(event: &Event, _: &mut Context) -> Outcome {
        assert_eq!(event.attribute("type"), Some("t"));
        assert_eq!(event.attribute("id"), None, "a CloudEvent has what it has");
        assert_eq!(event.header("n"), Some(&b"2"[..]), "the last one counts");
        assert_eq!(event.headers().map(|header| header.name).collect::<Vec<_>>(), ["ce_type", "n", "n"]);
        assert_eq!((event.source(), event.topic(), event.partition(), event.offset()), ("s", "s", 0, 0));
        assert_eq!((event.time_ms(), event.timestamp_ms()), (Some(5), Some(5)));
        assert_eq!((event.key(), event.key_str(), event.value()), (Some(&b"k"[..]), Some("k"), None));
        Ok(Done::Skip)
    }
    let given =
        Given::tombstone("k").source("s").attribute("type", "t").header("n", "1").header("n", "2").at(5);
    Harness::of(look).strict().expect_skip(given);
}

#[test]
fn events_that_are_no_cloudevents_have_made_up_attributes() {
    fn look(event: &Event, ctx: &mut Context) -> Outcome {
        let names = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "other"];
        ctx.emit(Key::OfEvent, &names.map(|name| event.attribute(name)))?;
        Ok(Done::Ok)
    }
    let mut harness = Harness::of(look);
    harness.expect_ok(Given::json("k", "v").source("s"));
    let time = "2026-01-01T00:00:00Z";
    harness.expect_emit(
        "k",
        &json!(["1.0", "s/0/0", "/topics/s", "dev.tidemill.record", "k", time, "application/json", null]),
    );
}

#[test]
fn each_way_to_end_a_call_arrives_as_it_was_meant() {
    let mut screen = screen();
    screen.expect_skip(Given::text("k", "skip"));
    let later = screen.expect_retry(Given::text("k", "later"));
    assert_eq!(*later.kind(), FailureKind::Retry(Some(Duration::from_secs(3))));
    let coded = screen.expect_reject(Given::text("k", "coded"));
    assert_eq!(*coded.kind(), FailureKind::Reject(Some("no-rider".into())));
    assert_eq!(screen.expect_retry(Given::text("k", "io")).message(), "connection reset");
    assert!(screen.expect_reject(Given::text("k", "{")).message().contains("expected JSON"));
    assert!(screen.expect_reject(Given::bytes("k", [0xff])).message().contains("UTF-8"));
    assert!(screen.expect_reject(Given::text("k", "late")).message().contains("timestamp"));
    screen.expect_nothing_more();
}

#[test]
fn a_failed_call_leaves_nothing() {
    let mut screen = screen();
    screen.expect_retry(Given::text("k", "half"));
    screen.expect_nothing_more();
}

#[test]
fn a_panic_becomes_a_failure_and_a_new_instance() {
    let mut screen = screen();
    screen.expect_skip(Given::text("k", "skip"));
    let failure = screen.send(Given::text("k", "panic")).unwrap_err();
    assert_eq!((failure.kind(), failure.message()), (&FailureKind::Panic, "the handler broke at call 2"));
    screen.expect_ok(Given::text("k", "hidden"));
    screen.expect_emit("calls", &1);
}

#[test]
fn a_tombstone_is_not_an_empty_value() {
    let mut screen = screen();
    screen.expect_ok(Given::text("k", "gone"));
    assert_eq!(screen.take_emitted()[0].value, None);
}

#[test]
fn config_is_checked_and_may_be_left_out() {
    assert!(Harness::<Screen>::try_new(()).is_ok());
    let failure = Harness::<Screen>::try_new(json!({ "limt": 1 })).err().unwrap();
    assert!(failure.message().starts_with("the manifest's `config`: unknown field `limt`"), "{failure}");
}

#[test]
#[should_panic(expected = "state hidden in `self`")]
fn a_strict_harness_finds_state_hidden_in_self() {
    let _ = screen().strict().send(Given::text("k", "hidden"));
}

#[test]
fn a_restart_forgets() {
    let mut screen = screen();
    for expected in [1, 2] {
        screen.expect_ok(Given::text("k", "hidden"));
        screen.expect_emit("calls", &expected);
    }
    screen.restart();
    screen.expect_ok(Given::text("k", "hidden"));
    screen.expect_emit("calls", &1);
}
