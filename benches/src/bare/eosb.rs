//! The fastest loop that librdkafka allows: records are read in batches from the consumer's queue,
//! and produced from the consumer's own buffers by a topic handle.

use std::ffi::CString;
use std::ptr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka_sys as sys;

use super::{Args, Ends, Positions, Totals};
use crate::{clock, topics};

/// Records that one call reads at most.
const BATCH: usize = 1000;

/// librdkafka's `RD_KAFKA_PARTITION_UA`, which the bindings lack: the partitioner picks.
const UNASSIGNED: i32 = -1;

/// Copies `args.input` to `args.output`.
pub(super) fn copy(ends: &Ends, args: &Args) -> Result<Totals> {
    ends.consumer.assign(&topics::every_partition(&args.input, Offset::Beginning)?)?;
    let mut source = Source::of(&ends.consumer);
    let sink = Sink::open(&ends.producer, &args.output)?;
    let limit = args.records.unwrap_or(u64::MAX);
    let every = Duration::from_millis(args.every_ms);
    let mut totals = Totals::default();
    let mut positions = Positions::default();
    let mut begun = None;
    while totals.records < limit || begun.is_some() {
        if totals.records < limit {
            let patience_ms = if begun.is_some() { 1 } else { 100 };
            for record in source.read(patience_ms)? {
                if begun.is_none() {
                    ends.producer.begin_transaction()?;
                    begun = Some(clock::now());
                }
                if let Some((partition, offset)) = sink.produce(record) {
                    positions.finished(partition, offset);
                    totals.records += 1;
                }
            }
            ends.producer.poll(Duration::ZERO);
        }
        if begun.is_some_and(|begun| begun.elapsed() >= every || totals.records >= limit) {
            let start = clock::now();
            ends.commit(&args.input, &mut positions)?;
            totals.commits += 1;
            totals.committing += start.elapsed();
            begun = None;
        }
    }
    Ok(totals)
}

/// The queue that every assigned partition's records come by.
struct Source {
    queue: *mut sys::rd_kafka_queue_t,
    batch: Vec<*mut sys::rd_kafka_message_t>,
}

impl Source {
    fn of(consumer: &BaseConsumer) -> Self {
        // SAFETY: the handle belongs to the consumer, which lives until the process ends; the
        // queue reference is kept as long.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Self { queue, batch: vec![ptr::null_mut(); BATCH] }
    }

    /// The next records, after `patience_ms` at the latest.
    fn read(&mut self, patience_ms: i32) -> Result<impl Iterator<Item = Owned>> {
        // SAFETY: the queue lives, and `batch` has room for `BATCH` pointers.
        let read = unsafe {
            sys::rd_kafka_consume_batch_queue(self.queue, patience_ms, self.batch.as_mut_ptr(), BATCH)
        };
        let Ok(read) = usize::try_from(read) else {
            bail!("reading a batch failed");
        };
        Ok(self.batch.iter().take(read).map(|&message| Owned(message)))
    }
}

/// A message that is destroyed when it was copied.
struct Owned(*mut sys::rd_kafka_message_t);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the batch call gave this message to us, and each is wrapped exactly once.
        unsafe { sys::rd_kafka_message_destroy(self.0) };
    }
}

/// A topic handle of the producer.
struct Sink<'a> {
    producer: &'a BaseProducer,
    topic: *mut sys::rd_kafka_topic_t,
}

impl<'a> Sink<'a> {
    fn open(producer: &'a BaseProducer, topic: &str) -> Result<Self> {
        let name = CString::new(topic).context("a topic's name holds no zero byte")?;
        // SAFETY: the producer lives, `name` is a C string, and no configuration is passed.
        let handle = unsafe {
            sys::rd_kafka_topic_new(producer.client().native_ptr(), name.as_ptr(), ptr::null_mut())
        };
        if handle.is_null() {
            bail!("librdkafka refuses the topic {topic}");
        }
        Ok(Self { producer, topic: handle })
    }

    /// Copies a record; its partition and offset, or none when it is no record but an event.
    fn produce(&self, record: Owned) -> Option<(i32, i64)> {
        // SAFETY: the message is owned, hence alive.
        let message = unsafe { &*record.0 };
        if message.err != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: the handle lives as long as the producer, which lives until the process ends; the
        // bytes live as long as the message, and RD_KAFKA_MSG_F_COPY copies them before returning.
        while unsafe {
            sys::rd_kafka_produce(
                self.topic,
                UNASSIGNED,
                sys::RD_KAFKA_MSG_F_COPY,
                message.payload,
                message.len,
                message.key,
                message.key_len,
                ptr::null_mut(),
            )
        } != 0
        {
            self.producer.poll(Duration::from_millis(1));
        }
        Some((message.partition, message.offset))
    }
}
