//! The arena of a node: runs of slices, committed (charged to the budget) when handed out and purged when idle.
//!
//! Address space is reserved in chunks, placed on the node with its descriptors, and never given back. It is cut in
//! units of 2 MiB, of 64 slices each; a run never crosses a unit. Three bit masks per unit say which slices are free,
//! committed and dirty.
//!
//! Which unit a run is taken from is the business of `units`.
//!
//! A heap that has outgrown its first units takes *huge* units: backed by one huge page, a fault for all of it instead
//! of one per 4 KiB, and committed as a whole. The first few are not, so that small programs stay small. A huge unit that
//! is taken while little is in use, or of which a part is purged, becomes an ordinary one, or the system would fill it up
//! again; once it is wholly purged, it is huge again.
//!
//! Free slices stay committed up to a limit; what exceeds it, and everything freed inside a reclaim, is purged at
//! once, whole units first. System calls are made outside the lock, on slices marked as taken.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::account::Account;
use crate::budget;
use crate::config::{CHUNKS, DENSE, PAGE, SLICE, SMALL_PAGES, UNIT};
use crate::keep;
use crate::lock::Lock;
use crate::os;
use crate::slab::UNIT_METADATA;
use crate::span_map::{self, Pages, Unit};
use crate::tide::Tide;
use crate::topology;
use crate::units::{ALL, Units, find_run, run_at};

/// A run of slices that was handed out.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) start: usize,
    /// Whether all its bytes are known to be zero.
    pub(crate) zeroed: bool,
}

/// The arena of one node.
pub(crate) struct Arena {
    units: Lock<Units>,
    /// What is backed on this node: the arena, and mappings.
    pub(crate) account: Account,
    /// What the program gives back and takes again here, in the arena and in mappings.
    pub(crate) tide: Tide,
    /// Bytes committed.
    committed: AtomicUsize,
    /// Bytes committed and free.
    idle: AtomicUsize,
    /// Bytes that the node keeps for reuse outside the arena, as it said last.
    elsewhere: AtomicUsize,
    /// Runs handed out, counted on, and how many these were when [`Arena::is_quiet`] was asked last.
    runs: AtomicUsize,
    runs_seen: AtomicUsize,
}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self {
            units: Lock::new(Units::new()),
            account: Account::new(),
            tide: Tide::new(),
            committed: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
            runs: AtomicUsize::new(0),
            runs_seen: AtomicUsize::new(0),
        }
    }

    /// The lock, for a fork.
    pub(crate) fn lock(&self) -> &Lock<Units> {
        &self.units
    }

    /// Bytes committed, and of those free. Relaxed: for statistics and limits.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (
            self.committed.load(Ordering::Relaxed),
            self.idle.load(Ordering::Relaxed),
        )
    }

    /// Takes a run of `slices` that begins at a multiple of `grain` slices, a power of two; with room to find that in it is at
    /// most a unit. Nothing when the budget or the system says no. `node` is where new memory is placed.
    pub(crate) fn alloc(&self, slices: usize, grain: usize, node: usize) -> Option<Span> {
        let wide = slices + grain - 1;
        loop {
            let found = self.units.lock().find(wide);
            // Found and looked at under two locks; `take` looks again.
            if found.is_none() && !self.grow(node) {
                return None;
            }
            let mut units = self.units.lock();
            if let Some(unit) = units.find(wide) {
                return self.take(&mut units, unit, slices, grain);
            }
        }
    }

    /// Whether no run was handed out since this was asked last: what is idle may then wait for nobody. Relaxed: a hint.
    pub(crate) fn is_quiet(&self) -> bool {
        let runs = self.runs.load(Ordering::Relaxed);
        self.runs_seen.swap(runs, Ordering::Relaxed) == runs
    }

    /// Takes a run from `unit`, which has it, if the budget allows.
    fn take(
        &self,
        units: &mut Units,
        unit: NonNull<Unit>,
        slices: usize,
        grain: usize,
    ) -> Option<Span> {
        let here = units.get(unit);
        let wide = slices + grain - 1;
        let warm = find_run(here.free & here.committed, wide);
        let room = warm.or_else(|| find_run(here.free, wide))?;
        let first = (room.trailing_zeros() as usize).next_multiple_of(grain);
        let run = run_at(first, slices);
        let added = self.commit(here, run)?;
        let span = Span {
            start: here.start + first * SLICE,
            zeroed: run & here.dirty == 0,
        };
        here.free &= !run;
        here.dirty |= run;
        units.relist(unit);
        if added > 0 {
            self.tide.flow(added);
        }
        // Relaxed, all: see `usage`. Added first, so that nothing falls below zero.
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.committed.fetch_add(added, Ordering::Relaxed);
        self.idle.fetch_add(added, Ordering::Relaxed);
        self.idle.fetch_sub(slices * SLICE, Ordering::Relaxed);
        Some(span)
    }

    /// Charges what of `run` is not yet committed, or all of a huge unit. How many bytes; nothing when the budget says no.
    fn commit(&self, unit: &mut Unit, run: u64) -> Option<usize> {
        let pristine = unit.free == ALL && unit.committed == 0;
        let metadata = if pristine { UNIT_METADATA } else { 0 };
        if pristine && unit.pages == Pages::Huge {
            let dense = self.in_use() >= DENSE;
            if dense && budget::charge_on(&self.account, UNIT, metadata) {
                unit.committed = ALL;
                return Some(UNIT);
            }
            shrink_pages(unit);
        }
        let added = (run & !unit.committed).count_ones() as usize * SLICE;
        if !budget::charge_on(&self.account, added, metadata) {
            return None;
        }
        unit.committed |= run;
        Some(added)
    }

    /// Takes a run back, and purges what is too much. `elsewhere` is how many bytes its node keeps for reuse outside the
    /// arena.
    pub(crate) fn free(&self, start: usize, slices: usize, elsewhere: usize) {
        let Some(unit) = NonNull::new(span_map::unit(start)) else {
            return;
        };
        let first = start % UNIT / SLICE;
        let mut units = self.units.lock();
        units.get(unit).free |= run_at(first, slices);
        units.relist(unit);
        // Relaxed: see `usage`. Under the lock, so that it never falls below zero.
        let idle = self.idle.fetch_add(slices * SLICE, Ordering::Relaxed) + slices * SLICE;
        drop(units);
        // Relaxed: see `usage`.
        self.elsewhere.store(elsewhere, Ordering::Relaxed);
        if budget::reclaiming() {
            self.purge(0);
        } else {
            let limit = self.limit();
            if idle > limit {
                self.ebb(limit - limit / 8);
            }
        }
    }

    /// Free bytes that may stay committed.
    fn limit(&self) -> usize {
        // Relaxed: see `usage`.
        let elsewhere = self.elsewhere.load(Ordering::Relaxed);
        let kept = self.usage().1 + elsewhere;
        let floor = topology::machine().share(keep::keep());
        keep::bound(kept, floor, self.in_use(), || self.tide.height()).saturating_sub(elsewhere)
    }

    /// Bytes handed out that the node does not keep for reuse, about.
    fn in_use(&self) -> usize {
        let (committed, idle) = self.usage();
        // Relaxed: see `usage`.
        committed.saturating_sub(idle + self.elsewhere.load(Ordering::Relaxed))
    }

    /// As [`Arena::purge`], of what may be wanted again.
    pub(crate) fn ebb(&self, keep: usize) {
        self.tide.ebb(self.purge(keep));
    }

    /// Purges idle units until at most `keep` bytes are free and committed. How many bytes.
    pub(crate) fn purge(&self, keep: usize) -> usize {
        let mut purged = 0;
        // Relaxed: see `usage`.
        while self.idle.load(Ordering::Relaxed) > keep {
            let mut units = self.units.lock();
            let Some(unit) = units.warmest() else { break };
            let here = units.get(unit);
            let whole = here.free == ALL;
            let taken = if whole {
                ALL
            } else {
                here.free & here.committed
            };
            let paid = here.free & here.committed;
            if !whole {
                shrink_pages(here);
            }
            here.free &= !taken;
            units.relist(unit);
            let start = units.get(unit).start;
            drop(units);
            if !self.purge_taken(unit, start, taken, paid) {
                break;
            }
            purged += paid.count_ones() as usize * SLICE;
        }
        purged
    }

    /// Purges the `paid` slices of a unit whose `taken` slices are marked as handed out, and frees them again. Whether
    /// the system did it.
    fn purge_taken(&self, unit: NonNull<Unit>, start: usize, taken: u64, paid: u64) -> bool {
        let purged = discard_runs(start, paid);
        let whole = taken == ALL && purged;
        if whole {
            span_map::discard_descriptors(start);
        }
        let mut units = self.units.lock();
        let here = units.get(unit);
        here.free |= taken;
        if purged {
            here.committed &= !paid;
            here.dirty &= !paid;
        }
        if whole && here.pages == Pages::Shrunk {
            here.pages = Pages::Huge;
            os::advise_huge(at(here.start), UNIT);
        }
        units.relist(unit);
        if purged {
            let bytes = paid.count_ones() as usize * SLICE;
            // Relaxed: see `usage`.
            self.committed.fetch_sub(bytes, Ordering::Relaxed);
            self.idle.fetch_sub(bytes, Ordering::Relaxed);
            drop(units);
            let metadata = if whole { UNIT_METADATA } else { 0 };
            budget::release_on(&self.account, bytes, metadata);
        }
        purged
    }

    /// Reserves a chunk of address space and adds its units. False when the system has none.
    fn grow(&self, node: usize) -> bool {
        let chunk = CHUNKS
            .iter()
            .find_map(|len| Some((os::map_aligned(*len, *len)?, *len)));
        let Some((start, len)) = chunk else {
            return false;
        };
        if !span_map::ensure(start.addr().get()) {
            // SAFETY: ours, and nobody has seen it.
            unsafe { os::unmap(start, len) };
            return false;
        }
        let policy = topology::machine().policy();
        topology::machine().place(start, len, node);
        let descriptors = at(span_map::slab_of_slice(start.addr().get()).addr());
        topology::machine().place(descriptors, len / UNIT * UNIT_METADATA, node);
        let small = self.small_pages(len);
        os::advise_huge(at(start.addr().get() + small), len - small);
        let mut units = self.units.lock();
        // The lowest address on top.
        for offset in (0..len).step_by(UNIT).rev() {
            let pages = if offset < small {
                Pages::Small
            } else {
                Pages::Huge
            };
            units.add(start.addr().get() + offset, pages);
        }
        if topology::machine().policy() != policy {
            // Perhaps too late for whoever has changed it to see these.
            topology::machine().place_again(start, len, node);
        }
        true
    }

    /// Has all that is backed from now on placed by the policy that was just set. Under the lock: seldom, and soon done.
    pub(crate) fn place_again(&self, node: usize) {
        self.units.lock().each(|unit| {
            topology::machine().place_again(at(unit.start), UNIT, node);
            // The system may have backed more than was asked for, by a huge page. Where it refuses, that stays.
            let _ = discard_runs(unit.start, unit.free & !unit.committed);
        });
    }

    /// How many bytes of a new chunk of `len` bytes get small pages: with a budget all, since there every page counts,
    /// else the first of the heap.
    fn small_pages(&self, len: usize) -> usize {
        if budget::get().is_some() {
            return len;
        }
        // Relaxed: see `usage`.
        let used = self.committed.load(Ordering::Relaxed);
        SMALL_PAGES.saturating_sub(used).min(len)
    }
}

/// Has a huge unit take small pages from now on.
fn shrink_pages(unit: &mut Unit) {
    if unit.pages == Pages::Huge {
        unit.pages = Pages::Shrunk;
        os::advise_small(at(unit.start), UNIT);
    }
}

fn at(start: usize) -> NonNull<u8> {
    // Never 0: units lie in mappings.
    NonNull::new(core::ptr::with_exposed_provenance_mut(start)).unwrap_or(NonNull::dangling())
}

/// Gives the memory of the slices in `mask` back to the system. Whether that worked.
fn discard_runs(unit_start: usize, mut mask: u64) -> bool {
    while mask != 0 {
        let first = mask.trailing_zeros() as usize;
        let slices = (mask >> first).trailing_ones() as usize;
        mask &= !run_at(first, slices);
        let start = at(unit_start + first * SLICE);
        // SAFETY: slices of ours that are marked as handed out, to us.
        if !unsafe { os::discard(start, slices * SLICE) } {
            return false;
        }
    }
    true
}

const _: () = assert!(SLICE.is_multiple_of(PAGE));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UNIT_SLICES;

    #[test]
    fn spans_are_disjoint_reused_and_purged() {
        static ARENA: Arena = Arena::new();
        let spans: Vec<_> = (1..=UNIT_SLICES)
            .map(|n| (ARENA.alloc(n, 1, 0).unwrap().start, n))
            .collect();
        let mut sorted = spans.clone();
        sorted.sort_unstable();
        assert!(
            sorted
                .windows(2)
                .all(|pair| pair[0].0 + pair[0].1 * SLICE <= pair[1].0)
        );
        assert!(
            spans
                .iter()
                .all(|(start, n)| start / UNIT == (start + n * SLICE - 1) / UNIT)
        );
        let used: usize = (1..=UNIT_SLICES).map(|n| n * SLICE).sum();
        let (committed, idle) = ARENA.usage();
        assert_eq!(committed - idle, used);
        assert!(idle > 0 && idle < 32 * UNIT, "some units are huge: {idle}");
        for (start, n) in &spans {
            ARENA.free(*start, *n, 0);
        }
        assert!(ARENA.usage().0 <= keep::keep());
        ARENA.purge(0);
        assert_eq!(ARENA.usage(), (0, 0));
        assert!(ARENA.alloc(UNIT_SLICES, 1, 0).unwrap().zeroed);
    }

    /// Seen to fail when units are committed as a whole whatever is in use.
    #[test]
    fn little_in_use_takes_small_pages() {
        static ARENA: Arena = Arena::new();
        let spans: Vec<_> = (0..SMALL_PAGES / UNIT)
            .map(|_| ARENA.alloc(UNIT_SLICES, 1, 0).unwrap())
            .collect();
        // Most of it lies free in slabs, as the node says.
        ARENA.free(spans[0].start, UNIT_SLICES, SMALL_PAGES - DENSE + SLICE);
        ARENA.alloc(UNIT_SLICES, 1, 0).unwrap();
        ARENA.alloc(1, 1, 0).unwrap();
        assert_eq!(ARENA.usage().0, SMALL_PAGES + SLICE);
        ARENA.free(spans[1].start, UNIT_SLICES, 0);
        ARENA.alloc(UNIT_SLICES, 1, 0).unwrap();
        ARENA.alloc(UNIT_SLICES - 1, 1, 0).unwrap();
        assert_eq!(ARENA.usage().0, SMALL_PAGES + UNIT);
        // All is in use.
        ARENA.alloc(1, 1, 0).unwrap();
        assert_eq!(ARENA.usage().0, SMALL_PAGES + 2 * UNIT);
    }

    /// Seen to fail when a run begins where its room does.
    #[test]
    fn runs_begin_at_a_multiple_of_their_grain() {
        static ARENA: Arena = Arena::new();
        for grain in (0..6).map(|shift| 1 << shift) {
            // So that no room begins well by itself.
            ARENA.alloc(1, 1, 0).unwrap();
            for slices in [1, 3, UNIT_SLICES + 1 - grain] {
                let span = ARENA.alloc(slices, grain, 0).unwrap();
                assert!(span.start.is_multiple_of(grain * SLICE));
                assert!(span.start % UNIT + slices * SLICE <= UNIT);
            }
        }
    }
}
