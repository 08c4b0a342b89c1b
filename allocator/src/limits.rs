//! How many bytes the operating system backs for us, how many it may, how many of those are kept in reserve, and from how
//! many on the caches are asked before there is need.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::level;

// Relaxed, everywhere in this file: counters; no memory is published through them.

/// Bytes backed.
static BACKED: AtomicUsize = AtomicUsize::new(0);
/// The budget in bytes; `usize::MAX` is none.
static BUDGET: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The reserve in bytes, once somebody set it.
static RESERVE: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The soft limit: 0 is none, up to 100 is a percentage of the budget, and more is bytes.
static SOFT: AtomicUsize = AtomicUsize::new(0);

/// Bytes backed now.
pub(crate) fn backed() -> usize {
    BACKED.load(Ordering::Relaxed)
}

/// Sets the budget, or takes it away.
pub(crate) fn set(bytes: Option<usize>) {
    BUDGET.store(bytes.unwrap_or(usize::MAX), Ordering::Relaxed);
    note();
}

/// The budget, if there is one.
pub(crate) fn get() -> Option<usize> {
    let bytes = BUDGET.load(Ordering::Relaxed);
    (bytes != usize::MAX).then_some(bytes)
}

/// Sets the reserve.
pub(crate) fn set_reserve(bytes: usize) {
    RESERVE.store(bytes, Ordering::Relaxed);
    note();
}

/// The reserve in bytes: as it was set, or a sixty-fourth of the budget, between 64 KiB and 4 MiB.
pub(crate) fn reserve() -> usize {
    match RESERVE.load(Ordering::Relaxed) {
        usize::MAX => get().map_or(0, |budget| (budget / 64).clamp(64 << 10, 4 << 20)),
        bytes => bytes,
    }
}

/// Sets the soft limit, in the form that [`SOFT`] has.
pub(crate) fn set_soft(form: usize) {
    SOFT.store(form, Ordering::Relaxed);
}

/// The soft limit in bytes, if there is one.
pub(crate) fn soft() -> Option<usize> {
    match SOFT.load(Ordering::Relaxed) {
        0 => None,
        percent @ 1..=100 => get().map(|budget| budget / 100 * percent),
        bytes => Some(bytes),
    }
}

/// Charges `bytes` if that stays within `limit`; what is backed already, if not.
pub(crate) fn charge_up_to(limit: usize, bytes: usize) -> Result<usize, usize> {
    BACKED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |backed| {
        let total = backed.checked_add(bytes)?;
        (total <= limit || bytes == 0).then_some(total)
    })
}

/// Charges `bytes` whatever the limit: what there is no doing without.
pub(crate) fn charge_always(bytes: usize) {
    BACKED.fetch_add(bytes, Ordering::Relaxed);
    note();
}

/// Takes bytes off what is backed.
pub(crate) fn uncharge(bytes: usize) {
    if bytes > 0 {
        BACKED.fetch_sub(bytes, Ordering::Relaxed);
        note();
    }
}

/// Has the pressure follow what has changed.
pub(crate) fn note() {
    level::update(|| (backed(), ordinary_limit()));
}

/// Bytes backed beyond the budget.
pub(crate) fn excess() -> usize {
    backed().saturating_sub(hard_limit())
}

pub(crate) fn hard_limit() -> usize {
    get().unwrap_or(usize::MAX)
}

/// What a request may have that fails at once where it does not fit: five eighths of the reserve too, as in the kernel.
pub(crate) fn no_wait_limit() -> usize {
    let ordinary = ordinary_limit();
    ordinary + (hard_limit() - ordinary) / 8 * 5
}

/// What an ordinary request may have.
pub(crate) fn ordinary_limit() -> usize {
    get().map_or(usize::MAX, |budget| budget.saturating_sub(reserve()))
}
