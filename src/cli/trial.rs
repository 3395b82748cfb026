//! A function tried out: the pipeline that runs in production, with the function's handler, in virtual
//! time, and a list where the brokers would be.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::cases::Ending;
use crate::codec;
use crate::model::{Format, Function, KeySpec, Moment, Record, Shape, Source, StartAt, TimeSpec};
use crate::pipeline::{Handler, OutRecord, Pass, Pipeline, Settled, Target, Writer};
use crate::plugin::{self, Profile, Registry};
use crate::runtime::Handlers;

/// Makes a fresh handler; `None` for a function of built-in steps.
pub type Make<'a> = &'a dyn Fn() -> anyhow::Result<Option<Box<dyn Handler>>>;

/// A function's plugin, loaded for as long as this value lives.
pub struct Tried {
    handlers: Handlers,
    /// Where the plugin's private copy lies.
    _folder: TempDir,
}

/// Which file a function's plugin is loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginFrom {
    /// The one that the manifest names, as it stands.
    File,
    /// One freshly built from the manifest's crate, apart from the one that the manifest names; that
    /// one where the manifest names no crate.
    Crate,
}

impl Tried {
    /// Loads the plugin of `function`, if it has one.
    pub fn load(function: &Arc<Function>, from: PluginFrom) -> anyhow::Result<Self> {
        if function.window.is_some() {
            bail!(
                "windows cannot be tried event by event in this version; `tidemill dev {}` shows what they give",
                function.file.parent().unwrap_or(&function.file).display()
            );
        }
        let folder = tempfile::tempdir().context("a folder for the plugin's copy")?;
        let mut function = Arc::clone(function);
        let spec = function.handler.as_ref();
        match spec.and_then(|spec| spec.crate_dir.as_ref().map(|crate_dir| (&spec.plugin, crate_dir))) {
            Some((plugin, crate_dir)) if from == PluginFrom::Crate => {
                let built = folder.path().join(plugin.file_name().context("the plugin has no name")?);
                plugin::build_crate(crate_dir, &built, Profile::Dev)?;
                if let Some(spec) = &mut Arc::make_mut(&mut function).handler {
                    spec.plugin = built;
                    // The digest in the manifest is that of the file that runs.
                    spec.sha256 = None;
                }
            }
            Some((plugin, _)) if !plugin.exists() => {
                let folder = function.file.parent().unwrap_or(&function.file).display();
                bail!("{} is not there: make it with `tidemill build {folder}`", plugin.display());
            }
            _ => {}
        }
        let handlers = Handlers::load(&function, &Arc::new(Registry::default()), folder.path())?;
        Ok(Self { handlers, _folder: folder })
    }

    /// A fresh handler.
    pub fn handler(&self) -> anyhow::Result<Option<Box<dyn Handler>>> {
        self.handlers.handler(None)
    }
}

/// A function with one handler, ready for events.
pub struct Trial {
    function: Arc<Function>,
    pipeline: Pipeline,
}

/// What came of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// How it ended.
    pub settled: Settled,
    /// What it wrote, dead letters included.
    pub written: Vec<Written>,
}

impl Trial {
    /// Compiles `function` around `handler`.
    pub fn new(function: &Arc<Function>, handler: Option<Box<dyn Handler>>) -> Self {
        Self { function: Arc::clone(function), pipeline: Pipeline::new(Arc::clone(function), handler) }
    }

    /// Another handler from the next event on.
    pub fn set_handler(&mut self, handler: Option<Box<dyn Handler>>) {
        self.pipeline.set_handler(handler);
    }

    /// Delivers one record, of which `failed` calls came before.
    pub fn deliver(&mut self, source: usize, record: &Record<'_>, failed: u32, now: Moment) -> Delivery {
        let mut list = List { function: &self.function, written: Vec::new() };
        let settled =
            self.pipeline.process(&Pass { source, record, failed, is_probe: false, now }, &mut list);
        Delivery { settled, written: list.written }
    }
}

impl Delivery {
    /// How it ended, in a word.
    pub fn ending(&self) -> Ending {
        match self.settled {
            Settled::Ok { .. } => Ending::Ok,
            Settled::Skipped => Ending::Skip,
            Settled::Filtered => Ending::Filtered,
            Settled::DeadLetter { .. } => Ending::DeadLetter,
            Settled::Retry { .. } => Ending::Retry,
            Settled::Stop { .. } => Ending::Stop,
        }
    }

    /// The dead letter's reason.
    pub fn reason(&self) -> Option<&'static str> {
        match &self.settled {
            Settled::DeadLetter { reason, .. } => Some(reason.as_str()),
            _ => None,
        }
    }

    /// What went wrong.
    pub fn error(&self) -> Option<&str> {
        match &self.settled {
            Settled::DeadLetter { error, .. } => Some(error),
            Settled::Retry { message, .. } | Settled::Stop { message, .. } => Some(message),
            _ => None,
        }
    }

    /// What was written to sinks.
    pub fn outputs(&self) -> impl Iterator<Item = &Written> {
        self.written.iter().filter(|written| written.sink.is_some())
    }
}

/// One written record, opened up for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Written {
    /// The sink's name; `None` for a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: Bytes,
    /// The payload: the value, or the `data` of a CloudEvent in structured mode.
    pub value: Bytes,
    /// The timestamp, milliseconds since the epoch; `None`: the time of writing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// The attributes, when it is a CloudEvent.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
    /// The headers that are no attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Bytes)>,
}

/// Bytes, or Kafka's null: shown as JSON where they are JSON, as text where they are text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Option<Vec<u8>>);

impl Bytes {
    fn copy(bytes: Option<&[u8]>) -> Self {
        Self(bytes.map(<[u8]>::to_vec))
    }

    /// As text, or as `{"base64": …}`; null for null.
    pub fn text(&self) -> Value {
        match self.0.as_deref().map(std::str::from_utf8) {
            None => Value::Null,
            Some(Ok(text)) => Value::String(text.to_owned()),
            Some(Err(_)) => json!({ "base64": STANDARD.encode(self.0.as_deref().unwrap_or_default()) }),
        }
    }

    /// As JSON if it is any, else as text.
    pub fn json(&self) -> Value {
        let parsed = self.0.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
        parsed.unwrap_or_else(|| self.text())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Keys and headers are text even where they look like a number; values are objects as a rule.
        match self.json() {
            value @ (Value::Object(_) | Value::Array(_)) => value.serialize(serializer),
            _ => self.text().serialize(serializer),
        }
    }
}

/// Keeps what the pipeline writes.
struct List<'a> {
    function: &'a Function,
    written: Vec<Written>,
}

/// CloudEvents attributes that are looked for; extensions come from the headers.
const KNOWN: [&str; 8] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];

impl Writer for List<'_> {
    fn write(&mut self, out: &OutRecord<'_>) {
        let (sink, topic) = match out.target {
            Target::Sink(place) => {
                let sink = &self.function.sinks[place];
                (Some(sink.name.clone()), sink.topic.clone())
            }
            Target::DeadLetter => (None, self.function.delivery.dead_letter_topic.clone()),
            // Windows are not tried event by event.
            Target::Late | Target::Stitch => return,
        };
        self.written.push(opened(sink, topic, out));
    }
}

/// Tells attributes from headers, and the payload from what is around it.
fn opened(sink: Option<String>, topic: String, out: &OutRecord<'_>) -> Written {
    let source = Source {
        topic: topic.clone(),
        name: topic.clone(),
        format: Format::Auto,
        start_at: StartAt::Latest,
        filters: Vec::new(),
        key: KeySpec::Record,
        time: TimeSpec::Record,
        schedule: None,
    };
    let headers = out.headers.to_vec();
    let timestamp_ms = out.timestamp_ms.unwrap_or(-1);
    let (key, value) = (out.key, out.value);
    let record =
        Record { topic: &topic, partition: 0, offset: 0, timestamp_ms, key, value, headers: &headers };
    let mut attributes = Map::new();
    let mut payload = Bytes::copy(value);
    // A dead letter stays as it is: its headers are those of a record that nobody could read.
    if sink.is_some()
        && let Ok(event) = codec::decode(record, &source)
        && event.shape != Shape::Plain
    {
        payload = Bytes::copy(event.data.as_deref());
        let mut put = |name: &str| {
            if let Some(text) = event.attribute(name) {
                attributes.insert(name.to_owned(), Value::String(text.into_owned()));
            }
        };
        KNOWN.into_iter().for_each(&mut put);
        match &event.shape {
            Shape::Structured(all) => all.iter().for_each(|(name, _)| put(name)),
            _ => headers.iter().filter_map(|header| header.name.strip_prefix("ce_")).for_each(&mut put),
        }
    }
    let is_event = !attributes.is_empty();
    let is_other = |name: &str| !is_event || !(name == "content-type" || name.starts_with("ce_"));
    let others = headers.iter().filter(|header| is_other(header.name));
    Written {
        sink,
        key: Bytes::copy(key),
        value: payload,
        timestamp: out.timestamp_ms,
        attributes,
        headers: others.map(|header| (header.name.to_owned(), Bytes::copy(header.value))).collect(),
        topic,
    }
}
