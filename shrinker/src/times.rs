//! How long callbacks took: a histogram by powers of two, so that quantiles cost one addition per callback.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bucket `b` counts times of at least `2^(b-1)` and below `2^b` nanoseconds; the last one, all that are longer.
const BUCKETS: usize = 40;

/// The times of all callbacks of one shrinker, in nanoseconds. All Relaxed: figures.
pub(crate) struct Times {
    total: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Times {
    pub(crate) const fn new() -> Self {
        Self {
            total: AtomicU64::new(0),
            max: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }

    /// Books one callback. One thread at a time (the busy mark sees to that), so there is no need for locked additions.
    pub(crate) fn add(&self, ns: u64) {
        let bucket = (u64::BITS - ns.leading_zeros()) as usize;
        // Relaxed, here and below: see Times.
        let plus = |counter: &AtomicU64, n: u64| {
            let sum = counter.load(Ordering::Relaxed).wrapping_add(n);
            counter.store(sum, Ordering::Relaxed);
        };
        plus(&self.buckets[bucket.min(BUCKETS - 1)], 1);
        plus(&self.total, ns);
        if ns > self.max() {
            self.max.store(ns, Ordering::Relaxed);
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(crate) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// A time that `percent` of the callbacks did not exceed: the upper end of its bucket, at most the longest time.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let counts = self
            .buckets
            .each_ref()
            .map(|bucket| bucket.load(Ordering::Relaxed));
        let all: u64 = counts.iter().sum();
        let wanted = (all * percent).div_ceil(100);
        let mut below = 0;
        for (bucket, count) in counts.iter().enumerate() {
            below += count;
            if below >= wanted {
                let end = (1_u64 << bucket) - 1;
                return end.min(self.max());
            }
        }
        self.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the bucket taken from `ilog2` (half of each time) and with the end left out.
    #[test]
    fn percentiles_are_the_ends_of_buckets() {
        let times = Times::new();
        assert_eq!((times.percentile(50), times.max()), (0, 0));
        for ns in [0, 1, 100, 1000] {
            times.add(ns);
        }
        assert_eq!(times.percentile(25), 0);
        assert_eq!(times.percentile(50), 1);
        assert_eq!(times.percentile(75), 127);
        assert_eq!(times.percentile(99), 1000, "no more than the longest");
        assert_eq!((times.total(), times.max()), (1101, 1000));
        times.add(u64::MAX);
        assert_eq!(times.percentile(100), (1 << 39) - 1);
    }
}
