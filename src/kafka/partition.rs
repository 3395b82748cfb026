//! A partition by name, and lists of them as librdkafka wants them.

use std::fmt;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use rdkafka_sys as sys;

use super::error::Error;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What a group committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: Partition,
    /// The offset; `None`: the group never committed one, or it expired.
    pub offset: Option<i64>,
    /// The text beside it; bytes that are no UTF-8 are replaced, they are not ours anyway.
    pub metadata: String,
}

/// An offset with its metadata, to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub partition: Partition,
    /// The next offset to be read.
    pub offset: i64,
    /// The text beside it.
    pub metadata: String,
}

/// The partition, of so many, in which producers put a key that partition as Java's does by default: all of Tidemill's.
pub fn partition_of_key(key: &[u8], partitions: u32) -> i32 {
    ((murmur2(key) & 0x7fff_ffff) % partitions.max(1)) as i32
}

/// Kafka's `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        mixed = (mixed ^ (mixed >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ mixed;
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

pub(super) fn list<'a>(
    partitions: impl IntoIterator<Item = (&'a Partition, Offset)>,
) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(&partition.topic, partition.partition, offset)
            .map_err(|error| Error::of_call(&error))?;
    }
    Ok(list)
}

pub(super) fn commit_list(commits: &[Commit]) -> Result<TopicPartitionList, Error> {
    let list = list(commits.iter().map(|commit| (&commit.partition, Offset::Offset(commit.offset))))?;
    for commit in commits {
        if let Some(mut element) = list.find_partition(&commit.partition.topic, commit.partition.partition) {
            element.set_metadata(&commit.metadata);
        }
    }
    Ok(list)
}

pub(super) fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    raw(list).iter().map(partition_of).collect()
}

/// Reads a list with its per-partition errors. Not by `elements()`: that panics on lists that
/// librdkafka left empty, and its `metadata()` on bytes of other programs that are no UTF-8.
pub(super) fn committed(list: &TopicPartitionList) -> Result<Vec<Committed>, Error> {
    raw(list)
        .iter()
        .map(|element| {
            let partition = partition_of(element);
            if element.err as i32 != 0 {
                let reason = RDKafkaErrorCode::from(element.err).to_string();
                return Err(Error::Position {
                    topic: partition.topic,
                    partition: partition.partition,
                    reason,
                });
            }
            let metadata = if element.metadata.is_null() {
                String::new()
            } else {
                // SAFETY: librdkafka allocated `metadata_size` bytes at `metadata`, alive as long as the list.
                let bytes = unsafe {
                    std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size)
                };
                String::from_utf8_lossy(bytes).into_owned()
            };
            Ok(Committed { partition, offset: (element.offset >= 0).then_some(element.offset), metadata })
        })
        .collect()
}

/// The first error of a list's partitions other than `but`.
pub(super) fn check(list: &TopicPartitionList, but: RDKafkaErrorCode) -> Result<(), Error> {
    raw(list).iter().try_for_each(|element| {
        let code = RDKafkaErrorCode::from(element.err);
        if element.err as i32 == 0 || code == but {
            return Ok(());
        }
        let Partition { topic, partition } = partition_of(element);
        Err(Error::Position { topic, partition, reason: code.to_string() })
    })
}

fn raw(list: &TopicPartitionList) -> &[sys::rd_kafka_topic_partition_t] {
    // SAFETY: the list owns `cnt` elements at `elems` while it is borrowed; `elems` may be null when empty.
    unsafe {
        let list = &*list.ptr();
        if list.cnt <= 0 || list.elems.is_null() {
            return &[];
        }
        std::slice::from_raw_parts(list.elems, list.cnt as usize)
    }
}

fn partition_of(element: &sys::rd_kafka_topic_partition_t) -> Partition {
    // SAFETY: `topic` is a C string that lives as long as the list.
    let topic = unsafe { std::ffi::CStr::from_ptr(element.topic) };
    Partition { topic: topic.to_string_lossy().into_owned(), partition: element.partition }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn keys_are_hashed_as_java_hashes_them() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
        assert_eq!(partition_of_key(b"foobar", 1), 0);
        assert_eq!(partition_of_key(b"abc", 10), 7);
    }
}
