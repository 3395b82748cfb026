//! An alarm when a sensor goes quiet, and a word when it is back: state and a timer for each key.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_sdk::serde_json::json;
use tidemill_sdk::{
    Context, Done, Event, Failure, Fired, Handler, Key, OnTimer, Out, Outcome, Setup, State, Timer,
};

/// A sensor's last reading, and whether its alarm was given since.
#[derive(Serialize, Deserialize)]
struct Last {
    at_ms: i64,
    celsius: f64,
    is_quiet: bool,
}

const LAST: State<Last> = State::named("last");
const QUIET: Timer = Timer::named("quiet");
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
struct Reading {
    celsius: f64,
}

struct Watch;

impl Handler for Watch {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let Reading { celsius } = event.json()?;
        let at_ms = event.time_ms().ok_or_else(|| Failure::reject("a reading without a time"))?;
        if let Some(last) = ctx.get(&LAST)? {
            if at_ms <= last.at_ms {
                return Ok(Done::Skip); // an older one, overtaken on its way
            }
            // Event time only moves with readings: this one may come before the timer that it is too late for.
            let is_late = at_ms - last.at_ms >= PATIENCE.as_millis() as i64;
            if is_late && !last.is_quiet {
                alarm(&last, ctx)?;
            }
            if is_late || last.is_quiet {
                let back = json!({ "status": "back", "celsius": celsius, "quiet_ms": at_ms - last.at_ms });
                ctx.emit(Key::OfEvent, &back)?;
            }
        }
        ctx.put(&LAST, &Last { at_ms, celsius, is_quiet: false })?;
        ctx.timer(&QUIET, ctx.in_event_time(PATIENCE))?; // in place of that of the last reading
        Ok(Done::Ok)
    }
}

impl OnTimer for Watch {
    fn on_timer(&mut self, _: &Fired, ctx: &mut Context) -> Outcome {
        if let Some(last) = ctx.get(&LAST)? {
            alarm(&last, ctx)?;
            ctx.put(&LAST, &Last { is_quiet: true, ..last })?;
        }
        Ok(Done::Ok)
    }
}

/// Stamped with the moment at which the sensor should have spoken.
fn alarm(last: &Last, ctx: &mut Context) -> Result<(), Failure> {
    let alarm = json!({ "status": "quiet", "celsius": last.celsius, "since_ms": last.at_ms });
    ctx.send(Out::json(Key::OfEvent, &alarm)?.at(last.at_ms + PATIENCE.as_millis() as i64))
}

tidemill_sdk::export! { "quiet-sensor" => Watch }

#[cfg(test)]
mod tests {
    use tidemill_sdk::testing::{Given, Harness};

    use super::*;

    #[test]
    fn a_quiet_sensor_is_told_of_once_and_when_it_is_back() {
        let mut watch = Harness::<Watch>::new(()).with_timers().strict();
        let reading = |minute: i64| Given::json("s-1", &json!({ "celsius": 4.5 })).at(minute * 60_000);
        watch.expect_ok(reading(0));
        watch.expect_ok(reading(4));
        watch.advance_event_time(9 * 60_000);
        watch.expect_emit("s-1", &json!({ "status": "quiet", "celsius": 4.5, "since_ms": 240_000 }));
        watch.expect_ok(reading(11));
        watch.expect_emit("s-1", &json!({ "status": "back", "celsius": 4.5, "quiet_ms": 420_000 }));
        watch.expect_skip(reading(10));
        watch.expect_ok(reading(30)); // nobody else moved time meanwhile
        assert_eq!(watch.take_emitted().len(), 2);
    }
}
