//! The platform's settings: where Kafka is and how to get in, where this process listens and keeps
//! its files. `tidemill.yaml` < `TIDEMILL_*` < flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::{Document, join};
use super::error::{Diagnostic, Errors};
use super::schema::platform_schema;
use super::secret::{Secret, SecretError};
use super::spec::{ApiVersion, DurationText};
use super::{owned, strict, text};

/// The platform's settings: brokers, security, listeners, files of this process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlatformManifest {
    /// The version of this schema.
    pub api_version: ApiVersion,
    /// Which kind of document this is.
    pub kind: PlatformKind,
    /// What it is called; without meaning to Tidemill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PlatformMetadata>,
    /// The settings.
    pub spec: PlatformSpec,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) enum PlatformKind {
    Platform,
}

/// What the settings are called; without meaning to Tidemill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlatformMetadata {
    /// A name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PlatformSpec {
    /// Kafka's addresses, each `host:port`. Variable: `TIDEMILL_BROKERS` (`host:port,host:port`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub brokers: Option<Vec<String>>,
    /// librdkafka settings of every client, all as text: `security.protocol`, `sasl.…`, `ssl.…` and
    /// others. Passwords and private keys must be references, `${env:NAME}` or `${file:path}`; other
    /// values may be. Variables: `TIDEMILL_KAFKA_SASL_PASSWORD` sets `sasl.password`, and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kafka: BTreeMap<String, String>,
    /// Where this process keeps its files. Default: `$XDG_STATE_HOME/tidemill`, else
    /// `~/.local/state/tidemill`, else `.tidemill` here. Variable: `TIDEMILL_STATE_DIR`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub state_dir: Option<String>,
    /// What this process is called among those that run the same functions, the same after a
    /// restart: a pod's name. Default: an id kept in the state directory. Variable: `TIDEMILL_INSTANCE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Where it listens.
    #[serde(default)]
    pub listeners: Listeners,
    /// What it logs.
    #[serde(default)]
    pub log: LogSpec,
    /// How it stops.
    #[serde(default)]
    pub shutdown: Shutdown,
}

/// Where the process listens; an address, or `off`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Listeners {
    /// `/metrics`, `/healthz` and `/readyz`. Default: `127.0.0.1:9464`, since a laptop should open no
    /// port to others unasked; in a container `0.0.0.0:9464`. Variable: `TIDEMILL_METRICS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// `/functions`. Default: `127.0.0.1:9465`. Any other than a loopback address needs `adminToken`.
    /// Variable: `TIDEMILL_ADMIN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// The bearer token that `admin` asks for, as a reference. Variable: `TIDEMILL_ADMIN_TOKEN`
    /// (the token itself, or a reference).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token: Option<String>,
}

/// What the process logs, on standard error.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LogSpec {
    /// Least level, by module if need be: `info,tidemill::worker=debug`. Default: `info`. Variable:
    /// `TIDEMILL_LOG`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub filter: Option<String>,
    /// For people or for programs. Default: `text`. Variable: `TIDEMILL_LOG_FORMAT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How the process stops.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Shutdown {
    /// How long it may finish what it has begun after SIGTERM. Default: `25s`, less than the 30 s
    /// after which Kubernetes kills. Variable: `TIDEMILL_SHUTDOWN_DEADLINE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DurationText>,
}

/// The platform's settings, resolved. Printing it shows no secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Platform {
    /// Kafka's addresses, `host:port,host:port`, if any were given; see [`Platform::brokers`].
    pub brokers: Option<String>,
    /// librdkafka settings of every client; see [`Platform::kafka_settings`].
    pub kafka: BTreeMap<String, Secret>,
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
    /// What is logged.
    pub log: Log,
    /// How long a stop may take.
    pub shutdown_deadline: Duration,
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
    StateDir,
    Instance,
    Metrics,
    Admin,
    AdminToken,
    Log,
    LogFormat,
    ShutdownDeadline,
}

const VARIABLES: [(&str, Setting); 9] = [
    ("TIDEMILL_BROKERS", Setting::Brokers),
    ("TIDEMILL_STATE_DIR", Setting::StateDir),
    ("TIDEMILL_INSTANCE", Setting::Instance),
    ("TIDEMILL_METRICS", Setting::Metrics),
    ("TIDEMILL_ADMIN", Setting::Admin),
    ("TIDEMILL_ADMIN_TOKEN", Setting::AdminToken),
    ("TIDEMILL_LOG", Setting::Log),
    ("TIDEMILL_LOG_FORMAT", Setting::LogFormat),
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
        if let Some(admin) = platform.admin
            && !admin.ip().is_loopback()
            && platform.admin_token.is_none()
        {
            let place = file.map_or_else(|| "TIDEMILL_ADMIN".to_owned(), |file| file.display().to_string());
            errors.0.push(Diagnostic {
                file: place,
                line: None,
                path: "spec.listeners.admin".to_owned(),
                message: format!("{admin} is open to others: set `adminToken` too, or listen on 127.0.0.1"),
            });
        }
        if errors.is_empty() { Ok(platform) } else { Err(errors) }
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
            state_dir,
            instance: None,
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 9465))),
            admin_token: None,
            log: Log { filter: "info".to_owned(), format: LogFormat::Text },
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
            Err(_) if !document.errors.is_empty() => {}
            Err(error) => document.refuse("", error.to_string()),
        }
        if let Some(mut second) = documents.next() {
            second.refuse("", "a second document: the platform's settings are one");
            document.errors.extend(second.errors);
        }
        Ok(document.errors)
    }

    fn take(&mut self, document: &mut Document, spec: PlatformSpec) {
        let PlatformSpec { brokers, kafka, state_dir, instance, listeners, log, shutdown } = spec;
        let token = listeners.admin_token.filter(|token| {
            let literal = Secret::parse(token).is_ok_and(|token| token.is_literal());
            if literal {
                document.refuse("spec.listeners.adminToken", LITERAL_SECRET);
            }
            !literal
        });
        let given = [
            ("spec.brokers", Setting::Brokers, brokers.map(|brokers| brokers.join(","))),
            ("spec.stateDir", Setting::StateDir, state_dir),
            ("spec.instance", Setting::Instance, instance),
            ("spec.listeners.metrics", Setting::Metrics, listeners.metrics),
            ("spec.listeners.admin", Setting::Admin, listeners.admin),
            ("spec.listeners.adminToken", Setting::AdminToken, token),
            ("spec.log.filter", Setting::Log, log.filter),
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

    fn set(&mut self, setting: Setting, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return Err("must not be empty".to_owned());
        }
        match setting {
            Setting::Brokers => {
                value.split(',').try_for_each(broker)?;
                self.brokers = Some(value.to_owned());
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
            Setting::Log => self.log.filter = value.to_owned(),
            Setting::LogFormat => {
                self.log.format = match value {
                    "text" => LogFormat::Text,
                    "json" => LogFormat::Json,
                    _ => return Err(format!("unknown word `{value}`, it takes `text`, `json`")),
                };
            }
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
