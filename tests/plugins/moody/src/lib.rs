//! A plugin for tests: handlers that go wrong in every way, and one that shows what it is given.

use std::time::Duration;

use serde::Deserialize;
use tidemill_sdk::serde_json::json;
use tidemill_sdk::{
    At, Context, Done, Event, Failure, Fired, Handler, Key, Level, OnTimer, OnWindow, Out, Outcome, Setup,
    State, Table, Timer, Window,
};

#[derive(Deserialize)]
#[serde(default)]
struct Config {
    init: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { init: "ok".to_owned() }
    }
}

/// Does what the event's text says.
struct Moody {
    calls: u32,
}

impl Handler for Moody {
    fn init(setup: &Setup) -> Result<Self, Failure> {
        match setup.config::<Config>()?.init.as_str() {
            "panic" => panic!("no good morning"),
            "reject" => Err(Failure::reject("never").code("no")),
            "retry" => Err(Failure::retry_after("not yet", Duration::from_millis(1500))),
            _ => Ok(Self { calls: 0 }),
        }
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        self.calls += 1;
        match event.text()? {
            "panic" => {
                ctx.emit("half", &1)?;
                panic!("broke at call {}", self.calls)
            }
            "odd panic" => std::panic::panic_any(Loud),
            "index" => {
                let calls = self.calls as usize;
                ctx.emit("never", &[1, 2][..calls + 9])?;
            }
            "skip" => return Ok(Done::Skip),
            "retry" => return Err(Failure::retry("busy")),
            "later" => return Err(Failure::retry_after("busy", Duration::from_secs(7))),
            "reject" => return Err(Failure::reject("bad").code("c")),
            "long" => return Err(Failure::reject("x".repeat(1 << 20))),
            "flood" => (0..1_000).for_each(|line| ctx.log(Level::Info, line)),
            "count" => {
                ctx.count("seen", 2);
                ctx.count("calls", 1);
                ctx.count("seen", 3);
            }
            _ => ctx.emit("calls", &self.calls)?,
        }
        Ok(Done::Ok)
    }
}

/// A panic payload that panics when it is dropped.
struct Loud;

impl Drop for Loud {
    fn drop(&mut self) {
        panic!("and again");
    }
}

/// Emits all that it can see of the event and the call.
fn show(event: &Event, ctx: &mut Context) -> Outcome {
    let headers: Vec<_> = event
        .headers()
        .map(|header| json!([header.name, header.value.map(String::from_utf8_lossy)]))
        .collect();
    let seen = json!({
        "source": event.source(), "topic": event.topic(), "partition": event.partition(),
        "offset": event.offset(), "time": event.time_ms(), "timestamp": event.timestamp_ms(),
        "key": event.key_str(), "null": event.value().is_none(), "text": event.text()?,
        "content_type": event.content_type(), "headers": headers,
        "id": event.attribute("id"), "at": event.attribute("time"), "none": event.attribute("none"),
        "function": ctx.function(), "now": ctx.now_ms(), "deadline": ctx.deadline_ms(),
        "attempt": ctx.attempt(), "idempotency_key": ctx.idempotency_key(),
    });
    ctx.send(Out::json(event.key(), &seen)?.to("here").header("h", "1").attribute("type", "t").at(42))?;
    Ok(Done::Ok)
}

/// Does what the window's key says; without such a word emits all that it can see of the window and the call.
struct Gather {
    calls: u32,
}

impl Handler for Gather {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self { calls: 0 })
    }
}

impl OnWindow for Gather {
    fn on_window(&mut self, window: &Window, ctx: &mut Context) -> Outcome {
        self.calls += 1;
        ctx.emit("half", &self.calls)?;
        match window.key_str() {
            Some("panic") => panic!("broke at call {}", self.calls),
            Some("skip") => return Ok(Done::Skip),
            Some("later") => return Err(Failure::retry_after("busy", Duration::from_secs(7))),
            Some("reject") => return Err(Failure::reject("bad").code("c")),
            Some("calls") => return Ok(Done::Ok),
            _ => {}
        }
        let event = |event: &Event| {
            let headers: Vec<&str> = event.headers().map(|header| header.name).collect();
            json!([event.source(), event.offset(), event.key_str(), event.attribute("id"), headers])
        };
        let seen = json!({
            "key": window.key(), "start": window.start_ms(), "end": window.end_ms(), "time": window.time_ms(),
            "fired": window.fired().as_str(), "events": window.events().iter().map(event).collect::<Vec<_>>(),
            "rides": window.aggregate::<u64>("rides").ok(), "missing": window.missing(),
            "function": ctx.function(), "now": ctx.now_ms(), "deadline": ctx.deadline_ms(),
            "attempt": ctx.attempt(), "idempotency_key": ctx.idempotency_key(),
            "watermark": ctx.watermark_ms(), "note": ctx.get(&NOTE).ok(),
        });
        ctx.emit(Key::OfEvent, &seen)?;
        ctx.send(Out::tombstone(Key::Null).at(42))?;
        Ok(Done::Ok)
    }
}

/// How often the key was counted; expires on its own terms.
const COUNT: State<u64> = State::named("count").expires_after(Duration::from_millis(1500));
/// The same, as another version of the handler would have it.
const WORD: State<String> = State::named("count");
const NOTE: State<String> = State::named("note");
const QUIET: Timer = Timer::named("quiet");
const PROFILES: Table<String> = Table::named("profiles");
const STOCK: Table<u64> = Table::named("stock");

/// Does to its key what the event's text says.
struct Clerk;

impl Handler for Clerk {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        match event.text()? {
            "count" => {
                let count = ctx.get(&COUNT)?.unwrap_or_default() + 1;
                ctx.put(&COUNT, &count)?;
                ctx.emit(Key::OfEvent, &count)?;
            }
            "own" => {
                ctx.put(&NOTE, &"new".to_owned())?;
                ctx.emit(Key::OfEvent, &ctx.get(&NOTE)?)?;
                ctx.delete(&NOTE)?;
                ctx.emit(Key::OfEvent, &ctx.get(&NOTE)?)?;
            }
            "half" => {
                ctx.put(&COUNT, &7)?;
                ctx.timer(&QUIET, At::Event(7))?;
                return Err(Failure::retry("half way"));
            }
            "word" => ctx.emit(Key::OfEvent, &ctx.get(&WORD)?)?,
            "timers" => {
                ctx.timer(&QUIET, ctx.in_event_time(Duration::from_secs(300)))?;
                ctx.timer(&QUIET, ctx.in_wall_time(Duration::from_secs(2)))?;
                ctx.cancel(&QUIET)?;
            }
            "before" => ctx.timer(&QUIET, At::Event(-1))?,
            "lookup" => {
                let seen = [ctx.lookup(&PROFILES, Key::OfEvent)?, ctx.lookup(&PROFILES, "none")?];
                ctx.emit(Key::OfEvent, &seen)?;
            }
            "no key" => ctx.emit(Key::OfEvent, &ctx.lookup(&PROFILES, Key::Null)?)?,
            "other" => ctx.emit(Key::OfEvent, &ctx.lookup(&PROFILES, "other")?)?,
            "no table" => ctx.emit(Key::OfEvent, &ctx.lookup(&STOCK, "k")?)?,
            "row" => ctx.emit(Key::OfEvent, &ctx.lookup(&Table::<u64>::named("profiles"), "k")?)?,
            "watermark" => ctx.emit(Key::OfEvent, &ctx.watermark_ms())?,
            _ => return Err(Failure::stop("nothing can go on")),
        }
        Ok(Done::Ok)
    }
}

impl OnTimer for Clerk {
    fn on_timer(&mut self, fired: &Fired, ctx: &mut Context) -> Outcome {
        let seen = json!({
            "quiet": fired.is(&QUIET), "name": fired.name(), "key": fired.key(), "text": fired.key_str(),
            "event": fired.at() == At::Event(fired.time_ms()), "at": fired.time_ms(),
            "count": ctx.get(&COUNT)?, "watermark": ctx.watermark_ms(), "attempt": ctx.attempt(),
            "idempotency_key": ctx.idempotency_key(),
        });
        ctx.emit(Key::OfEvent, &seen)?;
        ctx.send(Out::tombstone(Key::Null).at(42))?;
        ctx.delete(&COUNT)?;
        match fired.key_str() {
            Some("panic") => panic!("broke"),
            Some("skip") => Ok(Done::Skip),
            Some("reject") => Err(Failure::reject("bad")),
            _ => {
                ctx.timer(&QUIET, ctx.in_event_time(Duration::from_secs(1)))?;
                Ok(Done::Ok)
            }
        }
    }
}

tidemill_sdk::export! {
    "moody" => Moody,
    "show" => fn show,
    "gather" => Gather,
    "clerk" => Clerk,
}
