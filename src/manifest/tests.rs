//! Whole manifests: what is taken, what is refused and in which words, and that a rendered one loads.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::{Filter, Format, Function, Guarantee, KeySpec, OnExhausted, Order, StartAt, TimeSpec};

const SMALLEST: &str = "\
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: {name: mill}
spec:
  handler: {plugin: mill}
  sources: [{topic: in}]
  sinks: [{topic: out}]
";

pub(super) fn one(text: &str) -> Function {
    let mut functions =
        parse(Path::new("/f/function.yaml"), text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(functions.len(), 1);
    functions.remove(0)
}

pub(super) fn findings(text: &str) -> Vec<String> {
    match parse(Path::new("f.yaml"), text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn six_lines_are_enough_for_a_working_function() {
    let flow = "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {name: mill}\nspec: {\n  \
                handler: {plugin: mill},\n  sources: [{topic: in}], sinks: [{topic: out}]}\n";
    assert_eq!(flow.lines().count(), 6);
    assert_eq!(one(flow), one(SMALLEST));
}

#[test]
fn the_smallest_manifest_gets_every_default() {
    let function = one(SMALLEST);
    assert_eq!(function.name.to_string(), "default/mill");
    assert_eq!(function.group, "tidemill.default.mill");
    assert_eq!(function.order, Order::Key);
    assert_eq!(function.workers, 1);
    let source = &function.sources[0];
    assert_eq!(
        (source.name.as_str(), source.format, source.start_at),
        ("in", Format::Auto, StartAt::Earliest)
    );
    assert_eq!((&source.key, &source.time), (&KeySpec::Record, &TimeSpec::Record));
    let sink = &function.sinks[0];
    assert_eq!((sink.name.as_str(), sink.format, &sink.create), ("default", Format::Auto, &None));
    assert_eq!(sink.cloudevents.event_type, "default.mill.default");
    assert_eq!(sink.cloudevents.source, "/tidemill/default/mill");
    let delivery = &function.delivery;
    assert_eq!(delivery.guarantee, Guarantee::ExactlyOnce);
    assert_eq!(delivery.commit_interval, Duration::from_millis(100));
    assert_eq!((delivery.retry.max_attempts, delivery.retry.factor, delivery.retry.jitter), (12, 2.0, 0.2));
    assert_eq!(delivery.retry.initial, Duration::from_millis(200));
    assert_eq!(delivery.retry.max, Duration::from_secs(30));
    assert_eq!(delivery.on_exhausted, OnExhausted::DeadLetter);
    assert_eq!(delivery.dead_letter_topic, "mill.dlq");
    assert_eq!(delivery.redrive_topic, "mill.redrive");
    assert_eq!(delivery.max_event_age, Duration::ZERO);
    let handler = function.handler.unwrap();
    let file = format!("/f/{}mill{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    assert_eq!(handler.plugin, Path::new(&file));
    assert_eq!((handler.timeout, handler.config), (Duration::from_secs(5), json!({})));
}

#[test]
fn a_null_operand_is_a_value() {
    let text = SMALLEST.replace("{topic: in}", "{topic: in, filters: [{field: {path: /a, eq: null}}]}");
    assert_eq!(
        one(&text).sources[0].filters,
        [Filter::Field { path: "/a".to_owned(), tests: vec![crate::model::FieldTest::Eq(json!(null))] }]
    );
}

/// Each row replaces one part of the smallest manifest, and names what is then found.
#[test]
fn what_is_refused_is_named_with_line_path_and_remedy() {
    let source = |rest: &'static str| ("{topic: in}", rest);
    let rows: &[((&str, &str), &[&str])] = &[
        (
            ("v1alpha1", "v1"),
            &["1: apiVersion: unknown word `tidemill.dev/v1`, did you mean `tidemill.dev/v1alpha1`?"],
        ),
        (("kind: Function", "kind: Funtion"), &["2: kind: unknown word `Funtion`, did you mean `Function`?"]),
        (("kind: Function\n", ""), &["1: kind: is missing"]),
        (
            ("kind: Function", "kind: Platform"),
            &["2: kind: these are the platform's settings: give the file with --config"],
        ),
        (("name: mill", "nmae: mill"), &["3: metadata.nmae: unknown key, did you mean `name`?"]),
        (
            ("name: mill", "name: Mill"),
            &[
                "3: metadata.name: \"Mill\" is no name: up to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
            ],
        ),
        (("name: mill", "name: 7"), &["3: metadata.name: expected text, found the number 7: write \"7\""]),
        (
            ("name: mill", "name: mill, namespace: a.b"),
            &[
                "3: metadata.namespace: \"a.b\" is no name: up to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
            ],
        ),
        (
            ("name: mill", "name: mill, labels: {a: true}"),
            &["3: metadata.labels.a: expected text, found `true`: write \"true\""],
        ),
        (
            ("spec:", "spec:\n  time: {}"),
            &[
                "5: spec.time: is for functions with `state` or a table: event time moves nothing here; remove it",
            ],
        ),
        (
            ("spec:", "spec:\n  scale: {min: 0, max: 2, drainWithin: 1s, parkAfter: 1s, zeroAfter: 1s}"),
            &["5: spec.scale.parkAfter: must be shorter than `zeroAfter`, after which no worker is left"],
        ),
        (
            ("spec:", "spec:\n  scale: {parkAfter: 0s}"),
            &["5: spec.scale.parkAfter: must be longer than zero"],
        ),
        (
            ("spec:", "spec:\n  scale: {min: 3, max: 2, drainWithin: 0s}"),
            &[
                "5: spec.scale.max: 2 is less than min, 3; 0 is as many as there are partitions",
                "5: spec.scale.drainWithin: must be longer than zero",
            ],
        ),
        (("spec:", "spec:\n  scale: {min: -1}"), &["5: spec.scale.min: -1 is too small: at least 0"]),
        (("spec:", "spec:\n  order: keys"), &["5: spec.order: unknown word `keys`, did you mean `key`?"]),
        (
            ("spec:", "spec:\n  group: a/b"),
            &[
                "5: spec.group: \"a/b\" is no group: it prefixes topics, so 1 to 240 of a-z, A-Z, 0-9, `.`, `_` and `-`",
            ],
        ),
        (
            ("spec:", "spec:\n  zzz: 1"),
            &[
                "5: spec.zzz: unknown key, known are `delivery`, `group`, `handler`, `kafka`, `limits`, `order`, `scale`, `sinks`, `sources`, `state`, `time`, `window`",
            ],
        ),
        (
            ("plugin: mill", "url: http://x"),
            &["5: spec.handler.url: not yet supported in this version: remove it"],
        ),
        (
            ("plugin: mill", "plugin: mill.wasm"),
            &["5: spec.handler.plugin: WebAssembly plugins are not yet supported in this version"],
        ),
        (("plugin: mill", "plugin: ''"), &["5: spec.handler.plugin: must not be empty"]),
        (
            ("plugin: mill", "plugin: mill, rate: 0/s"),
            &[
                "5: spec.handler.rate: \"0/s\" would never call anything: leave `rate` out, or write at least 1",
            ],
        ),
        (
            ("plugin: mill", "plugin: mill, concurrency: 0"),
            &["5: spec.handler.concurrency: 0 is too small: at least 1"],
        ),
        (
            ("plugin: mill", "plugin: mill, timeout: 5"),
            &["5: spec.handler.timeout: a bare number has no unit: write `5s` or `5ms`"],
        ),
        (
            ("plugin: mill", "plugin: mill, timeout: '5'"),
            &["5: spec.handler.timeout: \"5\" has no unit: write `5s` or `5ms`"],
        ),
        (
            ("plugin: mill", "plugin: mill, timeout: 0s"),
            &["5: spec.handler.timeout: must be longer than zero"],
        ),
        (
            ("plugin: mill", "plugin: mill, sha256: abc"),
            &["5: spec.handler.sha256: a SHA-256 has 64 hex digits"],
        ),
        (
            ("plugin: mill", "plugin: mill, config: {a: ['${vault:x}']}"),
            &[
                "5: spec.handler.config.a[0]: \"${vault:x}\" is no reference: write `${env:NAME}` or `${file:path}`, and nothing around it",
            ],
        ),
        (
            ("handler: {plugin: mill}", "handler:"),
            &["5: spec.handler: has no value: give it one or remove the key"],
        ),
        (("sources: [{topic: in}]", "sources: []"), &["6: spec.sources: must not be empty"]),
        (
            ("sources: [{topic: in}]", "sources: {topic: in}"),
            &["6: spec.sources: expected a list, found a mapping: begin it with `- `"],
        ),
        (
            (
                "  handler: {plugin: mill}\n  sources: [{topic: in}]\n  sinks: [{topic: out}]\n",
                "  sources: [{topic: in}]\n",
            ),
            &["4: spec: has neither `handler` nor `sinks`: it would do nothing"],
        ),
        (("  sources: [{topic: in}]\n", ""), &["4: spec.sources: is missing"]),
        (source("{name: x}"), &["6: spec.sources[0].topic: is missing: give `topic` or `schedule`"]),
        (
            source("{topic: ..}"),
            &["6: spec.sources[0].topic: \"..\" is no topic name: Kafka refuses `.` and `..`"],
        ),
        (
            source("{topic: a b}"),
            &[
                "6: spec.sources[0].topic: \"a b\" is no topic name: 1 to 249 of a-z, A-Z, 0-9, `.`, `_` and `-`",
            ],
        ),
        (
            source("{topic: in, table: {}}"),
            &["6: spec.sources: are all tables, which call nothing: add a source without `table`"],
        ),
        (
            source("{topic: in, format: avro}"),
            &[
                "6: spec.sources[0].format: `avro` is not yet supported in this version; it takes `auto`, `bytes`, `text`, `json`, `cloudevents`",
            ],
        ),
        (
            source("{topic: in, format: protobuf}"),
            &[
                "6: spec.sources[0].format: `protobuf` is not yet supported in this version; it takes `auto`, `bytes`, `text`, `json`, `cloudevents`",
            ],
        ),
        (
            source("{topic: in, startAt: earlyest}"),
            &["6: spec.sources[0].startAt: unknown word `earlyest`, did you mean `earliest`?"],
        ),
        (
            source("{topic: in, startAt: 2026-01-31}"),
            &[
                "6: spec.sources[0].startAt: \"2026-01-31\" is none of `earliest`, `latest` and a time as in `2026-01-31T12:00:00Z`",
            ],
        ),
        (
            source("{topic: in, key: {}}"),
            &["6: spec.sources[0].key: give one of `attribute`, `fields`, `header`"],
        ),
        (
            source("{topic: in, key: {header: a, attribute: b}}"),
            &["6: spec.sources[0].key: give only one of `attribute`, `fields`, `header`"],
        ),
        (
            source("{topic: in, key: {fields: [a/b]}}"),
            &["6: spec.sources[0].key.fields[0]: \"a/b\" is no JSON pointer: write `/a/b`"],
        ),
        (source("{topic: in, key: {fields: []}}"), &["6: spec.sources[0].key.fields: must not be empty"]),
        (
            source("{topic: in, time: {format: ms}}"),
            &["6: spec.sources[0].time: give one of `field`, `attribute`"],
        ),
        (
            source("{topic: in, time: {attribute: time, format: ms}}"),
            &["6: spec.sources[0].time.format: an attribute is always written as RFC 3339 has it: remove it"],
        ),
        (
            source("{topic: in}, {topic: in}"),
            &["6: spec.sources[1].topic: spec.sources[0] reads \"in\" too: read it once"],
        ),
        (
            source("{topic: in}, {topic: b, name: in}"),
            &["6: spec.sources[1].name: spec.sources[0] is called \"in\" too"],
        ),
        (
            ("{topic: out}", "{topic: in}"),
            &[
                "7: spec.sinks[0].topic: spec.sources[0] reads \"in\": the function would feed itself for ever",
            ],
        ),
        (
            ("{topic: out}", "{topic: a, name: x}, {topic: b, name: x}"),
            &["7: spec.sinks[1].name: spec.sinks[0] is called \"x\" too"],
        ),
        (
            ("{topic: out}", "{topic: a, cloudevents: {type: x}}"),
            &["7: spec.sinks[0].cloudevents: is for `format: cloudevents` only: set that too, or remove it"],
        ),
        (
            ("{topic: out}", "{topic: a, create: {partitions: 0}}"),
            &["7: spec.sinks[0].create.partitions: 0 is too small: at least 1"],
        ),
        (
            ("{topic: out}", "{topic: a, create: {config: {retention.ms: 5}}}"),
            &[
                "7: spec.sinks[0].create.config[\"retention.ms\"]: expected text, found the number 5: write \"5\"",
            ],
        ),
        (
            ("spec:", "spec:\n  delivery: {deadLetter: {topic: in}}"),
            &[
                "5: spec.delivery.deadLetter.topic: \"in\" is the topic of spec.sources[0] too: dead letters need their own",
            ],
        ),
        (
            ("spec:", "spec:\n  delivery: {deadLetter: {topic: out}}"),
            &[
                "5: spec.delivery.deadLetter.topic: \"out\" is the topic of spec.sinks[0] too: dead letters need their own",
            ],
        ),
        (
            ("{topic: out}", "{topic: mill.redrive}"),
            &["7: spec.sinks[0].topic: \"mill.redrive\" is where the function's dead letters come back from"],
        ),
        (
            ("spec:", "spec:\n  delivery: {commitInterval: 0s}"),
            &["5: spec.delivery.commitInterval: must be longer than zero"],
        ),
        (
            ("spec:", "spec:\n  delivery: {retry: {maxAttempts: 0, factor: 0.5, jitter: 2}}"),
            &[
                "5: spec.delivery.retry.factor: 0.5 is too small: at least 1",
                "5: spec.delivery.retry.jitter: 2 is too large: at most 1",
                "5: spec.delivery.retry.maxAttempts: 0 is too small: at least 1",
            ],
        ),
        (
            ("spec:", "spec:\n  delivery: {retry: {initial: 1m}}"),
            &["5: spec.delivery.retry.max: is shorter than `initial` (1m)"],
        ),
        (
            ("spec:", "spec:\n  kafka: {consumer: {linger.ms: 5}}"),
            &["5: spec.kafka.consumer[\"linger.ms\"]: expected text, found the number 5: write \"5\""],
        ),
        (
            ("spec:", "spec:\n  <<: {}"),
            &["5: spec[\"<<\"]: merge keys are not part of YAML 1.2: use an alias for the whole value"],
        ),
    ];
    let mut wrong = Vec::new();
    for ((part, instead), expected) in rows {
        assert!(SMALLEST.contains(part), "{part}");
        let expected: Vec<_> = expected.iter().map(|finding| format!("f.yaml:{finding}")).collect();
        let found = findings(&SMALLEST.replacen(part, instead, 1));
        if found != expected {
            wrong.push(format!("{instead}\n    {found:?}\n    {expected:?}"));
        }
    }
    let filters: &[(&str, &str)] = &[
        (
            "{}",
            ": give one of `all`, `any`, `attributes`, `exact`, `field`, `header`, `not`, `prefix`, `suffix`",
        ),
        (
            "{exact: {type: a}, prefix: {type: b}}",
            ": a filter has one key, found `exact`, `prefix`: write several filters",
        ),
        ("{sql: x}", ".sql: not yet supported in this version: remove it"),
        ("{exact: {}}", ".exact: must not be empty"),
        ("{exact: {type: ''}}", ".exact.type: must not be empty"),
        (
            "{prefix: {'': a}}",
            ".prefix[\"\"]: \"\" is no CloudEvents attribute: its name is made of a-z and 0-9",
        ),
        (
            "{suffix: {ce_type: a}}",
            ".suffix.ce_type: \"ce_type\" is no CloudEvents attribute: its name is made of a-z and 0-9",
        ),
        (
            "{attributes: {Type: ''}}",
            ".attributes.Type: \"Type\" is no CloudEvents attribute: its name is made of a-z and 0-9",
        ),
        ("{exact: {type: 5}}", ".exact.type: expected text, found the number 5: write \"5\""),
        ("{exakt: {type: a}}", ".exakt: unknown key, did you mean `exact`?"),
        ("{all: []}", ".all: must not be empty"),
        ("{any: []}", ".any: must not be empty"),
        ("{not: {any: [{exact: {type: ''}}]}}", ".not.any[0].exact.type: must not be empty"),
        (
            "{header: {name: a}}",
            ".header: give at least one of `eq`, `exists`, `ge`, `gt`, `in`, `le`, `lt`, `ne`",
        ),
        ("{header: {eq: a}}", ".header.name: is missing"),
        ("{header: {name: a, gt: 5}}", ".header.gt: expected text, found the number 5: write \"5\""),
        ("{field: {path: a, eq: 1}}", ".field.path: \"a\" is no JSON pointer: write `/a`"),
        ("{field: {path: /a, eq: [1]}}", ".field.eq: compares with text, a number, true, false or null only"),
        ("{field: {path: /a, gt: true}}", ".field.gt: compares with a number or text only"),
        (
            "{field: {path: /a, in: [{}]}}",
            ".field.in[0]: compares with text, a number, true, false or null only",
        ),
        (
            "{field: {path: /a, exists: 'yes'}}",
            ".field.exists: expected true or false, found the text \"yes\"",
        ),
        ("[]", ": expected a mapping, found a list"),
    ];
    for (written, expected) in filters {
        for (place, topic, line) in [("sources", "in", 6), ("sinks", "out", 7)] {
            let part = format!("{{topic: {topic}}}");
            let instead = format!("{{topic: {topic}, filters: [{written}]}}");
            let found = findings(&SMALLEST.replacen(&part, &instead, 1));
            let expected = [format!("f.yaml:{line}: spec.{place}[0].filters[0]{expected}")];
            if found != expected {
                wrong.push(format!("{instead}\n    {found:?}\n    {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "found / expected:\n{}", wrong.join("\n"));
}

#[test]
fn settings_that_the_engine_owns_are_refused_by_name() {
    let rows = [
        ("group.id", "the engine sets it: use `spec.group`"),
        ("enable.auto.commit", "the engine sets it: use `spec.delivery.commitInterval`"),
        ("auto.offset.reset", "the engine sets it: use `startAt` of the source"),
        ("isolation.level", "the engine sets it: use `spec.delivery.guarantee`"),
        ("transactional.id", "the engine sets it: use `spec.group`"),
        ("acks", "the engine sets it: use `spec.delivery.guarantee`"),
        ("partitioner", "the engine sets it: keys land where Java producers put them"),
        ("max.in.flight", "the engine sets it: writes must stay in order"),
        ("rebalance_cb", "callbacks belong to the engine: remove it"),
        ("sasl.password", "belongs to the platform: put it into `spec.kafka` of tidemill.yaml"),
        ("ssl.ca.location", "belongs to the platform: put it into `spec.kafka` of tidemill.yaml"),
        (
            "bootstrap.servers",
            "belongs to the platform: use `spec.brokers` of tidemill.yaml, TIDEMILL_BROKERS or --brokers",
        ),
    ];
    for (name, message) in rows {
        for client in ["consumer", "producer"] {
            let text = format!("{SMALLEST}  kafka: {{{client}: {{{name}: x}}}}\n");
            let path = document::join(&format!("spec.kafka.{client}"), name);
            assert_eq!(findings(&text), [format!("f.yaml:8: {path}: {message}")]);
        }
    }
}

#[test]
fn every_finding_of_a_file_is_told_at_once() {
    let text = "\
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: {name: Mill}
spec:
  sources:
    - topics: in
      filters: [{exact: {Type: a}}]
    - {topic: b, nam: c}
  sinks: [{format: json}]
---
apiVersion: tidemill.dev/v1alpha1
kind: Function
metadata: {name: other}
spec: 5
";
    assert_eq!(
        findings(text),
        [
            "f.yaml:3: metadata.name: \"Mill\" is no name: up to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
            "f.yaml:6: spec.sources[0].topics: unknown key, did you mean `topic`?",
            "f.yaml:7: spec.sources[0].filters[0].exact.Type: \"Type\" is no CloudEvents attribute: its name is made of a-z and 0-9",
            "f.yaml:8: spec.sources[1].nam: unknown key, did you mean `name`?",
            "f.yaml:9: spec.sinks[0].topic: is missing",
            "f.yaml:14: spec: expected a mapping, found the number 5",
        ]
    );
    assert_eq!(findings("- 1\n"), ["f.yaml:1: expected a mapping, found a list"]);
}

#[test]
fn functions_that_run_together_differ_in_name_and_group() {
    let twice = format!("{SMALLEST}---\n{SMALLEST}");
    assert_eq!(findings(&twice), ["f.yaml:11: metadata.name: default/mill stands in f.yaml:3 too"]);
    let group =
        SMALLEST.replace("name: mill", "name: b").replace("spec:", "spec:\n  group: tidemill.default.mill");
    let shared = format!("{SMALLEST}---\n{group}");
    assert_eq!(
        findings(&shared),
        ["f.yaml:13: spec.group: default/mill uses the group \"tidemill.default.mill\" too"]
    );
}

#[test]
fn a_folder_gives_its_functions_and_those_one_level_below() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let named = |name: &str| SMALLEST.replace("name: mill", &format!("name: {name}"));
    write("function.yaml", &named("a"));
    write("more.yml", &named("b"));
    write("inner/function.yaml", &named("c"));
    write("inner/cases.yaml", "- given: [\n");
    write("inner/deeper/function.yaml", &named("too-deep"));
    write(".hidden/function.yaml", &named("hidden"));
    write("tidemill.yaml", "apiVersion: tidemill.dev/v1alpha1\nkind: Platform\nspec: {}\n");
    write("other.yaml", "apiVersion: v1\nkind: Service # not tidemill.dev/ at all\n");
    let functions = load(&[folder.path().to_owned()]).unwrap();
    let names: Vec<_> = functions.iter().map(|function| function.name.name.as_str()).collect();
    assert_eq!(names, ["a", "c", "b"]);

    write("inner/function.yaml", "kind: Function\n");
    let errors = load(&[folder.path().to_owned(), folder.path().join("none.yaml")]).unwrap_err().to_string();
    let lines: Vec<_> =
        errors.lines().map(|line| line.rsplit_once(folder.path().to_str().unwrap()).unwrap().1).collect();
    assert_eq!(
        lines,
        [
            "/inner/function.yaml:1: apiVersion: is missing",
            "/inner/function.yaml:1: metadata: is missing",
            "/inner/function.yaml:1: spec: is missing",
            "/none.yaml: cannot read: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn the_topics_to_be_made_keep_any_timestamp() {
    let sinks = "{topic: out, create: {partitions: 3, config: {retention.ms: \"1000\"}}}, {topic: there}";
    let made = topics(&one(&SMALLEST.replace("{topic: out}", sinks)));
    let names: Vec<_> = made.iter().map(|new| (new.topic.as_str(), new.role)).collect();
    let internal = [("mill.dlq", TopicRole::DeadLetter), ("mill.redrive", TopicRole::Redrive)];
    assert_eq!(names, [&internal[..], &[("out", TopicRole::Sink)]].concat());
    for new in &made[..2] {
        assert_eq!(new.create.config["message.timestamp.after.max.ms"], "9223372036854775807");
        assert_eq!(new.sized_after, ["in"]);
    }
    assert_eq!(
        (made[0].partitions_after.as_slice(), made[1].partitions_after.as_slice()),
        (&[][..], &["in".to_owned()][..])
    );
    assert_eq!(
        (made[2].create.partitions, made[2].create.config["retention.ms"].as_str()),
        (Some(3), "1000")
    );
}

#[test]
fn a_window_has_a_topic_for_its_state() {
    let window = "window: {tumbling: {size: 10s}, aggregate: {rides: {op: count}}}";
    let text = SMALLEST.replace("handler: {plugin: mill}", window);
    let made = topics(&one(&text));
    let roles: Vec<_> = made.iter().map(|new| new.role).collect();
    assert_eq!(roles, [TopicRole::DeadLetter, TopicRole::Redrive, TopicRole::State]);
    let state = &made[2];
    assert_eq!((state.topic.as_str(), state.role.as_str()), ("mill.state", "state"));
    assert_eq!((state.create.partitions, state.create.replication), (None, None));
    assert_eq!(
        (state.partitions_after.as_slice(), state.sized_after.as_slice()),
        (&["in".to_owned()][..], &["in".to_owned()][..])
    );
    let config = [("cleanup.policy", "compact"), ("message.timestamp.after.max.ms", "9223372036854775807")];
    assert!(state.create.config.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(config));

    let elsewhere = topics(&one(&text.replace("name: mill", "name: mill, namespace: growth")));
    assert_eq!(elsewhere[2].topic, "growth.mill.state");
}

fn any_filter() -> impl Strategy<Value = serde_json::Value> {
    let operand = prop_oneof![
        "\\PC{0,12}".prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
    ];
    let leaf = prop_oneof![
        ("[a-z0-9]{1,6}", "\\PC{1,12}").prop_map(|(name, text)| json!({"exact": {name: text}})),
        ("[a-z0-9]{1,6}", "\\PC{0,12}").prop_map(|(name, text)| json!({"attributes": {name: text}})),
        ("\\PC{1,6}", "\\PC{0,12}").prop_map(|(name, text)| json!({"header": {"name": name, "in": [text]}})),
        ("(/[a-z]{0,3}){0,3}", operand)
            .prop_map(|(path, value)| json!({"field": {"path": path, "ge": value}})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..3).prop_map(|all| json!({"all": all})),
            proptest::collection::vec(inner.clone(), 1..3).prop_map(|any| json!({"any": any})),
            inner.prop_map(|not| json!({"not": not})),
        ]
    })
}

proptest! {
    /// JSON is YAML: the manifest is written as JSON, loaded, rendered and loaded again.
    #[test]
    fn a_rendered_manifest_loads_as_the_same_function(
        filters in proptest::collection::vec(any_filter(), 0..3),
        config in proptest::collection::btree_map("\\PC{0,8}", "[^$]{0,16}", 0..4),
        min in 0..9_u32,
        millis in 1..100_000_000_u64,
        start_ms in 0..4_000_000_000_000_i64,
        ce in any::<bool>(),
    ) {
        let manifest = json!({
            "apiVersion": "tidemill.dev/v1alpha1",
            "kind": "Function",
            "metadata": {"name": "mill", "labels": config},
            "spec": {
                "handler": {"plugin": "mill", "config": config, "timeout": format!("{millis}ms")},
                "sources": [{
                    "topic": "in",
                    "filters": filters,
                    "key": {"fields": ["/a"]},
                    "time": {"field": "/t", "format": "ms"},
                    "startAt": jiff::Timestamp::from_millisecond(start_ms).unwrap().to_string(),
                }],
                "sinks": [{"topic": "out", "format": if ce { "cloudevents" } else { "json" }, "filters": filters}],
                "scale": {"min": min, "max": if ce { min } else { 0 }, "drainWithin": format!("{millis}ms"), "parkAfter": format!("{}ms", millis % 50_000 + 1)},
            },
        });
        let function = one(&manifest.to_string());
        let rendered = render(&function);
        prop_assert_eq!(&one(&rendered), &function, "{}", rendered);
        prop_assert_eq!(render(&one(&rendered)), rendered);
    }
}
