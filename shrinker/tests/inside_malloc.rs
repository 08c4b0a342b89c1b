//! The worst place to walk from: inside the memory allocator, at every single allocation of the process.
//!
//! Each allocation here behaves as if it had failed and asks the shrinkers first. So every allocation that the crate,
//! seize or the standard library makes on a thread's first walk, in a registration or in a callback comes back to the
//! list, also from the middle of seize.
#![cfg(not(loom))]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::*;
use ebb_shrinker::*;

static LIST: ShrinkerList = ShrinkerList::new();
/// Whether allocations walk.
static HUNGRY: AtomicBool = AtomicBool::new(false);
static VISITS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static FREES: Cell<usize> = const { Cell::new(0) };
}

struct Hungry;

impl Hungry {
    fn ask() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        if HUNGRY.load(Ordering::Relaxed) {
            LIST.walk(&Walk::default(), &mut |_| {
                VISITS.fetch_add(1, Ordering::Relaxed);
                ControlFlow::Continue(())
            });
        }
    }
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Hungry {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::ask();
        // SAFETY: the caller's clause.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        FREES.set(FREES.get() + 1);
        // SAFETY: the caller's clause.
        unsafe { System.dealloc(block, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Hungry = Hungry;

/// Allocations of this thread while `f` runs.
fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}

/// A cache whose callbacks allocate.
fn greedy() -> impl Shrink {
    on_scan(500, |_| {
        let objects = std::hint::black_box(vec![0_u8; 100]).len();
        Scan::Freed { objects, bytes: 1 }
    })
}

/// Threads begin, walk, register, remove and end, all inside allocations that walk. Seen to fail with `inside` left
/// out of `walk`: a walk in the middle of seize.
#[test]
fn every_allocation_may_walk() {
    let _kept = patient("kept").register(&LIST, greedy()).unwrap();
    HUNGRY.store(true, Ordering::SeqCst);
    in_time("threads in a hungry process", || {
        for _ in 0..50 {
            let threads = [(); 3].map(|()| {
                thread::spawn(|| {
                    let mut registered = Vec::new();
                    for _ in 0..10 {
                        let new = patient("new").register(&LIST, greedy());
                        registered.push(new.unwrap());
                    }
                    walk(&LIST, 0);
                    LIST.for_each(&mut |stats| drop(stats.name().to_owned()));
                })
            });
            for thread in threads {
                thread.join().unwrap();
            }
        }
    });
    HUNGRY.store(false, Ordering::SeqCst);
    assert!(VISITS.load(Ordering::SeqCst) > 1000);
    LIST.for_each(&mut |stats| assert_eq!(stats.panics, 0));
}

/// What is promised to allocate nothing.
#[test]
fn what_allocates_nothing() {
    let list = list();
    let prepared = patient("one").prepare(list, on_count(|| ())).unwrap();
    let mut registration = None;
    assert_eq!(allocations(|| registration = Some(prepared.register())), 0);
    walk(list, 12);
    assert_eq!(
        allocations(|| assert_eq!(walk(list, 12).visited, 1)),
        0,
        "but the first walk"
    );
    assert_eq!(allocations(|| list.for_each(&mut |_| ())), 0);
    let fork = || {
        list.fork_prepare();
        list.fork_parent();
    };
    assert_eq!(allocations(fork), 0, "on a thread that has walked");
    assert_eq!(allocations(|| assert!(!list.is_empty())), 0);
    let stats = || assert_eq!(registration.as_ref().unwrap().stats().name(), "one");
    assert_eq!(allocations(stats), 0);
}

/// What was registered and removed is freed, in batches. Seen to fail with the sweep left out where there are no orphans.
#[test]
fn what_was_removed_is_freed() {
    const COUNT: usize = 1000;
    let list = list();
    let frees = FREES.get();
    let made = allocations(|| {
        for _ in 0..COUNT {
            drop(patient("short").register(list, on_count(|| ())).unwrap());
        }
    });
    // What other tests removed may be freed here too.
    let kept = made.saturating_sub(FREES.get() - frees);
    assert!(made >= COUNT && kept < COUNT / 4, "{kept} of {made} kept");
}
