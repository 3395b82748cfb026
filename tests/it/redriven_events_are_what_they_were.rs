//! A dead letter that was brought back takes the way of its source as the event that it was: same place, time, key and
//! headers, hence the same outputs. If it dies again its dead letter is that of the same event, and counts the round.

use std::sync::{Arc, Mutex};

use tidemill::model::{
    DeadLetterReason, Failure, FailureKind, Filter, Format, Function, KeySpec, Moment, Outbox, Outcome,
    Source,
};
use tidemill::pipeline::{Call, End, Handler, Pass, Pipeline, Settled, Target};

use crate::scene::{Recorder, Stored, TIME_MS, Written, function, sink, source};

const REDRIVE: &str = "receipts.redrive";
const NOW: Moment = Moment { wall_ms: TIME_MS + 1_000_000, elapsed: std::time::Duration::ZERO };

/// Notes what it sees of each event, and does what its value says.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Vec<String>>>);

impl Handler for Witness {
    fn call(&mut self, call: &Call<'_>, _: &mut Outbox) -> Outcome {
        let (event, record) = (call.event, call.event.record);
        let names: Vec<_> = record.headers().iter().map(|header| header.name).collect();
        let key = String::from_utf8_lossy(event.key.as_deref().unwrap_or_default()).into_owned();
        self.0.lock().unwrap().push(format!(
            "{} {}/{}@{} at {} key {key} headers {names:?}",
            event.source, record.topic, record.partition, record.offset, event.time_ms
        ));
        match record.value {
            Some(b"bad") => Outcome::Failed(Failure {
                kind: FailureKind::Reject { code: None },
                message: "bad as ever".to_owned(),
            }),
            _ => Outcome::Ok,
        }
    }

    fn take_counts(&mut self, _: &mut dyn FnMut(&str, u64)) {}
}

fn two_sources() -> Function {
    let payments = Source {
        topic: "payments".to_owned(),
        name: "payment".to_owned(),
        key: KeySpec::Header("payer".to_owned()),
        ..source(Format::Bytes)
    };
    let mut function = function(vec![sink("out", Format::CloudEvents)]);
    function.sources.push(payments);
    function
}

/// A record as `dlq redrive` writes it.
fn redriven(value: &str, topic: &str) -> Stored {
    Stored::new(value)
        .header("payer", "p-1")
        .header("tidemill-function", "default/receipts")
        .header("tidemill-topic", topic)
        .header("tidemill-partition", "7")
        .header("tidemill-offset", "99")
        .header("tidemill-timestamp", "1234")
        .header("tidemill-redrive", "2")
}

fn run(function: Function, handler: Option<Witness>, stored: &Stored) -> (Settled, Vec<Written>) {
    let mut pipeline =
        Pipeline::new(Arc::new(function), handler.map(|handler| Box::new(handler) as Box<dyn Handler>));
    let source = pipeline.source_of(REDRIVE).expect("it is the function's own");
    let record = tidemill::model::Record { topic: REDRIVE, ..stored.record() };
    let mut writer = Recorder::default();
    let settled = pipeline
        .process(&Pass { source, record: &record, failed: 0, is_probe: false, now: NOW }, &mut writer);
    (settled, writer.0)
}

#[test]
fn the_handler_sees_the_event_of_its_source() {
    let seen = Witness::default();
    let (settled, _) = run(two_sources(), Some(seen.clone()), &redriven("x", "payments"));
    assert_eq!(settled, Settled::Ok { written: 0, unrouted: 0 });
    let expected = "payment payments/7@99 at 1234 key p-1 headers [\"payer\"]";
    assert_eq!(*seen.0.lock().unwrap(), [expected]);
}

#[test]
fn outputs_have_the_ids_that_they_would_have_had() {
    let (_, written) = run(two_sources(), None, &redriven("x", "payments"));
    assert_eq!(written[0].header("ce_id"), Some("receipts/payments/7/99/0"), "{written:?}");
    assert!(written[0].headers.iter().all(|(name, _)| !name.starts_with("tidemill-")), "{written:?}");
}

#[test]
fn the_filters_are_those_of_its_source() {
    let mut function = two_sources();
    function.sources[1].filters = vec![Filter::Header {
        name: "absent".to_owned(),
        tests: vec![tidemill::model::FieldTest::Exists(true)],
    }];
    assert_eq!(run(function.clone(), None, &redriven("x", "payments")).0, Settled::Filtered);
    assert_eq!(run(function, None, &redriven("x", "rides")).0, Settled::Ok { written: 1, unrouted: 0 });
}

#[test]
fn a_second_death_is_that_of_the_same_event_and_counts_the_round() {
    let (settled, written) = run(two_sources(), Some(Witness::default()), &redriven("bad", "payments"));
    assert!(matches!(settled, Settled::DeadLetter { reason: DeadLetterReason::Rejected, .. }), "{settled:?}");
    let letter = &written[0];
    assert_eq!(letter.target, Target::DeadLetter);
    for (name, value) in [
        ("payer", "p-1"),
        ("tidemill-topic", "payments"),
        ("tidemill-partition", "7"),
        ("tidemill-offset", "99"),
        ("tidemill-timestamp", "1234"),
        ("tidemill-error", "bad as ever"),
        ("tidemill-redrive", "2"),
    ] {
        assert_eq!(letter.header(name), Some(value));
    }
}

#[test]
fn a_death_by_a_refused_output_names_the_event_too() {
    let mut pipeline = Pipeline::new(Arc::new(two_sources()), None);
    let stored = redriven("x", "payments");
    let record = tidemill::model::Record { topic: REDRIVE, ..stored.record() };
    let mut writer = Recorder::default();
    let end = End {
        reason: DeadLetterReason::Unwritable,
        error: "too large".to_owned(),
        attempts: 1,
        called: None,
    };
    pipeline.bury(
        &Pass { source: 2, record: &record, failed: 0, is_probe: false, now: NOW },
        end,
        &mut writer,
    );
    let other = Stored::new("y");
    let rides = Pass { source: 0, record: &other.record(), failed: 0, is_probe: false, now: NOW };
    let end = End {
        reason: DeadLetterReason::Unwritable,
        error: "too large".to_owned(),
        attempts: 1,
        called: None,
    };
    pipeline.bury(&rides, end, &mut writer);
    let [first, second] = &writer.0[..] else { panic!("{writer:?}") };
    assert_eq!((first.header("tidemill-offset"), first.header("tidemill-redrive")), (Some("99"), Some("2")));
    assert_eq!((second.header("tidemill-offset"), second.header("tidemill-redrive")), (Some("42"), None));
}

#[test]
fn one_that_does_not_say_where_it_came_from_is_malformed() {
    let lacking = |left_out: &str| {
        let mut stored = redriven("x", "payments");
        stored.headers.retain(|(name, _)| name != left_out);
        stored
    };
    for (stored, said, topic) in [
        (lacking("tidemill-topic"), "the header `tidemill-topic` is missing", REDRIVE),
        (lacking("tidemill-offset"), "the header `tidemill-offset` is missing", REDRIVE),
        (
            redriven("x", "refunds"),
            "redriven from topic `refunds`, which no source of the function reads",
            "refunds",
        ),
    ] {
        let (settled, written) = run(two_sources(), None, &stored);
        let Settled::DeadLetter { reason, error, .. } = settled else { panic!("{settled:?}") };
        assert_eq!(reason, DeadLetterReason::Malformed);
        assert!(error.contains(said), "{error}");
        assert_eq!(written[0].header("tidemill-topic"), Some(topic));
    }
}
