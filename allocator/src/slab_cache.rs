//! Object caches with a type: the front of `object_cache`.

use core::alloc::Layout;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::cache_debug::CacheDebug;
use crate::cache_stats::CacheStats;
use crate::slab_box::{Constructed, Fresh, Lifetime, SlabBox};
use crate::sparsest::{Occupancy, Sparsest};
use crate::untyped_cache::{CacheError, UntypedCache};

/// A cache of objects of one type in slabs of their own: the kernel's `kmem_cache`.
///
/// For what a program makes many of and evicts together, the entries of a cache above all. `malloc` mixes objects of one size
/// from everywhere; here only objects of this cache share a slab, so evicting them gives memory back, and the cache can be
/// asked *which* to evict: [`sparsest`](Self::sparsest).
///
/// ```
/// use std::collections::HashMap;
/// use std::ptr::NonNull;
/// use std::sync::{Arc, Mutex};
/// use ebbmalloc::{Count, EbbMalloc, Scan, Shrink, ShrinkControl, Shrinker, SlabBox, SlabCache};
///
/// # #[global_allocator]
/// # static ALLOCATOR: EbbMalloc = EbbMalloc;
/// type Page = [u8; 2000];
///
/// /// A cache: pages by their address, in slabs of their own.
/// struct Pages {
///     slabs: SlabCache<Page>,
///     index: Mutex<HashMap<usize, SlabBox<Page>>>,
/// }
///
/// impl Shrink for Pages {
///     fn count(&self, _: &ShrinkControl) -> Count {
///         self.index.try_lock().map_or(Count::Unknown, |index| Count::of(index.len()).each(2000))
///     }
///     fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
///         let Ok(mut index) = self.index.try_lock() else { return Scan::Stop };
///         let mut objects = 0;
///         for slab in self.slabs.sparsest() {
///             let evicted = slab.objects().filter_map(|page| index.remove(&page.addr().get()));
///             objects += evicted.count();
///             if objects >= ctl.to_scan() {
///                 break;
///             }
///         }
///         Scan::Freed { objects, bytes: objects * 2000 }
///     }
/// }
///
/// ebbmalloc::set_budget(Some(32 << 20));
/// let pages = Arc::new(Pages {
///     slabs: SlabCache::new("pages")?,
///     index: Mutex::new(HashMap::with_capacity(100_000)),
/// });
/// let registration = ebbmalloc::register(Shrinker::new("pages"), pages.clone())?;
/// for n in 0..50_000 {
///     // 100 MB in 32 MiB: evicts whole slabs when it must. Made before the lock is taken.
///     let page = pages.slabs.alloc([n as u8; 2000]).map_err(|_| "no memory")?;
///     let address = SlabBox::as_ptr(&page).addr().get();
///     pages.index.lock().unwrap().insert(address, page);
/// }
/// assert!(registration.stats().objects > 0);
/// println!("{}", pages.slabs.stats());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Values
///
/// As in a `Box` a value is made when it is allocated and dropped when it is freed. With
/// [`with_constructor`](SlabCache::with_constructor) it is as in the kernel: all values of a slab are made when the slab
/// is built, keep their state from one use to the next, and are dropped when the slab goes back. That pays where making a value
/// is dear and what is left after use is as good as new: locks, tables that keep their capacity.
///
/// Constructor and destructor (`T`'s `Drop`) run under no lock of the allocator, and may allocate and free. But slabs go back
/// in the middle of failing allocations, too, of any thread: a destructor takes locks only by trying, like a shrinker.
///
/// # Memory
///
/// Slabs are those of the allocator's size classes (a multiple of 16 up to 1 KiB, at most a fifth more than asked above),
/// of 32 KiB as a rule, on the NUMA node of the CPU that allocates. They count in the budget. When that or the system
/// refuses one, the allocation reclaims as any other does, and fails only then. Each CPU keeps up to 254 objects or 32
/// KiB; a failing allocation anywhere takes those back.
///
/// Objects have their own way back: what frees them (a [`SlabBox`], C's `free`, [`raw::free`](crate::raw::free)) finds the
/// cache by their address.
///
/// # The end
///
/// Dropping a cache gives back all that is free in it. Objects that are in use stay valid; each is freed as usual, and when
/// the last one is the cache is over. (The kernel complains and leaks the cache.) [`destroy`](Self::destroy) refuses instead.
#[derive(Debug)]
pub struct SlabCache<T, L: Lifetime = Fresh> {
    cache: UntypedCache,
    _of: PhantomData<Of<T, L>>,
}

/// It has no values of its own: it may be used by any thread, whatever they are.
type Of<T, L> = fn() -> (T, L);

impl<T> SlabCache<T> {
    /// A cache of values that live from [`alloc`](Self::alloc) to free. The name is for the statistics; its first 32 bytes
    /// are kept.
    ///
    /// # Errors
    /// When there is no memory, or a `T` has more than 256 KiB or an alignment of more than 32 KiB.
    pub fn new(name: &str) -> Result<Self, CacheError> {
        Self::debugged(name, CacheDebug::NONE)
    }

    /// The same, with objects that are watched: to find out who writes where he must not, see [`CacheDebug`]. The environment
    /// may ask for more (`EBB_CACHE_DEBUG`). Objects larger than about 200 KiB have neither red zones nor known users.
    ///
    /// Such a cache is slow: nothing is at hand on a CPU, and each object is written and read as a whole. It has as much more memory
    /// as what is around its objects.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn debugged(name: &str, debug: CacheDebug) -> Result<Self, CacheError> {
        Ok(Self {
            cache: UntypedCache::debugged(name, Layout::new::<T>(), debug)?,
            _of: PhantomData,
        })
    }

    /// Puts a value into the cache.
    ///
    /// # Errors
    /// The value, when there is no memory, under the budget or at all, and after reclaim.
    #[inline]
    pub fn alloc(&self, value: T) -> Result<SlabBox<T>, T> {
        fill(self.cache.alloc(), value)
    }

    /// As [`alloc`](Self::alloc), on the NUMA node that the kernel calls `node`, and nowhere else.
    ///
    /// # Errors
    /// The value, when the node has no memory left or there is no such node.
    pub fn alloc_on_node(&self, value: T, node: u32) -> Result<SlabBox<T>, T> {
        fill(self.cache.alloc_on_node(node), value)
    }
}

/// Puts a value into a new object.
fn fill<T>(object: Option<NonNull<u8>>, value: T) -> Result<SlabBox<T>, T> {
    let Some(object) = object else {
        return Err(value);
    };
    let object = object.cast::<T>();
    // SAFETY: new, and of the size and alignment of a `T`.
    unsafe { object.write(value) };
    // SAFETY: new, with a value.
    Ok(unsafe { SlabBox::from_raw(object) })
}

impl<T: Send + 'static> SlabCache<T, Constructed> {
    /// A cache of values that `construct` makes when a slab is built, and that are dropped when it goes back.
    ///
    /// A panic of `construct` comes out of [`alloc`](Self::alloc); the values that the slab had by then are dropped.
    ///
    /// # Errors
    /// As for [`new`](SlabCache::new).
    pub fn with_constructor(
        name: &str,
        construct: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<Self, CacheError> {
        Self::debugged_with_constructor(name, CacheDebug::NONE, construct)
    }

    /// The same, with objects that are watched as [`debugged`](SlabCache::debugged) says, but for the flag `P`.
    ///
    /// # Errors
    /// As for [`new`](SlabCache::new).
    pub fn debugged_with_constructor(
        name: &str,
        debug: CacheDebug,
        construct: impl Fn() -> T + Send + Sync + 'static,
    ) -> Result<Self, CacheError> {
        let construct = move |object: NonNull<u8>| {
            // SAFETY: the cache calls this for memory of a `T` that holds none.
            unsafe { object.cast::<T>().write(construct()) };
        };
        let destroy = |object: NonNull<u8>| {
            // SAFETY: the cache calls this for what it constructed, when nobody has it.
            unsafe { object.cast::<T>().drop_in_place() };
        };
        let layout = Layout::new::<T>();
        Ok(Self {
            cache: UntypedCache::debugged_with_hooks(name, layout, debug, construct, destroy)?,
            _of: PhantomData,
        })
    }

    /// A value: as constructed, or as it was when it was last freed. Nothing when there is no memory, under the budget or at
    /// all, and after reclaim.
    #[inline]
    #[must_use]
    pub fn alloc(&self) -> Option<SlabBox<T, Constructed>> {
        let object = self.cache.alloc()?.cast();
        // SAFETY: new, and constructed.
        Some(unsafe { SlabBox::from_raw(object) })
    }

    /// As [`alloc`](Self::alloc), on the NUMA node that the kernel calls `node`, and nowhere else. Nothing also when there is
    /// no such node.
    #[must_use]
    pub fn alloc_on_node(&self, node: u32) -> Option<SlabBox<T, Constructed>> {
        let object = self.cache.alloc_on_node(node)?.cast();
        // SAFETY: as in `alloc`.
        Some(unsafe { SlabBox::from_raw(object) })
    }
}

impl<T, L: Lifetime> SlabCache<T, L> {
    /// Gives what is free back: objects that CPUs keep go to their slabs, and slabs without objects in use to the node's
    /// free memory, which goes to the system beyond a bound ([`purge`](crate::purge): all of it). How many bytes of slabs.
    pub fn shrink(&self) -> usize {
        self.cache.shrink()
    }

    /// Its figures, in the columns of `/proc/slabinfo`. Takes its locks one after the other, each for a moment; allocates
    /// nothing. Those of all caches: [`slab_caches`](crate::slab_caches), [`write_stats`](crate::write_stats).
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Looks at all its objects, if they are watched ([`CacheDebug`]), and says on standard error what is wrong with them, each
    /// time anew: how many are. 0 where none is watched. Others that allocate or free wait meanwhile. Changes nothing,
    /// allocates nothing.
    pub fn validate(&self) -> usize {
        self.cache.validate()
    }

    /// Ends it, if none of its objects is in use.
    ///
    /// # Errors
    /// Itself, as it was, when objects are in use: [`stats`](Self::stats) says how many, and if they are watched standard error
    /// which.
    pub fn destroy(self) -> Result<(), Self> {
        let of = PhantomData;
        self.cache
            .destroy()
            .map_err(|cache| Self { cache, _of: of })
    }

    /// How full the slab of an object is. To be used where objects are evicted in some other order, to choose among several:
    /// it takes a lock for a moment. Nothing when the object is another cache's.
    #[must_use]
    pub fn occupancy(&self, object: &SlabBox<T, L>) -> Option<Occupancy> {
        self.cache.occupancy(SlabBox::as_ptr(object).cast())
    }

    /// The slabs with objects in use, the sparsest first, for eviction: see [`Sparsest`].
    #[must_use]
    pub fn sparsest(&self) -> Sparsest<'_, T> {
        self.cache.sparsest().typed()
    }

    /// As [`sparsest`](Self::sparsest), those on the NUMA node that the kernel calls `node`: for
    /// [`ShrinkControl::node`](crate::ShrinkControl::node).
    #[must_use]
    pub fn sparsest_on(&self, node: u32) -> Sparsest<'_, T> {
        self.cache.sparsest_on(node).typed()
    }

    /// Moves a value out of a sparse slab into one that is at least as full and has room. Makes no slab, and calls nothing.
    ///
    /// So a cache evicts by whatever order serves it best, and then moves what survived out of the sparsest slabs: these
    /// come free all the same. Only the owner can do that, who knows what points to the value.
    ///
    /// # Errors
    /// The object as it was, when there is no such slab.
    pub fn relocate(&self, object: SlabBox<T, L>) -> Result<SlabBox<T, L>, SlabBox<T, L>> {
        let old = SlabBox::as_ptr(&object);
        let Some(new) = self.cache.alloc_denser(old.cast()) else {
            return Err(object);
        };
        let new = new.cast::<T>();
        if L::KEPT {
            // SAFETY: both hold a value; one was free, the other is ours.
            unsafe { new.swap(old) };
            drop(object);
        } else {
            let old = SlabBox::into_raw(object);
            // SAFETY: a value of ours, to free memory of that size.
            unsafe { new.copy_from_nonoverlapping(old, 1) };
            // SAFETY: an object of this cache, whose value is elsewhere now.
            unsafe { self.cache.free(old.cast()) };
        }
        // SAFETY: allocated above, and it has the value.
        Ok(unsafe { SlabBox::from_raw(new) })
    }
}
