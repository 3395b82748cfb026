//! Latency, measured from outside and in the same way for everybody: numbered records go into the
//! input at an even pace, and each is timed when a `read_committed` reader gets its copy.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord};
use rdkafka::{ClientConfig, Message, Offset};

use crate::process::Running;
use crate::{clock, fill, topics};

/// Keys of the probe's records.
const KEYS: u64 = 100;

/// How long the first record may take: the contestant starts and joins its group meanwhile.
const START_WITHIN: Duration = Duration::from_secs(90);

/// How long the last records may take after they were sent.
const LAST_WITHIN: Duration = Duration::from_secs(10);

/// How to probe.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Records a second.
    pub rate: u64,
    /// The first seconds, which do not count.
    pub warm_up: Duration,
    /// The seconds that count.
    pub time: Duration,
    /// `fetch.wait.max.ms` of the reader: how long the broker may hold back a fetch that a commit
    /// would answer. Its share of the latency is everybody's, and hides the contestants' own.
    pub fetch_wait_ms: u32,
}

/// Times from produce to visible, sorted.
#[derive(Debug, Clone)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Of these.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that the share `q` of the records (0 to 1) did not exceed, in milliseconds.
    pub fn quantile_ms(&self, q: f64) -> f64 {
        let rank = (q * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Both ends of the probe.
pub struct Probe<'a> {
    producer: BaseProducer,
    reader: BaseConsumer,
    input: &'a str,
    /// A second input: each number goes there first, and comes back once both are stitched.
    beside: Option<&'a str>,
    pace: Pace,
}

impl<'a> Probe<'a> {
    /// The same on a stitch with what goes to `beside`.
    pub fn beside(self, beside: &'a str) -> Self {
        Self { beside: Some(beside), ..self }
    }

    /// A probe on a copy from `input` to `output`, both still empty.
    pub fn open(brokers: &str, input: &'a str, output: &str, pace: Pace) -> Result<Self> {
        Self::open_at(Offset::Beginning, brokers, (input, output), pace)
    }

    /// The same, where there are copies of others already.
    pub fn open_at_end(brokers: &str, input: &'a str, output: &str, pace: Pace) -> Result<Self> {
        Self::open_at(Offset::End, brokers, (input, output), pace)
    }

    fn open_at(offset: Offset, brokers: &str, (input, output): (&'a str, &str), pace: Pace) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            // What the probe itself adds to the latency is kept small.
            .set("linger.ms", "0")
            .set("partitioner", "murmur2_random");
        let producer = config.create()?;
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("group.id", "tidemill-bench-ping")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", pace.fetch_wait_ms.to_string());
        let reader: BaseConsumer = config.create()?;
        reader.assign(&topics::every_partition(output, offset)?)?;
        Ok(Self { producer, reader, input, beside: None, pace })
    }

    /// Waits until copies come, then measures.
    pub fn measure(&self, running: &Running) -> Result<Latencies> {
        self.knock(running).and_then(|()| self.exchange()).with_context(|| running.tail())
    }

    /// Sends single records until one comes back.
    fn knock(&self, running: &Running) -> Result<()> {
        let pace = Duration::from_millis(100);
        // Numbers from the end of the range: late copies of knocks must not pass for others.
        let mut knocks = (0..=u64::MAX).rev();
        clock::until("the first copy", START_WITHIN, Duration::ZERO, || {
            running.check()?;
            self.send(knocks.next().context("numbers do not run out")?)?;
            Ok(self.receive(pace)?.map(drop))
        })
    }

    /// Sends record `n` alone, and waits for its copy: how long that took.
    pub fn once(&self, running: &Running, n: u64, within: Duration) -> Result<Duration> {
        let begin = clock::now();
        self.send(n)?;
        let back = clock::until("the copy", within, Duration::ZERO, || {
            running.check()?;
            Ok(self.receive(Duration::from_millis(100))?.filter(|&back| back == n))
        });
        back.with_context(|| running.tail())?;
        Ok(begin.elapsed())
    }

    fn exchange(&self) -> Result<Latencies> {
        let Pace { rate, warm_up, time, .. } = self.pace;
        let uncounted = rate * warm_up.as_secs();
        let all = uncounted + rate * time.as_secs();
        let due = |n: u64| Duration::from_secs_f64(n as f64 / rate as f64);
        let begin: Instant = clock::now();
        let (mut sent, mut back) = (0, 0);
        let mut times = Vec::with_capacity((all - uncounted) as usize);
        while back < all {
            while sent < all && begin.elapsed() >= due(sent) {
                self.send(sent)?;
                sent += 1;
            }
            if let Some(n) = self.receive(Duration::from_micros(200))?.filter(|&n| n < all) {
                back += 1;
                // From when it was due, not from when it was sent: a stall must not hide itself.
                if n >= uncounted {
                    times.push(begin.elapsed().saturating_sub(due(n)));
                }
            }
            if begin.elapsed() > warm_up + time + LAST_WITHIN {
                bail!("{back} of {all} records came back");
            }
        }
        Ok(Latencies::of(times))
    }

    /// Sends record `n`: 100 bytes that begin with the number.
    fn send(&self, n: u64) -> Result<()> {
        let (key, value) = (format!("k{}", n % KEYS), format!("{n:<100}"));
        if let Some(beside) = self.beside {
            fill::send(&self.producer, BaseRecord::to(beside).key(key.as_str()).payload("x"))?;
        }
        fill::send(&self.producer, BaseRecord::to(self.input).key(key.as_str()).payload(value.as_bytes()))
    }

    /// The number of the next copy.
    fn receive(&self, patience: Duration) -> Result<Option<u64>> {
        self.producer.poll(Duration::ZERO);
        let Some(record) = self.reader.poll(patience) else {
            return Ok(None);
        };
        let record = record.context("read the output")?;
        let text = record.payload().map(std::str::from_utf8).context("a copy has a value")??;
        let number = match self.beside {
            None => text,
            // `…,"<input>":"17   …",…`
            Some(_) => {
                let named = format!(r#""{}":""#, self.input);
                text.split_once(&named).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default()
            }
        };
        Ok(Some(number.trim_end().parse().context("a copy begins with its number")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let latencies = Latencies::of(times);
        for (q, expected) in [(0.0, 1.0), (0.5, 100.0), (0.99, 198.0), (1.0, 200.0)] {
            assert!((latencies.quantile_ms(q) - expected).abs() < 1e-9, "quantile {q}");
        }
    }
}
