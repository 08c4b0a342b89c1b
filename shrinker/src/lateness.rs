//! Whether a shrinker is late time and again: what moves it from the sync lane to the reclaim thread.
//!
//! A visit is late when a callback overran its deadline. A single one proves nothing, since the thread may have been off its
//! CPU; nor do several that lie far apart, on a machine that stands still now and then.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// So many late visits in a row are too many.
const STRIKES: u32 = 3;

/// After so many nanoseconds a late visit is forgotten.
const MEMORY_NS: u64 = 60_000_000_000;

/// The late visits of one shrinker. Relaxed everywhere: the busy mark keeps other threads out.
pub(crate) struct Lateness {
    strikes: AtomicU32,
    /// When the last of them ended.
    last: AtomicU64,
}

impl Lateness {
    pub(crate) const fn new() -> Self {
        Self {
            strikes: AtomicU32::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// How many late visits there were in a row, before one that begins now.
    pub(crate) fn strikes(&self) -> u32 {
        self.strikes.load(Ordering::Relaxed)
    }

    /// Books a visit which pauses or ends `now`, after so many `strikes`. True if it was one late visit too many. One that had
    /// nothing to `scan` and was not late proves nothing. What a pause says of a visit that is in time until then is taken
    /// back when it turns out to be late after all.
    pub(crate) fn after(&self, strikes: u32, late: bool, scanned: bool, now: u64) -> bool {
        if !late {
            if scanned && strikes > 0 {
                self.strikes.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let past = now.saturating_sub(self.last.load(Ordering::Relaxed)) > MEMORY_NS;
        let strikes = if past { 1 } else { strikes + 1 };
        self.strikes.store(strikes, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
        strikes == STRIKES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_and_not_far_apart() {
        let lateness = Lateness::new();
        let late = |now| lateness.after(lateness.strikes(), true, true, now);
        let in_time = |scanned| assert!(!lateness.after(lateness.strikes(), false, scanned, 4));
        assert!(!late(1) && !late(2));
        in_time(true);
        assert!(!late(5) && !late(6));
        in_time(false);
        assert!(late(7), "an empty visit is no proof");
        assert!(!late(8), "it was said");
        assert!(!late(9 + MEMORY_NS) && !late(10 + MEMORY_NS));
        assert!(!late(11 + 2 * MEMORY_NS), "the others are long past");
        assert!(!late(12 + 2 * MEMORY_NS) && late(13 + 2 * MEMORY_NS));
    }
}
