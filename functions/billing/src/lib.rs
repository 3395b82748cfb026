//! A ride and its payment become an invoice for the rider: a stitch of two sources, and a table to look up.

use serde::{Deserialize, Serialize};
use tidemill_sdk::{Context, Done, Failure, Handler, OnWindow, Out, Outcome, Setup, Table, Window};

#[derive(Deserialize)]
struct Ride<'a> {
    rider: &'a str,
    fare_cents: u32,
}

#[derive(Deserialize)]
struct Payment<'a> {
    payment: &'a str,
    cents: u32,
}

/// What is known of a rider; other fields are passed over.
#[derive(Serialize, Deserialize)]
struct Profile {
    name: String,
    email: String,
}

#[derive(Serialize)]
struct Invoice<'a> {
    ride: &'a str,
    #[serde(flatten)]
    to: Profile,
    payment: &'a str,
    fare_cents: u32,
    tip_cents: u32,
}

const PROFILES: Table<Profile> = Table::named("profiles");

struct Billing;

impl Handler for Billing {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self)
    }
}

impl OnWindow for Billing {
    fn on_window(&mut self, window: &Window, ctx: &mut Context) -> Outcome {
        let Ride { rider, fare_cents } = window.one("ride")?.json()?;
        let Payment { payment, cents } = window.one("payment")?.json()?;
        let tip_cents = cents.checked_sub(fare_cents).ok_or_else(|| {
            Failure::reject_with_code("underpaid", format_args!("{cents} of {fare_cents} cents were paid"))
        })?;
        // Who has only just signed up may not be in the table yet.
        let profile = ctx.lookup(&PROFILES, rider)?;
        let to = profile.ok_or_else(|| Failure::retry(format_args!("no profile of {rider} yet")))?;
        let ride = window.key_str().unwrap_or_default();
        // By its name: otherwise it would go to `unpaid` as well.
        let invoice = Invoice { ride, to, payment, fare_cents, tip_cents };
        ctx.send(Out::json(window.key(), &invoice)?.to("invoices"))?;
        Ok(Done::Ok)
    }
}

tidemill_sdk::export! { "billing" => Billing }

#[cfg(test)]
mod tests {
    use tidemill_sdk::serde_json::json;
    use tidemill_sdk::testing::{Given, GivenWindow, Harness};

    use super::*;

    fn paid(cents: u32) -> GivenWindow {
        let ride = Given::json("car-4", &json!({ "ride": "r-1", "rider": "ada", "fare_cents": 2380 }));
        let payment = Given::json("p-1", &json!({ "payment": "p-1", "ride": "r-1", "cents": cents }));
        GivenWindow::of("r-1").event("ride", ride).event("payment", payment)
    }

    #[test]
    fn who_has_paid_gets_an_invoice_once_it_is_known_who_that_is() {
        let mut billing = Harness::<Billing>::new(()).strict();
        billing.expect_retry_window(paid(2500));
        billing.put_row(&PROFILES, "ada", &json!({ "name": "Ada", "email": "ada@example.com" }));
        billing.expect_ok_window(paid(2500));
        let invoice = json!({ "ride": "r-1", "name": "Ada", "email": "ada@example.com", "payment": "p-1",
            "fare_cents": 2380, "tip_cents": 120 });
        billing.expect_emit("r-1", &invoice);
        billing.expect_reject_window(paid(2379));
        billing.expect_nothing_more();
    }
}
