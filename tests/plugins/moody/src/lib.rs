//! A plugin for tests: handlers that go wrong in every way, and one that shows what it is given.

use std::time::Duration;

use serde::Deserialize;
use tidemill_sdk::serde_json::json;
use tidemill_sdk::{Context, Done, Event, Failure, Handler, Level, Out, Outcome, Setup};

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

tidemill_sdk::export! {
    "moody" => Moody,
    "show" => fn show,
}
