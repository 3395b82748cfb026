//! A window that gives its result reaches the handler, whole, and what the handler makes of it comes back.

use tidemill::model::{Event, FailureKind, Header, KeyChoice, Outbox, Outcome, Record, Shape, WindowCall};
use tidemill::pipeline::Handler;
use tidemill::plugin::{Instance, OfWindow, Plugin};

use super::{ECHO, compile, load, record, say, scratch, start};

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
    let call = OfWindow { window, stands_at: None, attempt: 1, now_ms: 5_000, deadline_ms: 10_000 };
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
