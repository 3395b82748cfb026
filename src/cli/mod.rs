//! What a person types: one file a verb.

mod connect;
mod lag;
mod produce;
pub mod sample;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use connect::{DEV_BROKER_FILE, cluster, cluster_or_dev, dev_broker_file};

/// A Kafka-native stream function processor.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The platform's settings (brokers, security, listeners); `tidemill.yaml` here if it exists
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Kafka's addresses, `host:port,host:port`
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub brokers: Option<String>,
    /// What is printed on standard output
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Form of what a verb prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs: one JSON document, or one a line where output goes on.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Produce(produce::ProduceArgs),
    Tail(tail::TailArgs),
    Lag(lag::LagArgs),
}

impl Cli {
    /// Runs the verb. Exit codes: 0 done, 1 failed, 2 wrong usage or an invalid manifest.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Produce(args) => args.run(&self.global),
            Verb::Tail(args) => args.run(&self.global),
            Verb::Lag(args) => args.run(&self.global),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_verb_is_well_formed() {
        Cli::command().debug_assert();
    }
}
