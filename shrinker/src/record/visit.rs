//! A visit: the cache's callbacks are called, and what came of it is booked. First it is asked how much there is; for most of
//! those that a walk meets that is all, and their way is kept short.

use std::mem;
use std::sync::atomic::Ordering;

use super::Record;
use crate::callee::Callee;
use crate::plan::Pressure;
use crate::pressure::{Job, Outcome, Rest};
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

    /// The callbacks have returned, and were asked for no scan. When that was.
    pub(crate) fn end(&self) -> u64 {
        self.count_call();
        self.record.holder.returned();
        self.callee.now()
    }

    fn count_call(&self) {
        // Relaxed: a figure, and the busy mark keeps other writers out.
        let calls = self.record.calls.load(Ordering::Relaxed) + 1;
        self.record.calls.store(calls, Ordering::Relaxed);
    }

    /// What there is to be done until `until`, as the cache `counted`.
    pub(crate) fn work(&self, counted: Option<Count>, until: u64) -> Work<'a> {
        self.count_call();
        let pressure = Pressure {
            seeks: self.record.seeks(),
            batch: self.record.settings.batch,
            node: self.node,
            priority: self.walk.priority,
            exhaustive: self.walk.exhaustive,
            own_share: self.walk.own_share,
            objects: self.walk.objects,
            goal: self.walk.goal,
            until,
        };
        let mut outcome = Outcome::default();
        let found = outcome.found(counted);
        let deferred = self.record.deferred.at(self.node);
        Work {
            job: found.map(|found| Job::new(pressure, found, deferred, self.callee.now())),
            outcome,
            strikes: self.record.lateness.strikes(),
            late: false,
            misreported: false,
            paused: false,
        }
    }

    /// Has the cache scan, to the next pause or the end. A panic of the cache ends its service. What came of it since the last
    /// pause, and when the last callback returned.
    pub(crate) fn scan(&self, work: &mut Work<'a>) -> (Outcome, Rest, u64) {
        let mut outcome = mem::take(&mut work.outcome);
        let scan = |job: &mut Job<'_>| job.scan(&self.callee, &mut outcome);
        let rest = work.job.as_mut().map_or(Rest::End, scan);
        self.record.holder.returned();
        // Both once a visit, like the strike.
        outcome.overran = self.callee.overran() && !work.late;
        outcome.misreported &= !work.misreported;
        work.misreported |= outcome.misreported;
        let now = self.callee.now();
        if self.walk.exhaustive && !work.paused && outcome.is_vain() {
            // Relaxed: see `is_pending`.
            let vain = self.record.vain.at(self.node);
            vain.store(self.began, Ordering::Relaxed);
        }
        work.paused |= rest == Rest::Pause;
        outcome.moved = self.walk.lane == Lane::Sync && self.record.late_again(work, &outcome, now);
        self.record.book(&outcome, self.callee.panicked());
        (outcome, rest, now)
    }
}

/// What a visit is to do, and what is known of it from one pause to the next.
pub(crate) struct Work<'a> {
    /// None when the cache has nothing, or cannot say.
    job: Option<Job<'a>>,
    /// What came of it since the last pause.
    outcome: Outcome,
    /// Late visits of the shrinker before this one.
    strikes: u32,
    /// Whether this visit is one.
    late: bool,
    /// Whether it was booked as misreported.
    misreported: bool,
    paused: bool,
}

impl Work<'_> {
    /// Nobody goes on with it: what is not done is left to a later walk.
    pub(crate) fn put_off(self, now: u64) {
        if let Some(mut job) = self.job {
            job.put_off(now);
        }
    }
}

impl Record {
    /// Books what came of a visit, since its last pause.
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

    /// Books whether a visit in the sync lane, which pauses or ends `now`, overran its deadline; once a visit. True if that moves
    /// it to the other lane, now.
    fn late_again(&self, work: &mut Work<'_>, outcome: &Outcome, now: u64) -> bool {
        if work.late {
            return false;
        }
        work.late = outcome.overran;
        let too_many = self
            .lateness
            .after(work.strikes, work.late, outcome.calls > 0, now);
        // Relaxed: the busy mark keeps other threads out.
        too_many && !self.asynchronous.swap(true, Ordering::Relaxed)
    }
}
