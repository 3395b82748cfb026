//! What a process costs whose one function has nothing to do.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::contest::{Name, Route};
use crate::fill::{KEYS, Shape, fill};
use crate::session::{Place, Session};
use crate::subject::{Function, Tidemill};
use crate::watch::Eye;
use crate::{clock, report};

/// Memory and CPU of `tidemill run` with one function and an empty topic.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- idle")]
pub struct Args {
    /// Seconds that are measured
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Seconds before that, for the start to settle
    #[arg(long, default_value_t = 10)]
    pub settle: u64,
    #[command(flatten)]
    pub place: Place,
}

/// Measures it, after a few records went through: before, it may not have started to work.
pub fn run(args: &Args) -> Result<()> {
    const RECORDS: u64 = 1000;
    let session = Session::open(&args.place)?;
    let tidemill = Tidemill::build(&Function::echo(Duration::from_millis(100)))?;
    let (input, output) = (session.fresh_topic("in")?, session.fresh_topic("out")?);
    fill(session.brokers(), &input, RECORDS, Shape::Plain { keys: KEYS })?;
    let name = session.fresh_name(Name::Tidemill.text());
    let eye = Eye::open(session.brokers(), &tidemill.group(&name), &input)?;
    let running = tidemill.start(&session, &name, Route { input: &input, output: &output })?;
    clock::until("the first records", Duration::from_secs(90), Duration::from_millis(100), || {
        running.check()?;
        Ok((eye.committed(&input)? >= RECORDS).then_some(()))
    })
    .with_context(|| running.tail())?;
    clock::pause(Duration::from_secs(args.settle));
    let (begin, cpu_before) = (clock::now(), running.cpu()?);
    clock::pause(Duration::from_secs(args.seconds));
    let (wall, cpu) = (begin.elapsed(), running.cpu()?.saturating_sub(cpu_before));
    let memory = running.memory()?;
    running.stop()?;
    session.topics().delete(&input)?;
    session.topics().delete(&output)?;
    let share = cpu.as_secs_f64() / wall.as_secs_f64() * 100.0;
    let figure = format!(
        "{:.1} MiB resident (at most {:.1} MiB), {share:.2} % of a core over {} s",
        report::mib(memory.resident),
        report::mib(memory.peak),
        args.seconds
    );
    println!("{figure}");
    report::row("idle process, one function", &figure);
    Ok(())
}
