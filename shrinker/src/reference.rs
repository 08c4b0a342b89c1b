//! References to records, given back when they go out of scope: no path out of a walk can forget one, and none can
//! give back what it never took.

use std::mem;
use std::ptr::NonNull;

use crate::chain::Chain;
use crate::epoch::Guard;
use crate::record::Record;

/// One reference: the record's cache is alive and the record stays linked.
pub(crate) struct Reference {
    chain: &'static Chain,
    record: NonNull<Record>,
}

impl Reference {
    /// Step 2 of the walk: takes a reference if there is one to be had. `record` was found under the guard.
    #[must_use]
    pub(crate) fn try_get(
        chain: &'static Chain,
        record: NonNull<Record>,
        _: &Guard,
    ) -> Option<Self> {
        // SAFETY: I3: the guard keeps what was found under it.
        let found = unsafe { record.as_ref() };
        // `then`, not `then_some`: a value that was made and is not wanted would be dropped, and put.
        found.state.try_get().then(|| Self { chain, record })
    }

    /// The record.
    pub(crate) fn record(&self) -> &Record {
        // SAFETY: I1: referenced, so linked, so neither retired nor freed.
        unsafe { self.record.as_ref() }
    }

    /// Steps 4 and 5 of the walk are the caller's: gives it back under the guard that it entered (I2).
    pub(crate) fn put(self, _: &Guard) {
        self.record().state.put();
        mem::forget(self);
    }
}

/// For a visitor that panicked.
impl Drop for Reference {
    fn drop(&mut self) {
        // I2: under a guard: the wake-up still names the record.
        let _guard = self.chain.enter();
        self.record().state.put();
    }
}
