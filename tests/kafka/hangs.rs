//! A call that does not come back ends the process, or its function alone, and costs its neighbours nothing.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Follower, Stage, ToSend, cluster, wait_until};

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
