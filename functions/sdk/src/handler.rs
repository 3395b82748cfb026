//! What an author writes: a handler, and what it is made from.

use serde::Deserialize;
use tidemill_abi as abi;

use crate::context::log;
use crate::event::text;
use crate::{Context, Event, Failure, Fired, Level, Outcome, Window};

/// A function's code. One instance per worker thread; see the [crate] for an example.
///
/// `Send`, because an instance may be made on one thread and called on another, never on two at once.
pub trait Handler: Sized + Send + 'static {
    /// Makes an instance when a worker starts, after a panic, and when a new version takes over. A failure keeps
    /// the function from starting: a reject for good, a retry until it goes well.
    fn init(setup: &Setup<'_>) -> Result<Self, Failure>;

    /// Handles one event. Left out, it rejects: a handler of a function with a window needs [`OnWindow`] instead.
    fn handle(&mut self, event: &Event<'_>, ctx: &mut Context<'_>) -> Outcome {
        let _ = (event, ctx);
        Err(Failure::reject(
            "this handler has no `handle`: it is for a function that has a `window` in its manifest",
        ))
    }
}

/// A [`Handler`] of a function with a `window`: called with each window that gives its result, while the function's single
/// events only go into windows. [`export!`](crate::export) finds out by itself that a handler has this.
///
/// As in [`Handler::handle`] what is emitted is written if the call ends well, with the progress that goes with it, and dropped
/// if not. Outputs under [`Key::OfEvent`](crate::Key) have the window's key, those that say no time its
/// [`time_ms`](Window::time_ms).
pub trait OnWindow: Handler {
    /// Handles one window.
    fn on_window(&mut self, window: &Window<'_>, ctx: &mut Context<'_>) -> Outcome;
}

/// A [`Handler`] that sets timers: called with each that fires. [`export!`](crate::export) finds out by itself that a handler
/// has this.
///
/// What is emitted and done to the key is written if the call ends well, and then the timer is done with; if not it is called
/// again, as in [`Handler::handle`]. Outputs under [`Key::OfEvent`](crate::Key) have the timer's key, those that say no time
/// its [`time_ms`](Fired::time_ms).
pub trait OnTimer: Handler {
    /// Handles one timer.
    fn on_timer(&mut self, fired: &Fired<'_>, ctx: &mut Context<'_>) -> Outcome;
}

/// What [`Handler::init`] is given.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    raw: &'a abi::Setup,
}

impl<'a> Setup<'a> {
    pub(crate) fn new(raw: &'a abi::Setup) -> Self {
        Self { raw }
    }

    /// The manifest's `config`. Left out, it counts as an empty object, so that defaults apply.
    ///
    /// ```
    /// # use serde::Deserialize;
    /// # use tidemill_sdk::{Failure, Setup};
    /// #[derive(Deserialize)]
    /// #[serde(default, deny_unknown_fields)]
    /// struct Config { limit: u32 }
    /// # impl Default for Config { fn default() -> Self { Self { limit: 10 } } }
    ///
    /// fn init(setup: &Setup) -> Result<u32, Failure> {
    ///     Ok(setup.config::<Config>()?.limit)
    /// }
    /// ```
    ///
    /// # Errors
    /// A reject that names the field, when the manifest's `config` is not of this shape.
    pub fn config<T: Deserialize<'a>>(&self) -> Result<T, Failure> {
        let config = text(self.raw.config).unwrap_or("null");
        let parsed = match config {
            "null" => serde_json::from_str("null").or_else(|_| serde_json::from_str("{}")),
            config => serde_json::from_str(config),
        };
        parsed.map_err(|error| Failure::reject(format_args!("the manifest's `config`: {error}")))
    }

    /// The function's name, `namespace/name`.
    pub fn function(&self) -> &'a str {
        text(self.raw.function).unwrap_or_default()
    }

    /// The name under which this handler is exported.
    pub fn handler(&self) -> &'a str {
        text(self.raw.handler).unwrap_or_default()
    }

    /// Writes a line to Tidemill's log.
    pub fn log(&self, level: Level, message: impl std::fmt::Display) {
        log(self.raw.host, self.raw.context, level, &message.to_string());
    }
}
