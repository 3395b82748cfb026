//! Time from produce to the visible result, in turns.

use std::time::Duration;

use anyhow::Result;

use crate::bare::Kind;
use crate::contest::{Contestant, Field, Name, Route, Work};
use crate::ping::{Latencies, Pace, Probe};
use crate::report::{self, Series};
use crate::session::{Place, Session};
use crate::subject::{Function, Tidemill};

/// Exactly once; the bare loop cuts every 5 ms, Tidemill and Kafka Streams as they do by default.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- latency --streams")]
pub struct Args {
    /// Records a second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// Seconds that are measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Seconds before that, which do not count
    #[arg(long, default_value_t = 10)]
    pub warm_up: u64,
    /// How often everybody takes a turn
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    /// `fetch.wait.max.ms` of the probe's reader: what it adds to everybody's latency at worst
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10)]
    pub fetch_wait_ms: u32,
    /// Measure a stitch of two sources against the plain copy, and nobody else
    #[arg(long)]
    pub stitch: bool,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub field: Field,
}

/// The figures that are reported, by quantile.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];

/// Measures everybody in turn.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open(&args.place)?;
    if args.stitch {
        return stitch(&session, args);
    }
    let work = Work {
        bare: Kind::Eos,
        bare_cut: Duration::from_millis(5),
        function: Function::echo(Duration::from_millis(100)),
    };
    let contestants = args.field.contestants(&session, &work)?;
    let pace = args.pace();
    if let Some(first) = contestants.first() {
        eprintln!("warming the broker up");
        turn(&session, first, pace)?;
    }
    let mut results: [Series; 3] = Default::default();
    for round in 1..=args.rounds {
        for contestant in &contestants {
            let latencies = turn(&session, contestant, pace)?;
            let figures = QUANTILES.map(|(label, q)| (label, latencies.quantile_ms(q)));
            let shown = figures.map(|(label, ms)| format!("{label} {ms:.1} ms")).join(", ");
            println!("round {round}: {:<8} {shown}", contestant.name().text());
            for (series, (_, ms)) in results.iter_mut().zip(figures) {
                series.push(contestant.name(), ms);
            }
        }
    }
    let work = format!("latency produce → visible result, {}/s, exactly once", args.rate);
    report::row(&work, &figure(&results));
    Ok(())
}

impl Args {
    fn pace(&self) -> Pace {
        Pace {
            rate: self.rate,
            warm_up: Duration::from_secs(self.warm_up),
            time: Duration::from_secs(self.seconds),
            fetch_wait_ms: self.fetch_wait_ms,
        }
    }
}

/// The same for a stitch, against the plain copy: from when the second event was due.
fn stitch(session: &Session, args: &Args) -> Result<()> {
    let copy = Contestant::Tidemill(Tidemill::build(&Function::echo(Duration::from_millis(100)))?);
    let mut medians = [Vec::new(), Vec::new()];
    turn(session, &copy, args.pace())?;
    for round in 1..=args.rounds {
        let plain = turn(session, &copy, args.pace())?;
        let stitched = stitch_turn(session, args.pace())?;
        for ((what, latencies), medians) in
            [("copy", plain), ("stitch", stitched)].into_iter().zip(&mut medians)
        {
            let figures = QUANTILES.map(|(label, q)| format!("{label} {:.1} ms", latencies.quantile_ms(q)));
            println!("round {round}: {what:<8} {}", figures.join(", "));
            medians.push(latencies.quantile_ms(0.5));
        }
    }
    let [plain, stitched] = medians.map(|mut medians| {
        medians.sort_by(f64::total_cmp);
        medians[medians.len() / 2]
    });
    let work = format!("latency second event of a stitch → visible result, {}/s, exactly once", args.rate);
    let ratio = stitched / plain;
    let figure = format!("stitch p50 {stitched:.1} ms; copy p50 {plain:.1} ms; **{ratio:.2} × the copy**");
    report::row(&work, &figure);
    Ok(())
}

fn stitch_turn(session: &Session, pace: Pace) -> Result<Latencies> {
    let (input, beside) = (session.fresh_topic("in")?, session.fresh_topic("beside")?);
    let output = session.fresh_topic("out")?;
    let function = Function {
        package: None,
        window: Some("{ stitch: { within: 1h } }".to_owned()),
        beside: Some(beside.clone()),
        sink: "format: json",
        ..Function::echo(Duration::from_millis(100))
    };
    let probe = Probe::open(session.brokers(), &input, &output, pace)?.beside(&beside);
    let route = Route { input: &input, output: &output };
    let running = Tidemill::build(&function)?.start(session, &session.fresh_name("stitch"), route)?;
    let latencies = probe.measure(&running)?;
    running.stop()?;
    drop(probe);
    for topic in [&input, &beside, &output] {
        session.topics().delete(topic)?;
    }
    Ok(latencies)
}

fn turn(session: &Session, contestant: &Contestant, pace: Pace) -> Result<Latencies> {
    let (input, output) = (session.fresh_topic("in")?, session.fresh_topic("out")?);
    let probe = Probe::open(session.brokers(), &input, &output, pace)?;
    let route = Route { input: &input, output: &output };
    let running = contestant.start(session, &session.fresh_name(contestant.name().text()), route)?;
    let latencies = probe.measure(&running)?;
    running.stop()?;
    drop(probe);
    session.topics().delete(&input)?;
    session.topics().delete(&output)?;
    Ok(latencies)
}

/// Medians over the rounds, and Tidemill's by everybody else's.
fn figure(results: &[Series; 3]) -> String {
    let each = |value: &dyn Fn(&Series) -> Option<f64>, unit: &str, digits: usize| {
        let figures: Option<Vec<String>> = QUANTILES
            .iter()
            .zip(results)
            .map(|((label, _), series)| Some(format!("{label} {:.digits$}{unit}", value(series)?)))
            .collect();
        figures.map(|figures| figures.join(", "))
    };
    let mut parts = Vec::new();
    for name in [Name::Tidemill, Name::Bare, Name::Streams] {
        parts.extend(
            each(&|series| series.median(name), " ms", 1).map(|text| format!("{} {text}", name.text())),
        );
    }
    for name in [Name::Bare, Name::Streams] {
        parts.extend(
            each(&|series| series.ratio(name), " ×", 2).map(|text| format!("**{text} {}**", name.text())),
        );
    }
    parts.join("; ")
}
