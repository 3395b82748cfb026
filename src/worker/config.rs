//! What a worker is told when it starts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::client_id::{AdminAddress, ClientId};
use super::rate::ProcessRate;
use crate::kafka::{Cluster, MessageLimits, Partition};
use crate::model::{Clock, Function, GroupProtocol, Guarantee};
use crate::observe::Exposition;
use crate::observe::trace::SpanQueue;
use crate::plugin::Notes;

/// What a worker is told when it starts.
#[derive(Clone)]
pub struct Config {
    /// The function it runs.
    pub function: Arc<Function>,
    /// Where.
    pub cluster: Cluster,
    /// How it joins the function's group.
    pub protocol: GroupProtocol,
    /// It may be that the group takes nobody by that protocol: then another one is to be tried.
    pub may_change_protocol: bool,
    /// Which process this is: stable over restarts, so that a restarted worker fences its dead self.
    pub instance: String,
    /// Which of the function's workers in this process, from 0.
    pub slot: u32,
    /// Where the process takes orders; `None`: nowhere.
    pub admin: Option<AdminAddress>,
    /// How many partitions its redrive topic has; 0: it is not there.
    pub redrive_partitions: i32,
    /// How many partitions its stitch topic has, if it has one.
    pub stitch_partitions: i32,
    /// What the topics take that it writes; `None`: not known.
    pub limits: Option<MessageLimits>,
    /// Where its numbers are published.
    pub exposition: Exposition,
    /// What all workers of the process may call together, if that is bounded.
    pub rate: Option<ProcessRate>,
    /// Where spans go; `None`: there are none.
    pub spans: Option<SpanQueue>,
    /// Where calls are noted.
    pub notes: Option<Arc<Notes>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// `group/instance/slot`: the same after a restart, so that initialising it fences the dead
    /// predecessor at once instead of leaving readers to wait for its transaction's timeout.
    pub fn transactional_id(&self) -> String {
        format!("{}/{}/{}", self.function.group, self.instance, self.slot)
    }

    /// How the group's members are told from foreign ones, and where their processes are.
    pub fn client_id(&self) -> String {
        let Self { instance, slot, admin, .. } = self;
        ClientId { instance: instance.clone(), slot: *slot, admin: *admin }.to_string()
    }

    /// How long the broker lets a transaction stand open: 10 s, but it may be as old as cuts are apart, and calls run inside it.
    pub fn transaction_timeout(&self) -> Duration {
        let cuts_apart = self.function.delivery.commit_interval;
        Duration::from_secs(10).max(cuts_apart + self.longest_call() * 2 + Duration::from_secs(5))
    }

    /// librdkafka's, with the part of the function's memory that reading ahead may take.
    pub fn consumer_settings(&self) -> BTreeMap<String, String> {
        with_queue(&self.function.kafka.consumer, "queued.max.messages.kbytes", self.function.memory / 16)
    }

    /// librdkafka's, with the part that outputs may take: twice as much as makes a cut due.
    pub fn producer_settings(&self) -> BTreeMap<String, String> {
        with_queue(&self.function.kafka.producer, "queue.buffering.max.kbytes", self.function.memory / 2)
    }

    /// How long a call may take.
    pub fn longest_call(&self) -> Duration {
        self.function.handler.as_ref().map_or(Duration::ZERO, |handler| handler.timeout)
    }

    /// How often this process's predecessors died during calls for events of a partition from `committed` on.
    pub fn deaths(&self, partition: &Partition, committed: i64) -> BTreeMap<i64, u32> {
        let Some(notes) = &self.notes else { return BTreeMap::new() };
        let Partition { topic, partition } = partition;
        let function = self.function.name.to_string();
        notes.settle(&function, (topic, *partition), committed, &[]);
        notes.crashes(&function, topic, *partition)
    }

    /// How often this process's predecessors died during calls with results of a partition, by their numbers.
    pub fn deaths_of_results(&self, partition: i32) -> BTreeMap<i64, u32> {
        let topic = self.function.state_topic.clone();
        // No number is below that: none is settled by an offset.
        self.deaths(&Partition { topic, partition }, i64::MIN)
    }

    /// Outputs and offsets in one transaction.
    pub fn is_exactly_once(&self) -> bool {
        self.function.delivery.guarantee == Guarantee::ExactlyOnce
    }
}

/// The settings of the manifest, and a queue's size where they do not give one.
fn with_queue(settings: &BTreeMap<String, String>, name: &str, bytes: u64) -> BTreeMap<String, String> {
    let mut settings = settings.clone();
    // What librdkafka takes at most, for both.
    let kbytes = (bytes / 1024).clamp(1, 2_097_151);
    settings.entry(name.to_owned()).or_insert_with(|| kbytes.to_string());
    settings
}
