//! A function tried out: the pipeline that runs in production, with the function's handler, in virtual
//! time, and a list where the brokers would be.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::cases::{Act, Case, Ending};
use super::lane::Lane;
use crate::codec;
use crate::model::{Format, Function, KeySpec, Moment, Record, Shape, Source, StartAt, TimeSpec};
use crate::pipeline::{Handler, OutRecord, Pass, Pipeline, Settled, Target, Writer};
use crate::plugin::{self, Profile, Registry};
use crate::runtime::Handlers;
use crate::window::OpenWindow;

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
    /// When it began.
    began_ms: i64,
    /// How far its clock has come since, but for the millisecond that each event takes.
    passed: Duration,
    /// Where events are gathered, if the function has a window. It has a clock of its own.
    lane: Option<Lane>,
}

/// What came of one step: of an event, or of what happened between two.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// How the event ended; of one that is gathered: whether it was. `None`: there was none.
    pub settled: Option<Settled>,
    /// What it wrote, dead letters included.
    pub written: Vec<Written>,
    /// The result of a window waits to be given again: what its handler said.
    pub waiting: Option<String>,
    /// The result of a window was out of attempts, and the manifest says to stop then: what its handler said.
    pub stopped: Option<String>,
}

impl Trial {
    /// Compiles `function` around `handler`; its clock begins at `began_ms`.
    pub fn new(function: &Arc<Function>, handler: Option<Box<dyn Handler>>, began_ms: i64) -> Self {
        let began = Moment { wall_ms: began_ms, elapsed: Duration::ZERO };
        Self {
            function: Arc::clone(function),
            pipeline: Pipeline::new(Arc::clone(function), handler),
            began_ms,
            passed: Duration::ZERO,
            lane: Lane::new(function, began),
        }
    }

    /// Takes step `number` of `case`; after the last one nothing waits. What came of it in windows stays only if it is
    /// kept.
    pub fn take(&mut self, case: &Case, number: usize, make: Make<'_>) -> anyhow::Result<Delivery> {
        let function = Arc::clone(&self.function);
        let mut list = List::new(&function);
        let mut settled = None;
        match &case.given[number].act {
            Act::Event(given) => {
                let offset = i64::try_from(number).unwrap_or(i64::MAX);
                let now = self.now(number);
                let record = Record {
                    topic: &function.sources[given.source].topic,
                    partition: 0,
                    offset,
                    timestamp_ms: given.sample.timestamp_ms.unwrap_or(now.wall_ms),
                    key: given.sample.key.as_deref(),
                    value: given.sample.value.as_deref(),
                    headers: &given.sample.borrowed_headers(),
                };
                let pass = Pass {
                    source: given.source,
                    record: &record,
                    failed: given.failed,
                    is_probe: false,
                    now,
                };
                settled = Some(self.run(&pass, &mut list));
            }
            Act::Advance(by) => match &mut self.lane {
                None => self.passed += *by,
                Some(lane) => lane.advance(*by, &mut self.pipeline, &mut list),
            },
            Act::Restart => {
                self.exchange(make()?);
                if let Some(lane) = &mut self.lane {
                    lane.restart(&mut self.pipeline, &mut list).context("the state cannot be restored")?;
                }
            }
        }
        if let Some(lane) = self.lane.as_mut().filter(|_| number + 1 == case.given.len()) {
            lane.settle(&mut self.pipeline, &mut list);
        }
        Ok(list.delivery(settled))
    }

    /// What the clock shows. Where nothing is gathered each event takes a millisecond.
    fn now(&self, number: usize) -> Moment {
        if let Some(lane) = &self.lane {
            return lane.now();
        }
        let elapsed = self.passed + Duration::from_millis(number as u64);
        let elapsed_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        Moment { wall_ms: self.began_ms.saturating_add(elapsed_ms), elapsed }
    }

    /// Delivers one record by itself, now.
    pub fn deliver(&mut self, source: usize, record: &Record<'_>, now: Moment) -> Delivery {
        let function = Arc::clone(&self.function);
        let mut list = List::new(&function);
        let pass = Pass { source, record, failed: 0, is_probe: false, now };
        let settled = self.run(&pass, &mut list);
        list.delivery(Some(settled))
    }

    fn run(&mut self, pass: &Pass<'_>, list: &mut List<'_>) -> Settled {
        if self.function.sources.get(pass.source).is_some_and(Source::is_read_by_all) {
            // A row that cannot be read is passed over.
            let taken = self.pipeline.take_row(pass.source, pass.record);
            return taken.map_or(Settled::Filtered, |()| Settled::Ok { written: 0, unrouted: 0 });
        }
        match &mut self.lane {
            None => self.pipeline.process(pass, list),
            Some(lane) => lane.event(pass, &mut self.pipeline, list),
        }
    }

    /// The windows that are open.
    pub fn open(&self) -> Vec<OpenWindow<'_>> {
        self.lane.as_ref().map(Lane::open).unwrap_or_default()
    }

    /// What came of the steps so far stays.
    pub fn keep(&mut self) {
        if let Some(lane) = &mut self.lane {
            lane.keep();
        }
    }

    /// What came of the last step is undone, as when a transaction is aborted: it comes again.
    pub fn undo(&mut self, case: &Case, number: usize) {
        match (&mut self.lane, &case.given[number].act) {
            (Some(lane), _) => lane.undo(),
            (None, Act::Advance(by)) => self.passed -= *by,
            (None, _) => {}
        }
    }

    /// A fresh process has read all of the tables before it takes events.
    fn exchange(&mut self, handler: Option<Box<dyn Handler>>) {
        let mut before =
            std::mem::replace(&mut self.pipeline, Pipeline::new(Arc::clone(&self.function), handler));
        self.pipeline.take_tables(&mut before);
    }

    /// Another handler goes on with the state as it was written. Of a restart nothing else is to be seen.
    pub fn hand_over(&mut self, handler: Option<Box<dyn Handler>>) -> anyhow::Result<()> {
        self.exchange(handler);
        self.lane.as_mut().map_or(Ok(()), Lane::reload).context("the state cannot be restored")
    }
}

impl Delivery {
    /// How it ended, in a word.
    pub fn ending(&self) -> Ending {
        if self.stopped.is_some() {
            return Ending::Stop;
        }
        match self.settled {
            None | Some(Settled::Ok { .. }) => Ending::Ok,
            Some(Settled::Skipped) => Ending::Skip,
            Some(Settled::Filtered) => Ending::Filtered,
            Some(Settled::DeadLetter { .. }) => Ending::DeadLetter,
            Some(Settled::Retry { .. }) => Ending::Retry,
            Some(Settled::Stop { .. }) => Ending::Stop,
        }
    }

    /// The reason of the event's dead letter.
    pub fn reason(&self) -> Option<&'static str> {
        match &self.settled {
            Some(Settled::DeadLetter { reason, .. }) => Some(reason.as_str()),
            _ => None,
        }
    }

    /// What went wrong.
    pub fn error(&self) -> Option<&str> {
        match &self.settled {
            Some(Settled::DeadLetter { error, .. }) => Some(error),
            Some(Settled::Retry { message, .. } | Settled::Stop { message, .. }) => Some(message),
            _ => self.stopped.as_deref(),
        }
    }

    /// What was written to sinks.
    pub fn outputs(&self) -> impl Iterator<Item = &Written> {
        self.written.iter().filter(|written| written.sink.is_some())
    }

    /// The dead letters, late events among them.
    pub fn letters(&self) -> impl Iterator<Item = &Written> {
        self.written.iter().filter(|written| written.sink.is_none())
    }

    /// The dead letters that windows became.
    pub fn letters_of_windows(&self) -> impl Iterator<Item = &Written> {
        // That of the event itself is the first: what it closes comes after it.
        self.letters().skip(usize::from(matches!(self.settled, Some(Settled::DeadLetter { .. }))))
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

impl Written {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().rev().find(|(known, _)| known == name);
        found.and_then(|(_, value)| std::str::from_utf8(value.0.as_deref()?).ok())
    }
}

/// Keeps what the pipeline writes, and what it says of windows.
pub struct List<'a> {
    function: &'a Function,
    written: Vec<Written>,
    /// Key and value of an event that was sent to the stitch topic.
    sent: Option<(Vec<u8>, Vec<u8>)>,
    waiting: Option<String>,
    /// The function stops: why.
    pub stopped: Option<String>,
}

impl<'a> List<'a> {
    fn new(function: &'a Function) -> Self {
        Self { function, written: Vec::new(), sent: None, waiting: None, stopped: None }
    }

    /// Notes what results came to.
    pub fn note(&mut self, pipeline: &mut Pipeline) {
        let given = pipeline.take_given();
        if given.must_stop {
            self.stopped.get_or_insert(given.error);
        } else if !given.error.is_empty() {
            self.waiting = Some(given.error);
        }
    }

    /// What was sent to the stitch topic.
    pub fn take_sent(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.sent.take()
    }

    fn delivery(self, settled: Option<Settled>) -> Delivery {
        Delivery { settled, written: self.written, waiting: self.waiting, stopped: self.stopped }
    }
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
            Target::Late => {
                let late = self.function.window.as_ref().and_then(|window| window.late_topic.as_ref());
                (None, late.unwrap_or(&self.function.delivery.dead_letter_topic).clone())
            }
            Target::Stitch => {
                let bytes = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
                self.sent = Some((bytes(out.key), bytes(out.value)));
                return;
            }
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
        table: None,
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
