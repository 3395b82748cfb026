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
    /// A sink with `create`.
    Sink,
}

impl TopicRole {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead letters",
            Self::Sink => "sink",
        }
    }
}

/// The topics that `function` makes when they are missing.
pub fn topics(function: &Function) -> Vec<NewTopic> {
    // A dead letter keeps its record's timestamp, however far ahead that is; Kafka refuses those more
    // than an hour ahead by default, which would abort the transaction again and again (KIP-937).
    let any_time = ("message.timestamp.after.max.ms".to_owned(), i64::MAX.to_string());
    let mut made = vec![NewTopic {
        topic: function.delivery.dead_letter_topic.clone(),
        role: TopicRole::DeadLetter,
        create: CreateTopic { partitions: None, replication: None, config: BTreeMap::from([any_time]) },
        sized_after: function.sources.iter().map(|source| source.topic.clone()).collect(),
    }];
    for sink in &function.sinks {
        // Two sinks may share a topic, as two ways of writing to it; it is made once.
        if let Some(create) = &sink.create
            && made.iter().all(|known| known.topic != sink.topic)
        {
            made.push(NewTopic {
                topic: sink.topic.clone(),
                role: TopicRole::Sink,
                create: create.clone(),
                sized_after: Vec::new(),
            });
        }
    }
    made
}
