//! From an address to what lies there: two loads.
//!
//! The address space is cut in regions of 1 GiB. `ROOT` has a pointer for each; a region's table has two bytes for
//! each 32 KiB slice, its *tag*: the size class or kind, and the node. One cache line of tags covers 1 MiB of heap.
//! Behind the tags lie the descriptors of the slices (`slab`) and of the units (`arena`), reserved for the whole
//! region and backed where it is used.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU16, AtomicUsize, Ordering};

use crate::budget;
use crate::config::{
    ADDRESS_BITS, PAGE, REGION, REGION_SHIFT, REGION_SLICES, REGION_UNITS, ROW, SLICE, SLICE_SHIFT,
    UNIT, UNIT_SLICES,
};
use crate::list::{Linked, Links};
use crate::os;
use crate::slab::{DESCRIPTOR, Slab, UNIT_METADATA};

/// What lies in a slice: bits 0 to 6 a size class or one of the kinds here, bits 7 to 12 the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Tag(u16);

impl Tag {
    /// Nothing of ours.
    pub(crate) const NONE: Self = Self(0);
    /// Kind: the first slice of a span.
    pub(crate) const SPAN: usize = 100;
    /// Kind: a later slice of a span.
    pub(crate) const SPAN_BODY: usize = 101;
    /// Kind: a slab of an object cache.
    pub(crate) const CACHE: usize = 102;

    pub(crate) const fn new(node: usize, kind: usize) -> Self {
        Self((node * ROW + kind) as u16)
    }

    /// The size class, or a kind.
    pub(crate) fn kind(self) -> usize {
        usize::from(self.0) % ROW
    }

    pub(crate) fn node(self) -> usize {
        usize::from(self.0) / ROW
    }

    /// The index of its word in a CPU's table.
    #[inline(always)]
    pub(crate) fn word(self) -> usize {
        usize::from(self.0)
    }
}

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

/// Where the tags of a region begin, counted from the beginning of a page: there, and for the tags of 16 MiB, the tables of
/// the CPUs have the words of second sheaves (`tables`). Each free reads a tag, and a processor takes a load from one place
/// of a page for the store to the same place of another: with the tags at the beginning, where the words of small classes
/// of every other CPU are, sh6bench's pattern took 1.1 times as long on those.
pub(crate) const TAGS_AT: usize = ROW * size_of::<usize>();

/// The tables of one region.
#[repr(C, align(4096))]
pub(crate) struct Region {
    before: [u8; TAGS_AT],
    tags: [AtomicU16; REGION_SLICES],
    units: [UnsafeCell<Unit>; REGION_UNITS],
    slabs: Slabs,
}

#[repr(C, align(4096))]
struct Slabs([Descriptor; REGION_SLICES]);

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

/// What lies at `address`; nothing where nothing of ours is near.
#[inline(always)]
pub(crate) fn find(address: usize) -> Option<Tag> {
    // Relaxed: whoever frees an object got it from an allocation, which happened after the tag was written.
    let tag = |region: &Region| region.tags[slice_index(address)].load(Ordering::Relaxed);
    region(address).map(tag).map(Tag)
}

/// What lies at `address`.
pub(crate) fn tag(address: usize) -> Tag {
    find(address).unwrap_or(Tag::NONE)
}

/// Makes the tables for the region of `address`. False when there is no memory.
pub(crate) fn ensure(address: usize) -> bool {
    let Some(slot) = ROOT.get(address >> REGION_SHIFT) else {
        return false;
    };
    // Relaxed: only a hint; the exchange below decides.
    if !slot.load(Ordering::Relaxed).is_null() {
        return true;
    }
    let Some(region) = os::map_aligned(size_of::<Region>(), PAGE) else {
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
        return true;
    }
    // The tags and units of a region that is used all over.
    budget::charge_always(
        size_of::<[AtomicU16; REGION_SLICES]>() + size_of::<[Unit; REGION_UNITS]>(),
    );
    true
}

/// Marks `slices` slices from `address` on. Their region exists.
pub(crate) fn set_tags(address: usize, slices: usize, head: Tag, body: Tag) {
    let Some(region) = region(address) else {
        return;
    };
    let first = slice_index(address);
    for (offset, slot) in region.tags[first..first + slices].iter().enumerate() {
        let tag = if offset == 0 { head } else { body };
        // Relaxed: see `tag`.
        slot.store(tag.0, Ordering::Relaxed);
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
pub(crate) fn slab_of_object(expected: Tag, object: usize) -> Option<ptr::NonNull<Slab>> {
    let (region, index) = (region(object)?, slice_index(object));
    // Relaxed: see `tag`.
    if region.tags[index].load(Ordering::Relaxed) != expected.0 {
        return None;
    }
    let slabs = &region.slabs.0;
    // SAFETY: a descriptor in a region that exists; `back` does not change while the slab lives.
    let back = unsafe { (*slabs[index].slab.get()).back } as usize;
    ptr::NonNull::new(slabs[index - back].slab.get())
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
    if let Some(first) = ptr::NonNull::new(first) {
        // SAFETY: the descriptors of one unit are whole pages, and no slice of it is in use. Failing is harmless.
        let _ = unsafe { os::discard(first, UNIT_METADATA) };
    }
}

const _: () = assert!(REGION_SLICES.is_multiple_of(UNIT_SLICES) && SLICE.is_multiple_of(PAGE));
