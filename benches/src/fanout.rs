//! Slow calls side by side: how long until the last of some events has its visible result.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset};

use crate::contest::{Contestant, Route};
use crate::session::{Place, Session};
use crate::subject::{Function, Tidemill};
use crate::{clock, fill, report, topics};

/// Events of one partition, handled in 0 to 5 ms each, exactly once, in the order of their keys.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- fanout")]
pub struct Args {
    /// How many events
    #[arg(long, default_value_t = 10_000)]
    pub events: u64,
    /// How many keys
    #[arg(long, default_value_t = 1000)]
    pub keys: u64,
    /// How many calls at a time
    #[arg(long, default_value_t = 100)]
    pub concurrency: u32,
    /// How often
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    #[command(flatten)]
    pub place: Place,
}

/// The longest call; they are spread evenly from 0.
const MOST_MICROS: u64 = 5000;
const WITHIN: Duration = Duration::from_secs(120);

/// Measures a few times.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open(&args.place)?;
    let function = Function {
        package: Some("bench-trouble"),
        handler: format!(
            ", config: {{ mostMicros: {MOST_MICROS} }}, concurrency: {concurrency}",
            concurrency = args.concurrency
        ),
        ..Function::echo(Duration::from_millis(100))
    };
    let contestant = Contestant::Tidemill(Tidemill::build(&function)?);
    let mut times = Vec::new();
    for round in 0..=args.rounds {
        let time = turn(args, &session, &contestant)?.as_secs_f64();
        // The first warms the broker up.
        if round > 0 {
            println!("round {round}: {time:.3} s");
            times.push(time);
        }
    }
    let ideal = (args.events * MOST_MICROS / 2) as f64 / 1e6 / f64::from(args.concurrency);
    let work = format!(
        "{} events of one partition and {} keys, calls of 0 to 5 ms, concurrency {}, from the first produced to the last visible",
        args.events, args.keys, args.concurrency
    );
    let figure = report::median(times)
        .map_or_else(String::new, |time| format!("**{time:.2} s** (ideal {ideal:.2} s)"));
    report::row(&work, &figure);
    Ok(())
}

fn turn(args: &Args, session: &Session, contestant: &Contestant) -> Result<Duration> {
    let (input, output) = (session.fresh_topic("in")?, session.fresh_topic("out")?);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", session.brokers());
    let reader: BaseConsumer = config
        .clone()
        .set("group.id", "tidemill-bench-fanout")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()?;
    reader.assign(&topics::every_partition(&output, Offset::Beginning)?)?;
    let producer: BaseProducer = config.set("linger.ms", "1").create()?;
    let route = Route { input: &input, output: &output };
    let running = contestant.start(session, &session.fresh_name(contestant.name().text()), route)?;
    let value = [b'x'; 100];
    let send = |key: &str| {
        fill::send(&producer, BaseRecord::to(&input).partition(0).key(key).payload(&value))?;
        producer.poll(Duration::ZERO);
        anyhow::Ok(())
    };
    let receive = |patience| match reader.poll(patience) {
        None => Ok(0),
        Some(record) => record.map(|_| 1).context("read the output"),
    };
    // It runs when one event has come back; then it is quiet again.
    send("knock")?;
    let pace = Duration::from_millis(100);
    clock::until("the first result", WITHIN, Duration::ZERO, || {
        running.check()?;
        Ok((receive(pace)? > 0).then_some(()))
    })
    .with_context(|| running.tail())?;
    let begin = clock::now();
    for n in 0..args.events {
        send(&format!("k{}", n % args.keys))?;
    }
    producer.flush(WITHIN)?;
    let mut back = 0;
    while back < args.events {
        back += receive(Duration::from_millis(10))?;
        ensure!(begin.elapsed() < WITHIN, "{back} of {} results came: {}", args.events, running.tail());
    }
    let time = begin.elapsed();
    running.stop()?;
    session.topics().delete(&input)?;
    session.topics().delete(&output)?;
    Ok(time)
}
