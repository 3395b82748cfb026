//! A function's key and an event's time come from where the manifest says, or the event is refused with
//! the reason.

use tidemill::model::{DeadLetterReason, Format, KeySpec, Source, TimeFormat, TimeSpec};
use tidemill::pipeline::{Intake, Poison};

use crate::scene::{Stored, TIME_MS, source};

fn taken(stored: &Stored, key: KeySpec, time: TimeSpec) -> Result<(Option<Vec<u8>>, i64), Poison> {
    let intake = Intake::new(&Source { key, time, ..source(Format::Auto) });
    let event = intake.take(stored.record())?.expect("no filter refuses it");
    Ok((event.key.as_deref().map(<[u8]>::to_vec), event.time_ms))
}

fn key_of(stored: &Stored, key: KeySpec) -> Result<String, String> {
    match taken(stored, key, TimeSpec::Record) {
        Ok((key, _)) => Ok(String::from_utf8(key.expect("a key")).unwrap()),
        Err(error) => {
            assert_eq!(error.reason(), DeadLetterReason::Unkeyed);
            Err(error.to_string())
        }
    }
}

fn fields(paths: &[&str]) -> KeySpec {
    KeySpec::Fields(paths.iter().map(|path| (*path).to_owned()).collect())
}

#[test]
fn without_a_key_of_its_own_the_records_key_and_time_stay() {
    let mut stored = Stored::new("x");
    assert_eq!(taken(&stored, KeySpec::Record, TimeSpec::Record).unwrap(), (Some(b"k1".to_vec()), TIME_MS));
    (stored.key, stored.timestamp_ms) = (None, -1);
    assert_eq!(taken(&stored, KeySpec::Record, TimeSpec::Record).unwrap(), (None, -1));
}

#[test]
fn headers_and_attributes_are_keys_byte_by_byte() {
    let stored =
        Stored::binary("x").header("h", "a").header("h", "b").header("ce_zone", "north").null_header("n");
    assert_eq!(key_of(&stored, KeySpec::Header("h".into())).unwrap(), "b");
    assert_eq!(key_of(&stored, KeySpec::Attribute("zone".into())).unwrap(), "north");
    assert_eq!(key_of(&stored, KeySpec::Attribute("type".into())).unwrap(), "ride.completed");
    assert_eq!(key_of(&Stored::new("x"), KeySpec::Attribute("id".into())).unwrap(), "rides/3/42");
    for (key, reason) in [
        (KeySpec::Header("n".into()), "the key's header `n` is missing or null"),
        (KeySpec::Header("gone".into()), "the key's header `gone` is missing or null"),
        (KeySpec::Attribute("subject".into()), "the key's CloudEvents attribute `subject` is missing"),
    ] {
        assert_eq!(key_of(&stored, key).unwrap_err(), reason);
    }
}

#[test]
fn key_text_is_canonical_and_tells_types_apart() {
    for (body, one) in [
        (r#"{"a":1}"#, "1"),
        (r#"{"a":1.0}"#, "1.0"),
        (r#"{"a":"1"}"#, r#""1""#),
        (r#"{"a":1.50}"#, "1.5"),
        (r#"{"a":"rider-7"}"#, "rider-7"),
        (r#"{"a":"7 up"}"#, "7 up"),
        (r#"{"a":""}"#, ""),
        (r#"{"a":"é\u0041"}"#, "éA"),
        (r#"{"a":true}"#, "true"),
        (r#"{"a":"true"}"#, r#""true""#),
        (r#"{"a":"truely"}"#, "truely"),
        (r#"{"a":"\"1\""}"#, r#""\"1\"""#),
        (r#"{"a":{"y":1, "x":2}}"#, r#"{"x":2,"y":1}"#),
        (r#"{"a":[1, 2]}"#, "[1,2]"),
        (r#"{"a":"[1,2]"}"#, r#""[1,2]""#),
    ] {
        assert_eq!(key_of(&Stored::new(body), fields(&["/a"])).as_deref(), Ok(one), "{body}");
    }
    let several = Stored::new(r#"{ "a": "x", "b": {"c": 1.0} , "d": "1" }"#);
    assert_eq!(key_of(&several, fields(&["/a", "/b/c", "/d"])).unwrap(), r#"["x",1.0,"1"]"#);
}

#[test]
fn an_event_without_its_key_field_is_refused_with_the_place() {
    for (body, paths, reason) in [
        (r#"{"a":1}"#, &["/b"][..], "the key's field `/b` is missing or null"),
        (r#"{"a":null}"#, &["/a"], "the key's field `/a` is missing or null"),
        (r#"{"a":1,"b":null}"#, &["/a", "/b"], "the key's field `/b` is missing or null"),
        (
            "{",
            &["/a"],
            "the key's field `/a` is missing: the body is not JSON: EOF while parsing an object at line 1 column 1",
        ),
    ] {
        assert_eq!(key_of(&Stored::new(body), fields(paths)).unwrap_err(), reason, "{body}");
    }
}

fn time_of(body: &str, format: TimeFormat) -> Result<i64, String> {
    let time = TimeSpec::Field { path: "/at".to_owned(), format };
    taken(&Stored::new(body), KeySpec::Record, time).map(|(_, ms)| ms).map_err(|error| {
        assert_eq!(error.reason(), DeadLetterReason::Unkeyed);
        error.to_string()
    })
}

#[test]
fn times_are_read_in_each_unit() {
    use TimeFormat::{Ms, Ns, Rfc3339, S, Us};
    for (body, format, ms) in [
        (r#"{"at":"2023-11-14T23:13:20.5+01:00"}"#, Rfc3339, TIME_MS),
        (r#"{"at":1700000000}"#, S, 1_700_000_000_000),
        (r#"{"at":1700000000.5}"#, S, TIME_MS),
        (r#"{"at":1700000000500}"#, Ms, TIME_MS),
        (r#"{"at":1700000000500.9}"#, Ms, TIME_MS),
        (r#"{"at":1700000000500999}"#, Us, TIME_MS),
        (r#"{"at":1700000000500999999}"#, Ns, TIME_MS),
        (r#"{"at":0}"#, Ms, 0),
        (r#"{"at":253402300799999}"#, Ms, 253_402_300_799_999),
    ] {
        assert_eq!(time_of(body, format), Ok(ms), "{body}");
    }
}

#[test]
fn a_time_that_is_none_is_refused_with_what_is_there() {
    use TimeFormat::{Ms, Rfc3339, S, Us};
    for (body, format, reason) in [
        ("{}", Ms, "the time's field `/at` is missing or null"),
        (r#"{"at":null}"#, Ms, "the time's field `/at` is missing or null"),
        (r#"{"at":"1700000000500"}"#, Ms, r#"the time in `/at` is not a number: `"1700000000500"`"#),
        (r#"{"at":"yesterday"}"#, Rfc3339, "the time in `/at` is not an RFC 3339 time: `yesterday`"),
        (r#"{"at":5}"#, Rfc3339, "the time in `/at` is not an RFC 3339 time: `5`"),
        (r#"{"at":-1}"#, Ms, "the time in `/at` is before 1970: -1 ms"),
        (r#"{"at":-1}"#, Us, "the time in `/at` is before 1970: -1 ms"),
        (r#"{"at":-0.001}"#, S, "the time in `/at` is before 1970: -1 ms"),
        (r#"{"at":"1969-12-31T23:59:59Z"}"#, Rfc3339, "the time in `/at` is before 1970: -1000 ms"),
        (r#"{"at":1700000000500}"#, S, "the time in `/at` is after the year 9999: is its format s?"),
        (r#"{"at":9223372036854775807}"#, S, "the time in `/at` is after the year 9999: is its format s?"),
        (r#"{"at":1e300}"#, Ms, "the time in `/at` is after the year 9999: is its format ms?"),
    ] {
        assert_eq!(time_of(body, format).unwrap_err(), reason, "{body}");
    }
}

#[test]
fn an_attribute_is_a_time_too() {
    let time = || TimeSpec::Attribute("time".to_owned());
    let stored = Stored::binary("x").header("ce_time", "2023-11-14T22:13:20.5Z");
    assert_eq!(taken(&stored, KeySpec::Record, time()).unwrap().1, TIME_MS);
    let error = taken(&Stored::binary("x"), KeySpec::Record, time()).unwrap_err();
    assert_eq!(error.to_string(), "the time's CloudEvents attribute `time` is missing");
    let error = taken(&Stored::binary("x"), KeySpec::Record, TimeSpec::Attribute("type".into())).unwrap_err();
    assert_eq!(error.to_string(), "the time in `type` is not an RFC 3339 time: `ride.completed`");
}
