//! `tidemill pause`, `resume` and `drain`: orders to one function of a running process, over its admin listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use clap::Args;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Global, Output};
use crate::manifest::Platform;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long the order may take to be carried out before this command ends without it.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// More than the state of any process.
const LONGEST_ANSWER_BYTES: usize = 64 << 20;

/// Let a function of a running process rest
///
/// Its workers in that process finish what is begun, cut, and call nothing more. They stay in the consumer group and
/// keep their partitions, whose records wait: nothing rebalances. It lasts until `resume`, also when the manifest
/// changes meanwhile, or until the process ends; other processes that run the function go on. Ends when the
/// function rests.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Pause {
    #[command(flatten)]
    target: Target,
}

/// Let a function go on, after `pause`, `drain` or an error that stopped it
///
/// Of this process; other processes that run the function do not notice.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Resume {
    #[command(flatten)]
    target: Target,
}

/// Take a function out of a running process
///
/// Its workers in that process finish what they have read, cut, and leave the consumer group: other processes that run
/// the function take over its partitions, and without others its records wait. `resume` starts it again. Ends
/// when the function has stopped.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Drain {
    #[command(flatten)]
    target: Target,
}

const EXAMPLES: &str = "Examples:
  tidemill pause ride-receipts
  tidemill drain billing/ride-receipts --admin 127.0.0.1:9465

The process is asked at its admin listener, by default where the platform's settings put it, with the token of
`listeners.adminToken` (TIDEMILL_ADMIN_TOKEN).

Exit codes: 0 carried out, 1 refused or not carried out within a minute, 2 wrong usage.";

/// Which function, and where.
#[derive(Debug, Args)]
struct Target {
    /// NAME or NAMESPACE/NAME
    #[arg(value_name = "FUNCTION", value_parser = parse_name)]
    function: String,
    /// The process's admin listener
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Pause,
    Resume,
    Drain,
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

/// `NAMESPACE/NAME`; the namespace is `default` when left out.
fn parse_name(text: &str) -> Result<String, String> {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if is_name(namespace) && is_name(name) {
        Ok(format!("{namespace}/{name}"))
    } else {
        Err("give NAME or NAMESPACE/NAME".to_owned())
    }
}

impl Target {
    fn order(self, order: Order, global: &Global) -> anyhow::Result<ExitCode> {
        let platform = global.platform()?;
        let token = platform.admin_token.as_ref().map(|token| token.resolve()).transpose()?;
        let listener = Listener { address: address(self.admin, &platform)?, token };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let state = runtime.block_on(carry_out(&listener, &self.function, order))?;
        match global.output {
            Output::Json => println!("{}", json!({ "function": self.function, "state": state })),
            Output::Text => println!("{} is {}", self.function, words(&state)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A listener of this machine's own settings may listen on all addresses: loopback is one of them.
fn address(given: Option<String>, platform: &Platform) -> anyhow::Result<String> {
    if let Some(given) = given {
        return Ok(given);
    }
    let listens = platform.admin.context(
        "the platform's settings switch the admin listener off: give --admin HOST:PORT of a process that has one",
    )?;
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listens.port()).to_string())
}

/// What a state is called, and why.
fn words(state: &Value) -> String {
    let word = state["is"].as_str().unwrap_or("unknown");
    match state["reason"].as_str().or(state["topic"].as_str()) {
        Some(reason) => format!("{word} ({reason})"),
        None => word.to_owned(),
    }
}

/// Where a process takes orders.
struct Listener {
    address: String,
    token: Option<String>,
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

fn state_of(function: &str, answer: &str) -> anyhow::Result<Value> {
    let document: Value = serde_json::from_str(answer).context("the answer to /functions")?;
    let functions = document["functions"].as_array().context("the answer to /functions lists none")?;
    let found = functions.iter().find(|found| found["name"] == function);
    found.map(|found| found["state"].clone()).with_context(|| format!("{function} is not there any more"))
}

/// The order is carried out. A function that is yet to begin has nothing that would have to rest.
fn is_done(order: Order, state: &Value) -> anyhow::Result<bool> {
    let is = state["is"].as_str().unwrap_or_default();
    match (order, is) {
        (Order::Drain, is) => Ok(is == "stopped"),
        (Order::Pause | Order::Resume, "stopped") => bail!("it stopped: {}", words(state)),
        (Order::Pause, is) => Ok(matches!(is, "paused" | "starting" | "waiting")),
        (Order::Resume, is) => Ok(matches!(is, "running" | "starting" | "waiting")),
    }
}

impl Listener {
    /// One request on a connection of its own, which needs no pool, no TLS and no redirect.
    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(String::new()).context("the admin token is no header's value")?;
        let answer = async {
            let stream = TcpStream::connect(&self.address).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER_BYTES).await?;
            connection.abort();
            anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let here = || {
            format!(
                "no answer at {}: is the process there, with an admin listener? --admin HOST:PORT says where",
                self.address
            )
        };
        tokio::time::timeout(ANSWER_WITHIN, answer).await.with_context(here)?.with_context(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_named_with_or_without_its_namespace() {
        assert_eq!(parse_name("echo").unwrap(), "default/echo");
        assert_eq!(parse_name("billing/echo").unwrap(), "billing/echo");
        for wrong in ["", "/", "a/", "/a", "a/b/c", "a b", "a?b", "a/..%2f"] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_default_is_where_the_settings_listen() {
        let mut platform = Platform::load(None, [], &crate::manifest::Overrides::default()).unwrap();
        assert_eq!(address(None, &platform).unwrap(), "127.0.0.1:9465");
        assert_eq!(address(Some("pod:1".to_owned()), &platform).unwrap(), "pod:1");
        platform.admin = Some("0.0.0.0:7".parse().unwrap());
        assert_eq!(address(None, &platform).unwrap(), "127.0.0.1:7");
        platform.admin = None;
        assert!(address(None, &platform).unwrap_err().to_string().contains("--admin"));
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
