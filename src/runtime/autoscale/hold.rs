//! Who decides about a function: of several `autoscale` one, and the others stand by.
//!
//! Each function has a consumer group for that, `<group>.scaler`, of which nothing is read. Who finds it empty joins and
//! decides; who finds somebody in it stays outside and looks again, so whoever decides is not disturbed by those that wait. One
//! that dies is thrown out after its session, and then the group is empty. Of two that join at once the group's first
//! partition tells which stays.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::kafka::admin::Member;
use crate::kafka::{Cluster, Consumer, ConsumerConfig, Error, GroupEvent, Partition};
use crate::model::{Function, GroupProtocol};
use crate::scale::{Role, Target};
use crate::worker::ClientId;

/// How long who has joined may have no partition: then it is looked who else is there.
const SETTLED_AFTER: Duration = Duration::from_secs(10);

/// The group of those that scale a function whose group this is.
pub fn scaler_group(group: &str) -> String {
    format!("{group}.scaler")
}

/// Who decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// This process.
    Here,
    /// Another one.
    Elsewhere(String),
    /// That is not settled.
    Open,
}

/// A claim to decide about one function.
pub(super) struct Hold {
    cluster: Cluster,
    /// The group.
    pub group: String,
    topics: Vec<String>,
    client_id: String,
    joined: Option<Joined>,
}

struct Joined {
    consumer: Consumer,
    partitions: BTreeSet<Partition>,
    since: Duration,
}

impl Hold {
    /// Nothing is claimed yet.
    pub fn new(cluster: &Cluster, function: &Function, client_id: &str) -> Self {
        let sources = Target::of(function).sources;
        let sources = sources.into_iter().filter(|source| source.role == Role::Source);
        let sources = sources.map(|source| source.topic);
        // A clock's topic is made by the first worker.
        let topics = sources.chain(function.sinks.iter().map(|sink| sink.topic.clone()));
        Self {
            cluster: cluster.clone(),
            group: scaler_group(&function.group),
            topics: topics.take(1).collect(),
            client_id: client_id.to_owned(),
            joined: None,
        }
    }

    /// Hears the group, whose members are these if that is known, and says who decides.
    pub fn turn(&mut self, at: Duration, members: Option<&[Member]>) -> Result<Held, Error> {
        let Some(joined) = &mut self.joined else {
            match members {
                Some([]) => self.joined = Some(self.join(at)?),
                Some([member, ..]) => return Ok(Held::Elsewhere(instance_of(member))),
                None => {}
            }
            return Ok(Held::Open);
        };
        joined.hear()?;
        let has_first = joined.partitions.iter().any(|partition| partition.partition == 0);
        let is_settled = at.saturating_sub(joined.since) >= SETTLED_AFTER;
        if has_first {
            return Ok(Held::Here);
        }
        let Some(members) = members else { return Ok(Held::Open) };
        match members.iter().find(|member| member.client_id != self.client_id) {
            // Its topic is yet to be made, by the first worker.
            None if is_settled => Ok(Held::Here),
            Some(member) if is_settled => {
                let held = Held::Elsewhere(instance_of(member));
                self.leave();
                Ok(held)
            }
            _ => Ok(Held::Open),
        }
    }

    fn join(&self, at: Duration) -> Result<Joined, Error> {
        let consumer = Consumer::new(&ConsumerConfig {
            cluster: &self.cluster,
            group: &self.group,
            client_id: &self.client_id,
            longest_silence: Duration::ZERO,
            // Every broker has it, and nobody waits for a scaler.
            protocol: GroupProtocol::Classic,
            settings: &Default::default(),
        })?;
        consumer.subscribe(&self.topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Joined { consumer, partitions: BTreeSet::new(), since: at })
    }

    /// Gives the claim up, if there is one, so that others need not wait for its end.
    pub fn leave(&mut self) {
        if let Some(joined) = self.joined.take() {
            joined.consumer.close();
        }
    }
}

impl Joined {
    /// What the group gives is noted and not read.
    fn hear(&mut self) -> Result<(), Error> {
        while let Some(event) = self.consumer.group_event() {
            match event {
                GroupEvent::Assign(given) => {
                    self.consumer.assign(&[])?;
                    self.partitions.extend(given);
                }
                GroupEvent::Revoke { partitions, .. } => {
                    self.consumer.release(&partitions)?;
                    self.partitions.retain(|partition| !partitions.contains(partition));
                }
                // It goes on trying.
                GroupEvent::Away(_) | GroupEvent::Trouble(_) => {}
            }
        }
        if self.consumer.is_assignment_lost() {
            self.partitions.clear();
        }
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.leave();
    }
}

fn instance_of(member: &Member) -> String {
    member.client_id.parse().map_or_else(|_| member.client_id.clone(), |ClientId { instance, .. }| instance)
}
