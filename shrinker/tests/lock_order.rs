//! The check of locks: what is reported, without any deadlock, and what is not.
#![cfg(not(loom))]

mod common;

use std::sync::{Arc, TryLockError};

use common::*;
use ebb_shrinker::lock_order::{CheckedMutex, LockClass, allocating};
use ebb_shrinker::*;

/// An inversion is seen in debug builds alone.
fn assert_inverted(class: &LockClass) {
    assert_eq!(class.is_inverted(), cfg!(debug_assertions));
}

/// A cache that waits for its lock, or tries it, when it counts. It is called once.
fn called(class: &'static LockClass, spec: Shrinker, waits: bool) {
    let (list, mutex) = (list(), Arc::new(CheckedMutex::new(class, 0)));
    let cache = on_count(move || match waits {
        true => *mutex.lock().unwrap() += 1,
        false => *mutex.try_lock().unwrap() += 1,
    });
    let registration = spec.register(list, cache).unwrap();
    let id = registration.stats().id;
    match registration.stats().lane {
        Lane::Sync => assert_eq!(walk(list, 12).visited, 1),
        Lane::Async => assert_eq!(list.scan(id, 0, 1).unwrap().visited, 1),
    }
    assert_eq!(registration.stats().panics, 0);
}

/// An allocation that might call all shrinkers but these, under the lock.
fn allocated(class: &'static LockClass, without: u8) {
    let mutex = CheckedMutex::new(class, ());
    let held = mutex.lock().unwrap();
    allocating(without);
    drop(held);
    // No lock is held now.
    allocating(0);
}

/// Seen to fail without either of the two marks.
#[test]
fn an_inversion_is_seen_whichever_half_comes_first() {
    static ONE: LockClass = LockClass::new("one");
    static OTHER: LockClass = LockClass::new("other");
    called(&ONE, patient("waits"), true);
    allocated(&OTHER, 0);
    assert!(!ONE.is_inverted() && !OTHER.is_inverted(), "one half each");
    allocated(&ONE, 0);
    called(&OTHER, patient("waits"), true);
    assert_inverted(&ONE);
    assert_inverted(&OTHER);
}

/// Seen to fail with `waiting` called by `try_lock`, with the class of the frame taken in both lanes, and with `without`
/// not looked at.
#[test]
fn what_cannot_deadlock_is_not_reported() {
    static TRIED: LockClass = LockClass::new("tried");
    static ASYNC: LockClass = LockClass::new("async");
    static SPARED: LockClass = LockClass::new("spared");
    static GIVEN_BACK: LockClass = LockClass::new("given back");
    called(&TRIED, patient("tries"), false);
    allocated(&TRIED, 0);
    called(&ASYNC, patient("waits").lane(Lane::Async), true);
    allocated(&ASYNC, 0);
    called(&SPARED, patient("waits").class(3), true);
    allocated(&SPARED, 1 << 3);
    called(&GIVEN_BACK, patient("waits"), true);
    drop(CheckedMutex::new(&GIVEN_BACK, ()).lock());
    allocating(0);
    for class in [&TRIED, &ASYNC, &SPARED, &GIVEN_BACK] {
        assert!(!class.is_inverted(), "{class:?}");
    }
    allocated(&SPARED, 1 << 2);
    assert_inverted(&SPARED);
}

/// A walk under a lock, as somebody does who has another allocator.
#[test]
fn a_walk_counts_as_an_allocation() {
    static CLASS: LockClass = LockClass::new("walked");
    called(&CLASS, patient("waits"), true);
    let (list, mutex) = (list(), CheckedMutex::new(&CLASS, ()));
    let _other = patient("other").register(list, on_count(|| ()));
    let _held = mutex.lock().unwrap();
    walk(list, 12);
    assert_inverted(&CLASS);
}

/// The mutex is one.
#[test]
fn it_locks() {
    static CLASS: LockClass = LockClass::new("locks");
    let mutex = CheckedMutex::new(&CLASS, 1);
    let mut held = mutex.lock().unwrap();
    *held += 1;
    assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    drop(held);
    assert_eq!(*mutex.try_lock().unwrap(), 2);
    let poisoned = std::panic::catch_unwind(|| {
        let _held = mutex.lock().unwrap();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(poisoned.is_err());
    assert_eq!(**mutex.lock().unwrap_err().get_ref(), 2);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
}
