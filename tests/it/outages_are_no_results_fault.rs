//! Results of windows during outages: over random scripts of events, cuts, aborts, restarts and outages, each result ends
//! once, in its key's order; one that nothing ails is a dead letter only if it was called as often as it may be. In an outage
//! without a restart none is, however long it lasts and however many windows close meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::manifest;
use tidemill::model::{
    Dice, Emit, Failure, FailureKind, Function, KeyChoice, Moment, NoHeaders, Order, Outbox, Outcome, Record,
};
use tidemill::pipeline::{
    Agenda, Call, Checkpoint, Desk, Handler, METADATA_LIMIT, OfWindow, Pass, Pipeline, Policy, Settled,
    Target, Track,
};
use tidemill::window::Windows;

use crate::scene::{Recorder, Written};
use crate::windows_follow_a_plain_model::below;

const SCRIPTS: u64 = 3_000;
const ATTEMPTS: u32 = 3;
const CIRCUIT_KEYS: usize = 3;

#[derive(Default)]
struct Book {
    is_out: bool,
    /// Keys whose results always fail.
    poison: Vec<Vec<u8>>,
    /// Calls of each result: key, start, attempts.
    calls: BTreeMap<(Vec<u8>, i64), Vec<u32>>,
}

struct Scripted(Arc<Mutex<Book>>);

impl Handler for Scripted {
    fn call(&mut self, _: &Call<'_>, _: &mut Outbox) -> Outcome {
        unreachable!("events are gathered")
    }

    fn has_on_window(&self) -> bool {
        true
    }

    fn call_window(&mut self, call: &OfWindow<'_>, outbox: &mut Outbox) -> Outcome {
        let (key, start) = (call.window.key.to_vec(), call.window.start_ms);
        let mut book = self.0.lock().unwrap();
        book.calls.entry((key.clone(), start)).or_default().push(call.attempt);
        if book.is_out || book.poison.contains(&key) {
            let kind = FailureKind::Retry { after: None };
            return Outcome::Failed(Failure { kind, message: "the database is away".to_owned() });
        }
        let value = start.to_string();
        let emit = Emit {
            sink: None,
            key: KeyChoice::Bytes(&key),
            value: Some(value.as_bytes()),
            content_type: None,
            timestamp_ms: Some(start),
            headers: &[],
        };
        assert!(outbox.push(&emit));
        Outcome::Ok
    }

    fn take_counts(&mut self, _: &mut dyn FnMut(&str, u64)) {}
}

fn function() -> Function {
    let text = format!(
        "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  handler: {{plugin: mill}}\n  \
         window: {{tumbling: {{size: 10ms}}}}\n  delivery: {{retry: {{maxAttempts: {ATTEMPTS}, initial: 10ms, max: 80ms}}, \
         circuit: {{keys: {CIRCUIT_KEYS}, within: 10s}}}}\n  sources: [{{topic: in, format: text}}]\n  sinks: [{{topic: out, \
         format: text}}]\n"
    );
    let functions = manifest::parse(Path::new("function.yaml"), &text);
    functions.unwrap_or_else(|errors| panic!("{errors}")).into_iter().next().unwrap()
}

fn policy(function: &Function) -> Policy {
    Policy {
        order: Order::Key,
        retry: function.delivery.retry,
        max_held: 1000,
        max_held_bytes: 1 << 20,
        circuit: function.delivery.circuit,
        max_metadata: METADATA_LIMIT,
    }
}

/// A lane with its windows, as a worker has it.
struct Lane {
    function: Arc<Function>,
    book: Arc<Mutex<Book>>,
    dice: Dice,
    pipeline: Pipeline,
    desk: Desk<()>,
    track: Track,
    agenda: Agenda,
    windows: Windows,
    now: Duration,
    events: Vec<(u8, i64)>,
    position: usize,
    staged: Recorder,
    visible: Vec<Written>,
    /// Entries, position and event time of the last cut.
    committed: (BTreeMap<Vec<u8>, Vec<u8>>, usize, i64),
    openings: usize,
}

impl Lane {
    fn new(seed: u64, events: Vec<(u8, i64)>) -> Self {
        let function = Arc::new(function());
        let book = Arc::new(Mutex::new(Book::default()));
        let desk = Desk::new(policy(&function), 0);
        let mut track = Track::new(desk.policy(), 0, ("in", 0), Checkpoint::fresh(0), 0);
        track.places_events(desk.policy());
        Self {
            pipeline: Pipeline::new(Arc::clone(&function), Some(Box::new(Scripted(Arc::clone(&book))))),
            windows: Windows::new(function.window.as_ref().unwrap(), i64::MIN),
            dice: Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            agenda: Agenda::default(),
            now: Duration::ZERO,
            position: 0,
            staged: Recorder::default(),
            visible: Vec::new(),
            committed: (BTreeMap::new(), 0, i64::MIN),
            openings: 0,
            function,
            book,
            desk,
            track,
            events,
        }
    }

    fn moment(&self) -> Moment {
        Moment { wall_ms: self.now.as_millis() as i64, elapsed: self.now }
    }

    /// What results came to tells the circuit.
    fn tell(&mut self) {
        let given = self.pipeline.take_given();
        if given.went_well() {
            self.track.result_went_well();
        }
        if let Some((key, is_first)) = &given.failed {
            let chance = (self.now, self.dice.roll());
            self.openings += usize::from(self.desk.result_failed(&mut self.track, (key, *is_first), chance));
        }
        self.windows.forget_fresh();
    }

    /// Closes a window, or places an event; `false`: there is none.
    fn go_on(&mut self) -> bool {
        let now = self.moment();
        self.pipeline.hold_results(self.track.holds_results());
        if self.pipeline.close_next((("in", 0), now), &mut self.windows, &mut self.staged) {
            self.tell();
            return true;
        }
        let Some((key, time)) = self.events.get(self.position) else { return false };
        let key = [b'a' + key];
        let record = Record {
            topic: "in",
            partition: 0,
            offset: self.position as i64,
            timestamp_ms: *time,
            key: Some(&key),
            value: Some(b"v"),
            headers: &NoHeaders,
        };
        let now = Moment { wall_ms: *time, ..now };
        let pass = Pass { source: 0, record: &record, failed: 0, is_probe: false, now };
        let settled = self.pipeline.gather(&pass, &mut self.windows, &mut self.staged);
        assert!(matches!(settled, Settled::Ok { .. }), "{settled:?}");
        self.position += 1;
        true
    }

    /// Gives what is due of those that wait, or the probe.
    fn give(&mut self) {
        let retry = self.function.delivery.retry;
        let mut seen = Vec::new();
        let mut first = Vec::new();
        for (number, pending) in self.windows.waiting() {
            if !seen.contains(&pending.key) {
                seen.push(pending.key.clone());
                first.push((number, pending.attempts));
            }
        }
        let due: Vec<u64> = match self.track.holds_results() {
            true if !self.track.may_probe_result(self.now) => return,
            true => {
                self.agenda.probe(first.into_iter(), self.track.wants_fresh_result()).into_iter().collect()
            }
            false => {
                let mut is_due =
                    |of: &(u64, u32)| self.agenda.is_due(*of, &retry, (self.now, self.dice.roll()));
                first.into_iter().filter(|of| is_due(of)).map(|(number, _)| number).collect()
            }
        };
        due.into_iter().for_each(|number| self.give_one(number));
    }

    fn give_one(&mut self, number: u64) {
        let is_probe = self.track.holds_results();
        if is_probe && !self.track.may_probe_result(self.now) {
            return;
        }
        let pending = self.windows.waiting_at(number).unwrap().clone();
        let place = (("in", 0), self.moment());
        self.agenda.take(number);
        match self.pipeline.give_again(place, (&pending, is_probe), &mut self.windows, &mut self.staged) {
            true => self.windows.settled(number),
            false if is_probe => self.agenda.put_off(number, self.now + Duration::from_millis(10)),
            false => self.windows.failed_again(number),
        }
        self.tell();
    }

    fn cut(&mut self) {
        let (state, position, time) = &mut self.committed;
        self.windows.changes(|key, value| {
            match value {
                Some(value) => state.insert(key.to_vec(), value.to_vec()),
                None => state.remove(key),
            };
        });
        self.windows.committed();
        (*position, *time) = (self.position, self.windows.watermark_ms());
        self.visible.append(&mut self.staged.0);
    }

    fn abort(&mut self) {
        self.windows.rolled_back();
        self.agenda.clear();
        self.staged.0.clear();
        self.position = self.committed.1;
        self.desk.rewind(&mut self.track, Checkpoint::fresh(0), 0);
    }

    /// Another worker takes over.
    fn restart(&mut self) {
        self.abort();
        self.track = Track::new(self.desk.policy(), 0, ("in", 0), Checkpoint::fresh(0), 0);
        self.track.places_events(self.desk.policy());
        self.windows = Windows::new(self.function.window.as_ref().unwrap(), self.committed.2);
        self.committed.0.iter().for_each(|(key, value)| self.windows.restore(key, Some(value)));
        self.windows.restored().unwrap();
    }

    /// To the end, without an accident.
    fn finish(&mut self) {
        self.book.lock().unwrap().is_out = false;
        for _ in 0..100_000 {
            let has_more = self.go_on();
            self.windows.advance_to(if has_more { 0 } else { 1 << 40 });
            self.give();
            self.cut();
            self.now += Duration::from_millis(5);
            if !has_more && !self.windows.is_due() && self.windows.count_waiting() == 0 {
                return;
            }
        }
        panic!("it comes to no end: {} wait", self.windows.count_waiting());
    }

    /// Each result once, in its key's order; how many are dead letters, each after all its attempts.
    fn check(&self) -> usize {
        let mut expected: BTreeMap<Vec<u8>, Vec<i64>> = BTreeMap::new();
        for (key, time) in &self.events {
            let starts = expected.entry(vec![b'a' + key]).or_default();
            let start = time.div_euclid(10) * 10;
            if starts.last() != Some(&start) {
                starts.push(start);
            }
        }
        let mut seen: BTreeMap<Vec<u8>, Vec<i64>> = BTreeMap::new();
        let mut dead = 0;
        for written in &self.visible {
            let text = String::from_utf8(written.value.clone().unwrap()).unwrap();
            let start = match written.target {
                Target::DeadLetter => {
                    let letter: serde_json::Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(written.header("tidemill-attempts"), Some(ATTEMPTS.to_string().as_str()));
                    dead += 1;
                    letter["window"]["start"].as_i64().unwrap()
                }
                _ => text.parse().unwrap(),
            };
            seen.entry(written.key.clone().unwrap()).or_default().push(start);
        }
        assert_eq!(seen, expected);
        dead
    }
}

/// Events of so many keys, in the order of time.
fn events(keys: u8, windows: i64) -> Vec<(u8, i64)> {
    (0..windows).flat_map(|window| (0..keys).map(move |key| (key, 1000 + window * 10))).collect()
}

#[test]
fn in_an_outage_no_attempts_are_counted_however_long_it_is() {
    for poison in [0, 2] {
        let mut lane = Lane::new(1, events(20, 10));
        {
            let mut book = lane.book.lock().unwrap();
            book.is_out = true;
            book.poison = (0..poison).map(|key| vec![b'a' + key]).collect();
        }
        for _ in 0..2000 {
            lane.go_on();
            lane.give();
            lane.cut();
            lane.now += Duration::from_millis(5);
        }
        assert_eq!((lane.openings, lane.track.open_since().is_some()), (1, true));
        let counted = lane.windows.waiting().filter(|(_, pending)| pending.attempts > 0).count();
        assert_eq!(counted, CIRCUIT_KEYS, "those that opened it");
        assert!(lane.windows.waiting().all(|(_, pending)| pending.attempts <= 1));
        // Not the one that waits longest again and again.
        let calls = lane.book.lock().unwrap().calls.clone();
        let probes: usize = calls.values().map(|calls| calls.len()).sum();
        assert!(probes > 50 && calls.len() > 15, "{probes} calls with {} results", calls.len());
        assert!(lane.visible.is_empty());
        lane.finish();
        assert_eq!(lane.check(), usize::from(poison) * 10, "only what fails without an outage too");
        assert!(lane.track.open_since().is_none());
    }
}

#[test]
fn any_script_ends_each_result_once_in_its_keys_order() {
    let mut openings = 0;
    for seed in 0..SCRIPTS {
        let result = std::panic::catch_unwind(|| {
            let mut dice = Dice::new(seed);
            let mut lane = Lane::new(seed, events(1 + below(&mut dice, 8) as u8, 1 + below(&mut dice, 4)));
            if below(&mut dice, 3) == 0 {
                lane.book.lock().unwrap().poison.push(b"a".to_vec());
            }
            for _ in 0..below(&mut dice, 300) {
                match below(&mut dice, 40) {
                    0 => lane.restart(),
                    1 => lane.abort(),
                    2..4 => {
                        let mut book = lane.book.lock().unwrap();
                        book.is_out = !book.is_out;
                    }
                    4..10 => lane.cut(),
                    10..20 => lane.now += Duration::from_millis(below(&mut dice, 100) as u64),
                    20..30 => lane.give(),
                    _ => _ = lane.go_on(),
                }
            }
            lane.finish();
            lane.check();
            lane.openings
        });
        match result {
            Ok(count) => openings += count,
            Err(_) => panic!("script {seed}"),
        }
    }
    assert!(openings > SCRIPTS as usize / 10, "there are some: {openings}");
}

#[test]
fn a_probe_is_never_the_last_attempt() {
    let mut lane = Lane::new(1, events(20, 10));
    lane.book.lock().unwrap().poison.push(b"a".to_vec());
    while lane.windows.waiting().all(|(_, pending)| pending.attempts + 1 < ATTEMPTS) {
        lane.go_on();
        lane.give();
        lane.cut();
        lane.now += Duration::from_millis(5);
    }
    lane.book.lock().unwrap().is_out = true;
    while !lane.track.holds_results() {
        assert!(lane.go_on());
    }
    for _ in 0..2000 {
        lane.give();
        lane.cut();
        lane.now += Duration::from_millis(5);
    }
    let most = lane.book.lock().unwrap().calls.values().map(Vec::len).max().unwrap();
    assert!(most > ATTEMPTS as usize, "it was probed with: {most} calls");
    assert!(lane.visible.iter().all(|written| written.target != Target::DeadLetter));
    lane.finish();
    assert_eq!(lane.check(), 10);
}
