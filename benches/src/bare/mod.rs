//! Bare librdkafka loops: what remains when a program does nothing but copy, exactly once. They are
//! the limit that Tidemill is measured against, so they take every short cut that is still correct
//! while nothing goes wrong: no rebalance, no error handling, one unnamed group.
//!
//! `tidemill-bench` runs them as children of its own, to measure them the way it measures Tidemill.

#![expect(unsafe_code, reason = "the batch loop calls librdkafka itself: rdkafka has no batch reads")]

mod eos;
mod eosb;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::contest::Route;
use crate::process::Running;
use crate::session::Session;
use crate::topics::PARTITIONS;

/// One loop, from one topic to another.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Which loop
    pub kind: Kind,
    #[arg(long, value_name = "HOST:PORT")]
    pub brokers: String,
    #[arg(long, value_name = "TOPIC")]
    pub input: String,
    #[arg(long, value_name = "TOPIC")]
    pub output: String,
    /// Consumer group, and the transactional id
    #[arg(long)]
    pub group: String,
    /// Ends after so many records; without it the loop goes on until it is ended
    #[arg(long)]
    pub records: Option<u64>,
    /// Longest time between two commits
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100)]
    pub every_ms: u64,
    #[command(flatten)]
    pub extra: Extra,
}

/// Further settings of the bare loops, to look for a better limit.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Extra {
    /// A librdkafka setting of the bare loop's consumer
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub consumer: Vec<(String, String)>,
    /// A librdkafka setting of the bare loop's producer
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub producer: Vec<(String, String)>,
}

/// The two ways to write the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Single polls, a subscription, a topic looked up by name for every record
    Eos,
    /// Batch reads, partitions assigned by hand, a topic handle: the limit of librdkafka
    Eosb,
}

/// What a loop did.
#[derive(Debug, Default)]
struct Totals {
    records: u64,
    commits: u32,
    committing: Duration,
}

impl Extra {
    fn arguments(&self) -> impl Iterator<Item = String> {
        let consumer = self.consumer.iter().map(|(name, value)| format!("--consumer={name}={value}"));
        let producer = self.producer.iter().map(|(name, value)| format!("--producer={name}={value}"));
        consumer.chain(producer)
    }
}

/// A loop as one of the contestants: a child that goes on until it is stopped.
#[derive(Debug, Clone)]
pub struct Bare {
    /// Which loop.
    pub kind: Kind,
    /// Longest time between two commits.
    pub every: Duration,
    /// Further settings.
    pub extra: Extra,
}

impl Bare {
    /// Starts the loop from `input` to `output`; its group is `name`.
    pub fn start(&self, session: &Session, name: &str, route: Route<'_>) -> Result<Running> {
        let own = std::env::current_exe().context("the benchmark's own path")?;
        let log = session.run_dir().join(format!("{name}.log"));
        Running::start(name, &own, log, |command| {
            command.arg("bare").arg(match self.kind {
                Kind::Eos => "eos",
                Kind::Eosb => "eosb",
            });
            command.args(["--brokers", session.brokers(), "--group", name]);
            command.args(["--input", route.input, "--output", route.output]);
            command.arg(format!("--every-ms={}", self.every.as_millis())).args(self.extra.arguments())
        })
    }
}

/// Runs the loop that `args` name.
pub fn run(args: &Args) -> Result<()> {
    let ends = Ends::open(args)?;
    let totals = match args.kind {
        Kind::Eos => eos::copy(&ends, args)?,
        Kind::Eosb => eosb::copy(&ends, args)?,
    };
    let each = totals.committing.as_secs_f64() * 1e3 / f64::from(totals.commits.max(1));
    println!("{} records in {} commits, {each:.1} ms each", totals.records, totals.commits);
    // Not by dropping the clients, which would take its time and be measured with the loop.
    std::process::exit(0)
}

/// The two ends of a copy.
struct Ends {
    consumer: BaseConsumer,
    producer: BaseProducer,
}

impl Ends {
    fn open(args: &Args) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &args.brokers)
            .set("group.id", &args.group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("partition.assignment.strategy", "cooperative-sticky")
            // A full queue otherwise rests for a second.
            .set("fetch.queue.backoff.ms", "5");
        let consumer = with(config, &args.extra.consumer).create().context("the bare loop's consumer")?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &args.brokers)
            .set("transactional.id", &args.group)
            .set("linger.ms", "5")
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "1000000");
        let producer: BaseProducer =
            with(config, &args.extra.producer).create().context("the bare loop's producer")?;
        producer.init_transactions(Duration::from_secs(30))?;
        Ok(Self { consumer, producer })
    }

    /// Ends the transaction; `positions` are the next offsets of the partitions that moved.
    fn commit(&self, topic: &str, positions: &mut Positions) -> Result<()> {
        // A commit of the safe API flushes in steps of 100 ms: have nothing left to flush.
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(1));
        }
        let group = self.consumer.group_metadata().context("a consumer with a group has group metadata")?;
        self.producer.send_offsets_to_transaction(&positions.take(topic)?, &group, Timeout::Never)?;
        self.producer.commit_transaction(Timeout::Never)?;
        Ok(())
    }
}

/// The next offset of each partition that moved since the last commit.
#[derive(Debug, Default)]
struct Positions([Option<i64>; PARTITIONS as usize]);

impl Positions {
    fn finished(&mut self, partition: i32, offset: i64) {
        if let Some(position) = usize::try_from(partition).ok().and_then(|n| self.0.get_mut(n)) {
            *position = Some(offset + 1);
        }
    }

    fn take(&mut self, topic: &str) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, position) in (0..).zip(&mut self.0) {
            if let Some(offset) = position.take() {
                list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
            }
        }
        Ok(list)
    }
}

fn with(mut config: ClientConfig, extra: &[(String, String)]) -> ClientConfig {
    for (name, value) in extra {
        config.set(name, value);
    }
    config
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}
