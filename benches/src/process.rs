//! Child processes: started on a leash, measured through `/proc`, ended with the benchmark.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, set_parent_process_death_signal, waitid,
};

use crate::clock;

/// Clock ticks a second in `/proc/<pid>/stat`: `USER_HZ`, 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long a process may take to end by itself after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A process that is running, and the file that takes its output.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a process holds in memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// `VmRSS`: resident now.
    pub resident: u64,
    /// `VmHWM`: the most that was ever resident.
    pub peak: u64,
}

/// A line of the log of `tidemill`.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it was written.
    pub at: Timestamp,
    /// What it says.
    pub text: String,
}

impl Line {
    /// The value of a field, as it stands there.
    pub fn field(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.text.split_once(&format!("{name}="))?;
        rest.split([' ', '}']).next().map(|value| value.trim_matches('"'))
    }
}

impl Running {
    /// Starts `program` with what `prepare` adds to its command; its output goes to `log`.
    pub fn start(
        name: &str,
        program: &Path,
        log: PathBuf,
        prepare: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self> {
        let own = std::env::current_exe().context("the benchmark's own path")?;
        let out = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut command = Command::new(own);
        command.arg("leash").arg("--").arg(program);
        prepare(&mut command);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = self.proc("stat")?;
        // The second field is the program's name in parentheses and may hold anything.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks = |n: usize| fields.split_whitespace().nth(n).and_then(|text| text.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).context("no CPU times in /proc/<pid>/stat")?;
        Ok(Duration::from_secs_f64((user + system) / TICKS_PER_SECOND))
    }

    /// Its memory at this moment.
    pub fn memory(&self) -> Result<Memory> {
        let status = self.proc("status")?;
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let kib = line.and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u64>().ok());
            kib.map(|kib| kib * 1024).with_context(|| format!("no {field} in /proc/<pid>/status"))
        };
        Ok(Memory { resident: bytes("VmRSS")?, peak: bytes("VmHWM")? })
    }

    /// Fails when it has ended: everything here goes on until it is stopped.
    pub fn check(&self) -> Result<()> {
        // NOWAIT leaves an ended process for `Child` to reap.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid()?), ended)? {
            Some(_) => bail!("{} ended early", self.name),
            None => Ok(()),
        }
    }

    /// Its name and the last lines of its output, to stand with an error.
    pub fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        format!("{} failed; the end of its output:\n{}", self.name, last.join("\n"))
    }

    /// Lines of its log that say `what`.
    pub fn said(&self, what: &str) -> Vec<Line> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains(what));
        lines.filter_map(line).collect()
    }

    /// Waits until its log says `what` for the `time`-th time; that line.
    pub fn wait_for(&self, what: &str, time: usize, within: Duration) -> Result<Line> {
        let said = clock::until(what, within, Duration::from_millis(20), || {
            self.check()?;
            Ok(self.said(what).into_iter().nth(time.saturating_sub(1)))
        });
        said.with_context(|| self.tail())
    }

    /// Its TCP connections to this address: for each the bytes that came, as `ss` of iproute2 knows them.
    pub fn connections(&self, address: &str) -> Result<Vec<u64>> {
        let output = Command::new("ss").args(["-tinpHO", "state", "established", "dst", address]).output();
        let output = output.context("run ss, of the package iproute2")?;
        let own = format!("pid={},", self.child.id());
        let text = String::from_utf8_lossy(&output.stdout);
        let received = |line: &str| {
            let (_, rest) = line.split_once("bytes_received:")?;
            rest.split(' ').next()?.parse().ok()
        };
        // One that nothing has come by yet has no such field.
        Ok(text.lines().filter(|line| line.contains(&own)).map(|line| received(line).unwrap_or(0)).collect())
    }

    /// How many threads it has.
    pub fn threads(&self) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
        line.and_then(|text| text.trim().parse().ok()).context("no Threads in /proc/<pid>/status")
    }

    /// SIGTERM, then SIGKILL when it does not end in time.
    pub fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let name = format!("{} ends after SIGTERM", self.name);
        clock::until(&name, STOP_WITHIN, Duration::from_millis(20), || Ok(self.child.try_wait()?))?;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).with_context(|| format!("send a signal to {}", self.name))
    }

    fn pid(&self) -> Result<Pid> {
        Pid::from_raw(self.child.id().cast_signed()).context("a child has a pid above 0")
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("read {path} of {}", self.name))
    }
}

impl Drop for Running {
    /// Ends it at once, so that a benchmark that failed leaves nothing behind.
    fn drop(&mut self) {
        // Both fail when it has ended already, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line that begins with a time.
fn line(text: &str) -> Option<Line> {
    let (at, text) = text.split_once(' ')?;
    Some(Line { at: at.parse().ok()?, text: text.to_owned() })
}

/// What runs on the leash.
#[derive(Debug, clap::Args)]
pub struct LeashArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the given program, which the kernel then ends when the benchmark ends, even by SIGKILL:
/// a broker must not outlive a run. (The setting survives `exec`, and no code runs after `fork`.)
pub fn leash(args: &LeashArgs) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("put the process on a leash")?;
    let Some((program, rest)) = args.command.split_first() else {
        bail!("name a program to run");
    };
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("run {}", program.display()))
}

/// Runs a build step to its end; its output is shown only when it fails.
pub fn build(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("run {shown}: is it installed?"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    bail!("{shown} ended with {}:\n{}", output.status, String::from_utf8_lossy(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_has_a_time_and_fields() {
        let written = r#"2026-11-28T14:50:00.250000Z  INFO worker{function="default/a" worker=0}: state restored entries=7"#;
        let line = line(written).unwrap();
        assert_eq!(line.at.as_millisecond() % 1000, 250);
        let fields = ["function", "worker", "entries", "took"].map(|name| line.field(name));
        assert_eq!(fields, [Some("default/a"), Some("0"), Some("7"), None]);
        assert!(super::line("the end of its output").is_none());
    }
}
