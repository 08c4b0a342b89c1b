//! How large a block is, and another size for it.

use core::ptr;

use crate::cache_traffic;
use crate::config::{MAX_SIZE, MAX_SPAN, MIN_ALIGN, PAGE, SLICE};
use crate::heap::{alloc, answer, free};
use crate::mapping;
use crate::node;
use crate::os::KeepErrno;
use crate::reclaim;
use crate::size_class::SHAPES;
use crate::slab::Misuse;
use crate::span_map;
use crate::window::Tag;

/// The bytes that a block really has; 0 for null.
///
/// # Safety
/// Null or a block of this allocator. What can be seen to be neither ends the process.
#[inline]
pub(crate) unsafe fn usable_size(block: *const u8) -> usize {
    let tag = span_map::tag(block.addr());
    match SHAPES[tag.kind()].size {
        0 => size_of_other(block.addr(), tag),
        size => size,
    }
}

/// As [`usable_size`], for what is in no size class.
#[inline(never)]
extern "C" fn size_of_other(address: usize, tag: Tag) -> usize {
    match tag.kind() {
        Tag::SPAN => {
            let slab = span_map::slab_of_slice(address);
            // SAFETY: the descriptor of a span in use.
            unsafe { (*slab).slices as usize * SLICE }
        }
        _ if address == 0 => 0,
        Tag::CACHE => cache_traffic::size_of_object(address).unwrap_or(0),
        _ => match mapping::len(address) {
            Some(len) => len,
            None => node::report(address, Misuse::NotAnObject),
        },
    }
}

/// Changes the size of a block, moving it if need be; null, and the block as it was, when there is no memory.
///
/// # Safety
/// A block of this allocator at a multiple of `align`, whose old address is not used after a success.
#[inline]
pub(crate) unsafe fn realloc(block: *mut u8, size: usize, align: usize) -> *mut u8 {
    // SAFETY: the caller's clause.
    let old = unsafe { usable_size(block) };
    if stays(block.addr(), old, size, align) {
        return block;
    }
    // SAFETY: the caller's clause.
    unsafe { resize(block, old, size, align) }
}

/// Whether a block of `old` bytes can stay where it is: it is large enough, and not much too large.
fn stays(address: usize, old: usize, size: usize, align: usize) -> bool {
    size <= old && (size >= old / 2 || old <= MIN_ALIGN) && address & (align - 1) == 0
}

/// As [`realloc`], for a block of `old` bytes that cannot stay as it is.
///
/// # Safety
/// As for `realloc`.
#[inline(never)]
unsafe extern "C" fn resize(block: *mut u8, old: usize, size: usize, align: usize) -> *mut u8 {
    let large = size > MAX_SPAN && size < MAX_SIZE;
    if large && old > MAX_SPAN && align <= PAGE {
        let errno = KeepErrno::new();
        let moved = reclaim::with_reclaim(None, &|| mapping::resize(block.addr(), size));
        return answer(errno, moved);
    }
    // SAFETY: the caller's clause.
    unsafe { move_to(block, old.min(size), size, align) }
}

/// As [`realloc`], by a new block into which `keep` bytes are copied.
///
/// # Safety
/// As for `realloc`; both blocks have at least `keep` bytes.
#[inline(never)]
pub(crate) unsafe extern "C" fn move_to(
    block: *mut u8,
    keep: usize,
    size: usize,
    align: usize,
) -> *mut u8 {
    let new = alloc(size, align);
    if !new.is_null() {
        // SAFETY: both have that many bytes, and a new block overlaps none in use.
        unsafe { ptr::copy_nonoverlapping(block, new, keep) };
        // SAFETY: the caller's clause: used no more.
        unsafe { free(block) };
    }
    new
}
