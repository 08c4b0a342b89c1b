//! Forks of a process whose threads allocate, reclaim, register and exit at that moment: the child finds every lock free
//! and everything whole, and can do all of that itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ebb_tests::fork::forked;
use ebb_tests::{Block, Cache, MIB, Random, in_both_modes, leave, patient, share};
use ebbmalloc::{EbbMalloc, raw};

#[global_allocator]
static ALLOCATOR: EbbMalloc = EbbMalloc;

static STOP: AtomicBool = AtomicBool::new(false);

/// Blocks of many sizes, in a budget that the cache fills up, so that every few of them reclaim.
fn churn(seed: u64) {
    let mut random = Random::new(seed);
    let mut blocks: Vec<_> = (0..64).map(|_| None).collect();
    while !STOP.load(Ordering::Relaxed) {
        let bits = 4 + random.below(15);
        let index = random.below(64);
        blocks[index] = None;
        blocks[index] = Block::new(1 + random.below(1 << bits));
        drop(Block::new(3 * MIB));
    }
}

/// One cache that comes and goes.
fn register_in_place() {
    let cache = Cache::new(0, 1);
    while !STOP.load(Ordering::Relaxed) {
        drop(cache.register(patient("here")));
    }
}

/// Caches that come and go, on threads that do too.
fn register(seed: u64) {
    let mut random = Random::new(seed);
    while !STOP.load(Ordering::Relaxed) {
        let size = 1 + random.below(5000);
        let brief = thread::spawn(move || {
            let cache = Cache::new(0, size);
            let blocks: Vec<_> = (0..100).map_while(|_| Block::new(size)).collect();
            *cache.blocks.lock().unwrap() = blocks;
            let registration = cache.register(patient("brief"));
            drop(Block::new(4 * MIB));
            drop(registration);
        });
        brief.join().unwrap();
    }
}

/// All that the parent's threads do, in the child.
fn everything() -> u8 {
    // The parent's caches may have been locked by threads that are not here.
    ebbmalloc::set_budget(None);
    for shift in 4..24 {
        let block = raw::alloc_zeroed(1 << shift);
        assert!(!block.is_null());
        // SAFETY: live, used no more.
        unsafe { raw::free(block) };
    }
    // Far more than fits into the holes between objects of the parent's, which pin their slabs if their cache is locked.
    let cache = Cache::new(20_000, 1000);
    let registration = cache.register(patient("the child's").value(0));
    leave(2 * MIB);
    assert!(Block::new(5 * MIB).is_some());
    assert!(cache.len() < 20_000 && cache.scans() > 0);
    drop(registration);
    let thread = thread::spawn(|| assert!(Block::new(MIB).is_some()));
    thread.join().unwrap();
    ebbmalloc::purge();
    0
}

/// Seen to fail (hung children) without the handlers of `fork`; and with the locks of the mappings, the classes, draining,
/// or the list of shrinkers left out of them.
#[test]
fn a_child_can_do_everything() {
    in_both_modes("a_child_can_do_everything", || {
        let cache = Cache::new(0, 1000);
        // It must not grow while it is locked: nothing could be reclaimed from it then.
        cache.blocks.lock().unwrap().reserve(30 * 4000);
        let registration = cache.register(patient("cache"));
        ebbmalloc::set_reports(false);
        leave(40 * MIB);
        let mut threads: Vec<_> = (0..3)
            .map(|seed| thread::spawn(move || churn(seed)))
            .collect();
        threads.push(thread::spawn(|| register(9)));
        threads.push(thread::spawn(register_in_place));
        for round in 0..share(30) {
            let filler: Vec<_> = (0..4000).map_while(|_| Block::new(1000)).collect();
            cache.blocks.lock().unwrap().extend(filler);
            assert_eq!(forked(everything), Some(0), "child {round}");
        }
        STOP.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        drop(registration);
    });
}
