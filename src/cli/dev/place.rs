//! Where `dev` runs: on a broker of its own inside this process, or on a Kafka.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::DEV_BROKER_FILE;
use crate::kafka::admin::NewTopic;
use crate::kafka::{Admin, Cluster, EmbeddedBroker, PARTITION_LIMIT};
use crate::model::{CreateTopic, Function, Guarantee, StartAt};
use crate::runtime::EMBEDDED_PARTITIONS;

/// Partitions of a source topic on the embedded broker.
const SOURCE_PARTITIONS: u32 = EMBEDDED_PARTITIONS as u32;

/// The mock cluster lets a group that changes wait for a second less than its members' session, however long
/// that is: with the engine's 10 s a changed manifest would take 9 s to come alive.
const SESSION: [(&str, &str); 2] = [("session.timeout.ms", "2000"), ("heartbeat.interval.ms", "500")];

/// Where `dev` runs.
pub enum Place {
    /// The embedded broker.
    Embedded(Box<Embedded>),
    /// A real Kafka.
    Kafka(Cluster),
}

/// The embedded broker with what it was told.
pub struct Embedded {
    broker: EmbeddedBroker,
    topics: BTreeSet<String>,
    /// Where other verbs find the broker.
    address: Option<AddressFile>,
}

impl Place {
    /// Starts the embedded broker and tells `produce` and `tail` where it is.
    pub fn embedded() -> anyhow::Result<Self> {
        let broker = EmbeddedBroker::start().context("the embedded broker")?;
        let address = Some(AddressFile::write(Path::new(DEV_BROKER_FILE), broker.cluster().brokers())?);
        Ok(Self::Embedded(Box::new(Embedded { broker, topics: BTreeSet::new(), address })))
    }

    /// The cluster.
    pub fn cluster(&self) -> Cluster {
        match self {
            Self::Embedded(embedded) => embedded.broker.cluster(),
            Self::Kafka(cluster) => cluster.clone(),
        }
    }

    /// It is the embedded broker.
    pub fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    /// How far a feed may run ahead of a topic's slowest reader.
    pub fn limit_bytes(&self) -> Option<u64> {
        self.is_embedded().then_some(PARTITION_LIMIT as u64)
    }

    /// The address is told to nobody any more.
    pub fn forget_address(&mut self) {
        if let Self::Embedded(embedded) = self {
            embedded.address = None;
        }
    }

    /// The function as it can run here. A plugin is built from its crate, so a digest of another file does not
    /// count; the embedded broker stores no transactional offsets, and everything in it came after the start.
    pub fn fit(&self, mut function: Function) -> Function {
        if let Some(spec) = &mut function.handler
            && spec.crate_dir.is_some()
        {
            spec.sha256 = None;
        }
        if self.is_embedded() {
            function.delivery.guarantee = Guarantee::AtLeastOnce;
            for source in &mut function.sources {
                source.start_at = StartAt::Earliest;
            }
            for (name, value) in SESSION {
                function.kafka.consumer.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        function
    }

    /// Makes the topics of a function that the runtime would not make. Returns those that were missing on a Kafka.
    pub fn make_topics(&mut self, function: &Function) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Embedded(embedded) => embedded.make_topics(function).map(|()| Vec::new()),
            Self::Kafka(cluster) => make_missing(cluster, function),
        }
    }
}

impl Embedded {
    fn make_topics(&mut self, function: &Function) -> anyhow::Result<()> {
        let sinks = function.sinks.iter().map(|sink| {
            let partitions = sink.create.as_ref().and_then(|create| create.partitions);
            (&sink.topic, partitions.unwrap_or(1))
        });
        let sources = function.sources.iter().map(|source| match source.schedule {
            Some(_) => (&source.topic, 1),
            None => (&source.topic, SOURCE_PARTITIONS),
        });
        let dead_letters = (&function.delivery.dead_letter_topic, 1);
        let state = function.window.is_some().then_some((&function.state_topic, SOURCE_PARTITIONS));
        let stitch = function.stitch_topic.as_ref().map(|topic| (topic, SOURCE_PARTITIONS));
        let late = function.window.as_ref().and_then(|window| Some((window.late_topic.as_ref()?, 1)));
        for (topic, partitions) in
            sinks.chain(sources).chain([dead_letters]).chain(state).chain(stitch).chain(late)
        {
            if self.topics.insert(topic.clone()) {
                let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
                self.broker.create_topic(topic, partitions).with_context(|| format!("topic {topic}"))?;
            }
        }
        Ok(())
    }
}

/// Makes sources and sinks that `run` would wait for or refuse.
fn make_missing(cluster: &Cluster, function: &Function) -> anyhow::Result<Vec<String>> {
    let admin = Admin::new(cluster)?;
    let sources = function.sources.iter().filter(|source| source.schedule.is_none());
    let sources = sources.map(|source| &source.topic);
    let sinks = function.sinks.iter().filter(|sink| sink.create.is_none()).map(|sink| &sink.topic);
    let names: Vec<&str> = sources.chain(sinks).map(String::as_str).collect();
    let found = admin.topics(&names)?;
    let missing = found.iter().filter(|(_, partitions)| partitions.is_none()).map(|(name, _)| name);
    let missing: Vec<&String> = missing.collect();
    let how = CreateTopic { partitions: None, replication: None, config: Default::default() };
    admin.create_topics(&missing.iter().map(|name| NewTopic::new(name, &how)).collect::<Vec<_>>())?;
    Ok(missing.into_iter().cloned().collect())
}

/// A file that says where the embedded broker is, removed when dropped.
struct AddressFile {
    file: PathBuf,
    address: String,
}

impl AddressFile {
    fn write(file: &Path, address: &str) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", file.display());
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(cannot)?;
            // Nothing in this folder is worth keeping.
            fs::write(folder.join(".gitignore"), "*\n").with_context(cannot)?;
        }
        fs::write(file, address).with_context(cannot)?;
        Ok(Self { file: file.to_owned(), address: address.to_owned() })
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        // Another `dev` in the same folder may have put its own there.
        if fs::read_to_string(&self.file).is_ok_and(|address| address == self.address) {
            let _ = fs::remove_file(&self.file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_there_as_long_as_its_broker_and_no_other_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".tidemill/dev-broker");
        let first = AddressFile::write(&file, "127.0.0.1:1").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "127.0.0.1:1");
        let second = AddressFile::write(&file, "127.0.0.1:2").unwrap();
        drop(first);
        assert_eq!(fs::read_to_string(&file).unwrap(), "127.0.0.1:2");
        drop(second);
        assert!(!file.exists());
    }
}
