//! Records as nobody should send them: cut off, bent, blown up. Whatever comes, nothing panics and every record is
//! accounted for: a result, a filter's drop, or a dead letter that holds the record as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill::model::{
    Emit, Failure, FailureKind, Filter, Format, KeyChoice, KeySpec, Moment, Outbox, Outcome, Source,
    TimeFormat, TimeSpec,
};
use tidemill::pipeline::{Call, Handler, Pass, Pipeline, Settled, Target};

use crate::scene::{Recorder, Stored, function, sink, source};

const EACH: u64 = 30_000;

/// Looks at everything that a handler can ask for.
struct Curious;

impl Handler for Curious {
    fn call(&mut self, call: &Call<'_>, outbox: &mut Outbox) -> Outcome {
        let event = call.event;
        for name in ["id", "source", "type", "time", "subject", "datacontenttype", "partitionkey", ""] {
            let _ = event.attribute(name).map(|value| value.len());
        }
        let is_json = event.json().is_ok();
        let emit = Emit {
            sink: None,
            key: KeyChoice::OfEvent,
            value: Some(event.data()),
            content_type: is_json.then_some("application/json"),
            timestamp_ms: None,
            headers: &[],
        };
        match outbox.push(&emit) {
            true => Outcome::Ok,
            false => Outcome::Failed(Failure {
                kind: FailureKind::Reject { code: None },
                message: "too large".to_owned(),
            }),
        }
    }

    fn take_counts(&mut self, _: &mut dyn FnMut(&str, u64)) {}
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// A good record of some kind.
fn good(dice: &mut Dice) -> Stored {
    let body = r#"{"rider":"ada","fare":12.5,"at":1700000000,"route":[{"x":1},{"x":2}],"ü":"é"}"#;
    match dice.below(5) {
        0 => Stored::new(body).header("content-type", "application/json"),
        1 => Stored::binary(body)
            .header("content-type", "application/json")
            .header("ce_time", "2026-01-31T12:00:00Z"),
        2 => Stored::structured(format!(
            r#"{{"specversion":"1.0","id":"1","source":"/r","type":"ride.completed","time":"2026-01-31T12:00:00Z","data":{body}}}"#
        )),
        3 => Stored::structured(
            r#"{"specversion":"1.0","id":"1","source":"/r","type":"t","data_base64":"AAECAw==","flag":true,"n":7}"#,
        ),
        _ => Stored::new("plain text"),
    }
}

const BYTES: [&[u8]; 12] = [
    b"\xff",
    b"\0",
    b"\"",
    b"\\u",
    b"{",
    b"]",
    b",",
    b"\xc3",
    b"1e999",
    b"null",
    b"\xed\xa0\x80",
    b"\xf0\x9f",
];
const NAMES: [&str; 14] = [
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_time",
    "ce_data",
    "ce_",
    "ce_UPPER",
    "ce_ü",
    "content-type",
    "traceparent",
    "",
    "ce_partitionkey",
    "ce_datacontenttype",
];
const VALUES: [&[u8]; 14] = [
    b"",
    b"1.0",
    b"0.3",
    b"\xff\xfe",
    b"2026-13-45T99:99:99Z",
    b"0000-00-00T00:00:00Z",
    b"application/cloudevents+json",
    b"application/cloudevents-batch+json",
    b"application/cloudevents+avro",
    b"application/json; charset=\xff",
    b" ",
    b"a b",
    b"99999-01-01T00:00:00Z",
    b"\0",
];

/// Bends it once.
fn bend(dice: &mut Dice, record: &mut Stored) {
    match dice.below(12) {
        0 => record.value = None,
        1 => record.key = None,
        2 => record.key = Some(dice.one(&BYTES).to_vec()),
        3 => record.timestamp_ms = dice.one(&[-1, 0, i64::MAX, i64::MIN, 253_402_300_800_000]),
        4 => {
            let value = record.value.get_or_insert_default();
            let keep = dice.below(value.len() + 1);
            value.truncate(keep);
        }
        5 | 6 => {
            let value = record.value.get_or_insert_default();
            let at = dice.below(value.len() + 1);
            value.splice(at..at, dice.one(&BYTES).iter().copied());
        }
        7 => {
            let value = record.value.get_or_insert_default();
            if !value.is_empty() {
                let at = dice.below(value.len());
                value[at] ^= 1 << dice.below(8);
            }
        }
        8 => {
            let (open, close) = dice.one(&[("[", "]"), ("{\"a\":", "}"), ("[", ""), ("", "}")]);
            let depth = 1 + dice.below(2000);
            record.value = Some(format!("{}1{}", open.repeat(depth), close.repeat(depth)).into_bytes());
        }
        9 => {
            let (name, value) = (dice.one(&NAMES), dice.one(&VALUES));
            let value = (dice.below(5) > 0).then(|| value.to_vec());
            record.headers.push((name.to_owned(), value));
        }
        10 => {
            if !record.headers.is_empty() {
                let at = dice.below(record.headers.len());
                record.headers.remove(at);
            }
        }
        _ => {
            let size = dice.one(&[1, 1000, 100_000]);
            let name = if dice.below(2) == 0 { "ce_long".to_owned() } else { "x".repeat(size.min(1000)) };
            record.headers.push((name, Some(vec![b'v'; size])));
        }
    }
}

fn sources(format: Format) -> Vec<Source> {
    let plain = source(format);
    let keyed = Source {
        key: KeySpec::Fields(vec!["/rider".to_owned(), "/route/0/x".to_owned()]),
        time: TimeSpec::Field { path: "/at".to_owned(), format: TimeFormat::S },
        ..plain.clone()
    };
    let exact = BTreeMap::from([("type".to_owned(), "ride.completed".to_owned())]);
    let filtered = Source {
        key: KeySpec::Attribute("id".to_owned()),
        time: TimeSpec::Attribute("time".to_owned()),
        filters: vec![Filter::Exact(exact)],
        ..plain.clone()
    };
    vec![plain, keyed, filtered]
}

#[test]
fn every_mutated_record_is_accounted_for() {
    for format in [Format::Auto, Format::Bytes, Format::Text, Format::Json, Format::CloudEvents] {
        let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
        for (place, source) in sources(format).into_iter().enumerate() {
            let mut function =
                function(vec![sink("default", [Format::CloudEvents, Format::Json, Format::Bytes][place])]);
            function.sources = vec![source];
            let mut pipeline = Pipeline::new(Arc::new(function), Some(Box::new(Curious)));
            for seed in 0..EACH / 3 {
                let mut dice = Dice(seed * 31 + place as u64);
                let mut record = good(&mut dice);
                (0..1 + dice.below(4)).for_each(|_| bend(&mut dice, &mut record));
                let lent = record.record();
                let pass = Pass {
                    source: 0,
                    record: &lent,
                    failed: 0,
                    is_probe: false,
                    now: Moment { wall_ms: 1, elapsed: Default::default() },
                };
                let mut written = Recorder::default();
                let settled = pipeline.process(&pass, &mut written);
                let end = match &settled {
                    Settled::Ok { unrouted, .. } => {
                        assert_eq!(written.0.len() as u32 + unrouted, 1, "{record:?}");
                        assert!(written.0.iter().all(|out| out.target != Target::DeadLetter));
                        "ok"
                    }
                    Settled::Filtered => {
                        assert!(written.0.is_empty());
                        "filtered"
                    }
                    Settled::DeadLetter { reason, error, .. } => {
                        assert!(!error.is_empty(), "{reason:?} of {record:?}");
                        let [letter] = &written.0[..] else { panic!("{record:?} left {:?}", written.0) };
                        assert_eq!(
                            (letter.target, &letter.key, &letter.value),
                            (Target::DeadLetter, &record.key, &record.value)
                        );
                        assert_eq!(letter.headers[..record.headers.len()], record.headers[..]);
                        reason.as_str()
                    }
                    other => panic!("{other:?} of {record:?}"),
                };
                *ends.entry(end).or_default() += 1;
            }
        }
        assert_eq!(ends.values().sum::<u64>(), EACH);
        assert!(ends["ok"] > 0, "{format:?}: {ends:?}");
    }
}
