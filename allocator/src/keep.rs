//! How much of what was freed is kept for reuse: the bound that users are told, and may set.
//!
//! It holds for free spans, barns, partly used slabs and freed mappings together, each node with its share; what the CPUs'
//! sheaves hold comes on top. Giving back more saves memory and costs page faults, when the program wants it again.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::config::{KEEP_FLOOR, KEEP_PART};
use crate::limits;

// Relaxed, everywhere in this file: a figure.

/// One more than what was set; 0 when nothing was.
static SET: AtomicUsize = AtomicUsize::new(0);

/// Sets how many bytes of freed memory are kept for reuse in any case; more is only kept up to an eighth of what is in use.
///
/// Unless that is set it is 10 MiB. Without a budget more is kept in two cases: free pieces of less than 2 MiB between
/// blocks in use, as much as these at most, for a while; and as much as the program was seen to take again within a second
/// after it was given back (half as much with every second that passes). A program that empties and fills more
/// than is kept pays for it with page faults, and is faster with more; 0 keeps the process as small as can be. What is
/// kept already stays until something is freed or [`purge`](crate::purge) is called. Under a budget what is kept counts,
/// and is given back before any shrinker is asked.
pub fn set_keep(bytes: usize) {
    SET.store(bytes.saturating_add(1), Ordering::Relaxed);
}

/// Bytes of freed memory that are kept for reuse in any case, see [`set_keep`].
#[must_use]
pub fn keep() -> usize {
    set().unwrap_or(KEEP_FLOOR)
}

fn set() -> Option<usize> {
    SET.load(Ordering::Relaxed).checked_sub(1)
}

/// Whether the bound holds whatever it costs: the program has set it, or each page counts under a budget, where what is kept
/// would look like pressure.
pub(crate) fn is_strict() -> bool {
    set().is_some() || limits::get().is_some()
}

/// Bytes that may be kept where so many are in use, if `kept` are. `floor` is [`keep`], or a node's share of it; `tide` is
/// asked for what the program swings by if that counts.
pub(crate) fn bound(
    kept: usize,
    floor: usize,
    in_use: usize,
    tide: impl FnOnce() -> usize,
) -> usize {
    let bound = floor.max(in_use / KEEP_PART);
    if kept <= bound || is_strict() {
        return bound;
    }
    bound.saturating_add(tide())
}
