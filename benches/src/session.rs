//! One run of the benchmark: the broker, a folder, names that no other run uses.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::kafka::{Kafka, Making};
use crate::topics::Topics;

/// A run's folder is named by this and its process id.
const RUN_PREFIX: &str = "run-";

/// Where to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// An Apache Kafka that runs already; by default one is started and ended with the run
    #[arg(long, value_name = "HOST:PORT")]
    pub brokers: Option<String>,
}

/// What a run stands on. Fields drop in this order: the broker ends before its folder goes.
pub struct Session {
    topics: Topics,
    brokers: String,
    _kafka: Option<Kafka>,
    run_dir: TempDir,
    bench_dir: PathBuf,
    named: Cell<u32>,
}

impl Session {
    /// Connects to the broker that `place` names, or starts one.
    pub fn open(place: &Place) -> Result<Self> {
        Self::open_with(place, &Making::default())
    }

    /// The same; one that is started is made like that.
    pub fn open_with(place: &Place, making: &Making<'_>) -> Result<Self> {
        let bench_dir = target_dir()?.join("bench");
        fs::create_dir_all(&bench_dir)?;
        sweep(&bench_dir)?;
        let prefix = format!("{RUN_PREFIX}{}-", std::process::id());
        let run_dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(&bench_dir)?;
        let (brokers, kafka) = match &place.brokers {
            Some(brokers) => (brokers.clone(), None),
            None => {
                eprintln!("starting Apache Kafka");
                let kafka = Kafka::start(&bench_dir, run_dir.path(), making)?;
                (kafka.brokers().to_owned(), Some(kafka))
            }
        };
        let topics = Topics::at(&brokers)?;
        Ok(Self { topics, brokers, _kafka: kafka, run_dir, bench_dir, named: Cell::new(0) })
    }

    /// The broker's address.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Its topics.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// A folder that is removed with the run.
    pub fn run_dir(&self) -> &Path {
        self.run_dir.path()
    }

    /// A folder that stays between runs, for what is slow to make.
    pub fn bench_dir(&self) -> &Path {
        &self.bench_dir
    }

    /// A name that begins with `what` and that nobody else uses.
    pub fn fresh_name(&self, what: &str) -> String {
        self.named.set(self.named.get() + 1);
        format!("bench-{what}-{}-{}", std::process::id(), self.named.get())
    }

    /// A new, empty topic.
    pub fn fresh_topic(&self, what: &str) -> Result<String> {
        let name = self.fresh_name(what);
        self.topics.create(&name)?;
        Ok(name)
    }
}

/// Removes the folders of runs that were killed or interrupted: they hold gigabytes.
fn sweep(bench_dir: &Path) -> Result<()> {
    for entry in fs::read_dir(bench_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(RUN_PREFIX)?.split_once('-'));
        if pid.is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Cargo's target folder: the benchmark itself lies in `<target>/<profile>/`.
pub fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the benchmark's own path")?;
    own.ancestors().nth(2).map(Path::to_path_buf).context("the benchmark runs from cargo's target folder")
}
