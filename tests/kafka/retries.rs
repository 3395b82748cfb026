//! What fails waits off the path: only its key waits with it, and an outage is nobody's fault.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::json;
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Isolation, ReadRecord, Stage, ToSend, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn texts(records: &[ReadRecord]) -> Vec<&str> {
    records.iter().map(ReadRecord::text).collect()
}

#[test]
fn only_the_failing_key_waits() {
    for concurrency in [1, 16] {
        let stage = Stage::new(cluster(), "waits", 1)
            .with_trial()
            .with_short_sessions()
            .with("/spec/handler/concurrency", json!(concurrency))
            .with("/spec/delivery/retry", json!({ "maxAttempts": 4, "initial": "3s", "factor": 1 }));
        let follower = Follower::start(cluster(), &stage.sink);
        let mut records =
            vec![ToSend::new("sick", "sick-0").header("fail", "2"), ToSend::new("sick", "sick-1")];
        records.extend((0..200).map(|n| ToSend::new(format!("k{}", n % 10), n.to_string())));
        records.push(ToSend::new("sick", "sick-2"));
        cluster().produce(&stage.source, records);
        let mut worker = stage.spawn("a");
        // The others are through long before the second attempt, and committed too.
        let others = follower.wait_for(200, WITHIN);
        assert!(texts(&others).iter().all(|text| !text.starts_with("sick")), "{:?}", texts(&others));
        wait_until(WITHIN, "the offset that waits to be committed", || stage.committed() == [Some(0)]);
        // What has failed, and what is done beyond it, outlives a kill.
        worker.kill();
        let mut worker = stage.spawn("a");
        let all = follower.wait_for(203, WITHIN);
        let sick: Vec<_> = texts(&all).into_iter().filter(|text| text.starts_with("sick")).collect();
        assert_eq!(sick, ["sick-0", "sick-1", "sick-2"]);
        stage.wait_until_drained(WITHIN);
        assert!(worker.terminate(WITHIN).success());
        assert_eq!(follower.read().len(), 203, "nothing came twice");
        let calls = stage.calls();
        assert_eq!(calls[&format!("{}/0@0", stage.source)], [1, 2, 3]);
        let again: BTreeMap<_, _> = calls.iter().filter(|(_, calls)| calls.len() != 1).collect();
        assert_eq!(again.len(), 1, "what was finished was not called again: {again:?}");
    }
}

/// As many unfinished offsets between finished ones as the metadata can name: nothing more is begun. Whoever takes the
/// lane over must finish those, though there is no room for others.
#[test]
fn a_lane_whose_metadata_are_full_goes_on_after_a_restart() {
    for concurrency in [1, 16] {
        let stage = Stage::new(cluster(), "metadata", 1)
            .with_trial()
            .with_short_sessions()
            .with("/spec/handler/concurrency", json!(concurrency))
            .with("/spec/delivery/circuit", json!({ "keys": 0, "within": "1s" }))
            .with(
                "/spec/delivery/retry",
                json!({ "maxAttempts": 4, "initial": "10m", "max": "10m", "maxHeld": 50_000 }),
            );
        let records = (0..6000).map(|n| {
            let record = ToSend::new(format!("k{n}"), n.to_string());
            if n % 2 == 0 { record.header("fail", "1") } else { record }
        });
        cluster().produce(&stage.source, records);
        let mut worker = stage.spawn("a");
        wait_until(WITHIN, "a full lane, and its failures committed", || {
            let log = worker.log();
            let full = log.find("reading stops");
            full.is_some() && log.rfind("cut committed") > full
        });
        worker.kill();
        // Begun again at once: how long they were to wait is not remembered.
        let mut worker = stage.spawn("a");
        wait_until(WITHIN, "the first of those that wait to end", || {
            stage.committed()[0].is_some_and(|offset| offset > 0)
        });
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
        // No cut was undone: what the calls in flight came to had its place in the metadata.
        assert_eq!(stage.calls()[&format!("{}/0@0", stage.source)], [1, 2]);
    }
}

#[test]
fn a_lane_that_holds_as_much_as_it_may_is_read_no_further() {
    let stage = Stage::new(cluster(), "full", 1).with_trial().with(
        "/spec/delivery/retry",
        json!({ "maxAttempts": 3, "initial": "2s", "factor": 1, "maxHeld": 20 }),
    );
    let records = (0..300).map(|n| {
        let record = ToSend::new(if n % 3 == 0 { "sick" } else { "well" }, n.to_string());
        if n == 0 { record.header("fail", "2") } else { record }
    });
    cluster().produce(&stage.source, records);
    let mut worker = stage.spawn("a");
    wait_until(WITHIN, "the pause to be said", || worker.log().contains("reading stops"));
    stage.wait_until_drained(WITHIN);
    assert!(worker.log().contains("reading goes on"), "{}", worker.log());
    assert!(worker.terminate(WITHIN).success());
    let results = cluster().read_all(&stage.sink, Isolation::ReadCommitted);
    crate::harness::assert_each_once(300, &results);
}

#[test]
fn an_outage_is_waited_out_without_a_dead_letter() {
    for concurrency in [1, 8] {
        let outage = |stage: &Stage| stage.folder().join("outage");
        let stage = Stage::new(cluster(), "outage", 2).with_trial();
        let file = outage(&stage);
        let stage = stage
            .with("/spec/handler/config/outage", json!(file))
            .with("/spec/handler/concurrency", json!(concurrency))
            .with("/spec/delivery/retry", json!({ "maxAttempts": 3, "initial": "20ms", "max": "100ms" }));
        fs::write(&file, "").expect("a file");
        let follower = Follower::start(cluster(), &stage.sink);
        cluster()
            .produce(&stage.source, (0..400).map(|n| ToSend::new(format!("k{}", n % 40), n.to_string())));
        let mut worker = stage.spawn("a");
        wait_until(WITHIN, "the circuit to open", || {
            worker.log().matches("calls fail for one key").count() == 2
        });
        // Probes go on for longer than all attempts of an event would take.
        let calls = || stage.calls().values().map(Vec::len).sum::<usize>();
        let before = calls();
        wait_until(WITHIN, "probes", || calls() > before + 20);
        assert!(follower.read().is_empty());
        fs::remove_file(&file).expect("a file");
        follower.wait_for(400, WITHIN);
        stage.wait_until_drained(WITHIN);
        assert!(worker.log().contains("the outage is over"), "{}", worker.log());
        assert!(worker.terminate(WITHIN).success());
        crate::harness::assert_each_once(400, &follower.read());
        let dead = cluster().read_all(&stage.dead_letters, Isolation::ReadCommitted);
        assert!(dead.is_empty(), "{dead:?}");
    }
}

#[test]
fn the_limits_of_a_process_hold_for_its_functions() {
    let stage = Stage::new(cluster(), "limits", 2).with_trial();
    // Its one worker asks for 256 MiB.
    let mut worker = stage.spawn_with("a", &[("TIDEMILL_LIMITS_MEMORY", "100Mi")]);
    assert_eq!(worker.wait(WITHIN).code(), Some(1));
    assert!(worker.log().contains("asks for 256 MiB"), "{}", worker.log());
    let follower = Follower::start(cluster(), &stage.sink);
    let clock = SystemClock::start();
    let began = clock.now().elapsed;
    cluster().produce(&stage.source, (0..250).map(|n| ToSend::new(format!("k{n}"), n.to_string())));
    let env = [("TIDEMILL_LIMITS_MEMORY", "256Mi"), ("TIDEMILL_LIMITS_RATE", "50/s")];
    let mut worker = stage.spawn_with("a", &env);
    crate::harness::assert_each_once(250, &follower.wait_for(250, WITHIN));
    let took = clock.now().elapsed - began;
    assert!(took > Duration::from_millis(4500), "{took:?}");
    assert!(worker.terminate(WITHIN).success());
}

#[test]
fn a_rate_holds_for_all_workers_together() {
    for concurrency in [1, 4] {
        let stage = Stage::new(cluster(), "rate", 4)
            .with_trial()
            .with("/spec/handler/rate", json!("50/s"))
            .with("/spec/handler/concurrency", json!(concurrency));
        let mut workers = ["a", "b"].map(|who| stage.spawn(who));
        wait_until(WITHIN, "both workers in the group", || stage.members() == 2);
        let follower = Follower::start(cluster(), &stage.sink);
        let clock = SystemClock::start();
        let began = clock.now().elapsed;
        cluster().produce(&stage.source, (0..250).map(|n| ToSend::new(format!("k{n}"), n.to_string())));
        crate::harness::assert_each_once(250, &follower.wait_for(250, WITHIN));
        let took = clock.now().elapsed - began;
        // Five seconds' worth, less what was saved up.
        assert!(took > Duration::from_millis(4500), "{took:?}");
        assert!(workers.iter_mut().all(|worker| worker.terminate(WITHIN).success()));
    }
}
