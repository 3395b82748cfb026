//! `tidemill dlq show`: everything about one dead letter.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::letter::{Id, Letter, time};
use super::read::Log;
use super::{Global, Output, Which, case, redrive_group};
use crate::cli::connect;
use crate::cli::tail::Shown;
use crate::cli::test::CASES;

/// Show everything about one dead letter
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill dlq show functions/ride-receipts 0@5
  tidemill dlq show functions/ride-receipts 0@5 --as-case >> functions/ride-receipts/cases.yaml
  tidemill dlq show functions/ride-receipts 0@5 --output json | jq -c .event |
    tidemill invoke functions/ride-receipts --event -")]
pub struct Show {
    #[command(flatten)]
    which: Which,
    /// Which one, as `dlq list` shows it
    #[arg(value_name = "PARTITION@OFFSET")]
    id: Id,
    /// Print a case for cases.yaml: `tidemill test` fails until the handler handles the event
    #[arg(long)]
    as_case: bool,
}

impl Show {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let function = self.which.function()?;
        let name = function.name.to_string();
        let topic = &function.delivery.dead_letter_topic;
        let mut log = Log::open(&connect::cluster_or_dev(global)?, topic, &redrive_group(&function))?;
        let kept = log.fetch(&[self.id])?.remove(0);
        let headers = kept.headers();
        let record = kept.record(topic, &headers);
        let letter = Letter::of(&record, &name)
            .with_context(|| format!("{topic}/{} is no dead letter of {name}", self.id))?;
        if self.as_case {
            let file = function.file.with_file_name(CASES);
            // Whoever appends to a file that was not there has just made it, empty.
            if std::fs::metadata(file).map_or(true, |file| file.len() == 0) {
                println!("cases:");
            }
            print!("{}", case::render(&letter, &function));
            return Ok(ExitCode::SUCCESS);
        }
        let redriven = log.redriven_if_known();
        let is_redriven =
            redriven.get(self.id.partition as usize).is_some_and(|known| known.contains(self.id.offset));
        match global.output {
            Output::Json => println!("{}", letter.json(Some(is_redriven))),
            Output::Text => print!("{}", text(&letter, &name, topic, is_redriven)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(letter: &Letter<'_>, function: &str, topic: &str, is_redriven: bool) -> String {
    let mut text = format!("dead letter {} of {function} in {topic}\n", letter.id);
    let mut put = |name: &str, value: &str| text += &format!("  {name:9} {value}\n");
    put("died", &format!("{}, {} calls", time(letter.died_ms), letter.attempts));
    put("reason", letter.reason);
    put("error", &Shown(Some(letter.error.as_bytes())).to_string());
    match &letter.place {
        Ok(place) => put("event", &format!("{} of {}", letter.origin(), time(place.timestamp_ms))),
        Err(error) => put("event", &error.to_string()),
    }
    if letter.round() > 0 {
        put("back", &format!("{} times before it died this time", letter.round()));
    }
    if is_redriven {
        put("redriven", "yes");
    }
    put("key", &Shown(letter.record.key).to_string());
    letter.with_event(|event| {
        for header in event.headers() {
            put("header", &format!("{}: {}", header.name, Shown(header.value)));
        }
        put("value", &Shown(event.value).to_string());
    });
    text
}
