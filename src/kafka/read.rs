//! One record from its place, without joining a group.

use std::time::Duration;

use super::cluster::Cluster;
use super::consumer::{Consumer, Fetched, GroupEvent};
use super::error::Error;
use super::partition::Partition;
use crate::model::{Clock, Record, SystemClock};

/// How long one wait for the broker lasts.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Hands the committed record at `offset` of `partition` to `take`. `None`: no record has that offset;
/// a transaction's marker, an aborted or a compacted record stood there, or nothing yet.
pub fn read_one<R>(
    cluster: &Cluster,
    partition: &Partition,
    offset: i64,
    within: Duration,
    take: impl FnOnce(&Record<'_>) -> R,
) -> Result<Option<R>, Error> {
    // The first thing read from there lies behind: this offset carries no record.
    let exactly = |record: &Record<'_>| (record.offset == offset).then(|| take(record));
    Ok(read_first(cluster, partition, offset, within, exactly)?.flatten())
}

/// Hands the first committed record at or after `offset` of `partition` to `take`. `None`: there is none.
pub fn read_first<R>(
    cluster: &Cluster,
    partition: &Partition,
    offset: i64,
    within: Duration,
    take: impl FnOnce(&Record<'_>) -> R,
) -> Result<Option<R>, Error> {
    let mut consumer = Consumer::reader(cluster, "read")?;
    let clock = SystemClock::start();
    let (first, end) = consumer.ends(partition, within)?;
    if !(first..end).contains(&offset) {
        return Err(Error::Position {
            topic: partition.topic.clone(),
            partition: partition.partition,
            reason: format!(
                "holds the offsets {first} to {end}, the end not included; {offset} is not among them"
            ),
        });
    }
    consumer.assign(&[(partition.clone(), offset)])?;
    let mut trouble = None;
    while clock.now().elapsed < within {
        if let Some(GroupEvent::Trouble(error) | GroupEvent::Away(error)) = consumer.group_event() {
            trouble = Some(error);
        }
        if consumer.fill(LOOK_EVERY) == 0 {
            continue;
        }
        match consumer.head() {
            Some(Fetched::Record(record)) => return Ok(Some(take(&record))),
            Some(Fetched::End { .. }) => return Ok(None),
            Some(Fetched::Error { code, text, .. }) => return Err(Error::of_code(code, &text)),
            None => {}
        }
    }
    Err(trouble.unwrap_or_else(|| Error::Away(format!("no answer for {partition} within {within:?}"))))
}
