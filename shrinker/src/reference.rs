//! References to records, given back when they go out of scope: no path out of a walk can forget one, and none can
//! give back what it never took.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use crate::chain::Chain;
use crate::epoch::Guard;
use crate::record::Record;
use crate::state::Refusal;

/// One reference: the record's cache is alive and the record stays linked.
pub(crate) struct Reference {
    chain: &'static Chain,
    record: NonNull<Record>,
    holding: Cell<Holding>,
}

/// What a reference still has to give back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holding {
    Nothing,
    Count,
    /// And others are kept out of the callbacks.
    Busy,
}

impl Reference {
    /// Step 2 of the walk: takes a reference if there is one to be had. `record` was found under the guard.
    pub(crate) fn try_get(
        chain: &'static Chain,
        record: NonNull<Record>,
        _: &Guard,
    ) -> Result<Self, Refusal> {
        // SAFETY: I3: the guard keeps what was found under it.
        let found = unsafe { record.as_ref() };
        found.state.try_get()?;
        Ok(Self {
            chain,
            record,
            holding: Cell::new(Holding::Busy),
        })
    }

    /// The record.
    pub(crate) fn record(&self) -> &Record {
        // SAFETY: I1: referenced, so linked, so neither retired nor freed. Nobody asks when it was given back.
        unsafe { self.record.as_ref() }
    }

    /// Out of the callbacks: lets others in, while we are in the visitor.
    pub(crate) fn leave(&self) {
        if self.holding.replace(Holding::Count) == Holding::Busy {
            self.record().leave();
        }
    }

    /// Back into the callbacks, after [`leave`](Self::leave).
    pub(crate) fn come_back(&self) -> Result<(), Refusal> {
        self.record().state.try_return()?;
        self.holding.set(Holding::Busy);
        Ok(())
    }

    /// Whether no record follows: while the reference is held, `next` is up to date.
    pub(crate) fn is_last(&self) -> bool {
        // Relaxed: not followed. Whoever is linked at this moment may be seen or not (I15 in `list`).
        self.record().next.load(Ordering::Relaxed).is_null()
    }

    /// For a walk that reads nothing more of the record: gives the reference back without a guard, unless the shrinker is
    /// dying. Whether that was done.
    pub(crate) fn try_put(&self) -> bool {
        let busy = self.holding.get() == Holding::Busy;
        let done = self.record().state.try_put(busy);
        if done {
            self.holding.set(Holding::Nothing);
        }
        done
    }

    /// Steps 5 and 6 of the walk, under the guard that was entered in step 4 (I2): gives it back, and goes on to the next.
    pub(crate) fn put(self, guard: &Guard) -> Option<NonNull<Record>> {
        // Given back here, and not once more when it is dropped.
        let this = ManuallyDrop::new(self);
        let record = this.record();
        record.state.put(this.holding.get() == Holding::Busy);
        NonNull::new(guard.load(&record.next))
    }
}

/// For a walk that ends in the middle, or a visitor that panicked.
impl Drop for Reference {
    #[inline]
    fn drop(&mut self) {
        match self.holding.get() {
            Holding::Nothing => {}
            holding => give_back(self.chain, self.record, holding == Holding::Busy),
        }
    }
}

/// Gives a reference back to where nobody goes on from it.
#[cold]
fn give_back(chain: &'static Chain, record: NonNull<Record>, busy: bool) {
    // I2: under a guard: the wake-up still names the record.
    let _guard = chain.enter();
    // SAFETY: I1: referenced until here.
    unsafe { record.as_ref() }.state.put(busy);
}
