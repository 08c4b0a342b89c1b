//! The words of the reclaim threads: what each is to do, and what is heard of it. What they do is in `background`.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use crate::config::MAX_NODES;
use crate::os;

/// A node's thread.
pub(crate) struct Thread {
    started: AtomicBool,
    /// The system's number of it; 0 until it runs.
    pub(crate) number: AtomicU32,
    /// 0, or what is asked for (see [`Asked`]).
    pub(crate) asked: AtomicU32,
    /// Whether it may hold something that it has freed and not given on yet.
    busy: AtomicBool,
    /// Whether it is to reclaim ahead of need.
    pub(crate) ahead: AtomicBool,
    /// Changes whenever there is something to do. What the thread sleeps on.
    pub(crate) bell: AtomicU32,
    /// Bytes that the request lacked that asked last; 0 when nobody knows.
    pub(crate) goal: AtomicUsize,
    /// Visits, modulo 2^32: what is heard of it.
    pub(crate) visits: AtomicU32,
    /// Objects that visits freed, and one for each visit that freed only bytes.
    pub(crate) fruits: AtomicUsize,
}

static THREADS: [Thread; MAX_NODES] = [const {
    Thread {
        started: AtomicBool::new(false),
        number: AtomicU32::new(0),
        asked: AtomicU32::new(0),
        busy: AtomicBool::new(false),
        ahead: AtomicBool::new(false),
        bell: AtomicU32::new(0),
        goal: AtomicUsize::new(0),
        visits: AtomicU32::new(0),
        fruits: AtomicUsize::new(0),
    }
}; MAX_NODES];

/// The thread of this node, there or not.
pub(crate) fn of_node(node: usize) -> &'static Thread {
    &THREADS[node]
}

/// In a forked child: there is only one thread.
pub(crate) fn forget() {
    for thread in &THREADS {
        // Relaxed: as in `start`.
        thread.started.store(false, Ordering::Relaxed);
        thread.number.store(0, Ordering::Relaxed);
        thread.asked.store(0, Ordering::Relaxed);
        thread.busy.store(false, Ordering::Relaxed);
        thread.ahead.store(false, Ordering::Relaxed);
    }
}

impl Thread {
    /// Starts it if it is not there: it runs `entry` for `node`.
    pub(crate) fn start(&self, node: usize, entry: extern "C" fn(*mut c_void) -> *mut c_void) {
        // Relaxed: whoever sets it starts the thread; nothing else is carried by it.
        if !self.started.load(Ordering::Relaxed)
            && !self.started.swap(true, Ordering::Relaxed)
            && !os::spawn(entry, node)
        {
            // No room now; the next request tries again.
            self.started.store(false, Ordering::Relaxed);
        }
    }

    /// Whether it was started.
    pub(crate) fn is_there(&self) -> bool {
        // Relaxed: a hint.
        self.started.load(Ordering::Relaxed)
    }

    /// How many objects it freed, modulo 2^64: a request that sees it change was not refused because there is nothing, but
    /// because another took it.
    pub(crate) fn fruits(&self) -> usize {
        // Relaxed: who waited until the thread was done (Acquire in `background::wait`) sees all that it did.
        self.fruits.load(Ordering::Relaxed)
    }

    /// Wakes it.
    pub(crate) fn ring(&self) {
        // Release: pairs with the Acquire in `background::run`.
        self.bell.fetch_add(1, Ordering::Release);
        os::wake(&self.bell);
    }

    /// Whether a request asks for something.
    pub(crate) fn is_asked(&self) -> bool {
        // Acquire: pairs with the Release in `background::ask`; the goal is seen.
        self.asked.load(Ordering::Acquire) != 0
    }

    /// Runs `f`, which frees memory and gives it on.
    pub(crate) fn work<R>(&self, f: impl FnOnce() -> R) -> R {
        // Relaxed: whoever finds memory gone that the thread drained had the drain's lock after it, and sees this.
        self.busy.store(true, Ordering::Relaxed);
        let result = f();
        // Release: pairs with the Acquire in `is_at_it`; what was given on is seen.
        self.busy.store(false, Ordering::Release);
        result
    }

    /// Whether a request asks for something, or it holds something.
    pub(crate) fn is_at_it(&self) -> bool {
        // Acquire: pairs with the Release in `work`.
        self.is_asked() || self.busy.load(Ordering::Acquire)
    }

    /// Books a visit. Whether a request asks for something.
    pub(crate) fn visited(&self) -> bool {
        // Relaxed: a hint for `background::wait`.
        self.visits.fetch_add(1, Ordering::Relaxed);
        self.is_asked()
    }
}
