//! How long a visit was, once the visitor has done nothing for half an hour.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_sdk::{Context, Done, Event, Failure, Fired, Handler, OnTimer, Outcome, Setup, State, Timer};

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Visit {
    since_ms: i64,
    pages: u32,
}

const VISIT: State<Visit> = State::named("visit");
const GONE: Timer = Timer::named("gone");
const PATIENCE: Duration = Duration::from_secs(30 * 60);

struct Visits;

impl Handler for Visits {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let since_ms = event.time_ms().unwrap_or(ctx.now_ms());
        let visit = ctx.get(&VISIT)?.unwrap_or(Visit { since_ms, pages: 0 });
        ctx.put(&VISIT, &Visit { pages: visit.pages + 1, ..visit })?;
        ctx.timer(&GONE, ctx.in_event_time(PATIENCE))?; // and not when it was to fire before
        Ok(Done::Ok)
    }
}

impl OnTimer for Visits {
    fn on_timer(&mut self, fired: &Fired, ctx: &mut Context) -> Outcome {
        let visit = ctx.get(&VISIT)?;
        ctx.emit(fired.key(), &visit)?;
        ctx.delete(&VISIT)?;
        Ok(Done::Ok)
    }
}

tidemill_sdk::export! { "visits" => Visits }

#[cfg(test)]
mod tests {
    use tidemill_sdk::testing::{Given, Harness};

    use super::*;

    #[test]
    fn a_visit_ends_half_an_hour_after_the_last_page() {
        let mut visits = Harness::<Visits>::new(()).with_timers().strict();
        let minute = |n: i64| n * 60_000;
        visits.expect_ok(Given::text("ada", "/").at(minute(0)));
        visits.expect_ok(Given::text("ada", "/rides").at(minute(20)));
        visits.restart();
        visits.advance_event_time(minute(49));
        visits.expect_nothing_more();
        visits.expect_ok(Given::text("bob", "/").at(minute(50))); // time goes on for all keys
        visits.expect_emit("ada", &Visit { since_ms: 0, pages: 2 });
        assert_eq!(visits.state("ada", &VISIT), None);
    }
}
