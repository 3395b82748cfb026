//! The platform's settings: where Kafka is and how to get in, where this process listens and keeps
//! its files. `tidemill.yaml` < `TIDEMILL_*` < flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::document::{Document, join};
use super::error::{Diagnostic, Errors};
use super::platform_spec::{LogFormat, PlatformManifest, PlatformSpec};
use super::schema::platform_schema;
use super::secret::{Secret, SecretError};
use super::{owned, strict, text};
use crate::model::{ProtocolChoice, Rate};

/// The platform's settings, resolved. Printing it shows no secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Platform {
    /// Kafka's addresses, `host:port,host:port`, if any were given; see [`Platform::brokers`].
    pub brokers: Option<String>,
    /// librdkafka settings of every client; see [`Platform::kafka_settings`].
    pub kafka: BTreeMap<String, Secret>,
    /// How workers join consumer groups.
    pub group_protocol: ProtocolChoice,
    /// Where this process keeps its files.
    pub state_dir: PathBuf,
    /// What this process is called, if it was told.
    pub instance: Option<String>,
    /// Where `/metrics`, `/healthz`, `/readyz` are; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where `/functions` is; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// The bearer token of the admin listener.
    pub admin_token: Option<Secret>,
    /// What the admin listener speaks TLS with; `None`: it speaks plain HTTP.
    pub admin_tls: Option<TlsFiles>,
    /// What is logged.
    pub log: Log,
    /// Where traces and metrics go.
    pub telemetry: Telemetry,
    /// What all functions may take up together.
    pub limits: Limits,
    /// How long a stop may take.
    pub shutdown_deadline: Duration,
}

/// The files that a listener speaks TLS with, both PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TlsFiles {
    /// The certificate, with those that lead from it to the authority's.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where traces and metrics go, by OTLP.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Telemetry {
    /// The collector's URL; `None`: nothing is exported.
    pub endpoint: Option<String>,
    /// Headers of each request.
    pub headers: BTreeMap<String, Secret>,
    /// The share of events without a context that are sampled.
    pub ratio: f64,
    /// How often numbers are pushed; 0: never.
    pub interval: Duration,
}

impl Telemetry {
    /// The headers, secrets resolved: not to be printed.
    pub fn resolve_headers(&self) -> Result<Vec<(String, String)>, SecretError> {
        self.headers.iter().map(|(name, value)| Ok((name.clone(), value.resolve()?))).collect()
    }
}

/// What all functions of the process may take up together; `None`: that is not bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Memory for what is under way, in bytes.
    pub memory: Option<u64>,
    /// Calls of handlers.
    pub rate: Option<Rate>,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// `tracing`'s filter.
    pub filter: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// What flags say; each wins over variable and file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--brokers`.
    pub brokers: Option<String>,
    /// `--state-dir`.
    pub state_dir: Option<String>,
    /// `--instance`.
    pub instance: Option<String>,
    /// `--metrics`.
    pub metrics: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
    /// `--log`.
    pub log: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
    /// `--shutdown-deadline`.
    pub shutdown_deadline: Option<String>,
}

/// One setting, for the table of variables.
#[derive(Debug, Clone, Copy)]
enum Setting {
    Brokers,
    GroupProtocol,
    StateDir,
    Instance,
    Metrics,
    Admin,
    AdminToken,
    AdminTlsCertificate,
    AdminTlsKey,
    Log,
    LogFormat,
    OtlpEndpoint,
    OtlpHeaders,
    TraceRatio,
    MetricsInterval,
    LimitsMemory,
    LimitsRate,
    ShutdownDeadline,
}

const VARIABLES: [(&str, Setting); 18] = [
    ("TIDEMILL_BROKERS", Setting::Brokers),
    ("TIDEMILL_GROUP_PROTOCOL", Setting::GroupProtocol),
    ("TIDEMILL_STATE_DIR", Setting::StateDir),
    ("TIDEMILL_INSTANCE", Setting::Instance),
    ("TIDEMILL_METRICS", Setting::Metrics),
    ("TIDEMILL_ADMIN", Setting::Admin),
    ("TIDEMILL_ADMIN_TOKEN", Setting::AdminToken),
    ("TIDEMILL_ADMIN_TLS_CERTIFICATE", Setting::AdminTlsCertificate),
    ("TIDEMILL_ADMIN_TLS_KEY", Setting::AdminTlsKey),
    ("TIDEMILL_LOG", Setting::Log),
    ("TIDEMILL_LOG_FORMAT", Setting::LogFormat),
    ("TIDEMILL_OTLP_ENDPOINT", Setting::OtlpEndpoint),
    ("TIDEMILL_OTLP_HEADERS", Setting::OtlpHeaders),
    ("TIDEMILL_TRACE_RATIO", Setting::TraceRatio),
    ("TIDEMILL_METRICS_INTERVAL", Setting::MetricsInterval),
    ("TIDEMILL_LIMITS_MEMORY", Setting::LimitsMemory),
    ("TIDEMILL_LIMITS_RATE", Setting::LimitsRate),
    ("TIDEMILL_SHUTDOWN_DEADLINE", Setting::ShutdownDeadline),
];

/// The variable that names the settings' file, read by the command line.
const CONFIG_VARIABLE: &str = "TIDEMILL_CONFIG";
/// `TIDEMILL_KAFKA_SASL_PASSWORD` sets `sasl.password`.
const KAFKA_VARIABLE: &str = "TIDEMILL_KAFKA_";
/// Variables of tests and tools: not ours to judge.
const TEST_VARIABLE: &str = "TIDEMILL_TEST_";

impl Platform {
    /// The settings of `file`, with the variables of `env` over them and `flags` over both. Variables
    /// whose name does not begin with `TIDEMILL_` are not looked at, except for the state directory's
    /// default; an unknown `TIDEMILL_…` is refused, but for `TIDEMILL_TEST_…`.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Self, Errors> {
        let env: BTreeMap<_, _> = env.into_iter().collect();
        let mut platform = Self::defaults(&env);
        let mut errors = Errors::default();
        if let Some(file) = file {
            errors.extend(platform.read(file)?);
        }
        for (name, value) in &env {
            if let Err(message) = platform.variable(name, value) {
                errors.0.push(outside(name, message));
            }
        }
        for (flag, setting, value) in flags.given() {
            if let Err(message) = platform.set(setting, value) {
                errors.0.push(outside(flag, message));
            }
        }
        for (key, variable, message) in platform.contradictions() {
            let place = file.map_or_else(|| variable.to_owned(), |file| file.display().to_string());
            errors.0.push(Diagnostic {
                file: place,
                line: None,
                path: format!("spec.listeners.{key}"),
                message,
            });
        }
        if errors.is_empty() { Ok(platform) } else { Err(errors) }
    }

    /// What only all settings together can get wrong: the listener's key, its variable, and what.
    fn contradictions(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut found = Vec::new();
        if let Some(admin) = self.admin
            && !admin.ip().is_loopback()
            && self.admin_token.is_none()
        {
            let message = format!("{admin} is open to others: set `adminToken` too, or listen on 127.0.0.1");
            found.push(("admin", "TIDEMILL_ADMIN", message));
        }
        if let Some(TlsFiles { certificate, key }) = &self.admin_tls {
            if certificate.as_os_str().is_empty() {
                let message = "the key has no certificate: set `certificate` too".to_owned();
                found.push(("adminTls", "TIDEMILL_ADMIN_TLS_KEY", message));
            }
            if key.as_os_str().is_empty() {
                let message = "the certificate has no key: set `key` too".to_owned();
                found.push(("adminTls", "TIDEMILL_ADMIN_TLS_CERTIFICATE", message));
            }
            if !cfg!(feature = "tls") {
                let message =
                    "TLS is no part of this build: build with `--features tls`, as the container image is";
                found.push(("adminTls", "TIDEMILL_ADMIN_TLS_CERTIFICATE", message.to_owned()));
            }
        }
        found
    }

    /// Kafka's addresses; the error says how to give them.
    pub fn brokers(&self) -> Result<&str, Errors> {
        self.brokers.as_deref().ok_or_else(|| {
            let message = "give --brokers HOST:PORT, TIDEMILL_BROKERS, or `spec.brokers` in tidemill.yaml";
            Errors(vec![outside("no brokers", message.to_owned())])
        })
    }

    /// The librdkafka settings of every client, secrets resolved: not to be printed.
    pub fn kafka_settings(&self) -> Result<BTreeMap<String, String>, SecretError> {
        self.kafka.iter().map(|(name, value)| Ok((name.clone(), value.resolve()?))).collect()
    }

    fn defaults(env: &BTreeMap<String, String>) -> Self {
        let folder = |name: &str| env.get(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let state_dir = folder("XDG_STATE_HOME")
            .or_else(|| folder("HOME").map(|home| home.join(".local/state")))
            .map_or_else(|| PathBuf::from(".tidemill"), |state| state.join("tidemill"));
        Self {
            brokers: None,
            kafka: BTreeMap::new(),
            group_protocol: ProtocolChoice::default(),
            state_dir,
            instance: None,
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 9465))),
            admin_token: None,
            admin_tls: None,
            log: Log { filter: "info".to_owned(), format: LogFormat::Text },
            telemetry: Telemetry {
                endpoint: None,
                headers: BTreeMap::new(),
                ratio: 0.01,
                interval: Duration::from_secs(30),
            },
            limits: Limits::default(),
            shutdown_deadline: Duration::from_secs(25),
        }
    }

    fn read(&mut self, file: &Path) -> Result<Errors, Errors> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Errors::of_file(file, format!("cannot read: {error}")))?;
        let mut documents = Document::read(file, &text)?.into_iter();
        let Some(mut document) = documents.next() else {
            return Err(Errors::of_file(file, "holds no document: it is empty"));
        };
        strict::check(&mut document, platform_schema());
        let value = std::mem::take(&mut document.value);
        match serde_json::from_value::<PlatformManifest>(value) {
            Ok(manifest) => self.take(&mut document, manifest.spec),
            Err(error) => document.refuse("", error.to_string()),
        }
        if let Some(mut second) = documents.next() {
            second.refuse("", "a second document: the platform's settings are one");
            document.errors.extend(second.errors);
        }
        document.errors.0.sort_by_key(|diagnostic| diagnostic.line);
        Ok(document.errors)
    }

    fn take(&mut self, document: &mut Document, spec: PlatformSpec) {
        let PlatformSpec {
            brokers,
            kafka,
            group_protocol,
            state_dir,
            instance,
            listeners,
            log,
            telemetry,
            limits,
            shutdown,
        } = spec;
        let token = listeners.admin_token.filter(|token| {
            let literal = Secret::parse(token).is_ok_and(|token| token.is_literal());
            if literal {
                document.refuse("spec.listeners.adminToken", LITERAL_SECRET);
            }
            !literal
        });
        let (certificate, key) = listeners.admin_tls.map(|tls| (tls.certificate, tls.key)).unzip();
        let given = [
            ("spec.brokers", Setting::Brokers, brokers.map(|brokers| brokers.join(","))),
            (
                "spec.groupProtocol",
                Setting::GroupProtocol,
                group_protocol.map(|choice| choice.as_str().to_owned()),
            ),
            ("spec.stateDir", Setting::StateDir, state_dir),
            ("spec.instance", Setting::Instance, instance),
            ("spec.listeners.metrics", Setting::Metrics, listeners.metrics),
            ("spec.listeners.admin", Setting::Admin, listeners.admin),
            ("spec.listeners.adminToken", Setting::AdminToken, token),
            ("spec.listeners.adminTls.certificate", Setting::AdminTlsCertificate, certificate),
            ("spec.listeners.adminTls.key", Setting::AdminTlsKey, key),
            ("spec.log.filter", Setting::Log, log.filter),
            ("spec.telemetry.endpoint", Setting::OtlpEndpoint, telemetry.endpoint),
            (
                "spec.telemetry.traces.ratio",
                Setting::TraceRatio,
                telemetry.traces.ratio.map(|ratio| ratio.to_string()),
            ),
            (
                "spec.telemetry.metrics.interval",
                Setting::MetricsInterval,
                telemetry.metrics.interval.map(|text| text.0),
            ),
            ("spec.limits.memory", Setting::LimitsMemory, limits.memory),
            ("spec.limits.rate", Setting::LimitsRate, limits.rate),
            ("spec.shutdown.deadline", Setting::ShutdownDeadline, shutdown.deadline.map(|text| text.0)),
        ];
        for (path, setting, value) in given {
            if let Some(Err(message)) = value.map(|value| self.set(setting, &value)) {
                document.refuse(path, message);
            }
        }
        self.log.format = log.format.unwrap_or(self.log.format);
        for (name, value) in &kafka {
            if let Err(message) = self.set_kafka(name, value, false) {
                document.refuse(&join("spec.kafka", name), message);
            }
        }
        for (name, value) in &telemetry.headers {
            if let Err(message) = self.set_header(name, value, false) {
                document.refuse(&join("spec.telemetry.headers", name), message);
            }
        }
    }

    fn variable(&mut self, name: &str, value: &str) -> Result<(), String> {
        let ours =
            name.starts_with("TIDEMILL_") && !name.starts_with(TEST_VARIABLE) && name != CONFIG_VARIABLE;
        if !ours {
            return Ok(());
        }
        if let Some((_, setting)) = VARIABLES.iter().find(|(known, _)| *known == name) {
            // A token in a variable is as good as a reference to that variable.
            if matches!(setting, Setting::AdminToken) && !value.contains("${") {
                self.admin_token = Some(Secret::of_env(name));
                return Ok(());
            }
            return self.set(*setting, value);
        }
        if let Some(setting) = name.strip_prefix(KAFKA_VARIABLE) {
            let setting = setting.to_ascii_lowercase().replace('_', ".");
            if owned::is_secret(&setting) && !value.contains("${") {
                self.kafka.insert(setting, Secret::of_env(name));
                return Ok(());
            }
            return self.set_kafka(&setting, value, true);
        }
        let known = VARIABLES.iter().map(|(known, _)| *known).chain([CONFIG_VARIABLE]);
        Err(match text::nearest(name, known.clone()) {
            Some(near) => format!("unknown variable, did you mean {near}?"),
            None => format!(
                "unknown variable, known are {}, {KAFKA_VARIABLE}… and {TEST_VARIABLE}…",
                known.collect::<Vec<_>>().join(", ")
            ),
        })
    }

    fn set_kafka(&mut self, name: &str, value: &str, from_env: bool) -> Result<(), String> {
        if let Some(message) = owned::by_platform(name) {
            return Err(message);
        }
        let value = Secret::parse(value).map_err(|error| error.to_string())?;
        if value.is_literal() && owned::is_secret(name) && !from_env {
            return Err(LITERAL_SECRET.to_owned());
        }
        self.kafka.insert(name.to_owned(), value);
        Ok(())
    }

    fn set_header(&mut self, name: &str, value: &str, from_env: bool) -> Result<(), String> {
        const LETS_IN: [&str; 6] = ["auth", "key", "token", "secret", "cookie", "password"];
        let name = name.trim().to_ascii_lowercase();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(format!("{name:?} is no header's name"));
        }
        let value = Secret::parse(value.trim()).map_err(|error| error.to_string())?;
        if value.is_literal() && !from_env && LETS_IN.iter().any(|word| name.contains(word)) {
            return Err(LITERAL_SECRET.to_owned());
        }
        self.telemetry.headers.insert(name, value);
        Ok(())
    }

    fn set(&mut self, setting: Setting, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err("must not be empty".to_owned());
        }
        match setting {
            Setting::Brokers => {
                value.split(',').try_for_each(broker)?;
                self.brokers = Some(value.to_owned());
            }
            Setting::GroupProtocol => {
                let known = ProtocolChoice::ALL.into_iter().find(|choice| choice.as_str() == value);
                self.group_protocol = known.ok_or_else(|| {
                    let words = ProtocolChoice::ALL.map(|choice| format!("`{}`", choice.as_str()));
                    format!("unknown word `{value}`, it takes {}", words.join(", "))
                })?;
            }
            Setting::StateDir => self.state_dir = PathBuf::from(value),
            Setting::Instance => {
                text::topic(value).map_err(|_| {
                    format!("{value:?} is no instance's name: up to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`")
                })?;
                self.instance = Some(value.to_owned());
            }
            Setting::Metrics => self.metrics = listener(value)?,
            Setting::Admin => self.admin = listener(value)?,
            Setting::AdminToken => {
                self.admin_token = Some(Secret::parse(value).map_err(|error| error.to_string())?);
            }
            Setting::AdminTlsCertificate => {
                self.admin_tls.get_or_insert_default().certificate = PathBuf::from(value);
                pem_file(value)?;
            }
            Setting::AdminTlsKey => {
                self.admin_tls.get_or_insert_default().key = PathBuf::from(value);
                pem_file(value)?;
            }
            Setting::Log => self.log.filter = value.to_owned(),
            Setting::LogFormat => {
                self.log.format = match value {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err(format!("unknown word `{value}`, it takes `text`, `json`")),
                };
            }
            Setting::OtlpEndpoint => self.telemetry.endpoint = Some(collector(value)?),
            Setting::OtlpHeaders => {
                for pair in value.split(',') {
                    let (name, value) =
                        pair.split_once('=').ok_or("write `name=value,name=value`".to_owned())?;
                    self.set_header(name, value, true)?;
                }
            }
            Setting::TraceRatio => {
                let ratio = value.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                self.telemetry.ratio =
                    ratio.ok_or_else(|| format!("{value:?} is no share: write a number from 0 to 1"))?;
            }
            Setting::MetricsInterval => self.telemetry.interval = text::duration(value)?,
            Setting::LimitsMemory => self.limits.memory = Some(text::size(value)?),
            Setting::LimitsRate => self.limits.rate = Some(text::rate(value)?),
            Setting::ShutdownDeadline => self.shutdown_deadline = text::duration(value)?,
        }
        Ok(())
    }
}

const LITERAL_SECRET: &str =
    "a secret does not belong into a file: write a reference, `${env:NAME}` or `${file:path}`";

impl Overrides {
    fn given(&self) -> impl Iterator<Item = (&'static str, Setting, &str)> {
        [
            ("--brokers", Setting::Brokers, &self.brokers),
            ("--state-dir", Setting::StateDir, &self.state_dir),
            ("--instance", Setting::Instance, &self.instance),
            ("--metrics", Setting::Metrics, &self.metrics),
            ("--admin", Setting::Admin, &self.admin),
            ("--log", Setting::Log, &self.log),
            ("--log-format", Setting::LogFormat, &self.log_format),
            ("--shutdown-deadline", Setting::ShutdownDeadline, &self.shutdown_deadline),
        ]
        .into_iter()
        .filter_map(|(flag, setting, value)| Some((flag, setting, value.as_deref()?)))
    }
}

fn outside(place: &str, message: String) -> Diagnostic {
    Diagnostic { file: place.to_owned(), line: None, path: String::new(), message }
}

fn broker(address: &str) -> Result<(), String> {
    let wrong = |why| Err(format!("{address:?} is no broker's address: {why}"));
    if address.contains("://") {
        return wrong("write `host:port`; the protocol is `security.protocol` in `spec.kafka`");
    }
    let port = match address.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !host.contains(char::is_whitespace) => port,
        _ => return wrong("write `host:port`"),
    };
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => wrong("the port is a number from 1 to 65535"),
    }
}

fn collector(text: &str) -> Result<String, String> {
    let wrong = |why| Err(format!("{text:?} is no collector's address: {why}"));
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return wrong("write `http://host:port`; OTLP over gRPC is not spoken");
    };
    if rest.contains('@') {
        return wrong("what lets in belongs into `telemetry.headers`");
    }
    if rest.is_empty() || rest.starts_with(['/', ':']) || rest.contains([' ', '?', '#']) {
        return wrong("write `http://host:port`");
    }
    if text.starts_with("https") && !cfg!(feature = "tls") {
        return wrong("https needs a build with the feature `tls`, as the container image is");
    }
    Ok(text.to_owned())
}

fn listener(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let address = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    address.parse().map(Some).map_err(|_| format!("{text:?} is no address: write `127.0.0.1:9464`, or `off`"))
}

/// A path; what may be the key itself is not printed.
fn pem_file(path: &str) -> Result<(), String> {
    if path.contains("-----BEGIN") {
        return Err("write the path of a PEM file, not what is in it".to_owned());
    }
    if path.contains("${") {
        return Err("write the file's path itself: it is read again when it changes".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: tidemill.dev/v1alpha1\nkind: Platform\nspec:\n";

    fn load(spec: &str, env: &[(&str, &str)], flags: &Overrides) -> Result<Platform, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tidemill.yaml");
        std::fs::write(&file, format!("{HEAD}{spec}")).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let prefix = format!("{}/", folder.path().display());
        Platform::load(Some(&file), env, flags).map_err(|errors| errors.to_string().replace(&prefix, ""))
    }

    #[test]
    fn flags_win_over_variables_and_those_over_the_file() {
        let spec =
            "  brokers: [a:1, b:2]\n  instance: file\n  listeners: {metrics: off}\n  log: {format: json}\n";
        let none = Overrides::default();
        let platform = load(spec, &[], &none).unwrap();
        assert_eq!((platform.brokers().unwrap(), platform.metrics), ("a:1,b:2", None));
        assert_eq!((platform.instance.as_deref(), platform.log.format), (Some("file"), LogFormat::Json));

        let env = [("TIDEMILL_BROKERS", "c:3"), ("TIDEMILL_METRICS", "0.0.0.0:1"), ("TIDEMILL_TEST_X", "")];
        let platform = load(spec, &env, &none).unwrap();
        assert_eq!(platform.brokers().unwrap(), "c:3");
        assert_eq!(platform.metrics.unwrap().to_string(), "0.0.0.0:1");

        let flags = Overrides { brokers: Some("d:4".to_owned()), ..none };
        assert_eq!(load(spec, &env, &flags).unwrap().brokers().unwrap(), "d:4");
    }

    #[test]
    fn a_collector_is_named_by_file_and_variables() {
        let spec = "  telemetry:\n    endpoint: http://127.0.0.1:4318\n    headers: {Authorization: '${env:TIDEMILL_TEST_T}', x-scope-orgid: a}\n    traces: {ratio: 0.5}\n    metrics: {interval: 5s}\n";
        let telemetry = load(spec, &[], &Overrides::default()).unwrap().telemetry;
        assert_eq!(telemetry.endpoint.as_deref(), Some("http://127.0.0.1:4318"));
        assert_eq!((telemetry.ratio, telemetry.interval), (0.5, Duration::from_secs(5)));
        let shown: Vec<_> =
            telemetry.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(shown, ["authorization: ${env:TIDEMILL_TEST_T}", "x-scope-orgid: ***"]);
        let env = [
            ("TIDEMILL_OTLP_ENDPOINT", "http://c:1"),
            ("TIDEMILL_OTLP_HEADERS", "authorization=Bearer a, x=b"),
            ("TIDEMILL_TRACE_RATIO", "0"),
            ("TIDEMILL_METRICS_INTERVAL", "0s"),
        ];
        let telemetry = load(spec, &env, &Overrides::default()).unwrap().telemetry;
        assert_eq!((telemetry.endpoint.as_deref(), telemetry.ratio), (Some("http://c:1"), 0.0));
        assert!(telemetry.interval.is_zero());
        let resolved = telemetry.resolve_headers().unwrap();
        assert_eq!(resolved[0], ("authorization".to_owned(), "Bearer a".to_owned()));
        let none = load("  {}\n", &[], &Overrides::default()).unwrap().telemetry;
        assert_eq!((none.endpoint, none.ratio), (None, 0.01));
        let https = load("  telemetry: {endpoint: 'https://c'}\n", &[], &Overrides::default());
        assert_eq!(https.is_ok(), cfg!(feature = "tls"), "{https:?}");
    }

    #[test]
    fn without_a_file_there_are_defaults() {
        let env = [("HOME".to_owned(), "/home/a".to_owned())];
        let platform = Platform::load(None, env, &Overrides::default()).unwrap();
        assert_eq!(platform.state_dir, Path::new("/home/a/.local/state/tidemill"));
        assert_eq!(platform.metrics.unwrap().to_string(), "127.0.0.1:9464");
        assert_eq!(platform.admin.unwrap().to_string(), "127.0.0.1:9465");
        assert_eq!(platform.shutdown_deadline, Duration::from_secs(25));
        assert_eq!(
            platform.brokers().unwrap_err().to_string(),
            "no brokers: give --brokers HOST:PORT, TIDEMILL_BROKERS, or `spec.brokers` in tidemill.yaml"
        );
    }

    #[test]
    fn secrets_reach_the_client_but_no_print() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let spec = format!(
            "  kafka: {{security.protocol: SASL_SSL, sasl.username: me, sasl.password: \"${{file:{}}}\"}}\n",
            file.display()
        );
        let env = [("TIDEMILL_ADMIN_TOKEN", "letmein"), ("TIDEMILL_KAFKA_SSL_KEY_PASSWORD", "hunter3")];
        let platform = load(&spec, &env, &Overrides::default()).unwrap();
        let printed = format!("{platform:?} {}", serde_json::to_string(&platform).unwrap());
        for secret in ["hunter", "letmein"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert_eq!(platform.admin_token.unwrap().to_string(), "${env:TIDEMILL_ADMIN_TOKEN}");
        assert_eq!(platform.kafka["ssl.key.password"].to_string(), "${env:TIDEMILL_KAFKA_SSL_KEY_PASSWORD}");

        let platform = load(&spec, &[], &Overrides::default()).unwrap();
        let settings = platform.kafka_settings().unwrap();
        assert_eq!(settings["sasl.password"], "hunter2");
        assert_eq!(settings["security.protocol"], "SASL_SSL");
    }

    #[test]
    fn a_certificate_comes_with_its_key_in_a_build_that_can_use_both() {
        let given = |spec: &str, env: &[(&str, &str)]| {
            load(spec, env, &Overrides::default()).map(|platform| platform.admin_tls)
        };
        let spec = "  listeners: {adminTls: {certificate: /tls/tls.crt, key: /tls/tls.key}}\n";
        let file = given(spec, &[]);
        let both = [("TIDEMILL_ADMIN_TLS_CERTIFICATE", "a"), ("TIDEMILL_ADMIN_TLS_KEY", "b")];
        let variables = given("  {}\n", &both);
        if cfg!(feature = "tls") {
            let files = |certificate: &str, key: &str| {
                Ok(Some(TlsFiles { certificate: certificate.into(), key: key.into() }))
            };
            assert_eq!((file, variables), (files("/tls/tls.crt", "/tls/tls.key"), files("a", "b")));
            assert_eq!(given(spec, &both[1..]), files("/tls/tls.crt", "b"), "a variable wins by itself");
        } else {
            let refused = "tidemill.yaml: spec.listeners.adminTls: TLS is no part of this build: build with `--features tls`, as the container image is";
            assert_eq!((file, variables), (Err(refused.to_owned()), Err(refused.to_owned())));
        }
        assert_eq!(given("  {}\n", &[]), Ok(None));
        for (alone, lacks) in [(&both[..1], "set `key` too"), (&both[1..], "set `certificate` too")] {
            let found = given("  {}\n", alone).unwrap_err();
            assert!(
                found.starts_with("tidemill.yaml: spec.listeners.adminTls: ") && found.contains(lacks),
                "{found}"
            );
        }
    }

    #[test]
    fn a_key_in_place_of_its_path_is_refused_and_not_printed() {
        let rows = [
            ("-----BEGIN PRIVATE KEY-----", "write the path of a PEM file, not what is in it"),
            ("${file:/tls/tls.key}", "write the file's path itself: it is read again when it changes"),
        ];
        for (key, expected) in rows {
            let spec = format!("  listeners: {{adminTls: {{certificate: a, key: '{key}'}}}}\n");
            let found = load(&spec, &[], &Overrides::default()).unwrap_err();
            assert!(
                found.contains(&format!("tidemill.yaml:4: spec.listeners.adminTls.key: {expected}")),
                "{found}"
            );
            assert!(!found.contains("BEGIN"), "{found}");
        }
    }

    #[test]
    fn what_is_refused_is_named_with_its_place() {
        let literal =
            "a secret does not belong into a file: write a reference, `${env:NAME}` or `${file:path}`";
        let rows: [(&str, &str); 19] = [
            ("  brokers: []\n", "4: spec.brokers: must not be empty"),
            (
                "  brokers: a:1\n",
                "4: spec.brokers: expected a list, found the text \"a:1\": begin it with `- `",
            ),
            ("  brokers: [a]\n", "4: spec.brokers: \"a\" is no broker's address: write `host:port`"),
            (
                "  brokers: ['a:x']\n",
                "4: spec.brokers: \"a:x\" is no broker's address: the port is a number from 1 to 65535",
            ),
            (
                "  brokers: ['http://a:1']\n",
                "4: spec.brokers: \"http://a:1\" is no broker's address: write `host:port`; the protocol is `security.protocol` in `spec.kafka`",
            ),
            ("  broker: [a:1]\n", "4: spec.broker: unknown key, did you mean `brokers`?"),
            ("  kafka: {sasl.password: hunter2}\n", &format!("4: spec.kafka[\"sasl.password\"]: {literal}")),
            (
                "  kafka: {sasl.password: 'x${env:A}'}\n",
                "4: spec.kafka[\"sasl.password\"]: \"x${env:A}\" is no reference: write `${env:NAME}` or `${file:path}`, and nothing around it",
            ),
            ("  kafka: {group.id: a}\n", "4: spec.kafka[\"group.id\"]: the engine sets it: use `spec.group`"),
            (
                "  kafka: {bootstrap.servers: a}\n",
                "4: spec.kafka[\"bootstrap.servers\"]: use `spec.brokers`, TIDEMILL_BROKERS or --brokers",
            ),
            ("  listeners: {adminToken: letmein}\n", &format!("4: spec.listeners.adminToken: {literal}")),
            (
                "  listeners: {metrics: here}\n",
                "4: spec.listeners.metrics: \"here\" is no address: write `127.0.0.1:9464`, or `off`",
            ),
            ("  log: {format: xml}\n", "4: spec.log.format: unknown word `xml`, it takes `text`, `json`"),
            (
                "  shutdown: {deadline: 30}\n",
                "4: spec.shutdown.deadline: a bare number has no unit: write `30s` or `30ms`",
            ),
            (
                "  telemetry: {endpoint: 'collector:4317'}\n",
                "4: spec.telemetry.endpoint: \"collector:4317\" is no collector's address: write `http://host:port`; OTLP over gRPC is not spoken",
            ),
            (
                "  telemetry: {headers: {Authorization: Bearer letmein}}\n",
                &format!("4: spec.telemetry.headers.Authorization: {literal}"),
            ),
            ("  telemetry: {trace: {}}\n", "4: spec.telemetry.trace: unknown key, did you mean `traces`?"),
            (
                "  instance: a/b\n",
                "4: spec.instance: \"a/b\" is no instance's name: up to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`",
            ),
            ("  {}\n---\na: 1\n", "6: a second document: the platform's settings are one"),
        ];
        for (spec, expected) in rows {
            let found = load(spec, &[], &Overrides::default()).unwrap_err();
            assert_eq!(found, format!("tidemill.yaml:{expected}"), "{spec}");
        }
        let open = load("  listeners: {admin: '0.0.0.0:1'}\n", &[], &Overrides::default()).unwrap_err();
        assert_eq!(
            open,
            "tidemill.yaml: spec.listeners.admin: 0.0.0.0:1 is open to others: set `adminToken` too, or listen on 127.0.0.1"
        );
        let rows = [
            (("TIDEMILL_BROKER", "a:1"), "TIDEMILL_BROKER: unknown variable, did you mean TIDEMILL_BROKERS?"),
            (
                ("TIDEMILL_METRICS", "x"),
                "TIDEMILL_METRICS: \"x\" is no address: write `127.0.0.1:9464`, or `off`",
            ),
            (
                ("TIDEMILL_KAFKA_ACKS", "1"),
                "TIDEMILL_KAFKA_ACKS: the engine sets it: use `spec.delivery.guarantee`",
            ),
            (("TIDEMILL_BROKERS", ""), "TIDEMILL_BROKERS: must not be empty"),
            (
                ("TIDEMILL_LIMITS_MEMORY", "1.5Gi"),
                "TIDEMILL_LIMITS_MEMORY: \"1.5Gi\" is no size: write a whole number of bytes, or with Ki, Mi, Gi, as in `256Mi`",
            ),
            (
                ("TIDEMILL_TRACE_RATIO", "1.5"),
                "TIDEMILL_TRACE_RATIO: \"1.5\" is no share: write a number from 0 to 1",
            ),
            (("TIDEMILL_OTLP_HEADERS", "a"), "TIDEMILL_OTLP_HEADERS: write `name=value,name=value`"),
            (
                ("TIDEMILL_OTLP_ENDPOINT", "http://me:secret@collector"),
                "TIDEMILL_OTLP_ENDPOINT: \"http://me:secret@collector\" is no collector's address: what lets in belongs into `telemetry.headers`",
            ),
        ];
        for (variable, expected) in rows {
            assert_eq!(load("  {}\n", &[variable], &Overrides::default()).unwrap_err(), expected);
        }
        let flags = Overrides { log_format: Some("xml".to_owned()), ..Overrides::default() };
        let found = load("  {}\n", &[], &flags).unwrap_err();
        assert_eq!(found, "--log-format: unknown word `xml`, it takes `text`, `json`");
    }
}
