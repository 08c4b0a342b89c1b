//! Dropping all caches: the kernel's `drop_slab`, behind `echo 2 > /proc/sys/vm/drop_caches`.
//!
//! ```text
//!   shift = 0
//!   do     freed = objects that all shrinkers free of all nodes, asked for everything
//!   while  (freed >> shift++) > 1
//! ```
//!
//! One round is not enough: what one cache frees another may have kept in use until then, and a cache may answer the first
//! time that it cannot. Nor can it go on until nothing more comes: a shrinker whose cache is filled again as fast as it is emptied,
//! or that claims to have freed what it has not, would keep it up for ever. So a round has to free twice as much as the one
//! before had to, to be followed by another: as many rounds as the figure that such a shrinker claims has binary
//! digits, or one; 64 at most.
//!
//! What differs from the kernel:
//!
//! - Asked for everything is a cache down to its last object and twice over, whatever its seeks ([`Walk::exhaustive`]); there it
//!   is priority 0, with which one of few objects and many seeks is never scanned.
//! - A visitor may end it, and a limit: there a fatal signal does.
//! - Here a shrinker that another thread is in is passed over, and the report says whether any was in the last round.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::list::ShrinkerList;
use crate::shrink::Lane;
use crate::sync::now_ns;
use crate::walk::{Visit, Walk, WalkReport};

impl ShrinkerList {
    /// Asks all shrinkers of both lanes for everything, again and again, until a round frees next to nothing; what that is grows
    /// from round to round, so that no shrinker can make it endless. Of `walk` the nodes, the limit, which is that of all rounds
    /// together, the goal, the value and the classes count. `visit` is as in [`walk`](Self::walk).
    ///
    /// The callbacks of both lanes run here and now, as in [`scan`](Self::scan): the caller holds no lock that they want. Nothing is
    /// called where [`walk`](Self::walk) calls nothing.
    ///
    /// The report is that of all rounds; what could not be asked ([`skipped_busy`](WalkReport::skipped_busy),
    /// [`pending`](WalkReport::pending), [`stopped`](WalkReport::stopped)), that of the last one.
    ///
    /// # Panics
    /// Those of `visit`, which end it. A callback's panic is caught.
    pub fn drop_caches(
        &self,
        walk: &Walk,
        visit: &mut dyn FnMut(&Visit) -> ControlFlow<()>,
    ) -> WalkReport {
        let until = walk.until(now_ns());
        let left = || Duration::from_nanos(until.saturating_sub(now_ns()));
        let mut report = WalkReport::default();
        drop_rounds(&mut || {
            let mut freed = 0_usize;
            report.begin_round();
            for lane in [Lane::Sync, Lane::Async] {
                let all = Walk {
                    priority: 0,
                    exhaustive: true,
                    objects: 0,
                    own_share: false,
                    limit: walk.limit.map(|_| left()),
                    lane,
                    ..*walk
                };
                let one = self.walk(&all, visit);
                freed = freed.saturating_add(one.objects);
                report.append(&one);
                if one.satisfied || one.timed_out {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(freed)
        });
        report
    }
}

/// The rule alone, for one whose rounds are more than walks: `round` asks all shrinkers for everything and says how many objects
/// they freed, or that it is over.
pub fn drop_rounds(round: &mut dyn FnMut() -> ControlFlow<(), usize>) {
    for shift in 0..usize::BITS {
        match round() {
            ControlFlow::Continue(freed) if freed >> shift > 1 => {}
            _ => return,
        }
    }
}

impl WalkReport {
    /// What could not be asked before may be asked now.
    fn begin_round(&mut self) {
        (self.skipped_busy, self.pending, self.stopped) = (0, 0, 0);
    }

    /// Adds what came of one more walk.
    fn append(&mut self, one: &Self) {
        self.visited += one.visited;
        self.skipped_busy += one.skipped_busy;
        self.pending += one.pending;
        self.stopped += one.stopped;
        self.objects = self.objects.saturating_add(one.objects);
        self.bytes = self.bytes.saturating_add(one.bytes);
        self.scanned = self.scanned.saturating_add(one.scanned);
        self.satisfied |= one.satisfied;
        self.timed_out |= one.timed_out;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many rounds there are, of which the first free so much, and all others as much as the last one.
    fn rounds(freed: &[usize]) -> usize {
        let mut rounds = 0;
        drop_rounds(&mut || {
            let round = rounds.min(freed.len() - 1);
            rounds += 1;
            ControlFlow::Continue(freed[round])
        });
        rounds
    }

    /// What the kernel's loop, copied into a program, answers. Seen to fail with 0 for 1 in the comparison, and (64 rounds)
    /// without the shift.
    #[test]
    fn there_are_as_many_rounds_as_in_the_kernel() {
        let golden = [
            (0, 1),
            (1, 1),
            (2, 2),
            (3, 2),
            (4, 3),
            (7, 3),
            (8, 4),
            (100, 7),
            (1000, 10),
            (4096, 13),
            (1_000_000, 20),
            (1 << 32, 33),
            (1 << 63, 64),
            (usize::MAX, 64),
        ];
        for (freed, expected) in golden {
            assert_eq!(rounds(&[freed]), expected, "{freed} each time");
        }
        assert_eq!(rounds(&[1000, 400, 3, 0]), 3);
        assert_eq!(rounds(&[2, 3, 0]), 2);
        assert_eq!(rounds(&[5, 4, 8, 15, 0]), 4);
        assert_eq!(rounds(&[1, 1000]), 1);
    }

    /// Seen to fail with one round whatever it freed.
    #[test]
    fn a_round_may_end_it() {
        let mut rounds = 0;
        drop_rounds(&mut || {
            rounds += 1;
            match rounds {
                3 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(usize::MAX),
            }
        });
        assert_eq!(rounds, 3);
    }
}
