//! Allocations that may not fail: what they go beyond, after what, and how that is made up for.
//!
//! Each test has a process, and so a budget, of its own. Blocks of more than 2 MiB are charged to the byte; freed, one may be
//! kept for the next, until all is purged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebb_tests::eight_nodes::{figures, on_it, other};
use ebb_tests::{Block, Cache, MIB, alone, alone_saying, leave, numa, patient};
use ebbmalloc::{Count, Mode, Scan, Shrink, ShrinkControl, mode, no_reclaim};

/// A block that may not fail.
fn must(size: usize) -> Block {
    let _scope = mode(Mode::NoFail);
    Block::new(size).expect("only the system could refuse it")
}

/// How much is backed beyond the budget.
fn beyond() -> usize {
    ebbmalloc::backed().saturating_sub(ebbmalloc::budget().unwrap())
}

/// How many allocations were forced, and by how much in all.
fn forced() -> (u64, usize) {
    let reclaim = ebbmalloc::stats().reclaim;
    (reclaim.forced, reclaim.bytes_forced as usize)
}

/// What does not fit is charged, and others fail until as much was freed. One line tells of it, however many there are. Seen to
/// fail without `force` at the end of `lead`; with what is forced not charged at all; with the whole of it counted as beyond the
/// budget; and without the pause between two lines.
#[test]
fn it_is_charged_beyond_the_budget() {
    let said = alone_saying("it_is_charged_beyond_the_budget", || {
        drop(Block::new(3 * MIB));
        leave(12 * MIB);
        let reserve = ebbmalloc::reserve();
        let held = Block::new(9 * MIB).expect("there is room");
        let rest = Block::new(3 * MIB).expect("there is room");
        ebbmalloc::set_reports(false);
        assert!(Block::new(4 * MIB).is_none());
        ebbmalloc::set_reports(true);
        assert_eq!((beyond(), forced()), (0, (0, 0)));
        let first = must(4 * MIB);
        assert_eq!(beyond(), 4 * MIB - reserve);
        assert_eq!(forced(), (1, beyond()));
        let second = must(5 * MIB);
        assert_eq!(beyond(), 9 * MIB - reserve);
        assert_eq!(forced(), (2, beyond()));
        assert_eq!(ebbmalloc::pressure(), ebbmalloc::Pressure::Critical);
        ebbmalloc::set_reports(false);
        drop(held);
        ebbmalloc::purge();
        let more = Block::new(3 * MIB);
        assert!(more.is_none(), "only the excess is made up for");
        drop(rest);
        ebbmalloc::purge();
        assert!(Block::new(4 * MIB).is_none());
        assert!(Block::new(3 * MIB).is_some());
        drop(must(3 * MIB));
        assert_eq!(forced().0, 2, "it fits");
        drop((first, second));
    });
    // In a child the rest is the parent's business.
    let Some(said) = said else { return };
    let lines = said.lines().filter(|line| line.starts_with("ebbmalloc: "));
    let lines: Vec<_> = lines.collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("so far 1 such"), "{said}");
}

/// What is tried for a request that is larger than what is left, or than the whole budget.
fn all_is_had_first(larger: bool) {
    leave(16 * MIB);
    let held = Block::new(6 * MIB).expect("there is room");
    let cache = Cache::new(10, MIB);
    let _cache = cache.register(patient("cache"));
    let calls = Arc::new(AtomicUsize::new(0));
    let called = calls.clone();
    let call = move |_| {
        called.fetch_add(1, Ordering::SeqCst);
        0
    };
    let _chance = ebbmalloc::on_last_chance("useless", call).unwrap();
    drop(must(3 * MIB));
    assert_eq!((forced().0, calls.load(Ordering::SeqCst)), (0, 0));
    assert!(cache.len() >= 5, "{} objects left", cache.len());
    let whole = ebbmalloc::budget().unwrap();
    let wanted = if larger { whole + MIB } else { 12 * MIB };
    let block = must(wanted);
    assert!(cache.is_empty());
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(beyond(), forced().1);
    let most = wanted - 10 * MIB + MIB / 2;
    assert!(beyond() <= most, "{}, {most} at most", beyond());
    drop((held, block));
}

/// All that can be had is had first: the caches' objects and the last chance. Then it goes beyond by what is missing still. Seen
/// to fail with it forced at the first attempt, and with what the caches gave not spent on it.
#[test]
fn caches_are_emptied_first() {
    alone("caches_are_emptied_first", || all_is_had_first(false));
}

/// Seen to fail where no cache is asked for what is larger than the budget.
#[test]
fn caches_are_emptied_for_what_is_larger_than_the_budget() {
    let name = "caches_are_emptied_for_what_is_larger_than_the_budget";
    alone(name, || all_is_had_first(true));
}

/// What is freed for others makes up for the excess first. Seen to fail with `excess` always 0.
#[test]
fn a_reclaim_makes_up_for_the_excess() {
    alone("a_reclaim_makes_up_for_the_excess", || {
        leave(24 * MIB);
        let cache = Cache::new(usize::MAX, MIB);
        let block = must(8 * MIB);
        assert!(beyond() >= 7 * MIB);
        let registration = cache.register(patient("cache"));
        assert!(Block::new(MIB).is_some());
        assert_eq!(beyond(), 0);
        let objects = registration.stats().objects;
        assert!((8..20).contains(&objects), "{objects} objects freed");
        drop(block);
    });
}

/// Beside a mode that tries less hard, or none of it, no more is tried than that says. Seen to fail with `NoFail` as the only
/// mode where it is one, and with `None` from `reclaim` where nothing may be reclaimed.
#[test]
fn others_say_what_is_tried_before() {
    alone("others_say_what_is_tried_before", || {
        ebbmalloc::set_reports(false);
        leave(8 * MIB);
        let cache = Cache::new(usize::MAX, MIB);
        let _cache = cache.register(patient("cache"));
        let _chance = ebbmalloc::on_last_chance("never", |_| panic!("no emergency")).unwrap();
        let _firm = mode(Mode::NoFail);
        for begin in [no_reclaim, || mode(Mode::NoWait)] {
            let scope = begin();
            let block = Block::new(3 * MIB);
            assert!(block.is_some() && beyond() > 0);
            assert_eq!(cache.scans(), 0);
            assert_eq!(ebbmalloc::stats().reclaim.reclaims, 0);
            drop((block, scope));
            ebbmalloc::purge();
        }
        for (number, scope) in [Mode::NoRetry, Mode::RetryMayFail].into_iter().enumerate() {
            let scope = mode(scope);
            let block = Block::new(9 * MIB);
            assert!(block.is_some() && beyond() > 0);
            assert!(cache.is_empty());
            assert_eq!(ebbmalloc::stats().reclaim.reclaims, 1 + number as u64);
            drop((block, scope));
            ebbmalloc::purge();
        }
        assert_eq!(forced().0, 4);
    });
}

/// A shrinker whose callback allocates more than there is.
struct Greedy(AtomicUsize);

impl Shrink for Greedy {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(1)
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        let without = Block::new(3 * MIB).is_some();
        let within = {
            let _scope = mode(Mode::NoFail);
            let block = Block::new(3 * MIB);
            block.is_some() && beyond() > 0
        };
        assert_eq!((without, within), (false, true));
        self.0.fetch_add(1, Ordering::SeqCst);
        Scan::Stop
    }
}

/// Seen to fail with `force` in requests that reclaim alone.
#[test]
fn a_callback_may_say_so_too() {
    alone("a_callback_may_say_so_too", || {
        ebbmalloc::set_reports(false);
        leave(8 * MIB);
        let held = Block::new(6 * MIB).expect("there is room");
        let greedy = Arc::new(Greedy(AtomicUsize::new(0)));
        let registration = ebbmalloc::register(patient("greedy"), greedy.clone()).unwrap();
        let _scope = mode(Mode::RetryMayFail);
        assert!(Block::new(3 * MIB).is_none());
        let calls = greedy.0.load(Ordering::SeqCst);
        assert!(calls > 0 && registration.stats().panics == 0);
        assert_eq!((forced().0, beyond()), (calls as u64, 0));
        drop(held);
    });
}

/// As for the budget of the process, on a node that is insisted on; and where none is, the others' rooms are used first. Seen to
/// fail with the node's account not asked for it, and with its charge made twice.
#[test]
fn it_is_charged_beyond_the_budget_of_a_node() {
    on_it("it_is_charged_beyond_the_budget_of_a_node", || {
        let (cpu, id) = other();
        let node = || figures(id).backed as usize;
        let on_it = |size| numa::Block::on_node(size, id);
        drop(on_it(3 * MIB));
        ebbmalloc::purge();
        let before = node();
        ebbmalloc::set_node_budget(id, Some(before + 8 * MIB));
        let held = on_it(8 * MIB).expect("there is room");
        assert!(on_it(3 * MIB).is_none());
        let (more, near) = numa::on_cpu(cpu, || {
            let _firm = mode(Mode::NoFail);
            let near = numa::Block::new(3 * MIB).expect("others have room");
            assert!(near.node() != id && forced().0 == 0);
            (on_it(3 * MIB).expect("no budget refuses it"), near)
        });
        assert_eq!((node(), forced()), (before + 11 * MIB, (1, 0)));
        drop(held);
        ebbmalloc::purge();
        assert!(on_it(6 * MIB).is_none());
        assert!(on_it(5 * MIB).is_some());
        drop((more, near));
        ebbmalloc::purge();
        assert_eq!(node(), before, "the account is even");
    });
}
