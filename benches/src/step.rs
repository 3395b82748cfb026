//! Work that comes all at once: how long until as many workers as are needed are busy with it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::clock;
use crate::contest::Route;
use crate::fill;
use crate::kafka::Making;
use crate::process::Running;
use crate::report;
use crate::session::{Place, Session};
use crate::subject::{Function, Tidemill};
use crate::topics::PARTITIONS;
use crate::watch::Eye;

/// A function with one idle worker and 4 partitions; then its records become visible at one moment, in one transaction.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- step")]
pub struct Args {
    /// How many records
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// A call takes up to so long, half of it on average
    #[arg(long, default_value_t = 500)]
    pub most_micros: u64,
    /// How often
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// `group.initial.rebalance.delay.ms` of the broker that is started
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 3000)]
    pub rebalance_delay_ms: u32,
    #[command(flatten)]
    pub place: Place,
}

/// How long each step may take.
const WITHIN: Duration = Duration::from_secs(180);

/// Measures it, round after round.
pub fn run(args: &Args) -> Result<()> {
    let delay = args.rebalance_delay_ms.to_string();
    let settings = [("group.initial.rebalance.delay.ms", delay.as_str())];
    let session = Session::open_with(&args.place, &Making { settings: &settings, ..Making::default() })?;
    let function = Function {
        package: Some("bench-trouble"),
        handler: format!(", config: {{ mostMicros: {} }}", args.most_micros),
        scale: "min: 1".to_owned(),
        ..Function::echo(Duration::from_millis(100))
    };
    let tidemill = Tidemill::build(&function)?;
    let (mut decided, mut busy) = (Vec::new(), Vec::new());
    let mut workers = 0;
    for round in 1..=args.rounds {
        let step = turn(args, &session, &tidemill)?;
        println!(
            "round {round}: {} workers decided after {:.2} s, all busy after {:.2} s",
            step.workers, step.decided, step.busy
        );
        decided.push(step.decided);
        busy.push(step.busy);
        workers = step.workers;
    }
    let most = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
    let (most_decided, most_busy) = (most(&decided), most(&busy));
    let median = |figures| report::median(figures).unwrap_or_default();
    let work = format!(
        "from idle to {} records at once, calls of {} µs on average, 4 partitions, until the {workers} workers that were decided are busy",
        report::rate(args.records as f64),
        args.most_micros / 2
    );
    let figure = format!(
        "**{:.2} s** (at most {most_busy:.2} s), of which deciding {:.2} s (at most {most_decided:.2} s)",
        median(busy),
        median(decided)
    );
    report::row(&work, &figure);
    Ok(())
}

struct Step {
    workers: usize,
    /// Seconds until the last change of the number.
    decided: f64,
    /// Seconds until so many workers have partitions.
    busy: f64,
}

fn turn(args: &Args, session: &Session, tidemill: &Tidemill) -> Result<Step> {
    let (input, output) = (session.fresh_topic("in")?, session.fresh_topic("out")?);
    let name = session.fresh_name("step");
    let eye = Eye::open(session.brokers(), &tidemill.group(&name), &input)?;
    let running = tidemill.start(session, &name, Route { input: &input, output: &output })?;
    running.wait_for("partitions assigned", 1, WITHIN)?;
    // It has a few records behind it, so how fast a worker is need not be guessed.
    pour(session, &input, 2000)?;
    let warm = clock::until("the first records", WITHIN, Duration::from_millis(100), || {
        running.check()?;
        Ok((eye.committed(&input)? >= 2000).then_some(()))
    });
    warm.with_context(|| running.tail())?;
    clock::pause(Duration::from_secs(5));
    let quiet = running.said("partitions assigned").len();
    ensure!(quiet == 1, "{quiet} workers came for the first records: {}", running.tail());
    let begun = pour(session, &input, args.records)?;
    let busy = clock::until("the workers", WITHIN, Duration::from_millis(50), || {
        running.check()?;
        let step = look(&running, begun)?;
        // More may be decided a second later.
        let is_still = Timestamp::now().duration_since(begun).as_secs_f64() > 10.0;
        Ok(step.filter(|_| is_still))
    });
    let step = busy.with_context(|| running.tail())?;
    running.stop()?;
    session.topics().delete(&input)?;
    session.topics().delete(&output)?;
    Ok(step)
}

/// What the log tells of it so far: the highest number that was decided, and when there were so many.
fn look(running: &Running, begun: Timestamp) -> Result<Option<Step>> {
    let since = |at: Timestamp| at.duration_since(begun).as_secs_f64();
    let mut most = (0, begun);
    for line in running.said("workers: ").into_iter().filter(|line| line.at >= begun) {
        let to: usize = line.field("to").context("how many workers")?.parse()?;
        if to > most.0 {
            most = (to, line.at);
        }
    }
    let (workers, decided) = most;
    if workers == 0 {
        return Ok(None);
    }
    // The first has had its partitions all the time.
    let mut busy = BTreeSet::from(["0".to_owned()]);
    for line in running.said("partitions assigned").into_iter().filter(|line| line.at >= begun) {
        busy.extend(line.field("worker").map(str::to_owned));
        if busy.len() >= workers {
            return Ok(Some(Step { workers, decided: since(decided), busy: since(line.at) }));
        }
    }
    Ok(None)
}

/// Writes records that all become visible at the moment that is returned.
pub fn pour(session: &Session, topic: &str, records: u64) -> Result<Timestamp> {
    let patience = Duration::from_secs(60);
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", session.brokers())
        .set("linger.ms", "5")
        .set("transactional.id", session.fresh_name("pour"))
        .set("queue.buffering.max.messages", "1000000");
    let producer: BaseProducer = config.create()?;
    producer.init_transactions(patience)?;
    producer.begin_transaction()?;
    let value = [b'x'; 100];
    for n in 0..records {
        let key = format!("k{n}");
        let partition = i32::try_from(n % u64::try_from(PARTITIONS)?)?;
        let record = BaseRecord::to(topic).partition(partition).key(key.as_str()).payload(&value);
        fill::send(&producer, record)?;
        if n % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(patience)?;
    let begun = Timestamp::now();
    producer.commit_transaction(patience).context("commit the records")?;
    Ok(begun)
}
