//! `tidemill lag`: how far a function's group is behind, per partition.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::{Global, Output, connect};
use crate::kafka::admin::{Isolation, OffsetAt};
use crate::kafka::{Admin, Committed, Partition};

/// Show how far a consumer group is behind
///
/// Lag is counted in offsets, so it is an upper bound: markers of transactions, aborted and compacted
/// records have offsets too.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill lag tidemill.default.ride-receipts
  tidemill lag tidemill.default.ride-receipts --output json")]
pub struct LagArgs {
    /// The consumer group, `tidemill.<namespace>.<name>` unless the manifest says otherwise
    group: String,
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

impl LagArgs {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let admin = Admin::new(&connect::cluster(global)?)?;
        let group = &self.group;
        let committed = admin.committed(group, None, false)?;
        if committed.is_empty() {
            bail!("group {group} has committed nothing; check the name, or wait for its first cut");
        }
        let rows = rows(&admin, committed)?;
        let members = admin.group(group)?.members.len();
        let lag: i64 = rows.iter().map(|row| row.lag).sum();
        match global.output {
            Output::Json => {
                let report = serde_json::json!({
                    "group": group, "members": members, "lag": lag, "partitions": rows,
                });
                println!("{report}");
            }
            Output::Text => {
                print!("{}", table(&rows));
                println!("lag of {group}: {lag}, members: {members}");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
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
