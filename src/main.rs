//! The `tidemill` binary: parse the command line, run the verb.

use std::process::ExitCode;

use clap::Parser;
use tidemill::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidemill: {error:#}");
            ExitCode::FAILURE
        }
    }
}
