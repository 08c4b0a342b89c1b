//! The names every program calls: defined here, they take the place of the C library's.
//!
//! Each is its `ebb_` twin of `heap.rs`, and asks of its caller what the C standard, POSIX or the GNU C library asks:
//! a block handed in is NULL or live, and is not used after it was freed or moved.
//!
//! All of them must be here. A name left out would be the C library's, and the block of one allocator would end in the
//! other. `cfree` is long gone from headers, but old programs still link to it.

use std::ffi::{c_int, c_void};

use crate::{control, heap};

ebb::alloc_function! {
    /// `ebb_malloc`, without a jump to it.
    #[unsafe(no_mangle)]
    fn malloc -> *mut c_void
}

/// `ebb_calloc`.
#[unsafe(no_mangle)]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    heap::ebb_calloc(count, size)
}

/// `ebb_realloc`.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: `realloc` asks the same of its caller.
    unsafe { heap::ebb_realloc(block, size) }
}

/// `ebb_reallocarray`.
#[unsafe(no_mangle)]
unsafe extern "C" fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void {
    // SAFETY: `reallocarray` asks the same of its caller.
    unsafe { heap::ebb_reallocarray(block, count, size) }
}

/// `ebb_free`.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: `free` asks the same of its caller.
    unsafe { heap::ebb_free(block) };
}

/// `ebb_free`, by a name of old.
#[unsafe(no_mangle)]
unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: `cfree` asks the same of its caller.
    unsafe { heap::ebb_free(block) };
}

/// `ebb_free_sized`.
#[unsafe(no_mangle)]
unsafe extern "C" fn free_sized(block: *mut c_void, size: usize) {
    // SAFETY: `free_sized` asks the same of its caller.
    unsafe { heap::ebb_free_sized(block, size) };
}

/// `ebb_free_aligned_sized`.
#[unsafe(no_mangle)]
unsafe extern "C" fn free_aligned_sized(block: *mut c_void, alignment: usize, size: usize) {
    // SAFETY: `free_aligned_sized` asks the same of its caller.
    unsafe { heap::ebb_free_aligned_sized(block, alignment, size) };
}

/// `ebb_aligned_alloc`.
#[unsafe(no_mangle)]
extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    heap::ebb_aligned_alloc(alignment, size)
}

/// `ebb_posix_memalign`.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    // SAFETY: `posix_memalign` asks the same of its caller.
    unsafe { heap::ebb_posix_memalign(out, alignment, size) }
}

/// `ebb_memalign`.
#[unsafe(no_mangle)]
extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
    heap::ebb_memalign(alignment, size)
}

/// `ebb_valloc`.
#[unsafe(no_mangle)]
extern "C" fn valloc(size: usize) -> *mut c_void {
    heap::ebb_valloc(size)
}

/// `ebb_pvalloc`.
#[unsafe(no_mangle)]
extern "C" fn pvalloc(size: usize) -> *mut c_void {
    heap::ebb_pvalloc(size)
}

/// `ebb_malloc_usable_size`.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: `malloc_usable_size` asks the same of its caller.
    unsafe { heap::ebb_malloc_usable_size(block) }
}

/// `ebb_purge`: 1 when memory went back to the system, else 0. How much the caller would like to keep is ignored.
#[unsafe(no_mangle)]
extern "C" fn malloc_trim(keep: usize) -> c_int {
    let _ = keep;
    c_int::from(control::ebb_purge() > 0)
}
