//! The lists that are compared. The controls do for each shrinker what the lockless list does too: a record of the same
//! size is made and freed, one thread at a time is in the callbacks, a panic is caught, a callback is timed, its figures are
//! counted, and a visitor hears of it. They read the clock before and after each callback, as one does; the lockless list
//! takes the end of one for the beginning of the next, and has a cheaper clock.

use std::collections::HashMap;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use ebb_shrinker::{Count, Registration, Shrink, ShrinkControl, Shrinker, ShrinkerList, Walk};
use seize::{Collector, Guard};

use crate::Sleeper;

/// About what a record of the lockless list has.
const RECORD_WORDS: usize = 84;

pub(crate) trait List: Sync {
    fn name(&self) -> &'static str;

    /// Registers one for good.
    fn add(&self, cache: Sleeper);

    /// Registers and unregisters one; how long unregistering took.
    fn churn(&self) -> Duration;

    /// Calls all that are not busy. How many, unless that was refused.
    fn walk(&self) -> Option<usize>;
}

/// Ours.
pub(crate) struct Lockless {
    list: &'static ShrinkerList,
    registered: Mutex<Vec<Registration>>,
}

impl Default for Lockless {
    fn default() -> Self {
        Self {
            // For good: registrations outlive everything.
            list: Box::leak(Box::default()),
            registered: Mutex::default(),
        }
    }
}

impl List for Lockless {
    fn name(&self) -> &'static str {
        "lockless"
    }

    fn add(&self, cache: Sleeper) {
        let spec = Shrinker::new("bench").deadline(Duration::MAX);
        if let Ok(registration) = spec.register(self.list, cache) {
            lock(&self.registered).push(registration);
        }
    }

    fn churn(&self) -> Duration {
        let registration = Shrinker::new("bench").register(self.list, Sleeper(Duration::ZERO));
        let start = Instant::now();
        drop(registration);
        start.elapsed()
    }

    fn walk(&self) -> Option<usize> {
        let report = self
            .list
            .walk(&Walk::default(), &mut |_| ControlFlow::Continue(()));
        Some(report.visited)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A shrinker of the controls.
struct Entry {
    cache: Box<dyn Shrink>,
    busy: AtomicBool,
    calls: AtomicU64,
    time: AtomicU64,
    _record: [u64; RECORD_WORDS],
}

impl Entry {
    fn new(cache: Sleeper) -> Arc<Self> {
        Arc::new(Self {
            cache: Box::new(cache),
            busy: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            time: AtomicU64::new(0),
            _record: [0; RECORD_WORDS],
        })
    }

    /// Whether it was not busy.
    fn call(&self, visit: &mut dyn FnMut(&Count)) -> bool {
        // Acquire: pairs with the Release below; what the last callback did is seen. Relaxed, first: a hint.
        if self.busy.load(Ordering::Relaxed) || self.busy.swap(true, Ordering::Acquire) {
            return false;
        }
        let start = Instant::now();
        let question = ShrinkControl::new(0, 12, 0);
        let count = catch_unwind(AssertUnwindSafe(|| self.cache.count(&question)));
        let time = start.elapsed().as_nanos() as u64;
        // Relaxed, both: figures, and one thread at a time.
        let plus = |counter: &AtomicU64, n| {
            counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        };
        plus(&self.calls, 1);
        plus(&self.time, time);
        self.busy.store(false, Ordering::Release);
        visit(&count.unwrap_or(Count::Unknown));
        true
    }
}

/// Calls all of them. How many were not busy.
fn call_all<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>) -> usize {
    let mut objects = 0_usize;
    let mut visit = |count: &Count| objects += usize::from(*count != Count::Empty);
    let called = entries.filter(|entry| entry.call(&mut visit)).count();
    black_box(objects);
    called
}

type Entries = HashMap<usize, Arc<Entry>>;

/// A number for an entry.
fn number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: only a number.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One lock for everything.
#[derive(Default)]
pub(crate) struct Mutexed(Mutex<Entries>);

impl List for Mutexed {
    fn name(&self) -> &'static str {
        "mutex"
    }

    fn add(&self, cache: Sleeper) {
        lock(&self.0).insert(number(), Entry::new(cache));
    }

    fn churn(&self) -> Duration {
        let (number, entry) = (number(), Entry::new(Sleeper(Duration::ZERO)));
        lock(&self.0).insert(number, entry);
        let start = Instant::now();
        let removed = lock(&self.0).remove(&number);
        drop(removed);
        start.elapsed()
    }

    fn walk(&self) -> Option<usize> {
        Some(call_all(lock(&self.0).values()))
    }
}

/// The kernel's old way: walkers try to read, and give up where a writer is.
#[derive(Default)]
pub(crate) struct RwLocked(RwLock<Entries>);

impl RwLocked {
    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Entries> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List for RwLocked {
    fn name(&self) -> &'static str {
        "rwlock"
    }

    fn add(&self, cache: Sleeper) {
        self.write().insert(number(), Entry::new(cache));
    }

    fn churn(&self) -> Duration {
        let (number, entry) = (number(), Entry::new(Sleeper(Duration::ZERO)));
        self.write().insert(number, entry);
        let start = Instant::now();
        let removed = self.write().remove(&number);
        drop(removed);
        start.elapsed()
    }

    fn walk(&self) -> Option<usize> {
        let entries = self.0.try_read().ok()?;
        Some(call_all(entries.values()))
    }
}

/// The kernel's way in between (SRCU): callbacks run inside the read side, and unregistering waits until everybody has
/// left it who was there. The entries themselves are found as in [`Mutexed`].
pub(crate) struct Graceful {
    entries: Mutex<Entries>,
    collector: Collector,
}

impl Default for Graceful {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            collector: Collector::new().batch_size(1),
        }
    }
}

impl Graceful {
    /// Waits for a grace period: until something that is retired now is freed.
    fn synchronize(&self) {
        let alive = Arc::new(());
        let mark = Box::into_raw(Box::new(alive.clone()));
        // SAFETY: from a box, and nobody else has seen it.
        unsafe {
            self.collector
                .retire(mark, seize::reclaim::boxed::<Arc<()>>)
        };
        while Arc::strong_count(&alive) > 1 {
            self.collector.enter().flush();
            thread::yield_now();
        }
    }
}

impl List for Graceful {
    fn name(&self) -> &'static str {
        "grace period"
    }

    fn add(&self, cache: Sleeper) {
        lock(&self.entries).insert(number(), Entry::new(cache));
    }

    fn churn(&self) -> Duration {
        let (number, entry) = (number(), Entry::new(Sleeper(Duration::ZERO)));
        lock(&self.entries).insert(number, entry);
        let start = Instant::now();
        let removed = lock(&self.entries).remove(&number);
        self.synchronize();
        drop(removed);
        start.elapsed()
    }

    fn walk(&self) -> Option<usize> {
        let guard = self.collector.enter();
        let entries: Vec<_> = lock(&self.entries).values().cloned().collect();
        let called = call_all(entries.iter());
        drop(guard);
        Some(called)
    }
}
