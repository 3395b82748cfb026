//! A resolved function as a manifest again: every default written out, so that nothing is left to
//! guess, and loadable.

use saphyr::{Mapping, Scalar, Yaml, YamlEmitter};
use serde_json::Value;

use super::filter::written;
use super::spec::{
    ApiVersion, Circuit, CloudEvents, Create, DeadLetter, Delivery, FunctionKind, FunctionManifest, Handler,
    Kafka, Key, Limits, Metadata, Retry, Scale, Sink, Source, Spec, Time,
};
use super::window_spec::Table;
use super::{schedule, text, window};
use crate::model::{self, Format, Function, KeySpec, StartAt, TimeSpec};

/// Keys in the order in which a person writes them; others follow by the alphabet.
const ORDER: [&str; 36] = [
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "name",
    "namespace",
    "labels",
    "group",
    "handler",
    "plugin",
    "crate",
    "sha256",
    "entry",
    "sources",
    "topic",
    "format",
    "startAt",
    "filters",
    "key",
    "order",
    "window",
    "tumbling",
    "hopping",
    "sliding",
    "session",
    "at",
    "count",
    "fire",
    "aggregate",
    "op",
    "state",
    "sinks",
    "delivery",
    "scale",
    "limits",
    "kafka",
];

/// The resolved manifest as one YAML document, defaults filled in. References to secrets stay references.
pub fn render(function: &Function) -> String {
    let value = render_json(function);
    let mut text = String::new();
    let mut emitter = YamlEmitter::new(&mut text);
    emitter.dump(&yaml(&value)).expect("writing to a string does not fail");
    text.push('\n');
    text
}

/// The resolved manifest as JSON.
pub fn render_json(function: &Function) -> Value {
    let mut value = serde_json::to_value(manifest(function)).expect("the YAML types have text keys only");
    for (place, _) in function.sources.iter().enumerate().filter(|(_, source)| source.schedule.is_some()) {
        // What a clock has no choice in.
        if let Some(source) = value["spec"]["sources"][place].as_object_mut() {
            source.retain(|key, _| key != "format" && key != "startAt");
        }
    }
    value
}

fn manifest(function: &Function) -> FunctionManifest {
    FunctionManifest {
        api_version: ApiVersion::V1Alpha1,
        kind: FunctionKind::Function,
        metadata: Metadata {
            name: function.name.name.clone(),
            namespace: function.name.namespace.clone(),
            labels: function.labels.clone(),
        },
        spec: Spec {
            group: Some(function.group.clone()),
            handler: function.handler.as_ref().map(handler),
            sources: function.sources.iter().map(source).collect(),
            order: function.order,
            window: function
                .window
                .as_ref()
                .filter(|_| function.has_window())
                .map(|window| window::written(window, &function.sources)),
            state: window::written_state(function),
            time: function.window.as_ref().filter(|_| !function.has_window()).map(window::written_time),
            sinks: function.sinks.iter().map(sink).collect(),
            delivery: delivery(&function.delivery),
            scale: Some(scale(&function.scale))
                .filter(|written| function.is_scaled || *written != Scale::default()),
            limits: Limits { memory: text::size_text(function.memory) },
            kafka: Kafka {
                consumer: function.kafka.consumer.clone(),
                producer: function.kafka.producer.clone(),
            },
        },
    }
}

fn scale(scale: &model::ScaleSpec) -> Scale {
    Scale {
        min: scale.min,
        max: scale.max.unwrap_or(0),
        drain_within: scale.drain_within.into(),
        park_after: scale.park_after.map(Into::into),
        zero_after: scale.zero_after.into(),
    }
}

fn handler(handler: &model::HandlerSpec) -> Handler {
    Handler {
        plugin: handler.plugin.display().to_string(),
        crate_dir: handler.crate_dir.as_ref().map(|folder| folder.display().to_string()),
        sha256: handler.sha256.clone(),
        entry: handler.entry.clone(),
        config: handler.config.as_object().cloned().unwrap_or_default(),
        timeout: handler.timeout.into(),
        concurrency: handler.concurrency,
        on_hang: handler.on_hang,
        rate: handler.rate.map(text::rate_text),
    }
}

fn source(source: &model::Source) -> Source {
    let key = match source.key.clone() {
        KeySpec::Record => None,
        KeySpec::Header(header) => Some(Key { header: Some(header), ..Key::default() }),
        KeySpec::Attribute(name) => Some(Key { attribute: Some(name), ..Key::default() }),
        KeySpec::Fields(fields) => Some(Key { fields: Some(fields), ..Key::default() }),
    };
    let time = match source.time.clone() {
        TimeSpec::Record => None,
        TimeSpec::Attribute(name) => Some(Time { attribute: Some(name), ..Time::default() }),
        TimeSpec::Field { path, format } => {
            Some(Time { field: Some(path), format: Some(format), attribute: None })
        }
    };
    Source {
        topic: source.schedule.is_none().then(|| source.topic.clone()),
        schedule: source.schedule.as_ref().map(schedule::written),
        name: Some(source.name.clone()),
        format: source.format,
        start_at: match source.start_at {
            StartAt::Earliest => "earliest".to_owned(),
            StartAt::Latest => "latest".to_owned(),
            StartAt::Time(millis) => jiff::Timestamp::from_millisecond(millis)
                .expect("a start time was parsed from a timestamp")
                .to_string(),
        },
        filters: source.filters.iter().map(written).collect(),
        key,
        time,
        table: source.table.map(|scope| Table { scope }),
    }
}

fn sink(sink: &model::Sink) -> Sink {
    let cloudevents = &sink.cloudevents;
    Sink {
        name: Some(sink.name.clone()),
        topic: sink.topic.clone(),
        format: sink.format,
        cloudevents: (sink.format == Format::CloudEvents).then(|| CloudEvents {
            event_type: Some(cloudevents.event_type.clone()),
            source: Some(cloudevents.source.clone()),
            mode: cloudevents.mode,
            partition_key: cloudevents.partition_key,
        }),
        filters: sink.filters.iter().map(written).collect(),
        create: sink.create.as_ref().map(|create| Create {
            partitions: create.partitions,
            replication: create.replication,
            config: create.config.clone(),
        }),
    }
}

fn delivery(delivery: &model::Delivery) -> Delivery {
    let retry = &delivery.retry;
    Delivery {
        guarantee: delivery.guarantee,
        commit_interval: delivery.commit_interval.into(),
        retry: Retry {
            max_attempts: retry.max_attempts,
            initial: retry.initial.into(),
            factor: retry.factor,
            max: retry.max.into(),
            jitter: retry.jitter,
            max_held: delivery.max_held as u32,
        },
        circuit: Circuit { keys: delivery.circuit.keys as u32, within: delivery.circuit.within.into() },
        on_exhausted: delivery.on_exhausted,
        dead_letter: DeadLetter { topic: Some(delivery.dead_letter_topic.clone()) },
        max_event_age: delivery.max_event_age.into(),
        origin_headers: delivery.origin_headers,
    }
}

fn yaml(value: &Value) -> Yaml<'_> {
    match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(value) => Yaml::Value(Scalar::Boolean(*value)),
        Value::Number(number) => Yaml::Value(Scalar::parse_from_cow(number.to_string().into())),
        Value::String(text) => Yaml::Value(Scalar::String(text.into())),
        Value::Array(items) => Yaml::Sequence(items.iter().map(yaml).collect()),
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort_by_key(|key| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
            let mut mapping = Mapping::new();
            for key in keys {
                mapping.insert(Yaml::Value(Scalar::String(key.into())), yaml(&map[key]));
            }
            Yaml::Mapping(mapping)
        }
    }
}
