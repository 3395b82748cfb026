//! What a person types: one file a verb.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::manifest::{self, Errors, Overrides, Platform};
use crate::model::Function;

mod audit;
mod autoscale;
mod build;
mod cases;
mod check;
mod connect;
mod control;
mod dev;
mod dlq;
mod explain;
mod invoke;
mod lag;
mod lane;
mod locate;
pub mod new;
mod process;
mod produce;
mod reset;
mod run;
pub mod sample;
mod scale;
mod scan;
mod tail;
mod test;
mod tick;
mod top;
mod trial;
mod verdict;
mod why;

pub use connect::{DEV_BROKER_FILE, cluster, cluster_or_dev, dev_broker_file};

/// A Kafka-native stream function processor.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The platform's settings (brokers, security, listeners); `tidemill.yaml` here if it exists
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Kafka's addresses, `host:port,host:port`
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub brokers: Option<String>,
    /// What is printed on standard output
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Form of what a verb prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs: one JSON document, or one a line where output goes on.
    Json,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Audit(audit::Audit),
    Autoscale(autoscale::AutoscaleArgs),
    Build(build::Build),
    Check(check::Check),
    Dev(dev::DevArgs),
    Dlq(dlq::DlqArgs),
    Drain(control::Drain),
    Explain(explain::Explain),
    Invoke(invoke::Invoke),
    Lag(lag::LagArgs),
    New(new::New),
    Pause(control::Pause),
    Produce(produce::ProduceArgs),
    Reset(reset::Reset),
    Resume(control::Resume),
    Wake(control::Wake),
    Run(run::Run),
    Scale(scale::ScaleArgs),
    Tail(tail::TailArgs),
    Test(test::Test),
    Top(top::Top),
    Why(why::Why),
}

/// One function.
#[derive(Debug, Args)]
struct Which {
    /// The function's manifest, or its folder
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
}

impl Which {
    fn function(&self) -> anyhow::Result<Arc<Function>> {
        let mut functions = manifest::load(std::slice::from_ref(&self.path))?;
        match (functions.pop(), functions.is_empty()) {
            (Some(function), true) => Ok(Arc::new(function)),
            _ => bail!("{} holds several functions: give the manifest of one", self.path.display()),
        }
    }
}

impl Global {
    /// The platform's settings: `--config`, else `TIDEMILL_CONFIG`, else `tidemill.yaml` here if it
    /// exists; then variables, then flags.
    pub fn platform(&self) -> Result<Platform, Errors> {
        let here = Path::new("tidemill.yaml");
        let file = self
            .config
            .clone()
            .or_else(|| std::env::var_os("TIDEMILL_CONFIG").map(PathBuf::from))
            .or_else(|| here.exists().then(|| here.to_owned()));
        // A variable that is not UTF-8 cannot be one of ours: their names and values are plain text.
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let flags = Overrides { brokers: self.brokers.clone(), ..Overrides::default() };
        Platform::load(file.as_deref(), env, &flags)
    }
}

impl Cli {
    /// Runs the verb. Exit codes: 0 done, 1 failed, 2 wrong usage or an invalid manifest.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let result = match self.verb {
            Verb::Audit(audit) => audit.run(&self.global),
            Verb::Autoscale(args) => args.run(&self.global),
            Verb::Build(build) => build.run(&self.global),
            Verb::Check(check) => check.run(&self.global),
            Verb::Dev(args) => args.run(&self.global),
            Verb::Dlq(args) => args.run(&self.global),
            Verb::Drain(drain) => drain.run(&self.global),
            Verb::Explain(explain) => explain.run(&self.global),
            Verb::Invoke(invoke) => invoke.run(&self.global),
            Verb::Lag(args) => args.run(&self.global),
            Verb::New(new) => new.run(&self.global),
            Verb::Pause(pause) => pause.run(&self.global),
            Verb::Produce(args) => args.run(&self.global),
            Verb::Reset(reset) => reset.run(&self.global),
            Verb::Resume(resume) => resume.run(&self.global),
            Verb::Wake(wake) => wake.run(&self.global),
            Verb::Run(run) => run.run(&self.global),
            Verb::Scale(args) => args.run(&self.global),
            Verb::Tail(args) => args.run(&self.global),
            Verb::Test(test) => test.run(&self.global),
            Verb::Top(top) => top.run(&self.global),
            Verb::Why(why) => why.run(&self.global),
        };
        match result.map_err(anyhow::Error::downcast::<Errors>) {
            Ok(code) => Ok(code),
            Err(Ok(errors)) => {
                eprintln!("{errors}");
                Ok(ExitCode::from(2))
            }
            Err(Err(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_verb_is_well_formed() {
        Cli::command().debug_assert();
    }
}
