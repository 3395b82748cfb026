//! A window that gives its result reaches the handler, whole, and what the handler makes of it comes back.

use std::time::Duration;

use serde_json::{Value, json};
use tidemill::model::{
    Event, Failure, FailureKind, Header, KeyChoice, Outbox, Outcome, Record, Shape, WindowCall,
};
use tidemill::pipeline::Handler;
use tidemill::plugin::{Instance, OfWindow, Plugin};

use super::{ECHO, MOODY, compile, load, record, say, scratch, start, values};

/// A window of one minute that holds `events`.
pub(super) fn window<'a>(events: &'a [Event<'a>]) -> WindowCall<'a> {
    WindowCall {
        key: b"ada",
        start_ms: 60_000,
        end_ms: 120_000,
        time_ms: 119_999,
        why: "close",
        events,
        aggregates: None,
        missing: &[],
    }
}

/// Calls with a window.
pub(super) fn give(instance: &mut Instance, window: &WindowCall<'_>, outbox: &mut Outbox) -> Outcome {
    let call =
        OfWindow { window, stands_at: None, keyed: None, attempt: 1, now_ms: 5_000, deadline_ms: 10_000 };
    instance.call_window(&call, outbox)
}

/// An output: key, time, value, headers.
type Seen = (Option<String>, Option<i64>, String, Vec<(String, Option<String>)>);

fn seen(outbox: &Outbox) -> Vec<Seen> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut seen = Vec::new();
    let all = outbox.visit::<()>(|emit| {
        let key = match emit.key {
            KeyChoice::Bytes(key) => Some(text(key)),
            KeyChoice::Null => None,
            KeyChoice::OfEvent => panic!("a window's key is spelt out"),
        };
        let header = |header: &Header<'_>| (header.name.to_owned(), header.value.map(text));
        let headers = emit.headers.iter().map(header).collect();
        seen.push((key, emit.timestamp_ms, text(emit.value.unwrap_or(b"<null>")), headers));
        Ok(())
    });
    all.unwrap();
    seen
}

fn of_window(value: &str, headers: &[(&str, Option<&str>)]) -> Seen {
    let header = |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
    (Some("ada".to_owned()), Some(119_999), value.to_owned(), headers.iter().map(header).collect())
}

#[test]
fn a_handler_in_c_sees_the_whole_window() {
    let plugin = load(&compile("tests/plugins/c/window.c", "window_c", &[]));
    plugin.require_on_window(None).unwrap();
    let mut handler = start(&plugin, None);
    assert!(handler.has_on_window());
    let (typed, plain) = (vec![Header { name: "ce_type", value: Some(b"ride") }], vec![]);
    let mut ride = Event::plain(Record { headers: &typed, ..record(Some(b"one")) }, "ride");
    ride.shape = Shape::Binary;
    let payment = Event::plain(Record { headers: &plain, ..record(None) }, "payment");
    let events = [ride, payment];
    let mut outbox = Outbox::default();
    let missing = WindowCall { why: "timeout", missing: &["promo", "tip"], ..window(&events) };
    assert_eq!(give(&mut handler, &missing, &mut outbox), Outcome::Ok);
    let expected = [
        of_window("ada [60000 120000] timeout 2 ", &[]),
        of_window("one", &[("was", Some("ride")), ("ce_type", Some("ride"))]),
        of_window("<null>", &[("was", Some("dev.tidemill.record"))]),
        (None, Some(7), "promo".to_owned(), vec![]),
        (None, Some(7), "tip".to_owned(), vec![]),
    ];
    assert_eq!(seen(&outbox), expected);
    // The next one has less of everything, and nothing of the last.
    outbox.clear();
    let aggregates = WindowCall { start_ms: -60_000, aggregates: Some(br#"{"rides":3}"#), ..window(&[]) };
    assert_eq!(give(&mut handler, &aggregates, &mut outbox), Outcome::Ok);
    assert_eq!(seen(&outbox), [of_window(r#"ada [-60000 120000] close 0 {"rides":3}"#, &[])]);
    assert_eq!(say(&mut handler, "x"), (Outcome::Ok, vec!["x".to_owned()]), "events are handled as ever");
}

#[test]
fn a_table_from_before_there_were_windows_is_understood() {
    let macros = ["HANDLER_SIZE=offsetof(tidemill_handler,on_window)"];
    let plugin = load(&compile("tests/plugins/c/window.c", "window_before", &macros));
    let error = plugin.require_on_window(None).unwrap_err().to_string();
    assert!(
        error.contains("its handler `window` has no `on_window`") && error.contains("OnWindow"),
        "{error}"
    );
    let mut handler = start(&plugin, None);
    assert_eq!(say(&mut handler, "x").1, ["x"]);
    refuses(&mut handler);
    // What is shorter still was never a table.
    let macros = ["HANDLER_SIZE=offsetof(tidemill_handler,drop)"];
    let file = compile("tests/plugins/c/window.c", "window_cut", &macros);
    let error = Plugin::load(&file, None, &scratch().join("private")).unwrap_err().to_string();
    assert!(error.contains("the table of handler 0 has 40 bytes of at least 48"), "{error}");
}

#[test]
fn a_handler_without_on_window_rejects_windows() {
    let plugin = load(&ECHO);
    assert!(plugin.require_on_window(Some("echo")).is_err());
    refuses(&mut start(&plugin, None));
}

#[test]
fn a_handler_in_rust_sees_the_whole_window() {
    let plugin = load(&MOODY);
    plugin.require_on_window(Some("gather")).unwrap();
    let mut gather = start(&plugin, Some("gather"));
    let headers = vec![Header { name: "a", value: None }];
    let ride = Event::plain(Record { headers: &headers, ..record(Some(b"one")) }, "ride");
    let events = [ride, Event::plain(Record { partition: 4, ..record(None) }, "payment")];
    let binary = WindowCall { key: &[0xff], why: "complete", missing: &["promo"], ..window(&events) };
    let call = OfWindow {
        keyed: None,
        window: &binary,
        stands_at: Some(("in", 3, 41)),
        attempt: 2,
        now_ms: 5_000,
        deadline_ms: 9_000,
    };
    let mut outbox = Outbox::default();
    assert_eq!(Handler::call_window(&mut gather, &call, &mut outbox), Outcome::Ok);
    let seen = seen(&outbox);
    assert_eq!(
        (&seen[1].0, seen[1].1, &seen[2].0, seen[2].1),
        (&Some("\u{fffd}".to_owned()), Some(119_999), &None, Some(42))
    );
    let mut told: Value = serde_json::from_str(&seen[1].2).unwrap();
    let name = told["idempotency_key"].take();
    assert!(name.as_str().unwrap().starts_with("default/f/ff/60000/120000/"), "{name}");
    let expected = json!({
        "key": [255], "start": 60_000, "end": 120_000, "time": 119_999, "fired": "complete", "missing": ["promo"],
        "events": [["ride", 41, "k", "in/3/41", ["a"]], ["payment", 41, "k", "in/4/41", []]], "rides": null,
        "function": "default/f", "now": 5000, "deadline": 9000, "attempt": 2, "idempotency_key": null,
        "watermark": null, "note": null,
    });
    assert_eq!(told, expected);
    outbox.clear();
    let aggregates = WindowCall { aggregates: Some(br#"{"rides":3}"#), ..window(&[]) };
    assert_eq!(give(&mut gather, &aggregates, &mut outbox), Outcome::Ok);
    let told: Value = serde_json::from_str(&values(&outbox)[1]).unwrap();
    assert_eq!((&told["rides"], &told["events"]), (&json!(3), &json!([])));
}

#[test]
fn a_call_with_a_window_ends_as_one_with_an_event_does() {
    let plugin = load(&MOODY);
    let mut gather = start(&plugin, Some("gather"));
    let mut outbox = Outbox::default();
    let mut say = |key: &str, outbox: &mut Outbox| {
        give(&mut gather, &WindowCall { key: key.as_bytes(), ..window(&[]) }, outbox)
    };
    assert_eq!(say("calls", &mut outbox), Outcome::Ok);
    assert_eq!(say("skip", &mut outbox), Outcome::Skip);
    for (key, kind, message) in [
        ("later", FailureKind::Retry { after: Some(Duration::from_secs(7)) }, "busy"),
        ("reject", FailureKind::Reject { code: Some("c".to_owned()) }, "bad"),
    ] {
        let message = message.to_owned();
        assert_eq!(say(key, &mut outbox), Outcome::Failed(Failure { kind, message }));
    }
    let Outcome::Failed(panicked) = say("panic", &mut outbox) else { panic!("it did not panic") };
    assert_eq!(panicked.kind, FailureKind::Panic);
    assert!(panicked.message.starts_with("broke at call 5 (at "), "{}", panicked.message);
    assert_eq!(
        values(&outbox),
        ["1"],
        "a call that does not end well leaves nothing, and what others emitted"
    );
    assert_eq!(say("calls", &mut outbox), Outcome::Ok);
    assert_eq!(values(&outbox), ["1", "1"], "a new instance goes on");
    // It takes windows and nothing else; its neighbour nothing but events.
    let Outcome::Failed(refused) = super::say(&mut gather, "x").0 else { panic!("it took an event") };
    assert_eq!(refused.kind, FailureKind::Reject { code: None });
    assert!(refused.message.contains("no `handle`"), "{}", refused.message);
    refuses(&mut start(&plugin, Some("moody")));
    refuses(&mut start(&plugin, Some("show")));
}

fn refuses(handler: &mut Instance) {
    assert!(!handler.has_on_window());
    let mut outbox = Outbox::default();
    let Outcome::Failed(failure) = give(handler, &window(&[]), &mut outbox) else {
        panic!("it took a window")
    };
    assert_eq!(failure.kind, FailureKind::Reject { code: None });
    assert_eq!(failure.message, "the handler has no `on_window`, which the function's window calls");
    assert!(outbox.is_empty());
    assert!(!Handler::has_on_window(handler));
}
