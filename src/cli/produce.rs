//! `tidemill produce`: lines or records from a file or standard input into a topic.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::sample::Sample;
use super::{Global, Output, connect};
use crate::kafka::admin::NewTopic;
use crate::kafka::{Admin, Cluster, Origin, Produce, Producer, ProducerConfig, TopicIndex};
use crate::model::{Clock, CreateTopic, SystemClock};

/// How long the last records may wait for their acknowledgement.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
/// Records between two looks at what was refused.
const LOOK_EVERY: u64 = 500;

/// Write records to a topic
///
/// Each line is a value. With --records each line is a JSON object with topic, key, value, headers,
/// attributes (of a CloudEvent) and timestamp, as in the sample files of functions and as
/// `tail --output json` prints them. Keys land where Java producers put them.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  echo '{\"fare\": 12}' | tidemill produce rides --key r-1
  tidemill produce rides --records --file functions/ride-receipts/sample.jsonl --rate 10
  tidemill tail old --until-end --output json | tidemill produce new --records --to-topic")]
pub struct ProduceArgs {
    /// Where records go; with --records for those that name no topic
    #[arg(required_unless_present = "records")]
    topic: Option<String>,
    /// Read this file instead of standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each line is a record in JSON
    #[arg(long)]
    records: bool,
    /// Send all to TOPIC, whatever topic the records name
    #[arg(long, requires = "topic", requires = "records")]
    to_topic: bool,
    /// The key of every record that has none
    #[arg(long)]
    key: Option<String>,
    /// The key is what stands before the first of these in a line
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["records", "key"])]
    key_separator: Option<String>,
    /// A header of every record; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Records per second; as fast as they come when left out
    #[arg(long, value_parser = parse_rate)]
    rate: Option<f64>,
    /// Make a missing topic with this many partitions
    #[arg(long, value_name = "PARTITIONS")]
    create: Option<u32>,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if name.is_empty() {
        Err("the name is empty".to_owned())
    } else {
        Ok((name.to_owned(), value.to_owned()))
    }
}

/// Records per second.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number")?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("must be above 0".to_owned()) }
}

impl ProduceArgs {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let cluster = connect::cluster_or_dev(global)?;
        let mut input = self.open()?;
        let mut sender = Sender::new(&self, &cluster)?;
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line).context("the input cannot be read")? == 0 {
                break;
            }
            number += 1;
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(sample) = self.sample(line).with_context(|| format!("line {number}"))? else { continue };
            sender.send(number, &sample).with_context(|| format!("line {number}"))?;
            if !sender.refused.is_empty() {
                break;
            }
        }
        sender.finish()?;
        Ok(self.report(global, &sender))
    }

    fn open(&self) -> anyhow::Result<Box<dyn BufRead>> {
        let Some(path) = &self.file else {
            if io::stdin().is_terminal() {
                eprintln!("reading from the terminal, one record a line; Ctrl-D ends");
            }
            return Ok(Box::new(io::stdin().lock()));
        };
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Box::new(BufReader::new(file)))
    }

    /// The record of one line; none for an empty line between records.
    fn sample(&self, line: &[u8]) -> anyhow::Result<Option<Sample>> {
        let mut sample = if self.records {
            let line = std::str::from_utf8(line).context("not UTF-8")?.trim();
            if line.is_empty() {
                return Ok(None);
            }
            Sample::parse(line)?
        } else {
            let (key, value) = match &self.key_separator {
                None => (None, line),
                Some(separator) => split(line, separator.as_bytes())
                    .map(|(key, value)| (Some(key.to_vec()), value))
                    .with_context(|| format!("no key: {separator:?} does not occur"))?,
            };
            Sample { key, value: Some(value.to_vec()), ..Sample::default() }
        };
        sample.key = sample.key.or_else(|| self.key.clone().map(String::into_bytes));
        let further = self.headers.iter();
        sample.headers.extend(further.map(|(name, value)| (name.clone(), Some(value.clone().into_bytes()))));
        if self.to_topic || sample.topic.is_none() {
            sample.topic.clone_from(&self.topic);
        }
        Ok(Some(sample))
    }

    fn report(&self, global: &Global, sender: &Sender<'_>) -> ExitCode {
        let written: u64 = sender.written.values().sum();
        match global.output {
            Output::Json => {
                let report = serde_json::json!({
                    "written": written, "topics": sender.written, "refused": sender.refused,
                });
                println!("{report}");
            }
            Output::Text => {
                for (topic, count) in &sender.written {
                    println!("{count} records written to {topic}");
                }
                if sender.written.is_empty() {
                    println!("nothing to write");
                }
                for reason in &sender.refused {
                    eprintln!("tidemill: {reason}");
                }
            }
        }
        if sender.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len().max(1)).position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

/// Sends records at the asked pace and keeps account of them.
struct Sender<'a> {
    args: &'a ProduceArgs,
    admin: Admin,
    producer: Producer,
    topics: HashMap<String, TopicIndex>,
    written: BTreeMap<String, u64>,
    refused: Vec<String>,
    sent: u64,
    clock: SystemClock,
}

impl<'a> Sender<'a> {
    fn new(args: &'a ProduceArgs, cluster: &Cluster) -> anyhow::Result<Self> {
        let producer = Producer::new(&ProducerConfig {
            cluster,
            client_id: "tidemill-produce",
            transactional_id: None,
            transaction_timeout: Duration::ZERO,
            limits: None,
            settings: &BTreeMap::new(),
        })?;
        Ok(Self {
            args,
            admin: Admin::new(cluster)?,
            producer,
            topics: HashMap::new(),
            written: BTreeMap::new(),
            refused: Vec::new(),
            sent: 0,
            clock: SystemClock::start(),
        })
    }

    fn send(&mut self, line: i64, sample: &Sample) -> anyhow::Result<()> {
        let name = sample.topic.as_deref().context("names no topic; give one as TOPIC")?;
        let topic = self.topic(name)?;
        self.keep_pace();
        self.producer.produce(&Produce {
            partition: None,
            topic,
            key: sample.key.as_deref(),
            value: sample.value.as_deref(),
            headers: &sample.borrowed_headers(),
            timestamp_ms: sample.timestamp_ms,
            origin: Origin::new(0, line),
        });
        self.sent += 1;
        match self.written.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.written.insert(name.to_owned(), 1)),
        }
        if self.args.rate.is_some() || self.sent.is_multiple_of(LOOK_EVERY) {
            self.producer.serve(Duration::ZERO);
            self.take_refusals();
        }
        Ok(())
    }

    /// The topic, seen to be there when it is first named: a producer would look for it for minutes.
    fn topic(&mut self, name: &str) -> anyhow::Result<TopicIndex> {
        if let Some(&topic) = self.topics.get(name) {
            return Ok(topic);
        }
        let is_there = self.admin.topics(&[name])?.values().any(Option::is_some);
        match self.args.create {
            _ if is_there => {}
            Some(partitions) => {
                let how =
                    CreateTopic { partitions: Some(partitions), replication: None, config: BTreeMap::new() };
                self.admin.create_topics(&[NewTopic::new(name, &how)])?;
            }
            None => bail!("topic {name} does not exist; make it with --create PARTITIONS, or check the name"),
        }
        let topic = self.producer.topic(name)?;
        self.topics.insert(name.to_owned(), topic);
        Ok(topic)
    }

    fn keep_pace(&mut self) {
        let Some(rate) = self.args.rate else { return };
        let due = Duration::from_secs_f64(self.sent as f64 / rate);
        loop {
            let left = due.saturating_sub(self.clock.now().elapsed);
            if left.is_zero() {
                return;
            }
            self.producer.serve(left.min(Duration::from_millis(100)));
        }
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        let is_done = self.producer.flush(ACKNOWLEDGED_WITHIN);
        self.take_refusals();
        if let Some(error) = self.producer.fatal() {
            bail!("{error}");
        }
        if !is_done {
            bail!(
                "not all of {} records were acknowledged within {ACKNOWLEDGED_WITHIN:?}; some may be written",
                self.sent
            );
        }
        Ok(())
    }

    fn take_refusals(&mut self) {
        for refusal in self.producer.refusals() {
            if let Some(count) = self.written.get_mut(&refusal.topic) {
                *count = count.saturating_sub(1);
            }
            let (line, topic, reason) = (refusal.origin.offset(), &refusal.topic, &refusal.reason);
            self.refused.push(format!("line {line}: {topic} refused the record: {reason}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_its_first_separator() {
        assert_eq!(split(b"k:v:w", b":"), Some((&b"k"[..], &b"v:w"[..])));
        assert_eq!(split(b"k => v", b" => "), Some((&b"k"[..], &b"v"[..])));
        assert_eq!(split(b":v", b":"), Some((&b""[..], &b"v"[..])));
        assert_eq!(split(b"v", b":"), None);
        assert_eq!(split(b"", b":"), None);
    }

    #[test]
    fn rates_and_headers_are_checked() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "inf", "NaN", "x"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_header("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(parse_header("a").is_err() && parse_header("=b").is_err());
    }
}
