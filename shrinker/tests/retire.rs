//! What retiring does not wait for, and who ends the shrinker then.
#![cfg(not(loom))]

mod common;

use std::sync::atomic::Ordering;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::*;
use ebb_shrinker::*;

/// `retire` returns while the callback runs, and tells when it has returned; the cache lives as long as the retirement.
/// Seen to fail with `state.wait` in `Retirement::begin` (stuck), and with `is_complete` always true.
#[test]
fn retire_does_not_wait() {
    let held = HeldUp::new();
    let (list, drops, registration) = (held.list, held.drops, held.registration);
    let retirement = in_time("retire", move || registration.retire());
    assert!(!retirement.is_complete());
    assert_eq!(walk(list, 0).visited, 0, "no new callback");
    let retirement = retirement.wait_for(Duration::from_millis(20)).unwrap_err();
    held.go.send(()).unwrap();
    held.walker.join().unwrap();
    assert!(retirement.is_complete());
    assert_eq!(drops.load(Ordering::SeqCst), 0, "its owner drops it");
    retirement.wait_for(Duration::ZERO).unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert_eq!(held.calls.load(Ordering::SeqCst), 1);
    assert!(list.is_empty());
}

/// An idle shrinker is complete at once; one that is waited for, when its callback returns.
#[test]
fn a_retirement_can_be_waited_for() {
    let idle = patient("idle").register(list(), on_count(|| ()));
    let idle = idle.unwrap().retire();
    assert!(idle.is_complete());
    idle.wait().unwrap();
    let held = HeldUp::new();
    let retirement = held.registration.retire();
    let (sender, returned) = mpsc::channel();
    let waiter = thread::spawn(move || {
        retirement.wait().unwrap();
        sender.send(()).unwrap();
    });
    assert!(returned.recv_timeout(Duration::from_millis(20)).is_err());
    held.go.send(()).unwrap();
    returned.recv_timeout(PATIENCE).expect("never returned");
    waiter.join().unwrap();
    held.walker.join().unwrap();
    assert!(held.list.is_empty());
}

/// A retirement that is dropped early ends with the walk. Seen to fail with `abandon` left out of its `drop`.
#[test]
fn a_dropped_retirement_ends_by_itself() {
    let held = HeldUp::new();
    let (list, drops, registration) = (held.list, held.drops, held.registration);
    drop(in_time("retire", move || registration.retire()));
    assert_eq!(
        drops.load(Ordering::SeqCst),
        0,
        "dropped under its callback"
    );
    held.go.send(()).unwrap();
    held.walker.join().unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert!(list.is_empty());
}

/// Inside its own callback a shrinker can be retired but not waited for. Seen to fail with `frames` always answering 0:
/// stuck, waiting for itself.
#[test]
fn retiring_inside_its_own_callback_works_but_waiting_does_not() {
    static OWN: Mutex<Option<Registration>> = Mutex::new(None);
    static RETIRED: Mutex<Option<Retirement>> = Mutex::new(None);
    let list = list();
    let cache = on_count(move || {
        if let Some(registration) = OWN.lock().unwrap().take() {
            let retirement = registration.retire().wait().unwrap_err();
            let retirement = retirement.wait_for(Duration::MAX).unwrap_err();
            *RETIRED.lock().unwrap() = Some(retirement);
        }
    });
    *OWN.lock().unwrap() = Some(patient("self").register(list, cache).unwrap());
    let panics = in_time("the walk", move || {
        walk(list, 12);
        let retired = RETIRED.lock().unwrap();
        retired.as_ref().unwrap().stats().panics
    });
    assert_eq!(panics, 0);
    let retirement = RETIRED.lock().unwrap().take().unwrap();
    assert!(retirement.is_complete());
    retirement.wait().unwrap();
    assert!(list.is_empty());
}
