//! Models of the core protocol, on the crate's real code: every schedule and every allowed reordering of
//! register, walk and unregister with few threads. Run by
//! `RUSTFLAGS="--cfg loom" cargo test -p ebb-shrinker --release --test loom`.
//!
//! The collector is a model (`src/sync_model.rs`) that fails when a freed record is touched.
#![cfg(loom)]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ebb_shrinker::*;
use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// A cache whose content is plain memory, so that loom sees a callback that runs before the content was published,
/// or while it is being dropped.
struct Cache {
    content: UnsafeCell<usize>,
    calls: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
}

// SAFETY: that the accesses to `content` do not race is what the models check.
unsafe impl Sync for Cache {}

impl Shrink for Cache {
    fn count(&self, _: &ShrinkControl) -> Count {
        assert!(!self.dropped.load(Ordering::Relaxed));
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.content.with(|content| {
            // SAFETY: checked by loom.
            assert_eq!(unsafe { *content }, 7);
        });
        Count::Empty
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        Scan::Stop
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
        self.content.with_mut(|content| {
            // SAFETY: checked by loom.
            unsafe { *content = 0 };
        });
    }
}

/// What a test sees of its cache.
#[derive(Clone, Default)]
struct Seen {
    calls: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
}

impl Seen {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    fn dropped(&self) -> bool {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn list() -> &'static ShrinkerList {
    Box::leak(Box::default())
}

fn prepare(list: &'static ShrinkerList) -> (Prepared, Seen) {
    let seen = Seen::default();
    let cache = Cache {
        content: UnsafeCell::new(7),
        calls: seen.calls.clone(),
        dropped: seen.dropped.clone(),
    };
    (Shrinker::new("model").prepare(list, cache).unwrap(), seen)
}

/// A walk. A failed assertion or a race inside a callback is caught by the walk; this brings it out again.
fn walk(list: &ShrinkerList) -> usize {
    let report = list.walk(&Walk::default(), &mut |_| ControlFlow::Continue(()));
    list.for_each(&mut |stats| assert_eq!(stats.panics, 0, "a callback failed"));
    report.visited
}

/// `end` takes a shrinker off while a walk goes over it and another: after `end` its cache is dropped and not called.
fn walk_against(end: impl Fn(Registration) + Sync + Send + 'static) {
    model(3, move || {
        let list = list();
        let (first, seen) = prepare(list);
        let (second, _) = prepare(list);
        let (first, second) = (first.register(), second.register());
        let walker = thread::spawn(move || walk(list));
        end(first);
        assert!(seen.dropped());
        let calls = seen.calls();
        assert!((1..=2).contains(&walker.join().unwrap()));
        assert_eq!(seen.calls(), calls, "called afterwards");
        std::mem::forget(second);
    });
}

/// Every schedule with at most so many preemptions.
fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// I5: a walker either passes over a shrinker that is being registered, or sees all of it.
#[test]
fn loom_register_publishes_everything() {
    model(3, || {
        let list = list();
        // One is registered already, so that the new one is linked behind a record, not at the head.
        let (first, _) = prepare(list);
        let first = first.register();
        let walker = thread::spawn(move || walk(list));
        let second = thread::spawn(move || {
            let (second, seen) = prepare(list);
            (second.register(), seen)
        });
        assert!((1..=2).contains(&walker.join().unwrap()));
        let (second, seen) = second.join().unwrap();
        assert!(seen.calls() <= 1);
        std::mem::forget((first, second));
    });
}

/// I1, I2, I3, I8: nothing freed is touched, and no callback runs after unregistering has returned.
#[test]
fn loom_walk_against_unregister() {
    walk_against(|shrinker| shrinker.unregister().unwrap());
}

/// A cache that gives one object.
struct Giver(UnsafeCell<usize>);

// SAFETY: that the accesses do not race is what the models check.
unsafe impl Sync for Giver {}

impl Shrink for Giver {
    fn count(&self, _: &ShrinkControl) -> Count {
        Count::of(1)
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        self.0.with_mut(|left| {
            // SAFETY: checked by loom.
            unsafe { *left -= 1 };
        });
        let (objects, bytes) = (1, 1);
        Scan::Freed { objects, bytes }
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.0.with_mut(|left| {
            // SAFETY: checked by loom.
            unsafe { *left = 0 };
        });
    }
}

/// A walk over a giver and another, which are taken off meanwhile, one after the other. The visitor that hears of what was freed
/// may wait for that. The walk comes to its end, nothing freed is touched, and the record left to the walk is ended.
fn beside_a_visitor(waits: bool) {
    model(3, move || {
        let list = list();
        let first = Shrinker::new("giver").register(list, Giver(UnsafeCell::new(1)));
        let (first, second) = (first.unwrap(), prepare(list).0.register());
        // One stays, so that no walk is cut short, which the model would not explore.
        let third = prepare(list).0.register();
        let gone = loom::sync::Arc::new((Mutex::new(false), Condvar::new()));
        let seen = gone.clone();
        let walker = thread::spawn(move || {
            let all = Walk {
                priority: 0,
                exhaustive: true,
                ..Walk::default()
            };
            list.walk(&all, &mut |visit| {
                let mut gone = seen.0.lock().unwrap();
                while waits && visit.objects > 0 && !*gone {
                    gone = seen.1.wait(gone).unwrap();
                }
                ControlFlow::Continue(())
            });
        });
        first.unregister().unwrap();
        second.unregister().unwrap();
        *gone.0.lock().unwrap() = true;
        gone.1.notify_one();
        walker.join().unwrap();
        third.unregister().unwrap();
        assert!(list.is_empty(), "nobody ended it");
    });
}

/// I9. Seen to fail with `state.wait` until no reference is left and with a `leave` that wakes nobody (a deadlock), with the
/// record unlinked whoever holds a reference ("a link was read in freed memory"), and with a `leave` that is Relaxed.
#[test]
fn loom_unregister_beside_a_visitor() {
    beside_a_visitor(true);
}

/// I7, I9: a scan that pauses, beside a removal: it goes on with a cache that is there, or not at all. Seen to fail with a
/// `try_return` that takes what is dying (a race with who takes the cache out).
#[test]
fn loom_unregister_in_a_pause() {
    model(3, || {
        let list = list();
        let pile = Giver(UnsafeCell::new(2));
        let first = Shrinker::new("giver").batch(1).register(list, pile);
        let first = first.unwrap();
        let second = prepare(list).0.register();
        let walker = thread::spawn(move || {
            let some = Walk {
                priority: 0,
                objects: 2,
                goal: 1,
                ..Walk::default()
            };
            let mut pauses = 0;
            let report = list.walk(&some, &mut |visit| {
                pauses += usize::from(visit.pause);
                ControlFlow::Continue(())
            });
            list.for_each(&mut |stats| assert_eq!(stats.panics, 0, "a callback failed"));
            assert!(report.objects >= pauses);
        });
        first.unregister().unwrap();
        walker.join().unwrap();
        second.unregister().unwrap();
        assert!(list.is_empty(), "nobody ended it");
    });
}

/// The walker gives back the last reference before, while or after the record is left to it. Seen to fail without the sweep in
/// `end`.
#[test]
fn loom_what_is_left_to_a_walker_is_ended() {
    beside_a_visitor(false);
}

/// I1: while a walk is in a callback of the first, outside the guard, both are taken off by different threads. If the
/// first were unlinked under the walk, its `next` would go on naming the second, which is freed. Seen to fail with
/// `chain.remove` before `state.wait`: "a link led to freed memory".
#[test]
fn loom_walk_between_two_removals() {
    model(2, || {
        let list = list();
        let (first, second) = (prepare(list), prepare(list));
        let (first, second) = (first.0.register(), second.0.register());
        let walker = thread::spawn(move || walk(list));
        let other = thread::spawn(move || first.unregister().unwrap());
        second.unregister().unwrap();
        other.join().unwrap();
        walker.join().unwrap();
    });
}

/// Retiring against a walk: after completion no callback runs, the owner ends it, nothing freed is touched. Seen to fail
/// with `is_complete` always true in `Retirement::drop` (a callback of a dropped cache).
#[test]
fn loom_walk_against_retire() {
    walk_against(|shrinker| shrinker.retire().wait().unwrap());
}

/// A retirement that is dropped, whenever: the walker that gives back the last reference ends it, or its owner does, and
/// never both or none. Seen to fail with `put` no more than Release (the walker's sweep overlooked the orphan), and
/// without the `sweep` in `abandon`.
#[test]
fn loom_dropped_retirement_is_ended_by_somebody() {
    model(3, || {
        let list = list();
        let (first, seen) = prepare(list);
        let first = first.register();
        let walker = thread::spawn(move || walk(list));
        drop(first.retire());
        walker.join().unwrap();
        assert!(seen.dropped(), "nobody ended it");
        assert!(list.is_empty());
    });
}

/// I4: whoever stands on a record while it and its neighbour are unlinked still reaches the rest of the list.
#[test]
fn loom_tail_stays_reachable() {
    model(3, || {
        let list = list();
        let (first, second, third) = (prepare(list), prepare(list), prepare(list));
        let (first, second) = (first.0.register(), second.0.register());
        let (third, seen) = (third.0.register(), third.1);
        let walker = thread::spawn(move || walk(list));
        first.unregister().unwrap();
        second.unregister().unwrap();
        walker.join().unwrap();
        assert_eq!(seen.calls(), 1, "the walk lost the tail");
        std::mem::forget(third);
    });
}

/// Two writers at once, and a walker that meets both.
#[test]
fn loom_unregister_against_unregister() {
    model(3, || {
        let list = list();
        let (first, second) = (prepare(list), prepare(list));
        let (first, second) = (first.0.register(), second.0.register());
        let other = thread::spawn(move || second.unregister().unwrap());
        first.unregister().unwrap();
        other.join().unwrap();
        assert!(list.is_empty());
        assert_eq!(walk(list), 0);
    });
}

/// I12: two walkers, one cache: loom would see its plain content written twice at once.
#[test]
fn loom_one_walker_at_a_time() {
    struct Exclusive(UnsafeCell<usize>);
    // SAFETY: that the accesses do not race is what the model checks.
    unsafe impl Sync for Exclusive {}
    impl Shrink for Exclusive {
        fn count(&self, _: &ShrinkControl) -> Count {
            self.0.with_mut(|calls| {
                // SAFETY: checked by loom.
                unsafe { *calls += 1 };
            });
            Count::Empty
        }
        fn scan(&self, _: &mut ShrinkControl) -> Scan {
            Scan::Stop
        }
    }
    model(3, || {
        let list = list();
        let cache = Exclusive(UnsafeCell::new(0));
        let registration = Shrinker::new("one").register(list, cache).unwrap();
        let other = thread::spawn(move || walk(list));
        let visited = walk(list) + other.join().unwrap();
        assert!((1..=2).contains(&visited));
        std::mem::forget(registration);
    });
}

/// Credit that is given while requests come and go is taken by one of them, given up by the last, or refused; never two
/// of these and never none. Seen to fail with `leave` in two steps (the claim first, the bytes after).
#[test]
fn loom_no_credit_is_lost() {
    model(3, || {
        let list = list();
        let (prepared, _) = prepare(list);
        let credit = list.credit().unwrap();
        let leaver = thread::spawn(move || credit.join().unwrap().leave(1));
        let taker = thread::spawn(move || {
            let claim = credit.join().unwrap();
            let taken = if claim.take(2) { 2 } else { 0 };
            taken + claim.leave(0)
        });
        let refused = if credit.give(2) { 0 } else { 2 };
        let all = refused + leaver.join().unwrap() + taker.join().unwrap();
        assert_eq!((all, credit.claims(), credit.bytes()), (3, 0, 0));
        std::mem::forget(prepared);
    });
}

/// Who waits for credit hears of it. Seen to fail (a deadlock) with `news` read after `take`.
#[test]
fn loom_a_waiter_hears_of_credit() {
    model(3, || {
        let list = list();
        let (prepared, _) = prepare(list);
        let credit = list.credit().unwrap();
        let claim = credit.join().unwrap();
        let giver = thread::spawn(move || assert!(credit.give(2)));
        loop {
            let seen = claim.news();
            if claim.take(2) {
                break;
            }
            claim.sleep(seen, Duration::MAX);
        }
        giver.join().unwrap();
        assert_eq!(claim.leave(0), 0);
        std::mem::forget(prepared);
    });
}
