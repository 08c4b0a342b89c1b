//! An object cache, the kernel's `kmem_cache`: slabs of its own, with objects of one kind.
//!
//! Its slabs are those of a size class (`slab`, `pool`), cut from the nodes' arenas and charged there like any other, but
//! nobody else's objects lie in them: what a program evicts together is not held back by strangers. For each slice the
//! span map has the cache that it belongs to, so that whoever has an object's address finds its cache, `free` too.
//!
//! ```text
//!  take                                            put(object)
//!    │  the CPU's sheaf                              │  address -> node (tag), cache (owner)
//!  ┌─▼───────────────────────────────────────────────▼─┐
//!  │ place    per CPU: a sheaf, under a lock that is    │  objects of the CPU's own node only
//!  │          only tried                                │
//!  └─┬───────────────────────────────────────────────┬─┘
//!    │ a batch                                       │ a full sheaf
//!  ┌─▼───────────────────────────────────────────────▼─┐
//!  │ home     per node: partly used slabs (`pool`), a   │  one short lock per cache and node
//!  │          ring of all slabs, a spare one            │
//!  └─┬───────────────────────────────────────────────┬─┘
//!    │ slices: construct every object                │ an empty slab: destroy every object
//!  the node's arena                                  the node's arena
//! ```
//!
//! - **Constructed state is kept**, as in the kernel: [`Hooks::construct`] runs for every object when a slab is built, not when
//!   the object is taken; the object comes back in that state and is handed out in it again. [`Hooks::destroy`] runs for
//!   every object when its slab goes back. Both are called under no lock, and may allocate and free, also in this
//!   cache. Nothing is written into free objects.
//! - **An empty slab goes back at once**, but for one per node that is kept while the others have little room: a program that
//!   takes and frees a single object at the edge of a slab would have it built each time. [`ObjectCache::drain`] empties
//!   the sheaves and gives that slab back too; every drain of the allocator does (`drain`), so a failing allocation
//!   gets all that caches hold without need.
//! - **Closed with objects in use** (`caches`), a cache lives on until the last of them is freed. It keeps nothing for
//!   reuse any more.
//! - What is no object of the cache ends the process, as with any free (`node::report`).
//! - **A watched cache** (`cache_watch`) has no places: so nothing is at hand for `take` and `put`, and each of its objects goes
//!   the slow way, past a look at what is around it. A cache that nobody watches pays nothing for that.
//!
//! Here is what a cache consists of; `cache_traffic` takes and puts objects, `cache_slabs` builds slabs and gives them back.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use ebb_shrinker::Name;

use crate::cache_home::Slabs;
use crate::hooks::{Hooks, OwnedHooks};
use crate::lock::{Guard, Lock};
use crate::sheaf::Sheaf;
use crate::size_class::{SHAPES, Shape};
use crate::watch::Watch;

/// A cache. Never unmapped: when it is over, another takes its place (`caches`).
pub(crate) struct ObjectCache {
    /// The next of all caches.
    pub(crate) next: AtomicPtr<ObjectCache>,
    /// The size class that says how its slabs look.
    pub(crate) class: AtomicUsize,
    /// How its objects are watched, in a word: see [`watch`](Self::watch).
    pub(crate) watch: AtomicUsize,
    /// Nobody allocates from it any more.
    pub(crate) closed: AtomicBool,
    /// Slabs on all nodes.
    pub(crate) slabs: AtomicUsize,
    pub(crate) identity: Lock<Identity>,
    /// Per CPU. None where objects are watched.
    pub(crate) places: &'static [Place],
    /// Per node.
    pub(crate) homes: &'static [Home],
}

/// Who it is.
pub(crate) struct Identity {
    pub(crate) state: State,
    pub(crate) name: Name,
    pub(crate) hooks: Option<OwnedHooks>,
}

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is none now.
    Over,
    Open,
    /// Closed, with slabs left.
    Closed,
}

/// A CPU's sheaf, alone on its cache line.
#[repr(align(64))]
pub(crate) struct Place(pub(crate) Lock<Option<Sheaf>>);

/// What lies on one node.
#[repr(align(128))]
pub(crate) struct Home(pub(crate) Lock<Slabs>);

impl ObjectCache {
    /// What the span map notes for its slices.
    pub(crate) fn address(&'static self) -> usize {
        (&raw const *self).expose_provenance()
    }

    /// The cache with this address, which came from the span map.
    pub(crate) fn at(address: usize) -> Option<&'static Self> {
        let cache = core::ptr::with_exposed_provenance::<Self>(address);
        // SAFETY: null, or from `address`; caches are never unmapped.
        unsafe { cache.as_ref() }
    }

    pub(crate) fn class(&self) -> usize {
        // Relaxed: set before the cache is handed out.
        self.class.load(Ordering::Relaxed)
    }

    /// How its slabs look.
    pub(crate) fn shape(&self) -> &'static Shape {
        &SHAPES[self.class()]
    }

    /// How its objects are watched, if they are.
    pub(crate) fn watch(&self) -> Option<Watch> {
        // Relaxed: set before the cache is handed out.
        Watch::from_word(self.watch.load(Ordering::Relaxed), self.shape().size)
    }

    /// Bytes of an object, all of which may be used.
    pub(crate) fn object_size(&self) -> usize {
        self.watch().map_or(self.shape().size, |watch| watch.size)
    }

    /// Where the first object lies in a slab that begins at `start`.
    pub(crate) fn first_object(&self, start: usize) -> usize {
        self.watch().map_or(start, |watch| watch.object(start))
    }

    pub(crate) fn home(&self, node: usize) -> Guard<'_, Slabs> {
        self.homes[node].0.lock()
    }

    /// The hooks, called under no lock.
    pub(crate) fn hooks(&self) -> Option<&'static dyn Hooks> {
        let identity = self.identity.lock();
        // SAFETY: they live as long as the cache is open or has slabs; callers are about a slab or have it open.
        identity.hooks.as_ref().map(|hooks| unsafe { hooks.get() })
    }

    /// A slab's objects.
    pub(crate) fn objects(&self, start: usize) -> impl Iterator<Item = NonNull<u8>> {
        let (shape, first) = (self.shape(), self.first_object(start));
        let objects = (0..shape.capacity).map(move |index| first + index * shape.size);
        objects.filter_map(|at| NonNull::new(core::ptr::with_exposed_provenance_mut(at)))
    }
}
