//! What ends brokers and workers when the test process goes, however it goes: shells that read a pipe.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// The shell that runs one broker. When it is dropped, or the process ends, the broker is killed and its
/// folder removed.
pub struct Supervisor {
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    shell: Child,
}

impl Supervisor {
    /// A supervisor of a broker that lives in `folder` and is run by `command`.
    pub fn spawn(folder: &Path, kind: &str, command: &[String]) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", include_str!("supervisor.sh"), "supervisor"]).arg(folder).arg(kind).args(command);
        let mut shell = detached(&mut shell);
        let commands = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().expect("standard output is piped"));
        Self { commands, answers, shell }
    }

    /// Tells the shell to do `verb` and waits until it is done.
    pub fn order(&mut self, verb: &str) {
        let commands = self.commands.as_mut().expect("open until dropped");
        writeln!(commands, "{verb}").expect("the supervisor reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the supervisor answers");
        assert_eq!(answer.trim(), verb, "the supervisor went away");
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.commands.take();
        let _ = self.shell.wait();
    }
}

/// Kills the process of this number, or the container of this name, when the test process ends before
/// [`no_longer_kill_at_end`] was called.
pub fn kill_at_end(worker: &str) {
    tell_reaper(&format!("+{worker}"));
}

/// Undoes [`kill_at_end`], once the process has been waited for: its number may be given away again.
pub fn no_longer_kill_at_end(worker: &str) {
    tell_reaper(&format!("-{worker}"));
}

fn tell_reaper(line: &str) {
    static REAPER: OnceLock<Mutex<Child>> = OnceLock::new();
    let reaper = REAPER.get_or_init(|| {
        let script = r#"trap : INT HUP TERM
            workers=' '
            while read -r line; do
                worker=${line#?}
                case $line in
                    +*) workers="$workers$worker " ;;
                    -*) workers="${workers%% $worker *} ${workers#* $worker }" ;;
                esac
            done
            for worker in $workers; do
                case $worker in
                    *[!0-9]*) podman rm --force --time 0 "$worker" ;;
                    *) kill -s KILL "$worker" ;;
                esac >/dev/null 2>&1
            done"#;
        Mutex::new(detached(Command::new("sh").args(["-c", script])))
    });
    let mut reaper = reaper.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let lines = reaper.stdin.as_mut().expect("standard input is piped");
    writeln!(lines, "{line}").expect("the reaper reads until this process ends");
}

/// Starts a shell in a process group of its own (Ctrl-C goes to the tests' group), with nothing of this
/// process's output: whoever reads that must not wait for the shell.
fn detached(shell: &mut Command) -> Child {
    shell
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("`sh` starts")
}
