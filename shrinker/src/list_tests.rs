//! Tests that need what users never see: guards and the lock.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::epoch;
use crate::shrink::{Count, Scan, Shrink, ShrinkControl};
use crate::{Registration, Shrinker, ShrinkerList, Walk};

const PATIENCE: Duration = Duration::from_secs(100);

/// Places that found themselves in a guard or under the lock. (Panics in callbacks would be caught.)
static WRONG: AtomicUsize = AtomicUsize::new(0);
static PLACES: AtomicUsize = AtomicUsize::new(0);

/// Looks where it is. The lock is not re-entrant: taking it where it is held would hang, hence another thread asks.
fn look(list: &'static ShrinkerList) {
    let chain = list.chain().expect("registered");
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || {
        chain.lock().with(|| ());
        sender.send(())
    });
    let locked = answer.recv_timeout(Duration::from_secs(10)).is_err();
    WRONG.fetch_add(usize::from(locked || epoch::inside()), Ordering::SeqCst);
    PLACES.fetch_add(1, Ordering::SeqCst);
}

/// A cache that looks where its callbacks and its destructor are run.
struct Looker(&'static ShrinkerList);

impl Shrink for Looker {
    fn count(&self, _: &ShrinkControl) -> Count {
        look(self.0);
        Count::of(1)
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        look(self.0);
        Scan::Stop
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        look(self.0);
    }
}

fn register(list: &'static ShrinkerList) -> Registration {
    let spec = Shrinker::new("looker");
    spec.register(list, Looker(list)).expect("memory")
}

/// I10: the callbacks, the visitor, the cache's destructor (also that of an orphan) and the function of `for_each`. Seen
/// to fail with the guard kept across `call` in the walk, with the cache dropped by the record (inside seize) instead
/// of taken out, and with `f` called under the lock in `for_each`.
#[test]
fn callbacks_run_outside_guards_and_lock() {
    let list: &'static ShrinkerList = Box::leak(Box::default());
    let (plain, orphan) = (register(list), register(list));
    let mut orphan = Some(orphan);
    let walk = Walk {
        priority: 0,
        exhaustive: true,
        ..Walk::default()
    };
    let report = list.walk(&walk, &mut |_| {
        look(list);
        // At the second visit it is the one just visited.
        if PLACES.load(Ordering::SeqCst) > 3 {
            drop(orphan.take());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(report.visited, 2);
    assert_eq!(
        PLACES.load(Ordering::SeqCst),
        7,
        "2 x 3, and the orphan's end"
    );
    list.for_each(&mut |_| look(list));
    drop(plain);
    assert_eq!(PLACES.load(Ordering::SeqCst), 9);
    assert_eq!(WRONG.load(Ordering::SeqCst), 0);
    assert!(list.is_empty());
}

/// I9. A thread sits in a guard, on the very record. Seen to fail with a wait for the record's reclamation at the end
/// of `remove`: stuck.
#[test]
fn unregister_does_not_wait_for_guards() {
    struct Empty;
    impl Shrink for Empty {
        fn count(&self, _: &ShrinkControl) -> Count {
            Count::Empty
        }
        fn scan(&self, _: &mut ShrinkControl) -> Scan {
            Scan::Stop
        }
    }
    let list: &'static ShrinkerList = Box::leak(Box::default());
    let register = move || Shrinker::new("any").register(list, Empty).expect("memory");
    let registered = [(); 3].map(|()| register());
    let chain = list.chain().expect("registered");
    let (entered, sitting) = mpsc::channel();
    let (go, leave) = mpsc::channel::<()>();
    let sitter = thread::spawn(move || {
        let guard = chain.enter();
        let first = chain.at(0, &guard).expect("registered");
        entered.send(()).expect("awaited");
        let _ = leave.recv();
        // SAFETY: found under the guard.
        unsafe { first.as_ref() }.id()
    });
    sitting.recv_timeout(PATIENCE).expect("in the guard");
    let (sender, returned) = mpsc::channel();
    thread::spawn(move || {
        drop(registered);
        for _ in 0..100 {
            register().unregister().expect("not in a callback");
        }
        sender.send(())
    });
    returned.recv_timeout(PATIENCE).expect("waited for a guard");
    assert!(list.is_empty());
    drop(go);
    assert_eq!(sitter.join().expect("alive"), 1, "its memory was kept");
}
