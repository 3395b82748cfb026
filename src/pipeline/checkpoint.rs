//! What a cut commits for one lane: the offset, and beside it, in the metadata of the offset commit,
//! what an offset cannot say.
//!
//! The metadata is text of at most 4096 bytes on a default broker (`offset.metadata.max.bytes`):
//! `tm1:` and unpadded base64 of
//!
//! | field | form |
//! |---|---|
//! | cut number | varint |
//! | least watermark, ms | zigzag varint |
//! | wakeAt, ms since the epoch, 0 for none | varint |
//! | runs from the committed offset on, alternately open and finished | varint count, varint lengths |
//! | failed calls of open offsets | varint count, (varint distance, varint calls) |
//! | first offset of the account | zigzag varint |
//! | account: ok, of these without output, skipped, filtered, dead letters, outputs | varint count, varints |
//! | FNV-1a of all before | 4 bytes, little endian |

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::account::Account;
use super::ledger::Ledger;

const PREFIX: &str = "tm1:";

/// The broker's default for `offset.metadata.max.bytes`.
pub const METADATA_LIMIT: usize = 4096;

/// The most unfinished offsets of a lane: what a reader of metadata is ready to hold.
const MAX_OPEN: usize = 1 << 16;

/// What the number of an event's failed calls takes at most.
const COUNT: usize = 5;

/// What a cut says about one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Counts this lane's cuts, from 1; tells after a commit of unknown outcome whether it happened.
    pub cut: u64,
    /// Progress.
    pub ledger: Ledger,
    /// Least watermark of the lane in milliseconds; `i64::MIN` before any event.
    pub watermark_ms: i64,
    /// The next deadline in wall time, milliseconds since the epoch.
    pub wake_at_ms: Option<u64>,
    /// What became of the events so far.
    pub account: Account,
}

/// Metadata that begins like ours but cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the committed metadata is damaged: {0}")]
pub struct Damaged(&'static str);

impl Checkpoint {
    /// The checkpoint of a lane that has none: reading begins at `offset`.
    pub fn fresh(offset: i64) -> Self {
        Self {
            cut: 0,
            ledger: Ledger::starting_at(offset),
            watermark_ms: i64::MIN,
            wake_at_ms: None,
            account: Account::starting_at(offset),
        }
    }

    /// The offset to commit.
    pub fn offset(&self) -> i64 {
        self.ledger.position()
    }

    /// The metadata to commit beside [`Checkpoint::offset`].
    pub fn metadata(&self) -> String {
        let mut bytes = Vec::with_capacity(64);
        put(&mut bytes, self.cut);
        put(&mut bytes, zigzag(self.watermark_ms));
        put(&mut bytes, self.wake_at_ms.unwrap_or(0));
        let runs = self.runs();
        put(&mut bytes, runs.len() as u64);
        for run in runs {
            put(&mut bytes, run);
        }
        let failed: Vec<_> = self.ledger.open().iter().filter(|(_, calls)| **calls > 0).collect();
        put(&mut bytes, failed.len() as u64);
        for (offset, calls) in failed {
            put(&mut bytes, (offset - self.offset()) as u64);
            put(&mut bytes, u64::from(*calls));
        }
        put(&mut bytes, zigzag(self.account.since));
        let counts = self.account.counts();
        put(&mut bytes, counts.len() as u64);
        for count in counts {
            put(&mut bytes, count);
        }
        bytes.extend_from_slice(&fnv(&bytes).to_le_bytes());
        let mut text = String::with_capacity(PREFIX.len() + bytes.len() * 4 / 3 + 4);
        text.push_str(PREFIX);
        STANDARD_NO_PAD.encode_string(&bytes, &mut text);
        text
    }

    /// How long [`Checkpoint::metadata`] is at most.
    pub fn metadata_bytes(&self) -> usize {
        /// What cut number, watermark, deadline, account, counts and the sum take at most.
        const FIXED: usize = 40 + (1 + Account::COUNTS) * 10 + 1;
        let width = self.width();
        let (runs, failed) = self.ledger.shape();
        // A run takes its own length and that of the gap behind it; a failed call a distance and a count.
        let bytes = FIXED + runs * 2 * width + failed * (width + COUNT);
        PREFIX.len() + bytes.div_ceil(3) * 4
    }

    /// How much the end of a first call adds to [`Checkpoint::metadata_bytes`] at most: a failed call, or a run parted in
    /// two. The end of a later one adds nothing, since what it gives up is longer than a run.
    pub fn metadata_growth(&self) -> usize {
        let width = self.width();
        (width + COUNT).max(2 * width).div_ceil(3) * 4
    }

    /// What a distance from the offset takes at most.
    fn width(&self) -> usize {
        varint_bytes((self.ledger.next() - self.offset()).unsigned_abs())
    }

    /// Reads what was committed. Empty metadata and metadata of other programs count as none: the
    /// offset alone stands.
    pub fn read(offset: i64, metadata: &str) -> Result<Self, Damaged> {
        let Some(text) = metadata.strip_prefix(PREFIX) else {
            return Ok(Self::fresh(offset));
        };
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| Damaged("not base64"))?;
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Damaged("cut off"))?;
        if fnv(body) != u32::from_le_bytes(*sum) {
            return Err(Damaged("its sum does not match"));
        }
        let mut rest = body;
        let cut = take(&mut rest)?;
        let watermark_ms = unzigzag(take(&mut rest)?);
        let wake_at_ms = Some(take(&mut rest)?).filter(|wake| *wake > 0);
        let (mut open, mut at) = (BTreeMap::new(), offset);
        for index in 0..take(&mut rest)? {
            let length = i64::try_from(take(&mut rest)?).map_err(|_| Damaged("a run is too long"))?;
            let end = at.checked_add(length).ok_or(Damaged("a run is too long"))?;
            if index % 2 == 0 {
                if length > (MAX_OPEN - open.len()) as i64 {
                    return Err(Damaged("more offsets are open than a worker admits"));
                }
                open.extend((at..end).map(|offset| (offset, 0)));
            }
            at = end;
        }
        for _ in 0..take(&mut rest)? {
            let distance = i64::try_from(take(&mut rest)?).map_err(|_| Damaged("an attempt lies too far"))?;
            let calls = u32::try_from(take(&mut rest)?).map_err(|_| Damaged("too many attempts"))?;
            let offset = offset.checked_add(distance).ok_or(Damaged("an attempt lies too far"))?;
            *open.get_mut(&offset).ok_or(Damaged("attempts of a finished offset"))? = calls;
        }
        let account = match rest {
            // Nothing was counted before.
            [] => Account::starting_at(offset),
            _ => {
                let since = unzigzag(take(&mut rest)?);
                let mut counts = [0; Account::COUNTS];
                for place in 0..take(&mut rest)? {
                    let count = take(&mut rest)?;
                    let place = usize::try_from(place).ok().and_then(|place| counts.get_mut(place));
                    *place.ok_or(Damaged("it counts more than this release knows"))? = count;
                }
                Account::from_counts(since, counts)
            }
        };
        if !rest.is_empty() {
            return Err(Damaged("it is longer than it says"));
        }
        Ok(Self { cut, ledger: Ledger::from_parts(at, open), watermark_ms, wake_at_ms, account })
    }

    /// Alternating lengths of open and finished runs from the committed offset up to `next`.
    fn runs(&self) -> Vec<u64> {
        let mut runs = Vec::new();
        let (mut start, mut end) = (self.offset(), self.offset());
        for offset in self.ledger.open().keys() {
            if *offset != end {
                runs.extend([(end - start) as u64, (offset - end) as u64]);
                start = *offset;
            }
            end = offset + 1;
        }
        if end > start {
            runs.push((end - start) as u64);
            if self.ledger.next() > end {
                runs.push((self.ledger.next() - end) as u64);
            }
        }
        runs
    }
}

fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn take(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Damaged("cut off"))?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Damaged("a number is too long"))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// FNV-1a, 32 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>): enough to notice a cut-off text.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checkpoint() -> impl Strategy<Value = Checkpoint> {
        (
            any::<u64>(),
            0i64..1 << 50,
            proptest::collection::btree_map(0i64..400, 0u32..20, 0..80),
            0i64..100,
            any::<i64>(),
            proptest::option::of(1u64..u64::MAX),
            (any::<i64>(), any::<[u64; Account::COUNTS]>()),
        )
            .prop_map(|(cut, base, open, beyond, watermark_ms, wake_at_ms, (since, counts))| {
                let open: BTreeMap<i64, u32> =
                    open.into_iter().map(|(offset, calls)| (base + offset, calls)).collect();
                let next = open.last_key_value().map_or(base, |(offset, _)| offset + 1) + beyond;
                let account = Account::from_counts(since, counts);
                Checkpoint { cut, ledger: Ledger::from_parts(next, open), watermark_ms, wake_at_ms, account }
            })
    }

    #[test]
    fn a_lane_in_order_needs_few_bytes() {
        let mut checkpoint = Checkpoint::fresh(1_000_000_000);
        checkpoint.cut = 1_000_000;
        (checkpoint.account.ok, checkpoint.account.outputs) = (1_000_000_000, 1_000_000_000);
        assert!(checkpoint.metadata().len() < 70, "{}", checkpoint.metadata());
    }

    #[test]
    fn metadata_of_others_counts_as_none() {
        for text in ["", "consumer-1", "AgAAAZ0=", "tm2:abc", "tm1"] {
            assert_eq!(Checkpoint::read(7, text), Ok(Checkpoint::fresh(7)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_committed_is_read_back(checkpoint in checkpoint()) {
            let read = Checkpoint::read(checkpoint.offset(), &checkpoint.metadata());
            prop_assert_eq!(read, Ok(checkpoint));
        }

        #[test]
        fn the_length_is_not_underestimated(checkpoint in checkpoint()) {
            prop_assert!(checkpoint.metadata_bytes() >= checkpoint.metadata().len());
        }

        #[test]
        fn a_cut_off_text_is_noticed(checkpoint in checkpoint(), keep in any::<prop::sample::Index>()) {
            let text = checkpoint.metadata();
            let keep = PREFIX.len() + keep.index(text.len() - PREFIX.len());
            prop_assert!(Checkpoint::read(checkpoint.offset(), &text[..keep]).is_err());
        }

        #[test]
        fn no_text_makes_it_panic(offset in any::<i64>(), text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Checkpoint::read(offset, &text);
            let mut sealed = bytes;
            let sum = fnv(&sealed);
            sealed.extend_from_slice(&sum.to_le_bytes());
            let _ = Checkpoint::read(offset, &format!("{PREFIX}{}", STANDARD_NO_PAD.encode(sealed)));
        }
    }
}
