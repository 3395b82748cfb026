//! Where a partition begins for which the group has no offset.
//!
//! A registered function has offsets for all its partitions, so this is a partition that was added
//! since, or a broker on which nothing can be registered (the embedded one).

use super::ASK_WAIT;
use crate::kafka::{Consumer, Error, Partition};
use crate::model::StartAt;

/// The offset at which reading begins. A partition that was added to a topic which the group knows is read from its
/// first record, whatever `startAt` says: nobody was asked about it, and nothing may be lost.
pub fn resolve(consumer: &Consumer, partition: &Partition, start_at: StartAt) -> Result<i64, Error> {
    let (first, next) = consumer.ends(partition, ASK_WAIT)?;
    Ok(match start_at {
        StartAt::Earliest => first,
        _ if is_known(consumer, &partition.topic)? => first,
        StartAt::Latest => next,
        StartAt::Time(timestamp_ms) => consumer.offset_at(partition, timestamp_ms, ASK_WAIT)?.unwrap_or(next),
    })
}

/// The group has committed something for this topic.
fn is_known(consumer: &Consumer, topic: &str) -> Result<bool, Error> {
    let partitions = consumer.partitions(topic, ASK_WAIT)?;
    Ok(consumer.committed(&partitions, ASK_WAIT)?.iter().any(|found| found.offset.is_some()))
}
