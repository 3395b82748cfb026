//! Kafka Streams: `benches/kstreams`, built by Maven into `target/bench/kstreams`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::contest::Route;
use crate::process::{self, Running};
use crate::session::Session;
use crate::timeline::Kind;

/// The program, built.
#[derive(Clone)]
pub struct Streams {
    class_path: OsString,
    count: Option<(Kind, Store)>,
}

/// What keeps a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    /// Streams' own choice.
    #[value(name = "rocksdb")]
    RocksDb,
    /// Its store in the heap.
    Memory,
}

impl Streams {
    /// Builds it; Maven does nothing where nothing changed.
    pub fn build(session: &Session) -> Result<Self> {
        eprintln!("building the Kafka Streams program");
        let built = session.bench_dir().join("kstreams");
        let lib = built.join("lib");
        let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("kstreams/pom.xml");
        let mut maven = Command::new("mvn");
        maven.arg("-q").arg("-f").arg(pom).args(["package", "dependency:copy-dependencies"]);
        maven.arg(format!("-Dbench.directory={}", built.display()));
        maven.arg(format!("-DoutputDirectory={}", lib.display()));
        process::build(&mut maven).context("build benches/kstreams")?;
        let class_path = std::env::join_paths([built.join("kstreams.jar"), lib.join("*")])?;
        Ok(Self { class_path, count: None })
    }

    /// The program as one that counts by window.
    pub fn counting(&self, kind: Kind, store: Store) -> Self {
        Self { count: Some((kind, store)), ..self.clone() }
    }

    /// What the program named `name` writes its counts to, for the next of its kind.
    pub fn changelog(&self, name: &str) -> String {
        format!("{name}-counts-changelog")
    }

    /// Starts it; `name` is its application id, hence its group.
    pub fn start(&self, session: &Session, name: &str, route: Route<'_>) -> Result<Running> {
        let log = session.run_dir().join(format!("{name}.log"));
        Running::start(name, Path::new("java"), log, |command| {
            command.arg("-cp").arg(&self.class_path);
            command.args(["dev.tidemill.benches.Peer", session.brokers(), name, route.input, route.output]);
            command.arg(session.run_dir().join("streams-state"));
            if let Some((kind, store)) = self.count {
                let store = if store == Store::Memory { "memory" } else { "rocksdb" };
                command.args([kind.name(), &kind.size_ms().to_string(), store]);
            }
            command
        })
    }
}
