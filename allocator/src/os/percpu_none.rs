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
pub(crate) fn pop(_: usize) -> *mut u8 {
    core::ptr::null_mut()
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

/// Defines a function of a size that gives what the slow path answers.
#[doc(hidden)]
#[macro_export]
macro_rules! alloc_function {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident -> $block:ty) => {
        $(#[$attribute])*
        $visibility extern "C" fn $name(size: usize) -> $block {
            $crate::raw::entry::other(size).cast()
        }
    };
}

/// Of no use here, and so is [`POP`].
pub(crate) const SIZES: usize = 0;
/// See [`SIZES`].
pub(crate) const POP: usize = 0;

/// Never.
#[inline(always)]
pub(crate) fn free(_: usize) -> bool {
    false
}
