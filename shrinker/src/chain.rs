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
use crate::lock::Lock;
use crate::record::Record;
use crate::shrink::Lane;
use crate::sync::{AtomicPtr, AtomicUsize as Modelled};
use crate::values::Values;

/// The chain of records, its lock and its collector. Made at the first preparation, never freed.
pub(crate) struct Chain {
    head: AtomicPtr<Record>,
    /// Under the lock.
    tail: Plain<Record>,
    /// The id of the youngest record. Written under the lock.
    last_id: AtomicU64,
    pub(crate) lock: Lock,
    epoch: Epoch,
    /// The shrinker that was visited last: where the next walk goes on. A hint.
    cursor: AtomicU64,
    /// How many records there are of each value.
    pub(crate) values: Values,
    /// How many shrinkers run on the reclaim thread alone. A hint.
    pub(crate) asynchronous: AtomicUsize,
    /// What was freed for requests in flight.
    pub(crate) credit: Credit,
    /// Records dropped inside their own callback and not yet ended.
    pub(crate) orphans: Modelled,
    /// Records unlinked by exiting threads, chained by `prev`, waiting to be retired. Under the lock.
    limbo: Plain<Record>,
}

impl Chain {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
            tail: Plain::new(ptr::null_mut()),
            last_id: AtomicU64::new(0),
            lock: Lock::new(),
            epoch: Epoch::new(),
            cursor: AtomicU64::new(0),
            values: Values::new(),
            asynchronous: AtomicUsize::new(0),
            credit: Credit::new(),
            orphans: Modelled::new(0),
            limbo: Plain::new(ptr::null_mut()),
        }
    }

    /// Makes the collector now rather than in the middle of a walk.
    pub(crate) fn warm(&self) {
        self.epoch.ready();
    }

    pub(crate) fn enter(&self) -> Guard {
        self.epoch.enter()
    }

    /// The first record.
    pub(crate) fn first(&self, guard: &Guard) -> Option<NonNull<Record>> {
        NonNull::new(guard.load(&self.head))
    }

    pub(crate) fn cursor(&self) -> u64 {
        // Relaxed: a hint where to begin.
        self.cursor.load(Ordering::Relaxed)
    }

    pub(crate) fn set_cursor(&self, id: u64) {
        // Relaxed: as above.
        self.cursor.store(id, Ordering::Relaxed);
    }

    /// The id of the youngest record linked so far.
    pub(crate) fn last_id(&self) -> u64 {
        // Relaxed: bounds a walk; a record linked at this moment may be seen or not.
        self.last_id.load(Ordering::Relaxed)
    }

    /// Counts a shrinker that comes.
    pub(crate) fn count_in(&self, record: &Record) {
        self.values.add(record.value());
        if record.lane() == Lane::Async {
            // Relaxed: a hint.
            self.asynchronous.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts off a shrinker that is complete.
    pub(crate) fn count_out(&self, record: &Record) {
        self.values.remove(record.value());
        if record.lane() == Lane::Async {
            // Relaxed: a hint.
            self.asynchronous.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Links `record` at the tail and, as the very last store, opens it to walkers.
    ///
    /// # Safety
    /// `record` is alive, not linked, was never published, and stays alive until it is unlinked and retired.
    pub(crate) unsafe fn link(&self, record: NonNull<Record>) {
        let new = record.as_ptr();
        // SAFETY: alive by the caller's clause.
        let record = unsafe { record.as_ref() };
        self.lock.with(|| {
            // Relaxed, all but the link itself: under the lock, or carried by C1.
            let id = self.last_id.load(Ordering::Relaxed) + 1;
            record.set_id(id);
            let tail = self.tail.load(Ordering::Relaxed);
            record.prev.store(tail, Ordering::Relaxed);
            self.tail.store(new, Ordering::Relaxed);
            // SAFETY: linked records are alive, and only a holder of the lock unlinks them.
            let link = unsafe { tail.as_ref() }.map_or(&self.head, |tail| &tail.next);
            // Release (C1): who follows the link sees the id, the null `next`, and a state of zero or later.
            link.store(new, Ordering::Release);
            self.last_id.store(id, Ordering::Relaxed);
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
        let back = unsafe { next.as_ref() }.map_or(&self.tail, |next| &next.prev);
        back.store(prev, Ordering::Relaxed);
        // INVARIANT (I4): `record.next` is not touched: a walker may stand on this record.
    }

    /// Unlinks a complete record.
    ///
    /// # Safety
    /// `record` is linked, complete (I1), and the caller alone ends it.
    pub(crate) unsafe fn remove(&self, record: &Record) {
        self.lock.with(|| {
            // SAFETY: the lock is held, the rest is the caller's clause.
            unsafe { self.unlink(record) };
        });
    }

    /// Finds and unlinks one orphan that nobody uses any more.
    pub(crate) fn remove_orphan(&self) -> Option<NonNull<Record>> {
        self.lock.with(|| {
            let orphan = self.find(|record| record.state.is_complete_orphan())?;
            // SAFETY: found in the list under the lock.
            let record = unsafe { orphan.as_ref() };
            // SAFETY: the lock is held, the record is linked, and its state was just seen complete.
            unsafe { self.unlink(record) };
            Some(orphan)
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

    /// Hands an unlinked record to seize; from an exiting thread, to the limbo.
    ///
    /// # Safety
    /// `record` came from a box, was unlinked by the caller, and is retired once.
    pub(crate) unsafe fn retire(&'static self, record: NonNull<Record>) {
        if epoch::thread_exiting() {
            self.lock.with(|| self.push_limbo(record));
            return;
        }
        // SAFETY: unlinked, so out of reach for later guards; from a box; not exiting.
        unsafe { self.epoch.retire(record) };
    }

    fn push_limbo(&self, record: NonNull<Record>) {
        // Relaxed: under the lock.
        let below = self.limbo.swap(record.as_ptr(), Ordering::Relaxed);
        // SAFETY: unlinked and not yet retired: alive. Walkers that stand on it do not read `prev`.
        let record = unsafe { record.as_ref() };
        record.prev.store(below, Ordering::Relaxed);
    }

    fn pop_limbo(&self) -> Option<NonNull<Record>> {
        // Relaxed, here and below: under the lock.
        let top = NonNull::new(self.limbo.load(Ordering::Relaxed))?;
        // SAFETY: in limbo: unlinked and not yet retired, so alive.
        let record = unsafe { top.as_ref() };
        let below = record.prev.load(Ordering::Relaxed);
        self.limbo.store(below, Ordering::Relaxed);
        Some(top)
    }

    /// Retires what exiting threads left, and frees what no guard holds. Outside guards and locks; costs two loads
    /// when there is nothing to do.
    pub(crate) fn settle(&'static self) {
        if epoch::thread_exiting() {
            return;
        }
        // Relaxed: a hint; what is missed now is retired later.
        while !self.limbo.load(Ordering::Relaxed).is_null() {
            let Some(record) = self.lock.with(|| self.pop_limbo()) else {
                break;
            };
            // SAFETY: it was unlinked before it went to limbo, and popping made us its only owner.
            unsafe { self.epoch.retire(record) };
        }
        self.epoch.flush();
    }

    /// In a forked child, with the lock held: repairs every record and forgets the collector.
    pub(crate) fn repair(&self) {
        self.find(|record| {
            record.repair();
            false
        });
        self.epoch.abandon();
    }
}
