//! The short lock that orders registrations, removals and snapshots among themselves. No walk takes it to visit shrinkers; at
//! its end one does (`sweep`), in the seldom case that an orphan or a batch of records waits to be cleared away.
//!
//! Held for a handful of stores; never across a callback, an allocation or a guard. (The epoch has a lock of its own,
//! which is, and says there why that may be.) Who finds it held looks again a few
//! times, which is mostly enough and far cheaper than to sleep; then it sleeps on a futex, so a preempted holder is not
//! spun on. Fork handlers may take it in one call and give it back in another.
//!
//! # Synchronization
//!
//! | tag | writer | ordering | reader | ordering | what it carries |
//! | --- | --- | --- | --- | --- | --- |
//! | L1 | `release` | Release | `acquire` | Acquire | every link and field written under the lock |

use std::hint;
use std::sync::atomic::Ordering;

use crate::sync::{AtomicU32, SPINS, wait, wake_one};

const FREE: u32 = 0;
const HELD: u32 = 1;
const AWAITED: u32 = 2;

/// A futex lock without data: what it protects is said where it is used.
pub(crate) struct Lock {
    word: AtomicU32,
}

impl Lock {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(FREE),
        }
    }

    /// Runs `f` under the lock. `f` must not panic, and calls nothing that might want the lock.
    pub(crate) fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        self.acquire();
        let result = f();
        self.release();
        result
    }

    fn try_acquire(&self) -> bool {
        // Acquire (L1): what the last holder wrote is visible. Relaxed on failure: nothing is read then.
        self.word
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the lock, sleeping if it must.
    pub(crate) fn acquire(&self) {
        if self.try_acquire() {
            return;
        }
        for _ in 0..SPINS {
            // Relaxed: a guess; `try_acquire` decides. Who sleeps has waited longer than we have: no overtaking.
            match self.word.load(Ordering::Relaxed) {
                FREE if self.try_acquire() => return,
                AWAITED => break,
                _ => hint::spin_loop(),
            }
        }
        // Acquire (L1): as above. The word says AWAITED from now on, so that the holder wakes one of us, who says so again.
        while self.word.swap(AWAITED, Ordering::Acquire) != FREE {
            wait(&self.word, AWAITED);
        }
    }

    /// In a forked child, which has one thread: nobody holds it, nobody waits.
    pub(crate) fn forget(&self) {
        // Relaxed: there is one thread.
        self.word.store(FREE, Ordering::Relaxed);
    }

    /// Gives the lock back. The caller must hold it.
    pub(crate) fn release(&self) {
        // Release (L1): what we wrote is visible to the next holder.
        if self.word.swap(FREE, Ordering::Release) == AWAITED {
            wake_one(&self.word);
        }
    }
}
