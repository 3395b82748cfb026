//! An order reserves its goods, is shipped when it is paid, and gives them back when nobody pays: a saga over three topics.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill_sdk::serde_json::json;
use tidemill_sdk::{
    Context, Done, Event, Failure, Fired, Handler, Key, OnTimer, Out, Outcome, Setup, State, Timer,
};

#[derive(Serialize, Deserialize)]
struct Item {
    sku: String,
    quantity: u32,
}

/// How far an order is.
#[derive(Serialize, Deserialize)]
enum Saga {
    /// Its payment came first: topics have no order among each other.
    Paid {
        at_ms: i64,
    },
    Reserved {
        item: Item,
        pay_by_ms: i64,
    },
    Shipping,
    Released(Item),
}

const SAGA: State<Saga> = State::named("saga");
const PAY_BY: Timer = Timer::named("pay-by");
const PATIENCE: Duration = Duration::from_secs(30 * 60);

struct Orders;

impl Handler for Orders {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
        let at_ms = event.time_ms().ok_or_else(|| Failure::reject("an event without a time"))?;
        match (event.source(), ctx.get(&SAGA)?) {
            ("order", saga @ (None | Some(Saga::Paid { .. }))) => {
                let item: Item = event.json()?;
                command("stock", "reserve", &item, ctx)?;
                let pay_by = ctx.in_event_time(PATIENCE);
                if let Some(Saga::Paid { at_ms }) = saga {
                    settle(item, at_ms < pay_by.time_ms(), ctx)?;
                } else {
                    ctx.timer(&PAY_BY, pay_by)?;
                    ctx.put(&SAGA, &Saga::Reserved { item, pay_by_ms: pay_by.time_ms() })?;
                }
            }
            ("payment", None) => ctx.put(&SAGA, &Saga::Paid { at_ms })?,
            ("payment", Some(Saga::Reserved { item, pay_by_ms })) => {
                ctx.cancel(&PAY_BY)?;
                settle(item, at_ms < pay_by_ms, ctx)?;
            }
            ("payment", Some(Saga::Released(item))) => command("refunds", "refund", &item, ctx)?,
            ("shipment", Some(Saga::Shipping)) => ctx.delete(&SAGA)?,
            ("shipment", _) => return Err(Failure::reject("a shipment that nobody asked for")),
            _ => return Ok(Done::Skip), // the same once more
        }
        Ok(Done::Ok)
    }
}

impl OnTimer for Orders {
    fn on_timer(&mut self, _: &Fired, ctx: &mut Context) -> Outcome {
        if let Some(Saga::Reserved { item, .. }) = ctx.get(&SAGA)? {
            command("stock", "release", &item, ctx)?;
            ctx.put(&SAGA, &Saga::Released(item))?; // until `state.ttl`, for those who pay too late
        }
        Ok(Done::Ok)
    }
}

/// A payment that is too late may be read before the timer has fired: what becomes of it is the same.
fn settle(item: Item, is_in_time: bool, ctx: &mut Context) -> Result<(), Failure> {
    if is_in_time {
        command("shipping", "ship", &item, ctx)?;
        return ctx.put(&SAGA, &Saga::Shipping);
    }
    command("stock", "release", &item, ctx)?;
    command("refunds", "refund", &item, ctx)?;
    ctx.put(&SAGA, &Saga::Released(item))
}

fn command(sink: &str, what: &str, item: &Item, ctx: &mut Context) -> Result<(), Failure> {
    ctx.send(Out::json(Key::OfEvent, &json!({ "command": what, "item": item }))?.to(sink))
}

tidemill_sdk::export! { "order-saga" => Orders }

#[cfg(test)]
mod tests;
