//! The admin server: what the process shows over HTTP, on a thread of its own.
//!
//! | listener | path | answers |
//! |---|---|---|
//! | metrics | `/metrics` | Prometheus' text format |
//! | metrics | `/healthz` | 200 while every worker gives signs of life, else 503 and which does not: restart the process |
//! | metrics | `/readyz` | 200 when each function runs with all workers assigned, is paused or waits for a missing topic (`autoscale`: is decided for, and its Deployment held), else 503 and why |
//! | admin | `/functions` | JSON: functions, workers, lanes, totals, what of the manifests is not taken up; no payloads |
//! | admin | `/scale` | JSON: how many workers functions should have, why, and what was measured; of those that are decided here |
//! | admin | `POST /functions/<namespace>/<name>/scale` | `{"workers": 3, "forMs": 60000}`: so many workers for a while, 204; `DELETE`: no longer; 400, 404, 409: why not |
//! | admin | `POST /functions/<namespace>/<name>/pause`, `…/resume`, `…/drain`, `…/wake` | 202: the order is given; 404, 409: why not |
//!
//! The metrics listener tells nothing that a neighbour may not know. The other one names topics, offsets and
//! errors: it listens on loopback, or wants a bearer token. On loopback without a token it answers only requests that
//! name a loopback host, so that no web page can reach it through a host name of its own (DNS rebinding). With a
//! certificate it speaks TLS, and nothing else.

mod guard;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle as Task;

pub use self::guard::Token;
use self::guard::guard;
use self::tls::Certificate;
use super::autoscale::Board;
use super::overrides::{NotFixed, Override, Overrides};
use super::{Order, Refused, Runtime};
use crate::manifest::TlsFiles;
use crate::model::Clock;
use crate::observe::{Exposition, FunctionStatus, Status};

/// How long open requests may take once the server is told to stop.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Where to listen.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// `/metrics`, `/healthz`, `/readyz`; `None`: nowhere. Port 0: any free one.
    pub metrics: Option<SocketAddr>,
    /// `/functions` and orders; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// What a request there must bring; needed when it listens beyond loopback.
    pub token: Option<Token>,
    /// What [`Config::admin`] speaks TLS with; `None`: it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
}

/// The setting of [`Config::metrics`].
pub const METRICS_SETTING: &str = "listeners.metrics";
/// The setting of [`Config::admin`].
pub const ADMIN_SETTING: &str = "listeners.admin";
/// The setting of [`Config::token`].
pub const TOKEN_SETTING: &str = "listeners.adminToken";
/// The setting of [`Config::tls`].
pub const TLS_SETTING: &str = "listeners.adminTls";

/// Why the admin server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; set `{setting}` to a free address, or leave it out")]
    Listen {
        /// The setting that holds the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's words.
        cause: io::Error,
    },
    /// `/functions` would be open to the network.
    #[error(
        "`{ADMIN_SETTING}` is {address}, which others can reach: set `{TOKEN_SETTING}` to a secret that requests must bring, or listen on 127.0.0.1"
    )]
    Unprotected {
        /// The address.
        address: SocketAddr,
    },
    /// The token is empty.
    #[error("`{TOKEN_SETTING}` is empty: set it to a secret, or leave it out and listen on loopback")]
    EmptyToken,
    /// Certificate and key are none to speak TLS with.
    #[error("`{TLS_SETTING}`: {0}")]
    Tls(String),
    /// The server's thread cannot be started.
    #[error("cannot start the admin server's thread: {0}")]
    Thread(io::Error),
}

/// What the server shows.
#[derive(Clone)]
pub struct Shown {
    /// The process's metrics.
    pub exposition: Exposition,
    /// The process's functions.
    pub status: Status,
    /// The clock that workers take their signs of life from.
    pub clock: Arc<dyn Clock>,
    /// Who carries out orders.
    pub runtime: Runtime,
    /// How many workers functions should have, of those that are decided here.
    pub board: Board,
    /// What persons fixed instead.
    pub overrides: Overrides,
}

/// A running server.
#[derive(Debug)]
pub struct Admin {
    metrics: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Listens, then answers on a thread of its own until `shutdown` is done. Addresses that cannot be
    /// listened on are errors here, not later, and so are certificates that are none.
    pub fn start(
        config: &Config,
        shown: Shown,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, AdminError> {
        if let (Some(address), None) = (config.admin, &config.token)
            && !address.ip().to_canonical().is_loopback()
        {
            return Err(AdminError::Unprotected { address });
        }
        let tls = config.tls.as_ref().filter(|_| config.admin.is_some());
        let certificate = tls.map(Certificate::load).transpose()?;
        let metrics = config.metrics.map(|address| listen(METRICS_SETTING, address)).transpose()?;
        let admin = config.admin.map(|address| listen(ADMIN_SETTING, address)).transpose()?;
        let bound = |listener: &Option<TcpListener>| listener.as_ref().and_then(|l| l.local_addr().ok());
        let (metrics_at, admin_at) = (bound(&metrics), bound(&admin));
        let served = [
            metrics.map(|listener| (listener, None, open_routes(shown.clone()))),
            admin.map(|listener| (listener, certificate, guarded_routes(shown, config.token.clone()))),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(AdminError::Thread)?;
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || runtime.block_on(serve(served, shutdown)))
            .map_err(AdminError::Thread)?;
        Ok(Self { metrics: metrics_at, admin: admin_at, thread })
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where `/functions` is.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Waits for the server's end: at most a second after the shutdown signal.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::warn!("the admin server's thread panicked");
        }
    }
}

fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, AdminError> {
    let listener = TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|cause| AdminError::Listen { setting, address, cause })?;
    Ok(listener)
}

/// A listener, what it shows over TLS, and its answers.
type Served = (TcpListener, Option<Certificate>, Router);

async fn serve(listeners: [Option<Served>; 2], shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(false);
    let mut servers = Vec::new();
    for (listener, certificate, routes) in listeners.into_iter().flatten() {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the admin server cannot take over its listener");
                continue;
            }
        };
        servers.push(match certificate {
            Some(certificate) => answer(certificate.listen(listener), routes, stopped.clone()),
            None => answer(listener, routes, stopped.clone()),
        });
    }
    shutdown.await;
    stop.send_replace(true);
    let all = async {
        for server in servers {
            // `axum::serve` never fails, and a panic has been printed by its thread.
            let _ = server.await;
        }
    };
    if tokio::time::timeout(LAST_ANSWERS, all).await.is_err() {
        tracing::debug!("the admin server left requests unanswered");
    }
}

fn answer<L>(listener: L, routes: Router, mut stopped: watch::Receiver<bool>) -> Task<io::Result<()>>
where
    L: Listener,
    L::Addr: Debug,
{
    let until = async move {
        // An error means that the sender is gone, which is a reason to stop as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(until).into_future())
}

fn open_routes(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(shown)
}

fn guarded_routes(shown: Shown, token: Option<Token>) -> Router {
    Router::new()
        .route("/functions", get(functions))
        .route("/scale", get(scale))
        .route("/functions/{namespace}/{name}/scale", post(fix).delete(lift))
        .route("/functions/{namespace}/{name}/pause", post(pause))
        .route("/functions/{namespace}/{name}/resume", post(resume))
        .route("/functions/{namespace}/{name}/wake", post(wake))
        .route("/functions/{namespace}/{name}/drain", post(drain))
        .layer(middleware::from_fn_with_state(token, guard))
        .with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let text = shown.exposition.render(&shown.status);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn healthz(State(shown): State<Shown>) -> Response {
    verdict(&shown.status.ailments(shown.clock.now().elapsed))
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let mut complaints = shown.status.unreadiness();
    for (name, standing) in shown.board.read() {
        if standing.desired.is_none() && standing.decided_by.is_none() {
            let why = standing.problem.map_or_else(String::new, |problem| format!(": {problem}"));
            complaints.push(format!("{name}: nothing is decided yet{why}"));
        }
        let deployment = standing.deployment.and_then(|deployment| deployment.problem);
        complaints.extend(deployment.map(|problem| format!("{name}: {problem}")));
    }
    verdict(&complaints)
}

fn verdict(complaints: &[String]) -> Response {
    match complaints {
        [] => "ok\n".into_response(),
        complaints => (StatusCode::SERVICE_UNAVAILABLE, complaints.join("\n") + "\n").into_response(),
    }
}

async fn functions(State(shown): State<Shown>) -> Response {
    let functions = shown.status.functions().into_iter().map(|function| {
        let fixed = shown.overrides.of(&function.name);
        Described { function, fixed }
    });
    let document = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": shown.runtime.instance(),
        "functions": functions.collect::<Vec<_>>(),
        "problems": shown.status.problems().others,
    });
    ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}

async fn scale(State(shown): State<Shown>) -> Response {
    let document =
        serde_json::json!({ "instance": shown.runtime.instance(), "functions": shown.board.read() });
    ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}

/// A function, and how many workers a person fixed for it.
#[derive(Serialize)]
struct Described {
    #[serde(flatten)]
    function: FunctionStatus,
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    fixed: Option<Override>,
}

/// How many workers a person wants, and for how long.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fix {
    workers: u32,
    for_ms: u64,
}

/// More workers of one function than a process is ever to have.
const MOST_WORKERS: u32 = 1024;

async fn fix(State(shown): State<Shown>, Path((namespace, name)): Named, body: String) -> Response {
    let fix = match serde_json::from_str::<Fix>(&body) {
        Ok(fix) if fix.workers <= MOST_WORKERS => fix,
        Ok(_) => {
            return (StatusCode::BAD_REQUEST, format!("no more than {MOST_WORKERS} workers\n"))
                .into_response();
        }
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let function = format!("{namespace}/{name}");
    let result = shown.overrides.fix(&function, fix.workers, Duration::from_millis(fix.for_ms));
    if result.is_ok() {
        tracing::info!(function, workers = fix.workers, for_ms = fix.for_ms, "number of workers fixed");
        if fix.workers > 0 {
            shown.runtime.wake(&function);
        }
    }
    answer_fixed(result)
}

async fn lift(State(shown): State<Shown>, Path((namespace, name)): Named) -> Response {
    let function = format!("{namespace}/{name}");
    let result = shown.overrides.lift(&function);
    if result.is_ok() {
        tracing::info!(function, "number of workers no longer fixed");
    }
    answer_fixed(result)
}

fn answer_fixed(result: Result<(), NotFixed>) -> Response {
    let Err(error) = result else { return StatusCode::NO_CONTENT.into_response() };
    let status = match error {
        NotFixed::Unknown { .. } => StatusCode::NOT_FOUND,
        NotFixed::MayNotSleep { .. } => StatusCode::CONFLICT,
    };
    (status, format!("{error}\n")).into_response()
}

/// The namespace and name of a function, as a path has them.
type Named = Path<(String, String)>;

async fn pause(State(shown): State<Shown>, Path(name): Named) -> Response {
    tell(&shown.runtime, &name, Order::Pause)
}

async fn wake(State(shown): State<Shown>, Path(name): Named) -> Response {
    // A scaler runs no function, and may hold one at 0.
    let was_held = shown.overrides.lift_zero(&format!("{}/{}", name.0, name.1));
    match tell(&shown.runtime, &name, Order::Wake) {
        response if was_held && response.status() == StatusCode::NOT_FOUND => {
            StatusCode::ACCEPTED.into_response()
        }
        response => response,
    }
}

async fn resume(State(shown): State<Shown>, Path(name): Named) -> Response {
    tell(&shown.runtime, &name, Order::Resume)
}

async fn drain(State(shown): State<Shown>, Path(name): Named) -> Response {
    tell(&shown.runtime, &name, Order::Drain)
}

/// An order is given and not waited for: `/functions` shows what becomes of it.
fn tell(runtime: &Runtime, (namespace, name): &(String, String), order: Order) -> Response {
    let Err(refused) = runtime.tell(&format!("{namespace}/{name}"), order) else {
        return StatusCode::ACCEPTED.into_response();
    };
    let status = match refused {
        Refused::Unknown { .. } => StatusCode::NOT_FOUND,
        Refused::Stopped { .. } => StatusCode::CONFLICT,
        Refused::Thread { .. } | Refused::Memory { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, format!("{refused}\n")).into_response()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use tokio::sync::oneshot;

    use super::*;
    use crate::kafka::Cluster;
    use crate::model::ManualClock;
    use crate::observe::{FunctionInfo, Meter, MeterSpec, Problems, State as FunctionState, checker};
    use crate::runtime::{Shared, Stop};

    /// A server that shows nothing yet.
    pub(crate) struct Running {
        pub(crate) admin: Admin,
        pub(crate) stop: oneshot::Sender<()>,
        status: Status,
        clock: Arc<ManualClock>,
        exposition: Exposition,
    }

    /// A free port of this machine.
    pub(crate) fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    pub(crate) fn start(config: &Config) -> Result<Running, AdminError> {
        let (exposition, status) = (Exposition::new(), Status::default());
        let clock = Arc::new(ManualClock::at(0));
        let (stop, stopped) = oneshot::channel();
        let cluster = Cluster::new("127.0.0.1:9", BTreeMap::new());
        let shared = Shared {
            status: status.clone(),
            can_prepare: false,
            ..Shared::new(cluster, "test", clock.clone(), exposition.clone())
        };
        let runtime = Runtime::new(&shared, &Stop::default(), None);
        let board = Board::new([]);
        let shown = Shown {
            exposition: exposition.clone(),
            status: status.clone(),
            clock: clock.clone(),
            runtime,
            board,
            overrides: shared.scaling.overrides().clone(),
        };
        let admin = Admin::start(config, shown, async { stopped.await.unwrap_or_default() })?;
        Ok(Running { admin, stop, status, clock, exposition })
    }

    fn both(token: Option<&str>) -> Running {
        let token = token.map(|secret| Token::new(secret).unwrap());
        start(&Config { metrics: Some(loopback()), admin: Some(loopback()), token, tls: None }).unwrap()
    }

    /// A connection that waits for an answer, but not for ever.
    pub(crate) fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Status, head and body of the answer to `GET path` with these headers.
    fn ask(address: Option<SocketAddr>, path: &str, headers: &str) -> (u16, String, String) {
        request("GET", address, path, headers)
    }

    fn request(
        method: &str,
        address: Option<SocketAddr>,
        path: &str,
        headers: &str,
    ) -> (u16, String, String) {
        let mut stream = connect(address.unwrap());
        write!(stream, "{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
    }

    fn echo(status: &Status) -> crate::observe::FunctionReport {
        status.register(FunctionInfo {
            name: "default/echo".to_owned(),
            group: "tidemill.default.echo".to_owned(),
            guarantee: "exactlyOnce",
            stuck_after: Duration::from_secs(30),
        })
    }

    const LOCAL: &str = "Host: localhost\r\n";

    #[test]
    fn metrics_are_valid_prometheus_text() {
        let running = both(None);
        let mut meter = Meter::new(
            &running.exposition,
            &MeterSpec { function: "default/echo", sinks: &["default"], reasons: &["malformed"] },
        );
        meter.consumed();
        meter.ok();
        meter.fold(Duration::from_millis(3));
        let (status, head, body) = ask(running.admin.metrics(), "/metrics", LOCAL);
        assert_eq!(status, 200);
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        let consumed = r#"tidemill_source_consumed_records_total{function="default/echo"}"#;
        assert_eq!(checker::samples(&body).get(consumed), Some(&1.0));
    }

    #[test]
    fn health_fails_with_the_stuck_workers_name() {
        let running = both(None);
        let function = echo(&running.status);
        let worker = function.worker(0, running.clock.now().elapsed);
        assert_eq!(ask(running.admin.metrics(), "/healthz", LOCAL).0, 200);
        running.clock.advance(Duration::from_secs(31));
        let (status, _, body) = ask(running.admin.metrics(), "/healthz", LOCAL);
        assert_eq!((status, body.as_str()), (503, "default/echo worker 0 gave no sign of life for 31 s\n"));
        worker.beat(running.clock.now().elapsed);
        assert_eq!(ask(running.admin.metrics(), "/healthz", LOCAL).0, 200);
    }

    #[test]
    fn readiness_follows_the_functions() {
        let running = both(None);
        let function = echo(&running.status);
        let (status, _, body) = ask(running.admin.metrics(), "/readyz", LOCAL);
        assert_eq!((status, body.as_str()), (503, "default/echo is starting\n"));
        function.set_state(FunctionState::Waiting { topic: "rides".to_owned() });
        assert_eq!(ask(running.admin.metrics(), "/readyz", LOCAL).0, 200);
        function.set_state(FunctionState::Stopping);
        assert_eq!(ask(running.admin.metrics(), "/readyz", LOCAL).0, 503);
    }

    #[test]
    fn functions_come_as_json() {
        let running = both(None);
        echo(&running.status).set_state(FunctionState::Waiting { topic: "rides".to_owned() });
        let (status, head, body) = ask(running.admin.admin(), "/functions", LOCAL);
        assert_eq!(status, 200);
        assert!(head.contains("content-type: application/json"), "{head}");
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        let function = &document["functions"][0];
        assert_eq!(function["name"], "default/echo");
        assert_eq!(function["state"], serde_json::json!({"is": "waiting", "topic": "rides"}));
        assert_eq!(function["totals"]["deadLettered"], 0);
        assert_eq!(
            (&function["problem"], &document["problems"]),
            (&serde_json::json!(null), &serde_json::json!([]))
        );
    }

    #[test]
    fn what_is_not_taken_up_is_shown() {
        let running = both(None);
        echo(&running.status);
        let problems = Problems {
            of_functions: BTreeMap::from([("default/echo".to_owned(), "echo.yaml:3: no".to_owned())]),
            others: BTreeSet::from(["new.yaml:1: no".to_owned()]),
        };
        running.status.set_problems(problems);
        let (_, _, body) = ask(running.admin.admin(), "/functions", LOCAL);
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["functions"][0]["problem"], "echo.yaml:3: no");
        assert_eq!(document["problems"], serde_json::json!(["new.yaml:1: no"]));
    }

    #[test]
    fn an_order_is_guarded_and_changes_nothing_when_asked_by_get() {
        let running = both(Some("sesame"));
        let admin = running.admin.admin();
        let bring = "Host: any.example\r\nAuthorization: Bearer sesame\r\n";
        let path = "/functions/default/echo/pause";
        let (status, _, body) = request("POST", admin, path, bring);
        assert_eq!((status, body.contains("default/echo")), (404, true), "{body}");
        assert_eq!(request("POST", admin, path, LOCAL).0, 401);
        let page = format!("{bring}Origin: http://localhost\r\n");
        assert_eq!(request("POST", admin, path, &page).0, 403);
        assert_eq!(request("GET", admin, path, bring).0, 405);
        assert_eq!(request("POST", admin, "/functions/default/echo/burn", bring).0, 404);
        assert_eq!(request("POST", running.admin.metrics(), path, bring).0, 404);
        let open = both(None);
        assert_eq!(request("POST", open.admin.admin(), path, "Host: rebound.example\r\n").0, 403);
        assert_eq!(request("POST", open.admin.admin(), path, LOCAL).0, 404);
    }

    #[test]
    fn each_listener_has_its_own_paths_only() {
        let running = both(None);
        assert_eq!(ask(running.admin.metrics(), "/functions", LOCAL).0, 404);
        assert_eq!(ask(running.admin.admin(), "/metrics", LOCAL).0, 404);
    }

    #[test]
    fn a_missing_token_is_asked_for() {
        let running = both(Some("open sesame"));
        let (status, head, body) = ask(running.admin.admin(), "/functions", LOCAL);
        assert_eq!(status, 401);
        assert!(head.contains("www-authenticate: bearer") && body.contains(TOKEN_SETTING), "{head} {body}");
        assert_eq!(ask(running.admin.metrics(), "/metrics", LOCAL).0, 200, "metrics need none");
    }

    #[test]
    fn without_a_token_a_foreign_host_name_is_refused() {
        let running = both(None);
        assert_eq!(ask(running.admin.admin(), "/functions", "Host: rebound.example\r\n").0, 403);
    }

    #[test]
    fn functions_beyond_loopback_need_a_token() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
            let config = Config { admin: Some(address.parse().unwrap()), ..Config::default() };
            let error = start(&config).err().expect(address);
            assert!(matches!(error, AdminError::Unprotected { .. }), "{error}");
            assert!(error.to_string().contains(TOKEN_SETTING), "{error}");
        }
        let token = Some(Token::new("secret").unwrap());
        let any = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
        let running = start(&Config { admin: any, token, ..Config::default() }).unwrap();
        let port = running.admin.admin().unwrap().port();
        let here = Some(SocketAddr::from(([127, 0, 0, 1], port)));
        let bring = "Host: any.example\r\nAuthorization: Bearer secret\r\n";
        assert_eq!(ask(here, "/functions", bring).0, 200);
    }

    #[test]
    fn files_that_are_none_to_speak_tls_with_are_an_error_before_anything_listens() {
        let tls = Some(TlsFiles { certificate: "/nowhere/tls.crt".into(), key: "/nowhere/tls.key".into() });
        let config = Config { admin: Some(loopback()), tls, ..Config::default() };
        let error = start(&config).err().unwrap().to_string();
        let why = if cfg!(feature = "tls") {
            "cannot read /nowhere/tls.crt"
        } else {
            "build with `--features tls`"
        };
        assert!(error.starts_with("`listeners.adminTls`: ") && error.contains(why), "{error}");
        assert!(start(&Config { admin: None, ..config }).is_ok(), "nobody would be shown it");
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_the_setting() {
        let taken = TcpListener::bind(loopback()).unwrap();
        let address = Some(taken.local_addr().unwrap());
        let error = start(&Config { metrics: address, ..Config::default() }).err().unwrap().to_string();
        assert!(error.contains(METRICS_SETTING) && error.contains("127.0.0.1"), "{error}");
        let error = start(&Config { admin: address, ..Config::default() }).err().unwrap().to_string();
        assert!(error.contains(ADMIN_SETTING), "{error}");
    }

    #[test]
    fn a_silent_client_does_not_hold_up_the_end() {
        let running = both(None);
        let address = running.admin.metrics().unwrap();
        let mut silent = connect(address);
        silent.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
        running.stop.send(()).unwrap();
        running.admin.join();
        assert!(TcpStream::connect(address).is_err(), "the port is free again");
    }
}
