//! C++: `operator new` and `operator delete`, by the names the Itanium C++ ABI gives them (`size_t` is `m`).
//!
//! Each asks of its caller what the C++ standard asks. A size or an alignment handed to `delete` is not needed: the
//! allocator knows its blocks.
//!
//! The `nothrow` forms are not here, on purpose. The C++ library's own do what the standard prescribes: they call the
//! forms below, and give NULL when those throw, also when it is the program's new handler that throws. Rust cannot
//! catch a C++ exception, so forms of ours would get that case wrong.

use std::ffi::c_void;

use crate::heap::ebb_free;
use crate::new::{ebb_new, ebb_new_aligned};

/// A size or a `std::align_val_t` that `delete` is handed: a word.
type Ignored = usize;

/// `operator new(size)`.
#[unsafe(export_name = "_Znwm")]
extern "C-unwind" fn new(size: usize) -> *mut c_void {
    ebb_new(size)
}

/// `operator new[](size)`.
#[unsafe(export_name = "_Znam")]
extern "C-unwind" fn new_array(size: usize) -> *mut c_void {
    ebb_new(size)
}

/// `operator new(size, align_val_t)`.
#[unsafe(export_name = "_ZnwmSt11align_val_t")]
extern "C-unwind" fn new_aligned(size: usize, alignment: usize) -> *mut c_void {
    ebb_new_aligned(size, alignment)
}

/// `operator new[](size, align_val_t)`.
#[unsafe(export_name = "_ZnamSt11align_val_t")]
extern "C-unwind" fn new_array_aligned(size: usize, alignment: usize) -> *mut c_void {
    ebb_new_aligned(size, alignment)
}

/// `operator delete(block)`.
#[unsafe(export_name = "_ZdlPv")]
unsafe extern "C" fn delete(block: *mut c_void) {
    // SAFETY: `delete` asks the same of its caller.
    unsafe { ebb_free(block) };
}

/// `operator delete[](block)`.
#[unsafe(export_name = "_ZdaPv")]
unsafe extern "C" fn delete_array(block: *mut c_void) {
    // SAFETY: `delete` asks the same of its caller.
    unsafe { ebb_free(block) };
}

/// `operator delete(block, size)`.
#[unsafe(export_name = "_ZdlPvm")]
unsafe extern "C" fn delete_sized(block: *mut c_void, _: Ignored) {
    // SAFETY: `delete` asks the same of its caller.
    unsafe { ebb_free(block) };
}

/// `operator delete[](block, size)`.
#[unsafe(export_name = "_ZdaPvm")]
unsafe extern "C" fn delete_array_sized(block: *mut c_void, _: Ignored) {
    // SAFETY: `delete` asks the same of its caller.
    unsafe { ebb_free(block) };
}

/// `operator delete(block, align_val_t)`.
#[unsafe(export_name = "_ZdlPvSt11align_val_t")]
unsafe extern "C" fn delete_aligned(block: *mut c_void, _: Ignored) {
    // SAFETY: `delete` asks the same of its caller.
    unsafe { ebb_free(block) };
}

/// `operator delete[](block, align_val_t)`.
#[unsafe(export_name = "_ZdaPvSt11align_val_t")]
unsafe extern "C" fn delete_array_aligned(block: *mut c_void, _: Ignored) {
    // SAFETY: `delete` asks the same of its caller.
    unsafe { ebb_free(block) };
}

/// `operator delete(block, size, align_val_t)`.
#[unsafe(export_name = "_ZdlPvmSt11align_val_t")]
unsafe extern "C" fn delete_sized_aligned(block: *mut c_void, _: Ignored, _: Ignored) {
    // SAFETY: `delete` asks the same of its caller.
    unsafe { ebb_free(block) };
}

/// `operator delete[](block, size, align_val_t)`.
#[unsafe(export_name = "_ZdaPvmSt11align_val_t")]
unsafe extern "C" fn delete_array_sized_aligned(block: *mut c_void, _: Ignored, _: Ignored) {
    // SAFETY: `delete` asks the same of its caller.
    unsafe { ebb_free(block) };
}
