//! The state topic, read to its end, is the state that a worker has: of windows that hop, of sessions, of those that slide
//! and of stitches. What it says is open is what gives a result later, whether the worker stays or another takes over, and
//! when all has closed nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tidemill::kafka::admin::{Isolation, OffsetAt};
use tidemill::kafka::{Admin, Committed};
use tidemill::manifest;
use tidemill::model::{Clock as _, Function, SystemClock};
use tidemill::pipeline::Checkpoint;
use tidemill::window::{Entry, Windows};

use crate::harness::{Follower, Listeners, Stage, ToSend, cluster, try_wait, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const PARTITIONS: u64 = 4;
const KEYS: u64 = 97;
const DAY_MS: i64 = 86_400_000;
/// What the last event of each partition has for a key: it closes all that was before, and stays open.
const LAST: &str = "last";

/// Key and bounds of a window, and what it came to: its aggregates, or what a stitch lacks.
type Open = BTreeMap<(String, i64, i64), Value>;

/// What the state topic comes to.
struct Replayed {
    partitions: Vec<Windows>,
    /// Those that there is something of.
    keys: BTreeSet<Vec<u8>>,
}

/// A function, and what it is to the broker.
struct Subject {
    stage: Stage,
    function: Function,
    admin: Admin,
}

impl Subject {
    fn new(stage: Stage) -> Self {
        let function = manifest::load(&[stage.manifest()]).expect("a valid manifest").remove(0);
        Self { stage, function, admin: Admin::new(&cluster().as_cluster()).expect("a client") }
    }

    /// What the group has committed, once that is all there is.
    fn drained(&self) -> Vec<Committed> {
        let mut committed = Vec::new();
        wait_until(WITHIN, "everything to be read", || {
            committed = self.admin.committed(&self.stage.group(), None, true).expect("the broker answers");
            let partitions = committed.iter().map(|found| &found.partition);
            let asked: Vec<_> =
                partitions.map(|found| (&*found.topic, found.partition, OffsetAt::Latest)).collect();
            let ends = self.admin.list_offsets(&asked, Isolation::ReadUncommitted);
            let is_read = committed.iter().map(|found| found.offset).eq(ends.expect("the broker answers"));
            // Where it begins is committed first.
            is_read && !committed.is_empty()
        });
        committed
    }

    /// What the state topic comes to, read as whoever takes over reads it, of each key the newest entry alone.
    fn replayed(&self) -> Replayed {
        let committed = self.drained();
        let spec = self.function.window.as_ref().expect("a window");
        let topic = self.function.gathered_topic().expect("a topic");
        let begin = |partition: i32| {
            let is_it =
                |found: &&Committed| found.partition.topic == topic && found.partition.partition == partition;
            let found = committed.iter().find(is_it).expect("it is committed");
            let checkpoint = Checkpoint::read(found.offset.expect("an offset"), &found.metadata);
            let windows = Windows::new(spec, checkpoint.expect("ours").watermark_ms);
            match self.function.stitch_topic {
                Some(_) => windows.of_sources(self.function.sources.len()),
                None => windows,
            }
        };
        let count = cluster().partitions(topic).expect("it is there");
        let mut replayed = Replayed { partitions: (0..count).map(begin).collect(), keys: BTreeSet::new() };
        let entries = cluster().read_all_ended(&self.function.state_topic).into_iter();
        let newest: BTreeMap<_, _> =
            entries.map(|entry| ((entry.partition, entry.key.unwrap_or_default()), entry.value)).collect();
        for ((partition, name), value) in newest {
            replayed.partitions[partition as usize].restore(&name, value.as_deref());
            if let (Ok(entry), Some(_)) = (Entry::read(&name, None), value) {
                replayed.keys.insert(entry.key.to_vec());
            }
        }
        replayed.partitions.iter_mut().for_each(|windows| windows.restored().expect("whole entries"));
        replayed
    }

    /// All that is open, but for the last events.
    fn open(&self, replayed: &Replayed) -> Open {
        let Replayed { partitions, keys } = replayed;
        let spec = self.function.window.as_ref().expect("a window");
        let name = |source: &u16| &self.function.sources[usize::from(*source)].name;
        let mut all = Open::new();
        for (windows, key) in partitions.iter().flat_map(|windows| keys.iter().map(move |key| (windows, key)))
        {
            for open in windows.open_of(key) {
                let result = match open.aggregates(spec.aggregates.keys().map(String::as_str)) {
                    Some(aggregates) => serde_json::from_slice(&aggregates).expect("JSON"),
                    None => json!({ "missing": open.missing.iter().map(name).collect::<Vec<_>>() }),
                };
                let key = String::from_utf8(key.clone()).expect("text");
                let before = all.insert((key, open.bounds.0, open.bounds.1), result);
                assert_eq!(before, None, "a key is in two partitions");
            }
        }
        all.retain(|(key, ..), _| !key.starts_with(LAST));
        all
    }

    /// What the state topic comes to, once the worker says that it has that.
    #[track_caller]
    fn live(&self, listeners: &Listeners) -> Replayed {
        try_wait(WITHIN, "the worker to have what its topic says", || {
            let replayed = self.replayed();
            let keys: usize = replayed.partitions.iter().map(Windows::keys).sum();
            let bytes: usize = replayed.partitions.iter().map(Windows::bytes).sum();
            let of_worker = ["tidemill_state_open_keys", "tidemill_state_size_bytes"]
                .map(|name| self.metric(listeners, name).unwrap_or(-1.0) as i64);
            let of_topic = [keys as i64, bytes as i64];
            if of_worker == of_topic {
                Ok(replayed)
            } else {
                Err(format!("{of_worker:?} instead of {of_topic:?}"))
            }
        })
    }

    fn metric(&self, listeners: &Listeners, name: &str) -> Option<f64> {
        let (_, text) = listeners.metrics("/metrics");
        let is_it = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(&self.stage.name);
        text.lines().find(is_it)?.rsplit(' ').next()?.parse().ok()
    }

    /// The results so far.
    fn results(&self) -> Open {
        let records = cluster().read_all_ended(&self.stage.sink);
        let results = records.iter().map(|record| {
            let mut result: Value = serde_json::from_str(record.text()).expect("a result is JSON");
            let bound = |name: &str| result["window"][name].as_i64().expect("a number");
            let name = (record.key_text().to_owned(), bound("start"), bound("end"));
            let result = match result.get("missing") {
                Some(missing) => json!({ "missing": missing }),
                None => {
                    let result = result.as_object_mut().expect("an object");
                    result.retain(|name, _| name != "key" && name != "window");
                    Value::Object(result.clone())
                }
            };
            (name, result)
        });
        results.collect()
    }
}

#[test]
fn the_state_topic_is_the_state_and_says_what_comes() {
    let aggregates = json!({ "events": { "op": "count" }, "total": { "op": "sum", "field": "/n" } });
    let kinds = [
        json!({ "hopping": { "size": "4s", "advance": "1s" }, "aggregate": aggregates }),
        json!({ "session": { "gap": "1s" }, "aggregate": aggregates }),
        json!({ "sliding": { "size": "2s" }, "aggregate": aggregates }),
        json!({ "stitch": { "within": "5s" } }),
    ];
    let first = Stage::new(cluster(), "state-topic", PARTITIONS as i32);
    let (source, more) = (first.source.clone(), format!("{}.more", first.name));
    cluster().create_topic(&more, 3, &[]);
    let stages = kinds.into_iter().map(|kind| {
        let stage = Stage::without_topics(cluster(), "state-topic");
        cluster().create_topic(&stage.sink, 2, &[]);
        let input = |topic: &str| json!({ "topic": topic, "format": "json" });
        let pairs = |topic: &str| json!({ "topic": topic, "format": "json", "key": { "fields": ["/pair"] } });
        let sources = match kind.get("stitch") {
            Some(_) => json!([pairs(&source), pairs(&more)]),
            None => json!([input(&source)]),
        };
        let stage = stage.with("/spec/sources", sources).with("/spec/sinks/0/format", json!("json"));
        stage
            .with_short_sessions()
            .with("/spec/window", kind)
            .with("/spec/window/grace", json!("1s"))
            .with("/spec/window/idle", json!("10m"))
    });
    let subjects: Vec<_> = stages.map(Subject::new).collect();
    let folder = first.folder().join("all");
    std::fs::create_dir_all(&folder).expect("a folder");
    for subject in &subjects {
        subject.stage.write_to(&folder.join(format!("{}.yaml", subject.stage.name)));
    }
    let run = |who: &str, listeners: &Listeners| {
        first.spawn_args(who, &["run", folder.to_str().expect("text")], &listeners.env())
    };

    let base = SystemClock::start().now().wall_ms - 10 * DAY_MS;
    // A key's events are about a second apart, and out of order by less than the grace.
    let time_of = |n: u64| base + n as i64 * 10 - (n * 7919 % 900) as i64;
    let event = |n: u64, pair: u64| {
        let value = json!({ "n": n, "pair": format!("pair-{pair}") }).to_string();
        ToSend::new(format!("key-{}", n % KEYS), value).at(time_of(pair))
    };
    let write = |from: u64, to: u64| {
        let all = (from..to).map(|n| event(n, n).to((n % KEYS % PARTITIONS) as i32));
        cluster().produce(&source, all);
        // Every third finds no partner.
        let some = (from..to).filter(|n| n % 3 > 0).map(|n| event(n, n).to((n % KEYS % 3) as i32));
        cluster().produce(&more, some);
    };

    let listeners = Listeners::free();
    let mut worker = run("a", &listeners);
    write(0, 2000);
    wait_until(WITHIN, "the worker to be there", || listeners.functions().is_some());
    let open = |listeners: &Listeners| -> Vec<Open> {
        subjects.iter().map(|subject| subject.open(&subject.live(listeners))).collect()
    };
    let before = open(&listeners);
    assert!(
        before.iter().all(|open| open.len() > 30),
        "{:?}",
        before.iter().map(Open::len).collect::<Vec<_>>()
    );
    worker.kill();

    // Another takes it over, and has the same.
    let listeners = Listeners::free();
    let mut worker = run("b", &listeners);
    wait_until(WITHIN, "the worker to be there", || listeners.functions().is_some());
    for ((subject, before), open) in subjects.iter().zip(&before).zip(&open(&listeners)) {
        assert_eq!(open, before, "{}", subject.stage.name);
    }
    write(2000, 4000);
    let open = open(&listeners);
    let done: Vec<_> = subjects.iter().map(Subject::results).collect();

    // What it says is what comes.
    for (topic, partitions) in [(&source, PARTITIONS), (&more, 3)] {
        let last = |partition: u64| {
            let key = format!("{LAST}-{topic}-{partition}");
            let value = json!({ "n": 0, "pair": key }).to_string();
            ToSend::new(key, value).at(base + 5 * DAY_MS).to(partition as i32)
        };
        cluster().produce(topic, (0..partitions).map(last));
    }
    for ((subject, open), done) in subjects.iter().zip(&open).zip(&done) {
        let follower = Follower::start(cluster(), &subject.stage.sink);
        follower.wait_for(done.len() + open.len(), WITHIN);
        let mut came = subject.results();
        came.retain(|window, _| !done.contains_key(window));
        let wrong = came.iter().find(|(window, result)| open.get(*window) != Some(*result));
        let said = wrong.and_then(|(window, _)| open.get(window));
        assert_eq!((wrong, said, came.len()), (None, None, open.len()), "{}", subject.stage.name);
        assert_eq!(follower.count(), done.len() + open.len(), "no window gives two results");
        let mut left = subject.live(&listeners).keys.into_iter();
        assert!(left.all(|key| key.starts_with(LAST.as_bytes())), "what has closed leaves nothing");
        println!("{}: {} windows were open, {} had closed", subject.stage.name, open.len(), done.len());
        assert!(subject.stage.read_dead_letters().is_empty());
    }
    assert!(worker.terminate(WITHIN).success(), "{}", worker.log());
}
