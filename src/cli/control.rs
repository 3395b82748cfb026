//! `tidemill pause`, `resume`, `drain` and `wake`: orders to one function, over the admin listeners of the processes that run it.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use axum::http::Method;
use clap::Args;
use serde_json::{Value, json};

use super::locate::{self, Look};
use super::process::{Listener, Process};
use super::{Global, Output};
use crate::manifest::{self, Platform};
use crate::model::FunctionName;

/// How long the order may take to be carried out before this command ends without it.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Let a function rest
///
/// Its workers finish what is begun, cut, and call nothing more. They stay in the consumer group and keep their
/// partitions, whose records wait: nothing rebalances. It lasts until `resume`, also when the manifest changes
/// meanwhile, or until the process ends. All processes that run the function are told, or the one of --admin alone: then
/// others go on. Ends when the function rests.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Pause {
    #[command(flatten)]
    target: Target,
}

/// Let a function go on, after `pause`, `drain` or an error that stopped it
///
/// In all processes that run it, or in the one of --admin. A drained one is in no group and cannot be found by it: name its
/// process, if it is not the one that the platform's settings are of.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Resume {
    #[command(flatten)]
    target: Target,
}

/// Wake a function that sleeps
///
/// One with `scale: { min: 0 }` has no worker while nothing comes. Its process starts one, which goes again if nothing
/// comes for `scale.zeroAfter`. One that is awake stays so. While it sleeps it is in no group and its process cannot be
/// found by it: name that, if it is not the one that the platform's settings are of. Ends when the function runs.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Wake {
    #[command(flatten)]
    target: Target,
}

/// Take a function out of running processes
///
/// Its workers finish what they have read, cut, and leave the consumer group. Told are all processes that run it, and its
/// records wait; or the one of --admin alone, and the others take over its partitions. `resume` starts it again. Ends when
/// the function has stopped.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Drain {
    #[command(flatten)]
    target: Target,
}

const EXAMPLES: &str = "Examples:
  tidemill pause ride-receipts
  tidemill drain billing/ride-receipts --admin 127.0.0.1:9465
  tidemill resume ride-receipts --admin https://tidemill.example:9465 --ca ca.crt

Processes are found through the function's consumer group: its members tell where their admin listeners are. The one that
the platform's settings are of is asked too, and --admin names one that is asked alone. They are given the token of
`listeners.adminToken` (TIDEMILL_ADMIN_TOKEN). Where the settings have `adminTls` all are asked over TLS, and must show the
very certificate that they name. One that --admin names must show a certificate that is made out to that name, by one of
the system's authorities or of those in --ca.

Exit codes: 0 carried out, 1 refused, not carried out within a minute, or a process that runs the function could not be
told, 2 wrong usage.";

/// Which function, and where.
#[derive(Debug, Args)]
struct Target {
    /// NAME, NAMESPACE/NAME, or its manifest, which is needed where that gives it a group of its own
    #[arg(value_name = "FUNCTION", value_parser = parse_name)]
    function: Named,
    #[command(flatten)]
    process: Process,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Pause,
    Resume,
    Drain,
    Wake,
}

impl Wake {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        self.target.order(Order::Wake, global)
    }
}

impl Pause {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        self.target.order(Order::Pause, global)
    }
}

impl Resume {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        self.target.order(Order::Resume, global)
    }
}

impl Drain {
    /// Runs the verb.
    pub fn run(self, global: &Global) -> anyhow::Result<ExitCode> {
        self.target.order(Order::Drain, global)
    }
}

/// A function, and where it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// Its consumer group.
    pub group: String,
}

/// `NAMESPACE/NAME`; the namespace is `default` when left out. Or a manifest.
pub fn parse_name(text: &str) -> Result<Named, String> {
    let path = Path::new(text);
    if path.exists() || path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
        let functions = manifest::load(&[path.to_owned()]).map_err(|errors| errors.to_string())?;
        return match functions.as_slice() {
            [function] => Ok(Named { name: function.name.to_string(), group: function.group.clone() }),
            _ => Err(format!("{text} holds several functions: name one")),
        };
    }
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if is_name(namespace) && is_name(name) {
        let name = FunctionName { namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(Named { group: manifest::default_group(&name), name: name.to_string() })
    } else {
        Err("give NAME, NAMESPACE/NAME or a manifest".to_owned())
    }
}

impl Target {
    fn order(self, order: Order, global: &Global) -> anyhow::Result<ExitCode> {
        let platform = global.platform()?;
        let Named { name, group } = &self.function;
        let (look, is_whole) = look(&self.process, &platform, group)?;
        let mut told: Vec<Told> =
            look.of(name).map(|answer| (answer.instance.clone(), Arc::clone(&answer.listener))).collect();
        if told.is_empty() {
            look.complain();
            // It says what it has instead, or that nobody is there.
            told.push((String::new(), Arc::new(self.process.listener(&platform)?)));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ends = runtime.block_on(carry_out_in_all(&told, name, order));
        let processes = told.iter().zip(ends).collect::<Vec<_>>();
        if let [(_, Err(_))] = processes.as_slice() {
            return processes
                .into_iter()
                .next()
                .map_or(Ok(ExitCode::FAILURE), |(_, end)| end.map(|_| ExitCode::FAILURE));
        }
        // Of a function that sleeps elsewhere nobody is to be told that it shall wake.
        let left_out =
            look.silent.iter().filter(|silent| silent.works && order != Order::Wake).collect::<Vec<_>>();
        for silent in &left_out {
            eprintln!("tidemill: {} was not told: {}", silent.instance, silent.why);
        }
        print(global.output, name, &processes);
        let is_done = is_whole && left_out.is_empty() && processes.iter().all(|(_, end)| end.is_ok());
        Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The processes that run a function, and whether that is all that there are to ask. Brokers that are away keep nobody from
/// asking the process of the settings.
pub fn look(process: &Process, platform: &Platform, group: &str) -> anyhow::Result<(Look, bool)> {
    let peers = match process.is_given() {
        true => Ok(Vec::new()),
        false => locate::peers_of(group, platform).inspect_err(|error| {
            eprintln!("tidemill: the group {group} cannot be asked which processes there are: {error:#}");
        }),
    };
    let is_whole = peers.is_ok();
    match locate::look(process, platform, peers.unwrap_or_default()) {
        // Asked once more, it says why.
        Err(_) if process.is_given() => Ok((Look::default(), true)),
        look => look.map(|look| (look, is_whole)),
    }
}

/// A process that was told, by its name.
type Told = (String, Arc<Listener>);

fn print(output: Output, function: &str, processes: &[(&Told, anyhow::Result<Value>)]) {
    if output == Output::Json {
        let shown = processes.iter().map(|((instance, listener), end)| match end {
            Ok(state) => json!({ "instance": instance, "admin": listener.address, "state": state }),
            Err(error) => {
                json!({ "instance": instance, "admin": listener.address, "error": format!("{error:#}") })
            }
        });
        let state = processes.iter().find_map(|(_, end)| end.as_ref().ok());
        println!(
            "{}",
            json!({ "function": function, "state": state, "processes": shown.collect::<Vec<_>>() })
        );
        return;
    }
    for ((instance, listener), end) in processes {
        let place = match processes.len() {
            1 => String::new(),
            _ => format!(" in {instance} ({})", listener.address),
        };
        match end {
            Ok(state) => println!("{function} is {}{place}", words(state)),
            Err(error) => eprintln!("tidemill: {function}{place}: {error:#}"),
        }
    }
}

/// What a state is called, and why.
fn words(state: &Value) -> String {
    let word = state["is"].as_str().unwrap_or("unknown");
    match state["reason"].as_str().or(state["topic"].as_str()) {
        Some(reason) => format!("{word} ({reason})"),
        None => word.to_owned(),
    }
}

/// Gives the order to each process at once, and returns what each came to.
async fn carry_out_in_all(told: &[Told], function: &str, order: Order) -> Vec<anyhow::Result<Value>> {
    let begun: Vec<_> = told
        .iter()
        .map(|(_, listener)| {
            let (listener, function) = (Arc::clone(listener), function.to_owned());
            tokio::spawn(async move { carry_out(&listener, &function, order).await })
        })
        .collect();
    let mut ends = Vec::with_capacity(begun.len());
    for end in begun {
        ends.push(end.await.unwrap_or_else(|error| Err(error.into())));
    }
    ends
}

/// Gives the order, and returns the function's state when that is what was asked for.
async fn carry_out(listener: &Listener, function: &str, order: Order) -> anyhow::Result<Value> {
    let verb = format!("{order:?}").to_lowercase();
    let (status, answer) = listener.ask(Method::POST, &format!("/functions/{function}/{verb}")).await?;
    if !status.is_success() {
        bail!("{}: {}", status, answer.trim());
    }
    let mut state = Value::Null;
    let done = async {
        loop {
            let (_, answer) = listener.ask(Method::GET, "/functions").await?;
            state = state_of(function, &answer)?;
            if is_done(order, &state)? {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(DONE_WITHIN, done).await {
        Ok(result) => result.map(|()| state),
        Err(_) => {
            Err(anyhow!("the order stands, but {function} is still {} after {DONE_WITHIN:?}", words(&state)))
        }
    }
}

fn functions_of(answer: &str) -> anyhow::Result<Vec<Value>> {
    let mut document: Value = serde_json::from_str(answer).context("the answer to /functions")?;
    match document["functions"].take() {
        Value::Array(functions) => Ok(functions),
        _ => bail!("the answer to /functions lists none"),
    }
}

fn state_of(function: &str, answer: &str) -> anyhow::Result<Value> {
    let functions = functions_of(answer)?;
    let found = functions.iter().find(|found| found["name"] == function);
    found.map(|found| found["state"].clone()).with_context(|| format!("{function} is not there any more"))
}

/// The order is carried out. A function that is yet to begin has nothing that would have to rest.
fn is_done(order: Order, state: &Value) -> anyhow::Result<bool> {
    let is = state["is"].as_str().unwrap_or_default();
    match (order, is) {
        (Order::Drain, is) => Ok(is == "stopped"),
        (Order::Pause | Order::Resume | Order::Wake, "stopped") => bail!("it stopped: {}", words(state)),
        // One that sleeps calls nothing; woken, it rests.
        (Order::Pause, is) => Ok(matches!(is, "paused" | "starting" | "waiting" | "asleep")),
        (Order::Resume, is) => Ok(matches!(is, "running" | "starting" | "waiting" | "parked" | "asleep")),
        (Order::Wake, is) => Ok(matches!(is, "running" | "starting" | "waiting" | "parked" | "paused")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_with_or_without_its_namespace() {
        let named = |text: &str| parse_name(text).map(|Named { name, group }| (name, group)).unwrap();
        assert_eq!(named("echo"), ("default/echo".to_owned(), "tidemill.default.echo".to_owned()));
        assert_eq!(named("billing/echo"), ("billing/echo".to_owned(), "tidemill.billing.echo".to_owned()));
        for wrong in ["", "/", "a/", "/a", "a/b/c", "a b", "a?b", "a/..%2f"] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_order_is_carried_out_when_the_state_says_so() {
        let cases = [
            (Order::Pause, "running", Some(false)),
            (Order::Pause, "paused", Some(true)),
            (Order::Pause, "waiting", Some(true)),
            (Order::Pause, "stopped", None),
            (Order::Resume, "paused", Some(false)),
            (Order::Resume, "stopping", Some(false)),
            (Order::Resume, "running", Some(true)),
            (Order::Resume, "stopped", None),
            (Order::Drain, "running", Some(false)),
            (Order::Drain, "stopping", Some(false)),
            (Order::Drain, "stopped", Some(true)),
        ];
        for (order, is, expected) in cases {
            assert_eq!(is_done(order, &json!({ "is": is })).ok(), expected, "{order:?} {is}");
        }
    }
}
