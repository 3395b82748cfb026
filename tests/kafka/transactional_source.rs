//! A source that is written in transactions: what was aborted is never handled, and a drained function has no lag,
//! although the last offsets are markers that nobody reads.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::harness::{Follower, Stage, cluster, unique};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn aborted_records_are_never_handled_and_markers_are_no_lag() {
    let stage = Stage::new(cluster(), "transactional", 2);
    let follower = Follower::start(cluster(), &stage.sink);
    let producer: BaseProducer =
        cluster().config().set("transactional.id", unique("source")).create().unwrap();
    producer.init_transactions(WITHIN).unwrap();
    let transaction = |values: &[&str], is_committed: bool| {
        producer.begin_transaction().unwrap();
        for value in values {
            for partition in 0..2 {
                let record: BaseRecord<'_, str, str> =
                    BaseRecord::to(&stage.source).partition(partition).key("k").payload(value);
                producer.send(record).unwrap();
            }
        }
        producer.flush(WITHIN).unwrap();
        if is_committed {
            producer.commit_transaction(WITHIN).unwrap();
        } else {
            producer.abort_transaction(WITHIN).unwrap();
        }
    };
    transaction(&["dropped 1"], false);
    transaction(&["kept 1", "kept 2"], true);
    transaction(&["dropped 2", "dropped 3"], false);
    let mut worker = stage.spawn("a");
    follower.wait_for(4, WITHIN);
    stage.wait_until_drained(WITHIN);
    // While it runs, and at the end an aborted one.
    transaction(&["kept 3"], true);
    transaction(&["dropped 4"], false);
    let results = follower.wait_for(6, WITHIN);
    stage.wait_until_drained(WITHIN);
    assert_eq!(stage.committed(), [Some(12), Some(12)], "7 records and 5 markers");

    // Drained it stays after a restart, and goes on.
    worker.kill();
    let mut worker = stage.spawn("a");
    transaction(&["kept 4"], true);
    follower.wait_for(8, WITHIN);
    stage.wait_until_drained(WITHIN);
    assert!(worker.terminate(WITHIN).success());
    assert!(results.iter().all(|record| record.text().starts_with("kept")), "{results:?}");
    let mut values: Vec<_> = follower.read().iter().map(|record| record.text().to_owned()).collect();
    values.sort();
    assert_eq!(values, ["kept 1", "kept 1", "kept 2", "kept 2", "kept 3", "kept 3", "kept 4", "kept 4"]);
}
