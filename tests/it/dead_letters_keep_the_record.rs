//! A dead letter is the original record, byte by byte, with headers that say what happened.

use tidemill::model::DeadLetterReason;
use tidemill::pipeline::{DeadLetters, Death, Target};

use crate::scene::{Recorder, Stored, TIME_MS, function};

fn bury(stored: &Stored, error: &str) -> crate::scene::Written {
    let mut writer = Recorder::default();
    let death = Death { attempts: 12, ..Death::of(DeadLetterReason::Exhausted, error) };
    let record = stored.record();
    DeadLetters::new(&function(Vec::new())).write((&record, &record), &death, TIME_MS + 9, &mut writer);
    writer.0.remove(0)
}

fn names(written: &crate::scene::Written) -> Vec<&str> {
    written.headers.iter().map(|(name, _)| name.as_str()).collect()
}

const ADDED: [&str; 9] = [
    "tidemill-function",
    "tidemill-reason",
    "tidemill-error",
    "tidemill-attempts",
    "tidemill-topic",
    "tidemill-partition",
    "tidemill-offset",
    "tidemill-timestamp",
    "tidemill-origin",
];

#[test]
fn key_value_and_headers_survive_and_the_reason_is_added() {
    let stored = Stored::new([0, 0xff]).header("a", [1, 2]).null_header("a").header("content-type", "x/y");
    let written = bury(&stored, "no such rider");
    assert_eq!(written.target, Target::DeadLetter);
    assert_eq!(written.key, stored.key);
    assert_eq!(written.value, stored.value);
    assert_eq!(written.headers[..3], stored.headers[..]);
    assert_eq!(names(&written)[3..], ADDED);
    assert_eq!(written.timestamp_ms, Some(TIME_MS + 9), "stamped now");
    for (name, value) in ADDED.into_iter().zip([
        "default/receipts",
        "exhausted",
        "no such rider",
        "12",
        "rides",
        "3",
        "42",
        "1700000000500",
        "default/receipts/rides/3/42/0/1",
    ]) {
        assert_eq!(written.header(name), Some(value));
    }
}

#[test]
fn null_stays_null() {
    let stored = Stored { key: None, timestamp_ms: -1, ..Stored::null() };
    let written = bury(&stored, "");
    assert_eq!((&written.key, &written.value), (&None, &None));
    assert_eq!(written.header("tidemill-timestamp"), Some("-1"));
}

#[test]
fn the_headers_of_an_earlier_death_are_replaced() {
    let first = bury(&Stored::new("x").header("keep", "me"), "first");
    let second = bury(&first.stored(), "second");
    assert_eq!(names(&second), [&["keep"], &ADDED[..]].concat());
    assert_eq!(second.header("tidemill-error"), Some("second"));
}

#[test]
fn a_long_error_is_cut_between_two_characters() {
    let error = format!("x{}", "é".repeat(2000));
    let written = bury(&Stored::new(""), &error);
    let kept = written.header("tidemill-error").unwrap();
    assert_eq!(kept.len(), 2047, "2048 would split a character");
    assert!(error.starts_with(kept));
}
