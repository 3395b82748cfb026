//! How long one event waits that comes to a function which sleeps: in a process that lives, or without one.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use jiff::Timestamp;

use crate::clock;
use crate::contest::Route;
use crate::kafka::Making;
use crate::ping::{Latencies, Pace, Probe};
use crate::process::{Line, Running};
use crate::report;
use crate::restore::{self, What};
use crate::session::{Place, Session};
use crate::subject::{Function, Tidemill};

/// From one produced event to its result before a `read_committed` reader, time after time from sleep.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: cargo run --release -p tidemill-benches -- wake --tier zero --rebalance-delay-ms 0"
)]
pub struct Args {
    /// How deep it sleeps
    #[arg(value_enum, long, default_value_t = Tier::Zero)]
    pub tier: Tier,
    /// How often it is woken
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub tries: u64,
    /// It keeps something for so many keys, and has to have that again first
    #[arg(long, value_name = "ENTRIES")]
    pub stateful: Option<u64>,
    /// `group.initial.rebalance.delay.ms` of the broker that is started: how long the first member of a group waits for others
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 3000)]
    pub rebalance_delay_ms: u32,
    #[command(flatten)]
    pub place: Place,
}

/// How deep a function sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// It has no worker in a process that lives
    Zero,
    /// It has no process; `tidemill autoscale` starts one
    Off,
}

/// How long each step may take.
const WITHIN: Duration = Duration::from_secs(90);

/// From the word that it sleeps to the event, at most: until then the doorbell has looked where it stands.
const REST_MS: u64 = 1500;

impl Tier {
    fn verb(self) -> &'static [&'static str] {
        match self {
            Self::Zero => &["run"],
            Self::Off => &["autoscale", "--target", "process", "--zero-after", "1s"],
        }
    }

    /// What the log says when it sleeps, and when it has seen the event.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Zero => ("falls asleep", "wakes"),
            Self::Off => ("process ended", "workers decided"),
        }
    }
}

/// Where the time of one try went.
struct Try {
    whole: Duration,
    /// From produce to seen, to the worker's start, to its partitions, to the result.
    steps: [Duration; 4],
    restored: Option<(u64, f64)>,
}

const STEPS: [&str; 4] =
    ["until it is seen", "until a worker starts", "until it has partitions", "until the result"];

/// Measures it.
pub fn run(args: &Args) -> Result<()> {
    let delay = args.rebalance_delay_ms.to_string();
    let settings = [("group.initial.rebalance.delay.ms", delay.as_str())];
    let session = Session::open_with(&args.place, &Making { settings: &settings, ..Making::default() })?;
    let function = match args.stateful {
        Some(_) => restore::keeping(What::State),
        None => Function::echo(Duration::from_millis(100)),
    };
    let asleep = Function { scale: "min: 0, max: 1, zeroAfter: 1s".to_owned(), ..function.clone() };
    let (input, output) = (session.fresh_topic("in")?, session.fresh_topic("out")?);
    let route = Route { input: &input, output: &output };
    let name = session.fresh_name("wake");
    let tidemill = Tidemill::build(&function)?;
    if let Some(keys) = args.stateful {
        restore::write(&session, &tidemill, &name, route, keys)?;
    }
    let pace = Pace { rate: 1, warm_up: Duration::ZERO, time: Duration::ZERO, fetch_wait_ms: 10 };
    let probe = Probe::open_at_end(session.brokers(), &input, &output, pace)?;
    let running = tidemill.start_all(&session, &name, &[(&name, &asleep, route)], args.tier.verb())?;
    let mut tries = Vec::new();
    // The first warms everything up.
    for n in 0..=args.tries {
        if args.tier == Tier::Zero || n > 0 {
            let times = usize::try_from(n)? + usize::from(args.tier == Tier::Zero);
            running.wait_for(args.tier.words().0, times, WITHIN)?;
        }
        // Spread over the second from one look of a scaler to the next.
        clock::pause(Duration::from_millis(REST_MS - n * 331 % 1000));
        let told = once(args.tier, &probe, &running, n)?;
        if n > 0 {
            let steps = told.steps.map(|step| format!("{:.0}", step.as_secs_f64() * 1e3)).join(" + ");
            println!("try {n}: {:.0} ms = {steps}", told.whole.as_secs_f64() * 1e3);
            tries.push(told);
        }
    }
    running.stop()?;
    drop(probe);
    session.topics().delete(&input)?;
    session.topics().delete(&output)?;
    tell(args, &tries);
    Ok(())
}

/// One event. The steps are taken from the log, whose clock is the wall's.
fn once(tier: Tier, probe: &Probe<'_>, running: &Running, n: u64) -> Result<Try> {
    let begun = Timestamp::now();
    let whole = probe.once(running, n, WITHIN)?;
    let seen: Line = since(running, tier.words().1, begun)?;
    let started = since(running, "worker started", begun)?;
    let assigned = since(running, "partitions assigned", begun)?;
    let ended = begun + whole;
    let restored = running.said("state restored").pop().filter(|line| line.at >= begun);
    let restored = restored.map(|line| {
        let entries = line.field("entries").context("how many entries")?.parse::<u64>()?;
        anyhow::Ok((entries, (line.at - assigned.at).total(jiff::Unit::Second)?))
    });
    let moments = [begun, seen.at, started.at, assigned.at, ended];
    let mut steps = [Duration::ZERO; 4];
    for (step, pair) in steps.iter_mut().zip(moments.windows(2)) {
        if let [from, to] = pair {
            *step = Duration::try_from(to.duration_since(*from)).unwrap_or_default();
        }
    }
    Ok(Try { whole, steps, restored: restored.transpose()? })
}

/// The first line that says `what` and was written since.
fn since(running: &Running, what: &str, begun: Timestamp) -> Result<Line> {
    let line = running.said(what).into_iter().find(|line| line.at >= begun);
    line.with_context(|| format!("nothing said `{what}`: {}", running.tail()))
}

fn tell(args: &Args, tries: &[Try]) {
    let quantiles = |times: Vec<Duration>| {
        let latencies = Latencies::of(times);
        let shown = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];
        shown.map(|(label, q)| format!("{label} {:.0} ms", latencies.quantile_ms(q))).join(", ")
    };
    for (at, step) in STEPS.into_iter().enumerate() {
        let of_it = tries.iter().filter_map(|told| told.steps.get(at).copied());
        println!("{step}: {}", quantiles(of_it.collect()));
    }
    let mut figure = format!("**{}**", quantiles(tries.iter().map(|told| told.whole).collect()));
    if args.tier == Tier::Off {
        let from_seen = tries.iter().map(|told| told.whole.saturating_sub(told.steps[0]));
        figure += &format!("; from when the scaler has seen it **{}**", quantiles(from_seen.collect()));
    }
    let restored: Vec<_> =
        tries.iter().filter_map(|told| told.restored).filter(|(entries, _)| *entries > 0).collect();
    if let Some((entries, _)) = restored.first() {
        let rate = report::median(restored.iter().map(|(entries, took)| *entries as f64 / took).collect());
        figure +=
            &format!("; {entries} entries restored each time, {}/s", report::rate(rate.unwrap_or_default()));
    }
    let what = match args.tier {
        Tier::Zero => "waking from zero in a living process",
        Tier::Off => "waking from off, `autoscale --target process`",
    };
    let delay = match &args.place.brokers {
        Some(_) => "the broker's own group.initial.rebalance.delay.ms".to_owned(),
        None => format!("group.initial.rebalance.delay.ms {}", args.rebalance_delay_ms),
    };
    let kind = if args.stateful.is_some() { "with state" } else { "without state" };
    let work = format!("{what}, {kind}: one event → visible result, {} tries, {delay}", tries.len());
    report::row(&work, &figure);
}
