//! A window that gives its result to a handler. Which windows there are, and what a result is where no handler is asked,
//! stands in `window.rs`.

use super::Event;

/// A window that gives its result, as a handler sees it.
pub struct WindowCall<'a> {
    /// The key whose events it holds.
    pub key: &'a [u8],
    /// Where it begins, milliseconds since the epoch; may lie before it.
    pub start_ms: i64,
    /// Where it ends, milliseconds since the epoch; whether the end is in it depends on its kind.
    pub end_ms: i64,
    /// Event time of the result, milliseconds since the epoch; outputs that say no time of their own have it.
    pub time_ms: i64,
    /// Why: `close`, `update`, `count`, `complete` (all needed are there), `timeout` (a stitch that ended incomplete).
    pub why: &'a str,
    /// The events it holds, by (time, source, partition, offset); none where there are aggregates instead.
    pub events: &'a [Event<'a>],
    /// Aggregates as one compact JSON object, `{"rides":3}`; `None`: it keeps events instead.
    pub aggregates: Option<&'a [u8]>,
    /// Names of the needed sources that have no event.
    pub missing: &'a [&'a str],
}
