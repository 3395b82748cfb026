//! Throughput, measured from outside and in the same way for everybody: the clock starts when the
//! first copied record stands in the output, and stops when the group has committed the whole input.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset};

use crate::clock;
use crate::contest::{Contestant, Route};
use crate::process::Running;
use crate::session::Session;
use crate::topics::{PARTITIONS, REQUEST_TIMEOUT, every_partition};

/// Between two looks at the broker: often enough for runs of seconds, too seldom to disturb them.
const PACE: Duration = Duration::from_millis(20);

/// How long a contestant may take to its first record.
const START_WITHIN: Duration = Duration::from_secs(90);

/// How long it may take to warm up, and from there to its last.
const END_WITHIN: Duration = Duration::from_secs(1800);

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// Records between the two moments.
    pub records: u64,
    /// Time between them.
    pub wall: Duration,
    /// User and system time of the process between them.
    pub cpu: Duration,
}

impl Measure {
    /// Records per second.
    pub fn per_second(&self) -> f64 {
        self.records as f64 / self.wall.as_secs_f64()
    }

    /// Records per CPU-second, which the broker's share of the cores does not blur.
    pub fn per_cpu_second(&self) -> f64 {
        self.records as f64 / self.cpu.as_secs_f64()
    }
}

/// Starts `contestant` and watches it copy the `records` of the input.
pub fn measure(
    session: &Session,
    contestant: &Contestant,
    route: Route<'_>,
    records: u64,
) -> Result<Measure> {
    let name = session.fresh_name(contestant.name().text());
    let eye = Eye::open(session.brokers(), &contestant.group(&name), route.input)?;
    let running = contestant.start(session, &name, route)?;
    let measure =
        eye.follow(&running, route, records, contestant.warm_up()).with_context(|| running.tail())?;
    running.stop()?;
    Ok(measure)
}

/// Looks at a group without joining it, and at a topic without reading it.
pub struct Eye {
    client: BaseConsumer,
}

impl Eye {
    /// An eye on `group`, which is to read `topic`. It has looked once already: to find the group's
    /// coordinator takes a second or more, and on a new broker some refusals, which must not be
    /// measured.
    pub fn open(brokers: &str, group: &str, topic: &str) -> Result<Self> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("group.id", group)
            // With read_committed, fetching offsets would wait for pending commits.
            .set("isolation.level", "read_uncommitted");
        let eye = Self { client: config.create()? };
        let (deadline, pace) = (Duration::from_secs(30), Duration::from_millis(100));
        clock::until("the group's coordinator answers", deadline, pace, || Ok(eye.committed(topic).ok()))?;
        Ok(eye)
    }

    /// Measures from the first record, or from the share `warm_up` of the records, to the last.
    pub fn follow(&self, running: &Running, route: Route<'_>, records: u64, warm_up: f64) -> Result<Measure> {
        let warm = (records as f64 * warm_up) as u64;
        let within = if warm == 0 { START_WITHIN } else { END_WITHIN };
        let skipped = clock::until("the first records", within, PACE, || {
            running.check()?;
            if warm == 0 {
                return Ok((self.written(route.output)? > 0).then_some(0));
            }
            Ok(Some(self.committed(route.input)?).filter(|&committed| committed >= warm))
        })?;
        let (begin, cpu_before) = (clock::now(), running.cpu()?);
        clock::until("the last record", END_WITHIN, PACE, || {
            running.check()?;
            Ok((self.committed(route.input)? >= records).then_some(()))
        })?;
        let (wall, cpu) = (begin.elapsed(), running.cpu()?.saturating_sub(cpu_before));
        Ok(Measure { records: records.saturating_sub(skipped), wall, cpu })
    }

    /// How many records of `topic` the group has finished, where offsets have no gaps.
    pub fn committed(&self, topic: &str) -> Result<u64> {
        let asked = every_partition(topic, Offset::Invalid)?;
        let answer = self.client.committed_offsets(asked, REQUEST_TIMEOUT).context("committed offsets")?;
        let offsets = answer.elements().into_iter().filter_map(|element| element.offset().to_raw());
        Ok(offsets.filter_map(|offset| u64::try_from(offset).ok()).sum())
    }

    /// How much `topic` holds, what is not committed yet included.
    pub fn written(&self, topic: &str) -> Result<u64> {
        let mut sum = 0;
        for partition in 0..PARTITIONS {
            let (_, end) = self.client.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?;
            sum += u64::try_from(end).unwrap_or_default();
        }
        Ok(sum)
    }
}
