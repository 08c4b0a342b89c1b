//! The slabs of an object cache as they are offered for eviction: the front of `sparse`.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::{self, NonNull};

use crate::config::SLICE;
use crate::object_cache::ObjectCache;
use crate::size_class::SHAPES;
use crate::slab::View;
use crate::sparse::Chosen;

/// How full the slab of an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Objects in use in it, with free ones that a CPU keeps.
    pub in_use: usize,
    /// Objects that it has room for.
    pub capacity: usize,
}

/// A cache that is open.
#[derive(Clone, Copy)]
pub(crate) struct Handle(pub(crate) &'static ObjectCache);

impl fmt::Debug for Handle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.stats().fmt(out)
    }
}

/// Slabs of a cache, the sparsest first: those that cost the fewest objects to come free.
///
/// Each is looked at when it comes up, and is a copy: others may free its objects and allocate new ones as soon as it
/// is there. So what comes out are addresses, to be looked up in the cache's own index, under its own lock: an object that is
/// there is one of the cache's, whatever happened; one that is not was freed, is about to be inserted, or was one that a CPU
/// keeps. Beginning gives back what [`shrink`](crate::SlabCache::shrink) does, so that there are few of those.
///
/// Each slab comes up once, and those last that came up in an earlier round and are as they were: slabs whose objects cannot
/// be evicted are not in the way of the others. Of a cache with more than 1024 slabs on a node the sparsest of the next
/// 1024 come up, and so on. It ends, whatever others do, after as many slabs as there were at the beginning.
#[derive(Debug)]
pub struct Sparsest<'a, T> {
    cache: Handle,
    /// Nodes that have not begun.
    nodes: Range<usize>,
    chosen: Chosen,
    /// Slabs that may come up yet, on this node in this round.
    left: usize,
    node: usize,
    round: u32,
    _of: PhantomData<&'a T>,
}

impl<'a, T> Sparsest<'a, T> {
    /// Those of a cache on these nodes.
    pub(crate) fn new(cache: Handle, nodes: Range<usize>) -> Self {
        Self {
            cache,
            nodes,
            chosen: Chosen::NONE,
            left: 0,
            node: 0,
            round: 0,
            _of: PhantomData,
        }
    }

    /// The same, with objects of a type.
    pub(crate) fn typed<U>(self) -> Sparsest<'a, U> {
        Sparsest {
            cache: self.cache,
            nodes: self.nodes,
            chosen: self.chosen,
            left: self.left,
            node: self.node,
            round: self.round,
            _of: PhantomData,
        }
    }

    /// The next slabs to offer, of this node or another. False when there are no more.
    fn choose(&mut self) -> bool {
        loop {
            if self.left > 0 {
                self.chosen = self.cache.0.choose(self.node, self.round);
                if !self.chosen.is_empty() {
                    return true;
                }
            }
            let Some(node) = self.nodes.next() else {
                self.left = 0;
                return false;
            };
            self.node = node;
            (self.round, self.left) = self.cache.0.begin_round(node);
        }
    }
}

impl<T> Iterator for Sparsest<'_, T> {
    type Item = SparseSlab<T>;

    fn next(&mut self) -> Option<SparseSlab<T>> {
        loop {
            let Some(start) = self.chosen.next().filter(|_| self.left > 0) else {
                if !self.choose() {
                    return None;
                }
                continue;
            };
            self.left -= 1;
            if let Some(view) = self.cache.0.offer(self.node, self.round, start) {
                return Some(SparseSlab {
                    view,
                    _of: PhantomData,
                });
            }
        }
    }
}

/// A slab as it was when it came up in [`Sparsest`].
#[derive(Clone)]
pub struct SparseSlab<T> {
    view: View,
    _of: PhantomData<*const T>,
}

impl<T> SparseSlab<T> {
    /// How full it was.
    #[must_use]
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            in_use: self.view.in_use,
            capacity: SHAPES[self.view.class].capacity,
        }
    }

    /// Bytes that go back when all its objects are free.
    #[must_use]
    pub fn bytes(&self) -> usize {
        SHAPES[self.view.class].slices * SLICE
    }

    /// The objects that were in use, lowest address first.
    pub fn objects(&self) -> impl Iterator<Item = NonNull<T>> {
        let objects = self.view.objects();
        objects.filter_map(|object| NonNull::new(ptr::with_exposed_provenance_mut(object)))
    }
}

impl<T> fmt::Debug for SparseSlab<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.occupancy().fmt(out)
    }
}
