//! Which dead letters are meant.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::letter::Letter;
use crate::cli::invoke::place;
use crate::codec::rfc3339::Timestamp;
use crate::kafka::Partition;
use crate::manifest;
use crate::model::{Clock as _, DeadLetterReason, SystemClock};

/// Filters; all that are given must hold.
#[derive(Debug, Default, Args)]
pub struct Choice {
    /// Of this reason; may be repeated
    #[arg(long = "reason", value_name = "REASON", value_parser = reasons())]
    reasons: Vec<String>,
    /// That died at this time (RFC 3339) or so long ago (1h) or later
    #[arg(long, value_name = "TIME|AGO", value_parser = moment)]
    since: Option<i64>,
    /// That died before this time (RFC 3339) or longer ago than this (1h)
    #[arg(long, value_name = "TIME|AGO", value_parser = moment)]
    until: Option<i64>,
    /// With this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Of the event that stood there in its source
    #[arg(long = "where", value_name = "TOPIC/PARTITION@OFFSET", value_parser = place_of)]
    place: Option<(Partition, i64)>,
    /// No more than so many, the first ones
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

fn reasons() -> PossibleValuesParser {
    PossibleValuesParser::new(DeadLetterReason::ALL.map(DeadLetterReason::as_str))
}

fn place_of(text: &str) -> Result<(Partition, i64), String> {
    place(text).ok_or_else(|| "write it as TOPIC/PARTITION@OFFSET: rides/0@42".to_owned())
}

/// A time, or a duration back from now, in milliseconds since the epoch.
fn moment(text: &str) -> Result<i64, String> {
    if let Some(time) = Timestamp::parse(text) {
        return Ok(time.as_millisecond());
    }
    let ago = manifest::duration(text)
        .map_err(|_| "a time such as 2024-05-01T12:00:00Z, or how long ago: 30m, 2h, 7d".to_owned())?;
    Ok(SystemClock::start().now().wall_ms - ago.as_millis() as i64)
}

impl Choice {
    /// All filters hold.
    pub fn takes(&self, letter: &Letter<'_>) -> bool {
        let is_there = |(partition, offset): &(Partition, i64)| {
            letter.place.as_ref().is_ok_and(|place| {
                place.topic == partition.topic
                    && place.partition == partition.partition
                    && place.offset == *offset
            })
        };
        (self.reasons.is_empty() || self.reasons.iter().any(|reason| reason == letter.reason))
            && self.since.is_none_or(|since| letter.died_ms >= since)
            && self.until.is_none_or(|until| letter.died_ms < until)
            && self.key.as_ref().is_none_or(|key| letter.record.key == Some(key.as_bytes()))
            && self.place.as_ref().is_none_or(is_there)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::letter::Id;
    use super::super::letter::tests::dead;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        choice: Choice,
    }

    fn takes(args: &[&str]) -> bool {
        let choice = Line::try_parse_from([&["list"], args].concat()).unwrap().choice;
        let kept = dead(Id { partition: 0, offset: 5 }, &[]);
        let headers = kept.headers();
        choice.takes(&Letter::of(&kept.record("f.dlq", &headers), "default/f").unwrap())
    }

    #[test]
    fn each_filter_takes_what_it_names() {
        for (args, expected) in [
            (&[][..], true),
            (&["--reason", "rejected"], true),
            (&["--reason", "exhausted"], false),
            (&["--reason", "exhausted", "--reason", "rejected"], true),
            (&["--since", "1970-01-01T00:00:05Z"], true),
            (&["--since", "1970-01-01T00:00:05.001Z"], false),
            (&["--since", "1h"], false),
            (&["--until", "1h"], true),
            (&["--until", "1970-01-01T00:00:05Z"], false),
            (&["--key", "k"], true),
            (&["--key", "kk"], false),
            (&["--where", "rides/3@42"], true),
            (&["--where", "rides/3@43"], false),
            (&["--where", "rides/3@42", "--key", "x"], false),
        ] {
            assert_eq!(takes(args), expected, "{args:?}");
        }
        for wrong in [["--reason", "sad"], ["--since", "soon"], ["--until", "5"], ["--where", "rides"]] {
            assert!(Line::try_parse_from([&["list"], &wrong[..]].concat()).is_err(), "{wrong:?}");
        }
    }
}
