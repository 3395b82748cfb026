//! `tidemill pause`, `resume`, `drain` and `wake`: orders to one function of a running process, over its admin listener; and what
//! that says of its functions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use clap::Args;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Global, Output};
use crate::manifest::Platform;
#[cfg(feature = "tls")]
use crate::runtime::tls::{Tls, Trust};

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long one may take that nobody asked for by name.
const GLANCE_WITHIN: Duration = Duration::from_secs(1);
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

/// Wake a function that sleeps
///
/// One with `scale: { min: 0 }` has no worker while nothing comes. Its process starts one, which goes again if nothing
/// comes for `scale.zeroAfter`. One that is awake stays so. Ends when the function runs.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Wake {
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
  tidemill resume ride-receipts --admin https://tidemill.example:9465 --ca ca.crt

The process is asked at its admin listener, by default where the platform's settings put it, with the token of
`listeners.adminToken` (TIDEMILL_ADMIN_TOKEN). Where they have `adminTls` it is asked over TLS, and must show the very
certificate that they name. One that --admin names must show a certificate that is made out to that name, by one of
the system's authorities or of those in --ca.

Exit codes: 0 carried out, 1 refused or not carried out within a minute, 2 wrong usage.";

/// Which function, and where.
#[derive(Debug, Args)]
struct Target {
    /// NAME or NAMESPACE/NAME
    #[arg(value_name = "FUNCTION", value_parser = parse_name)]
    function: String,
    #[command(flatten)]
    process: Process,
}

/// Which running process.
#[derive(Debug, Clone, Default, Args)]
pub struct Process {
    /// The process's admin listener; over TLS with `https://` before it, or where --ca or the settings' `adminTls`
    /// is given and no `http://`
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// The certificates (PEM) of the authorities to trust over TLS, instead of the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
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
        let listener = self.process.listener(&platform)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let state = runtime.block_on(carry_out(&listener, &self.function, order))?;
        match global.output {
            Output::Json => println!("{}", json!({ "function": self.function, "state": state })),
            Output::Text => println!("{} is {}", self.function, words(&state)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Process {
    /// Somebody said which.
    pub fn is_given(&self) -> bool {
        self.admin.is_some()
    }

    /// What it says of its functions, as `/functions` has it.
    pub fn functions(&self, platform: &Platform) -> anyhow::Result<Vec<Value>> {
        let listener = self.listener(platform)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let within = if self.is_given() { ANSWER_WITHIN } else { GLANCE_WITHIN };
        let answer = async { tokio::time::timeout(within, listener.ask(Method::GET, "/functions")).await };
        let (status, answer) = runtime.block_on(answer).context("no answer in time")??;
        if !status.is_success() {
            bail!("{}: {}", status, answer.trim());
        }
        functions_of(&answer)
    }

    fn listener(&self, platform: &Platform) -> anyhow::Result<Listener> {
        let given = address(self.admin.clone(), platform)?;
        let (is_tls, address) = scheme(&given, self.ca.is_some() || platform.admin_tls.is_some());
        if self.ca.is_some() && !is_tls {
            bail!("--ca is for TLS: write --admin https://{address}");
        }
        Ok(Listener {
            address: address.to_owned(),
            token: platform.admin_token.as_ref().map(|token| token.resolve()).transpose()?,
            #[cfg(feature = "tls")]
            tls: if is_tls { Some(Tls::new(self.trust(platform)).context("TLS")?) } else { None },
            #[cfg(not(feature = "tls"))]
            tls: if is_tls {
                bail!("https is no part of this build: build with `--features tls`")
            } else {
                None
            },
        })
    }

    /// The process that the settings are of is known by its certificate: a name for this machine's address, which only
    /// this machine's own commands use, would hardly stand in it.
    #[cfg(feature = "tls")]
    fn trust<'a>(&'a self, platform: &'a Platform) -> Trust<'a> {
        match (&self.ca, &platform.admin_tls) {
            (Some(file), _) => Trust::Authorities(file),
            (None, Some(files)) if self.admin.is_none() => Trust::Owner(&files.certificate),
            _ => Trust::System,
        }
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

/// Whether an address is to be asked over TLS, and the address.
fn scheme(given: &str, else_tls: bool) -> (bool, &str) {
    let (is_tls, rest) = match given.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => (else_tls, given),
    };
    (is_tls, rest.trim_end_matches('/'))
}

/// The host of `HOST:PORT`, as a certificate has it.
#[cfg(feature = "tls")]
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
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
    tls: Option<Tls>,
}

/// There is none in a build without it.
#[cfg(not(feature = "tls"))]
enum Tls {}

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

impl Listener {
    /// One request on a connection of its own, which needs no pool and no redirect.
    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<(StatusCode, String)> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(String::new()).context("the admin token is no header's value")?;
        let answer = async {
            let stream = TcpStream::connect(&self.address).await?;
            match &self.tls {
                #[cfg(feature = "tls")]
                Some(tls) => {
                    let stream = tls.connect(host(&self.address), stream).await.context("TLS")?;
                    exchange(TokioIo::new(stream), request).await
                }
                #[cfg(not(feature = "tls"))]
                Some(tls) => match *tls {},
                None => exchange(TokioIo::new(stream), request).await,
            }
        };
        let here = || {
            let or_tls = if self.tls.is_some() { "" } else { ", https://HOST:PORT over TLS" };
            format!(
                "no answer at {}: is the process there, with an admin listener? --admin HOST:PORT says where{or_tls}",
                self.address
            )
        };
        tokio::time::timeout(ANSWER_WITHIN, answer).await.with_context(here)?.with_context(here)
    }
}

async fn exchange<S>(stream: S, request: Request<String>) -> anyhow::Result<(StatusCode, String)>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), LONGEST_ANSWER_BYTES).await?;
    connection.abort();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
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
    fn tls_is_spoken_where_it_is_asked_for() {
        for (given, else_tls, expected) in [
            ("pod:1", false, (false, "pod:1")),
            ("pod:1", true, (true, "pod:1")),
            ("https://pod:1/", false, (true, "pod:1")),
            ("http://[::1]:1", true, (false, "[::1]:1")),
        ] {
            assert_eq!(scheme(given, else_tls), expected, "{given}");
        }
        let platform = Platform::load(None, [], &crate::manifest::Overrides::default()).unwrap();
        let listener = |admin: &str, ca: Option<&str>| {
            let ca = ca.map(PathBuf::from);
            let process = Process { admin: Some(admin.to_owned()), ca };
            process
                .listener(&platform)
                .map(|listener| listener.tls.is_some())
                .map_err(|error| format!("{error:#}"))
        };
        assert_eq!(listener("pod:1", None), Ok(false));
        let contradiction = listener("http://pod:1", Some("ca.crt")).unwrap_err();
        assert_eq!(contradiction, "--ca is for TLS: write --admin https://pod:1");
        let (https, missing) = (listener("https://pod:1", None), listener("pod:1", Some("/nowhere/ca.crt")));
        if cfg!(feature = "tls") {
            assert_eq!(https, Ok(true));
            assert!(missing.unwrap_err().contains("cannot read /nowhere/ca.crt"));
        } else {
            let refused = Err("https is no part of this build: build with `--features tls`".to_owned());
            assert_eq!((https, missing), (refused.clone(), refused));
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn over_tls_orders_and_token_reach_only_whom_the_settings_or_an_authority_name() {
        use crate::runtime::admin::tests::{loopback, start};
        use crate::runtime::admin::{Config, Token};
        use crate::runtime::tls::tests::self_signed;

        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (self_signed(folder.path(), "own"), self_signed(folder.path(), "other"));
        let token = Some(Token::new("sesame").unwrap());
        let running =
            start(&Config { admin: Some(loopback()), token, tls: Some(own.clone()), ..Config::default() })
                .unwrap();
        let address = running.admin.admin().unwrap();
        let mut platform = Platform::load(None, [], &crate::manifest::Overrides::default()).unwrap();
        platform.admin = Some(address);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ask = |platform: &Platform, admin: Option<String>, ca: Option<&PathBuf>| {
            let process = Process { admin, ca: ca.cloned() };
            let mut listener = process.listener(platform).unwrap();
            listener.token = Some("sesame".to_owned());
            let answer = runtime.block_on(listener.ask(Method::GET, "/functions"));
            answer.map(|(status, _)| status.as_u16()).map_err(|error| format!("{error:#}"))
        };
        let https = || Some(format!("https://{address}"));
        let plain = ask(&platform, None, None);
        assert!(plain.as_ref().is_err_and(|error| error.contains("https://HOST:PORT")), "{plain:?}");
        let unknown = ask(&platform, https(), None);
        assert!(
            unknown.as_ref().is_err_and(|error| error.contains("is not trusted: self-signed")),
            "{unknown:?}"
        );
        assert_eq!(ask(&platform, https(), Some(&own.certificate)), Ok(200));
        assert!(ask(&platform, https(), Some(&other.certificate)).is_err());
        platform.admin_tls = Some(own);
        assert_eq!(ask(&platform, None, None), Ok(200));
        platform.admin_tls = Some(other);
        let another = ask(&platform, None, None);
        assert!(another.as_ref().is_err_and(|error| error.contains("another certificate")), "{another:?}");
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
