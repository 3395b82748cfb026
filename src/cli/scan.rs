//! Reads stretches of partitions, as readers of committed records see them.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::bail;

use crate::kafka::admin::{Isolation, OffsetAt};
use crate::kafka::{Admin, Consumer, Fetched, GroupEvent, Partition};
use crate::model::{Clock as _, Record, SystemClock};

/// How long the brokers may be silent.
pub const SILENT_FOR: Duration = Duration::from_secs(30);
/// How long one wait for them lasts.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A stretch of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The partition.
    pub partition: Partition,
    /// Its first offset.
    pub from: i64,
    /// One past its last.
    pub to: i64,
}

/// The partitions of `topics` from their first to their next offsets; topics that do not exist are left out.
pub fn whole(admin: &Admin, topics: &[&str], isolation: Isolation) -> anyhow::Result<Vec<Stretch>> {
    let counts = admin.topics(topics)?;
    let counted = counts.iter().filter_map(|(topic, count)| Some((topic.as_str(), (*count)? as i32)));
    let all: Vec<_> = counted.flat_map(|(topic, count)| (0..count).map(move |n| (topic, n))).collect();
    let list = |at| {
        let queries: Vec<_> = all.iter().map(|(topic, partition)| (*topic, *partition, at)).collect();
        admin.list_offsets(&queries, isolation)
    };
    let ends = list(OffsetAt::Earliest)?.into_iter().zip(list(OffsetAt::Latest)?);
    let stretches = all.iter().zip(ends).map(|((topic, partition), (from, to))| Stretch {
        partition: Partition { topic: (*topic).to_owned(), partition: *partition },
        from: from.unwrap_or(0),
        to: to.unwrap_or(0),
    });
    Ok(stretches.collect())
}

/// Shows each record of `stretches`, of which the consumer has been told where they begin, to `visit` until that breaks
/// off. Waits for transactions that are open there.
pub fn read(
    consumer: &mut Consumer,
    stretches: &[Stretch],
    visit: &mut dyn FnMut(&Record<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<ControlFlow<()>> {
    // Where each still has to be read to.
    let mut left: Vec<Option<i64>> =
        stretches.iter().map(|stretch| Some(stretch.to).filter(|to| stretch.from < *to)).collect();
    let mut last = 0;
    let mut place_of = |topic: &str, partition: i32| {
        let is_it = |Stretch { partition: of, .. }: &Stretch| of.partition == partition && of.topic == topic;
        if !stretches.get(last).is_some_and(is_it) {
            last = stretches.iter().position(is_it)?;
        }
        Some(last)
    };
    let clock = SystemClock::start();
    let mut heard_at = clock.now().elapsed;
    let mut trouble = None;
    while left.iter().any(Option::is_some) {
        if let Some(GroupEvent::Trouble(error) | GroupEvent::Away(error)) = consumer.group_event() {
            trouble = Some(error);
        }
        let now = clock.now().elapsed;
        if consumer.fill(LOOK_EVERY) > 0 {
            heard_at = now;
        } else if now.saturating_sub(heard_at) > SILENT_FOR {
            let missing = stretches.iter().zip(&left).filter(|(_, left)| left.is_some());
            let mut topics: Vec<_> = missing.map(|(stretch, _)| stretch.partition.topic.as_str()).collect();
            topics.dedup();
            let reason = trouble.map_or_else(
                || "no answer, or a transaction that stays open".to_owned(),
                |error| error.to_string(),
            );
            bail!("{} could not be read for {SILENT_FOR:?}: {reason}", topics.join(", "));
        }
        while let Some(fetched) = consumer.head() {
            match fetched {
                Fetched::Record(record) => {
                    // Partitions that stay assigned bring what is new there while others are asked for.
                    if let Some(place) = place_of(record.topic, record.partition) {
                        let end = left[place];
                        left[place] = end.filter(|end| record.offset + 1 < *end);
                        if end.is_some_and(|end| record.offset < end) && visit(&record)?.is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                }
                Fetched::End { topic, partition, offset } => {
                    if let Some(place) = place_of(topic, partition) {
                        left[place] = left[place].filter(|end| offset < *end);
                    }
                }
                Fetched::Error { topic, partition, text, .. } => bail!("{topic}/{partition}: {text}"),
            }
            consumer.advance();
        }
    }
    Ok(ControlFlow::Continue(()))
}
