//! Flights that left late, with their carrier's name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_sdk::{Context, Done, Event, Failure, Handler, Out, Outcome, Setup};

/// The manifest's `config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// A departure is late from the next minute on.
    late_after_minutes: i64,
    /// Names by IATA code.
    carriers: BTreeMap<String, String>,
}

/// What is read of a flight. Times are milliseconds since the epoch.
#[derive(Deserialize)]
struct Flight<'a> {
    id: &'a str,
    carrier: &'a str,
    origin: &'a str,
    dest: &'a str,
    sched: i64,
    /// `None`: cancelled.
    dep: Option<i64>,
}

#[derive(Serialize)]
struct Delay<'a> {
    flight: &'a str,
    carrier: &'a str,
    carrier_name: &'a str,
    origin: &'a str,
    dest: &'a str,
    delay_minutes: i64,
}

struct Flights {
    config: Config,
}

impl Handler for Flights {
    fn init(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self { config: setup.config()? })
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let Flight { id: flight, carrier, origin, dest, sched, dep } = event.json()?;
        let Some(dep) = dep else {
            return Ok(Done::Skip);
        };
        let delay_minutes = dep.saturating_sub(sched) / 60_000;
        if delay_minutes <= self.config.late_after_minutes {
            return Ok(Done::Ok);
        }
        let Some(carrier_name) = self.config.carriers.get(carrier) else {
            return Err(Failure::reject_with_code(
                "unknown-carrier",
                format_args!("no name for {carrier:?}"),
            ));
        };
        let delay = Delay { flight, carrier, carrier_name, origin, dest, delay_minutes };
        ctx.send(Out::json(carrier, &delay)?.attribute("subject", flight).at(dep))?;
        Ok(Done::Ok)
    }
}

tidemill_sdk::export! { "flights" => Flights }

#[cfg(test)]
mod tests {
    use tidemill_sdk::serde_json::json;
    use tidemill_sdk::testing::{Given, Harness};

    use super::*;

    #[test]
    fn only_late_departures_are_told() {
        let config = json!({ "late_after_minutes": 30, "carriers": { "UA": "United Air Lines" } });
        let mut flights = Harness::<Flights>::new(config).strict();
        let flight = |carrier: &str, dep: Option<i64>| {
            let flight = json!({ "id": "f", "carrier": carrier, "origin": "EWR", "dest": "IAH", "sched": 0,
                "dep": dep });
            Given::json("f", &flight)
        };
        flights.expect_skip(flight("UA", None));
        flights.expect_ok(flight("UA", Some(30 * 60_000)));
        flights.expect_ok(flight("UA", Some(31 * 60_000)));
        let delay = json!({ "flight": "f", "carrier": "UA", "carrier_name": "United Air Lines",
            "origin": "EWR", "dest": "IAH", "delay_minutes": 31 });
        assert_eq!(flights.expect_emit("UA", &delay).time_ms, Some(31 * 60_000));
        flights.expect_reject(flight("ZZ", Some(31 * 60_000)));
        flights.expect_nothing_more();
    }
}
