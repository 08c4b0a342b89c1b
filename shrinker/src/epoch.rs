//! Everything that touches seize: guards, retiring, flushing, and the mark of an exiting thread.
//!
//! A guard keeps every record that could be reached when it was entered from being freed. What seize 0.5.1 asks of us:
//!
//! - making a collector, a thread's first guard and each retirement allocate: none of them happens under a lock of the list's;
//! - a thread's first guard may need a place for it in the collector's table, which grows by a piece as large as all
//!   before it: each thread that finds the piece missing makes one, and all but one are freed again. So one thread at a
//!   time has its first guard, and one retires ([`Epoch::alone`]): a hundred threads that all begin to walk where there is no
//!   memory left need the piece once, and not a hundred times;
//! - an allocation that fails in the middle of seize must not come back to seize by way of a walk: its state is half
//!   changed, and so is the standard library's while seize registers a destructor. [`inside`] is true then, and
//!   walks return at once;
//! - guards nest, so an outer guard would silently keep an inner one entered: [`assert_outside`] checks the depth
//!   before any code of a user runs;
//! - a thread gives its id back when it exits, under a lock that may allocate, and cannot enter afterwards. Rust runs
//!   the destructors of thread locals last registered first, so [`Before`], touched *after* the first use of
//!   seize, is dropped *before* seize's own: from then on [`thread_exiting`] is true and nobody enters. [`After`] is
//!   touched before that use: once it is dropped the id is given back, and what else runs at the exit may fail again;
//! - retired records are freed when no guard holds them and the thread's batch is full. So they are collected per list
//!   (`chain`), and one thread retires as many as make a batch: none is left lying in a thread that never comes again,
//!   and the barrier, the allocation and the look at every thread are paid for once per batch;
//! - a batch has a place for each thread that is in a guard: where there are more threads than places at that moment it
//!   waits for the same thread's next one;
//! - its fast barriers are left out: with them every batch is a system call that ends the process when a sandbox
//!   forbids it, for some nanoseconds less per guard;
//! - a fork copies the reservations of threads that the child does not have: the child leaks the collector and
//!   makes a new one at its next use.

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr as Plain, AtomicU32, Ordering};

use crate::lock::Lock;
use crate::sync::{ADMITS, AtomicPtr, BATCH, Collector, DEPTH, EpochGuard, LocalGuard};

thread_local! {
    static EXIT: Cell<Exit> = const { Cell::new(Exit::Far) };
    /// The lists, by their bits, of which this thread has had a guard.
    static KNOWN: Cell<u64> = const { Cell::new(0) };
    static BEFORE: Before = const { Before };
    static AFTER: After = const { After };
}

/// How far a thread is with its exit.
#[derive(Clone, Copy, PartialEq)]
enum Exit {
    Far,
    /// It gives its id back.
    Leaving,
    /// Its id is given back.
    Left,
}

/// Its destructor runs just before seize's.
struct Before;

impl Drop for Before {
    fn drop(&mut self) {
        EXIT.set(Exit::Leaving);
    }
}

/// Its destructor runs just after seize's.
struct After;

impl Drop for After {
    fn drop(&mut self) {
        EXIT.set(Exit::Left);
    }
}

/// Whether this thread is past the point where it may walk: its thread locals are being destroyed.
///
/// A walk on such a thread returns an empty report at once. An allocator should not make such a thread wait for others
/// either: it may hold a lock that a reclaiming thread needs.
#[must_use]
pub fn thread_exiting() -> bool {
    EXIT.get() != Exit::Far
}

/// Whether this thread is in the middle of seize, or at the point of its exit where it gives its id back. What it
/// allocates there must not fail: seize would end the process. An allocator should go over its limits, and serve it from
/// memory that nobody else can use up meanwhile. All threads together need about 100 bytes for each that walks for the first time
/// or has walked and lives, and up to a kibibyte of tables for each of the most that there ever were at once; no code of a user
/// runs there.
#[must_use]
pub fn thread_must_not_fail() -> bool {
    inside() || EXIT.get() == Exit::Leaving
}

/// Whether this thread is in a guard, or in seize.
pub(crate) fn inside() -> bool {
    DEPTH.with(Cell::get) != 0
}

/// Asserts that this thread is in no guard. Called before anything of a user runs.
pub(crate) fn assert_outside() {
    debug_assert!(!inside(), "user code under a guard");
}

/// The collector of one list, made at first use.
pub(crate) struct Epoch {
    // Made once, then constant until a fork: not part of the protocol that is modelled.
    collector: Plain<Collector>,
    /// Held by the one thread that may make its tables grow.
    growing: Lock,
    /// What this list is known by; nothing for later ones, of which each guard is taken as a thread's first.
    bit: u64,
}

/// Lists that have a bit.
static BITS: AtomicU32 = AtomicU32::new(0);

impl Epoch {
    pub(crate) fn new() -> Self {
        Self {
            collector: Plain::new(ptr::null_mut()),
            growing: Lock::new(),
            // Relaxed: a number of its own, nothing else.
            bit: 1_u64
                .checked_shl(BITS.fetch_add(1, Ordering::Relaxed))
                .unwrap_or(0),
        }
    }

    /// The collector, made now if there is none. Allocates then, and must not be called under a lock.
    pub(crate) fn ready(&self) -> &'static Collector {
        // Acquire: pairs with the Release below; the collector is seen whole.
        let mut collector = self.collector.load(Ordering::Acquire);
        if collector.is_null() {
            collector = self.make();
        }
        // SAFETY: once made, a collector is never freed: lists are static, and a forked child leaks it.
        unsafe { &*collector }
    }

    #[cold]
    fn make(&self) -> *mut Collector {
        let _depth = Depth::deeper();
        let new = Box::into_raw(Box::new(Collector::new().batch_size(BATCH)));
        let made = self.collector.compare_exchange(
            ptr::null_mut(),
            new,
            // Release: the collector is visible to whoever loads the pointer.
            Ordering::Release,
            // Acquire: the collector of the thread that won is visible to us.
            Ordering::Acquire,
        );
        match made {
            Ok(_) => new,
            Err(winner) => {
                // SAFETY: ours came from Box::into_raw above and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
                winner
            }
        }
    }

    /// The collector, to which this thread is known.
    #[inline(always)] // As `enter`.
    fn known(&self) -> &'static Collector {
        let collector = self.ready();
        if ADMITS && KNOWN.get() & self.bit == 0 {
            self.introduce(collector);
        }
        collector
    }

    /// The thread's first guard: what that needs is there afterwards.
    #[cold]
    fn introduce(&self, collector: &'static Collector) {
        // An error means that it was dropped already; then nobody comes here. So below.
        let _ = AFTER.try_with(|_| ());
        self.alone(|| drop(collector.enter()));
        let _ = BEFORE.try_with(|_| ());
        KNOWN.set(KNOWN.get() | self.bit);
    }

    /// Runs `f`, for which the tables may have to grow, while no other thread does so. In `f` this thread counts as inside, so
    /// what it allocates comes to no walk, and waits for nobody who might want to come here.
    fn alone<R>(&self, f: impl FnOnce() -> R) -> R {
        if ADMITS { self.growing.with(f) } else { f() }
    }

    /// Enters a guard. Never on an exiting thread, never under a lock.
    #[inline(always)] // Once per visit: as a call it hands the guard over in memory.
    pub(crate) fn enter(&self) -> Guard {
        // First: what seize allocates counts as inside already.
        let depth = Depth::deeper();
        Guard {
            inner: self.known().enter(),
            _depth: depth,
        }
    }

    /// Hands `objects` over: their boxes are dropped, on some thread, when no guard entered before now is left.
    ///
    /// # Safety
    /// They came from boxes, can be reached no more by anyone who enters a guard from now on, may be dropped on
    /// any thread, and this thread is not exiting.
    pub(crate) unsafe fn retire<T: Send>(&self, objects: impl Iterator<Item = NonNull<T>>) {
        let _depth = Depth::deeper();
        let collector = self.known();
        self.alone(|| {
            for object in objects {
                // SAFETY: the caller's clauses are those of seize, and `reclaim` is for boxes.
                unsafe { collector.retire(object.as_ptr(), reclaim) };
            }
        });
    }

    /// In a forked child: leaks the collector; the next use makes a new one. Who had the lock does not exist here.
    pub(crate) fn abandon(&self) {
        // Relaxed: the child has one thread.
        self.collector.store(ptr::null_mut(), Ordering::Relaxed);
        self.growing.forget();
        KNOWN.set(KNOWN.get() & !self.bit);
    }
}

/// Drops a retired object.
///
/// # Safety
/// `object` came from a box and nobody can reach it any more.
unsafe fn reclaim<T>(object: *mut T, _: &Collector) {
    // SAFETY: the caller's clause, which `Epoch::retire` passed on.
    drop(unsafe { Box::from_raw(object) });
}

/// While it lives, no record that can be reached through it is freed. Tied to its thread.
pub(crate) struct Guard {
    // Dropped in this order: reclaimers that run when seize's guard is left still count as inside.
    inner: LocalGuard<'static>,
    _depth: Depth,
}

impl Guard {
    /// Loads a link. seize strengthens the ordering as it needs it, to at least Acquire: the record behind the
    /// pointer is visible down to what was written before it was linked (C1 in `chain`).
    pub(crate) fn load<T>(&self, link: &AtomicPtr<T>) -> *mut T {
        self.inner.protect(link, Ordering::Acquire)
    }
}

/// How many guards this thread is in, calls into seize that may allocate included: a walk in the middle of one (the
/// allocation failed, and the allocator asks for memory) calls nothing.
struct Depth;

impl Depth {
    fn deeper() -> Self {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Self
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}
