//! The platform's settings as YAML has them. The comments are the reference and the descriptions in
//! the JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{ApiVersion, DurationText};
use crate::model::ProtocolChoice;

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
    /// How workers join consumer groups. Default: `auto`. Variable: `TIDEMILL_GROUP_PROTOCOL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_protocol: Option<ProtocolChoice>,
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
    /// Where it sends traces and metrics, by OTLP over HTTP.
    #[serde(default)]
    pub telemetry: TelemetrySpec,
    /// What its functions may take up together.
    #[serde(default)]
    pub limits: ProcessLimits,
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
    /// `/functions`, and orders to single functions. Default: `127.0.0.1:9465`. Any other than a
    /// loopback address needs `adminToken`. Variable: `TIDEMILL_ADMIN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// The bearer token that `admin` asks for, as a reference. Variable: `TIDEMILL_ADMIN_TOKEN`
    /// (the token itself, or a reference).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_token: Option<String>,
    /// `admin` over TLS (1.2 or newer) and no longer in plain HTTP. Needs a build with the feature `tls`, as
    /// the container image is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_tls: Option<AdminTls>,
}

/// What the admin listener shows of itself over TLS. Both files are read at the start, and again when they
/// have changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AdminTls {
    /// The file of its certificate and of those between that and the authority's, in this order, PEM. Variable:
    /// `TIDEMILL_ADMIN_TLS_CERTIFICATE`.
    #[schemars(length(min = 1))]
    pub certificate: String,
    /// The file of the certificate's private key, PEM, without a passphrase. Variable: `TIDEMILL_ADMIN_TLS_KEY`.
    #[schemars(length(min = 1))]
    pub key: String,
}

/// What all functions of the process may take up together. Without, each has its own bounds alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ProcessLimits {
    /// Memory for events and outputs that are under way, as a Kubernetes quantity (`2Gi`): a function whose workers'
    /// `limits.memory` the others leave no room for is not started. Variable: `TIDEMILL_LIMITS_MEMORY`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub memory: Option<String>,
    /// Calls of handlers, as `handler.rate`: `1000/s`. Variable: `TIDEMILL_LIMITS_RATE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub rate: Option<String>,
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

/// Traces and metrics by OTLP over HTTP (protobuf). Without `endpoint` nothing is exported.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TelemetrySpec {
    /// The collector: `http://127.0.0.1:4318`. `/v1/traces` and `/v1/metrics` are added. `https` needs
    /// a build with the feature `tls`, as the container image is. Variable: `TIDEMILL_OTLP_ENDPOINT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub endpoint: Option<String>,
    /// Headers of each request. What lets in (`authorization`, `x-api-key` and the like) must be a
    /// reference, `${env:NAME}` or `${file:path}`; other values may be. Variable:
    /// `TIDEMILL_OTLP_HEADERS` (`name=value,name=value`, the values themselves, or references).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Which events become spans.
    #[serde(default)]
    pub traces: TracesSpec,
    /// The numbers of `/metrics`.
    #[serde(default)]
    pub metrics: PushSpec,
}

/// Which events become spans.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TracesSpec {
    /// The share of events without a `traceparent` that begin a trace; one that has a `traceparent`
    /// is sampled if that says so. A `bytes` source's headers are not looked at for a handler, so
    /// each of its events counts as one without. 0: no spans at all. Default: 0.01. Variable:
    /// `TIDEMILL_TRACE_RATIO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: Option<f64>,
}

/// The numbers of `/metrics`, pushed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PushSpec {
    /// How often; `0s`: never. Default: `30s`. Variable: `TIDEMILL_METRICS_INTERVAL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<DurationText>,
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
