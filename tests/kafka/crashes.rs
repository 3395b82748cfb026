//! A call that ends the process counts as an attempt after the restart, and its event ends as a dead letter.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Isolation, ReadRecord, Stage, ToSend, assert_each_ends_once, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn an_event_whose_calls_end_the_process_becomes_a_dead_letter() {
    for concurrency in [1, 8] {
        let stage = Stage::new(cluster(), "crashes", 1)
            .with_trial()
            .with_short_sessions()
            .with("/spec/handler/concurrency", json!(concurrency))
            .with("/spec/delivery/retry", json!({ "maxAttempts": 3, "initial": "10ms" }));
        let records = (0..100).map(|n| {
            let record = ToSend::new(format!("k{}", n % 10), n.to_string());
            match n {
                41 => record.header("abort", "99"),
                // This one goes well after the process has died once.
                60 => record.header("abort", "1"),
                _ => record,
            }
        });
        cluster().produce(&stage.source, records);
        let mut deaths = 0;
        let mut worker = stage.spawn("a");
        wait_until(WITHIN, "every event to end", || {
            if !worker.is_running() {
                deaths += 1;
                worker = stage.spawn("a");
            }
            stage.committed() == stage.ends()
        });
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
        assert!((4..=6).contains(&deaths), "died {deaths} times:\n{}", worker.log());
        let results = cluster().read_all(&stage.sink, Isolation::ReadCommitted);
        let dead = cluster().read_all(&stage.dead_letters, Isolation::ReadCommitted);
        assert_each_ends_once(100, &results, &dead);
        assert_eq!(dead.iter().map(ReadRecord::text).collect::<Vec<_>>(), ["41"]);
        assert_eq!(dead[0].header("tidemill-reason"), Some("crashed"));
        assert_eq!(dead[0].header("tidemill-attempts"), Some("3"));
    }
}
