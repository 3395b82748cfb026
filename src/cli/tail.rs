//! `tidemill tail`: prints the records of a topic as they come.

use std::collections::HashSet;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use super::{Global, Output, connect, sample};
use crate::codec::rfc3339::Timestamp;
use crate::kafka::admin::{Isolation, OffsetAt};
use crate::kafka::{Admin, Consumer, Fetched, GroupEvent, Partition};
use crate::model::Record;

/// Print the records of a topic as they come
///
/// Shows what readers of committed records see: nothing of open or aborted transactions. Joins no group
/// and commits nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill tail receipts
  tidemill tail receipts --from -10 --until-end
  tidemill tail rides --from 2024-05-01T12:00:00Z --max 100 --output json")]
pub struct TailArgs {
    /// The topic
    topic: String,
    /// Of this partition only
    #[arg(long)]
    partition: Option<i32>,
    /// Where to begin in each partition: beginning, end, an offset, -N for the last N, or an RFC 3339 time.
    /// The end when left out, the beginning with --until-end
    #[arg(long, value_parser = From::parse, allow_hyphen_values = true, value_name = "PLACE")]
    from: Option<From>,
    /// End after this many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// End when the end of each partition is reached
    #[arg(long)]
    until_end: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Beginning,
    End,
    Offset(i64),
    /// This many offsets before the end.
    Last(i64),
    TimeMs(i64),
}

impl From {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(time) = Timestamp::parse(text) {
            return Ok(Self::TimeMs(time.as_millisecond()));
        }
        match (text, text.parse::<i64>()) {
            ("beginning", _) => Ok(Self::Beginning),
            ("end", _) => Ok(Self::End),
            (_, Ok(n)) if text.starts_with('-') => Ok(Self::Last(n.saturating_neg())),
            (_, Ok(n)) => Ok(Self::Offset(n)),
            _ => Err("beginning, end, an offset, -N, or a time such as 2024-05-01T12:00:00Z".to_owned()),
        }
    }

    /// The offset in a partition that begins and ends there. Outside of it nothing could be read.
    fn offset(self, first: i64, end: i64, at_time: Option<i64>) -> i64 {
        let wanted = match self {
            Self::Beginning => first,
            Self::End => end,
            Self::Offset(offset) => offset,
            Self::Last(count) => end.saturating_sub(count),
            Self::TimeMs(_) => at_time.unwrap_or(end),
        };
        wanted.min(end).max(first)
    }
}

impl TailArgs {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let cluster = connect::cluster_or_dev(global)?;
        let starts = self.starts(&Admin::new(&cluster)?)?;
        let mut consumer = Consumer::reader(&cluster, "tail")?;
        consumer.assign(&starts)?;
        let mut out = io::BufWriter::new(io::stdout().lock());
        match self.print(&mut consumer, starts.len(), global.output, &mut out) {
            // Whoever read this has seen enough.
            Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(error),
            Ok(()) => Ok(ExitCode::SUCCESS),
        }
    }

    fn starts(&self, admin: &Admin) -> anyhow::Result<Vec<(Partition, i64)>> {
        let topic = &self.topic;
        let count = admin.topics(&[topic])?.into_values().flatten().next();
        let count = count.with_context(|| format!("topic {topic} does not exist"))? as i32;
        let partitions: Vec<i32> = match self.partition {
            Some(partition) if (0..count).contains(&partition) => vec![partition],
            Some(partition) => bail!("topic {topic} has no partition {partition}, only 0 to {}", count - 1),
            None => (0..count).collect(),
        };
        let from = self.from.unwrap_or(if self.until_end { From::Beginning } else { From::End });
        let list = |at| {
            let queries: Vec<_> =
                partitions.iter().map(|&partition| (topic.as_str(), partition, at)).collect();
            admin.list_offsets(&queries, Isolation::ReadCommitted)
        };
        let first = list(OffsetAt::Earliest)?;
        let end = list(OffsetAt::Latest)?;
        let at_time = match from {
            From::TimeMs(ms) => list(OffsetAt::Timestamp(ms))?,
            _ => vec![None; partitions.len()],
        };
        let bounds = first.into_iter().zip(end).zip(at_time);
        let starts = partitions.iter().zip(bounds).map(|(&partition, ((first, end), at_time))| {
            let offset = from.offset(first.unwrap_or(0), end.unwrap_or(0), at_time);
            (Partition { topic: topic.clone(), partition }, offset)
        });
        Ok(starts.collect())
    }

    fn print(
        &self,
        consumer: &mut Consumer,
        partitions: usize,
        output: Output,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let mut left = self.max.unwrap_or(u64::MAX);
        let mut at_end = HashSet::new();
        while left > 0 && !(self.until_end && at_end.len() == partitions) {
            if let Some(GroupEvent::Trouble(error) | GroupEvent::Away(error)) = consumer.group_event() {
                eprintln!("tidemill: {error}; still trying");
            }
            consumer.fill(Duration::from_millis(100));
            while let Some(fetched) = consumer.head() {
                match fetched {
                    // What came after the end was there is left to the next tail.
                    Fetched::Record(record)
                        if left > 0 && !(self.until_end && at_end.contains(&record.partition)) =>
                    {
                        match output {
                            Output::Json => writeln!(out, "{}", sample::render(&record))?,
                            Output::Text => write_text(&record, out)?,
                        }
                        left -= 1;
                    }
                    Fetched::Record(_) => {}
                    Fetched::End { partition, .. } => drop(at_end.insert(partition)),
                    Fetched::Error { topic, partition, text, .. } => bail!("{topic}/{partition}: {text}"),
                }
                consumer.advance();
            }
            out.flush()?;
        }
        Ok(())
    }
}

pub(super) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Where and when and the key on one line, headers below, then the value.
fn write_text(record: &Record<'_>, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{}/{}@{}", record.topic, record.partition, record.offset)?;
    if let Some(time) =
        Timestamp::from_millisecond(record.timestamp_ms).render().filter(|_| record.timestamp_ms >= 0)
    {
        write!(out, "  {}", time.as_str())?;
    }
    writeln!(out, "  key {}", Shown(record.key))?;
    for header in record.headers() {
        writeln!(out, "  {}: {}", header.name, Shown(header.value))?;
    }
    writeln!(out, "  {}", Shown(record.value))
}

/// Bytes for people: text as it is, anything else by its size and first bytes. Control characters, which could
/// steer a terminal, are written as escapes.
pub(super) struct Shown<'a>(pub Option<&'a [u8]>);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(bytes) = self.0 else { return f.write_str("null") };
        let Ok(text) = std::str::from_utf8(bytes) else {
            write!(f, "<{} bytes:", bytes.len())?;
            for byte in bytes.iter().take(16) {
                write!(f, " {byte:02x}")?;
            }
            return f.write_str(if bytes.len() > 16 { " …>" } else { ">" });
        };
        if text.is_empty() {
            return f.write_str("\"\"");
        }
        for character in text.chars() {
            match character {
                '\n' => f.write_str("\n  ")?,
                '\t' => f.write_str("\t")?,
                control if control.is_control() => write!(f, "{}", control.escape_default())?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_kept_inside_the_partition() {
        for (text, offset) in [
            ("beginning", 5),
            ("end", 20),
            ("7", 7),
            ("0", 5),
            ("99", 20),
            ("-3", 17),
            ("-99", 5),
            ("-0", 20),
            ("2024-05-01T12:00:00Z", 11),
        ] {
            assert_eq!(From::parse(text).unwrap().offset(5, 20, Some(11)), offset, "{text}");
        }
        assert_eq!(From::TimeMs(0).offset(5, 20, None), 20, "nothing is that new yet");
        assert!(From::parse("start").is_err());
    }

    #[test]
    fn bytes_are_shown_as_text_when_they_are_text() {
        let long = [0xff; 20];
        for (bytes, shown) in [
            (None, "null"),
            (Some(&b""[..]), "\"\""),
            (Some(b"a\nb"), "a\n  b"),
            (Some(b"\x1b[31m"), "\\u{1b}[31m"),
            (Some(&[0xff, 0x00]), "<2 bytes: ff 00>"),
            (Some(&long), "<20 bytes: ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff …>"),
        ] {
            assert_eq!(Shown(bytes).to_string(), shown);
        }
    }
}
