//! Copies per second and per CPU-second, in turns.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bare::Kind;
use crate::contest::{Contestant, Field, Name, Route, Work};
use crate::fill::{KEYS, Shape, fill};
use crate::report::{self, Series};
use crate::session::{Place, Session};
use crate::subject::Function;
use crate::watch::{self, Measure};

/// Copies exactly once, a cut every 100 ms, one worker.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: cargo run --release -p tidemill-benches -- throughput --streams")]
pub struct Args {
    #[command(flatten)]
    pub load: Load,
    #[command(flatten)]
    pub field: Field,
}

/// How much to measure, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Records of the input; below 10 million a JVM is hardly warm
    #[arg(long, default_value_t = 12_000_000)]
    pub records: u64,
    /// How often everybody takes a turn
    #[arg(long, default_value_t = 3)]
    pub rounds: u32,
    #[command(flatten)]
    pub place: Place,
}

/// Measures the copy of bytes.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open(&args.load.place)?;
    let cut = Duration::from_millis(100);
    let work = Work { bare: Kind::Eosb, bare_cut: cut, function: Function::echo(cut) };
    let contestants = args.field.contestants(&session, &work)?;
    let race = Race {
        session: &session,
        load: &args.load,
        shape: Shape::Plain { keys: KEYS },
        expected: args.load.records,
    };
    let results = race.run(&contestants)?;
    let work = format!(
        "no-op copy, exactly once, cut 100 ms, {} records of 100 bytes",
        report::rate(args.load.records as f64)
    );
    report::row(&work, &results.figure());
    Ok(())
}

/// Everybody in turn, over the same input.
pub struct Race<'a> {
    /// Where.
    pub session: &'a Session,
    /// How much.
    pub load: &'a Load,
    /// Of what.
    pub shape: Shape,
    /// How many records Tidemill emits; everybody else copies all.
    pub expected: u64,
}

impl Race<'_> {
    /// Fills the input, warms the broker up, then measures in turns.
    pub fn run(&self, contestants: &[Contestant]) -> Result<Results> {
        let Load { records, rounds, .. } = *self.load;
        let input = self.session.fresh_topic("in")?;
        eprintln!("writing {records} records");
        fill(self.session.brokers(), &input, records, self.shape)?;
        let results = in_turns(contestants, rounds, |contestant| self.turn(contestant, &input))?;
        self.session.topics().delete(&input)?;
        Ok(results)
    }

    /// One contestant alone; then what it wrote is counted, because a copy that loses or doubles
    /// records has no speed.
    fn turn(&self, contestant: &Contestant, input: &str) -> Result<Measure> {
        let output = self.session.fresh_topic("out")?;
        let records = self.load.records;
        let route = Route { input, output: &output };
        let measure = watch::measure(self.session, contestant, route, records)?;
        let expected = if contestant.name() == Name::Tidemill { self.expected } else { records };
        let visible = self.session.topics().count_visible(&output)?;
        ensure!(visible == expected, "{} wrote {visible} records, not {expected}", contestant.name().text());
        self.session.topics().delete(&output)?;
        Ok(measure)
    }
}

/// Everybody, then everybody again; one turn before that is thrown away.
pub fn in_turns(
    contestants: &[Contestant],
    rounds: u32,
    mut turn: impl FnMut(&Contestant) -> Result<Measure>,
) -> Result<Results> {
    let mut results = Results::default();
    if let Some(first) = contestants.first() {
        eprintln!("warming the broker up");
        turn(first)?;
    }
    for round in 1..=rounds {
        for contestant in contestants {
            let measure = turn(contestant)?;
            println!("round {round}: {}", results.add(contestant.name(), &measure));
        }
    }
    Ok(results)
}

/// What came out.
#[derive(Debug, Default)]
pub struct Results {
    per_second: Series,
    per_cpu_second: Series,
}

impl Results {
    /// Takes a measurement; the line to print about it.
    fn add(&mut self, name: Name, measure: &Measure) -> String {
        self.per_second.push(name, measure.per_second());
        self.per_cpu_second.push(name, measure.per_cpu_second());
        format!(
            "{:<8} {}/s, {}/cpu-s ({:.2} s wall, {:.2} s cpu)",
            name.text(),
            report::rate(measure.per_second()),
            report::rate(measure.per_cpu_second()),
            measure.wall.as_secs_f64(),
            measure.cpu.as_secs_f64()
        )
    }

    /// Tidemill's medians with and without what is measured, and their ratio.
    pub fn figure_against(&self, other: Name) -> String {
        let rates = |name| {
            let (wall, cpu) = self.per_second.median(name).zip(self.per_cpu_second.median(name))?;
            Some(format!("{}/s, {}/cpu-s", report::rate(wall), report::rate(cpu)))
        };
        let ratios = self.per_second.ratio(other).zip(self.per_cpu_second.ratio(other));
        let ratios =
            ratios.map(|(wall, cpu)| format!("**{wall:.2} × per second, {cpu:.2} × per CPU-second**"));
        let parts = [
            rates(Name::Tidemill).map(|rates| format!("with {rates}")),
            rates(other).map(|rates| format!("without {rates}")),
            ratios,
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Medians, and Tidemill's by everybody else's.
    pub fn figure(&self) -> String {
        let mut parts = Vec::new();
        for name in [Name::Tidemill, Name::Bare, Name::Streams, Name::StreamsMemory] {
            if let Some((wall, cpu)) = self.per_second.median(name).zip(self.per_cpu_second.median(name)) {
                parts.push(format!("{} {}/s, {}/cpu-s", name.text(), report::rate(wall), report::rate(cpu)));
            }
        }
        for name in [Name::Bare, Name::Streams, Name::StreamsMemory] {
            if let Some((wall, cpu)) = self.per_second.ratio(name).zip(self.per_cpu_second.ratio(name)) {
                parts.push(format!("**{wall:.2} × {} per second, {cpu:.2} × per CPU-second**", name.text()));
            }
        }
        parts.join("; ")
    }
}
