//! Object caches, for C: made, used and ended.

use std::alloc::Layout;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use ebb::raw::{self, UntypedCache};
use ebb::{CacheDebug, CacheError};

use crate::handle::Context;

/// An object cache.
pub struct EbbCache {
    pub(crate) cache: UntypedCache,
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
    /// A power of two, at most 32 KiB; 0 stands for 16.
    pub alignment: usize,
    /// Called for every object of a slab when the slab is built, or NULL.
    pub construct: EbbObject,
    /// Called for every object of a slab when the slab goes back, or NULL.
    pub destroy: EbbObject,
    /// Handed to both.
    pub context: *mut c_void,
    /// What its objects are watched for, beside what `EBB_CACHE_DEBUG` says: letters of "FZPU" as there, or NULL for
    /// nothing. Such a cache is slow, for debugging: see the README.
    pub debug: *const c_char,
}

/// Makes an object cache, the kernel's `kmem_cache`: objects of one size in slabs that nothing else lies in, so that memory
/// comes back when they are freed together. `*out` is the cache.
///
/// An object keeps its state from one use to the next, as in the kernel: `construct` and `destroy` are called when slabs come
/// and go, not when objects do. They may allocate and free. `destroy` may be called on any thread in the middle of an
/// allocation that fails otherwise: it waits for no lock. Neither throws nor jumps out.
///
/// Gives 0; or EINVAL when the name is missing or not UTF-8, the alignment is no power of two, objects are too large, or
/// `debug` has other letters; or ENOMEM. On failure `*out` is as it was.
///
/// # Safety
///
/// `ops` may be read, its name and `debug` are NULL or C strings, and `out` may be written. The functions may be called with the context by
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
    let layout = Layout::from_size_align(ops.object_size, align);
    // SAFETY: the caller's clause.
    let debug = unsafe { flags(ops.debug) };
    let (Ok(name), Ok(layout), Some(debug)) = (name, layout, debug) else {
        return libc::EINVAL;
    };
    let handle = raw::alloc(size_of::<EbbCache>()).cast::<EbbCache>();
    if handle.is_null() {
        return libc::ENOMEM;
    }
    let cache = match create(name, layout, debug, &ops) {
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

/// The flags that a text asks for, none for NULL; nothing when there is another letter.
///
/// # Safety
/// NULL or a C string.
unsafe fn flags(letters: *const c_char) -> Option<CacheDebug> {
    if letters.is_null() {
        return Some(CacheDebug::NONE);
    }
    // SAFETY: the caller's clause, and it is not NULL.
    CacheDebug::parse(unsafe { CStr::from_ptr(letters) }.to_str().ok()?)
}

/// The cache that `ops` describes.
fn create(
    name: &str,
    layout: Layout,
    debug: CacheDebug,
    ops: &EbbCacheOps,
) -> Result<UntypedCache, CacheError> {
    if ops.construct.is_none() && ops.destroy.is_none() {
        return UntypedCache::debugged(name, layout, debug);
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
    let (construct, destroy) = (hook(ops.construct), hook(ops.destroy));
    UntypedCache::debugged_with_hooks(name, layout, debug, construct, destroy)
}

/// The address as C has it.
pub(crate) fn address(object: Option<NonNull<u8>>) -> *mut c_void {
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

/// As `ebb_cache_alloc`, on the NUMA node that the kernel calls `node`, and nowhere else. NULL also when there is no such
/// node.
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

/// Frees an object, in the state that `construct` gives if there is one. NULL is allowed and does nothing. `errno` is kept.
///
/// What is recognised as no object of this cache, or free already, ends the program with one line that says so. `free` and
/// `ebb_free` do the same for an object of any cache.
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

/// Looks at all objects of a cache that is watched (`debug`, `EBB_CACHE_DEBUG`), and says on standard error what is wrong with
/// them: how many are. 0 where none is watched. Changes nothing; others that allocate or free wait meanwhile.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_validate(cache: *mut EbbCache) -> usize {
    // SAFETY: the caller's clause: a live handle.
    unsafe { &*cache }.cache.validate()
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
