//! What a handler keeps, its timers by either clock, and rows of tables: over random scripts of calls, with calls that fail
//! and cuts, aborts and restarts at any moment, the state of a lane is what a plain list of it says, each timer fires
//! once, when it is due and in order, and one that is set again or cancelled does not fire for what it was set for before.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemill::model::{At, Dice, Effect, Fire, StateSpec, StitchSpec, TableScope, WindowKind, WindowSpec};
use tidemill::window::{Place, Verdict, Windows};

use crate::windows_follow_a_plain_model::{below, ms};

const SCRIPTS: u64 = 20_000;
const NAMES: [&str; 3] = ["a", "b", "c"];
const TTL: i64 = 12;
const TABLE: u16 = 1;

type Key = Vec<u8>;

#[derive(Debug, Clone)]
enum Does {
    Put { name: &'static str, value: u8, ttl: Option<i64> },
    Delete { name: &'static str },
    Timer { name: &'static str, at: At },
    Cancel { name: &'static str },
}

impl Does {
    fn effect(&self) -> Effect<'_> {
        match self {
            Self::Put { name, value, ttl } => {
                Effect::Put { name, value: std::slice::from_ref(value), ttl: ttl.map(ms) }
            }
            Self::Delete { name } => Effect::Delete { name },
            Self::Timer { name, at } => Effect::Timer { name, at: *at },
            Self::Cancel { name } => Effect::Cancel { name },
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A call with an event of this time.
    Call {
        key: u8,
        time: i64,
        does: Vec<Does>,
    },
    Row {
        key: u8,
        row: Option<u8>,
    },
    /// Event time goes on.
    Time(i64),
    /// The wall clock goes on.
    Clock(i64),
}

/// What there is, as plain as can be.
#[derive(Debug, Clone, Default, PartialEq)]
struct Plain {
    position: usize,
    now: i64,
    wall: i64,
    /// Values, and when they are gone.
    values: BTreeMap<(Key, String), (u8, i64)>,
    timers: BTreeMap<(Key, String), At>,
    rows: BTreeMap<Key, u8>,
    /// Timers that fired and whose calls are to be made, and how many calls failed.
    waiting: Vec<(Key, String, At, u32)>,
    /// Calls that succeeded.
    fired: Vec<(Key, String, At)>,
}

impl Plain {
    fn does(&mut self, key: &[u8], time: i64, does: &[Does]) {
        let now = self.now.max(time).max(0);
        for does in does {
            let place = |name: &str| (key.to_vec(), name.to_owned());
            if let Does::Timer { name, .. } | Does::Cancel { name } = does {
                self.waiting.retain(|(of, known, ..)| of != key || known != name);
            }
            match does {
                Does::Put { name, value, ttl } => {
                    self.values.insert(place(name), (*value, now + ttl.unwrap_or(TTL)));
                }
                Does::Delete { name } => drop(self.values.remove(&place(name))),
                Does::Timer { name, at } => drop(self.timers.insert(place(name), *at)),
                Does::Cancel { name } => drop(self.timers.remove(&place(name))),
            }
        }
    }

    /// The next thing that time brings about; `false`: nothing.
    fn fire(&mut self) -> bool {
        let by_clock = self.timers.iter().filter_map(|((key, name), at)| match at {
            At::Clock(at) if *at <= self.wall => Some((*at, key.clone(), name.clone())),
            _ => None,
        });
        if let Some((at, key, name)) = by_clock.min() {
            self.timers.remove(&(key.clone(), name.clone()));
            self.waiting.push((key, name, At::Clock(at), 0));
            return true;
        }
        let of_timers = self.timers.iter().filter_map(|((key, _), at)| match at {
            At::Event(at) if *at <= self.now => Some((*at, key.clone())),
            _ => None,
        });
        let of_values = self.values.iter().filter(|(_, (_, gone))| *gone <= self.now);
        let of_values = of_values.map(|((key, _), (_, gone))| (*gone, key.clone()));
        let Some((due, key)) = of_timers.chain(of_values).min() else { return false };
        self.values.retain(|(of, _), (_, gone)| *of != key || *gone > due);
        let mut fire: Vec<_> = Vec::new();
        self.timers.retain(|(of, name), at| {
            let fires = *of == key && matches!(at, At::Event(at) if *at <= due);
            if fires {
                fire.push((at.time_ms(), name.clone(), *at));
            }
            !fires
        });
        fire.sort_by_key(|(at, ..)| *at);
        self.waiting.extend(fire.into_iter().map(|(_, name, at)| (key.clone(), name, at, 0)));
        true
    }
}

/// What the call of a timer does: it notes that it fired, and some set themselves again.
fn on_timer(name: &str, at: At) -> Vec<Does> {
    let note = Does::Put { name: "c", value: at.time_ms() as u8, ttl: Some(40) };
    match at {
        At::Event(at) if name == "a" && at % 3 == 0 => {
            vec![note, Does::Timer { name: "a", at: At::Event(at + 7) }]
        }
        At::Clock(at) if name == "b" && at % 2 == 0 => {
            vec![note, Does::Timer { name: "a", at: At::Clock(at + 5) }, Does::Cancel { name: "c" }]
        }
        _ => vec![note],
    }
}

struct Lane<'a> {
    steps: &'a [Step],
    spec: WindowSpec,
    windows: Windows,
    plain: Plain,
    state: BTreeMap<Key, Vec<u8>>,
    log: Vec<(Key, Option<Vec<u8>>)>,
    committed: Plain,
}

impl<'a> Lane<'a> {
    fn new(steps: &'a [Step]) -> Self {
        let spec = WindowSpec {
            kind: WindowKind::Each,
            fire: Fire::Close,
            aggregates: BTreeMap::new(),
            sources: Vec::new(),
            stitch: StitchSpec::default(),
            late_topic: None,
            max_drift: ms(60_000),
            state: Some(StateSpec { ttl: Some(Duration::from_millis(TTL as u64)) }),
            tables: vec![(TABLE, TableScope::Lane)],
            grace: ms(0),
            idle: ms(10_000),
            max_skew: ms(3_600_000),
        };
        let windows = Windows::new(&spec, i64::MIN);
        let (plain, committed) = (Plain::default(), Plain::default());
        Self { steps, spec, windows, plain, state: BTreeMap::new(), log: Vec::new(), committed }
    }

    fn apply(&mut self, key: &[u8], time: i64, does: &[Does]) {
        self.windows.apply(key, time, does.iter().map(Does::effect));
        self.plain.does(key, time, does);
    }

    /// One thing is done; `false`: there is nothing left.
    fn step(&mut self) -> bool {
        let mut has_fired = false;
        while self.windows.fire_by_clock(self.plain.wall)
            || self.windows.close_next(&mut |_, _| -> Verdict { unreachable!("there are no windows") })
        {
            has_fired = true;
        }
        // Looking at a key in vain is no harm, as long as nothing is missed.
        while self.plain.fire() {
            assert!(has_fired);
        }
        if has_fired {
            return true;
        }
        let Some(step) = self.steps.get(self.plain.position) else { return false };
        self.plain.position += 1;
        match step {
            Step::Time(time) => {
                self.windows.advance_to(*time);
                self.plain.now = self.plain.now.max(*time);
            }
            Step::Clock(wall) => self.plain.wall = self.plain.wall.max(*wall),
            Step::Row { key, row } => {
                let bytes = row.as_ref().map(std::slice::from_ref);
                self.windows.set_row((TABLE, &[*key]), bytes, &mut |_, _| Verdict::Done);
                match row {
                    Some(row) => drop(self.plain.rows.insert(vec![*key], *row)),
                    None => drop(self.plain.rows.remove(&[*key][..])),
                }
            }
            Step::Call { key, time, does } => {
                self.apply(&[*key], *time, does);
                let offset = self.plain.position as i64;
                self.windows.moved(Place { time_ms: *time, source: 0, partition: 0, offset });
                self.plain.now = self.plain.now.max(*time);
            }
        }
        true
    }

    /// Calls that are to be made are made, of each key the first.
    fn call(&mut self, mut succeeds: impl FnMut() -> bool) {
        let mut seen = Vec::new();
        let waiting: Vec<_> =
            self.windows.waiting().map(|(number, pending)| (number, pending.clone())).collect();
        for (number, pending) in waiting {
            let is_first = !seen.contains(&pending.key);
            seen.push(pending.key.clone());
            if !is_first || self.windows.waiting_at(number).is_none() {
                continue;
            }
            let (name, at) = pending.timer.clone().expect("nothing else waits");
            let is_it = |(key, of, when, attempts): &(Key, String, At, u32)| {
                *key == pending.key && **of == *name && *when == at && *attempts == pending.attempts
            };
            let place = self.plain.waiting.iter().position(is_it).expect("the plain list has it too");
            if succeeds() {
                self.plain.fired.push((pending.key.to_vec(), name.to_string(), at));
                self.plain.waiting.remove(place);
                // The engine takes it for done only after the call did what it does.
                self.apply(&pending.key, pending.time_ms, &on_timer(&name, at));
                self.windows.settled(number);
            } else {
                self.windows.failed_again(number);
                self.plain.waiting[place].3 += 1;
            }
        }
    }

    fn commit(&mut self) {
        let Self { state, log, .. } = self;
        self.windows.changes(|key, value| {
            log.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            match value {
                Some(value) => drop(state.insert(key.to_vec(), value.to_vec())),
                None => drop(state.remove(key)),
            }
        });
        self.windows.committed();
        self.committed = self.plain.clone();
    }

    fn abort(&mut self) {
        self.windows.rolled_back();
        self.plain = self.committed.clone();
    }

    fn restart(&mut self, is_compacted: bool) {
        self.plain = self.committed.clone();
        let watermark = if self.plain.now == 0 { i64::MIN } else { self.plain.now };
        self.windows = Windows::new(&self.spec, watermark);
        match is_compacted {
            true => self.state.iter().for_each(|(key, value)| self.windows.restore(key, Some(value))),
            false => self.log.iter().for_each(|(key, value)| self.windows.restore(key, value.as_deref())),
        }
        self.windows.restored().unwrap();
    }

    fn check(&self) {
        let plain = &self.plain;
        for key in 0..4u8 {
            let key = [key];
            let of_key = |(of, _): &&(Key, String)| of[..] == key;
            let values: Vec<_> =
                self.windows.values(&key).map(|value| (value.name, value.bytes[0])).collect();
            let expected = plain.values.iter().filter(|(place, _)| of_key(place));
            let expected: Vec<_> = expected.map(|((_, name), (value, _))| (name.as_str(), *value)).collect();
            assert_eq!(values, expected);
            let timers: Vec<_> = self.windows.timers(&key).collect();
            let expected = plain.timers.iter().filter(|(place, _)| of_key(place));
            assert_eq!(timers, expected.map(|((_, name), at)| (name.as_str(), *at)).collect::<Vec<_>>());
            let row = self.windows.row(&key, TABLE).map(|row| row[0]);
            assert_eq!(row, plain.rows.get(&key[..]).copied());
        }
        let waiting = self.windows.waiting().map(|(_, pending)| {
            let (name, at) = pending.timer.clone().unwrap();
            (pending.key.to_vec(), name.to_string(), at, pending.attempts)
        });
        assert_eq!(waiting.collect::<Vec<_>>(), plain.waiting);
        let first = plain.timers.values().filter_map(|at| match at {
            At::Clock(at) => Some(*at),
            At::Event(_) => None,
        });
        assert_eq!(self.windows.next_clock_ms(), first.min());
    }
}

fn does(dice: &mut Dice, now: i64, wall: i64) -> Vec<Does> {
    let one = |dice: &mut Dice| {
        let name = NAMES[below(dice, 3) as usize];
        match below(dice, 6) {
            0 | 1 => {
                let ttl = (below(dice, 2) == 0).then(|| 1 + below(dice, 20));
                Does::Put { name, value: below(dice, 200) as u8, ttl }
            }
            2 => Does::Delete { name },
            3 => Does::Timer { name, at: At::Event((now + below(dice, 30) - 5).max(0)) },
            4 => Does::Timer { name, at: At::Clock((wall + below(dice, 30) - 5).max(0)) },
            _ => Does::Cancel { name },
        }
    };
    (0..below(dice, 4)).map(|_| one(dice)).collect()
}

fn steps(dice: &mut Dice) -> Vec<Step> {
    let keys = 1 + below(dice, 3);
    let (mut now, mut wall) = (20, 1000);
    let mut steps = vec![Step::Clock(wall)];
    for _ in 0..below(dice, 30) {
        now += [0, 1, 3, 12][below(dice, 4) as usize];
        wall += [0, 1, 2, 9][below(dice, 4) as usize];
        let key = below(dice, keys) as u8;
        steps.push(match below(dice, 8) {
            0 => Step::Time(now),
            1 | 2 => Step::Clock(wall),
            3 => Step::Row { key, row: (below(dice, 3) > 0).then(|| below(dice, 200) as u8) },
            _ => Step::Call { key, time: (now - below(dice, 8)).max(0), does: does(dice, now, wall) },
        });
    }
    steps
}

fn play(seed: u64) -> (usize, usize) {
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let steps = steps(&mut dice);
    let mut lane = Lane::new(&steps);
    let (mut is_over, mut failed) = (false, 0);
    let mut luck = below(&mut dice, 4);
    while !is_over || !lane.plain.waiting.is_empty() {
        match below(&mut dice, 20) {
            0 if is_over => luck = 4,
            0 => luck = below(&mut dice, 4),
            1..4 => lane.commit(),
            4 => lane.abort(),
            5 => lane.restart(below(&mut dice, 2) == 0),
            _ => {
                is_over = !lane.step();
                lane.call(|| {
                    let succeeds = below(&mut dice, 4) < luck;
                    failed += usize::from(!succeeds);
                    succeeds
                });
            }
        }
        lane.check();
        is_over &= lane.plain.position == steps.len();
    }
    // All goes on in event time: what is kept for a while goes, timers that set themselves again end with the script.
    lane.commit();
    lane.restart(true);
    lane.check();
    (lane.plain.fired.len(), failed)
}

#[test]
fn what_a_handler_keeps_is_what_a_plain_list_says() {
    let (mut fired, mut failed) = (0, 0);
    for seed in 0..SCRIPTS {
        let played = std::panic::catch_unwind(|| play(seed)).unwrap_or_else(|_| panic!("script {seed}"));
        fired += played.0;
        failed += played.1;
    }
    assert!(fired as u64 > SCRIPTS && failed as u64 > SCRIPTS / 2, "{fired} fired, {failed} calls failed");
}
