//! The world under `--cfg loom`: modelled atomics, and a collector that remembers what must not be touched any more.
//!
//! The model never frees a retired object. It marks its bytes as gone once no guard that was entered before the
//! retirement is left, and fails the test when a link in gone memory is read, a link leads there, or a waker names a
//! word there. Of seize's orderings it keeps the one that seize promises: who enters after a retirement sees the
//! memory as it was when the object was unlinked. Nothing else is carried over, so a publication that is too weak shows.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use loom::sync::atomic::Ordering;
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

/// No spinning: each look is a branch of the model.
pub(crate) const SPINS: u32 = 0;

/// Every record by itself, so that each model frees some.
pub(crate) const BATCH: usize = 1;

/// One node: each atomic is something for the model to follow.
pub(crate) const NODES: usize = 1;

/// No: this collector has no tables, and a lock would order what guards do not.
pub(crate) const ADMITS: bool = false;

loom::thread_local! {
    pub(crate) static DEPTH: Cell<usize> = Cell::new(0);
    pub(crate) static FRAMES: Cell<*const ()> = Cell::new(ptr::null());
}

/// Time stands still: a model must do the same each time.
pub(crate) fn now_ns() -> u64 {
    0
}

/// Nobody looks.
pub(crate) fn thread_number() -> u32 {
    1
}

/// There are no forks here.
pub(crate) fn forget_thread_number() {}

/// There is nobody to hear it.
pub(crate) fn say(_: &[&str]) {}

loom::lazy_static! {
    /// The kernel's side of all futexes.
    static ref SLEEPERS: (loom::sync::Mutex<()>, loom::sync::Condvar) = Default::default();
}

/// Sleeps while `word` is `expected`. A wake-up that is missing shows as a deadlock.
pub(crate) fn wait(word: &AtomicU32, expected: u32) {
    let (lock, sleepers) = &*SLEEPERS;
    let held = lock.lock().unwrap_or_else(PoisonError::into_inner);
    // A read-modify-write: the kernel compares the latest value. Relaxed: it carries nothing.
    if word.fetch_add(0, Ordering::Relaxed) == expected {
        drop(sleepers.wait(held));
    }
}

/// As [`wait`]: a model has all the time in the world.
pub(crate) fn wait_for(word: &AtomicU32, expected: u32, _: Duration) {
    wait(word, expected);
}

/// Wakes every sleeper, on whatever word; the others look again and go back to sleep. Names the word, as the real
/// call does.
pub(crate) fn wake(word: &AtomicU32) {
    assert_alive(ptr::from_ref(word).addr(), "a waker named a freed word");
    let (lock, sleepers) = &*SLEEPERS;
    let held = lock.lock().unwrap_or_else(PoisonError::into_inner);
    sleepers.notify_all();
    drop(held);
}

/// As [`wake`]: a model may wake others too, for no reason.
pub(crate) fn wake_one(word: &AtomicU32) {
    wake(word);
}

/// First and last byte of everything that is gone. Retired memory is leaked, so addresses never come back.
static GONE: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn assert_alive(address: usize, what: &str) {
    let gone = GONE.lock().unwrap_or_else(PoisonError::into_inner);
    let below = gone.range(..=address).next_back();
    let dead = below.is_some_and(|(_, last)| address <= *last);
    drop(gone);
    assert!(!dead, "{what}");
}

/// Stands for seize's collector.
#[derive(Default)]
pub(crate) struct Collector {
    state: Mutex<Guards>,
    /// Retirements write it (Release), entries read it (Acquire).
    retirements: AtomicUsize,
}

#[derive(Default)]
struct Guards {
    youngest: u64,
    active: BTreeSet<u64>,
    /// Retired bytes, and the guards that may still see them.
    garbage: Vec<((usize, usize), BTreeSet<u64>)>,
}

impl Guards {
    fn collect(&mut self) {
        let mut gone = GONE.lock().unwrap_or_else(PoisonError::into_inner);
        self.garbage.retain(|((first, last), guards)| {
            if guards.is_empty() {
                gone.insert(*first, *last);
            }
            !guards.is_empty()
        });
    }
}

impl Collector {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn batch_size(self, _: usize) -> Self {
        self
    }

    pub(crate) fn enter(&self) -> LocalGuard<'_> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.youngest += 1;
        let id = state.youngest;
        state.active.insert(id);
        drop(state);
        // Acquire: what was unlinked before an earlier retirement is seen unlinked. A read-modify-write, so that it
        // reads the latest retirement; not a Release, so that it carries nothing to others.
        self.retirements.fetch_add(0, Ordering::Acquire);
        LocalGuard {
            collector: self,
            id,
        }
    }

    pub(crate) unsafe fn retire<T>(&self, object: *mut T, _: unsafe fn(*mut T, &Self)) {
        // Release: see enter.
        self.retirements.fetch_add(1, Ordering::Release);
        let first = object.addr();
        let bytes = (first, first + size_of::<T>() - 1);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let guards = state.active.clone();
        state.garbage.push((bytes, guards));
        state.collect();
    }
}

/// What `epoch` calls on a guard.
pub(crate) trait EpochGuard {
    fn protect<T>(&self, link: &AtomicPtr<T>, order: Ordering) -> *mut T;
}

pub(crate) struct LocalGuard<'a> {
    collector: &'a Collector,
    id: u64,
}

impl EpochGuard for LocalGuard<'_> {
    fn protect<T>(&self, link: &AtomicPtr<T>, _: Ordering) -> *mut T {
        assert_alive(
            ptr::from_ref(link).addr(),
            "a link was read in freed memory",
        );
        let target = link.load(Ordering::Acquire);
        assert_alive(target.addr(), "a link led to freed memory");
        target
    }
}

impl Drop for LocalGuard<'_> {
    fn drop(&mut self) {
        let state = self.collector.state.lock();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.active.remove(&self.id);
        for (_, guards) in &mut state.garbage {
            guards.remove(&self.id);
        }
        state.collect();
    }
}
