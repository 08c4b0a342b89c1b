//! Threads: every entry point as a thread's first call and as its last, by the thousands, at the end of a budget, in
//! both modes.
//!
//! The last call is made in the destructor of a thread-specific key, after all thread locals are gone, or in that of a
//! thread local which is destroyed after those of seize, so where no walk may begin any more.

mod calls;

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Barrier, OnceLock};

use ebb_tests::thread::Bare;
use ebb_tests::{Block, Cache, MIB, in_both_modes, leave, patient, resident, share};
use ebbmalloc::{EbbMalloc, RegisterError, raw};

use calls::{CALLS, Hand, Nothing, WALKS};

#[global_allocator]
static ALLOCATOR: EbbMalloc = EbbMalloc;

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
        let registration = cache.register(patient("cache"));
        let settled = |cache: &Cache| {
            while cache.blocks.lock().unwrap().pop().is_some() {}
            ebbmalloc::purge();
            (ebbmalloc::backed(), resident())
        };
        run_threads(0..all, &cache);
        let before = settled(&cache);
        run_threads(0..share(8 * all), &cache);
        let after = settled(&cache);
        // So that a failure can be told.
        ebbmalloc::set_budget(None);
        assert!(
            WALKS[0].load(Ordering::Relaxed) > share(256),
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
/// no memory. Seen to fail ("memory allocation of 16384 bytes failed", abort) with no memory apart (`reclaim`), and with that for
/// threads inside seize only: at a thread's exit.
#[test]
fn a_used_up_budget_ends_no_thread() {
    in_both_modes("a_used_up_budget_ends_no_thread", || {
        let count = share(200);
        let mut blocks = Vec::with_capacity(200_000);
        let mut threads = Vec::with_capacity(count);
        let mut barrier = Barrier::new(count);
        leave(4 * MIB);
        ebbmalloc::set_reserve(0);
        let registration = Cache::new(0, 1).register(patient("empty"));
        exhaust(&mut blocks);
        assert!(matches!(
            ebbmalloc::register(patient("too late"), Nothing),
            Err(RegisterError::OutOfMemory)
        ));
        let with = &raw mut barrier;
        // SAFETY: the barrier stays until the threads are joined.
        threads.extend((0..count).map(|_| unsafe { Bare::start(walk_in_vain, with) }));
        threads.into_iter().for_each(Bare::join);
        drop(registration);
        assert!(ebbmalloc::stats().reclaim.walks > count as u64);
        drop(blocks);
        assert!(Block::new(MIB).is_some());
    });
}
