//! How fast a worker has its state again: a changelog of many entries, written by Tidemill itself, and a process that
//! starts on it. A bare reader of the same changelog tells what there is to win.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;

use crate::clock;
use crate::contest::Route;
use crate::fill::{self, Shape};
use crate::kafka::Making;
use crate::report;
use crate::session::{Place, Session};
use crate::subject::{Function, Tidemill};
use crate::topics::PARTITIONS;
use crate::watch::Eye;

/// A process that starts on a changelog: entries per second, and memory for each.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- restore --entries 5000000")]
pub struct Args {
    /// What the entries are
    #[arg(value_enum, long, default_value_t = What::State)]
    pub what: What,
    /// How many entries, each of a key of its own
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub entries: u64,
    /// How often it is restored
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    #[command(flatten)]
    pub place: Place,
}

/// What is kept for each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// A value of the handler; an entry has 100 bytes
    State,
    /// An open session with a count
    Windows,
}

/// How long it may take to write the state, or to read it.
const WITHIN: Duration = Duration::from_secs(600);

/// From one look to the next.
const PACE: Duration = Duration::from_millis(20);

/// Of a key of 16 bytes: with key, name, and what stands before it this makes entries of 100 bytes.
const VALUE_BYTES: usize = 63;

/// A function that keeps something for each key.
pub fn keeping(what: What) -> Function {
    let plain = Function::echo(Duration::from_millis(100));
    match what {
        What::State => Function {
            package: Some("bench-trouble"),
            handler: ", config: { keep: true }".to_owned(),
            more: "state: { maxBytes: 16Gi }",
            ..plain
        },
        What::Windows => Function {
            package: None,
            window: Some("{ session: { gap: 7d }, aggregate: { events: { op: count } } }".to_owned()),
            more: "state: { maxBytes: 16Gi }",
            sink: "format: json",
            ..plain
        },
    }
}

/// Lets a process of the function named `name` write the state of so many keys, and ends it.
pub fn write(session: &Session, tidemill: &Tidemill, name: &str, route: Route<'_>, keys: u64) -> Result<()> {
    eprintln!("writing {keys} records, and the state of as many keys");
    fill::fill(session.brokers(), route.input, keys, Shape::Distinct { bytes: VALUE_BYTES })?;
    let eye = Eye::open(session.brokers(), &tidemill.group(name), route.input)?;
    let running = tidemill.start(session, name, route)?;
    let written = clock::until("the state is written", WITHIN, PACE, || {
        running.check()?;
        Ok((eye.committed(route.input)? >= keys).then_some(()))
    });
    written.with_context(|| running.tail())?;
    running.stop()
}

/// Measures it.
pub fn run(args: &Args) -> Result<()> {
    let session =
        Session::open_with(&args.place, &Making { settings: &[REBALANCE_AT_ONCE], ..Making::default() })?;
    let tidemill = Tidemill::build(&keeping(args.what))?;
    let (input, output) = (session.fresh_topic("in")?, session.fresh_topic("out")?);
    let route = Route { input: &input, output: &output };
    let empty = resident_without(&session, &tidemill)?;
    let name = session.fresh_name("restore");
    write(&session, &tidemill, &name, route, args.entries)?;
    let changelog = tidemill.state_topic(&name);
    let (mut rates, mut per_cpu, mut bare, mut held) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut bytes = 0.0;
    for round in 1..=args.rounds {
        let read = read(&session.topics().reader(&changelog)?)?;
        bytes = read.bytes as f64 / read.entries as f64;
        bare.push(read.entries as f64 / read.took.as_secs_f64());
        let running = tidemill.start(&session, &name, route)?;
        let assigned = running.wait_for("partitions assigned", 1, WITHIN)?;
        let restored = running.wait_for("state restored", 1, WITHIN)?;
        let entries: u64 = restored.field("entries").context("how many entries")?.parse()?;
        ensure!(entries >= args.entries, "{entries} entries were restored");
        let took = (restored.at - assigned.at).total(jiff::Unit::Second)?;
        let (memory, cpu) = (running.memory()?, running.cpu()?.as_secs_f64());
        rates.push(entries as f64 / took);
        per_cpu.push(entries as f64 / cpu);
        held.push(memory.resident.saturating_sub(empty) as f64 / entries as f64);
        println!(
            "round {round}: {entries} entries in {took:.2} s and {cpu:.2} CPU-seconds, {:.0} MiB resident (at most {:.0} MiB)",
            report::mib(memory.resident),
            report::mib(memory.peak)
        );
        running.stop()?;
    }
    let median = |figures| report::median(figures).unwrap_or_default();
    let (rate, per_cpu, bare, held) = (median(rates), median(per_cpu), median(bare), median(held));
    let work = format!(
        "restoring {} from a changelog of {} entries of {bytes:.0} bytes, 4 partitions, from assignment to ready",
        if args.what == What::State { "what a handler keeps" } else { "open sessions with a count" },
        report::rate(args.entries as f64)
    );
    let figure = format!(
        "**{} entries/s**, {}/cpu-s ({:.2} × one that only reads them, {}/s), **{held:.0} bytes resident an entry**",
        report::rate(rate),
        report::rate(per_cpu),
        rate / bare,
        report::rate(bare)
    );
    report::row(&work, &figure);
    for topic in [input, output, changelog] {
        session.topics().delete(&topic)?;
    }
    Ok(())
}

/// The broker's setting that keeps the first member of a group waiting: no part of what is measured.
pub const REBALANCE_AT_ONCE: (&str, &str) = ("group.initial.rebalance.delay.ms", "0");

/// What a process holds that has nothing to restore.
fn resident_without(session: &Session, tidemill: &Tidemill) -> Result<u64> {
    let (input, output) = (session.fresh_topic("in")?, session.fresh_topic("out")?);
    let name = session.fresh_name("empty");
    let running = tidemill.start(session, &name, Route { input: &input, output: &output })?;
    running.wait_for("state restored", 1, WITHIN)?;
    let resident = running.memory()?.resident;
    running.stop()?;
    for topic in [input, output] {
        session.topics().delete(&topic)?;
    }
    Ok(resident)
}

struct Read {
    entries: u64,
    bytes: u64,
    took: Duration,
}

/// Reads a topic to its end, and does nothing with it.
fn read(reader: &BaseConsumer) -> Result<Read> {
    let begin = clock::now();
    let (mut read, mut ended) = (Read { entries: 0, bytes: 0, took: Duration::ZERO }, 0);
    while ended < PARTITIONS {
        match reader.poll(Duration::from_secs(20)).context("the changelog ends")? {
            Ok(record) => {
                read.entries += 1;
                read.bytes += (record.key_len() + record.payload_len()) as u64;
            }
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => return Err(error).context("read the changelog"),
        }
    }
    read.took = begin.elapsed();
    Ok(read)
}
