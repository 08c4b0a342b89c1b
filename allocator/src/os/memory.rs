//! Address space, and what kind of pages lie behind it.

use core::ffi::c_void;
use core::ptr::{self, NonNull};

use memmap2::MmapOptions;

use super::discard::discard;
use crate::config::{PAGE, UNIT};

/// `len` bytes of fresh zeroed memory, a multiple of the page: address space only, backed when touched, and by small pages
/// even where the system takes huge ones unasked: no more is backed than was touched.
pub(crate) fn map(len: usize) -> Option<NonNull<u8>> {
    let start = map_as_usual(len)?;
    advise_small(start, len);
    Some(start)
}

/// As [`map`], with whatever pages the system chooses.
fn map_as_usual(len: usize) -> Option<NonNull<u8>> {
    let map = MmapOptions::new()
        .len(len)
        .no_reserve_swap()
        .map_anon()
        .ok()?;
    let start = NonNull::new(map.as_ptr().cast_mut());
    // Ours from now on; given back by `unmap`, or never.
    core::mem::forget(map);
    start
}

/// `len` bytes of fresh zeroed memory, as [`map`], at a multiple of `align`, a power of two; with whatever pages the system
/// chooses.
pub(crate) fn map_aligned(len: usize, align: usize) -> Option<NonNull<u8>> {
    // The kernel places mappings of whole huge pages at multiples of theirs: mostly no more is needed.
    let rounded = len.checked_next_multiple_of(align)?;
    let start = map_as_usual(rounded)?;
    if start.addr().get().is_multiple_of(align) {
        trim(start, rounded, 0, len);
        return Some(start);
    }
    trim(start, rounded, 0, 0);
    let room = len.checked_add(align)?;
    let start = map_as_usual(room)?;
    let before = start.align_offset(align);
    trim(start, room, before, len);
    // SAFETY: `before` is less than `align`, so inside the mapping.
    Some(unsafe { start.add(before) })
}

/// `len` bytes of address space that read as zeros, a multiple of the page, at a multiple of it. They cost nothing until
/// [`let_write`], not even where the system counts what could be written to, and are in no core dump.
pub(crate) fn reserve(len: usize) -> Option<NonNull<u8>> {
    let (access, kind) = (
        libc::PROT_READ,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
    );
    // SAFETY: a new mapping, of which nobody has the address.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: changes no byte. A wish.
    unsafe { libc::madvise(start, len, libc::MADV_DONTDUMP) };
    let start = NonNull::new(start.cast())?;
    advise_small(start, len);
    Some(start)
}

/// Makes whole pages of what was reserved writable. False when the system refuses.
///
/// # Safety
/// They are of a mapping from [`reserve`].
#[must_use]
pub(crate) unsafe fn let_write(start: NonNull<u8>, len: usize) -> bool {
    // SAFETY: the caller's clause: nothing is taken away from anybody.
    unsafe {
        libc::mprotect(
            start.as_ptr().cast(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
        ) == 0
    }
}

/// Gives back what is not wanted of a new mapping of `room` bytes: all but `len` bytes behind the first `before`.
fn trim(start: NonNull<u8>, room: usize, before: usize, len: usize) {
    // SAFETY: `before + len` is at most `room`.
    let end = unsafe { start.add(before + len) };
    // SAFETY: ours, new and unused.
    unsafe { unmap(start, before) };
    // SAFETY: as above.
    unsafe { unmap(end, room - before - len) };
}

/// Gives address space back. A length of 0 does nothing.
///
/// # Safety
/// The bytes are mapped, ours, and used by nobody.
pub(crate) unsafe fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller's clause.
    if len > 0 && unsafe { libc::munmap(start.as_ptr().cast(), len) } != 0 {
        // It fails when the system has no room to split a mapping. Then the addresses stay reserved, which harms nobody,
        // but what is behind them must go.
        // SAFETY: the caller's clause.
        let _ = unsafe { discard(start, len) };
    }
}

/// Asks for huge pages behind the whole ones of them in a range. A wish. A length of 0 does nothing.
pub(crate) fn advise_huge(start: NonNull<u8>, len: usize) {
    // SAFETY: says how memory is to be backed, and changes no byte of it.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_HUGEPAGE) };
}

/// Asks for small pages behind a range, also where the system takes huge ones unasked. A wish. A length of 0 does nothing.
pub(crate) fn advise_small(start: NonNull<u8>, len: usize) {
    // SAFETY: as in `advise_huge`.
    unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
}

/// Has small pages behind the whole ones of a large static, and none of them before it is touched again. The first touch of
/// anything beside it may have taken a huge one.
///
/// # Safety
/// Nobody has written to it yet, nor does while this runs; and there is no address in its first value, which the loader
/// would have written.
pub(crate) unsafe fn thin_out<T>(of: &'static T) {
    let start = NonNull::from(of).cast::<u8>();
    let before = start.align_offset(PAGE);
    let len = size_of::<T>().saturating_sub(before) / PAGE * PAGE;
    // SAFETY: inside, or right behind it where it has no whole page.
    let start = unsafe { start.add(before.min(size_of::<T>())) };
    advise_small(start, len);
    // SAFETY: its first value is what the system puts there again.
    let _ = unsafe { discard(start, len) };
}

/// Changes the size of a mapping, moving it if need be: to a multiple of a unit, so that huge pages move whole.
///
/// # Safety
/// It is a whole mapping from [`map_aligned`], and its address is not used after a success.
pub(crate) unsafe fn remap(start: NonNull<u8>, old: usize, new: usize) -> Option<NonNull<u8>> {
    // SAFETY: the caller's clause.
    let stayed = unsafe { libc::mremap(start.as_ptr().cast(), old, new, 0) };
    if stayed != libc::MAP_FAILED {
        return Some(start);
    }
    let room = map_aligned(new, UNIT)?;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let target = room.as_ptr().cast::<c_void>();
    // SAFETY: the caller's clause; the room is ours, unused and of that length.
    let moved = unsafe { libc::mremap(start.as_ptr().cast(), old, new, flags, target) };
    if moved == libc::MAP_FAILED {
        // SAFETY: ours, and nobody has seen it.
        unsafe { unmap(room, new) };
        return None;
    }
    Some(room)
}

#[cfg(test)]
mod tests {
    use core::cell::UnsafeCell;
    use core::ffi::c_int;

    use super::*;

    const LEN: usize = 8 << 20;

    #[repr(C, align(2097152))]
    struct Large(UnsafeCell<[u8; LEN]>);

    // SAFETY: used by one test alone.
    unsafe impl Sync for Large {}

    static LARGE: Large = Large(UnsafeCell::new([0; LEN]));

    /// How many pages are backed.
    fn backed() -> usize {
        let mut pages = [0_u8; LEN / PAGE];
        let start = LARGE.0.get().cast::<c_void>();
        // SAFETY: a byte for each page of the range.
        assert_eq!(unsafe { libc::mincore(start, LEN, pages.as_mut_ptr()) }, 0);
        pages.iter().filter(|page| **page & 1 != 0).count()
    }

    fn advise(advice: c_int) {
        // SAFETY: changes no byte.
        unsafe { libc::madvise(LARGE.0.get().cast(), LEN, advice) };
    }

    fn touch(value: u8) {
        // SAFETY: nobody else uses it.
        unsafe { LARGE.0.get().cast::<u8>().write_volatile(value) };
    }

    /// Whatever the system does about the first touch. Seen to fail with each of the two calls left out.
    #[test]
    fn a_large_static_is_backed_where_it_is_touched() {
        advise(libc::MADV_HUGEPAGE);
        touch(0);
        assert!(backed() > 0);
        // SAFETY: only zeros were written.
        unsafe { thin_out(&LARGE) };
        assert_eq!(backed(), 0);
        touch(1);
        advise(libc::MADV_COLLAPSE);
        assert_eq!(backed(), 1);
    }
}
