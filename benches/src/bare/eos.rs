//! The loop as it is usually written: one poll a record, a transaction every so often.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::producer::{BaseRecord, Producer};

use super::{Args, Ends, Positions, Totals};
use crate::{clock, fill};

/// Copies `args.input` to `args.output`.
pub(super) fn copy(ends: &Ends, args: &Args) -> Result<Totals> {
    ends.consumer.subscribe(&[&args.input])?;
    let limit = args.records.unwrap_or(u64::MAX);
    let every = Duration::from_millis(args.every_ms);
    let mut totals = Totals::default();
    let mut positions = Positions::default();
    let mut begun = None;
    while totals.records < limit || begun.is_some() {
        if totals.records < limit {
            let patience = Duration::from_millis(if begun.is_some() { 1 } else { 100 });
            if let Some(record) = ends.consumer.poll(patience) {
                let record = record.context("read the input")?;
                if begun.is_none() {
                    ends.producer.begin_transaction()?;
                    begun = Some(clock::now());
                }
                let (key, value) = (record.key().unwrap_or_default(), record.payload().unwrap_or_default());
                fill::send(&ends.producer, BaseRecord::to(&args.output).key(key).payload(value))?;
                positions.finished(record.partition(), record.offset());
                totals.records += 1;
                if totals.records.is_multiple_of(1000) {
                    ends.producer.poll(Duration::ZERO);
                }
            }
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
