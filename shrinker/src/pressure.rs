//! How much to scan: the arithmetic of the kernel's `do_shrink_slab`, and the loop of batches.
//!
//! ```text
//!   delta    = (freeable >> priority) * 4 / seeks          seeks 0: freeable / 2
//!   total    = min((deferred >> priority) + delta, 2 * freeable)
//!   loop     while total >= batch or total >= freeable: scan min(batch, total); total -= scanned
//!   deferred = clamp(deferred + delta - scanned, 0, 2 * freeable), added to what others deferred meanwhile
//! ```
//!
//! Two things differ from the kernel, both on purpose. An *exhaustive* job scans everything twice over (a first pass
//! may only clear "recently used" marks) down to the last object, whatever the seeks: without it a cache of 50 objects
//! with seeks 8 is never scanned at all. And no callback can make the loop endless: a scan that says it looked at
//! nothing ends it, and the number of calls is capped: a cache so large that its batch would need more is asked for
//! larger batches.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::shrink::{Count, Scan, Shrink, ShrinkControl};

/// No job makes more scan calls than this; what is left over is deferred.
const MAX_CALLS: usize = 1 << 18;

/// What does not change from call to call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pressure {
    pub(crate) seeks: u32,
    pub(crate) batch: usize,
    pub(crate) node: u32,
    pub(crate) priority: u8,
    pub(crate) exhaustive: bool,
}

/// What came of it. Filled as the loop goes, so that a panic loses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) calls: usize,
    pub(crate) scanned: usize,
    pub(crate) objects: usize,
    pub(crate) bytes: usize,
    pub(crate) stopped: bool,
    /// The callback's figures could not be true, or it used up its calls.
    pub(crate) misreported: bool,
}

/// A value shifted by a priority; no priority is too large.
fn eased(value: usize, priority: u8) -> usize {
    value.checked_shr(u32::from(priority)).unwrap_or(0)
}

/// How many objects this walk adds to the work.
fn delta(freeable: usize, priority: u8, seeks: u32) -> usize {
    match seeks {
        0 => freeable / 2,
        _ => eased(freeable, priority).saturating_mul(4) / seeks as usize,
    }
}

/// The plan of one job on one cache.
#[derive(Debug)]
struct Plan {
    freeable: usize,
    /// Old deferred work and this walk's share, before easing and capping.
    due: usize,
    left: usize,
    scanned: usize,
    batch: usize,
    calls_left: usize,
    exhaustive: bool,
}

impl Plan {
    fn new(job: &Pressure, freeable: usize, deferred: usize) -> Self {
        let delta = delta(freeable, job.priority, job.seeks);
        let most = freeable.saturating_mul(2);
        let left = match job.exhaustive {
            true => most,
            false => eased(deferred, job.priority)
                .saturating_add(delta)
                .min(most),
        };
        // A cache too large for its batch is asked for more at once, not more often.
        let batch = job.batch.max(left.div_ceil(MAX_CALLS / 2)).max(1);
        Self {
            freeable,
            due: deferred.saturating_add(delta),
            left,
            scanned: 0,
            batch,
            // An honest cache needs half of it; one that looks at fewer than asked gets as many again.
            calls_left: (left / batch)
                .saturating_add(1)
                .saturating_mul(2)
                .min(MAX_CALLS),
            exhaustive: job.exhaustive,
        }
    }

    /// How many objects to ask for next, if any.
    fn next(&self) -> Option<usize> {
        let wanted = match self.exhaustive {
            true => self.left > 0,
            false => self.left >= self.batch || self.left >= self.freeable,
        };
        (wanted && self.calls_left > 0).then_some(self.batch.min(self.left))
    }

    /// Books one call that looked at `scanned` objects.
    fn book(&mut self, scanned: usize) {
        self.calls_left -= 1;
        self.left = self.left.saturating_sub(scanned);
        self.scanned = self.scanned.saturating_add(scanned);
    }

    /// What is put off to a later walk.
    fn leftover(&self) -> usize {
        let most = self.freeable.saturating_mul(2);
        self.due.saturating_sub(self.scanned).min(most)
    }
}

/// Counts, and scans as much as `job` asks for. `deferred` is the node's counter of put-off work.
pub(crate) fn shrink(
    cache: &dyn Shrink,
    job: &Pressure,
    deferred: &AtomicUsize,
    outcome: &mut Outcome,
) {
    let question = ShrinkControl::new(job.node, job.priority, 0);
    // Empty and Unknown leave the deferred work alone: it is still there to be done.
    let Count::Objects(freeable) = cache.count(&question) else {
        return;
    };
    // Relaxed, here and below: a counter; taking all of it keeps two walks from doing the same work.
    let put_off = deferred.swap(0, Ordering::Relaxed);
    let mut plan = Plan::new(job, freeable.get(), put_off);
    while let Some(to_scan) = plan.next() {
        let mut ctl = ShrinkControl::new(job.node, job.priority, to_scan);
        outcome.calls += 1;
        let Scan::Freed { objects, bytes } = cache.scan(&mut ctl) else {
            outcome.stopped = true;
            break;
        };
        let scanned = outcome.credit(&ctl, objects, bytes);
        plan.book(scanned);
        if scanned == 0 {
            break;
        }
    }
    outcome.misreported |= plan.calls_left == 0;
    deferred.fetch_add(plan.leftover(), Ordering::Relaxed);
}

impl Outcome {
    /// Adds what one call freed; returns how many objects it is charged for.
    fn credit(&mut self, ctl: &ShrinkControl, objects: usize, bytes: usize) -> usize {
        let (asked, said) = (ctl.to_scan(), ctl.scanned());
        self.misreported |= said == 0 || said > asked || objects > asked;
        // Nobody frees what he has not looked at, nor looks at more than he is asked for without being charged for it.
        let charged = said.max(objects.min(asked));
        self.scanned = self.scanned.saturating_add(charged);
        self.objects = self.objects.saturating_add(objects);
        self.bytes = self.bytes.saturating_add(bytes);
        charged
    }
}

#[cfg(test)]
#[path = "pressure_tests.rs"]
mod tests;
