//! Where walks begin: where the last one was broken off, or apart from those that are under way. Relaxed everywhere: hints.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// On cache lines of its own: it is written by every walk that is not the only one, or is broken off.
#[repr(align(128))]
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

    /// The shrinker at which the last walk was broken off: where the next one goes on.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Relaxed)
    }

    /// Where the next walk goes on; 0 is the head of the list. Not written when it is so already.
    pub(crate) fn set_cursor(&self, id: u64) {
        if self.cursor() != id {
            self.cursor.store(id, Ordering::Relaxed);
        }
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
