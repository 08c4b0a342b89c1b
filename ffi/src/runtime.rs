//! The two functions of the C++ library that a failing `operator new` needs, where there is a C++ library.
//!
//! This library must load into C programs too, so the references are weak: NULL when nobody defines them. Stable Rust
//! has no weak references, hence the table in assembly, which the linker or loader fills.
//!
//! A C program that loads C++ late and privately (a Python extension module) leaves the table empty. Then the C++
//! library is asked for by name, without loading it.

use std::arch::global_asm;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;

/// A C++ new handler. It may throw.
type NewHandler = unsafe extern "C-unwind" fn();
/// `std::get_new_handler`.
type GetNewHandler = unsafe extern "C" fn() -> Option<NewHandler>;
/// `std::__throw_bad_alloc`, the same in libstdc++ and libc++.
type ThrowBadAlloc = unsafe extern "C-unwind" fn() -> !;

/// What the linker filled in.
#[repr(C)]
struct Table {
    get_new_handler: Option<GetNewHandler>,
    throw_bad_alloc: Option<ThrowBadAlloc>,
    dlopen: Option<unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void>,
    dlsym: Option<unsafe extern "C" fn(*mut c_void, *const c_char) -> *mut c_void>,
}

global_asm!(
    ".weak _ZSt15get_new_handlerv",
    ".weak _ZSt17__throw_bad_allocv",
    ".weak dlopen",
    ".weak dlsym",
    ".pushsection .data.rel.ro.ebb_cxx_table, \"aw\", @progbits",
    ".balign 8",
    ".globl ebb_cxx_table",
    ".hidden ebb_cxx_table",
    ".type ebb_cxx_table, @object",
    ".size ebb_cxx_table, 32",
    "ebb_cxx_table:",
    ".quad _ZSt15get_new_handlerv",
    ".quad _ZSt17__throw_bad_allocv",
    ".quad dlopen",
    ".quad dlsym",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "ebb_cxx_table"]
    static TABLE: Table;
}

/// The assembly above writes four words.
const _: () = assert!(size_of::<Table>() == 32);

/// What the linker filled in.
fn table() -> &'static Table {
    // SAFETY: the four words above: read-only once loaded, each NULL or the address of the function its field names.
    unsafe { &TABLE }
}

/// A function of a libstdc++ that is loaded, but out of the weak references' sight. NULL when there is none.
fn find(name: &CStr) -> *mut c_void {
    let (Some(open), Some(symbol)) = (table().dlopen, table().dlsym) else {
        return std::ptr::null_mut();
    };
    // SAFETY: a terminated name; NOLOAD runs no foreign code. The reference it takes is kept for good.
    let library = unsafe {
        open(
            c"libstdc++.so.6".as_ptr(),
            libc::RTLD_LAZY | libc::RTLD_NOLOAD,
        )
    };
    if library.is_null() {
        return library;
    }
    // SAFETY: a live handle and a terminated name.
    unsafe { symbol(library, name.as_ptr()) }
}

/// The handler the program set, if any.
#[cold]
pub(crate) fn new_handler() -> Option<NewHandler> {
    let get = table().get_new_handler.or_else(|| {
        let found = find(c"_ZSt15get_new_handlerv");
        // SAFETY: NULL or the address of the function of that name, which has this type; NULL is `None`.
        unsafe { mem::transmute::<*mut c_void, Option<GetNewHandler>>(found) }
    })?;
    // SAFETY: the C++ library's function; it may be called at any time.
    unsafe { get() }
}

/// Throws `std::bad_alloc`; where there is no C++ library, says so and aborts.
#[cold]
pub(crate) fn throw_bad_alloc() -> ! {
    let throw = table().throw_bad_alloc.or_else(|| {
        let found = find(c"_ZSt17__throw_bad_allocv");
        // SAFETY: NULL or the address of the function of that name, which has this type; NULL is `None`.
        unsafe { mem::transmute::<*mut c_void, Option<ThrowBadAlloc>>(found) }
    });
    match throw {
        // SAFETY: the C++ library's function. No frame between it and the caller of `new` needs a destructor.
        Some(throw) => unsafe { throw() },
        None => abort(),
    }
}

/// The end, said in one line without allocating.
fn abort() -> ! {
    let line = b"ebbmalloc: operator new: out of memory, and there is no C++ library to throw std::bad_alloc\n";
    // SAFETY: the length is the line's own.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    // SAFETY: abort may be called at any time.
    unsafe { libc::abort() }
}
