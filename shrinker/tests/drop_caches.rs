//! Dropping all caches: who is asked for what, and that it ends.
#![cfg(not(loom))]

mod common;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use ebb_shrinker::*;

fn drop_caches(list: &ShrinkerList, walk: &Walk) -> WalkReport {
    list.drop_caches(walk, &mut |_| ControlFlow::Continue(()))
}

/// Down to the last object, in both lanes, whatever seeks, value and batch say, and on all nodes. Seen to fail with
/// either lane left out, without `exhaustive`, and with the nodes of `walk` left out.
#[test]
fn nothing_is_left() {
    let list = list();
    let piles = [1, 127, 1000, 500].map(Pile::leak);
    let specs = [
        patient("few").seeks(1000),
        patient("free").seeks(0).value(8),
        patient("async").lane(Lane::Async),
        patient("odd").batch(300).value(1).lane(Lane::Async),
    ];
    let _registered: Vec<_> = specs
        .into_iter()
        .zip(piles)
        .map(|(spec, pile)| spec.register(list, Front(pile)).unwrap())
        .collect();
    let nodes = [10, 20, 30].map(Pile::leak);
    let by_node = Fake {
        count: move |ctl: &ShrinkControl| Front(nodes[ctl.node() as usize]).count(ctl),
        scan: move |ctl: &mut ShrinkControl| Front(nodes[ctl.node() as usize]).scan(ctl),
    };
    let spec = patient("aware").node_aware(true);
    let _aware = spec.register(list, by_node).unwrap();
    let walk = Walk {
        node: 1,
        nodes: 3,
        ..Walk::default()
    };
    let report = drop_caches(list, &walk);
    assert_eq!(piles.map(Pile::left), [0; 4]);
    assert_eq!(nodes.map(Pile::left), [0; 3]);
    assert_eq!(report.objects, 1628 + 60);
    assert!(!report.satisfied && !report.timed_out && report.stopped == 0);
    assert_eq!(drop_caches(list, &walk).objects, 0);
}

/// What is free only when another cache has freed what it belongs to is dropped too, though that one is asked later. Seen to fail
/// with one round.
#[test]
fn what_comes_free_by_another_is_dropped() {
    let list = list();
    let (inodes, held) = (Pile::leak(0), Pile::leak(1000));
    let _inodes = patient("inodes").register(list, Front(inodes)).unwrap();
    let dentries = Fake {
        count: |_: &ShrinkControl| Count::of(held.left()),
        scan: |ctl: &mut ShrinkControl| {
            let freed = Front(held).scan(ctl);
            if let Scan::Freed { objects, .. } = freed {
                inodes.objects.fetch_add(objects, Ordering::SeqCst);
            }
            freed
        },
    };
    let _dentries = patient("dentries").register(list, dentries).unwrap();
    assert_eq!(drop_caches(list, &Walk::default()).objects, 2000);
    assert_eq!((inodes.left(), held.left()), (0, 0));
}

/// A shrinker that claims so much each time it is asked, and how often it was.
fn liar(list: &'static ShrinkerList, objects: usize) -> (Registration, &'static AtomicUsize) {
    let asked = counter();
    let cache = on_scan(1, move |_| {
        asked.fetch_add(1, Ordering::SeqCst);
        Scan::Freed { objects, bytes: 1 }
    });
    (patient("liar").register(list, cache).unwrap(), asked)
}

/// Seen to fail without the shift: 64 rounds.
#[test]
fn one_that_always_claims_progress_ends_it() {
    let claims = [(0, 1), (1, 1), (3, 2), (100, 7), (4096, 13)];
    for (objects, rounds) in claims {
        let list = list();
        let (liar, asked) = liar(list, objects);
        let report = drop_caches(list, &Walk::default());
        assert_eq!(liar.stats().calls, rounds, "{objects} each time");
        assert_eq!(report.visited as u64, rounds);
        assert_eq!(
            report.objects,
            objects * asked.load(Ordering::SeqCst),
            "of all rounds"
        );
    }
}

/// The visitor, the limit, and the report of those that could not be asked. Seen to fail with neither looked at between rounds, and
/// with the first round's refusals reported.
#[test]
fn it_may_be_ended_and_says_who_could_not_be_asked() {
    let list = list();
    let (liar, asked) = liar(list, usize::MAX);
    let mut visits = 0;
    let report = list.drop_caches(&Walk::default(), &mut |_| {
        visits += 1;
        match visits {
            3 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    assert!(report.satisfied && visits == 3);
    let before = asked.load(Ordering::SeqCst);
    let walk = Walk {
        limit: Some(Duration::ZERO),
        ..Walk::default()
    };
    assert!(drop_caches(list, &walk).timed_out);
    assert_eq!(asked.load(Ordering::SeqCst), before, "no time for anything");
    drop(liar);

    let calls = counter();
    let locked = on_scan(10, move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Scan::Stop,
        _ => Scan::Freed {
            objects: 0,
            bytes: 0,
        },
    });
    let _locked = patient("locked").register(list, locked).unwrap();
    let _pile = patient("pile").register(list, Front(Pile::leak(50)));
    let report = drop_caches(list, &Walk::default());
    assert_eq!((report.objects, report.stopped), (50, 0));
    calls.store(0, Ordering::SeqCst);
    assert_eq!(drop_caches(list, &Walk::default()).stopped, 1);
}

/// Seen to fail with `in_callback` not asked in `walk`.
#[test]
fn inside_a_callback_it_does_nothing() {
    let list = list();
    let pile = Pile::leak(10);
    let _pile = patient("pile").register(list, Front(pile)).unwrap();
    let nested = counter();
    let cache = on_count(move || {
        let report = drop_caches(list, &Walk::default());
        nested.fetch_add(report.visited, Ordering::SeqCst);
    });
    let _nester = patient("nester").register(list, cache).unwrap();
    let report = drop_caches(list, &Walk::default());
    assert_eq!(nested.load(Ordering::SeqCst), 0);
    assert_eq!(report.objects, 10);
}
