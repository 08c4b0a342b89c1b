//! Object caches without a type: what `SlabCache` and bindings stand on.

use core::alloc::Layout;
use core::cell::Cell;
use core::fmt;
use core::ops::Range;
use core::ptr::{self, NonNull};

use ebb_shrinker::Name;

use crate::cache_debug::{self, CacheDebug};
use crate::cache_stats::CacheStats;
use crate::cache_traffic::Found;
use crate::caches;
use crate::heap;
use crate::hooks::{Hooks, OwnedHooks};
use crate::numa;
use crate::object_cache::ObjectCache;
use crate::os::{self, KeepErrno};
use crate::placement::Placement;
use crate::reclaim;
use crate::sparsest::{Handle, Occupancy, Sparsest};
use crate::start;
use crate::topology;
use crate::watch::Watch;

/// Why a cache could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheError {
    /// There is no memory for it.
    OutOfMemory,
    /// Its objects are larger than 256 KiB, or aligned to more than 32 KiB.
    TooLarge,
}

impl fmt::Display for CacheError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::OutOfMemory => "no memory for the cache",
            Self::TooLarge => "objects are too large for a slab",
        })
    }
}

impl core::error::Error for CacheError {}

/// An object cache for bindings: as [`SlabCache`](crate::SlabCache), of memory of one layout. Dropping it is the same as
/// dropping that.
#[derive(Debug)]
pub struct UntypedCache {
    cache: Handle,
}

/// Two functions as hooks.
struct Pair<C, D>(C, D);

impl<C, D> Hooks for Pair<C, D>
where
    C: Fn(NonNull<u8>) + Send + Sync,
    D: Fn(NonNull<u8>) + Send + Sync,
{
    unsafe fn construct(&self, object: NonNull<u8>) {
        (self.0)(object);
    }

    unsafe fn destroy(&self, object: NonNull<u8>) {
        (self.1)(object);
    }
}

/// Frees the block of hooks.
///
/// # Safety
/// A block from `heap::alloc`.
unsafe fn free_block(block: NonNull<u8>) {
    // SAFETY: the caller's clause.
    unsafe { heap::free(block.as_ptr()) };
}

impl UntypedCache {
    /// A cache of objects of this layout. Of its name the first 32 bytes are kept.
    ///
    /// # Errors
    /// When there is no memory, or the layout is too large.
    pub fn new(name: &str, layout: Layout) -> Result<Self, CacheError> {
        Self::debugged(name, layout, CacheDebug::NONE)
    }

    /// The same, watched as these flags say, and those in the environment (`EBB_CACHE_DEBUG`). Where an object is too large for
    /// what is around it (200 KiB) that is left out.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn debugged(name: &str, layout: Layout, debug: CacheDebug) -> Result<Self, CacheError> {
        Self::open(name, layout, debug, false)
    }

    fn open(name: &str, layout: Layout, debug: CacheDebug, kept: bool) -> Result<Self, CacheError> {
        if !start::ensure() {
            return Err(CacheError::OutOfMemory);
        }
        let name = Name::new(name);
        let mut debug = debug | cache_debug::asked_for(name);
        if kept {
            // Free objects keep their state.
            debug = debug.without(CacheDebug::POISON);
        }
        let (class, watch) = Watch::new(debug, layout).ok_or(CacheError::TooLarge)?;
        let opened = Cell::new(None);
        let attempt = || {
            opened.set(caches::open(name, class, watch));
            opened.get().map(ObjectCache::address)
        };
        reclaim::with_reclaim(None, &attempt).ok_or(CacheError::OutOfMemory)?;
        let cache = opened.get().ok_or(CacheError::OutOfMemory)?;
        Ok(Self {
            cache: Handle(cache),
        })
    }

    /// The same, with a constructor, which is called for every object when a slab is built, and a destructor, for every object
    /// when its slab goes back.
    ///
    /// Objects come back in the state in which they were freed. See [`SlabCache`](crate::SlabCache) for what the
    /// functions may do.
    ///
    /// # Errors
    /// As for [`new`](Self::new); the functions were dropped then.
    pub fn with_hooks(
        name: &str,
        layout: Layout,
        construct: impl Fn(NonNull<u8>) + Send + Sync + 'static,
        destroy: impl Fn(NonNull<u8>) + Send + Sync + 'static,
    ) -> Result<Self, CacheError> {
        Self::debugged_with_hooks(name, layout, CacheDebug::NONE, construct, destroy)
    }

    /// The same, watched as [`debugged`](Self::debugged) says, but for the flag `P`.
    ///
    /// # Errors
    /// As for [`with_hooks`](Self::with_hooks).
    pub fn debugged_with_hooks(
        name: &str,
        layout: Layout,
        debug: CacheDebug,
        construct: impl Fn(NonNull<u8>) + Send + Sync + 'static,
        destroy: impl Fn(NonNull<u8>) + Send + Sync + 'static,
    ) -> Result<Self, CacheError> {
        let cache = Self::open(name, layout, debug, true)?;
        let hooks = own(Pair(construct, destroy)).ok_or(CacheError::OutOfMemory)?;
        cache.cache.0.identity.lock().hooks = Some(hooks);
        Ok(cache)
    }

    /// Memory of an object. Nothing, and `errno` is ENOMEM, when there is none, under the budget or at all, and after reclaim.
    #[inline]
    #[must_use]
    pub fn alloc(&self) -> Option<NonNull<u8>> {
        let object = self.cache.0.take().or_else(|| self.alloc_slow())?;
        NonNull::new(ptr::with_exposed_provenance_mut(object))
    }

    #[cold]
    fn alloc_slow(&self) -> Option<usize> {
        answer(|| self.find_or_build(None))
    }

    /// As [`alloc`](Self::alloc), on the NUMA node that the kernel calls `node`, and nowhere else.
    #[must_use]
    pub fn alloc_on_node(&self, node: u32) -> Option<NonNull<u8>> {
        let object = answer(|| {
            let number = topology::machine().node_with(node as usize)?;
            let object = self.find_or_build(Some(number))?;
            if numa::is_there(object, self.cache.0.object_size(), node) {
                return Some(object);
            }
            self.cache.0.put(object);
            None
        });
        NonNull::new(ptr::with_exposed_provenance_mut(object?))
    }

    /// An object past the sheaves, if need be of a new slab and after reclaim. The slab is built outside all that.
    fn find_or_build(&self, only: Option<usize>) -> Option<usize> {
        let cache = self.cache.0;
        let home = || topology::machine().home_of(os::cpu());
        let placement = only.map_or_else(|| Placement::near(home()), Placement::only);
        let found = Cell::new(None);
        let attempt = || {
            found.set(Some(cache.find(placement)?));
            Some(0)
        };
        reclaim::with_reclaim(only, &attempt)?;
        match found.take()? {
            Found::Object(object) => Some(object),
            Found::Slices(node, start) => cache.build(node, start),
        }
    }

    /// Frees an object. `ebb_free`, `free` and [`raw::free`](crate::raw::free) do the same.
    ///
    /// # Safety
    /// An object of this cache that is used no more, and in the state that the constructor gives if there is one. What can be
    /// seen to be none of this cache, or free already, ends the process with one line on standard error.
    #[inline]
    pub unsafe fn free(&self, object: NonNull<u8>) {
        self.cache.0.put(object.as_ptr().expose_provenance());
    }

    /// Gives what is free back: objects that CPUs keep go to their slabs, slabs without objects in use to the arena.
    /// How many bytes of slabs.
    pub fn shrink(&self) -> usize {
        self.cache.0.drain(None)
    }

    /// Its figures. Takes its locks one after the other, each for a moment.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.cache.0.figures()
    }

    /// Looks at all its objects, if they are watched ([`CacheDebug`]), and says on standard error what is wrong with them, each
    /// time anew: how many are. 0 where none is watched.
    ///
    /// Nobody allocates from it or frees to it meanwhile, as far as it lies on the node that is looked at: they wait. Changes
    /// nothing, allocates nothing, keeps `errno`.
    pub fn validate(&self) -> usize {
        self.cache.0.validate()
    }

    /// Ends it, if none of its objects is in use.
    ///
    /// # Errors
    /// Itself, when objects are in use: [`stats`](Self::stats) says how many. It is as it was then. If they are watched it is
    /// said on standard error which they are, and what is wrong with them.
    pub fn destroy(self) -> Result<(), Self> {
        self.validate();
        self.shrink();
        if self.stats().active_objs == 0 {
            return Ok(());
        }
        self.cache.0.name_left();
        Err(self)
    }

    /// How full the slab of an object is; nothing when it is no object of this cache.
    #[must_use]
    pub fn occupancy(&self, object: NonNull<u8>) -> Option<Occupancy> {
        Some(Occupancy {
            in_use: self.cache.0.in_use_beside(object.addr().get())?,
            capacity: self.cache.0.shape().capacity,
        })
    }

    /// Memory of another object, in a slab that is at least as full as that of `object`; nothing when no such slab has room.
    /// Never makes a slab.
    #[must_use]
    pub fn alloc_denser(&self, object: NonNull<u8>) -> Option<NonNull<u8>> {
        let other = self.cache.0.take_beside(object.addr().get())?;
        NonNull::new(ptr::with_exposed_provenance_mut(other))
    }

    /// The slabs with objects in use, the sparsest first; see [`Sparsest`].
    #[must_use]
    pub fn sparsest(&self) -> Sparsest<'_, u8> {
        self.sparsest_of(0..self.cache.0.homes.len())
    }

    /// As [`sparsest`](Self::sparsest), those on the NUMA node that the kernel calls `node`.
    #[must_use]
    pub fn sparsest_on(&self, node: u32) -> Sparsest<'_, u8> {
        let machine = topology::machine();
        let number = (0..machine.nodes).find(|number| machine.id(*number) == node as usize);
        self.sparsest_of(number.map_or(0..0, |number| number..number + 1))
    }

    fn sparsest_of(&self, nodes: Range<usize>) -> Sparsest<'_, u8> {
        self.shrink();
        Sparsest::new(self.cache, nodes)
    }
}

/// Nobody allocates from it any more. What it has free goes back now, the rest when the last object is freed.
impl Drop for UntypedCache {
    fn drop(&mut self) {
        caches::close(self.cache.0);
    }
}

/// What `alloc` answers, with `errno` as it was or at ENOMEM.
fn answer(alloc: impl FnOnce() -> Option<usize>) -> Option<usize> {
    let errno = KeepErrno::new();
    let object = alloc();
    if object.is_none() {
        errno.out_of_memory();
    }
    object
}

/// Puts hooks into a block of their own. Nothing, and they are dropped, when there is no memory.
fn own(hooks: impl Hooks + 'static) -> Option<OwnedHooks> {
    fn place<H>(hooks: H) -> Option<NonNull<H>> {
        let block = heap::alloc(size_of::<H>(), align_of::<H>()).cast::<H>();
        let at = NonNull::new(block)?;
        // SAFETY: a new block of that size and alignment.
        unsafe { at.write(hooks) };
        Some(at)
    }
    let at: NonNull<dyn Hooks> = place(hooks)?;
    // SAFETY: written into a block of `heap::alloc`'s, and nobody else's.
    Some(unsafe { OwnedHooks::new(at, free_block) })
}
