//! What a failing allocation costs before any cache does its work. Only ebbmalloc has this.

use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{BenchmarkId, Criterion};
use ebbmalloc::{Count, Scan, Shrink, ShrinkControl, Shrinker, ShrinkerList, Walk};

/// A cache with so much to free, which frees nothing: the walk alone is measured.
struct Hollow(usize);

impl Shrink for Hollow {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.0)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        black_box(ctl.to_scan());
        Scan::Freed {
            objects: 0,
            bytes: 0,
        }
    }
}

static LIST: ShrinkerList = ShrinkerList::new();

/// One gentle walk over caches that are empty, and over caches of a million objects each.
pub(crate) fn walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reclaim walk");
    for (kind, objects) in [("empty caches", 0), ("full caches", 1_000_000)] {
        for caches in [1, 16, 256] {
            let registrations: Vec<_> = (0..caches)
                .map(|_| Shrinker::new("hollow").register(&LIST, Hollow(objects)))
                .collect::<Result<_, _>>()
                .expect("there is memory for a few shrinkers");
            group.bench_function(BenchmarkId::new(kind, caches), |bencher| {
                bencher.iter(|| LIST.walk(&Walk::default(), &mut |_| ControlFlow::Continue(())));
            });
            drop(registrations);
        }
    }
}
