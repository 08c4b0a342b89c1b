//! The tide of a node: how much memory the program gives back and takes again within a second.
//!
//! What is given back costs a page fault per page when it is wanted again. A program that empties and fills again, time and
//! again, had better keep what it will want: as much as it was seen to want again, and only as long as it does.
//!
//! 1. Who gives memory back because more is kept than may be says so ([`Tide::ebb`]).
//! 2. Who has memory backed anew says so ([`Tide::flow`]). As far as so much was given back lately, the tide rises: by
//!    half of it, since once is no habit.
//! 3. As much as the tide's height may be kept beside what may be in any case ([`Tide::height`]): what came back is what was
//!    lacking there. What is kept is not given back, so it rises no further.
//! 4. With every second the height halves, and so does what is remembered of step 1. A program that still swings shows it
//!    by taking again what it then lacks.
//!
//! Who frees all and goes on with little never takes it again, and keeps no more than ever.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::os;

/// After so many nanoseconds half is forgotten.
const HALF_LIFE: u64 = 1_000_000_000;

// Relaxed, everywhere in this file: figures for a limit, of which some may be lost when threads are at it at once.

/// The tide of one node.
pub(crate) struct Tide {
    /// Bytes given back lately and not taken again since.
    out: AtomicUsize,
    height: AtomicUsize,
    /// Until when, on the system's clock, all that is older was halved.
    halved: AtomicU64,
}

impl Tide {
    pub(crate) const fn new() -> Self {
        Self {
            out: AtomicUsize::new(0),
            height: AtomicUsize::new(0),
            halved: AtomicU64::new(0),
        }
    }

    /// So many bytes were given back although the program may want them again.
    pub(crate) fn ebb(&self, bytes: usize) {
        if bytes > 0 {
            self.forget(os::now_ns());
            self.out.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// So many bytes are to be backed anew. One load if nothing was given back lately.
    pub(crate) fn flow(&self, bytes: usize) {
        if self.out.load(Ordering::Relaxed) > 0 {
            self.forget(os::now_ns());
            self.rise(bytes);
        }
    }

    /// Bytes that the program wanted again soon after they were given back. One load if there are none.
    pub(crate) fn height(&self) -> usize {
        if self.height.load(Ordering::Relaxed) > 0 {
            self.forget(os::now_ns());
        }
        self.height.load(Ordering::Relaxed)
    }

    fn rise(&self, bytes: usize) {
        let out = self.out.load(Ordering::Relaxed);
        let again = bytes.min(out);
        self.out.store(out - again, Ordering::Relaxed);
        self.height.fetch_add(again / 2, Ordering::Relaxed);
    }

    /// Halves everything for each half-life that has passed.
    fn forget(&self, now: u64) {
        let halved = self.halved.load(Ordering::Relaxed);
        let times = now.saturating_sub(halved) / HALF_LIFE;
        if times == 0 {
            return;
        }
        self.halved.store(now, Ordering::Relaxed);
        for figure in [&self.out, &self.height] {
            let left = figure.load(Ordering::Relaxed);
            let left = u32::try_from(times).map_or(0, |times| left.checked_shr(times).unwrap_or(0));
            figure.store(left, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(tide: &Tide) -> (usize, usize) {
        (
            tide.out.load(Ordering::Relaxed),
            tide.height.load(Ordering::Relaxed),
        )
    }

    #[test]
    fn it_rises_by_what_comes_back() {
        let tide = Tide::new();
        tide.out.store(100, Ordering::Relaxed);
        tide.rise(30);
        tide.rise(90);
        tide.rise(1);
        assert_eq!(figures(&tide), (0, 15 + 35));
        tide.flow(5);
        assert_eq!(figures(&tide), (0, 50), "nothing is out");
    }

    #[test]
    fn half_is_forgotten_each_second() {
        let tide = Tide::new();
        tide.forget(7 * HALF_LIFE);
        tide.out.store(80, Ordering::Relaxed);
        tide.height.store(800, Ordering::Relaxed);
        tide.forget(8 * HALF_LIFE - 1);
        assert_eq!(figures(&tide), (80, 800));
        tide.forget(8 * HALF_LIFE);
        assert_eq!(figures(&tide), (40, 400));
        tide.forget(10 * HALF_LIFE);
        assert_eq!(figures(&tide), (10, 100));
        tide.forget(100 * HALF_LIFE);
        assert_eq!(figures(&tide), (0, 0));
        tide.forget(u64::MAX);
    }
}
