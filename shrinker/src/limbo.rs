//! Unlinked records, until as many wait as are worth being retired together. Everything here is under the lock of the list.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::record::Record;
use crate::sync::BATCH;

/// A stack of unlinked records, chained by `prev`. All Relaxed: under the lock, which carries it.
pub(crate) struct Limbo {
    top: AtomicPtr<Record>,
    waiting: AtomicUsize,
}

impl Limbo {
    pub(crate) const fn new() -> Self {
        Self {
            top: AtomicPtr::new(ptr::null_mut()),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether as many wait as make a batch. Without the lock a hint: what is missed now is retired later.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= BATCH
    }

    /// Adds a record that was unlinked just now. Walkers that stand on it do not read `prev`.
    pub(crate) fn push(&self, record: &Record) {
        let below = self.top.load(Ordering::Relaxed);
        record.prev.store(below, Ordering::Relaxed);
        let record = ptr::from_ref(record).cast_mut();
        self.top.store(record, Ordering::Relaxed);
        let waiting = self.waiting.load(Ordering::Relaxed) + 1;
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Takes them all.
    pub(crate) fn take(&self) -> Taken {
        self.waiting.store(0, Ordering::Relaxed);
        Taken {
            top: self.top.swap(ptr::null_mut(), Ordering::Relaxed),
        }
    }
}

/// Records taken out of limbo. Whoever has them is the only one, and retires each.
pub(crate) struct Taken {
    top: *mut Record,
}

impl Iterator for Taken {
    type Item = NonNull<Record>;

    fn next(&mut self) -> Option<NonNull<Record>> {
        let top = NonNull::new(self.top)?;
        // SAFETY: taken out of limbo and not yet given away: unlinked, not retired, so alive.
        let record = unsafe { top.as_ref() };
        // Relaxed: the lock under which it was taken carries it.
        self.top = record.prev.load(Ordering::Relaxed);
        Some(top)
    }
}
