//! No restartable sequences here: every operation fails, and the callers take their fallback.

use super::{Rows, Window};

/// There is nothing to open.
pub(crate) fn start(_: &'static Rows, _: &'static Rows, _: &Window) -> bool {
    false
}

/// Never.
pub(crate) fn cpu() -> Option<usize> {
    None
}

/// Nothing.
#[inline(always)]
pub(crate) fn pop(_: usize) -> usize {
    0
}

/// Never.
#[inline(always)]
pub(crate) fn push(_: usize, _: usize) -> bool {
    false
}

/// Nothing.
pub(crate) fn peek(_: usize) -> usize {
    0
}

/// Never.
pub(crate) fn exchange(_: usize, _: usize, _: usize) -> bool {
    false
}

/// Where [`alloc`] goes on: always.
pub(crate) trait Slow {
    /// Any size.
    extern "C" fn other(size: usize) -> *mut u8;

    /// Never called.
    extern "C" fn empty(class: usize) -> *mut u8;
}

/// What the slow path answers.
#[inline(always)]
pub(crate) fn alloc<S: Slow>(size: usize) -> *mut u8 {
    S::other(size)
}

/// Never.
#[inline(always)]
pub(crate) fn free(_: usize) -> bool {
    false
}
