//! Stitches: several sources, whose events come through the stitch topic, and what is known of each source partition.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use tidemill::manifest;
use tidemill::model::{DeadLetterReason, Function, Moment, NoHeaders, Outbox, Outcome, Record};
use tidemill::pipeline::{Call, Given as Came, Handler, OfWindow, Pass, Pipeline, Settled, Target};
use tidemill::window::{Part, Windows};

use super::stitch_cases::{CASES, Event, Given, Step, StitchCase, VALIDATION};
use crate::scene::{Recorder, Written};

const NOW: Moment = Moment { wall_ms: 1_000_000, elapsed: Duration::ZERO };

/// A result as a handler is told of it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    key: String,
    bounds: (i64, i64),
    fired: String,
    time: i64,
    events: Vec<(String, String)>,
    missing: Vec<String>,
}

/// Tells what its windows hold.
struct Teller(Sender<Told>);

impl Handler for Teller {
    fn call(&mut self, _: &Call<'_>, _: &mut Outbox) -> Outcome {
        panic!("events are not handled by themselves");
    }

    fn has_on_window(&self) -> bool {
        true
    }

    fn call_window(&mut self, call: &OfWindow<'_>, _: &mut Outbox) -> Outcome {
        let window = call.window;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let events = window.events.iter().map(|event| {
            assert_eq!(event.key.as_deref(), Some(window.key));
            (event.record.topic.to_owned(), text(event.data.as_deref().unwrap_or_default()))
        });
        let told = Told {
            key: text(window.key),
            bounds: (window.start_ms, window.end_ms),
            fired: window.why.to_owned(),
            time: window.time_ms,
            events: events.collect(),
            missing: window.missing.iter().map(|name| (*name).to_owned()).collect(),
        };
        self.0.send(told).unwrap();
        Outcome::Ok
    }

    fn take_counts(&mut self, _: &mut dyn FnMut(&str, u64)) {}
}

/// What is known of a source partition where it is read.
struct Source {
    watermark_ms: i64,
    next: i64,
}

/// A function with a stitch, and one partition of its stitch topic.
struct Lane {
    function: Arc<Function>,
    pipeline: Pipeline,
    windows: Windows,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    sources: BTreeMap<(u16, i32), Source>,
    written: Recorder,
}

fn function(window: &str, sources: &[&str]) -> Result<Function, String> {
    let sources: Vec<String> =
        sources.iter().map(|name| format!("{{topic: {name}, format: text}}")).collect();
    let text = format!(
        "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  window: {{{window}}}\n  \
         sources: [{}]\n  sinks: [{{topic: out, name: out, format: json}}, {{topic: unpaid, name: unpaid, format: \
         json}}]\n",
        sources.join(", ")
    );
    let functions =
        manifest::parse(Path::new("function.yaml"), &text).map_err(|errors| errors.to_string())?;
    Ok(functions.into_iter().next().unwrap())
}

impl Lane {
    /// Of a window as the manifest has it; without a `handler` results are emitted.
    fn new(window: &str, holds: &[(&str, i32)], handler: Option<Box<dyn Handler>>) -> Self {
        let mut names: Vec<&str> = holds.iter().map(|(source, _)| *source).collect();
        names.dedup();
        let function = Arc::new(function(window, &names).unwrap());
        let place = |source: &str| names.iter().position(|known| *known == source).unwrap() as u16;
        let fresh = || Source { watermark_ms: i64::MIN, next: 0 };
        let sources: BTreeMap<_, _> =
            holds.iter().map(|(source, partition)| ((place(source), *partition), fresh())).collect();
        let mut windows = Windows::new(function.window.as_ref().unwrap(), i64::MIN).of_sources(names.len());
        let count = |source: u16| sources.keys().filter(|(known, _)| *known == source).count() as u32;
        let counts = (0..names.len() as u16).map(|source| (source, count(source)));
        windows.hear(counts, std::iter::empty());
        Self {
            pipeline: Pipeline::new(Arc::clone(&function), handler),
            windows,
            function,
            state: BTreeMap::new(),
            sources,
            written: Recorder::default(),
        }
    }

    fn place(&self, source: &str) -> u16 {
        self.function.sources.iter().position(|known| known.topic == source).unwrap() as u16
    }

    /// An event is sent to the stitch topic, and placed from there; `true`: in time.
    fn event(&mut self, event: Event) -> bool {
        let source = self.place(event.source);
        let known = self.sources.get_mut(&(source, event.partition)).unwrap();
        let record = Record {
            topic: event.source,
            partition: event.partition,
            offset: known.next,
            timestamp_ms: event.time,
            key: Some(event.key.as_bytes()),
            value: event.value.map(str::as_bytes),
            headers: &NoHeaders,
        };
        known.next += 1;
        let pass = |source, record| Pass { source, record, failed: 0, is_probe: false, now: NOW };
        let mut sent = Recorder::default();
        let settled = self.pipeline.send(&pass(source.into(), &record), &mut known.watermark_ms, &mut sent);
        assert_eq!(settled, Settled::Ok { written: 0, unrouted: 0 });
        let [sent] = &sent.0[..] else { panic!("one record is sent: {sent:?}") };
        assert_eq!(sent.target, Target::Stitch);
        let stored = sent.stored();
        let record = Record { topic: self.function.stitch_topic.as_deref().unwrap(), ..stored.record() };
        let at_stitch = self.function.sources.len() + 1;
        assert!(self.pipeline.is_stitch(at_stitch));
        match self.pipeline.gather(&pass(at_stitch, &record), &mut self.windows, &mut self.written) {
            Settled::Ok { .. } => true,
            Settled::DeadLetter { reason: DeadLetterReason::Late, .. } => false,
            other => panic!("{other:?}"),
        }
    }

    fn idle(&mut self, source: u16, partition: i32) {
        let watermark_ms = self.sources[&(source, partition)].watermark_ms;
        let part = Part { source, partition, watermark_ms, is_idle: true };
        self.windows.hear(std::iter::empty(), [part].into_iter());
    }

    fn tick(&mut self, time: i64) {
        let places: Vec<(u16, i32)> = self.sources.keys().copied().collect();
        places.into_iter().for_each(|(source, partition)| self.idle(source, partition));
        assert!(self.windows.progress().unwrap().is_idle());
        self.windows.advance_to(time);
    }

    /// Gives what is due; what each came to.
    fn close(&mut self) -> Vec<Came> {
        let mut came = Vec::new();
        while self.pipeline.close_next((("mill.stitch", 0), NOW), &mut self.windows, &mut self.written) {
            came.push(self.pipeline.take_given());
        }
        came
    }

    /// A cut, and another worker takes over from what it wrote.
    fn restart(&mut self) {
        let state = &mut self.state;
        self.windows.changes(|key, value| {
            match value {
                Some(value) => state.insert(key.to_vec(), value.to_vec()),
                None => state.remove(key),
            };
        });
        let (spec, watermark) = (self.function.window.as_ref().unwrap(), self.windows.watermark_ms());
        self.windows = Windows::new(spec, watermark).of_sources(self.function.sources.len());
        for (key, value) in &self.state {
            self.windows.restore(key, Some(value));
        }
        self.windows.restored().unwrap();
    }
}

fn told(given: &Given) -> Told {
    let owned = |(source, value): &(&str, &str)| ((*source).to_owned(), (*value).to_owned());
    Told {
        key: given.key.to_owned(),
        bounds: given.bounds,
        fired: given.fired.to_owned(),
        time: given.time,
        events: given.events.iter().map(owned).collect(),
        missing: given.missing.iter().map(|source| (*source).to_owned()).collect(),
    }
}

fn play(case: &StitchCase, has_restarts: bool) {
    let name = format!("{} ({}), {}", case.name, case.source, case.window);
    let (teller, results): (_, Receiver<Told>) = mpsc::channel();
    let mut lane = Lane::new(case.window, case.holds, Some(Box::new(Teller(teller))));
    for (index, step) in case.steps.iter().enumerate() {
        match *step {
            Step::Event(event) => assert_eq!(!lane.event(event), event.is_late, "{name}, step {index}"),
            Step::Idle { source, partition } => lane.idle(lane.place(source), partition),
            Step::Tick(time) => lane.tick(time),
        }
        lane.close();
        if has_restarts {
            lane.restart();
        }
        let expected: Vec<Told> = case.given.iter().filter(|given| given.step == index).map(told).collect();
        assert_eq!(results.try_iter().collect::<Vec<_>>(), expected, "{name}, step {index}");
    }
    let late = lane.written.0.iter().filter(|written| written.target == Target::DeadLetter).count();
    let is_late = |step: &&Step| matches!(step, Step::Event(Event { is_late: true, .. }));
    assert_eq!(late, case.steps.iter().filter(is_late).count(), "{name}");
}

#[test]
fn every_stitch_case_holds_across_restarts_too() {
    assert_eq!(CASES.len(), 33);
    for case in CASES {
        play(case, false);
        play(case, true);
    }
}

#[test]
fn stitches_of_no_sense_are_refused() {
    for (window, _, is_valid) in VALIDATION {
        match function(window, &["left", "right"]) {
            Ok(_) => assert!(is_valid, "{window}"),
            Err(errors) => {
                assert!(!is_valid, "{window}: {errors}");
                assert!(errors.contains("spec.window."), "for its own sake: {errors}");
            }
        }
    }
    assert!(function("stitch: {within: 3ms, need: [left, right]}", &["left", "right"]).is_ok());
}

/// One stitch that is completed and one that is not; what is written, and what the one that is not comes to.
fn unfinished(on_timeout: &str, has_handler: bool) -> (Vec<Written>, Vec<Told>, Came) {
    let window = format!("stitch: {{within: 100ms, need: [left, right]}}, onTimeout: {on_timeout}");
    let (teller, results) = mpsc::channel();
    let handler = has_handler.then(|| Box::new(Teller(teller)) as Box<dyn Handler>);
    let mut lane = Lane::new(&window, &[("left", 0), ("right", 0)], handler);
    for (source, value, time) in [("left", "L", 0), ("right", "R", 1), ("left", "M", 2)] {
        let event = Event { source, partition: 0, key: "k", value: Some(value), time, is_late: false };
        assert!(lane.event(event));
    }
    assert!(lane.close().is_empty());
    lane.tick(103);
    // The look at the stitch that is complete comes first, and finds nothing.
    let came = lane.close().pop().unwrap();
    (lane.written.0, results.try_iter().collect(), came)
}

#[test]
fn an_unfinished_stitch_goes_where_the_manifest_says() {
    const COMPLETE: &str =
        r#"{"key":"k","window":{"start":0,"end":100,"fired":"complete"},"left":"L","right":"R"}"#;
    const TIMEOUT: &str =
        r#"{"key":"k","window":{"start":2,"end":102,"fired":"timeout"},"left":"M","missing":["right"]}"#;
    let shown = |written: &[Written]| -> Vec<(Target, String)> {
        written.iter().map(|written| (written.target, written.text().to_owned())).collect()
    };
    let to = |sink, text: &str| (Target::Sink(sink), text.to_owned());

    // To each sink that takes it, like any other.
    let (written, _, came) = unfinished("{action: call}", false);
    let expected = [to(0, COMPLETE), to(1, COMPLETE), to(0, TIMEOUT), to(1, TIMEOUT)];
    assert_eq!((&shown(&written)[..], came.written, came.dropped), (&expected[..], 2, 0));

    let (written, _, came) = unfinished("{action: drop}", false);
    assert_eq!((&shown(&written)[..], came.written, came.dropped), (&expected[..2], 0, 1));

    let (written, _, came) = unfinished("{action: emit, sink: unpaid}", false);
    let expected = [to(0, COMPLETE), to(1, TIMEOUT)];
    assert_eq!((&shown(&written)[..], came.written, came.dropped), (&expected[..], 1, 0));

    // Each event by itself, as the record that it was.
    let (written, _, came) = unfinished("{action: deadLetter}", false);
    let reason = (DeadLetterReason::Incomplete, "its stitch ended without right".to_owned());
    assert_eq!((came.dead, came.written, written.len()), (vec![reason], 0, 3));
    let letter = written.last().unwrap();
    assert_eq!(
        (letter.target, letter.text(), letter.key.as_deref()),
        (Target::DeadLetter, "M", Some(&b"k"[..]))
    );
    let place = ["topic", "partition", "offset"].map(|part| letter.header(&format!("tidemill-{part}")));
    assert_eq!(place, [Some("left"), Some("0"), Some("1")]);
}

#[test]
fn a_handler_is_called_for_an_unfinished_stitch_only_if_the_manifest_says_so() {
    for (on_timeout, calls) in [
        ("{action: call}", 2),
        ("{action: drop}", 1),
        ("{action: deadLetter}", 1),
        ("{action: emit, sink: unpaid}", 1),
    ] {
        let (_, told, _) = unfinished(on_timeout, true);
        assert_eq!(told.len(), calls, "{on_timeout}");
        assert_eq!(told[0].fired, "complete");
    }
}
