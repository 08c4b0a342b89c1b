//! `libebbmalloc`: ebbmalloc for C and C++, and in place of any program's `malloc`.
//!
//! No logic lives here. Each function turns C's rules (NULL, `errno`, sizes as two factors) into one call of the
//! `ebbmalloc` crate.
//!
//! ```text
//!      any program              any C++ program             a program that includes ebbmalloc.h
//!           |                         |                       |                        |
//!       malloc.rs                  cxx.rs                     |                        |
//!   malloc, free, ...      operator new, delete               |                        |
//!           |                         |                       |                        |
//!           |       +---------- new.rs: ebb_new <-------------+             control.rs: budget, purge, reports
//!           |       |             |                           |             stats.rs, shrinker_stats.rs, text.rs: statistics
//!           |       |                                         |             pressure.rs: how short of memory
//!           |       |     runtime.rs: throw, new handler      |             shrinker.rs, handle.rs, last_chance.rs: caches in C
//!           v       |                                         |             scope.rs: what not to do for a while
//!           |       |                                         |             lock_order.rs: locks that callbacks wait for
//!        heap.rs: ebb_malloc, ebb_free, ...  <----------------+             cache.rs, eviction.rs, cache_stats.rs: object caches
//!           |       |                                                                  |
//!           v       v                                                                  v
//!         ebbmalloc::raw                                                           ebbmalloc
//! ```
//!
//! `include/ebbmalloc.h` is generated from the public modules; their comments are its comments.
//!
//! * `errno` is set to ENOMEM or EINVAL where the C library's function does so; success and `free` leave it alone.
//! * Nothing unwinds into C, except `std::bad_alloc` out of `operator new`.
//! * Numbers that C made up (a flag, a format, a callback's answer) are refused or ignored, never undefined behaviour.

use core::alloc::{GlobalAlloc, Layout};

use ebb::EbbMalloc;

pub mod cache;
pub mod cache_stats;
pub mod control;
mod cxx;
pub mod eviction;
pub mod handle;
pub mod heap;
pub mod last_chance;
pub mod lock_order;
mod malloc;
pub mod new;
pub mod pressure;
mod runtime;
pub mod scope;
pub mod shrinker;
pub mod shrinker_stats;
pub mod stats;
pub mod text;

/// What Rust's own library allocates inside `libebbmalloc` comes straight from ebbmalloc.
///
/// Without this it would call `malloc`: the one in this library when it is linked or preloaded, the system's when it
/// is loaded late by `dlopen`. Either is safe; this way the bytes are in the budget either way.
///
/// Never inlined: Rust's library allocates in hundreds of places, and the fast path is for programs. It made the library an
/// eighth larger, and all of it that lies around what a program uses counts as the program's memory.
struct Own;

#[global_allocator]
static ALLOCATOR: Own = Own;

// SAFETY: ebbmalloc's.
unsafe impl GlobalAlloc for Own {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's clause.
        unsafe { EbbMalloc.alloc(layout) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's clause.
        unsafe { EbbMalloc.dealloc(block, layout) }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's clause.
        unsafe { EbbMalloc.alloc_zeroed(layout) }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's clause.
        unsafe { EbbMalloc.realloc(block, layout, size) }
    }
}
