//! The totals and the figures of NUMA nodes, for C.

use std::ffi::c_int;
use std::ptr;

/// The totals that `ebb_get_stats` gives. Later versions add fields at the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbStats {
    /// `sizeof(ebb_stats_t)`, set by the caller.
    pub size: usize,
    /// Bytes backed by the operating system.
    pub backed: u64,
    /// The budget, in bytes; 0 when there is none.
    pub budget: u64,
    /// The reserve, in bytes.
    pub reserve: u64,
    /// Bytes in blocks that the program holds, as their size classes count them.
    pub in_use: u64,
    /// Bytes in free blocks kept close to the CPUs.
    pub cached: u64,
    /// Bytes in whole free spans that are still backed.
    pub free_spans: u64,
    /// Bytes in large blocks that have a mapping of their own.
    pub mapped: u64,
    /// Bytes of the allocator's own bookkeeping.
    pub metadata: u64,
    /// Times an allocation met the budget's limit or the operating system's.
    pub failures: u64,
    /// Reclaims run because of that.
    pub reclaims: u64,
    /// Reclaims after which the allocation succeeded.
    pub satisfied: u64,
    /// Reclaims after which it still failed.
    pub failed: u64,
    /// Walks over the shrinkers.
    pub walks: u64,
    /// Bytes freed by reclaims and credited to the allocation that asked.
    pub bytes_credited: u64,
    /// Time spent in reclaims, in nanoseconds.
    pub reclaim_ns_total: u64,
    /// The longest reclaim, in nanoseconds.
    pub reclaim_ns_max: u64,
    /// Times the CPUs' free blocks were drained.
    pub drains: u64,
    /// Times free spans were given back.
    pub purges: u64,
    /// Of those satisfied, reclaims that only waited for others.
    pub followed: u64,
    /// Bytes that shrinkers say they freed beyond what a satisfied request had lacked.
    pub bytes_excess: u64,
    /// Times a request waited for the reclaim thread.
    pub waits: u64,
    /// Times the last chances were called.
    pub last_chances: u64,
    /// Shrinkers moved to the reclaim thread for being late.
    pub moved: u64,
    /// Allocations that were not allowed to fail (`EBB_MODE_NO_FAIL`) and were served when all else had failed.
    pub forced: u64,
    /// Bytes that were charged beyond the budget for them; budgets of nodes do not count here.
    pub bytes_forced: u64,
    /// The soft limit, in bytes; 0 when there is none.
    pub soft_limit: u64,
    /// Times a reclaim thread began because more was backed than the soft limit.
    pub soft_reclaims: u64,
    /// Bytes that it gave back then, but for those that exceeded the budget.
    pub bytes_soft: u64,
}

/// The totals now, as C has them.
fn totals() -> EbbStats {
    let now = ebb::stats();
    EbbStats {
        size: size_of::<EbbStats>(),
        backed: now.backed,
        budget: now.budget,
        reserve: now.reserve,
        in_use: now.in_use,
        cached: now.cached,
        free_spans: now.free_spans,
        mapped: now.mapped,
        metadata: now.metadata,
        failures: now.reclaim.failures,
        reclaims: now.reclaim.reclaims,
        satisfied: now.reclaim.satisfied,
        failed: now.reclaim.failed,
        walks: now.reclaim.walks,
        bytes_credited: now.reclaim.bytes_credited,
        reclaim_ns_total: now.reclaim.time_ns_total,
        reclaim_ns_max: now.reclaim.time_ns_max,
        drains: now.reclaim.drains,
        purges: now.reclaim.purges,
        followed: now.reclaim.followed,
        bytes_excess: now.reclaim.bytes_excess,
        waits: now.reclaim.waits,
        last_chances: now.reclaim.last_chances,
        moved: now.reclaim.moved,
        forced: now.reclaim.forced,
        bytes_forced: now.reclaim.bytes_forced,
        soft_limit: now.soft_limit,
        soft_reclaims: now.reclaim.soft_reclaims,
        bytes_soft: now.reclaim.bytes_soft,
    }
}

/// Fills `*stats` with the totals of now. The caller sets `stats->size` to `sizeof *stats` first.
///
/// Fields beyond that size are not written, so a program built with an older header works; afterwards `stats->size` is
/// how many bytes were. Gives 0, or EINVAL when the size is too small for the size field itself. Allocates nothing.
///
/// # Safety
///
/// As many bytes as `stats->size` says may be written.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_get_stats(stats: *mut EbbStats) -> c_int {
    // SAFETY: the caller's clause.
    unsafe { fill(&totals(), stats) }
}

/// What `ebb_get_node_stats` gives. Later versions add fields at the end.
///
/// The counters are those of the kernel's numastat, in blocks: objects that were taken for a CPU, one by one or many at a
/// time, and larger blocks.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbNodeStats {
    /// `sizeof(ebb_node_stats_t)`, set by the caller.
    pub size: usize,
    /// Bytes backed by the operating system, for blocks and free spans.
    pub backed: u64,
    /// The node's budget, in bytes; 0 when there is none.
    pub budget: u64,
    /// Bytes in blocks that the program holds.
    pub in_use: u64,
    /// Bytes in free blocks in partly used slabs.
    pub free: u64,
    /// Bytes in free blocks kept close to the CPUs.
    pub cached: u64,
    /// Bytes in whole free spans that are still backed.
    pub free_spans: u64,
    /// Blocks it gave because it was asked.
    pub hit: u64,
    /// Blocks it gave because another had nothing left.
    pub miss: u64,
    /// Blocks it was asked for and another gave.
    pub foreign: u64,
    /// Of its hits, those that it gave because it was its turn.
    pub interleave: u64,
    /// Blocks it gave to threads on its own CPUs.
    pub local: u64,
    /// Blocks it gave to threads on others' CPUs.
    pub other: u64,
}

/// Fills `*stats` with the figures of the NUMA node that the kernel calls `node`, as `ebb_get_stats` does.
///
/// Gives 0, or EINVAL when there is no such node or the size is too small for the size field itself.
///
/// # Safety
///
/// As many bytes as `stats->size` says may be written.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_get_node_stats(node: u32, stats: *mut EbbNodeStats) -> c_int {
    let now = ebb::stats();
    let found = now
        .known_nodes()
        .iter()
        .find(|known| known.node == u64::from(node));
    let Some(found) = found else {
        return libc::EINVAL;
    };
    let figures = EbbNodeStats {
        size: size_of::<EbbNodeStats>(),
        backed: found.backed,
        budget: found.budget,
        in_use: found.in_use,
        free: found.free,
        cached: found.cached,
        free_spans: found.free_spans,
        hit: found.hit,
        miss: found.miss,
        foreign: found.foreign,
        interleave: found.interleave,
        local: found.local,
        other: found.other,
    };
    // SAFETY: the caller's clause.
    unsafe { fill(&figures, stats) }
}

/// Copies figures to where the caller wants them, as many bytes as its `size`, the first field of both, says that it knows;
/// that field then says how many these are. 0, or EINVAL when it is too small for the field itself.
///
/// # Safety
///
/// `T` begins with the size, a `usize`; as many bytes as the caller's says may be written.
pub(crate) unsafe fn fill<T: Copy>(now: &T, stats: *mut T) -> c_int {
    let known = stats.cast::<usize>();
    // SAFETY: the caller's clause; the size is the first field.
    let size = unsafe { known.read() }.min(size_of::<T>());
    if size < size_of::<usize>() {
        return libc::EINVAL;
    }
    // SAFETY: the caller's clause: `size`, at most what it said, may be written. `now` is at least as large.
    unsafe { ptr::copy_nonoverlapping(ptr::from_ref(now).cast::<u8>(), stats.cast::<u8>(), size) };
    // SAFETY: as above; the field fits.
    unsafe { known.write(size) };
    0
}
