//! `tidemill explain`: how many workers a function should have, and why: what is measured, the formula, its result.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::process::Process;
use super::{Global, Output, Which, connect, control};
use crate::kafka::{Admin, Cluster, read_first};
use crate::manifest;
use crate::model::{Clock as _, Function, ScaleSpec, SystemClock};
use crate::runtime::Stop;
use crate::scale::{Decider, Inputs, LaneSample, Load, Policy, Sample, Sampler, Target};

/// How long the cluster has to answer.
const WITHIN: Duration = Duration::from_secs(15);

/// Say how many workers a function should have, and why
///
/// Looks twice at where the function's partitions end and what its group has finished, and prints what that comes to: the
/// backlog, the arrival rate λ, the service rate μ of a worker, and by `scale.drainWithin` the number of workers. μ shows only
/// while workers are busy; else --service-rate gives it. The backlog is an upper bound: markers of transactions and aborted,
/// compacted or expired records have offsets too. An open transaction of others is no backlog. Joins no group and commits nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill explain functions/ride-receipts
  tidemill explain functions/ride-receipts --interval 10s --oldest
  tidemill explain functions/ride-receipts --service-rate 2500 --output json | jq .decision

The decision is that of one look; one that is made again and again waits whether a lower need lasts, and learns what workers
bring and what it costs to change their number.

Exit codes: 0 it was looked up, whatever was found; 1 it could not be; 2 wrong usage or an invalid manifest.")]
pub struct Explain {
    #[command(flatten)]
    which: Which,
    /// How long to wait between the two looks
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// What one busy worker finishes, records a second, instead of what is measured
    #[arg(long, value_name = "RATE", value_parser = rate)]
    service_rate: Option<f64>,
    /// Say too since when the oldest unread record of each partition waits: reads one record of each
    #[arg(long)]
    oldest: bool,
    #[command(flatten)]
    process: Process,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = manifest::duration(text)?;
    let is_sound = (Duration::from_millis(100)..=Duration::from_secs(600)).contains(&interval);
    is_sound.then_some(interval).ok_or_else(|| "must be from 100ms to 10m".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    (rate.is_finite() && rate > 0.0).then_some(rate).ok_or_else(|| "must be above 0".to_owned())
}

/// What was found, and what it comes to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    function: String,
    group: String,
    workers: u32,
    scale: Scale,
    interval_ms: u64,
    partitions: Vec<Row>,
    backlog: u64,
    arrival_rate: f64,
    throughput: f64,
    /// `null`: no worker was busy, and none was given.
    service_rate: Option<f64>,
    is_service_rate_given: bool,
    busy_workers: u32,
    /// Milliseconds until the next deadline.
    wake_in_ms: Option<u64>,
    need: Option<Needed>,
    decision: Decided,
    /// What `tidemill scale` fixed instead, if a process tells of it.
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    fixed: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Scale {
    min: u32,
    /// As many as can be shared out among workers, if that is fewer than the manifest says.
    max: u32,
    drain_within_ms: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    topic: String,
    partition: i32,
    log_start: i64,
    /// `null`: nothing was committed.
    committed: Option<i64>,
    end: i64,
    /// Offsets from the committed one on that are finished.
    finished_beyond: u64,
    backlog: u64,
    arrival_rate: f64,
    throughput: f64,
    is_lagging: bool,
    /// The timestamp of the oldest unread record, if it was asked for and there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ms: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Needed {
    /// What there is to do, in workers.
    work: f64,
    /// What of it can be done side by side.
    shared: f64,
    /// Whole workers with whole partitions.
    workers: u32,
}

#[derive(Debug, Serialize)]
struct Decided {
    workers: u32,
    reason: &'static str,
    text: String,
}

impl Explain {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let function = self.which.function()?;
        let cluster = connect::cluster(global)?;
        let mut report = self.look(&cluster, &function)?;
        let (look, _) = control::look(&self.process, &global.platform()?, &function.group)?;
        report.fixed = look.fixed(&report.function);
        if self.oldest {
            read_oldest(&cluster, &mut report.partitions)?;
        }
        match global.output {
            Output::Json => println!("{}", serde_json::to_string(&report)?),
            Output::Text => print!("{}", report.text(SystemClock::start().now().wall_ms)),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn look(&self, cluster: &Cluster, function: &Function) -> anyhow::Result<Report> {
        let clock = SystemClock::start();
        let target = Target::of(function);
        let mut sampler = Sampler::new(cluster, WITHIN);
        let first = sample(&mut sampler, &target)?;
        let begun = clock.now().elapsed;
        Stop::default().wait(self.interval);
        let second = sample(&mut sampler, &target)?;
        let now = clock.now();
        let workers = Admin::new(cluster)?.group(&function.group)?.members.len() as u32;
        let apart = now.elapsed.saturating_sub(begun);
        let inputs = Inputs::between([&first, &second], apart, workers, now.wall_ms.max(0) as u64);
        Ok(Report::new(function, &inputs, (&second, apart), self.service_rate))
    }
}

/// One sample. Offsets of a coordinator that loads or moves are asked for again.
fn sample(sampler: &mut Sampler, target: &Target) -> anyhow::Result<Sample> {
    let clock = SystemClock::start();
    loop {
        let answer = sampler.sample(std::slice::from_ref(target))?.pop();
        match answer {
            Some(Ok(sample)) => return Ok(sample),
            Some(Err(error)) if error.is_transient() && clock.now().elapsed < WITHIN => {
                Stop::default().wait(Duration::from_millis(200));
            }
            Some(Err(error)) => return Err(error.into()),
            None => bail!("the cluster said nothing about group {}", target.group),
        }
    }
}

fn read_oldest(cluster: &Cluster, rows: &mut [Row]) -> anyhow::Result<()> {
    for row in rows.iter_mut().filter(|row| row.backlog > 0) {
        let partition = crate::kafka::Partition { topic: row.topic.clone(), partition: row.partition };
        let from = row.committed.unwrap_or(row.log_start).max(row.log_start);
        row.oldest_ms = read_first(cluster, &partition, from, WITHIN, |record| record.timestamp_ms)?;
    }
    Ok(())
}

impl Row {
    fn new(lane: &LaneSample, load: &Load) -> Self {
        let whole = lane.bounds.end - lane.committed.unwrap_or(0).max(lane.bounds.log_start);
        let backlog = lane.backlog();
        let finished_beyond = match lane.committed {
            Some(_) => (whole.max(0) as u64).saturating_sub(backlog),
            None => 0,
        };
        Self {
            topic: lane.partition.topic.clone(),
            partition: lane.partition.partition,
            log_start: lane.bounds.log_start,
            committed: lane.committed,
            end: lane.bounds.end,
            finished_beyond,
            backlog,
            arrival_rate: load.arrival_rate,
            throughput: load.throughput,
            is_lagging: load.is_lagging,
            oldest_ms: None,
        }
    }
}

impl Report {
    fn new(
        function: &Function,
        inputs: &Inputs,
        (sample, apart): (&Sample, Duration),
        given: Option<f64>,
    ) -> Self {
        let ScaleSpec { min, max, drain_within, .. } = function.scale;
        let service_rate = given.or(inputs.service_rate());
        let mut decider = Decider::new(function.scale, Policy::default()).with_service_rate(service_rate);
        let decision = decider.decide(Duration::ZERO, inputs);
        let rows = sample.lanes.iter().zip(&inputs.loads).map(|(lane, load)| Row::new(lane, load));
        Self {
            function: function.name.to_string(),
            group: function.group.clone(),
            workers: inputs.workers,
            scale: Scale {
                min,
                max: max.unwrap_or(u32::MAX).min(inputs.partitions),
                drain_within_ms: drain_within.as_millis() as u64,
            },
            interval_ms: apart.as_millis() as u64,
            partitions: rows.collect(),
            backlog: inputs.backlog(),
            arrival_rate: inputs.arrival_rate(),
            throughput: inputs.throughput(),
            service_rate,
            is_service_rate_given: given.is_some(),
            busy_workers: inputs.busy(),
            wake_in_ms: inputs.wake_in.map(|wake_in| wake_in.as_millis() as u64),
            need: decision.need.map(|need| Needed {
                work: need.work(),
                shared: need.shared(),
                workers: need.workers(1.0),
            }),
            decision: Decided {
                workers: decision.workers,
                reason: decision.reason.name(),
                text: decision.reason.to_string(),
            },
            fixed: None,
        }
    }

    fn text(&self, now_ms: i64) -> String {
        let mut lines = self.table(now_ms);
        lines.push(String::new());
        let mut put = |name: &str, value: String| lines.push(format!("{name:24}{value}"));
        put("workers now", self.workers.to_string());
        put("backlog B", format!("{} records, at most", self.backlog));
        put("arrival rate λ", per_second(self.arrival_rate));
        put("throughput", per_second(self.throughput));
        put("service rate μ", self.of_service_rate());
        let drain_within = Duration::from_millis(self.scale.drain_within_ms);
        put("drainWithin D", format!("{drain_within:?}"));
        put("scale", format!("{} to {} workers", self.scale.min, self.scale.max));
        if let Some(wake_in) = self.wake_in_ms {
            put("next deadline", format!("in {:.1} s", wake_in as f64 / 1000.0));
        }
        lines.push(String::new());
        lines.extend(self.formula());
        let Decided { workers, text, .. } = &self.decision;
        lines.push(format!("{} should have {workers}: {text}", self.function));
        if let Some(fixed) = &self.fixed {
            let left = Duration::from_secs(fixed["leftMs"].as_u64().unwrap_or(0) / 1000);
            lines.push(format!(
                "instead it is fixed at {} for another {left:?} (`tidemill scale`)",
                fixed["workers"]
            ));
        }
        lines.join("\n") + "\n"
    }

    fn of_service_rate(&self) -> String {
        match self.service_rate {
            Some(rate) if self.is_service_rate_given => format!("{} a worker, as given", per_second(rate)),
            Some(rate) => {
                format!("{} a worker, of {} without a moment of rest", per_second(rate), self.busy_workers)
            }
            None => "not known: no worker was busy; --service-rate gives it".to_owned(),
        }
    }

    fn formula(&self) -> Vec<String> {
        let (Some(need), Some(rate)) = (&self.need, self.service_rate) else { return Vec::new() };
        let drain = self.scale.drain_within_ms as f64 / 1000.0;
        let mut lines = vec![format!(
            "(B / D + λ) / μ = ({} / {drain} + {:.1}) / {rate:.1} = {:.2} workers",
            self.backlog, self.arrival_rate, need.work
        )];
        if need.work - need.shared > 0.005 {
            lines.push(format!(
                "a partition has one worker at a time, so {:.2} of it side by side",
                need.shared
            ));
        }
        let least = need.shared.ceil().max(0.0) as u32;
        lines.push(match need.workers > least {
            true => format!(
                "in whole workers with whole partitions {}: of fewer, one would have more than it can do",
                need.workers
            ),
            false => format!("in whole workers {}", need.workers),
        });
        lines
    }

    fn table(&self, now_ms: i64) -> Vec<String> {
        let topic = self.partitions.iter().map(|row| row.topic.len()).max().unwrap_or(0).max("topic".len());
        let mut lines = vec![format!(
            "{:topic$}  partition  {:>12}  {:>12}  {:>12}  {:>10}  {:>11}  {:>11}",
            "topic", "log start", "committed", "end", "backlog", "arrivals/s", "finished/s"
        )];
        for row in &self.partitions {
            let committed = row.committed.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
            let mut line = format!(
                "{:topic$}  {:>9}  {:>12}  {committed:>12}  {:>12}  {:>10}  {:>11.1}  {:>11.1}",
                row.topic,
                row.partition,
                row.log_start,
                row.end,
                row.backlog,
                row.arrival_rate,
                row.throughput
            );
            if row.finished_beyond > 0 {
                line.push_str(&format!("  {} finished out of order", row.finished_beyond));
            }
            if let Some(oldest) = row.oldest_ms {
                line.push_str(&format!("  waits for {:.1} s", (now_ms - oldest).max(0) as f64 / 1000.0));
            }
            lines.push(line);
        }
        lines
    }
}

fn per_second(rate: f64) -> String {
    format!("{rate:.1}/s")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kafka::{Bounds, Partition};
    use crate::pipeline::Ledger;

    fn function() -> Function {
        let text = "
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: { name: rides }
spec:
  sources: [{ topic: in }]
  sinks: [{ topic: out }]
  scale: { max: 5 }
";
        manifest::parse(Path::new("function.yaml"), text).unwrap().remove(0)
    }

    fn sample(committed: i64, end: i64) -> Sample {
        let lane = |partition| LaneSample {
            partition: Partition { topic: "in".to_owned(), partition },
            goes_along: false,
            bounds: Bounds { log_start: 0, end },
            committed: Some(committed),
            ledger: Ledger::starting_at(committed),
            wake_at_ms: None,
        };
        Sample { lanes: (0..4).map(lane).collect() }
    }

    fn report(samples: [&Sample; 2], workers: u32, given: Option<f64>) -> Report {
        let apart = Duration::from_secs(2);
        let inputs = Inputs::between(samples, apart, workers, 0);
        Report::new(&function(), &inputs, (samples[1], apart), given)
    }

    #[test]
    fn the_formula_stands_there_with_its_numbers() {
        // Two workers finish 100/s each, 100 come, 4 × 900 wait.
        let report = report([&sample(0, 950), &sample(100, 1000)], 2, None);
        let text = report.text(0);
        for part in [
            "in             0             0           100          1000         900         25.0         50.0",
            "backlog B               3600 records, at most",
            "service rate μ          100.0/s a worker, of 2 without a moment of rest",
            "scale                   0 to 4 workers",
            "(B / D + λ) / μ = (3600 / 30 + 100.0) / 100.0 = 2.20 workers",
            "in whole workers with whole partitions 4: of fewer, one would have more than it can do",
            "default/rides should have 2: as many as are needed, give or take a tenth",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
    }

    #[test]
    fn what_nobody_was_seen_to_do_can_be_given() {
        let idle = sample(1000, 1000);
        let unknown = report([&idle, &idle], 1, None).text(0);
        assert!(unknown.contains("not known: no worker was busy; --service-rate gives it"), "{unknown}");
        assert!(!unknown.contains("(B / D"), "{unknown}");
        let waiting = sample(0, 3000);
        let report = report([&waiting, &waiting], 0, Some(50.0));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json["decision"],
            serde_json::json!({
                "workers": 4, "reason": "moreNeeded", "text": "more are needed",
            })
        );
        assert_eq!((&json["need"]["work"], &json["isServiceRateGiven"]), (&8.0.into(), &true.into()));
        assert!(report.text(0).contains("so 4.00 of it side by side"), "{}", report.text(0));
    }

    #[test]
    fn arguments_have_bounds() {
        assert_eq!(interval("2s"), Ok(Duration::from_secs(2)));
        assert!(interval("1ms").is_err() && interval("1h").is_err() && interval("2").is_err());
        assert_eq!(rate("2.5"), Ok(2.5));
        assert!(rate("0").is_err() && rate("NaN").is_err() && rate("x").is_err());
    }
}
