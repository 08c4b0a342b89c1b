//! One word per shrinker: the count of references, whether it is dying, and when it is done.
//!
//! ```text
//!   0                    not registered yet, or registration not finished: nobody may take a reference
//!   1                    registered and idle: the registration holds the first reference
//!   1 + n                n walkers are inside its callbacks
//!   DYING + n            unregistering: n walkers still inside, no new ones
//!   DYING                complete: the waiter, or the owner of the retirement, may unlink it
//!   ORPHAN + DYING + n   its owner gave it up while callbacks ran; nobody waits, the next sweep ends it
//! ```
//!
//! # Synchronization
//!
//! | tag | writer | ordering | reader | ordering | what it carries |
//! | --- | --- | --- | --- | --- | --- |
//! | S1 | `publish` | Release | `try_get` | Acquire | every field of the record, and the cache behind it |
//! | S2 | `put` | Release | `wait`, `is_complete`, `is_complete_orphan` | Acquire | all that callbacks did to the cache before it is dropped |
//! | S3 | `orphan`, `abandon` | Release | `put` | Acquire | that there is an orphan to sweep up |

use std::hint;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::sync::{AtomicU32, SPINS, now_ns, wait, wait_for, wake};

const DYING: u32 = 1 << 31;
const ORPHAN: u32 = 1 << 30;
const COUNT: u32 = ORPHAN - 1;

/// The state word.
pub(crate) struct State {
    word: AtomicU32,
}

impl State {
    /// Not registered: every [`try_get`](Self::try_get) fails.
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }

    /// Opens the shrinker to walkers. The last store of a registration.
    pub(crate) fn publish(&self) {
        // Release (S1): whoever sees the 1 sees the whole record.
        self.word.store(1, Ordering::Release);
    }

    /// Takes a reference, unless the shrinker is not yet registered or is dying. The count never rises from zero.
    #[must_use]
    pub(crate) fn try_get(&self) -> bool {
        // Relaxed: only a guess; the exchange below decides.
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if seen == 0 || seen & DYING != 0 || seen == COUNT {
                return false;
            }
            // Acquire (S1): the whole record is visible. Relaxed on failure: another guess.
            let taken = self.word.compare_exchange_weak(
                seen,
                seen + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Gives a reference back; the last one of a dying shrinker wakes whoever waits. The caller is inside a guard:
    /// the waiter may retire the record at once, and the wake-up still names this word.
    pub(crate) fn put(&self) {
        // Release (S2): what the callback did is visible to whoever drops the cache. Acquire (S3): if it was given up
        // meanwhile, the sweep at the end of our walk knows.
        if self.word.fetch_sub(1, Ordering::AcqRel) == DYING + 1 {
            wake(&self.word);
        }
    }

    /// Refuses new references and drops the first one, in a single step.
    pub(crate) fn condemn(&self) {
        // Release (S2): the owner's own use of the cache, too, happens before its end.
        self.word.fetch_add(DYING - 1, Ordering::Release);
    }

    /// Like [`condemn`](Self::condemn), when nobody can wait.
    pub(crate) fn orphan(&self) {
        // Release (S2): as in condemn.
        self.word.fetch_add(DYING + ORPHAN - 1, Ordering::Release);
    }

    /// Turns a condemned shrinker into an orphan.
    pub(crate) fn abandon(&self) {
        // Release (S3): the walker that gives back the last reference sees that there is an orphan.
        self.word.fetch_or(ORPHAN, Ordering::Release);
    }

    /// Whether a condemned shrinker has no reference left.
    pub(crate) fn is_complete(&self) -> bool {
        // Acquire (S2): every callback's effects are visible.
        self.word.load(Ordering::Acquire) == DYING
    }

    /// As [`wait`](Self::wait), for so long at most. Whether it is complete.
    pub(crate) fn wait_for(&self, limit: Duration) -> bool {
        let start = now_ns();
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        loop {
            // Acquire (S2): as above.
            let seen = self.word.load(Ordering::Acquire);
            let left = limit.saturating_sub(now_ns().saturating_sub(start));
            if seen == DYING || left == 0 {
                return seen == DYING;
            }
            wait_for(&self.word, seen, Duration::from_nanos(left));
        }
    }

    /// Waits until a condemned shrinker has no reference left: for running callbacks, never for a grace period.
    pub(crate) fn wait(&self) {
        for _ in 0..SPINS {
            if self.is_complete() {
                return;
            }
            hint::spin_loop();
        }
        loop {
            // Acquire (S2): as above.
            let seen = self.word.load(Ordering::Acquire);
            if seen == DYING {
                return;
            }
            wait(&self.word, seen);
        }
    }

    /// How many walkers hold a reference, and whether it is dying. Only a figure.
    pub(crate) fn holders(&self) -> (u32, bool) {
        // Relaxed: a figure.
        let seen = self.word.load(Ordering::Relaxed);
        let dying = seen & DYING != 0;
        ((seen & COUNT).saturating_sub(u32::from(!dying)), dying)
    }

    /// Whether it is registered, or a walker is still inside. Only a hint.
    pub(crate) fn is_in_use(&self) -> bool {
        // Relaxed: the reader is under the list lock, and shows a snapshot.
        self.word.load(Ordering::Relaxed) & COUNT != 0
    }

    /// Whether this is an orphan that nobody uses any more.
    pub(crate) fn is_complete_orphan(&self) -> bool {
        // Acquire (S2): the callbacks' effects are visible to whoever drops the cache.
        self.word.load(Ordering::Acquire) == DYING + ORPHAN
    }

    /// In a forked child: forgets the references of threads that do not exist here, keeping `own`.
    pub(crate) fn repair(&self, own: u32) {
        // Relaxed: the child has one thread.
        let seen = self.word.load(Ordering::Relaxed);
        let first = u32::from(seen != 0 && seen & DYING == 0);
        let flags = seen & (DYING | ORPHAN);
        self.word.store(flags + first + own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I6. Seen to fail with the test `seen == 0` left out of `try_get`: the first assertion.
    #[test]
    fn count_never_rises_from_zero() {
        let state = State::new();
        assert!(!state.try_get(), "not registered yet");
        state.publish();
        state.condemn();
        assert!(!state.try_get(), "complete");
        state.wait();
    }

    /// I7. Seen to fail with the test of DYING left out of `try_get`.
    #[test]
    fn dying_refuses_new_references() {
        let state = State::new();
        state.publish();
        assert!(state.try_get());
        state.condemn();
        assert!(!state.try_get(), "one reference is left, but no new ones");
        state.put();
        state.wait();
    }

    #[test]
    fn orphans_are_complete_only_without_references() {
        let state = State::new();
        state.publish();
        assert!(state.try_get());
        state.orphan();
        assert!(!state.is_complete_orphan());
        assert!(!state.try_get());
        state.put();
        assert!(state.is_complete_orphan());
    }

    #[test]
    fn repair_keeps_what_is_ours() {
        let state = State::new();
        state.repair(0);
        assert!(!state.try_get(), "still not registered");
        state.publish();
        assert!(state.try_get() && state.try_get());
        state.repair(1);
        state.condemn();
        state.put();
        state.wait();
    }
}
