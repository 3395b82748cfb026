//! Reads a topic as it grows, as a reader that sees committed transactions only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{Kafka, ReadRecord, is_passing, owned, unique};
use super::wait::try_wait;

/// A reader of one topic, from its beginning on.
pub struct Follower {
    read: Arc<Mutex<Vec<ReadRecord>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Begins to read.
    pub fn start(kafka: &Kafka, topic: &str) -> Self {
        let consumer: BaseConsumer = kafka
            .config()
            .set("group.id", unique("follower"))
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "20")
            .create()
            .expect("a consumer");
        let mut assignment = TopicPartitionList::new();
        for partition in 0..kafka.partitions(topic).unwrap_or_else(|| panic!("there is no topic {topic}")) {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&assignment).expect("an assignment");
        let (read, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (list, over) = (Arc::clone(&read), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match consumer.poll(Duration::from_millis(50)) {
                    None => {}
                    Some(Ok(message)) => list.lock().expect("no panic under the lock").push(owned(&message)),
                    Some(Err(error)) if is_passing(&error) => {}
                    Some(Err(error)) => panic!("the topic cannot be read: {error}"),
                }
            }
        });
        Self { read, is_over, thread: Some(thread) }
    }

    /// How many records were read so far.
    pub fn count(&self) -> usize {
        self.read.lock().expect("no panic under the lock").len()
    }

    /// What was read so far; within a partition in its order.
    pub fn read(&self) -> Vec<ReadRecord> {
        self.read.lock().expect("no panic under the lock").clone()
    }

    /// Waits until at least so many records were read, and returns them.
    #[track_caller]
    pub fn wait_for(&self, count: usize, within: Duration) -> Vec<ReadRecord> {
        try_wait(within, &format!("{count} records to come out"), || {
            let read = self.read();
            if read.len() >= count { Ok(read) } else { Err(format!("{} have", read.len())) }
        })
    }

    /// Waits until so many more records were read than now.
    #[track_caller]
    pub fn wait_for_more(&self, more: usize, within: Duration) {
        self.wait_for(self.count() + more, within);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the follower panicked");
        }
    }
}
