//! `tidemill top`: all functions of a cluster as they stand, once a second. [`look`] asks Kafka and the processes that it
//! finds, [`table`] shows.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::process::Process;
use super::{Global, Output, connect};
use crate::manifest;
use crate::model::{Clock as _, SystemClock};
use crate::runtime::{Stop, watch_signals};

mod age;
mod look;
mod table;

use look::Looker;

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);

/// How long a look that is under way may take when it is told to end.
const END_WITHIN: Duration = Duration::from_secs(2);

/// Show all functions as they stand
///
/// Functions are found by their consumer groups, `tidemill.*`, or are those of the manifests that are named; of both it is
/// shown how far they are behind, in records and in time, what comes and what is finished, workers there and decided, and when
/// something falls due. What processes and `autoscale` say of themselves is added where they are found: state, decision, why.
/// In a terminal the table is refreshed once a second; otherwise it is printed once. Joins no group and commits nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill top
  tidemill top functions --once
  tidemill top --output json | jq '.functions[] | select(.lag > 0) | .function'

LAG is in records, an upper bound as in `lag`. BEHIND is how long ago the oldest of them was written; WORKERS how many are
there and, behind the stroke, how many there should be; IN/S and OUT/S what came and what was finished.

Exit codes: 0 shown, or ended by Ctrl-C; 1 the cluster cannot be asked; 2 wrong usage or an invalid manifest.")]
pub struct Top {
    /// Manifests, or folders with manifests: these functions alone
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// One table, and the end
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    process: Process,
}

impl Top {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let functions = match self.paths.as_slice() {
            [] => None,
            paths => Some(manifest::load(paths)?),
        };
        let (cluster, platform) = (connect::cluster(global)?, global.platform()?);
        let mut looker = Looker::new(&cluster, functions, self.process, platform)?;
        let is_live = !self.once && global.output == Output::Text && io::stdout().is_terminal();
        if is_live {
            return live(&mut looker);
        }
        // One look tells no rate.
        looker.look()?;
        Stop::default().wait(EVERY);
        let view = looker.look()?;
        match global.output {
            Output::Json => println!("{}", serde_json::to_string(&view)?),
            Output::Text => print!("{}", table::lines(&view, None).join("\n") + "\n"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Until Ctrl-C. What fails after the first look is shown, and tried again.
fn live(looker: &mut Looker) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    watch_signals(stop.clone(), END_WITHIN, Arc::default())?;
    looker.look()?;
    let screen = Screen::open()?;
    let clock = SystemClock::start();
    let mut next = clock.now().elapsed;
    while !stop.is_set() {
        let looked = looker.look();
        let size = screen.size();
        let lines = match looked {
            Ok(view) => table::lines(&view, Some(size)),
            Err(error) => table::fit(vec![format!("the cluster cannot be asked: {error:#}")], size),
        };
        if screen.show(&lines).is_err() {
            // Nobody looks any more.
            break;
        }
        next = (next + EVERY).max(clock.now().elapsed + EVERY / 10);
        stop.wait(next.saturating_sub(clock.now().elapsed));
    }
    Ok(ExitCode::SUCCESS)
}

/// The terminal's other screen, without a cursor; it is as it was once this is dropped.
struct Screen;

impl Screen {
    fn open() -> io::Result<Self> {
        put("\x1b[?1049h\x1b[?25l\x1b[2J").map(|()| Self)
    }

    /// Columns and rows.
    fn size(&self) -> (usize, usize) {
        let size = rustix::termios::tcgetwinsize(io::stdout());
        match size {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => (80, 24),
        }
    }

    /// From the upper left corner on; each line takes off what was right of it, the last what was below.
    fn show(&self, lines: &[String]) -> io::Result<()> {
        put(&format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n")))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = put("\x1b[?25h\x1b[?1049l");
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
