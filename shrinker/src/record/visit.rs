//! A visit: the cache's callbacks are called, and what came of it is booked. First it is asked how much there is; for most of
//! those that a walk meets that is all, and their way is kept short.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::Record;
use crate::callee::Callee;
use crate::plan::Pressure;
use crate::pressure::{self, Outcome};
use crate::shrink::{Count, Lane, ShrinkControl};
use crate::walk::Walk;

/// A record whose cache is being called for one node.
pub(crate) struct Call<'a> {
    record: &'a Record,
    walk: &'a Walk,
    node: u32,
    began: u64,
    callee: Callee<'a>,
}

impl<'a> Call<'a> {
    /// A visit that begins now, at `began`.
    ///
    /// # Safety
    /// The caller holds a reference that is busy, as long as it uses this.
    pub(crate) unsafe fn new(
        record: &'a Record,
        walk: &'a Walk,
        node: u32,
        began: u64,
    ) -> Option<Self> {
        // SAFETY: the caller's reference is busy, so the box is not taken out: only shared borrows exist.
        let cache = unsafe { &*record.cache.get() }.as_deref()?;
        let deadline = match walk.lane {
            Lane::Sync => record.settings.deadline,
            Lane::Async => u64::MAX,
        };
        Some(Self {
            record,
            walk,
            node,
            began,
            callee: Callee::new(cache, &record.times, deadline, began),
        })
    }

    /// Asks how much there is; nothing if the cache panicked.
    pub(crate) fn count(&self) -> Option<Count> {
        let question = ShrinkControl::new(self.node, self.walk.priority, 0)
            .with_goal(self.walk.goal)
            .with_deadline(self.callee.until());
        self.callee.count(&question)
    }

    /// Whether that answer is the end of it: there is nothing, and the cache said so in time.
    pub(crate) fn is_idle(&self, counted: Option<Count>) -> bool {
        counted == Some(Count::Empty) && !self.callee.overran() && !self.walk.exhaustive
    }

    /// The callbacks have returned. When that was.
    pub(crate) fn end(&self) -> u64 {
        self.record.holder.returned();
        // Relaxed: a figure, and the busy mark keeps other writers out.
        let calls = self.record.calls.load(Ordering::Relaxed) + 1;
        self.record.calls.store(calls, Ordering::Relaxed);
        self.callee.now()
    }

    /// Has the cache scan, until `until`, as it `counted`, with a `pause` now and then (`pressure`). A panic of the cache ends its
    /// service. What came of it, and when the last callback returned.
    pub(crate) fn scan(
        &self,
        counted: Option<Count>,
        until: u64,
        pause: &mut dyn FnMut(&Outcome) -> ControlFlow<()>,
    ) -> (Outcome, u64) {
        let job = Pressure {
            seeks: self.record.settings.seeks,
            batch: self.record.settings.batch,
            node: self.node,
            priority: self.walk.priority,
            exhaustive: self.walk.exhaustive,
            objects: self.walk.objects,
            goal: self.walk.goal,
            until,
        };
        let mut outcome = Outcome::default();
        if let Some(found) = outcome.found(counted) {
            let deferred = self.record.deferred.at(self.node);
            pressure::scan(&self.callee, &job, found, deferred, &mut outcome, pause);
        }
        let now = self.end();
        if self.walk.exhaustive && outcome.is_vain() {
            // Relaxed: see `is_pending`.
            let vain = self.record.vain.at(self.node);
            vain.store(self.began, Ordering::Relaxed);
        }
        outcome.overran = self.callee.overran();
        outcome.moved = self.walk.lane == Lane::Sync && self.record.late_again(&outcome, now);
        self.record.book(&outcome, self.callee.panicked());
        (outcome, now)
    }
}

impl Record {
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
