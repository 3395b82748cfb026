//! `dev` as its users run it: the program itself, on the embedded broker.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long one happening may let wait for itself; a plugin is built within.
const WITHIN: Duration = Duration::from_secs(300);

fn tidemill(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command
        .current_dir(folder)
        .env_remove("TIDEMILL_BROKERS")
        .env("XDG_STATE_HOME", folder.join("state"))
        .stdin(Stdio::null());
    command
}

/// What a run with `--output json` told, of one kind.
fn told<'a>(happenings: &'a [Value], what: &str) -> Vec<&'a Value> {
    happenings.iter().filter(|happening| happening["happening"] == what).collect()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn three_rides_within_a_week_earn_the_one_reward() {
    let folder = TempDir::new().expect("a folder");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/ride-loyalty");
    let mut dev = tidemill(folder.path());
    let output = dev.args(["dev", "--once", "--rate", "200", "--output", "json"]).arg(&example).output();
    let output = output.expect("tidemill starts");
    assert!(output.status.success(), "{}", errors(&output));
    let happenings = lines(&output);
    let [totals] = told(&happenings, "totals")[..] else { panic!("totals once: {happenings:?}") };
    assert_eq!((&totals["ok"], &totals["outputs"]), (&json!(7), &json!({ "rewards": 1 })));
    let reward = fs::read_to_string(example.join("README.md")).expect("a README");
    let reward = reward.lines().find_map(|line| line.strip_prefix("    {")).expect("the reward");
    let reward: Value = serde_json::from_str(&format!("{{{reward}")).expect("JSON");
    let outputs =
        told(&happenings, "event").into_iter().flat_map(|event| event["outputs"].as_array().unwrap());
    assert_eq!(outputs.map(|output| &output["value"]).collect::<Vec<_>>(), [&reward]);
}

#[test]
fn rides_that_were_paid_are_billed_to_whom_the_table_says() {
    let folder = TempDir::new().expect("a folder");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/billing");
    let mut dev = tidemill(folder.path());
    let output = dev.args(["dev", "--once", "--rate", "200", "--output", "json"]).arg(&example).output();
    let output = output.expect("tidemill starts");
    assert!(output.status.success(), "{}", errors(&output));
    let happenings = lines(&output);
    let [totals] = told(&happenings, "totals")[..] else { panic!("totals once: {happenings:?}") };
    assert_eq!((&totals["events"], &totals["ok"]), (&json!(12), &json!(12)), "rows among them: {totals}");
    assert_eq!(totals["outputs"]["billing.invoices"], json!(4), "{totals}");
    assert_eq!(
        totals["outputs"]["billing.unpaid"],
        json!(1),
        "what is open when the sample ends, ends: {totals}"
    );
    let invoice = fs::read_to_string(example.join("README.md")).expect("a README");
    let invoice = invoice.lines().find_map(|line| line.strip_prefix("    {")).expect("an invoice");
    let invoice: Value = serde_json::from_str(&format!("{{{invoice}")).expect("JSON");
    assert!(
        output.stdout.len() > 1
            && happenings.iter().any(|told| told.to_string().contains(&invoice.to_string()))
    );
}

#[test]
fn the_first_command_shows_every_ride_with_its_receipt_or_the_reason() {
    let folder = TempDir::new().expect("a folder");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions/ride-receipts");
    let output = tidemill(folder.path())
        .args(["dev", "--once", "--rate", "200", "--output", "json"])
        .arg(&example)
        .output()
        .expect("tidemill starts");
    assert!(output.status.success(), "{}", errors(&output));
    let happenings = lines(&output);
    let [totals] = told(&happenings, "totals")[..] else { panic!("totals once: {happenings:?}") };
    let expected = json!({
        "happening": "totals", "events": 20, "ok": 16, "skipped": 1, "filtered": 2, "retries": 0, "unrouted": 0,
        "deadLetters": { "rejected": 1 }, "outputs": { "receipts": 16 },
    });
    assert_eq!(totals, &expected);
    let [start] = told(&happenings, "start")[..] else { panic!("one start: {happenings:?}") };
    assert_eq!(start["embedded"], true);
    let events = told(&happenings, "event");
    assert_eq!(events.len(), 20);
    let first = events.iter().find(|event| event["event"]["key"] == "r-1001").expect("the first ride");
    assert_eq!((&first["outcome"], &first["outputs"][0]["key"]), (&json!("ok"), &json!("ada")));
    assert!(!folder.path().join(".tidemill/dev-broker").exists(), "nobody is sent to a broker that is gone");

    let failed = events.iter().find(|event| event["outcome"] == "deadLetter").expect("a dead letter");
    let invoke = failed["invoke"].as_str().expect("a command to copy");
    let mut words = invoke.split(' ');
    assert_eq!(words.next(), Some("tidemill"));
    let invoked = tidemill(folder.path()).args(words).output().expect("tidemill starts");
    let shown = String::from_utf8_lossy(&invoked.stdout).into_owned() + &errors(&invoked);
    assert!(shown.contains("negative-fare"), "{invoke}\n{shown}");
}

/// A function of built-in steps: what comes in goes out.
fn passing_on(folder: &Path, sink: &str) -> PathBuf {
    let dir = folder.join("mill");
    fs::create_dir_all(&dir).expect("a folder");
    let manifest = format!(
        "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  \
         sources: [{{topic: grain, format: json}}]\n  sinks: [{{topic: {sink}}}]\n"
    );
    fs::write(dir.join("function.yaml"), manifest).expect("written");
    dir
}

#[test]
fn lines_that_are_no_events_fail_the_run_but_hold_nothing_up() {
    let folder = TempDir::new().expect("a folder");
    let dir = passing_on(folder.path(), "flour");
    let sample = "{\"value\": {\"kg\": 1}}\ngarbage\n{\"topic\": \"gravel\"}\n{\"value\": \"no json\"}\n";
    fs::write(dir.join("sample.jsonl"), sample).expect("written");
    let output = tidemill(folder.path())
        .args(["dev", "mill", "--once", "--output", "json"])
        .output()
        .expect("tidemill starts");
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let happenings = lines(&output);
    let problems: Vec<_> =
        told(&happenings, "sample").iter().filter_map(|line| line["error"].as_str()).collect();
    let [garbage, gravel] = problems[..] else { panic!("two problems: {problems:?}") };
    assert!(garbage.starts_with("mill/sample.jsonl:2: not an event"), "{garbage}");
    assert!(gravel.starts_with("mill/sample.jsonl:3: topic gravel is no function's source"), "{gravel}");
    let totals = told(&happenings, "totals")[0];
    assert_eq!((&totals["ok"], &totals["deadLetters"]), (&json!(1), &json!({ "malformed": 1 })));
}

/// A `dev` that goes on until it is told to end.
struct Dev {
    child: Child,
    lines: Receiver<String>,
}

impl Dev {
    fn start(folder: &Path, dir: &Path) -> Self {
        let mut child = tidemill(folder)
            .args(["dev", "--output", "json"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("tidemill starts");
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// The next happening of a kind.
    fn wait_for(&self, what: &str) -> Value {
        loop {
            let line =
                self.lines.recv_timeout(WITHIN).unwrap_or_else(|_| panic!("no {what} within {WITHIN:?}"));
            let happening: Value = serde_json::from_str(&line).expect("one JSON object a line");
            if happening["happening"] == what {
                return happening;
            }
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_saved_manifest_is_taken_over_and_an_interrupt_ends_with_totals() {
    let folder = TempDir::new().expect("a folder");
    let dir = passing_on(folder.path(), "flour");
    let mut dev = Dev::start(folder.path(), &dir);
    dev.wait_for("feeding");
    let produce = |value: &str| {
        let mut child = tidemill(folder.path())
            .args(["produce", "grain"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("tidemill starts");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), value.as_bytes())
            .expect("written");
        assert!(child.wait().expect("it ends").success(), "the address of the broker is found");
    };
    produce("{\"kg\": 1}\n");
    let event = dev.wait_for("event");
    assert_eq!((&event["outcome"], &event["outputs"][0]["topic"]), (&json!("ok"), &json!("flour")));

    fs::write(dir.join("function.yaml"), "kind: Nonsense\n").expect("written");
    dev.wait_for("manifest");
    produce("{\"kg\": 2}\n");
    assert_eq!(dev.wait_for("event")["outputs"][0]["topic"], "flour", "the old one goes on");

    passing_on(folder.path(), "bread");
    dev.wait_for("restart");
    produce("{\"kg\": 3}\n");
    let event = dev.wait_for("event");
    assert_eq!(event["outputs"][0]["topic"], "bread");
    assert_eq!(event["event"]["value"], json!({ "kg": 3 }), "what was finished is not done again");

    let pid = Pid::from_child(&dev.child);
    kill_process(pid, Signal::INT).expect("it runs");
    assert_eq!(dev.wait_for("totals")["events"], 3);
    assert_eq!(dev.child.wait().expect("it ends").code(), Some(0));
    assert!(!folder.path().join(".tidemill/dev-broker").exists());
}
