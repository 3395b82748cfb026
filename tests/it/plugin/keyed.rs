//! State, timers and tables: what a handler asks of its key is answered, what it does to it is staged, and its timers call it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{
    At, Effect, Event, Failure, FailureKind, KeyChoice, Keyed, LookupError, Outbox, Outcome, TimerCall,
};
use tidemill::pipeline::Handler;
use tidemill::plugin::{Call, Instance, OfTimer, OfWindow};

use super::windows::window;
use super::{ECHO, MOODY, compile, load, record, start, values};

/// What the key `k` has, and a table.
struct Desk {
    values: BTreeMap<&'static str, &'static str>,
    profiles: BTreeMap<&'static str, &'static str>,
    has_state: bool,
    watermark_ms: i64,
}

impl Keyed for Desk {
    fn value(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(|value| value.as_bytes())
    }

    fn lookup(&self, table: &str, key: &[u8]) -> Result<Option<&[u8]>, LookupError> {
        match (table, key) {
            ("profiles", b"other") => Err(LookupError::OtherKey),
            ("profiles", key) => Ok(std::str::from_utf8(key)
                .ok()
                .and_then(|key| self.profiles.get(key))
                .map(|row| row.as_bytes())),
            _ => Err(LookupError::NoTable),
        }
    }

    fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    fn has_state(&self) -> bool {
        self.has_state
    }
}

fn desk(values: &[(&'static str, &'static str)]) -> Desk {
    Desk {
        values: values.iter().copied().collect(),
        profiles: [("k", "\"gold\"")].into(),
        has_state: true,
        watermark_ms: 900,
    }
}

/// Calls with a text and what the key has.
fn say(instance: &mut Instance, text: &str, keyed: Option<&dyn Keyed>, outbox: &mut Outbox) -> Outcome {
    outbox.clear();
    let event = Event::plain(record(Some(text.as_bytes())), "s");
    let call = Call {
        event: &event,
        stands_at: ("in", 3, 41),
        keyed,
        attempt: 1,
        now_ms: 5_000,
        deadline_ms: 10_000,
    };
    instance.call(&call, outbox)
}

fn fire(instance: &mut Instance, timer: TimerCall<'_>, keyed: &dyn Keyed, outbox: &mut Outbox) -> Outcome {
    let call =
        OfTimer { timer, stands_at: ("state", 0, 1), keyed, attempt: 2, now_ms: 5_000, deadline_ms: 10_000 };
    Handler::call_timer(instance, &call, outbox)
}

fn failed(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

fn effects(outbox: &Outbox) -> Vec<Effect<'_>> {
    outbox.effects().collect()
}

#[test]
fn a_handler_in_c_asks_for_its_keys_state_and_changes_it() {
    let plugin = load(&compile("tests/plugins/c/keyed.c", "keyed_c", &[]));
    let mut handler = start(&plugin, None);
    assert!(handler.has_on_timer() && Handler::has_on_timer(&handler));
    let (full, empty) = (desk(&[("n", "old")]), desk(&[]));
    let mut outbox = Outbox::default();
    let mut said = |text: &str, keyed: &dyn Keyed| {
        assert_eq!(say(&mut handler, text, Some(keyed), &mut outbox), Outcome::Ok, "{text}");
        let effects: Vec<String> = outbox.effects().map(|effect| format!("{effect:?}")).collect();
        (values(&outbox).join(""), effects.join(""))
    };
    let done = |effect: Effect<'_>| ("0".to_owned(), format!("{effect:?}"));
    let told = |text: &str| (text.to_owned(), String::new());
    assert_eq!(said("g", &full), told("old"));
    assert_eq!(said("g", &empty), told("1"));
    assert_eq!(said("pnew", &full), done(Effect::Put { name: "n", value: b"new", ttl: None }));
    assert_eq!(
        said("p", &full),
        done(Effect::Put { name: "n", value: b"", ttl: None }),
        "empty is not absent"
    );
    assert_eq!(said("d", &full), done(Effect::Delete { name: "n" }));
    assert_eq!(said("t7", &full), done(Effect::Timer { name: "n", at: At::Event(7) }));
    assert_eq!(said("w8", &full), done(Effect::Timer { name: "n", at: At::Clock(8) }));
    assert_eq!(said("c", &full), done(Effect::Cancel { name: "n" }));
    assert_eq!(said("lk", &full), told("\"gold\""));
    assert_eq!(said("lx", &full), told("1"));
    assert_eq!(said("lother", &full), told("6"));
    assert_eq!(said("!", &full), told(""), "nothing is staged of what is refused");
}

#[test]
fn without_state_in_the_manifest_there_is_none() {
    let plugin = load(&compile("tests/plugins/c/keyed.c", "keyed_stateless", &[]));
    let mut handler = start(&plugin, None);
    let tables_only = Desk { has_state: false, ..desk(&[("n", "old")]) };
    let mut outbox = Outbox::default();
    for keyed in [None, Some(&tables_only as &dyn Keyed)] {
        for word in ["g", "pnew", "d", "t7", "w8", "c"] {
            assert_eq!(say(&mut handler, word, keyed, &mut outbox), Outcome::Ok);
            assert_eq!((values(&outbox), effects(&outbox)), (vec!["4".to_owned()], vec![]), "{word}");
        }
    }
    assert_eq!(say(&mut handler, "lk", None, &mut outbox), Outcome::Ok);
    assert_eq!(values(&outbox), ["3"]);
    assert_eq!(say(&mut handler, "lk", Some(&tables_only), &mut outbox), Outcome::Ok);
    assert_eq!(values(&outbox), ["\"gold\""], "tables need no state");
}

#[test]
fn a_table_from_before_there_were_timers_is_understood() {
    let macros = ["HANDLER_SIZE=offsetof(tidemill_handler,on_timer)"];
    let mut handler = start(&load(&compile("tests/plugins/c/keyed.c", "keyed_before", &macros)), None);
    let mut outbox = Outbox::default();
    for (word, answer) in [("g", "old"), ("pnew", "0"), ("t7", "5"), ("w7", "5"), ("c", "0")] {
        assert_eq!(say(&mut handler, word, Some(&desk(&[("n", "old")])), &mut outbox), Outcome::Ok);
        assert_eq!(values(&outbox), [answer], "{word}");
    }
    refuses(&mut handler);
    refuses(&mut start(&load(&ECHO), None));
    refuses(&mut start(&load(&MOODY), Some("gather")));
}

fn refuses(handler: &mut Instance) {
    assert!(!handler.has_on_timer());
    let timer = TimerCall { key: b"k", name: "n", at: At::Event(1) };
    let failure = failed(fire(handler, timer, &desk(&[]), &mut Outbox::default()));
    assert_eq!(failure.kind, FailureKind::Reject { code: None });
    assert_eq!(failure.message, "the handler has no `on_timer`, which its timers call");
}

#[test]
fn a_handler_in_c_is_called_by_its_timers() {
    let mut handler = start(&load(&compile("tests/plugins/c/keyed.c", "keyed_timers", &[])), None);
    let mut outbox = Outbox::default();
    let early = Desk { watermark_ms: i64::MIN, ..desk(&[]) };
    for (at, keyed, line) in [
        (At::Event(900), desk(&[]), "ada n 0 900 900"),
        (At::Clock(4_000), early, "ada n 1 4000 -9223372036854775808"),
    ] {
        outbox.clear();
        let timer = TimerCall { key: b"ada", name: "n", at };
        assert_eq!(fire(&mut handler, timer, &keyed, &mut outbox), Outcome::Ok);
        assert_eq!(values(&outbox), [line]);
        let all = outbox.visit::<()>(|emit| {
            assert_eq!((emit.key, emit.timestamp_ms), (KeyChoice::Bytes(b"ada"), Some(at.time_ms())));
            Ok(())
        });
        all.unwrap();
    }
}

#[test]
fn a_handler_in_rust_keeps_state_and_sees_what_it_did() {
    let mut clerk = start(&load(&MOODY), Some("clerk"));
    let mut outbox = Outbox::default();
    let ttl = Some(Duration::from_millis(1500));
    assert_eq!(say(&mut clerk, "count", Some(&desk(&[])), &mut outbox), Outcome::Ok);
    assert_eq!(values(&outbox), ["1"]);
    assert_eq!(effects(&outbox), [Effect::Put { name: "count", value: b"1", ttl }]);
    assert_eq!(say(&mut clerk, "count", Some(&desk(&[("count", "41")])), &mut outbox), Outcome::Ok);
    assert_eq!(effects(&outbox), [Effect::Put { name: "count", value: b"42", ttl }]);
    assert_eq!(say(&mut clerk, "own", Some(&desk(&[("note", "\"old\"")])), &mut outbox), Outcome::Ok);
    assert_eq!(values(&outbox), ["\"new\"", "null"]);
    let put = Effect::Put { name: "note", value: b"\"new\"", ttl: None };
    assert_eq!(effects(&outbox), [put, Effect::Delete { name: "note" }]);
    assert_eq!(say(&mut clerk, "timers", Some(&desk(&[])), &mut outbox), Outcome::Ok);
    let expected = [
        Effect::Timer { name: "quiet", at: At::Event(1_000 + 300_000) },
        Effect::Timer { name: "quiet", at: At::Clock(5_000 + 2_000) },
        Effect::Cancel { name: "quiet" },
    ];
    assert_eq!(effects(&outbox), expected);
    assert_eq!(say(&mut clerk, "lookup", Some(&desk(&[])), &mut outbox), Outcome::Ok);
    assert_eq!(values(&outbox), ["[\"gold\",null]"]);
    for (watermark_ms, told) in [(900, "900"), (i64::MIN, "null")] {
        let keyed = Desk { watermark_ms, ..desk(&[]) };
        assert_eq!(say(&mut clerk, "watermark", Some(&keyed), &mut outbox), Outcome::Ok);
        assert_eq!(values(&outbox), [told]);
    }
    assert_eq!(say(&mut clerk, "watermark", None, &mut outbox), Outcome::Ok);
    assert_eq!(values(&outbox), ["null"]);
}

#[test]
fn a_call_that_fails_has_done_nothing_to_its_key() {
    let mut clerk = start(&load(&MOODY), Some("clerk"));
    let mut outbox = Outbox::default();
    let failure = failed(say(&mut clerk, "half", Some(&desk(&[])), &mut outbox));
    assert_eq!((failure.message.as_str(), effects(&outbox)), ("half way", vec![]));
    assert!(outbox.is_empty());
}

#[test]
fn errors_say_what_to_do_and_stop_where_all_else_would_fail_too() {
    let plugin = load(&MOODY);
    let mut clerk = start(&plugin, Some("clerk"));
    let mut outbox = Outbox::default();
    let (stop, reject) = (FailureKind::Stop, FailureKind::Reject { code: None });
    let some = desk(&[("count", "7")]);
    for (word, kind, message) in [
        ("stop", &stop, "nothing can go on"),
        ("word", &stop, "the key's state `count` is not of the expected shape: invalid type: integer `7`"),
        ("no table", &stop, "the function has no table `stock`: give the source of this name `table: {}`"),
        ("other", &reject, "the table `profiles` has `scope: lane`"),
        ("row", &reject, "a row of the table `profiles` is not of the expected shape: invalid type"),
        ("no key", &reject, "the table `profiles` is asked for no key"),
        ("before", &reject, "the timer `quiet` was to fire at -1 ms, before 1970"),
    ] {
        let failure = failed(say(&mut clerk, word, Some(&some), &mut outbox));
        assert!(failure.kind == *kind && failure.message.starts_with(message), "{word}: {failure:?}");
    }
    for word in ["count", "own", "timers"] {
        let failure = failed(say(&mut clerk, word, None, &mut outbox));
        assert_eq!(failure.kind, FailureKind::Stop, "{word}");
        assert!(failure.message.ends_with("the manifest has no `state:`; add `state: {}`"), "{failure:?}");
    }
}

#[test]
fn a_handler_in_rust_is_called_by_its_timers() {
    let mut clerk = start(&load(&MOODY), Some("clerk"));
    assert!(clerk.has_on_timer() && !clerk.has_on_window());
    let mut outbox = Outbox::default();
    let timer = TimerCall { key: b"ada", name: "quiet", at: At::Event(800) };
    assert_eq!(fire(&mut clerk, timer, &desk(&[("count", "3")]), &mut outbox), Outcome::Ok);
    let mut seen = Vec::new();
    let all = outbox.visit::<()>(|emit| {
        seen.push((emit.key != KeyChoice::Null, emit.timestamp_ms));
        Ok(())
    });
    all.unwrap();
    assert_eq!(seen, [(true, Some(800)), (false, Some(42))]);
    let told: Value = serde_json::from_str(&values(&outbox)[0]).unwrap();
    let expected = json!({
        "quiet": true, "name": "quiet", "key": [97, 100, 97], "text": "ada", "event": true, "at": 800, "count": 3,
        "watermark": 900, "attempt": 2, "idempotency_key": "default/f/ada/quiet/event/800",
    });
    assert_eq!(told, expected);
    let again = Effect::Timer { name: "quiet", at: At::Event(1_800) };
    assert_eq!(effects(&outbox), [Effect::Delete { name: "count" }, again]);
    // By the wall clock, of another name and a key that is no text.
    outbox.clear();
    let timer = TimerCall { key: &[0xff], name: "other", at: At::Clock(800) };
    assert_eq!(fire(&mut clerk, timer, &desk(&[]), &mut outbox), Outcome::Ok);
    let told: Value = serde_json::from_str(&values(&outbox)[0]).unwrap();
    assert_eq!(
        [&told["quiet"], &told["event"], &told["text"], &told["idempotency_key"]],
        [&json!(false), &json!(false), &json!(null), &json!("default/f/ff/other/wall/800")]
    );
}

#[test]
fn a_call_with_a_timer_ends_as_one_with_an_event_does() {
    let mut clerk = start(&load(&MOODY), Some("clerk"));
    let mut outbox = Outbox::default();
    let mut fire = |key: &str, outbox: &mut Outbox| {
        let timer = TimerCall { key: key.as_bytes(), name: "quiet", at: At::Event(800) };
        fire(&mut clerk, timer, &desk(&[]), outbox)
    };
    assert_eq!(fire("skip", &mut outbox), Outcome::Skip);
    let rejected = Failure { kind: FailureKind::Reject { code: None }, message: "bad".to_owned() };
    assert_eq!(fire("reject", &mut outbox), Outcome::Failed(rejected));
    assert_eq!(failed(fire("panic", &mut outbox)).kind, FailureKind::Panic);
    assert!(outbox.is_empty() && effects(&outbox).is_empty(), "they leave nothing");
    assert_eq!(fire("k", &mut outbox), Outcome::Ok, "a new instance goes on");
}

#[test]
fn a_window_has_the_state_of_its_key() {
    let mut gather = start(&load(&MOODY), Some("gather"));
    let keyed = desk(&[("note", "\"hello\"")]);
    let call = OfWindow {
        window: &window(&[]),
        stands_at: None,
        keyed: Some(&keyed),
        attempt: 1,
        now_ms: 5_000,
        deadline_ms: 10_000,
    };
    let mut outbox = Outbox::default();
    assert_eq!(gather.call_window(&call, &mut outbox), Outcome::Ok);
    let told: Value = serde_json::from_str(&values(&outbox)[1]).unwrap();
    assert_eq!((&told["watermark"], &told["note"]), (&json!(900), &json!("hello")));
}
