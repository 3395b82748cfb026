//! The defaults: the one table that parser, JSON Schema and reference share.

use super::spec::{Circuit, Delivery, DurationText, Limits, Retry, Scale};
use super::window_spec::EventTime;
use crate::model::{
    AfterFire, CatchUp, CloudEventsMode, Format, FunctionName, Guarantee, OnExhausted, OnHang, Order,
    TableScope,
};

pub(super) fn namespace() -> String {
    "default".to_owned()
}

/// The consumer group of a function whose manifest names none.
pub fn group(name: &FunctionName) -> String {
    format!("tidemill.{}.{}", name.namespace, name.name)
}

pub(super) fn order() -> Order {
    Order::Key
}

pub(super) fn timeout() -> DurationText {
    text("5s")
}

pub(super) fn concurrency() -> u32 {
    1
}

pub(super) fn on_hang() -> OnHang {
    OnHang::Exit
}

pub(super) fn format() -> Format {
    Format::Auto
}

pub(super) fn zone() -> String {
    "UTC".to_owned()
}

pub(super) fn catch_up() -> CatchUp {
    CatchUp::One
}

pub(super) fn start_at() -> String {
    "earliest".to_owned()
}

/// The name of a sink that has none: an only sink needs no name to be told from others.
pub(super) fn sink_name(topic: &str, sinks: usize) -> String {
    if sinks == 1 { "default".to_owned() } else { topic.to_owned() }
}

pub(super) fn event_type(name: &FunctionName, sink: &str) -> String {
    format!("{}.{}.{sink}", name.namespace, name.name)
}

pub(super) fn event_source(name: &FunctionName) -> String {
    format!("/tidemill/{}/{}", name.namespace, name.name)
}

pub(super) fn mode() -> CloudEventsMode {
    CloudEventsMode::Binary
}

pub(super) fn partition_key() -> bool {
    false
}

pub(super) fn guarantee() -> Guarantee {
    Guarantee::ExactlyOnce
}

pub(super) fn commit_interval() -> DurationText {
    text("100ms")
}

pub(super) fn max_held() -> u32 {
    1000
}

pub(super) fn circuit_keys() -> u32 {
    5
}

pub(super) fn circuit_within() -> DurationText {
    text("10s")
}

pub(super) fn max_attempts() -> u32 {
    12
}

pub(super) fn initial() -> DurationText {
    text("200ms")
}

pub(super) fn factor() -> f64 {
    2.0
}

pub(super) fn max() -> DurationText {
    text("30s")
}

pub(super) fn jitter() -> f64 {
    0.2
}

pub(super) fn on_exhausted() -> OnExhausted {
    OnExhausted::DeadLetter
}

pub(super) fn dead_letter_topic(name: &FunctionName) -> String {
    format!("{}.dlq", name.name)
}

pub(super) fn redrive_topic(name: &FunctionName) -> String {
    own_topic(name, "redrive")
}

pub(super) fn state_topic(name: &FunctionName) -> String {
    own_topic(name, "state")
}

pub(super) fn schedule_topic(name: &FunctionName, source: &str) -> String {
    own_topic(name, &format!("schedule.{source}"))
}

/// Only the function itself reads it, so the name tells namespaces apart.
fn own_topic(name: &FunctionName, purpose: &str) -> String {
    if name.namespace == namespace() {
        return format!("{}.{purpose}", name.name);
    }
    format!("{}.{}.{purpose}", name.namespace, name.name)
}

pub(super) fn max_state() -> String {
    "1Gi".to_owned()
}

pub(super) fn table_scope() -> TableScope {
    TableScope::Lane
}

pub(super) fn after_fire() -> AfterFire {
    AfterFire::Continue
}

pub(super) fn grace() -> DurationText {
    text("0s")
}

pub(super) fn idle() -> DurationText {
    text("10s")
}

pub(super) fn stitch_topic(name: &FunctionName) -> String {
    own_topic(name, "stitch")
}

pub(super) fn max_drift() -> DurationText {
    text("1m")
}

pub(super) fn max_skew() -> DurationText {
    text("1h")
}

pub(super) fn max_event_age() -> DurationText {
    text("0s")
}

pub(super) fn memory() -> String {
    "256Mi".to_owned()
}

pub(super) fn min() -> u32 {
    0
}

pub(super) fn max_workers() -> u32 {
    0
}

pub(super) fn drain_within() -> DurationText {
    text("30s")
}

pub(super) fn zero_after() -> DurationText {
    text("1m")
}

impl Default for EventTime {
    fn default() -> Self {
        Self { idle: idle(), max_skew: max_skew(), max_drift: max_drift() }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            guarantee: guarantee(),
            commit_interval: commit_interval(),
            retry: Retry::default(),
            circuit: Circuit::default(),
            on_exhausted: on_exhausted(),
            dead_letter: Default::default(),
            max_event_age: max_event_age(),
            origin_headers: false,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: max_attempts(),
            initial: initial(),
            factor: factor(),
            max: max(),
            jitter: jitter(),
            max_held: max_held(),
        }
    }
}

impl Default for Circuit {
    fn default() -> Self {
        Self { keys: circuit_keys(), within: circuit_within() }
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            min: min(),
            max: max_workers(),
            drain_within: drain_within(),
            park_after: None,
            zero_after: zero_after(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: memory() }
    }
}

fn text(text: &str) -> DurationText {
    DurationText(text.to_owned())
}
