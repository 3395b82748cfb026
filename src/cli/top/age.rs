//! How long ago the oldest unread record of a partition was written, without reading it each time: where a partition ended
//! when is remembered from look to look, and an offset's age is that of the moment at which the partition ended there.

use std::collections::VecDeque;

/// Ten minutes of looks; of what is older the first one stays.
const KEPT: usize = 600;

/// Where a partition ended, moment by moment.
#[derive(Debug, Default)]
pub struct Ends {
    /// Milliseconds since the epoch, and the end; both grow.
    ends: VecDeque<(i64, i64)>,
}

impl Ends {
    /// It ended there at that time.
    pub fn note(&mut self, at_ms: i64, end: i64) {
        match self.ends.back() {
            // It was made anew.
            Some((_, known)) if *known > end => self.ends.clear(),
            Some((known, _)) if *known >= at_ms => return,
            _ => {}
        }
        if self.ends.len() >= KEPT {
            // The first one stays: what was unread then may be unread for long.
            self.ends.remove(1);
        }
        // The moment at which it last ended there is the one that counts.
        let is_same = |place: usize| self.ends.get(place).is_some_and(|(_, known)| *known == end);
        if self.ends.len() >= 2 && is_same(self.ends.len() - 1) && is_same(self.ends.len() - 2) {
            self.ends.pop_back();
        }
        self.ends.push_back((at_ms, end));
    }

    /// The record at an offset was written then, as somebody has read.
    pub fn learn(&mut self, written_ms: i64, offset: i64) {
        self.ends.retain(|(at, end)| *at > written_ms && *end > offset);
        self.ends.push_front((written_ms, offset));
    }

    /// When the record at an offset was written, about; `None`: before anything that is remembered.
    pub fn written_ms(&self, offset: i64) -> Option<i64> {
        let after = self.ends.iter().position(|(_, end)| *end > offset)?;
        let (from, start) = *self.ends.get(after.checked_sub(1)?)?;
        let (to, end) = *self.ends.get(after)?;
        let share = (offset - start) as f64 / (end - start).max(1) as f64;
        Some(from + ((to - from) as f64 * share) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_as_old_as_the_moment_at_which_the_partition_ended_there() {
        let mut ends = Ends::default();
        for (at, end) in [(0, 10), (1000, 10), (2000, 10), (3000, 20), (4000, 20)] {
            ends.note(at, end);
        }
        assert_eq!(ends.written_ms(9), None, "it was there before the first look");
        assert_eq!(ends.written_ms(10), Some(2000), "nothing came until then");
        assert_eq!(ends.written_ms(15), Some(2500));
        assert_eq!(ends.written_ms(20), None, "it is not there");
        ends.learn(-5000, 4);
        assert_eq!(ends.written_ms(4), Some(-5000));
        assert_eq!(ends.written_ms(7), Some(-2500));
        ends.note(5000, 3);
        assert_eq!(ends.written_ms(2), None, "the topic was made anew");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ends = Ends::default();
        (0..5000).for_each(|n| ends.note(n * 1000, n * 10));
        assert_eq!(ends.ends.len(), KEPT);
        assert!(ends.written_ms(5).is_some(), "the first look stays");
        assert_eq!(ends.written_ms(49_900), Some(4_990_000));
    }
}
