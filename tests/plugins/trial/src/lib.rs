//! The handler of the tests on a real broker: it does to each event what the event's headers ask for.
//!
//! | header | what happens |
//! |---|---|
//! | `sleep-ms` | the call takes so long |
//! | `fail` | so many calls fail, to be tried again |
//! | `panic` | so many calls panic |
//! | `abort` | so many calls end the process |
//! | `reject` | rejected, with the header's value as code |
//! | `size` | the output's value has so many bytes |
//! | `ahead-ms` | the output is stamped so far in the future |
//! | `count` | the output's value is how many events of the key have asked for this |
//! | `forget` | the key has no state any more |
//! | `event-timer-ms` | sets the timer `event` to so long after the event, in event time |
//! | `clock-timer-ms` | sets the timer `clock` to so long from now, by the wall clock |
//! | `cancel` | takes both timers back |
//! | `timer-fail` | so many calls of the key's timers fail, to be tried again |
//! | `timer-abort` | so many calls of the key's timers end the process |
//! | `timer-reject` | its timers are rejected, with the header's value as code |
//! | `lookup` | the output's value is what the table `table` has for the header's value |
//!
//! An event without any of these goes on as it came. A window does what its first event asks for, and else gives the values of
//! its events, joined by `+`. With `calls` in its config it adds a line
//! `topic/partition@offset attempt` to that file for each call, before anything else happens. While the file `outage`
//! of its config is there, all calls fail. With `mended: true` it rejects nothing any more, as if its author had mended
//! it. A timer that fires goes on as `name clock at`, and is noted among the calls as `key/name@at attempt`; a window as
//! `key/window@start attempt`.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_sdk::serde_json::Value;
use tidemill_sdk::{
    At, Context, Done, Event, Failure, Fired, Handler, OnTimer, OnWindow, OrFail as _, Out, Outcome, Setup,
    State, Table, Timer, Window,
};

const COUNT: State<u64> = State::named("count");
const LATER: State<Later> = State::named("later");
const EVENT: Timer = Timer::named("event");
const CLOCK: Timer = Timer::named("clock");
const TABLE: Table<Value> = Table::named("table");

/// What the key's timers are to do.
#[derive(Serialize, Deserialize, Default)]
struct Later {
    fail: u64,
    abort: u64,
    reject: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    calls: Option<String>,
    outage: Option<PathBuf>,
    #[serde(default)]
    mended: bool,
}

struct Trial {
    calls: Option<File>,
    outage: Option<PathBuf>,
    is_mended: bool,
}

impl Handler for Trial {
    fn init(setup: &Setup) -> Result<Self, Failure> {
        let Config { calls, outage, mended } = setup.config::<Config>()?;
        let open = |path| File::options().create(true).append(true).open(path);
        Ok(Self { calls: calls.map(open).transpose().or_reject()?, outage, is_mended: mended })
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let attempt = ctx.attempt();
        if let Some(calls) = &mut self.calls {
            let line = format!("{}/{}@{} {attempt}\n", event.topic(), event.partition(), event.offset());
            calls.write_all(line.as_bytes())?;
        }
        self.obey(event, attempt)?;
        set_timers(event, ctx)?;
        if let Some(value) = ask(event, ctx)? {
            ctx.emit_bytes(event.key(), value.as_bytes())?;
            return Ok(Done::Ok);
        }
        let size = asked(event, "size")?;
        let ahead = asked(event, "ahead-ms")?;
        if size.is_none() && ahead.is_none() {
            ctx.emit_bytes(event.key(), event.value())?;
            return Ok(Done::Ok);
        }
        let value = size.map_or_else(|| event.data().to_vec(), |size| vec![b'x'; size as usize]);
        let mut out = Out::bytes(event.key(), value);
        if let Some(ahead) = ahead {
            out = out.at(ctx.now_ms() + ahead as i64);
        }
        ctx.send(out)?;
        Ok(Done::Ok)
    }
}

impl OnWindow for Trial {
    fn on_window(&mut self, window: &Window, ctx: &mut Context) -> Outcome {
        if let Some(calls) = &mut self.calls {
            let (key, start, attempt) =
                (window.key_str().unwrap_or_default(), window.start_ms(), ctx.attempt());
            calls.write_all(format!("{key}/window@{start} {attempt}\n").as_bytes())?;
        }
        if let Some(first) = window.events().first() {
            self.obey(first, ctx.attempt())?;
        }
        let values: Vec<_> = window.events().iter().map(|event| event.data()).collect();
        ctx.emit_bytes(window.key(), values.join(&b'+').as_slice())?;
        Ok(Done::Ok)
    }
}

impl OnTimer for Trial {
    fn on_timer(&mut self, fired: &Fired, ctx: &mut Context) -> Outcome {
        let (at, attempt) = (fired.time_ms(), ctx.attempt());
        if let Some(calls) = &mut self.calls {
            let key = fired.key_str().unwrap_or_default();
            calls.write_all(format!("{key}/{}@{at} {attempt}\n", fired.name()).as_bytes())?;
        }
        self.fail_in_an_outage()?;
        let later = ctx.get(&LATER)?.unwrap_or_default();
        if u64::from(attempt) <= later.fail {
            return Err(Failure::retry(format_args!("call {attempt} of a timer fails as asked")));
        }
        if u64::from(attempt) <= later.abort {
            std::process::abort();
        }
        if let Some(code) = later.reject.filter(|_| !self.is_mended) {
            return Err(Failure::reject_with_code(code, "rejected as asked"));
        }
        let clock = match fired.at() {
            At::Event(_) => "event",
            At::Clock(_) => "clock",
        };
        ctx.emit_bytes(fired.key(), format!("{} {clock} {at}", fired.name()).as_bytes())?;
        Ok(Done::Ok)
    }
}

impl Trial {
    fn fail_in_an_outage(&self) -> Result<(), Failure> {
        if self.outage.as_ref().is_some_and(|file| file.exists()) {
            return Err(Failure::retry("the database is away"));
        }
        Ok(())
    }

    /// Does what the event's headers ask for, up to where the call ends well.
    fn obey(&self, event: &Event, attempt: u32) -> Result<(), Failure> {
        self.fail_in_an_outage()?;
        if let Some(millis) = asked(event, "sleep-ms")? {
            sleep(Duration::from_millis(millis));
        }
        if asked(event, "fail")?.is_some_and(|times| u64::from(attempt) <= times) {
            return Err(Failure::retry(format_args!("call {attempt} fails as asked")));
        }
        if asked(event, "panic")?.is_some_and(|times| u64::from(attempt) <= times) {
            panic!("call {attempt} panics as asked");
        }
        // The attempt is the process's only memory of those before.
        if asked(event, "abort")?.is_some_and(|times| u64::from(attempt) <= times) {
            std::process::abort();
        }
        if let Some(code) = event.header("reject").filter(|_| !self.is_mended) {
            return Err(Failure::reject_with_code(String::from_utf8_lossy(code), "rejected as asked"));
        }
        Ok(())
    }
}

/// Sets and takes back the timers that the event's headers ask for.
fn set_timers(event: &Event, ctx: &mut Context) -> Result<(), Failure> {
    let (fail, abort) = (asked(event, "timer-fail")?, asked(event, "timer-abort")?);
    let reject = event.header("timer-reject").map(|code| String::from_utf8_lossy(code).into_owned());
    if fail.is_some() || abort.is_some() || reject.is_some() {
        let (fail, abort) = (fail.unwrap_or_default(), abort.unwrap_or_default());
        ctx.put(&LATER, &Later { fail, abort, reject })?;
    }
    if let Some(millis) = asked(event, "event-timer-ms")? {
        ctx.timer(&EVENT, ctx.in_event_time(Duration::from_millis(millis)))?;
    }
    if let Some(millis) = asked(event, "clock-timer-ms")? {
        ctx.timer(&CLOCK, ctx.in_wall_time(Duration::from_millis(millis)))?;
    }
    if event.header("cancel").is_some() {
        ctx.cancel(&EVENT)?;
        ctx.cancel(&CLOCK)?;
    }
    Ok(())
}

/// What the key's state or the table answers, if the event's headers ask for it.
fn ask(event: &Event, ctx: &mut Context) -> Result<Option<String>, Failure> {
    if event.header("forget").is_some() {
        ctx.delete(&COUNT)?;
        ctx.delete(&LATER)?;
    }
    if event.header("count").is_some() {
        let count = ctx.get(&COUNT)?.unwrap_or_default() + 1;
        ctx.put(&COUNT, &count)?;
        return Ok(Some(count.to_string()));
    }
    let row = event.header("lookup").map(|key| ctx.lookup(&TABLE, key)).transpose()?;
    Ok(row.map(|row| row.unwrap_or_default().to_string()))
}

/// The number in a header.
fn asked(event: &Event, name: &str) -> Result<Option<u64>, Failure> {
    let number = |bytes: &[u8]| String::from_utf8_lossy(bytes).parse();
    event.header(name).map(number).transpose().or_reject()
}

#[expect(clippy::disallowed_methods, reason = "a call that takes long is what the test asks for")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

tidemill_sdk::export! { "trial" => Trial }

#[cfg(test)]
mod tests {
    use tidemill_sdk::serde_json::json;
    use tidemill_sdk::testing::{Given, Harness};

    use super::*;

    #[test]
    fn it_counts_and_sets_timers_as_asked() {
        let mut trial = Harness::<Trial>::new(json!({})).with_timers().strict();
        for count in 1..=2 {
            trial.expect_ok(Given::text("k", "x").header("count", ""));
            trial.expect_emit("k", &count);
        }
        trial.put_row(&TABLE, "row", &json!({ "a": 1 }));
        trial.expect_ok(Given::text("k", "x").header("lookup", "row"));
        trial.expect_emit("k", &json!({ "a": 1 }));
        let start = trial.now_ms();
        let both = Given::text("k", "x").header("event-timer-ms", "500").header("clock-timer-ms", "700");
        trial.expect_ok(both.clone());
        trial.advance(Duration::from_millis(700));
        trial.advance_event_time(start + 500);
        let told: Vec<String> = trial.take_emitted().iter().map(|emitted| emitted.text()).collect();
        assert_eq!(
            told,
            ["x", &format!("clock clock {}", start + 700), &format!("event event {}", start + 500)]
        );
        trial.expect_ok(both.header("timer-fail", "1"));
        assert!(trial.fire("k", &EVENT).is_err() && trial.fire("k", &EVENT).is_ok());
        trial.expect_ok(Given::text("k", "x").header("cancel", "").header("forget", ""));
        assert_eq!((trial.timer("k", &CLOCK), trial.state("k", &COUNT)), (None, None));
    }
}
