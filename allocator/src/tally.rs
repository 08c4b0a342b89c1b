//! The process's shrinkers and notifiers, and the counters of reclaim.

use core::sync::atomic::{AtomicU64, Ordering};

use ebb_shrinker::ShrinkerList;

/// The process's shrinkers.
pub(crate) static SHRINKERS: ShrinkerList = ShrinkerList::new();

/// Those who want to hear of it before an allocation fails. Each is a shrinker of one object.
pub(crate) static NOTIFIERS: ShrinkerList = ShrinkerList::new();

/// Counters of reclaim. Relaxed everywhere: figures.
pub(crate) struct Counters {
    pub(crate) failures: AtomicU64,
    pub(crate) reclaims: AtomicU64,
    pub(crate) satisfied: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) walks: AtomicU64,
    pub(crate) credited: AtomicU64,
    pub(crate) ns_total: AtomicU64,
    pub(crate) ns_max: AtomicU64,
    pub(crate) drains: AtomicU64,
    pub(crate) purges: AtomicU64,
    pub(crate) followed: AtomicU64,
    pub(crate) excess: AtomicU64,
    pub(crate) waits: AtomicU64,
    pub(crate) chances: AtomicU64,
    pub(crate) moved: AtomicU64,
    pub(crate) forced: AtomicU64,
    pub(crate) forced_bytes: AtomicU64,
    pub(crate) soft_reclaims: AtomicU64,
    pub(crate) bytes_soft: AtomicU64,
}

pub(crate) static COUNTERS: Counters = Counters {
    failures: AtomicU64::new(0),
    reclaims: AtomicU64::new(0),
    satisfied: AtomicU64::new(0),
    failed: AtomicU64::new(0),
    walks: AtomicU64::new(0),
    credited: AtomicU64::new(0),
    ns_total: AtomicU64::new(0),
    ns_max: AtomicU64::new(0),
    drains: AtomicU64::new(0),
    purges: AtomicU64::new(0),
    followed: AtomicU64::new(0),
    excess: AtomicU64::new(0),
    waits: AtomicU64::new(0),
    chances: AtomicU64::new(0),
    moved: AtomicU64::new(0),
    forced: AtomicU64::new(0),
    forced_bytes: AtomicU64::new(0),
    soft_reclaims: AtomicU64::new(0),
    bytes_soft: AtomicU64::new(0),
};

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts `n` more.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    // Relaxed: a figure.
    counter.fetch_add(n, Ordering::Relaxed);
}
