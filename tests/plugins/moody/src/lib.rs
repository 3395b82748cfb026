//! A plugin for tests: handlers that go wrong in every way, and one that shows what it is given.

use std::time::Duration;

use serde::Deserialize;
use tidemill_sdk::serde_json::json;
use tidemill_sdk::{
    Context, Done, Event, Failure, Handler, Key, Level, OnWindow, Out, Outcome, Setup, Window,
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
        });
        ctx.emit(Key::OfEvent, &seen)?;
        ctx.send(Out::tombstone(Key::Null).at(42))?;
        Ok(Done::Ok)
    }
}

tidemill_sdk::export! {
    "moody" => Moody,
    "show" => fn show,
    "gather" => Gather,
}
