//! Asking a running process over its admin listener: where that is, whom to trust there, one request and its answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use clap::Args;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::manifest::Platform;
#[cfg(feature = "tls")]
use crate::runtime::tls::{Tls, Trust};

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// More than the state of any process.
const LONGEST_ANSWER_BYTES: usize = 64 << 20;

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

impl Process {
    /// Somebody said which.
    pub fn is_given(&self) -> bool {
        self.admin.is_some()
    }

    /// The listener that was named, or that of the settings.
    pub fn listener(&self, platform: &Platform) -> anyhow::Result<Listener> {
        let given = address(self.admin.clone(), platform)?;
        let (is_tls, address) = scheme(&given, self.ca.is_some() || platform.admin_tls.is_some());
        if self.ca.is_some() && !is_tls {
            bail!("--ca is for TLS: write --admin https://{address}");
        }
        self.to_listener(address, (is_tls, true), platform)
    }

    /// The listener of a process that is said to be there. Whoever may join a group may say so: other hosts get the token only
    /// over TLS, and only if they have the certificate of the settings or of the authorities given.
    pub fn listener_at(&self, at: SocketAddr, is_tls: bool, platform: &Platform) -> anyhow::Result<Listener> {
        let is_known = self.ca.is_some() || platform.admin_tls.is_some();
        let may_have_token = is_known || at.ip().to_canonical().is_loopback();
        self.to_listener(&at.to_string(), (is_tls || is_known, may_have_token), platform)
    }

    fn to_listener(
        &self,
        address: &str,
        (is_tls, may_have_token): (bool, bool),
        platform: &Platform,
    ) -> anyhow::Result<Listener> {
        let token = platform.admin_token.as_ref().filter(|_| may_have_token);
        Ok(Listener {
            address: address.to_owned(),
            token: token.map(|token| token.resolve()).transpose()?,
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

impl Listener {
    /// It is told who asks.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }
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

/// Where a process takes orders.
pub struct Listener {
    /// `HOST:PORT`.
    pub address: String,
    token: Option<String>,
    tls: Option<Tls>,
}

/// There is none in a build without it.
#[cfg(not(feature = "tls"))]
enum Tls {}

impl Listener {
    /// One request without a body.
    pub async fn ask(&self, method: Method, path: &str) -> anyhow::Result<(StatusCode, String)> {
        self.send(method, path, String::new()).await
    }

    /// One request on a connection of its own, which needs no pool and no redirect.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<(StatusCode, String)> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(body).context("the admin token is no header's value")?;
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
}
