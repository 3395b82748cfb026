//! The topics that a function makes when they are missing.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{CreateTopic, Function};

/// What `max.message.bytes` of an internal topic has above that of the sources: room for the headers
/// that are added to a record which is as large as its own topic takes.
pub const HEADROOM_BYTES: u64 = 64 * 1024;

/// A topic to be made when it is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewTopic {
    /// Its name.
    pub topic: String,
    /// What the function needs it for.
    pub role: TopicRole,
    /// Its settings as far as the manifest knows them.
    pub create: CreateTopic,
    /// It gets as many partitions as the one of these topics that has most; only the cluster knows how many. None: as
    /// the broker likes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions_after: Vec<String>,
    /// `max.message.bytes` becomes the largest of these topics' and [`HEADROOM_BYTES`]; only the
    /// cluster knows theirs.
    pub sized_after: Vec<String>,
}

/// What a function needs a topic for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TopicRole {
    /// Its dead letters.
    DeadLetter,
    /// Where its dead letters come back from.
    Redrive,
    /// Its state.
    State,
    /// Its sources, by its key.
    Stitch,
    /// Its late events.
    Late,
    /// The ticks of a source that is a clock.
    Schedule,
    /// A sink with `create`.
    Sink,
}

impl TopicRole {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead letters",
            Self::Redrive => "redriven events",
            Self::State => "state",
            Self::Stitch => "sources by key",
            Self::Late => "late events",
            Self::Schedule => "ticks",
            Self::Sink => "sink",
        }
    }
}

/// How long ticks are kept: by size, since a tick that was missed for long is as old as its time, and would expire at
/// once. 64 MiB are three days of a tick each second, and months of one each minute.
const KEPT_TICKS: [(&str, &str); 3] =
    [("retention.ms", "-1"), ("retention.bytes", "67108864"), ("segment.bytes", "16777216")];

/// The topics that `function` makes when they are missing.
pub fn topics(function: &Function) -> Vec<NewTopic> {
    // A dead letter keeps its record's timestamp, however far ahead that is; Kafka refuses those more
    // than an hour ahead by default, which would abort the transaction again and again (KIP-937).
    let any_time = ("message.timestamp.after.max.ms".to_owned(), i64::MAX.to_string());
    let (clocks, sources): (Vec<_>, Vec<_>) =
        function.sources.iter().partition(|source| source.schedule.is_some());
    let sources: Vec<_> = sources.into_iter().map(|source| source.topic.clone()).collect();
    let first = function.sources.iter().take(1).map(|source| source.topic.clone()).collect();
    let internal = |topic: &str, role, partitions_after| NewTopic {
        topic: topic.to_owned(),
        role,
        create: CreateTopic {
            partitions: None,
            replication: None,
            config: BTreeMap::from([any_time.clone()]),
        },
        partitions_after,
        sized_after: sources.clone(),
    };
    let delivery = &function.delivery;
    let mut made = vec![
        internal(&delivery.dead_letter_topic, TopicRole::DeadLetter, Vec::new()),
        internal(&delivery.redrive_topic, TopicRole::Redrive, first),
    ];
    if let Some(topic) = &function.stitch_topic {
        let mut stitch = internal(topic, TopicRole::Stitch, sources.clone());
        // Trimmed by whoever has read it, never by age.
        stitch.create.config.insert("retention.ms".to_owned(), "-1".to_owned());
        made.push(stitch);
    }
    if let Some(window) = &function.window {
        let mut state = internal(&function.state_topic, TopicRole::State, sources.clone());
        if let Some(topic) = &window.late_topic {
            made.push(internal(topic, TopicRole::Late, Vec::new()));
        }
        state.create.config.insert("cleanup.policy".to_owned(), "compact".to_owned());
        made.push(state);
    }
    for clock in clocks {
        let mut ticks = internal(&clock.topic, TopicRole::Schedule, Vec::new());
        ticks.sized_after.clear();
        ticks.create.partitions = Some(1);
        ticks.create.config.extend(KEPT_TICKS.map(|(name, value)| (name.to_owned(), value.to_owned())));
        made.push(ticks);
    }
    for sink in &function.sinks {
        // Two sinks may share a topic, as two ways of writing to it; it is made once.
        if let Some(create) = &sink.create
            && made.iter().all(|known| known.topic != sink.topic)
        {
            made.push(NewTopic {
                topic: sink.topic.clone(),
                role: TopicRole::Sink,
                create: create.clone(),
                partitions_after: Vec::new(),
                sized_after: Vec::new(),
            });
        }
    }
    made
}
