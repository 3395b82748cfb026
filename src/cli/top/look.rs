//! One look at everything: groups, offsets, processes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::age::Ends;
use crate::cli::locate::{self, Look, Peer};
use crate::cli::process::Process;
use crate::kafka::admin::Group;
use crate::kafka::{Admin, Cluster, GroupAdmin, Partition, read_first};
use crate::manifest::Platform;
use crate::model::{Clock as _, Function, SystemClock};
use crate::runtime::autoscale::scaler_group;
use crate::scale::{Inputs, Sample, Sampler, Target};

/// How long the cluster has for one question.
const WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked which functions there are.
const FIND_EVERY: Duration = Duration::from_secs(10);
/// How long a process that did not answer is left alone.
const SILENT_FOR: Duration = Duration::from_secs(15);
/// So many records are read in a look, at most, to learn when they were written.
const READ_AT_ONCE: usize = 8;

/// Everything at one moment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// Functions by name.
    pub functions: Vec<Row>,
    /// Processes that run them and did not answer, and why.
    pub silent: Vec<String>,
}

/// One function.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `namespace/name`.
    pub function: String,
    /// Its consumer group.
    pub group: String,
    /// What its processes say, or `working` and `empty` where none says anything: whether there are members.
    pub state: String,
    /// Members of the group.
    pub workers: u32,
    /// How many there should be; `null`: nobody says.
    pub wanted: Option<u32>,
    /// Records to be handled, at most; `null`: not known yet.
    pub lag: Option<u64>,
    /// How long ago the oldest of them was written, milliseconds.
    pub behind_ms: Option<i64>,
    /// Records that came, a second.
    pub arrival_rate: Option<f64>,
    /// Records that were finished, a second.
    pub throughput: Option<f64>,
    /// Milliseconds until the next deadline.
    pub wake_in_ms: Option<u64>,
    /// Why there should be so many, for people.
    pub why: Option<String>,
    /// A person's number: `workers`, `leftMs`.
    #[serde(rename = "override")]
    pub fixed: Option<Value>,
    /// Processes that answered.
    pub processes: usize,
    /// What is wrong.
    pub problem: Option<String>,
}

/// Looks, again and again.
pub struct Looker {
    cluster: Cluster,
    admin: Option<GroupAdmin>,
    sampler: Sampler,
    process: Process,
    platform: Platform,
    /// Those of manifests; `None`: all that are found.
    named: Option<Vec<(String, Target)>>,
    found: Vec<(String, Target)>,
    found_at: Option<Duration>,
    before: BTreeMap<String, (Duration, Sample)>,
    ends: BTreeMap<Partition, Ends>,
    silent: BTreeMap<String, (Duration, Option<String>)>,
    clock: SystemClock,
}

impl Looker {
    pub fn new(
        cluster: &Cluster,
        functions: Option<Vec<Function>>,
        process: Process,
        platform: Platform,
    ) -> anyhow::Result<Self> {
        let named = functions.map(|functions| {
            functions.iter().map(|function| (function.name.to_string(), Target::of(function))).collect()
        });
        Ok(Self {
            cluster: cluster.clone(),
            admin: None,
            sampler: Sampler::new(cluster, WITHIN),
            process,
            platform,
            named,
            found: Vec::new(),
            found_at: None,
            before: BTreeMap::new(),
            ends: BTreeMap::new(),
            silent: BTreeMap::new(),
            clock: SystemClock::start(),
        })
    }

    /// Everything as it stands now. Rates are those since the look before.
    pub fn look(&mut self) -> anyhow::Result<View> {
        let admin = match self.admin.take() {
            Some(admin) => admin,
            None => GroupAdmin::new(&self.cluster, "top")?.within(WITHIN),
        };
        self.find(admin.admin())?;
        let targets: Vec<Target> = self.found.iter().map(|(_, target)| target.clone()).collect();
        let scalers: Vec<String> = targets.iter().map(|target| scaler_group(&target.group)).collect();
        let names = targets.iter().map(|target| &target.group).chain(&scalers);
        let groups = admin.admin().groups(&names.map(String::as_str).collect::<Vec<_>>())?;
        let samples = self.sampler.sample(&targets)?;
        let is_well = groups.iter().all(Result::is_ok);
        let now = self.clock.now();
        let look = self.ask(groups.iter().filter_map(|group| group.as_ref().ok()))?;
        let standings = look.standings();
        let mut functions = Vec::new();
        let mut unknown = READ_AT_ONCE;
        for (((name, target), group), sample) in self.found.clone().into_iter().zip(groups).zip(samples) {
            let mut row = Row { function: name, group: target.group, ..Row::default() };
            match group {
                Ok(group) => row.workers = u32::try_from(group.members.len()).unwrap_or(u32::MAX),
                Err(error) => row.problem = Some(error.to_string()),
            }
            match sample {
                Ok(sample) => {
                    row.behind_ms = self.behind_ms(&sample, now.wall_ms, &mut unknown);
                    self.measure(&mut row, sample);
                }
                Err(error) => row.problem = Some(error.to_string()),
            }
            row.hear(&look, &standings);
            functions.push(row);
        }
        functions.sort_by(|a, b| a.function.cmp(&b.function));
        self.admin = is_well.then_some(admin);
        let silent = self.silent.iter().filter_map(|(instance, (_, why))| Some((instance, why.as_ref()?)));
        let silent = silent.map(|(instance, why)| format!("{instance}: {why}")).collect();
        Ok(View { at_ms: now.wall_ms, functions, silent })
    }

    /// Which functions there are.
    fn find(&mut self, admin: &Admin) -> anyhow::Result<()> {
        if let Some(named) = &self.named {
            self.found.clone_from(named);
            return Ok(());
        }
        let now = self.clock.now().elapsed;
        if self.found_at.is_some_and(|at| now.saturating_sub(at) < FIND_EVERY) {
            return Ok(());
        }
        let names = admin.group_names()?;
        self.found.retain(|(_, target)| names.contains(&target.group));
        for (name, group) in names.iter().filter_map(|group| Some((function_of(group)?, group))) {
            if self.found.iter().any(|(_, target)| target.group == *group) {
                continue;
            }
            let committed = admin.committed(group, None, false)?;
            let topics: BTreeSet<String> =
                committed.into_iter().map(|committed| committed.partition.topic).collect();
            if !topics.is_empty() {
                self.found.push((name, Target::of_topics(group, topics)));
            }
        }
        self.found_at = Some(now);
        Ok(())
    }

    /// The processes that the groups name, but for those that did not answer lately.
    fn ask<'a>(&mut self, groups: impl Iterator<Item = &'a Group>) -> anyhow::Result<Look> {
        let now = self.clock.now().elapsed;
        self.silent.retain(|_, (since, _)| now.saturating_sub(*since) < SILENT_FOR);
        let peers: BTreeMap<String, Peer> = groups
            .flat_map(|group| locate::peers(&group.members))
            .filter(|peer| !self.silent.contains_key(&peer.instance))
            .map(|peer| (peer.instance.clone(), peer))
            .collect();
        let look = locate::look(&self.process, &self.platform, peers.into_values().collect())?;
        for silent in &look.silent {
            let why = silent.listens.then(|| silent.why.clone());
            self.silent.insert(silent.instance.clone(), (now, why));
        }
        Ok(look)
    }

    fn measure(&mut self, row: &mut Row, sample: Sample) {
        let now = self.clock.now();
        let wall_ms = u64::try_from(now.wall_ms).unwrap_or(0);
        row.lag = Some(sample.backlog());
        row.wake_in_ms = sample.wake_at_ms().map(|at| at.saturating_sub(wall_ms));
        if let Some((at, before)) = self.before.get(&row.group) {
            let apart = now.elapsed.saturating_sub(*at);
            let inputs = Inputs::between([before, &sample], apart, row.workers, wall_ms);
            row.arrival_rate = Some(inputs.arrival_rate());
            row.throughput = Some(inputs.throughput());
        }
        self.before.insert(row.group.clone(), (now.elapsed, sample));
    }

    /// How old the oldest unread record is. One that was there before the first look is read, of not too many partitions.
    fn behind_ms(&mut self, sample: &Sample, now_ms: i64, unknown: &mut usize) -> Option<i64> {
        let mut oldest: Option<i64> = None;
        for lane in &sample.lanes {
            let ends = self.ends.entry(lane.partition.clone()).or_default();
            ends.note(now_ms, lane.bounds.end);
            if lane.backlog() == 0 {
                continue;
            }
            let from = lane.committed.unwrap_or(lane.bounds.log_start).max(lane.bounds.log_start);
            if ends.written_ms(from).is_none() && *unknown > 0 {
                *unknown -= 1;
                let time =
                    read_first(&self.cluster, &lane.partition, from, WITHIN, |record| record.timestamp_ms);
                if let Ok(Some(written_ms)) = time {
                    ends.learn(written_ms.min(now_ms), from);
                    // Where it ends now is to be known too.
                    ends.note(now_ms, lane.bounds.end);
                }
            }
            let written = ends.written_ms(from);
            oldest = oldest.into_iter().chain(written).min();
        }
        match oldest {
            Some(written_ms) => Some((now_ms - written_ms).max(0)),
            None => (sample.backlog() == 0).then_some(0),
        }
    }
}

/// The function whose group it is by default.
fn function_of(group: &str) -> Option<String> {
    let (namespace, name) = group.strip_prefix("tidemill.")?.split_once('.')?;
    // Where letters of a redrive stand, and who scales.
    let is_other = [".redrive", ".scaler"].iter().any(|end| name.ends_with(end));
    (!is_other).then(|| format!("{namespace}/{name}"))
}

impl Row {
    /// Takes over what processes say.
    fn hear(&mut self, look: &Look, standings: &BTreeMap<String, Value>) {
        let said = look.of(&self.function).flat_map(|answer| &answer.functions);
        let said: Vec<&Value> = said.filter(|found| found["name"] == self.function.as_str()).collect();
        self.processes = said.len();
        let words: BTreeSet<&str> = said.iter().filter_map(|found| found["state"]["is"].as_str()).collect();
        // The liveliest first: others may sleep while one works.
        let by_life = ["running", "parked", "paused", "waiting", "starting", "stopping", "stopped", "asleep"]
            .into_iter();
        let state = by_life.into_iter().find(|word| words.contains(word));
        self.state = state.unwrap_or(if self.workers > 0 { "working" } else { "empty" }).to_owned();
        self.fixed = said.iter().map(|found| &found["override"]).find(|fixed| fixed.is_object()).cloned();
        let problem =
            said.iter().find_map(|found| found["state"]["reason"].as_str().or(found["problem"].as_str()));
        self.problem = self.problem.take().or(problem.map(str::to_owned));
        if let Some(standing) = standings.get(&self.function) {
            self.wanted = standing["desired"].as_u64().and_then(|workers| u32::try_from(workers).ok());
            self.why = standing["text"].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            let fixed = Some(&standing["override"]).filter(|fixed| fixed.is_object()).cloned();
            self.fixed = self.fixed.take().or(fixed);
        } else if state == Some("asleep") {
            self.wanted = Some(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_known_by_their_groups() {
        assert_eq!(function_of("tidemill.default.rides").as_deref(), Some("default/rides"));
        assert_eq!(function_of("tidemill.default.a.b").as_deref(), Some("default/a.b"));
        for other in
            ["rides", "tidemill.x", "tidemill.default.rides.redrive", "tidemill.default.rides.scaler"]
        {
            assert_eq!(function_of(other), None, "{other}");
        }
    }
}
