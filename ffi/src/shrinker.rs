//! Caches in C as shrinkers.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::time::Duration;

use ebb::{
    CLASSES, Count, DEFAULT_DEADLINE, DEFAULT_SEEKS, Lane, MAX_VALUE, Scan, Shrink, ShrinkControl,
    Shrinker,
};

use crate::handle::{EbbShrinker, Handle, ebb_shrinker_register_prepared, hand_out};

/// `count` answers: there is nothing to free.
pub const EBB_COUNT_EMPTY: c_int = 0;
/// `count` answers: cannot tell now, a lock is held. The cache is passed over this time.
pub const EBB_COUNT_UNKNOWN: c_int = 1;
/// `count` answers: so many objects as `*result` says could be freed.
pub const EBB_COUNT_OBJECTS: c_int = 2;

/// `scan` answers: it looked at objects and freed those that `*result` says, perhaps none.
pub const EBB_SCAN_FREED: c_int = 0;
/// `scan` answers: it can do nothing now, a lock is held. The cache is left alone for this walk.
pub const EBB_SCAN_STOP: c_int = 1;

/// `flags`: the cache keeps its objects by NUMA node and looks at `control->node`.
pub const EBB_SHRINKER_NODE_AWARE: u32 = 1;
/// `flags`: the callbacks run on a reclaim thread while those who are short of memory wait a little. They may block on
/// locks, allocate some, and take long.
pub const EBB_SHRINKER_ASYNC: u32 = 2;

/// `seeks` of a cache whose objects cost nothing to make again: half of them go at once.
pub const EBB_SEEKS_NONE: u32 = u32::MAX;

/// What a walk tells a callback. Which slabs are sparsest it does not say: `ebb_cache_sparsest` and `ebb_cache_occupancy` do.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbShrinkControl {
    /// The NUMA node to free memory on; 0 unless the shrinker is node-aware.
    pub node: u32,
    /// How hard memory is needed: 12 is gentle, 0 is everything there is.
    pub priority: u32,
    /// `scan`: how many objects to look at, at most. 0 in `count`.
    pub to_scan: usize,
    /// `scan` may set this to how many objects it looked at, freed or not; it comes set to `to_scan`.
    pub scanned: usize,
    /// How many bytes the request still lacks, about; 0 when nobody knows.
    pub goal: usize,
    /// How much time this callback has left, in nanoseconds; `UINT64_MAX` when nobody hurries.
    pub time_left_ns: u64,
}

/// What `count` found.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbCountResult {
    /// Objects that could be freed. Comes set to 0.
    pub objects: usize,
    /// How many bytes one of them has, about, or 0 when the cache does not know. Comes set to `object_size` of
    /// `ebb_shrinker_ops_t`: a cache whose objects vary says what those are that it has now.
    pub object_size: usize,
}

/// What `scan` freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbScanResult {
    /// Objects freed. Comes set to 0.
    pub objects: usize,
    /// Bytes freed, or 0 when the cache does not know: then the size that `count` said is taken. Comes set to 0.
    pub bytes: usize,
}

/// Says how many objects could be freed, about, and perhaps how large they are. Must be quick. Answers `EBB_COUNT_...`.
pub type EbbCount = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        control: *const EbbShrinkControl,
        result: *mut EbbCountResult,
    ) -> c_int,
>;

/// Frees up to `control->to_scan` objects, the least useful first. Answers `EBB_SCAN_...`.
pub type EbbScan = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        control: *mut EbbShrinkControl,
        result: *mut EbbScanResult,
    ) -> c_int,
>;

/// A cache that can give memory back.
///
/// Unless `EBB_SHRINKER_ASYNC` is set, the callbacks run in the middle of a failing allocation, on whatever thread made it:
/// they take a lock only by trying, wait for nothing, allocate as little as they can and return before their deadline.
/// They never throw or jump out: what a C++ exception or a `longjmp` that leaves one does is undefined. They never run twice
/// at the same time for one shrinker. Fields left 0 have the usual values.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbShrinkerOps {
    /// A name in UTF-8 for the statistics; its first 32 bytes are copied.
    pub name: *const c_char,
    /// See `ebb_count_fn`.
    pub count: EbbCount,
    /// See `ebb_scan_fn`.
    pub scan: EbbScan,
    /// Handed to the callbacks.
    pub context: *mut c_void,
    /// What an object costs to make again: 2 is usual and what 0 stands for; `EBB_SEEKS_NONE` is nothing. Whoever knows better
    /// later says so by `ebb_shrinker_set_seeks`.
    pub seeks: u32,
    /// `EBB_SHRINKER_...`, or 0. Others are refused.
    pub flags: u32,
    /// How many objects one `scan` is asked for at most; 0 stands for 128.
    pub batch: usize,
    /// How many bytes an object has, about, unless `count` says so each time; 0 when that is not known. Caches share the
    /// pressure by bytes.
    pub object_size: usize,
    /// How dear the content is, from 1 to 8; 0 stands for 4. Lower ones are asked first.
    pub value: u32,
    /// A number below 8, for `ebb_no_shrinker_begin`.
    pub shrinker_class: u32,
    /// How long one callback may take, in microseconds; 0 stands for 20,000. Whoever is late in three visits in a row,
    /// no more than a minute apart, is moved to the reclaim thread. A request that finds another thread in it waits for so
    /// long, or a tenth of a second.
    pub deadline_us: u64,
}

/// The two callbacks and what they are called with.
struct Callbacks {
    count: EbbCount,
    scan: EbbScan,
    context: *mut c_void,
    object_size: usize,
}

// SAFETY: whoever registered promised callbacks that any thread may call with this context.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

/// The control as C has it.
fn to_c(control: &ShrinkControl) -> EbbShrinkControl {
    EbbShrinkControl {
        node: control.node(),
        priority: u32::from(control.priority()),
        to_scan: control.to_scan(),
        scanned: control.scanned(),
        goal: control.goal(),
        time_left_ns: u64::try_from(control.time_left().as_nanos()).unwrap_or(u64::MAX),
    }
}

impl Shrink for Callbacks {
    fn count(&self, control: &ShrinkControl) -> Count {
        let Some(count) = self.count else {
            return Count::Unknown;
        };
        let mut result = EbbCountResult {
            objects: 0,
            object_size: self.object_size,
        };
        // SAFETY: the promise made at registration; both pointers are good for the call.
        match unsafe { count(self.context, &to_c(control), &mut result) } {
            EBB_COUNT_OBJECTS => Count::of(result.objects).each(result.object_size),
            EBB_COUNT_EMPTY => Count::Empty,
            _ => Count::Unknown,
        }
    }

    fn scan(&self, control: &mut ShrinkControl) -> Scan {
        let Some(scan) = self.scan else {
            return Scan::Stop;
        };
        let mut c = to_c(control);
        let mut result = EbbScanResult {
            objects: 0,
            bytes: 0,
        };
        // SAFETY: the promise made at registration; both pointers are good for the call.
        let answer = unsafe { scan(self.context, &mut c, &mut result) };
        control.set_scanned(c.scanned);
        match answer {
            EBB_SCAN_FREED => Scan::Freed {
                objects: result.objects,
                bytes: result.bytes,
            },
            _ => Scan::Stop,
        }
    }
}

/// The seeks as Rust has them.
pub(crate) fn seeks_from_c(seeks: u32) -> u32 {
    match seeks {
        0 => DEFAULT_SEEKS,
        EBB_SEEKS_NONE => 0,
        seeks => seeks,
    }
}

/// The seeks as C has them.
pub(crate) fn seeks_to_c(seeks: u32) -> u32 {
    match seeks {
        0 => EBB_SEEKS_NONE,
        seeks => seeks,
    }
}

/// The shrinker and its callbacks that `ops` describes; None where it describes none.
///
/// # Safety
///
/// `ops.name` is NULL or a C string.
unsafe fn parse(ops: &EbbShrinkerOps) -> Option<(Shrinker, Callbacks)> {
    let complete = !ops.name.is_null() && ops.count.is_some() && ops.scan.is_some();
    let flags = EBB_SHRINKER_NODE_AWARE | EBB_SHRINKER_ASYNC;
    let classed = ops.shrinker_class < u32::from(CLASSES) && ops.value <= u32::from(MAX_VALUE);
    if !complete || !classed || ops.flags & !flags != 0 {
        return None;
    }
    // SAFETY: the caller's clause, and it is not NULL.
    let name = unsafe { CStr::from_ptr(ops.name) }.to_str().ok()?;
    let lane = match ops.flags & EBB_SHRINKER_ASYNC {
        0 => Lane::Sync,
        _ => Lane::Async,
    };
    let deadline = match ops.deadline_us {
        0 => DEFAULT_DEADLINE,
        us => Duration::from_micros(us),
    };
    let spec = Shrinker::new(name)
        .seeks(seeks_from_c(ops.seeks))
        .batch(ops.batch)
        .node_aware(ops.flags & EBB_SHRINKER_NODE_AWARE != 0)
        .value(ops.value as u8)
        .class(ops.shrinker_class as u8)
        .lane(lane)
        .deadline(deadline);
    Some((
        spec,
        Callbacks {
            count: ops.count,
            scan: ops.scan,
            context: ops.context,
            object_size: ops.object_size,
        },
    ))
}

/// Registers a cache: from now on allocations that would fail call it. `*out` is what unregisters it.
///
/// Gives 0; or EINVAL when the name or a callback is missing, the name is not UTF-8, a flag is unknown, or the value or
/// class too high; or ENOMEM. On failure `*out` is as it was. May be called on any thread, also inside a callback. `*out` is
/// written before the first callback begins.
///
/// Unregister before what the callbacks use is destroyed, static objects included: they may be called until the very end of the
/// process, also while its destructors run.
///
/// # Safety
///
/// `ops` may be read and `out` written. The callbacks may be called with the context by any thread until
/// `ebb_shrinker_unregister` has given 0.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1, 2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_shrinker_register(
    ops: *const EbbShrinkerOps,
    out: *mut *mut EbbShrinker,
) -> c_int {
    // SAFETY: the caller's clause.
    let status = unsafe { ebb_shrinker_prepare(ops, out) };
    if status != 0 {
        return status;
    }
    // SAFETY: just written.
    let shrinker = unsafe { out.read() };
    // SAFETY: a live handle, which nobody else has yet.
    unsafe { ebb_shrinker_register_prepared(shrinker) }
}

/// The first half of `ebb_shrinker_register`: takes all memory that is needed, and calls nobody. The other half is
/// `ebb_shrinker_register_prepared`, which cannot fail: for a cache that must not be called before it is complete, or is
/// registered where it is too late to give up.
///
/// Gives what `ebb_shrinker_register` gives, and what `*out` is goes to `ebb_shrinker_unregister` if it is not wanted after all.
///
/// # Safety
///
/// As `ebb_shrinker_register`.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1, 2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_shrinker_prepare(
    ops: *const EbbShrinkerOps,
    out: *mut *mut EbbShrinker,
) -> c_int {
    // SAFETY: the caller's clause: `ops` may be read.
    let ops = unsafe { ops.read() };
    // SAFETY: the caller's clause: the name is a C string, or NULL.
    let Some((spec, callbacks)) = (unsafe { parse(&ops) }) else {
        return libc::EINVAL;
    };
    // SAFETY: the caller's clause: `out` may be written.
    unsafe { hand_out(|| ebb::prepare(spec, callbacks).map(Handle::Prepared), out) }
}
