//! Numbered records, written all the while that a scenario runs, and what must have become of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::producer::{Producer, ThreadedProducer};

use super::client::{Failed, Kafka, ReadRecord, ToSend, send};
use super::wait::{pause, wait_until};

/// Writes the values 0, 1, 2, … to a topic, number `n` with key `key-<n % KEYS>`, about 50 `burst`s a second.
pub struct Load {
    sent: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How many keys there are.
const KEYS: u64 = 23;

impl Load {
    /// Begins to write. A broker that is away is waited for.
    pub fn start(kafka: &Kafka, topic: &str, burst: u64) -> Self {
        Self::start_with(kafka, topic, burst, |_, record| record)
    }

    /// The same; `dress` gives each record the headers that it is to have.
    pub fn start_with(
        kafka: &Kafka,
        topic: &str,
        burst: u64,
        dress: impl Fn(u64, ToSend) -> ToSend + Send + 'static,
    ) -> Self {
        let (sent, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut config = kafka.config();
        config.set("partitioner", "murmur2_random").set("linger.ms", "2").set("enable.idempotence", "true");
        let producer: ThreadedProducer<Failed> =
            config.create_with_context(Failed::default()).expect("a producer");
        let (topic, count, over) = (topic.to_owned(), Arc::clone(&sent), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                for _ in 0..burst {
                    let n = count.load(Ordering::Relaxed);
                    send(
                        &producer,
                        &topic,
                        &dress(n, ToSend::new(format!("key-{}", n % KEYS), n.to_string())),
                    );
                    count.store(n + 1, Ordering::Relaxed);
                }
                pause();
            }
            producer.flush(Duration::from_secs(60)).expect("records are acknowledged");
            producer.context().check();
        });
        Self { sent, is_over, thread: Some(thread) }
    }

    /// How many records were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many more were sent.
    #[track_caller]
    pub fn wait_for_more(&self, more: u64) {
        let goal = self.sent() + more;
        wait_until(Duration::from_secs(60), "the load to go on", || self.sent() >= goal);
    }

    /// Ends; says how many records are in the topic.
    pub fn finish(mut self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().expect("finished once").join().expect("every record was written");
        self.sent()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Some events try the handler of the tests: they are rejected, fail, take long, panic.
pub fn trying(n: u64, record: ToSend) -> ToSend {
    match n % 50 {
        7 => record.header("reject", "as-asked"),
        17 => record.header("fail", "2"),
        27 => record.header("sleep-ms", "30"),
        37 => record.header("panic", "1"),
        _ => record,
    }
}

/// Every one of the values 0 .. `count` is there exactly once, and those of a key in their order.
#[track_caller]
pub fn assert_each_once(count: u64, results: &[ReadRecord]) {
    assert_each_ends_once(count, results, &[]);
}

/// The same of values that became a result or a dead letter; dead letters have no order.
#[track_caller]
pub fn assert_each_ends_once(count: u64, results: &[ReadRecord], dead_letters: &[ReadRecord]) {
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    for result in results.iter().chain(dead_letters) {
        *seen.entry(number(result)).or_default() += 1;
    }
    let missing: Vec<u64> = (0..count).filter(|n| !seen.contains_key(n)).collect();
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(
        missing.is_empty() && twice.is_empty() && seen.len() as u64 == count,
        "of {count}: {} are missing {:?}, {} came more than once {:?}",
        missing.len(),
        &missing[..missing.len().min(20)],
        twice.len(),
        &twice[..twice.len().min(20)],
    );
    let mut last: BTreeMap<&str, (i32, i64, u64)> = BTreeMap::new();
    for result in results {
        let now = (result.partition, result.offset, number(result));
        if let Some(before) = last.insert(result.key_text(), now) {
            assert_eq!(before.0, now.0, "{} is in two partitions", result.key_text());
            assert!(
                before.1 < now.1 && before.2 < now.2,
                "{}: {before:?} came before {now:?}",
                result.key_text()
            );
        }
    }
}

/// Every one of the values 0 .. `count` is there at least once.
#[track_caller]
pub fn assert_none_lost(count: u64, results: &[ReadRecord]) {
    let seen: BTreeSet<u64> = results.iter().map(number).collect();
    let missing: Vec<u64> = (0..count).filter(|n| !seen.contains(n)).collect();
    assert!(missing.is_empty(), "of {count}: {} are missing: {missing:?}", missing.len());
}

fn number(record: &ReadRecord) -> u64 {
    record.text().parse().unwrap_or_else(|_| panic!("{:?} is no number", record.text()))
}
