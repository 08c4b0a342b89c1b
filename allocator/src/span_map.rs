//! From an address to what lies there.
//!
//! Each slice of 32 KiB has a tag, which says what it is part of: mostly in the window (`window`).
//!
//! The address space is cut in regions of 1 GiB. `ROOT` has a pointer for each in which there is anything of ours: to the
//! descriptors of the slices (`slab`) and of the units (`arena`), reserved for the whole region and backed where it is used.
//! There are the tags, too, of a region that is not in the window.

use core::cell::UnsafeCell;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicUsize, Ordering};

use crate::budget;
use crate::config::{
    ADDRESS_BITS, PAGE, REGION, REGION_SHIFT, REGION_SLICES, REGION_UNITS, SLICE, SLICE_SHIFT,
    UNIT, UNIT_SLICES,
};
use crate::list::{Linked, Links};
use crate::os;
use crate::slab::{DESCRIPTOR, Slab, UNIT_METADATA};
use crate::window::{self, Tag};

/// How a unit is backed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Pages {
    /// By ordinary pages.
    Small,
    /// By a huge page.
    Huge,
    /// By ordinary pages until it is wholly purged, then by a huge one again.
    Shrunk,
}

/// A unit of an arena: one bit per slice. Guarded by the arena's lock.
#[repr(C)]
pub(crate) struct Unit {
    /// Neighbours in a list of the arena.
    pub(crate) links: Links<Unit>,
    /// Address of the first slice.
    pub(crate) start: usize,
    /// Slices not handed out.
    pub(crate) free: u64,
    /// Slices charged to the budget.
    pub(crate) committed: u64,
    /// Slices that may hold something else than zeros.
    pub(crate) dirty: u64,
    /// The list it is in.
    pub(crate) list: u32,
    pub(crate) pages: Pages,
}

impl Linked for Unit {
    fn links(&mut self) -> &mut Links<Self> {
        &mut self.links
    }
}

/// The tables of one region.
#[repr(C, align(4096))]
pub(crate) struct Region {
    /// Those of a region that is not in the window.
    tags: [AtomicU16; REGION_SLICES],
    units: [UnsafeCell<Unit>; REGION_UNITS],
    slabs: Slabs,
}

#[repr(C, align(4096))]
struct Slabs([Descriptor; REGION_SLICES]);

/// Bytes of a region's tables that are charged with it: tags and units, as if it were used all over. Those of slabs are charged
/// unit by unit.
const TABLES: usize = size_of::<[AtomicU16; REGION_SLICES]>() + size_of::<[Unit; REGION_UNITS]>();

/// What is known of a slice beside its tag.
#[repr(C, align(128))]
struct Descriptor {
    slab: UnsafeCell<Slab>,
    /// The object cache that the slice belongs to, if its tag says that it belongs to one; or its slab's shard.
    owner: AtomicUsize,
}

const _: () = assert!(size_of::<Descriptor>() == DESCRIPTOR);

// SAFETY: descriptors are reached by raw pointers only, under the locks that `Slab` and `Unit` name.
unsafe impl Sync for Region {}

/// All regions.
static ROOT: [AtomicPtr<Region>; 1 << (ADDRESS_BITS - REGION_SHIFT)] =
    [const { AtomicPtr::new(ptr::null_mut()) }; 1 << (ADDRESS_BITS - REGION_SHIFT)];

/// The region of an address, if it has one.
#[inline(always)]
fn region(address: usize) -> Option<&'static Region> {
    // Acquire: pairs with the Release in `ensure`.
    let region = ROOT.get(address >> REGION_SHIFT)?.load(Ordering::Acquire);
    // SAFETY: null, or a region, which is never freed.
    unsafe { region.as_ref() }
}

fn slice_index(address: usize) -> usize {
    (address >> SLICE_SHIFT) % REGION_SLICES
}

/// The tags of `address`'s region, from its own on. Outside of the window it has to exist.
fn tags(address: usize) -> Option<&'static [AtomicU16]> {
    window::tags(address)
        .or_else(|| region(address).map(|region| &region.tags[slice_index(address)..]))
}

/// What lies at `address`.
pub(crate) fn tag(address: usize) -> Tag {
    // Relaxed: whoever frees an object got it from an allocation, which happened after the tag was written.
    tags(address).map_or(Tag::NONE, |tags| Tag::read(tags[0].load(Ordering::Relaxed)))
}

/// Has no more of the table of regions backed than is touched.
///
/// # Safety
/// It is the start: there is no region yet.
pub(crate) unsafe fn prepare() {
    // SAFETY: the caller's clause; null pointers.
    unsafe { os::thin_out(&ROOT) };
}

/// Makes the tables for the region of `address`. False when the budget or the system says no.
pub(crate) fn ensure(address: usize) -> bool {
    let Some(slot) = ROOT.get(address >> REGION_SHIFT) else {
        return false;
    };
    // Relaxed: only a hint; the exchange in `make` decides.
    let made = !slot.load(Ordering::Relaxed).is_null();
    made || (window::open(address) && make(slot))
}

/// Makes the tables of a region, unless another thread is quicker. False when the budget or the system says no.
fn make(slot: &AtomicPtr<Region>) -> bool {
    if !budget::charge(TABLES) {
        return false;
    }
    let Some(region) = os::map(size_of::<Region>()) else {
        budget::release(TABLES);
        return false;
    };
    let new = region.cast::<Region>().as_ptr();
    let won = slot.compare_exchange(
        ptr::null_mut(),
        new,
        // Release: the zeros of the fresh mapping are seen. Relaxed: nothing is read.
        Ordering::Release,
        Ordering::Relaxed,
    );
    if won.is_err() {
        // SAFETY: ours, and nobody has seen it.
        unsafe { os::unmap(region, size_of::<Region>()) };
        budget::release(TABLES);
    }
    true
}

/// Marks `slices` slices from `address` on. Their region exists.
pub(crate) fn set_tags(address: usize, slices: usize, head: Tag, body: Tag) {
    let Some(tags) = tags(address) else { return };
    for (offset, slot) in tags[..slices].iter().enumerate() {
        let tag = if offset == 0 { head } else { body };
        // Relaxed: see `tag`.
        slot.store(tag.written(), Ordering::Relaxed);
    }
}

/// The object cache that the slice at `address` belongs to, if its tag says that it belongs to one, or the shard, if that
/// says a size class. It may be asked without: then it is one that is or was, or 0.
pub(crate) fn owner(address: usize) -> usize {
    let region = region(address);
    // Relaxed: as for `tag`.
    region.map_or(0, |region| {
        region.slabs.0[slice_index(address)]
            .owner
            .load(Ordering::Relaxed)
    })
}

/// Notes which object cache or shard `slices` slices from `start` on belong to. The caller owns them.
pub(crate) fn set_owner(start: usize, slices: usize, owner: usize) {
    let Some(region) = region(start) else { return };
    let first = slice_index(start);
    for descriptor in &region.slabs.0[first..first + slices] {
        // Relaxed: see `owner`.
        descriptor.owner.store(owner, Ordering::Relaxed);
    }
}

/// The descriptor of the slice at `address`, which is ours.
pub(crate) fn slab_of_slice(address: usize) -> *mut Slab {
    match region(address) {
        Some(region) => region.slabs.0[slice_index(address)].slab.get(),
        None => ptr::null_mut(),
    }
}

/// Notes for each slice of a slab or span at `start`, but the first, how far back that is. The caller owns the slices.
pub(crate) fn set_backs(start: usize, slices: usize) {
    for slice in 1..slices {
        let later = slab_of_slice(start + slice * SLICE);
        // SAFETY: descriptors of slices that the caller owns.
        unsafe { (*later).back = slice as u32 };
    }
}

/// The slab that an object with `tag` would be in. The caller holds the lock of the tag's class in the shard (or the home
/// of the cache) that owns it, so that a slab which has that tag stays what it is.
pub(crate) fn slab_of_object(expected: Tag, object: usize) -> Option<NonNull<Slab>> {
    let (region, index) = (region(object)?, slice_index(object));
    if tag(object) != expected {
        return None;
    }
    let slabs = &region.slabs.0;
    // SAFETY: a descriptor in a region that exists; `back` does not change while the slab lives.
    let back = unsafe { (*slabs[index].slab.get()).back } as usize;
    NonNull::new(slabs[index - back].slab.get())
}

/// The descriptor of the unit of `address`, which is ours.
pub(crate) fn unit(address: usize) -> *mut Unit {
    match region(address) {
        Some(region) => region.units[address % REGION / UNIT].get(),
        None => ptr::null_mut(),
    }
}

/// Gives the descriptors of the slices of a wholly free unit back to the system. They read as zeros afterwards.
pub(crate) fn discard_descriptors(unit_start: usize) {
    let first = slab_of_slice(unit_start).cast::<u8>();
    if let Some(first) = NonNull::new(first) {
        // SAFETY: the descriptors of one unit are whole pages, and no slice of it is in use. Failing is harmless.
        let _ = unsafe { os::discard(first, UNIT_METADATA) };
    }
}

const _: () = assert!(REGION_SLICES.is_multiple_of(UNIT_SLICES) && SLICE.is_multiple_of(PAGE));
const _: () = assert!(size_of::<Region>().is_multiple_of(PAGE));
