//! A shrinker that has nothing to give, as most have: its visit is short, but timed, limited and told of like any other.
#![cfg(not(loom))]

mod common;

use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use common::*;
use ebb_shrinker::*;

/// Who takes too long to say that there is nothing is late. Seen to fail with every empty cache taken for one in time.
#[test]
fn it_may_be_late() {
    let list = list();
    let cache = on_count(|| thread::sleep(Duration::from_millis(4)));
    let spec = Shrinker::new("late").deadline(Duration::from_millis(2));
    let registration = spec.register(list, cache).unwrap();
    let mut visits = 0;
    while visits < 100 && walk(list, 12).visited == 1 {
        visits += 1;
    }
    let stats = registration.stats();
    assert_eq!(
        (stats.lane, stats.overruns, stats.calls),
        (Lane::Async, visits, visits)
    );
}

/// Seen to fail with the clock not looked at when the callback has returned.
#[test]
fn its_time_is_the_walk_s() {
    let list = list();
    let slow = || on_count(|| thread::sleep(Duration::from_millis(250)));
    let registered = ["first", "second"].map(|name| patient(name).register(list, slow()).unwrap());
    let walk = Walk {
        limit: Some(Duration::from_millis(200)),
        ..Walk::default()
    };
    let report = list.walk(&walk, &mut |_| ControlFlow::Continue(()));
    assert!(report.timed_out, "{report:?}");
    assert_eq!(registered.map(|one| one.stats().calls), [1, 0]);
}

/// Seen to fail with the deadline taken for the time by which it ends.
#[test]
fn it_knows_how_much_time_it_has() {
    const HOUR: Duration = Duration::from_secs(3600);
    let list = list();
    let cache = Fake {
        count: |ctl: &ShrinkControl| {
            assert!(ctl.time_left() <= HOUR);
            assert!(ctl.time_left() > HOUR - PATIENCE);
            Count::Empty
        },
        scan: |_: &mut ShrinkControl| Scan::Stop,
    };
    let spec = Shrinker::new("in time").deadline(HOUR);
    let registration = spec.register(list, cache).unwrap();
    assert_eq!(walk(list, 12).visited, 1);
    assert_eq!(registration.stats().panics, 0);
}

/// Since when a thread is in it is known, and that the visitor is not its affair. Seen to fail with the holder not told that
/// the callbacks have returned.
#[test]
fn it_is_held_in_its_callbacks_alone() {
    fn held(list: &ShrinkerList) -> Duration {
        let mut held = Duration::MAX;
        list.for_each(&mut |stats| {
            assert_ne!(stats.held_by, 0);
            held = Duration::from_nanos(stats.held_ns);
        });
        held
    }
    let list = list();
    let cache = on_count(move || {
        thread::sleep(Duration::from_millis(2));
        assert!(held(list) >= Duration::from_millis(1));
    });
    let registration = patient("held").register(list, cache).unwrap();
    let mut told = None;
    list.walk(&Walk::default(), &mut |_| {
        told = Some(held(list));
        ControlFlow::Continue(())
    });
    assert_eq!(told, Some(Duration::ZERO));
    assert_eq!(registration.stats().panics, 0);
}
