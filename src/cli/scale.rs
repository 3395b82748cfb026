//! `tidemill scale`: a person's number of workers for a while, instead of what would be decided.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use axum::http::{Method, StatusCode};
use clap::Args;
use serde_json::json;

use super::control::{self, Named, parse_name};
use super::process::{Listener, Process};
use super::{Global, Output};
use crate::manifest;

/// The longest time that a number may hold.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Give a function so many workers for a while
///
/// Instead of the number that its process, or `autoscale`, would decide on; it may lie outside of `scale.min` and
/// `scale.max`. `auto` ends it. 0 lets the function rest, whatever comes, until the time is over or `wake`: only one that
/// may sleep (`scale.min: 0`). Each process that runs a function has one worker at least, if it is not 0.
///
/// The number is handed to all processes that are found, and whichever decides applies it. Nothing else holds it: it ends
/// with these processes, and one that starts later does not have it. `/functions`, `/scale`, `explain` and `top` show it
/// with the time that is left.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  tidemill scale ride-receipts 6 --for 2h
  tidemill scale billing/ride-receipts 0 --for 30m
  tidemill scale ride-receipts auto
  tidemill scale ride-receipts 6 --admin 127.0.0.1:9465

Processes are found as `pause` finds them, and `autoscale` by the group `<group>.scaler`. One that is in neither (its function
sleeps) is named by --admin, where it is not the process of the platform's settings.

Exit codes: 0 it holds, 1 refused or nobody decides who could be told, 2 wrong usage.")]
pub struct ScaleArgs {
    /// NAME, NAMESPACE/NAME, or its manifest
    #[arg(value_name = "FUNCTION", value_parser = parse_name)]
    function: Named,
    /// How many workers, or `auto`
    #[arg(value_name = "NUMBER|auto", value_parser = number)]
    workers: Number,
    /// For how long, at most 30 days
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = time)]
    time: Duration,
    #[command(flatten)]
    process: Process,
}

/// `None`: as it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number(Option<u32>);

fn number(text: &str) -> Result<Number, String> {
    match text {
        "auto" => Ok(Number(None)),
        text => match text.parse() {
            Ok(workers) if workers <= 1024 => Ok(Number(Some(workers))),
            _ => Err("give a number from 0 to 1024, or `auto`".to_owned()),
        },
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = manifest::duration(text)?;
    let is_sound = (Duration::from_secs(1)..=LONGEST).contains(&time);
    is_sound.then_some(time).ok_or_else(|| "must be from 1s to 30 days (720h)".to_owned())
}

impl ScaleArgs {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let platform = global.platform()?;
        let Named { name, group } = &self.function;
        let (look, is_whole) = control::look(&self.process, &platform, group)?;
        // Who decides from outside runs no function.
        let told: Vec<(String, Arc<Listener>)> = look
            .answers
            .iter()
            .map(|answer| (answer.instance.clone(), Arc::clone(&answer.listener)))
            .collect();
        for silent in &look.silent {
            eprintln!("tidemill: {} was not told: {}", silent.instance, silent.why);
        }
        if told.is_empty() {
            bail!("no process was found that could be told; --admin HOST:PORT names one");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut done = Vec::new();
        let (mut refused, mut unknown) = (Vec::new(), None);
        for (instance, listener) in told {
            match runtime.block_on(self.tell(&listener)) {
                Ok((StatusCode::NO_CONTENT, _)) => done.push((instance, listener)),
                // That it is not known somewhere says nothing where it is known elsewhere.
                Ok((StatusCode::NOT_FOUND, why)) => unknown = unknown.or(Some(why)),
                Ok((status, why)) => refused.push(format!("{status}: {}", why.trim())),
                Err(error) => refused.push(format!("{instance} at {}: {error:#}", listener.address)),
            }
        }
        if done.is_empty() {
            refused.extend(unknown.map(|why| why.trim().to_owned()));
            bail!("{}", refused.join("; "));
        }
        refused.iter().for_each(|refused| eprintln!("tidemill: not told everywhere: {refused}"));
        self.print(global.output, name, &done);
        let is_done = is_whole && refused.is_empty() && look.silent.is_empty();
        Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn tell(&self, listener: &Listener) -> anyhow::Result<(StatusCode, String)> {
        let path = format!("/functions/{}/scale", self.function.name);
        match self.workers.0 {
            None => listener.ask(Method::DELETE, &path).await,
            Some(workers) => {
                let body = json!({ "workers": workers, "forMs": self.time.as_millis() as u64 });
                listener.send(Method::POST, &path, body.to_string()).await
            }
        }
    }

    fn print(&self, output: Output, function: &str, told: &[(String, Arc<Listener>)]) {
        if output == Output::Json {
            let processes = told
                .iter()
                .map(|(instance, listener)| json!({ "instance": instance, "admin": listener.address }));
            let for_ms = self.workers.0.map(|_| self.time.as_millis() as u64);
            println!(
                "{}",
                json!({
                    "function": function,
                    "workers": self.workers.0,
                    "forMs": for_ms,
                    "processes": processes.collect::<Vec<_>>(),
                })
            );
            return;
        }
        let names: Vec<&str> = told.iter().map(|(instance, _)| instance.as_str()).collect();
        match self.workers.0 {
            Some(workers) => println!(
                "{function} is to have {workers} workers for {:?}, unless {} ends before",
                self.time,
                names.join(", ")
            ),
            None => println!("{function} has as many workers as are decided again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_for_a_bounded_time() {
        assert_eq!(number("auto"), Ok(Number(None)));
        assert_eq!(number("0"), Ok(Number(Some(0))));
        assert!(number("-1").is_err() && number("1025").is_err() && number("none").is_err());
        assert!(time("1h").is_ok() && time("0s").is_err() && time("800h").is_err());
    }
}
