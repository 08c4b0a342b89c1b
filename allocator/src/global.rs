//! The allocator as Rust's global allocator.

use core::alloc::{GlobalAlloc, Layout};

use crate::heap;
use crate::resize;
use crate::size_class;

/// The allocator. It has no state of its own; all values are the same process-wide allocator.
///
/// Any alignment that a [`Layout`] can have is honoured. Without memory, under the budget or at all, and after reclaim,
/// the answer is null and `errno` is ENOMEM; otherwise `errno` is never changed.
///
/// ```
/// use ebbmalloc::EbbMalloc;
///
/// #[global_allocator]
/// static ALLOCATOR: EbbMalloc = EbbMalloc;
///
/// let numbers: Vec<u64> = (0..1000).collect();
/// assert_eq!(numbers.iter().sum::<u64>(), 499_500);
/// assert!(ebbmalloc::stats().in_use >= 8000);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct EbbMalloc;

// SAFETY: blocks are disjoint, as large and as aligned as the layout says, and stay until they are freed (the model
// tests); nothing here unwinds.
unsafe impl GlobalAlloc for EbbMalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        heap::alloc(layout.size(), layout.align())
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller's clause: a block of ours.
        unsafe { heap::free(block) };
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        heap::alloc_zeroed(layout.size(), layout.align())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        let old = size_class::of_layout(layout.size(), align);
        if old.is_some() && old == size_class::of_layout(size, align) {
            return block;
        }
        if old.is_some() && size > layout.size() {
            // It will not fit, so nobody need look at the address.
            // SAFETY: the caller's clause; the smaller of both sizes.
            return unsafe { resize::move_to(block, layout.size(), size, align) };
        }
        // SAFETY: the caller's clause.
        unsafe { resize::realloc(block, size, align) }
    }
}
