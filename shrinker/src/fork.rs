//! Forking: three calls for `pthread_atfork`, so that the list is whole in the child.
//!
//! The child has one thread, but a copy of what all threads held: the lock, references, busy marks, guards. The lock is
//! taken before the fork, so no record is half linked; the child then forgets what absent threads held. It cannot
//! give back what they would have: shrinkers that another thread was unregistering stay dying for ever, records that
//! were retired are leaked with the old collector, and caches are as their owners left them in the middle of a callback.
//!
//! One thing cannot be repaired from here: seize's own lock on thread ids, held for a moment at a thread's first guard
//! and at its exit. A child forked in that moment hangs when one of *its* new threads walks for the first time;
//! [`ShrinkerList::fork_prepare`] makes sure that the forking thread itself never needs it.

use std::sync::atomic::Ordering;

use crate::epoch;
use crate::list::ShrinkerList;
use crate::sync::{forget_thread_number, thread_token};

impl ShrinkerList {
    /// Before a fork: keeps registrations out. Waits for no callback, and never allocates under the lock.
    pub fn fork_prepare(&self) {
        let Some(chain) = self.chain() else { return };
        if !epoch::thread_exiting() {
            drop(chain.enter());
        }
        chain.lock().acquire();
        // Relaxed: written and read by the thread that holds the lock; others only see that it is not theirs.
        self.forking.store(thread_token(), Ordering::Relaxed);
    }

    /// After a fork, in the parent: lets registrations in again.
    pub fn fork_parent(&self) {
        // Relaxed: see fork_prepare. Nothing was taken if the list was made in between.
        if self.forking.load(Ordering::Relaxed) != thread_token() {
            return;
        }
        self.forking.store(0, Ordering::Relaxed);
        if let Some(chain) = self.chain() {
            chain.lock().release();
        }
    }

    /// After a fork, in the child: forgets what threads held that do not exist here, then as
    /// [`fork_parent`](Self::fork_parent). Allocates nothing.
    ///
    /// # Safety
    /// Only in a forked child, by its only thread, before anything else there uses the list; and
    /// [`fork_prepare`](Self::fork_prepare) ran in that thread before the fork.
    pub unsafe fn fork_child(&self) {
        forget_thread_number();
        // Relaxed: as above.
        if self.forking.load(Ordering::Relaxed) == thread_token()
            && let Some(chain) = self.chain()
        {
            chain.repair();
        }
        self.fork_parent();
    }
}
