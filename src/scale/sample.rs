//! Asking the cluster how far functions are, from outside: no group is joined, nothing is committed.
//!
//! One client serves all functions. A sample takes two ListOffsets questions over all partitions of all of them, and an
//! OffsetFetch a group; those go out together. How many partitions a topic has is asked every
//! [`LAYOUT_FOR`], as the clients of the group notice it no sooner.
//!
//! The age of the oldest unread record is not in a sample: ListOffsets maps times to offsets and not back, so it takes a
//! fetch a partition ([`read_first`](crate::kafka::read_first)), for whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::backlog::unread;
use super::error::Error;
use crate::kafka::admin::Isolation;
use crate::kafka::{Bounds, Cluster, Committed, GroupAdmin, Partition};
use crate::model::{Clock, Function, StartAt, SystemClock};
use crate::pipeline::{Checkpoint, Damaged, Ledger};

/// How long the partition counts of topics are believed.
const LAYOUT_FOR: Duration = Duration::from_secs(30);

/// What a function's sample is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its consumer group.
    pub group: String,
    /// What it reads, each topic once.
    pub sources: Vec<Source>,
}

/// A topic that a function reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The topic.
    pub topic: String,
    /// Where nothing is committed it will begin at the end, so what is there is no backlog.
    pub starts_at_end: bool,
    /// What it is to the function.
    pub role: Role,
    /// What is committed for it says when something is due there if nothing comes. In sources that are brought together
    /// elsewhere it only says since when they are quiet.
    pub has_deadlines: bool,
    /// Its partitions go along with those of another topic: they are work like any others, but no reason for more workers.
    pub goes_along: bool,
}

/// What a topic is to the function that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Others write it; without it the function has nothing to do.
    Source,
    /// The function makes it when it starts, until then nothing is in it: where it brings its sources together by key, or
    /// a clock's ticks.
    Internal,
    /// Where its dead letters come back from: made when it starts, and mostly empty.
    Redrive,
}

impl Target {
    /// What a group reads, where no more is known than the topics that it has committed for.
    pub fn of_topics(group: &str, topics: impl IntoIterator<Item = String>) -> Self {
        let topics: Vec<String> = topics.into_iter().collect();
        let is_stitch = |topic: &String| topic.ends_with(".stitch");
        let gathers = topics.iter().any(is_stitch);
        let sources = topics.iter().map(|topic| Source {
            topic: topic.clone(),
            starts_at_end: false,
            // One that is gone is no trouble.
            role: Role::Internal,
            has_deadlines: !gathers || is_stitch(topic),
            goes_along: false,
        });
        Self { group: group.to_owned(), sources: sources.collect() }
    }

    /// The topics that make work for `function`: its sources, and where it brings them together.
    pub fn of(function: &Function) -> Self {
        let mut sources: Vec<Source> = Vec::new();
        let gathered = function.gathered_topic();
        // Rows of tables are no work: they are caught up on when there is some.
        for source in function.shared_sources().filter(|source| source.table.is_none()) {
            if sources.iter().all(|known| known.topic != source.topic) {
                sources.push(Source {
                    topic: source.topic.clone(),
                    starts_at_end: source.start_at == StartAt::Latest,
                    role: if source.schedule.is_some() { Role::Internal } else { Role::Source },
                    has_deadlines: source.schedule.is_some() || gathered == Some(&source.topic),
                    goes_along: function.stitch_topic.is_some(),
                });
            }
        }
        let stitch = function.stitch_topic.iter().map(|topic| (topic, Role::Internal));
        let redrive = [(&function.delivery.redrive_topic, Role::Redrive)];
        sources.extend(stitch.chain(redrive).map(|(topic, role)| Source {
            topic: topic.clone(),
            starts_at_end: false,
            role,
            has_deadlines: gathered == Some(topic),
            goes_along: role == Role::Redrive,
        }));
        Self { group: function.group.clone(), sources }
    }
}

/// How far a function is, partition by partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Its partitions, in order.
    pub lanes: Vec<LaneSample>,
}

impl Sample {
    /// Offsets not finished, of all partitions.
    pub fn backlog(&self) -> u64 {
        self.lanes.iter().map(LaneSample::backlog).sum()
    }

    /// The next deadline that a partition waits for, milliseconds since the epoch.
    pub fn wake_at_ms(&self) -> Option<u64> {
        self.lanes.iter().filter_map(|lane| lane.wake_at_ms).min()
    }
}

/// How far a function is in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSample {
    /// The partition.
    pub partition: Partition,
    /// It goes along with another, so no worker can have it alone.
    pub goes_along: bool,
    /// Its log start and its last stable offset.
    pub bounds: Bounds,
    /// What the group has committed; `None`: nothing yet.
    pub committed: Option<i64>,
    /// Which offsets are finished.
    pub ledger: Ledger,
    /// The next deadline in wall time, milliseconds since the epoch.
    pub wake_at_ms: Option<u64>,
}

impl LaneSample {
    /// Offsets not finished, at most; see [`unread`].
    pub fn backlog(&self) -> u64 {
        unread(&self.ledger, self.bounds)
    }

    /// What was committed, held against where the partition begins and ends.
    fn new(committed: Committed, bounds: Bounds, source: &Source) -> Result<Self, Damaged> {
        let Committed { partition, offset, metadata } = committed;
        let checkpoint = match offset {
            Some(offset) => Checkpoint::read(offset, &metadata)?,
            None if source.starts_at_end => Checkpoint::fresh(bounds.end),
            None => Checkpoint::fresh(bounds.log_start),
        };
        let Checkpoint { ledger, wake_at_ms, .. } = checkpoint;
        let wake_at_ms = wake_at_ms.filter(|_| source.has_deadlines);
        let goes_along = source.goes_along;
        Ok(Self { partition, goes_along, bounds, committed: offset, ledger, wake_at_ms })
    }
}

/// Takes samples.
pub struct Sampler {
    cluster: Cluster,
    clock: SystemClock,
    within: Duration,
    /// Made when it is needed, and anew after a failure; see [`GroupAdmin::committed`].
    client: Option<GroupAdmin>,
    layout: Layout,
}

/// How many partitions topics had, and when that was asked.
#[derive(Debug, Default)]
struct Layout {
    topics: BTreeMap<String, Option<usize>>,
    asked: Option<Duration>,
}

impl Sampler {
    /// A sampler whose questions have this long to be answered. Nothing connects yet.
    pub fn new(cluster: &Cluster, within: Duration) -> Self {
        let (cluster, clock) = (cluster.clone(), SystemClock::start());
        Self { cluster, clock, within, client: None, layout: Layout::default() }
    }

    /// How far each function is, in the order of the targets. One that cannot be sampled takes no other along; when the
    /// offsets of topics cannot be had at all, everything fails.
    pub fn sample(&mut self, targets: &[Target]) -> Result<Vec<Result<Sample, Error>>, Error> {
        let client = match self.client.take() {
            Some(client) => client,
            None => GroupAdmin::new(&self.cluster, "scale")?.within(self.within),
        };
        let samples = self.ask(&client, targets)?;
        // What went wrong may be that the client knows the cluster as it was.
        let is_well = samples.iter().all(|sample| !matches!(sample, Err(Error::Admin(_))));
        self.client = is_well.then_some(client);
        Ok(samples)
    }

    fn ask(&mut self, client: &GroupAdmin, targets: &[Target]) -> Result<Vec<Result<Sample, Error>>, Error> {
        self.learn_layout(client, targets)?;
        let wanted: Vec<_> = targets.iter().map(|target| self.layout.partitions(target)).collect();
        let all: BTreeSet<Partition> = wanted.iter().flatten().flatten().cloned().collect();
        let all: Vec<Partition> = all.into_iter().collect();
        // The offsets that groups have committed first: what ends later makes a backlog larger, never negative.
        let questions: Vec<(&str, &[Partition])> = targets
            .iter()
            .zip(&wanted)
            .filter_map(|(target, wanted)| Some((target.group.as_str(), wanted.as_ref().ok()?.as_slice())))
            .collect();
        let mut committed = client.committed(&questions).into_iter();
        let bounds = client.admin().bounds(&all, Isolation::ReadCommitted)?;
        if bounds.len() < all.len() {
            // A topic went away: it is looked for next time.
            self.layout.asked = None;
        }
        let samples = targets.iter().zip(wanted).map(|(target, wanted)| {
            wanted?;
            let committed = committed.next().unwrap_or(Ok(Vec::new()))?;
            sample_of(target, committed, &bounds)
        });
        Ok(samples.collect())
    }

    fn learn_layout(&mut self, client: &GroupAdmin, targets: &[Target]) -> Result<(), Error> {
        let now = self.clock.now().elapsed;
        let named = targets.iter().flat_map(|target| &target.sources);
        let named: BTreeSet<&str> = named.map(|source| source.topic.as_str()).collect();
        let is_fresh = self.layout.asked.is_some_and(|asked| now.saturating_sub(asked) < LAYOUT_FOR);
        let is_there = |topic: &&str| matches!(self.layout.topics.get(*topic), Some(Some(_)));
        let asked: Vec<&str> = named.into_iter().filter(|topic| !is_fresh || !is_there(topic)).collect();
        if !is_fresh {
            self.layout = Layout { topics: BTreeMap::new(), asked: Some(now) };
        }
        self.layout.topics.extend(client.admin().topics(&asked)?);
        Ok(())
    }
}

impl Layout {
    /// All partitions that a function reads.
    fn partitions(&self, target: &Target) -> Result<Vec<Partition>, Error> {
        let mut partitions = Vec::new();
        for Source { topic, role, .. } in &target.sources {
            let count = match self.topics.get(topic).copied().flatten() {
                Some(count) => count,
                None if *role != Role::Source => 0,
                None => return Err(Error::NoTopic { topic: topic.clone() }),
            };
            let all = (0..count as i32).map(|partition| Partition { topic: topic.clone(), partition });
            partitions.extend(all);
        }
        Ok(partitions)
    }
}

/// Puts together what groups committed and where partitions end.
fn sample_of(
    target: &Target,
    committed: Vec<Committed>,
    bounds: &BTreeMap<Partition, Bounds>,
) -> Result<Sample, Error> {
    let mut lanes = Vec::with_capacity(committed.len());
    let known = committed.iter().filter(|committed| committed.offset.is_some());
    let registered: BTreeSet<String> = known.map(|committed| committed.partition.topic.clone()).collect();
    for committed in committed {
        let source = target.sources.iter().find(|source| source.topic == committed.partition.topic);
        // A topic that went away between two questions makes no work.
        let (Some(source), Some(bounds)) = (source, bounds.get(&committed.partition)) else { continue };
        // A partition that came after the function was registered is read from its first record.
        let is_new = registered.contains(&source.topic);
        let source = &Source { starts_at_end: source.starts_at_end && !is_new, ..source.clone() };
        let partition = committed.partition.clone();
        let lane = LaneSample::new(committed, *bounds, source).map_err(|cause| Error::Damaged {
            group: target.group.clone(),
            partition,
            cause,
        })?;
        lanes.push(lane);
    }
    lanes.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(Sample { lanes })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manifest;

    fn partition(partition: i32) -> Partition {
        Partition { topic: "rides".to_owned(), partition }
    }

    fn committed(offset: Option<i64>, metadata: &str) -> Committed {
        Committed { partition: partition(0), offset, metadata: metadata.to_owned() }
    }

    const BOUNDS: Bounds = Bounds { log_start: 2, end: 10 };

    #[test]
    fn what_stands_beside_an_offset_is_read() {
        let mut checkpoint = Checkpoint::fresh(4);
        (4..8).for_each(|offset| checkpoint.ledger.admit(offset));
        checkpoint.ledger.finish(6);
        checkpoint.wake_at_ms = Some(1234);
        let lane = LaneSample::new(committed(Some(4), &checkpoint.metadata()), BOUNDS, &source(Role::Source))
            .unwrap();
        assert_eq!((lane.backlog(), lane.wake_at_ms, lane.committed), (5, Some(1234), Some(4)));
    }

    #[test]
    fn where_nothing_is_committed_the_start_counts() {
        // What was committed, its text, whether the source begins at the end, the backlog.
        for (offset, metadata, starts_at_end, backlog) in [
            (None, "", false, 8),
            (None, "", true, 0),
            (Some(7), "another program's", false, 3),
            (Some(7), "", true, 3),
        ] {
            let source = Source { starts_at_end, ..source(Role::Source) };
            let lane = LaneSample::new(committed(offset, metadata), BOUNDS, &source).unwrap();
            assert_eq!(lane.backlog(), backlog, "{offset:?} {metadata:?} {starts_at_end}");
        }
    }

    fn source(role: Role) -> Source {
        Source {
            topic: "rides".to_owned(),
            starts_at_end: false,
            role,
            has_deadlines: true,
            goes_along: false,
        }
    }

    fn target(role: Role) -> Target {
        Target { group: "g".to_owned(), sources: vec![source(role)] }
    }

    #[test]
    fn what_goes_along_is_no_reason_for_workers() {
        let window = "window: {tumbling: {size: 1m}, aggregate: {n: {op: count}}}";
        // By several sources, and by one.
        for (sources, more, expected) in [
            ("{topic: a, format: json}, {topic: b, format: json}", window, vec!["mill.stitch"]),
            ("{topic: a, format: json}, {topic: b, format: json}", "order: key", vec!["a", "b"]),
            ("{topic: a, format: json}", window, vec!["a"]),
        ] {
            let text = format!(
                "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  \
                 sources: [{sources}]\n  sinks: [{{topic: out, format: json}}]\n  {more}\n"
            );
            let function = manifest::parse(Path::new("/f/function.yaml"), &text).unwrap().remove(0);
            let sources = Target::of(&function).sources;
            let alone = sources.iter().filter(|source| !source.goes_along);
            assert_eq!(alone.map(|source| source.topic.as_str()).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let bounds = BTreeMap::from([(partition(0), BOUNDS)]);
        let error =
            sample_of(&target(Role::Source), vec![committed(Some(7), "tm1:AAAA")], &bounds).unwrap_err();
        assert_eq!(error.to_string(), "rides/0 of group g: the committed metadata is damaged: cut off");
        assert!(!error.is_transient());
    }

    #[test]
    fn a_partition_that_came_later_is_read_from_its_start() {
        let target = Target {
            group: "g".to_owned(),
            sources: vec![Source { starts_at_end: true, ..source(Role::Source) }],
        };
        let bounds = BTreeMap::from([(partition(0), BOUNDS), (partition(1), BOUNDS)]);
        let new = Committed { partition: partition(1), ..committed(None, "") };
        for (first, backlog) in [(None, 0), (Some(10), 8)] {
            let sample = sample_of(&target, vec![committed(first, ""), new.clone()], &bounds).unwrap();
            assert_eq!(sample.backlog(), backlog, "{first:?}");
        }
    }

    #[test]
    fn a_partition_without_bounds_makes_no_work() {
        let sample =
            sample_of(&target(Role::Source), vec![committed(Some(7), "")], &BTreeMap::new()).unwrap();
        assert_eq!((sample.lanes.len(), sample.backlog(), sample.wake_at_ms()), (0, 0, None));
    }

    #[test]
    fn a_missing_topic_is_an_error_unless_the_function_makes_it() {
        let layout = Layout { topics: BTreeMap::from([("rides".to_owned(), None)]), asked: None };
        assert_eq!(layout.partitions(&target(Role::Internal)), Ok(Vec::new()));
        let error = layout.partitions(&target(Role::Source)).unwrap_err();
        assert!(error.to_string().starts_with("topic rides does not exist"), "{error}");
    }
}
