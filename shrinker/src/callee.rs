//! A cache that is being called: panics are caught here, and every callback is timed.
//!
//! Callbacks follow each other closely, so the end of one is taken for the beginning of the next: one look at the clock
//! for each.

use std::any::Any;
use std::cell::Cell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::shrink::{Count, Scan, Shrink, ShrinkControl};
use crate::sync::now_ns;
use crate::times::Times;

/// One cache, for the length of one visit, or until its next pause.
pub(crate) struct Callee<'a> {
    cache: &'a dyn Shrink,
    times: &'a Times,
    /// How long one callback may take, in nanoseconds.
    deadline: u64,
    /// When the last callback returned, or the first one began.
    now: Cell<u64>,
    overran: Cell<bool>,
    panicked: Cell<bool>,
}

impl<'a> Callee<'a> {
    /// A visit that begins `now`.
    pub(crate) fn new(cache: &'a dyn Shrink, times: &'a Times, deadline: u64, now: u64) -> Self {
        Self {
            cache,
            times,
            deadline,
            now: Cell::new(now),
            overran: Cell::new(false),
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

    /// Whether a callback took longer than its deadline.
    pub(crate) fn overran(&self) -> bool {
        self.overran.get()
    }

    /// When the last callback returned, on the clock of `now_ns`.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// When a callback that begins now should have returned.
    pub(crate) fn until(&self) -> u64 {
        self.now().saturating_add(self.deadline)
    }

    fn run<R>(&self, callback: impl FnOnce() -> R) -> Option<R> {
        let begin = self.now.get();
        let result = catch_unwind(AssertUnwindSafe(callback));
        let end = now_ns();
        let ns = end.saturating_sub(begin);
        self.times.add(ns);
        self.now.set(end);
        if ns > self.deadline {
            self.overran.set(true);
        }
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
