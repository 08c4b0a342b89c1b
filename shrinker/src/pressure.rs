//! How much to scan: the arithmetic of the kernel's `do_shrink_slab` (`plan`), and the loop of batches.
//!
//! ```text
//!   delta    = (freeable >> priority) * 4 / seeks          seeks 0: freeable / 2
//!   total    = min((deferred >> priority) + delta, 2 * freeable)
//!   loop     while total >= batch or total >= freeable: scan min(batch, total); total -= scanned
//!   deferred = clamp(deferred + delta - scanned, 0, 2 * freeable), added to what others deferred meanwhile
//! ```
//!
//! All of it in *bytes* where the cache says how large its objects are, in objects where it does not: then it is the
//! kernel's arithmetic to the last digit (the golden vectors). Every cache is asked for the same part of what it holds,
//! so pressure is proportional across caches; and as a batch is at most 256 KiB, a cache of few large objects is
//! asked as early as one of many small ones.
//!
//! What differs from the kernel, all on purpose:
//!
//! - An *exhaustive* job scans everything twice over (a first pass may only clear "recently used" marks) down to the
//!   last object, whatever the seeks: without it a cache of 50 objects with seeks 8 is never scanned at all.
//! - No callback can make the loop endless: a scan that says it looked at nothing ends it, the number of calls is
//!   capped, and so is the time: a cache so large that its batch would need more calls is asked for larger batches.
//! - Who asks may be satisfied halfway: with a *goal* the loop pauses whenever that many bytes were freed, so that the
//!   request can be tried again. The pauses double, so at most twice what was needed is freed. The rest of the
//!   work is then forgotten, not deferred: nobody needs it.
//! - Deferred work decays (`deferred`), and where a reclaim thread is at work who is short of memory leaves it to that: a walk
//!   may be told to do its own share alone.
//! - Where bytes are known, less than a batch that was left over is not eased by the priority: it is no work put off but
//!   a remainder of the division, and adds up until a large object is due.

use crate::callee::Callee;
use crate::deferred::Deferred;
use crate::plan::{Plan, Pressure};
use crate::shrink::{Count, Scan, ShrinkControl};

/// With a goal, a cache that does not know its bytes pauses after so many scan calls.
const CALLS_BETWEEN_PAUSES: usize = 64;

/// What came of it, from one pause to the next. Filled as the loop goes, so that a panic loses nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) calls: usize,
    pub(crate) scanned: usize,
    pub(crate) objects: usize,
    pub(crate) bytes: usize,
    /// It cannot do anything, or say what there is, now.
    pub(crate) stopped: bool,
    /// The callback's figures could not be true, or it used up its calls.
    pub(crate) misreported: bool,
    /// The time was up before the work was done.
    pub(crate) timed_out: bool,
    /// A callback took longer than its deadline.
    pub(crate) overran: bool,
    /// That was once too often: it runs in the async lane from now on.
    pub(crate) moved: bool,
}

/// One job on one cache: the loop of batches, which rests in each pause until somebody goes on with it.
pub(crate) struct Job<'a> {
    pressure: Pressure,
    bytes_each: usize,
    plan: Plan,
    /// The node's put-off work.
    deferred: &'a Deferred,
    /// Bytes until the next pause; 0 for no pauses.
    step: usize,
}

/// What the loop has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// There is more to do, but the request may be satisfied by now.
    Pause,
    /// It is done, or cannot go on.
    End,
}

impl<'a> Job<'a> {
    /// A job that begins `now`, on so many objects, each of so many bytes.
    pub(crate) fn new(
        pressure: Pressure,
        (objects, bytes_each): (usize, usize),
        deferred: &'a Deferred,
        now: u64,
    ) -> Self {
        let put_off = deferred.take(now);
        Self {
            bytes_each,
            plan: Plan::new(&pressure, objects, bytes_each, put_off),
            deferred,
            step: pressure.goal,
            pressure,
        }
    }

    /// Scans on, to the next pause or the end. What came of it since the last pause is added to `outcome`.
    pub(crate) fn scan(&mut self, cache: &Callee<'_>, outcome: &mut Outcome) -> Rest {
        while let Some(to_scan) = self.plan.next() {
            if cache.now() >= self.pressure.until {
                outcome.timed_out = true;
                break;
            }
            let mut ctl = self.pressure.question(to_scan, cache.until());
            outcome.calls += 1;
            let (objects, bytes) = match cache.scan(&mut ctl) {
                Some(Scan::Freed { objects, bytes }) => (objects, bytes),
                Some(Scan::Stop) => {
                    outcome.stopped = true;
                    break;
                }
                None => break,
            };
            let bytes = if bytes == 0 {
                objects.saturating_mul(self.bytes_each)
            } else {
                bytes
            };
            let scanned = outcome.credit(&ctl, objects, bytes);
            self.plan.book(scanned);
            if scanned == 0 {
                break;
            }
            if self.pause_is_due(outcome) {
                return Rest::Pause;
            }
        }
        outcome.misreported |= self.plan.calls_left == 0;
        self.put_off(cache.now());
        Rest::End
    }

    /// Whether it is time to let the request try again, after what `outcome` says of the time since the last pause.
    fn pause_is_due(&mut self, outcome: &Outcome) -> bool {
        let silent = outcome.bytes == 0 && outcome.objects > 0;
        let enough = match silent {
            true => outcome.calls >= CALLS_BETWEEN_PAUSES,
            false => outcome.bytes >= self.step,
        };
        let due = self.step > 0 && enough;
        if due {
            self.step = self.step.saturating_mul(2);
        }
        due
    }

    /// Leaves what is not done to a later walk.
    pub(crate) fn put_off(&mut self, now: u64) {
        self.deferred.put_off(self.plan.leftover(), now);
    }
}

impl Outcome {
    /// How much there is to scan, objects and bytes of each, as a cache `counted`; it may have panicked. Nothing where that is
    /// the end of it.
    pub(crate) fn found(&mut self, counted: Option<Count>) -> Option<(usize, usize)> {
        match counted? {
            Count::Objects {
                objects,
                bytes_each,
            } => Some((objects.get(), bytes_each)),
            // What is left leaves the deferred work alone: it is still there to be done.
            Count::Unknown => {
                self.stopped = true;
                None
            }
            Count::Empty => None,
        }
    }

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

    /// Whether there was nothing to be had, for one who asked for everything.
    pub(crate) fn is_vain(&self) -> bool {
        self.objects == 0 && self.bytes == 0 && !self.stopped && !self.timed_out
    }
}

#[cfg(test)]
#[path = "pressure_tests.rs"]
mod tests;
