//! Which values the registered shrinkers have, so that a reclaimer knows how often to descend.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::MAX_VALUE;

/// How many shrinkers there are of each value. Written under the lock of the list. Relaxed: hints; who registers at this
/// moment may be seen or not.
pub(crate) struct Values {
    counts: [AtomicU32; MAX_VALUE as usize + 1],
}

impl Values {
    pub(crate) const fn new() -> Self {
        Self {
            counts: [const { AtomicU32::new(0) }; MAX_VALUE as usize + 1],
        }
    }

    pub(crate) fn add(&self, value: u8) {
        let count = &self.counts[usize::from(value)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, value: u8) {
        let count = &self.counts[usize::from(value)];
        count.store(count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    /// The lowest value in use above `value`, or of all.
    pub(crate) fn after(&self, value: Option<u8>) -> Option<u8> {
        let first = value.map_or(0, |value| value.saturating_add(1));
        (first..=MAX_VALUE)
            .find(|value| self.counts[usize::from(*value)].load(Ordering::Relaxed) != 0)
    }
}
