//! One word per shrinker: the count of references, whether a thread is in the callbacks, whether it is dying, and when it is
//! done. One word, so that a visit costs two read-modify-writes of it and not four.
//!
//! ```text
//!   0                    not registered yet, or registration not finished: nobody may take a reference
//!   1                    registered and idle: the registration holds the first reference
//!   1 + n                n walkers are inside its callbacks or their visitors
//!   BUSY + 1 + n         one of them is in the callbacks: no other comes in
//!   DYING + n            unregistering: n walkers still inside (one of them may be BUSY), no new ones. Where none is BUSY no
//!                        callback runs or will run: whoever waits, or owns the retirement, may take the cache
//!   DYING                and unlink the record
//!   ORPHAN + DYING + n   its owner has gone before the walkers; nobody waits, and the next sweep ends it
//! ```
//!
//! # Synchronization
//!
//! | tag | writer | ordering | reader | ordering | what it carries |
//! | --- | --- | --- | --- | --- | --- |
//! | S1 | `publish` | Release | `try_enter` | Acquire | every field of the record, and the cache behind it |
//! | S2 | `leave`, `put`, `try_put` | Release | `wait`, `has_returned`, `is_complete`, `is_complete_orphan` | Acquire | all that callbacks did to the cache before it is dropped |
//! | S3 | `orphan`, `abandon` | Release | `put` | Acquire | that there is an orphan to sweep up |
//! | S4 | `leave`, `put`, `try_put` | Release | `try_enter` | Acquire | what the last callback did to the cache |

use std::hint;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::sync::{AtomicU32, SPINS, nanoseconds, now_ns, wait, wait_for, wake};

const DYING: u32 = 1 << 31;
const ORPHAN: u32 = 1 << 30;
const BUSY: u32 = 1 << 29;
const COUNT: u32 = BUSY - 1;

/// Why there is no reference to be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not registered yet, or not any more.
    Absent,
    /// Another thread is in the callbacks.
    Busy,
}

/// What the state word says at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holders {
    /// How many walkers hold a reference.
    pub(crate) references: u32,
    /// Whether one of them is in the callbacks.
    pub(crate) busy: bool,
    pub(crate) dying: bool,
}

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

    /// Takes a reference, and makes this thread the only one in the callbacks; unless the shrinker is not yet registered,
    /// is dying, or another thread is in them. The count never rises from zero. No read-modify-write is spent on a shrinker
    /// that is busy: who comes in vain does not take the cache line from the one inside.
    pub(crate) fn try_get(&self) -> Result<(), Refusal> {
        self.try_enter(1)
    }

    /// Back into the callbacks, for one who has left them and kept his reference; refused as in [`try_get`](Self::try_get).
    pub(crate) fn try_return(&self) -> Result<(), Refusal> {
        self.try_enter(0)
    }

    /// Into the callbacks, with so many references `more`.
    #[inline]
    fn try_enter(&self, more: u32) -> Result<(), Refusal> {
        // Relaxed: only a guess; the exchange below decides.
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if seen == 0 || seen & DYING != 0 || seen & COUNT == COUNT {
                return Err(Refusal::Absent);
            }
            if seen & BUSY != 0 {
                return Err(Refusal::Busy);
            }
            // Acquire (S1, S4): the whole record is visible, and what the callback before us did. Relaxed on failure:
            // another guess.
            let taken = self.word.compare_exchange_weak(
                seen,
                seen + BUSY + more,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// Out of the callbacks: lets others in, and wakes whoever waits for the end of a dying one. The reference is kept.
    pub(crate) fn leave(&self) {
        // Release (S2, S4): what the callback did is visible to the next one, and to whoever drops the cache.
        if self.word.fetch_and(!BUSY, Ordering::Release) & DYING != 0 {
            wake(&self.word);
        }
    }

    /// Gives a reference back, `busy` if it still was: then whoever waits for the end of a dying shrinker is woken. The caller
    /// is inside a guard: the waiter may retire the record at once, and the wake-up still names this word.
    pub(crate) fn put(&self, busy: bool) {
        // Release (S2, S4): what the callback did is visible to the next one, and to whoever drops the cache. Acquire
        // (S3): if it was given up meanwhile, the sweep at the end of our walk knows.
        let seen = self.word.fetch_sub(ours(busy), Ordering::AcqRel);
        if busy && seen & DYING != 0 {
            wake(&self.word);
        }
    }

    /// Gives a reference back, if it is not dying: then there is nobody to wake, and the record is not touched afterwards.
    /// So the caller need not be inside a guard.
    #[must_use]
    pub(crate) fn try_put(&self, busy: bool) -> bool {
        // Relaxed: a guess; the exchange below decides.
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen & DYING == 0 {
            // Release (S2, S4): as in `put`. Relaxed on failure: another guess.
            let put = self.word.compare_exchange_weak(
                seen,
                seen - ours(busy),
                Ordering::Release,
                Ordering::Relaxed,
            );
            match put {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
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

    /// Whether nobody is in the callbacks of a condemned shrinker; then nobody ever will be.
    pub(crate) fn has_returned(&self) -> bool {
        // Acquire (S2): every callback's effects are visible.
        self.word.load(Ordering::Acquire) & BUSY == 0
    }

    /// Whether a condemned shrinker has no reference left.
    pub(crate) fn is_complete(&self) -> bool {
        // Acquire (S2): every walker's use of the record is over.
        self.word.load(Ordering::Acquire) == DYING
    }

    /// As [`wait`](Self::wait), for so long at most. Whether the last callback has returned.
    pub(crate) fn wait_for(&self, limit: Duration) -> bool {
        let start = now_ns();
        let limit = nanoseconds(limit);
        loop {
            // Acquire (S2): as above.
            let seen = self.word.load(Ordering::Acquire);
            let left = limit.saturating_sub(now_ns().saturating_sub(start));
            if seen & BUSY == 0 || left == 0 {
                return seen & BUSY == 0;
            }
            wait_for(&self.word, seen, Duration::from_nanos(left));
        }
    }

    /// Waits until nobody is in the callbacks of a condemned shrinker: for those, never for a grace period, nor for visitors
    /// that have let others in.
    pub(crate) fn wait(&self) {
        for _ in 0..SPINS {
            if self.has_returned() {
                return;
            }
            hint::spin_loop();
        }
        loop {
            // Acquire (S2): as above.
            let seen = self.word.load(Ordering::Acquire);
            if seen & BUSY == 0 {
                return;
            }
            wait(&self.word, seen);
        }
    }

    /// Who is there now. Only a figure.
    pub(crate) fn holders(&self) -> Holders {
        // Relaxed: a figure.
        let seen = self.word.load(Ordering::Relaxed);
        let dying = seen & DYING != 0;
        Holders {
            references: (seen & COUNT).saturating_sub(u32::from(!dying)),
            busy: seen & BUSY != 0,
            dying,
        }
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

    /// In a forked child: forgets the references of threads that do not exist here, keeping `own`, and BUSY if it is ours.
    pub(crate) fn repair(&self, own: u32, busy: bool) {
        // Relaxed: the child has one thread.
        let seen = self.word.load(Ordering::Relaxed);
        let first = u32::from(seen != 0 && seen & DYING == 0);
        let kept = if busy {
            DYING | ORPHAN | BUSY
        } else {
            DYING | ORPHAN
        };
        let flags = seen & kept;
        self.word.store(flags + first + own, Ordering::Relaxed);
    }
}

/// What one reference adds to the word.
fn ours(busy: bool) -> u32 {
    1 + if busy { BUSY } else { 0 }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
