//! A `tidemill` process under test, or a container of it: its log in a file, signals, a deadline for its end.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal as RawSignal, kill_process};

use super::container::{self, Container};
use super::supervisor::{kill_at_end, no_longer_kill_at_end};
use super::wait::{Deadline, pause};

/// What can be sent to a [`Worker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: finish, commit, leave.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGSTOP: stands still, as on a machine that hangs.
    Stop,
    /// SIGCONT: goes on after [`Signal::Stop`].
    Continue,
    /// SIGKILL: gone at once.
    Kill,
}

/// A running `tidemill`. Dropping it kills the process, and so does the end of the test process.
pub struct Worker {
    /// The process; of a container, the `podman run` that shows its output and ends with it.
    child: Child,
    container: Option<Container>,
    log: PathBuf,
    /// How much an earlier one of its name had printed.
    log_before: u64,
    ended: Option<ExitStatus>,
}

impl Worker {
    /// Starts `tidemill ARGS…` in `folder`. What it prints goes to `<folder>/<name>.log`, added to what
    /// an earlier process of that name left there.
    pub fn spawn(folder: &Path, name: &str, args: &[&str]) -> Self {
        Self::spawn_with(folder, name, args, &[])
    }

    /// The same with environment variables.
    pub fn spawn_with(folder: &Path, name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let log_before = file.metadata().expect("a log file").len();
        let (container, mut command) = match Container::of_image(folder, args, env) {
            Some((container, command)) => (Some(container), command),
            None => (None, process(args, env)),
        };
        let child = command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .spawn()
            .expect("tidemill starts");
        let worker = Self { child, container, log, log_before, ended: None };
        kill_at_end(&worker.known_as());
        worker
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Has it printed anything? Then it listens to signals, of which the first process of a container is sent only those
    /// that it listens to.
    pub fn has_begun(&self) -> bool {
        fs::metadata(&self.log).is_ok_and(|log| log.len() > self.log_before)
    }

    /// Its process id; of a container, that of the process that watches it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What ends it when the tests end first.
    fn known_as(&self) -> String {
        self.container.as_ref().map_or(self.child.id().to_string(), |container| container.name().to_owned())
    }

    /// Still there?
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
            if self.ended.is_some() {
                no_longer_kill_at_end(&self.known_as());
            }
        }
        self.ended.is_none()
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        if !self.is_running() {
            return;
        }
        if self.container.is_some() {
            return self.order(match signal {
                Signal::Terminate => &["kill", "--signal", "TERM"],
                Signal::Interrupt => &["kill", "--signal", "INT"],
                Signal::Stop => &["pause"],
                Signal::Continue => &["unpause"],
                Signal::Kill => container::KILL,
            });
        }
        let raw = match signal {
            Signal::Terminate => RawSignal::TERM,
            Signal::Interrupt => RawSignal::INT,
            Signal::Stop => RawSignal::STOP,
            Signal::Continue => RawSignal::CONT,
            Signal::Kill => RawSignal::KILL,
        };
        kill_process(Pid::from_child(&self.child), raw).expect("a signal reaches a child");
    }

    /// Tells podman what to do with the container, again while it is not there yet.
    fn order(&mut self, verb: &[&str]) {
        let deadline = Deadline::after(Duration::from_secs(30));
        while let Some(Err(error)) = self.container.as_ref().map(|container| container.order(verb)) {
            if !self.is_running() {
                return;
            }
            assert!(!deadline.is_over(), "podman {verb:?}: {error}");
            pause();
        }
    }

    /// Kills it at once (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::Kill);
        self.wait(Duration::from_secs(10));
    }

    /// Sends SIGTERM and waits for its end.
    #[track_caller]
    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::Terminate);
        self.wait(within)
    }

    /// Waits for its end; panics with the log when it has not ended after `within`.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Deadline::after(within);
        while self.is_running() {
            assert!(!deadline.is_over(), "tidemill did not end within {within:?}; its log:\n{}", self.log());
            pause();
        }
        self.ended.expect("it has ended")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_running() {
            match &self.container {
                Some(_) => self.order(container::KILL),
                None => _ = self.child.kill(),
            }
            let _ = self.child.wait();
            no_longer_kill_at_end(&self.known_as());
        }
        if std::thread::panicking() {
            eprintln!("log of tidemill {} ({}):\n{}", self.child.id(), self.log.display(), self.log());
        }
    }
}

fn process(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    // Settings of whoever runs the tests must not reach the process.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("TIDEMILL_") {
            command.env_remove(variable);
        }
    }
    if let Ok(protocol) = std::env::var("TIDEMILL_TEST_GROUP_PROTOCOL") {
        command.env("TIDEMILL_GROUP_PROTOCOL", protocol);
    }
    command.args(args).envs(env.iter().copied());
    command
}

/// A TCP port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
