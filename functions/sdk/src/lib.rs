//! What authors of Tidemill handlers import.
//!
//! A handler is a type that is made once per worker thread and called once per event (or [window](#windows), or
//! [timer](#state-and-timers)):
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
//! What a call emits is written together with the event's offset (a window's with its state), or not at all: a call that ends in
//! a [`Failure`] leaves nothing. Every instance belongs to one thread at a time, so a handler needs no
//! locks; what it keeps in `self` is lost on a restart and not shared between workers, so keep there
//! only what can be made again (clients, caches, compiled patterns). What is to be remembered of a key is its
//! [state](#state-and-timers).
//!
//! # Windows
//!
//! A function with a `window` in its manifest gathers events by key and time. Its handler is [`OnWindow`] and is called once
//! for each window that gives its result:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tidemill_sdk::{Context, Done, Failure, Handler, OnWindow, Outcome, Setup, Window};
//!
//! #[derive(Deserialize)]
//! struct Ride<'a> { id: &'a str }
//!
//! #[derive(Deserialize)]
//! struct Payment { amount: f64 }
//!
//! #[derive(Serialize)]
//! struct Paid<'a> { ride: &'a str, amount: f64 }
//!
//! struct Match;
//!
//! impl Handler for Match {
//!     fn init(_: &Setup) -> Result<Self, Failure> { Ok(Self) }
//! }
//!
//! impl OnWindow for Match {
//!     fn on_window(&mut self, window: &Window, ctx: &mut Context) -> Outcome {
//!         let ride: Ride = window.one("ride")?.json()?; // not exactly one rejects
//!         let payment: Payment = window.one("payment")?.json()?;
//!         ctx.emit(window.key(), &Paid { ride: ride.id, amount: payment.amount })?;
//!         Ok(Done::Ok)
//!     }
//! }
//!
//! tidemill_sdk::export! { "match" => Match }
//!
//! // and its test:
//! use serde_json::json;
//! use tidemill_sdk::testing::{Given, GivenWindow, Harness};
//!
//! let mut matches = Harness::<Match>::new(()).strict();
//! let ride = Given::json("ada", &json!({ "id": "r-7" }));
//! let payment = Given::json("ada", &json!({ "amount": 12.5 }));
//! matches.expect_ok_window(GivenWindow::of("ada").event("ride", ride.clone()).event("payment", payment));
//! matches.expect_emit("ada", &json!({ "ride": "r-7", "amount": 12.5 }));
//! matches.expect_reject_window(GivenWindow::of("ada").event("ride", ride).missing("payment"));
//! matches.expect_nothing_more();
//! ```
//!
//! # State and timers
//!
//! With `state: {}` in its manifest a function remembers: each key has values and timers of its own, by names that are
//! constants of the handler. A timer calls [`OnTimer`] when event time, or the clock, has come so far:
//!
//! ```
//! use std::time::Duration;
//! use serde_json::json;
//! use tidemill_sdk::{
//!     Context, Done, Event, Failure, Fired, Handler, OnTimer, Outcome, Setup, State, Timer,
//! };
//!
//! const VISITS: State<u64> = State::named("visits");
//! const GONE: Timer = Timer::named("gone");
//!
//! struct Sessions;
//!
//! impl Handler for Sessions {
//!     fn init(_: &Setup) -> Result<Self, Failure> { Ok(Self) }
//!
//!     fn handle(&mut self, _: &Event, ctx: &mut Context) -> Outcome {
//!         let visits = ctx.get(&VISITS)?.unwrap_or_default();
//!         ctx.put(&VISITS, &(visits + 1))?;
//!         ctx.timer(&GONE, ctx.in_event_time(Duration::from_secs(1800)))?; // and not when it was to fire before
//!         Ok(Done::Ok)
//!     }
//! }
//!
//! impl OnTimer for Sessions {
//!     fn on_timer(&mut self, fired: &Fired, ctx: &mut Context) -> Outcome {
//!         ctx.emit(fired.key(), &json!({ "visits": ctx.get(&VISITS)? }))?;
//!         ctx.delete(&VISITS)?;
//!         Ok(Done::Ok)
//!     }
//! }
//!
//! tidemill_sdk::export! { "sessions" => Sessions }
//!
//! // and its test:
//! use tidemill_sdk::testing::{Given, Harness};
//!
//! let mut sessions = Harness::<Sessions>::new(()).with_timers().strict();
//! let minute = |n: i64| 1_767_225_600_000 + n * 60_000;
//! sessions.expect_ok(Given::text("ada", "/").at(minute(0)));
//! sessions.expect_ok(Given::text("ada", "/rides").at(minute(20)));
//! sessions.advance_event_time(minute(49));
//! sessions.expect_nothing_more();
//! sessions.expect_ok(Given::text("bob", "/").at(minute(50))); // time goes on for all keys
//! sessions.expect_emit("ada", &json!({ "visits": 2 }));
//! assert_eq!(sessions.state("ada", &VISITS), None);
//! ```
//!
//! A call sees what it has put itself, and nothing of it is kept if the call does not end well. What a source with `table` in
//! the manifest has is looked up in the same way: [`Table`] and [`Context::lookup`].
//!
//! # How a call ends
//!
//! | returned | what happens |
//! |---|---|
//! | `Ok(Done::Ok)` | what was emitted and done to the key is written |
//! | `Ok(Done::Skip)` | nothing is written, the event, window or timer counts as skipped |
//! | [`Failure::retry`], an [`io::Error`](std::io::Error) through `?`, [`.or_retry()?`](OrFail::or_retry) | tried again later, then a dead letter |
//! | [`Failure::reject`], a decode error through `?`, [`.or_reject()?`](OrFail::or_reject) | a dead letter at once |
//! | [`Failure::stop`], a state that cannot be read | the function stops; the call is made again when it starts |
//! | a panic | tried again with a new instance, then a dead letter; neighbours do not notice |
#![allow(unsafe_code, reason = "this crate puts a safe face on the C contract")]

mod context;
mod event;
#[doc(hidden)]
pub mod export;
mod failure;
mod fired;
mod handler;
mod keyed;
mod out;
pub mod testing;
mod window;

pub use context::{Context, Level};
pub use event::{Event, Header};
pub use failure::{Done, Failure, FailureKind, OrFail, Outcome};
pub use fired::Fired;
pub use handler::{Handler, OnTimer, OnWindow, Setup};
pub use keyed::{At, State, Table, Timer};
pub use out::{AsKey, Key, Out};
pub use window::{FiredBy, Window};

/// The serde_json that this crate speaks, for `json!` and `Value`.
pub use serde_json;
