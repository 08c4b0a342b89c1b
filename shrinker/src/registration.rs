//! A registered shrinker, and the ways to take it off its list: at once, which waits for callbacks, or by and by.

use std::error::Error;
use std::fmt;
use std::mem;
use std::ptr::NonNull;

use crate::chain::Chain;
use crate::frames::frames;
use crate::list::ShrinkerList;
use crate::record::Record;
use crate::retirement::Retirement;
use crate::stats::ShrinkerStats;

/// A registered shrinker. Dropping it unregisters it.
#[must_use = "dropping a registration unregisters the shrinker at once"]
pub struct Registration {
    pub(crate) list: &'static ShrinkerList,
    pub(crate) chain: &'static Chain,
    pub(crate) record: NonNull<Record>,
}

// SAFETY: it names a record, which may be read from any thread, and whose cache is `Send` should it be dropped there.
unsafe impl Send for Registration {}
// SAFETY: a shared registration only reads the record's counters and stores one.
unsafe impl Sync for Registration {}

impl Registration {
    /// Takes the shrinker off its list, waits for callbacks that are running (for nothing else: a visitor counts only where
    /// it hears that nothing was freed), and drops the cache on this thread. Afterwards no callback runs any more: its code
    /// may be unloaded.
    ///
    /// # Errors
    /// [`UnregisterError::InsideOwnCallback`] from inside the shrinker's own callback (or the visitor of it): it would
    /// wait for itself. The registration comes back with the error.
    ///
    /// # Panics
    /// When the cache's destructor does; the shrinker is off its list by then.
    pub fn unregister(self) -> Result<(), UnregisterError> {
        if frames(self.record()) != 0 {
            return Err(UnregisterError::InsideOwnCallback(self));
        }
        drop(self);
        Ok(())
    }

    /// Begins to take the shrinker off its list, and waits for nothing: may be called on any thread, also inside the
    /// shrinker's own callback, and under any lock. No new callback begins from now on; the [`Retirement`] says when the
    /// last one has returned.
    pub fn retire(self) -> Retirement {
        let (list, chain, record) = (self.list, self.chain, self.record);
        mem::forget(self);
        // SAFETY: registered here, and given up by the registration.
        unsafe { Retirement::begin(list, chain, record) }
    }

    /// Says anew what an object costs to make again ([`Shrinker::seeks`](crate::Shrinker::seeks)): for a cache that measures it.
    /// Counts from the next visit on, and may be said at any time, also inside a callback of its own. Work that was put off
    /// before stays as it is. [`stats`](Self::stats) has what was said last.
    pub fn set_seeks(&self, seeks: u32) {
        self.record().set_seeks(seeks);
    }

    /// A snapshot of what the shrinker has done so far.
    #[must_use]
    pub fn stats(&self) -> ShrinkerStats {
        self.record().stats()
    }

    fn record(&self) -> &Record {
        // SAFETY: registered, so linked, so alive.
        unsafe { self.record.as_ref() }
    }
}

impl Drop for Registration {
    /// As [`unregister`](Self::unregister). Inside the shrinker's own callback it cannot wait: no new callback starts
    /// from now on, and the cache is dropped a little later, on the thread whose walk comes to its end first.
    fn drop(&mut self) {
        if frames(self.record()) != 0 {
            // SAFETY: registered here, and ours to give up.
            unsafe { self.list.orphan(self.chain, self.record) };
            return;
        }
        // SAFETY: registered here, ours to give up, and its callbacks are not on this stack.
        unsafe { self.list.remove(self.chain, self.record) };
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.record().name();
        f.debug_tuple("Registration").field(&name).finish()
    }
}

/// Why a shrinker could not be unregistered.
#[derive(Debug)]
pub enum UnregisterError {
    /// The call came from inside the shrinker's own callback. Here is the registration back: keep it, and unregister
    /// later or on another thread.
    InsideOwnCallback(Registration),
}

impl fmt::Display for UnregisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a shrinker cannot be unregistered from inside its own callback")
    }
}

impl Error for UnregisterError {}
