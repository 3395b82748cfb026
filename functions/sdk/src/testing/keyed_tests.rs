//! State, timers and tables, the whole way: typed constants, shim, C tables, memory, and back.

use std::cell::RefCell;
use std::ptr;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::export::{Probe, TakesNoTimers as _, TakesNoWindows as _};
use crate::{At, Fired, OnTimer, State, Table, Timer, Window};

const COUNT: State<u64> = State::named("count");
const BRIEF: State<u64> = State::named("brief").expires_after(Duration::from_secs(10));
const QUIET: Timer = Timer::named("quiet");
const WALL: Timer = Timer::named("wall");
const PROFILES: Table<String> = Table::named("profiles");

const SECOND: Duration = Duration::from_secs(1);

/// Does what the event's text says.
struct Shop {
    calls: u64,
}

impl Handler for Shop {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self { calls: 0 })
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        self.calls += 1;
        match event.text()? {
            "count" => {
                let count = ctx.get(&COUNT)?.unwrap_or_default() + 1;
                ctx.put(&COUNT, &count)?;
                assert_eq!(ctx.get(&COUNT)?, Some(count), "a call sees what it did");
            }
            "delete" => {
                ctx.delete(&COUNT)?;
                assert_eq!(ctx.get(&COUNT)?, None, "a call sees what it did");
            }
            "brief" => ctx.put(&BRIEF, &1)?,
            "fail" | "skip" => {
                ctx.put(&COUNT, &99)?;
                ctx.timer(&QUIET, ctx.in_event_time(SECOND))?;
                ctx.cancel(&WALL)?;
                return if event.data() == b"skip" {
                    Ok(Done::Skip)
                } else {
                    Err(Failure::retry("half way"))
                };
            }
            "quiet" => ctx.timer(&QUIET, ctx.in_event_time(60 * SECOND))?,
            "wall" => ctx.timer(&WALL, ctx.in_wall_time(60 * SECOND))?,
            "cancel" => ctx.cancel(&QUIET)?,
            "hidden" => ctx.put(&COUNT, &self.calls)?,
            "watermark" => ctx.emit(Key::OfEvent, &ctx.watermark_ms())?,
            _ => ctx.emit(Key::OfEvent, &ctx.lookup(&PROFILES, Key::OfEvent)?)?,
        }
        Ok(Done::Ok)
    }
}

impl OnTimer for Shop {
    fn on_timer(&mut self, fired: &Fired, ctx: &mut Context) -> Outcome {
        ctx.emit(Key::OfEvent, &json!([fired.name(), fired.time_ms() - START_MS, ctx.attempt()]))?;
        match fired.key_str() {
            Some("fails") if ctx.attempt() < 3 => return Err(Failure::retry("not yet")),
            Some("skips") => return Ok(Done::Skip),
            Some("again") => ctx.timer(&QUIET, ctx.in_event_time(SECOND))?,
            Some("for ever") => ctx.timer(&QUIET, fired.at())?,
            _ => {}
        }
        Ok(Done::Ok)
    }
}

fn shop() -> Harness<Shop> {
    Harness::new(()).with_timers()
}

fn say(shop: &mut Harness<Shop>, key: &str, text: &str) {
    shop.expect_ok(Given::text(key, text));
}

/// Key, name and time of the timers that fired.
fn fired(shop: &mut Harness<Shop>) -> Vec<(String, String, i64)> {
    let told = |emitted: &Emitted| {
        let [name, at, _]: [Value; 3] = emitted.json();
        let key = emitted.key_str().unwrap_or_default().to_owned();
        (key, name.as_str().unwrap_or_default().to_owned(), at.as_i64().unwrap_or_default())
    };
    shop.take_emitted().iter().map(told).collect()
}

fn one(key: &str, name: &str, at: i64) -> (String, String, i64) {
    (key.to_owned(), name.to_owned(), at)
}

#[test]
fn each_key_keeps_its_own_state_through_restarts() {
    let mut shop = shop().strict();
    for _ in 0..2 {
        say(&mut shop, "ada", "count");
        shop.restart();
    }
    say(&mut shop, "bob", "count");
    let found = ["ada", "bob", "cem"].map(|key| shop.state(key, &COUNT));
    assert_eq!(found, [Some(2), Some(1), None]);
    say(&mut shop, "ada", "delete");
    assert_eq!(shop.state("ada", &COUNT), None);
}

#[test]
fn a_call_that_does_not_end_well_has_done_nothing_to_its_key() {
    let mut shop = shop();
    say(&mut shop, "ada", "count");
    say(&mut shop, "ada", "wall");
    shop.expect_retry(Given::text("ada", "fail"));
    shop.expect_skip(Given::text("ada", "skip"));
    assert_eq!((shop.state("ada", &COUNT), shop.timer("ada", &QUIET)), (Some(1), None));
    assert_eq!(shop.timer("ada", &WALL), Some(At::Clock(START_MS + 60_000)));
}

#[test]
#[should_panic(expected = "the event delivered a second time gave another result: state hidden in `self`?")]
fn a_strict_harness_looks_at_what_is_done_to_the_key() {
    let _ = shop().strict().send(Given::text("k", "hidden"));
}

#[test]
fn what_expires_is_gone_when_event_time_has_come_so_far() {
    let mut shop = shop();
    say(&mut shop, "ada", "brief");
    shop.advance(60 * SECOND);
    assert_eq!(shop.state("ada", &BRIEF), Some(1), "the clock makes nothing older");
    shop.advance_event_time(START_MS + 9_999);
    assert_eq!(shop.state("ada", &BRIEF), Some(1));
    shop.advance_event_time(START_MS + 10_000);
    assert_eq!(shop.state("ada", &BRIEF), None);
}

#[test]
fn a_timer_in_event_time_fires_when_events_have_come_so_far() {
    let mut shop = shop().strict();
    say(&mut shop, "ada", "quiet");
    shop.advance(600 * SECOND);
    shop.expect_ok(Given::text("bob", "count").at(START_MS + 59_999));
    shop.expect_nothing_more();
    // Its own event comes first, and sets it anew.
    shop.expect_ok(Given::text("ada", "quiet").at(START_MS + 60_000));
    shop.expect_nothing_more();
    shop.expect_ok(Given::text("bob", "count").at(START_MS + 120_000));
    assert_eq!(fired(&mut shop), [one("ada", "quiet", 120_000)]);
    assert_eq!(shop.timer("ada", &QUIET), None);
    shop.advance_event_time(START_MS);
    assert_eq!(shop.watermark_ms(), Some(START_MS + 120_000), "it never goes back");
    shop.expect_ok(Given::text("ada", "watermark").at(0));
    shop.expect_emit("ada", &(START_MS + 120_000));
}

#[test]
fn a_timer_of_an_event_without_a_time_counts_from_now() {
    let mut shop = shop();
    shop.advance(SECOND);
    shop.expect_ok(Given::text("ada", "quiet").at(-1));
    assert_eq!(shop.timer("ada", &QUIET), Some(At::Event(START_MS + 61_000)));
    assert_eq!(shop.watermark_ms(), None);
}

#[test]
fn an_event_that_is_not_done_with_moves_no_time() {
    let mut shop = shop();
    shop.expect_retry(Given::text("ada", "fail"));
    assert_eq!(shop.watermark_ms(), None);
    shop.expect_reject(Given::bytes("ada", [0xff]));
    assert_eq!(shop.watermark_ms(), Some(START_MS));
}

#[test]
fn timers_by_the_wall_clock_fire_first_and_the_earliest_of_a_kind() {
    let mut shop = shop();
    for key in ["bob", "ada"] {
        say(&mut shop, key, "quiet");
        say(&mut shop, key, "wall");
    }
    shop.advance(SECOND);
    say(&mut shop, "cem", "wall");
    shop.expect_ok(Given::text("again", "quiet").at(START_MS - 1_500));
    // While nothing ran.
    shop.keys.watermark_ms = Some(START_MS + 60_000);
    shop.advance(600 * SECOND);
    let expected = [
        one("ada", "wall", 60_000),
        one("bob", "wall", 60_000),
        one("cem", "wall", 61_000),
        one("again", "quiet", 58_500),
        one("again", "quiet", 59_500),
        one("ada", "quiet", 60_000),
        one("bob", "quiet", 60_000),
    ];
    assert_eq!(fired(&mut shop), expected);
    assert_eq!(shop.timer("again", &QUIET), Some(At::Event(START_MS + 60_500)));
}

#[test]
fn a_timer_that_is_taken_back_does_not_fire() {
    let mut shop = shop();
    say(&mut shop, "ada", "quiet");
    say(&mut shop, "ada", "cancel");
    shop.advance_event_time(i64::MAX);
    shop.expect_nothing_more();
}

#[test]
fn a_timer_that_failed_stays_set_and_is_called_again() {
    let mut shop = shop();
    say(&mut shop, "fails", "quiet");
    for _ in 0..2 {
        assert_eq!(*shop.fire("fails", &QUIET).unwrap_err().kind(), FailureKind::Retry(None));
        assert_eq!(shop.timer("fails", &QUIET), Some(At::Event(START_MS + 60_000)));
    }
    shop.expect_nothing_more();
    assert_eq!(shop.fire("fails", &QUIET), Ok(Done::Ok));
    shop.expect_emit("fails", &json!(["quiet", 60_000, 3]));
    assert_eq!(shop.timer("fails", &QUIET), None);
    say(&mut shop, "skips", "quiet");
    assert_eq!(shop.fire("skips", &QUIET), Ok(Done::Skip));
    assert_eq!(shop.timer("skips", &QUIET), None);
    shop.expect_nothing_more();
}

#[test]
#[should_panic(
    expected = "the timer `quiet` of the key `fails` failed: not yet; to look at failures use `fire`"
)]
fn a_failure_of_a_timer_is_not_passed_over() {
    let mut shop = shop();
    say(&mut shop, "fails", "quiet");
    shop.advance_event_time(i64::MAX);
}

#[test]
#[should_panic(expected = "does one set itself to a time that has come?")]
fn timers_that_fire_for_ever_are_found() {
    let mut shop = shop();
    say(&mut shop, "for ever", "quiet");
    shop.advance_event_time(i64::MAX);
}

#[test]
#[should_panic(expected = "the key `ada` has no timer `quiet` set")]
fn a_timer_that_is_not_set_cannot_fire() {
    let _ = shop().fire("ada", &QUIET);
}

#[test]
#[should_panic(expected = "make the harness with `.with_timers()`")]
fn a_harness_without_timers_says_how_to_have_them() {
    let _ = Harness::<Shop>::new(()).send(Given::text("ada", "quiet"));
}

#[test]
#[should_panic(expected = "state for an event without a key")]
fn an_event_without_a_key_has_no_state() {
    let _ = shop().send(Given::text(Key::Null, "count"));
}

#[test]
fn a_table_has_the_rows_that_the_test_gives_it() {
    let mut shop = shop();
    shop.put_row(&PROFILES, "ada", "gold");
    for (key, row) in [("ada", json!("gold")), ("bob", json!(null))] {
        say(&mut shop, key, "lookup");
        shop.expect_emit(key, &row);
    }
    shop.delete_row(&PROFILES, "ada");
    say(&mut shop, "ada", "lookup");
    shop.expect_emit("ada", &json!(null));
    shop.put_row(&PROFILES, "ada", &7);
    let failure = shop.expect_reject(Given::text("ada", "lookup"));
    assert!(failure.message().starts_with("a row of the table `profiles` is not of the expected shape"));
}

#[test]
fn a_value_of_another_shape_stops_and_stays() {
    const OLD: State<String> = State::named("count");
    let mut shop = shop();
    shop.put_state("ada", &OLD, &"three".to_owned());
    let failure = shop.expect_stop(Given::text("ada", "count"));
    assert!(failure.message().contains("let the handler read what it once kept"), "{failure}");
    assert_eq!(shop.state("ada", &OLD).as_deref(), Some("three"));
}

/// Takes windows and timers.
struct Both;

impl Handler for Both {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self)
    }
}

impl OnWindow for Both {
    fn on_window(&mut self, window: &Window, ctx: &mut Context) -> Outcome {
        ctx.put(&COUNT, &(window.events().len() as u64))?;
        ctx.timer(&QUIET, ctx.in_event_time(SECOND))?;
        Ok(Done::Ok)
    }
}

impl OnTimer for Both {
    fn on_timer(&mut self, _: &Fired, ctx: &mut Context) -> Outcome {
        ctx.emit(Key::OfEvent, &ctx.get(&COUNT)?)?;
        Ok(Done::Ok)
    }
}

#[test]
fn windows_and_timers_of_a_key_share_its_state() {
    let mut both = Harness::<Both>::new(()).with_timers().strict();
    both.expect_ok_window(GivenWindow::of("ada").event("ride", Given::text("r", "x")).at(START_MS));
    both.advance_event_time(START_MS + 1_000);
    both.expect_emit("ada", &1);
}

#[test]
fn what_a_handler_takes_is_found_out() {
    assert!(Probe::<Shop>::ON_TIMER.is_some() && Probe::<Shop>::ON_WINDOW.is_none());
    assert!(Probe::<Both>::ON_TIMER.is_some() && Probe::<Both>::ON_WINDOW.is_some());
    assert!(Probe::<Function>::ON_TIMER.is_none() && Probe::<Function>::ON_WINDOW.is_none());
}

thread_local! {
    /// What the handler told a host that knows nothing of state.
    static TOLD: RefCell<String> = const { RefCell::new(String::new()) };
}

unsafe extern "C" fn listen(_: *mut c_void, failure: *const abi::Failure) {
    // SAFETY: the contract: a failure that lives until this returns.
    let message = unsafe { (*failure).message.bytes() }.unwrap_or_default();
    TOLD.set(String::from_utf8_lossy(message).into_owned());
}

#[test]
fn a_tidemill_from_before_there_was_state_is_told_apart() {
    fn count(_: &Event, ctx: &mut Context) -> Outcome {
        assert_eq!(ctx.watermark_ms(), None);
        ctx.put(&COUNT, &1)?;
        Ok(Done::Ok)
    }
    let harness = Harness::of(count);
    let host = abi::Host { size: abi::Host::FIRST_SIZE as u32, fail: listen, ..host::HOST };
    let call = abi::Call {
        size: std::mem::offset_of!(abi::Call, watermark_ms) as u32,
        version: abi::VERSION,
        host: &host,
        context: ptr::null_mut(),
        function: abi::Slice::of(b"default/f"),
        now_ms: 0,
        deadline_ms: 1,
        attempt: 1,
        reserved: 0,
        watermark_ms: 7,
    };
    let event = host::event_table(&Given::text("k", "x").placed(0, 0), Some(b"k"));
    let handle = harness.table.handle.unwrap();
    // SAFETY: the table is this crate's, the instance its own, and all that is passed lives until it returns.
    let status = unsafe { handle(harness.instance, &event, &call) };
    assert_eq!(status, abi::RETRY, "it does not know `stop`");
    let told = TOLD.take();
    assert!(told.starts_with("this tidemill is older than the handler"), "{told}");
}
