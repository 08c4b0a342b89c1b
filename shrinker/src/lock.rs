//! The short lock that orders registrations, removals and snapshots among themselves. Walks never take it.
//!
//! Held for a handful of stores; never across a callback, an allocation or a guard. It sleeps on a futex, so a
//! preempted holder is not spun on, and fork handlers may take it in one call and give it back in another.
//!
//! # Synchronization
//!
//! | tag | writer | ordering | reader | ordering | what it carries |
//! | --- | --- | --- | --- | --- | --- |
//! | L1 | `release` | Release | `acquire` | Acquire | every link and field written under the lock |

use std::sync::atomic::Ordering;

use crate::sync::{AtomicU32, wait, wake};

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

    /// Runs `f` under the lock. `f` must not panic, allocate, or call anything that might.
    pub(crate) fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        self.acquire();
        let result = f();
        self.release();
        result
    }

    /// Takes the lock, sleeping if it must.
    pub(crate) fn acquire(&self) {
        // Acquire (L1): what the last holder wrote is visible. Relaxed on failure: nothing is read then.
        let quick = self
            .word
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        if quick.is_ok() {
            return;
        }
        // Acquire (L1): as above. The word says AWAITED from now on, so that the holder wakes us.
        while self.word.swap(AWAITED, Ordering::Acquire) != FREE {
            wait(&self.word, AWAITED);
        }
    }

    /// Gives the lock back. The caller must hold it.
    pub(crate) fn release(&self) {
        // Release (L1): what we wrote is visible to the next holder.
        if self.word.swap(FREE, Ordering::Release) == AWAITED {
            wake(&self.word);
        }
    }
}
