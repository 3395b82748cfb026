//! Partitions that go along with those that the group gives.
//!
//! The assignor shares out sums: of several topics one worker can be given all partitions of the one and another all of
//! the other, so that what is busy has one worker and what is idle the rest. So the group shares out the partitions of
//! one topic where that is possible, and each of those leads others:
//!
//! * Of a function that brings its sources together, partition `s` of the stitch topic leads the partitions `q` of each
//!   source and of the redrive topic with `q % S = s`, of S.
//! * Of any other, a partition of the first source leads the same one of the redrive topic.
//!
//! Whoever is given a partition alone is fenced for all that it leads: offsets are committed with the member's generation.
//! Which of them a worker has to let go is told by what it holds, and no broker is asked. Which there are to be taken is
//! counted when partitions come, and again from time to time: sources grow, and the group does not tell of that.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::states::ASK_AGAIN;
use super::{ASK_WAIT, Worker};
use crate::kafka::Partition;
use crate::model::Function;

/// From one count of the sources' partitions to the next.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// Who leads whom.
struct Leaders<'a> {
    function: &'a Function,
    stitch_partitions: i32,
}

impl Leaders<'_> {
    /// The partition that the group gives, with which this one comes and goes; it may be the same.
    fn of(&self, partition: &Partition) -> Partition {
        let Partition { topic, partition } = partition;
        let redrive = &self.function.delivery.redrive_topic;
        let first = self.function.shared_sources().next();
        match (&self.function.stitch_topic, first) {
            (Some(stitch), _) if topic != stitch => {
                Partition { topic: stitch.clone(), partition: partition % self.stitch_partitions.max(1) }
            }
            (None, Some(first)) if topic == redrive => {
                Partition { topic: first.topic.clone(), partition: *partition }
            }
            _ => Partition { topic: topic.clone(), partition: *partition },
        }
    }
}

impl Worker {
    fn leaders(&self) -> Leaders<'_> {
        Leaders { function: &self.config.function, stitch_partitions: self.config.stitch_partitions }
    }

    fn is_joining(&self) -> bool {
        self.config.function.stitch_topic.is_some()
    }

    /// Partitions that were given: how many there are that go along may be another number by now.
    pub(super) fn count_at_once(&mut self) {
        self.gathers.count_at = Duration::ZERO;
    }

    /// Lets arrive what goes along with partitions that are here or arriving, and is neither. `false`: no broker has said
    /// yet what there is.
    pub(super) fn take_along(&mut self) -> bool {
        let now = self.now().elapsed;
        if self.is_joining() && now >= self.gathers.count_at {
            let is_well = self.count_partitions();
            self.gathers.count_at = now + if is_well { COUNT_EVERY } else { ASK_AGAIN };
        }
        let function = Arc::clone(&self.config.function);
        let is_counted = |topic: &String| self.gathers.counts.iter().any(|(known, _)| known == topic);
        if self.is_joining() && !function.shared_sources().all(|source| is_counted(&source.topic)) {
            return false;
        }
        let redriven = (function.delivery.redrive_topic.as_str(), self.config.redrive_partitions);
        let sources = self.gathers.counts.iter().map(|(topic, count)| (topic.as_str(), *count as i32));
        let there = sources.chain([redriven]).flat_map(|(topic, count)| {
            (0..count).map(|partition| Partition { topic: topic.to_owned(), partition })
        });
        let here: HashSet<&Partition> = self.here().collect();
        let leaders = self.leaders();
        let goes_along =
            |partition: &Partition| !here.contains(partition) && here.contains(&leaders.of(partition));
        let along: Vec<_> = there.filter(goes_along).collect();
        self.arriving.extend(along);
        true
    }

    /// These partitions, and what goes with them of all that is here or arriving.
    pub(super) fn with_led(&self, mut partitions: Vec<Partition>) -> Vec<Partition> {
        let leaders = self.leaders();
        let goes_along = |partition: &&Partition| {
            !partitions.contains(partition) && partitions.contains(&leaders.of(partition))
        };
        let along: Vec<_> = self.here().filter(goes_along).cloned().collect();
        partitions.extend(along);
        partitions
    }

    fn here(&self) -> impl Iterator<Item = &Partition> {
        self.lanes.iter().map(|lane| &lane.partition).chain(&self.arriving)
    }

    /// Counts the partitions of the sources; whether all of them are there.
    fn count_partitions(&mut self) -> bool {
        let function = Arc::clone(&self.config.function);
        let (mut is_well, mut has_changed) = (true, false);
        for source in function.shared_sources() {
            let Ok(found) = self.consumer.partitions(&source.topic, ASK_WAIT) else {
                is_well = false;
                continue;
            };
            let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
            is_well &= count > 0;
            let counts = &mut self.gathers.counts;
            match counts.iter_mut().find(|(topic, _)| *topic == source.topic) {
                // Kafka takes no partitions away: a broker that knows of fewer lags behind.
                Some((_, known)) if *known >= count => {}
                Some((topic, known)) => {
                    tracing::info!(
                        topic,
                        partitions = count,
                        before = *known,
                        "a source has more partitions"
                    );
                    *known = count;
                    has_changed = true;
                }
                None => {
                    counts.push((source.topic.clone(), count));
                    has_changed = true;
                }
            }
        }
        if has_changed {
            // It is said anew how many there are.
            self.gathers.rolled_back();
        }
        is_well
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest;

    fn function(spec: &str) -> Function {
        let text = format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  {spec}\n  \
             sinks: [{{topic: out, format: json}}]\n"
        );
        manifest::parse(Path::new("/f/function.yaml"), &text).unwrap().remove(0)
    }

    fn leader(function: &Function, (topic, partition): (&str, i32)) -> (String, i32) {
        let leaders = Leaders { function, stitch_partitions: 3 };
        let leader = leaders.of(&Partition { topic: topic.to_owned(), partition });
        (leader.topic, leader.partition)
    }

    #[test]
    fn the_stitch_topic_leads_all_that_is_brought_together() {
        let joint = function(
            "sources: [{topic: rides, format: json}, {topic: payments, format: json}]\n  \
             window: {tumbling: {size: 1m}, aggregate: {n: {op: count}}}",
        );
        assert_eq!(joint.subscribed_topics().collect::<Vec<_>>(), ["mill.stitch"]);
        for (partition, s) in [
            (("mill.stitch", 2), 2),
            (("rides", 0), 0),
            (("rides", 4), 1),
            (("payments", 5), 2),
            (("mill.redrive", 3), 0),
        ] {
            assert_eq!(leader(&joint, partition), ("mill.stitch".to_owned(), s), "{partition:?}");
        }
    }

    #[test]
    fn elsewhere_the_first_source_leads_what_is_redriven() {
        let plain = function("sources: [{topic: rides, format: json}, {topic: payments, format: json}]");
        assert_eq!(plain.subscribed_topics().collect::<Vec<_>>(), ["rides", "payments"]);
        for (partition, expected) in [
            (("rides", 4), ("rides", 4)),
            (("payments", 4), ("payments", 4)),
            (("mill.redrive", 4), ("rides", 4)),
        ] {
            let found = leader(&plain, partition);
            assert_eq!((found.0.as_str(), found.1), expected, "{partition:?}");
        }
    }
}
