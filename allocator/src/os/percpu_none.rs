//! No restartable sequences here: every operation fails, and the callers take their fallback.

use super::Rows;

/// There is nothing to open.
pub(crate) fn start(_: &'static Rows, _: &'static Rows) -> bool {
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
