//! The reclaim thread: caches that run there, for whom it frees, who waits for it and how long, who is moved there.
//!
//! Each test has a process, and so a budget, of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ebb_tests::{
    Block, Cache, MIB, Slow, alone, alone_saying, blocks, leave, patient, served_beside_a_lock,
};
use ebbmalloc::{Count, Lane, Scan, Shrink, ShrinkControl, Shrinker, SoftLimit};

/// A cache as they are on the market: `scan` blocks on the lock and allocates.
struct Blocking {
    blocks: Mutex<Vec<Block>>,
    threads: Mutex<Vec<thread::ThreadId>>,
}

impl Shrink for Blocking {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.blocks.lock().unwrap().len()).each(10_000)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        let mut blocks = self.blocks.lock().unwrap();
        self.threads.lock().unwrap().push(thread::current().id());
        let working_memory = Block::new(1000);
        let keep = blocks.len().saturating_sub(ctl.to_scan());
        let objects = blocks.drain(keep..).count();
        drop(working_memory);
        Scan::Freed { objects, bytes: 0 }
    }
}

fn blocking() -> (Arc<Blocking>, ebbmalloc::Registration) {
    let cache = Arc::new(Blocking {
        blocks: Mutex::new(blocks(usize::MAX, 10_000)),
        threads: Mutex::default(),
    });
    let spec = patient("blocking").lane(Lane::Async);
    let registration = ebbmalloc::register(spec, cache.clone()).unwrap();
    (cache, registration)
}

/// A block, if it is to be had, and how many requests for it were refused before. A request gives up after a tenth of a second
/// in which the reclaim thread was not heard of: one that took so long proves nothing about a thread that got no processor,
/// unless it happens time and again.
fn block_while_the_machine_runs(size: usize) -> (Option<Block>, usize) {
    const SILENCE: Duration = Duration::from_millis(100);
    for refused in 0..5 {
        let start = Instant::now();
        let block = Block::new(size);
        if block.is_some() || start.elapsed() < SILENCE {
            return (block, refused);
        }
    }
    (None, 5)
}

/// How many requests are refused before a block is to be had, if it is.
fn refused_while_the_machine_runs(size: usize) -> Option<usize> {
    let (block, refused) = block_while_the_machine_runs(size);
    block.map(|_| refused)
}

/// Seen to fail (refused) with `hand_over` giving to nobody while another thread takes all that comes free, and with the
/// request not waiting.
#[test]
fn the_reclaim_thread_frees_for_the_one_who_waits() {
    alone("the_reclaim_thread_frees_for_the_one_who_waits", || {
        leave(24 * MIB);
        let (cache, registration) = blocking();
        let done = AtomicBool::new(false);
        let refused = thread::scope(|scope| {
            // Takes whatever is to be had, and never fails for it.
            scope.spawn(|| {
                let _scope = ebbmalloc::mode(ebbmalloc::Mode::NoWait);
                let mut taken = Vec::new();
                for turn in 1.. {
                    taken.extend(Block::new(64 << 10));
                    thread::yield_now();
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    // An emulator has the other CPUs wait a tenth of a second for one that never sleeps.
                    if turn % 16 == 0 {
                        thread::sleep(Duration::from_micros(20));
                    }
                }
            });
            let refused = [100, 5_000, MIB, 4 * MIB].map(refused_while_the_machine_runs);
            done.store(true, Ordering::SeqCst);
            refused
        });
        let all_served: Option<usize> = refused.into_iter().sum();
        assert!(all_served.is_some(), "{refused:?}");
        // The reclaim thread may still be at it, and takes both locks: here never one under the other.
        let left = cache.blocks.lock().unwrap().len();
        let threads = cache.threads.lock().unwrap();
        assert!(!threads.is_empty() && !threads.contains(&thread::current().id()));
        assert_eq!(registration.stats().panics, 0);
        // One that gives up has asked for everything.
        let gave_up = all_served > Some(0);
        assert!(left > 500 || gave_up, "{left}: no more than is needed");
    });
}

/// The allocation is made under the cache's own lock: the other lane cannot get at it, and the request fails in the
/// end, but soon, and without a deadlock. Seen to fail (ended by the alarm) with a wait for ever in `background::wait`.
#[test]
fn a_stuck_reclaim_thread_is_not_waited_for() {
    let name = "a_stuck_reclaim_thread_is_not_waited_for";
    let said = alone_saying(name, || {
        leave(8 * MIB);
        let (cache, _registration) = blocking();
        {
            let _held = cache.blocks.lock().unwrap();
            let start = Instant::now();
            assert!(Block::new(2 * MIB).is_none());
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        assert!(Block::new(2 * MIB).is_some(), "now it is free");
    });
    if let Some(said) = said {
        assert!(said.contains("the reclaim thread is stuck"), "{said}");
    }
}

/// A cache there that computes for longer than a thread may be silent, before it frees anything.
struct Busy(Mutex<Vec<Block>>);

impl Shrink for Busy {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.0.lock().unwrap().len()).each(10_000)
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {}
        let objects = self.0.lock().unwrap().drain(..).count();
        Scan::Freed { objects, bytes: 0 }
    }
}

/// A thread that is at work, or gets no CPU, is not stuck. Seen to fail (refused) with `is_at_work` not asked.
#[test]
fn a_reclaim_thread_at_work_is_waited_for() {
    alone("a_reclaim_thread_at_work_is_waited_for", || {
        leave(8 * MIB);
        let cache = Arc::new(Busy(Mutex::new(blocks(usize::MAX, 10_000))));
        let spec = patient("busy").lane(Lane::Async);
        let _registration = ebbmalloc::register(spec, cache).unwrap();
        assert!(Block::new(2 * MIB).is_some());
    });
}

/// What other requests say meanwhile is no news of the thread. Seen to fail with any news counted: it
/// took the ten seconds that a request has.
#[test]
fn others_are_not_taken_for_the_reclaim_thread() {
    alone("others_are_not_taken_for_the_reclaim_thread", || {
        leave(8 * MIB);
        let (cache, _registration) = blocking();
        let _held = cache.blocks.lock().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            // Each request that ends is news to all.
            scope.spawn(|| {
                let _scope = ebbmalloc::mode(ebbmalloc::Mode::NoRetry);
                while !done.load(Ordering::SeqCst) {
                    assert!(Block::new(2 * MIB).is_none());
                    thread::sleep(Duration::from_millis(5));
                }
            });
            let start = Instant::now();
            let block = Block::new(2 * MIB);
            let took = start.elapsed();
            // First: who panics here waits for the other thread.
            done.store(true, Ordering::SeqCst);
            assert!(
                block.is_none() && took < Duration::from_secs(10),
                "{took:?}"
            );
        });
    });
}

static BEGUN: AtomicBool = AtomicBool::new(false);
static GO: AtomicBool = AtomicBool::new(false);

/// How long anything is waited for.
const WITHIN: Duration = Duration::from_secs(20);

/// At work until it is so.
fn until(word: &AtomicBool) {
    let start = Instant::now();
    while !word.load(Ordering::SeqCst) && start.elapsed() < WITHIN {}
}

/// A cache that can do nothing for the one who asks for memory, but all when the thread asks it again: slowly.
struct Last {
    asks: thread::ThreadId,
    blocks: Mutex<Vec<Block>>,
}

impl Last {
    /// All that there is.
    fn new() -> Arc<Self> {
        Arc::new(Self {
            asks: thread::current().id(),
            blocks: Mutex::new(blocks(usize::MAX, 100 << 10)),
        })
    }
}

/// What is to be had without waiting for the thread.
fn take_the_rest() -> Vec<Block> {
    let _scope = ebbmalloc::mode(ebbmalloc::Mode::NoRetry);
    std::iter::from_fn(|| Block::new(100 << 10)).collect()
}

/// Whether a request is served that has to wait for the thread, which goes on then.
fn served_when_waiting(size: usize) -> bool {
    let waits = || ebbmalloc::stats().reclaim.waits;
    let before = waits();
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            while waits() == before && start.elapsed() < WITHIN {
                thread::sleep(Duration::from_millis(1));
            }
            GO.store(true, Ordering::SeqCst);
        });
        Block::new(size).is_some()
    })
}

impl Shrink for Last {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(self.blocks.lock().unwrap().len()).each(100 << 10)
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        if thread::current().id() == self.asks {
            return Scan::Stop;
        }
        BEGUN.store(true, Ordering::SeqCst);
        until(&GO);
        let objects = self.blocks.lock().unwrap().drain(..).count();
        Scan::Freed { objects, bytes: 0 }
    }
}

/// A thread that is still at what was put off when the last shrinker of its own is gone frees, or holds already, what others
/// are short of: they wait. Seen to fail (refused) without `wait_for_others`.
#[test]
fn a_thread_that_is_still_at_it_for_others_is_waited_for() {
    alone(
        "a_thread_that_is_still_at_it_for_others_is_waited_for",
        || {
            leave(24 * MIB);
            let first = Cache::new(100, 100 << 10);
            let last = Last::new();
            let last = ebbmalloc::register(patient("last").value(1), last).unwrap();
            // For when the thread was waited for in vain.
            let first = ebbmalloc::register(patient("first").value(2), first).unwrap();
            let spec = patient("there").lane(Lane::Async).value(1);
            let there = ebbmalloc::register(spec, Cache::new(0, 1)).unwrap();
            let served = Block::new(2 * MIB);
            assert!(served.is_some() && BEGUN.load(Ordering::SeqCst));
            there.unregister().unwrap();
            // So that nobody waits for it because it is busy.
            let last = last.retire();
            let taken = take_the_rest();
            assert!(taken.len() >= 50, "the other cache is empty");
            assert!(served_when_waiting(2 * MIB));
            drop((first, last));
        },
    );
}

/// The same where the thread reclaims ahead of need, and nobody asked it. Seen to fail (refused) with `busy` not set there.
#[test]
fn a_thread_that_is_at_it_ahead_of_need_is_waited_for() {
    alone("a_thread_that_is_at_it_ahead_of_need_is_waited_for", || {
        leave(24 * MIB);
        let last = Last::new();
        let last = ebbmalloc::register(patient("last").batch(1), last).unwrap();
        ebbmalloc::set_soft_limit(Some(SoftLimit::Percent(50)));
        until(&BEGUN);
        assert!(BEGUN.load(Ordering::SeqCst));
        // So that nobody waits for it because it is busy.
        let last = last.retire();
        let _taken = take_the_rest();
        assert!(served_when_waiting(2 * MIB));
        drop(last);
    });
}

/// A cache that gives nothing, and writes down who asked.
struct Miser {
    held: AtomicBool,
    /// The thread, the priority, and how many objects one visit asked for.
    visits: Mutex<Vec<(thread::ThreadId, u8, usize)>>,
}

impl Miser {
    const OBJECTS: usize = 4000;
}

impl Shrink for Miser {
    fn count(&self, ctl: &ShrinkControl) -> Count {
        let visit = (thread::current().id(), ctl.priority(), 0);
        self.visits.lock().unwrap().push(visit);
        Count::of(Self::OBJECTS)
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        if self.held.load(Ordering::SeqCst) {
            return Scan::Stop;
        }
        let mut visits = self.visits.lock().unwrap();
        visits
            .iter_mut()
            .rev()
            .take(1)
            .for_each(|visit| visit.2 += ctl.to_scan());
        let (objects, bytes) = (0, 0);
        Scan::Freed { objects, bytes }
    }
}

/// Where there is a reclaim thread, a request asks for its own share alone, and what was put off is left to the thread. Seen to
/// fail with `own_share` never set: the request was asked for what it had put off before.
#[test]
fn what_was_put_off_is_left_to_the_reclaim_thread() {
    alone("what_was_put_off_is_left_to_the_reclaim_thread", || {
        let miser = Arc::new(Miser {
            held: AtomicBool::new(true),
            visits: Mutex::new(Vec::with_capacity(100_000)),
        });
        leave(8 * MIB);
        let behind = ebbmalloc::register(patient("behind"), miser.clone()).unwrap();
        let (cache, _registration) = blocking();
        cache.blocks.lock().unwrap().clear();
        let _taken = blocks(usize::MAX, 64 << 10);
        assert!(Block::new(MIB).is_none());
        assert!(
            behind.stats().deferred > Miser::OBJECTS,
            "{:?}",
            behind.stats()
        );
        miser.held.store(false, Ordering::SeqCst);
        miser.visits.lock().unwrap().clear();
        assert!(Block::new(MIB).is_none());
        let visits = miser.visits.lock().unwrap();
        let here = thread::current().id();
        let mut others = 0;
        for (thread, priority, asked) in visits.iter() {
            let share = (Miser::OBJECTS >> priority) * 2;
            // The last walk asks for everything twice over.
            if *thread == here && *priority > 0 {
                assert!(*asked <= share + 128, "{asked} at {priority}");
            }
            others += usize::from(*thread != here && *asked > 0);
        }
        assert!(others > 0, "the thread has not come by");
    });
}

/// A polite cache there, whose lock somebody holds for a moment, is asked again. Seen to fail when only a cache that another
/// thread was in was asked again.
#[test]
fn a_cache_that_cannot_say_is_asked_again_there() {
    alone("a_cache_that_cannot_say_is_asked_again_there", || {
        leave(24 * MIB);
        let cache = Cache::new(usize::MAX, 3_000);
        let _registered = cache.register(patient("locked").lane(Lane::Async));
        assert!(served_beside_a_lock(&cache, 2 * MIB));
    });
}

/// Seen to fail with `moved` not reported, and with the reclaim thread not started for it.
#[test]
fn a_late_shrinker_is_moved_and_reported() {
    let said = alone_saying("a_late_shrinker_is_moved_and_reported", || {
        leave(8 * MIB);
        let cache = Cache::new(usize::MAX, 60_000);
        let spec = Shrinker::new("dawdler").deadline(Duration::from_millis(1));
        let registration =
            ebbmalloc::register(spec, Slow(cache, Duration::from_millis(3))).unwrap();
        let mut taken = Vec::new();
        for _ in 0..20 {
            let (block, _) = block_while_the_machine_runs(100_000);
            taken.push(block.expect("there is enough"));
        }
        let stats = registration.stats();
        assert!(stats.moved && stats.overruns == 3, "{stats:?}");
        assert_eq!(ebbmalloc::stats().reclaim.moved, 1);
        assert!(ebbmalloc::stats().reclaim.waits > 0);
    });
    if let Some(said) = said {
        let lines = said
            .lines()
            .filter(|line| line.contains("\"dawdler\"") && line.contains("reclaim thread"));
        assert_eq!(lines.count(), 1, "{said}");
    }
}

/// After a fork the child has no reclaim thread, and starts one. Seen to fail without `background::forget`.
#[test]
fn a_forked_child_has_a_reclaim_thread_of_its_own() {
    alone("a_forked_child_has_a_reclaim_thread_of_its_own", || {
        leave(16 * MIB);
        let (cache, _registration) = blocking();
        assert!(Block::new(MIB).is_some(), "the thread runs");
        // It may still be at it.
        let held = cache.blocks.lock().unwrap();
        // SAFETY: the child allocates, which is what the fork handlers are for, and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        drop(held);
        if child == 0 {
            // SAFETY: no pointers.
            unsafe { libc::alarm(60) };
            let served = Block::new(4 * MIB).is_some();
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!served)) };
        }
        let mut status = 0;
        // SAFETY: our child, and a place for its status.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        assert!(Block::new(MIB).is_some(), "and in the parent");
    });
}
