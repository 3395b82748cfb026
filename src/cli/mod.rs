//! What a person types: one file a verb.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
enum Verb {}

impl Cli {
    /// Runs the verb. Exit codes: 0 done, 1 failed, 2 wrong usage or an invalid manifest.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {}
    }
}
