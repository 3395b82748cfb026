//! A `tidemill` process under test: its log in a file, signals, a deadline for its end.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal as RawSignal, kill_process};

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
    child: Child,
    log: PathBuf,
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        // Settings of whoever runs the tests must not reach the process.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("TIDEMILL_") {
                command.env_remove(variable);
            }
        }
        let child = command
            .args(args)
            .envs(env.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .spawn()
            .expect("tidemill starts");
        kill_at_end(child.id());
        Self { child, log, ended: None }
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Still there?
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
            if self.ended.is_some() {
                no_longer_kill_at_end(self.child.id());
            }
        }
        self.ended.is_none()
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        if !self.is_running() {
            return;
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
            let _ = self.child.kill();
            let _ = self.child.wait();
            no_longer_kill_at_end(self.child.id());
        }
        if std::thread::panicking() {
            eprintln!("log of tidemill {} ({}):\n{}", self.child.id(), self.log.display(), self.log());
        }
    }
}

/// A TCP port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
