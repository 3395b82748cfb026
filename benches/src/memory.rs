//! What an open window takes: the memory of a process before and after it has opened many.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::clock;
use crate::contest::Route;
use crate::fill::{self, Shape};
use crate::kafka::Making;
use crate::process::{Memory, Running};
use crate::report;
use crate::restore::{REBALANCE_AT_ONCE, What, keeping};
use crate::session::{Place, Session};
use crate::subject::Tidemill;
use crate::watch::Eye;

/// Sessions of keys of 16 bytes, each with a count, all open.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- memory")]
pub struct Args {
    /// How many windows
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub windows: u64,
    #[command(flatten)]
    pub place: Place,
}

/// How long one step may take.
const WITHIN: Duration = Duration::from_secs(300);

/// Measures it. As many events of few keys come first: what a process holds because it has worked is no window's.
pub fn run(args: &Args) -> Result<()> {
    const FEW: u64 = 1000;
    let making = Making { settings: &[REBALANCE_AT_ONCE], ..Making::default() };
    let session = Session::open_with(&args.place, &making)?;
    let tidemill = Tidemill::build(&keeping(What::Windows))?;
    let (input, output) = (session.fresh_topic("in")?, session.fresh_topic("out")?);
    let name = session.fresh_name("memory");
    let eye = Eye::open(session.brokers(), &tidemill.group(&name), &input)?;
    let route = Route { input: &input, output: &output };
    let running = tidemill.start(&session, &name, route)?;
    let step = |shape, events| {
        fill::fill(session.brokers(), &input, args.windows, shape)?;
        settle(&running, &eye, &input, events)
    };
    let before = step(Shape::Plain { keys: FEW }, args.windows)?;
    let after = step(Shape::Distinct { bytes: 63 }, 2 * args.windows)?;
    running.stop()?;
    let running = tidemill.start(&session, &name, route)?;
    running.wait_for("state restored", 1, WITHIN)?;
    let restored = settle(&running, &eye, &input, 2 * args.windows)?;
    running.stop()?;
    for topic in [input, output, tidemill.state_topic(&name)] {
        session.topics().delete(&topic)?;
    }
    let each = |with: u64, without: u64| with.saturating_sub(without) as f64 / args.windows as f64;
    println!(
        "{:.1} MiB resident before, {:.1} MiB after (at most {:.1} MiB), {:.1} MiB restored (at most {:.1} MiB)",
        report::mib(before.resident),
        report::mib(after.resident),
        report::mib(after.peak),
        report::mib(restored.resident),
        report::mib(restored.peak)
    );
    let work = format!(
        "memory of {} open sessions with a count, keys of 16 bytes, cut 100 ms",
        report::rate(args.windows as f64)
    );
    let figure = format!(
        "**{:.0} bytes resident a window** ({:.0} at most while they came); {:.0} after a restart",
        each(after.resident, before.resident),
        each(after.peak, before.resident),
        each(restored.resident, before.resident),
    );
    report::row(&work, &figure);
    Ok(())
}

/// Waits for so many events, and until the allocator has given back what was there for a moment.
fn settle(running: &Running, eye: &Eye, input: &str, events: u64) -> Result<Memory> {
    let done = clock::until("the events", WITHIN, Duration::from_millis(50), || {
        running.check()?;
        Ok((eye.committed(input)? >= events).then_some(()))
    });
    done.with_context(|| running.tail())?;
    clock::pause(SETTLE);
    running.memory()
}

/// jemalloc gives back unused pages after ten seconds.
const SETTLE: Duration = Duration::from_secs(12);
