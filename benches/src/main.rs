//! `tidemill-bench`: Tidemill against the bare librdkafka loops and Kafka Streams, on a real Apache
//! Kafka, in one run and in turns. What is measured, and how to read it: `benches/README.md`.
//!
//! | file | what |
//! |---|---|
//! | `throughput`, `cloudevents`, `cost`, `windows`, `stitch`, `fanout`, `latency`, `idle` | one command each |
//! | `crowd` | many functions in one process |
//! | `contest` | who is measured, and how each is started |
//! | `subject`, `streams`, `bare` | Tidemill, Kafka Streams, the loops |
//! | `watch`, `ping` | the two ways to measure, both from outside, the same for all |
//! | `timeline` | event time: what windows are to make of an input |
//! | `sink` | a collector of telemetry |
//! | `session`, `kafka`, `topics`, `process`, `report`, `clock` | what the commands stand on |

mod awake;
mod bare;
mod clock;
mod cloudevents;
mod contest;
mod cost;
mod crowd;
mod fanout;
mod fill;
mod filtered;
mod idle;
mod kafka;
mod latency;
mod memory;
mod ping;
mod process;
mod report;
mod restore;
mod session;
mod sink;
mod sleepers;
mod step;
mod stitch;
mod streams;
mod subject;
mod throughput;
mod timeline;
mod topics;
mod wake;
mod watch;
mod windows;

use clap::{Parser, Subcommand};

/// Measures Tidemill against bare librdkafka loops and Kafka Streams on a real Apache Kafka
#[derive(Debug, Parser)]
#[command(name = "tidemill-bench", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Copies records exactly once: per second and per CPU-second
    Throughput(throughput::Args),
    /// Filters CloudEvents, calls a typed JSON handler and emits, against the bare copy
    Cloudevents(cloudevents::Args),
    /// Calls side by side, dead letters, failing keys, traces: against a copy without them
    Cost(cost::Args),
    /// Counts by key and window, against Kafka Streams
    Windows(windows::Args),
    /// Two sources brought together by key and stitched
    Stitch(stitch::Args),
    /// Slow calls side by side, until the last result is visible
    Fanout(fanout::Args),
    /// Time from produce to the read_committed result
    Latency(latency::Args),
    /// Memory and CPU of a process whose one function has nothing to do
    Idle(idle::Args),
    /// Time until a worker has its state again
    Restore(restore::Args),
    /// Memory of open windows
    Memory(memory::Args),
    /// Time until enough workers are busy with records that come all at once
    Step(step::Args),
    /// What many functions cost that sleep in one process
    Sleepers(sleepers::Args),
    /// Many functions at zero that want little of one topic
    Filtered(filtered::Args),
    /// Memory of many functions that are awake, and what they feel of a busy one
    Awake(awake::Args),
    /// Time until the event that wakes a function has its result
    Wake(wake::Args),
    /// One bare librdkafka loop; the other commands run it as a child
    Bare(bare::Args),
    /// Runs a program that ends when its parent does
    #[command(hide = true)]
    Leash(process::LeashArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Throughput(args) => throughput::run(&args),
        Verb::Cloudevents(args) => cloudevents::run(&args),
        Verb::Cost(args) => cost::run(&args),
        Verb::Windows(args) => windows::run(&args),
        Verb::Stitch(args) => stitch::run(&args),
        Verb::Fanout(args) => fanout::run(&args),
        Verb::Latency(args) => latency::run(&args),
        Verb::Idle(args) => idle::run(&args),
        Verb::Restore(args) => restore::run(&args),
        Verb::Memory(args) => memory::run(&args),
        Verb::Step(args) => step::run(&args),
        Verb::Sleepers(args) => sleepers::run(&args),
        Verb::Filtered(args) => filtered::run(&args),
        Verb::Awake(args) => awake::run(&args),
        Verb::Wake(args) => wake::run(&args),
        Verb::Bare(args) => bare::run(&args),
        Verb::Leash(args) => process::leash(&args),
    }
}
