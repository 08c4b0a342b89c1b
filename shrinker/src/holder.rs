//! Who is in a shrinker's callbacks, and since when: for people, for forks, and for those who were passed over.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sync::{AtomicUsize, thread_number, thread_token};

/// A visit of this length is not waited for, unless its callbacks may take longer: in nanoseconds. A thread may lose its CPU
/// for a good part of that; one that stays longer may be waiting for whoever would wait for it.
const STUCK_NS: u64 = 100_000_000;

/// The thread in the callbacks, or the last one.
pub(crate) struct Holder {
    /// Which thread that is; 0 when it left the callbacks and kept its reference.
    token: AtomicUsize,
    /// Since when it is there; 0 when it is not in them yet, or no more.
    since: AtomicU64,
    /// The system's number of it.
    number: AtomicU32,
}

// Relaxed, everywhere in this file: figures, and what a fork reads with one thread left. Who enters holds the busy mark.
impl Holder {
    pub(crate) fn new() -> Self {
        Self {
            token: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            number: AtomicU32::new(0),
        }
    }

    /// This thread is in the callbacks from `now` on.
    pub(crate) fn enter(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
        self.number.store(thread_number(), Ordering::Relaxed);
        self.token.store(thread_token(), Ordering::Relaxed);
    }

    /// The callbacks have returned.
    pub(crate) fn returned(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// It lets others in.
    pub(crate) fn leave(&self) {
        self.token.store(0, Ordering::Relaxed);
    }

    /// Whether it is this thread.
    pub(crate) fn is_here(&self) -> bool {
        self.token.load(Ordering::Relaxed) == thread_token()
    }

    /// The system's number of the thread.
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// For how many nanoseconds the callbacks of this visit have been running `now`.
    pub(crate) fn age(&self, now: u64) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        }
    }

    /// Whether it is there for too long `now`, where a callback may take `deadline`.
    pub(crate) fn is_stuck(&self, now: u64, deadline: u64) -> bool {
        self.age(now) > deadline.max(STUCK_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_visit_is_stuck_unless_it_may_be_long() {
        let holder = Holder::new();
        assert!(!holder.is_stuck(u64::MAX, 0), "nobody is inside");
        holder.enter(5);
        assert!(holder.is_here());
        assert!(!holder.is_stuck(5 + STUCK_NS, 0));
        assert!(holder.is_stuck(6 + STUCK_NS, 0));
        assert!(!holder.is_stuck(6 + STUCK_NS, STUCK_NS + 1));
        holder.returned();
        assert!(!holder.is_stuck(u64::MAX, 0));
        holder.leave();
        assert!(!holder.is_here());
    }
}
