//! The lists that are compared. The controls do for each shrinker what the lockless list does too: a record of the same
//! size is made and freed, a callback is timed, its figures are counted.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use ebb_shrinker::{Registration, Shrink, ShrinkControl, Shrinker, ShrinkerList, Walk};
use seize::{Collector, Guard};

use crate::Sleeper;

/// About what a record of the lockless list has.
const RECORD_WORDS: usize = 220;

pub(crate) trait List: Sync {
    fn name(&self) -> &'static str;

    /// Registers one for good.
    fn add(&self, cache: Sleeper);

    /// Registers and unregisters one; how long unregistering took.
    fn churn(&self) -> Duration;

    /// Calls all. False when that was refused.
    fn walk(&self) -> bool;
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

    fn walk(&self) -> bool {
        self.list
            .walk(&Walk::default(), &mut |_| ControlFlow::Continue(()));
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A shrinker of the controls.
struct Entry {
    cache: Box<dyn Shrink>,
    calls: AtomicU64,
    time: AtomicU64,
    _record: [u64; RECORD_WORDS],
}

impl Entry {
    fn new(cache: Sleeper) -> Arc<Self> {
        Arc::new(Self {
            cache: Box::new(cache),
            calls: AtomicU64::new(0),
            time: AtomicU64::new(0),
            _record: [0; RECORD_WORDS],
        })
    }

    fn call(&self) {
        let start = Instant::now();
        self.cache.count(&ShrinkControl::new(0, 12, 0));
        // Relaxed: figures.
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.time
            .fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
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

    fn walk(&self) -> bool {
        lock(&self.0).values().for_each(|entry| entry.call());
        true
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

    fn walk(&self) -> bool {
        let Ok(entries) = self.0.try_read() else {
            return false;
        };
        entries.values().for_each(|entry| entry.call());
        true
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

    fn walk(&self) -> bool {
        let guard = self.collector.enter();
        let entries: Vec<_> = lock(&self.entries).values().cloned().collect();
        entries.iter().for_each(|entry| entry.call());
        drop(guard);
        true
    }
}
