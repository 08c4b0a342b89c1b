//! What may happen in callbacks and when: one thread at a time, panics, exiting threads.
#![cfg(not(loom))]

mod common;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use ebb_shrinker::*;

/// I12. Seen to fail (stuck) with the busy mark ignored by `try_get`.
#[test]
fn one_thread_per_shrinker() {
    let list = list();
    let (inside, most) = (counter(), counter());
    let cache = on_count(move || {
        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        thread::sleep(Duration::from_micros(100));
        inside.fetch_sub(1, Ordering::SeqCst);
    });
    let registration = patient("alone").register(list, cache).unwrap();
    let walkers: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let (mut visited, mut skipped) = (0, 0);
                while visited < 50 {
                    let report = walk(list, 12);
                    visited += report.visited;
                    skipped += report.skipped_busy;
                    // Not in a circle: an emulator has the others' CPUs wait for a thread that never sleeps.
                    if report.skipped_busy > 0 {
                        thread::sleep(Duration::from_micros(10));
                    }
                }
                (visited, skipped)
            })
        })
        .collect();
    let (mut visited, mut skipped) = (0, 0);
    for walker in walkers {
        let (v, s) = walker.join().unwrap();
        visited += v;
        skipped += s;
    }
    assert_eq!(most.load(Ordering::SeqCst), 1);
    let stats = registration.stats();
    assert_eq!(stats.calls, visited as u64);
    assert_eq!(stats.skipped_busy, skipped as u64);
    assert!(skipped > 0, "the threads never met");
}

/// The last pass of a request that has got nothing for so long.
fn last_pass(list: &ShrinkerList, fruitless: Duration) -> WalkReport {
    let walk = Walk {
        priority: 0,
        exhaustive: true,
        fruitless,
        ..Walk::default()
    };
    list.walk(&walk, &mut |_| ControlFlow::Continue(()))
}

/// A shrinker that is asked for everything once, and gives so many objects; from then on its callback stands at a gate, on
/// another thread. Whether who is passed over should wait, if he has got nothing since then, and since before.
fn passed_over(spec: Shrinker, objects: usize, held: Duration) -> (usize, usize) {
    const LONG: Duration = Duration::from_secs(3600);
    let (list, calls) = (list(), counter());
    let (stand, arrivals, go) = gate();
    let cache = Fake {
        count: move |_: &ShrinkControl| {
            if calls.fetch_add(1, Ordering::SeqCst) > 0 {
                stand();
            }
            Count::of(objects)
        },
        scan: move |_: &mut ShrinkControl| Scan::Freed { objects, bytes: 0 },
    };
    let _registration = spec.register(list, cache).unwrap();
    assert_eq!(last_pass(list, LONG).visited, 1);
    let walker = thread::spawn(move || walk(list, 12));
    arrivals.recv_timeout(PATIENCE).unwrap();
    thread::sleep(held);
    assert_eq!(walk(list, 0).pending, 0, "there is another pass to come");
    let (new, old) = (last_pass(list, Duration::ZERO), last_pass(list, LONG));
    assert_eq!((new.skipped_busy, old.skipped_busy), (1, 1));
    go.send(()).unwrap();
    walker.join().unwrap();
    (new.pending, old.pending)
}

/// Who was passed over waits for the one inside; but not where somebody has asked for everything and got nothing while he
/// did, nor for one who is stuck. Seen to fail with either left out, and with every visit taken for one in vain.
#[test]
fn who_is_passed_over_knows_what_to_wait_for() {
    let (no_time, long) = (Duration::ZERO, Duration::from_millis(150));
    assert_eq!(passed_over(patient("in vain"), 0, no_time), (1, 0));
    assert_eq!(passed_over(patient("fruitful"), 1, no_time), (1, 1));
    assert_eq!(passed_over(patient("may be long"), 1, long), (1, 1));
    assert_eq!(passed_over(Shrinker::new("stuck"), 1, long), (0, 0));
}

/// I13. Seen to fail with `in_service` always true: called three times.
#[test]
fn a_panicking_callback_is_quarantined() {
    let (list, pile) = (list(), Pile::leak(300));
    let (calls, drops) = (counter(), counter());
    let flag = Flag(drops);
    let cache = on_scan(1000, move |_| {
        let _ = &flag;
        // The first call is kept, the second lost.
        match calls.fetch_add(1, Ordering::SeqCst) {
            0 => Scan::Freed {
                objects: 5,
                bytes: 50,
            },
            _ => panic!("a cache's own"),
        }
    });
    let bad = patient("bad").register(list, cache).unwrap();
    let _good = patient("good").register(list, Front(pile)).unwrap();
    let report = walk_for_all(list);
    assert_eq!((report.visited, report.objects), (2, 305));
    for _ in 0..2 {
        assert_eq!(walk_for_all(list).visited, 1);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    let stats = bad.stats();
    assert!(stats.quarantined);
    assert_eq!((stats.panics, stats.objects, stats.bytes), (1, 5, 50));
    in_time("unregister", move || bad.unregister().unwrap());
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

/// A payload whose destructor panics again must not bring the walk down.
#[test]
fn a_panic_with_a_bad_payload_is_contained() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("again");
        }
    }
    let list = list();
    let cache = on_count(|| std::panic::panic_any(Bad));
    let registration = patient("bad").register(list, cache).unwrap();
    assert_eq!(walk(list, 12).visited, 1);
    assert!(registration.stats().quarantined);
}

/// Callbacks may use the list: the lock is not held, and those it registers and removes are others.
#[test]
fn callbacks_may_register_and_unregister_others() {
    let (list, drops) = (list(), counter());
    let cache = on_count(move || {
        let flag = Flag(drops);
        let other = on_count(move || {
            let _ = &flag;
        });
        let registration = patient("other").register(list, other).unwrap();
        list.for_each(&mut |_| ());
        registration.unregister().unwrap();
    });
    let _registration = patient("host").register(list, cache).unwrap();
    in_time("the walk", move || walk(list, 12));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    list.for_each(&mut |stats| assert_eq!(stats.panics, 0));
}

/// Runs a closure when the thread exits.
struct AtExit(RefCell<Option<Box<dyn FnOnce()>>>);

impl Drop for AtExit {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

thread_local! {
    static AT_EXIT: AtExit = const { AtExit(RefCell::new(None)) };
}

fn at_exit(f: impl FnOnce() + 'static) {
    AT_EXIT.with(|slot| slot.0.replace(Some(Box::new(f))));
}

/// Its last act, after seize is gone from it: what it allocates may fail again. Seen to fail with the test of `thread_exiting` left
/// out of `walk`, and with nothing done when the id is given back.
#[test]
fn an_exiting_thread_walks_no_more() {
    let list = list();
    let _registration = patient("any").register(list, on_count(|| ()));
    let visited = counter();
    visited.store(99, Ordering::SeqCst);
    let thread = thread::spawn(move || {
        // Registered first, so run last.
        at_exit(move || {
            assert!(thread_exiting() && !thread_must_not_fail());
            list.for_each(&mut |stats| assert_eq!(stats.name(), "any"));
            visited.store(walk(list, 0).visited, Ordering::SeqCst);
        });
        assert_eq!(walk(list, 12).visited, 1);
        assert!(!thread_exiting());
    });
    thread.join().unwrap();
    assert_eq!(visited.load(Ordering::SeqCst), 0);
}

/// Its first act, in a destructor of thread locals. It walks, and leaves in order.
#[test]
fn a_thread_that_walks_only_while_exiting_is_served() {
    let list = list();
    let _registration = patient("any").register(list, on_count(|| ()));
    let visited = counter();
    for round in 1..=100 {
        let thread = thread::spawn(move || {
            at_exit(move || {
                visited.fetch_add(walk(list, 0).visited, Ordering::SeqCst);
            });
        });
        thread.join().unwrap();
        assert_eq!(visited.load(Ordering::SeqCst), round);
    }
}

/// Removing works on an exiting thread too: the record is left to the next one that comes by. Seen to fail (an
/// abort) with `retire` going to seize on such a thread.
#[test]
fn an_exiting_thread_can_unregister() {
    let (list, drops) = (list(), counter());
    for round in 1..=50 {
        let thread = thread::spawn(move || {
            let flag = Flag(drops);
            let cache = on_count(move || {
                let _ = &flag;
            });
            let registration = patient("late").register(list, cache).unwrap();
            at_exit(move || {
                assert!(thread_exiting());
                drop(registration);
            });
            assert_eq!(walk(list, 12).visited, 1);
        });
        thread.join().unwrap();
        assert_eq!(drops.load(Ordering::SeqCst), round);
        assert!(list.is_empty());
    }
}

/// Threads that come and go while others walk: seize's thread ids are reused all the time.
#[test]
fn short_lived_threads_walk_side_by_side() {
    static DONE: AtomicBool = AtomicBool::new(false);
    let list = list();
    let registrations: Vec<_> = (0..5)
        .map(|_| patient("any").register(list, on_count(|| ())).unwrap())
        .collect();
    let walker = thread::spawn(move || {
        while !DONE.load(Ordering::SeqCst) {
            list.walk(&Walk::default(), &mut |_| ControlFlow::Continue(()));
        }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        let threads = [(); 4].map(|()| thread::spawn(move || walk(list, 12)));
        for thread in threads {
            thread.join().unwrap();
        }
        let brief = patient("brief").register(list, on_count(|| ()));
        brief.unwrap().unregister().unwrap();
    }
    DONE.store(true, Ordering::SeqCst);
    walker.join().unwrap();
    drop(registrations);
}
