//! Sources that are clocks: whoever has the first partition of a clock's topic is the clock.
//!
//! A tick that is due is written into that topic within the worker's transaction, with the checkpoint of that very
//! lane: its watermark is the last tick, its `wakeAt` the next. So a tick is made and noted at once or not at all, and
//! a zombie, whose offsets are refused, makes none. What was written comes back as an event like any other.
//!
//! A lane without a last tick begins now, and so does one whose next tick is not what its manifest says: that one
//! has changed. Where it begins is committed before the first tick, so no restart in between passes one over.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use crate::kafka::Origin;
use crate::model::{Due, Function, FunctionName, Schedule};
use crate::observe::Exposition;
use crate::observe::events::TicksMissed;
use crate::observe::metrics::Id;
use crate::pipeline::Checkpoint;

/// The partition whose owner is the clock, however many there are.
pub const CLOCK_PARTITION: i32 = 0;

/// The most ticks of one cut.
const MOST: usize = 1000;

/// One clock.
struct Clock {
    name: String,
    topic: Arc<str>,
    schedule: Schedule,
    /// A time that was asked about, and the first tick after it.
    known: Option<(i64, Option<i64>)>,
    /// Ticks without an event of their own, since the last cut.
    missed: u64,
    skipped: u64,
}

/// The clocks of a function, in the order of its sources.
pub struct Ticks {
    clocks: Vec<Clock>,
    /// When the next tick is due of those that this worker makes, milliseconds since the epoch.
    next_ms: Option<i64>,
}

impl Ticks {
    /// The clocks of `function`.
    pub fn new(function: &Function) -> Self {
        let clocks = function.sources.iter().filter_map(|source| {
            Some(Clock {
                name: source.name.clone(),
                topic: source.topic.as_str().into(),
                schedule: source.schedule.clone()?,
                known: None,
                missed: 0,
                skipped: 0,
            })
        });
        Self { clocks: clocks.collect(), next_ms: None }
    }

    /// What was done since the last cut stands: says which ticks became no event of their own.
    fn committed(&mut self, function: &FunctionName, exposition: &Exposition) {
        for clock in self.clocks.iter_mut().filter(|clock| clock.missed + clock.skipped > 0) {
            let (made_good, skipped) = (clock.missed, clock.skipped);
            (clock.missed, clock.skipped) = (0, 0);
            TicksMissed { source: &clock.name, made_good, skipped }.emit();
            exposition
                .counter(Id::SourceMissedTicks, &[("function", &function.to_string())])
                .increment(made_good + skipped);
        }
    }

    /// What was done since the last cut is undone.
    pub fn rolled_back(&mut self) {
        self.clocks.iter_mut().for_each(|clock| (clock.missed, clock.skipped) = (0, 0));
    }
}

impl Clock {
    /// What is to be done at `now_ms` by the owner of the lane with this checkpoint, which is moved on. `None`: nothing.
    fn turn(&mut self, checkpoint: &mut Checkpoint, now_ms: i64) -> Option<Due> {
        let last_ms = checkpoint.watermark_ms;
        let is_known = last_ms != i64::MIN && checkpoint.wake_at_ms == self.wake_after(last_ms);
        if !is_known {
            self.move_to(checkpoint, now_ms);
            return Some(Due { until_ms: now_ms, ..Due::default() });
        }
        let is_begun = checkpoint.cut > 0;
        if !is_begun || self.next_after(last_ms).is_none_or(|next| next > now_ms) {
            return None;
        }
        let due = self.schedule.due(last_ms, now_ms, MOST);
        self.move_to(checkpoint, due.until_ms);
        self.missed += due.ticks.iter().map(|tick| tick.missed).sum::<u64>();
        self.skipped += due.skipped;
        Some(due)
    }

    fn move_to(&mut self, checkpoint: &mut Checkpoint, time_ms: i64) {
        checkpoint.watermark_ms = time_ms;
        checkpoint.wake_at_ms = self.wake_after(time_ms);
    }

    fn wake_after(&mut self, time_ms: i64) -> Option<u64> {
        self.next_after(time_ms).and_then(|next| u64::try_from(next).ok())
    }

    /// The first tick after `time_ms`; searched once, since it is asked for in every round.
    fn next_after(&mut self, time_ms: i64) -> Option<i64> {
        match self.known {
            Some((known, next)) if known == time_ms => next,
            _ => {
                let next = self.schedule.next_after(time_ms);
                self.known = Some((time_ms, next));
                next
            }
        }
    }
}

impl Worker {
    /// How long nothing ticks.
    pub(super) fn until_tick(&self) -> Duration {
        self.ticks.next_ms.map_or(Duration::MAX, |next| {
            Duration::from_millis((next - self.now().wall_ms).max(0).unsigned_abs())
        })
    }

    /// The cut with them is committed.
    pub(super) fn ticks_are_made(&mut self) {
        self.ticks.committed(&self.config.function.name, &self.config.exposition);
    }

    /// Writes the ticks that are due.
    pub(super) fn make_ticks(&mut self) {
        if self.ticks.clocks.is_empty() || self.supervision.is_stopping() {
            return;
        }
        let now = self.now();
        let mut is_dirty = self.is_dirty();
        self.ticks.next_ms = None;
        for (place, clock) in self.ticks.clocks.iter_mut().enumerate() {
            let Some(lane) = self.lanes.find(&clock.topic, CLOCK_PARTITION) else { continue };
            if let Some(due) = clock.turn(&mut lane.track.checkpoint, now.wall_ms) {
                if !std::mem::replace(&mut is_dirty, true) {
                    self.pace.begin(now.elapsed);
                }
                lane.track.is_dirty = true;
                let origin = Origin::of_no_record(lane.track.lane);
                for tick in due.ticks {
                    let value = clock.schedule.value(tick);
                    self.outputs.write_tick(
                        place,
                        origin,
                        (clock.name.as_bytes(), value.as_bytes()),
                        tick.at_ms,
                    );
                }
                // The rest follows in the next cut.
                self.must_cut |= due.has_more;
            }
            let next = clock.next_after(lane.track.checkpoint.watermark_ms);
            self.ticks.next_ms = [self.ticks.next_ms, next].into_iter().flatten().min();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest;
    use crate::model::Tick;

    const HOUR: i64 = 3_600_000;

    fn clock(cron: &str) -> Clock {
        let text = format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  \
             sources: [{{name: m, schedule: {{cron: \"{cron}\"}}}}]\n  sinks: [{{topic: out}}]\n"
        );
        let function = manifest::parse(Path::new("/f/function.yaml"), &text).unwrap().remove(0);
        Ticks::new(&function).clocks.remove(0)
    }

    fn committed(checkpoint: &Checkpoint) -> Checkpoint {
        let checkpoint = Checkpoint { cut: checkpoint.cut + 1, ..checkpoint.clone() };
        Checkpoint::read(checkpoint.offset(), &checkpoint.metadata()).unwrap()
    }

    #[test]
    fn a_new_clock_begins_with_the_next_tick_once_that_is_committed() {
        let mut clock = clock("0 * * * *");
        let mut checkpoint = Checkpoint::fresh(0);
        let begun = clock.turn(&mut checkpoint, 5 * HOUR + 1).expect("it is to be committed");
        assert!(begun.ticks.is_empty());
        assert_eq!(clock.turn(&mut checkpoint, 6 * HOUR), None, "not before that is committed");
        let mut checkpoint = committed(&checkpoint);
        assert_eq!(clock.turn(&mut checkpoint, 6 * HOUR - 1), None);
        let due = clock.turn(&mut checkpoint, 6 * HOUR).expect("a tick");
        assert_eq!(due.ticks, [Tick { at_ms: 6 * HOUR, missed: 0 }]);
        assert_eq!(clock.turn(&mut checkpoint, 6 * HOUR + 1), None, "each tick once");
        assert_eq!(clock.turn(&mut checkpoint, 5 * HOUR), None, "nor when the clock goes back");
    }

    #[test]
    fn whoever_takes_over_goes_on_behind_the_last_tick_that_was_committed() {
        let mut checkpoint = Checkpoint::fresh(0);
        clock("0 * * * *").turn(&mut checkpoint, 5 * HOUR);
        let before = committed(&checkpoint);
        let mut after = before.clone();
        clock("0 * * * *").turn(&mut after, 6 * HOUR);
        // Killed before the cut, or after it.
        for (mut checkpoint, missed) in [(before, 1), (committed(&after), 0)] {
            let due = clock("0 * * * *").turn(&mut checkpoint, 7 * HOUR).expect("a tick");
            assert_eq!(due.ticks, [Tick { at_ms: 7 * HOUR, missed }]);
        }
    }

    #[test]
    fn another_schedule_begins_anew() {
        let mut checkpoint = Checkpoint::fresh(0);
        clock("0 * * * *").turn(&mut checkpoint, 5 * HOUR);
        let mut checkpoint = committed(&checkpoint);
        let mut clock = clock("*/10 * * * *");
        let begun = clock.turn(&mut checkpoint, 9 * HOUR).expect("it is to be committed");
        assert!(begun.ticks.is_empty(), "ticks that were nobody's are not missed: {begun:?}");
        assert_eq!(clock.turn(&mut checkpoint, 9 * HOUR), None);
        let due = clock.turn(&mut checkpoint, 9 * HOUR + 600_000).expect("a tick");
        assert_eq!(due.ticks, [Tick { at_ms: 9 * HOUR + 600_000, missed: 0 }]);
    }
}
