//! The input: records whose bytes depend on their number alone, so that every run reads the same.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;

use crate::timeline::Timeline;

/// Different keys in an input, usually.
pub const KEYS: u64 = 10_000;

/// What the records look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// 100 bytes that mean nothing, with so many different keys.
    Plain {
        /// How many.
        keys: u64,
    },
    /// 100 bytes that mean nothing, at times and with keys that the timeline tells.
    Timed(Timeline),
    /// So many bytes that mean nothing, at most 100, and each record with a key of its own of 16 bytes.
    Distinct {
        /// How many.
        bytes: usize,
    },
    /// Rides as CloudEvents in binary mode; half of them of type [`COMPLETED`].
    Rides,
}

/// The type of the rides that the filter lets through.
pub const COMPLETED: &str = "com.example.ride.completed";
/// The type of those that it does not.
const REQUESTED: &str = "com.example.ride.requested";

/// Writes `records` records of `shape` to `topic`, outside of any transaction: their offsets have
/// no gaps, so the sum of a group's committed offsets is the number of records that it finished.
pub fn fill(brokers: &str, topic: &str, records: u64, shape: Shape) -> Result<()> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "5")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "1000000");
    let producer: BaseProducer = config.create()?;
    let plain = [b'x'; 100];
    for n in 0..records {
        let key = match shape {
            Shape::Plain { keys } => format!("k{}", number(n, keys)),
            Shape::Timed(timeline) => format!("k{}", timeline.key(n)),
            Shape::Rides => format!("k{}", number(n, KEYS)),
            Shape::Distinct { .. } => format!("{n:016}"),
        };
        match shape {
            Shape::Plain { .. } => send(&producer, BaseRecord::to(topic).key(key.as_str()).payload(&plain))?,
            Shape::Timed(timeline) => {
                let record = BaseRecord::to(topic).key(key.as_str()).payload(&plain);
                send(&producer, record.timestamp(timeline.at(n)))?;
            }
            Shape::Distinct { bytes } => {
                let value = plain.get(..bytes).context("a distinct record has at most 100 bytes")?;
                send(&producer, BaseRecord::to(topic).key(key.as_str()).payload(value))?;
            }
            Shape::Rides => {
                let (id, body) = (format!("ride-{n}"), ride(n, &key));
                let record = BaseRecord::to(topic).key(key.as_str()).payload(body.as_bytes());
                send(&producer, record.headers(attributes(n, &id)))?;
            }
        }
        if n % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(120)).context("write the input")
}

/// How many of the first `records` rides the filter lets through.
pub fn completed(records: u64) -> u64 {
    (0..records).filter(|&n| is_completed(n)).count() as u64
}

/// Sends one record; a full queue is waited for.
pub fn send<K, P>(producer: &BaseProducer, mut record: BaseRecord<'_, K, P>) -> Result<()>
where
    K: rdkafka::message::ToBytes + ?Sized,
    P: rdkafka::message::ToBytes + ?Sized,
{
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(1));
                record = back;
            }
            Err((error, _)) => return Err(error).context("produce"),
        }
    }
}

/// Keys in an order without runs: 7919 is prime.
pub fn number(n: u64, keys: u64) -> u64 {
    (n * 7919) % keys
}

/// The numbers in the keys of the first `records` records.
pub fn numbers(records: u64, keys: u64) -> impl Iterator<Item = u64> {
    (0..records).map(move |n| number(n, keys))
}

/// Every key has both kinds in turn: the kind changes from one round over the keys to the next.
fn is_completed(n: u64) -> bool {
    (n + n / KEYS).is_multiple_of(2)
}

fn ride(n: u64, rider: &str) -> String {
    let (fare, km) = (500 + n % 4000, 10 + n % 300);
    format!(
        r#"{{"rider":"{rider}","driver":"d{}","fare":{}.{:02},"currency":"EUR","km":{}.{},"city":"Lisbon"}}"#,
        n % 977,
        fare / 100,
        fare % 100,
        km / 10,
        km % 10
    )
}

fn attributes(n: u64, id: &str) -> OwnedHeaders {
    let kind = if is_completed(n) { COMPLETED } else { REQUESTED };
    let pairs = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", "/bench/rides"),
        ("ce_type", kind),
        ("content-type", "application/json"),
    ];
    pairs.into_iter().fold(OwnedHeaders::new_with_capacity(pairs.len()), |headers, (key, value)| {
        headers.insert(Header { key, value: Some(value) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> String {
        format!("k{}", number(n, KEYS))
    }

    #[test]
    fn half_of_the_rides_of_every_key_are_completed() {
        let (rounds, watched) = (10, "k7919");
        let rides = (0..KEYS * rounds).filter(|&n| key(n) == watched);
        assert_eq!(rides.filter(|&n| is_completed(n)).count() as u64, rounds / 2);
        assert_eq!(completed(KEYS * rounds), KEYS * rounds / 2);
    }

    #[test]
    fn a_ride_is_about_100_bytes_long() {
        for n in [0, 3_999, 9_999, 11_999_999] {
            let length = ride(n, &key(n)).len();
            assert!((75..=105).contains(&length), "{length} bytes");
        }
    }
}
