//! `tidemill dlq list`: a line for each dead letter.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;

use super::choice::Choice;
use super::letter::{Letter, time};
use super::read::Log;
use super::{Global, Output, Which, redrive_group};
use crate::cli::connect;
use crate::cli::tail::{Shown, is_broken_pipe};

/// List a function's dead letters
///
/// From the start of the dead-letter topic to its end as it stands now, partition by partition. Joins no group and
/// commits nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill dlq list functions/ride-receipts
  tidemill dlq list functions/ride-receipts --reason rejected --reason malformed --since 2h
  tidemill dlq list functions/ride-receipts --output json | jq -c .event > events.jsonl

A line: id (PARTITION@OFFSET in the dead-letter topic), time of death, reason, calls, the event's place, its key, the
error. With --output json: one document a letter, with everything; `event` is as samples and `produce --records`
have it.")]
pub struct List {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    choice: Choice,
}

impl List {
    pub(super) fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        match self.print(global, &mut out) {
            // Whoever read this has seen enough.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            result => result.map(|()| ExitCode::SUCCESS),
        }
    }

    fn print(&self, global: &Global, out: &mut impl Write) -> anyhow::Result<()> {
        let function = self.which.function()?;
        let name = function.name.to_string();
        let topic = &function.delivery.dead_letter_topic;
        let mut log = Log::open(&connect::cluster_or_dev(global)?, topic, &redrive_group(&function))?;
        let redriven = log.redriven_if_known();
        let mut summary = Summary::default();
        let mut left = self.choice.limit.unwrap_or(usize::MAX);
        let width = width();
        log.read(&mut |record| {
            let Some(letter) = Letter::of(record, &name).filter(|letter| self.choice.takes(letter)) else {
                return Ok(ControlFlow::Continue(()));
            };
            if left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            left -= 1;
            let known = redriven.get(letter.id.partition as usize);
            let is_redriven = known.is_some_and(|known| known.contains(letter.id.offset));
            summary.count(&letter, is_redriven);
            match global.output {
                Output::Json => writeln!(out, "{}", letter.json(Some(is_redriven)))?,
                Output::Text => writeln!(out, "{}", line(&letter, is_redriven, width))?,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if global.output == Output::Text {
            writeln!(out, "{}", summary.text(&format!("{name} in {topic}")))?;
        }
        Ok(out.flush()?)
    }
}

/// Where a line ends: at the terminal's edge, or where it would in most.
pub(super) fn width() -> usize {
    let size = io::stdout().is_terminal().then(|| rustix::termios::tcgetwinsize(io::stdout()).ok());
    size.flatten().map_or(200, |size| usize::from(size.ws_col).max(40))
}

/// One line about a letter, of at most `width` characters.
pub(super) fn line(letter: &Letter<'_>, is_redriven: bool, width: usize) -> String {
    let calls = match letter.attempts {
        0 => "not called".to_owned(),
        1 => "1 call".to_owned(),
        n => format!("{n} calls"),
    };
    let mut text = format!(
        "{}  {}  {}  {calls}  {}  key {}",
        letter.id,
        time(letter.died_ms),
        letter.reason,
        letter.origin(),
        Shown(letter.record.key),
    );
    match letter.round() {
        0 => {}
        1 => text += "  back once",
        n => text += &format!("  back {n} times"),
    }
    if is_redriven {
        text += "  redriven";
    }
    text += &format!("  {}", letter.error);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// How many letters there are, by reason.
#[derive(Debug, Default)]
pub(super) struct Summary {
    reasons: BTreeMap<String, usize>,
    redriven: usize,
}

impl Summary {
    pub(super) fn count(&mut self, letter: &Letter<'_>, is_redriven: bool) {
        *self.reasons.entry(letter.reason.to_owned()).or_default() += 1;
        self.redriven += usize::from(is_redriven);
    }

    /// `3 dead letters of default/f in f.dlq: 2 rejected, 1 malformed; 1 of them redriven`.
    pub(super) fn text(&self, of: &str) -> String {
        let all: usize = self.reasons.values().sum();
        if all == 0 {
            return format!("no such dead letters of {of}");
        }
        let reasons: Vec<_> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let noun = if all == 1 { "dead letter" } else { "dead letters" };
        let redriven = match self.redriven {
            0 => String::new(),
            n => format!("; {n} of them redriven"),
        };
        format!("{all} {noun} of {of}: {}{redriven}", reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::Id;
    use super::super::letter::tests::dead;
    use super::*;

    #[test]
    fn a_line_is_one_line_and_no_longer_than_asked() {
        let kept =
            dead(Id { partition: 0, offset: 5 }, &[("tidemill-redrive", "2"), ("tidemill-error", "a\nb")]);
        let headers = kept.headers();
        let record = kept.record("f.dlq", &headers);
        let letter = Letter::of(&record, "default/f").unwrap();
        let whole =
            "0@5  1970-01-01T00:00:05Z  rejected  1 call  rides/3@42  key k  back 2 times  redriven  a b";
        assert_eq!(line(&letter, true, 200), whole);
        assert_eq!(line(&letter, true, 50), format!("{}…", &whole[..49]));
    }

    #[test]
    fn the_summary_counts_by_reason() {
        let kept = dead(Id { partition: 0, offset: 5 }, &[]);
        let headers = kept.headers();
        let record = kept.record("f.dlq", &headers);
        let mut summary = Summary::default();
        assert_eq!(summary.text("f"), "no such dead letters of f");
        summary.count(&Letter::of(&record, "default/f").unwrap(), false);
        assert_eq!(summary.text("f"), "1 dead letter of f: 1 rejected");
        summary.count(&Letter::of(&record, "default/f").unwrap(), true);
        assert_eq!(summary.text("f"), "2 dead letters of f: 2 rejected; 1 of them redriven");
    }
}
