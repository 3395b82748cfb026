//! Before a function's first worker: its topics, and where it begins.
//!
//! A missing source topic is waited for. A missing sink topic is made if the manifest says how, else
//! refused. Start offsets are resolved once, when the function is registered, and committed before
//! anything watches: afterwards only committed offsets count, so a restart or a late first worker begins
//! where the function was registered and not where the log stands by then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LOOK_EVERY, Shared, Stop};
use crate::kafka::admin::{Isolation, NewTopic, OffsetAt};
use crate::kafka::{Admin, AdminError, Cluster, Commit, Partition, message_limits};
use crate::manifest::{self, HEADROOM_BYTES, TopicRole};
use crate::model::{Function, StartAt};
use crate::observe::{FunctionReport, State};
use crate::worker::CLIENT_ID_PREFIX;

/// Why a function cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The broker refuses.
    #[error(transparent)]
    Kafka(#[from] AdminError),
    /// A sink's topic is missing.
    #[error(
        "sink topic {topic} does not exist: create it, or add `create: {{}}` to sink `{sink}` to have it made"
    )]
    NoSinkTopic {
        /// The topic.
        topic: String,
        /// The sink.
        sink: String,
    },
    /// Keys of the source lie in other partitions than their state.
    #[error(
        "state topic {topic} has {partitions} partitions and {source_topic} has {of_source}: keys have moved away \
         from their state; give the function another name or group, to begin anew, or read a topic that keeps its count"
    )]
    StatePartitions {
        /// The state topic.
        topic: String,
        /// How many it has.
        partitions: usize,
        /// The source.
        source_topic: String,
        /// How many that has.
        of_source: usize,
    },
    /// Somebody else's consumers are in the group.
    #[error(
        "group {group} has members that are not Tidemill's ({client_id}): they would share its partitions; give the \
         function a group of its own (spec.group)"
    )]
    ForeignGroup {
        /// The group.
        group: String,
        /// One of them.
        client_id: String,
    },
}

/// How long one question may take: a stop is heard between two of them.
const ASK_WAIT: Duration = Duration::from_secs(5);

/// How many partitions the topics of the embedded broker have that a function reads.
pub const EMBEDDED_PARTITIONS: i32 = 4;

/// What was found out on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prepared {
    /// How many partitions the redrive topic has; 0: it is not there.
    pub redrive_partitions: i32,
    /// How many partitions the stitch topic has; 0: there is none.
    pub stitch_partitions: i32,
}

impl Prepared {
    /// Without a look at the cluster nobody knows: the embedded broker would invent topics that are asked for.
    pub fn unseen(function: &Function) -> Self {
        let stitch_partitions = if function.stitch_topic.is_some() { EMBEDDED_PARTITIONS } else { 0 };
        Self { redrive_partitions: 0, stitch_partitions }
    }
}

/// Waits for topics, makes those that are to be made, registers start offsets. `None`: told to stop.
pub(super) fn prepare(
    function: &Function,
    shared: &Shared,
    stop: &Stop,
    report: &FunctionReport,
) -> Result<Option<Prepared>, PrepareError> {
    let admin = Admin::new(&shared.cluster)?.within(ASK_WAIT);
    let mut is_away_said = false;
    loop {
        match try_prepare(function, shared, &admin, stop, report) {
            Err(PrepareError::Kafka(error)) if error.is_transient() => {
                if !std::mem::replace(&mut is_away_said, true) {
                    tracing::warn!("waiting for kafka: {error}");
                }
            }
            result => return result,
        }
        if stop.wait(LOOK_EVERY) {
            return Ok(None);
        }
    }
}

/// One try; an error that passes by itself is the caller's to wait out.
fn try_prepare(
    function: &Function,
    shared: &Shared,
    admin: &Admin,
    stop: &Stop,
    report: &FunctionReport,
) -> Result<Option<Prepared>, PrepareError> {
    let Some(mut topics) = wait_for_sources(function, admin, stop, report)? else {
        return Ok(None);
    };
    make_topics(function, &shared.cluster, admin)?;
    topics.extend(clock_topics(function, admin)?);
    let gathered = check_state_topic(function, admin)?;
    let stitched = function.stitch_topic.clone().zip(gathered);
    let stitch = stitched.as_ref().and_then(|(_, count)| i32::try_from(*count).ok());
    topics.extend(stitched);
    let redrive = redrive_partitions(function, &shared.cluster, admin)?;
    topics.extend(redrive.map(|partitions| (function.delivery.redrive_topic.clone(), partitions)));
    let group = admin.group(&function.group)?;
    if let Some(foreign) = group.members.iter().find(|member| !member.client_id.starts_with(CLIENT_ID_PREFIX))
    {
        return Err(PrepareError::ForeignGroup {
            group: function.group.clone(),
            client_id: foreign.client_id.clone(),
        });
    }
    register(function, admin, &topics)?;
    let redrive = redrive.and_then(|count| i32::try_from(count).ok());
    Ok(Some(Prepared { redrive_partitions: redrive.unwrap_or(0), stitch_partitions: stitch.unwrap_or(0) }))
}

/// Source topics with their partitions, once all are there; those of clocks are made.
fn wait_for_sources(
    function: &Function,
    admin: &Admin,
    stop: &Stop,
    report: &FunctionReport,
) -> Result<Option<BTreeMap<String, usize>>, PrepareError> {
    let others = function.sources.iter().filter(|source| source.schedule.is_none());
    let names: Vec<&str> = others.map(|source| source.topic.as_str()).collect();
    let mut said = BTreeSet::new();
    loop {
        match admin.topics(&names) {
            Ok(found) => {
                let missing =
                    found.iter().find(|(_, partitions)| partitions.is_none()).map(|(name, _)| name.clone());
                let Some(topic) = missing else {
                    let found = found.into_iter().filter_map(|(name, partitions)| Some((name, partitions?)));
                    return Ok(Some(found.collect()));
                };
                if said.insert(topic.clone()) {
                    tracing::warn!(
                        topic,
                        "waiting for a topic that does not exist; create it, or mend the manifest"
                    );
                    report.set_state(State::Waiting { topic });
                }
            }
            Err(error) => return Err(error.into()),
        }
        if stop.wait(LOOK_EVERY) {
            return Ok(None);
        }
    }
}

fn make_topics(function: &Function, cluster: &Cluster, admin: &Admin) -> Result<(), PrepareError> {
    let mut new = manifest::topics(function);
    new.retain(|topic| topic.role != TopicRole::Redrive);
    let sinks = function.sinks.iter().map(|sink| sink.topic.as_str());
    let names: BTreeSet<&str> = new.iter().map(|topic| topic.topic.as_str()).chain(sinks).collect();
    let found = admin.topics(&names.into_iter().collect::<Vec<_>>())?;
    let is_there = |topic: &str| found.get(topic).is_some_and(Option::is_some);
    for sink in &function.sinks {
        if sink.create.is_none() && !is_there(&sink.topic) {
            return Err(PrepareError::NoSinkTopic { topic: sink.topic.clone(), sink: sink.name.clone() });
        }
    }
    new.retain(|topic| !is_there(&topic.topic));
    Ok(make(new, cluster, admin)?)
}

/// The topics of clocks, which are there by now.
fn clock_topics(function: &Function, admin: &Admin) -> Result<BTreeMap<String, usize>, PrepareError> {
    let clocks = function.sources.iter().filter(|source| source.schedule.is_some());
    let names: Vec<&str> = clocks.map(|source| source.topic.as_str()).collect();
    let found = admin.topics(&names)?;
    let counted = found.into_iter().map(|(topic, partitions)| match partitions {
        Some(count) => Ok((topic, count)),
        None => Err(AdminError::NoPartition { topic, partition: 0 }.into()),
    });
    counted.collect()
}

/// The state of a partition stands in the partition of the same number. How many there are.
fn check_state_topic(function: &Function, admin: &Admin) -> Result<Option<usize>, PrepareError> {
    let Some(source) = function.gathered_topic() else { return Ok(None) };
    let topic = function.state_topic.as_str();
    let found = admin.topics(&[topic, source])?;
    let count = |topic: &str| found.get(topic).copied().flatten().unwrap_or(0);
    match (count(topic), count(source)) {
        (partitions, of_source) if partitions == of_source => Ok(Some(partitions)),
        (partitions, of_source) => Err(PrepareError::StatePartitions {
            topic: topic.to_owned(),
            partitions,
            source_topic: source.to_owned(),
            of_source,
        }),
    }
}

/// The partitions of the redrive topic, which is made if it is missing. `None`: it is not there and this user may not
/// make or see it. A function that worked without goes on without; nothing is redriven to it then.
fn redrive_partitions(
    function: &Function,
    cluster: &Cluster,
    admin: &Admin,
) -> Result<Option<usize>, PrepareError> {
    match make_redrive_topic(function, cluster, admin) {
        Ok(partitions) => Ok(Some(partitions)),
        Err(error) if error.is_transient() => Err(error.into()),
        Err(error) => {
            let topic = &function.delivery.redrive_topic;
            tracing::warn!(topic, "dead letters cannot be redriven to this function: {error}");
            Ok(None)
        }
    }
}

/// Makes the topic that `function` alone reads, from which its dead letters come back, if it is missing; how many
/// partitions it has.
pub fn make_redrive_topic(
    function: &Function,
    cluster: &Cluster,
    admin: &Admin,
) -> Result<usize, AdminError> {
    let name = function.delivery.redrive_topic.as_str();
    let partitions = || Ok::<_, AdminError>(admin.topics(&[name])?.into_values().flatten().next());
    if let Some(found) = partitions()? {
        return Ok(found);
    }
    let new = manifest::topics(function).into_iter().filter(|topic| topic.role == TopicRole::Redrive);
    make(new.collect(), cluster, admin)?;
    let missing = || AdminError::NoPartition { topic: name.to_owned(), partition: 0 };
    partitions()?.ok_or_else(missing)
}

/// Makes topics with what only the cluster knows of their settings.
fn make(new: Vec<manifest::NewTopic>, cluster: &Cluster, admin: &Admin) -> Result<(), AdminError> {
    let mut making = Vec::new();
    for mut topic in new {
        if !topic.sized_after.is_empty() {
            let largest = message_limits(cluster, &topic.sized_after).largest;
            topic
                .create
                .config
                .insert("max.message.bytes".to_owned(), (largest + HEADROOM_BYTES).to_string());
        }
        let like: Vec<&str> = topic.partitions_after.iter().map(String::as_str).collect();
        if !like.is_empty() {
            let found = admin.topics(&like)?.into_values().flatten().max();
            topic.create.partitions = found.and_then(|count| u32::try_from(count).ok());
        }
        tracing::info!(topic = topic.topic, role = topic.role.as_str(), "making topic");
        making.push(NewTopic::new(&topic.topic, &topic.create));
    }
    admin.create_topics(&making)
}

/// Commits where the function begins, for each partition that has no offset yet.
fn register(
    function: &Function,
    admin: &Admin,
    topics: &BTreeMap<String, usize>,
) -> Result<(), PrepareError> {
    let committed = admin.committed(&function.group, None, false)?;
    let known: BTreeSet<(&str, i32)> = committed
        .iter()
        .filter(|committed| committed.offset.is_some())
        .map(|committed| (committed.partition.topic.as_str(), committed.partition.partition))
        .collect();
    let mut queries = Vec::new();
    let read = function.shared_sources().map(|source| (source.topic.as_str(), source.start_at));
    let own = function.stitch_topic.as_deref().into_iter().chain([function.delivery.redrive_topic.as_str()]);
    // What was redriven before the function first ran is not to be missed.
    for (topic, start_at) in read.chain(own.map(|topic| (topic, StartAt::Earliest))) {
        let is_known = known.iter().any(|(known, _)| *known == topic);
        // A partition that was added after registration is read from its first record, whatever startAt says:
        // nobody was asked about it, and nothing may be lost.
        let at = match start_at {
            _ if is_known => OffsetAt::Earliest,
            StartAt::Earliest => OffsetAt::Earliest,
            StartAt::Latest => OffsetAt::Latest,
            StartAt::Time(timestamp_ms) => OffsetAt::Timestamp(timestamp_ms),
        };
        let partitions = topics.get(topic).copied().unwrap_or(0);
        for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            if !known.contains(&(topic, partition)) {
                queries.push((topic, partition, at));
            }
        }
    }
    if queries.is_empty() {
        return Ok(());
    }
    let offsets = admin.list_offsets(&queries, Isolation::ReadCommitted)?;
    let ends: Vec<_> =
        queries.iter().map(|(topic, partition, _)| (*topic, *partition, OffsetAt::Latest)).collect();
    let ends = admin.list_offsets(&ends, Isolation::ReadCommitted)?;
    let commits: Vec<Commit> = queries
        .iter()
        .zip(offsets.iter().zip(ends))
        .filter_map(|((topic, partition, _), (offset, end))| {
            // No record at or after the asked time: the end.
            let offset = offset.or(end)?;
            let partition = Partition { topic: (*topic).to_owned(), partition: *partition };
            Some(Commit { partition, offset, metadata: String::new() })
        })
        .collect();
    match admin.commit_for_empty_group(&function.group, &commits) {
        // Its own workers run elsewhere and resolve the start when they are given the partition.
        Err(AdminError::GroupInUse { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => {
            tracing::info!(group = function.group, partitions = commits.len(), "start offsets registered");
            Ok(())
        }
    }
}
