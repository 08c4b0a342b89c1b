//! Looking at the list without walking it: a copy of each shrinker's settings and counters.

use crate::epoch::assert_outside;
use crate::list::ShrinkerList;
use crate::stats::ShrinkerStats;

/// How many snapshots are taken under the lock at a time.
const SNAPSHOTS: usize = 8;

impl ShrinkerList {
    /// Calls `f` with a snapshot of each registered shrinker, oldest first; of one that is being unregistered, as long as a
    /// walk is still inside. Allocates nothing; `f` runs outside guards
    /// and locks and holds up nobody: it may even unregister the shrinker it is shown. Works on any thread.
    ///
    /// # Panics
    /// Those of `f`.
    pub fn for_each(&self, f: &mut dyn FnMut(&ShrinkerStats)) {
        let Some(chain) = self.chain() else { return };
        let (mut shown, last) = (0, chain.last_id());
        loop {
            let mut snapshots = [None; SNAPSHOTS];
            let mut room = snapshots.iter_mut();
            let more = chain.lock().with(|| {
                chain.find(|record| {
                    let wanted = record.id() > shown && record.state.is_in_use();
                    wanted
                        && room
                            .next()
                            .map(|slot| *slot = Some(record.stats()))
                            .is_none()
                })
            });
            for stats in snapshots.iter().flatten().filter(|stats| stats.id <= last) {
                assert_outside();
                shown = stats.id;
                f(stats);
            }
            if more.is_none() || shown >= last {
                return;
            }
        }
    }
}
