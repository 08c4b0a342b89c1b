//! No restartable sequences here: every operation fails, and the callers take their fallback.

use core::sync::atomic::AtomicUsize;

/// There is nothing to open.
pub(crate) fn start(_: usize, _: &'static [AtomicUsize], _: &'static [AtomicUsize]) -> bool {
    false
}

/// Never.
pub(crate) fn usable() -> bool {
    false
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
