//! The address space of arenas: reserved in chunks, each on a node, and what the system is told of the memory behind it.

use core::ptr::{self, NonNull};

use crate::config::{CHUNKS, PAGE, SLICE, UNIT};
use crate::os::{self, Ranges};
use crate::slab::UNIT_METADATA;
use crate::span_map::{self, Pages, Unit};
use crate::topology;
use crate::units::run_at;

const _: () = assert!(SLICE.is_multiple_of(PAGE));

/// Reserves a chunk, placed on `node` with its descriptors: where it begins, and its length in bytes. Nothing when the
/// system has no address space, or the budget no room for its tables.
pub(crate) fn reserve(node: usize) -> Option<(usize, usize)> {
    let (chunk, len) = CHUNKS
        .iter()
        .find_map(|len| Some((os::map_aligned(*len, *len)?, *len)))?;
    let start = chunk.addr().get();
    if !span_map::ensure(start) {
        // SAFETY: ours, and nobody has seen it.
        unsafe { os::unmap(chunk, len) };
        return None;
    }
    topology::machine().place(chunk, len, node);
    let descriptors = at(span_map::slab_of_slice(start).addr());
    topology::machine().place(descriptors, len / UNIT * UNIT_METADATA, node);
    Some((start, len))
}

/// Gives a chunk back.
///
/// # Safety
/// It comes from [`reserve`], and nobody else has seen it.
pub(crate) unsafe fn give_back(start: usize, len: usize) {
    // SAFETY: the caller's clause.
    unsafe { os::unmap(at(start), len) };
}

/// Has what is backed from now on placed by the policy that is set now.
pub(crate) fn place_again(start: usize, len: usize, node: usize) {
    topology::machine().place_again(at(start), len, node);
}

/// Asks for small pages behind the first `small` bytes of a new chunk, and for huge ones behind the rest. Not to ask would
/// not do: some systems take huge pages unasked, and merge small ones whose neighbours are not even backed; then more is
/// resident than is charged.
pub(crate) fn choose_pages(start: usize, len: usize, small: usize) {
    os::advise_small(at(start), small);
    os::advise_huge(at(start + small), len - small);
}

/// Has a huge unit take small pages from now on.
pub(crate) fn shrink_pages(unit: &mut Unit) {
    if unit.pages == Pages::Huge {
        unit.pages = Pages::Shrunk;
        os::advise_small(at(unit.start), UNIT);
    }
}

/// Has a unit of which nothing is backed take a huge page again, if it ever did.
pub(crate) fn restore_pages(unit: &mut Unit) {
    if unit.pages == Pages::Shrunk {
        unit.pages = Pages::Huge;
        os::advise_huge(at(unit.start), UNIT);
    }
}

/// Gives the memory of the slices in `mask` back to the system. Whether that worked.
pub(crate) fn discard(unit_start: usize, mut mask: u64) -> bool {
    let mut ranges = Ranges::new();
    while mask != 0 {
        let first = mask.trailing_zeros() as usize;
        let slices = (mask >> first).trailing_ones() as usize;
        mask &= !run_at(first, slices);
        ranges.push(at(unit_start + first * SLICE), slices * SLICE);
    }
    // SAFETY: slices of ours that are marked as handed out, to us.
    unsafe { ranges.discard() }
}

fn at(start: usize) -> NonNull<u8> {
    // Never 0: units lie in mappings.
    NonNull::new(ptr::with_exposed_provenance_mut(start)).unwrap_or(NonNull::dangling())
}
