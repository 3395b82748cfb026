//! With `delivery.originHeaders` each output says which event made it, and which of its outputs it is.

use std::sync::Arc;
use std::time::Duration;

use tidemill::model::{FieldTest, Filter, Format, Function, Moment, Outbox, Outcome, Sink};
use tidemill::pipeline::{Call, Handler, ORIGIN, Pass, Pipeline, Settled};

use crate::scene::{Recorder, Stored, emit, filtered, function, sink, source, structured_sink};

/// Emits these, whatever comes.
struct Emits(Vec<&'static [u8]>);

impl Handler for Emits {
    fn call(&mut self, _: &Call<'_>, out: &mut Outbox) -> Outcome {
        assert!(self.0.iter().all(|value| out.push(&emit(value))));
        Outcome::Ok
    }

    fn take_counts(&mut self, _: &mut dyn FnMut(&str, u64)) {}
}

fn with_origins(sinks: Vec<Sink>) -> Function {
    let mut function = function(sinks);
    function.sources = vec![source(Format::Auto)];
    function.delivery.origin_headers = true;
    function
}

/// The origins of what is written for `stored`, and all headers' names.
fn origins(function: Function, handler: Option<Emits>, stored: &Stored) -> (Settled, Vec<Vec<String>>) {
    let handler = handler.map(|handler| Box::new(handler) as Box<dyn Handler>);
    let mut pipeline = Pipeline::new(Arc::new(function), handler);
    let record = stored.record();
    let source = pipeline.source_of(record.topic).unwrap();
    let now = Moment { wall_ms: 0, elapsed: Duration::ZERO };
    let mut writer = Recorder::default();
    let pass = Pass { source, record: &record, failed: 0, is_probe: false, now };
    let settled = pipeline.process(&pass, &mut writer);
    let origins = writer.0.iter().map(|written| {
        let named = written.headers.iter().filter(|(name, _)| name == ORIGIN);
        named.map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap()).collect()
    });
    (settled, origins.collect())
}

#[test]
fn records_are_numbered_over_all_sinks() {
    let text = Filter::Header { name: "absent".into(), tests: vec![FieldTest::Exists(true)] };
    let sinks = vec![
        sink("plain", Format::Bytes),
        sink("events", Format::CloudEvents),
        structured_sink("documents"),
        filtered(sink("none", Format::Bytes), text),
    ];
    let (settled, origins) = origins(with_origins(sinks), Some(Emits(vec![b"a", b"b"])), &Stored::new("x"));
    assert_eq!(settled, Settled::Ok { written: 6, unrouted: 0 });
    let expected = |n| vec![format!("default/receipts/rides/3/42/{n}/6")];
    assert_eq!(origins, (0..6).map(expected).collect::<Vec<_>>());
}

#[test]
fn the_only_output_says_so_whatever_the_format() {
    for sink in [sink("a", Format::Bytes), sink("b", Format::CloudEvents), structured_sink("c")] {
        for handler in [None, Some(Emits(vec![b"a"]))] {
            let (_, origins) = origins(with_origins(vec![sink.clone()]), handler, &Stored::new("x"));
            assert_eq!(origins, [["default/receipts/rides/3/42/0/1"]], "{}", sink.name);
        }
    }
}

#[test]
fn that_of_an_earlier_function_is_replaced() {
    let stored = Stored::new("x").header(ORIGIN, "default/first/orders/0/7/0/1");
    let passed = |function| origins(function, None, &stored).1;
    let sinks = || vec![sink("out", Format::Bytes)];
    assert_eq!(passed(with_origins(sinks())), [["default/receipts/rides/3/42/0/1"]]);
    let mut without = with_origins(sinks());
    without.delivery.origin_headers = false;
    assert_eq!(passed(without), [["default/first/orders/0/7/0/1"]], "not asked for, not touched");
}

#[test]
fn what_was_brought_back_is_named_where_it_was_read() {
    let function = with_origins(vec![sink("out", Format::CloudEvents)]);
    let redrive = function.delivery.redrive_topic.clone();
    let stored = Stored::new("x")
        .header("tidemill-topic", "rides")
        .header("tidemill-partition", "7")
        .header("tidemill-offset", "99")
        .header("tidemill-timestamp", "1234");
    let mut pipeline = Pipeline::new(Arc::new(function), None);
    let record = tidemill::model::Record { topic: &redrive, ..stored.record() };
    let source = pipeline.source_of(&redrive).unwrap();
    let now = Moment { wall_ms: 0, elapsed: Duration::ZERO };
    let mut writer = Recorder::default();
    pipeline.process(&Pass { source, record: &record, failed: 0, is_probe: false, now }, &mut writer);
    let origin = format!("default/receipts/{redrive}/3/42/0/1");
    assert_eq!(writer.0[0].header(ORIGIN), Some(origin.as_str()));
    assert_eq!(
        writer.0[0].header("ce_id"),
        Some("receipts/rides/7/99/0"),
        "the id is that of the first place"
    );
}
