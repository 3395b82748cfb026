//! The handler of the `cloudevents` benchmark: decodes a ride, emits its receipt. It does as little
//! as a typed handler can, so that what is measured is the engine.

use serde::{Deserialize, Serialize};
use tidemill_sdk::{Context, Done, Event, Failure, Handler, Outcome, Setup};

#[derive(Deserialize)]
struct Ride<'a> {
    rider: &'a str,
    fare: f64,
    currency: &'a str,
}

#[derive(Serialize)]
struct Receipt<'a> {
    rider: &'a str,
    amount: f64,
    currency: &'a str,
}

struct Receipts;

impl Handler for Receipts {
    fn init(_setup: &Setup) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let Ride { rider, fare, currency } = event.json()?;
        ctx.emit(rider, &Receipt { rider, amount: fare, currency })?;
        Ok(Done::Ok)
    }
}

tidemill_sdk::export! { "receipts" => Receipts }
