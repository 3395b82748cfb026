//! `tidemill audit`: has every event ended once? Recomputed from the topics and what the group has committed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::scan::{self, Stretch};
use super::{Global, Output, Which, connect};
use crate::kafka::admin::Isolation;
use crate::kafka::{Admin, Cluster, Consumer, Partition, topic_settings};
use crate::model::{Function, Record};
use crate::pipeline::{Checkpoint, Intake, ORIGIN, Origin};

mod books;

use books::{Finding, Lane, NAMED, Row, Sight};

/// Check that every event of a function has ended once
///
/// Each lane commits with its progress how many events it has consumed and how they ended. This reads the function's
/// sources, sinks and dead letters again, as far as they are still there, and holds them against that: consumed = ok +
/// skipped + filtered + dead letters, and what is in flight. With `delivery.originHeaders` each result that is missing or
/// there twice is named. Joins no group, commits nothing, and may run beside the workers.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill audit functions/ride-receipts
  tidemill audit functions/ride-receipts --output json | jq '.findings[]'

Exit code: 0 every event has ended once, 1 something is missing, there twice or not as counted.")]
pub struct Audit {
    #[command(flatten)]
    which: Which,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    function: String,
    group: String,
    lanes: Vec<Row>,
    /// What could not be looked at, and why.
    notes: Vec<String>,
    findings: Vec<Finding>,
    /// All of them, of which `findings` names the first.
    found: usize,
}

impl Audit {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let function = self.which.function()?;
        let report = audit(&connect::cluster_or_dev(global)?, &function)?;
        match global.output {
            Output::Json => println!("{}", serde_json::to_string(&report)?),
            Output::Text => print!("{}", report.text()),
        }
        Ok(if report.found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn audit(cluster: &Cluster, function: &Function) -> anyhow::Result<Report> {
    let admin = Admin::new(cluster)?;
    let mut lanes = lanes(&admin, function)?;
    let mut findings = Findings::default();
    let mut notes = Vec::new();
    read_events(cluster, function, &mut lanes)?;
    let sight = read_results(cluster, &admin, function, &mut lanes, (&mut findings, &mut notes))?;
    for lane in &lanes {
        if lane.first > lane.checkpoint.account.since {
            notes.push(format!(
                "{} begins at offset {}: older events have expired, and sums are not compared",
                lane.partition, lane.first
            ));
        }
        lane.close(sight).into_iter().for_each(|finding| findings.add(finding));
    }
    Ok(Report {
        function: function.name.to_string(),
        group: function.group.clone(),
        lanes: lanes.iter().map(|lane| lane.row(sight)).collect(),
        notes,
        findings: findings.named,
        found: findings.all,
    })
}

#[derive(Default)]
struct Findings {
    named: Vec<Finding>,
    all: usize,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        self.all += 1;
        if self.named.len() < NAMED {
            self.named.push(finding);
        }
    }
}

/// Every partition for which something was committed.
fn lanes(admin: &Admin, function: &Function) -> anyhow::Result<Vec<Lane>> {
    let redrive = &function.delivery.redrive_topic;
    let mut topics: Vec<&str> = function.shared_sources().map(|source| source.topic.as_str()).collect();
    topics.push(redrive);
    topics.sort_unstable();
    topics.dedup();
    let bounds = scan::whole(admin, &topics, Isolation::ReadUncommitted)?;
    let partitions: Vec<_> = bounds.iter().map(|stretch| stretch.partition.clone()).collect();
    // An open transaction is waited for: what it commits is counted, and its results are there.
    let mut lanes = Vec::new();
    for found in admin.committed(&function.group, Some(&partitions), true)? {
        let Some(offset) = found.offset else { continue };
        let checkpoint = Checkpoint::read(offset, &found.metadata)
            .with_context(|| format!("what {} has committed for {}", function.group, found.partition))?;
        let first = bounds.iter().find(|stretch| stretch.partition == found.partition);
        let is_redriven = found.partition.topic == *redrive;
        lanes.push(Lane::new(found.partition, checkpoint, first.map_or(0, |found| found.from), is_redriven));
    }
    if lanes.is_empty() {
        bail!("group {} has committed nothing: the function has not run yet", function.group);
    }
    lanes.sort_by(|a, b| (a.is_redriven, &a.partition).cmp(&(b.is_redriven, &b.partition)));
    Ok(lanes)
}

fn read_events(cluster: &Cluster, function: &Function, lanes: &mut [Lane]) -> anyhow::Result<()> {
    let intakes: Vec<Intake> = function.sources.iter().map(Intake::new).collect();
    let stretches: Vec<_> = lanes
        .iter()
        .map(|lane| {
            let (from, to) = lane.stretch();
            Stretch { partition: lane.partition.clone(), from, to }
        })
        .collect();
    let places = places(lanes);
    read_all(cluster, &stretches, &mut |record| {
        let Some(lane) = places.of(record.topic, record.partition) else { return };
        let intake = intakes.iter().find(|intake| intake.source().topic == record.topic);
        // A bad event is a dead letter, not a filtered one.
        let is_filtered = intake.is_some_and(|intake| matches!(intake.take(*record), Ok(None)));
        lanes[lane].event(record.offset, is_filtered);
    })
}

fn read_results(
    cluster: &Cluster,
    admin: &Admin,
    function: &Function,
    lanes: &mut [Lane],
    (findings, notes): (&mut Findings, &mut Vec<String>),
) -> anyhow::Result<Sight> {
    let dead = &function.delivery.dead_letter_topic;
    let mut sinks: Vec<&str> = function.sinks.iter().map(|sink| sink.topic.as_str()).collect();
    sinks.sort_unstable();
    sinks.dedup();
    let has_origins = function.delivery.origin_headers;
    if !has_origins {
        notes
            .push("outputs do not name their origin (delivery.originHeaders): they are not looked at".into());
        sinks.clear();
    }
    let mut topics = sinks.clone();
    topics.push(dead);
    // Everything that a cut wrote lies before the end that uncommitted readers see.
    let stretches = scan::whole(admin, &topics, Isolation::ReadUncommitted)?;
    let mut sight = Sight { has_origins, ..Sight::default() };
    let policies = topic_settings(cluster, &topics, "cleanup.policy")?;
    for topic in &topics {
        let is_compacted = policies.get(*topic).is_some_and(|policy| policy.contains("compact"));
        let has_expired =
            stretches.iter().any(|stretch| stretch.partition.topic == *topic && stretch.from > 0);
        if !is_compacted && !has_expired {
            continue;
        }
        let why = if is_compacted { "is compacted" } else { "has lost its oldest records" };
        notes.push(format!("{topic} {why}: what is not there any more cannot be told from what is missing"));
        match topic == dead {
            true => sight.is_dead_cut = true,
            false => sight.is_sink_cut = true,
        }
    }
    let name = function.name.to_string();
    let places = places(lanes);
    read_all(cluster, &stretches, &mut |record| {
        let value = record.header(ORIGIN).and_then(|header| header.value);
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        let Some(origin) = text.and_then(Origin::parse).filter(|origin| origin.function == name) else {
            return;
        };
        let Some(lane) = places.of(origin.topic, origin.partition) else { return };
        let place = format_args!("{}/{}@{}", record.topic, record.partition, record.offset);
        let found = lanes[lane].result(&origin, record.topic == dead, &place);
        found.into_iter().for_each(|finding| findings.add(finding));
    })?;
    Ok(sight)
}

/// Where each partition's lane stands in the list.
struct Places(BTreeMap<String, BTreeMap<i32, usize>>);

fn places(lanes: &[Lane]) -> Places {
    let mut places = Places(BTreeMap::new());
    for (place, lane) in lanes.iter().enumerate() {
        let Partition { topic, partition } = &lane.partition;
        places.0.entry(topic.clone()).or_default().insert(*partition, place);
    }
    places
}

impl Places {
    fn of(&self, topic: &str, partition: i32) -> Option<usize> {
        self.0.get(topic)?.get(&partition).copied()
    }
}

fn read_all(
    cluster: &Cluster,
    stretches: &[Stretch],
    visit: &mut dyn FnMut(&Record<'_>),
) -> anyhow::Result<()> {
    let mut consumer = Consumer::reader(cluster, "audit")?;
    let some = stretches.iter().filter(|stretch| stretch.from < stretch.to);
    let starts: Vec<_> = some.clone().map(|stretch| (stretch.partition.clone(), stretch.from)).collect();
    if starts.is_empty() {
        return Ok(());
    }
    let all: i64 = some.map(|stretch| stretch.to - stretch.from).sum();
    let mut seen = 0u64;
    let shows = std::io::stderr().is_terminal();
    consumer.assign(&starts)?;
    let _ = scan::read(&mut consumer, stretches, &mut |record| {
        seen += 1;
        if shows && seen.is_multiple_of(100_000) {
            eprintln!("tidemill: read {seen} of {all} offsets");
        }
        visit(record);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(())
}

impl Report {
    fn text(&self) -> String {
        let mut text = table(&self.lanes);
        for note in &self.notes {
            let _ = writeln!(text, "note     {note}");
        }
        for finding in &self.findings {
            let _ = writeln!(text, "{finding}");
        }
        let sum = |of: fn(&Row) -> u64| self.lanes.iter().map(of).sum::<u64>();
        let (events, function) = (sum(|row| row.consumed), &self.function);
        let _ = match self.found {
            0 => writeln!(text, "balanced: each of {events} events of {function} has ended once"),
            1 => writeln!(text, "not balanced: 1 finding in {events} events of {function}"),
            n => writeln!(text, "not balanced: {n} findings in {events} events of {function}"),
        };
        text
    }
}

fn table(rows: &[Row]) -> String {
    let head = [
        "lane",
        "since",
        "committed",
        "consumed",
        "ok",
        "skipped",
        "filtered",
        "dead",
        "in flight",
        "results",
        "found",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    for row in rows {
        lines.push([
            row.lane.clone(),
            row.since.to_string(),
            row.committed.to_string(),
            row.consumed.to_string(),
            row.ok.to_string(),
            row.skipped.to_string(),
            row.filtered.to_string(),
            row.dead_letters.to_string(),
            row.in_flight.to_string(),
            row.outputs.to_string(),
            row.found.map_or_else(|| "-".to_owned(), |found| found.to_string()),
        ]);
    }
    let mut widths = [0; 11];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let _ = write!(text, "{:width$}", line[0], width = widths[0]);
        for (cell, width) in line.iter().zip(widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}
