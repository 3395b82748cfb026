//! Counts by key and window per second and per CPU-second: Tidemill against Kafka Streams with each of its two stores, in
//! turns. What each has said is held to a model when all windows have closed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message};

use crate::clock;
use crate::contest::{Contestant, Route};
use crate::fill::{self, Shape};
use crate::process::Running;
use crate::report;
use crate::session::Session;
use crate::streams::{Store, Streams};
use crate::subject::{Function, Tidemill};
use crate::throughput::{Load, in_turns};
use crate::timeline::{Kind, Tally, Timeline};
use crate::topics::PARTITIONS;
use crate::watch::{Eye, Measure};

/// Counts exactly once, a cut every 100 ms, one worker, one result a window when it closes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- windows --records 4000000")]
pub struct Args {
    /// Which windows
    #[arg(long, value_enum, default_value_t = Kind::Tumbling)]
    pub kind: Kind,
    /// Measure Tidemill without Kafka Streams, for a profiler
    #[arg(long)]
    pub alone: bool,
    /// Which of Kafka Streams' stores Tidemill is measured against
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Store::RocksDb, Store::Memory])]
    pub stores: Vec<Store>,
    #[command(flatten)]
    pub load: Load,
}

/// The share of the input at which the clock starts, where no warm-up is needed. The first output would be too late: it
/// comes with the first window that closes.
const BEGUN: f64 = 0.01;

/// Whose events let time go on behind the end of the input. What they give is not counted.
const TIMEKEEPER: &str = "timekeeper";

/// Kafka Streams looks for closed windows once a second.
const CLOSE_WITHIN: Duration = Duration::from_secs(120);

/// Measures one kind.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open(&args.load.place)?;
    let Load { records, rounds, .. } = args.load;
    let contestants = contestants(&session, args)?;
    let timeline = Timeline::new(args.kind, records, jiff::Timestamp::now().as_millisecond());
    let input = session.fresh_topic("in")?;
    eprintln!("writing {records} records");
    fill::fill(session.brokers(), &input, records, Shape::Timed(timeline))?;
    let race = Race { session: &session, timeline, input };
    let results = in_turns(&contestants, rounds, |contestant| race.turn(contestant))?;
    session.topics().delete(&race.input)?;
    let work = format!(
        "{}, exactly once, cut 100 ms, {} records of 100 bytes",
        about(args.kind),
        report::rate(records as f64)
    );
    report::row(&work, &results.figure());
    Ok(())
}

fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Tumbling => "count by tumbling windows of 10 s, 10 000 keys, 10 events in each",
        Kind::Session => "count by sessions with gaps of 10 s, 100 000 keys, 8 events in each",
        Kind::Sliding => "count by sliding windows of 30 s, 100 000 keys, 4 events in each",
    }
}

fn contestants(session: &Session, args: &Args) -> Result<Vec<Contestant>> {
    let kind = args.kind;
    let size = match kind {
        Kind::Tumbling | Kind::Sliding => "size",
        Kind::Session => "gap",
    };
    let function = Function {
        package: None,
        window: Some(format!(
            "{{ {}: {{ {size}: {}ms }}, aggregate: {{ events: {{ op: count }} }} }}",
            kind.name(),
            kind.size_ms()
        )),
        sink: "format: json",
        ..Function::echo(Duration::from_millis(100))
    };
    let mut contestants = vec![Contestant::Tidemill(Tidemill::build(&function)?)];
    if !args.alone {
        let streams = Streams::build(session)?;
        contestants.extend(args.stores.iter().map(|store| match store {
            Store::RocksDb => Contestant::Streams(streams.counting(kind, Store::RocksDb)),
            Store::Memory => Contestant::StreamsMemory(streams.counting(kind, Store::Memory)),
        }));
    }
    Ok(contestants)
}

struct Race<'a> {
    session: &'a Session,
    timeline: Timeline,
    input: String,
}

impl Race<'_> {
    /// One contestant alone. When it is through with the input, time goes on until its last window has closed.
    fn turn(&self, contestant: &Contestant) -> Result<Measure> {
        let Self { session, input, .. } = self;
        let output = session.fresh_topic("out")?;
        let route = Route { input, output: &output };
        let name = session.fresh_name(contestant.name().text());
        let eye = Eye::open(session.brokers(), &contestant.group(&name), input)?;
        // The timekeeper's events of earlier turns too.
        let records = eye.written(input)?;
        let running = contestant.start(session, &name, route)?;
        let warm_up = contestant.warm_up().max(BEGUN);
        let measure = eye.follow(&running, route, records, warm_up).with_context(|| running.tail())?;
        let expected = self.timeline.expected(contestant.name());
        let said = self.close(&running, &output, expected).with_context(|| running.tail())?;
        ensure!(said == expected, "{} said {said:?}, not {expected:?}", contestant.name().text());
        running.stop()?;
        for topic in [Some(output), contestant.state_topic(&name)].into_iter().flatten() {
            session.topics().delete(&topic)?;
        }
        Ok(measure)
    }

    /// Lets time go on until as many events as `expected` are counted, and then once more, lest any be counted twice.
    fn close(&self, running: &Running, output: &str, expected: Tally) -> Result<Tally> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.session.brokers());
        let timekeeper: BaseProducer = config.create()?;
        let reader = self.session.topics().reader(output)?;
        let mut said = Tally::default();
        let mut is_all = false;
        let pace = Duration::from_millis(500);
        let waited = clock::until("every window has closed", CLOSE_WITHIN, pace, || {
            running.check()?;
            self.tick(&timekeeper)?;
            let had_all = is_all;
            read(&reader, &mut said).with_context(|| format!("read {output}"))?;
            is_all = said.events >= expected.events;
            Ok(had_all.then_some(()))
        });
        waited.with_context(|| format!("it said {said:?} of {expected:?}"))?;
        Ok(said)
    }

    /// An event of each partition, after all windows.
    fn tick(&self, timekeeper: &BaseProducer) -> Result<()> {
        for partition in 0..PARTITIONS {
            let record = BaseRecord::to(&self.input).partition(partition).timestamp(self.timeline.over());
            fill::send(timekeeper, record.key(TIMEKEEPER).payload("x"))?;
        }
        timekeeper.flush(Duration::from_secs(20)).context("let time go on")
    }
}

/// Takes what is there, and returns when no more has come for a while.
fn read(reader: &BaseConsumer, said: &mut Tally) -> Result<()> {
    loop {
        match reader.poll(Duration::from_millis(500)) {
            None => return Ok(()),
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(record)) if record.key() == Some(TIMEKEEPER.as_bytes()) => {}
            Some(Ok(record)) => said.add(count(record.payload().unwrap_or_default())?),
        }
    }
}

/// The count in `{…,"events":7}`, which is how everybody's results end.
fn count(result: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(result)?;
    let digits = text.rsplit_once(r#""events":"#).and_then(|(_, rest)| rest.strip_suffix('}'));
    digits.and_then(|digits| digits.parse().ok()).with_context(|| format!("no count in {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_stands_at_the_end_of_a_result() {
        let result = br#"{"key":"k1","window":{"start":0,"end":5,"fired":"close"},"events":17}"#;
        assert_eq!(count(result).unwrap(), 17);
        assert!(count(b"{}").is_err());
    }
}
