//! What authors of Tidemill handlers import.
//!
//! A handler is a type that is made once per worker thread and called once per event:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tidemill_sdk::{Context, Done, Event, Failure, Handler, Outcome, Setup};
//!
//! #[derive(Deserialize)]
//! struct Config { currency: String }
//!
//! #[derive(Deserialize)]
//! struct Ride { rider: String, fare: f64 }
//!
//! #[derive(Serialize)]
//! struct Receipt<'a> { total: f64, currency: &'a str }
//!
//! struct Receipts { currency: String }
//!
//! impl Handler for Receipts {
//!     fn init(setup: &Setup) -> Result<Self, Failure> {
//!         Ok(Self { currency: setup.config::<Config>()?.currency })
//!     }
//!
//!     fn handle(&mut self, event: &Event, ctx: &mut Context) -> Outcome {
//!         let ride: Ride = event.json()?; // a decode error rejects: dead letter with the reason
//!         ctx.emit(&ride.rider, &Receipt { total: ride.fare, currency: &self.currency })?;
//!         Ok(Done::Ok)
//!     }
//! }
//!
//! tidemill_sdk::export! { "receipts" => Receipts }
//!
//! // and its test, which needs no broker:
//! use serde_json::json;
//! use tidemill_sdk::testing::{Given, Harness};
//!
//! let mut receipts = Harness::<Receipts>::new(json!({ "currency": "EUR" }));
//! receipts.expect_ok(Given::json("ride-1", &json!({ "rider": "ada", "fare": 12.5 })));
//! receipts.expect_emit("ada", &json!({ "total": 12.5, "currency": "EUR" }));
//! receipts.expect_reject(Given::text("ride-2", "no JSON"));
//! receipts.expect_nothing_more();
//! ```
//!
//! What a call emits is written together with the event's offset, or not at all: a call that ends in
//! a [`Failure`] leaves nothing. Every instance belongs to one thread at a time, so a handler needs no
//! locks; what it keeps in `self` is lost on a restart and not shared between workers, so keep there
//! only what can be made again (clients, caches, compiled patterns).
//!
//! # How a call ends
//!
//! | returned | what happens |
//! |---|---|
//! | `Ok(Done::Ok)` | what was emitted is written |
//! | `Ok(Done::Skip)` | nothing is written, the event counts as skipped |
//! | [`Failure::retry`], an [`io::Error`](std::io::Error) through `?`, [`.or_retry()?`](OrFail::or_retry) | tried again later, then a dead letter |
//! | [`Failure::reject`], a decode error through `?`, [`.or_reject()?`](OrFail::or_reject) | a dead letter at once |
//! | a panic | tried again with a new instance, then a dead letter; neighbours do not notice |
#![allow(unsafe_code, reason = "this crate puts a safe face on the C contract")]

mod context;
mod event;
#[doc(hidden)]
pub mod export;
mod failure;
mod handler;
mod out;
pub mod testing;

pub use context::{Context, Level};
pub use event::{Event, Header};
pub use failure::{Done, Failure, FailureKind, OrFail, Outcome};
pub use handler::{Handler, Setup};
pub use out::{AsKey, Key, Out};

/// The serde_json that this crate speaks, for `json!` and `Value`.
pub use serde_json;
