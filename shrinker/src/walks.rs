//! Where walks begin: where the last one was broken off, or apart from those that are under way. Relaxed everywhere: hints.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// On cache lines of its own: it is written by every walk that is not the only one, or is broken off.
#[repr(align(128))]
pub(crate) struct Walks {
    cursor: AtomicU64,
    under_way: AtomicBool,
}

impl Walks {
    pub(crate) const fn new() -> Self {
        Self {
            cursor: AtomicU64::new(0),
            under_way: AtomicBool::new(false),
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

    /// A walk begins. Whether no other is known to be under way; this one is from then on, until its [`end`](Self::end).
    /// A hint: two that begin at the same moment hear the same, and who began beside another is not known any more when that
    /// one has ended. So it takes no locked instruction, and those who are not the only one write nothing.
    pub(crate) fn begin(&self) -> bool {
        let alone = !self.under_way.load(Ordering::Relaxed);
        if alone {
            self.under_way.store(true, Ordering::Relaxed);
        }
        alone
    }

    /// Ends a walk that was told that it is the only one; or, in a forked child, those of other threads.
    pub(crate) fn end(&self) {
        self.under_way.store(false, Ordering::Relaxed);
    }
}
