//! Object caches, for C.

use std::alloc::Layout;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use ebb::raw::{self, UntypedCache};
use ebb::{CacheError, CacheStats, Occupancy};

use crate::handle::Context;

/// An object cache.
pub struct EbbCache {
    cache: UntypedCache,
}

/// Makes an object, or ends one.
pub type EbbObject = Option<unsafe extern "C" fn(context: *mut c_void, object: *mut c_void)>;

/// What an object cache is to be. Fields left 0 have the usual values.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbCacheOps {
    /// A name in UTF-8 for the statistics; its first 32 bytes are copied.
    pub name: *const c_char,
    /// Bytes per object: at most 256 KiB.
    pub object_size: usize,
    /// A power of two, at most 64 KiB; 0 stands for 16.
    pub alignment: usize,
    /// Called for every object of a slab when the slab is built, or NULL.
    pub construct: EbbObject,
    /// Called for every object of a slab when the slab goes back, or NULL.
    pub destroy: EbbObject,
    /// Handed to both.
    pub context: *mut c_void,
}

/// Makes an object cache, the kernel's `kmem_cache`: objects of one size in slabs that nothing else lies in, so that memory
/// comes back when they are freed together. `*out` is the cache.
///
/// An object keeps its state from one use to the next, as in the kernel: `construct` and `destroy` are called when slabs come
/// and go, not when objects do. They may allocate and free. `destroy` may be called on any thread in the middle of an
/// allocation that fails otherwise: it waits for no lock. Neither throws nor jumps out.
///
/// Gives 0; or EINVAL when the name is missing or not UTF-8, the alignment is no power of two, or objects are too large; or
/// ENOMEM. On failure `*out` is as it was.
///
/// # Safety
///
/// `ops` may be read, its name is NULL or a C string, and `out` may be written. The functions may be called with the context by
/// any thread until `ebb_cache_destroy` has given 0.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1, 2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_create(
    ops: *const EbbCacheOps,
    out: *mut *mut EbbCache,
) -> c_int {
    // SAFETY: the caller's clause: `ops` may be read.
    let ops = unsafe { ops.read() };
    if ops.name.is_null() {
        return libc::EINVAL;
    }
    // SAFETY: the caller's clause, and it is not NULL.
    let name = unsafe { CStr::from_ptr(ops.name) }.to_str();
    let align = if ops.alignment == 0 {
        16
    } else {
        ops.alignment
    };
    let (Ok(name), Ok(layout)) = (name, Layout::from_size_align(ops.object_size, align)) else {
        return libc::EINVAL;
    };
    let handle = raw::alloc(size_of::<EbbCache>()).cast::<EbbCache>();
    if handle.is_null() {
        return libc::ENOMEM;
    }
    let cache = match create(name, layout, &ops) {
        Ok(cache) => cache,
        Err(error) => {
            // SAFETY: the block from above, which nobody has seen.
            unsafe { raw::free(handle.cast()) };
            return match error {
                CacheError::TooLarge => libc::EINVAL,
                _ => libc::ENOMEM,
            };
        }
    };
    // SAFETY: a new block of that size, aligned for any type.
    unsafe { handle.write(EbbCache { cache }) };
    // SAFETY: the caller's clause: `out` may be written.
    unsafe { out.write(handle) };
    0
}

/// The cache that `ops` describes.
fn create(name: &str, layout: Layout, ops: &EbbCacheOps) -> Result<UntypedCache, CacheError> {
    if ops.construct.is_none() && ops.destroy.is_none() {
        return UntypedCache::new(name, layout);
    }
    let hook = |call: EbbObject| {
        let context = Context(ops.context);
        move |object: NonNull<u8>| {
            if let Some(call) = call {
                // SAFETY: the promise made when the cache was created; an object of it.
                unsafe { call(context.get(), object.as_ptr().cast()) };
            }
        }
    };
    UntypedCache::with_hooks(name, layout, hook(ops.construct), hook(ops.destroy))
}

/// The address as C has it.
fn address(object: Option<NonNull<u8>>) -> *mut c_void {
    object.map_or(ptr::null_mut(), |object| object.as_ptr().cast())
}

/// An object: constructed, or as it was when it was last freed. NULL, and `errno` is ENOMEM, when the memory is not there,
/// under the budget or at all, and the registered shrinkers cannot make it.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`.
///
/// cbindgen:prefix=EBB_ATTR(malloc, nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_alloc(cache: *mut EbbCache) -> *mut c_void {
    // SAFETY: the caller's clause: a live handle.
    address(unsafe { &*cache }.cache.alloc())
}

/// As `ebb_cache_alloc`, on the NUMA node that the kernel calls `node`, and nowhere else.
///
/// # Safety
///
/// As `ebb_cache_alloc`.
///
/// cbindgen:prefix=EBB_ATTR(malloc, nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_alloc_on_node(cache: *mut EbbCache, node: u32) -> *mut c_void {
    // SAFETY: the caller's clause: a live handle.
    address(unsafe { &*cache }.cache.alloc_on_node(node))
}

/// An object in a slab that has at least as many in use as that of `object`, for moving what is in it there; NULL, with
/// `errno` as it was, when no such slab has room. Makes no slab. So the sparsest slabs come free although what is in
/// them is still wanted.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`, and `object` is an object of it.
///
/// cbindgen:prefix=EBB_ATTR(malloc, nonnull(1, 2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_alloc_denser(
    cache: *mut EbbCache,
    object: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller's clause: a live handle.
    let cache = unsafe { &*cache };
    address(NonNull::new(object.cast()).and_then(|object| cache.cache.alloc_denser(object)))
}

/// Frees an object, in the state that `construct` gives if there is one. NULL is allowed and does nothing. `errno` is kept.
///
/// What is recognised as no object of this cache, or free already, ends the program with one line that says so. `free` and
/// `ebb_free` do the same for an object of any cache; the sized forms must not be used.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`; `object` is NULL or an object of it, and is not used again.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_free(cache: *mut EbbCache, object: *mut c_void) {
    // SAFETY: the caller's clause: a live handle.
    let cache = unsafe { &*cache };
    if let Some(object) = NonNull::new(object.cast()) {
        // SAFETY: the caller's clause.
        unsafe { cache.cache.free(object) };
    }
}

/// Gives back what is free: objects that CPUs keep go to their slabs, slabs without objects in use to the free memory.
/// Says how many bytes of slabs that were. `ebb_purge` then gives all free memory to the operating system.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_shrink(cache: *mut EbbCache) -> usize {
    // SAFETY: the caller's clause: a live handle.
    unsafe { &*cache }.cache.shrink()
}

/// Ends a cache. Gives 0; or EBUSY, and the cache is as it was, when objects of it are in use. NULL gives 0.
///
/// # Safety
///
/// `cache` is NULL or came from `ebb_cache_create`, and nobody uses it meanwhile, nor at all once this has given 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_destroy(cache: *mut EbbCache) -> c_int {
    if cache.is_null() {
        return 0;
    }
    // SAFETY: the caller's clause: a live handle. It is taken out here and either put back or freed.
    let handle = unsafe { cache.read() };
    if let Err(back) = handle.cache.destroy() {
        // SAFETY: the handle is still live; its content was taken out above.
        unsafe { cache.write(EbbCache { cache: back }) };
        return libc::EBUSY;
    }
    // SAFETY: the handle's own block, from `raw::alloc`; the caller uses it no more.
    unsafe { raw::free(cache.cast()) };
    0
}

/// How full a slab is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbOccupancy {
    /// Objects in use, with free ones that a CPU keeps.
    pub in_use: usize,
    /// Objects that it has room for.
    pub capacity: usize,
}

impl From<Occupancy> for EbbOccupancy {
    fn from(occupancy: Occupancy) -> Self {
        Self {
            in_use: occupancy.in_use,
            capacity: occupancy.capacity,
        }
    }
}

/// Writes how full the slab of an object is. Gives 0, or EINVAL when it is no object of this cache in use.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`; `occupancy` may be written.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1, 3))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_occupancy(
    cache: *mut EbbCache,
    object: *const c_void,
    occupancy: *mut EbbOccupancy,
) -> c_int {
    // SAFETY: the caller's clause: a live handle.
    let cache = unsafe { &*cache };
    let object = NonNull::new(object.cast_mut().cast());
    let Some(found) = object.and_then(|object| cache.cache.occupancy(object)) else {
        return libc::EINVAL;
    };
    // SAFETY: the caller's clause: it may be written.
    unsafe { occupancy.write(found.into()) };
    0
}

/// Is shown `count` objects of a slab, at least 1 and at most 128, and how full the slab is. Gives 0 to go on, anything else to
/// stop.
pub type EbbVisit = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        objects: *const *mut c_void,
        count: usize,
        slab: *const EbbOccupancy,
    ) -> c_int,
>;

/// Objects that are shown at once.
const SHOWN: usize = 128;

/// Shows the objects of the sparsest slabs: those that cost the fewest objects to come free. For eviction: a slab gives memory
/// back only when all of its objects are free. `node` is as the kernel calls it, or -1 for all. Gives how many slabs
/// were shown, at least in part.
///
/// Each slab is shown once, one with more than 128 objects in several calls one after the other; those come last that
/// were shown in an earlier round and are as they were. No lock is held meanwhile: `visit` may free and allocate. What it
/// gets are copies, and others may free these objects at any time. So it looks them up in an index of its own, under a
/// lock of its own; what is not there was freed, is about to be inserted, or is kept by a CPU. A missing `visit`
/// gives 0.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`; `visit` may be called with the context.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_sparsest(
    cache: *mut EbbCache,
    node: c_int,
    visit: EbbVisit,
    context: *mut c_void,
) -> usize {
    // SAFETY: the caller's clause: a live handle.
    let cache = unsafe { &*cache };
    let Some(visit) = visit else { return 0 };
    let slabs = match u32::try_from(node) {
        Ok(node) => cache.cache.sparsest_on(node),
        Err(_) => cache.cache.sparsest(),
    };
    let mut shown = 0;
    for slab in slabs {
        shown += 1;
        let occupancy = slab.occupancy().into();
        let mut objects = slab.objects();
        loop {
            let mut batch = [ptr::null_mut(); SHOWN];
            let mut count = 0;
            for (place, object) in batch.iter_mut().zip(&mut objects) {
                *place = address(Some(object));
                count += 1;
            }
            // SAFETY: the caller's clause; both pointers are good for the call.
            if count > 0 && unsafe { visit(context, batch.as_ptr(), count, &occupancy) } != 0 {
                return shown;
            }
            if count < SHOWN {
                break;
            }
        }
    }
    shown
}

/// What `ebb_get_cache_stats` gives, with the names that `/proc/slabinfo` has. Later versions add fields at the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbCacheStats {
    /// `sizeof(ebb_cache_stats_t)`, set by the caller.
    pub size: usize,
    /// Objects that the program holds.
    pub active_objs: u64,
    /// Objects that the slabs have room for.
    pub num_objs: u64,
    /// Bytes per object, as its slabs have them.
    pub objsize: u64,
    /// Objects per slab.
    pub objperslab: u64,
    /// Pages of 4 KiB per slab.
    pub pagesperslab: u64,
    /// Free objects that a CPU keeps at most.
    pub limit: u64,
    /// Objects that a CPU takes from slabs at once.
    pub batchcount: u64,
    /// Slabs with objects in use, or kept by a CPU.
    pub active_slabs: u64,
    /// Slabs.
    pub num_slabs: u64,
    /// Free objects that CPUs keep, about.
    pub sharedavail: u64,
}

/// The figures as C has them.
fn figures(stats: &CacheStats) -> EbbCacheStats {
    EbbCacheStats {
        size: size_of::<EbbCacheStats>(),
        active_objs: stats.active_objs,
        num_objs: stats.num_objs,
        objsize: stats.objsize,
        objperslab: stats.objperslab,
        pagesperslab: stats.pagesperslab,
        limit: stats.limit,
        batchcount: stats.batchcount,
        active_slabs: stats.active_slabs,
        num_slabs: stats.num_slabs,
        sharedavail: stats.sharedavail,
    }
}

/// Fills `*stats` with the figures of a cache, as `ebb_get_stats` does with the totals. `ebb_write_stats` has those of all
/// caches, in the lines of `/proc/slabinfo`.
///
/// Gives 0, or EINVAL when the size is too small for the size field itself.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`; as many bytes as `stats->size` says may be written.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1, 2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_get_cache_stats(
    cache: *mut EbbCache,
    stats: *mut EbbCacheStats,
) -> c_int {
    // SAFETY: the caller's clause; the size is the first field.
    let room = unsafe { stats.cast::<usize>().read() };
    let size = room.min(size_of::<EbbCacheStats>());
    if size < size_of::<usize>() {
        return libc::EINVAL;
    }
    // SAFETY: the caller's clause: a live handle.
    let now = figures(&unsafe { &*cache }.cache.stats());
    let now = EbbCacheStats { size, ..now };
    // SAFETY: the caller's clause: `size`, at most what it said, may be written. `now` is at least as large.
    unsafe { ptr::copy_nonoverlapping((&raw const now).cast::<u8>(), stats.cast::<u8>(), size) };
    0
}
