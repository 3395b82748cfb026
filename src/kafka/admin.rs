//! Questions to a cluster and changes to it, outside of any consumer: which topics are there, where they begin
//! and end, what a group has committed and who is in it. Every call blocks until its deadline at most, and tries
//! again what passes by itself (a coordinator that loads, a leader that moves).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

pub use super::admin_error::AdminError;
use super::admin_memory::{Answered, Answers, Place, Refusal, no_answer};
use super::admin_native::Native;
use super::cluster::Cluster;
use super::partition::{Commit, Committed, Partition};
use crate::model::{Clock, CreateTopic, GroupProtocol, SystemClock};

/// How long a call may take unless [`Admin::within`] says otherwise.
const WITHIN: Duration = Duration::from_secs(15);

/// A client that asks and administers. Calls block: never from an async thread.
pub struct Admin {
    pub(super) native: Native,
    cluster: Cluster,
    within: Duration,
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions; `None`: the broker's default.
    pub partitions: Option<u32>,
    /// Replication factor; `None`: the broker's default.
    pub replication: Option<u16>,
    /// Topic settings.
    pub config: BTreeMap<String, String>,
}

impl NewTopic {
    /// The topic `name`, made as a manifest says.
    pub fn new(name: &str, how: &CreateTopic) -> Self {
        let CreateTopic { partitions, replication, config } = how.clone();
        Self { name: name.to_owned(), partitions, replication, config }
    }
}

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The first that is still there (log start).
    Earliest,
    /// One past the last that a reader of the asked isolation can see.
    Latest,
    /// The first record whose timestamp is at or after this, milliseconds since the epoch.
    Timestamp(i64),
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset that is still there (log start).
    pub log_start: i64,
    /// One past the last that a reader of the asked isolation can see.
    pub end: i64,
}

/// What a reader sees of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the first open transaction.
    ReadCommitted,
    /// Everything.
    ReadUncommitted,
}

/// A consumer group as its coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `Empty`, `Stable`, `Dead` and so on, in Kafka's words.
    pub state: String,
    /// By which protocol its members joined, as far as the broker says.
    pub protocol: Option<GroupProtocol>,
    /// Its members now.
    pub members: Vec<Member>,
}

/// One member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `client.id`.
    pub client_id: String,
    /// The id that the coordinator or the member gave.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Where it connects from.
    pub host: String,
}

impl Admin {
    /// A client for `cluster`. Nothing connects yet.
    pub fn new(cluster: &Cluster) -> Result<Self, AdminError> {
        let native = Native::new(cluster).map_err(|error| AdminError::Settings(error.to_string()))?;
        Ok(Self::over(native, cluster))
    }

    pub(super) fn over(native: Native, cluster: &Cluster) -> Self {
        Self { native, cluster: cluster.clone(), within: WITHIN }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.within
    }

    /// The same client with another deadline per call (15 s by default).
    pub fn within(mut self, deadline: Duration) -> Self {
        self.within = deadline;
        self
    }

    /// How many partitions each topic has; `None`: there is no such topic. Asking makes no topic.
    pub fn topics(&self, names: &[&str]) -> Result<BTreeMap<String, Option<usize>>, AdminError> {
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let doing = || format!("describe topic {}", names.join(", "));
        self.retrying(&doing, |left| {
            let mut found = BTreeMap::new();
            for (name, answer) in self.native.describe_topics(names, left)? {
                let partitions = match answer {
                    Ok(count) => Some(count),
                    Err(Refusal { code: Code::UnknownTopicOrPartition | Code::UnknownTopic, .. }) => None,
                    // A name that Kafka does not take is a name that no topic has.
                    Err(Refusal { code: Code::InvalidTopic, .. }) => None,
                    Err(refusal) => return Err(refusal.on(&name).into()),
                };
                found.insert(name, partitions);
            }
            Ok(found)
        })
    }

    /// Makes those of the topics that are missing, and waits until they can be used. A topic that is
    /// there stays as it is.
    pub fn create_topics(&self, topics: &[NewTopic]) -> Result<(), AdminError> {
        if topics.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        let doing = || format!("create topic {}", names.join(", "));
        self.retrying(&doing, |left| {
            for (topic, answer) in self.native.create_topics(topics, left)? {
                match answer {
                    Ok(()) | Err(Refusal { code: Code::TopicAlreadyExists, .. }) => {}
                    Err(refusal) if refusal.passes() || refusal.is_about_rights() => {
                        return Err(refusal.on(&topic).into());
                    }
                    Err(Refusal { reason, .. }) => {
                        return Err(Halt::Ended(AdminError::NotCreated { topic, reason }));
                    }
                }
            }
            Ok(())
        })?;
        // The controller answers before every broker knows.
        self.retrying(&doing, |left| {
            for (name, answer) in self.native.describe_topics(&names, left)? {
                answer.map_err(|refusal| match refusal.code {
                    Code::UnknownTopicOrPartition => Refusal { code: Code::LeaderNotAvailable, ..refusal },
                    _ => refusal.on(&name),
                })?;
            }
            Ok(())
        })
    }

    /// The offset of each partition at the asked place, in the order of the questions. `None`: no record
    /// has such a timestamp yet. A partition may be asked for once a call.
    pub fn list_offsets(
        &self,
        queries: &[(&str, i32, OffsetAt)],
        isolation: Isolation,
    ) -> Result<Vec<Option<i64>>, AdminError> {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let doing = || "list offsets".to_owned();
        self.retrying(&doing, |left| {
            let mut found = BTreeMap::new();
            let answers = match self.native.list_offsets(queries, isolation, left) {
                // What librdkafka says when it finds a leader for none of the partitions.
                Err(Refusal { code: Code::NoEnt, reason }) => {
                    self.check_existence(queries, left)?;
                    return Err(Refusal { code: Code::LeaderNotAvailable, reason }.into());
                }
                answers => answers?,
            };
            for (place, answer) in answers {
                settled(&place.topic, place.partition, answer)?;
                found.insert((place.topic, place.partition), place.offset);
            }
            let answers = queries.iter().map(|&(topic, partition, _)| {
                let offset = found.get(&(topic.to_owned(), partition)).copied();
                offset.map(|offset| (offset >= 0).then_some(offset)).ok_or_else(|| {
                    Halt::Ended(AdminError::NoPartition { topic: topic.to_owned(), partition })
                })
            });
            answers.collect()
        })
    }

    /// Log start and end of each partition, by two questions that are under way at once. A partition that is not there is
    /// left out. A partition may be asked for once a call.
    pub fn bounds(
        &self,
        partitions: &[Partition],
        isolation: Isolation,
    ) -> Result<BTreeMap<Partition, Bounds>, AdminError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.retrying(&|| "list offsets".to_owned(), |left| {
            let [first, end] = match self.native.bounds(partitions, isolation, left) {
                // What librdkafka says when it finds a leader for none of the partitions.
                Err(Refusal { code: Code::NoEnt, reason }) => {
                    return Err(Refusal { code: Code::LeaderNotAvailable, reason }.into());
                }
                answers => answers?,
            };
            let (first, end) = (offsets(first)?, offsets(end)?);
            let bounds = end.into_iter().filter_map(|(partition, end)| {
                // The log start may have been asked of another moment.
                let log_start = *first.get(&partition)?;
                Some((partition, Bounds { log_start, end: end.max(log_start) }))
            });
            Ok(bounds.collect())
        })
    }

    /// Deletes the records of each partition below an offset (KIP-107). What is gone already stays so.
    pub fn delete_records(&self, below: &[(Partition, i64)]) -> Result<(), AdminError> {
        if below.is_empty() {
            return Ok(());
        }
        let doing = || "delete records".to_owned();
        let queries: Vec<_> =
            below.iter().map(|(at, offset)| (at.topic.as_str(), at.partition, *offset)).collect();
        self.retrying(&doing, |left| {
            for (place, answer) in self.native.delete_records(&queries, left)? {
                settled(&place.topic, place.partition, answer)?;
            }
            Ok(())
        })
    }

    /// What `group` has committed: for these partitions, or for all that it has committed for. With
    /// `require_stable` offsets inside open transactions are waited for (KIP-447).
    pub fn committed(
        &self,
        group: &str,
        partitions: Option<&[Partition]>,
        require_stable: bool,
    ) -> Result<Vec<Committed>, AdminError> {
        if partitions.is_some_and(<[_]>::is_empty) {
            return Ok(Vec::new());
        }
        let doing = || format!("read the committed offsets of group {group}");
        let native = Native::of_group(&self.cluster, group)
            .map_err(|error| AdminError::Settings(error.to_string()))?;
        self.retrying(&doing, |left| {
            let mut found = Vec::new();
            for (committed, answer) in native.committed(group, partitions, require_stable, left)? {
                match answer {
                    // Of a topic that is gone nothing is committed.
                    Err(refusal) if !refusal.is_about_missing() => {
                        let Partition { topic, partition } = &committed.partition;
                        settled(topic, *partition, Err(refusal))?;
                    }
                    _ => found.push(committed),
                }
            }
            found.sort_by(|a, b| a.partition.cmp(&b.partition));
            Ok(found)
        })
    }

    /// Commits offsets for a group that has no members: start offsets at registration, a restored place.
    /// Fails with [`AdminError::GroupInUse`] when somebody has joined.
    pub fn commit_for_empty_group(&self, group: &str, commits: &[Commit]) -> Result<(), AdminError> {
        if commits.is_empty() {
            return Ok(());
        }
        let places = places(commits);
        let doing = || format!("commit offsets for group {group}");
        self.retrying(&doing, |left| altered(group, self.native.alter_committed(group, &places, left)))
    }

    /// The same for several groups, told at once and not again, in their order; one that fails takes no other along.
    pub fn commit_for_empty_groups(&self, groups: &[(&str, Vec<Commit>)]) -> Vec<Result<(), AdminError>> {
        let requests: Vec<_> = groups.iter().map(|(group, commits)| (*group, places(commits))).collect();
        let answers = self.native.alter_committed_of(&requests, self.within);
        let results = requests.iter().zip(answers).map(|((group, _), answer)| {
            altered(group, answer).map_err(|halt| match halt {
                Halt::Ended(error) => error,
                Halt::Refused(refusal) => self.error(refusal, format!("commit offsets for group {group}")),
            })
        });
        results.collect()
    }

    /// Who is in `group`. A group that nobody knows is `Dead` and empty, as in Kafka's tools.
    pub fn group(&self, group: &str) -> Result<Group, AdminError> {
        let doing = || format!("describe group {group}");
        self.retrying(&doing, |left| {
            let answers = self.native.describe_groups(&[group], left)?;
            Ok(answers.into_iter().next().map_or_else(|| Err(no_answer()), |(_, answer)| or_dead(answer))?)
        })
    }

    /// All groups that this user may see, of whatever state, those included that have no members.
    pub fn group_names(&self) -> Result<BTreeSet<String>, AdminError> {
        self.retrying(&|| "list groups".to_owned(), |left| Ok(self.native.group_names(left)?))
    }

    /// Who is in each of these groups, asked at once and not again, in their order; one that cannot be had takes no other
    /// along.
    pub fn groups(&self, groups: &[&str]) -> Result<Vec<Result<Group, AdminError>>, AdminError> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.native.describe_groups(groups, self.within);
        let answers =
            answers.map_err(|refusal| self.error(refusal, format!("describe {} groups", groups.len())))?;
        let mut answers: BTreeMap<String, Result<Group, Refusal>> = answers.into_iter().collect();
        let found = groups.iter().map(|group| {
            let answer = answers.remove(*group).unwrap_or_else(|| Err(no_answer()));
            or_dead(answer).map_err(|refusal| self.error(refusal, format!("describe group {group}")))
        });
        Ok(found.collect())
    }

    /// Fails for the first of the partitions that is not there.
    fn check_existence(&self, queries: &[(&str, i32, OffsetAt)], left: Duration) -> Result<(), Halt> {
        let names: BTreeSet<&str> = queries.iter().map(|query| query.0).collect();
        let names: Vec<&str> = names.into_iter().collect();
        for (name, answer) in self.native.describe_topics(&names, left)? {
            let count = answer.as_ref().map_or(0, |count| *count);
            let refusal = answer.err().filter(|refusal| !refusal.is_about_missing());
            if let Some(refusal) = refusal {
                return Err(refusal.on(&name).into());
            }
            let mut asked = queries.iter().filter(|query| query.0 == name).map(|query| query.1);
            if let Some(partition) = asked.find(|&partition| partition < 0 || partition as usize >= count) {
                return Err(Halt::Ended(AdminError::NoPartition { topic: name, partition }));
            }
        }
        Ok(())
    }

    /// Tries until the deadline what passes by itself.
    fn retrying<T>(
        &self,
        doing: &dyn Fn() -> String,
        mut attempt: impl FnMut(Duration) -> Result<T, Halt>,
    ) -> Result<T, AdminError> {
        let clock = SystemClock::start();
        loop {
            let left = self.within.saturating_sub(clock.now().elapsed);
            let refusal = match attempt(left.max(Duration::from_millis(1))) {
                Ok(value) => return Ok(value),
                Err(Halt::Ended(error)) => return Err(error),
                Err(Halt::Refused(refusal)) => refusal,
            };
            if !refusal.passes() || clock.now().elapsed >= self.within {
                return Err(self.error(refusal, doing()));
            }
            self.native.turn();
        }
    }

    pub(super) fn error(&self, refusal: Refusal, doing: String) -> AdminError {
        let brokers = self.cluster.brokers().to_owned();
        if matches!(refusal.code, Code::Authentication | Code::SSL | Code::SaslAuthenticationFailed) {
            return AdminError::Unauthenticated { brokers, reason: refusal.reason };
        }
        if refusal.is_about_rights() {
            return AdminError::Unauthorized { doing, reason: refusal.reason };
        }
        if refusal.passes() {
            let reason = self.native.last_trouble().unwrap_or(refusal.reason);
            return AdminError::Unreachable { brokers, within: self.within, doing, reason };
        }
        AdminError::Refused { doing, reason: refusal.reason }
    }
}

/// A group that nobody knows is empty.
fn or_dead(answer: Result<Group, Refusal>) -> Result<Group, Refusal> {
    match answer {
        Err(Refusal { code: Code::GroupIdNotFound, .. }) => {
            Ok(Group { state: "Dead".to_owned(), protocol: None, members: Vec::new() })
        }
        answer => answer,
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("brokers", &self.cluster.brokers())
            .field("within", &self.within)
            .finish()
    }
}

/// The offsets of those partitions that are there.
fn offsets(answers: Answered) -> Result<BTreeMap<Partition, i64>, Halt> {
    let mut found = BTreeMap::new();
    for (Place { topic, partition, offset, .. }, answer) in answers {
        match answer {
            Err(refusal) if refusal.is_about_missing() => {}
            Err(refusal) => return Err(refusal.on(&format!("{topic}/{partition}")).into()),
            Ok(()) => {
                found.insert(Partition { topic, partition }, offset);
            }
        }
    }
    Ok(found)
}

/// How an attempt ends without a value: for good, or by a refusal that is judged in one place.
enum Halt {
    Ended(AdminError),
    Refused(Refusal),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn places(commits: &[Commit]) -> Vec<Place> {
    let place = |commit: &Commit| Place {
        topic: commit.partition.topic.clone(),
        partition: commit.partition.partition,
        offset: commit.offset,
        metadata: commit.metadata.clone(),
    };
    commits.iter().map(place).collect()
}

/// What was answered when the offsets of a group without members were to be set.
fn altered(group: &str, answers: Answers<Place>) -> Result<(), Halt> {
    let in_use = |refusal: &Refusal| {
        matches!(
            refusal.code,
            Code::NonEmptyGroup
                | Code::UnknownMemberId
                | Code::IllegalGeneration
                | Code::RebalanceInProgress
                | Code::StaleMemberEpoch
        )
    };
    let judged = |answer: Result<(), Refusal>, place: Option<&Place>| match answer {
        Err(refusal) if in_use(&refusal) => {
            Err(Halt::Ended(AdminError::GroupInUse { group: group.to_owned() }))
        }
        answer => match place {
            Some(place) => settled(&place.topic, place.partition, answer),
            None => Ok(answer?),
        },
    };
    match answers {
        Ok(answers) => answers.into_iter().try_for_each(|(place, answer)| judged(answer, Some(&place))),
        Err(refusal) => judged(Err(refusal), None),
    }
}

/// A partition's own answer.
fn settled(topic: &str, partition: i32, answer: Result<(), Refusal>) -> Result<(), Halt> {
    answer.map_err(|refusal| {
        if refusal.is_about_missing() {
            return Halt::Ended(AdminError::NoPartition { topic: topic.to_owned(), partition });
        }
        Halt::Refused(refusal.on(&format!("{topic}/{partition}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_away_is_named_with_the_reason_and_what_to_check() {
        // Port 1 of this machine: nothing listens there.
        let admin = Admin::new(&Cluster::new("127.0.0.1:1", [])).unwrap().within(Duration::from_secs(3));
        let error = admin.topics(&["rides"]).unwrap_err();
        assert!(error.is_transient());
        let message = error.to_string();
        for part in ["127.0.0.1:1", "describe topic rides", "refused", "check the address"] {
            assert!(message.contains(part), "{part:?} is missing in: {message}");
        }
    }

    #[test]
    fn settings_that_librdkafka_does_not_know_are_named() {
        let cluster = Cluster::new("127.0.0.1:1", [("no.such.setting".to_owned(), "1".to_owned())]);
        let message = Admin::new(&cluster).unwrap_err().to_string();
        assert!(message.contains("no.such.setting"), "{message}");
    }
}
