//! Who is measured, and how each is started: always as a process of its own, alone, on the same
//! input, with a group and an output that nobody used before.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::bare::{self, Bare};
use crate::process::Running;
use crate::session::Session;
use crate::streams::Streams;
use crate::subject::{Function, Tidemill};

/// Whom to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Field {
    /// Measure Kafka Streams too
    #[arg(long)]
    pub streams: bool,
    /// Measure these alone
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,…", conflicts_with = "streams")]
    pub only: Vec<Name>,
    #[command(flatten)]
    pub extra: bare::Extra,
}

/// Names of the contestants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// A bare librdkafka loop.
    Bare,
    /// `tidemill run`.
    Tidemill,
    /// The same without what is measured.
    #[value(skip)]
    Plain,
    /// Kafka Streams.
    Streams,
    /// Kafka Streams with what it keeps in its heap.
    #[value(skip)]
    StreamsMemory,
}

impl Name {
    /// As it stands in the report.
    pub fn text(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Tidemill => "tidemill",
            Self::Plain => "plain",
            Self::Streams => "streams",
            Self::StreamsMemory => "streams-memory",
        }
    }
}

/// What is to be done, in the terms of each contestant.
pub struct Work {
    /// Which loop Tidemill is compared with.
    pub bare: bare::Kind,
    /// Longest time between two commits of the loop.
    pub bare_cut: Duration,
    /// What Tidemill runs.
    pub function: Function,
}

/// From which topic to which.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The topic that is read.
    pub input: &'a str,
    /// The topic that is written.
    pub output: &'a str,
}

/// Somebody who is ready to start.
pub enum Contestant {
    /// A bare loop.
    Bare(Bare),
    /// Tidemill, built.
    Tidemill(Tidemill),
    /// The same, with another function.
    Plain(Tidemill),
    /// Kafka Streams, built.
    Streams(Streams),
    /// The same, with its store in memory.
    StreamsMemory(Streams),
}

impl Field {
    /// The contestants in the order of their turns; what has to be built is built here.
    pub fn contestants(&self, session: &Session, work: &Work) -> Result<Vec<Contestant>> {
        let names = match (self.only.as_slice(), self.streams) {
            ([], false) => &[Name::Bare, Name::Tidemill][..],
            ([], true) => &[Name::Bare, Name::Tidemill, Name::Streams],
            (only, _) => only,
        };
        let mut contestants = Vec::new();
        for name in names {
            contestants.push(match name {
                Name::Bare => Contestant::Bare(Bare {
                    kind: work.bare,
                    every: work.bare_cut,
                    extra: self.extra.clone(),
                }),
                Name::Tidemill | Name::Plain => Contestant::Tidemill(Tidemill::build(&work.function)?),
                Name::Streams | Name::StreamsMemory => Contestant::Streams(Streams::build(session)?),
            });
        }
        Ok(contestants)
    }
}

impl Contestant {
    /// Its name.
    pub fn name(&self) -> Name {
        match self {
            Self::Bare(_) => Name::Bare,
            Self::Tidemill(_) => Name::Tidemill,
            Self::Plain(_) => Name::Plain,
            Self::Streams(_) => Name::Streams,
            Self::StreamsMemory(_) => Name::StreamsMemory,
        }
    }

    /// The share of the input that only warms it up. A JVM that starts cold does half of what it
    /// does later, and a comparison with it would flatter.
    pub fn warm_up(&self) -> f64 {
        match self {
            Self::Bare(_) | Self::Tidemill(_) | Self::Plain(_) => 0.0,
            Self::Streams(_) | Self::StreamsMemory(_) => 1.0 / 3.0,
        }
    }

    /// The consumer group, whose committed offsets tell how far it is, of the one named `name`.
    pub fn group(&self, name: &str) -> String {
        match self {
            Self::Bare(_) | Self::Streams(_) | Self::StreamsMemory(_) => name.to_owned(),
            Self::Tidemill(tidemill) | Self::Plain(tidemill) => tidemill.group(name),
        }
    }

    /// The topic that holds what the one named `name` has in its windows.
    pub fn state_topic(&self, name: &str) -> Option<String> {
        match self {
            Self::Bare(_) => None,
            Self::Tidemill(tidemill) | Self::Plain(tidemill) => Some(tidemill.state_topic(name)),
            Self::Streams(streams) | Self::StreamsMemory(streams) => Some(streams.changelog(name)),
        }
    }

    /// Starts it from `input` to `output` under a fresh `name`; it goes on until it is stopped.
    pub fn start(&self, session: &Session, name: &str, route: Route<'_>) -> Result<Running> {
        match self {
            Self::Bare(bare) => bare.start(session, name, route),
            Self::Tidemill(tidemill) | Self::Plain(tidemill) => tidemill.start(session, name, route),
            Self::Streams(streams) | Self::StreamsMemory(streams) => streams.start(session, name, route),
        }
    }
}
