//! `tidemill test`: does a function do what its cases say?

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;

use super::cases::{self, Case};
use super::trial::{PluginFrom, Tried};
use super::verdict::judge;
use super::{Global, Output};
use crate::manifest::{self, Errors};
use crate::model::Function;

/// The file of cases beside a manifest.
pub(super) const CASES: &str = "cases.yaml";

/// Test functions by their cases, without a broker
///
/// Each folder's cases.yaml says which events its function is given and what must come of them. They go through
/// the pipeline that runs in production, in virtual time, and those of a function with a window into
/// its windows. Each case also runs with every step taken twice and with a fresh handler for every
/// step, to find state hidden in the handler. A plugin with a `crate:` in its manifest is built first.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:
  tidemill test functions/ride-receipts

A case:
  cases:
    - name: a ride becomes a receipt
      given:
        - { key: r-1, value: { rider: ada, fare_cents: 2380 } }
      expect:
        outcome: ok      # ok, skip, filtered, retry, deadLetter (with reason:, error:) or stop
        emits: [{ sink: default, key: ada, value: { total_cents: 2380 } }]

A sequence, for windows above all:
    - name: a ride that nobody pays within the hour goes to unpaid
      at: 2026-03-14T08:15:00Z   # when the clock begins; 2026-01-01T00:00:00Z when left out
      given:
        - { source: ride, value: { ride: r-1 } }
        - advance: 59m           # the clock goes on, and nothing comes
          expect: { count: 0 }   # of this step alone
        - restart: true          # another process goes on with state and offsets
        - advance: 2h
        - { source: payment, value: { ride: r-1 }, timestamp: 2026-03-14T08:00:00Z }
      expect:                    # of all steps together
        emits: [{ sink: unpaid, key: r-1 }]
        deadLetters: [{ reason: late }]

The timestamp of an event that names none is the clock's. Advancing, sources that bring nothing
become idle after `window.idle`, and when all are, event time goes on with the clock: windows close
then. The result of a window whose handler asks for a retry is called again when its pause is over,
and at the latest after the last step.

Exit codes: 0 all cases hold, 1 one does not, 2 a manifest or a cases.yaml is invalid.")]
pub struct Test {
    /// Folders of functions, or their manifests
    #[arg(required = true, value_name = "DIR")]
    paths: Vec<PathBuf>,
    /// Only cases whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Take the plugin file as it stands instead of building the crate
    #[arg(long)]
    no_build: bool,
}

/// A function, and its cases if there is a file of them.
type Planned = (Arc<Function>, Option<Vec<Case>>);

/// What came of all cases.
#[derive(Debug, Default, Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    functions: Vec<Tested>,
}

/// What came of a function's cases.
#[derive(Debug, Serialize)]
struct Tested {
    function: String,
    /// The file of cases; `None`: there is none.
    file: Option<PathBuf>,
    cases: Vec<Judged>,
}

/// What came of a case.
#[derive(Debug, Serialize)]
struct Judged {
    name: String,
    line: usize,
    passed: bool,
    findings: Vec<String>,
}

impl Test {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        let planned = self.planned()?;
        let from = if self.no_build { PluginFrom::File } else { PluginFrom::Crate };
        let mut report = Report::default();
        for (function, cases) in planned {
            let tested = match cases {
                None => Tested { function: function.name.to_string(), file: None, cases: Vec::new() },
                Some(cases) => run_cases(&function, &Tried::load(&function, from)?, &cases)?,
            };
            if global.output == Output::Text {
                print_tested(&tested);
            }
            let passed = tested.cases.iter().filter(|case| case.passed).count();
            report.passed += passed;
            report.failed += tested.cases.len() - passed;
            report.functions.push(tested);
        }
        match global.output {
            Output::Json => println!("{}", serde_json::to_string(&report)?),
            Output::Text if report.failed == 0 => println!("{} cases hold", report.passed),
            Output::Text => println!("{} cases hold, {} FAILED", report.passed, report.failed),
        }
        Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Functions with their cases. Nothing is built or run unless every file is valid.
    fn planned(&self) -> anyhow::Result<Vec<Planned>> {
        let functions: Vec<_> = manifest::load(&self.paths)?.into_iter().map(Arc::new).collect();
        let mut planned: Vec<Planned> = Vec::new();
        let mut errors = Errors::default();
        for function in functions {
            let file = cases_file(&function);
            if planned.iter().any(|(other, _)| cases_file(other) == file) {
                bail!("{} would be for several functions: give each a folder of its own", file.display());
            }
            if !file.exists() {
                planned.push((function, None));
                continue;
            }
            let text =
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            match cases::parse(&file, &text, &function) {
                Ok(mut cases) => {
                    cases.retain(|case| self.only.as_ref().is_none_or(|part| case.name.contains(part)));
                    planned.push((function, Some(cases)));
                }
                Err(found) => errors.extend(found),
            }
        }
        if !errors.is_empty() {
            return Err(errors.into());
        }
        if planned.iter().all(|(_, cases)| cases.as_ref().is_none_or(Vec::is_empty)) {
            match &self.only {
                Some(part) => bail!("no case has {part:?} in its name"),
                None => {
                    bail!("no cases: write them into {CASES} beside the manifest (`tidemill test --help`)")
                }
            }
        }
        Ok(planned)
    }
}

fn cases_file(function: &Function) -> PathBuf {
    function.file.parent().unwrap_or(Path::new("")).join(CASES)
}

fn run_cases(function: &Arc<Function>, tried: &Tried, cases: &[Case]) -> anyhow::Result<Tested> {
    let mut judged = Vec::new();
    for case in cases {
        let findings = judge(function, &|| tried.handler(), case)?;
        judged.push(Judged {
            name: case.name.clone(),
            line: case.line,
            passed: findings.is_empty(),
            findings,
        });
    }
    Ok(Tested { function: function.name.to_string(), file: Some(cases_file(function)), cases: judged })
}

fn print_tested(tested: &Tested) {
    let Some(file) = &tested.file else {
        println!("{}: no {CASES}", tested.function);
        return;
    };
    println!("{}", tested.function);
    for case in &tested.cases {
        if case.passed {
            println!("  ok      {}", case.name);
            continue;
        }
        println!("  FAILED  {} ({}:{})", case.name, file.display(), case.line);
        for line in case.findings.iter().flat_map(|finding| finding.lines()) {
            println!("          {line}");
        }
    }
}
