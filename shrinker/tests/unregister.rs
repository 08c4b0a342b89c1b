//! What unregistering waits for, what it does not wait for, and what is true when it returns.
#![cfg(not(loom))]

mod common;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use ebb_shrinker::*;

/// I8. Seen to fail with `state.wait` left out: it returned while the callback ran.
#[test]
fn unregister_waits_for_a_running_callback() {
    let held = HeldUp::new();
    let (registration, drops) = (held.registration, held.drops);
    let (sender, returned) = mpsc::channel();
    let remover = thread::spawn(move || {
        registration.unregister().unwrap();
        sender.send(drops.load(Ordering::SeqCst)).unwrap();
    });
    let early = returned.recv_timeout(Duration::from_millis(50));
    assert!(early.is_err(), "returned while the callback ran");
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    held.go.send(()).unwrap();
    let dropped = returned.recv_timeout(PATIENCE).expect("never returned");
    assert_eq!(dropped, 1, "the cache is dropped when it returns");
    remover.join().unwrap();
    assert_eq!(held.walker.join().unwrap().visited, 1);
    assert!(held.list.is_empty());
}

/// I9. A visitor that hears of what was freed takes as long as it likes: meanwhile the shrinker is taken off, its cache is
/// dropped, and the walk goes on. Seen to fail with `state.wait` until no reference is left: stuck.
#[test]
fn unregister_does_not_wait_for_visitors() {
    let list: &'static ShrinkerList = Box::leak(Box::default());
    let (first, second) = (Pile::leak(10), Pile::leak(10));
    let registration = patient("first").register(list, Front(first)).unwrap();
    let other = patient("second").register(list, Front(second)).unwrap();
    let (entered, inside) = mpsc::channel();
    let (go, leave) = mpsc::channel::<()>();
    let walker = thread::spawn(move || {
        let all = Walk {
            priority: 0,
            exhaustive: true,
            ..Walk::default()
        };
        list.walk(&all, &mut |visit| {
            if visit.name() == "first" && !visit.pause {
                entered.send(()).unwrap();
                let _ = leave.recv();
            }
            ControlFlow::Continue(())
        })
    });
    inside.recv_timeout(PATIENCE).expect("in the visitor");
    in_time("unregistering", move || registration.unregister().unwrap());
    go.send(()).unwrap();
    let report = walker.join().unwrap();
    assert_eq!((report.visited, report.objects, second.left()), (2, 20, 0));
    other.unregister().unwrap();
    assert!(list.is_empty(), "nobody ended the first");
}

/// A callback that hangs holds up its own removal and nothing else.
#[test]
fn a_blocked_callback_holds_up_nobody_else() {
    let held = HeldUp::new();
    let list = held.list;
    let pile = Pile::leak(1000);
    let (others, visited) = in_time("the others", move || {
        let registration = patient("pile").register(list, Front(pile)).unwrap();
        let report = walk_for_all(list);
        let mut names = 0;
        list.for_each(&mut |_| names += 1);
        registration.unregister().unwrap();
        (names, report)
    });
    assert_eq!((others, visited.visited, visited.skipped_busy), (2, 1, 1));
    assert_eq!(pile.left(), 0);
    held.go.send(()).unwrap();
    held.walker.join().unwrap();
    assert_eq!(held.registration.stats().skipped_busy, 1);
}

/// I7. Two walkers hand the shrinker to each other: each stays in its visitor, with its reference, until the other is
/// in the callback. Seen to fail with `try_get` accepting a dying shrinker that has references: stuck.
#[test]
fn unregister_is_not_starved() {
    let list = list();
    let calls = counter();
    // It frees something: else the visitor runs with others kept out.
    let cache = on_scan(1000, move |_| {
        calls.fetch_add(1, Ordering::SeqCst);
        Scan::Freed {
            objects: 1,
            bytes: 1,
        }
    });
    let registration = patient("contended").register(list, cache).unwrap();
    static DONE: AtomicBool = AtomicBool::new(false);
    let all = Walk {
        priority: 0,
        objects: 1,
        ..Walk::default()
    };
    let hammer = move || {
        while !DONE.load(Ordering::SeqCst) {
            list.walk(&all, &mut |_| {
                let (mine, start) = (calls.load(Ordering::SeqCst), Instant::now());
                while calls.load(Ordering::SeqCst) == mine
                    && start.elapsed() < Duration::from_millis(200)
                {
                    thread::yield_now();
                }
                ControlFlow::Continue(())
            });
        }
    };
    let walkers = [(); 2].map(|()| thread::spawn(hammer));
    until("the walkers", || calls.load(Ordering::SeqCst) > 10);
    in_time("unregister", move || registration.unregister().unwrap());
    let after = calls.load(Ordering::SeqCst);
    thread::sleep(Duration::from_millis(10));
    assert_eq!(calls.load(Ordering::SeqCst), after, "called afterwards");
    DONE.store(true, Ordering::SeqCst);
    for walker in walkers {
        walker.join().unwrap();
    }
}

/// A walk that comes by while a shrinker is dying passes over it, and gives back nothing that it did not take. Seen to
/// fail with the refusal ignored in `Reference::try_get`, so that a reference is given back that was never taken: the removal
/// returned while the callback ran.
#[test]
fn a_dying_shrinker_is_passed_over() {
    let (stand, arrivals, go) = gate();
    let (list, drops) = (list(), counter());
    let flag = Flag(drops);
    // The callback says that it is over before the walk passes by: the walk must not take it for busy.
    let cache = on_count(move || {
        let _ = &flag;
    });
    let registration = patient("dying").register(list, cache).unwrap();
    let walker = thread::spawn(move || {
        list.walk(&Walk::default(), &mut |_| {
            stand();
            ControlFlow::Continue(())
        })
    });
    arrivals.recv_timeout(PATIENCE).unwrap();
    let remover = thread::spawn(move || registration.unregister().unwrap());
    until_dying(list);
    for _ in 0..3 {
        assert_eq!(walk(list, 0).visited, 0);
    }
    thread::sleep(Duration::from_millis(20));
    assert_eq!(drops.load(Ordering::SeqCst), 0, "still in use");
    go.send(()).unwrap();
    assert_eq!(walker.join().unwrap().visited, 1);
    in_time("unregister", move || remover.join().unwrap());
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

/// I11. Seen to fail with `frames` always answering 0: stuck, waiting for itself.
#[test]
fn unregister_inside_own_callback_is_refused() {
    static OWN: Mutex<Option<Registration>> = Mutex::new(None);
    fn try_it() -> bool {
        let Some(registration) = OWN.lock().unwrap().take() else {
            return false;
        };
        let Err(UnregisterError::InsideOwnCallback(back)) = registration.unregister() else {
            return false;
        };
        *OWN.lock().unwrap() = Some(back);
        true
    }
    let list = list();
    let refused = counter();
    let cache = on_count(move || {
        refused.fetch_add(usize::from(try_it()), Ordering::SeqCst);
    });
    *OWN.lock().unwrap() = Some(patient("self").register(list, cache).unwrap());
    in_time("the walk", move || {
        list.walk(&Walk::default(), &mut |_| {
            assert!(try_it(), "nor in the visitor");
            ControlFlow::Continue(())
        })
    });
    assert_eq!(refused.load(Ordering::SeqCst), 1);
    assert_eq!(walk(list, 12).visited, 1, "still registered");
    let registration = OWN.lock().unwrap().take().unwrap();
    registration.unregister().unwrap();
    assert!(list.is_empty());
}

/// A registration dropped where it cannot wait. Seen to fail with `frames` always answering 0 (stuck), and with
/// `sweep` left out of the walk (never dropped).
#[test]
fn a_registration_dropped_inside_its_own_callback_ends_with_the_walk() {
    static OWN: Mutex<Option<Registration>> = Mutex::new(None);
    for in_visitor in [false, true] {
        let (list, drops) = (list(), counter());
        let flag = Flag(drops);
        let cache = on_count(move || {
            let _ = &flag;
            if !in_visitor {
                drop(OWN.lock().unwrap().take());
            }
            assert_eq!(
                drops.load(Ordering::SeqCst),
                0,
                "dropped under its callback"
            );
        });
        let before = patient("before").register(list, on_count(|| ()));
        *OWN.lock().unwrap() = Some(patient("orphan").register(list, cache).unwrap());
        let after = patient("after").register(list, on_count(|| ()));
        let visited = in_time("the walk", move || {
            let report = list.walk(&Walk::default(), &mut |_| {
                if in_visitor {
                    drop(OWN.lock().unwrap().take());
                }
                ControlFlow::Continue(())
            });
            report.visited
        });
        // In the visitor it goes away at the first visit, the one before its own, by an ordinary removal.
        assert_eq!(visited, if in_visitor { 2 } else { 3 });
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        let mut names = Vec::new();
        list.for_each(&mut |stats| names.push(stats.name().to_owned()));
        assert_eq!(names, ["before", "after"]);
        drop((before, after));
        assert!(list.is_empty());
    }
}

#[test]
fn dropping_what_was_never_registered_drops_the_cache() {
    let (list, drops) = (list(), counter());
    let flag = Flag(drops);
    let cache = on_count(move || {
        let _ = &flag;
    });
    let prepared = patient("never").prepare(list, cache).unwrap();
    assert!(list.is_empty());
    assert_eq!(walk(list, 0).visited, 0);
    drop(prepared);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

/// Removal is cheap when nobody is inside: no grace period. The limit is far above what it takes (microseconds), far
/// below what waiting for a stalled reader would.
#[test]
fn churn_is_cheap() {
    let list = list();
    let start = Instant::now();
    for _ in 0..2000 {
        let registration = patient("brief").register(list, on_count(|| ()));
        registration.unwrap().unregister().unwrap();
    }
    assert!(start.elapsed() < PATIENCE);
    assert!(list.is_empty());
}

/// The registration is put away before the first callback can begin. Seen to fail with the link made before.
#[test]
fn a_registration_is_kept_before_the_first_callback() {
    let list = list();
    let prepared = patient("early").prepare(list, on_count(|| ())).unwrap();
    let (mut kept, mut visited) = (None, 0);
    let keep = |registration| {
        kept = Some(registration);
        visited = walk(list, 12).visited;
    };
    // SAFETY: it is only put away.
    unsafe { prepared.register_with(keep) };
    assert_eq!(visited, 0);
    assert_eq!(walk(list, 12).visited, 1);
    drop(kept);
    assert!(list.is_empty());
}
