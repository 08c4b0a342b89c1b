//! Which large blocks there are: a table that knows each mapping by its address.
//!
//! Its memory comes from the system, so that it never calls the allocator it serves. A block that is being resized is out
//! of the table, since its address may become another's before it is back; its place stays reserved.

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};
use hashbrown::HashTable;

use crate::budget;
use crate::config::PAGE;
use crate::os;
use crate::spare::Mapping;

/// All blocks.
pub(crate) struct Blocks {
    table: HashTable<Mapping, OwnPages>,
    /// Those that are out of the table while they are being resized.
    taken: usize,
}

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

impl Blocks {
    pub(crate) const fn new() -> Self {
        Self {
            table: HashTable::new_in(OwnPages),
            taken: 0,
        }
    }

    /// Makes room for one more. False when there is no memory.
    pub(crate) fn reserve(&mut self) -> bool {
        let wanted = 1 + self.taken;
        self.table
            .try_reserve(wanted, |mapping| hash(mapping.start))
            .is_ok()
    }

    /// Adds a block; there is room.
    pub(crate) fn insert(&mut self, mapping: Mapping) {
        self.table
            .insert_unique(hash(mapping.start), mapping, |mapping| hash(mapping.start));
    }

    /// The block that begins at `start`.
    pub(crate) fn find(&self, start: usize) -> Option<Mapping> {
        self.table
            .find(hash(start), |mapping| mapping.start == start)
            .copied()
    }

    /// Takes a block out for good.
    pub(crate) fn remove(&mut self, start: usize) -> Option<Mapping> {
        let entry = self
            .table
            .find_entry(hash(start), |mapping| mapping.start == start);
        entry.ok().map(|entry| entry.remove().0)
    }

    /// Takes a block out for a while; [`Blocks::put_back`] finds room.
    pub(crate) fn take(&mut self, start: usize) -> Option<Mapping> {
        let taken = self.remove(start)?;
        self.taken += 1;
        Some(taken)
    }

    /// Puts back a block that was taken out, as it is now.
    pub(crate) fn put_back(&mut self, mapping: Mapping) {
        self.taken -= 1;
        self.insert(mapping);
    }
}
