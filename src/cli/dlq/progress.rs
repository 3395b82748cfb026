//! Which letters of a partition went back already: what the redrive group's offset and the metadata beside it say.
//!
//! Letters are chosen by filters, so those that went are no prefix of the log. The offset is that of the first letter
//! that did not go; the metadata are the lengths of the runs from there on, alternately of letters that did not and
//! that did: `redriven:3,1,5,2`. Only letters that are there count, so gaps and the letters of other functions cost
//! nothing; what lies beyond the last run did not go.

use std::ops::Range;

use anyhow::{Context as _, bail};

use crate::pipeline::METADATA_LIMIT;

const PREFIX: &str = "redriven:";

/// Metadata of a partition may grow up to here; the broker takes a third more.
const MOST_BYTES: usize = METADATA_LIMIT * 3 / 4;

/// What went back of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redriven {
    runs: Vec<Range<i64>>,
}

impl Redriven {
    /// Reads what was committed.
    pub fn read(offset: Option<i64>, metadata: &str) -> anyhow::Result<Self> {
        let Some(offset) = offset else { return Ok(Self::default()) };
        let mut runs: Vec<_> = std::iter::once(0..offset).collect();
        if !metadata.is_empty() {
            let lengths = metadata.strip_prefix(PREFIX).context("the metadata is not of a redrive")?;
            let (mut at, mut is_done) = (offset, false);
            for length in lengths.split(',') {
                let length: i64 =
                    length.parse().ok().filter(|n| *n > 0).context("the metadata is damaged")?;
                let end = at.checked_add(length).context("the metadata is damaged")?;
                if is_done {
                    runs.push(at..end);
                }
                (at, is_done) = (end, !is_done);
            }
        }
        Ok(Self { runs })
    }

    /// The letter at `offset` went back.
    pub fn contains(&self, offset: i64) -> bool {
        let after = self.runs.partition_point(|run| run.start <= offset);
        after.checked_sub(1).is_some_and(|at| self.runs[at].contains(&offset))
    }
}

/// What to commit for a partition that was read up to `end`: its letters in order, and whether each went back.
pub fn commit(letters: impl Iterator<Item = (i64, bool)>, end: i64) -> anyhow::Result<(i64, String)> {
    let mut metadata = String::new();
    let mut first = None;
    // Where the run at hand began, and whether its letters went.
    let (mut start, mut is_done, mut last) = (0, true, 0);
    let mut close = |length: i64| {
        metadata.push_str(if metadata.is_empty() { PREFIX } else { "," });
        metadata.push_str(&length.to_string());
    };
    for (offset, went) in letters {
        if first.is_none() && !went {
            first = Some(offset);
            (start, is_done) = (offset, false);
        } else if first.is_some() && went != is_done {
            // What lies between two letters is no letter of this function, and never will be one.
            close(offset - start);
            (start, is_done) = (offset, went);
        }
        last = offset;
    }
    if first.is_some() && is_done {
        close(last + 1 - start);
    }
    if metadata.len() > MOST_BYTES {
        bail!("{} bytes of metadata would be needed to note them, of at most {MOST_BYTES}", metadata.len());
    }
    Ok((first.unwrap_or(end), metadata))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_letters_cost_anything() {
        for (letters, expected) in [
            (&[][..], (90, "")),
            (&[(3, true), (5, true)], (90, "")),
            (&[(3, false), (5, false)], (3, "")),
            (&[(3, true), (5, false)], (5, "")),
            (&[(3, false), (5, true)], (3, "redriven:2,1")),
            (
                &[(3, false), (5, true), (9, true), (11, false), (20, false), (30, true)],
                (3, "redriven:2,6,19,1"),
            ),
        ] {
            let (offset, metadata) = commit(letters.iter().copied(), 90).unwrap();
            assert_eq!((offset, metadata.as_str()), expected, "{letters:?}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_be_noted_is_refused() {
        let all = (0..100_000).map(|offset| (offset, offset >= 50_000));
        assert!(commit(all, 100_000).is_ok());
        let every_second = (0..3_000).map(|offset| (offset, offset % 2 == 1));
        let message = commit(every_second, 3_000).unwrap_err().to_string();
        assert!(message.contains("of at most 3072"), "{message}");
    }

    #[test]
    fn metadata_of_others_is_refused() {
        for text in ["tm1:AAA", "redriven:", "redriven:1,x", "redriven:0", "redriven:9223372036854775807,1"] {
            assert!(Redriven::read(Some(5), text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_committed_is_read_back(
            steps in proptest::collection::vec((1i64..5, any::<bool>()), 0..200),
        ) {
            let mut at = 0;
            let letters: Vec<_> = steps.into_iter().map(|(step, went)| { at += step; (at, went) }).collect();
            let (offset, metadata) = commit(letters.iter().copied(), at + 1).unwrap();
            let read = Redriven::read(Some(offset), &metadata).unwrap();
            for (offset, went) in letters {
                prop_assert_eq!(read.contains(offset), went, "{} {}", offset, metadata);
            }
            prop_assert!(!read.contains(at + 1), "what comes later did not go");
        }
    }
}
