//! Taking a shrinker off its list without waiting: begin now, and look later, or never, whether it is done.
//!
//! The record stays linked until its count is zero (I1 in `list`), whoever sees to that: the owner of the [`Retirement`],
//! or, once it was dropped, the next walk or removal that comes to its end (an orphan, see `state`).

use std::fmt;
use std::ptr::NonNull;
use std::time::Duration;

use crate::chain::Chain;
use crate::frames::frames;
use crate::list::ShrinkerList;
use crate::record::Record;
use crate::stats::ShrinkerStats;

/// A shrinker that is on its way off its list: no callback of it begins any more, but some may be running still.
///
/// Dropping it when it is [complete](Self::is_complete) drops the cache, here and now. Dropping it earlier does not wait
/// either: the cache is dropped as soon as the callbacks have returned, on the thread whose walk comes to its end first.
#[must_use = "dropped before it is complete, it ends unobserved"]
pub struct Retirement {
    list: &'static ShrinkerList,
    chain: &'static Chain,
    record: NonNull<Record>,
}

// SAFETY: it names a record, which may be read from any thread, and whose cache is `Send` should it be dropped there.
unsafe impl Send for Retirement {}
// SAFETY: a shared retirement only reads the record's state and counters.
unsafe impl Sync for Retirement {}

impl Retirement {
    /// Refuses new callers from now on.
    ///
    /// # Safety
    /// `record` is registered on `list`, whose chain it is, and the caller owns its registration and gives it up.
    pub(crate) unsafe fn begin(
        list: &'static ShrinkerList,
        chain: &'static Chain,
        record: NonNull<Record>,
    ) -> Self {
        let retirement = Self {
            list,
            chain,
            record,
        };
        retirement.record().state.condemn();
        retirement
    }

    /// Whether the last callback has returned. Then none is running, and none will ever run again. One load.
    ///
    /// The cache itself, and so the destructor's code, lives until this is dropped.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.record().state.has_returned()
    }

    /// Waits until it is complete, and drops the cache on this thread: as
    /// [`Registration::unregister`](crate::Registration::unregister), in two parts.
    ///
    /// # Errors
    /// Itself, from inside the shrinker's own callback (or the visitor of it): it would wait for itself.
    ///
    /// # Panics
    /// When the cache's destructor does; the shrinker is off its list by then.
    pub fn wait(self) -> Result<(), Self> {
        if frames(self.record()) != 0 {
            return Err(self);
        }
        self.record().state.wait();
        drop(self);
        Ok(())
    }

    /// As [`wait`](Self::wait), for so long at most.
    ///
    /// # Errors
    /// Itself, when it is not complete by then; at once from inside the shrinker's own callback.
    ///
    /// # Panics
    /// Those of `wait`.
    pub fn wait_for(self, limit: Duration) -> Result<(), Self> {
        if frames(self.record()) != 0 || !self.record().state.wait_for(limit) {
            return Err(self);
        }
        drop(self);
        Ok(())
    }

    /// A snapshot of what the shrinker did: whose callback it is that goes on and on, for one.
    #[must_use]
    pub fn stats(&self) -> ShrinkerStats {
        self.record().stats()
    }

    fn record(&self) -> &Record {
        // SAFETY: condemned but not ended by anybody else, so linked, so alive.
        unsafe { self.record.as_ref() }
    }
}

impl Drop for Retirement {
    fn drop(&mut self) {
        let (list, chain, record) = (self.list, self.chain, self.record);
        if self.is_complete() {
            // SAFETY: condemned by `begin`, no callback runs, and ours to end.
            unsafe { list.end(chain, record) };
        } else {
            // SAFETY: condemned by `begin`, and ours to give up.
            unsafe { list.abandon(chain, record) };
        }
    }
}

impl fmt::Debug for Retirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retirement")
            .field("name", &self.record().name())
            .field("complete", &self.is_complete())
            .finish()
    }
}
