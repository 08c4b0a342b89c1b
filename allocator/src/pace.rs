//! Work that may take a small part of the time only, however often there is a reason for it.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::os;

// Relaxed, everywhere in this file: a figure. Two threads that find it due at once both do the work, and no harm.

/// How much was done of one kind of work.
pub(crate) struct Pace {
    /// When as much time will have passed as the work is to take at most, on the system's clock.
    due: AtomicU64,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self {
            due: AtomicU64::new(0),
        }
    }

    /// Whether the time that it took is made up for.
    pub(crate) fn is_due(&self) -> bool {
        os::now_ns() >= self.due.load(Ordering::Relaxed)
    }

    /// Does the work, which is due again when `parts` times as much time has passed as it took.
    pub(crate) fn spend(&self, parts: u64, work: impl FnOnce()) {
        let start = os::now_ns();
        work();
        let end = os::now_ns();
        let due = end.saturating_add((end - start).saturating_mul(parts));
        self.due.store(due, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the parts left out, and with the time that it took.
    #[test]
    fn it_is_due_when_it_is_made_up_for() {
        let pace = Pace::new();
        assert!(pace.is_due());
        pace.spend(u64::MAX, || os::sleep_us(10));
        assert!(!pace.is_due());
        pace.spend(0, || os::sleep_us(10));
        assert!(pace.is_due());
        let start = os::now_ns();
        pace.spend(2, || os::sleep_us(1000));
        while !pace.is_due() {}
        assert!(os::now_ns() - start >= 3_000_000);
    }
}
