//! B7: requests under a limit, which is full of caches. A request that what is reclaimable would satisfy must not fail.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebb_benches::Random;
use ebb_shrinker::{
    Count, DEF_PRIORITY, Scan, Shrink, ShrinkControl, Shrinker, ShrinkerList, Walk,
};

/// A cache that only counts: objects of one size, some of them marked as recently used.
struct Pile {
    objects: AtomicUsize,
    marked: AtomicUsize,
    size: usize,
    tells_size: bool,
}

// Relaxed, everywhere: one thread.
impl Shrink for Pile {
    fn count(&self, _: &ShrinkControl) -> Count {
        let size = if self.tells_size { self.size } else { 0 };
        Count::of(self.objects.load(Ordering::Relaxed)).each(size)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        let (objects, marked) = (
            self.objects.load(Ordering::Relaxed),
            self.marked.load(Ordering::Relaxed),
        );
        let looked = ctl.to_scan().min(objects);
        let unmarked = looked.min(marked);
        let freed = looked - unmarked;
        self.marked.store(marked - unmarked, Ordering::Relaxed);
        self.objects.store(objects - freed, Ordering::Relaxed);
        ctl.set_scanned(looked);
        Scan::Freed {
            objects: freed,
            bytes: freed * self.size,
        }
    }
}

/// The descent of a failing allocation, as the allocator does it. What is lacking after it.
fn reclaim(list: &ShrinkerList, request: usize) -> usize {
    let mut lacking = request;
    let mut value = list.value_after(None);
    while let Some(max_value) = value {
        for priority in (0..=DEF_PRIORITY).rev() {
            let walk = Walk {
                priority,
                exhaustive: priority == 0,
                goal: lacking,
                max_value,
                ..Walk::default()
            };
            list.walk(&walk, &mut |visit| {
                lacking = lacking.saturating_sub(visit.bytes);
                match lacking {
                    0 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            });
            if lacking == 0 {
                return 0;
            }
        }
        value = list.value_after(value);
    }
    lacking
}

/// Runs so many cases, and says what came of them.
pub(crate) fn run(cases: usize) {
    let list: &'static ShrinkerList = Box::leak(Box::default());
    let mut random = Random::new(1);
    let (mut false_failures, mut over) = (0, 0.0);
    for _ in 0..cases {
        let piles: Vec<_> = (0..=random.below(3))
            .map(|_| {
                let objects = 1 + random.below(300);
                Arc::new(Pile {
                    objects: AtomicUsize::new(objects),
                    marked: AtomicUsize::new(random.below(objects + 1)),
                    size: 1 << random.below(13),
                    tells_size: random.below(2) == 0,
                })
            })
            .collect();
        let held = || -> usize {
            let bytes = piles
                .iter()
                .map(|pile| pile.size * pile.objects.load(Ordering::Relaxed));
            bytes.sum()
        };
        let registered: Vec<_> = piles
            .iter()
            .filter_map(|pile| {
                let spec = Shrinker::new("case")
                    .seeks(random.below(33) as u32)
                    .value(1 + random.below(8) as u8);
                spec.register(list, pile.clone()).ok()
            })
            .collect();
        let before = held();
        let request = 1 + random.below(before);
        false_failures += usize::from(reclaim(list, request) > 0);
        over += (before - held()) as f64 / request as f64;
        drop(registered);
    }
    println!(
        "B7: {cases} requests of at most what caches hold: {false_failures} false failures; freed {:.2} times the request on average",
        over / cases as f64
    );
}
