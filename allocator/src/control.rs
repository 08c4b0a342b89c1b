//! What a program can ask of the allocator besides memory.

use ebb_shrinker::{RegisterError, Registration, Shrink, Shrinker, ShrinkerList};

use crate::budget as account;
use crate::reclaim::{self, SHRINKERS};

/// Sets how many bytes the system may back for this process's heap at any time; `None` takes the limit away.
///
/// Counted is what the allocator got from the system and has not given back: blocks, what is kept for reuse, and its own
/// tables; not stacks, code or memory mapped by others. A budget below what is backed now is allowed: it holds for every
/// allocation that would need more.
pub fn set_budget(bytes: Option<usize>) {
    account::set(bytes);
}

/// The budget in bytes, if there is one.
#[must_use]
pub fn budget() -> Option<usize> {
    account::get()
}

/// Sets the part of the budget, in bytes, that only allocations made inside shrinkers may use. Unless set it is a
/// sixty-fourth of the budget, at least 64 KiB and at most 4 MiB.
pub fn set_reserve(bytes: usize) {
    account::set_reserve(bytes);
}

/// The reserve in bytes; 0 without a budget, unless it was set.
#[must_use]
pub fn reserve() -> usize {
    account::reserve()
}

/// Bytes that the system backs now: what the budget limits. One relaxed load.
#[must_use]
pub fn backed() -> usize {
    account::backed()
}

/// Gives everything that is kept for reuse back to the system: how many bytes, about, since other threads go on
/// meanwhile. Calls no shrinker.
pub fn purge() -> usize {
    let before = account::backed();
    reclaim::give_back();
    before.saturating_sub(account::backed())
}

/// The shrinkers that a failing allocation walks: to look at them ([`ShrinkerList::for_each`]), or to ask them for
/// memory although there is no lack ([`ShrinkerList::walk`]).
#[must_use]
pub fn shrinkers() -> &'static ShrinkerList {
    &SHRINKERS
}

/// Registers a cache: from now on allocations that would fail ask it to free objects. Dropping the registration takes
/// it off again, and waits for callbacks that are running.
///
/// To go on using the cache register a clone of an [`Arc`](std::sync::Arc) of it.
///
/// # Errors
/// [`RegisterError::OutOfMemory`]; the cache was dropped then.
pub fn register(
    spec: Shrinker,
    cache: impl Shrink + 'static,
) -> Result<Registration, RegisterError> {
    spec.register(&SHRINKERS, cache)
}
