//! A call that does not come back ends the process, or its function alone, and costs its neighbours nothing.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Deadline, Follower, Signal, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn stage(concurrency: u32, on_hang: &str) -> Stage {
    Stage::new(cluster(), "hangs", 1)
        .with_trial()
        .with_short_sessions()
        .with("/spec/handler/concurrency", json!(concurrency))
        .with("/spec/handler/timeout", json!("1s"))
        .with("/spec/handler/onHang", json!(on_hang))
        .with("/spec/delivery/retry", json!({ "maxAttempts": 2, "initial": "10ms" }))
}

#[test]
fn a_call_that_hangs_ends_the_process_and_then_its_event() {
    for concurrency in [1, 4] {
        let stage = stage(concurrency, "exit");
        let follower = Follower::start(cluster(), &stage.sink);
        let hangs = ToSend::new("a", "hangs").header("sleep-ms", "600000");
        cluster().produce(&stage.source, [hangs, ToSend::new("b", "0"), ToSend::new("b", "1")]);
        for _ in 0..2 {
            let mut worker = stage.spawn("a");
            let status = worker.wait(WITHIN);
            assert!(!status.success(), "{status}");
            assert!(worker.log().contains("a call has not come back"), "{}", worker.log());
        }
        let mut worker = stage.spawn("a");
        follower.wait_for(2, WITHIN);
        stage.wait_until_drained(WITHIN);
        let dead = cluster().read_all(&stage.dead_letters, crate::harness::Isolation::ReadCommitted);
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].header("tidemill-reason"), Some("crashed"));
        assert!(worker.terminate(WITHIN).success());
    }
}

/// What takes long is a batch of calls, each of which is within its time.
#[test]
fn calls_that_are_all_in_time_do_not_hang_together() {
    let stage = stage(2, "exit");
    let follower = Follower::start(cluster(), &stage.sink);
    let records = (0..16).map(|n| ToSend::new("k", n.to_string()).header("sleep-ms", "700"));
    cluster().produce(&stage.source, records);
    let mut worker = stage.spawn("a");
    follower.wait_for(16, WITHIN);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

/// A process that was stopped has no call to blame for the time that has passed.
#[test]
fn a_process_that_stood_still_goes_on() {
    for concurrency in [1, 4] {
        let stage = stage(concurrency, "stop");
        let follower = Follower::start(cluster(), &stage.sink);
        let slow = |n: usize| ToSend::new("k", n.to_string()).header("sleep-ms", "500");
        cluster().produce(&stage.source, (0..20).map(slow));
        let mut worker = stage.spawn("a");
        wait_until(WITHIN, "the first call", || !stage.calls().is_empty());
        worker.signal(Signal::Stop);
        let until = Deadline::after(Duration::from_secs(5));
        wait_until(WITHIN, "more than twice the timeout to pass", || until.is_over());
        worker.signal(Signal::Continue);
        follower.wait_for(20, WITHIN);
        assert!(!worker.log().contains("a call has not come back"), "{}", worker.log());
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    }
}

#[test]
fn with_on_hang_stop_the_process_goes_on() {
    for concurrency in [1, 4] {
        let stage = stage(concurrency, "stop");
        cluster().produce(&stage.source, [ToSend::new("a", "hangs").header("sleep-ms", "600000")]);
        let worker = stage.spawn("a");
        wait_until(WITHIN, "the function to stop", || worker.log().contains("a call has not come back"));
        assert!(!worker.log().contains("the process ends"), "{}", worker.log());
    }
}
