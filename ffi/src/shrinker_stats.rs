//! The figures of a shrinker, for C.

use std::ffi::{c_char, c_int};

use ebb::{Lane, ShrinkerStats};

use crate::shrinker::seeks_to_c;
use crate::stats::fill;

/// Bytes of a name in `ebb_shrinker_stats_t`, with the NUL and some to spare.
pub const EBB_NAME_BYTES: usize = 40;

/// What `ebb_get_shrinker_stats` gives. Later versions add fields at the end.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbShrinkerStats {
    /// `sizeof(ebb_shrinker_stats_t)`, set by the caller.
    pub size: usize,
    /// A number that no other shrinker has or had.
    pub id: u64,
    /// Its name: at most 32 bytes, and a NUL.
    pub name: [c_char; EBB_NAME_BYTES],
    /// How dear its content is.
    pub value: u32,
    /// Its class.
    pub shrinker_class: u32,
    /// What an object costs to make again, as was said last; `EBB_SEEKS_NONE` for nothing.
    pub seeks: u32,
    /// 1 where it is called once per NUMA node.
    pub node_aware: u32,
    /// 1 where its callbacks run on the reclaim thread.
    pub is_async: u32,
    /// 1 where it was moved there for being late.
    pub moved: u32,
    /// 1 where a callback panicked, which callbacks in C do not: it is called no more.
    pub quarantined: u32,
    /// 1 where it is being unregistered or retired.
    pub dying: u32,
    /// Times that a walk called it.
    pub calls: u64,
    /// Calls of `scan`.
    pub scans: u64,
    /// Objects looked at.
    pub scanned: u64,
    /// Objects freed.
    pub objects: u64,
    /// Bytes freed, as far as the cache knows.
    pub bytes: u64,
    /// Times it answered `EBB_SCAN_STOP`.
    pub stops: u64,
    /// Times a walk passed it over because another thread was in it.
    pub skipped_busy: u64,
    /// Calls whose figures could not be true, or that used up their scan calls.
    pub misreports: u64,
    /// Times its work was broken off because the walk's time was up.
    pub timeouts: u64,
    /// Calls in which a callback overran its deadline.
    pub overruns: u64,
    /// Work put off to later walks: in bytes, or in objects where it never said how large they are.
    pub deferred: u64,
    /// Time spent in its callbacks, in nanoseconds.
    pub time_ns_total: u64,
    /// Half of the callbacks took no longer, in nanoseconds, to the next power of two.
    pub time_ns_p50: u64,
    /// 99 of 100 took no longer, in nanoseconds, to the next power of two.
    pub time_ns_p99: u64,
    /// The longest single callback, in nanoseconds.
    pub time_ns_max: u64,
    /// The system's number of the thread that is in its callbacks; 0 when none is.
    pub held_by: u64,
    /// How long that thread has been there, in nanoseconds.
    pub held_ns: u64,
}

/// The figures as C has them.
fn figures(stats: &ShrinkerStats) -> EbbShrinkerStats {
    let mut name = [0; EBB_NAME_BYTES];
    for (to, from) in name
        .iter_mut()
        .zip(stats.name().bytes().take(EBB_NAME_BYTES - 1))
    {
        *to = from as c_char;
    }
    EbbShrinkerStats {
        size: size_of::<EbbShrinkerStats>(),
        id: stats.id,
        name,
        value: stats.value.into(),
        shrinker_class: stats.class.into(),
        seeks: seeks_to_c(stats.seeks),
        node_aware: stats.node_aware.into(),
        is_async: (stats.lane == Lane::Async).into(),
        moved: stats.moved.into(),
        quarantined: stats.quarantined.into(),
        dying: stats.dying.into(),
        calls: stats.calls,
        scans: stats.scans,
        scanned: stats.scanned,
        objects: stats.objects,
        bytes: stats.bytes,
        stops: stats.stops,
        skipped_busy: stats.skipped_busy,
        misreports: stats.misreports,
        timeouts: stats.timeouts,
        overruns: stats.overruns,
        deferred: stats.deferred as u64,
        time_ns_total: stats.time_ns_total,
        time_ns_p50: stats.time_ns_p50,
        time_ns_p99: stats.time_ns_p99,
        time_ns_max: stats.time_ns_max,
        held_by: stats.held_by.into(),
        held_ns: stats.held_ns,
    }
}

/// Fills `*stats` with the figures of the shrinker with this number, as `ebb_get_stats` does with the totals. The number is that
/// of `ebb_shrinker_find` or `ebb_shrinker_next`.
///
/// Gives 0; or ENOENT when there is no such shrinker; or EINVAL when the size is too small for the size field itself. Allocates
/// nothing.
///
/// # Safety
///
/// As many bytes as `stats->size` says may be written.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_get_shrinker_stats(id: u64, stats: *mut EbbShrinkerStats) -> c_int {
    let mut found = None;
    ebb::shrinkers().for_each(&mut |stats| {
        if stats.id == id {
            found = Some(figures(stats));
        }
    });
    match found {
        // SAFETY: the caller's clause.
        Some(now) => unsafe { fill(&now, stats) },
        None => libc::ENOENT,
    }
}

/// The number of the shrinker that was registered first after the one with the number `id`, or first of all where that is 0; 0
/// when there is none. For going over all of them, which may come and go meanwhile.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_shrinker_next(id: u64) -> u64 {
    let mut next = 0;
    ebb::shrinkers().for_each(&mut |stats| {
        if stats.id > id && (next == 0 || stats.id < next) {
            next = stats.id;
        }
    });
    next
}
