//! How much a cache is asked for: the arithmetic of the kernel's `do_shrink_slab`, in bytes or in objects. `pressure` says what
//! it is and why it differs.

use crate::shrink::ShrinkControl;

/// No job makes more scan calls than this; what is left over is deferred.
pub(crate) const MAX_CALLS: usize = 1 << 18;

/// No batch is larger in bytes, where a cache knows them, than this or one object.
pub(crate) const BATCH_BYTES: usize = 256 << 10;

/// What is wanted of one cache: what does not change from call to call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pressure {
    pub(crate) seeks: u32,
    pub(crate) batch: usize,
    pub(crate) node: u32,
    pub(crate) priority: u8,
    pub(crate) exhaustive: bool,
    /// What was put off before is left to others.
    pub(crate) own_share: bool,
    /// So many objects, whatever the rest says; 0 for what it says.
    pub(crate) objects: usize,
    /// Bytes after which to pause; 0 for never.
    pub(crate) goal: usize,
    /// When to stop, on the clock of `now_ns`.
    pub(crate) until: u64,
}

impl Pressure {
    /// The question to the cache, to be answered by `until`.
    pub(crate) fn question(&self, to_scan: usize, until: u64) -> ShrinkControl {
        ShrinkControl::new(self.node, self.priority, to_scan)
            .with_goal(self.goal)
            .with_deadline(until)
    }
}

/// A value shifted by a priority; no priority is too large.
fn eased(value: usize, priority: u8) -> usize {
    value.checked_shr(u32::from(priority)).unwrap_or(0)
}

/// How much this walk adds to the work.
pub(crate) fn delta(freeable: usize, priority: u8, seeks: u32) -> usize {
    match seeks {
        0 => freeable / 2,
        _ => eased(freeable, priority).saturating_mul(4) / seeks as usize,
    }
}

/// The plan of one job on one cache. Work is in bytes, or in objects: then `each` is 1.
#[derive(Debug)]
pub(crate) struct Plan {
    freeable: usize,
    each: usize,
    /// Old deferred work and this walk's share, before easing and capping.
    due: usize,
    pub(crate) left: usize,
    done: usize,
    /// In objects.
    batch: usize,
    pub(crate) calls_left: usize,
    /// Down to the last object, not only in whole batches.
    whole: bool,
}

impl Plan {
    pub(crate) fn new(job: &Pressure, objects: usize, bytes_each: usize, deferred: usize) -> Self {
        let each = bytes_each.max(1);
        let freeable = objects.saturating_mul(each);
        let delta = delta(freeable, job.priority, job.seeks);
        let most = freeable.saturating_mul(2);
        let fitting = match (bytes_each, job.goal) {
            (0, _) => usize::MAX,
            (each, 0) => BATCH_BYTES / each,
            (each, goal) => BATCH_BYTES.min(goal).div_ceil(each),
        };
        let batch = job.batch.min(fitting).max(1);
        let fine = bytes_each > 0 || job.own_share;
        let remainder = fine && deferred < batch.saturating_mul(each);
        let carried = match (remainder, job.own_share) {
            (true, _) => deferred,
            (false, true) => 0,
            (false, false) => eased(deferred, job.priority),
        };
        let left = match (job.objects, job.exhaustive) {
            (0, true) => most,
            (0, false) => carried.saturating_add(delta).min(most),
            (objects, _) => objects.saturating_mul(each).min(most),
        };
        // A cache too large for its batch is asked for more at once, not more often.
        let fewest = (left / each).div_ceil(MAX_CALLS / 2);
        let batch = batch.max(fewest);
        Self {
            freeable,
            each,
            due: match job.objects {
                0 => deferred.saturating_add(delta),
                // Nobody asked for more; what was put off before still is.
                _ => deferred,
            },
            left,
            done: 0,
            batch,
            // An honest cache needs half of it; one that looks at fewer than asked gets as many again.
            calls_left: (left / each / batch)
                .saturating_add(1)
                .saturating_mul(2)
                .min(MAX_CALLS),
            whole: job.exhaustive || job.objects > 0,
        }
    }

    /// How many objects to ask for next, if any.
    pub(crate) fn next(&self) -> Option<usize> {
        let batch = self.batch.saturating_mul(self.each);
        let wanted = match self.whole {
            true => self.left > 0,
            false => self.left >= batch || self.left >= self.freeable,
        };
        let objects = (self.left / self.each).max(1);
        (wanted && self.calls_left > 0).then_some(self.batch.min(objects))
    }

    /// Books one call that looked at `scanned` objects.
    pub(crate) fn book(&mut self, scanned: usize) {
        let work = scanned.saturating_mul(self.each);
        self.calls_left -= 1;
        self.left = self.left.saturating_sub(work);
        self.done = self.done.saturating_add(work);
    }

    /// What is put off to a later walk.
    pub(crate) fn leftover(&self) -> usize {
        let most = self.freeable.saturating_mul(2);
        self.due.saturating_sub(self.done).min(most)
    }
}
