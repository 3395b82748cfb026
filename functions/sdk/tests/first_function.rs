//! A reward for every ride that is worth one.

use serde::{Deserialize, Serialize};
use tidemill_sdk::{Context, Done, Event, Failure, Handler, Outcome, Setup};

#[derive(Deserialize)]
struct Config {
    reward: String,
}

#[derive(Deserialize)]
struct Ride {
    rider: String,
}

#[derive(Serialize)]
struct Reward<'a> {
    rider: &'a str,
    reward: &'a str,
}

struct Loyalty {
    config: Config,
}

impl Handler for Loyalty {
    fn init(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self { config: setup.config()? })
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let ride: Ride = event.json()?; // not such a ride: a dead letter with the reason
        ctx.emit(&ride.rider, &Reward { rider: &ride.rider, reward: &self.config.reward })?;
        Ok(Done::Ok)
    }
}

tidemill_sdk::export! { "loyalty" => Loyalty }

#[cfg(test)]
mod tests {
    use tidemill_sdk::serde_json::json;
    use tidemill_sdk::testing::{Given, Harness};

    use super::*;

    #[test]
    fn a_ride_earns_a_coffee() {
        let mut loyalty = Harness::<Loyalty>::new(json!({ "reward": "coffee" })).strict();
        loyalty.expect_ok(Given::json("r-1", &json!({ "rider": "ada", "fareCents": 2380 })));
        loyalty.expect_emit("ada", &json!({ "rider": "ada", "reward": "coffee" }));
    }
}
