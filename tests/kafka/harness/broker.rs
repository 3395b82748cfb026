//! Brokers: one that all tests of the run share, and private ones that a test may stop.
//!
//! Each is a cluster of its own; one of three brokers is [`Brokers`](super::Brokers), made of the same parts.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::client::{Kafka, unique};
use super::kafka_home::{KafkaHome, run};
use super::supervisor::Supervisor;
use super::wait::{Deadline, pause};

const START_WITHIN: Duration = Duration::from_secs(90);

/// The cluster that all tests of this run share: started by the first that asks, ended with the process.
/// Panics, for every test alike, with what to install when there is none.
pub fn cluster() -> &'static Kafka {
    static SHARED: OnceLock<Result<(Kafka, Option<PrivateBroker>), String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| match std::env::var("TIDEMILL_TEST_BROKERS") {
        Ok(brokers) if !brokers.is_empty() => {
            let given = Kafka::at(&brokers);
            given.is_up().map_err(|error| format!("TIDEMILL_TEST_BROKERS={brokers}: {error}"))?;
            Ok((given, None))
        }
        _ => PrivateBroker::try_start(&[]).map(|broker| (broker.kafka().clone(), Some(broker))),
    });
    match shared {
        Ok((kafka, _)) => kafka,
        Err(reason) => panic!("{reason}"),
    }
}

/// A broker of one test, which may stop it and start it again. Dropping it removes it with its data.
pub struct PrivateBroker {
    kafka: Kafka,
    folder: PathBuf,
    supervisor: Supervisor,
}

impl PrivateBroker {
    /// Starts a broker with empty data and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further broker settings, which win over those of the harness.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::try_start(settings).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// What a test does with its broker.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// Its address; the same after [`start_again`](Self::start_again).
    pub fn brokers(&self) -> &str {
        self.kafka.brokers()
    }

    /// Ends the broker in order (SIGTERM) and waits for its end.
    pub fn stop(&mut self) {
        self.supervisor.order("stop");
    }

    /// Ends the broker at once (SIGKILL).
    pub fn kill(&mut self) {
        self.supervisor.order("kill");
    }

    /// Stands the broker still (SIGSTOP): connections to it stay open, and nothing is answered.
    pub fn stand_still(&mut self) {
        self.supervisor.order("pause");
    }

    /// Lets a broker that stands still go on.
    pub fn go_on(&mut self) {
        self.supervisor.order("resume");
    }

    /// Starts the stopped broker on its port with its data and waits until it answers.
    pub fn start_again(&mut self) {
        self.begin_again();
        self.wait_until_up().unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Starts the broker for the first time; it is not waited for.
    pub(super) fn begin(&mut self) {
        self.supervisor.order("start");
    }

    /// The same of a stopped one.
    pub(super) fn begin_again(&mut self) {
        self.supervisor.order("again");
    }

    /// Where its data and its log are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The end of the broker's log, for messages.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Free ports are free only until somebody else takes them, so a lost race is tried again.
    fn try_start(settings: &[(&str, &str)]) -> Result<Self, String> {
        let home = KafkaHome::find()?;
        let mut last = String::new();
        for _ in 0..3 {
            let mut broker = Self::prepare(&home, settings)?;
            broker.supervisor.order("start");
            match broker.wait_until_up() {
                Ok(()) => return Ok(broker),
                Err(reason) if reason.contains("Address already in use") => last = reason,
                Err(reason) => return Err(reason),
            }
        }
        Err(last)
    }

    fn prepare(home: &KafkaHome, settings: &[(&str, &str)]) -> Result<Self, String> {
        let [port, controller] = free_ports();
        match home {
            KafkaHome::Jars(jars) => {
                let mut all = vec![
                    ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
                    (
                        "listeners",
                        format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
                    ),
                    ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
                ];
                all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
                let options = &["-Xms256m", "-Xmx512m"];
                Self::of_jars(jars, &Node { port, cluster_id: &cluster_id(), options, settings: all })
            }
            KafkaHome::Docker(image) => {
                let folder = make_folder()?;
                let supervisor = Supervisor::spawn(&folder, "docker", &docker_command(image, port, settings));
                Ok(Self { kafka: Kafka::at(&format!("127.0.0.1:{port}")), folder, supervisor })
            }
        }
    }

    /// A node that runs with Java: formatted, and not begun yet.
    pub(super) fn of_jars(jars: &Path, node: &Node<'_>) -> Result<Self, String> {
        let folder = make_folder()?;
        let file = folder.join("server.properties");
        // From here on the folder is removed whatever happens.
        let supervisor = Supervisor::spawn(&folder, "java", &java_command(jars, node.options, &file));
        let data = folder.join("data").display().to_string();
        let own = node.settings.iter().map(|(name, value)| (*name, value.as_str()));
        let all = SETTINGS.iter().copied().chain([("log.dirs", data.as_str())]).chain(own);
        let properties: String = all.map(|(name, value)| format!("{name}={value}\n")).collect();
        fs::write(&file, properties).map_err(|error| format!("{}: {error}", file.display()))?;
        format_data(jars, node.cluster_id, &file)?;
        Ok(Self { kafka: Kafka::at(&format!("127.0.0.1:{}", node.port)), folder, supervisor })
    }

    pub(super) fn wait_until_up(&self) -> Result<(), String> {
        let deadline = Deadline::after(START_WITHIN);
        loop {
            // Asking for metadata logs and waits; a connection tells first whether it is worth it.
            let answer = match std::net::TcpStream::connect(self.brokers()) {
                Ok(_) => self.kafka.is_up(),
                Err(error) => Err(error.to_string()),
            };
            let Err(reason) = answer else { return Ok(()) };
            if self.folder.join("exited").exists() || deadline.is_over() {
                return Err(format!("Kafka did not start: {reason}; its log ends with\n{}", self.log_tail()));
            }
            pause();
        }
    }
}

/// One process of Kafka: a whole cluster, or one of the nodes that make one.
pub(super) struct Node<'a> {
    /// Where clients connect.
    pub port: u16,
    /// The same for all nodes of a cluster.
    pub cluster_id: &'a str,
    /// What Java is told.
    pub options: &'a [&'a str],
    /// Settings that win over [`SETTINGS`].
    pub settings: Vec<(&'a str, String)>,
}

/// Ports that nobody listens on, each another.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("bound").port())
}

/// The id of a new cluster.
pub(super) fn cluster_id() -> String {
    URL_SAFE_NO_PAD.encode(&unique("cluster-of-tests").as_bytes()[..16])
}

/// The supervisor removes it, for no destructor runs when the process is killed.
fn make_folder() -> Result<PathBuf, String> {
    let folder = tempfile::Builder::new().prefix("tidemill-test-kafka-").tempdir();
    Ok(folder.map_err(|error| format!("no temporary folder: {error}"))?.keep())
}

/// Settings of every broker of the tests: small, quick to start, and with the short times that let a test
/// see in seconds what takes minutes elsewhere (sessions, abandoned transactions, compaction).
const SETTINGS: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
    // A topic that nobody made must be missing.
    ("auto.create.topics.enable", "false"),
    ("num.partitions", "4"),
    ("offsets.topic.num.partitions", "4"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.heartbeat.interval.ms", "200"),
    ("group.consumer.heartbeat.interval.ms", "1000"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
    ("log.segment.bytes", "4194304"),
    // Scenarios use timestamps of years ago; the first look for expired records comes 30 s after the start.
    ("log.retention.ms", "-1"),
    ("log.index.size.max.bytes", "1048576"),
    ("log.cleaner.threads", "1"),
    ("log.cleaner.dedupe.buffer.size", "8388608"),
    ("log.cleaner.backoff.ms", "500"),
    ("log.retention.check.interval.ms", "1000"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
];

/// The command that runs the broker with these properties.
fn java_command(jars: &Path, options: &[&str], properties: &Path) -> Vec<String> {
    let class_path = format!("{}/*", jars.display());
    let program = ["-XX:+UseSerialGC", "-cp", &class_path, "kafka.Kafka"];
    let command = ["java"].iter().chain(options).chain(&program).map(|word| (*word).to_owned());
    command.chain([properties.display().to_string()]).collect()
}

/// Kafka starts in a formatted folder only.
fn format_data(jars: &Path, cluster_id: &str, properties: &Path) -> Result<(), String> {
    run(Command::new("java")
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{}/*", jars.display()))
        .args(["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config"])
        .arg(properties))
    .map_err(|error| format!("Kafka's data folder cannot be formatted: {error}"))?;
    Ok(())
}

/// The command that runs the broker as a container: its name, then `docker run …`.
fn docker_command(image: &str, port: u16, settings: &[(&str, &str)]) -> Vec<String> {
    let name = unique("tidemill-test-kafka");
    let mut command: Vec<String> = [&name, "docker", "run", "--name", &name].map(str::to_owned).to_vec();
    command.extend(["--publish".to_owned(), format!("127.0.0.1:{port}:{port}")]);
    let places = [
        ("controller.quorum.voters", "1@localhost:29093".to_owned()),
        ("listeners", format!("PLAINTEXT://0.0.0.0:{port},CONTROLLER://localhost:29093")),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
        ("heap.opts", "-Xms256m -Xmx512m".to_owned()),
    ];
    let places = places.iter().map(|(setting, value)| (*setting, value.as_str()));
    for (setting, value) in SETTINGS.iter().copied().chain(places).chain(settings.iter().copied()) {
        let variable = format!("KAFKA_{}", setting.replace('.', "_").to_uppercase());
        command.extend(["--env".to_owned(), format!("{variable}={value}")]);
    }
    command.push(image.to_owned());
    command
}
