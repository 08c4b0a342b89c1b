//! The last step of a trial: everything at the same time.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, Report, Trial};
use crate::list::ShrinkerList;
use crate::shrink::Shrink;
use crate::spec::Shrinker;
use crate::walk::Walk;

/// How long the threads go on: at least, and until a walk has met the cache, or for [`PATIENCE`] where none does. A busy
/// machine lets some of them wait.
const RACE: Duration = Duration::from_millis(300);

impl<C: Shrink + 'static> Trial<C> {
    /// The cache on a real list: filled, walked, unregistered and retired at the same time.
    pub(super) fn races(&self, report: &mut Report) {
        let list: &'static ShrinkerList = Box::leak(Box::default());
        let stop = Arc::new(AtomicBool::new(false));
        let panics = Arc::new(AtomicUsize::new(0));
        let met = Arc::new(AtomicBool::new(false));
        let cache = self.full();
        let (done, finished) = mpsc::channel();
        let mut threads = 0;
        let mut start = |work: Box<dyn FnMut() + Send>| {
            threads += 1;
            let (stop, done, panics, mut work) = (stop.clone(), done.clone(), panics.clone(), work);
            thread::spawn(move || {
                let all = AssertUnwindSafe(|| {
                    // Relaxed: only when to end.
                    while !stop.load(Ordering::Relaxed) {
                        work();
                    }
                });
                panics.fetch_add(usize::from(catch_unwind(all).is_err()), Ordering::Relaxed);
                let _ = done.send(());
            });
        };
        for priority in [0, 3] {
            let met = met.clone();
            start(Box::new(move || {
                let walk = Walk {
                    priority,
                    exhaustive: priority == 0,
                    limit: Some(PATIENCE),
                    ..Walk::default()
                };
                list.walk(&walk, &mut |_| {
                    // Relaxed: only when to end.
                    met.store(true, Ordering::Relaxed);
                    ControlFlow::Continue(())
                });
            }));
        }
        if let Some(fill) = &self.fill {
            let (fill, cache) = (fill.clone(), cache.clone());
            start(Box::new(move || {
                fill(&cache, 10);
                thread::sleep(Duration::from_micros(100));
            }));
        }
        let counted = panics.clone();
        start(Box::new(move || {
            let spec = Shrinker::new("on trial");
            let Ok(registration) = spec.register(list, cache.clone()) else {
                return;
            };
            thread::sleep(Duration::from_micros(200));
            let retirement = registration.retire();
            let failed = retirement.stats().panics as usize;
            // Relaxed: a figure.
            counted.fetch_add(failed, Ordering::Relaxed);
            drop(retirement);
        }));
        let begun = Instant::now();
        // Relaxed: only when to end.
        while begun.elapsed() < RACE || (!met.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE)
        {
            thread::sleep(RACE / 10);
        }
        // Relaxed: only when to end.
        stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + 2 * PATIENCE;
        let ended = (0..threads)
            .filter(|_| {
                let left = until.saturating_duration_since(Instant::now());
                finished.recv_timeout(left).is_ok()
            })
            .count();
        if ended < threads {
            report.add(
                "stuck: walking, filling and unregistering at the same time, a thread did not come to its end",
            );
        }
        if panics.load(Ordering::Relaxed) > 0 {
            report.add("a panic, while it was walked, filled and unregistered at the same time");
        }
    }
}
