//! Requests to a collector: `POST`, protobuf, one connection each.

use std::io;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::super::Stop;
#[cfg(feature = "tls")]
use super::super::tls::{Tls, Trust};

/// How long a request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks whether the process stops.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a request may go on that was under way then.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// So much of an answer is shown.
const SHOWN_BYTES: usize = 4096;

/// Why the endpoint is none.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No URL as it must be.
    #[error("`telemetry.endpoint` {0:?} is no URL: write `http://127.0.0.1:4318`")]
    Url(String),
    /// A header that HTTP does not know.
    #[error("`telemetry.headers`: {0:?} is no header's name, or its value is none")]
    Header(String),
    /// No way to speak TLS.
    #[error("`telemetry.endpoint`: {0}")]
    Tls(String),
    /// The system gives no event loop.
    #[error("cannot start the exporter: {0}")]
    Start(#[from] io::Error),
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nobody there, or the connection broke.
    #[error("{endpoint}: {cause}")]
    Away {
        /// Who was asked.
        endpoint: String,
        /// The system's words.
        cause: String,
    },
    /// An answer that is no success.
    #[error("{endpoint} answers {status}: {text}")]
    Refused {
        /// Who was asked.
        endpoint: String,
        /// The status.
        status: StatusCode,
        /// The begin of the answer.
        text: String,
    },
}

impl SendError {
    /// The same request may succeed later (OTLP, "Failures"; 408 is of HTTP's own).
    pub fn may_succeed(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Refused { status, .. } => [408, 429, 502, 503, 504].contains(&status.as_u16()),
        }
    }
}

/// Who sends.
pub struct Client {
    endpoint: Endpoint,
    headers: Vec<(HeaderName, HeaderValue)>,
    runtime: tokio::runtime::Runtime,
    answer_within: Duration,
    stop: Stop,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let has_more = uri.query().is_some() || uri.authority()?.as_str().contains('@');
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/').to_owned();
        (!has_more && !host.is_empty()).then_some(Self { is_tls, host, port, path })
    }

    /// As `Host` has it.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl Client {
    /// Nothing is connected yet. A request that is under way is given up soon after `stop` is set.
    pub fn new(endpoint: &str, headers: &[(String, String)], stop: Stop) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(endpoint).ok_or_else(|| EndpointError::Url(endpoint.to_owned()))?;
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let broken = || EndpointError::Header(name.clone());
                let mut value = HeaderValue::from_str(value).map_err(|_| broken())?;
                value.set_sensitive(true);
                Ok((HeaderName::from_bytes(name.as_bytes()).map_err(|_| broken())?, value))
            })
            .collect::<Result<_, EndpointError>>()?;
        #[cfg(not(feature = "tls"))]
        if endpoint.is_tls {
            return Err(EndpointError::Tls("https needs a build with the feature `tls`".to_owned()));
        }
        Ok(Self {
            #[cfg(feature = "tls")]
            tls: match endpoint.is_tls {
                true => Some(Tls::new(Trust::System).map_err(|error| EndpointError::Tls(error.to_string()))?),
                false => None,
            },
            endpoint,
            headers,
            runtime: tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?,
            answer_within: ANSWER_WITHIN,
            stop,
        })
    }

    /// How long a request may take from now on, though the process stops.
    pub fn answer_within(&mut self, time: Duration) {
        self.answer_within = time;
        self.stop = Stop::default();
    }

    /// Sends a message to `path` below the endpoint, and waits for the answer.
    pub fn send(&self, path: &str, body: Vec<u8>) -> Result<(), SendError> {
        let name = || format!("{}{}", self.endpoint.authority(), self.endpoint.path);
        let away = |cause: String| SendError::Away { endpoint: name(), cause };
        let (status, text) = self.runtime.block_on(async {
            tokio::select! {
                answer = self.exchange(path, body) => answer.map_err(away),
                () = tokio::time::sleep(self.answer_within) => {
                    Err(away(format!("no answer within {:?}", self.answer_within)))
                }
                () = self.stopped() => Err(away("no answer before the process stops".to_owned())),
            }
        })?;
        match status.is_success() {
            true => Ok(()),
            false => Err(SendError::Refused { endpoint: name(), status, text }),
        }
    }

    async fn stopped(&self) {
        while !self.stop.is_set() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tokio::time::sleep(LAST_WORDS).await;
    }

    async fn exchange(&self, path: &str, body: Vec<u8>) -> Result<(StatusCode, String), String> {
        let Endpoint { host, port, .. } = &self.endpoint;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
        let request = self.request(path, body)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let stream = tls.connect(host, stream).await.map_err(|error| format!("TLS: {error}"))?;
            return ask(TokioIo::new(stream), request).await;
        }
        ask(TokioIo::new(stream), request).await
    }

    fn request(&self, path: &str, body: Vec<u8>) -> Result<Request<Body>, String> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.endpoint.path))
            .header(header::HOST, self.endpoint.authority())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::CONTENT_LENGTH, body.len())
            .header(header::CONNECTION, "close")
            .header(header::USER_AGENT, concat!("tidemill/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Body::from(body)).map_err(|error| error.to_string())
    }
}

/// One request over a connection, and the begin of its answer.
async fn ask<S>(stream: S, request: Request<Body>) -> Result<(StatusCode, String), String>
where
    S: Read + Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (status, body) = (answer.status(), Body::new(answer.into_body()));
        // Only a refusal says something worth reading; what is longer than that is not.
        let bytes = match status.is_success() {
            true => Default::default(),
            false => to_bytes(body, SHOWN_BYTES).await.unwrap_or_default(),
        };
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection may end with the answer, and is then of no use to anybody.
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_of_a_collector() {
        let endpoint = |host: &str, port, path: &str| {
            Some(Endpoint { is_tls: false, host: host.to_owned(), port, path: path.to_owned() })
        };
        for (text, expected) in [
            ("http://127.0.0.1:4318", endpoint("127.0.0.1", 4318, "")),
            ("http://collector/", endpoint("collector", 80, "")),
            ("http://collector:1/otlp/", endpoint("collector", 1, "/otlp")),
            ("http://[::1]:4318", endpoint("::1", 4318, "")),
            ("collector:4318", None),
            ("grpc://collector:4317", None),
            ("http://user:secret@collector", None),
            ("http://collector?token=a", None),
            ("", None),
        ] {
            assert_eq!(Endpoint::parse(text), expected, "{text}");
        }
        let ipv6 = endpoint("::1", 4318, "").map(|endpoint| endpoint.authority());
        assert_eq!(ipv6.as_deref(), Some("[::1]:4318"));
    }

    #[test]
    fn what_cannot_be_sent_is_said_before_anything_starts() {
        let start = |endpoint: &str, header: &str| {
            let headers = [("authorization".to_owned(), header.to_owned())];
            Client::new(endpoint, &headers, Stop::default()).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(start("http://c", "Bearer a"), Ok(()));
        let broken = start("http://c", "a\nb").unwrap_err();
        assert_eq!(
            broken,
            "`telemetry.headers`: \"authorization\" is no header's name, or its value is none"
        );
        assert!(start("c", "a").unwrap_err().ends_with("is no URL: write `http://127.0.0.1:4318`"));
        let https = start("https://c", "a");
        assert_eq!(https.is_ok(), cfg!(feature = "tls"), "{https:?}");
    }
}
