//! Payments go to one of two sinks: approved, or held for a person to review, with the reason.

use serde::Deserialize;
use tidemill_sdk::serde_json::value::RawValue;
use tidemill_sdk::{Context, Done, Event, Failure, Handler, Key, Out, Outcome, Setup};

/// The manifest's `config`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Payments above this are held.
    limit_cents: u64,
    /// ISO 3166 codes of countries whose payments are held.
    review_countries: Vec<String>,
}

/// What is looked at; the payment itself goes on as it came.
#[derive(Deserialize)]
struct Payment<'a> {
    amount_cents: u64,
    country: &'a str,
}

struct Screen {
    config: Config,
}

impl Handler for Screen {
    fn init(setup: &Setup) -> Result<Self, Failure> {
        Ok(Self { config: setup.config()? })
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let payment: Payment = event.json()?;
        let whole: &RawValue = event.json()?;
        let out = Out::json(Key::OfEvent, whole)?;
        let out = match self.reason_to_hold(&payment) {
            Some(reason) => out.to("review").header("reason", reason),
            None => out.to("approved"),
        };
        ctx.send(out)?;
        Ok(Done::Ok)
    }
}

impl Screen {
    fn reason_to_hold(&self, payment: &Payment) -> Option<&'static str> {
        if self.config.review_countries.iter().any(|country| country == payment.country) {
            return Some("country");
        }
        (payment.amount_cents > self.config.limit_cents).then_some("amount")
    }
}

tidemill_sdk::export! { "payment-screen" => Screen }

#[cfg(test)]
mod tests {
    use tidemill_sdk::serde_json::json;
    use tidemill_sdk::testing::{Given, Harness};

    use super::*;

    #[test]
    fn amount_and_country_decide() {
        let config = json!({ "limit_cents": 100, "review_countries": ["KP"] });
        let mut screen = Harness::<Screen>::new(config).strict();
        for (amount, country, sink, reason) in [
            (100, "DE", "approved", None),
            (101, "DE", "review", Some("amount")),
            (1, "KP", "review", Some("country")),
        ] {
            let payment = json!({ "amount_cents": amount, "country": country, "note": "kept" });
            screen.expect_ok(Given::json("a-1", &payment));
            let out = screen.expect_emit(Key::OfEvent, &payment);
            assert_eq!((out.sink.as_deref(), out.header("reason")), (Some(sink), reason));
        }
        screen.expect_reject(Given::json("a-1", &json!({ "amount_cents": -1, "country": "DE" })));
        screen.expect_nothing_more();
    }
}
