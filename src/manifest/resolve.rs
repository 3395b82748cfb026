//! From a manifest's YAML types to the model: rules that no schema can say, defaults that depend on
//! names, files found beside the manifest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::document::{Document, join};
use super::secret::Secret;
use super::spec::{
    CloudEvents, Create, Delivery, FunctionManifest, Handler, Kafka, Key, Scale, Sink, Source, Time,
};
use super::{defaults, filter, owned, spec, text};
use crate::model::{
    self, CloudEventsSink, CreateTopic, Format, Function, FunctionName, HandlerSpec, KafkaSettings, KeySpec,
    ScaleSpec, StartAt, TimeFormat, TimeSpec,
};

/// The room that a group's name leaves for the suffixes of internal topics (`.stitch`, `.redrive`).
const MAX_GROUP: usize = 240;

/// The least memory of a worker: below, the clients' queues would hold less than a few fetches.
const LEAST_MEMORY: u64 = 16 << 20;

/// The function that `manifest` describes; what does not hold is noted in `document`, and then the
/// result is not to be used.
pub(super) fn resolve(document: &mut Document, manifest: FunctionManifest, file: &Path) -> Function {
    let mut resolver = Resolver { folder: folder_of(file), document };
    let function = resolver.function(manifest, file);
    resolver.cross_check(&function);
    function
}

/// One document on its way to the model.
pub(super) struct Resolver<'a> {
    folder: PathBuf,
    pub(super) document: &'a mut Document,
}

impl Resolver<'_> {
    fn function(&mut self, manifest: FunctionManifest, file: &Path) -> Function {
        let name = FunctionName { namespace: manifest.metadata.namespace, name: manifest.metadata.name };
        self.hold("metadata.name", text::label(&name.name));
        self.hold("metadata.namespace", text::label(&name.namespace));
        let spec = manifest.spec;
        let group = spec.group.unwrap_or_else(|| defaults::group(&name));
        if text::topic(&group).is_err() || group.len() > MAX_GROUP {
            let message = format!(
                "{group:?} is no group: it prefixes topics, so 1 to {MAX_GROUP} of a-z, A-Z, 0-9, `.`, `_` and `-`"
            );
            self.document.refuse("spec.group", message);
        }
        let sinks = spec.sinks.len();
        let sources = indexed("spec.sources", spec.sources, |path, source| self.source(path, source, &name));
        let (state, max_state) = self.state(spec.state);
        let window = self.gathered((spec.window, spec.time), state, &sources);
        // One source by its record key is gathered where it is.
        let mut shared = sources.iter().filter(|source| !source.is_read_by_all());
        let is_by_record =
            shared.next().is_none_or(|source| source.key == KeySpec::Record) && shared.next().is_none();
        let stitch_topic = (window.is_some() && !is_by_record).then(|| defaults::stitch_topic(&name));
        Function {
            labels: manifest.metadata.labels,
            group,
            handler: spec.handler.map(|handler| self.handler(handler)),
            sources,
            order: spec.order,
            window,
            max_state,
            state_topic: defaults::state_topic(&name),
            stitch_topic,
            sinks: indexed("spec.sinks", spec.sinks, |path, sink| self.sink(path, sink, sinks, &name)),
            delivery: self.delivery(spec.delivery, &name),
            workers: spec.scale.as_ref().map_or(1, |scale| scale.min.max(1)),
            is_scaled: spec.scale.as_ref().is_some_and(|scale| scale.max == 0 || scale.max > scale.min),
            scale: self.scale(&spec.scale.unwrap_or_default()),
            memory: self.size("spec.limits.memory", &spec.limits.memory, LEAST_MEMORY),
            kafka: self.kafka(spec.kafka),
            file: file.to_owned(),
            name,
        }
    }

    fn scale(&mut self, scale: &Scale) -> ScaleSpec {
        let Scale { min, max, ref drain_within, ref park_after, ref zero_after } = *scale;
        if max != 0 && max < min {
            let message = format!("{max} is less than min, {min}; 0 is as many as there are partitions");
            self.document.refuse("spec.scale.max", message);
        }
        let drain_within = self.duration("spec.scale.drainWithin", drain_within);
        if drain_within.is_zero() {
            self.document.refuse("spec.scale.drainWithin", "must be longer than zero");
        }
        let zero_after = self.duration("spec.scale.zeroAfter", zero_after);
        let park_after = park_after.as_ref().map(|text| self.duration("spec.scale.parkAfter", text));
        if park_after.is_some_and(|after| after.is_zero()) {
            self.document.refuse("spec.scale.parkAfter", "must be longer than zero");
        }
        if min == 0 && park_after.is_some_and(|after| after >= zero_after) {
            let message = "must be shorter than `zeroAfter`, after which no worker is left";
            self.document.refuse("spec.scale.parkAfter", message);
        }
        ScaleSpec { min, max: (max != 0).then_some(max), drain_within, park_after, zero_after }
    }

    fn handler(&mut self, handler: Handler) -> HandlerSpec {
        let sha256 = handler.sha256.map(|digest| digest.to_ascii_lowercase());
        let hex = |digest: &String| digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        if sha256.as_ref().is_some_and(|digest| !hex(digest)) {
            self.document.refuse("spec.handler.sha256", "a SHA-256 has 64 hex digits");
        }
        let config = Value::Object(handler.config);
        self.references("spec.handler.config", &config);
        let timeout = self.duration("spec.handler.timeout", &handler.timeout);
        if timeout.is_zero() {
            self.document.refuse("spec.handler.timeout", "must be longer than zero");
        }
        let rate = handler.rate.as_deref().map(text::rate).transpose();
        let rate = rate.unwrap_or_else(|message| {
            self.document.refuse("spec.handler.rate", message);
            None
        });
        HandlerSpec {
            plugin: self.plugin(&handler.plugin),
            crate_dir: handler.crate_dir.map(|folder| plain(&self.folder.join(folder))),
            sha256,
            entry: handler.entry,
            config,
            timeout,
            concurrency: handler.concurrency,
            on_hang: handler.on_hang,
            rate,
        }
    }

    fn plugin(&mut self, plugin: &str) -> PathBuf {
        let path = plain(&self.folder.join(plugin));
        match (path.extension(), path.file_name().and_then(|name| name.to_str())) {
            (Some(extension), _) if extension == "wasm" => {
                let message = "WebAssembly plugins are not yet supported in this version";
                self.document.refuse("spec.handler.plugin", message);
                path
            }
            (None, Some(name)) => path.with_file_name(format!(
                "{}{name}{}",
                std::env::consts::DLL_PREFIX,
                std::env::consts::DLL_SUFFIX
            )),
            _ => path,
        }
    }

    fn references(&mut self, path: &str, config: &Value) {
        match config {
            Value::String(text) => {
                if let Err(error) = Secret::parse(text) {
                    self.document.refuse(path, error.to_string());
                }
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| self.references(&format!("{path}[{i}]"), item));
            }
            Value::Object(map) => map.iter().for_each(|(key, item)| self.references(&join(path, key), item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn source(&mut self, path: &str, source: Source, function: &FunctionName) -> model::Source {
        if source.schedule.is_some() {
            return self.clock(path, source, function);
        }
        let topic = source.topic.unwrap_or_default();
        match topic.is_empty() {
            // An unknown key may have been meant.
            true if self.document.is_refused(path) => {}
            true => self.document.refuse(&join(path, "topic"), "is missing: give `topic` or `schedule`"),
            false => self.hold(&join(path, "topic"), text::topic(&topic)),
        }
        let start_at = self.start_at(&join(path, "startAt"), &source.start_at);
        model::Source {
            name: source.name.unwrap_or_else(|| topic.clone()),
            topic,
            format: source.format,
            start_at,
            filters: filter::resolve(self.document, &join(path, "filters"), source.filters),
            key: source.key.map_or(KeySpec::Record, |key| self.key(&join(path, "key"), key)),
            time: source.time.map_or(TimeSpec::Record, |time| self.time(&join(path, "time"), time)),
            schedule: None,
            table: source.table.map(|table| table.scope),
        }
    }

    fn start_at(&mut self, path: &str, start_at: &str) -> StartAt {
        match start_at {
            "earliest" => StartAt::Earliest,
            "latest" => StartAt::Latest,
            time => match time.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond) {
                Ok(millis) if millis >= 0 => StartAt::Time(millis),
                Ok(_) => {
                    self.document.refuse(path, "a time before 1970: use `earliest`");
                    StartAt::Earliest
                }
                Err(_) => {
                    let message = match text::nearest(time, ["earliest", "latest"]) {
                        Some(near) => format!("unknown word `{time}`, did you mean `{near}`?"),
                        None => format!(
                            "{time:?} is none of `earliest`, `latest` and a time as in `2026-01-31T12:00:00Z`"
                        ),
                    };
                    self.document.refuse(path, message);
                    StartAt::Earliest
                }
            },
        }
    }

    fn key(&mut self, path: &str, key: Key) -> KeySpec {
        if let Some(fields) = key.fields {
            for (index, field) in fields.iter().enumerate() {
                self.hold(&format!("{}[{index}]", join(path, "fields")), text::pointer(field));
            }
            return KeySpec::Fields(fields);
        }
        if let Some(header) = key.header {
            return KeySpec::Header(header);
        }
        key.attribute.map_or(KeySpec::Record, |attribute| {
            self.hold(&join(path, "attribute"), text::attribute(&attribute));
            KeySpec::Attribute(attribute)
        })
    }

    fn time(&mut self, path: &str, time: Time) -> TimeSpec {
        match (time.field, time.attribute) {
            (Some(field), None) => {
                self.hold(&join(path, "field"), text::pointer(&field));
                TimeSpec::Field { path: field, format: time.format.unwrap_or(TimeFormat::Rfc3339) }
            }
            (None, Some(attribute)) => {
                self.hold(&join(path, "attribute"), text::attribute(&attribute));
                if time.format.is_some() {
                    let message = "an attribute is always written as RFC 3339 has it: remove it";
                    self.document.refuse(&join(path, "format"), message);
                }
                TimeSpec::Attribute(attribute)
            }
            (field, _) => {
                let message = match field {
                    Some(_) => "give only one of `field`, `attribute`",
                    None => "give one of `field`, `attribute`",
                };
                self.document.refuse(path, message);
                TimeSpec::Record
            }
        }
    }

    fn sink(&mut self, path: &str, sink: Sink, sinks: usize, function: &FunctionName) -> model::Sink {
        self.hold(&join(path, "topic"), text::topic(&sink.topic));
        if sink.cloudevents.is_some() && sink.format != Format::CloudEvents {
            let message = "is for `format: cloudevents` only: set that too, or remove it";
            self.document.refuse(&join(path, "cloudevents"), message);
        }
        let name = sink.name.unwrap_or_else(|| defaults::sink_name(&sink.topic, sinks));
        model::Sink {
            cloudevents: cloudevents(sink.cloudevents, function, &name),
            name,
            topic: sink.topic,
            format: sink.format,
            filters: filter::resolve(self.document, &join(path, "filters"), sink.filters),
            create: sink.create.map(|Create { partitions, replication, config }| CreateTopic {
                partitions,
                replication,
                config,
            }),
        }
    }

    fn delivery(&mut self, delivery: Delivery, function: &FunctionName) -> model::Delivery {
        let retry = delivery.retry;
        let initial = self.duration("spec.delivery.retry.initial", &retry.initial);
        let max = self.duration("spec.delivery.retry.max", &retry.max);
        if max < initial {
            let message = format!("is shorter than `initial` ({})", text::duration_text(initial));
            self.document.refuse("spec.delivery.retry.max", message);
        }
        let commit_interval = self.duration("spec.delivery.commitInterval", &delivery.commit_interval);
        if commit_interval.is_zero() {
            self.document.refuse("spec.delivery.commitInterval", "must be longer than zero");
        }
        let topic = delivery.dead_letter.topic.unwrap_or_else(|| defaults::dead_letter_topic(function));
        self.hold("spec.delivery.deadLetter.topic", text::topic(&topic));
        model::Delivery {
            guarantee: delivery.guarantee,
            commit_interval,
            retry: model::Retry {
                max_attempts: retry.max_attempts,
                initial,
                factor: retry.factor,
                max,
                jitter: retry.jitter,
            },
            max_held: retry.max_held as usize,
            circuit: model::CircuitSpec {
                keys: delivery.circuit.keys as usize,
                within: self.duration("spec.delivery.circuit.within", &delivery.circuit.within),
            },
            on_exhausted: delivery.on_exhausted,
            dead_letter_topic: topic,
            redrive_topic: defaults::redrive_topic(function),
            max_event_age: self.duration("spec.delivery.maxEventAge", &delivery.max_event_age),
            origin_headers: delivery.origin_headers,
        }
    }

    fn kafka(&mut self, kafka: Kafka) -> KafkaSettings {
        for (client, settings) in [("consumer", &kafka.consumer), ("producer", &kafka.producer)] {
            for name in settings.keys() {
                if let Some(message) = owned::by_function(name) {
                    self.document.refuse(&join(&join("spec.kafka", client), name), message);
                }
            }
        }
        KafkaSettings { consumer: kafka.consumer, producer: kafka.producer }
    }

    /// Rules between the parts of one function.
    fn cross_check(&mut self, function: &Function) {
        let Function { sources, sinks, delivery, .. } = function;
        // What was refused has been taken out, and would seem to be missing here.
        if sinks.is_empty() && self.document.errors.is_empty() {
            if function.has_window() {
                let message = "has a `window` and no `sinks`: its results would go nowhere";
                self.document.refuse("spec", message);
            } else if function.handler.is_none() {
                self.document.refuse("spec", "has neither `handler` nor `sinks`: it would do nothing");
            }
        }
        self.check_clocks(function);
        self.check_tables(function);
        if let Some(window) = &function.window {
            self.check_window(function, window);
        }
        for (index, source) in sources.iter().enumerate() {
            let path = format!("spec.sources[{index}]");
            // Clocks of one name are told so, and not by the topics that are named after them.
            let is_named_after =
                |other: &model::Source| other.schedule.is_some() && source.schedule.is_some();
            let is_same = |other: &model::Source| other.topic == source.topic && !is_named_after(other);
            if let Some(other) = sources[..index].iter().position(is_same) {
                let message = format!("spec.sources[{other}] reads {:?} too: read it once", source.topic);
                self.document.refuse(&join(&path, "topic"), message);
            } else if let Some(other) = sources[..index].iter().position(|other| other.name == source.name) {
                let message = format!("spec.sources[{other}] is called {:?} too", source.name);
                self.document.refuse(&join(&path, "name"), message);
            }
        }
        for (index, sink) in sinks.iter().enumerate() {
            let path = format!("spec.sinks[{index}]");
            if let Some(other) = sinks[..index].iter().position(|other| other.name == sink.name) {
                let message = format!("spec.sinks[{other}] is called {:?} too", sink.name);
                self.document.refuse(&join(&path, "name"), message);
            }
            if let Some(source) = sources.iter().position(|source| source.topic == sink.topic) {
                let message = format!(
                    "spec.sources[{source}] reads {:?}: the function would feed itself for ever",
                    sink.topic
                );
                self.document.refuse(&join(&path, "topic"), message);
            }
        }
        let dead = &delivery.dead_letter_topic;
        let source = sources.iter().position(|source| source.topic == *dead);
        let sink = sinks.iter().position(|sink| sink.topic == *dead);
        let other =
            source.map(|index| format!("sources[{index}]")).or(sink.map(|index| format!("sinks[{index}]")));
        if let Some(other) = other {
            let message = format!("{dead:?} is the topic of spec.{other} too: dead letters need their own");
            self.document.refuse("spec.delivery.deadLetter.topic", message);
        }
        self.keep_apart(
            function,
            &delivery.redrive_topic,
            "where the function's dead letters come back from",
        );
        if function.window.is_some() {
            self.keep_apart(function, &function.state_topic, "where the function keeps its state");
        }
        if let Some(topic) = &function.stitch_topic {
            self.keep_apart(function, topic, "where the function brings its sources together");
        }
        if let Some(topic) = function.window.as_ref().and_then(|window| window.late_topic.as_ref()) {
            self.keep_apart(function, topic, "where the function's late events go");
        }
    }

    /// Nothing else goes through a topic that the function has to itself.
    fn keep_apart(&mut self, function: &Function, own: &str, purpose: &str) {
        let Function { sources, sinks, delivery, .. } = function;
        let sources = sources.iter().enumerate().map(|(i, source)| (format!("sources[{i}]"), &source.topic));
        let sinks = sinks.iter().enumerate().map(|(i, sink)| (format!("sinks[{i}]"), &sink.topic));
        let dead = ("delivery.deadLetter".to_owned(), &delivery.dead_letter_topic);
        for (path, _) in sources.chain(sinks).chain([dead]).filter(|(_, topic)| *topic == own) {
            self.document.refuse(&format!("spec.{path}.topic"), format!("{own:?} is {purpose}"));
        }
    }

    /// A size of at least `least` bytes.
    pub(super) fn size(&mut self, path: &str, text: &str, least: u64) -> u64 {
        let size = text::size(text).and_then(|bytes| match bytes {
            bytes if bytes >= least => Ok(bytes),
            _ => Err(format!("{text} is too little to work with: at least {}", text::size_text(least))),
        });
        size.unwrap_or_else(|message| {
            self.document.refuse(path, message);
            least
        })
    }

    pub(super) fn duration(&mut self, path: &str, duration: &spec::DurationText) -> Duration {
        text::duration(&duration.0).unwrap_or_else(|message| {
            self.document.refuse(path, message);
            Duration::ZERO
        })
    }

    pub(super) fn hold(&mut self, path: &str, result: Result<(), String>) {
        if let Err(message) = result {
            self.document.refuse(path, message);
        }
    }
}

fn cloudevents(written: Option<CloudEvents>, function: &FunctionName, sink: &str) -> CloudEventsSink {
    let (event_type, source, mode, partition_key) = match written {
        Some(written) => (written.event_type, written.source, written.mode, written.partition_key),
        None => (None, None, defaults::mode(), defaults::partition_key()),
    };
    CloudEventsSink {
        event_type: event_type.unwrap_or_else(|| defaults::event_type(function, sink)),
        source: source.unwrap_or_else(|| defaults::event_source(function)),
        mode,
        partition_key,
    }
}

fn indexed<T, U>(path: &str, items: Vec<T>, mut each: impl FnMut(&str, T) -> U) -> Vec<U> {
    items.into_iter().enumerate().map(|(index, item)| each(&format!("{path}[{index}]"), item)).collect()
}

/// The folder that a manifest's relative paths begin at.
fn folder_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().map(Path::to_owned).unwrap_or_default()
}

/// `path` without `.` and, where that is safe without looking at links, without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}
