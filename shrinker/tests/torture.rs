//! Everything at once, on several threads, for a second.
#![cfg(not(loom))]

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use ebb_shrinker::*;

/// Callbacks that ran after their removal had returned, or in a cache already dropped.
static LATE: AtomicUsize = AtomicUsize::new(0);
static DONE: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);
static REGISTERED: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Knows when it must not be called any more. Says so in a counter, for panics in callbacks are caught.
struct Mortal {
    /// Owned, so that a call after the drop reads freed memory.
    guarded: Box<AtomicUsize>,
    removed: Arc<AtomicBool>,
}

const ALIVE: usize = 0x5eed;

impl Mortal {
    fn check(&self) {
        let alive = self.guarded.load(Ordering::Relaxed) == ALIVE;
        let late = !alive || self.removed.load(Ordering::SeqCst);
        LATE.fetch_add(usize::from(late), Ordering::SeqCst);
    }
}

impl Shrink for Mortal {
    fn count(&self, _: &ShrinkControl) -> Count {
        self.check();
        CALLS.fetch_add(1, Ordering::Relaxed);
        Count::of(300)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        thread::yield_now();
        self.check();
        Scan::Freed {
            objects: ctl.to_scan(),
            bytes: 0,
        }
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.check();
        self.guarded.store(0, Ordering::Relaxed);
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

fn register(list: &'static ShrinkerList) -> (Registration, Arc<AtomicBool>) {
    let removed = Arc::new(AtomicBool::new(false));
    let cache = Mortal {
        guarded: Box::new(AtomicUsize::new(ALIVE)),
        removed: removed.clone(),
    };
    REGISTERED.fetch_add(1, Ordering::SeqCst);
    let registration = patient("mortal").register(list, cache);
    (registration.unwrap(), removed)
}

/// Registers and removes, a few alive at a time, oldest first, youngest first and from the middle.
fn churn(list: &'static ShrinkerList) {
    let mut alive = Vec::new();
    let mut round = 0;
    while !DONE.load(Ordering::Relaxed) {
        alive.push(register(list));
        if alive.len() > 5 {
            let which = [0, alive.len() - 1, alive.len() / 2][round % 3];
            let (registration, removed) = alive.swap_remove(which);
            registration.unregister().unwrap();
            removed.store(true, Ordering::SeqCst);
        }
        round += 1;
    }
}

fn reclaim(list: &'static ShrinkerList) {
    let mut budget = 0_usize;
    while !DONE.load(Ordering::Relaxed) {
        budget = (budget + 1) % 7;
        let mut left = budget;
        let walk = Walk {
            priority: budget as u8,
            exhaustive: budget == 0,
            ..Walk::default()
        };
        list.walk(&walk, &mut |visit| {
            assert_eq!(visit.name(), "mortal");
            left = left.wrapping_sub(1);
            match left {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
    }
}

fn look(list: &'static ShrinkerList) {
    while !DONE.load(Ordering::Relaxed) {
        let mut last = 0;
        list.for_each(&mut |stats| {
            assert!(stats.id > last, "oldest first, each once");
            assert_eq!((stats.name(), stats.panics), ("mortal", 0));
            last = stats.id;
        });
        thread::sleep(Duration::from_micros(50));
    }
}

/// Seen to fail with each of I1, I2, I3, I7 and I8 broken: late calls, crashes or a hang.
#[test]
fn no_callback_runs_after_its_removal() {
    let list = list();
    let reclaimers = [churn, churn, reclaim, reclaim, look];
    let threads = reclaimers.map(|f| thread::spawn(move || f(list)));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        thread::sleep(Duration::from_millis(10));
        assert_eq!(LATE.load(Ordering::SeqCst), 0);
    }
    DONE.store(true, Ordering::Relaxed);
    in_time("the end", move || {
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert_eq!(LATE.load(Ordering::SeqCst), 0);
    assert!(list.is_empty());
    assert!(CALLS.load(Ordering::SeqCst) > 100);
    assert_eq!(
        REGISTERED.load(Ordering::SeqCst),
        DROPPED.load(Ordering::SeqCst)
    );
}
