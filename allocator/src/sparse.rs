//! Which slabs of an object cache are sparsest: those that cost the fewest objects to come free.
//!
//! A slab goes back only when every object in it is free, and the order in which a program used its objects knows nothing
//! of slabs. So whoever evicts asks here, slab by slab, for the objects that are to go together.
//!
//! All slabs of a cache on a node are in a ring. The hand goes over at most [`WINDOW`] of them under the home's lock, and
//! the [`CHOSEN`] sparsest are offered one by one. In a round each slab is offered once, and those last for which nothing has
//! come or gone since they were offered in an earlier round: slabs whose objects cannot go must not be in the way. Of slabs
//! equally full the younger come first: what a cache kept through the times lies in old ones.
//!
//! What is given out are copies: the addresses of objects that were in use at that moment, with those that lie in a CPU's
//! sheaf. Nothing keeps others from freeing and allocating afterwards.

use core::cmp::Reverse;

use crate::object_cache::ObjectCache;
use crate::slab::View;
use crate::span_map;
use crate::window::Tag;

/// Slabs that are looked at under the lock at once.
const WINDOW: usize = 1024;

/// Slabs that are chosen at once.
const CHOSEN: usize = 32;

/// The sparsest slabs of a window, by the address where they begin.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// What they are ordered by, and the address.
    slabs: [(Rank, usize); CHOSEN],
    len: usize,
    given: usize,
}

/// Objects in use, the fewest first; then the number, the highest first.
type Rank = (usize, Reverse<u64>);

impl Chosen {
    pub(crate) const NONE: Self = Self {
        slabs: [((0, Reverse(0)), 0); CHOSEN],
        len: 0,
        given: 0,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps a slab if it is sparser than others.
    fn add(&mut self, rank: Rank, start: usize) {
        let known = &self.slabs[..self.len];
        let at = known.partition_point(|(other, _)| *other <= rank);
        if at == CHOSEN {
            return;
        }
        self.len = (self.len + 1).min(CHOSEN);
        self.slabs[at..self.len].rotate_right(1);
        self.slabs[at] = (rank, start);
    }
}

impl Iterator for Chosen {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let (_, start) = *self.slabs[..self.len].get(self.given)?;
        self.given += 1;
        Some(start)
    }
}

impl ObjectCache {
    /// Begins a round on a node: its number, and how many slabs there are.
    pub(crate) fn begin_round(&self, node: usize) -> (u32, usize) {
        let mut home = self.home(node);
        // Never 0: that is what new slabs have.
        home.rounds = home.rounds.wrapping_add(1).max(1);
        (home.rounds, home.ring.len())
    }

    /// The sparsest slabs on a node that were not offered in this round yet. None when all were.
    pub(crate) fn choose(&self, node: usize, round: u32) -> Chosen {
        let changed = self.choose_among(node, round, false);
        if !changed.is_empty() {
            return changed;
        }
        self.choose_among(node, round, true)
    }

    /// As [`choose`](Self::choose), window by window until there are some; `all`, also those that are as they were.
    fn choose_among(&self, node: usize, round: u32, all: bool) -> Chosen {
        let mut chosen = Chosen::NONE;
        let mut left = self.home(node).ring.len();
        while left > 0 && chosen.is_empty() {
            let window = left.min(WINDOW);
            let mut home = self.home(node);
            for _ in 0..window.min(home.ring.len()) {
                let Some(slab) = home.ring.turn() else { break };
                let here = home.pool.slab(slab);
                let in_use = here.in_use();
                let changed = here.offered as usize != in_use;
                if in_use > 0 && here.round != round && (changed || all) {
                    chosen.add((in_use, Reverse(here.number)), here.start);
                }
            }
            left -= window;
        }
        chosen
    }

    /// The objects in use in a slab that was chosen, which counts as offered then; nothing when it is gone.
    pub(crate) fn offer(&'static self, node: usize, round: u32, start: usize) -> Option<View> {
        let mut home = self.home(node);
        if span_map::owner(start) != self.address() {
            return None;
        }
        let slab = span_map::slab_of_object(Tag::new(node, Tag::CACHE), start)?;
        let here = home.pool.slab(slab);
        let in_use = here.in_use();
        (here.offered, here.round) = (in_use as u32, round);
        let mut view = (in_use > 0 && here.start == start).then(|| here.view())?;
        view.start = self.first_object(start);
        Some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sparsest_are_kept_in_order() {
        let mut chosen = Chosen::NONE;
        let sizes = (0..1000_usize).map(|n| 1 + n * 7919 % 1000);
        sizes.for_each(|size| chosen.add((size, Reverse(0)), size * 10));
        assert!(chosen.eq((1..=CHOSEN).map(|size| size * 10)));
        let mut few = Chosen::NONE;
        for (size, number) in [(5, 1), (3, 2), (3, 9), (9, 3), (3, 4)] {
            few.add((size, Reverse(number)), size * 10 + number as usize);
        }
        assert!(few.eq([39, 34, 32, 51, 93]), "of equals the younger first");
    }
}
