//! The units of an arena: lists of them by what they have free, so that a run of slices is found in one step.
//!
//! A unit is in one of 130 lists: by its longest run of free slices (0 to 64), and by whether any free slice is still
//! committed (*warm*) or none is (*cold*). A run is taken from the fullest warm unit that has it, then from the fullest
//! cold one: first what is paid for, and so that whole units come free.
//!
//! A few units are in a list apart once a cache is registered: withheld for who must not fail where others take all the memory
//! there may be, or all the addresses there are (`apart`). They stay there: were what is left of one anybody's, or what comes
//! free in one, those others would use it up.

use core::ptr::NonNull;

use crate::config::UNIT_SLICES;
use crate::list::{Links, List};
use crate::span_map::{self, Pages, Unit};

/// All slices of a unit.
pub(crate) const ALL: u64 = u64::MAX;

/// How many units are withheld.
const WITHHELD: usize = 4;

/// Lists per temperature: runs of 0 to 64.
const RUNS: usize = UNIT_SLICES + 1;

/// The list of those that are withheld, whatever they have free.
const APART: usize = 2 * RUNS;

/// The lists of units. Whoever holds the lock has all units for himself.
pub(crate) struct Units {
    lists: [List<Unit>; 2 * RUNS + 1],
    /// A bit per list that is not empty, of the cold ones and of the warm ones.
    present: [u128; 2],
}

// SAFETY: the pointers are to units, which are never freed, and reached only through `&mut Units`.
unsafe impl Send for Units {}

impl Units {
    pub(crate) const fn new() -> Self {
        Self {
            lists: [const { List::new() }; 2 * RUNS + 1],
            present: [0; 2],
        }
    }

    /// A unit of this arena.
    pub(crate) fn get(&mut self, unit: NonNull<Unit>) -> &mut Unit {
        // SAFETY: units are never freed, and reached only through `&mut Units`.
        unsafe { &mut *unit.as_ptr() }
    }

    /// Adds a new unit.
    pub(crate) fn add(&mut self, start: usize, pages: Pages) {
        let Some(unit) = NonNull::new(span_map::unit(start)) else {
            return;
        };
        *self.get(unit) = Unit {
            links: Links::none(),
            start,
            free: ALL,
            committed: 0,
            dirty: 0,
            list: UNIT_SLICES as u32,
            pages,
        };
        // SAFETY: in no list; reached through `self` alone.
        unsafe { self.lists[UNIT_SLICES].push(unit) };
        self.present[0] |= 1 << UNIT_SLICES;
    }

    /// Withholds units of which nothing is used or committed, until there are enough that are wholly free. Whether there are.
    pub(crate) fn withhold(&mut self) -> bool {
        let mut free = 0;
        self.lists[APART].each(|unit| free += usize::from(unit.free == ALL));
        while free < WITHHELD {
            let Some(unit) = self.lists[UNIT_SLICES].first() else {
                return false;
            };
            self.move_to(unit, APART);
            free += 1;
        }
        true
    }

    /// A free run of `slices` that begins at a multiple of `grain` slices in what is withheld, as [`find_room`](Self::find_room).
    pub(crate) fn find_withheld(
        &mut self,
        slices: usize,
        grain: usize,
    ) -> Option<(NonNull<Unit>, u64)> {
        let room = slices + grain - 1;
        let mut least = usize::MAX;
        let mut found = None;
        self.lists[APART].each(|unit| {
            let longest = longest_run(unit.free);
            if longest >= room && longest < least {
                least = longest;
                found = Some(NonNull::from(unit));
            }
        });
        let unit = found?;
        let run = find_run(self.get(unit).free, room)?;
        let first = (run.trailing_zeros() as usize).next_multiple_of(grain);
        Some((unit, run_at(first, slices)))
    }

    /// Calls `f` with each unit.
    pub(crate) fn each(&mut self, mut f: impl FnMut(&mut Unit)) {
        self.lists.iter_mut().for_each(|list| list.each(&mut f));
    }

    /// Moves a unit to the list it belongs to now. What is withheld stays so.
    pub(crate) fn relist(&mut self, unit: NonNull<Unit>) {
        let here = self.get(unit);
        let warm = here.free & here.committed != 0;
        let list = longest_run(here.free) + if warm { RUNS } else { 0 };
        let old = here.list as usize;
        if old != list && old != APART {
            self.move_to(unit, list);
        }
    }

    /// Moves a unit to another list, from any but that of those that are withheld.
    fn move_to(&mut self, unit: NonNull<Unit>, list: usize) {
        let old = core::mem::replace(&mut self.get(unit).list, list as u32) as usize;
        // SAFETY: it is in that list; reached through `self` alone.
        unsafe { self.lists[old].remove(unit) };
        if self.lists[old].is_empty() {
            self.present[old / RUNS] &= !(1 << (old % RUNS));
        }
        // SAFETY: it is in no list now.
        unsafe { self.lists[list].push(unit) };
        if list != APART {
            self.present[list / RUNS] |= 1 << (list % RUNS);
        }
    }

    /// The fullest unit that has a run of `slices`, a warm one if there is any.
    fn find(&self, slices: usize) -> Option<NonNull<Unit>> {
        let shortest = |lists: u128| {
            let among = lists >> slices << slices;
            (among != 0).then(|| among.trailing_zeros() as usize)
        };
        let [cold, warm] = self.present.map(shortest);
        self.lists[warm.map(|list| RUNS + list).or(cold)?].first()
    }

    /// A free run of `slices` that begins at a multiple of `grain` slices, a power of two, and its unit: the fullest that has
    /// room to find it in, which is at most a unit. What is committed comes first.
    pub(crate) fn find_room(
        &mut self,
        slices: usize,
        grain: usize,
    ) -> Option<(NonNull<Unit>, u64)> {
        let room = slices + grain - 1;
        let unit = self.find(room)?;
        let here = self.get(unit);
        let warm = find_run(here.free & here.committed, room);
        let found = warm.or_else(|| find_run(here.free, room))?;
        let first = (found.trailing_zeros() as usize).next_multiple_of(grain);
        Some((unit, run_at(first, slices)))
    }

    /// The emptiest unit with free slices that are committed, or any of those that are withheld.
    pub(crate) fn warmest(&mut self) -> Option<NonNull<Unit>> {
        if let Some(list) = self.present[1].checked_ilog2() {
            return self.lists[RUNS + list as usize].first();
        }
        let mut warm = None;
        self.lists[APART].each(|unit| {
            if unit.free & unit.committed != 0 {
                warm = Some(NonNull::from(unit));
            }
        });
        warm
    }
}

/// The mask of `slices` slices from `first` on.
pub(crate) fn run_at(first: usize, slices: usize) -> u64 {
    (ALL >> (UNIT_SLICES - slices)) << first
}

/// The lowest run of `slices` set bits.
fn find_run(mask: u64, slices: usize) -> Option<u64> {
    // A set bit begins a run of `len`.
    let (mut starts, mut len) = (mask, 1);
    while len < slices {
        let more = len.min(slices - len);
        starts &= starts >> more;
        len += more;
    }
    (starts != 0).then(|| run_at(starts.trailing_zeros() as usize, slices))
}

/// The length of the longest run of set bits: the highest power of two that fits into one, then the lower ones.
fn longest_run(mask: u64) -> usize {
    if mask == 0 || mask == ALL {
        return mask.count_ones() as usize;
    }
    // Where runs of 1, 2, 4 .. begin.
    let mut runs = [mask; 6];
    let mut power = 0;
    while power < 5 {
        let longer = runs[power] & (runs[power] >> (1 << power));
        if longer == 0 {
            break;
        }
        power += 1;
        runs[power] = longer;
    }
    let (mut starts, mut len) = (runs[power], 1 << power);
    for power in (0..power).rev() {
        let longer = starts & (runs[power] >> len);
        if longer != 0 {
            starts = longer;
            len += 1 << power;
        }
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_lowest_first() {
        assert_eq!(find_run(0b1011_1011, 1), Some(0b1));
        assert_eq!(find_run(0b1011_1011, 2), Some(0b11));
        assert_eq!(find_run(0b1011_1011, 3), Some(0b11_1000));
        assert_eq!(find_run(0b1011_1011, 4), None);
        assert_eq!(find_run(ALL, 64), Some(ALL));
        assert_eq!(longest_run(0b1011_1011), 3);
        assert_eq!((longest_run(0), longest_run(ALL)), (0, 64));
        let one_by_one = |mut mask: u64| {
            let mut len = 0;
            while mask != 0 {
                mask &= mask << 1;
                len += 1;
            }
            len
        };
        for len in 1..64 {
            for first in 0..=64 - len {
                let mask = run_at(first, len) | 0b1_0110_1110_0101;
                assert_eq!(longest_run(mask), one_by_one(mask), "{mask:#b}");
                assert_eq!(find_run(run_at(first, len), len), Some(run_at(first, len)));
                assert_eq!(find_run(mask, longest_run(mask) + 1), None);
            }
        }
    }
}
