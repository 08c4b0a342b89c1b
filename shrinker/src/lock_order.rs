//! A check of locks: one that a callback waits for must not be held around an allocation.
//!
//! A thread that holds a cache's lock allocates, memory is short, the cache is called on the same thread, and waits for
//! that lock: for ever. It happens once a month, in production. Here it need not happen: that the lock is *waited for in a
//! callback* and that it is *held around an allocation* are seen each by itself, whenever and wherever, and both together
//! are reported, once, on standard error. The kernel's lockdep does the same with its `fs_reclaim` lock.
//!
//! ```
//! use ebb_shrinker::lock_order::{CheckedMutex, LockClass};
//!
//! static PAGES: LockClass = LockClass::new("pages");
//! let pages = CheckedMutex::new(&PAGES, vec![1]);
//! pages.lock().unwrap().push(2);
//! assert!(!PAGES.is_inverted());
//! ```
//!
//! - Locks are told apart by class, not one by one: all that do the same work in the program share a [`LockClass`].
//! - Trying is fine everywhere, and so is waiting in the async lane ([`Lane::Async`](crate::Lane::Async)).
//! - Around an allocation that calls no shrinkers, or not those of that [class](crate::Shrinker::class), a lock may be held.
//! - Other kinds of lock call [`waiting`](LockClass::waiting), [`acquired`](LockClass::acquired) and
//!   [`released`](LockClass::released) themselves.
//!
//! - The [conformance kit](crate::conformance) sees with them that a callback waits, though nobody holds the lock just then.
//!
//! It is on in debug builds, which is decided when this crate is compiled, and in others from [`switch_on`] on; before, it
//! costs one load per lock and per allocation that needs memory from the system.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{LockResult, Mutex, MutexGuard, PoisonError, TryLockError, TryLockResult};

use crate::frames::classes_in_callback;
use crate::sync::say;

/// Locks that one thread can hold with all of them known.
const HELD: usize = 16;

/// Whether it is on.
static ON: AtomicBool = AtomicBool::new(cfg!(debug_assertions));

/// Whether any lock takes part: where none does an allocation has nothing to look at.
static USED: AtomicBool = AtomicBool::new(false);

/// Whether what is found is written to standard error.
static REPORTS: AtomicBool = AtomicBool::new(true);

thread_local! {
    /// The classes of the locks that this thread holds.
    static LOCKS: Cell<[Option<&'static LockClass>; HELD]> = const { Cell::new([None; HELD]) };
    /// That of the lock which a callback waited for last on this thread.
    static WAITED: Cell<Option<&'static LockClass>> = const { Cell::new(None) };
}

/// Switches the check on, for good: for programs that want it though they were not compiled as debug builds.
pub fn switch_on() {
    // Relaxed: a switch.
    ON.store(true, Ordering::Relaxed);
}

/// Whether what is found is reported on standard error; it is at first. [`LockClass::is_inverted`] tells it either way.
pub fn set_reports(on: bool) {
    // Relaxed: a switch.
    REPORTS.store(on, Ordering::Relaxed);
}

fn is_on() -> bool {
    // Relaxed: a switch.
    ON.load(Ordering::Relaxed)
}

/// The name of the lock that a callback waited for last on this thread, since this was asked last.
pub(crate) fn take_waited() -> Option<&'static str> {
    WAITED.take().map(|class| class.name)
}

/// What is known of the locks that do the same work.
#[derive(Debug)]
pub struct LockClass {
    name: &'static str,
    /// Below, a bit for each class of shrinkers in whose callbacks it was waited for; above, for each whose callbacks an
    /// allocation might have called around which it was held. Relaxed: one word, so that whoever adds the second half sees
    /// the first.
    seen: AtomicU16,
    reported: AtomicBool,
}

impl LockClass {
    /// Locks of this name, of which nothing is known yet.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            seen: AtomicU16::new(0),
            reported: AtomicBool::new(false),
        }
    }

    /// One of them is about to be waited for, if need be. Not called where it is only tried.
    pub fn waiting(&'static self) {
        let classes = classes_in_callback();
        if is_on() && classes != 0 {
            WAITED.set(Some(self));
            self.mark(u16::from(classes));
        }
    }

    /// This thread holds one of them from now on.
    pub fn acquired(&'static self) {
        if is_on() {
            // Relaxed: this thread sees its own store, and asks only for its own locks.
            USED.store(true, Ordering::Relaxed);
            self.change(None, Some(self));
        }
    }

    /// This thread has given one of them back.
    pub fn released(&'static self) {
        if is_on() {
            self.change(Some(self), None);
        }
    }

    /// Whether it was seen that they may deadlock. Never while the check is off.
    #[must_use]
    pub fn is_inverted(&self) -> bool {
        // Relaxed: see `seen`.
        inverted(self.seen.load(Ordering::Relaxed))
    }

    /// Puts `new` where `old` was last. A thread that holds too many forgets some: the check is then blind, not wrong.
    fn change(&self, old: Option<&'static Self>, new: Option<&'static Self>) {
        let mut locks = LOCKS.get();
        let is_old = |lock: &&mut Option<&'static Self>| match (&**lock, old) {
            (Some(lock), Some(old)) => std::ptr::eq(*lock, old),
            (lock, old) => lock.is_none() && old.is_none(),
        };
        if let Some(place) = locks.iter_mut().rev().find(is_old) {
            *place = new;
        }
        LOCKS.set(locks);
    }

    fn mark(&self, bits: u16) {
        if bits == 0 {
            return;
        }
        // Relaxed: see `seen`.
        let seen = self.seen.fetch_or(bits, Ordering::Relaxed) | bits;
        // Relaxed: a switch.
        let wanted = inverted(seen) && REPORTS.load(Ordering::Relaxed);
        if wanted && !self.reported.swap(true, Ordering::Relaxed) {
            say(&[
                "ebb-shrinker: the lock \"",
                self.name,
                "\" is waited for in a shrinker's callback and held around an allocation, which may call that shrinker: \
                 a deadlock in waiting. Only try it in the callback, or allocate before it is taken\n",
            ]);
        }
    }
}

/// Whether any class of shrinkers is in both halves.
fn inverted(seen: u16) -> bool {
    seen & (seen >> 8) != 0
}

/// An allocation of this thread may call shrinkers now, all but those of the classes in `without`: whatever lock it holds
/// is held around an allocation. For allocators, where they would begin to reclaim if they had to; walks call it themselves.
pub fn allocating(without: u8) {
    if is_used() {
        for lock in LOCKS.get().into_iter().flatten() {
            lock.mark(u16::from(!without) << 8);
        }
    }
}

/// Whether any lock takes part, so that [`allocating`] has something to look at.
#[must_use]
pub fn is_used() -> bool {
    // Relaxed: see `acquired`.
    USED.load(Ordering::Relaxed)
}

/// A [`Mutex`] whose use is checked.
#[derive(Debug)]
pub struct CheckedMutex<T: ?Sized> {
    class: &'static LockClass,
    mutex: Mutex<T>,
}

impl<T> CheckedMutex<T> {
    /// A free mutex of that class.
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self {
            class,
            mutex: Mutex::new(value),
        }
    }
}

impl<T: ?Sized> CheckedMutex<T> {
    /// As [`Mutex::lock`].
    ///
    /// # Errors
    /// Those of `Mutex::lock`.
    pub fn lock(&self) -> LockResult<CheckedGuard<'_, T>> {
        self.class.waiting();
        match self.mutex.lock() {
            Ok(guard) => Ok(self.checked(guard)),
            Err(poison) => Err(PoisonError::new(self.checked(poison.into_inner()))),
        }
    }

    /// As [`Mutex::try_lock`]: what a callback does.
    ///
    /// # Errors
    /// Those of `Mutex::try_lock`.
    pub fn try_lock(&self) -> TryLockResult<CheckedGuard<'_, T>> {
        match self.mutex.try_lock() {
            Ok(guard) => Ok(self.checked(guard)),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(poison)) => {
                let guard = self.checked(poison.into_inner());
                Err(TryLockError::Poisoned(PoisonError::new(guard)))
            }
        }
    }

    fn checked<'a>(&self, guard: MutexGuard<'a, T>) -> CheckedGuard<'a, T> {
        self.class.acquired();
        CheckedGuard {
            guard,
            class: self.class,
        }
    }
}

/// While it lives, the mutex is held.
#[derive(Debug)]
#[must_use = "the mutex is given back when this is dropped"]
pub struct CheckedGuard<'a, T: ?Sized> {
    guard: MutexGuard<'a, T>,
    class: &'static LockClass,
}

impl<T: ?Sized> Deref for CheckedGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for CheckedGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: ?Sized> Drop for CheckedGuard<'_, T> {
    fn drop(&mut self) {
        self.class.released();
    }
}
