//! Where a partition begins for which the group has no offset.
//!
//! A registered function has offsets for all its partitions, so this is a partition that was added
//! since, or a broker on which nothing can be registered (the embedded one).

use super::ASK_WAIT;
use crate::kafka::{Consumer, Error, Partition};
use crate::model::StartAt;

/// The offset at which reading begins.
pub fn resolve(consumer: &Consumer, partition: &Partition, start_at: StartAt) -> Result<i64, Error> {
    let (first, next) = consumer.ends(partition, ASK_WAIT)?;
    Ok(match start_at {
        StartAt::Earliest => first,
        StartAt::Latest => next,
        StartAt::Time(timestamp_ms) => consumer.offset_at(partition, timestamp_ms, ASK_WAIT)?.unwrap_or(next),
    })
}
