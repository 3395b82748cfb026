//! Workers of a function that are killed, stopped and started under load.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use super::dice::{Dice, number};
use super::load::Load;
use super::stage::Stage;
use super::worker::Worker;

const WITHIN: Duration = Duration::from_secs(60);

/// Three workers that it befell.
pub struct Siege {
    workers: Vec<Option<Worker>>,
}

impl Siege {
    /// Kills `TIDEMILL_TEST_KILLS` workers (20) at random moments, between two of which `come_through` waits until something
    /// came out, or nothing ever could.
    pub fn lay(stage: &Stage, load: &Load, come_through: impl Fn(&mut Dice)) -> Self {
        Self::lay_for(20, stage, load, come_through)
    }

    /// The same with so many kills where `TIDEMILL_TEST_KILLS` does not say.
    pub fn lay_for(kills: u32, stage: &Stage, load: &Load, come_through: impl Fn(&mut Dice)) -> Self {
        let kills = number("TIDEMILL_TEST_KILLS").map_or(kills, |kills| kills as u32);
        let mut dice = Dice::new();
        // Shown when the test fails.
        println!("{dice} TIDEMILL_TEST_KILLS={kills}");
        let names = ["a", "b", "c"];
        let mut workers: Vec<Option<Worker>> = names.map(|who| Some(stage.spawn(who))).into();
        let mut killed = 0;
        while killed < kills {
            come_through(&mut dice);
            load.wait_for_more(dice.roll(100) as u64);
            let who = dice.roll(3);
            let running = workers.iter().flatten().count();
            match (&mut workers[who], dice.roll(4)) {
                (Some(worker), 0) if running > 1 => {
                    let status = worker.terminate(WITHIN);
                    // One that was only just started may not listen to signals yet.
                    let is_ended = status.success() || status.signal() == Some(15);
                    assert!(is_ended, "{status}: {}", worker.log());
                    workers[who] = None;
                }
                (Some(worker), roll) => {
                    killed += 1;
                    worker.kill();
                    // Most come back at once, under the same name.
                    workers[who] = (running == 1 || roll != 1).then(|| stage.spawn(names[who]));
                }
                (gone, _) => *gone = Some(stage.spawn(names[who])),
            }
        }
        if workers.iter().flatten().count() == 0 {
            workers.push(Some(stage.spawn("a")));
        }
        Self { workers }
    }

    /// Stops those that are left. They are kept to the end: what they logged is shown when something is missing.
    pub fn raise(mut self) {
        for worker in self.workers.iter_mut().flatten() {
            let status = worker.terminate(WITHIN);
            assert!(status.success(), "{status}: {}", worker.log());
        }
    }
}
