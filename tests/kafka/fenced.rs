//! Two processes that were given the same instance id fence each other. They do not go on so for ever: the second
//! fence within a minute makes one take a new id, and says so. Results stay exact.

use std::time::Duration;

use crate::harness::{Follower, Load, Stage, assert_each_once, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn two_processes_with_one_instance_id_come_to_terms() {
    let stage = Stage::new(cluster(), "fenced", 4);
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 20);
    let twin = [("TIDEMILL_INSTANCE", "twin")];
    let mut first = stage.spawn_with("first", &twin);
    follower.wait_for(200, WITHIN);
    let mut second = stage.spawn_with("second", &twin);
    wait_until(WITHIN, "one of them to take a new id", || {
        [&first, &second].iter().any(|worker| worker.log().contains("taking a new one"))
    });
    let fences = |worker: &crate::harness::Worker| worker.log().matches("was fenced").count();
    let before = fences(&first) + fences(&second);
    follower.wait_for_more(2000, WITHIN);
    let after = fences(&first) + fences(&second);
    assert!(after <= before + 2, "{before} fences, then {after}");
    let taken = [&first, &second].map(|worker| worker.log().matches("taking a new one").count());
    assert!(taken.iter().sum::<usize>() <= 2, "{taken:?}");

    let count = load.finish();
    follower.wait_for(count as usize, WITHIN);
    stage.wait_until_drained(WITHIN);
    for worker in [&mut first, &mut second] {
        assert!(worker.terminate(WITHIN).success());
    }
    assert_each_once(count, &follower.read());
}
