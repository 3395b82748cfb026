//! A cluster of three brokers, each a process that a scenario stops, kills, stands still and starts again by number.
//!
//! Whatever is written has three replicas, and two must take it: with one broker away all goes on, with two away
//! nothing is written any more (`NOT_ENOUGH_REPLICAS`). The controller is a fourth process that nobody touches, so
//! there is always somebody who finds out that a broker is away, and has others take over what it led.
//!
//! Four Javas cost memory and a while to start: scenarios have one cluster in turn ([`on_three_brokers`]), which
//! ends with the last that waits for it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataPartition;

use super::broker::{Node, PrivateBroker, cluster_id, free_ports};
use super::client::Kafka;
use super::kafka_home::KafkaHome;
use super::wait::try_wait;

/// How many there are, numbered from 1.
const BROKERS: usize = 3;

const WITHIN: Duration = Duration::from_secs(90);
/// How many partitions the topics of coordinators have, as the settings of every broker say.
const COORDINATED: i32 = 4;

/// Runs a scenario on the three brokers, all of them there and in step, when those before it are through.
pub fn on_three_brokers(scenario: impl FnOnce(&mut Brokers)) {
    static SHARED: Mutex<Weak<Mutex<Brokers>>> = Mutex::new(Weak::new());
    let shared = {
        // A start that failed has left nothing behind.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let brokers = Arc::new(Mutex::new(Brokers::start()));
            *shared = Arc::downgrade(&brokers);
            brokers
        })
    };
    let mut brokers = shared.lock().unwrap_or_else(|poisoned| {
        // Nobody knows how a scenario that failed left them.
        let mut brokers = poisoned.into_inner();
        *brokers = Brokers::start();
        shared.clear_poison();
        brokers
    });
    brokers.wait_until_in_step();
    scenario(&mut brokers);
}

/// The three brokers.
pub struct Brokers {
    kafka: Kafka,
    nodes: [PrivateBroker; BROKERS],
    // Ended last: brokers that end in order ask it first.
    _controller: PrivateBroker,
}

impl Brokers {
    fn start() -> Self {
        Self::try_start().unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// What a scenario does with them.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// Ends broker `number` in order (SIGTERM): it hands over what it leads first.
    pub fn stop(&mut self, number: usize) {
        self.nodes[number - 1].stop();
    }

    /// Ends broker `number` at once (SIGKILL).
    pub fn kill(&mut self, number: usize) {
        self.nodes[number - 1].kill();
    }

    /// Stands broker `number` still (SIGSTOP): half dead, with open connections and no answers.
    pub fn stand_still(&mut self, number: usize) {
        self.nodes[number - 1].stand_still();
    }

    /// Lets a broker that stands still go on.
    pub fn go_on(&mut self, number: usize) {
        self.nodes[number - 1].go_on();
    }

    /// Starts brokers that have ended on their ports with their data and waits until they have caught up.
    #[track_caller]
    pub fn start_again(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.nodes[number - 1].begin_again();
        }
        for number in numbers {
            self.nodes[number - 1].wait_until_up().unwrap_or_else(|reason| panic!("{reason}"));
        }
        self.wait_until_in_step();
    }

    /// The broker that coordinates this consumer group.
    pub fn coordinator_of_group(&self, group: &str) -> usize {
        self.coordinator("__consumer_offsets", group)
    }

    /// The broker that coordinates the transactions of this id.
    pub fn coordinator_of_transactions(&self, id: &str) -> usize {
        self.coordinator("__transaction_state", id)
    }

    /// Whoever leads the partition of `topic` that holds the state of `id` coordinates it.
    fn coordinator(&self, topic: &str, id: &str) -> usize {
        let hash = id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
        let holds = hash.checked_abs().unwrap_or(0) % COORDINATED;
        try_wait(WITHIN, &format!("somebody to lead {topic}/{holds}"), || {
            let leader = self.partitions(Some(topic), |partition| (partition.id(), partition.leader()))?;
            let (_, leader) = leader.iter().find(|(id, _)| *id == holds).ok_or("there is none")?;
            usize::try_from(*leader).map_err(|_| "nobody does".to_owned())
        })
    }

    /// Waits until each partition of the cluster is led by one of these brokers, and they alone are in step there.
    #[track_caller]
    pub fn wait_until_only(&self, numbers: &[usize]) {
        let wanted: Vec<i32> = numbers.iter().map(|number| *number as i32).collect();
        try_wait(WITHIN, &format!("brokers {numbers:?} and no others to be in step"), || {
            let is_so = self.partitions(None, |partition| {
                let mut in_step = partition.isr().to_vec();
                in_step.sort_unstable();
                in_step == wanted && wanted.contains(&partition.leader())
            })?;
            let others = is_so.iter().filter(|is_so| !**is_so).count();
            if others == 0 { Ok(()) } else { Err(format!("not so for {others} of {}", is_so.len())) }
        });
    }

    /// Waits until every broker has all that was written, as anybody should before the next is stopped.
    #[track_caller]
    pub fn wait_until_in_step(&self) {
        self.wait_until_only(&[1, 2, 3]);
    }

    /// Something of each partition of a topic, or of all topics, as brokers tell clients.
    fn partitions<T>(
        &self,
        topic: Option<&str>,
        look: impl Fn(&MetadataPartition) -> T,
    ) -> Result<Vec<T>, String> {
        let client: BaseConsumer =
            self.kafka.config().set("log_level", "0").create().map_err(|error| error.to_string())?;
        let metadata =
            client.fetch_metadata(topic, Duration::from_secs(5)).map_err(|error| error.to_string())?;
        Ok(metadata.topics().iter().flat_map(|topic| topic.partitions()).map(look).collect())
    }

    /// Free ports are free only until somebody else takes them, so a lost race is tried again.
    fn try_start() -> Result<Self, String> {
        let KafkaHome::Jars(jars) = KafkaHome::find()? else {
            return Err(
                "three brokers need Java 17 and Maven: as containers they would not find one another"
                    .to_owned(),
            );
        };
        let mut last = String::new();
        for _ in 0..3 {
            match Self::start_once(&jars) {
                Err(reason) if reason.contains("Address already in use") => last = reason,
                result => return result,
            }
        }
        Err(last)
    }

    fn start_once(jars: &Path) -> Result<Self, String> {
        let [port, ports @ ..] = free_ports::<{ BROKERS + 1 }>();
        let (cluster_id, controller) = (cluster_id(), format!("127.0.0.1:{port}"));
        // Most of the time of a start is Java's own: let all begin at once.
        let begin = |number, port| {
            let node = node(number, port, &controller, &cluster_id);
            let mut node = PrivateBroker::of_jars(jars, &node)?;
            node.begin();
            Ok::<_, String>(node)
        };
        let begun: Vec<_> = std::thread::scope(|scope| {
            let numbered = [port].into_iter().chain(ports).enumerate();
            let threads: Vec<_> =
                numbered.map(|(number, port)| scope.spawn(move || begin(number, port))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic in a start")).collect()
        });
        let mut nodes = begun.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
        let controller = nodes.next().expect("the controller is first");
        let nodes: [PrivateBroker; BROKERS] = std::array::from_fn(|_| nodes.next().expect("one a port"));
        for node in &nodes {
            node.wait_until_up()?;
        }
        let addresses = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        // A broker that stands still keeps clients waiting for so long.
        let kafka = Kafka::at(&addresses).with("socket.timeout.ms", "4000");
        Ok(Self { kafka, nodes, _controller: controller })
    }
}

/// The controller is number 0.
fn node<'a>(number: usize, port: u16, controller: &str, cluster_id: &'a str) -> Node<'a> {
    let mut settings =
        vec![("node.id", number.to_string()), ("controller.quorum.voters", format!("0@{controller}"))];
    settings.extend(match number {
        0 => vec![
            ("process.roles", "controller".to_owned()),
            ("listeners", format!("CONTROLLER://{controller}")),
        ],
        _ => vec![
            ("process.roles", "broker".to_owned()),
            ("listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
            ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
        ],
    });
    settings.extend(REPLICATED.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Node { port, cluster_id, options: &["-Xms64m", "-Xmx320m", "-XX:TieredStopAtLevel=1"], settings }
}

/// Three replicas, two of which must be in step; and short times after which a broker that is silent counts as away.
const REPLICATED: &[(&str, &str)] = &[
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    // Nobody takes back what it led: whom a scenario asked for stays the one.
    ("auto.leader.rebalance.enable", "false"),
    ("broker.session.timeout.ms", "4000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("replica.lag.time.max.ms", "4000"),
];
