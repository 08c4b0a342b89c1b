//! Forking a process with several threads: the child has one thread, and must find every lock free.
//!
//! All locks are taken before the fork, in the order of their ranks (`lock`), and given back in both processes after
//! it. The sheaves need nothing: a CPU's word changes by a single store, so the child finds each as it was before or
//! after some operation; while the drain lock is held, all CPUs are open.
//!
//! Others have handlers too. Those that run between ours, in either process, may allocate: the locks are the forking
//! thread's own then (`lock`).

use crate::caches;
use crate::console;
use crate::drain;
use crate::listeners::LISTENERS;
use crate::lock::{hold, let_go, set_holds_all};
use crate::mapping;
use crate::node;
use crate::os;
use crate::reclaim;
use crate::tables::{FALLBACK, STARTING};
use crate::tally::{NOTIFIERS, SHRINKERS};

/// Has the C library call us around forks.
pub(crate) fn register() {
    // Without room for it (never seen), forking a threaded process is what it is without us: luck.
    let _ = os::at_fork(before, parent, child);
}

unsafe extern "C" fn before() {
    // First, because it may allocate.
    SHRINKERS.fork_prepare();
    NOTIFIERS.fork_prepare();
    LISTENERS.fork_prepare();
    hold(console::lock());
    hold(&STARTING);
    hold(drain::lock());
    FALLBACK.iter().for_each(hold);
    caches::hold_all();
    for node in node::all() {
        node.each_class_lock(hold);
    }
    for node in node::all() {
        hold(node.empties.lock());
    }
    for node in node::all() {
        hold(node.arena.lock());
    }
    hold(mapping::lock());
    set_holds_all(true);
}

/// Gives back what `before` took.
///
/// # Safety
/// After `before`, in the same thread or its copy.
unsafe fn after() {
    set_holds_all(false);
    // SAFETY: the caller's clause, here and below: each was held by `before`.
    unsafe { let_go(mapping::lock()) };
    for node in node::all() {
        // SAFETY: as above.
        unsafe { let_go(node.arena.lock()) };
        // SAFETY: as above.
        unsafe { let_go(node.empties.lock()) };
        // SAFETY: as above.
        node.each_class_lock(|lock| unsafe { let_go(lock) });
    }
    // SAFETY: as above.
    unsafe { caches::let_go_all() };
    for table in &FALLBACK {
        // SAFETY: as above.
        unsafe { let_go(table) };
    }
    // SAFETY: as above.
    unsafe { let_go(drain::lock()) };
    // SAFETY: as above.
    unsafe { let_go(&STARTING) };
    // SAFETY: as above.
    unsafe { let_go(console::lock()) };
}

unsafe extern "C" fn parent() {
    // SAFETY: called by the C library in the thread that forked.
    unsafe { after() };
    LISTENERS.fork_parent();
    NOTIFIERS.fork_parent();
    SHRINKERS.fork_parent();
}

unsafe extern "C" fn child() {
    // SAFETY: called by the C library in the copy of the thread that forked.
    unsafe { after() };
    // SAFETY: as above, before anything else in the child uses the list; `before` ran in the same thread.
    unsafe { LISTENERS.fork_child() };
    // SAFETY: as above.
    unsafe { NOTIFIERS.fork_child() };
    // SAFETY: as above.
    unsafe { SHRINKERS.fork_child() };
    reclaim::forget_other_threads();
    console::forget();
}
