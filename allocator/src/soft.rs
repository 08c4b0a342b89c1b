//! The soft limit: when more is backed, a reclaim thread asks the caches for memory before any request has to.
//!
//! 1. Who allocates on the slow path, and who sets a limit, looks whether more is backed than the limit ([`begins`]). One of
//!    them has a reclaim thread begin; until that one is done nobody looks any more. Without a limit a look is one load.
//! 2. The thread asks until no more is backed than the *low mark*, a sixteenth of the limit below it: else it would be woken
//!    again at once.
//! 3. When it is done it *rests* ([`rest`]): it begins again when a sixty-fourth more is backed, or when somebody allocates after
//!    a pause, in which caches may have been filled. While they have nothing to give the pauses double ([`Pause`]). Who
//!    allocates nothing wakes nobody.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::limits;
use crate::os;

// Relaxed, everywhere in this file: figures. The thread that begins is woken by means of its own.

/// The bytes backed beyond which a thread is to begin; `usize::MAX` where there is no limit, or a thread is at it.
static ARMED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// While it rests, the bytes backed from which on it begins all the same.
static RISEN: AtomicUsize = AtomicUsize::new(0);

/// Until when it rests, on the clock of `os::now_ns`.
static RESTS: AtomicU64 = AtomicU64::new(0);

/// The shortest pause, in nanoseconds.
const SHORT_NS: u64 = 1_000_000;
/// The longest.
const LONG_NS: u64 = 1_000_000_000;

/// From how much memory on the caches are asked before there is need: see [`set_soft_limit`](crate::set_soft_limit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftLimit {
    /// So many bytes backed; with or without a budget.
    Bytes(usize),
    /// This part of the budget, from 1 to 100, whatever that is at any time; without a budget there is no limit.
    Percent(u8),
}

impl SoftLimit {
    /// As `limits` has it. Less than a page is no part of anything.
    pub(crate) fn form(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.max(101),
            Self::Percent(percent) => usize::from(percent.clamp(1, 100)),
        }
    }
}

/// The soft limit in bytes, if there is one: with one in percent, of the budget of now.
#[must_use]
pub fn soft_limit() -> Option<usize> {
    limits::soft()
}

/// Where a thread stops that began at this limit.
fn low_mark(limit: usize) -> usize {
    limit - limit / 16
}

/// How many bytes more are backed than the low mark; 0 without a limit.
pub(crate) fn excess() -> usize {
    limits::soft().map_or(0, |limit| limits::backed().saturating_sub(low_mark(limit)))
}

/// After a limit was set, or the budget that it is a part of: nobody rests.
pub(crate) fn arm() {
    RESTS.store(0, Ordering::Relaxed);
    ARMED.store(limits::soft().unwrap_or(usize::MAX), Ordering::Relaxed);
}

/// Whether a thread is to begin. Then nobody else is told so, before it rests.
pub(crate) fn begins() -> bool {
    let armed = ARMED.load(Ordering::Relaxed);
    armed != usize::MAX && limits::backed() > armed && take(armed)
}

#[cold]
fn take(armed: usize) -> bool {
    let rested = limits::backed() >= RISEN.load(Ordering::Relaxed)
        || os::now_ns() >= RESTS.load(Ordering::Relaxed);
    // Unless another was quicker.
    let taken = || ARMED.compare_exchange(armed, usize::MAX, Ordering::Relaxed, Ordering::Relaxed);
    rested && taken().is_ok()
}

/// The thread that began is done, and rests for so many nanoseconds.
pub(crate) fn rest(ns: u64) {
    let limit = limits::soft().unwrap_or(usize::MAX);
    RISEN.store(
        limits::backed().saturating_add(limit / 64),
        Ordering::Relaxed,
    );
    RESTS.store(os::now_ns() + ns, Ordering::Relaxed);
    // Unless it was set meanwhile.
    let _ = ARMED.compare_exchange(usize::MAX, limit, Ordering::Relaxed, Ordering::Relaxed);
}

/// How long a thread rests when it is done.
pub(crate) struct Pause(u64);

impl Pause {
    pub(crate) const fn new() -> Self {
        Self(SHORT_NS)
    }

    /// After it reclaimed, `in_vain` or not; in nanoseconds.
    pub(crate) fn after(&mut self, in_vain: bool) -> u64 {
        let pause = if in_vain { self.0 } else { SHORT_NS };
        self.0 = match in_vain {
            true => LONG_NS.min(pause * 2),
            false => SHORT_NS,
        };
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail without the doubling, without its end, and with a pause that is as long after what was not in vain.
    #[test]
    fn pauses_in_vain_double() {
        let mut pause = Pause::new();
        let mut in_vain = |times| (0..times).map(|_| pause.after(true) / SHORT_NS).last();
        assert_eq!(in_vain(1), Some(1));
        assert_eq!(in_vain(5), Some(32));
        assert_eq!(in_vain(50), Some(1000));
        assert_eq!(pause.after(false), SHORT_NS);
        assert_eq!(pause.after(true), SHORT_NS);
        assert_eq!(pause.after(true), 2 * SHORT_NS);
    }
}
