//! The budget, purging and reports, for C.

use std::ffi::{c_char, c_int};

use ebb::{NumaPolicy, SoftLimit};

/// `ebb_set_numa_policy`: memory of the node on which it is allocated.
pub const EBB_NUMA_LOCAL: c_int = 0;
/// `ebb_set_numa_policy`: every page from another node, by turns.
pub const EBB_NUMA_INTERLEAVE: c_int = 1;
/// `ebb_set_numa_policy`: whatever the system does, which is memory of the node that touches it first.
pub const EBB_NUMA_OFF: c_int = 2;

/// Sets the budget: at most so many bytes backed by the operating system for the heap at any time. 0 is no budget.
///
/// A budget below what is backed now is allowed: it holds for every allocation that would need more. It is this process's
/// alone. Without one shrinkers are asked only when the system refuses memory, which it hardly ever does where it overcommits.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_budget(bytes: usize) {
    ebb::set_budget((bytes > 0).then_some(bytes));
}

/// The budget, in bytes; 0 when there is none.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_get_budget() -> usize {
    ebb::budget().unwrap_or(0)
}

/// How much memory this process may use, in bytes: what the machine has, or the lowest limit of the control groups (of the
/// container) that it is in, as far as it can see them. Read anew each time: a budget that is made of it does not follow when
/// the limit is changed.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_memory_limit() -> usize {
    ebb::memory_limit()
}

/// Sets the reserve: so many bytes of the budget are kept from ordinary allocations. Those made inside shrinkers may use all of
/// it, as may those after ebb_no_reclaim_begin(); those under EBB_MODE_NO_WAIT five eighths. Unless set it is a sixty-fourth of
/// the budget, at least 64 KiB and at most 4 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_reserve(bytes: usize) {
    ebb::set_reserve(bytes);
}

/// The reserve, in bytes; 0 without a budget, unless it was set.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_get_reserve() -> usize {
    ebb::reserve()
}

/// Sets the soft limit: when more bytes than that are backed, a reclaim thread, which is started then, gives back what is kept for
/// reuse and asks the registered caches, gently, until a sixteenth less is backed or they have given all that they are
/// ready to give; so that allocations find room, and none of them has to wait for the caches. 0, as at first, is none.
///
/// Callbacks run as they do in the middle of an allocation, but on that thread. It has no effect where it is not below the
/// budget less the reserve. May be changed at any time.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_soft_limit(bytes: usize) {
    ebb::set_soft_limit((bytes > 0).then_some(SoftLimit::Bytes(bytes)));
}

/// The same as a percentage of the budget, whatever that is at any time: 1 to 100; 0 is none. Gives 0, or EINVAL when it is more
/// than 100.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_soft_limit_percent(percent: u32) -> c_int {
    match u8::try_from(percent) {
        Ok(0) => ebb::set_soft_limit(None),
        Ok(percent @ 1..=100) => ebb::set_soft_limit(Some(SoftLimit::Percent(percent))),
        _ => return libc::EINVAL,
    }
    0
}

/// The soft limit, in bytes; 0 when there is none, or when it is a percentage and there is no budget.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_get_soft_limit() -> usize {
    ebb::soft_limit().unwrap_or(0)
}

/// Sets how many bytes the NUMA node that the kernel calls `node` may back for blocks. 0 is no limit.
///
/// Beyond it blocks come from the next nearest node. `ebb_pressure` does not look at it. Gives 0, or EINVAL when there is no such node.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_node_budget(node: u32, bytes: usize) -> c_int {
    let set = ebb::set_node_budget(node, (bytes > 0).then_some(bytes));
    if set { 0 } else { libc::EINVAL }
}

/// The budget of the NUMA node that the kernel calls `node`, in bytes; 0 when it has none, or there is no such node.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_get_node_budget(node: u32) -> usize {
    ebb::node_budget(node).unwrap_or(0)
}

/// Sets how many bytes of freed memory are kept for reuse in any case; more is only kept up to an eighth of what is in use.
///
/// Unless that is set it is 10 MiB. Without a budget more is kept in two cases: free pieces of less than 2 MiB between
/// blocks in use, as much as these at most, for a while; and as much as the program was seen to take again within a second
/// after it was given back (half as much with every second that passes). A program that empties and fills more
/// than is kept pays for it with page faults, and is faster with more; 0 keeps the process as small as can be. What is
/// kept already stays until something is freed or ebb_purge() is called. Under a budget what is kept counts, and is given
/// back before any shrinker is asked.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_keep(bytes: usize) {
    ebb::set_keep(bytes);
}

/// How many bytes of freed memory are kept for reuse in any case, see ebb_set_keep().
#[unsafe(no_mangle)]
pub extern "C" fn ebb_get_keep() -> usize {
    ebb::keep()
}

/// Sets what is done about NUMA nodes: EBB_NUMA_LOCAL, EBB_NUMA_INTERLEAVE or EBB_NUMA_OFF, for memory that the system
/// backs from now on. What is kept for reuse goes back to it first; what is in use stays where it is.
///
/// Gives 0, or EINVAL when there is no such policy, and when that is EBB_NUMA_LOCAL and the process began with another: nodes
/// are told apart from the first allocation on or never. Under the others requests for one node are refused.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_numa_policy(policy: c_int) -> c_int {
    let known = POLICIES.iter().find(|known| known.0 == policy);
    match known {
        Some((_, policy)) if ebb::set_numa_policy(*policy) => 0,
        _ => libc::EINVAL,
    }
}

/// What is done about NUMA nodes: EBB_NUMA_LOCAL, EBB_NUMA_INTERLEAVE or EBB_NUMA_OFF.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_get_numa_policy() -> c_int {
    let policy = ebb::numa_policy();
    let known = POLICIES.iter().find(|known| known.1 == policy);
    known.map_or(EBB_NUMA_OFF, |known| known.0)
}

/// The policies by their numbers.
const POLICIES: [(c_int, NumaPolicy); 3] = [
    (EBB_NUMA_LOCAL, NumaPolicy::Local),
    (EBB_NUMA_INTERLEAVE, NumaPolicy::Interleave),
    (EBB_NUMA_OFF, NumaPolicy::Off),
];

/// How many bytes the operating system backs now: what the budget limits. Costs one read of memory.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_backed() -> usize {
    ebb::backed()
}

/// Gives all memory that is kept but not in use back to the operating system; says how many bytes that were, about.
///
/// Calls no shrinker.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_purge() -> usize {
    ebb::purge()
}

/// Asks the registered caches for memory before there is need: as an allocation does that lacks so many bytes, gently first,
/// until so many bytes less are backed or there is nothing left to be had; after ebb_purge(), which may be enough. Says how
/// many bytes less it were: fewer than that, where the caches have no more to give or are busy.
///
/// For a program that knows before the allocator does: its container's limit was lowered (ebb_memory_limit() tells; a new
/// ebb_set_budget() alone frees nothing by itself), another process needs room, or a quiet hour has come. Works with and
/// without a budget. At most ten seconds; 0 at once inside a callback, and between ebb_no_reclaim_begin() and its end.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_reclaim(bytes: usize) -> usize {
    ebb::reclaim(bytes)
}

/// Asks the registered caches for everything that they have, whatever it is worth, and gives it back to the operating system with all
/// that is kept for reuse. Says how many bytes less are backed then. What `echo 2 > /proc/sys/vm/drop_caches` is to the
/// kernel's caches: for measurements that begin with empty caches, to see what is not cache, or before a long sleep.
///
/// All are asked again until they free next to nothing, and what that is grows from time to time: a cache that is
/// filled meanwhile does not make it endless. One that another thread is in, or whose lock somebody holds, is waited for as by
/// an allocation, and may keep what it has. Works with and without a budget. At most ten seconds; 0 at once inside a callback, and
/// between ebb_no_reclaim_begin() and its end.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_drop_caches() -> usize {
    ebb::drop_caches()
}

/// Switches the reports on standard error on, or with 0 off: they are on at first, unless the environment says
/// `EBB_REPORTS=0`.
///
/// One is written when an allocation fails although everything was tried, at most every ten seconds; another, at most every ten
/// seconds, when one is charged beyond the budget because it may not fail (EBB_MODE_NO_FAIL); a third when a shrinker is moved
/// to the reclaim thread; a fourth when a lock is seen to be a deadlock in waiting.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_reports(on: c_int) {
    ebb::set_reports(on != 0);
}

/// The version of the library that is running, as `"1.2.3"`. Compare with `EBB_VERSION`, the header's.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
