//! Windows against a plain, slow model of them, written from the rulings and not from the engine, over random scripts:
//! events out of order, late, of several keys and of source partitions that are ahead of the lane, windows that make numbers
//! and windows that keep events, time that goes on without events, and cuts, aborts and restarts at any moment, between two
//! closing windows too. Results may depend on none of the latter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidemill::model::{
    AfterFire, AggregateOp, AggregateSpec, Dice, Fire, StitchSpec, WindowKind, WindowSpec,
};
use tidemill::window::{Arrival, Field, Fired, Kept, Number, Place, Placed, Verdict, Windows};

const SCRIPTS: u64 = 100_000;

pub fn ms(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

/// A number below `bound`.
pub fn below(dice: &mut Dice, bound: i64) -> i64 {
    ((dice.bits() >> 33) % bound as u64) as i64
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A key, an event's time, its number, if it has one, and how far its own source partition had come before it.
    Event(u8, i64, Option<i64>, i64),
    /// Time has come so far without one.
    Time(i64),
}

/// One result, as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    key: u8,
    bounds: (i64, i64),
    why: &'static str,
    time: i64,
    content: String,
}

#[derive(Debug, Clone, Copy)]
struct Event {
    time: i64,
    offset: usize,
    number: Option<i64>,
    /// How far time had come for it: by the lane, or by its own source partition.
    judged_by: i64,
}

/// What the events of a window come to, if it keeps them.
fn list(events: &[Event]) -> String {
    let places: BTreeSet<_> = events.iter().map(|event| (event.time, event.offset)).collect();
    assert_eq!(places.len(), events.len());
    format!("{:?}", places.iter().map(|(_, offset)| *offset).collect::<Vec<_>>())
}

/// What they come to if it does not.
fn sum_up(events: &[Event]) -> String {
    let numbers: Vec<i64> = events.iter().filter_map(|event| event.number).collect();
    let last =
        events.iter().filter(|event| event.number.is_some()).max_by_key(|event| (event.time, event.offset));
    let last = last.and_then(|event| event.number).map_or("null".to_owned(), |number| number.to_string());
    let least = numbers.iter().min().map_or("null".to_owned(), i64::to_string);
    let kinds = numbers.iter().collect::<BTreeSet<_>>().len();
    let sum: i64 = numbers.iter().sum();
    format!(r#""all":{},"kinds":{kinds},"last":{last},"least":{least},"sum":{sum}"#, events.len())
}

/// The model: what is open, as lists of events.
struct Model {
    spec: WindowSpec,
    now: i64,
    open: Vec<Open>,
    /// Of sliding windows: all events so far, and at which times a window will still end.
    events: Vec<(u8, Event)>,
    ends: BTreeSet<(i64, u8)>,
    seen: Vec<Seen>,
    late: usize,
    missed: usize,
}

struct Open {
    key: u8,
    bounds: (i64, i64),
    events: Vec<Event>,
}

impl Model {
    fn grace(&self) -> i64 {
        self.spec.grace.as_millis() as i64
    }

    fn is_closed(&self, end: i64) -> bool {
        self.is_closed_at(end, self.now)
    }

    fn is_closed_at(&self, end: i64, now: i64) -> bool {
        let grace = self.grace();
        match self.spec.kind {
            WindowKind::Tumbling { .. } | WindowKind::Hopping { .. } => now >= end + grace,
            WindowKind::Sliding { .. } => now > end + grace,
            WindowKind::Session { gap } => now > end + gap.as_millis() as i64 + grace,
            WindowKind::Count { .. } | WindowKind::Stitch { .. } | WindowKind::Each => false,
        }
    }

    fn give(&mut self, key: u8, bounds: (i64, i64), (why, time): (&'static str, i64), events: &[Event]) {
        let content = if self.spec.aggregates.is_empty() { list(events) } else { sum_up(events) };
        self.seen.push(Seen { key, bounds, why, time, content });
    }

    fn event(&mut self, key: u8, event: Event) {
        let is_in = match self.spec.kind {
            WindowKind::Tumbling { size } => self.aligned(key, event, size, size),
            WindowKind::Hopping { size, advance } => self.aligned(key, event, size, advance),
            WindowKind::Sliding { size } => self.sliding(key, event, size.as_millis() as i64),
            WindowKind::Session { gap } => self.session(key, event, gap.as_millis() as i64),
            WindowKind::Count { size } => self.count(key, event, size as usize),
            WindowKind::Stitch { .. } => unreachable!("stitches have a model of their own"),
            WindowKind::Each => unreachable!("that is no window"),
        };
        if is_in {
            self.time(event.time);
        } else {
            self.late += 1;
        }
    }

    /// The open window at `place` took an event.
    fn early(&mut self, place: usize) {
        let newest = self.open[place].events.iter().map(|event| event.time).max().unwrap();
        let Open { key, bounds, events } = &self.open[place];
        let (key, bounds, events) = (*key, *bounds, events.clone());
        match self.spec.fire {
            Fire::Close | Fire::Complete => {}
            Fire::Update => self.give(key, bounds, ("update", newest), &events),
            Fire::Count { every, then } => {
                if (events.len() as u64).is_multiple_of(every) {
                    self.give(key, bounds, ("count", newest), &events);
                    if then == AfterFire::Reset {
                        self.open.remove(place);
                    }
                }
            }
        }
    }

    fn aligned(&mut self, key: u8, event: Event, size: Duration, advance: Duration) -> bool {
        let (size, advance) = (size.as_millis() as i64, advance.as_millis() as i64);
        let starts = (event.time - size + 1..=event.time).filter(|start| start.rem_euclid(advance) == 0);
        let (closed, open): (Vec<i64>, Vec<i64>) =
            starts.partition(|start| self.is_closed_at(start + size, event.judged_by));
        if open.is_empty() {
            return false;
        }
        self.missed += closed.len();
        for start in open {
            let bounds = (start, start + size);
            let is_it = |open: &Open| open.key == key && open.bounds == bounds;
            let place = self.open.iter().position(is_it).unwrap_or_else(|| {
                self.open.push(Open { key, bounds, events: Vec::new() });
                self.open.len() - 1
            });
            self.open[place].events.push(event);
            self.early(place);
        }
        true
    }

    fn session(&mut self, key: u8, event: Event, gap: i64) -> bool {
        let time = event.time;
        let (near, others): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(|open| {
                open.key == key
                    && open.bounds.0 - gap <= time
                    && time <= open.bounds.1 + gap
                    && !self.is_closed(open.bounds.1)
            });
        self.open = others;
        let is_closed = |end: i64| self.is_closed_at(end, event.judged_by);
        if near.iter().all(|open| is_closed(open.bounds.1)) && is_closed(time) {
            self.open.extend(near);
            return false;
        }
        let start = near.iter().map(|open| open.bounds.0).chain([time]).min().unwrap();
        let end = near.iter().map(|open| open.bounds.1).chain([time]).max().unwrap();
        let mut events: Vec<Event> = near.into_iter().flat_map(|open| open.events).collect();
        events.push(event);
        self.open.push(Open { key, bounds: (start, end), events });
        self.early(self.open.len() - 1);
        true
    }

    fn sliding(&mut self, key: u8, event: Event, size: i64) -> bool {
        if self.is_closed_at(event.time + size, event.judged_by) {
            return false;
        }
        self.events.push((key, event));
        if self.is_closed_at(event.time, event.judged_by) {
            self.missed += 1;
        } else if self.spec.fire == Fire::Close {
            self.ends.insert((event.time, key));
        }
        let times: BTreeSet<i64> = self
            .events
            .iter()
            .filter(|(of, event)| *of == key && self.is_in(event, event.time, size))
            .map(|(_, event)| event.time)
            .collect();
        for end in times.range(event.time..=event.time + size) {
            let events = self.span(key, *end, size);
            match self.spec.fire {
                _ if self.is_closed_at(*end, event.judged_by) => {}
                Fire::Close | Fire::Complete => {}
                Fire::Update => self.give(key, (end - size, *end), ("update", *end), &events),
                Fire::Count { every, then } => {
                    if !events.is_empty() && (events.len() as u64).is_multiple_of(every) {
                        self.give(key, (end - size, *end), ("count", *end), &events);
                        if then == AfterFire::Reset {
                            let is_gone =
                                |event: &Event| events.iter().any(|gone| gone.offset == event.offset);
                            self.events.retain(|(_, event)| !is_gone(event));
                        }
                    }
                }
            }
        }
        true
    }

    /// The event is in the window that ends at `end`: it reaches so far back, and was not closed when the event came.
    fn is_in(&self, event: &Event, end: i64, size: i64) -> bool {
        (end - size..=end).contains(&event.time) && !self.is_closed_at(end, event.judged_by)
    }

    fn span(&self, key: u8, end: i64, size: i64) -> Vec<Event> {
        let is_in = |(of, event): &&(u8, Event)| *of == key && self.is_in(event, end, size);
        self.events.iter().filter(is_in).map(|(_, event)| *event).collect()
    }

    fn count(&mut self, key: u8, event: Event, size: usize) -> bool {
        let place = self.open.iter().position(|open| open.key == key).unwrap_or_else(|| {
            self.open.push(Open { key, bounds: (event.time, event.time), events: Vec::new() });
            self.open.len() - 1
        });
        let open = &mut self.open[place];
        open.events.push(event);
        open.bounds = (open.bounds.0.min(event.time), open.bounds.1.max(event.time));
        if open.events.len() == size {
            let Open { key, bounds, events } = self.open.remove(place);
            self.give(key, bounds, ("close", bounds.1), &events);
        } else {
            self.early(place);
        }
        true
    }

    fn time(&mut self, time: i64) {
        self.now = self.now.max(time);
        let is_aligned = matches!(self.spec.kind, WindowKind::Tumbling { .. } | WindowKind::Hopping { .. });
        let (mut closed, open): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.open).into_iter().partition(|open| self.is_closed(open.bounds.1));
        self.open = open;
        closed.sort_by_key(|open| (open.bounds.1, open.key));
        for Open { key, bounds, events } in closed {
            if self.spec.fire == Fire::Close {
                self.give(key, bounds, ("close", bounds.1 - i64::from(is_aligned)), &events);
            }
        }
        while let Some((end, key)) = self.ends.first().copied().filter(|(end, _)| self.is_closed(*end)) {
            self.ends.pop_first();
            let WindowKind::Sliding { size } = self.spec.kind else { unreachable!("only these") };
            let size = size.as_millis() as i64;
            let events = self.span(key, end, size);
            self.give(key, (end - size, end), ("close", end), &events);
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
    late: usize,
    missed: usize,
}

struct Engine<'a> {
    spec: &'a WindowSpec,
    steps: &'a [Step],
    windows: Windows,
    position: usize,
    staged: Vec<Seen>,
    late: usize,
    missed: usize,
}

fn seen(spec: &WindowSpec, fired: &Fired<'_>) -> Seen {
    let content = if spec.aggregates.is_empty() {
        let offset = |kept: &Kept| {
            let offset = kept.place().offset;
            assert_eq!(kept.body(), offset.to_be_bytes(), "it is kept as it came");
            offset
        };
        format!("{:?}", fired.members.iter().map(offset).collect::<Vec<_>>())
    } else {
        let mut json = Vec::new();
        fired.write_json(spec.aggregates.keys().map(String::as_str), &mut json);
        let json = String::from_utf8(json).unwrap();
        json.split_once("},").unwrap().1.trim_end_matches('}').to_owned()
    };
    Seen { key: fired.key[0], bounds: fired.bounds, why: fired.why.as_str(), time: fired.time_ms, content }
}

impl<'a> Engine<'a> {
    fn start(spec: &'a WindowSpec, steps: &'a [Step], broker: &Broker) -> Self {
        let mut windows = Windows::new(spec, broker.watermark);
        for (key, value) in &broker.state {
            windows.restore(key, Some(value));
        }
        windows.restored().unwrap();
        Self { spec, steps, windows, position: broker.position, staged: Vec::new(), late: 0, missed: 0 }
    }

    /// One thing is done; `false`: there is nothing left.
    fn step(&mut self) -> bool {
        let (spec, staged) = (self.spec, &mut self.staged);
        let mut results = |fired: &Fired<'_>, _: bool| {
            staged.push(seen(spec, fired));
            Verdict::Done
        };
        if self.windows.close_next(&mut results) {
            return true;
        }
        let Some(step) = self.steps.get(self.position) else { return false };
        match *step {
            Step::Time(time) => self.windows.advance_to(time),
            Step::Event(key, time, number, watermark_ms) => {
                let place = Place { time_ms: time, source: 0, partition: 0, offset: self.position as i64 };
                let text = || number.map(|number| Field::Json(number.to_string().into()));
                let fields = [
                    Some(Field::There),
                    text(),
                    text(),
                    number.map(|number| Field::Number(Number::Int(number))),
                    number.map(|number| Field::Number(Number::Int(number))),
                ];
                let (fields, body) = match spec.aggregates.is_empty() {
                    true => (&fields[..0], &place.offset.to_be_bytes()[..]),
                    false => (&fields[..], &[][..]),
                };
                let arrival = Arrival { key: &[key], place, fields, body, watermark_ms };
                match self.windows.add(&arrival, &mut results) {
                    Placed::In { missed } => {
                        self.windows.moved(place);
                        self.missed += missed as usize;
                    }
                    Placed::Late => self.late += 1,
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
        broker.late += std::mem::take(&mut self.late);
        broker.missed += std::mem::take(&mut self.missed);
    }

    fn abort(&mut self, broker: &Broker) {
        self.windows.rolled_back();
        self.position = broker.position;
        self.staged.clear();
        (self.late, self.missed) = (0, 0);
        assert_eq!(self.windows.watermark_ms(), broker.watermark);
    }
}

fn spec(dice: &mut Dice) -> WindowSpec {
    let size = 1 + below(dice, 20);
    let kind = match below(dice, 5) {
        0 => WindowKind::Tumbling { size: ms(size) },
        1 => WindowKind::Hopping { size: ms(size), advance: ms(1 + below(dice, size)) },
        2 => WindowKind::Sliding { size: ms(size) },
        3 => WindowKind::Session { gap: ms(size) },
        _ => WindowKind::Count { size: size as u64 / 3 + 1 },
    };
    let then = if below(dice, 2) == 0 { AfterFire::Reset } else { AfterFire::Continue };
    let fire = match below(dice, 5) {
        0 => Fire::Update,
        1 if !matches!(kind, WindowKind::Count { .. }) => {
            Fire::Count { every: 1 + below(dice, 4) as u64, then }
        }
        _ => Fire::Close,
    };
    let aggregate = |op, has_field: bool| AggregateSpec { op, field: has_field.then(|| "/n".to_owned()) };
    let resets = matches!(fire, Fire::Count { then: AfterFire::Reset, .. });
    // Hopping windows share the events that they keep, so none can forget them.
    let may_keep = !resets || !matches!(kind, WindowKind::Hopping { .. });
    let aggregates = match may_keep && below(dice, 2) == 0 {
        true => BTreeMap::new(),
        false => BTreeMap::from([
            ("all".to_owned(), aggregate(AggregateOp::Count, false)),
            ("kinds".to_owned(), aggregate(AggregateOp::Distinct, true)),
            ("last".to_owned(), aggregate(AggregateOp::Last, true)),
            ("least".to_owned(), aggregate(AggregateOp::Min, true)),
            ("sum".to_owned(), aggregate(AggregateOp::Sum, true)),
        ]),
    };
    WindowSpec {
        kind,
        fire,
        aggregates,
        sources: Vec::new(),
        stitch: StitchSpec::default(),
        late_topic: None,
        max_drift: ms(60_000),
        state: None,
        tables: Vec::new(),
        grace: ms([0, 0, 5, 20][below(dice, 4) as usize]),
        idle: ms(10_000),
        max_skew: ms(3_600_000),
    }
}

fn steps(dice: &mut Dice) -> Vec<Step> {
    let (keys, spread) = (1 + below(dice, 3), 1 + below(dice, 40));
    // In some scripts source partitions are ahead of the lane.
    let ahead = [0, 0, 25][below(dice, 3) as usize];
    let mut now = below(dice, 50);
    let mut steps = Vec::new();
    for _ in 0..below(dice, 36) {
        now += [0, 0, 1, 3, 30][below(dice, 5) as usize];
        let step = match below(dice, 12) {
            0 => Step::Time(now),
            _ => {
                let number = (below(dice, 4) > 0).then(|| below(dice, 5));
                let own = if ahead == 0 { i64::MIN } else { now - 5 + below(dice, ahead) };
                Step::Event(below(dice, keys) as u8, (now - below(dice, spread)).max(0), number, own)
            }
        };
        steps.push(step);
    }
    // In the end all windows that wait for time are closed.
    steps.push(Step::Time(now + 1000));
    steps
}

fn play(seed: u64) {
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (spec, steps) = (spec(&mut dice), steps(&mut dice));
    let mut model = Model {
        spec: spec.clone(),
        now: i64::MIN,
        open: Vec::new(),
        events: Vec::new(),
        ends: BTreeSet::new(),
        seen: Vec::new(),
        late: 0,
        missed: 0,
    };
    for (offset, step) in steps.iter().enumerate() {
        match *step {
            Step::Time(time) => model.time(time),
            Step::Event(key, time, number, own) => {
                let judged_by = model.now.max(own);
                model.event(key, Event { time, offset, number, judged_by });
            }
        }
    }
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
    assert_eq!(broker.seen, model.seen, "{spec:?}\n{steps:?}");
    assert_eq!((broker.late, broker.missed), (model.late, model.missed), "{spec:?}\n{steps:?}");
    if !matches!(spec.kind, WindowKind::Count { .. }) {
        broker.state.remove(b"s".as_slice());
        assert!(broker.state.is_empty(), "what has closed leaves nothing: {:?}", broker.state);
        assert_eq!((engine.windows.keys(), engine.windows.bytes()), (0, 0));
    }
}

#[test]
fn any_script_gives_the_results_of_the_model() {
    for seed in 0..SCRIPTS {
        let result = std::panic::catch_unwind(|| play(seed));
        assert!(result.is_ok(), "script {seed}");
    }
}
