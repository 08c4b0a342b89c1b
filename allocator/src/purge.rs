//! What an arena gives back to the system, and when.
//!
//! Free slices stay committed up to a limit (`keep`). When a run is freed beyond it:
//!
//! 1. Units that are wholly free are purged at once: one system call for 2 MiB, and a huge page stays one.
//! 2. *Pieces*, free slices of units that are partly in use, are purged once they are more than all that is in use; at once
//!    where every page counts, under a budget or a bound that the program has set; else a few at a time, for a small part of
//!    the time. Who frees a heap block by block would have it purged slice by slice otherwise, and its huge pages split, shortly
//!    before the units come free as a whole: to fill, replace and free 8 GiB took 1.3 times as long.
//!
//! Inside a reclaim everything is purged. System calls are made outside the lock, on slices marked as taken (`idle`).

use core::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::budget;
use crate::config::{PIECES, PIECES_PART};
use crate::idle::Idle;
use crate::keep;
use crate::request;
use crate::slab::UNIT_METADATA;
use crate::topology;
use crate::units::Units;

impl Arena {
    /// Takes a run back, see [`Arena::put`], and purges what is too much.
    pub(crate) fn free(&self, start: usize, slices: usize, elsewhere: usize) {
        self.put(start, slices, elsewhere);
        if request::reclaiming() {
            self.purge(0);
            return;
        }
        let limit = self.limit();
        let low = limit - limit / 8;
        if self.usage().1 > limit {
            self.tide.ebb(self.purge_by(low, Idle::take_whole));
        }
        let idle = self.usage().1;
        if idle <= limit {
            return;
        }
        if keep::is_strict() || idle > self.in_use() {
            self.ebb(low);
        } else if self.pieces.is_due() {
            let some = low.max(idle.saturating_sub(PIECES));
            self.pieces.spend(PIECES_PART, || self.ebb(some));
        }
    }

    /// Free bytes that may stay committed.
    fn limit(&self) -> usize {
        let elsewhere = self.elsewhere();
        let kept = self.usage().1 + elsewhere;
        let floor = topology::machine().share(keep::keep());
        keep::bound(kept, floor, self.in_use(), || self.tide.height()).saturating_sub(elsewhere)
    }

    /// As [`Arena::purge`], of what may be wanted again.
    pub(crate) fn ebb(&self, keep: usize) {
        self.tide.ebb(self.purge(keep));
    }

    /// Purges idle slices until at most `keep` bytes are free and committed, whole units first. How many bytes.
    pub(crate) fn purge(&self, keep: usize) -> usize {
        self.purge_by(keep, Idle::take)
    }

    /// The same, of what `take` gives.
    fn purge_by(&self, keep: usize, take: fn(&mut Units) -> Option<Idle>) -> usize {
        let mut purged = 0;
        while self.usage().1 > keep {
            let Some(idle) = take(&mut self.lock().lock()) else {
                break;
            };
            if !self.purge_taken(&idle) {
                break;
            }
            purged += idle.bytes();
        }
        purged
    }

    /// Whether the system took their memory.
    fn purge_taken(&self, idle: &Idle) -> bool {
        let discarded = idle.discard();
        let mut units = self.lock().lock();
        idle.put_back(&mut units, discarded);
        if discarded {
            // Relaxed: figures. Under the lock, so that they never fall below zero.
            self.committed.fetch_sub(idle.bytes(), Ordering::Relaxed);
            self.idle.fetch_sub(idle.bytes(), Ordering::Relaxed);
            drop(units);
            let metadata = if idle.is_whole() { UNIT_METADATA } else { 0 };
            budget::release_on(&self.account, idle.bytes(), metadata);
        }
        discarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SLICE, UNIT, UNIT_SLICES};

    const MIB: usize = 1 << 20;

    /// Seen to fail with either kind of purge left out, with the comparison to what is in use, and with the pace.
    #[test]
    fn pieces_are_purged_late_and_whole_units_at_once() {
        static ARENA: Arena = Arena::new();
        let spans: Vec<_> = (0..20 * UNIT_SLICES)
            .map(|_| ARENA.alloc(1, 1, 0).unwrap().start)
            .collect();
        let usage = || (ARENA.usage().1, ARENA.in_use());
        let free = |starts: &[usize]| {
            let every_second = starts.iter().step_by(2);
            every_second.for_each(|start| ARENA.free(*start, 1, 0));
        };

        // Too much, but in pieces, and not as much as is in use.
        ARENA.pieces.spend(u64::MAX, std::thread::yield_now);
        let (most, last) = spans.split_at(19 * UNIT_SLICES);
        free(&most[..12 * UNIT_SLICES]);
        assert_eq!(usage(), (12 * MIB, 28 * MIB));
        // The last unit.
        free(last);
        free(&last[1..]);
        assert_eq!(usage(), (12 * MIB, 26 * MIB));

        ARENA.pieces.spend(0, || ());
        free(&most[12 * UNIT_SLICES..][..1]);
        let some = usage().0;
        assert!(some < 12 * MIB && some > 12 * MIB - PIECES - UNIT);
        ARENA.pieces.spend(u64::MAX, std::thread::yield_now);
        free(&most[12 * UNIT_SLICES + 2..][..1]);
        assert_eq!(usage().0, some + SLICE, "not due");

        // Three of four slices, in pieces: more than what is in use.
        free(&most[12 * UNIT_SLICES + 4..]);
        most.chunks(4).for_each(|four| free(&four[1..2]));
        let (idle, in_use) = usage();
        assert_eq!(in_use, 19 * UNIT / 4);
        assert!(idle <= 10 * MIB, "{idle}");
    }
}
