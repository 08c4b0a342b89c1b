//! Single calls of a cache on trial, watched from outside.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::{LATE, PATIENCE, Report, Trial};
use crate::frames::with_frame;
use crate::lock_order::take_waited;
use crate::shrink::{Count, Scan, Shrink, ShrinkControl};

impl<C: Shrink + 'static> Trial<C> {
    pub(super) fn count(&self, cache: &Arc<C>, report: &mut Report, when: &str) -> Option<Count> {
        let cache = cache.clone();
        self.call("count", when, report, move || {
            cache.count(&ShrinkControl::new(0, 0, 0))
        })
    }

    /// What a scan answers, and how many objects it says it looked at.
    pub(super) fn scan(
        &self,
        cache: &Arc<C>,
        objects: usize,
        report: &mut Report,
        when: &str,
    ) -> Option<(Scan, usize)> {
        let cache = cache.clone();
        self.call("scan", when, report, move || {
            let mut ctl = ShrinkControl::new(0, 0, objects);
            let answer = cache.scan(&mut ctl);
            (answer, ctl.scanned())
        })
    }

    /// Calls on a thread of its own, so that one that blocks is seen. Nothing if it does, or panics.
    fn call<R: Send + 'static>(
        &self,
        callback: &str,
        when: &str,
        report: &mut Report,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        let allocations = self.allocations.clone();
        let (sender, answer) = mpsc::channel();
        thread::spawn(move || {
            let made = || allocations.as_ref().map_or(0, |count| count());
            let (before, start) = (made(), Instant::now());
            // As on a list, where the check of locks knows that this is a callback.
            let result = catch_unwind(AssertUnwindSafe(|| with_frame(&(), 1, f)));
            let (time, allocated) = (start.elapsed(), made() - before);
            let _ = sender.send((result.ok(), time, allocated, take_waited()));
        });
        let Ok((result, time, allocated, waited)) =
            answer.recv_timeout(PATIENCE.max(2 * self.deadline))
        else {
            report.add(format!(
                "{callback} blocks {when}: it takes a lock other than by trying, or waits for something"
            ));
            return None;
        };
        if result.is_none() {
            report.add(format!("{callback} panics {when}"));
        }
        if self.too_late(callback, time) {
            report.add(format!(
                "{callback} took {time:?} {when}, and may take {:?}",
                self.deadline
            ));
        }
        if let Some(lock) = waited {
            report.add(format!(
                "{callback} waits for the lock \"{lock}\" {when}; whoever allocates while he holds it would wait for himself"
            ));
        }
        if allocated > 0 {
            report.add(format!("{callback} allocates {when}: {allocated} times"));
        }
        result
    }

    /// Whether a call that took so long is one too many.
    fn too_late(&self, callback: &str, time: Duration) -> bool {
        let late = &self.late[usize::from(callback == "scan")];
        // Relaxed, both: one call at a time.
        if time <= self.deadline {
            late.store(0, Ordering::Relaxed);
            return false;
        }
        late.fetch_add(1, Ordering::Relaxed) + 1 >= LATE
    }
}
