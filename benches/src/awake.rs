//! Many functions that are awake in one process: what they hold, and what the others feel of a busy one.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::clock;
use crate::crowd::Crowd;
use crate::ping::{Latencies, Pace, Probe};
use crate::report;
use crate::session::{Place, Session};
use crate::sleepers::MANY;
use crate::step::pour;
use crate::subject::{Function, Tidemill};
use crate::topics::PARTITIONS;
use crate::watch::Eye;

/// Memory of a process with functions that are awake, and one's latency while another works off a backlog.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- awake")]
pub struct Args {
    /// How many functions, each with a topic of its own of 4 partitions
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..))]
    pub functions: u32,
    /// Records of the busy one's backlog; it has to last for as long as is measured
    #[arg(long, default_value_t = 8_000_000)]
    pub records: u64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// How often
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    #[command(flatten)]
    pub place: Place,
}

/// For them to have started.
const SETTLE: Duration = Duration::from_secs(15);

/// How long each step may take.
const WITHIN: Duration = Duration::from_secs(300);

/// Measures it.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open_with(&args.place, &MANY)?;
    let echo = || Function::echo(Duration::from_millis(100));
    let tidemill = Tidemill::build(&echo())?;
    let mut crowd = Crowd::gather(&session, args.functions as usize, PARTITIONS, false)?;
    // What the others write would come between the probe's records.
    let output = session.fresh_topic("out")?;
    output.clone_into(crowd.outputs.first_mut().context("a crowd has topics")?);
    let [quiet, busy, ..] = crowd.inputs.as_slice() else { bail!("two functions are needed") };
    let [_, worker, ..] = crowd.names.as_slice() else { bail!("two functions are needed") };
    let eye = Eye::open(session.brokers(), &tidemill.group(worker), busy)?;
    let left = || Ok::<_, anyhow::Error>(eye.written(busy)?.saturating_sub(eye.committed(busy)?));
    let running = crowd.start(&session, (&tidemill, &["run"]), |_| echo())?;
    running.wait_for("partitions assigned", crowd.names.len(), WITHIN)?;
    clock::pause(SETTLE);
    let (idle, threads) = (running.memory()?, running.threads()?);
    let pace = Pace {
        rate: 200,
        warm_up: Duration::from_secs(1),
        time: Duration::from_secs(args.seconds),
        fetch_wait_ms: 10,
    };
    let probe = || Probe::open_at_end(session.brokers(), quiet, &output, pace)?.measure(&running);
    let p99 = |latencies: &Latencies| latencies.quantile_ms(0.99);
    probe()?;
    let mut ratios = Vec::new();
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let without = p99(&probe()?);
        pour(&session, busy, args.records)?;
        let with = p99(&probe()?);
        let rest = left()?;
        println!("round {round}: p99 {without:.1} ms alone, {with:.1} ms beside ({rest} offsets were left)");
        ensure!(rest > 0, "the busy function was through before the end: ask for more --records");
        let through = clock::until("the busy one is through", WITHIN, Duration::from_secs(1), || {
            running.check()?;
            Ok((left()? == 0).then_some(()))
        });
        through.with_context(|| running.tail())?;
        alone.push(without);
        beside.push(with);
        ratios.push(with / without);
    }
    let worked = running.memory()?;
    running.stop()?;
    let median = |figures| report::median(figures).unwrap_or_default();
    let work = format!(
        "{} functions awake in one process, 4 partitions each; latency of one at 200/s while another works off a backlog",
        args.functions
    );
    let figure = format!(
        "**{:.0} MiB resident** ({threads} threads; {:.0} MiB after the work); p99 {:.1} ms alone, {:.1} ms beside: **{:.2} ×**",
        report::mib(idle.resident),
        report::mib(worked.resident),
        median(alone),
        median(beside),
        median(ratios)
    );
    report::row(&work, &figure);
    Ok(())
}
