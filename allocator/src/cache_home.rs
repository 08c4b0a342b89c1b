//! The slabs of an object cache on one node, and what its lock guards: `object_cache` has the picture.

use core::ptr::NonNull;

use crate::list::List;
use crate::pool::Pool;
use crate::ring::Ring;
use crate::slab::{Misuse, Slab};
use crate::span_map;
use crate::window::Tag;

/// The slabs on one node.
pub(crate) struct Slabs {
    pub(crate) pool: Pool,
    /// All slabs.
    pub(crate) ring: Ring<Slab>,
    /// One that is wholly free, and not in the pool.
    spare: Option<NonNull<Slab>>,
    /// Rounds of eviction that began: see `sparse`.
    pub(crate) rounds: u32,
    /// Slabs that were ever built.
    built: u64,
}

// SAFETY: the slabs are reached through this alone.
unsafe impl Send for Slabs {}

/// An object that cannot be taken back, and why.
pub(crate) type Refused = (usize, Misuse);

impl Slabs {
    pub(crate) const fn new() -> Self {
        Self {
            pool: Pool::new(),
            ring: Ring::new(),
            spare: None,
            rounds: 0,
            built: 0,
        }
    }

    /// Takes free objects: how many.
    pub(crate) fn take(&mut self, out: &mut [usize]) -> usize {
        let taken = self.pool.take(out);
        if taken > 0 {
            return taken;
        }
        let Some(spare) = self.spare.take() else {
            return 0;
        };
        self.pool.add(spare);
        self.pool.take(out)
    }

    /// Adds a new slab, all of whose objects are free: one of these.
    ///
    /// # Safety
    /// It is in no ring and no list, alive until it is parted with, and nobody else has a reference to it.
    pub(crate) unsafe fn add(&mut self, slab: NonNull<Slab>) -> usize {
        self.built += 1;
        self.pool.slab(slab).number = self.built;
        self.pool.add(slab);
        // SAFETY: the caller's clause.
        unsafe { self.ring.insert(slab) };
        let mut one = [0];
        self.take(&mut one);
        one[0]
    }

    /// Puts objects of the cache `owner` back into their slabs. Those that come free are moved to `gone`, but for one that
    /// may be kept if the others have little room.
    pub(crate) fn put(
        &mut self,
        tag: Tag,
        owner: usize,
        objects: &[usize],
        keep: bool,
        gone: &mut List<Slab>,
    ) -> Result<(), Refused> {
        let mut empty = List::new();
        let mut rest = objects;
        while let Some(first) = rest.first() {
            // All caches' slabs have the same tags.
            if span_map::owner(*first) != owner {
                return Err((*first, Misuse::NotAnObject));
            }
            rest = &rest[self.pool.put(tag, rest, &mut empty)?..];
        }
        while let Some(slab) = empty.pop() {
            if keep && self.spare.is_none() && self.pool.free < self.pool.slab(slab).capacity() {
                self.spare = Some(slab);
            } else {
                self.part(slab, gone);
            }
        }
        Ok(())
    }

    /// Moves the spare slab, if there is one, to `gone`.
    pub(crate) fn part_with_spare(&mut self, gone: &mut List<Slab>) {
        if let Some(spare) = self.spare.take() {
            self.part(spare, gone);
        }
    }

    /// Takes a slab, which is in no list, out of the ring: into `gone`.
    fn part(&mut self, slab: NonNull<Slab>, gone: &mut List<Slab>) {
        // SAFETY: in the ring since it was built; reached through `self` alone.
        unsafe { self.ring.remove(slab) };
        // SAFETY: in no list.
        unsafe { gone.push(slab) };
    }

    /// Whether a slab is kept that is wholly free.
    pub(crate) fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// The slab of `owner`'s that lies at an address.
    fn slab_at(&self, tag: Tag, owner: usize, address: usize) -> Option<NonNull<Slab>> {
        let ours = tag.kind() == Tag::CACHE && span_map::owner(address) == owner;
        span_map::slab_of_object(tag, address).filter(|_| ours)
    }

    /// The slab of an object that is in use. Nothing when it is none of `owner`'s.
    fn slab_of(&mut self, tag: Tag, owner: usize, object: usize) -> Option<NonNull<Slab>> {
        let slab = self.slab_at(tag, owner, object)?;
        (self.pool.slab(slab).in_use() > 0).then_some(slab)
    }

    /// Whether the object in `place`, the slab of which `address` lies in, is free; nothing when there is none of `owner`'s.
    pub(crate) fn is_free(
        &mut self,
        tag: Tag,
        owner: usize,
        address: usize,
        place: usize,
    ) -> Option<bool> {
        let slab = self.slab_at(tag, owner, address)?;
        self.pool.slab(slab).is_free(place)
    }

    /// Calls `f` with each place, and whether it is free.
    pub(crate) fn each_place(&mut self, mut f: impl FnMut(usize, bool)) {
        for _ in 0..self.ring.len() {
            if let Some(slab) = self.ring.turn() {
                let places = self.pool.slab(slab).objects();
                places.for_each(|(place, free)| f(place, free));
            }
        }
    }

    /// Another object, free, in a slab that has at least as many in use as that of `object`, which is in use.
    pub(crate) fn take_beside(&mut self, tag: Tag, owner: usize, object: usize) -> Option<usize> {
        let slab = self.slab_of(tag, owner, object)?;
        self.pool.take_beside(slab)
    }

    /// How many objects are in use in the slab of one that is.
    pub(crate) fn in_use_beside(&mut self, tag: Tag, owner: usize, object: usize) -> Option<usize> {
        let slab = self.slab_of(tag, owner, object)?;
        Some(self.pool.slab(slab).in_use())
    }
}
