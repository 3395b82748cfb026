//! Event time of a lane that several source partitions feed. Each has a watermark, and what the lane may close is decided
//! by the least of those that are not idle. A partition that is known to exist and has not been heard of holds time; when
//! all are idle, the greatest of them counts: none of them holds the others back any more.

use serde::{Deserialize, Serialize};

/// What is known of one source partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The source's place in the manifest.
    pub source: u16,
    /// The partition.
    pub partition: i32,
    /// Its newest event's time, milliseconds since the epoch; `i64::MIN` before the first.
    pub watermark_ms: i64,
    /// It was read to its end and has been quiet.
    pub is_idle: bool,
}

/// The source partitions of a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How many partitions each source has, as far as that was announced.
    counts: Vec<u32>,
    /// By source and partition.
    parts: Vec<Part>,
    /// Sources that say nothing of time: tables.
    #[serde(skip)]
    timeless: Vec<u16>,
    /// As [`Progress::lane_ms`] would find it.
    #[serde(skip)]
    found: Option<i64>,
}

impl Progress {
    /// Nothing is known yet of so many sources.
    pub fn new(sources: usize) -> Self {
        Self { counts: vec![0; sources], parts: Vec::new(), timeless: Vec::new(), found: None }
    }

    /// These sources say nothing of time.
    pub fn without(self, timeless: &[u16]) -> Self {
        let mut without = Self { timeless: timeless.to_vec(), ..self };
        without.found = without.find();
        without
    }

    /// A source has so many partitions. Kafka never takes partitions away.
    pub fn announce(&mut self, source: u16, partitions: u32) {
        if let Some(count) = self.counts.get_mut(usize::from(source)) {
            *count = partitions.max(*count);
            self.found = self.find();
        }
    }

    /// A source partition has come so far.
    pub fn report(&mut self, part: Part) {
        match self.place(part.source, part.partition) {
            Ok(at) => {
                let known = &mut self.parts[at];
                known.watermark_ms = known.watermark_ms.max(part.watermark_ms);
                known.is_idle = part.is_idle;
            }
            Err(at) => self.parts.insert(at, part),
        }
        self.found = self.find();
    }

    /// An event of a source partition was placed.
    #[inline]
    pub fn placed(&mut self, source: u16, partition: i32, time_ms: i64) {
        if let Ok(at) = self.place(source, partition) {
            let known = &mut self.parts[at];
            if !known.is_idle {
                // Only the one that holds the others back lets them go.
                let holds = Some(known.watermark_ms) == self.found || self.found.is_none();
                known.watermark_ms = known.watermark_ms.max(time_ms);
                if holds {
                    self.found = self.find();
                }
                return;
            }
        }
        self.report(Part { source, partition, watermark_ms: time_ms, is_idle: false });
    }

    /// The source partition is idle, and had come so far before: an event of it that is handled only now, since its call
    /// failed before or it waited behind others, says nothing new.
    pub fn is_past(&self, source: u16, partition: i32, time_ms: i64) -> bool {
        let known = self.place(source, partition).ok().and_then(|at| self.parts.get(at));
        known.is_some_and(|known| known.is_idle && time_ms <= known.watermark_ms)
    }

    /// How far the lane has come; `None`: a source partition has not been heard of.
    #[inline]
    pub fn lane_ms(&self) -> Option<i64> {
        self.found
    }

    /// The source partition that holds time back: one that has not been heard of, by its source's and its own number, else
    /// the one that is furthest behind. `None`: none does.
    pub fn slowest(&self) -> Option<(u16, i32)> {
        let timed = self.counts.iter().zip(0..).filter(|(_, source)| !self.timeless.contains(source));
        let mut all = timed.flat_map(|(count, source)| {
            (0..i32::try_from(*count).unwrap_or(i32::MAX)).map(move |partition| (source, partition))
        });
        let unheard = all.find(|(source, partition)| self.place(*source, *partition).is_err());
        let active = self.parts.iter().filter(|part| !part.is_idle);
        unheard
            .or_else(|| active.min_by_key(|part| part.watermark_ms).map(|part| (part.source, part.partition)))
    }

    /// No source partition holds time: it may go on with the clock.
    pub fn is_idle(&self) -> bool {
        self.found.is_some() && self.parts.iter().all(|part| part.is_idle)
    }

    pub(super) fn sources(&self) -> usize {
        self.counts.len()
    }

    /// All of them, by source and partition.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn place(&self, source: u16, partition: i32) -> Result<usize, usize> {
        self.parts.binary_search_by_key(&(source, partition), |part| (part.source, part.partition))
    }

    /// All partitions of a source were heard of. One can be heard of before it is announced, which is none of the others.
    fn has_all(&self, source: u16, count: u32) -> bool {
        let at = |partition: i32| self.place(source, partition).unwrap_or_else(|at| at);
        count > 0 && at(i32::try_from(count).unwrap_or(i32::MAX)) - at(0) == count as usize
    }

    fn find(&self) -> Option<i64> {
        let mut timed = self.counts.iter().zip(0..).filter(|(_, source)| !self.timeless.contains(source));
        if !timed.all(|(count, source)| self.has_all(source, *count)) {
            return None;
        }
        let active = self.parts.iter().filter(|part| !part.is_idle).map(|part| part.watermark_ms).min();
        active.or_else(|| self.parts.iter().map(|part| part.watermark_ms).max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(source: u16, partition: i32, watermark_ms: i64, is_idle: bool) -> Part {
        Part { source, partition, watermark_ms, is_idle }
    }

    #[test]
    fn the_least_of_those_that_are_not_idle_counts() {
        let mut progress = Progress::new(2);
        progress.announce(0, 1);
        progress.placed(0, 0, 100);
        assert_eq!(progress.lane_ms(), None, "the other source was not heard of");
        progress.announce(1, 2);
        progress.report(part(1, 0, 50, false));
        assert_eq!(progress.lane_ms(), None, "nor was its second partition");
        assert_eq!(progress.slowest(), Some((1, 1)));
        progress.report(part(1, 1, i64::MIN, false));
        assert_eq!(progress.lane_ms(), Some(i64::MIN), "which is heard of, but has no event");
        progress.report(part(1, 1, i64::MIN, true));
        assert_eq!((progress.lane_ms(), progress.slowest()), (Some(50), Some((1, 0))));
        progress.placed(1, 0, 70);
        assert_eq!(progress.lane_ms(), Some(70));
        progress.placed(1, 0, 60);
        assert_eq!(progress.lane_ms(), Some(70), "time never goes back");
        progress.report(part(1, 0, 70, true));
        assert_eq!((progress.lane_ms(), progress.is_idle()), (Some(100), false));
        progress.report(part(0, 0, 100, true));
        assert_eq!((progress.lane_ms(), progress.is_idle()), (Some(100), true));
        assert_eq!(progress.slowest(), None);
        progress.placed(1, 1, 80);
        assert_eq!((progress.lane_ms(), progress.is_idle()), (Some(80), false));
        progress.announce(0, 2);
        assert_eq!(progress.lane_ms(), None, "a new partition holds time until it is heard of");
    }

    #[test]
    fn what_waited_for_its_call_wakes_no_idle_partition() {
        let mut progress = Progress::new(1);
        progress.announce(0, 1);
        progress.report(part(0, 0, 100, false));
        assert!(!progress.is_past(0, 0, 90), "it is not idle");
        progress.report(part(0, 0, 100, true));
        assert!(progress.is_past(0, 0, 100) && !progress.is_past(0, 0, 101) && !progress.is_past(0, 1, 90));
    }

    #[test]
    fn a_partition_that_was_not_announced_stands_for_no_other() {
        let mut progress = Progress::new(2);
        progress.announce(0, 1);
        progress.announce(1, 2);
        progress.placed(0, 0, 100);
        progress.placed(0, 1, 100);
        progress.placed(1, 1, 100);
        assert_eq!(progress.lane_ms(), None, "partition 0 of the other source was not heard of");
        progress.placed(1, 0, 50);
        assert_eq!(progress.lane_ms(), Some(50));
    }
}
