//! What the pipeline's tests are set up from: owned records, a function around some sinks, and a writer
//! that keeps what it is given.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tidemill::model::{
    CircuitSpec, CloudEventsMode, CloudEventsSink, Delivery, Emit, Filter, Format, Function, FunctionName,
    Guarantee, KafkaSettings, KeyChoice, KeySpec, OnExhausted, Order, Outbox, Record, Retry, ScaleSpec, Sink,
    Source, StartAt, TimeSpec, lend_headers, own_headers,
};
use tidemill::pipeline::{OutRecord, Target, Writer};

pub type OwnedHeaders = Vec<(String, Option<Vec<u8>>)>;

/// A record that owns its bytes.
#[derive(Debug, Clone)]
pub struct Stored {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
    pub timestamp_ms: i64,
}

/// 2023-11-14T22:13:20.5Z
pub const TIME_MS: i64 = 1_700_000_000_500;

impl Stored {
    pub fn new(value: impl AsRef<[u8]>) -> Self {
        Self {
            key: Some(b"k1".to_vec()),
            value: Some(value.as_ref().to_vec()),
            headers: Vec::new(),
            timestamp_ms: TIME_MS,
        }
    }

    pub fn null() -> Self {
        Self { value: None, ..Self::new("") }
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), Some(value.as_ref().to_vec())));
        self
    }

    pub fn null_header(mut self, name: &str) -> Self {
        self.headers.push((name.to_owned(), None));
        self
    }

    /// With the four required attributes of a CloudEvent in binary mode.
    pub fn binary(value: impl AsRef<[u8]>) -> Self {
        Self::new(value)
            .header("ce_specversion", "1.0")
            .header("ce_id", "A1")
            .header("ce_source", "/rides")
            .header("ce_type", "ride.completed")
    }

    /// A CloudEvent in structured mode.
    pub fn structured(document: impl AsRef<[u8]>) -> Self {
        Self::new(document).header("content-type", "application/cloudevents+json; charset=UTF-8")
    }

    pub fn record(&self) -> Record<'_> {
        Record {
            topic: "rides",
            partition: 3,
            offset: 42,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            // Leaked: a test's memory goes with its process.
            headers: Box::leak(Box::new(lend_headers(&self.headers))),
        }
    }
}

/// One output as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub target: Target,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
    pub timestamp_ms: Option<i64>,
}

impl Written {
    /// The only header `name`, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next()?.1.as_deref().expect("a header with a value");
        assert!(found.next().is_none(), "`{name}` comes once in {:?}", self.headers);
        Some(std::str::from_utf8(value).expect("a header of text"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().expect("a value")).expect("a value of text")
    }

    /// The record that a reader of the sink would get.
    pub fn stored(&self) -> Stored {
        Stored {
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            timestamp_ms: self.timestamp_ms.unwrap_or(-1),
        }
    }
}

/// Keeps what is written.
#[derive(Debug, Default)]
pub struct Recorder(pub Vec<Written>);

impl Writer for Recorder {
    fn write(&mut self, out: &OutRecord<'_>) {
        self.0.push(Written {
            target: out.target,
            key: out.key.map(<[u8]>::to_vec),
            value: out.value.map(<[u8]>::to_vec),
            headers: own_headers(out.headers),
            timestamp_ms: out.timestamp_ms,
        });
    }
}

pub fn source(format: Format) -> Source {
    Source {
        topic: "rides".to_owned(),
        name: "ride".to_owned(),
        format,
        start_at: StartAt::Earliest,
        filters: Vec::new(),
        key: KeySpec::Record,
        time: TimeSpec::Record,
        schedule: None,
        table: None,
    }
}

pub fn sink(name: &str, format: Format) -> Sink {
    Sink {
        name: name.to_owned(),
        topic: format!("{name}-topic"),
        format,
        cloudevents: CloudEventsSink {
            event_type: format!("default.receipts.{name}"),
            source: "/tidemill/default/receipts".to_owned(),
            mode: CloudEventsMode::Binary,
            partition_key: false,
        },
        filters: Vec::new(),
        create: None,
    }
}

pub fn structured_sink(name: &str) -> Sink {
    let mut sink = sink(name, Format::CloudEvents);
    sink.cloudevents.mode = CloudEventsMode::Structured;
    sink
}

pub fn filtered(mut sink: Sink, filter: Filter) -> Sink {
    sink.filters.push(filter);
    sink
}

pub fn function(sinks: Vec<Sink>) -> Function {
    Function {
        name: FunctionName { namespace: "default".to_owned(), name: "receipts".to_owned() },
        labels: BTreeMap::new(),
        group: "tidemill.default.receipts".to_owned(),
        handler: None,
        sources: vec![source(Format::Auto)],
        order: Order::Key,
        window: None,
        max_state: 1 << 30,
        state_topic: "receipts.state".to_owned(),
        stitch_topic: None,
        sinks,
        delivery: Delivery {
            guarantee: Guarantee::ExactlyOnce,
            commit_interval: Duration::from_millis(100),
            retry: Retry {
                max_attempts: 12,
                initial: Duration::from_millis(200),
                factor: 2.0,
                max: Duration::from_secs(30),
                jitter: 0.2,
            },
            max_held: 1000,
            circuit: CircuitSpec { keys: 5, within: Duration::from_secs(10) },
            on_exhausted: OnExhausted::DeadLetter,
            dead_letter_topic: "receipts.dlq".to_owned(),
            redrive_topic: "receipts.redrive".to_owned(),
            max_event_age: Duration::ZERO,
            origin_headers: false,
        },
        workers: 1,
        scale: ScaleSpec {
            min: 0,
            max: None,
            drain_within: Duration::from_secs(30),
            park_after: None,
            zero_after: Duration::from_secs(60),
        },
        is_scaled: false,
        memory: 256 << 20,
        kafka: KafkaSettings::default(),
        file: PathBuf::from("function.yaml"),
    }
}

/// An output with a value and nothing else.
pub fn emit(value: &[u8]) -> Emit<'_> {
    Emit {
        sink: None,
        key: KeyChoice::OfEvent,
        value: Some(value),
        content_type: None,
        timestamp_ms: None,
        headers: &[],
    }
}

pub fn outbox(emits: &[Emit<'_>]) -> Outbox {
    let mut outbox = Outbox::default();
    for emit in emits {
        assert!(outbox.push(emit));
    }
    outbox
}
