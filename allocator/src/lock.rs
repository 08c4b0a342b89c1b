//! Short locks. A waiter spins a little and then yields: a holder that lost its CPU must not be spun on.
//!
//! Ranks, taken in this order only, so that no two threads ever wait for each other:
//! drain (`drain`) < a fallback table (`tables`) < class (`node`) < empty sheaves (`node`) < arena < mappings.
//! Nothing under a lock calls a user, allocates, or makes a system call that may block for long.

use spin::RelaxStrategy;
use spin::mutex::SpinMutex;

use crate::os;

/// A lock around what it protects.
pub(crate) type Lock<T> = SpinMutex<T, SpinThenYield>;

/// How a waiter waits.
#[derive(Debug)]
pub(crate) struct SpinThenYield;

impl RelaxStrategy for SpinThenYield {
    fn relax() {
        for _ in 0..32 {
            core::hint::spin_loop();
        }
        os::yield_now();
    }
}

/// Takes a lock and keeps it past the end of the scope, for a fork.
pub(crate) fn hold<T>(lock: &Lock<T>) {
    core::mem::forget(lock.lock());
}

/// Gives back a lock that [`hold`] took.
///
/// # Safety
/// This thread (or in a forked child, its parent's forking thread) took it by [`hold`].
pub(crate) unsafe fn let_go<T>(lock: &Lock<T>) {
    // SAFETY: the caller's clause: held, and by us.
    unsafe { lock.force_unlock() };
}
