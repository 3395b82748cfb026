//! `tidemill invoke`: what would a function make of this one event?

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::cases::{Ending, source_of};
use super::sample::Sample;
use super::trial::{Bytes, Delivery, PluginFrom, Trial, Tried, Written};
use super::{Global, Output, connect, run, tick};
use crate::codec::rfc3339::Timestamp;
use crate::kafka::{Partition, read_one};
use crate::manifest;
use crate::model::{Clock, Fire, Function, Record, SystemClock, WindowKind, WindowSpec, own_headers};
use crate::pipeline::Settled;
use crate::window::OpenWindow;

/// How long the broker may take to hand over an event.
const READ_WITHIN: Duration = Duration::from_secs(15);

/// Show what a function makes of one event
///
/// The event goes through decoding, filters, key and handler as in production. What would be
/// written is printed; nothing is written anywhere, no offset moves. Of a function with a window it
/// shows which windows the event is in when no other has come, and what those give at once;
/// `tidemill test` takes it further.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  sed -n 9p functions/ride-receipts/sample.jsonl | tidemill invoke functions/ride-receipts --event -
  tidemill invoke functions/payment-screen --event payment.json --raw --key p-1
  tidemill invoke functions/ride-receipts --event rides/0@42 --brokers localhost:9092

Exit codes: 0 handled, skipped or filtered; 1 to be tried again, a dead letter, or an error;
2 an invalid manifest.")]
pub struct Invoke {
    /// The function's manifest, or its folder
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// A file with one record in JSON as in sample.jsonl, `-` for standard input, or the place of a record in Kafka
    #[arg(long, value_name = "FILE|-|TOPIC/PARTITION@OFFSET")]
    event: String,
    /// The file is the record's value as it stands
    #[arg(long)]
    raw: bool,
    /// The record's key
    #[arg(long, requires = "raw")]
    key: Option<String>,
    /// A header of the record; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = parse_header, requires = "raw")]
    headers: Vec<(String, String)>,
    /// Which source it comes from; that of its topic, or the only one, when left out
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// A record with its place.
#[derive(Debug)]
struct Found {
    sample: Sample,
    partition: i32,
    offset: i64,
}

impl Invoke {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let function = self.function()?;
        run::init_logs(&global.platform()?)?;
        let mut found = match place(&self.event).filter(|_| !Path::new(&self.event).exists()) {
            Some((partition, offset)) => read_at(global, &partition, offset)?,
            None => Found { sample: self.read()?, partition: 0, offset: 0 },
        };
        let topic = found.sample.topic.clone();
        let topic = topic.as_deref();
        let is_known = function.sources.iter().any(|source| Some(source.topic.as_str()) == topic);
        let source = match &self.source {
            Some(name) => source_of(&function, Some(name), None),
            // A dead letter, or an event of another topic, can be tried as well.
            None => source_of(&function, None, topic.filter(|_| is_known || function.sources.len() > 1)),
        }
        .context("--source")?;
        let has_plugin = function.handler.as_ref().is_some_and(|handler| handler.plugin.exists());
        let from = if has_plugin { PluginFrom::File } else { PluginFrom::Crate };
        let now = SystemClock::start().now();
        let mut trial = Trial::new(&function, Tried::load(&function, from)?.handler()?, now.wall_ms);
        tick::fill(&mut found.sample, &function.sources[source], now.wall_ms);
        let record = Record {
            topic: topic.unwrap_or(&function.sources[source].topic),
            partition: found.partition,
            offset: found.offset,
            timestamp_ms: found.sample.timestamp_ms.unwrap_or(now.wall_ms),
            key: found.sample.key.as_deref(),
            value: found.sample.value.as_deref(),
            headers: &found.sample.borrowed_headers(),
        };
        let delivery = trial.deliver(source, &record, now);
        let open = trial.open();
        match global.output {
            Output::Text => print_text(&function, source, &delivery, &open),
            Output::Json => println!("{}", as_json(&function, &delivery, &open)),
        }
        let has_failed = delivery.waiting.is_some() || delivery.letters().next().is_some();
        Ok(match delivery.ending() {
            _ if has_failed => ExitCode::FAILURE,
            Ending::Ok | Ending::Skip | Ending::Filtered => ExitCode::SUCCESS,
            Ending::Retry | Ending::DeadLetter | Ending::Stop => ExitCode::FAILURE,
        })
    }

    fn function(&self) -> anyhow::Result<Arc<Function>> {
        let mut functions = manifest::load(std::slice::from_ref(&self.path))?;
        match (functions.pop(), functions.is_empty()) {
            (Some(function), true) => Ok(Arc::new(function)),
            _ => bail!("{} holds several functions: give the manifest of one", self.path.display()),
        }
    }

    fn read(&self) -> anyhow::Result<Sample> {
        let mut content = Vec::new();
        if self.event == "-" {
            io::stdin().read_to_end(&mut content).context("standard input")?;
        } else {
            content = std::fs::read(&self.event).with_context(|| {
                format!("cannot read {}: a file, `-`, or TOPIC/PARTITION@OFFSET", self.event)
            })?;
        }
        if self.raw {
            let headers =
                self.headers.iter().map(|(name, value)| (name.clone(), Some(value.clone().into_bytes())));
            return Ok(Sample {
                key: self.key.clone().map(String::into_bytes),
                value: Some(content),
                headers: headers.collect(),
                ..Sample::default()
            });
        }
        let text = std::str::from_utf8(&content).context("not UTF-8: give --raw for a value as it stands")?;
        Sample::parse(text).with_context(|| {
            format!("{} is not one record in JSON (a line of sample.jsonl, or --raw)", self.event)
        })
    }
}

/// `TOPIC/PARTITION@OFFSET`.
pub(super) fn place(text: &str) -> Option<(Partition, i64)> {
    let (partition, offset) = text.rsplit_once('@')?;
    let (topic, partition) = partition.rsplit_once('/')?;
    let partition = Partition { topic: topic.to_owned(), partition: partition.parse().ok()? };
    let offset = offset.parse().ok().filter(|offset| *offset >= 0)?;
    (!topic.is_empty() && partition.partition >= 0).then_some((partition, offset))
}

fn read_at(global: &Global, partition: &Partition, offset: i64) -> anyhow::Result<Found> {
    let cluster = connect::cluster_or_dev(global)?;
    let sample = read_one(&cluster, partition, offset, READ_WITHIN, |record| Sample {
        topic: Some(record.topic.to_owned()),
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: own_headers(record.headers()),
        timestamp_ms: Some(record.timestamp_ms),
    })?;
    let sample = sample.with_context(|| {
        format!("{partition}@{offset} holds no record: a transaction's marker, an aborted or a compacted one")
    })?;
    Ok(Found { sample, partition: partition.partition, offset })
}

fn as_json(function: &Function, delivery: &Delivery, open: &[OpenWindow<'_>]) -> Value {
    let mut json = json!({
        "function": function.name.to_string(),
        "outcome": delivery.ending().as_str(),
        "emits": delivery.outputs().collect::<Vec<_>>(),
    });
    let mut put = |name: &str, value: Value| json[name] = value;
    if let Some(reason) = delivery.reason() {
        put("reason", reason.into());
    }
    if let Some(error) = delivery.error() {
        put("error", error.into());
    }
    match &delivery.settled {
        Some(Settled::Ok { unrouted, .. }) => put("unrouted", (*unrouted).into()),
        Some(Settled::Retry { after: Some(after), .. }) => {
            put("retryAfterMs", (after.as_millis() as u64).into());
        }
        _ => {}
    }
    if let Some(letter) = delivery.letters().next() {
        put("deadLetter", json!(letter));
    }
    if let Some(message) = &delivery.waiting {
        put("waits", message.as_str().into());
    }
    if function.has_window() {
        let window = |open: &OpenWindow<'_>| {
            json!({
                "key": String::from_utf8_lossy(open.key),
                "start": open.bounds.0,
                "end": open.bounds.1,
                "closesAt": open.closes_at_ms,
            })
        };
        put("windows", open.iter().map(window).collect());
    }
    json
}

fn print_text(function: &Function, source: usize, delivery: &Delivery, open: &[OpenWindow<'_>]) {
    let ending = delivery.ending();
    match (delivery.reason(), delivery.error()) {
        (Some(reason), Some(error)) => println!("{}: {} ({reason}): {error}", function.name, ending.as_str()),
        (None, Some(error)) => println!("{}: {}: {error}", function.name, ending.as_str()),
        _ => println!("{}: {}", function.name, ending.as_str()),
    }
    if let Some(spec) = function.window.as_ref().filter(|_| function.has_window()) {
        open.iter().for_each(|open| println!("  is in the window {}", window_text(spec, open)));
        if let Some(more) = what_fires(function, spec, source).filter(|_| !open.is_empty()) {
            println!("  {more}");
        }
    }
    match &delivery.settled {
        _ if delivery.waiting.is_some() => {
            let message = delivery.waiting.as_deref().unwrap_or_default();
            println!("  the result of a window waits to be given again: {message}");
        }
        Some(Settled::Ok { unrouted: 0, .. }) if delivery.written.is_empty() => {
            println!("  would emit nothing{}", if open.is_empty() { "" } else { " yet" });
        }
        Some(Settled::Ok { unrouted, .. }) if *unrouted > 0 => {
            println!("  {unrouted} outputs that no sink takes");
        }
        Some(Settled::Retry { after: Some(after), .. }) => {
            println!("  would be tried again after {after:?}");
        }
        _ => {}
    }
    delivery.written.iter().for_each(print_written);
}

/// Whose window it is, from when to when, and when it closes.
fn window_text(spec: &WindowSpec, open: &OpenWindow<'_>) -> String {
    let key = String::from_utf8_lossy(open.key);
    let (start, end) = (time_text(open.bounds.0), time_text(open.bounds.1));
    match (spec.kind, open.closes_at_ms) {
        (WindowKind::Count { size }, _) => format!("of `{key}`: closes with the event that makes it {size}"),
        (_, None) => format!("of `{key}`: {start} to {end}"),
        (_, Some(at)) => {
            let close = time_text(at);
            format!("of `{key}`: {start} to {end}, closes when event time comes to {close}")
        }
    }
}

/// What gives a result before the window's end.
fn what_fires(function: &Function, spec: &WindowSpec, source: usize) -> Option<String> {
    match spec.fire {
        Fire::Count { every, .. } => Some(format!("gives a result with every {every} events")),
        Fire::Complete => {
            let others = spec.stitch.need.iter().filter(|at| usize::from(**at) != source);
            let names = others.filter_map(|at| function.sources.get(usize::from(*at)));
            let names: Vec<_> = names.map(|source| format!("`{}`", source.name)).collect();
            Some(format!("gives its result as soon as it has {}", names.join(", ")))
        }
        Fire::Close | Fire::Update => None,
    }
}

/// RFC 3339, or the milliseconds where it has no words for them.
fn time_text(ms: i64) -> String {
    Timestamp::from_millisecond(ms).render().map_or_else(|| ms.to_string(), |text| text.as_str().to_owned())
}

fn print_written(written: &Written) {
    match &written.sink {
        Some(sink) => println!("  would emit to {sink} (topic {})", written.topic),
        None => println!("  would write a dead letter to {}", written.topic),
    }
    println!("    key: {}", shown(&written.key));
    for (name, value) in &written.attributes {
        println!("    {name}: {}", value.as_str().unwrap_or_default());
    }
    for (name, value) in &written.headers {
        println!("    header {name}: {}", shown(value));
    }
    println!("    {}", shown(&written.value));
}

fn shown(bytes: &Bytes) -> String {
    match bytes.text() {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_kafka_is_told_from_a_file() {
        let found =
            |topic: &str, partition, offset| Some((Partition { topic: topic.to_owned(), partition }, offset));
        for (text, expected) in [
            ("rides/0@42", found("rides", 0, 42)),
            ("a.b-c_d/12@0", found("a.b-c_d", 12, 0)),
            ("rides/0", None),
            ("rides@1", None),
            ("/0@1", None),
            ("rides/-1@1", None),
            ("rides/0@-1", None),
            ("event.json", None),
            ("-", None),
        ] {
            assert_eq!(place(text), expected, "{text}");
        }
    }
}
