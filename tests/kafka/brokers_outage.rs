//! Of several brokers some go away under load. While one is away, whichever it is and however it went, the others serve
//! and the function goes on by itself. While so many are away that nothing can be written, it waits and says so. No
//! event is to blame for brokers: each is called as often as if nothing had been, none becomes a dead letter, and each
//! has one result.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Brokers, Follower, Listeners, Load, Stage, ToSend, Worker, on_three_brokers, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn brokers_are_restarted_one_after_the_other_and_the_function_goes_on() {
    on_three_brokers(|brokers| {
        let scene = Scene::begin(brokers, "rolling");
        let group = brokers.coordinator_of_group(&scene.stage.group());
        scene.restart(brokers, group, Brokers::kill);
        let transactions = brokers.coordinator_of_transactions(&scene.transactional_id());
        scene.restart(brokers, transactions, Brokers::stop);
        let [last] = others([group, transactions]);
        scene.restart(brokers, last, Brokers::kill);
        scene.end();
    });
}

#[test]
fn too_few_brokers_are_waited_out_and_no_event_is_to_blame() {
    on_three_brokers(|brokers| {
        let scene = Scene::begin(brokers, "too-few");
        let stays = brokers.coordinator_of_transactions(&scene.transactional_id());
        let gone: [usize; 2] = others([stays]);
        gone.iter().for_each(|number| brokers.kill(*number));
        brokers.wait_until_only(&[stays]);
        wait_until(WITHIN, "writes to be refused", || {
            let refusal = brokers.kafka().refusal(&scene.stage.sink, &ToSend::value("none of ours"));
            refusal.expect("nothing can be written").contains("NotEnoughReplicas")
        });
        wait_until(WITHIN, "the worker to say so", || scene.worker.log().contains("trying on"));
        assert_eq!(scene.listeners.metrics("/healthz").0, 200, "a restart of the process would not help");
        brokers.start_again(&gone);
        scene.follower.wait_for_more(500, WITHIN);
        scene.end();
    });
}

#[test]
fn a_broker_that_stands_still_holds_the_function_up_for_a_while_only() {
    on_three_brokers(|brokers| {
        let scene = Scene::begin(brokers, "half-dead");
        let group = brokers.coordinator_of_group(&scene.stage.group());
        brokers.stand_still(group);
        scene.goes_on_without(brokers, group);
        brokers.go_on(group);
        brokers.wait_until_in_step();
        scene.follower.wait_for_more(500, WITHIN);
        scene.end();
    });
}

/// A function under load.
struct Scene {
    // Dropped before the stage, which removes its log.
    worker: Worker,
    stage: Stage,
    follower: Follower,
    load: Load,
    listeners: Listeners,
}

impl Scene {
    /// Begins, and is well under way.
    fn begin(brokers: &Brokers, stem: &str) -> Self {
        let stage = Stage::new(brokers.kafka(), stem, 4)
            .with_trial()
            .with("/spec/delivery/originHeaders", json!(true))
            // Were brokers taken for a failure of events, these would soon be dead.
            .with("/spec/delivery/retry", json!({ "maxAttempts": 2 }))
            // Transactions of 10 s: what befalls those that outlast it befalls these soon.
            .with("/spec/handler/timeout", json!("2s"))
            // A broker that stands still holds up for so long whoever asks it.
            .with("/spec/kafka/consumer/socket.timeout.ms", json!("4000"))
            .with("/spec/kafka/producer/socket.timeout.ms", json!("4000"));
        let follower = Follower::start(brokers.kafka(), &stage.sink);
        let load = Load::start(brokers.kafka(), &stage.source, 10);
        let listeners = Listeners::free();
        let [admin, metrics] = listeners.env();
        let worker = stage.spawn_with("a", &[admin, metrics, ("TIDEMILL_INSTANCE", "a")]);
        let scene = Self { worker, stage, follower, load, listeners };
        scene.follower.wait_for(500, WITHIN);
        scene
    }

    fn transactional_id(&self) -> String {
        format!("{}/a/0", self.stage.group())
    }

    /// Broker `number` goes away as `how` says, and comes back when the function has gone on without it.
    fn restart(&self, brokers: &mut Brokers, number: usize, how: impl Fn(&mut Brokers, usize)) {
        how(brokers, number);
        self.goes_on_without(brokers, number);
        brokers.start_again(&[number]);
    }

    /// Once the others have taken over what broker `away` led, results come as before.
    fn goes_on_without(&self, brokers: &Brokers, away: usize) {
        brokers.wait_until_only(&others::<1, 2>([away]));
        // What was under way may still come; cuts after that are of those others.
        let cuts = || self.worker.log().matches("cut committed").count();
        let before = cuts();
        wait_until(WITHIN, "the worker to cut again and again", || cuts() > before + 10);
        self.follower.wait_for_more(500, WITHIN);
        assert_eq!(self.listeners.metrics("/readyz").0, 200, "it has its partitions");
    }

    /// The load ends, and each event has ended once, at its first call.
    fn end(mut self) {
        assert!(self.worker.is_running());
        self.load.finish();
        self.stage.wait_until_drained(WITHIN);
        assert!(self.worker.terminate(WITHIN).success());
        self.stage.assert_each_came_through();
        let dead = self.stage.read_dead_letters();
        assert!(dead.is_empty(), "no event is to blame: {dead:#?}");
        let counted = |(_, calls): &(String, Vec<u32>)| calls.iter().any(|call| *call > 1);
        let failed: Vec<_> = self.stage.calls().into_iter().filter(counted).collect();
        assert!(failed.is_empty(), "calls were counted as failed: {failed:?}");
        let log = self.worker.log();
        assert!(!log.contains(" ERROR ") && !log.contains("another producer"), "nobody has to act");
        assert!(!log.contains("refused an output"), "no output is to blame");
        let warnings = log.matches(" WARN ").count();
        assert!(warnings < 40, "an outage is said, not chanted: {warnings} warnings");
    }
}

/// The brokers that are none of these.
fn others<const N: usize, const M: usize>(these: [usize; N]) -> [usize; M] {
    let others: Vec<usize> = (1..=3).filter(|number| !these.contains(number)).collect();
    others.try_into().expect("three brokers, each named once")
}
