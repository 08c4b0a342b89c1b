//! What lies at an address, for all addresses that the system is likely to give us: one load.
//!
//! Each slice of 32 KiB has a *tag* of two bytes: the size class or kind, and the node. One cache line of tags covers 1 MiB of
//! heap. Every free looks at one (`os::percpu`), so those of the *window* lie in one piece: 64 MiB of address space for the
//! tags of 1 TiB, in whose middle the system maps things. They read as zeros until a region of them is opened, and are
//! backed where they are written to. Where the addresses of a process are limited (`ulimit -v`), the window is smaller, or there
//! is none. Tags outside are in the tables of their regions (`span_map`), and a free there takes some instructions more; so it is
//! where there is no fast path.

use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use crate::config::{ADDRESS_BITS, PAGE, REGION, REGION_SLICES, ROW, SLICE, WINDOWS};
use crate::os::{self, Window};

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

    /// A tag as it lies in memory.
    pub(crate) fn read(bits: u16) -> Self {
        Self(bits)
    }

    /// See [`Tag::read`].
    pub(crate) fn written(self) -> u16 {
        self.0
    }

    /// The size class, or a kind.
    pub(crate) fn kind(self) -> usize {
        usize::from(self.0) % ROW
    }

    pub(crate) fn node(self) -> usize {
        usize::from(self.0) / ROW
    }

    /// The index of its word in a CPU's table.
    pub(crate) fn word(self) -> usize {
        usize::from(self.0)
    }
}

/// Where the tags of a chunk begin, counted from the beginning of a page: there, and for the tags of 16 MiB, the tables of
/// the CPUs have the words of second sheaves (`tables`). Each free reads a tag, and a processor takes a load from one place
/// of a page for the store to the same place of another: with the tags at the beginning, where the words of small classes
/// of every other CPU are, sh6bench's pattern took 1.1 times as long on those.
pub(crate) const TAGS_AT: usize = ROW * size_of::<usize>();

/// The first address of the window, the number of its slices, and the address of its first tag.
static FIRST: AtomicUsize = AtomicUsize::new(0);
static SLICES: AtomicUsize = AtomicUsize::new(0);
static TAGS: AtomicUsize = AtomicUsize::new(0);

/// Reserves the window. Once, before any address is given out; or never.
pub(crate) fn start() -> Window {
    let window = WINDOWS
        .iter()
        .find_map(|len| reserve(*len))
        .unwrap_or(Window::NONE);
    // Relaxed, all: whoever has an address of ours got it from an allocation, which happened after the start.
    FIRST.store(window.first, Ordering::Relaxed);
    TAGS.store(window.tags, Ordering::Relaxed);
    SLICES.store(window.slices, Ordering::Relaxed);
    window
}

/// A window of `len` bytes; nothing when the system has no room for its tags.
fn reserve(len: usize) -> Option<Window> {
    let start = os::reserve(TAGS_AT + len / SLICE * size_of::<Tag>())?;
    let start = start.expose_provenance().get();
    Some(Window {
        first: first_of(len, start),
        slices: len / SLICE,
        tags: start + TAGS_AT,
    })
}

/// Where a window of `len` bytes begins, of whole regions, in whose middle `address` is, or nearly.
fn first_of(len: usize, address: usize) -> usize {
    let last = (1 << ADDRESS_BITS) - len;
    (address - address % REGION)
        .saturating_sub(len / 2)
        .min(last)
}

/// The address of the tag of `address`, if that is in the window.
fn place(address: usize) -> Option<usize> {
    // Relaxed, all: see `start`.
    let index = address.wrapping_sub(FIRST.load(Ordering::Relaxed)) / SLICE;
    let inside = index < SLICES.load(Ordering::Relaxed);
    inside.then(|| TAGS.load(Ordering::Relaxed) + index * size_of::<Tag>())
}

/// The tags of `address`'s region, from its own on, if it is in the window. They can be written to once that is opened.
pub(crate) fn tags(address: usize) -> Option<&'static [AtomicU16]> {
    let first = ptr::with_exposed_provenance::<AtomicU16>(place(address)?);
    let count = REGION_SLICES - address / SLICE % REGION_SLICES;
    // SAFETY: the window is of whole regions; it stays mapped, and is only ever accessed atomically.
    Some(unsafe { slice::from_raw_parts(first, count) })
}

/// Has the tags of `address`'s region be written to, if it is in the window. False when the system refuses.
pub(crate) fn open(address: usize) -> bool {
    let Some(first) = place(address - address % REGION) else {
        return true;
    };
    let end = first + REGION_SLICES * size_of::<Tag>();
    let (start, end) = (first - first % PAGE, end.next_multiple_of(PAGE));
    let Some(pages) = NonNull::new(ptr::with_exposed_provenance_mut(start)) else {
        return false;
    };
    // SAFETY: of what `reserve` mapped, which ends with the page of the last tag.
    unsafe { os::let_write(pages, end - start) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CHUNKS;
    use crate::start;

    #[test]
    fn a_window_is_where_the_system_maps_things() {
        let top = 1 << ADDRESS_BITS;
        for len in WINDOWS {
            for address in [PAGE, 5 << 40, top / 3, top - PAGE] {
                let first = first_of(len, address);
                assert!(first.is_multiple_of(REGION) && len.is_multiple_of(REGION));
                assert!((first..first + len).contains(&address) && first + len <= top);
            }
        }
    }

    /// Seen to fail with a window that has a region more than there are tags mapped for, or begins where it should end; with its
    /// tags at the beginning of a page; and with one page of a region's tags opened.
    #[test]
    fn every_address_of_the_window_has_a_tag_of_its_own() {
        assert!(start::ensure());
        // Relaxed, all: written before.
        let window = Window {
            first: FIRST.load(Ordering::Relaxed),
            slices: SLICES.load(Ordering::Relaxed),
            tags: TAGS.load(Ordering::Relaxed),
        };
        if window.slices == 0 {
            // There is no fast path.
            return;
        }
        let end = window.first + window.slices * SLICE;
        let tag = |address: usize| place(address).unwrap();
        assert!(WINDOWS.contains(&(window.slices * SLICE)), "{window:?}");
        assert_eq!(
            window.tags % PAGE,
            TAGS_AT,
            "the tags of a chunk's beginning"
        );
        assert_eq!(tag(window.first), window.tags);
        assert_eq!(tag(window.first + SLICE - 1), window.tags);
        assert_eq!(
            tag(end - 1),
            window.tags + (window.slices - 1) * size_of::<Tag>()
        );
        assert_eq!(
            (place(window.first - 1), place(end), place(0)),
            (None, None, None)
        );
        for address in [window.first, end - SLICE] {
            let tags = tags(address).unwrap();
            assert!(open(address));
            // Relaxed, both: this thread alone.
            tags[0].store(1, Ordering::Relaxed);
            assert_eq!(tags[0].swap(0, Ordering::Relaxed), 1);
        }
        let chunk = os::map_aligned(CHUNKS[0], CHUNKS[0]).unwrap();
        assert!(
            place(chunk.addr().get()).is_some(),
            "{chunk:?} in {window:?}"
        );
    }
}
