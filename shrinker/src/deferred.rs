//! Work that a walk put off: in bytes (or objects, where a cache does not know their size), per shrinker and node.
//!
//! It is capped by the arithmetic (`plan`), and decays here: half of it is forgotten every [`HALF_LIFE_NS`] in which no walk
//! came by.
//! Pressure that is long over is no reason to evict anything now; the kernel keeps such work for ever, and whoever comes
//! next pays for all of it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How long half of the work is remembered.
pub(crate) const HALF_LIFE_NS: u64 = 10_000_000_000;

/// One node's counter. Relaxed everywhere: taking all of it keeps two walks from doing the same work, and it carries
/// nothing else.
#[derive(Debug)]
pub(crate) struct Deferred {
    work: AtomicUsize,
    /// When something was last put off.
    since: AtomicU64,
}

impl Deferred {
    pub(crate) fn new() -> Self {
        Self {
            work: AtomicUsize::new(0),
            since: AtomicU64::new(0),
        }
    }

    /// Takes all of it, as far as it is remembered at `now`.
    pub(crate) fn take(&self, now: u64) -> usize {
        let since = self.since.load(Ordering::Relaxed);
        let half_lives = now.saturating_sub(since) / HALF_LIFE_NS;
        let work = self.work.swap(0, Ordering::Relaxed);
        let shift = u32::try_from(half_lives).unwrap_or(u32::MAX);
        work.checked_shr(shift).unwrap_or(0)
    }

    /// Adds to what others put off meanwhile.
    pub(crate) fn put_off(&self, work: usize, now: u64) {
        if work > 0 {
            // Two that add up to too much wrap around: harmless, and the cap of the arithmetic keeps it from happening.
            self.work.fetch_add(work, Ordering::Relaxed);
            self.since.store(now, Ordering::Relaxed);
        }
    }

    /// How much there is, decay not counted.
    pub(crate) fn get(&self) -> usize {
        self.work.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail without the shift.
    #[test]
    fn half_of_it_is_forgotten_every_half_life() {
        let deferred = Deferred::new();
        for (later, left) in [(0, 1000), (1, 500), (3, 125), (10, 0), (1 << 40, 0)] {
            deferred.put_off(1000, 5);
            let now = HALF_LIFE_NS.saturating_mul(later).saturating_add(6);
            assert_eq!(deferred.take(now), left, "{later} half-lives");
            assert_eq!(deferred.get(), 0, "all of it is taken");
        }
    }

    /// Nothing is lost between those who put off and those who take at the same time. Seen to fail with a load and a
    /// store for the `swap`.
    #[test]
    fn sixteen_threads_conserve_the_sum() {
        let (deferred, taken) = (Deferred::new(), AtomicUsize::new(0));
        let (start, busy) = (std::sync::Barrier::new(16), AtomicUsize::new(8));
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (deferred, taken, start, busy) = (&deferred, &taken, &start, &busy);
                scope.spawn(move || {
                    start.wait();
                    if thread % 2 == 0 {
                        (0..50_000).for_each(|_| deferred.put_off(1, 7));
                        busy.fetch_sub(1, Ordering::Relaxed);
                    }
                    while thread % 2 == 1 && busy.load(Ordering::Relaxed) > 0 {
                        taken.fetch_add(deferred.take(8), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner() + deferred.get(), 8 * 50_000);
    }
}
