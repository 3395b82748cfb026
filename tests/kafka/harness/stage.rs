//! A function with topics of its own, and the processes that run it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::kafka::admin::{Isolation, OffsetAt};
use tidemill::kafka::{Admin, Partition};
use tidemill::plugin::{Profile, build_crate};

use super::client::{Kafka, ReadRecord, unique};
use super::load::assert_each_ends_once;
use super::wait::try_wait;
use super::worker::Worker;

/// What events have become.
pub struct Ended {
    /// Results.
    pub results: Vec<ReadRecord>,
    /// Dead letters.
    pub dead: Vec<ReadRecord>,
}

/// A function of one source, one sink and one dead-letter topic, all named after it. It has no handler
/// until it is given one: events go on as they came.
pub struct Stage {
    kafka: Kafka,
    admin: OnceLock<Admin>,
    folder: tempfile::TempDir,
    manifest: Value,
    /// The function's name.
    pub name: String,
    /// The topic that it reads.
    pub source: String,
    /// The topic that it writes.
    pub sink: String,
    /// Where it puts what cannot be handled.
    pub dead_letters: String,
}

impl Stage {
    /// Makes source and sink with so many partitions.
    pub fn new(kafka: &Kafka, stem: &str, partitions: i32) -> Self {
        let stage = Self::without_topics(kafka, stem);
        kafka.create_topic(&stage.source, partitions, &[]);
        kafka.create_topic(&stage.sink, partitions, &[]);
        stage
    }

    /// The same without making any topic.
    pub fn without_topics(kafka: &Kafka, stem: &str) -> Self {
        let name = unique(stem);
        let [source, sink, dead_letters] = ["in", "out", "dead"].map(|role| format!("{name}.{role}"));
        let manifest = json!({
            "apiVersion": "tidemill.dev/v1alpha1",
            "kind": "Function",
            "metadata": { "name": name },
            "spec": {
                "sources": [{ "topic": source, "format": "bytes" }],
                "sinks": [{ "topic": sink, "format": "bytes" }],
                "delivery": { "deadLetter": { "topic": dead_letters } },
            },
        });
        let folder = tempfile::Builder::new().prefix("tidemill-test-stage-").tempdir().expect("a folder");
        Self {
            kafka: kafka.clone(),
            admin: OnceLock::new(),
            folder,
            manifest,
            name,
            source,
            sink,
            dead_letters,
        }
    }

    /// Sets a field of the manifest by its JSON pointer: `/spec/delivery/retry`.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let mut at = &mut self.manifest;
        for step in pointer.split('/').skip(1) {
            at = match at {
                Value::Array(list) => &mut list[step.parse::<usize>().expect("a place in a list")],
                object => &mut object[step],
            };
        }
        *at = value;
        self
    }

    /// A member that falls silent is thrown out after two seconds.
    pub fn with_short_sessions(self) -> Self {
        self.with("/spec/kafka/consumer/session.timeout.ms", json!("2000"))
            .with("/spec/kafka/consumer/heartbeat.interval.ms", json!("400"))
    }

    /// With the handler of the tests, which obeys the events' headers, and notes each call.
    pub fn with_trial(self) -> Self {
        let config = json!({ "calls": self.calls_file() });
        self.with("/spec/handler", json!({ "plugin": trial_plugin(), "config": config }))
    }

    /// The manifest's folder, written.
    pub fn manifest(&self) -> PathBuf {
        let folder = self.folder.path().join("function");
        fs::create_dir_all(&folder).expect("a folder");
        self.write_to(&folder.join("function.yaml"));
        folder
    }

    /// The manifest.
    pub fn text(&self) -> String {
        // JSON is YAML.
        self.manifest.to_string()
    }

    /// Writes the manifest. Put there whole: a worker that was spawned before may be reading it just now.
    pub fn write_to(&self, file: &Path) {
        let draft = file.with_file_name(format!(".draft-{:?}", std::thread::current().id()));
        fs::write(&draft, self.text()).expect("a manifest");
        fs::rename(draft, file).expect("a manifest");
    }

    /// A folder for what belongs to this scenario alone.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The consumer group.
    pub fn group(&self) -> String {
        format!("tidemill.default.{}", self.name)
    }

    /// Runs the function in a process; one of the same name later is the same instance restarted.
    pub fn spawn(&self, who: &str) -> Worker {
        self.spawn_with(who, &[])
    }

    /// The same with environment variables.
    pub fn spawn_with(&self, who: &str, env: &[(&str, &str)]) -> Worker {
        let manifest = self.manifest();
        self.spawn_args(who, &["run", manifest.to_str().expect("a path that is text")], env)
    }

    /// Runs `tidemill ARGS…` on the stage's broker.
    pub fn spawn_args(&self, who: &str, args: &[&str], env: &[(&str, &str)]) -> Worker {
        let state = self.folder.path().join(format!("state-{who}"));
        let state = state.to_str().expect("a path that is text");
        let mut all = vec![
            ("TIDEMILL_STATE_DIR", state),
            ("TIDEMILL_METRICS", "off"),
            ("TIDEMILL_ADMIN", "off"),
            ("TIDEMILL_BROKERS", self.kafka.brokers()),
            ("TIDEMILL_LOG", "info,tidemill=debug"),
        ];
        all.extend(env);
        Worker::spawn_with(self.folder.path(), who, args, &all)
    }

    /// Runs `tidemill VERB MANIFEST ARGS…` on the stage's broker to its end.
    pub fn tidemill(&self, verb: &[&str], args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.stdin(std::process::Stdio::null());
        command.args(verb).arg(self.manifest()).args(args).args(["--brokers", self.kafka.brokers()]);
        command.env_remove("TIDEMILL_BROKERS").output().expect("tidemill runs")
    }

    /// What has become of the values 0 .. `count`, once no transaction is open: each is there once, in the order of its
    /// key, and the audit finds it so.
    #[track_caller]
    pub fn assert_each_ends_once(&self, count: u64) -> Ended {
        let dead = self.read_dead_letters();
        let results = self.kafka.read_all_ended(&self.sink);
        assert_each_ends_once(count, &results, &dead);
        self.assert_audited();
        Ended { results, dead }
    }

    /// Each record of the source has come through, none twice and none besides, in the order of its key, once no
    /// transaction is open, and the audit finds it so. Told by what is written there: a writer that loses its
    /// broker may write twice.
    #[track_caller]
    pub fn assert_each_came_through(&self) {
        let written = by_key(self.kafka.read_all_ended(&self.source));
        let came = by_key(self.kafka.read_all_ended(&self.sink));
        assert_eq!(written.keys().collect::<Vec<_>>(), came.keys().collect::<Vec<_>>());
        for (key, written) in &written {
            let first = written.iter().zip(&came[key]).position(|(written, came)| written != came);
            let counts = (written.len(), came[key].len());
            assert!(
                first.is_none() && counts.0 == counts.1,
                "{key}: not the same from {first:?} on: {counts:?}"
            );
        }
        self.assert_audited();
    }

    /// What became a dead letter, once no transaction is open.
    #[track_caller]
    pub fn read_dead_letters(&self) -> Vec<ReadRecord> {
        match self.kafka.partitions(&self.dead_letters) {
            Some(_) => self.kafka.read_all_ended(&self.dead_letters),
            None => Vec::new(),
        }
    }

    #[track_caller]
    fn assert_audited(&self) {
        let audit = self.tidemill(&["audit"], &[]);
        assert!(audit.status.success(), "the audit finds it too: {}", String::from_utf8_lossy(&audit.stdout));
    }

    /// Calls of the handler by `topic/partition@offset`: the attempt numbers that it was given.
    pub fn calls(&self) -> BTreeMap<String, Vec<u32>> {
        let mut calls: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for line in fs::read_to_string(self.calls_file()).unwrap_or_default().lines() {
            let (event, attempt) = line.split_once(' ').expect("event and attempt");
            calls.entry(event.to_owned()).or_default().push(attempt.parse().expect("a number"));
        }
        calls
    }

    fn calls_file(&self) -> PathBuf {
        self.folder.path().join("calls")
    }

    fn admin(&self) -> &Admin {
        self.admin.get_or_init(|| Admin::new(&self.kafka.as_cluster()).expect("a client"))
    }

    /// What the group has committed for each partition of the source.
    pub fn committed(&self) -> Vec<Option<i64>> {
        let partitions = self.partitions();
        let committed =
            self.admin().committed(&self.group(), Some(&partitions), true).expect("the broker answers");
        committed.into_iter().map(|committed| committed.offset).collect()
    }

    /// Where each partition of the source ends, as Kafka's tools count it.
    pub fn ends(&self) -> Vec<Option<i64>> {
        let partitions = self.partitions();
        let latest = |partition: &Partition| (self.source.as_str(), partition.partition, OffsetAt::Latest);
        let asked: Vec<_> = partitions.iter().map(latest).collect();
        self.admin().list_offsets(&asked, Isolation::ReadUncommitted).expect("the broker answers")
    }

    /// Waits until nothing is left to read: the lag of every partition is 0.
    #[track_caller]
    pub fn wait_until_drained(&self, within: Duration) {
        try_wait(within, "the function to be drained", || {
            let (committed, ends) = (self.committed(), self.ends());
            if committed == ends { Ok(()) } else { Err(format!("committed {committed:?} of {ends:?}")) }
        });
    }

    /// How many members the group has.
    pub fn members(&self) -> usize {
        self.member_ids().len()
    }

    /// The members of the group; one that leaves and joins again has another id.
    pub fn member_ids(&self) -> Vec<String> {
        let group = self.admin().group(&self.group()).expect("the broker answers");
        group.members.into_iter().map(|member| member.member_id).collect()
    }

    fn partitions(&self) -> Vec<Partition> {
        let count = self.kafka.partitions(&self.source).expect("the source is there");
        (0..count).map(|partition| Partition { topic: self.source.clone(), partition }).collect()
    }
}

/// The values of each key, in their order.
fn by_key(records: Vec<ReadRecord>) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        keys.entry(record.key_text().to_owned()).or_default().push(record.text().to_owned());
    }
    keys
}

/// The plugin in `tests/plugins/trial`, built once a run.
pub fn trial_plugin() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugins/trial");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libtrial.so");
        build_crate(&crate_dir, &file, Profile::Dev).unwrap_or_else(|error| panic!("{error}"));
        file
    })
}
