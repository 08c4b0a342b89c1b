//! The first guards of many threads, as the allocator sees them.
#![cfg(not(loom))]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Duration;

use common::*;
use ebb_shrinker::*;

/// Counts what seize makes of its tables, of each size, and takes its time for each.
struct Slow;

/// Pieces of 8 KiB times a power of two.
const SMALLEST: usize = 8 << 10;

/// By the power.
static PIECES: [AtomicUsize; 20] = [const { AtomicUsize::new(0) }; 20];

/// The next piece is not made before [`GO`].
static HOLD: AtomicBool = AtomicBool::new(false);
static GO: AtomicBool = AtomicBool::new(false);

/// The tests share all that.
static ONE: Mutex<()> = Mutex::new(());

/// More threads than there are places at first.
fn many() -> usize {
    300 + 2 * thread::available_parallelism().map_or(0, NonZero::get)
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Slow {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if thread_must_not_fail() && layout.size() >= SMALLEST {
            PIECES[(layout.size() / SMALLEST).ilog2() as usize].fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            if HOLD.swap(false, Ordering::SeqCst) {
                until("it may go on", || GO.load(Ordering::SeqCst));
            }
        }
        // SAFETY: the caller's clause.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's clause.
        unsafe { System.dealloc(block, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Slow = Slow;

/// However many threads have their first guard at once, a piece of the table is made once. Seen to fail (every piece made by
/// dozens of threads) without the lock in `alone`.
#[test]
fn tables_grow_once() {
    let _one = ONE.lock();
    let list = list();
    let _registration = patient("any").register(list, on_count(|| ()));
    assert_eq!(walk(list, 12).visited, 1);
    PIECES
        .iter()
        .for_each(|made| made.store(0, Ordering::SeqCst));
    let threads = many();
    let (together, done) = (Barrier::new(threads), Barrier::new(threads));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                together.wait();
                walk(list, 12);
                // All of them at once: no place is used twice.
                done.wait();
            });
        }
    });
    let made = PIECES.each_ref().map(|made| made.load(Ordering::SeqCst));
    assert!(made.contains(&1), "{made:?}");
    assert!(made.iter().all(|made| *made <= 1), "{made:?}");
}

/// A child whose parent had a thread in the middle of that walks all the same. Seen to fail (the child hung) with the lock not
/// forgotten.
#[test]
fn a_fork_while_a_table_grows() {
    let _one = ONE.lock();
    let list = list();
    let _registration = patient("any").register(list, on_count(|| ()));
    assert_eq!(walk(list, 12).visited, 1);
    let done = Barrier::new(many());
    HOLD.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        for _ in 0..many() {
            scope.spawn(|| {
                walk(list, 12);
                done.wait();
            });
        }
        until("a table grows", || !HOLD.load(Ordering::SeqCst));
        let ok = fork(list, || walk(list, 12).visited == 1);
        GO.store(true, Ordering::SeqCst);
        assert!(ok, "the child failed or hung");
    });
}
