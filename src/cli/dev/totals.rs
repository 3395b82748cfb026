//! What was counted: shown when `dev` ends.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tap::{Happening, OwnedRecord};
use crate::pipeline::Settled;

/// What came of all events so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Events that were finished: the sum of the next three and all dead letters.
    pub events: u64,
    /// Handled.
    pub ok: u64,
    /// Skipped by the handler.
    pub skipped: u64,
    /// Refused by a filter.
    pub filtered: u64,
    /// Calls that failed and were tried again.
    pub retries: u64,
    /// Dead letters by reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// Outputs by topic.
    pub outputs: BTreeMap<String, u64>,
    /// Outputs that no sink took.
    pub unrouted: u64,
}

impl Totals {
    /// Counts one pass of an event.
    pub fn add(&mut self, happening: &Happening) {
        match &happening.settled {
            Settled::Ok { unrouted, .. } => {
                self.ok += 1;
                self.unrouted += u64::from(*unrouted);
            }
            Settled::Skipped => self.skipped += 1,
            Settled::Filtered => self.filtered += 1,
            Settled::DeadLetter { reason, .. } => {
                *self.dead_letters.entry(reason.as_str()).or_default() += 1;
            }
            Settled::Retry { .. } => self.retries += 1,
            // The function ends, and the event is read again by the next run.
            Settled::Stop { .. } => return,
        }
        self.events += u64::from(happening.is_final());
        self.add_outputs(&happening.outputs);
    }

    /// Counts outputs.
    pub fn add_outputs(&mut self, outputs: &[OwnedRecord]) {
        for output in outputs {
            match self.outputs.get_mut(&output.topic) {
                Some(count) => *count += 1,
                None => drop(self.outputs.insert(output.topic.clone(), 1)),
            }
        }
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let letters: u64 = self.dead_letters.values().sum();
        write!(
            f,
            "{}: {} ok, {} skipped, {} filtered, {}",
            counted(self.events, "event"),
            self.ok,
            self.skipped,
            self.filtered,
            counted(letters, "dead letter")
        )?;
        if self.retries > 0 {
            write!(f, "; {} tried again", counted(self.retries, "failed call"))?;
        }
        list(f, "dead letters", self.dead_letters.iter())?;
        list(f, "outputs", self.outputs.iter())?;
        if self.unrouted > 0 {
            write!(f, "\n  no sink took {}", counted(self.unrouted, "output"))?;
        }
        Ok(())
    }
}

/// `1 event`, `2 events`.
pub fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn list<'a, K: std::fmt::Display + 'a>(
    f: &mut std::fmt::Formatter<'_>,
    what: &str,
    counts: impl ExactSizeIterator<Item = (K, &'a u64)>,
) -> std::fmt::Result {
    if counts.len() == 0 {
        return Ok(());
    }
    write!(f, "\n  {what}:")?;
    for (place, (name, count)) in counts.enumerate() {
        write!(f, "{} {name} {count}", if place == 0 { "" } else { "," })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_name_what_there_was_and_nothing_else() {
        let mut totals = Totals { events: 1, ok: 1, ..Totals::default() };
        assert_eq!(totals.to_string(), "1 event: 1 ok, 0 skipped, 0 filtered, 0 dead letters");
        totals = Totals { events: 4, skipped: 1, retries: 2, unrouted: 1, ..totals };
        totals.dead_letters.extend([("rejected", 1), ("malformed", 1)]);
        totals.outputs.insert("out".to_owned(), 3);
        let shown = "4 events: 1 ok, 1 skipped, 0 filtered, 2 dead letters; 2 failed calls tried again\n  \
                     dead letters: malformed 1, rejected 1\n  outputs: out 3\n  no sink took 1 output";
        assert_eq!(totals.to_string(), shown);
    }
}
