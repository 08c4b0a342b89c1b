//! A cache that is being called: panics are caught here, and every callback is timed.

use std::any::Any;
use std::cell::Cell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::shrink::{Count, Scan, Shrink, ShrinkControl};
use crate::sync::now_ns;
use crate::times::Times;

/// One cache, for the length of one visit.
pub(crate) struct Callee<'a> {
    cache: &'a dyn Shrink,
    times: &'a Times,
    /// When the last callback returned, on the clock of `now_ns`.
    returned: Cell<u64>,
    panicked: Cell<bool>,
}

impl<'a> Callee<'a> {
    pub(crate) fn new(cache: &'a dyn Shrink, times: &'a Times) -> Self {
        Self {
            cache,
            times,
            returned: Cell::new(0),
            panicked: Cell::new(false),
        }
    }

    /// What the cache counts; nothing if it panicked.
    pub(crate) fn count(&self, ctl: &ShrinkControl) -> Option<Count> {
        self.run(|| self.cache.count(ctl))
    }

    /// What a scan did; nothing if it panicked.
    pub(crate) fn scan(&self, ctl: &mut ShrinkControl) -> Option<Scan> {
        self.run(|| self.cache.scan(ctl))
    }

    /// Whether a callback panicked.
    pub(crate) fn panicked(&self) -> bool {
        self.panicked.get()
    }

    /// When the last callback returned, on the clock of `now_ns`.
    pub(crate) fn returned(&self) -> u64 {
        self.returned.get()
    }

    fn run<R>(&self, callback: impl FnOnce() -> R) -> Option<R> {
        let begin = now_ns();
        let result = catch_unwind(AssertUnwindSafe(callback));
        let end = now_ns();
        self.times.add(end - begin);
        self.returned.set(end);
        result
            .inspect_err(|_| self.panicked.set(true))
            .map_err(forget)
            .ok()
    }
}

/// Drops a panic's payload without running its destructor, which may panic again.
pub(crate) fn forget(payload: Box<dyn Any + Send>) {
    mem::forget(payload);
}
