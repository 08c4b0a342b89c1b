//! What `operator new` does: never NULL, but the new handler, and then `std::bad_alloc`.
//!
//! A C++ exception may pass through every function here, so all are `C-unwind` or plain Rust, and none holds anything
//! that would need a destructor: the program's unwinder finds nothing to call on its way, and it does not matter that the
//! library has an unwinder of its own.

use std::ffi::c_void;

use ebb::raw;

use crate::runtime;

/// A new block of at least `size` bytes, as C++ `operator new` gives it: never NULL.
///
/// When the memory is not there, the C++ new handler is called as long as there is one, and then `std::bad_alloc` is
/// thrown. A program without a C++ library ends with one line on standard error. Freed by `ebb_free`.
///
/// cbindgen:prefix=EBB_ATTR(malloc, returns_nonnull, alloc_size(1))
/// cbindgen:postfix=
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ebb_new(size: usize) -> *mut c_void {
    let block = raw::alloc(size);
    if block.is_null() {
        return retry(|| raw::alloc(size));
    }
    block.cast()
}

/// As `ebb_new`, at a multiple of `alignment`, which is a power of two; one that is not throws.
///
/// cbindgen:prefix=EBB_ATTR(malloc, returns_nonnull, alloc_align(2), alloc_size(1))
/// cbindgen:postfix=
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ebb_new_aligned(size: usize, alignment: usize) -> *mut c_void {
    if !alignment.is_power_of_two() {
        runtime::throw_bad_alloc();
    }
    let block = raw::alloc_aligned(size, alignment);
    if block.is_null() {
        return retry(|| raw::alloc_aligned(size, alignment));
    }
    block.cast()
}

/// The standard's loop: a new handler makes memory, or throws, or ends the program.
#[cold]
#[inline(never)]
fn retry(attempt: impl Fn() -> *mut u8) -> *mut c_void {
    loop {
        let Some(handler) = runtime::new_handler() else {
            runtime::throw_bad_alloc();
        };
        // SAFETY: a function that the program handed to `std::set_new_handler` to be called just so.
        unsafe { handler() };
        let block = attempt();
        if !block.is_null() {
            return block.cast();
        }
    }
}
