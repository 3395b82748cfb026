//! `tidemill dev`: a function on the author's desk. Builds it, feeds it a sample, shows what comes of each
//! event, and takes it up anew when it is saved.

mod display;
mod engine;
mod failed;
mod feed;
mod flow;
mod keys;
mod line;
mod place;
mod session;
mod tap;
mod totals;
mod watch;
mod workshop;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::{Global, produce, run};
use crate::manifest::{self, Platform};
use crate::model::Function;
use crate::observe;
use crate::plugin::BuildError;
use crate::runtime::{Stop, watch_signals};
use display::Display;
use engine::Engine;
use failed::Failed;
use keys::Key;
use place::Place;
use session::Session;
use tap::{Happening, OwnedRecord};
use watch::Saved;
use workshop::Workshop;

/// Failed events of the embedded broker, below the folder that `dev` was started in.
const FAILED_FOLDER: &str = ".tidemill/dev-events";
/// Happenings that wait to be shown; then the workers wait.
const WAITING: usize = 1024;
/// Events a second that can be read along.
const READABLE: f64 = 4.0;
/// Events a second when nobody is asked to stay.
const ONCE: f64 = 20.0;

/// Try functions out: build, feed a sample, show what comes out
///
/// Builds the plugins of the functions in DIR, feeds the events of `sample.jsonl` and shows each with what
/// came of it. What is saved meanwhile is rebuilt and takes over. Without --brokers it runs on an embedded
/// broker, which is for trying out: in memory, at least once; `produce` and `tail` in the same folder find it.
/// Addresses of brokers in variables or in tidemill.yaml are not used, so that no sample lands in a real topic
/// by accident.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill dev functions/ride-receipts
  tidemill dev functions/ride-receipts --once --output json
  tidemill dev functions/ride-receipts --brokers 127.0.0.1:9092

Keys, in a terminal: f feed again, r redeliver the last event, p pause, q quit.
Exit codes: 0 ended as asked; 1 a function stopped, did not build, or the sample has lines that are no events;
2 an invalid manifest.")]
pub struct DevArgs {
    /// A folder with a function, or with folders of functions
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// End when the sample is through, and print the totals; on the embedded broker windows that are open then close, and
    /// timers fire
    #[arg(long)]
    once: bool,
    /// Events per second; 4 when left out, 20 with --once
    #[arg(long, value_parser = produce::parse_rate)]
    rate: Option<f64>,
    /// Feed this file instead of `sample.jsonl` beside the manifest
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
}

/// What the loop hears.
pub enum Signal {
    /// A function passed an event.
    Happened(Box<Happening>),
    /// A worker has cut and has nothing at hand.
    Rested,
    /// Windows of a function gave this.
    Gave(Arc<Function>, Vec<OwnedRecord>),
    /// The author saved.
    Saved(Saved),
    /// A build ended after so long.
    Built(Result<(), BuildError>, Duration),
    /// A key was hit.
    Key(Key),
}

impl DevArgs {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let functions = manifest::load(std::slice::from_ref(&self.dir))?;
        let platform = global.platform()?;
        init_logs(platform.clone())?;
        Workshop::new(functions.iter()).build()?;
        let place = match &global.brokers {
            Some(_) => Place::Kafka(run::cluster(&platform)?),
            None => Place::embedded()?,
        };
        let failed = match &place {
            Place::Kafka(cluster) => Failed::in_topic(cluster.brokers()),
            Place::Embedded(_) => Failed::in_folder(Path::new(FAILED_FOLDER)),
        };
        let quit = Stop::default();
        watch_signals(quit.clone(), platform.shutdown_deadline, Arc::default())?;
        let (sender, signals) = mpsc::sync_channel(WAITING);
        let engine = Engine::new(&platform, place.cluster(), !place.is_embedded(), sender.clone())?;
        let rate = self.rate.unwrap_or(if self.once { ONCE } else { READABLE });
        let gap = Duration::from_secs_f64(1.0 / rate);
        Session::begin(
            self,
            functions,
            gap,
            session::Parts {
                display: Display::new(global.output),
                place,
                engine,
                failed,
                quit,
                sender,
                signals,
            },
        )?
        .run()
    }
}

/// Warnings only, and none about single events, which are shown anyway; `TIDEMILL_LOG` says otherwise.
fn init_logs(mut platform: Platform) -> anyhow::Result<()> {
    if std::env::var_os("TIDEMILL_LOG").is_none() {
        platform.log.filter = format!("warn,{}=error", observe::events::OUTCOMES);
    }
    run::init_logs(&platform).context("log")
}
