//! The allocator without a `Layout`, as C sees it: for bindings and for code that manages memory by hand.
//!
//! Blocks are aligned to 16 bytes at least. Where there is no memory (under the budget or at all, after reclaim) the
//! answer is null and `errno` is ENOMEM; otherwise `errno` is never changed.

use crate::config::MIN_ALIGN;
use crate::heap;
use crate::numa;
use crate::resize;
pub use crate::scope::{begin, end_mode, end_no_reclaim, end_no_shrinker};
pub use crate::untyped_cache::UntypedCache;

/// What [`alloc_function`](crate::alloc_function) needs of the allocator.
#[doc(hidden)]
pub mod entry {
    pub use crate::heap::{alloc_other as other, alloc_slow as empty};
    use crate::os::percpu;
    /// An offset in what every operation reads.
    pub const SIZES: usize = percpu::SIZES;
    /// Another.
    pub const POP: usize = percpu::POP;
}

/// A block of at least `size` bytes; null when there is no memory. A size of 0 gives a block like any other.
#[inline]
#[must_use]
pub fn alloc(size: usize) -> *mut u8 {
    heap::alloc(size, MIN_ALIGN)
}

/// As [`alloc`], all `size` bytes zero.
#[inline]
#[must_use]
pub fn alloc_zeroed(size: usize) -> *mut u8 {
    heap::alloc_zeroed(size, MIN_ALIGN)
}

/// As [`alloc`], at a multiple of `align`. Null also when `align` is not a power of two.
#[inline]
#[must_use]
pub fn alloc_aligned(size: usize, align: usize) -> *mut u8 {
    if !align.is_power_of_two() {
        return core::ptr::null_mut();
    }
    heap::alloc(size, align)
}

/// As [`alloc_aligned`], on the NUMA node that the kernel calls `node`, and nowhere else. Null also when there is no such
/// node, it has no memory that this process may use, or nodes are not told apart ([`crate::NumaPolicy`]).
///
/// With several nodes the block's pages are backed at once, and it is seen to that they lie there; where the system
/// forbids that (a seccomp filter without `move_pages`) the answer is null. Reclaim touches that node alone.
#[must_use]
pub fn alloc_on_node(size: usize, align: usize, node: u32) -> *mut u8 {
    if !align.is_power_of_two() {
        return core::ptr::null_mut();
    }
    numa::alloc_on_node(size, align, node)
}

/// As [`alloc_aligned`], spread over all NUMA nodes: page by page when it is larger than 2 MiB, otherwise each block
/// comes whole from the next node.
#[must_use]
pub fn alloc_interleaved(size: usize, align: usize) -> *mut u8 {
    if !align.is_power_of_two() {
        return core::ptr::null_mut();
    }
    numa::alloc_interleaved(size, align)
}

/// The NUMA node that a block belongs to, as the kernel calls it. Nothing for large blocks that are spread, for what is no
/// block of this allocator, or when nodes are not told apart.
///
/// That is where its memory was asked for, and where it goes when it is freed. When a node's memory is used up the
/// system may have taken another's: `get_mempolicy` or `move_pages` tell.
#[must_use]
pub fn node_of(block: *const u8) -> Option<u32> {
    numa::id_of(block)
}

/// Frees a block; null does nothing.
///
/// # Safety
/// `block` is null or a block of this allocator that is used no more. A pointer that can be seen to be neither, and a
/// block that can be seen to be free already, end the process with one line on standard error.
#[inline]
pub unsafe fn free(block: *mut u8) {
    // SAFETY: the caller's clause.
    unsafe { heap::free(block) };
}

/// Changes the size of a block, moving it if need be. Null when there is no memory; the block is then as it was.
/// A null `block` means [`alloc`].
///
/// # Safety
/// `block` is null or a block of this allocator; after a success its old address is used no more.
#[must_use]
pub unsafe fn realloc(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() {
        return alloc(size);
    }
    // SAFETY: the caller's clause.
    unsafe { resize::realloc(block, size, MIN_ALIGN) }
}

/// How many bytes a block really has, all of which may be used; 0 for null.
///
/// # Safety
/// `block` is null or a block of this allocator.
#[must_use]
pub unsafe fn usable_size(block: *const u8) -> usize {
    // SAFETY: the caller's clause.
    unsafe { resize::usable_size(block) }
}
