//! Stitches against a plain, slow model of them, written from the rulings and not from the engine, over random scripts:
//! several sources of several partitions, each with a time of its own, and in half of them rows of a table that are needed
//! too; events out of order, late and brought back, what is
//! said of source partitions too early or too late, idle ones, and cuts, aborts and restarts at any moment, between two
//! stitches that end too. Results may depend on none of the latter; nor, where the rulings promise it, on which source
//! partition was read first.

use std::collections::{BTreeMap, BTreeSet};

use tidemill::model::{Dice, Fire, OnTimeout, Repeat, StitchSpec, TableScope, WindowKind, WindowSpec};
use tidemill::window::{Arrival, Fired, Part, Place, Placed, Verdict, Windows};

use crate::windows_follow_a_plain_model::{below, ms};

const SCRIPTS: u64 = 100_000;

/// Later than every stitch ends.
const FAR: i64 = 1 << 40;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    key: u8,
    place: Place,
    /// How far its source partition had come before it.
    own: i64,
    /// One that was brought back does not.
    moves_time: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Event(Event),
    /// How many partitions a source has.
    Count(u16, u32),
    /// How far a source partition has come, or that it is idle.
    Part(Part),
    /// The clock goes on by so much, where nobody holds time.
    Tick(i64),
    /// A key has a row in the table, or none any more.
    Row(u8, bool),
}

/// One result, as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    key: u8,
    bounds: (i64, i64),
    why: &'static str,
    time: i64,
    events: Vec<Place>,
    missing: Vec<u16>,
}

/// The model: what is open, as lists of events.
struct Model {
    spec: WindowSpec,
    within: i64,
    grace: i64,
    /// By coming.
    open: Vec<Vec<Event>>,
    counts: Vec<u32>,
    parts: BTreeMap<(u16, i32), (i64, bool)>,
    lane: i64,
    /// Keys that the table has.
    rows: BTreeSet<u8>,
    seen: Vec<Seen>,
    late: Vec<Place>,
}

/// How many sources have events: all but the table.
fn with_events(spec: &WindowSpec) -> usize {
    spec.sources.len() - spec.tables.len()
}

fn first(stitch: &[Event]) -> i64 {
    stitch.iter().map(|event| event.place.time_ms).min().unwrap()
}

fn last(stitch: &[Event]) -> i64 {
    stitch.iter().map(|event| event.place.time_ms).max().unwrap()
}

fn has(stitch: &[Event], source: u16) -> bool {
    stitch.iter().any(|event| event.place.source == source)
}

impl Model {
    fn new(spec: &WindowSpec, sources: usize) -> Self {
        let WindowKind::Stitch { within } = spec.kind else { unreachable!("only these") };
        Self {
            spec: spec.clone(),
            within: within.as_millis() as i64,
            grace: spec.grace.as_millis() as i64,
            open: Vec::new(),
            counts: vec![0; sources],
            parts: BTreeMap::new(),
            lane: i64::MIN,
            rows: BTreeSet::new(),
            seen: Vec::new(),
            late: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Event(event) => self.event(event),
            Step::Count(source, count) => {
                let known = &mut self.counts[usize::from(source)];
                *known = count.max(*known);
            }
            Step::Part(Part { source, partition, watermark_ms, is_idle }) => {
                let known = self.parts.entry((source, partition)).or_insert((i64::MIN, false));
                *known = (known.0.max(watermark_ms), is_idle);
            }
            Step::Tick(passed) => {
                if self.is_heard() && self.parts.values().all(|(_, is_idle)| *is_idle) {
                    self.lane = self.lane.saturating_add(passed);
                }
            }
            Step::Row(key, true) => {
                self.rows.insert(key);
                self.row_came(key);
            }
            Step::Row(key, false) => _ = self.rows.remove(&key),
        }
        self.time();
    }

    /// Each source partition that is known to exist was heard of.
    fn is_heard(&self) -> bool {
        self.counts.iter().zip(0..).all(|(count, source)| {
            *count > 0 && (0..*count as i32).all(|partition| self.parts.contains_key(&(source, partition)))
        })
    }

    fn time(&mut self) {
        if self.is_heard() {
            let active = self.parts.values().filter(|(_, is_idle)| !is_idle).map(|(time, _)| *time).min();
            let lane = active.or_else(|| self.parts.values().map(|(time, _)| *time).max()).unwrap();
            self.lane = self.lane.max(lane);
        }
        let is_over = |stitch: &Vec<Event>| self.lane > first(stitch) + self.within + self.grace;
        let (mut over, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(is_over);
        self.open = open;
        over.sort_by_key(|stitch| (first(stitch), stitch[0].key));
        for stitch in over {
            let why = if self.missing(&stitch).is_empty() { "close" } else { "timeout" };
            self.give(&stitch, why, first(&stitch) + self.within);
        }
    }

    fn missing(&self, stitch: &[Event]) -> Vec<u16> {
        let is_there = |source: u16| match self.spec.tables.iter().any(|(table, _)| *table == source) {
            true => self.rows.contains(&stitch[0].key),
            false => has(stitch, source),
        };
        self.spec.stitch.need.iter().copied().filter(|source| !is_there(*source)).collect()
    }

    fn row_came(&mut self, key: u8) {
        let is_whole = |stitch: &Vec<Event>| stitch[0].key == key && self.missing(stitch).is_empty();
        if self.spec.fire != Fire::Complete {
            return;
        }
        let mut whole: Vec<_> = self.open.iter().filter(|stitch| is_whole(stitch)).cloned().collect();
        let open = self.open.iter().filter(|stitch| !is_whole(stitch)).cloned().collect();
        self.open = open;
        whole.sort_by_key(|stitch| first(stitch));
        whole.iter().for_each(|stitch| self.give(stitch, "complete", last(stitch)));
    }

    fn give(&mut self, stitch: &[Event], why: &'static str, time: i64) {
        let mut events: Vec<Place> = stitch.iter().map(|event| event.place).collect();
        events.sort();
        let bounds = (first(stitch), first(stitch) + self.within);
        let missing = self.missing(stitch);
        self.seen.push(Seen { key: stitch[0].key, bounds, why, time, events, missing });
    }

    fn event(&mut self, event: Event) {
        let Event { key, place, own, moves_time } = event;
        let (time, source) = (place.time_ms, place.source);
        let judged_by = self.lane.max(own);
        let is_closed = |first: i64| judged_by > first + self.within + self.grace;
        if is_closed(time) {
            self.late.push(place);
            return;
        }
        let mut takes: Vec<usize> = (0..self.open.len())
            .filter(|at| {
                let stitch = &self.open[*at];
                let (first, last) = (first(stitch).min(time), last(stitch).max(time));
                stitch[0].key == key && last - first <= self.within && !is_closed(first)
            })
            .collect();
        takes.sort_by_key(|at| (first(&self.open[*at]), *at));
        let lacks = takes.iter().copied().find(|at| !has(&self.open[*at], source));
        let repeat = self.spec.stitch.repeat;
        let at = lacks.or_else(|| takes.first().copied().filter(|_| repeat != Repeat::Next));
        let at = at.unwrap_or_else(|| {
            self.open.push(Vec::new());
            self.open.len() - 1
        });
        let stitch = &mut self.open[at];
        stitch.push(event);
        if repeat == Repeat::Replace {
            let latest = stitch.iter().map(|event| event.place).filter(|place| place.source == source).max();
            stitch.retain(|event| event.place.source != source || Some(event.place) == latest);
        }
        let stitch = stitch.clone();
        if self.spec.fire == Fire::Complete && self.missing(&stitch).is_empty() {
            self.open.remove(at);
            self.give(&stitch, "complete", last(&stitch));
        }
        if moves_time {
            let known = self.parts.entry((source, place.partition)).or_insert((i64::MIN, false));
            *known = (known.0.max(time), false);
        }
    }
}

/// What outlives a kill.
#[derive(Default)]
struct Broker {
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    position: usize,
    watermark: i64,
    seen: Vec<Seen>,
    late: Vec<Place>,
}

struct Engine<'a> {
    spec: &'a WindowSpec,
    steps: &'a [Step],
    windows: Windows,
    position: usize,
    staged: Vec<Seen>,
    late: Vec<Place>,
}

fn seen(fired: &Fired<'_>) -> Seen {
    Seen {
        key: fired.key[0],
        bounds: fired.bounds,
        why: fired.why.as_str(),
        time: fired.time_ms,
        events: fired.members.iter().map(|kept| kept.place()).collect(),
        missing: fired.missing.to_vec(),
    }
}

impl<'a> Engine<'a> {
    fn start(spec: &'a WindowSpec, steps: &'a [Step], broker: &Broker) -> Self {
        let mut windows = Windows::new(spec, broker.watermark).of_sources(spec.sources.len());
        for (key, value) in &broker.state {
            windows.restore(key, Some(value));
        }
        windows.restored().unwrap();
        Self { spec, steps, windows, position: broker.position, staged: Vec::new(), late: Vec::new() }
    }

    /// One thing is done; `false`: there is nothing left.
    fn step(&mut self) -> bool {
        let (windows, staged) = (&mut self.windows, &mut self.staged);
        let mut results = |fired: &Fired<'_>, is_behind: bool| {
            assert!(!is_behind, "nothing waits");
            staged.push(seen(fired));
            Verdict::Done
        };
        if windows.close_next(&mut results) {
            return true;
        }
        let Some(step) = self.steps.get(self.position) else { return false };
        match *step {
            Step::Count(source, count) => windows.hear([(source, count)].into_iter(), std::iter::empty()),
            Step::Part(part) => windows.hear(std::iter::empty(), [part].into_iter()),
            Step::Row(key, is_there) => {
                let table = with_events(self.spec) as u16;
                windows.set_row((table, &[key]), is_there.then_some(b"row"), &mut results);
            }
            Step::Tick(passed) => {
                if windows.progress().unwrap().is_idle() {
                    windows.advance_to(windows.watermark_ms().saturating_add(passed));
                }
            }
            Step::Event(Event { key, place, own, moves_time }) => {
                let arrival = Arrival { key: &[key], place, fields: &[], body: b"body", watermark_ms: own };
                match windows.add(&arrival, &mut results) {
                    Placed::In { missed: 0 } if moves_time => windows.moved(place),
                    Placed::In { missed: 0 } => {}
                    Placed::In { .. } => panic!("an event is in one stitch"),
                    Placed::Late => self.late.push(place),
                }
            }
        }
        self.position += 1;
        true
    }

    fn commit(&mut self, broker: &mut Broker) {
        self.windows.changes(|key, value| {
            match value {
                Some(value) => broker.state.insert(key.to_vec(), value.to_vec()),
                None => broker.state.remove(key),
            };
        });
        self.windows.committed();
        broker.position = self.position;
        broker.watermark = self.windows.watermark_ms();
        broker.seen.append(&mut self.staged);
        broker.late.append(&mut self.late);
    }

    fn abort(&mut self, broker: &Broker) {
        self.windows.rolled_back();
        self.position = broker.position;
        self.staged.clear();
        self.late.clear();
        assert_eq!(self.windows.watermark_ms(), broker.watermark);
    }
}

fn spec(dice: &mut Dice) -> WindowSpec {
    let sources = 2 + below(dice, 2) as u16;
    let is_needed: Vec<bool> = (0..sources).map(|source| source == 0 || below(dice, 3) > 0).collect();
    let with = |wanted: bool| (0..sources).filter(|at| is_needed[usize::from(*at)] == wanted).collect();
    let (mut need, optional): (Vec<u16>, Vec<u16>) = (with(true), with(false));
    let has_table = below(dice, 2) == 0;
    need.extend(has_table.then_some(sources));
    let repeat = [Repeat::Next, Repeat::Replace, Repeat::Collect][below(dice, 3) as usize];
    WindowSpec {
        kind: WindowKind::Stitch { within: ms(1 + below(dice, 20)) },
        fire: if below(dice, 3) == 0 { Fire::Close } else { Fire::Complete },
        aggregates: BTreeMap::new(),
        sources: (0..sources + u16::from(has_table)).map(|source| format!("source-{source}")).collect(),
        stitch: StitchSpec { need, optional, repeat, on_timeout: OnTimeout::Call },
        late_topic: None,
        max_drift: ms(60_000),
        state: None,
        tables: has_table.then_some((sources, TableScope::Lane)).into_iter().collect(),
        grace: ms([0, 0, 5, 20][below(dice, 4) as usize]),
        idle: ms(10_000),
        max_skew: ms(3_600_000),
    }
}

/// A source partition, where it is read.
struct Reader {
    source: u16,
    partition: i32,
    now: i64,
    own: i64,
    /// What was known of it some time ago.
    before: i64,
    next: i64,
}

impl Reader {
    fn all(dice: &mut Dice, sources: usize) -> Vec<Self> {
        let mut readers = Vec::new();
        for source in 0..sources as u16 {
            for partition in 0..1 + below(dice, 3) as i32 {
                let now = below(dice, 30);
                readers.push(Self { source, partition, now, own: i64::MIN, before: i64::MIN, next: 0 });
            }
        }
        readers
    }

    fn event(&mut self, key: u8, time: i64) -> Event {
        let place =
            Place { time_ms: time, source: self.source, partition: self.partition, offset: self.next };
        let event = Event { key, place, own: self.own, moves_time: true };
        self.next += 1;
        self.own = self.own.max(time);
        event
    }

    fn part(&self, watermark_ms: i64, is_idle: bool) -> Step {
        Step::Part(Part { source: self.source, partition: self.partition, watermark_ms, is_idle })
    }
}

/// How many partitions each source has.
fn counts(readers: &[Reader]) -> Vec<Step> {
    let count = |source| readers.iter().filter(|reader| reader.source == source).count() as u32;
    let sources: BTreeSet<u16> = readers.iter().map(|reader| reader.source).collect();
    sources.into_iter().map(|source| Step::Count(source, count(source))).collect()
}

fn steps(dice: &mut Dice, spec: &WindowSpec) -> Vec<Step> {
    let mut readers = Reader::all(dice, with_events(spec));
    let (keys, spread) = (1 + below(dice, 2), 1 + below(dice, 25));
    let mut steps = Vec::new();
    // Mostly it is known at once what there is.
    if below(dice, 4) > 0 {
        steps.extend(counts(&readers));
        steps.extend(readers.iter().map(|reader| reader.part(i64::MIN, false)));
    }
    for _ in 0..below(dice, 22) {
        let at = below(dice, readers.len() as i64) as usize;
        let reader = &mut readers[at];
        reader.now += [0, 0, 1, 3, 15][below(dice, 5) as usize];
        if !spec.tables.is_empty() && below(dice, 4) == 0 {
            steps.push(Step::Row(below(dice, keys) as u8, below(dice, 3) > 0));
        }
        match below(dice, 20) {
            0 => {
                let watermark_ms = if below(dice, 2) == 0 { reader.own } else { reader.before };
                steps.push(reader.part(watermark_ms, below(dice, 3) == 0));
                reader.before = reader.own;
            }
            // It is told before its event comes.
            1 => steps.push(reader.part(reader.now, false)),
            2 => steps.push(reader.part(reader.own, true)),
            3 => {
                steps.push(Step::Count(
                    reader.source,
                    1 + below(dice, i64::from(reader.partition) + 1) as u32,
                ));
            }
            // Events of other lanes.
            4 => reader.own = reader.own.max(reader.now),
            5 => {
                steps.extend(readers.iter().map(|reader| reader.part(reader.own, true)));
                steps.push(Step::Tick(below(dice, 30)));
            }
            6 => steps.push(Step::Tick(below(dice, 30))),
            7 => {
                let time = (reader.now - below(dice, 60)).max(0);
                let place = Place {
                    time_ms: time,
                    source: reader.source,
                    partition: reader.partition,
                    offset: 1000 + steps.len() as i64,
                };
                let key = below(dice, keys) as u8;
                steps.push(Step::Event(Event { key, place, own: i64::MIN, moves_time: false }));
            }
            _ => {
                let time = (reader.now - below(dice, spread)).max(0);
                steps.push(Step::Event(reader.event(below(dice, keys) as u8, time)));
            }
        }
    }
    // In the end all stitches are over.
    steps.extend(counts(&readers));
    steps.extend(readers.iter().map(|reader| reader.part(reader.own, true)));
    steps.push(Step::Tick(0));
    steps.extend(readers.iter().map(|reader| reader.part(FAR, true)));
    // A row stays as long as nobody takes it away.
    steps.extend((0..2).filter(|_| !spec.tables.is_empty()).map(|key| Step::Row(key, false)));
    steps
}

fn modelled(spec: &WindowSpec, steps: &[Step]) -> Model {
    let mut model = Model::new(spec, with_events(spec));
    steps.iter().for_each(|step| model.step(step));
    model
}

fn play(seed: u64) {
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let spec = spec(&mut dice);
    let steps = steps(&mut dice, &spec);
    let model = modelled(&spec, &steps);
    let mut broker = Broker { watermark: i64::MIN, ..Broker::default() };
    let mut engine = Engine::start(&spec, &steps, &broker);
    while engine.step() {
        match below(&mut dice, 20) {
            0..4 => engine.commit(&mut broker),
            4 => engine.abort(&broker),
            5 => engine = Engine::start(&spec, &steps, &broker),
            _ => {}
        }
    }
    engine.commit(&mut broker);
    assert_eq!(broker.seen, model.seen, "{spec:?}\n{steps:#?}");
    assert_eq!(broker.late, model.late, "{spec:?}\n{steps:#?}");
    broker.state.retain(|key, _| !matches!(&key[..], b"s" | b"t"));
    assert!(broker.state.is_empty(), "what has ended leaves nothing: {:?}", broker.state);
    assert_eq!((engine.windows.keys(), engine.windows.bytes()), (0, 0));
}

#[test]
fn any_script_gives_the_results_of_the_model() {
    for seed in 0..SCRIPTS {
        let result = std::panic::catch_unwind(|| play(seed));
        assert!(result.is_ok(), "script {seed}");
    }
}

/// What each source partition's log holds, until it says that it has come far.
type Logs = Vec<Vec<Step>>;

/// The logs, read in some order; how many partitions there are is known first.
fn interleaved(dice: &mut Dice, counts: &[Step], logs: &Logs) -> Vec<Step> {
    let mut steps = counts.to_vec();
    let mut left: Vec<_> = logs.iter().map(|log| log.iter().peekable()).collect();
    while !left.is_empty() {
        // Some are read a long way before another is.
        let at = below(dice, left.len() as i64) as usize;
        for _ in 0..1 + below(dice, 4) {
            steps.extend(left[at].next().cloned());
        }
        left.retain_mut(|log| log.peek().is_some());
    }
    steps
}

/// Results and late events, without their order.
fn outcome(spec: &WindowSpec, steps: &[Step]) -> (Vec<Seen>, Vec<Place>) {
    let broker = Broker { watermark: i64::MIN, ..Broker::default() };
    let mut engine = Engine::start(spec, steps, &broker);
    while engine.step() {}
    engine.staged.sort();
    engine.late.sort();
    (engine.staged, engine.late)
}

/// Logs of readers none of which is idle: what `event` says, in places what was come to, and in the end that it is far.
fn logs(
    dice: &mut Dice,
    readers: &mut [Reader],
    mut event: impl FnMut(&mut Dice, &mut Reader) -> Vec<(u8, i64)>,
) -> Logs {
    let mut logs = Logs::new();
    for reader in readers {
        let mut log = Vec::new();
        for (key, time) in event(dice, reader) {
            log.push(Step::Event(reader.event(key, time)));
            if below(dice, 4) == 0 {
                log.push(reader.part(reader.own, false));
            }
        }
        log.push(reader.part(FAR, false));
        logs.push(log);
    }
    logs
}

/// An event is late by its own source partition, wherever the others are: none holds time back or moves it for another.
#[test]
fn which_events_are_late_does_not_depend_on_which_source_was_read_first() {
    let mut late = 0;
    for seed in 0..SCRIPTS / 5 {
        let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let spec = spec(&mut dice);
        let mut readers = Reader::all(&mut dice, with_events(&spec));
        let logs = logs(&mut dice, &mut readers, |dice, reader| {
            let mut event = |dice: &mut Dice| {
                reader.now += below(dice, 12);
                (below(dice, 2) as u8, (reader.now - below(dice, 40)).max(0))
            };
            let count = below(dice, 6);
            (0..count).map(|_| event(dice)).collect()
        });
        let counts = counts(&readers);
        let one = interleaved(&mut dice, &counts, &logs);
        let other = interleaved(&mut dice, &counts, &logs);
        let (first, second) = (outcome(&spec, &one).1, outcome(&spec, &other).1);
        assert_eq!(first, second, "seed {seed}\n{spec:?}\n{one:#?}\n{other:#?}");
        late += first.len();
    }
    assert!(late > 1000, "there are some: {late}");
}

/// What events of one key come to depends on the order in which they come where there is a choice: which of two in reach is
/// the partner, or what stands when a stitch completes. Where there is none, it does not matter which was read first.
#[test]
fn results_do_not_depend_on_which_source_was_read_first() {
    let mut given = [0; 3];
    for seed in 0..SCRIPTS / 5 {
        let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut spec = spec(&mut dice);
        // Rows come in no order with events.
        let events = with_events(&spec);
        spec.sources.truncate(events);
        spec.stitch.need.retain(|source| usize::from(*source) < events);
        spec.tables.clear();
        let grace = spec.grace.as_millis() as i64;
        let WindowKind::Stitch { within } = spec.kind else { unreachable!("only these") };
        let within = within.as_millis() as i64;
        let case = below(&mut dice, 3) as usize;
        if case < 2 {
            spec.sources.truncate(2);
            spec.stitch.need.retain(|source| *source < 2);
            spec.stitch.optional.retain(|source| *source < 2);
        }
        let mut readers = Reader::all(&mut dice, with_events(&spec));
        // Of each source a key is in one partition, as by a record's key.
        let keys_of = |reader: &Reader, readers: &[(u16, i32)]| -> Vec<u8> {
            let count = readers.iter().filter(|(source, _)| *source == reader.source).count() as i32;
            (0..4_u8).filter(|key| i32::from(*key) % count == reader.partition).collect()
        };
        let places: Vec<(u16, i32)> =
            readers.iter().map(|reader| (reader.source, reader.partition)).collect();
        match case {
            // Two sources in order, the first of one with the first of the other that is in reach.
            0 => {
                spec.stitch.repeat = Repeat::Next;
                spec.stitch.need = vec![0, 1];
                spec.stitch.optional.clear();
            }
            // One event of each source.
            1 => {
                spec.stitch.need = vec![0, 1];
                spec.stitch.optional.clear();
            }
            // All that come are in reach of each other, and at the end counts what is there.
            _ => {
                spec.fire = Fire::Close;
                if spec.stitch.repeat == Repeat::Next {
                    spec.grace = ms(0);
                }
            }
        }
        let grace = grace.min(spec.grace.as_millis() as i64);
        let logs = logs(&mut dice, &mut readers, |dice, reader| {
            let keys = keys_of(reader, &places);
            if keys.is_empty() {
                return Vec::new();
            }
            let mut events: Vec<(u8, i64)> = match case {
                0 => (0..below(dice, 7))
                    .map(|_| (keys[below(dice, keys.len() as i64) as usize], below(dice, 80)))
                    .collect(),
                1 => keys.iter().map(|key| (*key, below(dice, 60))).collect(),
                _ => {
                    // Two bursts of a key, out of each other's reach.
                    let mut burst = |key: u8| {
                        let at = i64::from(key) * 7 + below(dice, 2) * (2 * within + 1);
                        (key, at + below(dice, within + 1))
                    };
                    keys.iter().chain(&keys).chain(&keys).map(|key| burst(*key)).collect()
                }
            };
            events.sort_by_key(|(_, time)| *time);
            if case > 0 {
                // Out of order, but never by more than the grace.
                let mut moved: Vec<_> =
                    events.iter().map(|event| (event.1 + below(dice, grace + 1), *event)).collect();
                moved.sort_by_key(|(at, _)| *at);
                events = moved.into_iter().map(|(_, event)| event).collect();
            }
            events
        });
        let counts = counts(&readers);
        let one = interleaved(&mut dice, &counts, &logs);
        let other = interleaved(&mut dice, &counts, &logs);
        let (first, second) = (outcome(&spec, &one), outcome(&spec, &other));
        assert_eq!(first, second, "case {case}, seed {seed}\n{spec:?}\n{one:#?}\n{other:#?}");
        assert!(first.1.is_empty(), "nothing is late");
        given[case] += first.0.iter().filter(|seen| seen.events.len() > 1).count();
    }
    assert!(given.iter().all(|given| *given > 1000), "there are some of each: {given:?}");
}
