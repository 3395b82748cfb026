//! Two sources brought together by key and stitched: source records per second and per CPU-second, from source to result.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::clock;
use crate::contest::Route;
use crate::fill::{self, Shape};
use crate::report;
use crate::session::Session;
use crate::subject::{Function, Tidemill};
use crate::throughput::Load;
use crate::watch::{Eye, Measure};

/// Half of the records are of one source, half of the other, a pair for each key; one result a pair.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- stitch --records 4000000")]
pub struct Args {
    #[command(flatten)]
    pub load: Load,
}

/// How long a round may take.
const WITHIN: Duration = Duration::from_secs(600);
/// From one look to the next.
const PACE: Duration = Duration::from_millis(20);

/// Measures it, round after round.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open(&args.load.place)?;
    let Load { records, rounds, .. } = args.load;
    let each = records / 2;
    let (left, right) = (session.fresh_topic("left")?, session.fresh_topic("right")?);
    eprintln!("writing {records} records");
    for topic in [&left, &right] {
        fill::fill(session.brokers(), topic, each, Shape::Plain { keys: each })?;
    }
    let function = Function {
        package: None,
        window: Some("{ stitch: { within: 1h } }".to_owned()),
        beside: Some(right.clone()),
        sink: "format: json",
        ..Function::echo(Duration::from_millis(100))
    };
    let tidemill = Tidemill::build(&function)?;
    let mut measures = Vec::new();
    for round in 1..=rounds {
        let measure = turn(&session, &tidemill, (&left, &right), each)?;
        eprintln!(
            "round {round}: {}/s, {}/cpu-s",
            report::rate(measure.per_second()),
            report::rate(measure.per_cpu_second())
        );
        measures.push((measure.per_second(), measure.per_cpu_second()));
    }
    measures.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (per_second, per_cpu_second) = measures[measures.len() / 2];
    let work = format!(
        "two sources brought together by key and stitched, exactly once, cut 100 ms, {} source records of 100 bytes",
        report::rate(records as f64)
    );
    let figure =
        format!("tidemill {}/s, **{}/cpu-s**", report::rate(per_second), report::rate(per_cpu_second));
    report::row(&work, &figure);
    for topic in [left, right] {
        session.topics().delete(&topic)?;
    }
    Ok(())
}

fn turn(session: &Session, tidemill: &Tidemill, (left, right): (&str, &str), each: u64) -> Result<Measure> {
    let output = session.fresh_topic("out")?;
    let route = Route { input: left, output: &output };
    let name = session.fresh_name("stitch");
    let eye = Eye::open(session.brokers(), &tidemill.group(&name), left)?;
    let running = tidemill.start(session, &name, route)?;
    let stitch = format!("{name}.stitch");
    let read = || Ok::<_, anyhow::Error>(eye.committed(left)? + eye.committed(right)?);
    let first = clock::until("the first results", WITHIN, PACE, || {
        running.check()?;
        (eye.written(&output)? > 0).then(&read).transpose()
    });
    let skipped = first.with_context(|| running.tail())?;
    let (begin, cpu_before) = (clock::now(), running.cpu()?);
    let last = clock::until("the last result", WITHIN, PACE, || {
        running.check()?;
        let is_read = read()? >= 2 * each;
        Ok((is_read && eye.committed(&stitch)? >= eye.written(&stitch)?).then_some(()))
    });
    last.with_context(|| running.tail())?;
    let (wall, cpu) = (begin.elapsed(), running.cpu()?.saturating_sub(cpu_before));
    let results = session.topics().count_visible(&output)?;
    ensure!(results == each, "{results} results of {each} pairs");
    running.stop()?;
    for topic in [output, stitch, tidemill.state_topic(&name)] {
        session.topics().delete(&topic)?;
    }
    Ok(Measure { records: (2 * each).saturating_sub(skipped), wall, cpu })
}
