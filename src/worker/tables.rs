//! Tables. Those of which each worker has all rows are read by a thread with a consumer of its own, from the beginning of
//! their topics on; no lane begins before the ends that stood when it looked are reached. Rows of those that are kept by
//! key come through the stitch topic as events do; until what stood in their topics when a lane was assigned has come so
//! far, whoever it is that reads it, no event is sent on: it would be called before its rows are there.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::tap::Settlement;
use super::{ASK_WAIT, Config, Worker};
use crate::kafka::admin::Isolation;
use crate::kafka::{Admin, AdminError, Bounds, Cluster, Consumer, Error, Fetched, Partition};
use crate::model::{Clock, HeaderBuffer, OwnedRecord, TableScope};
use crate::pipeline::Settled;

/// Rows that wait for the worker: so many lists of at most a batch.
const LISTS: usize = 8;

/// How long the thread waits for rows before it looks whether anybody still wants them.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often it looks whether a topic has more partitions.
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// From a failure to the next attempt.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// From one question how far rows have come to the next.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What the thread has to say.
enum News {
    /// Rows, in the order of their partitions.
    Rows(Vec<OwnedRecord>),
    /// All that stood in the topics when it looked was sent.
    Read,
}

/// Tables of which this worker has all rows.
pub struct AllTables {
    news: Option<Receiver<News>>,
    is_read: bool,
    is_unwanted: Arc<AtomicBool>,
}

impl Drop for AllTables {
    fn drop(&mut self) {
        self.is_unwanted.store(true, Ordering::Relaxed);
    }
}

impl AllTables {
    pub fn start(config: &Config) -> io::Result<Self> {
        let tables = config.function.sources.iter().filter(|source| source.is_read_by_all());
        let topics: Vec<String> = tables.map(|source| source.topic.clone()).collect();
        if topics.is_empty() {
            return Ok(Self { news: None, is_read: true, is_unwanted: Arc::default() });
        }
        let (sender, news) = sync_channel(LISTS);
        let is_unwanted = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            cluster: config.cluster.clone(),
            topics,
            clock: Arc::clone(&config.clock),
            sender,
            is_unwanted: Arc::clone(&is_unwanted),
        };
        std::thread::Builder::new().name("tables".to_owned()).spawn(move || reader.run())?;
        Ok(Self { news: Some(news), is_read: false, is_unwanted })
    }
}

struct Reader {
    cluster: Cluster,
    topics: Vec<String>,
    clock: Arc<dyn Clock>,
    sender: SyncSender<News>,
    is_unwanted: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Kafka(#[from] Error),
    /// There are more partitions than before.
    #[error("topic {0} has more partitions")]
    Grown(String),
}

impl Reader {
    fn run(&self) {
        while !self.is_unwanted.load(Ordering::Relaxed) {
            match self.read() {
                Ok(()) => return,
                Err(error @ ReadError::Grown(_)) => tracing::info!("table: {error}: read from its beginning"),
                Err(error) => tracing::warn!("a table could not be read yet: {error}"),
            }
            // Nobody waits for this thread.
            std::thread::park_timeout(AGAIN_AFTER);
        }
    }

    /// Reads until nobody wants it any more.
    fn read(&self) -> Result<(), ReadError> {
        let admin = Admin::new(&self.cluster)?;
        let names: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let counts = admin.topics(&names)?;
        let mut left = Self::bounds(&admin, &counts)?;
        drop(admin);
        let starts: Vec<_> = left.iter().map(|(place, bounds)| (place.clone(), bounds.log_start)).collect();
        let mut consumer = Consumer::reader(&self.cluster, "table")?;
        consumer.assign(&starts)?;
        left.retain(|_, bounds| bounds.log_start < bounds.end);
        let (mut is_told, mut count_at) = (false, self.clock.now().elapsed + COUNT_EVERY);
        let topics: HashMap<&str, Arc<str>> =
            self.topics.iter().map(|topic| (topic.as_str(), Arc::from(topic.as_str()))).collect();
        while !self.is_unwanted.load(Ordering::Relaxed) {
            if left.is_empty()
                && !std::mem::replace(&mut is_told, true)
                && self.sender.send(News::Read).is_err()
            {
                break;
            }
            while consumer.group_event().is_some() {}
            consumer.fill(LOOK_EVERY);
            let mut rows = Vec::new();
            while let Some(fetched) = consumer.head() {
                let reached = match fetched {
                    Fetched::Record(record) => {
                        if let Some(topic) = topics.get(record.topic) {
                            let mut row = OwnedRecord::default();
                            row.copy(&record, topic);
                            rows.push(row);
                        }
                        (record.topic, record.partition, record.offset + 1)
                    }
                    Fetched::End { topic, partition, offset } => (topic, partition, offset),
                    Fetched::Error { text, .. } => return Err(Error::Away(text).into()),
                };
                if !left.is_empty() {
                    let (topic, partition, offset) = reached;
                    let is_it = |place: &Partition| place.partition == partition && place.topic == topic;
                    left.retain(|place, bounds| !is_it(place) || offset < bounds.end);
                }
                consumer.advance();
            }
            if !rows.is_empty() && self.sender.send(News::Rows(rows)).is_err() {
                break;
            }
            let now = self.clock.now().elapsed;
            if now >= count_at {
                count_at = now + COUNT_EVERY;
                for (topic, count) in &counts {
                    if consumer
                        .partitions(topic, ASK_WAIT)
                        .is_ok_and(|found| found.len() > count.unwrap_or(0))
                    {
                        return Err(ReadError::Grown(topic.clone()));
                    }
                }
            }
        }
        consumer.close();
        Ok(())
    }

    /// Where all partitions of the topics begin and end, which have so many.
    fn bounds(
        admin: &Admin,
        counts: &BTreeMap<String, Option<usize>>,
    ) -> Result<BTreeMap<Partition, Bounds>, AdminError> {
        let places = counts.iter().flat_map(|(topic, count)| {
            let count = i32::try_from(count.unwrap_or(0)).unwrap_or(i32::MAX);
            (0..count).map(|partition| Partition { topic: topic.clone(), partition })
        });
        admin.bounds(&places.collect::<Vec<_>>(), Isolation::ReadCommitted)
    }
}

/// Whether events may be sent on: rows that stood in the tables' topics go before them.
#[derive(Debug, Default)]
pub enum Gate {
    /// They may.
    #[default]
    Open,
    /// Nobody has looked yet how far the rows must have come.
    Unknown,
    /// They wait until so much of each partition was sent on.
    Until(Vec<(Partition, i64)>),
}

impl Worker {
    /// Takes up rows of tables that each worker has as a whole.
    pub(super) fn take_rows(&mut self) {
        let Some(news) = &self.tables.news else { return };
        let mut headers = HeaderBuffer::default();
        for _ in 0..LISTS {
            match news.try_recv() {
                Ok(News::Read) => {
                    self.tables.is_read = true;
                    let (rows, bytes) = self.pipeline.table_size();
                    tracing::info!(rows, bytes, "tables are read");
                }
                Ok(News::Rows(mut rows)) => {
                    // Each worker takes them: it is enough that one tells.
                    let mut tap = self.tap.as_mut().filter(|_| self.config.slot == 0);
                    for row in &mut rows {
                        let pipeline = &mut self.pipeline;
                        row.lend(&mut headers, |record| {
                            let Some(source) = pipeline.source_of(record.topic) else { return };
                            if let Err(error) = pipeline.take_row(source, record) {
                                let (topic, partition, offset) =
                                    (record.topic, record.partition, record.offset);
                                tracing::warn!(topic, partition, offset, "a row is passed over: {error}");
                            }
                            if let Some(tap) = tap.as_deref_mut() {
                                let settled = Settled::Ok { written: 0, unrouted: 0 };
                                let took = Duration::ZERO;
                                tap.settled(&Settlement { record, attempt: 1, settled: &settled, took });
                            }
                        });
                    }
                    if let Some(tap) = tap.filter(|_| !self.outputs.is_open()) {
                        tap.rested();
                    }
                }
                Err(_) => break,
            }
        }
    }

    /// What stood in the tables of which each worker has all rows is here.
    pub(super) fn has_tables(&self) -> bool {
        self.tables.is_read
    }

    /// Lanes have come: events wait for what stands in the tables now.
    pub(super) fn await_tables(&mut self) {
        let is_lane = |scope: Option<TableScope>| scope == Some(TableScope::Lane);
        if self.config.function.sources.iter().any(|source| is_lane(source.table)) {
            self.gathers.gate = Gate::Unknown;
            self.gathers.look_at_once();
        }
    }

    /// Events wait for rows of tables.
    pub(super) fn waits_for_rows(&mut self, now: Duration) -> bool {
        match &self.gathers.gate {
            Gate::Open => return false,
            _ if now < self.gathers.gate_at => return true,
            Gate::Unknown => {
                if let Ok(until) = self.table_ends() {
                    self.gathers.gate = Gate::Until(until);
                }
            }
            Gate::Until(_) => {}
        }
        self.gathers.gate_at = now + ASK_EVERY;
        let Gate::Until(until) = &self.gathers.gate else { return true };
        let places: Vec<Partition> = until.iter().map(|(place, _)| place.clone()).collect();
        let Ok(committed) = self.consumer.committed(&places, ASK_WAIT / 10) else { return true };
        let has_come = |place: &Partition, end: i64| {
            let found = committed.iter().find(|found| found.partition == *place);
            found.and_then(|found| found.offset).is_some_and(|offset| offset >= end)
        };
        if until.iter().all(|(place, end)| has_come(place, *end)) {
            self.gathers.gate = Gate::Open;
            return false;
        }
        true
    }

    /// Where the topics of tables that are kept by key end; those without anything are left out.
    fn table_ends(&self) -> Result<Vec<(Partition, i64)>, Error> {
        let mut ends = Vec::new();
        let sources = self.config.function.sources.iter();
        for source in sources.filter(|source| source.table == Some(TableScope::Lane)) {
            for place in self.consumer.partitions(&source.topic, ASK_WAIT / 10)? {
                let (first, end) = self.consumer.ends(&place, ASK_WAIT / 10)?;
                if first < end {
                    ends.push((place, end));
                }
            }
        }
        Ok(ends)
    }
}
