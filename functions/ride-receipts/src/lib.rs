//! Completed rides become receipts: the smallest whole function, and the one to copy from.

use serde::{Deserialize, Serialize};
use tidemill_sdk::{Context, Done, Event, Failure, Handler, Out, Outcome, Setup};

/// The manifest's `config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    vat_percent: u8,
}

/// What is read of a ride; other fields are passed over.
#[derive(Deserialize)]
struct Ride<'a> {
    ride: &'a str,
    rider: &'a str,
    fare_cents: i32,
    #[serde(default)]
    tip_cents: u32,
    currency: &'a str,
}

#[derive(Serialize)]
struct Receipt<'a> {
    ride: &'a str,
    rider: &'a str,
    total_cents: i64,
    vat_cents: i64,
    currency: &'a str,
}

struct Receipts {
    vat_percent: i64,
}

impl Handler for Receipts {
    fn init(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self { vat_percent: setup.config::<Config>()?.vat_percent.into() })
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let ride: Ride = event.json()?; // not the expected JSON: a dead letter with the reason
        if ride.fare_cents < 0 {
            let message = format_args!("the fare is negative: {} cents", ride.fare_cents);
            return Err(Failure::reject_with_code("negative-fare", message));
        }
        let total_cents = i64::from(ride.fare_cents) + i64::from(ride.tip_cents);
        if total_cents == 0 {
            return Ok(Done::Skip); // nothing was paid, so there is nothing to confirm
        }
        // The fare holds the tax, a tip is free of it; fractions of a cent are dropped.
        let vat_cents = i64::from(ride.fare_cents) * self.vat_percent / (100 + self.vat_percent);
        let Ride { ride, rider, currency, .. } = ride;
        let receipt = Receipt { ride, rider, total_cents, vat_cents, currency };
        ctx.send(Out::json(rider, &receipt)?.attribute("subject", ride))?;
        Ok(Done::Ok)
    }
}

tidemill_sdk::export! { "ride-receipts" => Receipts }

#[cfg(test)]
mod tests {
    use tidemill_sdk::serde_json::json;
    use tidemill_sdk::testing::{Given, Harness};

    use super::*;

    #[test]
    fn a_ride_becomes_a_receipt_or_a_reason() {
        let mut receipts = Harness::<Receipts>::new(json!({ "vat_percent": 19 })).strict();
        let ride = |fare: i64, tip: i64| json!({ "ride": "r-1", "rider": "ada", "fare_cents": fare, "tip_cents": tip, "currency": "EUR" });
        receipts.expect_ok(Given::json("ada", &ride(2380, 200)));
        let receipt = json!({ "ride": "r-1", "rider": "ada", "total_cents": 2580, "vat_cents": 380,
            "currency": "EUR" });
        assert_eq!(receipts.expect_emit("ada", &receipt).attribute("subject"), Some("r-1"));
        receipts.expect_skip(Given::json("ada", &ride(0, 0)));
        let failure = receipts.expect_reject(Given::json("ada", &ride(-5, 0)));
        assert_eq!(failure.message(), "the fare is negative: -5 cents");
        receipts.expect_nothing_more();
    }
}
