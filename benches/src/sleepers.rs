//! What many functions cost that sleep in one process.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::contest::Route;
use crate::crowd::Crowd;
use crate::kafka::Making;
use crate::process::{Memory, Running};
use crate::session::{Place, Session};
use crate::subject::{Function, Tidemill};
use crate::{clock, report};

/// Memory, connections and CPU time of a process whose functions are all at zero, more than of one without functions.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: cargo run --release -p tidemill-benches -- sleepers --functions 1000 --partitions 12"
)]
pub struct Args {
    /// How many functions, each with a topic of its own
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub functions: u32,
    /// Partitions of each topic
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// Seconds that are measured
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    #[command(flatten)]
    pub place: Place,
}

/// A broker of many partitions.
pub const MANY: Making<'static> = Making {
    heap_mib: 3072,
    // Each partition has two index files, whose full size is reserved.
    settings: &[("log.index.size.max.bytes", "65536"), ("group.initial.rebalance.delay.ms", "0")],
    java: &[],
};

/// Sleeps as soon as it may.
pub fn sleepy() -> Function {
    Function {
        scale: "min: 0, max: 1, zeroAfter: 1s".to_owned(),
        ..Function::echo(Duration::from_millis(100))
    }
}

/// For what was there for a moment to be given back.
const SETTLE: Duration = Duration::from_secs(20);

struct Cost {
    memory: Memory,
    connections: usize,
    threads: u64,
    cpu: f64,
}

impl Cost {
    fn of(running: &Running, brokers: &str, time: Duration) -> Result<Self> {
        clock::pause(SETTLE);
        let (begin, before) = (clock::now(), running.cpu()?);
        clock::pause(time);
        let (wall, cpu) = (begin.elapsed(), running.cpu()?.saturating_sub(before));
        Ok(Self {
            memory: running.memory()?,
            connections: running.connections(brokers)?.len(),
            threads: running.threads()?,
            cpu: cpu.as_secs_f64() / wall.as_secs_f64() * 100.0,
        })
    }

    fn shown(&self) -> String {
        format!(
            "{:.1} MiB resident (at most {:.1} MiB), {} connections, {} threads, {:.2} % of a core",
            report::mib(self.memory.resident),
            report::mib(self.memory.peak),
            self.connections,
            self.threads,
            self.cpu
        )
    }
}

/// Measures it.
pub fn run(args: &Args) -> Result<()> {
    let session = Session::open_with(&args.place, &MANY)?;
    let tidemill = Tidemill::build(&sleepy())?;
    let time = Duration::from_secs(args.seconds);
    let running = empty(&session, &tidemill)?;
    let none = Cost::of(&running, session.brokers(), time)?;
    println!("without functions: {}", none.shown());
    running.stop()?;
    let crowd = Crowd::gather(&session, args.functions as usize, args.partitions, false)?;
    let begin = clock::now();
    let running = crowd.start(&session, (&tidemill, &["run", "--watch"]), |_| sleepy())?;
    crowd.wait_until_asleep(&running)?;
    println!("all sleep after {:.1} s", begin.elapsed().as_secs_f64());
    let all = Cost::of(&running, session.brokers(), time)?;
    println!("asleep: {}", all.shown());
    running.stop()?;
    let work = format!(
        "{} functions at zero in one process, each with a topic of {} partitions, one broker, over {} s, more than without functions",
        args.functions, args.partitions, args.seconds
    );
    let figure = format!(
        "**{:.1} MiB resident, {} connections, {:.2} % of a core**; {} threads; at most {:.1} MiB while all start",
        report::mib(all.memory.resident.saturating_sub(none.memory.resident)),
        all.connections.saturating_sub(none.connections),
        all.cpu - none.cpu,
        all.threads.saturating_sub(none.threads),
        report::mib(all.memory.peak)
    );
    report::row(&work, &figure);
    Ok(())
}

/// A process whose only function has left: there is none without any manifest at its start.
fn empty(session: &Session, tidemill: &Tidemill) -> Result<Running> {
    let name = session.fresh_name("none");
    let route = Route { input: "bench-none", output: "bench-nowhere" };
    let running = tidemill.start_all(session, &name, &[(&name, &sleepy(), route)], &["run", "--watch"])?;
    running.wait_for("waiting for a topic", 1, SETTLE)?;
    fs::remove_file(session.run_dir().join(&name).join("functions").join(format!("{name}.yaml")))?;
    running.wait_for("function leaves", 1, SETTLE)?;
    Ok(running)
}
