//! Looking at shrinkers and scanning them by hand: who is inside, what went wrong, how many objects are looked at.
#![cfg(not(loom))]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::*;
use ebb_shrinker::*;

/// Exactly as many as are asked for, of that shrinker alone, in whatever lane, and nothing is put off. Seen to fail with
/// `only` left out of `wants`, with the objects rounded down to whole batches, and with the rest of them put off.
#[test]
fn a_scan_by_hand_looks_at_so_many_objects() {
    let list = list();
    let piles = [Pile::leak(1000), Pile::leak(1000)];
    let register = |name, lane, pile| {
        let spec = patient(name).lane(lane).value(7).seeks(0);
        spec.register(list, Front(pile)).unwrap()
    };
    let first = register("first", Lane::Sync, piles[0]);
    let second = register("second", Lane::Async, piles[1]);
    let id = list.find("second").unwrap();
    assert_eq!(id, second.stats().id);
    assert_eq!(list.find("first"), Some(first.stats().id));
    let report = list.scan(id, 0, 301).unwrap();
    assert_eq!(
        (report.objects, report.scanned, report.visited),
        (301, 301, 1)
    );
    assert_eq!((piles[0].left(), piles[1].left()), (1000, 699));
    assert_eq!(second.stats().deferred, 0, "nothing is put off");
    assert_eq!(list.scan(id, 0, 1).unwrap().objects, 1);
    assert_eq!(list.scan(id, 0, 5000).unwrap().objects, 698, "all it has");
    assert_eq!(list.scan(first.stats().id, 0, 1).unwrap().objects, 1);
    assert!(list.find("third").is_none() && list.scan(99, 0, 1).is_none());
    let dying = first.retire();
    assert!(list.find("first").is_none());
    drop(dying);
}

/// Who is in a callback, and since when, is shown, also while it is being retired. Seen to fail with `held_by` never
/// stored, and with dying shrinkers left out.
#[test]
fn shows_who_is_inside() {
    static LEAVE: AtomicBool = AtomicBool::new(false);
    let list = list();
    let (thread_number, came) = (counter(), counter());
    let cache = on_count(move || {
        // SAFETY: no pointers.
        let number = unsafe { libc::gettid() };
        thread_number.store(number as usize, Ordering::SeqCst);
        came.store(1, Ordering::SeqCst);
        until("it may leave", || LEAVE.load(Ordering::SeqCst));
    });
    let registration = patient("slow").register(list, cache).unwrap();
    assert_eq!(
        (
            registration.stats().references,
            registration.stats().held_by
        ),
        (0, 0)
    );
    let walker = thread::spawn(move || walk(list, 12));
    until("it is inside", || came.load(Ordering::SeqCst) != 0);
    thread::sleep(Duration::from_millis(2));
    let retirement = registration.retire();
    let mut shown = Vec::new();
    list.for_each(&mut |stats| shown.push(*stats));
    let [stats] = shown[..] else {
        panic!("{shown:?}")
    };
    assert_eq!(stats.held_by as usize, thread_number.load(Ordering::SeqCst));
    assert!(stats.held_ns >= 2_000_000 && stats.references == 1 && stats.dying);
    LEAVE.store(true, Ordering::SeqCst);
    walker.join().unwrap();
    let stats = retirement.stats();
    assert_eq!((stats.references, stats.held_by, stats.held_ns), (0, 0, 0));
    list.for_each(&mut |stats| panic!("{stats:?} is of no use any more"));
}

/// Seen to fail with `fault` left out of `called`.
#[test]
fn remembers_what_went_wrong_last() {
    let list = list();
    let cache = on_scan(300, |ctl| {
        assert!(ctl.priority() > 0, "the end of its service");
        ctl.set_scanned(10_000);
        Scan::Freed {
            objects: 1,
            bytes: 0,
        }
    });
    let registration = patient("liar").register(list, cache).unwrap();
    assert_eq!(registration.stats().last_error, None);
    walk(list, 1);
    assert_eq!(registration.stats().last_error, Some(Fault::Misreport));
    thread::sleep(Duration::from_millis(2));
    let ago = registration.stats().last_error_ns;
    assert!((2_000_000..60_000_000_000).contains(&ago), "{ago}");
    walk(list, 0);
    let error = registration.stats().last_error;
    assert_eq!(error.map(Fault::as_str), Some("panic"));
}
