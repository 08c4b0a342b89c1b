//! The allocator without a `Layout`, as C sees it: for bindings and for code that manages memory by hand.
//!
//! Blocks are aligned to 16 bytes at least. Where there is no memory (under the budget or at all, after reclaim) the
//! answer is null and `errno` is ENOMEM; otherwise `errno` is never changed.

use crate::config::MIN_ALIGN;
use crate::heap;
pub use crate::scope::{begin, end_mode, end_no_reclaim, end_no_shrinker};

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
    unsafe { heap::realloc(block, size, MIN_ALIGN) }
}

/// How many bytes a block really has, all of which may be used; 0 for null.
///
/// # Safety
/// `block` is null or a block of this allocator.
#[must_use]
pub unsafe fn usable_size(block: *const u8) -> usize {
    // SAFETY: the caller's clause.
    unsafe { heap::usable_size(block) }
}
