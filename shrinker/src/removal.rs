//! The end of a shrinker: refuse new callers, wait for those in the callbacks, take the cache out, unlink the record or leave
//! that to the last walker in the visitor, drop the cache. The records are retired many at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::callee::forget;
use crate::chain::Chain;
use crate::epoch::assert_outside;
use crate::list::ShrinkerList;
use crate::record::Record;

impl ShrinkerList {
    /// Ends a registered shrinker. When it returns no callback runs or will run, and the cache was dropped here.
    ///
    /// # Safety
    /// `record` is registered on this list, the caller owns its registration and gives it up, and none of the
    /// record's callbacks is on this thread's stack.
    pub(crate) unsafe fn remove(&self, chain: &'static Chain, record: NonNull<Record>) {
        assert_outside();
        // SAFETY: linked and not retired until `end` below.
        let found = unsafe { record.as_ref() };
        found.state.condemn();
        // The completion: for callbacks that are running, never for guards (I8, I9). Walkers need nothing of ours
        // to come to their end.
        found.state.wait();
        // SAFETY: all callbacks have returned, and it is ours by the caller's clause.
        unsafe { self.end(chain, record) };
    }

    /// Ends a condemned shrinker whose callbacks have returned. Its cache was dropped when this returns.
    ///
    /// # Safety
    /// `record` is linked on this list and condemned, no callback of it runs, and the caller alone ends it.
    pub(crate) unsafe fn end(&self, chain: &'static Chain, record: NonNull<Record>) {
        // SAFETY: the caller's clause.
        let cache = unsafe { chain.remove(record) };
        self.sweep();
        drop(cache);
    }

    /// Condemns a shrinker whose own callback is on this thread's stack: nobody may wait. It ends by itself, in the
    /// next walk or removal that comes to its end after the callback has returned.
    ///
    /// # Safety
    /// `record` is registered on this list, and the caller owns its registration and gives it up.
    pub(crate) unsafe fn orphan(&self, chain: &'static Chain, record: NonNull<Record>) {
        // Relaxed: only a hint that a search is worth it; the lock carries the rest.
        chain.orphans.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the walk below us on the stack has a reference.
        let state = unsafe { &record.as_ref().state };
        state.orphan();
    }

    /// Gives up a condemned shrinker: whoever gives back its last reference, or we, if that was done, ends it.
    ///
    /// # Safety
    /// `record` is linked on this list and condemned, and the caller owns it and gives it up.
    pub(crate) unsafe fn abandon(&self, chain: &'static Chain, record: NonNull<Record>) {
        // Relaxed: S3 carries it to the one who gives back the last reference.
        chain.orphans.fetch_add(1, Ordering::Relaxed);
        // SAFETY: linked, so alive, until the next line.
        unsafe { record.as_ref() }.state.abandon();
        self.sweep();
    }

    /// Ends orphans, and retires what waits for it, if anything does. Runs outside guards and locks.
    pub(crate) fn sweep(&self) {
        if let Some(chain) = self.chain()
            && chain.is_untidy()
        {
            tidy(chain);
        }
    }
}

/// The sweep, where something may wait for it.
#[cold]
fn tidy(chain: &'static Chain) {
    while chain.has_orphans()
        && let Some(cache) = chain.remove_orphan()
    {
        // Relaxed: a hint, see `orphan`.
        chain.orphans.fetch_sub(1, Ordering::Relaxed);
        // This thread is not the owner's: a destructor that panics must not end its walk.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(cache))) {
            forget(payload);
        }
    }
    chain.settle();
}
