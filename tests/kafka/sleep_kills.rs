//! Functions are killed again and again while they park, fall asleep, wake or are at work, and events come at any of these
//! moments: none is lost, none has two results. `TIDEMILL_TEST_KILLS` says how often the process is killed.

use std::time::Duration;

use serde_json::json;
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Dice, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(90);
/// Each is at another point of its life when the process is killed.
const FUNCTIONS: usize = 8;

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

#[test]
fn nothing_is_lost_or_twice_whenever_a_sleeper_is_killed() {
    let kills: usize =
        std::env::var("TIDEMILL_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(15);
    let scale = json!({ "min": 0, "max": 2, "parkAfter": "150ms", "zeroAfter": "600ms" });
    let stages: Vec<Stage> = (0..FUNCTIONS)
        .map(|n| Stage::new(cluster(), &format!("nodding-{n}"), 2).with("/spec/scale", scale.clone()))
        .collect();
    let folder = stages[0].folder().join("functions");
    std::fs::create_dir_all(&folder).expect("a folder");
    for stage in &stages {
        stage.write_to(&folder.join(format!("{}.yaml", stage.name)));
    }
    let args = ["run", folder.to_str().expect("a path that is text")];
    let spawn = || stages[0].spawn_args("sleeper", &args, &[]);
    let mut dice = Dice::new();
    let mut sent = [0u32; FUNCTIONS];
    let (mut asleep, mut parked, mut woke) = (0, 0, 0);
    for kill in 0..kills {
        let mut worker = spawn();
        let starts = || worker.log().matches("tidemill starts").count();
        wait_until(WITHIN, "the process to start", || starts() > kill);
        // Functions have joined, slept and woken by then, or not.
        let end = now_ms() + 1000 + dice.roll(4000) as i64;
        while now_ms() < end {
            let (which, moment) = (dice.roll(FUNCTIONS), now_ms() + dice.roll(150) as i64);
            wait_until(WITHIN, "the moment", || now_ms() >= moment.min(end));
            let event = |n: u32| ToSend::new(format!("key-{}", n % 3), n.to_string());
            cluster().produce(&stages[which].source, (sent[which]..sent[which] + 3).map(event));
            sent[which] += 3;
        }
        worker.kill();
        let log = worker.log();
        asleep = log.matches("falls asleep").count();
        parked = log.matches("parked: ").count();
        woke = log.matches("wakes").count();
    }
    let mut worker = spawn();
    for stage in &stages {
        stage.wait_until_drained(WITHIN);
    }
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    for (stage, sent) in stages.iter().zip(sent) {
        stage.assert_each_ends_once(u64::from(sent));
    }
    println!("{kills} kills of {FUNCTIONS} functions: parked {parked}, asleep {asleep}, woken {woke} times");
    assert!(asleep > 0 && woke > 0, "it never slept, or never woke");
}
