//! Random scripts of outcomes, kills, stops and newcomers on a real broker: whatever happens, each event ends once, in
//! the order that was asked for, within its attempts, and the account is balanced. `tests/it/scripts.rs` plays many more
//! of them without a broker.
//!
//! `TIDEMILL_TEST_SCRIPTS=500` for a long run, `TIDEMILL_TEST_SEED=…` to begin at another script.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::harness::{Dice, ReadRecord, Stage, ToSend, Worker, cluster, number, try_wait};

const WITHIN: Duration = Duration::from_secs(120);
/// How many scripts are played at a time: they mostly wait.
const AT_A_TIME: usize = 4;

/// What the handler does to an event.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Ok,
    Slow(u64),
    Fails(u32),
    Panics(u32),
    Rejects,
    Aborts(u32),
    Hangs,
}

/// All that is random about a script.
#[derive(Debug)]
struct Script {
    partitions: i32,
    order: &'static str,
    concurrency: u32,
    max_attempts: u32,
    max_held: u32,
    fates: Vec<Fate>,
    /// After so many more calls one of two workers, by number, is killed, stopped, or started.
    disturbances: Vec<(usize, usize, bool)>,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::seeded(seed);
        let max_attempts = 2 + dice.roll(3) as u32;
        let mut fates: Vec<Fate> = (0..60 + dice.roll(140))
            .map(|_| match dice.roll(100) {
                0..6 => Fate::Slow(1 + dice.roll(30) as u64),
                6..14 => Fate::Fails(1 + dice.roll(max_attempts as usize + 1) as u32),
                14..18 => Fate::Panics(1 + dice.roll(max_attempts as usize + 1) as u32),
                18..23 => Fate::Rejects,
                _ => Fate::Ok,
            })
            .collect();
        let place = dice.roll(fates.len());
        match dice.roll(8) {
            0..2 => fates[place] = Fate::Aborts(1),
            2 => fates[place] = Fate::Aborts(99),
            3 => fates[place] = Fate::Hangs,
            _ => {}
        }
        Self {
            partitions: 1 + dice.roll(3) as i32,
            order: ["key", "key", "partition", "none"][dice.roll(4)],
            concurrency: [1, 1, 2, 4, 16, 64][dice.roll(6)],
            max_attempts,
            max_held: 5 + dice.roll(100) as u32,
            disturbances: (0..dice.roll(4))
                .map(|_| (dice.roll(60), dice.roll(2), dice.roll(3) > 0))
                .collect(),
            fates,
        }
    }

    fn stage(&self) -> Stage {
        Stage::new(cluster(), "script", self.partitions)
            .with_short_sessions()
            .with_trial()
            .with("/spec/order", json!(self.order))
            .with("/spec/handler/concurrency", json!(self.concurrency))
            .with("/spec/handler/timeout", json!("1s"))
            .with("/spec/delivery/originHeaders", json!(true))
            .with(
                "/spec/delivery/retry",
                json!({ "maxAttempts": self.max_attempts, "initial": "10ms", "max": "50ms",
                        "maxHeld": self.max_held }),
            )
    }

    fn records(&self) -> impl Iterator<Item = ToSend> {
        self.fates.iter().zip(0..).map(|(fate, n): (_, u64)| {
            let record = ToSend::new(format!("key-{}", n % 11), n.to_string());
            match fate {
                Fate::Ok => record,
                Fate::Slow(millis) => record.header("sleep-ms", millis.to_string()),
                Fate::Fails(times) => record.header("fail", times.to_string()),
                Fate::Panics(times) => record.header("panic", times.to_string()),
                Fate::Rejects => record.header("reject", "as-asked"),
                Fate::Aborts(times) => record.header("abort", times.to_string()),
                Fate::Hangs => record.header("sleep-ms", "600000"),
            }
        })
    }

    fn play(&self) {
        let stage = self.stage();
        cluster().produce(&stage.source, self.records());
        let mut workers: [Option<Worker>; 2] = [Some(stage.spawn("a")), None];
        let calls = || stage.calls().values().map(Vec::len).sum::<usize>();
        for (more, who, is_kill) in &self.disturbances {
            let goal = calls() + more;
            try_wait(WITHIN, "calls to go on", || {
                revive(&stage, &mut workers);
                let is_through = stage.committed() == stage.ends();
                if calls() >= goal || is_through { Ok(()) } else { Err(format!("{} of {goal}", calls())) }
            });
            match &mut workers[*who] {
                Some(worker) if *is_kill => worker.kill(),
                Some(worker) => drop(worker.terminate(WITHIN)),
                gone => *gone = Some(stage.spawn(NAMES[*who])),
            }
        }
        try_wait(WITHIN, "every event to end", || {
            revive(&stage, &mut workers);
            let (committed, ends) = (stage.committed(), stage.ends());
            if committed == ends { Ok(()) } else { Err(format!("committed {committed:?} of {ends:?}")) }
        });
        for worker in workers.iter_mut().flatten() {
            assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
        }
        self.check(&stage);
    }

    fn check(&self, stage: &Stage) {
        let results = cluster().read_all_ended(&stage.sink);
        let dead = cluster().read_all_ended(&stage.dead_letters);
        let mut ended: BTreeMap<usize, Option<&ReadRecord>> = BTreeMap::new();
        let all =
            results.iter().map(|result| (result, None)).chain(dead.iter().map(|dead| (dead, Some(dead))));
        for (record, letter) in all {
            let n: usize = record.text().parse().expect("a number");
            assert!(ended.insert(n, letter).is_none(), "{n} ended twice");
        }
        assert_eq!(ended.keys().copied().collect::<BTreeSet<_>>(), (0..self.fates.len()).collect());
        for (n, letter) in ended {
            let (fate, reason) = (self.fates[n], letter.and_then(|letter| letter.header("tidemill-reason")));
            let is_right = match reason {
                // A process that dies takes part in what its other calls come to.
                Some("crashed") => true,
                Some("rejected") => fate == Fate::Rejects,
                Some("exhausted") => {
                    matches!(fate, Fate::Fails(n) | Fate::Panics(n) if n >= self.max_attempts)
                }
                Some(_) => false,
                None => !matches!(fate, Fate::Rejects | Fate::Aborts(99) | Fate::Hangs),
            };
            assert!(is_right, "{n} {fate:?}: {letter:?}");
        }
        if self.order != "none" {
            let mut last: BTreeMap<&str, usize> = BTreeMap::new();
            for result in &results {
                let n = result.text().parse().expect("a number");
                let before = last.insert(result.key_text(), n);
                assert!(before.is_none_or(|before| before < n), "{before:?} came before {n}");
            }
        }
        for (event, attempts) in stage.calls() {
            let most = attempts.iter().max().copied().unwrap_or(0);
            assert!(most <= self.max_attempts.max(2), "{event} was called with attempt {most}");
        }
        let audit = stage.tidemill(&["audit"], &[]);
        assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    }
}

const NAMES: [&str; 2] = ["a", "b"];

/// Calls that abort or hang end their process, and somebody starts it again; one of the two is always there.
fn revive(stage: &Stage, workers: &mut [Option<Worker>; 2]) {
    for (worker, name) in workers.iter_mut().zip(NAMES) {
        if worker.as_mut().is_some_and(|worker| !worker.is_running()) {
            *worker = Some(stage.spawn(name));
        }
    }
}

#[test]
fn any_script_ends_each_event_once_in_order_and_balanced() {
    let scripts = number("TIDEMILL_TEST_SCRIPTS").unwrap_or(50);
    let first = number("TIDEMILL_TEST_SEED").unwrap_or(1);
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        let play = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + scripts {
                    return;
                }
                let script = Script::new(seed);
                let result = std::panic::catch_unwind(|| script.play());
                assert!(result.is_ok(), "TIDEMILL_TEST_SEED={seed} TIDEMILL_TEST_SCRIPTS=1: {script:?}");
            }
        };
        let players: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(play)).collect();
        let failed = players.into_iter().filter_map(|player| player.join().err()).count();
        assert_eq!(failed, 0, "players that met a script that failed");
    });
}
