//! The malloc family under its `ebb_` names, with C's rules about zero, overflow and `errno`.
//!
//! Everything else here that hands out memory (`malloc.rs`, `cxx.rs`) is a name for one of these.

use std::ffi::{c_int, c_void};
use std::ptr;

use ebb::raw;

/// The largest power of two: no larger alignment exists.
const MAX_ALIGN: usize = 1 << (usize::BITS - 1);

/// Every block is aligned to this.
const MIN_ALIGN: usize = 16;

/// This thread's `errno`.
fn errno() -> *mut c_int {
    // SAFETY: the C library always gives a valid pointer, to a word of this thread alone.
    unsafe { libc::__errno_location() }
}

/// Sets `errno` and gives NULL. For what C forbids; where memory is short, the allocator itself says ENOMEM.
#[cold]
#[inline(never)]
extern "C" fn fail(number: c_int) -> *mut c_void {
    let slot = errno();
    // SAFETY: see `errno`.
    unsafe { slot.write(number) };
    ptr::null_mut()
}

/// The size of a page, in bytes.
fn page() -> usize {
    // SAFETY: sysconf only reads a constant of the system.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// A new block of at least `size` bytes, aligned for any standard type. Its contents are undefined.
///
/// A size of 0 gives a block of its own, to be freed like any other. When the memory is not there, under the budget or
/// at all, and the registered shrinkers cannot make it: NULL, and `errno` is ENOMEM.
///
/// cbindgen:prefix=EBB_ATTR(malloc, alloc_size(1))
#[unsafe(no_mangle)]
pub extern "C" fn ebb_malloc(size: usize) -> *mut c_void {
    raw::alloc(size).cast()
}

/// A new block for `count` elements of `size` bytes each, all bytes zero.
///
/// Otherwise as `ebb_malloc`. A product that overflows gives NULL, and `errno` is ENOMEM.
///
/// cbindgen:prefix=EBB_ATTR(malloc, alloc_size(1, 2))
#[unsafe(no_mangle)]
pub extern "C" fn ebb_calloc(count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        Some(bytes) => raw::alloc_zeroed(bytes).cast(),
        None => fail(libc::ENOMEM),
    }
}

/// Changes a block's size to at least `size` bytes, moving it where needed, and gives its address.
///
/// The contents up to the smaller of both sizes are kept. `block` may be NULL: that is `ebb_malloc(size)`. A size of 0
/// frees the block and gives NULL, with `errno` as it was. On failure: NULL, `errno` is ENOMEM, and the old block is
/// still there, unchanged.
///
/// # Safety
///
/// `block` is NULL or a live block of this allocator. Its old address is not used after a success.
///
/// cbindgen:prefix=EBB_ATTR(alloc_size(2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if size == 0 && !block.is_null() {
        // SAFETY: the caller's clause: a live block, not used again.
        unsafe { raw::free(block.cast()) };
        return ptr::null_mut();
    }
    // SAFETY: the caller's clause: NULL or a live block, not used again after a success.
    unsafe { raw::realloc(block.cast(), size) }.cast()
}

/// A new block of at least `size` bytes on the NUMA node that the kernel calls `node`, and nowhere else.
///
/// With several nodes its pages are backed at once. NULL, and `errno` is ENOMEM, when the node has no memory left, there
/// is no such node, or the system does not let the process see where its pages lie. Reclaim touches that node alone.
///
/// cbindgen:prefix=EBB_ATTR(malloc, alloc_size(1))
#[unsafe(no_mangle)]
pub extern "C" fn ebb_malloc_on_node(size: usize, node: u32) -> *mut c_void {
    raw::alloc_on_node(size, MIN_ALIGN, node).cast()
}

/// A new block of at least `size` bytes, spread over all NUMA nodes: page by page when it is larger than 2 MiB, otherwise
/// each block comes whole from the next node. Otherwise as `ebb_malloc`.
///
/// cbindgen:prefix=EBB_ATTR(malloc, alloc_size(1))
#[unsafe(no_mangle)]
pub extern "C" fn ebb_malloc_interleaved(size: usize) -> *mut c_void {
    raw::alloc_interleaved(size, MIN_ALIGN).cast()
}

/// The NUMA node that a block belongs to, as the kernel calls it; -1 for large blocks that are spread, for what is no block
/// of this allocator, and when nodes are not told apart.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_node_of(block: *const c_void) -> c_int {
    raw::node_of(block.cast()).map_or(-1, u32::cast_signed)
}

/// As `ebb_realloc` to `count` elements of `size` bytes each.
///
/// A product that overflows gives NULL, `errno` is ENOMEM, and the old block is still there.
///
/// # Safety
///
/// As `ebb_realloc`.
///
/// cbindgen:prefix=EBB_ATTR(alloc_size(2, 3))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_reallocarray(
    block: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the caller's clause, which is that of `ebb_realloc`.
        Some(bytes) => unsafe { ebb_realloc(block, bytes) },
        None => fail(libc::ENOMEM),
    }
}

/// Frees a block. NULL is allowed and does nothing. `errno` is kept.
///
/// A pointer that is recognised as no live block of this allocator ends the program with one line that says so.
///
/// # Safety
///
/// `block` is NULL or a live block of this allocator, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_free(block: *mut c_void) {
    // SAFETY: the caller's clause: NULL or a live block, not used again.
    unsafe { raw::free(block.cast()) };
}

/// Frees a block as `ebb_free` does. `size`, in bytes, is what was asked for it.
///
/// # Safety
///
/// As `ebb_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_free_sized(block: *mut c_void, size: usize) {
    let _ = size;
    // SAFETY: the caller's clause: NULL or a live block, not used again.
    unsafe { raw::free(block.cast()) };
}

/// Frees a block as `ebb_free` does. `alignment` and `size`, in bytes, are what was asked for it.
///
/// # Safety
///
/// As `ebb_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_free_aligned_sized(block: *mut c_void, alignment: usize, size: usize) {
    let _ = (alignment, size);
    // SAFETY: the caller's clause: NULL or a live block, not used again.
    unsafe { raw::free(block.cast()) };
}

/// A new block of at least `size` bytes at a multiple of `alignment`, which is a power of two.
///
/// Any size goes with any alignment. An alignment that is no power of two gives NULL, and `errno` is EINVAL; otherwise
/// as `ebb_malloc`.
///
/// cbindgen:prefix=EBB_ATTR(malloc, alloc_align(1), alloc_size(2))
#[unsafe(no_mangle)]
pub extern "C" fn ebb_aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    if !alignment.is_power_of_two() {
        return fail(libc::EINVAL);
    }
    raw::alloc_aligned(size, alignment).cast()
}

/// A new block of at least `size` bytes at a multiple of `alignment`, written to `*out`.
///
/// Gives 0, or EINVAL when `alignment` is not a power of two times `sizeof(void *)`, or ENOMEM. On failure `*out` and
/// `errno` are as they were.
///
/// # Safety
///
/// `out` may be written.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_posix_memalign(
    out: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> c_int {
    if !alignment.is_power_of_two() || alignment < size_of::<*mut c_void>() {
        return libc::EINVAL;
    }
    let slot = errno();
    // SAFETY: see `errno`.
    let before = unsafe { slot.read() };
    let block = raw::alloc_aligned(size, alignment);
    if block.is_null() {
        // SAFETY: see `errno`.
        unsafe { slot.write(before) };
        return libc::ENOMEM;
    }
    // SAFETY: the caller's clause: `out` may be written.
    unsafe { out.write(block.cast()) };
    0
}

/// As `ebb_aligned_alloc`, but an alignment that is no power of two is rounded up to one.
///
/// One that cannot be rounded up gives NULL, and `errno` is EINVAL.
///
/// cbindgen:prefix=EBB_ATTR(malloc, alloc_size(2))
#[unsafe(no_mangle)]
pub extern "C" fn ebb_memalign(alignment: usize, size: usize) -> *mut c_void {
    if alignment > MAX_ALIGN {
        return fail(libc::EINVAL);
    }
    ebb_aligned_alloc(alignment.next_power_of_two(), size)
}

/// A new block of at least `size` bytes that starts at a page; otherwise as `ebb_malloc`.
///
/// cbindgen:prefix=EBB_ATTR(malloc, alloc_size(1))
#[unsafe(no_mangle)]
pub extern "C" fn ebb_valloc(size: usize) -> *mut c_void {
    ebb_aligned_alloc(page(), size)
}

/// A new block of whole pages, at least `size` bytes; otherwise as `ebb_malloc`.
///
/// cbindgen:prefix=EBB_ATTR(malloc, alloc_size(1))
#[unsafe(no_mangle)]
pub extern "C" fn ebb_pvalloc(size: usize) -> *mut c_void {
    match size.checked_next_multiple_of(page()) {
        Some(bytes) => ebb_valloc(bytes),
        None => fail(libc::ENOMEM),
    }
}

/// How many bytes of a block may be used: at least what was asked for. 0 for NULL.
///
/// # Safety
///
/// `block` is NULL or a live block of this allocator.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_malloc_usable_size(block: *const c_void) -> usize {
    if block.is_null() {
        return 0;
    }
    // SAFETY: the caller's clause: a live block.
    unsafe { raw::usable_size(block.cast()) }
}
