//! What a handler is given, what it may do, and what becomes of it when it goes wrong.

use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{Event, Failure, FailureKind, Header, KeyChoice, Outbox, Outcome, Record, Shape};
use tidemill::plugin::{Call, PluginError};

use super::{ECHO, MOODY, call, compile, function, load, odd, record, say, start, values};

fn failed(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("expected a failure, got {other:?}"),
    }
}

#[test]
fn echo_writes_key_and_value_on() {
    let mut echo = start(&load(&ECHO), None);
    let mut outbox = Outbox::default();
    assert_eq!(call(&mut echo, &Event::plain(record(Some(b"v")), "s"), &mut outbox), Outcome::Ok);
    assert_eq!(call(&mut echo, &Event::plain(record(Some(b"")), "s"), &mut outbox), Outcome::Ok);
    assert_eq!(call(&mut echo, &Event::plain(record(None), "s"), &mut outbox), Outcome::Ok);
    let mut seen = Vec::new();
    let all = outbox.visit::<()>(|emit| {
        seen.push((emit.key == KeyChoice::Bytes(b"k"), emit.value.map(<[u8]>::to_vec)));
        Ok(())
    });
    all.unwrap();
    assert_eq!(seen, [(true, Some(b"v".to_vec())), (true, Some(vec![])), (true, None)]);
}

#[test]
fn the_abi_needs_no_rust() {
    let plugin = load(&compile("functions/echo-c/echo.c", "echo_c", &[]));
    assert_eq!(plugin.made_with(), "plain C");
    assert_eq!(plugin.handlers().collect::<Vec<_>>(), ["echo", "typed"]);
    let headers = [Header { name: "ce_type", value: Some(b"typed") }, Header { name: "n", value: None }];
    let mut typed = start(&plugin, Some("typed"));
    let mut outbox = Outbox::default();
    let record = Record { headers: &headers.to_vec(), ..record(Some(b"v")) };
    let mut event = Event::plain(record, "s");
    event.shape = Shape::Binary;
    assert_eq!(call(&mut typed, &event, &mut outbox), Outcome::Ok);
    let all = outbox.visit::<()>(|emit| {
        assert_eq!((emit.key, emit.value), (KeyChoice::OfEvent, Some(&b"v"[..])));
        assert_eq!(emit.headers, headers);
        Ok(())
    });
    all.unwrap();
    assert_eq!(outbox.len(), 1);
    let rejected = failed(say(&mut typed, "plain").0);
    assert_eq!(rejected.kind, FailureKind::Reject { code: Some("untyped".to_owned()) });
    assert_eq!(rejected.message, "not typed");
    let mut counted = Vec::new();
    typed.take_counts(|name, by| counted.push((name.to_owned(), by)));
    assert_eq!(counted, [("calls".to_owned(), 1)]);
}

#[test]
fn a_handler_sees_the_whole_event() {
    let mut show = start(&load(&MOODY), Some("show"));
    let headers = vec![Header { name: "a", value: Some(b"1") }, Header { name: "b", value: None }];
    let mut event = Event::plain(Record { headers: &headers, ..record(None) }, "rides");
    event.content_type = Some("text/plain".into());
    event.time_ms = 2_000;
    let mut outbox = Outbox::default();
    let outcome = show.call(
        &Call {
            event: &event,
            stands_at: ("rides", 0, 0),
            keyed: None,
            attempt: 2,
            now_ms: 5_000,
            deadline_ms: 10_000,
        },
        &mut outbox,
    );
    assert_eq!(outcome, Outcome::Ok);
    let all = outbox.visit::<()>(|emit| {
        assert_eq!(
            (emit.sink, emit.timestamp_ms, emit.content_type),
            (Some("here"), Some(42), Some("application/json"))
        );
        let set = [Header { name: "h", value: Some(b"1") }, Header { name: "ce_type", value: Some(b"t") }];
        assert_eq!(emit.headers, set);
        Ok(())
    });
    all.unwrap();
    let seen: Value = serde_json::from_str(&values(&outbox)[0]).unwrap();
    let expected = json!({
        "source": "rides", "topic": "in", "partition": 3, "offset": 41, "time": 2000, "timestamp": 1000,
        "key": "k", "null": true, "text": "", "content_type": "text/plain",
        "headers": [["a", "1"], ["b", null]], "id": "in/3/41", "at": "1970-01-01T00:00:02Z", "none": null,
        "function": "default/f", "now": 5000, "deadline": 10000, "attempt": 2,
        "idempotency_key": "default/f/in/3/41",
    });
    assert_eq!(seen, expected);
}

#[test]
fn each_way_to_end_a_call_arrives_as_it_was_meant() {
    let mut moody = start(&load(&MOODY), Some("moody"));
    assert_eq!(say(&mut moody, "skip"), (Outcome::Skip, vec![]));
    for (text, kind, message) in [
        ("retry", FailureKind::Retry { after: None }, "busy"),
        ("later", FailureKind::Retry { after: Some(Duration::from_secs(7)) }, "busy"),
        ("reject", FailureKind::Reject { code: Some("c".to_owned()) }, "bad"),
    ] {
        let message = message.to_owned();
        assert_eq!(say(&mut moody, text), (Outcome::Failed(Failure { kind, message }), vec![]));
    }
    assert!(failed(say(&mut moody, "long").0).message.len() < 10_000, "messages are bounded");
}

#[test]
fn a_panic_is_a_failure_that_leaves_nothing_and_harms_nobody() {
    let plugin = load(&MOODY);
    let (mut moody, mut neighbour) = (start(&plugin, Some("moody")), start(&plugin, Some("moody")));
    assert_eq!(say(&mut moody, "x").1, ["1"]);
    let mut outbox = Outbox::default();
    assert_eq!(call(&mut moody, &Event::plain(record(Some(b"x")), "s"), &mut outbox), Outcome::Ok);
    let panicked = failed(call(&mut moody, &Event::plain(record(Some(b"panic")), "s"), &mut outbox));
    assert_eq!(panicked.kind, FailureKind::Panic);
    assert!(panicked.message.starts_with("broke at call 3 (at "), "{}", panicked.message);
    assert!(panicked.message.contains("lib.rs:"), "{}", panicked.message);
    assert_eq!(values(&outbox), ["2"], "what other calls emitted stays");
    assert_eq!(say(&mut moody, "x").1, ["1"], "a new instance goes on");
    assert!(failed(say(&mut moody, "index").0).message.contains("out of range"));
    assert_eq!(failed(say(&mut moody, "odd panic").0).kind, FailureKind::Panic);
    assert_eq!(say(&mut neighbour, "x").1, ["1"]);
}

#[test]
fn an_init_that_fails_says_why() {
    let plugin = load(&MOODY);
    let start =
        |init: &str| match plugin.instance(&function(), Some("moody"), &json!({ "init": init })).unwrap_err()
        {
            PluginError::Init { failure, .. } => *failure,
            other => panic!("{other}"),
        };
    assert_eq!(start("panic").kind, FailureKind::Panic);
    assert!(start("panic").message.starts_with("no good morning"));
    assert_eq!(start("reject").kind, FailureKind::Reject { code: Some("no".to_owned()) });
    assert_eq!(start("retry").kind, FailureKind::Retry { after: Some(Duration::from_millis(1500)) });
    let error = plugin.instance(&function(), Some("moody"), &json!({ "init": 7 })).unwrap_err().to_string();
    assert!(error.contains("default/f") && error.contains("`config`"), "{error}");
}

#[test]
fn a_plugin_that_returns_nonsense_has_failed() {
    let failure = failed(say(&mut start(&load(&odd("status", &["STATUS=77"])), None), "x").0);
    assert_eq!(failure.kind, FailureKind::Panic);
    assert_eq!(failure.message, "the handler returned 77, which has no meaning");
    let macros = ["STATUS=TIDEMILL_REJECT", "MESSAGE=\"ol\\xe9\""];
    let (outcome, emitted) = say(&mut start(&load(&odd("latin_message", &macros)), None), "x");
    assert_eq!((failed(outcome).message.as_str(), emitted.len()), ("ol\u{fffd}", 0));
}

#[test]
fn author_counters_are_handed_over_once() {
    let mut moody = start(&load(&MOODY), Some("moody"));
    say(&mut moody, "count");
    say(&mut moody, "count");
    let take = |moody: &mut tidemill::plugin::Instance| {
        let mut counted = Vec::new();
        moody.take_counts(|name, by| counted.push((name.to_owned(), by)));
        counted
    };
    assert_eq!(take(&mut moody), [("seen".to_owned(), 10), ("calls".to_owned(), 2)]);
    assert_eq!(take(&mut moody), []);
    assert_eq!(say(&mut moody, "flood").0, Outcome::Ok);
}

#[test]
fn an_instance_moves_to_its_worker_thread() {
    let mut moody = start(&load(&MOODY), Some("moody"));
    let emitted = std::thread::spawn(move || say(&mut moody, "x").1).join().unwrap();
    assert_eq!(emitted, ["1"]);
}
