//! `tidemill lag`: how far a function's group is behind, per partition.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::{Global, Output, connect};
use crate::kafka::admin::{Isolation, OffsetAt};
use crate::kafka::{Admin, Committed, Partition};
use crate::manifest;

/// Show how far a consumer group is behind
///
/// Lag is counted in offsets, so it is an upper bound: markers of transactions, aborted and compacted
/// records have offsets too.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill lag functions/ride-receipts/function.yaml
  tidemill lag tidemill.default.ride-receipts --output json")]
pub struct LagArgs {
    /// A function's manifest, a folder with manifests, or the name of a consumer group
    #[arg(value_name = "FILE|GROUP")]
    target: String,
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
}

impl Row {
    /// What lies before the log's start is gone and waits for nobody.
    fn new(committed: Committed, first: i64, end: i64) -> Self {
        let Committed { partition: Partition { topic, partition }, offset, metadata } = committed;
        let lag = end.saturating_sub(offset.map_or(first, |offset| offset.max(first))).max(0);
        Self { topic, partition, committed: offset, end, lag, metadata }
    }
}

#[derive(Debug, Serialize)]
struct GroupLag {
    group: String,
    members: usize,
    lag: i64,
    partitions: Vec<Row>,
}

impl LagArgs {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let groups = self.groups()?;
        let admin = Admin::new(&connect::cluster(global)?)?;
        let groups = groups
            .into_iter()
            .map(|(group, topics)| group_lag(&admin, group, &topics))
            .collect::<anyhow::Result<Vec<_>>>()?;
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
                let mut topics: Vec<_> = function.sources.into_iter().map(|source| source.topic).collect();
                topics.sort();
                topics.dedup();
                (function.group, topics)
            })
            .collect())
    }
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
    Ok(GroupLag { members: admin.group(&group)?.members.len(), group, lag, partitions })
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
    let mut text = format!(
        "{:topic$}  partition  {:>12}  {:>12}  {:>12}  metadata\n",
        "topic", "committed", "end", "lag"
    );
    for row in rows {
        let committed = row.committed.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let metadata: String = row.metadata.chars().filter(|c| !c.is_control()).take(40).collect();
        let more = if row.metadata.chars().count() > 40 { "…" } else { "" };
        let line = format!(
            "{:topic$}  {:>9}  {committed:>12}  {:>12}  {:>12}  {metadata}{more}",
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
}
