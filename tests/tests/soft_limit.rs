//! The soft limit: caches shrink before any request has to ask them. Each test has a process, and so a budget, of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use ebb_tests::fork::forked;
use ebb_tests::{Block, Cache, MIB, alone, alone_in, in_both_modes, patient};
use ebbmalloc::{
    Count, Lane, Registration, Scan, Shrink, ShrinkControl, SoftLimit, set_soft_limit, soft_limit,
};

/// Bytes of a block in the caches.
const SIZE: usize = 10_000;
/// The soft limit.
const SOFT: usize = 32 * MIB;
/// Where the reclaim thread stops.
const LOW: usize = SOFT - SOFT / 16;
/// How much more than the soft limit is taken at most.
const MORE: usize = 512 << 10;
/// What comes free in pieces beside what was wanted.
const SLACK: usize = 2 * MIB;

/// A budget twice as large as [`SOFT`], which is half of it.
fn limits() {
    ebbmalloc::set_budget(Some(2 * SOFT));
    set_soft_limit(Some(SoftLimit::Percent(50)));
    assert!(soft_limit().is_some_and(|limit| limit.abs_diff(SOFT) < 100));
}

/// A cache of so many bytes. What makes room for them is what is too much, as in any program.
fn cache(name: &str, bytes: usize, lane: Lane) -> (Arc<Cache>, Registration) {
    let cache = Cache::new(bytes / SIZE, SIZE);
    let registration = cache.register(patient(name).lane(lane));
    (cache, registration)
}

/// Blocks until a little more is backed than the soft limit, [`MORE`] at most.
fn exceed(blocks: &mut Vec<Block>) {
    const PIECE: usize = 128 << 10;
    let mut add = || blocks.push(Block::new(PIECE).expect("the budget is far"));
    while ebbmalloc::backed() + PIECE < SOFT {
        add();
    }
    // Those may come when the reclaim thread is done already.
    (0..MORE / PIECE).for_each(|_| add());
}

/// Waits for it.
fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until no more is backed than the low mark, but for what was taken when the reclaim thread had come so far.
fn until_low() {
    until(|| ebbmalloc::backed() <= LOW + MORE);
}

/// How often a reclaim thread began.
fn begun() -> u64 {
    ebbmalloc::stats().reclaim.soft_reclaims
}

/// Whether no allocation met a limit.
fn nobody_failed() -> bool {
    ebbmalloc::stats().reclaim.failures == 0
}

/// The threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Seen to fail (ended by the alarm) with the thread not woken, with the async lane left out, and with a low mark at half of the
/// limit.
#[test]
fn caches_shrink_before_there_is_need() {
    in_both_modes("caches_shrink_before_there_is_need", || {
        limits();
        let (here, registration) = cache("here", 10 * MIB, Lane::Sync);
        let (there, _there) = cache("there", 10 * MIB, Lane::Async);
        let held = [&here, &there].map(|cache| cache.len() * SIZE);
        let mut blocks = Vec::new();
        exceed(&mut blocks);
        until_low();
        // It rests by now, or soon: with nothing left to be done.
        thread::sleep(Duration::from_millis(50));
        assert!(nobody_failed());
        let left = [&here, &there].map(|cache| cache.len() * SIZE);
        let gave = [held[0] - left[0], held[1] - left[1]];
        assert!(gave[0] > 0 && gave[1] > 0, "{gave:?}");
        let gave = gave[0] + gave[1];
        assert!(gave < SOFT - LOW + SLACK, "{gave}");
        assert!(ebbmalloc::backed() > LOW - SLACK);
        let stats = ebbmalloc::stats();
        assert!(stats.soft_limit.abs_diff(SOFT as u64) < 100);
        assert!(stats.reclaim.bytes_soft as usize >= gave - SLACK);
        assert_eq!(registration.stats().panics, 0);
    });
}

/// What is kept for reuse is given back first, and may be enough. Seen to fail with the caches asked at once.
#[test]
fn what_is_kept_goes_first() {
    alone("what_is_kept_goes_first", || {
        ebbmalloc::set_budget(Some(2 * SOFT));
        let (cache, _registration) = cache("cache", 10 * MIB, Lane::Sync);
        let mut blocks: Vec<_> = (0..20).map(|_| Block::new(MIB).unwrap()).collect();
        blocks.truncate(13);
        let backed = ebbmalloc::backed();
        set_soft_limit(Some(SoftLimit::Bytes(backed - 1)));
        until(|| ebbmalloc::backed() <= backed - 6 * MIB);
        // It rests by now, or soon.
        thread::sleep(Duration::from_millis(20));
        assert_eq!((begun(), cache.scans()), (1, 0));
    });
}

/// Without a limit there is no thread, nor with one that is not met. Seen to fail with the thread begun whatever is backed.
#[test]
fn nobody_who_did_not_ask_has_a_thread() {
    alone("nobody_who_did_not_ask_has_a_thread", || {
        let before = threads();
        ebbmalloc::set_budget(Some(2 * SOFT));
        let (cache, _registration) = cache("cache", 10 * MIB, Lane::Sync);
        let mut blocks = Vec::new();
        exceed(&mut blocks);
        assert_eq!((threads(), begun(), soft_limit()), (before, 0, None));
        set_soft_limit(Some(SoftLimit::Percent(90)));
        blocks.push(Block::new(MIB).unwrap());
        assert_eq!((threads(), begun()), (before, 0));
        assert_eq!(cache.scans(), 0);
    });
}

/// A limit that is set, or that a new budget changes, holds for what is backed already. Seen to fail (ended by the alarm) without
/// `arm` in either, and with the sync lane left out.
#[test]
fn a_new_limit_holds_at_once() {
    alone("a_new_limit_holds_at_once", || {
        let (cache, _registration) = cache("cache", 24 * MIB, Lane::Sync);
        let mut blocks = Vec::new();
        exceed(&mut blocks);
        set_soft_limit(Some(SoftLimit::Bytes(SOFT - 4 * MIB)));
        let reached = |limit: usize| until(|| ebbmalloc::backed() <= limit - limit / 16);
        reached(SOFT - 4 * MIB);
        set_soft_limit(Some(SoftLimit::Percent(50)));
        assert_eq!(soft_limit(), None, "of no budget");
        ebbmalloc::set_budget(Some(48 * MIB));
        assert!(soft_limit().is_some_and(|limit| limit <= 24 * MIB));
        reached(24 * MIB);
        let left = cache.len();
        assert!(left > 0);
        set_soft_limit(None);
        let before = begun();
        exceed(&mut blocks);
        assert_eq!(begun(), before, "there is no limit any more");
    });
}

/// After a fork the child has no reclaim thread, and starts one: also where its parent's was at work. Seen to fail (it did not
/// end) without `soft::arm` in the child, and with `started` left as it was.
#[test]
fn a_forked_child_has_a_thread_of_its_own() {
    alone("a_forked_child_has_a_thread_of_its_own", || {
        limits();
        let slow = Asked::new();
        let _slow = ebbmalloc::register(patient("slow"), slow.clone()).unwrap();
        let (cache, _registration) = cache("cache", 20 * MIB, Lane::Sync);
        slow.held.store(true, Ordering::SeqCst);
        let mut blocks = Vec::new();
        exceed(&mut blocks);
        until(|| slow.calls.load(Ordering::SeqCst) > 0);
        // It is in the callback of the other cache.
        let child = forked(|| {
            slow.held.store(false, Ordering::SeqCst);
            blocks.push(Block::new(MIB).unwrap());
            until_low();
            u8::from(cache.is_empty())
        });
        slow.held.store(false, Ordering::SeqCst);
        assert_eq!(child, Some(0));
        until_low();
        assert!(nobody_failed() && !cache.is_empty());
    });
}

/// A cache that says it has much and gives nothing. It counts how often others than its owner ask, who wait while it is held.
struct Asked {
    owner: ThreadId,
    calls: AtomicUsize,
    held: AtomicBool,
    /// Whether it was ever asked for everything.
    all: AtomicBool,
}

impl Asked {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            owner: thread::current().id(),
            calls: AtomicUsize::new(0),
            held: AtomicBool::new(false),
            all: AtomicBool::new(false),
        })
    }
}

impl Shrink for Asked {
    fn count(&self, ctl: &ShrinkControl) -> Count {
        self.all.fetch_or(ctl.priority() == 0, Ordering::SeqCst);
        if thread::current().id() != self.owner {
            self.calls.fetch_add(1, Ordering::SeqCst);
            until(|| !self.held.load(Ordering::SeqCst));
        }
        Count::of(1000)
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        let (objects, bytes) = (0, 0);
        Scan::Freed { objects, bytes }
    }
}

/// Where nothing is to be had the thread rests: it is not at it all the time, nor whenever somebody allocates. What it
/// may do in the time that has passed is counted. Seen to fail with a pause of no length, and with a descent begun anew
/// after one in vain, and with priority 0 too.
#[test]
fn who_has_nothing_is_not_asked_without_end() {
    alone("who_has_nothing_is_not_asked_without_end", || {
        limits();
        let cache = Asked::new();
        let _registration = ebbmalloc::register(patient("cache"), cache.clone()).unwrap();
        let calls = || cache.calls.load(Ordering::SeqCst);
        let mut blocks = Vec::new();
        let start = Instant::now();
        exceed(&mut blocks);
        until(|| calls() > 0);
        for _ in 0..2000 {
            drop(Block::new(MIB));
            thread::yield_now();
        }
        // Pauses of 1, 2, 4... milliseconds, up to a second; and the rise of what is backed.
        let ms = start.elapsed().as_millis() as u64;
        let most = 3 + u64::from((ms + 1).ilog2()) + ms / 1000 + 3;
        assert!(begun() <= most, "{} in {ms} ms", begun());
        assert!(!cache.all.load(Ordering::SeqCst), "that is for requests");
        // As many walks as there are priorities but one, over one lane.
        assert!(calls() as u64 <= 12 * begun() + 12);
        let seen = begun();
        thread::sleep(Duration::from_millis(100));
        assert!(begun() <= seen + 1, "nobody allocates");
    });
}

#[test]
fn the_environment_sets_it() {
    let name = "the_environment_sets_it";
    let settings = [
        ("90%", Some(57 * MIB)),
        ("48M", Some(48 * MIB)),
        ("", None),
        ("0%", None),
        ("101%", None),
        ("soon", None),
    ];
    for (value, limit) in settings {
        let environment = [("EBB_BUDGET", "64M"), ("EBB_SOFT_LIMIT", value)];
        let said = alone_in(name, &environment, || {
            let value = std::env::var("EBB_SOFT_LIMIT").unwrap();
            let expected = settings
                .iter()
                .find(|setting| setting.0 == value)
                .unwrap()
                .1;
            assert_eq!(
                soft_limit().map(|limit| limit / MIB),
                expected.map(|limit| limit / MIB)
            );
        });
        let wrong = limit.is_none() && !value.is_empty();
        if let Some(said) = said {
            assert_eq!(said.contains("EBB_SOFT_LIMIT"), wrong, "{value}: {said}");
        }
    }
}
