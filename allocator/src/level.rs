//! How short of memory the process is, as one small number that costs one load to read.
//!
//! It follows what is backed against what ordinary requests may have of the budget, in 64ths. It rises at once and falls
//! with hysteresis, so that a process at a limit does not see it flicker. Changed where memory is charged and given
//! back, under whatever locks are held there: so nobody is called from here, the teller (`listeners`) is only woken.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use crate::os;

/// How short of memory the process is: see [`pressure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// There is no budget, or less than three quarters of it are backed.
    None,
    /// Three quarters of the budget are backed.
    Low,
    /// Seven eighths of the budget are backed: caches had better stop growing.
    Medium,
    /// Almost all of the budget is backed (61/64): allocations are about to reclaim, or do.
    Critical,
}

const LEVELS: [Pressure; 4] = [
    Pressure::None,
    Pressure::Low,
    Pressure::Medium,
    Pressure::Critical,
];

/// From so many 64ths on there is the next level, and below so many of them not any more.
const BOUNDS: [(usize, usize); 3] = [(48, 44), (56, 52), (61, 58)];

static LEVEL: AtomicU8 = AtomicU8::new(0);

/// Changes whenever the level does. What the teller sleeps on.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// Whether there is a teller to be woken.
static TELLER: AtomicBool = AtomicBool::new(false);

/// How short of memory the process is, now. One relaxed load: cheap enough to be asked before each insertion into a
/// cache, which had better replace something than grow from [`Pressure::Medium`] on.
///
/// Measured is what is backed against the budget less the reserve; without a budget there is no pressure, and budgets of
/// nodes do not raise it. A level that was reached ends only when what is backed has fallen three or four 64ths of that below
/// where it begins.
#[inline]
#[must_use]
pub fn pressure() -> Pressure {
    // Relaxed: a figure.
    LEVELS[usize::from(LEVEL.load(Ordering::Relaxed)) % LEVELS.len()]
}

/// The level after `level` when so many bytes of `limit` are backed.
fn step(level: u8, backed: usize, limit: usize) -> u8 {
    let part = limit / 64;
    let reached = BOUNDS
        .iter()
        .filter(|(rise, _)| backed >= part * rise)
        .count();
    let kept = BOUNDS
        .iter()
        .filter(|(_, fall)| backed >= part * fall)
        .count();
    level.clamp(reached as u8, kept as u8)
}

/// Looks again, after something has changed. `measure` gives the bytes backed and the limit.
pub(crate) fn update(measure: impl Fn() -> (usize, usize)) {
    loop {
        // Relaxed: a figure. Who reads an old one and does nothing is corrected by the next one who looks.
        let seen = LEVEL.load(Ordering::Relaxed);
        let (backed, limit) = measure();
        let next = match limit {
            usize::MAX => 0,
            limit => step(seen, backed, limit),
        };
        if next == seen {
            return;
        }
        let changed = LEVEL.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
        if changed.is_ok() {
            // Once more: somebody may have looked before us, and measured after us.
            tell();
        }
    }
}

#[cold]
fn tell() {
    // SeqCst, both: pairs with `listen`. Either the teller sees the change or we see the teller.
    CHANGES.fetch_add(1, Ordering::SeqCst);
    if TELLER.load(Ordering::SeqCst) {
        os::wake(&CHANGES);
    }
}

/// The teller is there, or is not any more. Whether it was there before.
pub(crate) fn listen(teller: bool) -> bool {
    // SeqCst: see `tell`.
    TELLER.swap(teller, Ordering::SeqCst)
}

/// A number that changes with the level. Read it before the level.
pub(crate) fn changes() -> u32 {
    // SeqCst: see `tell`; and who reads a new number sees the new level.
    CHANGES.load(Ordering::SeqCst)
}

/// Sleeps until the number is not `seen` any more; may return for no reason.
pub(crate) fn wait(seen: u32) {
    os::wait(&CHANGES, seen);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the level taken from `reached` alone: no hysteresis.
    #[test]
    fn rises_at_once_and_falls_late() {
        let mut level = 0;
        let path = [
            (0, 0),
            (4799, 0),
            (4800, 1),
            (4400, 1),
            (4399, 0),
            (5600, 2),
            (5200, 2),
            (5199, 1),
            (6400, 3),
            (5800, 3),
            (5799, 2),
            (6100, 3),
            (9000, 3),
            (4500, 1),
            (6400, 3),
            (0, 0),
        ];
        for (backed, expected) in path {
            level = step(level, backed, 6400);
            assert_eq!(level, expected, "at {backed}");
        }
        assert_eq!(step(0, 1, 0), 3, "nothing is allowed");
    }
}
