//! `tidemill why`: what a key of a function with a window or state waits for, and what is kept of it. [`look`] asks the cluster, [`report`] is what it
//! found, and says it.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use super::{Global, Output, Which, connect};
use crate::model::{Clock as _, SystemClock};

mod look;
mod report;

/// Say why a key has given no result yet
///
/// Shows what a function with a window or state has of one key: its open windows, what they lack, when they close and what
/// holds time back; timers; names of values that the handler keeps, and rows of tables that are kept by key; results of
/// windows and timers that wait for their handler; what was late or became a dead letter lately; and what is still to be
/// read. It reads the state topic, the group's offsets and the dead letters, whether or not a worker runs: all of it as of
/// the last cut. Joins no group and commits nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill why functions/ride-loyalty ada
  tidemill why functions/ride-loyalty ada --show-values
  tidemill why functions/ride-loyalty --key-base64 AAE= --output json | jq '.reasons[]'

The key is the function's: the record's, or what `key` of the source makes of an event.

Exit codes: 0 it was looked up, whatever was found; 1 it could not be; 2 wrong usage or an invalid manifest.")]
pub struct Why {
    #[command(flatten)]
    which: Which,
    /// The key
    #[arg(value_name = "KEY", required_unless_present = "key_base64", conflicts_with = "key_base64")]
    key: Option<String>,
    /// The key in base64, if it is no text
    #[arg(long, value_name = "BASE64", value_parser = base64)]
    key_base64: Option<Base64>,
    /// Where its events are, if their producer does not partition as Java's does by default
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// So many of its late events and dead letters, the newest
    #[arg(long, value_name = "N", default_value_t = 5)]
    dead_letters: usize,
    /// Show events, aggregates, kept values and rows too, and not only where they are
    #[arg(long)]
    show_values: bool,
}

#[derive(Debug, Clone)]
struct Base64(Vec<u8>);

fn base64(text: &str) -> Result<Base64, String> {
    STANDARD.decode(text).map(Base64).map_err(|error| format!("not base64: {error}"))
}

impl Why {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let function = self.which.function()?;
        let key = match (self.key, self.key_base64) {
            (Some(text), _) => text.into_bytes(),
            (None, base64) => base64.map(|base64| base64.0).unwrap_or_default(),
        };
        let question = look::Question {
            function: &function,
            key: &key,
            partition: self.partition,
            dead_letters: self.dead_letters,
            shows_values: self.show_values,
        };
        let report = look::look(&connect::cluster(global)?, &question)?;
        match global.output {
            Output::Json => println!("{}", report.json()?),
            Output::Text => print!("{}", report.text(SystemClock::start().now().wall_ms)),
        }
        Ok(ExitCode::SUCCESS)
    }
}
