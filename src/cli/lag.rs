//! `tidemill lag`: how far a function's group is behind, per partition.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::locate::{self, Peer};
use super::process::Process;
use super::{Global, Output, connect};
use crate::kafka::admin::{Isolation, OffsetAt};
use crate::kafka::{Admin, Committed, Partition};
use crate::manifest;

/// Show how far a consumer group is behind
///
/// Lag is counted in offsets, so it is an upper bound: markers of transactions, aborted and compacted
/// records have offsets too. Processes that work on the group tell what each of its partitions is at: reading, retrying,
/// restoring its state. They are found through the group, or --admin names one; nobody needs to answer.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill lag functions/ride-receipts/function.yaml
  tidemill lag tidemill.default.ride-receipts --output json
  tidemill lag functions/ride-loyalty --admin 127.0.0.1:9465")]
pub struct LagArgs {
    /// A function's manifest, a folder with manifests, or the name of a consumer group
    #[arg(value_name = "FILE|GROUP")]
    target: String,
    #[command(flatten)]
    process: Process,
}

#[derive(Debug, Serialize, PartialEq)]
struct Row {
    topic: String,
    partition: i32,
    /// `null`: nothing was committed.
    committed: Option<i64>,
    end: i64,
    lag: i64,
    metadata: String,
    /// What the process that was asked does with it; none: it is not at work there.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// How many entries of its state were read so far, while that is restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    restored: Option<u64>,
}

impl Row {
    /// What lies before the log's start is gone and waits for nobody.
    fn new(committed: Committed, first: i64, end: i64) -> Self {
        let Committed { partition: Partition { topic, partition }, offset, metadata } = committed;
        let lag = end.saturating_sub(offset.map_or(first, |offset| offset.max(first))).max(0);
        Self { topic, partition, committed: offset, end, lag, metadata, state: None, restored: None }
    }

    /// Takes over what a process says of its lanes.
    fn hear(&mut self, lanes: &[Value]) {
        let is_it =
            |lane: &&Value| lane["topic"] == self.topic.as_str() && lane["partition"] == self.partition;
        let Some(lane) = lanes.iter().find(is_it) else { return };
        (self.state, self.restored) = (lane["state"].as_str().map(str::to_owned), lane["restored"].as_u64());
    }

    fn state(&self) -> String {
        match (&self.state, self.restored) {
            (Some(state), Some(1)) => format!("{state} (1 entry)"),
            (Some(state), Some(entries)) => format!("{state} ({entries} entries)"),
            (Some(state), None) => state.clone(),
            (None, _) => "-".to_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
struct GroupLag {
    group: String,
    members: usize,
    lag: i64,
    partitions: Vec<Row>,
    /// The processes of its members.
    #[serde(skip)]
    peers: Vec<Peer>,
}

impl LagArgs {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let groups = self.groups()?;
        let admin = Admin::new(&connect::cluster(global)?)?;
        let mut groups = groups
            .into_iter()
            .map(|(group, topics)| group_lag(&admin, group, &topics))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let peers = groups.iter_mut().flat_map(|found| std::mem::take(&mut found.peers)).collect();
        // Nobody needs to be there unless somebody was named.
        let look = locate::look(&self.process, &global.platform()?, peers)?;
        look.complain();
        let functions: Vec<Value> = look.answers.into_iter().flat_map(|answer| answer.functions).collect();
        for found in &mut groups {
            let lanes = lanes_of(&functions, &found.group);
            found.partitions.iter_mut().for_each(|row| row.hear(&lanes));
        }
        for found in &groups {
            match global.output {
                Output::Json => println!("{}", serde_json::to_string(found)?),
                Output::Text => {
                    print!("{}", table(&found.partitions));
                    println!("lag of {}: {}, members: {}", found.group, found.lag, found.members);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Groups with the topics that they read, as far as a manifest tells.
    fn groups(&self) -> anyhow::Result<Vec<(String, Vec<String>)>> {
        let path = Path::new(&self.target);
        let is_file = path.exists() || self.target.contains('/') || self.target.ends_with(".yaml");
        if !is_file {
            return Ok(vec![(self.target.clone(), Vec::new())]);
        }
        let functions = manifest::load(&[path.to_owned()])?.into_iter();
        Ok(functions
            .map(|function| {
                let mut topics: Vec<_> =
                    function.shared_sources().map(|source| source.topic.clone()).collect();
                topics.sort();
                topics.dedup();
                (function.group, topics)
            })
            .collect())
    }
}

/// The lanes of a group in what a process says of its functions.
fn lanes_of(functions: &[Value], group: &str) -> Vec<Value> {
    let own = functions.iter().filter(|function| function["group"] == group);
    let workers = own.filter_map(|function| function["workers"].as_array()).flatten();
    workers.filter_map(|worker| worker["lanes"].as_array()).flatten().cloned().collect()
}

/// The lag of one group: where it has committed, and in every partition of `topics`, committed or not.
fn group_lag(admin: &Admin, group: String, topics: &[String]) -> anyhow::Result<GroupLag> {
    let mut committed = admin.committed(&group, None, false)?;
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    for (topic, count) in admin.topics(&names)? {
        let Some(count) = count else {
            eprintln!("tidemill: topic {topic} of group {group} does not exist yet");
            continue;
        };
        for partition in 0..count as i32 {
            let partition = Partition { topic: topic.clone(), partition };
            if !committed.iter().any(|known| known.partition == partition) {
                committed.push(Committed { partition, offset: None, metadata: String::new() });
            }
        }
    }
    if committed.is_empty() && topics.is_empty() {
        bail!("group {group} has committed nothing; check the name, or wait for its first cut");
    }
    committed.sort_by(|a, b| a.partition.cmp(&b.partition));
    let partitions = rows(admin, committed)?;
    let lag = partitions.iter().map(|row| row.lag).sum();
    let members = admin.group(&group)?.members;
    Ok(GroupLag { members: members.len(), group, lag, partitions, peers: locate::peers(&members) })
}

fn rows(admin: &Admin, committed: Vec<Committed>) -> anyhow::Result<Vec<Row>> {
    let list = |at| {
        let queries: Vec<_> =
            committed.iter().map(|c| (c.partition.topic.as_str(), c.partition.partition, at)).collect();
        admin.list_offsets(&queries, Isolation::ReadCommitted)
    };
    let first = list(OffsetAt::Earliest)?;
    let end = list(OffsetAt::Latest)?;
    let bounds = first.into_iter().zip(end);
    let rows = committed.into_iter().zip(bounds);
    Ok(rows.map(|(c, (first, end))| Row::new(c, first.unwrap_or(0), end.unwrap_or(0))).collect())
}

fn table(rows: &[Row]) -> String {
    let topic = rows.iter().map(|row| row.topic.len()).max().unwrap_or(0).max("topic".len());
    // Only where somebody said something.
    let is_heard = rows.iter().any(|row| row.state.is_some());
    let width = rows.iter().map(|row| row.state().len()).max().unwrap_or(0).max("state".len());
    let column = |state: &str| if is_heard { format!("  {state:width$}") } else { String::new() };
    let mut text = format!(
        "{:topic$}  partition  {:>12}  {:>12}  {:>12}{}  metadata\n",
        "topic",
        "committed",
        "end",
        "lag",
        column("state")
    );
    for row in rows {
        let state = column(&row.state());
        let committed = row.committed.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let metadata: String = row.metadata.chars().filter(|c| !c.is_control()).take(40).collect();
        let more = if row.metadata.chars().count() > 40 { "…" } else { "" };
        let line = format!(
            "{:topic$}  {:>9}  {committed:>12}  {:>12}  {:>12}{state}  {metadata}{more}",
            row.topic, row.partition, row.end, row.lag
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: Option<i64>) -> Committed {
        let partition = Partition { topic: "rides".to_owned(), partition: 0 };
        Committed { partition, offset, metadata: "m".repeat(50) }
    }

    #[test]
    fn lag_counts_from_what_is_still_there() {
        for (offset, first, end, lag) in [
            (Some(7), 0, 10, 3),
            (None, 4, 10, 6),
            (Some(2), 4, 10, 6),
            (Some(12), 0, 10, 0),
            (Some(0), 0, 0, 0),
        ] {
            assert_eq!(Row::new(committed(offset), first, end).lag, lag, "{offset:?} {first} {end}");
        }
    }

    #[test]
    fn the_table_lines_up() {
        let rows = [Row::new(committed(Some(1_000_000)), 0, 1_000_001), Row::new(committed(None), 0, 5)];
        let lines: Vec<_> = table(&rows).lines().map(|line| line[..60].to_owned()).collect();
        assert_eq!(lines[1], "rides          0       1000000       1000001             1  ");
        assert!(table(&rows).lines().nth(1).unwrap().ends_with(&format!("{}…", "m".repeat(40))));
    }

    #[test]
    fn what_a_process_says_stands_beside_its_partitions() {
        let mut rows = [0, 1, 2].map(|partition| {
            let partition = Partition { topic: "rides".to_owned(), partition };
            Row::new(Committed { partition, offset: Some(1), metadata: "m".to_owned() }, 0, 1)
        });
        let functions = serde_json::json!([
            { "group": "other", "workers": [{ "lanes": [{ "topic": "rides", "partition": 2, "state": "reading" }] }] },
            { "group": "own", "workers": [
                { "lanes": [{ "topic": "rides", "partition": 0, "state": "restoring", "restored": 12 }] },
                { "lanes": [{ "topic": "rides", "partition": 1, "state": "reading" }] },
            ] },
        ]);
        let lanes = lanes_of(functions.as_array().unwrap(), "own");
        rows.iter_mut().for_each(|row| row.hear(&lanes));
        let text = table(&rows);
        let ends: Vec<_> = text.lines().map(|line| &line[60..]).collect();
        assert_eq!(
            ends,
            [
                "state                   metadata",
                "restoring (12 entries)  m",
                "reading                 m",
                "-                       m"
            ]
        );
        assert_eq!(serde_json::to_value(&rows[2]).unwrap().get("state"), None);
    }
}
