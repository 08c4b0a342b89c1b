//! The figures of an object cache, for C.

use std::ffi::c_int;

use ebb::CacheStats;

use crate::cache::EbbCache;
use crate::stats::fill;

/// What `ebb_get_cache_stats` gives, with the names that `/proc/slabinfo` has. Later versions add fields at the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbCacheStats {
    /// `sizeof(ebb_cache_stats_t)`, set by the caller.
    pub size: usize,
    /// Objects that the program holds.
    pub active_objs: u64,
    /// Objects that the slabs have room for.
    pub num_objs: u64,
    /// Bytes per object, as its slabs have them.
    pub objsize: u64,
    /// Objects per slab.
    pub objperslab: u64,
    /// Pages of 4 KiB per slab.
    pub pagesperslab: u64,
    /// Free objects that a CPU keeps at most.
    pub limit: u64,
    /// Objects that a CPU takes from slabs at once.
    pub batchcount: u64,
    /// Slabs with objects in use, or kept by a CPU.
    pub active_slabs: u64,
    /// Slabs.
    pub num_slabs: u64,
    /// Free objects that CPUs keep, about.
    pub sharedavail: u64,
}

/// The figures as C has them.
fn figures(stats: &CacheStats) -> EbbCacheStats {
    EbbCacheStats {
        size: size_of::<EbbCacheStats>(),
        active_objs: stats.active_objs,
        num_objs: stats.num_objs,
        objsize: stats.objsize,
        objperslab: stats.objperslab,
        pagesperslab: stats.pagesperslab,
        limit: stats.limit,
        batchcount: stats.batchcount,
        active_slabs: stats.active_slabs,
        num_slabs: stats.num_slabs,
        sharedavail: stats.sharedavail,
    }
}

/// Fills `*stats` with the figures of a cache, as `ebb_get_stats` does with the totals. `ebb_write_stats` has those of all
/// caches, in the lines of `/proc/slabinfo`.
///
/// Gives 0, or EINVAL when the size is too small for the size field itself.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`; as many bytes as `stats->size` says may be written.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1, 2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_get_cache_stats(
    cache: *mut EbbCache,
    stats: *mut EbbCacheStats,
) -> c_int {
    // SAFETY: the caller's clause: a live handle.
    let now = figures(&unsafe { &*cache }.cache.stats());
    // SAFETY: the caller's clause.
    unsafe { fill(&now, stats) }
}
