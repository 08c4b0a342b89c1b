//! Everything that touches seize: guards, retiring, flushing, and the mark of an exiting thread.
//!
//! A guard keeps every record that could be reached when it was entered from being freed. What seize 0.5.1 asks of us:
//!
//! - making a collector, a thread's first guard and each retirement allocate: none of them happens under a lock;
//! - an allocation that fails in the middle of seize must not come back to seize by way of a walk: its state is half
//!   changed, and so is the standard library's while seize registers a destructor. [`inside`] is true then, and
//!   walks return at once;
//! - guards nest, so an outer guard would silently keep an inner one entered: [`assert_outside`] checks the depth
//!   before any code of a user runs;
//! - a thread gives its id back when it exits, under a lock that may allocate, and cannot enter afterwards. Rust runs
//!   the destructors of thread locals last registered first, so [`Marker`], touched *after* each first use of
//!   seize, is dropped *before* seize's own: from then on [`thread_exiting`] is true and nobody enters;
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
use std::sync::atomic::{AtomicPtr as Plain, Ordering};

use crate::sync::{AtomicPtr, BATCH, Collector, DEPTH, EpochGuard, LocalGuard};

thread_local! {
    static EXITING: Cell<bool> = const { Cell::new(false) };
    static MARKER: Marker = const { Marker };
}

/// Its destructor marks the thread as exiting.
struct Marker;

impl Drop for Marker {
    fn drop(&mut self) {
        EXITING.set(true);
    }
}

/// Whether this thread is past the point where it may walk: its thread locals are being destroyed.
///
/// A walk on such a thread returns an empty report at once. An allocator should not make such a thread wait for others
/// either: it may hold a lock that a reclaiming thread needs.
#[must_use]
pub fn thread_exiting() -> bool {
    EXITING.get()
}

/// Whether this thread is in the middle of seize, or at the point of its exit where it gives its id back. What it
/// allocates there must not fail: seize would end the process. An allocator should go over its limits; it is a matter
/// of kilobytes.
#[must_use]
pub fn thread_must_not_fail() -> bool {
    inside() || thread_exiting()
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
}

impl Epoch {
    pub(crate) const fn new() -> Self {
        Self {
            collector: Plain::new(ptr::null_mut()),
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

    /// Enters a guard. Never on an exiting thread, never under a lock.
    #[inline(always)] // Once per visit: as a call it hands the guard over in memory.
    pub(crate) fn enter(&self) -> Guard {
        // First: what seize allocates counts as inside already.
        let depth = Depth::deeper();
        let inner = self.ready().enter();
        arm();
        Guard {
            inner,
            _depth: depth,
        }
    }

    /// Hands `object` over: its box is dropped, on some thread, when no guard entered before now is left.
    ///
    /// # Safety
    /// `object` came from a box, can be reached no more by anyone who enters a guard from now on, may be dropped on
    /// any thread, and this thread is not exiting.
    pub(crate) unsafe fn retire<T: Send>(&self, object: NonNull<T>) {
        let _depth = Depth::deeper();
        // SAFETY: the caller's clauses are those of seize, and `reclaim` is for boxes.
        unsafe { self.ready().retire(object.as_ptr(), reclaim) };
        arm();
    }

    /// In a forked child: leaks the collector; the next use makes a new one.
    pub(crate) fn abandon(&self) {
        // Relaxed: the child has one thread.
        self.collector.store(ptr::null_mut(), Ordering::Relaxed);
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

/// Registers the exit marker of this thread, once, after seize has registered its own destructor.
fn arm() {
    // An error means that the marker was dropped already; then the flag is set, which is all we want.
    let _ = MARKER.try_with(|_| ());
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
