//! The one place that knows whether the real world or a loom model is running.
//!
//! The rest of the crate takes from here the atomics that the protocol is made of, the thread cells, the two futex
//! calls, and the collector: seize's, or under `--cfg loom` a model of it that knows what must not be touched any more.
//! Counters, names and fields that a lock protects use `std` atomics everywhere, so that models stay small.

use std::time::Duration;

pub(crate) use imp::{
    ADMITS, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, BATCH, DEPTH, FRAMES, NODES, SPINS,
};
pub(crate) use imp::{Collector, EpochGuard, LocalGuard};
pub(crate) use imp::{
    forget_thread_number, now_ns, say, thread_number, wait, wait_for, wake, wake_one,
};

/// In nanoseconds, as far as these fit.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A number that no other living thread has; never 0. A forked thread keeps it.
pub(crate) fn thread_token() -> usize {
    FRAMES.with(|frames| std::ptr::from_ref(frames).addr())
}

#[cfg(not(loom))]
#[path = "clock.rs"]
mod clock;

#[cfg(not(loom))]
mod imp {
    use std::cell::Cell;
    use std::ptr;
    use std::time::Duration;

    pub(crate) use super::clock::now_ns;
    pub(crate) use seize::{Collector, Guard as EpochGuard, LocalGuard};
    pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

    /// How often a waiter looks again before it sleeps.
    pub(crate) const SPINS: u32 = 100;

    /// How many unlinked records are retired together.
    pub(crate) const BATCH: usize = 32;

    /// How many nodes there may be.
    pub(crate) const NODES: usize = crate::MAX_NODES;

    /// Whether a thread's first guard is a matter of its own: see `epoch`.
    pub(crate) const ADMITS: bool = true;

    // Constant and without destructors, so that no access ever allocates or fails.
    thread_local! {
        pub(crate) static DEPTH: Cell<usize> = const { Cell::new(0) };
        pub(crate) static FRAMES: Cell<*const ()> = const { Cell::new(ptr::null()) };
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }

    /// The system's number of this thread, as debuggers and `/proc` show it.
    pub(crate) fn thread_number() -> u32 {
        if NUMBER.get() == 0 {
            // SAFETY: no pointers; never fails.
            NUMBER.set(unsafe { libc::gettid() }.unsigned_abs());
        }
        NUMBER.get()
    }

    /// In a forked child, where this thread has another number.
    pub(crate) fn forget_thread_number() {
        NUMBER.set(0);
    }

    /// Writes to standard error, all at once as far as 512 bytes go. Allocates nothing. Keeps errno.
    pub(crate) fn say(parts: &[&str]) {
        let mut line = [0; 512];
        let mut length = 0;
        for byte in parts.iter().flat_map(|part| part.bytes()).take(line.len()) {
            line[length] = byte;
            length += 1;
        }
        keeping_errno(|| {
            // SAFETY: reads so many bytes of the array above. What is not written is not missed.
            unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), length) };
        });
    }

    /// Sleeps while `word` is `expected`; may return for no reason. Keeps errno.
    pub(crate) fn wait(word: &AtomicU32, expected: u32) {
        futex(word, libc::FUTEX_WAIT, expected, ptr::null());
    }

    /// As [`wait`], for so long at most.
    pub(crate) fn wait_for(word: &AtomicU32, expected: u32, limit: Duration) {
        let limit = libc::timespec {
            tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        futex(word, libc::FUTEX_WAIT, expected, &limit);
    }

    /// Wakes one sleeper on `word`. Keeps errno.
    pub(crate) fn wake_one(word: &AtomicU32) {
        futex(word, libc::FUTEX_WAKE, 1, ptr::null());
    }

    /// Wakes every sleeper on `word`. Keeps errno.
    pub(crate) fn wake(word: &AtomicU32) {
        futex(word, libc::FUTEX_WAKE, i32::MAX as u32, ptr::null());
    }

    fn futex(word: &AtomicU32, operation: libc::c_int, value: u32, timeout: *const libc::timespec) {
        keeping_errno(|| {
            let flags = operation | libc::FUTEX_PRIVATE_FLAG;
            // SAFETY: the word lives as long as the borrow; the call only compares it or names it. The timeout is null,
            // which means none, or lives in the caller.
            unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), flags, value, timeout) };
        });
    }

    fn keeping_errno(f: impl FnOnce()) {
        // SAFETY: errno of the calling thread is always there.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above; nothing else writes it while this thread is here.
        let saved = unsafe { *errno };
        f();
        // SAFETY: as for the read.
        unsafe { *errno = saved };
    }
}

#[cfg(loom)]
#[path = "sync_model.rs"]
mod imp;
