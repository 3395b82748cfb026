//! A call that takes longer than a transaction may stand open is done all the same, and its neighbours with it.

use std::time::Duration;

use crate::harness::{Follower, Stage, ToSend, assert_each_once, cluster};

const WITHIN: Duration = Duration::from_secs(90);

#[test]
fn a_call_that_outlasts_the_transaction_gets_one_of_its_own() {
    let stage = Stage::new(cluster(), "outlasts", 1)
        .with_trial()
        .with("/spec/handler/timeout", serde_json::json!("100ms"));
    let follower = Follower::start(cluster(), &stage.sink);
    // The transaction that the first one opens ends after 10 s.
    let records = (0..3).map(|n| {
        let record = ToSend::new("key", n.to_string());
        if n == 1 { record.header("sleep-ms", "13000") } else { record }
    });
    cluster().produce(&stage.source, records);
    let mut worker = stage.spawn("a");
    assert_each_once(3, &follower.wait_for(3, WITHIN));
    assert!(worker.log().contains("call took longer than its timeout"), "{}", worker.log());
    assert!(worker.terminate(WITHIN).success());
    let calls = stage.calls();
    assert_eq!(calls.values().map(Vec::len).max(), Some(2), "{calls:?}");
}
