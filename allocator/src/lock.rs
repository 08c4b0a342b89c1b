//! Short locks. A waiter spins a little and then yields: a holder that lost its CPU must not be spun on.
//!
//! Ranks, taken in this order only, so that no two threads ever wait for each other:
//! the console's sockets (`console`) < starting (`tables`) < drain (`drain`) < a fallback table (`tables`) < making a cache,
//! its identity (`caches`) < a place < a home (`object_cache`) < class (`shard`) < empty sheaves (`node`) < arena < mappings.
//! Nothing under a lock calls a user, allocates, or makes a system call that may block for long.
//!
//! Around a fork one thread holds all of them ([`hold`]) while the C library calls handlers of others, which allocate as they
//! please. To that thread a lock that is taken is its own: it was taken between two operations, so all is whole.

use core::ops::{Deref, DerefMut};

use spin::RelaxStrategy;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::os;

/// Which of the thread's words says that it holds all locks.
const FORKING: usize = 4;

/// A lock around what it protects.
pub(crate) struct Lock<T>(SpinMutex<T, SpinThenYield>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// Takes it, waiting if it must.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        self.try_lock()
            .unwrap_or_else(|| Guard::Taken(self.0.lock()))
    }

    /// Takes it unless another thread has it.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
        match self.0.try_lock() {
            Some(guard) => Some(Guard::Taken(guard)),
            None => self.held(),
        }
    }

    /// What it protects, if this thread holds all locks.
    #[cold]
    fn held(&self) -> Option<Guard<'_, T>> {
        (os::thread_word(FORKING) != 0).then(|| {
            // SAFETY: the lock is this thread's, by `hold`; and no guard of it is left, since none outlives the call of
            // ours that took it.
            Guard::Held(unsafe { &mut *self.0.as_mut_ptr() })
        })
    }
}

/// What a lock protects, while it is held.
pub(crate) enum Guard<'a, T> {
    /// Given back when dropped.
    Taken(SpinMutexGuard<'a, T, SpinThenYield>),
    /// Given back by [`let_go`].
    Held(&'a mut T),
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self {
            Self::Taken(guard) => guard,
            Self::Held(value) => value,
        }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match self {
            Self::Taken(guard) => guard,
            Self::Held(value) => value,
        }
    }
}

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
    unsafe { lock.0.force_unlock() };
}

/// Says whether this thread holds all locks, by [`hold`].
pub(crate) fn set_holds_all(holds: bool) {
    os::set_thread_word(FORKING, usize::from(holds));
}
