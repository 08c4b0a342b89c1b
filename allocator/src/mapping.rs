//! Blocks larger than a unit, or aligned to more than a slice: mappings of their own.
//!
//! A table, in memory of our own, knows each by its address. They are charged page by page, unmapped when freed, and
//! resized by `mremap`, which moves pages instead of copying bytes.

use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use allocator_api2::alloc::{AllocError, Allocator};
use hashbrown::HashTable;

use crate::budget;
use crate::config::{MAX_SIZE, PAGE};
use crate::lock::Lock;
use crate::os;

/// One block. Its mapping is exactly this.
#[derive(Clone, Copy)]
struct Mapping {
    start: usize,
    len: usize,
}

/// All blocks, and how many are out of the table while they are being resized.
pub(crate) struct Mappings {
    table: HashTable<Mapping, OwnPages>,
    moving: usize,
}

static MAPPINGS: Lock<Mappings> = Lock::new(Mappings {
    table: HashTable::new_in(OwnPages),
    moving: 0,
});

/// Bytes in all blocks.
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// The table's memory: pages from the system, so that the table never calls the allocator it serves.
struct OwnPages;

// SAFETY: fresh mappings, valid until they are unmapped; all values of the type are the same.
unsafe impl Allocator for OwnPages {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let len = layout.size().next_multiple_of(PAGE);
        if layout.align() > PAGE || !budget::charge(len) {
            return Err(AllocError);
        }
        let Some(start) = os::map(len) else {
            budget::release(len);
            return Err(AllocError);
        };
        Ok(NonNull::slice_from_raw_parts(start, len))
    }

    unsafe fn deallocate(&self, start: NonNull<u8>, layout: Layout) {
        let len = layout.size().next_multiple_of(PAGE);
        // SAFETY: the caller's clause: it came from `allocate` with this layout.
        unsafe { os::unmap(start, len) };
        budget::release(len);
    }
}

fn hash(start: usize) -> u64 {
    // Fibonacci hashing: pages differ in the middle bits, the table looks at the highest and lowest.
    ((start / PAGE) as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(20)
}

impl Mappings {
    /// Makes room for one more. False when there is no memory.
    fn reserve(&mut self) -> bool {
        let wanted = 1 + self.moving;
        self.table
            .try_reserve(wanted, |mapping| hash(mapping.start))
            .is_ok()
    }

    /// Adds a block; there is room.
    fn insert(&mut self, mapping: Mapping) {
        self.table
            .insert_unique(hash(mapping.start), mapping, |mapping| hash(mapping.start));
    }

    fn find(&self, start: usize) -> Option<Mapping> {
        self.table
            .find(hash(start), |mapping| mapping.start == start)
            .copied()
    }

    fn remove(&mut self, start: usize) -> Option<Mapping> {
        let entry = self
            .table
            .find_entry(hash(start), |mapping| mapping.start == start);
        entry.ok().map(|entry| entry.remove().0)
    }
}

/// The pages that `size` bytes take; nothing when no block can be so large.
fn pages(size: usize) -> Option<usize> {
    (size <= MAX_SIZE).then(|| size.max(1).next_multiple_of(PAGE))
}

fn at(start: usize) -> NonNull<u8> {
    // Never 0: the system maps nothing there, and the table holds mapped addresses.
    NonNull::new(ptr::with_exposed_provenance_mut(start)).unwrap_or(NonNull::dangling())
}

/// A block of at least `size` bytes at a multiple of `align`, all zero. Nothing when the budget or the system says no.
pub(crate) fn alloc(size: usize, align: usize) -> Option<usize> {
    let len = pages(size)?;
    if !budget::charge(len) {
        return None;
    }
    let Some(start) = os::map_aligned(len, align) else {
        budget::release(len);
        return None;
    };
    let mut mappings = MAPPINGS.lock();
    if !mappings.reserve() {
        drop(mappings);
        // SAFETY: ours, and nobody has seen it.
        unsafe { os::unmap(start, len) };
        budget::release(len);
        return None;
    }
    let start = start.expose_provenance().get();
    mappings.insert(Mapping { start, len });
    // Relaxed: a figure.
    BYTES.fetch_add(len, Ordering::Relaxed);
    Some(start)
}

/// Frees a block. False when none begins at `start`.
pub(crate) fn free(start: usize) -> bool {
    let Some(mapping) = MAPPINGS.lock().remove(start) else {
        return false;
    };
    // SAFETY: a whole mapping of ours, in nobody's table any more.
    unsafe { os::unmap(at(mapping.start), mapping.len) };
    BYTES.fetch_sub(mapping.len, Ordering::Relaxed);
    budget::release(mapping.len);
    true
}

/// The length of the block at `start`, if there is one.
pub(crate) fn len(start: usize) -> Option<usize> {
    MAPPINGS.lock().find(start).map(|mapping| mapping.len)
}

/// Resizes the block at `start`, which exists, moving it if need be. Nothing, and the block as it was, when the budget
/// or the system says no.
pub(crate) fn resize(start: usize, size: usize) -> Option<usize> {
    let len = pages(size)?;
    let old = MAPPINGS.lock().find(start)?;
    let more = len.saturating_sub(old.len);
    if !budget::charge(more) {
        return None;
    }
    let mut mappings = MAPPINGS.lock();
    mappings.remove(start);
    // Its place in the table stays reserved: the address may be reused before we are back.
    mappings.moving += 1;
    drop(mappings);
    // SAFETY: a whole mapping; the block is the caller's, and only its new address will be used.
    let moved = unsafe { os::remap(at(start), old.len, len) };
    let now = match moved {
        Some(moved) => Mapping {
            start: moved.expose_provenance().get(),
            len,
        },
        None => old,
    };
    let mut mappings = MAPPINGS.lock();
    mappings.moving -= 1;
    mappings.insert(now);
    drop(mappings);
    if moved.is_none() {
        budget::release(more);
        return None;
    }
    // Relaxed, both: a figure.
    BYTES.fetch_add(more, Ordering::Relaxed);
    let less = old.len.saturating_sub(len);
    BYTES.fetch_sub(less, Ordering::Relaxed);
    budget::release(less);
    Some(now.start)
}

/// Bytes in all blocks. Relaxed: for statistics.
pub(crate) fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// The lock, for a fork.
pub(crate) fn lock() -> &'static Lock<Mappings> {
    &MAPPINGS
}
