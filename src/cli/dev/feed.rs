//! Feeds sample events at a readable pace.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::flow::Flow;
use super::tap::OwnedRecord;
use crate::cli::sample::Sample;
use crate::kafka::{Cluster, Origin, Produce, Producer, ProducerConfig, TopicIndex};
use crate::model::{Function, Record};

/// Where samples come from, and where their events may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples {
    /// Files with the topic of lines that name none: the only source of the functions beside the file, clocks aside.
    files: BTreeMap<PathBuf, Option<String>>,
    /// The sources of all functions.
    topics: BTreeSet<String>,
}

impl Samples {
    /// `sample.jsonl` beside each manifest, or the one file that was asked for.
    pub fn of(functions: &[impl AsRef<Function>], asked: Option<&Path>) -> Self {
        let mut beside: BTreeMap<PathBuf, BTreeSet<(bool, &str)>> = BTreeMap::new();
        for function in functions.iter().map(AsRef::as_ref) {
            let file = asked.map_or_else(|| function.file.with_file_name("sample.jsonl"), Path::to_owned);
            let topics =
                function.sources.iter().map(|source| (source.schedule.is_some(), source.topic.as_str()));
            beside.entry(file).or_default().extend(topics);
        }
        let topics = beside.values().flatten().map(|(_, topic)| (*topic).to_owned()).collect();
        let only = |topics: BTreeSet<(bool, &str)>| {
            let mut topics = topics.into_iter().filter(|(is_clock, _)| !is_clock);
            topics.next().filter(|_| topics.next().is_none()).map(|(_, topic)| topic.to_owned())
        };
        let there = beside.into_iter().filter(|(file, _)| asked.is_some() || file.exists());
        Self { files: there.map(|(file, topics)| (file, only(topics))).collect(), topics }
    }

    /// The files.
    pub fn files(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Reads all files as they are now: the events, and what is wrong with lines that are none.
    pub fn read(&self) -> (VecDeque<Sample>, Vec<String>) {
        let (mut events, mut problems) = (VecDeque::new(), Vec::new());
        for (file, only) in &self.files {
            let bytes = match std::fs::read(file) {
                Ok(bytes) => bytes,
                Err(error) => {
                    problems.push(format!("{}: cannot read: {error}", file.display()));
                    continue;
                }
            };
            for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
                match self.event(line, only.as_deref()) {
                    Ok(event) => events.extend(event),
                    Err(error) => problems.push(format!("{}:{number}: {error:#}", file.display())),
                }
            }
        }
        (events, problems)
    }

    /// The event of one line; none for an empty one.
    fn event(&self, line: &[u8], only: Option<&str>) -> anyhow::Result<Option<Sample>> {
        let line = std::str::from_utf8(line).context("not UTF-8")?.trim();
        if line.is_empty() {
            return Ok(None);
        }
        let mut event = Sample::parse(line).context("not an event")?;
        let topic = event.topic.take().or_else(|| only.map(str::to_owned));
        let sources = || self.topics.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let Some(topic) = topic else {
            bail!("names no topic, and there are several sources: {}", sources());
        };
        // The embedded broker would make up any topic that it is asked for.
        if !self.topics.contains(&topic) {
            bail!("topic {topic} is no function's source; the sources are: {}", sources());
        }
        event.topic = Some(topic);
        Ok(Some(event))
    }
}

/// What a turn of the feed came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fed {
    /// Nothing was due.
    Nothing,
    /// One event was sent.
    One,
    /// The last event was sent.
    Last,
}

/// Sends events.
pub struct Feed {
    producer: Producer,
    topics: HashMap<String, TopicIndex>,
    queue: VecDeque<Sample>,
    gap: Duration,
    due: Duration,
    /// Nothing is fed while set.
    pub is_paused: bool,
    /// The most bytes that a topic's slowest reader may be behind.
    limit_bytes: Option<u64>,
}

impl Feed {
    /// To `cluster`, one event each `gap`.
    pub fn new(cluster: &Cluster, gap: Duration, limit_bytes: Option<u64>) -> anyhow::Result<Self> {
        let producer = Producer::new(&ProducerConfig {
            cluster,
            client_id: "tidemill-dev-feed",
            transactional_id: None,
            transaction_timeout: Duration::ZERO,
            limits: None,
            settings: &BTreeMap::new(),
        })?;
        Ok(Self {
            producer,
            topics: HashMap::new(),
            queue: VecDeque::new(),
            gap,
            due: Duration::ZERO,
            is_paused: false,
            limit_bytes,
        })
    }

    /// Feeds these after what is still to be fed.
    pub fn add(&mut self, events: VecDeque<Sample>) {
        self.queue.extend(events);
    }

    /// Nothing is left to be fed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends the next event if it is due.
    pub fn turn(&mut self, now: Duration, flow: &mut Flow) -> anyhow::Result<Fed> {
        self.producer.serve(Duration::ZERO);
        if self.is_paused || now < self.due || flow.awaits_rows() {
            return Ok(Fed::Nothing);
        }
        let Some(next) = self.queue.front() else {
            return Ok(Fed::Nothing);
        };
        let topic = next.topic.as_deref().unwrap_or_default();
        if self.limit_bytes.is_some_and(|limit| flow.unread_bytes(topic) >= limit) {
            return Ok(Fed::Nothing);
        }
        let Some(event) = self.queue.pop_front() else {
            return Ok(Fed::Nothing);
        };
        self.due = self.due.max(now.saturating_sub(self.gap)) + self.gap;
        self.send(&event, flow)?;
        Ok(if self.queue.is_empty() { Fed::Last } else { Fed::One })
    }

    /// Sends a record once more, at once.
    pub fn redeliver(&mut self, record: &OwnedRecord, flow: &mut Flow) -> anyhow::Result<()> {
        let OwnedRecord { topic, key, value, headers, timestamp_ms, .. } = record.clone();
        let timestamp_ms = (timestamp_ms >= 0).then_some(timestamp_ms);
        self.send(&Sample { topic: Some(topic), key, value, headers, timestamp_ms }, flow)
    }

    fn send(&mut self, event: &Sample, flow: &mut Flow) -> anyhow::Result<()> {
        let name = event.topic.as_deref().context("an event without a topic")?;
        let topic = match self.topics.get(name) {
            Some(topic) => *topic,
            None => {
                let topic = self.producer.topic(name)?;
                self.topics.insert(name.to_owned(), topic);
                topic
            }
        };
        let headers = event.borrowed_headers();
        self.producer.produce(&Produce {
            partition: None,
            topic,
            key: event.key.as_deref(),
            value: event.value.as_deref(),
            headers: &headers,
            timestamp_ms: event.timestamp_ms,
            origin: Origin::new(0, 0),
        });
        flow.fed(&Record {
            topic: name,
            partition: -1,
            offset: -1,
            timestamp_ms: event.timestamp_ms.unwrap_or(-1),
            key: event.key.as_deref(),
            value: event.value.as_deref(),
            headers: &headers,
        });
        Ok(())
    }

    /// What the broker refused since the last call, in words.
    pub fn refusals(&mut self, flow: &mut Flow) -> Vec<String> {
        let refusals = self.producer.refusals().into_iter();
        let told = refusals.map(|refusal| {
            flow.refused(&refusal.topic);
            format!("topic {} refused an event: {}", refusal.topic, refusal.reason)
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::manifest;

    fn function(folder: &Path, sources: &str) -> Arc<Function> {
        let text = format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  \
             sources: [{sources}]\n  sinks: [{{topic: out}}]\n"
        );
        let functions = manifest::parse(&folder.join("function.yaml"), &text).unwrap();
        Arc::new(functions.into_iter().next().unwrap())
    }

    #[test]
    fn lines_that_are_no_events_are_told_with_their_place_and_the_rest_is_fed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sample.jsonl");
        let lines = "{\"value\": 1}\n\nnonsense\n{\"topic\": \"else\", \"value\": 2}\n{\"topic\":\"in\"}";
        std::fs::write(&file, lines).unwrap();
        let samples = Samples::of(&[function(folder.path(), "{topic: in}")], None);
        let (events, problems) = samples.read();
        assert_eq!(
            events.iter().map(|event| event.topic.as_deref()).collect::<Vec<_>>(),
            [Some("in"), Some("in")]
        );
        let [nonsense, elsewhere] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(nonsense.contains("sample.jsonl:3: not an event: "), "{nonsense}");
        assert!(elsewhere.contains("sample.jsonl:4: topic else is no function's source"), "{elsewhere}");
        assert!(elsewhere.ends_with("the sources are: in"), "{elsewhere}");
    }

    #[test]
    fn of_several_sources_a_line_has_to_name_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("sample.jsonl"), "{\"value\": 1}\n{\"topic\": \"b\"}").unwrap();
        let samples = Samples::of(&[function(folder.path(), "{topic: a}, {topic: b}")], None);
        let (events, problems) = samples.read();
        assert_eq!(events.len(), 1);
        assert!(problems[0].ends_with("names no topic, and there are several sources: a, b"), "{problems:?}");
    }

    #[test]
    fn a_folder_without_a_sample_has_none_but_one_that_was_asked_for_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let functions = [function(folder.path(), "{topic: a}")];
        assert_eq!(Samples::of(&functions, None).files().len(), 0);
        let (_, problems) = Samples::of(&functions, Some(&folder.path().join("none"))).read();
        assert!(problems[0].contains("cannot read"), "{problems:?}");
    }
}
