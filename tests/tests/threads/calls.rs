//! Every entry point as a call that a thread makes, with what it may use and what it leaves behind.

use std::alloc::{GlobalAlloc, Layout};
use std::fmt::{self, Write};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebb_tests::{MIB, patient};
use ebbmalloc::{Count, EbbMalloc, Registration, Scan, Shrink, ShrinkControl, StatsFormat, raw};

/// What every call is given a block of.
const LAYOUT: Layout = match Layout::from_size_align(3000, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("a valid layout"),
};
const FILL: u8 = 0xa5;

/// A cache that never has anything.
pub(crate) struct Nothing;

impl Shrink for Nothing {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::Empty
    }
    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        Scan::Stop
    }
}

fn register() -> Option<Registration> {
    ebbmalloc::register(patient("brief"), Nothing).ok()
}

/// One of a thread's two calls, and what it may use.
pub(crate) struct Hand {
    pub(crate) call: fn(&mut Hand),
    /// A block that was made elsewhere, of `LAYOUT`.
    block: *mut u8,
    registration: Option<Registration>,
    /// What the call leaves behind.
    left: *mut u8,
}

impl Hand {
    pub(crate) fn new(call: fn(&mut Hand)) -> Self {
        // SAFETY: not a layout of size 0.
        let block = unsafe { EbbMalloc.alloc(LAYOUT) };
        let mut hand = Self {
            call,
            block,
            registration: register(),
            left: ptr::null_mut(),
        };
        assert!(!block.is_null() && hand.registration.is_some());
        hand.bytes().fill(FILL);
        hand
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block is live until it is taken.
        unsafe { std::slice::from_raw_parts_mut(self.block, LAYOUT.size()) }
    }

    /// The block, which nobody wrote to; it is the caller's now.
    fn take(&mut self) -> *mut u8 {
        assert!(
            self.bytes().iter().all(|byte| *byte == FILL),
            "a block was overwritten"
        );
        std::mem::replace(&mut self.block, ptr::null_mut())
    }

    /// Leaves a new block of at least `size` bytes behind, or none.
    fn leave(&mut self, block: *mut u8, size: usize) {
        if !block.is_null() {
            // SAFETY: a new block of that size.
            unsafe { block.write_bytes(FILL, size) };
        }
        self.left = block;
    }

    /// Leaves behind what became of a block that was taken.
    fn leave_moved(&mut self, old: *mut u8, moved: *mut u8) {
        self.left = if moved.is_null() { old } else { moved };
        // SAFETY: a live block of at least a byte.
        assert_eq!(unsafe { self.left.read() }, FILL);
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        for block in [self.block, self.left] {
            // SAFETY: null, or live and used no more.
            unsafe { raw::free(block) };
        }
    }
}

fn alloc(hand: &mut Hand) {
    // SAFETY: not a layout of size 0.
    let block = unsafe { EbbMalloc.alloc(LAYOUT) };
    hand.leave(block, LAYOUT.size());
}

fn alloc_zeroed(hand: &mut Hand) {
    // SAFETY: not a layout of size 0.
    let block = unsafe { EbbMalloc.alloc_zeroed(LAYOUT) };
    hand.leave(block, LAYOUT.size());
}

fn dealloc(hand: &mut Hand) {
    // SAFETY: taken, of this layout.
    unsafe { EbbMalloc.dealloc(hand.take(), LAYOUT) };
}

fn realloc(hand: &mut Hand) {
    let old = hand.take();
    // SAFETY: as above.
    let moved = unsafe { EbbMalloc.realloc(old, LAYOUT, 70_000) };
    hand.leave_moved(old, moved);
}

fn raw_alloc(hand: &mut Hand) {
    hand.leave(raw::alloc(100), 100);
}

fn raw_alloc_span(hand: &mut Hand) {
    hand.leave(raw::alloc(300_000), 300_000);
}

fn raw_alloc_zeroed(hand: &mut Hand) {
    hand.leave(raw::alloc_zeroed(9000), 9000);
}

fn raw_alloc_aligned(hand: &mut Hand) {
    hand.leave(raw::alloc_aligned(100, MIB), 100);
}

fn raw_free(hand: &mut Hand) {
    // SAFETY: taken, used no more.
    unsafe { raw::free(hand.take()) };
}

fn raw_realloc(hand: &mut Hand) {
    let old = hand.take();
    // SAFETY: taken, used no more after a success.
    let moved = unsafe { raw::realloc(old, 20) };
    hand.leave_moved(old, moved);
}

fn raw_usable_size(hand: &mut Hand) {
    // SAFETY: a live block.
    assert!(unsafe { raw::usable_size(hand.block) } >= LAYOUT.size());
}

fn register_one(hand: &mut Hand) {
    // Another one, so the old one is unregistered here too.
    hand.registration = register();
}

fn unregister(hand: &mut Hand) {
    drop(hand.registration.take());
}

fn purge(_: &mut Hand) {
    ebbmalloc::purge();
}

fn statistics(_: &mut Hand) {
    struct Count(usize);
    impl Write for Count {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 += part.len();
            Ok(())
        }
    }
    let mut count = Count(0);
    ebbmalloc::write_stats(&mut count, StatsFormat::Json).unwrap();
    assert!(count.0 > 100);
}

/// More than is left, less than the cache has: a walk, unless the thread is past that.
fn walk(hand: &mut Hand) {
    let block = raw::alloc(3 * MIB);
    WALKS[usize::from(block.is_null())].fetch_add(1, Ordering::Relaxed);
    hand.leave(block, 100);
}

/// Those that were satisfied, and those that were not.
pub(crate) static WALKS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// All of them.
pub(crate) const CALLS: [fn(&mut Hand); 16] = [
    alloc,
    alloc_zeroed,
    dealloc,
    realloc,
    raw_alloc,
    raw_alloc_span,
    raw_alloc_zeroed,
    raw_alloc_aligned,
    raw_free,
    raw_realloc,
    raw_usable_size,
    register_one,
    unregister,
    purge,
    statistics,
    walk,
];
