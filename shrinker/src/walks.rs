//! Where walks begin: behind the last one, or apart from those that are under way. Relaxed everywhere: hints.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Written at every visit: on a cache line of its own.
#[repr(align(64))]
pub(crate) struct Walks {
    cursor: AtomicU64,
    running: AtomicUsize,
}

impl Walks {
    pub(crate) const fn new() -> Self {
        Self {
            cursor: AtomicU64::new(0),
            running: AtomicUsize::new(0),
        }
    }

    /// The shrinker that was visited last: where the next walk goes on.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Relaxed)
    }

    pub(crate) fn set_cursor(&self, id: u64) {
        self.cursor.store(id, Ordering::Relaxed);
    }

    /// Counts a walk that begins. How many others are under way.
    pub(crate) fn begin(&self) -> usize {
        self.running.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// In a forked child: only so many are under way.
    pub(crate) fn repair(&self, running: usize) {
        self.running.store(running, Ordering::Relaxed);
    }
}
