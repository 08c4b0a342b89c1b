//! The objects of an object cache on their way: from and to the CPU's sheaf, the node's slabs, and back to the arena.

use core::sync::atomic::Ordering;

use crate::cache_home::Refused;
use crate::list::List;
use crate::node::{self, Node};
use crate::object_cache::ObjectCache;
use crate::os::{self, KeepErrno};
use crate::placement::{Placement, count};
use crate::sheaf::Sheaf;
use crate::slab::{Misuse, Slab};
use crate::span_map;
use crate::topology;
use crate::watch::Watch;
use crate::window::Tag;

/// What there is for an allocation.
pub(crate) enum Found {
    Object(usize),
    /// Slices of a node, for a slab that is to be built.
    Slices(&'static Node, usize),
}

impl ObjectCache {
    /// An object from this CPU's sheaf, or from the slabs of its node. Nothing where there is none, or the sheaf is in use.
    pub(crate) fn take(&self) -> Option<usize> {
        let cpu = os::cpu();
        let mut place = self.places.get(cpu)?.0.try_lock()?;
        if let Some(sheaf) = place.as_mut().filter(|sheaf| sheaf.newest() != 0) {
            return Some(sheaf.pop());
        }
        let home = node::node(topology::machine().home_of(cpu));
        let class = self.class();
        let mut sheaf = match place.take() {
            Some(sheaf) => sheaf,
            None => empty_sheaf(home, class)?,
        };
        sheaf.fill(class, |out| self.home(home.number()).take(out));
        let object = (sheaf.newest() != 0).then(|| sheaf.pop());
        *place = Some(sheaf);
        object
    }

    /// An object past the sheaves, or the slices for a slab. Nothing when there is no memory.
    pub(crate) fn find(&self, placement: Placement) -> Option<Found> {
        placement.find(|node| {
            let (mut one, mut home) = ([0], self.home(node.number()));
            let found = if home.take(&mut one) > 0 {
                Found::Object(self.hand_out(home, one[0]))
            } else {
                drop(home);
                Found::Slices(node, node.span(self.shape().slices)?.start)
            };
            count(&node.counters.blocks);
            Some(found)
        })
    }

    /// Takes an object back. What is none of this cache ends the process.
    pub(crate) fn put(&'static self, object: usize) {
        let tag = span_map::tag(object);
        if tag.kind() != Tag::CACHE || span_map::owner(object) != self.address() {
            node::report(object, Misuse::NotAnObject);
        }
        let mut gone = List::new();
        let put = self
            .put_near(tag, object, &mut gone)
            .unwrap_or_else(|| self.put_one(tag, object, &mut gone));
        self.finish(put, gone);
    }

    /// Takes an object into this CPU's sheaf, if its node is here and there is one to be had.
    fn put_near(
        &'static self,
        tag: Tag,
        object: usize,
        gone: &mut List<Slab>,
    ) -> Option<Result<(), Refused>> {
        let cpu = os::cpu();
        if topology::machine().home_of(cpu) != tag.node() {
            return None;
        }
        let mut place = self.places.get(cpu)?.0.try_lock()?;
        // Relaxed: whoever closes the cache then takes this lock to empty the sheaf.
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let class = self.class();
        let mut sheaf = match place.take() {
            Some(sheaf) => sheaf,
            None => empty_sheaf(node::node(tag.node()), class)?,
        };
        if sheaf.newest() == object {
            return Some(Err((object, Misuse::DoubleFree)));
        }
        if sheaf.is_full() {
            if let Err(refused) = self.put_home(tag, sheaf.objects(class), gone) {
                return Some(Err(refused));
            }
            sheaf.clear(class);
        }
        sheaf.push(object);
        *place = Some(sheaf);
        Some(Ok(()))
    }

    /// Puts an object back into its slab.
    fn put_one(
        &'static self,
        tag: Tag,
        object: usize,
        gone: &mut List<Slab>,
    ) -> Result<(), Refused> {
        match self.watch() {
            None => self.put_home(tag, &[object], gone),
            Some(watch) => self.put_watched(watch, tag, object, gone),
        }
    }

    #[cold]
    #[inline(never)]
    fn put_watched(
        &'static self,
        watch: Watch,
        tag: Tag,
        object: usize,
        gone: &mut List<Slab>,
    ) -> Result<(), Refused> {
        let (mut home, place) = self.take_back(watch, self.home(tag.node()), tag, object);
        home.put(tag, self.address(), &[place], self.keeps(), gone)
    }

    /// Puts objects of one node back into their slabs. Those that need not be kept then are moved to `gone`.
    #[inline(never)]
    fn put_home(
        &'static self,
        tag: Tag,
        objects: &[usize],
        gone: &mut List<Slab>,
    ) -> Result<(), Refused> {
        let mut home = self.home(tag.node());
        home.put(tag, self.address(), objects, self.keeps(), gone)
    }

    /// Whether a slab may be kept for reuse; asked under the lock of its home.
    fn keeps(&self) -> bool {
        // Relaxed: whoever closes the cache then takes that lock to empty the home.
        !self.closed.load(Ordering::Relaxed)
    }

    /// Puts a sheaf's objects back into their slabs, and the sheaf to the empty ones of its node.
    fn flush(
        &'static self,
        node: usize,
        sheaf: Sheaf,
        gone: &mut List<Slab>,
    ) -> Result<(), Refused> {
        let tag = Tag::new(node, Tag::CACHE);
        let put = self.put_home(tag, sheaf.objects(self.class()), gone);
        node::node(node).empties.put(sheaf);
        put
    }

    /// Empties the sheaves, and gives back all slabs without objects in use; or what of this is one node's. How many bytes.
    pub(crate) fn drain(&'static self, only: Option<usize>) -> usize {
        let wanted = |node: usize| only.is_none_or(|only| only == node);
        let (mut gone, mut put) = (List::new(), Ok(()));
        for (cpu, place) in self.places.iter().enumerate() {
            let node = topology::machine().home_of(cpu);
            let sheaf = wanted(node).then(|| place.0.lock().take()).flatten();
            if let Some(sheaf) = sheaf {
                put = put.and(self.flush(node, sheaf, &mut gone));
            }
        }
        for node in (0..self.homes.len()).filter(|node| wanted(*node)) {
            self.home(node).part_with_spare(&mut gone);
        }
        self.finish(put, gone)
    }

    /// Another object, free, in a slab that has at least as many in use as that of `object`, which is in use. Nothing where
    /// there is none. What this CPU has in its sheaf goes back first: whoever moves objects out of a slab would else find that
    /// one as full as before, and have others moved into it.
    pub(crate) fn take_beside(&'static self, object: usize) -> Option<usize> {
        let cpu = os::cpu();
        let place = self.places.get(cpu).and_then(|place| place.0.try_lock());
        if let Some(sheaf) = place.and_then(|mut place| place.take()) {
            let mut gone = List::new();
            let put = self.flush(topology::machine().home_of(cpu), sheaf, &mut gone);
            self.finish(put, gone);
        }
        let tag = span_map::tag(object);
        let mut home = self.home(tag.node());
        let place = home.take_beside(tag, self.address(), object)?;
        Some(self.hand_out(home, place))
    }

    /// How many objects are in use, or in sheaves, in the slab of one that is in use.
    pub(crate) fn in_use_beside(&'static self, object: usize) -> Option<usize> {
        let tag = span_map::tag(object);
        self.home(tag.node())
            .in_use_beside(tag, self.address(), object)
    }
}

/// A sheaf without objects, if there is memory for one.
#[cold]
fn empty_sheaf(node: &Node, class: usize) -> Option<Sheaf> {
    let _errno = KeepErrno::new();
    node.empty(class)
}

/// The size of the objects of the cache that an object belongs to.
pub(crate) fn size_of_object(object: usize) -> Option<usize> {
    Some(ObjectCache::at(span_map::owner(object))?.object_size())
}

/// Frees an object of whatever cache.
pub(crate) fn free(object: usize) {
    match ObjectCache::at(span_map::owner(object)) {
        Some(cache) => cache.put(object),
        None => node::report(object, Misuse::NotAnObject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caches, start};
    use ebb_shrinker::Name;

    /// An object that was freed twice can lie in a sheaf when its slab has become another cache's. Seen to fail with the
    /// owner not looked at in `Slabs::put`.
    #[test]
    fn objects_of_others_do_not_come_into_slabs() {
        assert!(start::ensure());
        let open = || caches::open(Name::new("test"), 5, None).unwrap();
        let (ours, theirs) = (open(), open());
        let Some(Found::Slices(node, start)) = theirs.find(Placement::near(0)) else {
            panic!("a slab although there is none");
        };
        let object = theirs.build(node, start).unwrap();
        let (tag, mut gone) = (span_map::tag(object), List::new());
        let put = ours.put_home(tag, &[object], &mut gone);
        assert_eq!(put, Err((object, Misuse::NotAnObject)));
        assert_eq!(theirs.put_home(tag, &[object], &mut gone), Ok(()));
        theirs.drain(None);
        caches::close(ours);
        caches::close(theirs);
    }
}
