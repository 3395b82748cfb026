//! Histograms of durations: a local one that a worker's thread counts in without atomics, and the
//! process-wide one that it is folded into. The `metrics` facade keeps every single sample of a
//! histogram until it is rendered, which a million calls a second cannot pay for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in nanoseconds, each belonging to its bucket: 1, 2, 5 × 10ⁿ from 1 µs,
/// and 60 s. What is longer goes to one more bucket, Prometheus' `+Inf`.
pub const BOUNDS_NS: [u64; 25] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    50_000_000_000,
    60_000_000_000,
];

/// Buckets, the unbounded one included.
pub const BUCKETS: usize = BOUNDS_NS.len() + 1;

/// By the number of significant bits of a duration: the first bucket that it can be in. Between two
/// powers of two stand at most two bounds, so the search from there is at most two steps.
const FIRST: [u8; 65] = {
    let mut first = [0; 65];
    let mut bits = 0;
    while bits < 65 {
        let least: u64 = if bits == 0 { 0 } else { 1 << (bits - 1) };
        let mut bucket = 0;
        while bucket < BOUNDS_NS.len() && BOUNDS_NS[bucket] < least {
            bucket += 1;
        }
        first[bits] = bucket as u8;
        bits += 1;
    }
    first
};

fn bucket_of(ns: u64) -> usize {
    let mut bucket = FIRST[(u64::BITS - ns.leading_zeros()) as usize] as usize;
    while bucket < BOUNDS_NS.len() && BOUNDS_NS[bucket] < ns {
        bucket += 1;
    }
    bucket
}

/// A thread's own histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum_ns: u64,
}

impl Histogram {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self { counts: [0; BUCKETS], sum_ns: 0 }
    }

    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, duration: Duration) {
        self.record_many(duration, 1);
    }

    /// Counts `times` calls of `each`: what is known of a batch that was timed as a whole.
    #[inline]
    pub fn record_many(&mut self, each: Duration, times: u64) {
        let ns = each.as_nanos() as u64;
        self.counts[bucket_of(ns)] += times;
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(times));
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The histogram of all workers of a function.
#[derive(Debug)]
pub struct SharedHistogram {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl SharedHistogram {
    pub(super) fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], sum_ns: AtomicU64::new(0) }
    }

    /// Adds what `local` counted and empties it.
    pub fn fold(&self, local: &mut Histogram) {
        for (shared, counted) in self.counts.iter().zip(&mut local.counts) {
            if *counted > 0 {
                shared.fetch_add(std::mem::take(counted), Ordering::Relaxed);
            }
        }
        if local.sum_ns > 0 {
            self.sum_ns.fetch_add(std::mem::take(&mut local.sum_ns), Ordering::Relaxed);
        }
    }

    /// Counts per bucket (not cumulated) and the sum in nanoseconds.
    pub fn read(&self) -> ([u64; BUCKETS], u64) {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed));
        (counts, self.sum_ns.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_one_more_to_the_next() {
        for (bucket, bound) in BOUNDS_NS.into_iter().enumerate() {
            assert_eq!(bucket_of(bound - 1), bucket);
            assert_eq!(bucket_of(bound), bucket);
            assert_eq!(bucket_of(bound + 1), bucket + 1);
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_bounds_grow_from_a_microsecond_to_a_minute() {
        assert!(BOUNDS_NS.is_sorted_by(|a, b| a < b));
        assert_eq!((BOUNDS_NS[0], BOUNDS_NS[24]), (1_000, 60_000_000_000));
    }

    #[test]
    fn a_fold_moves_everything_and_leaves_nothing() {
        let (shared, mut local) = (SharedHistogram::new(), Histogram::new());
        local.record(Duration::from_micros(3));
        local.record_many(Duration::from_secs(90), 2);
        shared.fold(&mut local);
        shared.fold(&mut local);
        let (counts, sum_ns) = shared.read();
        assert_eq!((counts[2], counts[BUCKETS - 1], counts.iter().sum::<u64>()), (1, 2, 3));
        assert_eq!(sum_ns, 180_000_003_000);
        assert_eq!(local, Histogram::new());
    }

    proptest! {
        #[test]
        fn the_bucket_is_the_number_of_smaller_bounds(bits in 0u32..64, low in any::<u64>()) {
            let ns = low >> bits;
            prop_assert_eq!(bucket_of(ns), BOUNDS_NS.iter().filter(|bound| **bound < ns).count());
        }
    }
}
