//! By which protocol workers join their group: whatever the brokers, the group and its other members speak, a function
//! that leaves the choice to Tidemill is not left out.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Follower, Listeners, Load, PrivateBroker, Stage, ToSend, Worker, cluster, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// Exactly once has no choice.
fn at_least_once(stage: Stage) -> Stage {
    stage.with("/spec/delivery/guarantee", json!("atLeastOnce"))
}

fn spawn(stage: &Stage, who: &str, protocol: &str) -> (Worker, Listeners) {
    let listeners = Listeners::free();
    let env = [listeners.env().as_slice(), &[("TIDEMILL_GROUP_PROTOCOL", protocol)]].concat();
    (stage.spawn_with(who, &env), listeners)
}

/// How many partitions it has, and how it joined.
fn share(listeners: &Listeners, stage: &Stage) -> (usize, String) {
    let function = listeners.function(&stage.name).unwrap_or_default();
    let worker = &function["workers"][0];
    let lanes = worker["lanes"].as_array().into_iter().flatten();
    let of_source = lanes.filter(|lane| lane["topic"] == stage.source.as_str());
    (of_source.count(), worker["protocol"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_process_of_either_protocol_joins_a_group_of_the_other() {
    let stage = at_least_once(Stage::new(cluster(), "either", 4));
    let follower = Follower::start(cluster(), &stage.sink);
    let load = Load::start(cluster(), &stage.source, 5);
    let await_share = |listeners: &Listeners, count: usize, protocol: &str| {
        let expected = (count, protocol.to_owned());
        wait_until(WITHIN, &format!("{expected:?}"), || share(listeners, &stage) == expected);
        follower.wait_for_more(100, WITHIN);
    };
    let (mut old, at_old) = spawn(&stage, "old", "classic");
    await_share(&at_old, 4, "classic");
    let (mut new, at_new) = spawn(&stage, "new", "auto");
    await_share(&at_new, 2, "consumer");
    await_share(&at_old, 2, "classic");
    assert!(old.terminate(WITHIN).success(), "{}", old.log());
    await_share(&at_new, 4, "consumer");
    // And back.
    let (mut back, at_back) = spawn(&stage, "back", "classic");
    await_share(&at_back, 2, "classic");
    assert!(new.terminate(WITHIN).success(), "{}", new.log());
    await_share(&at_back, 4, "classic");
    let count = load.finish();
    follower.wait_for(count as usize, WITHIN);
    assert!(back.terminate(WITHIN).success(), "{}", back.log());
}

#[test]
fn where_brokers_lack_the_new_protocol_the_old_one_does() {
    let kafka = PrivateBroker::start_with(&[("group.coordinator.rebalance.protocols", "classic")]);
    let stage = at_least_once(Stage::new(kafka.kafka(), "lacking", 2));
    kafka.kafka().produce(&stage.source, (0..10).map(|n| ToSend::new(format!("key-{n}"), n.to_string())));
    let follower = Follower::start(kafka.kafka(), &stage.sink);
    let (mut worker, listeners) = spawn(&stage, "auto", "auto");
    follower.wait_for(10, WITHIN);
    wait_until(WITHIN, "it to say how it joined", || share(&listeners, &stage) == (2, "classic".to_owned()));
    assert!(worker.log().contains("group.initial.rebalance.delay.ms"), "{}", worker.log());
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    let (mut worker, _) = spawn(&stage, "insists", "consumer");
    assert_eq!(worker.wait(WITHIN).code(), Some(1), "{}", worker.log());
    assert!(worker.log().contains("set groupProtocol to `auto` or `classic`"), "{}", worker.log());
}

#[test]
fn a_group_that_must_stay_as_it_is_is_joined_so() {
    let kafka = PrivateBroker::start_with(&[("group.consumer.migration.policy", "disabled")]);
    let stage = at_least_once(Stage::new(kafka.kafka(), "staying", 4));
    let (mut old, at_old) = spawn(&stage, "old", "classic");
    wait_until(WITHIN, "it to have all", || share(&at_old, &stage) == (4, "classic".to_owned()));
    let (mut new, at_new) = spawn(&stage, "new", "auto");
    wait_until(WITHIN, "them to share", || {
        [&at_old, &at_new].iter().all(|at| share(at, &stage) == (2, "classic".to_owned()))
    });
    for worker in [&mut old, &mut new] {
        assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
    }
}

#[test]
fn exactly_once_is_classic_whatever_is_asked_for() {
    let stage = Stage::new(cluster(), "exact", 2);
    let (mut worker, listeners) = spawn(&stage, "a", "consumer");
    wait_until(WITHIN, "it to say how it joined", || share(&listeners, &stage) == (2, "classic".to_owned()));
    assert!(worker.log().contains("which exactly once does not bear"), "{}", worker.log());
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}
