//! What an object cache knows for eviction, for C: how full its slabs are, what is in the sparsest, and where there is
//! room elsewhere.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};

use ebb::Occupancy;

use crate::cache::{EbbCache, address};

/// How full a slab is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EbbOccupancy {
    /// Objects in use, with free ones that a CPU keeps.
    pub in_use: usize,
    /// Objects that it has room for.
    pub capacity: usize,
}

impl From<Occupancy> for EbbOccupancy {
    fn from(occupancy: Occupancy) -> Self {
        Self {
            in_use: occupancy.in_use,
            capacity: occupancy.capacity,
        }
    }
}

/// Writes how full the slab of an object is. Gives 0, or EINVAL when it is no object of this cache in use.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`; `occupancy` may be written.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1, 3))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_occupancy(
    cache: *mut EbbCache,
    object: *const c_void,
    occupancy: *mut EbbOccupancy,
) -> c_int {
    // SAFETY: the caller's clause: a live handle.
    let cache = unsafe { &*cache };
    let object = NonNull::new(object.cast_mut().cast());
    let Some(found) = object.and_then(|object| cache.cache.occupancy(object)) else {
        return libc::EINVAL;
    };
    // SAFETY: the caller's clause: it may be written.
    unsafe { occupancy.write(found.into()) };
    0
}

/// Is shown `count` objects of a slab, at least 1 and at most 128, and how full the slab is. Gives 0 to go on, anything else to
/// stop.
pub type EbbVisit = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        objects: *const *mut c_void,
        count: usize,
        slab: *const EbbOccupancy,
    ) -> c_int,
>;

/// Objects that are shown at once.
const SHOWN: usize = 128;

/// Shows the objects of the sparsest slabs: those that cost the fewest objects to come free. For eviction: a slab gives memory
/// back only when all of its objects are free. `node` is as the kernel calls it, or -1 for all. Gives how many slabs
/// were shown, at least in part.
///
/// Each slab is shown once, one with more than 128 objects in several calls one after the other; those come last that
/// were shown in an earlier round and are as they were. No lock is held meanwhile: `visit` may free and allocate. What it
/// gets are copies, and others may free these objects at any time. So it looks them up in an index of its own, under a
/// lock of its own; what is not there was freed, is about to be inserted, or is kept by a CPU. A missing `visit`
/// gives 0.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`; `visit` may be called with the context.
///
/// cbindgen:prefix=EBB_ATTR(nonnull(1))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_sparsest(
    cache: *mut EbbCache,
    node: c_int,
    visit: EbbVisit,
    context: *mut c_void,
) -> usize {
    // SAFETY: the caller's clause: a live handle.
    let cache = unsafe { &*cache };
    let Some(visit) = visit else { return 0 };
    let slabs = match u32::try_from(node) {
        Ok(node) => cache.cache.sparsest_on(node),
        Err(_) => cache.cache.sparsest(),
    };
    let mut shown = 0;
    for slab in slabs {
        shown += 1;
        let occupancy = slab.occupancy().into();
        let mut objects = slab.objects();
        loop {
            let mut batch = [ptr::null_mut(); SHOWN];
            let mut count = 0;
            for (place, object) in batch.iter_mut().zip(&mut objects) {
                *place = address(Some(object));
                count += 1;
            }
            // SAFETY: the caller's clause; both pointers are good for the call.
            if count > 0 && unsafe { visit(context, batch.as_ptr(), count, &occupancy) } != 0 {
                return shown;
            }
            if count < SHOWN {
                break;
            }
        }
    }
    shown
}

/// An object in a slab that has at least as many in use as that of `object`, for moving what is in it there; NULL, with
/// `errno` as it was, when no such slab has room. Makes no slab. So the sparsest slabs come free although what is in
/// them is still wanted.
///
/// # Safety
///
/// `cache` came from `ebb_cache_create`, and `object` is an object of it.
///
/// cbindgen:prefix=EBB_ATTR(malloc, nonnull(1, 2))
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebb_cache_alloc_denser(
    cache: *mut EbbCache,
    object: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller's clause: a live handle.
    let cache = unsafe { &*cache };
    address(NonNull::new(object.cast()).and_then(|object| cache.cache.alloc_denser(object)))
}
