//! How much of what was freed is kept for reuse: the bound that users are told, and may set.
//!
//! It holds for free spans, barns, partly used slabs and freed mappings together, each node with its share; what the CPUs'
//! sheaves hold comes on top. Giving back more saves memory and costs page faults, when the program wants it again.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::config::{KEEP_FLOOR, KEEP_PART};

static FLOOR: AtomicUsize = AtomicUsize::new(KEEP_FLOOR);

/// Sets how many bytes of freed memory are kept for reuse in any case; more is only kept up to an eighth of what is in use.
/// Unless set it is 13 MiB.
///
/// A program that empties and fills again more than that pays for it with page faults, and is faster with more; 0 keeps
/// the process as small as can be. What is kept already stays until something is freed or [`purge`](crate::purge) is
/// called. Under a budget what is kept counts, and is given back before any shrinker is asked.
pub fn set_keep(bytes: usize) {
    // Relaxed: a figure.
    FLOOR.store(bytes, Ordering::Relaxed);
}

/// Bytes of freed memory that are kept for reuse in any case, see [`set_keep`].
#[must_use]
pub fn keep() -> usize {
    // Relaxed: a figure.
    FLOOR.load(Ordering::Relaxed)
}

/// Bytes that may be kept where so many are in use. `floor` is [`keep`], or a node's share of it.
pub(crate) fn bound(floor: usize, in_use: usize) -> usize {
    floor.max(in_use / KEEP_PART)
}
