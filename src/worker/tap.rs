//! A look at what happens, and a word on when nothing more does, for `dev`: called on the worker's thread, so it must be quick.

use std::time::Duration;

use crate::model::Record;
use crate::pipeline::{OutRecord, Settled};

/// How one event ended.
pub struct Settlement<'a> {
    /// The record.
    pub record: &'a Record<'a>,
    /// Which attempt it was.
    pub attempt: u32,
    /// How it ended.
    pub settled: &'a Settled,
    /// How long it took.
    pub took: Duration,
}

/// Sees every output and every end of an event.
pub trait Tap: Send {
    /// A record was written by the event that is being handled.
    fn wrote(&mut self, topic: &str, out: &OutRecord<'_>);
    /// An event ended.
    fn settled(&mut self, settlement: &Settlement<'_>);
    /// Windows gave what was written since the last event ended.
    fn gave(&mut self);
    /// Everything up to here is committed, and nothing is at hand.
    fn rested(&mut self);
    /// Nothing more will come: when all is read, windows close and timers fire whatever time it is.
    fn is_over(&self) -> bool;
    /// That was done, and is committed.
    fn ended(&mut self);
}
