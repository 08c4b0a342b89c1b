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
//! Free slices stay committed up to a limit; when what exceeds it is given back is the business of `purge`.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::account::Account;
use crate::budget;
use crate::chunk;
use crate::config::{DENSE, SLICE, SMALL_PAGES, UNIT, UNIT_SLICES};
use crate::limits;
use crate::lock::Lock;
use crate::pace::Pace;
use crate::scope;
use crate::slab::UNIT_METADATA;
use crate::span_map::{self, Pages, Unit};
use crate::tide::Tide;
use crate::topology;
use crate::units::{ALL, Units, run_at};

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
    pub(crate) committed: AtomicUsize,
    /// Bytes committed and free.
    pub(crate) idle: AtomicUsize,
    /// Bytes that the node keeps for reuse outside the arena, as it said last.
    elsewhere: AtomicUsize,
    /// How much was done about pieces that are too many.
    pub(crate) pieces: Pace,
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
            pieces: Pace::new(),
            runs: AtomicUsize::new(0),
            runs_seen: AtomicUsize::new(0),
        }
    }

    /// Its units.
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
        if scope::is_apart() {
            return self.alloc_apart(slices, grain, node);
        }
        loop {
            let mut units = self.units.lock();
            if let Some((unit, run)) = units.find_room(slices, grain) {
                return self.take(&mut units, unit, run);
            }
            drop(units);
            if !self.grow(slices, grain, node) {
                return None;
            }
        }
    }

    /// The same from what is withheld. Where that is used up more is withheld; and where there is no more it is from what there is.
    #[cold]
    fn alloc_apart(&self, slices: usize, grain: usize, node: usize) -> Option<Span> {
        let mut units = self.units.lock();
        if let Some((unit, run)) = units.find_withheld(slices, grain) {
            return self.take(&mut units, unit, run);
        }
        drop(units);
        self.withhold(node);
        let mut units = self.units.lock();
        let found = match units.find_withheld(slices, grain) {
            None => units.find_room(slices, grain),
            found => found,
        };
        let (unit, run) = found?;
        self.take(&mut units, unit, run)
    }

    /// Withholds some address space from everybody but those who must not fail (`apart`). Nothing of it is backed. As much as
    /// there is.
    pub(crate) fn withhold(&self, node: usize) {
        let enough = self.units.lock().withhold();
        if !enough && self.grow(UNIT_SLICES, 1, node) {
            self.units.lock().withhold();
        }
    }

    /// Whether no run was handed out since this was asked last: what is idle may then wait for nobody. Relaxed: a hint.
    pub(crate) fn is_quiet(&self) -> bool {
        let runs = self.runs.load(Ordering::Relaxed);
        self.runs_seen.swap(runs, Ordering::Relaxed) == runs
    }

    /// Takes a run from `unit`, where it is free, if the budget allows.
    fn take(&self, units: &mut Units, unit: NonNull<Unit>, run: u64) -> Option<Span> {
        let here = units.get(unit);
        let added = self.commit(here, run)?;
        let span = Span {
            start: here.start + run.trailing_zeros() as usize * SLICE,
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
        let bytes = run.count_ones() as usize * SLICE;
        self.idle.fetch_sub(bytes, Ordering::Relaxed);
        Some(span)
    }

    /// Charges what of `run` is not yet committed, or all of a huge unit. How many bytes; nothing when the budget says no.
    fn commit(&self, unit: &mut Unit, run: u64) -> Option<usize> {
        if run & !unit.committed == 0 {
            return Some(0);
        }
        let pristine = unit.free == ALL && unit.committed == 0;
        let metadata = if pristine { UNIT_METADATA } else { 0 };
        if pristine && unit.pages == Pages::Huge {
            let dense = self.in_use() >= DENSE && !scope::is_apart();
            if dense && budget::charge_on(&self.account, UNIT, metadata) {
                unit.committed = ALL;
                return Some(UNIT);
            }
            chunk::shrink_pages(unit);
        }
        let added = (run & !unit.committed).count_ones() as usize * SLICE;
        if !budget::charge_on(&self.account, added, metadata) {
            return None;
        }
        unit.committed |= run;
        Some(added)
    }

    /// Takes a run back. `elsewhere` is how many bytes its node keeps for reuse outside the arena.
    pub(crate) fn put(&self, start: usize, slices: usize, elsewhere: usize) {
        let Some(unit) = NonNull::new(span_map::unit(start)) else {
            return;
        };
        let first = start % UNIT / SLICE;
        let mut units = self.units.lock();
        units.get(unit).free |= run_at(first, slices);
        units.relist(unit);
        // Relaxed: see `usage`. Under the lock, so that it never falls below zero.
        self.idle.fetch_add(slices * SLICE, Ordering::Relaxed);
        self.elsewhere.store(elsewhere, Ordering::Relaxed);
    }

    /// Bytes handed out that the node does not keep for reuse, about.
    pub(crate) fn in_use(&self) -> usize {
        let (committed, idle) = self.usage();
        committed.saturating_sub(idle + self.elsewhere())
    }

    /// Bytes that the node keeps for reuse outside the arena, as it said last.
    pub(crate) fn elsewhere(&self) -> usize {
        // Relaxed: see `usage`.
        self.elsewhere.load(Ordering::Relaxed)
    }

    /// Adds the units of a new chunk, unless another thread was quicker and there is room for such a run. False when the
    /// system has no address space, or the budget no room for its tables.
    fn grow(&self, slices: usize, grain: usize, node: usize) -> bool {
        let policy = topology::machine().policy();
        let Some((start, len)) = chunk::reserve(node) else {
            return false;
        };
        let small = self.small_pages(len);
        chunk::choose_pages(start, len, small);
        let mut units = self.units.lock();
        if units.find_room(slices, grain).is_some() {
            drop(units);
            // SAFETY: reserved above, and nobody has seen it.
            unsafe { chunk::give_back(start, len) };
            return true;
        }
        // The lowest address on top.
        for offset in (0..len).step_by(UNIT).rev() {
            let pages = if offset < small {
                Pages::Small
            } else {
                Pages::Huge
            };
            units.add(start + offset, pages);
        }
        if topology::machine().policy() != policy {
            // Perhaps too late for whoever has changed it to see these.
            chunk::place_again(start, len, node);
        }
        true
    }

    /// Has all that is backed from now on placed by the policy that was just set. Under the lock: seldom, and soon done.
    pub(crate) fn place_again(&self, node: usize) {
        self.units.lock().each(|unit| {
            chunk::place_again(unit.start, UNIT, node);
            // The system may have backed more than was asked for, by a huge page. Where it refuses, that stays.
            let _ = chunk::discard(unit.start, unit.free & !unit.committed);
        });
    }

    /// How many bytes of a new chunk of `len` bytes get small pages: with a budget all, since there every page counts,
    /// else the first of the heap.
    fn small_pages(&self, len: usize) -> usize {
        if limits::get().is_some() {
            return len;
        }
        // Relaxed: see `usage`.
        let used = self.committed.load(Ordering::Relaxed);
        SMALL_PAGES.saturating_sub(used).min(len)
    }
}

#[cfg(test)]
#[path = "arena_tests.rs"]
mod tests;
