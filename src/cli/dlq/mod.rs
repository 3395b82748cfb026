//! `tidemill dlq`: dead letters that can be looked at and brought back. One file a sub-verb; [`letter`] is what they
//! all speak of, [`read`] where they get it, [`choice`] which of them is meant, [`progress`] which went back already.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Global, Output, Which};
use crate::model::Function;

mod case;
mod choice;
pub(super) mod letter;
mod list;
mod order;
mod progress;
mod read;
mod redrive;
mod show;

/// Look at a function's dead letters and bring them back
///
/// What a function could not handle stands in its dead-letter topic, byte by byte, with headers that say what
/// happened. Of a topic that several functions share only this function's letters are meant.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill dlq list functions/ride-receipts --reason rejected --since 2h
  tidemill dlq show functions/ride-receipts 0@5
  tidemill dlq show functions/ride-receipts 0@5 --as-case >> functions/ride-receipts/cases.yaml
  tidemill dlq redrive functions/ride-receipts --reason rejected --dry-run
  tidemill dlq redrive functions/ride-receipts --reason rejected")]
pub struct DlqArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Show(show::Show),
    Redrive(redrive::Redrive),
}

impl DlqArgs {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::List(list) => list.run(global),
            Verb::Show(show) => show.run(global),
            Verb::Redrive(redrive) => redrive.run(global),
        }
    }
}

/// The group in which it is noted what was redriven; nobody joins it. Also the transactional id of whoever redrives.
fn redrive_group(function: &Function) -> String {
    format!("{}.redrive", function.group)
}
