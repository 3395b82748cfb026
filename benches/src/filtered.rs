//! Many functions that want little of one topic: who stays asleep, and how much is fetched for all of them.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::crowd::{Crowd, asleep};
use crate::process::Running;
use crate::session::{Place, Session};
use crate::sleepers::{MANY, sleepy};
use crate::subject::{Function, Tidemill};
use crate::topics::PARTITIONS;
use crate::watch::Eye;
use crate::{clock, fill, report};

/// Functions at zero on one topic, each of which wants records that name it in a header.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- filtered")]
pub struct Args {
    /// How many functions
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..))]
    pub functions: u32,
    /// How many records
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// One in so many names a function, always the same; the others name nobody
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub every: u64,
    #[command(flatten)]
    pub place: Place,
}

/// How long the records may take to be passed.
const WITHIN: Duration = Duration::from_secs(600);

/// The header by which records name a function.
const HEADER: &str = "for";

/// Whom they name.
const WANTED: usize = 7;

/// Measures it: first records that name nobody, so that nobody wakes, then the same with some that do.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open_with(&args.place, &MANY)?;
    let tidemill = Tidemill::build(&sleepy())?;
    let functions = args.functions as usize;
    let crowd = Crowd::gather(&session, functions, PARTITIONS, true)?;
    let input = crowd.inputs.first().context("a crowd has a topic")?;
    let wants = |number: usize| Function {
        filters: format!("[{{ header: {{ name: {HEADER}, eq: f{number} }} }}]"),
        ..sleepy()
    };
    let last = tidemill.group(crowd.names.last().context("a crowd has names")?);
    let eye = Eye::open(session.brokers(), &last, input)?;
    let running = crowd.start(&session, (&tidemill, &["run"]), wants)?;
    crowd.wait_until_asleep(&running)?;
    let received = || Ok::<u64, anyhow::Error>(running.connections(session.brokers())?.into_iter().sum());
    let before = received()?;
    let (begin, cpu) = (clock::now(), running.cpu()?);
    write(&session, input, args.records, None)?;
    passed(&running, &eye, input, args.records)?;
    let (took, cpu) = (begin.elapsed().as_secs_f64(), running.cpu()?.saturating_sub(cpu).as_secs_f64());
    let fetched = received()?.saturating_sub(before);
    let size = size(&session, input)?;
    println!("nobody is named: {} sleep, {took:.1} s, {cpu:.1} CPU-seconds", asleep(&running));
    write(&session, input, args.records, Some(args.every))?;
    passed(&running, &eye, input, 2 * args.records)?;
    let awake = awoken(&running);
    println!("one in {} is named: {awake} woke", args.every);
    running.stop()?;
    let work = format!(
        "{functions} functions at zero on one topic, filters by a header, {} records of 100 bytes",
        report::rate(args.records as f64)
    );
    let figure = format!(
        "one in {} passes one of the filters: **{} stay asleep**; none passes: all are passed by after {took:.1} s and {cpu:.1} CPU-seconds, \
         **{:.2} × the topic's bytes are fetched** ({:.1} MiB)",
        args.every,
        functions - awake,
        fetched as f64 / size as f64,
        report::mib(fetched)
    );
    report::row(&work, &figure);
    Ok(())
}

/// How many functions have been awake since they all slept.
fn awoken(running: &Running) -> usize {
    let woke = running.said("wakes");
    let functions: std::collections::BTreeSet<_> =
        woke.iter().filter_map(|line| line.field("function").map(str::to_owned)).collect();
    functions.len()
}

/// Waits until the last function's group is behind so many records.
fn passed(running: &Running, eye: &Eye, input: &str, records: u64) -> Result<()> {
    let passed = clock::until("the records", WITHIN, Duration::from_millis(200), || {
        running.check()?;
        Ok((eye.committed(input)? >= records).then_some(()))
    });
    passed.with_context(|| running.tail())
}

/// Records of 100 bytes, one in `every` of which names a function.
fn write(session: &Session, topic: &str, records: u64, every: Option<u64>) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", session.brokers()).set("linger.ms", "20");
    let producer: BaseProducer = config.set("queue.buffering.max.messages", "1000000").create()?;
    let value = [b'x'; 100];
    let wanted = format!("f{WANTED}");
    for n in 0..records {
        let name = if every.is_some_and(|every| n % every == 0) { wanted.as_str() } else { "none" };
        let headers = OwnedHeaders::new_with_capacity(1).insert(Header { key: HEADER, value: Some(name) });
        let key = format!("k{n}");
        let record = BaseRecord::to(topic).key(key.as_str()).payload(&value).headers(headers);
        fill::send(&producer, record)?;
        if n % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(WITHIN).context("write the records")
}

/// The bytes of a topic in the broker's folder, which are those that a fetch brings.
fn size(session: &Session, topic: &str) -> Result<u64> {
    let mut bytes = 0;
    for partition in 0..PARTITIONS {
        let folder = session.run_dir().join("kafka").join(format!("{topic}-{partition}"));
        let files = std::fs::read_dir(&folder).context("the broker's folder: measure without --brokers")?;
        for file in files {
            let file = file?;
            if file.path().extension().is_some_and(|it| it == "log") {
                bytes += file.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}
