//! The links: a doubly linked list whose `next` pointers walkers follow without a lock.
//!
//! Writers (register, unregister, snapshots, fork) hold the lock for a few stores. `next` and `head` are atomic for
//! the walkers; `prev`, `tail` and the ids belong to the lock.
//!
//! # Synchronization
//!
//! | tag | writer | ordering | reader | ordering | what it carries |
//! | --- | --- | --- | --- | --- | --- |
//! | C1 | `link` | Release | `Guard::load` | Acquire or more | the record's `id`, `next`, `state` as made |
//! | C2 | `unlink` | Release | `Guard::load` | Acquire or more | the successor, which was linked before |

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr as Plain, AtomicU64, AtomicUsize, Ordering};

use crate::credit::Credit;
use crate::epoch::{self, Epoch, Guard};
use crate::limbo::Limbo;
use crate::lock::Lock;
use crate::record::Record;
use crate::shrink::{Lane, Shrink};
use crate::sync::{AtomicPtr, AtomicUsize as Modelled, NODES};
use crate::values::Values;
use crate::walks::Walks;

/// The chain of records, its lock and its collector. Made at the first preparation, never freed.
pub(crate) struct Chain {
    head: AtomicPtr<Record>,
    epoch: Epoch,
    writers: Writers,
    pub(crate) walks: Walks,
    /// How many shrinkers run on the reclaim thread alone. A hint.
    pub(crate) asynchronous: AtomicUsize,
    /// What was freed for requests in flight.
    pub(crate) credit: Credit,
    /// The same for what was freed on each node.
    pub(crate) node_credits: [Credit; NODES],
    /// Records dropped inside their own callback and not yet ended.
    pub(crate) orphans: Modelled,
}

/// What belongs to the lock. On cache lines of its own, so that registrations do not slow down walks.
#[repr(C, align(128))]
struct Writers {
    lock: Lock,
    tail: Plain<Record>,
    /// The id of the youngest record.
    last_id: AtomicU64,
    /// How many records are linked.
    live: AtomicUsize,
    /// Unlinked records that wait to be retired together.
    limbo: Limbo,
    /// How many records there are of each value.
    values: Values,
}

impl Chain {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
            epoch: Epoch::new(),
            writers: Writers {
                lock: Lock::new(),
                tail: Plain::new(ptr::null_mut()),
                last_id: AtomicU64::new(0),
                live: AtomicUsize::new(0),
                limbo: Limbo::new(),
                values: Values::new(),
            },
            walks: Walks::new(),
            asynchronous: AtomicUsize::new(0),
            credit: Credit::new(),
            node_credits: std::array::from_fn(|_| Credit::new()),
            orphans: Modelled::new(0),
        }
    }

    /// The lock of registrations, removals and snapshots.
    pub(crate) fn lock(&self) -> &Lock {
        &self.writers.lock
    }

    /// How many shrinkers are registered. A hint.
    pub(crate) fn live(&self) -> usize {
        // Relaxed: a shrinker registered at this moment may be seen or not.
        self.writers.live.load(Ordering::Relaxed)
    }

    /// The lowest value of any shrinker above `value`, or of all.
    pub(crate) fn value_after(&self, value: Option<u8>) -> Option<u8> {
        self.writers.values.after(value)
    }

    /// Makes the collector now rather than in the middle of a walk.
    pub(crate) fn warm(&self) {
        self.epoch.ready();
    }

    #[inline(always)] // As that of the epoch.
    pub(crate) fn enter(&self) -> Guard {
        self.epoch.enter()
    }

    /// The record that so many others precede; the last one, if there are not so many.
    pub(crate) fn at(&self, place: usize, guard: &Guard) -> Option<NonNull<Record>> {
        let mut at = NonNull::new(guard.load(&self.head))?;
        for _ in 0..place {
            // SAFETY: found under `guard`.
            let Some(next) = NonNull::new(guard.load(unsafe { &at.as_ref().next })) else {
                break;
            };
            at = next;
        }
        Some(at)
    }

    /// The id of the youngest record linked so far.
    pub(crate) fn last_id(&self) -> u64 {
        // Relaxed: bounds a walk; a record linked at this moment may be seen or not.
        self.writers.last_id.load(Ordering::Relaxed)
    }

    /// Counts a shrinker that comes. Under the lock.
    fn count_in(&self, record: &Record) {
        self.set_live(self.live() + 1);
        self.writers.values.add(record.value());
        if record.lane() == Lane::Async {
            // Relaxed: a hint.
            self.asynchronous.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts off a shrinker that is complete. Under the lock.
    fn count_out(&self, record: &Record) {
        self.set_live(self.live() - 1);
        self.writers.values.remove(record.value());
        if record.lane() == Lane::Async {
            // Relaxed: a hint.
            self.asynchronous.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn set_live(&self, live: usize) {
        // Relaxed: under the lock; a hint for everybody else.
        self.writers.live.store(live, Ordering::Relaxed);
    }

    /// Links `record` at the tail and, as the very last store, opens it to walkers.
    ///
    /// # Safety
    /// `record` is alive, not linked, was never published, and stays alive until it is unlinked and retired.
    pub(crate) unsafe fn link(&self, record: NonNull<Record>) {
        let new = record.as_ptr();
        // SAFETY: alive by the caller's clause.
        let record = unsafe { record.as_ref() };
        self.writers.lock.with(|| {
            // Relaxed, all but the link itself: under the lock, or carried by C1.
            let id = self.writers.last_id.load(Ordering::Relaxed) + 1;
            record.set_id(id);
            let tail = self.writers.tail.load(Ordering::Relaxed);
            record.prev.store(tail, Ordering::Relaxed);
            self.writers.tail.store(new, Ordering::Relaxed);
            self.count_in(record);
            // SAFETY: linked records are alive, and only a holder of the lock unlinks them.
            let link = unsafe { tail.as_ref() }.map_or(&self.head, |tail| &tail.next);
            // Release (C1): who follows the link sees the id, the null `next`, and a state of zero or later.
            link.store(new, Ordering::Release);
            self.writers.last_id.store(id, Ordering::Relaxed);
            // INVARIANT (I5): the last store. Whoever came by before saw the count 0 and went on.
            record.state.publish();
        });
    }

    /// Unlinks `record`, leaving its `next` intact. Under the lock.
    ///
    /// # Safety
    /// The caller holds the lock; `record` is linked, and complete (I1).
    unsafe fn unlink(&self, record: &Record) {
        // Relaxed: under the lock nobody else writes links.
        let prev = record.prev.load(Ordering::Relaxed);
        let next = record.next.load(Ordering::Relaxed);
        // SAFETY: neighbours are linked, so alive while the lock is held.
        let link = unsafe { prev.as_ref() }.map_or(&self.head, |prev| &prev.next);
        // Release (C2): the successor was linked before, by another thread perhaps; the lock made it visible to us.
        link.store(next, Ordering::Release);
        // SAFETY: as above.
        let back = unsafe { next.as_ref() }.map_or(&self.writers.tail, |next| &next.prev);
        back.store(prev, Ordering::Relaxed);
        // INVARIANT (I4): `record.next` is not touched: a walker may stand on this record.
    }

    /// Unlinks a complete record, and leaves it to be retired. Under the lock.
    ///
    /// # Safety
    /// The caller holds the lock and alone ends `record`, which is linked and complete (I1). It may be freed afterwards.
    unsafe fn end(&self, record: &Record) {
        self.count_out(record);
        // SAFETY: the caller's clause.
        unsafe { self.unlink(record) };
        self.writers.limbo.push(record);
    }

    /// Takes the cache out of a record, for the caller to drop; and ends the record, if no walker is left: else it is an orphan
    /// without a cache, and who gives back the last reference sees to it, or the caller's sweep.
    ///
    /// # Safety
    /// `record` is linked and condemned, no callback of it runs, and the caller alone ends it.
    pub(crate) unsafe fn remove(&self, record: NonNull<Record>) -> Option<Box<dyn Shrink>> {
        // SAFETY: linked, so alive.
        let record = unsafe { record.as_ref() };
        self.writers.lock.with(|| {
            // SAFETY: nobody is in the callbacks, nor comes in, and only the caller ends it.
            let cache = unsafe { record.take_cache() };
            if record.state.is_complete() {
                // SAFETY: the lock is held; complete, and ours by the caller's clause.
                unsafe { self.end(record) };
            } else {
                // Relaxed: S3 carries it to the one who gives back the last reference.
                self.orphans.fetch_add(1, Ordering::Relaxed);
                record.state.abandon();
            }
            cache
        })
    }

    /// Finds one orphan that nobody uses any more, and ends it; its cache is the caller's to drop.
    pub(crate) fn remove_orphan(&self) -> Option<Option<Box<dyn Shrink>>> {
        self.writers.lock.with(|| {
            let orphan = self.find(|record| record.state.is_complete_orphan())?;
            // SAFETY: linked, so alive.
            let orphan = unsafe { orphan.as_ref() };
            // SAFETY: just seen complete, and nobody owns it.
            let cache = unsafe { orphan.take_cache() };
            // SAFETY: the lock is held; complete, and nobody's.
            unsafe { self.end(orphan) };
            Some(cache)
        })
    }

    /// The first linked record that `wanted` accepts. Under the lock; `wanted` must not panic.
    pub(crate) fn find(&self, mut wanted: impl FnMut(&Record) -> bool) -> Option<NonNull<Record>> {
        // Relaxed: under the lock.
        let mut at = NonNull::new(self.head.load(Ordering::Relaxed));
        while let Some(here) = at {
            // SAFETY: linked records are alive, and the lock keeps them linked.
            let record = unsafe { here.as_ref() };
            if wanted(record) {
                return Some(here);
            }
            at = NonNull::new(record.next.load(Ordering::Relaxed));
        }
        None
    }

    /// Whether there may be orphans to end. A hint.
    pub(crate) fn has_orphans(&self) -> bool {
        // Relaxed: who gives back an orphan's last reference knows of it by S3.
        self.orphans.load(Ordering::Relaxed) != 0
    }

    /// Whether there may be orphans to end, or enough to retire. A hint, of two loads.
    pub(crate) fn is_untidy(&self) -> bool {
        self.has_orphans() || self.writers.limbo.is_full()
    }

    /// Retires what waits for it, if that is a batch. Outside guards and locks. An exiting thread leaves it to the next
    /// removal or walk.
    pub(crate) fn settle(&'static self) {
        let limbo = &self.writers.limbo;
        if !limbo.is_full() || epoch::thread_exiting() {
            return;
        }
        let records = self.lock().with(|| limbo.take());
        // SAFETY: from boxes (see `spec`), unlinked, so out of reach for later guards, and ours alone; not exiting.
        unsafe { self.epoch.retire(records) };
    }

    /// In a forked child, with the lock held: repairs every record and forgets the collector.
    pub(crate) fn repair(&self) {
        self.find(|record| {
            record.repair();
            false
        });
        self.walks.end();
        self.epoch.abandon();
    }
}
