//! A worker to which nothing comes for a while keeps its place and its state and gives back the rest; the next event finds it
//! at work within milliseconds, and so does what falls due.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord};
use serde_json::json;
use tidemill::model::{Clock as _, SystemClock};

use crate::harness::{Follower, Listeners, Stage, ToSend, cluster, holds_for, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 25;

fn now_ms() -> i64 {
    SystemClock::start().now().wall_ms
}

fn parking(stem: &str, after: &str) -> Stage {
    Stage::new(cluster(), stem, 4).with("/spec/scale", json!({ "min": 1, "max": 1, "parkAfter": after }))
}

fn wait_until_parked(listeners: &Listeners, stage: &Stage) {
    wait_until(WITHIN, "it to be parked", || listeners.state(&stage.name) == "parked");
}

#[test]
fn a_parked_worker_is_at_work_within_milliseconds_and_keeps_its_place() {
    for concurrency in [1, 4] {
        let stage =
            parking("parks", "300ms").with_trial().with("/spec/handler/concurrency", json!(concurrency));
        let listeners = Listeners::free();
        let follower = Follower::start(cluster(), &stage.sink);
        let mut worker = stage.spawn_with("a", &listeners.env());
        cluster().produce(&stage.source, [ToSend::new("key-0", "0")]);
        follower.wait_for(1, WITHIN);
        let members = stage.member_ids();
        // A client that knows its brokers, as one that has written before.
        let producer: BaseProducer = cluster().config().set("linger.ms", "0").create().expect("a producer");
        let mut took_ms = Vec::new();
        for n in 1..=ROUNDS {
            wait_until_parked(&listeners, &stage);
            let from = now_ms();
            let number = n.to_string();
            let record = BaseRecord::to(&stage.source).key("key-0").payload(&number);
            producer.send(record).expect("room for a record");
            while follower.count() as u64 <= n {
                producer.poll(Duration::from_millis(1));
                assert!(now_ms() - from < 60_000, "no result: {}", worker.log());
            }
            took_ms.push(now_ms() - from);
        }
        took_ms.sort_unstable();
        println!("{concurrency} at once: {took_ms:?} ms from a record to its result, of a parked worker");
        assert!(took_ms[ROUNDS as usize / 2] < 500, "{took_ms:?}");
        assert_eq!(stage.member_ids(), members, "it never left its group");
        assert!(worker.log().matches("parked: ").count() as u64 >= ROUNDS, "{}", worker.log());
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
        stage.assert_each_ends_once(ROUNDS + 1);
    }
}

#[test]
fn a_window_that_ends_finds_it_at_work() {
    let stage = parking("parks-window", "500ms").with("/spec/sinks/0/format", json!("json")).with(
        "/spec/window",
        json!({ "session": { "gap": "6s" }, "idle": "1s", "aggregate": { "n": { "op": "count" } } }),
    );
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    let follower = Follower::start(cluster(), &stage.sink);
    cluster().produce(&stage.source, [ToSend::new("ada", "1").at(now_ms())]);
    wait_until_parked(&listeners, &stage);
    assert_eq!(follower.count(), 0, "the window is open");
    assert!(follower.wait_for(1, WITHIN)[0].text().contains(r#""n":1"#));
    wait_until_parked(&listeners, &stage);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

/// Its handler was given back, and is there again before the call.
#[test]
fn timers_and_windows_find_it_with_its_handler() {
    let with_state =
        |stage: Stage| stage.with("/spec/state", json!({})).with("/spec/time", json!({ "idle": "1s" }));
    let stage = with_state(parking("parks-timer", "500ms").with_trial());
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    let follower = Follower::start(cluster(), &stage.sink);
    let event = ToSend::new("ada", "0").header("clock-timer-ms", "5000").header("event-timer-ms", "5000");
    cluster().produce(&stage.source, [event.at(now_ms())]);
    follower.wait_for(1, WITHIN);
    wait_until_parked(&listeners, &stage);
    let told = follower.wait_for(3, WITHIN);
    let mut told: Vec<_> = told.iter().map(|record| record.text()).collect();
    told.sort_unstable();
    assert!(told[1].starts_with("clock clock ") && told[2].starts_with("event event "), "{told:?}");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());

    let window = json!({ "session": { "gap": "6s" }, "idle": "1s" });
    let stage = parking("parks-call", "500ms").with_trial().with("/spec/window", window);
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    let follower = Follower::start(cluster(), &stage.sink);
    cluster().produce(&stage.source, [ToSend::new("ada", "1").at(now_ms())]);
    wait_until_parked(&listeners, &stage);
    assert_eq!(follower.count(), 0, "the window is open");
    follower.wait_for(1, WITHIN);
    let calls = stage.calls();
    assert!(calls.keys().any(|call| call.starts_with("ada/window@")), "the handler was called: {calls:?}");
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}

#[test]
fn one_that_holds_a_retry_is_not_parked() {
    let retry = json!({ "initial": "4s", "jitter": 0.0 });
    let stage = parking("parks-not", "300ms").with_trial().with("/spec/delivery/retry", retry);
    let listeners = Listeners::free();
    let mut worker = stage.spawn_with("a", &listeners.env());
    let follower = Follower::start(cluster(), &stage.sink);
    wait_until_parked(&listeners, &stage);
    cluster().produce(&stage.source, [ToSend::new("ada", "0").header("fail", "1")]);
    wait_until(WITHIN, "the first call", || stage.calls().values().any(|calls| !calls.is_empty()));
    wait_until(WITHIN, "it to be seen at work", || listeners.state(&stage.name) == "running");
    holds_for(Duration::from_secs(2), "at work", || listeners.state(&stage.name) == "running");
    follower.wait_for(1, WITHIN);
    wait_until_parked(&listeners, &stage);
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    stage.assert_each_ends_once(1);
}
