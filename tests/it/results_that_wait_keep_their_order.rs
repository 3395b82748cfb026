//! Results that their handler does not take at once: over random scripts of every kind of window, with calls that fail and
//! cuts, aborts and restarts at any moment, each result is given once, those of a key in the order in which they fired, as
//! they were then, and with every failed call that was committed.

use std::collections::BTreeMap;

use tidemill::model::{AggregateOp, AggregateSpec, Dice, Fire, Repeat, StitchSpec, WindowKind, WindowSpec};
use tidemill::window::{Arrival, Field, Fired, Kept, Pending, Place, Verdict, Why, Windows};

use crate::windows_follow_a_plain_model::{below, ms};

const SCRIPTS: u64 = 10_000;

/// A result, as its handler sees it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    key: Vec<u8>,
    bounds: (i64, i64),
    why: Why,
    time: i64,
    aggregates: Option<Vec<u8>>,
    events: Vec<Vec<u8>>,
    missing: Vec<u16>,
}

impl Seen {
    fn new(spec: &WindowSpec, fired: &Fired<'_>) -> Self {
        let aggregates = (!spec.aggregates.is_empty()).then(|| {
            let mut json = Vec::new();
            fired.write_aggregates(spec.aggregates.keys().map(String::as_str), &mut json);
            json
        });
        Self {
            key: fired.key.to_vec(),
            bounds: fired.bounds,
            why: fired.why,
            time: fired.time_ms,
            aggregates,
            events: fired.members.iter().map(Kept::body).map(<[u8]>::to_vec).collect(),
            missing: fired.missing.to_vec(),
        }
    }

    fn of(pending: &Pending) -> Self {
        assert_eq!(pending.name, Self::name(&pending.key, pending.bounds, pending.why));
        Self {
            key: pending.key.to_vec(),
            bounds: pending.bounds,
            why: pending.why,
            time: pending.time_ms,
            aggregates: pending.aggregates.as_deref().map(<[u8]>::to_vec),
            events: pending.events.iter().map(|body| body.to_vec()).collect(),
            missing: pending.missing.clone(),
        }
    }

    fn name(key: &[u8], bounds: (i64, i64), why: Why) -> Vec<u8> {
        format!("{key:?}/{bounds:?}/{why:?}").into_bytes()
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Event { key: u8, source: u16, time: i64 },
    Time(i64),
}

/// What is outside the windows, as far as it went.
#[derive(Debug, Clone, Default)]
struct Outside {
    position: usize,
    /// What was given, by key.
    given: BTreeMap<Vec<u8>, Vec<Seen>>,
    /// What waits, and how many calls for it failed.
    waiting: Vec<(Seen, u32)>,
}

impl Outside {
    fn give(&mut self, seen: Seen) {
        self.given.entry(seen.key.clone()).or_default().push(seen);
    }

    /// Those that wait and have nothing of their key before them.
    fn first_of_each_key(&self) -> Vec<usize> {
        let is_first =
            |at: &usize| self.waiting[..*at].iter().all(|(seen, _)| seen.key != self.waiting[*at].0.key);
        (0..self.waiting.len()).filter(is_first).collect()
    }
}

struct Lane<'a> {
    spec: &'a WindowSpec,
    steps: &'a [Step],
    windows: Windows,
    outside: Outside,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// All that was ever written, as it stands before the topic is compacted.
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    committed: (Outside, i64),
}

impl<'a> Lane<'a> {
    fn new(spec: &'a WindowSpec, steps: &'a [Step]) -> Self {
        Self {
            spec,
            steps,
            windows: Windows::new(spec, i64::MIN),
            outside: Outside::default(),
            state: BTreeMap::new(),
            log: Vec::new(),
            committed: (Outside::default(), i64::MIN),
        }
    }

    /// One thing is done; `takes` says whether a call succeeds. `false`: there is nothing left.
    fn step(&mut self, takes: &mut impl FnMut() -> bool) -> bool {
        let Self { spec, steps, windows, outside, .. } = self;
        let position = outside.position;
        let mut results = |fired: &Fired<'_>, is_behind: bool| {
            let seen = Seen::new(spec, fired);
            assert_eq!(is_behind, outside.waiting.iter().any(|(waits, _)| waits.key == seen.key));
            if !is_behind && takes() {
                outside.give(seen);
                return Verdict::Done;
            }
            let attempts = u32::from(!is_behind);
            outside.waiting.push((seen.clone(), attempts));
            let name = Seen::name(&seen.key, seen.bounds, seen.why);
            Verdict::Wait { attempts, name, aggregates: seen.aggregates }
        };
        if windows.close_next(&mut results) {
            return true;
        }
        let Some(step) = steps.get(position) else { return false };
        match *step {
            Step::Time(time) => windows.advance_to(time),
            Step::Event { key, source, time } => {
                let place = Place { time_ms: time, source, partition: 0, offset: position as i64 };
                let body = [&place.offset.to_be_bytes()[..], b" is its offset"].concat();
                let (fields, body) = match spec.aggregates.is_empty() {
                    true => (&[][..], &body[..]),
                    false => (&[Some(Field::There)][..], &[][..]),
                };
                let arrival = Arrival { key: &[key], place, fields, body, watermark_ms: i64::MIN };
                windows.add(&arrival, &mut results);
                windows.moved(place);
            }
        }
        self.outside.position += 1;
        true
    }

    /// One that waits is given again.
    fn again(&mut self, at: usize, is_taken: bool) {
        let number = self.windows.waiting().nth(at).unwrap().0;
        let pending = self.windows.waiting_at(number).unwrap().clone();
        assert_eq!(Seen::of(&pending), self.outside.waiting[at].0);
        if is_taken {
            self.windows.settled(number);
            let (seen, _) = self.outside.waiting.remove(at);
            self.outside.give(seen);
        } else {
            self.windows.failed_again(number);
            self.outside.waiting[at].1 += 1;
        }
    }

    fn commit(&mut self) {
        let Self { state, log, .. } = self;
        self.windows.changes(|key, value| {
            log.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            match value {
                Some(value) => state.insert(key.to_vec(), value.to_vec()),
                None => state.remove(key),
            };
        });
        self.windows.committed();
        self.committed = (self.outside.clone(), self.windows.watermark_ms());
    }

    fn abort(&mut self) {
        self.windows.rolled_back();
        self.outside = self.committed.0.clone();
    }

    fn restart(&mut self, is_compacted: bool) {
        self.outside = self.committed.0.clone();
        self.windows = Windows::new(self.spec, self.committed.1);
        if is_compacted {
            self.state.iter().for_each(|(key, value)| self.windows.restore(key, Some(value)));
        } else {
            self.log.iter().for_each(|(key, value)| self.windows.restore(key, value.as_deref()));
        }
        self.windows.restored().unwrap();
    }

    fn check(&self) {
        let waiting: Vec<(Seen, u32)> =
            self.windows.waiting().map(|(_, pending)| (Seen::of(pending), pending.attempts)).collect();
        assert_eq!(waiting, self.outside.waiting);
    }
}

fn spec(dice: &mut Dice) -> WindowSpec {
    let size = ms(1 + below(dice, 12));
    let (kind, fire) = match below(dice, 6) {
        0 => (WindowKind::Tumbling { size }, Fire::Close),
        1 => (WindowKind::Hopping { size, advance: size.div_f64(2.0).max(ms(1)) }, Fire::Close),
        2 => (WindowKind::Sliding { size }, Fire::Close),
        3 => (WindowKind::Session { gap: size }, Fire::Update),
        4 => (WindowKind::Count { size: 1 + below(dice, 3) as u64 }, Fire::Close),
        _ => (WindowKind::Stitch { within: size }, Fire::Complete),
    };
    let count = AggregateSpec { op: AggregateOp::Count, field: None };
    let makes_numbers = below(dice, 3) == 0 && !matches!(kind, WindowKind::Stitch { .. });
    WindowSpec {
        kind,
        fire,
        aggregates: makes_numbers.then(|| ("all".to_owned(), count)).into_iter().collect(),
        sources: Vec::new(),
        stitch: StitchSpec { need: vec![0, 1], repeat: Repeat::Collect, ..StitchSpec::default() },
        late_topic: None,
        max_drift: ms(60_000),
        state: None,
        tables: Vec::new(),
        grace: ms(below(dice, 5)),
        idle: ms(10_000),
        max_skew: ms(3_600_000),
    }
}

fn steps(dice: &mut Dice) -> Vec<Step> {
    let keys = 1 + below(dice, 3);
    let mut now = 20;
    let mut steps = Vec::new();
    for _ in 0..below(dice, 24) {
        now += [0, 1, 3, 15][below(dice, 4) as usize];
        let time = now - below(dice, 10);
        steps.push(Step::Event { key: below(dice, keys) as u8, source: below(dice, 2) as u16, time });
    }
    steps.push(Step::Time(now + 1000));
    steps
}

fn play(seed: u64) -> usize {
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (spec, steps) = (spec(&mut dice), steps(&mut dice));
    let mut plain = Lane::new(&spec, &steps);
    while plain.step(&mut || true) {}
    let mut lane = Lane::new(&spec, &steps);
    let (mut is_over, mut waited) = (false, 0);
    // Outages: there are times at which nothing succeeds, and others at which nothing fails.
    let mut luck = below(&mut dice, 4);
    while !is_over || !lane.outside.waiting.is_empty() {
        match below(&mut dice, 20) {
            0 if is_over => luck = 4,
            0 => luck = below(&mut dice, 4),
            1..4 => lane.commit(),
            4 => lane.abort(),
            5 => lane.restart(below(&mut dice, 2) == 0),
            6..12 => {
                let first = lane.outside.first_of_each_key();
                if !first.is_empty() {
                    let at = first[below(&mut dice, first.len() as i64) as usize];
                    lane.again(at, below(&mut dice, 4) < luck);
                    waited += 1;
                }
            }
            _ => {}
        }
        is_over = !lane.step(&mut || below(&mut dice, 4) < luck);
        lane.check();
    }
    lane.commit();
    assert_eq!(lane.outside.given, plain.outside.given, "{spec:?}\n{steps:?}");
    if !matches!(spec.kind, WindowKind::Count { .. }) {
        lane.state.remove(b"s".as_slice());
        assert!(lane.state.is_empty(), "what is done with leaves nothing: {:?}", lane.state);
        assert_eq!(lane.windows.bytes(), 0);
    }
    lane.restart(false);
    lane.check();
    waited
}

#[test]
fn each_result_is_given_once_and_in_its_keys_order() {
    let mut waited = 0;
    for seed in 0..SCRIPTS {
        match std::panic::catch_unwind(|| play(seed)) {
            Ok(count) => waited += count,
            Err(_) => panic!("script {seed}"),
        }
    }
    assert!(waited > SCRIPTS as usize, "there are some: {waited}");
}
