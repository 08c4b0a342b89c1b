//! The reserve: who may use how much of it, to the byte.
//!
//! Each test has a process, and so a budget, of its own. Blocks of more than 2 MiB are charged to the byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebb_tests::{Block, MIB, alone, patient};
use ebbmalloc::{Count, Mode, Scan, Shrink, ShrinkControl, mode, no_reclaim};

/// What an ordinary allocation may have.
const SOFT: usize = 8 * MIB;
const RESERVE: usize = 8 * MIB;

/// A budget of [`SOFT`] and [`RESERVE`] above what is backed now.
fn set() {
    drop(Block::new(3 * MIB));
    ebbmalloc::purge();
    ebbmalloc::set_reports(false);
    ebbmalloc::set_reserve(RESERVE);
    ebbmalloc::set_budget(Some(ebbmalloc::backed() + SOFT + RESERVE));
}

/// Whether so many bytes fit and one more does not.
fn fits_to_the_byte(size: usize) -> bool {
    let more = Block::new(size + 1).is_some();
    let all = Block::new(size).is_some();
    ebbmalloc::purge();
    all && !more
}

/// Seen to fail with `ordinary_limit` a page lower, with `no_wait_limit` a page higher and with the whole reserve in it, and with each
/// of the two scopes not asked for in `charge`.
#[test]
fn each_has_its_part() {
    alone("each_has_its_part", || {
        set();
        assert!(fits_to_the_byte(SOFT));
        for less in [Mode::RetryMayFail, Mode::NoRetry] {
            let _scope = mode(less);
            assert!(fits_to_the_byte(SOFT), "{less:?}");
        }
        let no_wait = mode(Mode::NoWait);
        assert!(fits_to_the_byte(SOFT + RESERVE / 8 * 5));
        let strictest = no_reclaim();
        assert!(fits_to_the_byte(SOFT + RESERVE));
        drop(no_wait);
        assert!(fits_to_the_byte(SOFT + RESERVE));
        drop(strictest);
        assert!(fits_to_the_byte(SOFT));
    });
}

/// Whatever others took of it, three eighths are left to callbacks, whatever their own mode. Seen to fail with that
/// asked for in `charge`.
#[test]
fn callbacks_have_the_rest() {
    struct Looks(AtomicUsize);
    impl Shrink for Looks {
        fn count(&self, _: &ShrinkControl) -> Count {
            Count::of(1)
        }
        fn scan(&self, _: &mut ShrinkControl) -> Scan {
            let _scope = mode(Mode::NoWait);
            let exact = fits_to_the_byte(RESERVE / 8 * 3);
            self.0.fetch_add(usize::from(exact), Ordering::SeqCst);
            Scan::Stop
        }
    }
    alone("callbacks_have_the_rest", || {
        let looks = Arc::new(Looks(AtomicUsize::new(0)));
        let registration = ebbmalloc::register(patient("looks"), looks.clone()).unwrap();
        // The first walk of a thread needs a little.
        let _scope = mode(Mode::NoRetry);
        set();
        assert!(Block::new(SOFT + 1).is_none());
        looks.0.store(0, Ordering::SeqCst);
        let before = registration.stats().scans;
        set();
        let taken = {
            let _scope = mode(Mode::NoWait);
            Block::new(SOFT + RESERVE / 8 * 5).expect("it fits to the byte")
        };
        assert!(Block::new(3 * MIB).is_none());
        let calls = registration.stats().scans - before;
        assert!(calls > 0 && registration.stats().panics == 0);
        assert_eq!(looks.0.load(Ordering::SeqCst) as u64, calls);
        drop(taken);
    });
}
