//! The check of locks, for C.

use std::ffi::{CStr, c_char, c_int};
use std::{ptr, slice, str};

use ebb::lock_order::{self, LockClass};
use ebb::raw;

/// Locks that do the same work in the program: what the check of locks knows of them.
pub struct EbbLockClass {
    class: LockClass,
}

/// Tells the check of locks of a kind of lock, and switches the check on. `*out` is the class, which lives for ever.
///
/// A lock that a shrinker's callback waits for, and that is held around an allocation, is a deadlock in waiting: the
/// allocation calls the shrinker one day. Both halves are seen by themselves, whenever and wherever, and reported once on
/// standard error by the name of the class. Meant for debug builds of a program: around each lock it calls `ebb_lock_waiting`
/// before it waits (not where it only tries), `ebb_lock_acquired` once it has the lock, and `ebb_lock_released` when it gives
/// it back.
///
/// Gives 0, or EINVAL when the name is missing or not UTF-8, or ENOMEM. On failure `*out` is as it was.
///
/// # Safety
///
/// `name` is NULL or a C string, which is copied; `out` may be written.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_lock_class_create(
    name: *const c_char,
    out: *mut *mut EbbLockClass,
) -> c_int {
    if name.is_null() {
        return libc::EINVAL;
    }
    // SAFETY: the caller's clause, and it is not NULL.
    let Ok(name) = unsafe { CStr::from_ptr(name) }.to_str() else {
        return libc::EINVAL;
    };
    let class = raw::alloc(size_of::<EbbLockClass>()).cast::<EbbLockClass>();
    let copy = raw::alloc(name.len().max(1));
    if class.is_null() || copy.is_null() {
        // SAFETY: null, or a block from above that nobody has seen.
        unsafe { raw::free(class.cast()) };
        // SAFETY: as above.
        unsafe { raw::free(copy) };
        return libc::ENOMEM;
    }
    // SAFETY: a new block of at least that size.
    unsafe { ptr::copy_nonoverlapping(name.as_ptr(), copy, name.len()) };
    // SAFETY: written just now, and never freed.
    let bytes = unsafe { slice::from_raw_parts(copy, name.len()) };
    let new = EbbLockClass {
        class: LockClass::new(str::from_utf8(bytes).unwrap_or_default()),
    };
    // SAFETY: a new block of that size, aligned for any type.
    unsafe { class.write(new) };
    lock_order::switch_on();
    // SAFETY: the caller's clause: `out` may be written.
    unsafe { out.write(class) };
    0
}

/// The class behind a pointer from C.
///
/// # Safety
///
/// `class` came from `ebb_lock_class_create`.
unsafe fn known(class: *const EbbLockClass) -> &'static LockClass {
    // SAFETY: the caller's clause: it was written there, and is never freed.
    unsafe { &(*class).class }
}

/// This thread is about to wait for a lock of that class, if need be.
///
/// # Safety
///
/// `class` came from `ebb_lock_class_create`.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_lock_waiting(class: *const EbbLockClass) {
    // SAFETY: the caller's clause.
    unsafe { known(class) }.waiting();
}

/// This thread holds a lock of that class from now on.
///
/// # Safety
///
/// `class` came from `ebb_lock_class_create`.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_lock_acquired(class: *const EbbLockClass) {
    // SAFETY: the caller's clause.
    unsafe { known(class) }.acquired();
}

/// This thread has given back a lock of that class.
///
/// # Safety
///
/// `class` came from `ebb_lock_class_create`.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_lock_released(class: *const EbbLockClass) {
    // SAFETY: the caller's clause.
    unsafe { known(class) }.released();
}

/// Whether it was seen that locks of that class may deadlock: 1 or 0. For tests.
///
/// # Safety
///
/// `class` came from `ebb_lock_class_create`.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_lock_is_inverted(class: *const EbbLockClass) -> c_int {
    // SAFETY: the caller's clause.
    c_int::from(unsafe { known(class) }.is_inverted())
}
