//! Threads: every entry point as a thread's first call and as its last, by the thousands, at the end of a budget, in
//! both modes.
//!
//! The last call is made in the destructor of a thread-specific key, after all thread locals are gone, or in that of a
//! thread local which is destroyed after those of seize, so where no walk may begin any more.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_void;
use std::fmt::{self, Write};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};

use ebb_tests::thread::Bare;
use ebb_tests::{Block, Cache, MIB, in_both_modes, leave, resident};
use ebbmalloc::{
    Count, EbbMalloc, RegisterError, Registration, Scan, Shrink, ShrinkControl, Shrinker,
    StatsFormat, raw,
};

#[global_allocator]
static ALLOCATOR: EbbMalloc = EbbMalloc;

/// What every call is given a block of.
const LAYOUT: Layout = match Layout::from_size_align(3000, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("a valid layout"),
};
const FILL: u8 = 0xa5;

/// A cache that never has anything.
struct Nothing;

impl Shrink for Nothing {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::Empty
    }
    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        Scan::Stop
    }
}

fn register() -> Option<Registration> {
    ebbmalloc::register(Shrinker::new("brief"), Nothing).ok()
}

/// One of a thread's two calls, and what it may use.
struct Hand {
    call: fn(&mut Hand),
    /// A block that was made elsewhere, of `LAYOUT`.
    block: *mut u8,
    registration: Option<Registration>,
    /// What the call leaves behind.
    left: *mut u8,
}

impl Hand {
    fn new(call: fn(&mut Hand)) -> Self {
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
static WALKS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// All of them.
const CALLS: [fn(&mut Hand); 16] = [
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

/// A thread's two hands, and where it makes its last call.
struct Plan {
    first: Hand,
    last: Hand,
    by_key: bool,
}

impl Plan {
    fn new(number: usize) -> Box<Self> {
        let call = |number: usize| CALLS[number % CALLS.len()];
        Box::new(Self {
            first: Hand::new(call(number)),
            last: Hand::new(call(number / CALLS.len())),
            by_key: (number / CALLS.len() / CALLS.len()).is_multiple_of(2),
        })
    }
}

/// Makes the last call when it is destroyed.
struct Last(Cell<*mut Plan>);

impl Drop for Last {
    fn drop(&mut self) {
        // SAFETY: null, or the thread's plan, which stays until the thread is joined.
        if let Some(plan) = unsafe { self.0.get().as_mut() } {
            (plan.last.call)(&mut plan.last);
        }
    }
}

thread_local! {
    static LAST: Last = const { Last(Cell::new(ptr::null_mut())) };
}

extern "C" fn last_by_key(plan: *mut c_void) {
    // SAFETY: the thread's plan, which stays until the thread is joined.
    let plan = unsafe { &mut *plan.cast::<Plan>() };
    (plan.last.call)(&mut plan.last);
}

/// The key whose destructor makes the last call.
fn key() -> libc::pthread_key_t {
    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: a place for a key; the destructor has the type of one.
        let status = unsafe { libc::pthread_key_create(&raw mut key, Some(last_by_key)) };
        assert_eq!(status, 0);
        key
    })
}

/// A thread: the first call, and preparations for the last.
extern "C" fn run(plan: *mut Plan) -> *mut c_void {
    // SAFETY: ours until the thread is joined.
    let by_key = unsafe { (*plan).by_key };
    if !by_key {
        // Registered before anything of seize's, so destroyed after all that. Calls the C library only.
        LAST.with(|last| last.0.set(plan));
    }
    // SAFETY: as above.
    let first = unsafe { &mut (*plan).first };
    (first.call)(first);
    if by_key {
        // SAFETY: a key of ours.
        let status = unsafe { libc::pthread_setspecific(key(), plan.cast()) };
        assert_eq!(status, 0);
    }
    ptr::null_mut()
}

/// Runs threads with these numbers, eight at a time, each time with a cache that fills up the budget.
fn run_threads(numbers: std::ops::Range<usize>, cache: &Cache) {
    let budget = ebbmalloc::budget().unwrap();
    for start in numbers.step_by(8) {
        ebbmalloc::purge();
        let plans: Vec<_> = (start..start + 8)
            .map(|number| Box::into_raw(Plan::new(number)))
            .collect();
        while ebbmalloc::backed() + 3 * MIB < budget {
            let block = Block::new(MIB).unwrap();
            cache.blocks.lock().unwrap().push(block);
        }
        // SAFETY: the plans stay until the threads are joined.
        let start = |plan: &*mut Plan| unsafe { Bare::start(run, *plan) };
        let threads: Vec<_> = plans.iter().map(start).collect();
        threads.into_iter().for_each(Bare::join);
        for plan in plans {
            // SAFETY: it came from a box, and its thread is gone.
            drop(unsafe { Box::from_raw(plan) });
        }
    }
}

/// Every entry point as the first and as the last call, each with each. What is backed and resident stays where it was
/// after the first 512 threads. Seen to fail (it hangs) with walks on exiting threads, and without the mark that makes
/// a thread one; and on the bound, with records never
/// freed by the list of shrinkers.
#[test]
fn every_call_as_the_first_and_the_last_of_a_thread() {
    in_both_modes("every_call_as_the_first_and_the_last_of_a_thread", || {
        let all = 2 * CALLS.len() * CALLS.len();
        key();
        leave(40 * MIB);
        let cache = Cache::new(0, MIB);
        let registration = cache.register(Shrinker::new("cache"));
        let settled = |cache: &Cache| {
            while cache.blocks.lock().unwrap().pop().is_some() {}
            ebbmalloc::purge();
            (ebbmalloc::backed(), resident())
        };
        run_threads(0..all, &cache);
        let before = settled(&cache);
        run_threads(0..8 * all, &cache);
        let after = settled(&cache);
        // So that a failure can be told.
        ebbmalloc::set_budget(None);
        assert!(
            WALKS[0].load(Ordering::Relaxed) > 256,
            "no walks: {WALKS:?}"
        );
        assert!(
            after.0 <= before.0 + MIB / 2 && after.1 <= before.1 + MIB / 2,
            "backed and resident before {before:?}, after {after:?}\n{}",
            ebbmalloc::stats()
        );
        drop(registration);
    });
}

/// Blocks of every size class until there is no room for one more of any.
fn exhaust(blocks: &mut Vec<Block>) {
    let mut size = 4 * MIB;
    while size >= 16 {
        blocks.extend(std::iter::from_fn(|| Block::new(size)));
        // Neighbouring classes differ by 16 bytes, or by an eighth at least.
        size -= if size > 1024 { size / 8 } else { 16 };
    }
}

/// Meets the others, walks in vain, meets the others again.
extern "C" fn walk_in_vain(barrier: *mut Barrier) -> *mut c_void {
    // SAFETY: it stays until the threads are joined.
    let barrier = unsafe { &*barrier };
    barrier.wait();
    assert!(raw::alloc(MIB).is_null());
    barrier.wait();
    ptr::null_mut()
}

/// Not one object is left in the budget, nor in the reserve: threads that walk for the first time, all at once, and
/// then exit, still only get null. What the list of shrinkers needs for itself is there. Registering says that there is
/// no memory. Seen to fail ("memory allocation of 16384 bytes failed", abort) without the overdraft in `budget.rs`, and
/// with the overdraft for threads inside seize only: at a thread's exit.
#[test]
fn a_used_up_budget_ends_no_thread() {
    in_both_modes("a_used_up_budget_ends_no_thread", || {
        const THREADS: usize = 200;
        let mut blocks = Vec::with_capacity(200_000);
        let mut threads = Vec::with_capacity(THREADS);
        let mut barrier = Barrier::new(THREADS);
        leave(4 * MIB);
        ebbmalloc::set_reserve(0);
        let registration = Cache::new(0, 1).register(Shrinker::new("empty"));
        exhaust(&mut blocks);
        assert!(matches!(
            ebbmalloc::register(Shrinker::new("too late"), Nothing),
            Err(RegisterError::OutOfMemory)
        ));
        let with = &raw mut barrier;
        // SAFETY: the barrier stays until the threads are joined.
        threads.extend((0..THREADS).map(|_| unsafe { Bare::start(walk_in_vain, with) }));
        threads.into_iter().for_each(Bare::join);
        drop(registration);
        assert!(ebbmalloc::stats().reclaim.walks > THREADS as u64);
        drop(blocks);
        assert!(Block::new(MIB).is_some());
    });
}
