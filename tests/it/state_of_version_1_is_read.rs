//! State outlives releases: what version 1 wrote is read by every later one, and gives the results that it would have given.
//!
//! `data/state-v1.json` holds what each scene below wrote when the form was settled, entries as hex, and the results that
//! came of it. **It is never written anew.** If a test here fails, topics out there cannot be read any more: let the entry
//! have another version, and read both. A new form gets a file of its own beside this one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use tidemill::manifest;
use tidemill::model::{Header, Record, WindowSpec};
use tidemill::pipeline::Envelope;
use tidemill::window::{Arrival, Field, Fired, Number, Part, Pending, Place, Placed, Verdict, Windows};

const VERSION_1: &str = include_str!("data/state-v1.json");

/// Later than every window of the scenes ends.
const FAR: i64 = 1 << 50;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Something that leaves state behind.
struct Scene {
    name: &'static str,
    /// As the manifest has it.
    window: &'static str,
    play: fn(&mut Stage),
}

const SCENES: &[Scene] = &[
    Scene {
        name: "every aggregate",
        window: "tumbling: {size: 1m}, aggregate: {all: {op: count}, avg: {op: avg, field: /n}, distinct: {op: distinct, \
                 field: /n}, first: {op: first, field: /n}, last: {op: last, field: /n}, max: {op: max, field: /n}, min: \
                 {op: min, field: /n}, sum: {op: sum, field: /n}, there: {op: count, field: /n}}",
        play: |stage| {
            for (key, time, json) in [
                ("ada", 61_000, "7"),
                ("ada", 62_000, "-3"),
                ("ada", 62_000, "0.25"),
                ("ada", 60_000, "18446744073709551615"),
                ("ada", 119_999, ""),
                ("bob", 61_000, ""),
                ("cyd", 100_000, "1e300"),
            ] {
                stage.aggregated(key, time, json);
            }
        },
    },
    Scene {
        name: "events with fields",
        window: "sliding: {size: 10s}, grace: 1s, aggregate: {all: {op: count}, last: {op: last, field: /n}, sum: {op: sum, \
                 field: /n}, there: {op: count, field: /n}}",
        play: |stage| {
            for (time, json) in
                [(1_000, "7"), (1_000, "0.5"), (4_000, ""), (5_000, "18446744073709551615"), (6_500, "-1")]
            {
                stage.aggregated("ada", time, json);
            }
        },
    },
    Scene {
        name: "sessions",
        window: "session: {gap: 5s}",
        play: |stage| {
            for (key, time) in [("ada", 10_000), ("ada", 14_000), ("bob", 12_000), ("\u{fffd}", 13_000)] {
                stage.kept(key, 0, time, i64::MIN);
            }
        },
    },
    Scene {
        name: "hopping windows that an event missed",
        window: "hopping: {size: 10s, advance: 5s}",
        play: |stage| {
            stage.kept("ada", 0, 7_000, i64::MIN);
            stage.kept("ada", 0, 8_000, 10_000);
        },
    },
    Scene {
        name: "counted",
        window: "count: {size: 3}",
        play: |stage| {
            stage.kept("ada", 0, 7_000, i64::MIN);
            stage.kept("ada", 0, 6_000, i64::MIN);
        },
    },
    Scene {
        name: "stitches",
        window: "stitch: {within: 1m, need: [rides, payments], optional: [promos]}, grace: 5s",
        play: |stage| {
            stage.windows.hear([(0, 1), (1, 2), (2, 1)].into_iter(), std::iter::empty());
            for (key, source, time) in [
                ("ada", 0, 1_000),
                ("ada", 0, 2_000),
                ("ada", 2, 3_000),
                ("bob", 1, 3_000),
                ("cyd", 0, 300_000),
            ] {
                stage.kept(key, source, time, i64::MIN);
            }
            let part =
                |source, partition, watermark_ms, is_idle| Part { source, partition, watermark_ms, is_idle };
            let parts = [part(1, 1, i64::MIN, true), part(2, 0, 400_000, true)];
            stage.windows.hear(std::iter::empty(), parts.into_iter());
        },
    },
    Scene {
        name: "stitches that wait",
        window: "stitch: {within: 1m, need: [rides, payments], optional: [promos]}",
        play: |stage| {
            stage.is_waiting = true;
            for (key, source, time) in
                [("ada", 0, 1_000), ("ada", 1, 2_000), ("bob", 0, 3_000), ("ada", 1, 4_000)]
            {
                stage.kept(key, source, time, i64::MIN);
            }
            stage.windows.advance_to(100_000);
            stage.close();
            let first = stage.windows.waiting().next().unwrap().0;
            stage.windows.failed_again(first);
        },
    },
    Scene {
        name: "numbers that wait",
        window: "tumbling: {size: 1m}, aggregate: {all: {op: count}}",
        play: |stage| {
            stage.is_waiting = true;
            stage.aggregated("ada", 1_000, "");
            stage.aggregated("ada", 61_000, "");
            stage.close();
        },
    },
];

/// Where a scene is played.
struct Stage {
    spec: WindowSpec,
    windows: Windows,
    topics: Vec<String>,
    offset: i64,
    is_waiting: bool,
    results: Vec<String>,
}

impl Stage {
    fn new(scene: &Scene) -> Self {
        let text = format!(
            "apiVersion: tidemill.dev/v1alpha1\nkind: Function\nmetadata: {{name: mill}}\nspec:\n  window: {{{}}}\n  \
             sources: [{}]\n  sinks: [{{topic: out, format: json}}]\n",
            scene.window,
            if scene.window.starts_with("stitch") {
                "{topic: rides}, {topic: payments}, {topic: promos}"
            } else {
                "{topic: rides}"
            }
        );
        let functions = manifest::parse(Path::new("function.yaml"), &text);
        let function = functions.unwrap_or_else(|errors| panic!("{errors}")).remove(0);
        let spec = function.window.unwrap();
        let windows = Windows::new(&spec, i64::MIN);
        Self {
            windows: if function.sources.len() > 1 {
                windows.of_sources(function.sources.len())
            } else {
                windows
            },
            spec,
            topics: function.sources.into_iter().map(|source| source.topic).collect(),
            offset: 0,
            is_waiting: false,
            results: Vec::new(),
        }
    }

    /// An event for aggregates of its only field, which is `json` or not there.
    fn aggregated(&mut self, key: &str, time_ms: i64, json: &str) {
        let number = serde_json::from_str(json).ok().and_then(|value| Number::of(&value));
        let fields: Vec<Option<Field>> = self
            .spec
            .aggregates
            .keys()
            .map(|name| match name.as_str() {
                "all" => Some(Field::There),
                _ if json.is_empty() => None,
                "there" => Some(Field::There),
                "first" | "last" | "distinct" => Some(Field::Json(json.into())),
                _ => number.map(Field::Number),
            })
            .collect();
        let place = Place { time_ms, source: 0, partition: 3, offset: self.offset };
        self.place(&Arrival {
            key: key.as_bytes(),
            place,
            fields: &fields,
            body: &[],
            watermark_ms: i64::MIN,
        });
    }

    /// An event that is kept as it was.
    fn kept(&mut self, key: &str, source: u16, time_ms: i64, watermark_ms: i64) {
        let headers =
            vec![Header { name: "trace", value: Some(b"\x00\xff") }, Header { name: "", value: None }];
        let record = Record {
            topic: &self.topics[usize::from(source)],
            partition: 0,
            offset: self.offset,
            timestamp_ms: time_ms - 1,
            key: (self.offset % 2 == 0).then_some(key.as_bytes()),
            value: (self.offset % 3 > 0).then_some(br#"{"fare":12}"#),
            headers: &headers,
        };
        let mut body = Vec::new();
        Envelope::write(&record, (time_ms, watermark_ms, true), &mut body);
        let place = Place { time_ms, source, partition: 0, offset: self.offset };
        self.place(&Arrival { key: key.as_bytes(), place, fields: &[], body: &body, watermark_ms });
    }

    fn place(&mut self, arrival: &Arrival<'_>) {
        let Self { windows, results, spec, is_waiting, .. } = self;
        let placed = windows.add(arrival, &mut |fired, _| settle(spec, fired, *is_waiting, results));
        assert!(matches!(placed, Placed::In { .. }));
        windows.moved(arrival.place);
        self.offset += 1;
        self.close();
    }

    fn close(&mut self) {
        let Self { windows, results, spec, is_waiting, .. } = self;
        while windows.close_next(&mut |fired, _| settle(spec, fired, *is_waiting, results)) {}
    }

    /// What a cut would write.
    fn written(&self) -> Entries {
        let mut entries = Entries::new();
        self.windows.changes(|key, value| {
            entries.insert(key.to_vec(), value.expect("nothing was there before").to_vec());
        });
        entries
    }

    /// What waits, and what else would come of it all.
    fn outcome(mut self) -> Vec<String> {
        let mut outcome: Vec<String> = self.windows.waiting().map(|(_, pending)| waits(pending)).collect();
        if let Some(progress) = self.windows.progress() {
            outcome.push(format!("time has come to {:?}", progress.lane_ms()));
            outcome.extend(progress.parts().iter().map(
                |Part { source, partition, watermark_ms, is_idle }| {
                    format!("that of {source}/{partition} to {watermark_ms}, {is_idle}")
                },
            ));
        }
        self.is_waiting = false;
        self.results.clear();
        self.go_on();
        self.windows.advance_to(FAR);
        self.close();
        outcome.append(&mut self.results);
        outcome
    }

    /// More comes, and is put to what was there.
    fn go_on(&mut self) {
        self.offset = 100;
        let time_ms = self.windows.watermark_ms();
        match self.topics.len() {
            1 if !self.spec.aggregates.is_empty() => {
                self.aggregated("ada", time_ms, "-5");
                self.aggregated("ada", time_ms, "1e300");
            }
            1 => self.kept("ada", 0, time_ms, i64::MIN),
            _ if time_ms < 60_000 => self.kept("ada", 1, time_ms, i64::MIN),
            _ => {}
        }
    }
}

fn settle(spec: &WindowSpec, fired: &Fired<'_>, is_waiting: bool, results: &mut Vec<String>) -> Verdict {
    let names = || spec.aggregates.keys().map(String::as_str);
    if is_waiting {
        let mut aggregates = Vec::new();
        fired.write_aggregates(names(), &mut aggregates);
        let name = format!("{}/{}", hex(fired.key), fired.bounds.0).into_bytes();
        let aggregates = (!spec.aggregates.is_empty()).then_some(aggregates);
        return Verdict::Wait { attempts: 1, name, aggregates };
    }
    let mut json = Vec::new();
    fired.write_json(names(), &mut json);
    let json = String::from_utf8(json).unwrap();
    let events = events(fired.members.iter().map(|kept| kept.body()).filter(|body| !body.is_empty()));
    results.push(format!("{json} at {} of [{events}] without {:?}", fired.time_ms, fired.missing));
    Verdict::Done
}

fn waits(pending: &Pending) -> String {
    let Pending { key, bounds, why, time_ms, aggregates, missing, name, attempts, .. } = pending;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let events = events(pending.events.iter().map(|body| &body[..]));
    format!(
        "{} {bounds:?} {} waits as {}, {attempts} failed, {:?} at {time_ms} of [{events}] without {missing:?}",
        text(key),
        why.as_str(),
        text(name),
        aggregates.as_deref().map(text)
    )
}

/// Where events stood, and what they were.
fn events<'a>(bodies: impl Iterator<Item = &'a [u8]>) -> String {
    let shown = bodies.map(|body| {
        let envelope = Envelope::read(body).unwrap();
        let record = envelope.record();
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let (key, value) = (text(record.key), text(record.value));
        let headers: Vec<_> = record.headers().iter().map(|header| (header.name, header.value)).collect();
        let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        format!("{place} {key:?} {value:?} {headers:?} {} {}", record.timestamp_ms, envelope.time_ms)
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// What version 1 wrote in a scene, where time stood, and what came of it.
fn version_1(scene: &Scene) -> (Entries, i64, Vec<String>) {
    let file: Value = serde_json::from_str(VERSION_1).unwrap();
    let scene = &file[scene.name];
    let entries = scene["entries"].as_object().unwrap().iter();
    let entries = entries.map(|(key, value)| (bytes(key), bytes(value.as_str().unwrap()))).collect();
    let results = scene["results"].as_array().unwrap().iter();
    let results = results.map(|result| result.as_str().unwrap().to_owned()).collect();
    (entries, scene["watermark"].as_i64().unwrap(), results)
}

#[test]
fn what_version_1_wrote_gives_the_results_that_it_would_have_given() {
    for scene in SCENES {
        let (entries, watermark, results) = version_1(scene);
        let mut stage = Stage::new(scene);
        let sources = stage.topics.len();
        stage.windows = Windows::new(&stage.spec, watermark);
        if sources > 1 {
            stage.windows = stage.windows.of_sources(sources);
        }
        for (key, value) in &entries {
            stage.windows.restore(key, Some(value));
        }
        stage.windows.restored().unwrap();
        assert_eq!(stage.outcome(), results, "{}", scene.name);
    }
}

#[test]
fn the_same_bytes_are_written_today() {
    for scene in SCENES {
        let mut stage = Stage::new(scene);
        (scene.play)(&mut stage);
        let (entries, watermark, results) = version_1(scene);
        let shown = |entries: &Entries| -> BTreeMap<String, String> {
            entries.iter().map(|(key, value)| (hex(key), hex(value))).collect()
        };
        assert_eq!(shown(&stage.written()), shown(&entries), "{}", scene.name);
        assert_eq!(stage.windows.watermark_ms(), watermark, "{}", scene.name);
        assert_eq!(stage.outcome(), results, "{}", scene.name);
    }
}

#[test]
fn the_file_has_every_kind_of_entry_and_every_scene() {
    let file: Value = serde_json::from_str(VERSION_1).unwrap();
    assert_eq!(file.as_object().unwrap().len(), SCENES.len());
    let mut kinds: Vec<u8> =
        SCENES.iter().flat_map(|scene| version_1(scene).0.into_keys()).map(|key| key[0]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, b"epqstw");
}
