//! The kernel's golden vectors, and caches that lie.

use std::sync::Mutex;

use super::*;
use crate::shrink::{Count, Scan, Shrink, ShrinkControl};

/// A cache that answers as it is told and writes down what it was asked.
struct Fake {
    freeable: usize,
    scan: fn(&mut ShrinkControl) -> Scan,
    asked: Mutex<Vec<usize>>,
}

impl Fake {
    fn new(freeable: usize, scan: fn(&mut ShrinkControl) -> Scan) -> Self {
        Self {
            freeable,
            scan,
            asked: Mutex::default(),
        }
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.lock().unwrap().clone()
    }
}

impl Shrink for Fake {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.freeable)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        assert_eq!(ctl.scanned(), ctl.to_scan(), "preset");
        self.asked.lock().unwrap().push(ctl.to_scan());
        (self.scan)(ctl)
    }
}

fn nothing_freed(_: &mut ShrinkControl) -> Scan {
    Scan::Freed {
        objects: 0,
        bytes: 0,
    }
}

fn all_freed(ctl: &mut ShrinkControl) -> Scan {
    Scan::Freed {
        objects: ctl.to_scan(),
        bytes: 0,
    }
}

fn job(priority: u8, seeks: u32) -> Pressure {
    Pressure {
        seeks,
        batch: 128,
        node: 0,
        priority,
        exhaustive: false,
    }
}

fn run(cache: &Fake, job: &Pressure, deferred: &AtomicUsize) -> Outcome {
    let mut outcome = Outcome::default();
    shrink(cache, job, deferred, &mut outcome);
    outcome
}

/// freeable, priority, seeks, deferred before; delta, total, calls, scanned, deferred after.
type Vector = (usize, u8, u32, usize, usize, usize, usize, usize, usize);

const GOLDEN: [Vector; 15] = [
    (4095, 12, 2, 0, 0, 0, 0, 0, 0),
    (4096, 12, 2, 0, 2, 2, 0, 0, 2),
    (1_000_000, 12, 2, 0, 488, 488, 3, 384, 104),
    (
        1_000_000,
        12,
        2,
        1_000_000_000,
        488,
        244_628,
        1911,
        244_608,
        2_000_000,
    ),
    (
        1_000_000, 0, 2, 0, 2_000_000, 2_000_000, 15_625, 2_000_000, 0,
    ),
    (100, 0, 2, 0, 200, 200, 1, 128, 72),
    (100, 12, 0, 0, 50, 50, 0, 0, 50),
    (100, 12, 0, 150, 50, 50, 0, 0, 200),
    (100, 0, 0, 150, 50, 200, 1, 128, 72),
    (1, 0, 0, 0, 0, 0, 0, 0, 0),
    (300, 0, 0, 0, 150, 150, 1, 128, 22),
    (1000, 3, 2, 0, 250, 250, 1, 128, 122),
    (1000, 3, 2, 500, 250, 312, 2, 256, 494),
    (1000, 3, 8, 0, 62, 62, 0, 0, 62),
    (10_000, 6, 2, 20_000, 312, 624, 4, 512, 19_800),
];

#[test]
fn golden_vectors() {
    for vector in GOLDEN {
        let (freeable, priority, seeks, before, want_delta, total, calls, scanned, after) = vector;
        let job = job(priority, seeks);
        assert_eq!(delta(freeable, priority, seeks), want_delta, "{vector:?}");
        assert_eq!(Plan::new(&job, freeable, before).left, total, "{vector:?}");
        let (cache, deferred) = (Fake::new(freeable, nothing_freed), AtomicUsize::new(before));
        let outcome = run(&cache, &job, &deferred);
        assert_eq!(
            (outcome.calls, outcome.scanned),
            (calls, scanned),
            "{vector:?}"
        );
        assert!(!outcome.misreported, "{vector:?}");
        assert_eq!(deferred.into_inner(), after, "{vector:?}");
    }
}

/// The sixteenth golden vector: STOP at once puts everything off.
#[test]
fn stop_defers_everything() {
    let (cache, deferred) = (Fake::new(1_000_000, |_| Scan::Stop), AtomicUsize::new(0));
    let outcome = run(&cache, &job(12, 2), &deferred);
    assert!(outcome.stopped);
    assert_eq!((outcome.calls, outcome.scanned), (1, 0));
    assert_eq!(deferred.into_inner(), 488);
}

/// The priority of the first scan when walking from 12 to 0 with the deferred work carried along.
fn first_scan(freeable: usize, seeks: u32) -> Option<u8> {
    let (cache, deferred) = (Fake::new(freeable, nothing_freed), AtomicUsize::new(0));
    (0..=12)
        .rev()
        .find(|&priority| run(&cache, &job(priority, seeks), &deferred).calls > 0)
}

#[test]
fn golden_descents() {
    assert_eq!(first_scan(50, 2), Some(1));
    assert_eq!(first_scan(500, 2), Some(3));
    assert_eq!(first_scan(4096, 2), Some(6));
    assert_eq!(first_scan(100_000, 2), Some(10));
    for freeable in [50, 127, 128] {
        assert_eq!(first_scan(freeable, 8), None, "the kernel's trap");
    }
}

#[test]
fn an_exhaustive_job_asks_for_everything() {
    for freeable in 1..=300 {
        for seeks in [0, 1, 2, 8, 32, u32::MAX] {
            let cache = Fake::new(freeable, all_freed);
            let job = Pressure {
                exhaustive: true,
                ..job(12, seeks)
            };
            let outcome = run(&cache, &job, &AtomicUsize::new(0));
            assert_eq!(outcome.objects, 2 * freeable);
            assert!(cache.asked().iter().all(|&asked| asked <= 128));
        }
    }
}

#[test]
fn empty_and_unknown_leave_deferred_work_alone() {
    struct Unknown;
    impl Shrink for Unknown {
        fn count(&self, _: &ShrinkControl) -> Count {
            Count::Unknown
        }
        fn scan(&self, _: &mut ShrinkControl) -> Scan {
            unreachable!("nothing was counted")
        }
    }
    let deferred = AtomicUsize::new(77);
    let mut outcome = Outcome::default();
    shrink(&Unknown, &job(0, 2), &deferred, &mut outcome);
    shrink(
        &Fake::new(0, |_| unreachable!()),
        &job(0, 2),
        &deferred,
        &mut outcome,
    );
    assert_eq!(outcome, Outcome::default());
    assert_eq!(deferred.into_inner(), 77);
}

#[test]
fn liars_come_to_an_end_and_are_counted() {
    let lies: [fn(&mut ShrinkControl) -> Scan; 5] = [
        // Looked at nothing, freed nothing: the kernel would never end.
        |ctl| {
            ctl.set_scanned(0);
            nothing_freed(ctl)
        },
        // Looked at nothing, freed all the same.
        |ctl| {
            ctl.set_scanned(0);
            all_freed(ctl)
        },
        // Looked at more than there is.
        |ctl| {
            ctl.set_scanned(usize::MAX);
            nothing_freed(ctl)
        },
        // Freed more than there is.
        |_| Scan::Freed {
            objects: usize::MAX,
            bytes: usize::MAX,
        },
        // Always just one more.
        |ctl| {
            ctl.set_scanned(1);
            nothing_freed(ctl)
        },
    ];
    for (lie, scan) in lies.into_iter().enumerate() {
        for exhaustive in [false, true] {
            let (cache, deferred) = (Fake::new(100_000, scan), AtomicUsize::new(5));
            let job = Pressure {
                exhaustive,
                ..job(0, 2)
            };
            let outcome = run(&cache, &job, &deferred);
            assert!(
                outcome.calls <= 2 * (200_000 / 128 + 1),
                "lie {lie}: {outcome:?}"
            );
            assert!(outcome.misreported, "lie {lie}");
            assert!(deferred.into_inner() <= 200_000, "lie {lie}");
        }
    }
}

#[test]
fn a_cache_of_impossible_size_comes_to_an_end() {
    let (cache, deferred) = (
        Fake::new(usize::MAX, nothing_freed),
        AtomicUsize::new(usize::MAX),
    );
    for priority in [0, 12, 64, u8::MAX] {
        for seeks in [0, 1, u32::MAX] {
            let outcome = run(&cache, &job(priority, seeks), &deferred);
            assert!(outcome.calls <= MAX_CALLS);
        }
    }
}
