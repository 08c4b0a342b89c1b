//! The budget, purging and statistics, for C.

use std::ffi::{c_char, c_int};
use std::fmt::{self, Write};
use std::ptr;

use ebb::StatsFormat;

/// `ebb_write_stats`: text for people.
pub const EBB_STATS_TEXT: c_int = 0;
/// `ebb_write_stats`: one JSON object.
pub const EBB_STATS_JSON: c_int = 1;

/// Sets the budget: at most so many bytes backed by the operating system at any time. 0 is no budget.
///
/// A budget below what is backed now is allowed: it holds for every allocation that would need more.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_budget(bytes: usize) {
    ebb::set_budget((bytes > 0).then_some(bytes));
}

/// The budget, in bytes; 0 when there is none.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_get_budget() -> usize {
    ebb::budget().unwrap_or(0)
}

/// Sets the reserve: so many bytes of the budget are kept for allocations made inside shrinkers.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_reserve(bytes: usize) {
    ebb::set_reserve(bytes);
}

/// The reserve, in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_get_reserve() -> usize {
    ebb::reserve()
}

/// Sets how many bytes the NUMA node that the kernel calls `node` may back for blocks. 0 is no limit.
///
/// Beyond it blocks come from the next nearest node. Gives 0, or EINVAL when there is no such node.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_node_budget(node: u32, bytes: usize) -> c_int {
    let set = ebb::set_node_budget(node, (bytes > 0).then_some(bytes));
    if set { 0 } else { libc::EINVAL }
}

/// The budget of a NUMA node, in bytes; 0 when it has none.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_get_node_budget(node: u32) -> usize {
    ebb::node_budget(node).unwrap_or(0)
}

/// How many bytes the operating system backs now: what the budget limits. Costs one read of memory.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_backed() -> usize {
    ebb::backed()
}

/// Gives all memory that is kept but not in use back to the operating system; says how many bytes that were.
///
/// Calls no shrinker.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_purge() -> usize {
    ebb::purge()
}

/// Switches the reports on standard error on or off: they are on at first, unless the environment says `EBB_REPORTS=0`.
///
/// One is written when an allocation fails although everything was tried, at most every ten seconds; another when a
/// shrinker is moved to the reclaim thread.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_set_reports(on: c_int) {
    ebb::set_reports(on != 0);
}

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
    // SAFETY: the caller's clause; the size is the first field.
    let room = unsafe { stats.cast::<usize>().read() };
    let size = room.min(size_of::<EbbStats>());
    if size < size_of::<usize>() {
        return libc::EINVAL;
    }
    let now = EbbStats { size, ..totals() };
    // SAFETY: the caller's clause: `size`, at most what it said, may be written. `now` is at least as large.
    unsafe { ptr::copy_nonoverlapping((&raw const now).cast::<u8>(), stats.cast::<u8>(), size) };
    0
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
    // SAFETY: the caller's clause; the size is the first field.
    let room = unsafe { stats.cast::<usize>().read() };
    let size = room.min(size_of::<EbbNodeStats>());
    if size < size_of::<usize>() {
        return libc::EINVAL;
    }
    let figures = EbbNodeStats {
        size,
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
    // SAFETY: the caller's clause: `size`, at most what it said, may be written. The figures are at least as large.
    unsafe {
        ptr::copy_nonoverlapping((&raw const figures).cast::<u8>(), stats.cast::<u8>(), size)
    };
    0
}

/// A C string of limited length under construction: like `snprintf`, it counts what does not fit.
struct Text {
    buffer: *mut u8,
    /// How many bytes fit, the closing NUL not counted.
    room: usize,
    /// How many bytes there were so far, whether they fit or not.
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let bytes = part.len().min(self.room.saturating_sub(self.length));
        if bytes > 0 {
            // SAFETY: `length` is below `room`, which lies in the buffer.
            let end = unsafe { self.buffer.add(self.length) };
            // SAFETY: `bytes` more fit below `room`, and the part has them.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), end, bytes) };
        }
        self.length += part.len();
        Ok(())
    }
}

/// Writes all statistics, the shrinkers' too, as a C string of at most `length` bytes with its closing NUL.
///
/// `format` is `EBB_STATS_TEXT` or `EBB_STATS_JSON`. Gives the length that the whole text has, its NUL not counted, like
/// `snprintf`: the text is complete when that is below `length`. `buffer` may be NULL when `length` is 0. An unknown
/// format gives 0 and writes nothing. Allocates nothing.
///
/// # Safety
///
/// `length` bytes from `buffer` on may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_write_stats(
    buffer: *mut c_char,
    length: usize,
    format: c_int,
) -> usize {
    let format = match format {
        EBB_STATS_TEXT => StatsFormat::Text,
        EBB_STATS_JSON => StatsFormat::Json,
        _ => return 0,
    };
    let mut text = Text {
        buffer: buffer.cast(),
        room: length.saturating_sub(1),
        length: 0,
    };
    // `Text` never fails, so neither does this.
    let _ = ebb::write_stats(&mut text, format);
    if length > 0 {
        // SAFETY: the caller's clause: the index is below `length`.
        let end = unsafe { text.buffer.add(text.length.min(text.room)) };
        // SAFETY: as above.
        unsafe { end.write(0) };
    }
    text.length
}

/// The version of the library that is running, as `"1.2.3"`. Compare with `EBB_VERSION`, the header's.
#[unsafe(no_mangle)]
pub extern "C" fn ebb_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
