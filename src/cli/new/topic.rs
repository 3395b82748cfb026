//! Reads the last records of a topic, over all its partitions, for a [`Survey`]. Joins no group and commits nothing.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::survey::Survey;
use crate::kafka::admin::{Isolation, OffsetAt};
use crate::kafka::{Admin, Cluster, Consumer, Fetched, GroupEvent, Partition};
use crate::model::{Clock as _, SystemClock};

/// A broker that sends nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at about the last `samples` records of `topic`.
pub fn survey(cluster: &Cluster, topic: &str, samples: i64) -> anyhow::Result<Survey> {
    let admin = Admin::new(cluster)?;
    let count = admin.topics(&[topic])?.into_values().flatten().next();
    let count =
        count.with_context(|| format!("topic {topic} does not exist on {}", cluster.brokers()))? as i32;
    let list = |at| {
        let queries: Vec<_> = (0..count).map(|partition| (topic, partition, at)).collect();
        admin.list_offsets(&queries, Isolation::ReadCommitted)
    };
    let bounds = list(OffsetAt::Earliest)?.into_iter().zip(list(OffsetAt::Latest)?);
    let bounds: Vec<_> = bounds.map(|(first, end)| (first.unwrap_or(0), end.unwrap_or(0))).collect();
    let held: Vec<_> = bounds.iter().map(|(first, end)| (end - first).max(0)).collect();
    let starts: Vec<_> =
        bounds.iter().zip(shares(&held, samples)).map(|((_, end), share)| end - share).collect();
    let survey = read(cluster, topic, &starts, samples)?;
    let firsts: Vec<_> = bounds.iter().map(|(first, _)| *first).collect();
    if survey.records() == 0 && starts != firsts {
        // Nothing but markers of transactions or what they aborted stands at the end.
        return read(cluster, topic, &firsts, samples);
    }
    Ok(survey)
}

/// Parts `wanted` over partitions that hold so many offsets: evenly, and what one lacks the others give.
fn shares(held: &[i64], wanted: i64) -> Vec<i64> {
    let mut shares = vec![0; held.len()];
    let mut by_size: Vec<usize> = (0..held.len()).collect();
    by_size.sort_by_key(|&partition| held[partition]);
    let mut left = wanted;
    for (done, &partition) in by_size.iter().enumerate() {
        let others = (held.len() - done) as i64;
        shares[partition] = held[partition].min((left + others - 1) / others);
        left -= shares[partition];
    }
    shares
}

/// Reads from these offsets, one a partition, to the end that is reached first or `most` records.
fn read(cluster: &Cluster, topic: &str, starts: &[i64], most: i64) -> anyhow::Result<Survey> {
    let mut consumer = Consumer::reader(cluster, "new")?;
    let place = |(partition, &offset): (usize, &i64)| {
        (Partition { topic: topic.to_owned(), partition: partition as i32 }, offset)
    };
    consumer.assign(&starts.iter().enumerate().map(place).collect::<Vec<_>>())?;
    let clock = SystemClock::start();
    let mut heard = clock.now().elapsed;
    let mut survey = Survey::default();
    let mut at_end = HashSet::new();
    let mut left = most;
    while left > 0 && at_end.len() < starts.len() {
        if let Some(GroupEvent::Trouble(error) | GroupEvent::Away(error)) = consumer.group_event() {
            eprintln!("tidemill: {error}; still trying");
        }
        consumer.fill(Duration::from_millis(100));
        while let Some(fetched) = consumer.head() {
            heard = clock.now().elapsed;
            match fetched {
                // What came after the end was there is not waited for.
                Fetched::Record(record) if left > 0 && !at_end.contains(&record.partition) => {
                    survey.add(&record);
                    left -= 1;
                }
                Fetched::Record(_) => {}
                Fetched::End { partition, .. } => drop(at_end.insert(partition)),
                Fetched::Error { topic, partition, text, .. } => bail!("{topic}/{partition}: {text}"),
            }
            consumer.advance();
        }
        if clock.now().elapsed.saturating_sub(heard) > PATIENCE {
            let seconds = PATIENCE.as_secs();
            bail!("{} sent nothing of topic {topic} for {seconds} s", cluster.brokers());
        }
    }
    Ok(survey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_share_what_is_wanted() {
        for (held, wanted, expected) in [
            (&[100, 100][..], 10, &[5, 5][..]),
            (&[100, 2], 10, &[8, 2]),
            (&[0, 100, 3], 10, &[0, 7, 3]),
            (&[1, 1], 10, &[1, 1]),
            (&[5, 5, 5], 1, &[1, 0, 0]),
            (&[], 10, &[]),
        ] {
            assert_eq!(shares(held, wanted), expected, "{held:?}");
        }
    }
}
