//! Events whose outputs the broker refused.
//!
//! One refused output aborts its whole transaction. The report names the lane and the offset: after
//! the abort that event runs alone in a cut, so its neighbours go on, and if it is refused again it
//! becomes a dead letter.

use std::collections::HashMap;

use crate::kafka::Partition;

/// How an event under suspicion is to be treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Treatment {
    /// Like any other.
    Normal,
    /// In a cut of its own.
    Alone,
    /// It was refused alone: a dead letter, with this error.
    DeadLetter(String),
}

/// The events under suspicion; empty nearly always.
#[derive(Debug, Default)]
pub struct Suspects {
    events: HashMap<(Partition, i64), (u32, String)>,
}

impl Suspects {
    /// At most so many are remembered; more at once point to a broken topic, not to broken events,
    /// and are tried again like the others.
    const MOST: usize = 10_000;

    /// An output of this event was refused.
    pub fn accuse(&mut self, partition: &Partition, offset: i64, reason: &str) {
        if self.events.len() < Self::MOST {
            let entry =
                self.events.entry((partition.clone(), offset)).or_insert_with(|| (0, reason.to_owned()));
            entry.0 += 1;
        }
    }

    /// What to do with this event.
    #[inline]
    pub fn treatment(&self, topic: &str, partition: i32, offset: i64) -> Treatment {
        if self.events.is_empty() {
            return Treatment::Normal;
        }
        let key = (Partition { topic: topic.to_owned(), partition }, offset);
        match self.events.get(&key) {
            None => Treatment::Normal,
            Some((1, _)) => Treatment::Alone,
            Some((_, reason)) => Treatment::DeadLetter(reason.clone()),
        }
    }

    /// Accusations against events below the committed offset are settled.
    pub fn settle(&mut self, partition: &Partition, committed: i64) {
        self.events.retain(|(at, offset), _| at != partition || *offset >= committed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_event_runs_alone_and_then_is_a_dead_letter() {
        let mut suspects = Suspects::default();
        let partition = Partition { topic: "rides".into(), partition: 3 };
        assert_eq!(suspects.treatment("rides", 3, 7), Treatment::Normal);
        suspects.accuse(&partition, 7, "too large");
        assert_eq!(suspects.treatment("rides", 3, 7), Treatment::Alone);
        assert_eq!(suspects.treatment("rides", 3, 8), Treatment::Normal);
        suspects.accuse(&partition, 7, "too large");
        assert_eq!(suspects.treatment("rides", 3, 7), Treatment::DeadLetter("too large".into()));
        suspects.settle(&partition, 8);
        assert_eq!(suspects.treatment("rides", 3, 7), Treatment::Normal);
    }
}
