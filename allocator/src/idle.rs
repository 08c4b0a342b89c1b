//! Idle slices on their way back to the system: taken out of their unit, so that nobody else is given them meanwhile, and put
//! back when that is done.

use core::ptr::NonNull;

use crate::chunk;
use crate::config::SLICE;
use crate::span_map::{self, Unit};
use crate::units::{ALL, Units};

/// Slices of one unit that are marked as handed out.
pub(crate) struct Idle {
    unit: NonNull<Unit>,
    start: usize,
    /// What is marked: all of a unit that is wholly free, so that its descriptors can go too.
    taken: u64,
    /// Those of them that are committed.
    paid: u64,
}

impl Idle {
    /// Takes those of the emptiest unit that has any.
    pub(crate) fn take(units: &mut Units) -> Option<Self> {
        let unit = units.warmest()?;
        Some(Self::take_of(units, unit))
    }

    /// Takes a unit that is wholly free, if there is one of which anything is committed.
    pub(crate) fn take_whole(units: &mut Units) -> Option<Self> {
        let unit = units.warmest()?;
        (units.get(unit).free == ALL).then(|| Self::take_of(units, unit))
    }

    fn take_of(units: &mut Units, unit: NonNull<Unit>) -> Self {
        let here = units.get(unit);
        let paid = here.free & here.committed;
        let whole = here.free == ALL;
        if !whole {
            chunk::shrink_pages(here);
        }
        let taken = if whole { ALL } else { paid };
        here.free &= !taken;
        let start = here.start;
        units.relist(unit);
        Self {
            unit,
            start,
            taken,
            paid,
        }
    }

    /// Gives their memory back to the system, without the lock. Whether it took it.
    pub(crate) fn discard(&self) -> bool {
        let discarded = chunk::discard(self.start, self.paid);
        if discarded && self.is_whole() {
            span_map::discard_descriptors(self.start);
        }
        discarded
    }

    /// Puts them back into their unit: no more committed, if the system took their memory.
    pub(crate) fn put_back(&self, units: &mut Units, discarded: bool) {
        let here = units.get(self.unit);
        here.free |= self.taken;
        if discarded {
            here.committed &= !self.paid;
            here.dirty &= !self.paid;
            if self.is_whole() {
                chunk::restore_pages(here);
            }
        }
        units.relist(self.unit);
    }

    /// Whether they are all of a unit.
    pub(crate) fn is_whole(&self) -> bool {
        self.taken == ALL
    }

    /// How many bytes are committed.
    pub(crate) fn bytes(&self) -> usize {
        self.paid.count_ones() as usize * SLICE
    }
}
