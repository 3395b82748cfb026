//! One real Apache Kafka for a run: KRaft, one process, free ports, data in the run's folder.
//!
//! Java 17 and Maven are needed. The jars come from Maven Central once and are kept in
//! `target/bench/kafka-jars`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::clock;
use crate::process::{self, Running};

/// Any cluster id will do: each run formats a folder of its own.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// A broker that ends with this value.
pub struct Kafka {
    brokers: String,
    running: Running,
}

/// How a broker is to be.
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    /// Its heap.
    pub heap_mib: u32,
    /// Settings beyond those of all.
    pub settings: &'a [(&'a str, &'a str)],
    /// Options of its JVM.
    pub java: &'a [&'a str],
}

impl Default for Making<'_> {
    fn default() -> Self {
        Self { heap_mib: 1024, settings: &[], java: &[] }
    }
}

impl Kafka {
    /// Starts a broker whose data lie under `run_dir`; `bench_dir` keeps the jars between runs.
    pub fn start(bench_dir: &Path, run_dir: &Path, making: &Making<'_>) -> Result<Self> {
        let class_path = jars(bench_dir)?.join("*");
        let properties = run_dir.join("kafka.properties");
        let (broker, controller) = (free_port()?, free_port()?);
        let more: String = making.settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        fs::write(&properties, settings(broker, controller, &run_dir.join("kafka")) + &more)?;
        process::build(
            Command::new("java")
                .arg("-cp")
                .arg(&class_path)
                .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
                .arg(&properties),
        )?;
        let running = Running::start("kafka", Path::new("java"), run_dir.join("kafka.log"), |command| {
            command
                .args([format!("-Xmx{0}m", making.heap_mib), format!("-Xms{0}m", making.heap_mib)])
                .args(making.java)
                .args(["-XX:+UseG1GC", "-cp"])
                .arg(&class_path)
                .arg("kafka.Kafka")
                .arg(&properties)
        })?;
        let kafka = Self { brokers: format!("127.0.0.1:{broker}"), running };
        kafka.wait()?;
        Ok(kafka)
    }

    /// Its address.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Waits until it answers.
    fn wait(&self) -> Result<()> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("log_level", "0");
        let client: BaseConsumer = config.create()?;
        clock::until("kafka answers", Duration::from_secs(60), Duration::from_millis(100), || {
            self.running.check()?;
            Ok(client.fetch_metadata(None, Duration::from_secs(1)).ok().map(drop))
        })
        .with_context(|| self.running.tail())
    }
}

/// The broker's settings: those of a first download, with one replica, and 4 partitions.
fn settings(broker: u16, controller: u16, data: &Path) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{broker}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n",
        data.display()
    )
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .context("a free port")?
        .port())
}

/// Kafka's jars, fetched once.
fn jars(bench_dir: &Path) -> Result<PathBuf> {
    let jars = bench_dir.join("kafka-jars");
    if !jars.exists() {
        let partial = bench_dir.join("kafka-jars.partial");
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka/pom.xml");
        let mut maven = Command::new("mvn");
        maven.arg("-q").arg("-f").arg(pom).arg("dependency:copy-dependencies");
        maven.arg(format!("-DoutputDirectory={}", partial.display()));
        process::build(&mut maven).context("fetch Apache Kafka; or name a running one with --brokers")?;
        fs::rename(&partial, &jars)?;
    }
    Ok(jars)
}
