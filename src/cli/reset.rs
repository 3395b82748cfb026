//! `tidemill reset --state`: a function that stands still forgets what its windows have gathered.
//!
//! First the group's offsets are committed again without the lanes' watermarks, which the broker refuses while somebody is
//! in the group; then the state goes. If that ends in between it is run again: a function that starts before has windows
//! without the old time, or some of them, but nothing that it could not read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::scan::{self, Stretch};
use super::{Global, Output, Which, connect};
use crate::kafka::admin::Isolation;
use crate::kafka::{
    Admin, AdminError, Cluster, Commit, Committed, Consumer, Origin, Partition, Produce, Producer,
    ProducerConfig,
};
use crate::model::{Function, Record};
use crate::pipeline::{Checkpoint, Ledger};
use crate::window::FORGOTTEN;

/// How long brokers may take for what is written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// Let a function begin anew
///
/// With --state: forgets its open windows, results that wait for their handler, and how far event time had come. The
/// function must not run anywhere. It then goes on from its committed offsets with empty windows, also with other windows
/// than before. What was gathered and gave no result is lost: its events are not read again.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill reset functions/ride-loyalty --state --dry-run
  tidemill drain ride-loyalty && tidemill reset functions/ride-loyalty --state --yes

The records of the state topic are deleted, or, where the broker does that for no compacted topic,
each key is written again without a value. Accounts and offsets stay as they are. To read events
again, commit earlier offsets before the function starts (kafka-consumer-groups.sh --reset-offsets).

Exit codes: 0 done, or nothing to do; 1 refused, not confirmed, or an error; 2 wrong usage or an invalid manifest.")]
pub struct Reset {
    #[command(flatten)]
    which: Which,
    /// Forget the state
    #[arg(long, required = true)]
    state: bool,
    /// Say what would be deleted, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What there is to forget.
struct Plan {
    function: String,
    state_topic: String,
    /// Each partition of the state topic as it stands.
    whole: Vec<Stretch>,
    /// Keys that have a value, by partition.
    live: BTreeMap<i32, BTreeSet<Vec<u8>>>,
    /// What is committed, without watermarks, where there were any.
    commits: Vec<Commit>,
    /// Events on their way to their windows. They bring along how far their sources had come.
    on_their_way: u64,
}

/// How the state went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// The broker deleted the records.
    Deleted,
    /// Each key was written again without a value.
    Overwritten,
    /// There was none.
    Nothing,
}

impl Reset {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        debug_assert!(self.state, "clap requires it");
        let function = self.which.function()?;
        let cluster = connect::cluster(global)?;
        let admin = Admin::new(&cluster)?;
        refuse_if_it_runs(&admin, &function)?;
        let plan = Plan::make(&cluster, &admin, &function)?;
        if self.dry_run {
            plan.report(global, None);
            return Ok(ExitCode::SUCCESS);
        }
        if !plan.is_empty() && !self.yes {
            confirm(&plan)?;
        }
        let means = plan.carry_out(&cluster, &admin, &function)?;
        refuse_if_it_runs(&admin, &function)
            .context("it was started meanwhile, and may have taken up what was about to go; stop it and run this again")?;
        plan.report(global, Some(means));
        Ok(ExitCode::SUCCESS)
    }
}

fn refuse_if_it_runs(admin: &Admin, function: &Function) -> anyhow::Result<()> {
    let members = admin.group(&function.group)?.members;
    let Some(first) = members.first() else { return Ok(()) };
    let (name, group, count) = (&function.name, &function.group, members.len());
    bail!(
        "{name} runs: group {group} has {count} members, the first at {} ({}); stop its processes or take it out of them \
         (tidemill drain), wait for killed ones to be thrown out (session.timeout.ms), and run this again",
        first.host,
        first.client_id
    )
}

/// Asks whoever sits there.
fn confirm(plan: &Plan) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!(
            "{} would go, and nobody is there to be asked: --yes does it, --dry-run only looks",
            plan.what()
        );
    }
    eprint!("{} go, and nothing brings them back. Type yes: ", plan.what());
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => bail!("not confirmed: nothing was changed"),
    }
}

impl Plan {
    fn make(cluster: &Cluster, admin: &Admin, function: &Function) -> anyhow::Result<Self> {
        if function.window.is_none() {
            bail!("{} has no window, and so no state", function.name);
        }
        let topic = function.state_topic.as_str();
        // An open transaction would bring back what it commits.
        let (commits, on_their_way) = without_watermarks(cluster, admin, function)?;
        let whole = scan::whole(admin, &[topic], Isolation::ReadUncommitted)?;
        if whole.is_empty() {
            bail!("state topic {topic} does not exist: the function has not run on this cluster yet");
        }
        let live = live(cluster, &whole)?;
        let (function, state_topic) = (function.name.to_string(), topic.to_owned());
        Ok(Self { function, state_topic, whole, live, commits, on_their_way })
    }

    fn entries(&self) -> usize {
        self.live.values().map(BTreeSet::len).sum()
    }

    fn is_empty(&self) -> bool {
        self.live.is_empty() && self.commits.is_empty()
    }

    /// What is there to forget.
    fn what(&self) -> String {
        let plural = |count: usize, one: &str, more: &str| match count {
            1 => format!("1 {one}"),
            n => format!("{n} {more}"),
        };
        format!(
            "{} in {} of {} and the event time of {} of {}",
            plural(self.entries(), "entry", "entries"),
            plural(self.live.len(), "partition", "partitions"),
            self.state_topic,
            plural(self.commits.len(), "partition", "partitions"),
            self.function
        )
    }

    fn carry_out(&self, cluster: &Cluster, admin: &Admin, function: &Function) -> anyhow::Result<Means> {
        admin.commit_for_empty_group(&function.group, &self.commits)?;
        if self.live.is_empty() {
            return Ok(Means::Nothing);
        }
        let some = self.whole.iter().filter(|stretch| self.live.contains_key(&stretch.partition.partition));
        let below: Vec<_> = some.map(|stretch| (stretch.partition.clone(), stretch.to)).collect();
        match admin.delete_records(&below) {
            Ok(()) => Ok(Means::Deleted),
            // A compacted topic deletes nothing (POLICY_VIOLATION); to write there needs no right of its own.
            Err(AdminError::Refused { .. } | AdminError::Unauthorized { .. }) => {
                self.overwrite(cluster, function)?;
                Ok(Means::Overwritten)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes each key again without a value, so that compaction takes it away. What says of which windows the state is
    /// comes last, and gives up all before it at once: until then the state is refused, if it was.
    fn overwrite(&self, cluster: &Cluster, function: &Function) -> anyhow::Result<()> {
        let mut producer = Producer::new(&ProducerConfig {
            cluster,
            client_id: "tidemill-reset",
            transactional_id: None,
            transaction_timeout: Duration::ZERO,
            limits: None,
            settings: &function.kafka.producer,
        })?;
        let topic = producer.topic(&self.state_topic)?;
        for (partition, keys) in &self.live {
            let others = keys.iter().map(Vec::as_slice).filter(|key| *key != FORGOTTEN);
            for key in others.chain([FORGOTTEN]) {
                producer.produce(&Produce {
                    topic,
                    partition: Some(*partition),
                    key: Some(key),
                    value: None,
                    headers: &[],
                    timestamp_ms: None,
                    origin: Origin::new(*partition as u16, 0),
                });
            }
        }
        let is_flushed = producer.flush(WRITTEN_WITHIN);
        if let Some(error) = producer.fatal().cloned() {
            return Err(error.into());
        }
        if let Some(first) = producer.refusals().first() {
            bail!("topic {} refused what was written: {}; run this again", first.topic, first.reason);
        }
        if !is_flushed {
            bail!(
                "topic {} did not take all of it within {WRITTEN_WITHIN:?}; run this again",
                self.state_topic
            );
        }
        Ok(())
    }

    /// Says what went, or with no means what would.
    fn report(&self, global: &Global, means: Option<Means>) {
        if global.output == Output::Json {
            println!("{}", self.document(means));
            return;
        }
        let how = match means {
            _ if self.is_empty() => {
                println!("{} has gathered nothing: nothing to forget", self.function);
                return;
            }
            None => "would go",
            Some(Means::Deleted) => "are gone: the records were deleted",
            Some(Means::Overwritten) => "are gone: each key was written again without a value",
            Some(Means::Nothing) => "are gone",
        };
        println!("{} {how}", self.what());
        if self.on_their_way > 0 {
            println!(
                "{} events are on their way to their windows already: what comes before the time that their sources had \
                 come to then is late",
                self.on_their_way
            );
        }
    }

    fn document(&self, means: Option<Means>) -> serde_json::Value {
        json!({
            "function": self.function,
            "stateTopic": self.state_topic,
            "entries": self.entries(),
            "partitions": self.live.len(),
            "watermarks": self.commits.len(),
            "onTheirWay": self.on_their_way,
            "dryRun": means.is_none(),
            "by": match means {
                Some(Means::Deleted) => "deletion",
                Some(Means::Overwritten) => "tombstones",
                Some(Means::Nothing) | None => "nothing",
            },
        })
    }
}

/// What the group has committed where time stands beside it, to be committed again without. A clock's is its last tick. How
/// far sources had come stands in the stitch topic too: where nothing else is left to be read, that is passed over; else so
/// many events are on their way there.
fn without_watermarks(
    cluster: &Cluster,
    admin: &Admin,
    function: &Function,
) -> anyhow::Result<(Vec<Commit>, u64)> {
    let sources = function.sources.iter().filter(|source| source.schedule.is_none());
    let mut topics: Vec<&str> = sources.map(|source| source.topic.as_str()).collect();
    topics.extend(function.stitch_topic.as_deref());
    topics.sort_unstable();
    topics.dedup();
    let found = admin.topics(&topics)?;
    let counted = found.into_iter().filter_map(|(topic, count)| Some((topic, count? as i32)));
    let partitions = counted.flat_map(|(topic, count)| {
        (0..count).map(move |partition| Partition { topic: topic.clone(), partition })
    });
    let committed = admin
        .committed(&function.group, Some(&partitions.collect::<Vec<_>>()), true)
        .context("asked what is committed (a transaction that a killed worker left open is waited for)")?;
    let mut unread = unread(cluster, admin, function, &committed)?;
    let on_their_way = unread.values().map(|unread| unread.events).sum();
    unread.retain(|_, unread| unread.events == 0 && unread.tidings > 0);
    let mut commits = Vec::new();
    for found in committed {
        let Some(offset) = found.offset else { continue };
        let mut checkpoint = Checkpoint::read(offset, &found.metadata)
            .with_context(|| format!("what {} has committed for {}", function.group, found.partition))?;
        let had_time = std::mem::replace(&mut checkpoint.watermark_ms, i64::MIN) != i64::MIN;
        let passed_over = unread.get(&found.partition);
        if let Some(unread) = passed_over {
            checkpoint.ledger = Ledger::starting_at(unread.end);
        }
        if had_time || passed_over.is_some() {
            let (offset, metadata) = (checkpoint.offset(), checkpoint.metadata());
            commits.push(Commit { partition: found.partition, offset, metadata });
        }
    }
    Ok((commits, on_their_way))
}

/// What of a partition of the stitch topic is still to be read.
#[derive(Default)]
struct Unread {
    end: i64,
    events: u64,
    /// Records that say how far sources have come: they have no key.
    tidings: u64,
}

fn unread(
    cluster: &Cluster,
    admin: &Admin,
    function: &Function,
    committed: &[Committed],
) -> anyhow::Result<BTreeMap<Partition, Unread>> {
    let Some(topic) = function.stitch_topic.as_deref() else { return Ok(BTreeMap::new()) };
    let mut stretches = scan::whole(admin, &[topic], Isolation::ReadUncommitted)?;
    for stretch in &mut stretches {
        let own = committed.iter().find(|found| found.partition == stretch.partition);
        stretch.from = own.and_then(|own| own.offset).unwrap_or(0).max(stretch.from);
    }
    let ends = stretches
        .iter()
        .map(|stretch| (stretch.partition.clone(), Unread { end: stretch.to, ..Unread::default() }));
    let mut unread: BTreeMap<Partition, Unread> = ends.collect();
    read(cluster, &stretches, &mut |record| {
        let place = Partition { topic: record.topic.to_owned(), partition: record.partition };
        let counts = unread.entry(place).or_default();
        *(if record.key.is_some() { &mut counts.events } else { &mut counts.tidings }) += 1;
    })?;
    Ok(unread)
}

fn read(cluster: &Cluster, stretches: &[Stretch], visit: &mut dyn FnMut(&Record<'_>)) -> anyhow::Result<()> {
    let some = stretches.iter().filter(|stretch| stretch.from < stretch.to);
    let starts: Vec<_> = some.map(|stretch| (stretch.partition.clone(), stretch.from)).collect();
    if starts.is_empty() {
        return Ok(());
    }
    let mut consumer = Consumer::reader(cluster, "reset")?;
    consumer.assign(&starts)?;
    let _ = scan::read(&mut consumer, stretches, &mut |record| {
        visit(record);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(())
}

/// The keys that have a value, by partition.
fn live(cluster: &Cluster, whole: &[Stretch]) -> anyhow::Result<BTreeMap<i32, BTreeSet<Vec<u8>>>> {
    let mut live: BTreeMap<i32, BTreeSet<Vec<u8>>> = BTreeMap::new();
    read(cluster, whole, &mut |record| {
        let (keys, key) = (live.entry(record.partition).or_default(), record.key.unwrap_or_default());
        match record.value {
            Some(_) if !keys.contains(key) => drop(keys.insert(key.to_vec())),
            Some(_) => {}
            None => drop(keys.remove(key)),
        }
    })?;
    live.retain(|_, keys| !keys.is_empty());
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(keys: &[&str]) -> Plan {
        let live: BTreeSet<_> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        let partition = Partition { topic: "rides".to_owned(), partition: 0 };
        Plan {
            function: "default/f".to_owned(),
            state_topic: "f.state".to_owned(),
            whole: Vec::new(),
            live: if live.is_empty() { BTreeMap::new() } else { BTreeMap::from([(0, live)]) },
            commits: keys
                .iter()
                .map(|_| Commit { partition: partition.clone(), offset: 0, metadata: String::new() })
                .collect(),
            on_their_way: 0,
        }
    }

    #[test]
    fn what_would_go_is_counted() {
        assert_eq!(
            plan(&["s"]).what(),
            "1 entry in 1 partition of f.state and the event time of 1 partition of default/f"
        );
        assert_eq!(
            plan(&["s", "w"]).what(),
            "2 entries in 1 partition of f.state and the event time of 2 partitions of default/f"
        );
        assert!(plan(&[]).is_empty());
    }

    #[test]
    fn programs_are_told_whether_and_how_it_went() {
        let document = plan(&["s", "w"]).document(None);
        assert_eq!((&document["dryRun"], &document["by"]), (&true.into(), &"nothing".into()));
        let document = plan(&["s", "w"]).document(Some(Means::Overwritten));
        assert_eq!((&document["entries"], &document["by"]), (&2.into(), &"tombstones".into()));
    }
}
