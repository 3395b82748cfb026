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
use crate::manifest::{self, HEADROOM_BYTES};
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

/// Waits for topics, makes those that are to be made, registers start offsets. `false`: told to stop.
pub(super) fn prepare(
    function: &Function,
    shared: &Shared,
    stop: &Stop,
    report: &FunctionReport,
) -> Result<bool, PrepareError> {
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
            return Ok(false);
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
) -> Result<bool, PrepareError> {
    let Some(sources) = wait_for_sources(function, admin, stop, report)? else {
        return Ok(false);
    };
    make_topics(function, &shared.cluster, admin)?;
    let group = admin.group(&function.group)?;
    if let Some(foreign) = group.members.iter().find(|member| !member.client_id.starts_with(CLIENT_ID_PREFIX))
    {
        return Err(PrepareError::ForeignGroup {
            group: function.group.clone(),
            client_id: foreign.client_id.clone(),
        });
    }
    register(function, admin, &sources)?;
    Ok(true)
}

/// Source topics with their partitions, once all are there.
fn wait_for_sources(
    function: &Function,
    admin: &Admin,
    stop: &Stop,
    report: &FunctionReport,
) -> Result<Option<BTreeMap<String, usize>>, PrepareError> {
    let names: Vec<&str> = function.sources.iter().map(|source| source.topic.as_str()).collect();
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
    let mut making = Vec::new();
    for mut topic in new {
        if !topic.sized_after.is_empty() {
            let largest = message_limits(cluster, &topic.sized_after).largest;
            topic
                .create
                .config
                .insert("max.message.bytes".to_owned(), (largest + HEADROOM_BYTES).to_string());
        }
        tracing::info!(topic = topic.topic, role = topic.role.as_str(), "making topic");
        making.push(NewTopic::new(&topic.topic, &topic.create));
    }
    admin.create_topics(&making)?;
    Ok(())
}

/// Commits where the function begins, for each partition that has no offset yet.
fn register(
    function: &Function,
    admin: &Admin,
    sources: &BTreeMap<String, usize>,
) -> Result<(), PrepareError> {
    let committed = admin.committed(&function.group, None, false)?;
    let known: BTreeSet<(&str, i32)> = committed
        .iter()
        .filter(|committed| committed.offset.is_some())
        .map(|committed| (committed.partition.topic.as_str(), committed.partition.partition))
        .collect();
    let mut queries = Vec::new();
    for source in &function.sources {
        let is_known = known.iter().any(|(topic, _)| *topic == source.topic);
        // A partition that was added after registration is read from its first record, whatever startAt says:
        // nobody was asked about it, and nothing may be lost.
        let at = match source.start_at {
            _ if is_known => OffsetAt::Earliest,
            StartAt::Earliest => OffsetAt::Earliest,
            StartAt::Latest => OffsetAt::Latest,
            StartAt::Time(timestamp_ms) => OffsetAt::Timestamp(timestamp_ms),
        };
        let partitions = sources.get(&source.topic).copied().unwrap_or(0);
        for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            if !known.contains(&(source.topic.as_str(), partition)) {
                queries.push((source.topic.as_str(), partition, at));
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
