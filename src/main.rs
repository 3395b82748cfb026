//! The `tidemill` binary: parse the command line, run the verb.

use std::process::ExitCode;

use clap::Parser;
use tidemill::cli::Cli;

/// librdkafka allocates each record on its network thread and frees it on the worker's: glibc's arenas
/// pay for that with locks. Unprefixed, so that librdkafka uses it too.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidemill: {error:#}");
            ExitCode::FAILURE
        }
    }
}
