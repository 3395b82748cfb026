//! What a function pays for more than a copy: calls side by side, dead letters, keys that fail, traces. Tidemill against
//! itself without that, in turns.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::contest::{Contestant, Name};
use crate::fill::{Shape, numbers};
use crate::report;
use crate::session::Session;
use crate::sink;
use crate::subject::{Function, Tidemill};
use crate::throughput::{Load, Race};

/// Copies exactly once, a cut every 100 ms, one worker, with and without what may cost.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- cost concurrency")]
pub struct Args {
    /// What may cost
    #[arg(value_enum)]
    pub what: What,
    #[command(flatten)]
    pub load: Load,
}

/// What may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// 64 handler threads, and a handler that does nothing
    Concurrency,
    /// Every tenth record is rejected
    DeadLetters,
    /// One key in 1000 fails for ever, three attempts each
    FailingKeys,
    /// Traces of one event in 100, to a collector that swallows them, and origin headers on every output
    Traces,
}

/// One in so many keys fails.
const FAILING: u64 = 1000;

/// Measures one of them.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open(&args.load.place)?;
    let records = args.load.records;
    let plain = || Function {
        package: Some("bench-trouble"),
        handler: ", config: {}".to_owned(),
        ..Function::echo(Duration::from_millis(100))
    };
    let (keys, every, work) = match args.what {
        What::Concurrency => (10_000, 0, "64 handler threads, no-op handler, against inline calls"),
        What::DeadLetters => (10_000, 10, "every tenth record a dead letter, against the plain copy"),
        // So many that none of them comes faster than its attempts end.
        What::FailingKeys => (1_000_000, FAILING, "one key in 1000 fails for ever, against none"),
        What::Traces => (10_000, 0, "traces of one event in 100 and origin headers, against neither"),
    };
    let function = match args.what {
        What::Concurrency => Function { handler: ", config: {}, concurrency: 64".to_owned(), ..plain() },
        What::DeadLetters => Function { handler: ", config: { every: 10 }".to_owned(), ..plain() },
        What::FailingKeys => Function {
            handler: format!(", config: {{ every: {FAILING}, retry: true }}"),
            delivery: ", retry: { maxAttempts: 3, initial: 50ms }",
            ..plain()
        },
        What::Traces => Function {
            variables: vec![
                ("TIDEMILL_OTLP_ENDPOINT", sink::start()?),
                ("TIDEMILL_TRACE_RATIO", "0.01".to_owned()),
            ],
            delivery: ", originHeaders: true",
            ..plain()
        },
    };
    let contestants =
        [Contestant::Plain(Tidemill::build(&plain())?), Contestant::Tidemill(Tidemill::build(&function)?)];
    let lost = match every {
        0 => 0,
        every => numbers(records, keys).filter(|number| number.is_multiple_of(every)).count() as u64,
    };
    let shape = Shape::Plain { keys };
    let race = Race { session: &session, load: &args.load, shape, expected: records - lost };
    let results = race.run(&contestants)?;
    let work = format!("{work}, exactly once, cut 100 ms, {} records", report::rate(records as f64));
    report::row(&work, &results.figure_against(Name::Plain));
    Ok(())
}
