//! A visit: the cache's callbacks are called, and what came of it is booked.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::Record;
use crate::callee::Callee;
use crate::plan::Pressure;
use crate::pressure::{self, Outcome};
use crate::shrink::Lane;
use crate::walk::Walk;

impl Record {
    /// Calls the cache from `now` until `until`: count, then scans, with a `pause` now and then (`pressure`). A panic of the
    /// cache ends its service. When the last callback returned is left in `now`. The outcome is none where it had
    /// nothing and said so in time: most of those that a walk meets, whose way is kept short.
    ///
    /// # Safety
    /// The caller holds a reference that is busy.
    pub(crate) unsafe fn call(
        &self,
        now: &mut u64,
        walk: &Walk,
        node: u32,
        until: u64,
        pause: &mut dyn FnMut(&Outcome) -> ControlFlow<()>,
    ) -> Option<Outcome> {
        // SAFETY: the caller's reference keeps the count above zero, so the box is not taken out: only shared
        // borrows exist.
        let cache = unsafe { &*self.cache.get() }.as_ref()?;
        let began = *now;
        let job = Pressure {
            seeks: self.settings.seeks,
            batch: self.settings.batch,
            node,
            priority: walk.priority,
            exhaustive: walk.exhaustive,
            objects: walk.objects,
            goal: walk.goal,
            until,
            deadline: match walk.lane {
                Lane::Sync => self.settings.deadline,
                Lane::Async => u64::MAX,
            },
        };
        let callee = Callee::new(&**cache, &self.times, job.deadline, began);
        let mut outcome = Outcome::default();
        let found = pressure::count(&callee, &job, &mut outcome);
        if let Some(found) = found {
            let deferred = self.deferred.at(node);
            pressure::scan(&callee, &job, found, deferred, &mut outcome, pause);
        }
        self.holder.returned();
        *now = callee.now();
        // Relaxed: a figure, and the busy mark keeps other writers out.
        let calls = self.calls.load(Ordering::Relaxed) + 1;
        self.calls.store(calls, Ordering::Relaxed);
        let idle = found.is_none() && !outcome.stopped && !callee.failed();
        if idle && !walk.exhaustive {
            return None;
        }
        if walk.exhaustive && outcome.is_vain() {
            // Relaxed: see `is_pending`.
            self.vain.at(node).store(began, Ordering::Relaxed);
        }
        outcome.overran = callee.overran();
        outcome.moved = walk.lane == Lane::Sync && self.late_again(&outcome, *now);
        self.book(&outcome, callee.panicked());
        Some(outcome)
    }

    /// Books what came of a visit.
    fn book(&self, outcome: &Outcome, panicked: bool) {
        if outcome.calls > 0 || outcome.overran {
            self.counters.scanned(outcome);
        }
        if panicked {
            // Relaxed: see `in_service`.
            self.quarantined.store(true, Ordering::Relaxed);
            self.counters.panicked();
        }
    }

    /// Books whether a visit in the sync lane, which ended `now`, overran its deadline. True if that moves it to the other
    /// lane, now.
    fn late_again(&self, outcome: &Outcome, now: u64) -> bool {
        let too_many = self.lateness.after(outcome.overran, outcome.calls > 0, now);
        // Relaxed: the busy mark keeps other threads out.
        too_many && !self.asynchronous.swap(true, Ordering::Relaxed)
    }
}
