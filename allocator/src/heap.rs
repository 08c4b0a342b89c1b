//! Allocation as such: which way a size goes, and the slow paths.
//!
//! ```text
//! size, align ── size_class ──> small:   this CPU's sheaf ─> node: barn, slabs ─> arena
//!                               medium:  a span of the arena (up to 2 MiB)
//!                               large:   a mapping of its own
//! pointer ────── span_map ────> the same, backwards
//! ```
//!
//! Small allocations and frees are a few instructions of `os::percpu`; everything else here is cold. No function
//! changes `errno`, but for ENOMEM with a null; none panics; addresses are plain numbers until they are handed out. What
//! the fast path calls is `extern "C"`, which never unwinds: so the fast path ends in jumps and needs no frame.

use core::ptr::{self, NonNull};

use crate::apart;
use crate::cache_traffic;
use crate::config::{MAX_FINE, MAX_SIZE, MAX_SPAN, MIN_ALIGN, SLICE};
use crate::cpus;
use crate::drain;
use crate::mapping;
use crate::node::{self, Node};
use crate::os::{KeepErrno, percpu};
use crate::placement::{Placement, count};
use crate::reclaim;
use crate::scope;
use crate::size_class::{self, SHAPES};
use crate::slab::Misuse;
use crate::span_map;
use crate::start;
use crate::window::Tag;

/// A block of at least `size` bytes at a multiple of `align`, a power of two; null when there is no memory for it.
#[inline(always)]
pub(crate) fn alloc(size: usize, align: usize) -> *mut u8 {
    if align > MIN_ALIGN {
        return alloc_aligned(size, align);
    }
    if size > MAX_FINE {
        return alloc_other(size);
    }
    alloc_of(size.div_ceil(MIN_ALIGN))
}

/// A block of a size class.
#[inline(always)]
fn alloc_of(class: usize) -> *mut u8 {
    let object = percpu::pop(class);
    if object.is_null() {
        return alloc_slow(class);
    }
    object
}

/// Where an allocation goes on whose size has no class of the fine ones, or when there are no sequences yet.
#[inline(never)]
pub extern "C" fn alloc_other(size: usize) -> *mut u8 {
    alloc_in(size_class::of(size), size, MIN_ALIGN)
}

/// As [`alloc`], out of its way.
#[inline(never)]
extern "C" fn alloc_aligned(size: usize, align: usize) -> *mut u8 {
    alloc_in(size_class::of_layout(size, align), size, align)
}

/// As [`alloc`], in its size class if there is one.
#[inline(always)]
fn alloc_in(class: Option<usize>, size: usize, align: usize) -> *mut u8 {
    match class {
        Some(class) => alloc_of(class),
        None => alloc_large(size, align),
    }
}

/// Where an allocation goes on whose CPU has nothing at hand.
#[cold]
#[inline(never)]
pub extern "C" fn alloc_slow(class: usize) -> *mut u8 {
    let errno = KeepErrno::new();
    let class = class.max(1);
    let attempt = || match scope::is_apart() {
        false => cpus::alloc(class),
        true => alloc_apart(class),
    };
    let object = start::ensure().then(|| reclaim::with_reclaim(None, &attempt));
    answer(errno, object.flatten())
}

/// A block as large as those of `class`, apart: an object, or a span.
#[cold]
fn alloc_apart(class: usize) -> Option<usize> {
    let size = SHAPES[class].size;
    let span = || alloc_block(size, MIN_ALIGN, false, Placement::here()).map(|(start, _)| start);
    apart::object(size).or_else(span)
}

#[cold]
#[inline(never)]
extern "C" fn alloc_large(size: usize, align: usize) -> *mut u8 {
    let errno = KeepErrno::new();
    answer(errno, large(size, align, false).map(|(start, _)| start))
}

/// A span or a mapping, and whether its bytes are zero. `zeros` says that zeros are wanted.
fn large(size: usize, align: usize, zeros: bool) -> Option<(usize, bool)> {
    if size.saturating_add(align) > MAX_SIZE || !start::ensure() {
        return None;
    }
    let zeroed = core::cell::Cell::new(true);
    let attempt = || {
        let (start, fresh) = alloc_block(size, align, zeros, Placement::here())?;
        zeroed.set(fresh);
        Some(start)
    };
    let start = reclaim::with_reclaim(None, &attempt)?;
    Some((start, zeroed.get()))
}

/// A block that is too large for a size class, and whether it is zero. `zeros` says that zeros are wanted.
pub(crate) fn alloc_block(
    size: usize,
    align: usize,
    zeros: bool,
    placement: Placement,
) -> Option<(usize, bool)> {
    placement.find(|node| {
        let grain = align.div_ceil(SLICE);
        let block = if size <= MAX_SPAN && size + (grain - 1) * SLICE <= MAX_SPAN {
            alloc_span(node, size.div_ceil(SLICE), grain)?
        } else if zeros {
            (mapping::alloc_zeroed(size, align, node)?, true)
        } else {
            mapping::alloc(size, align, Some(node))?
        };
        count(&node.counters.blocks);
        Some(block)
    })
}

fn alloc_span(node: &Node, slices: usize, grain: usize) -> Option<(usize, bool)> {
    let span = node.aligned_span(slices, grain)?;
    let slab = NonNull::new(span_map::slab_of_slice(span.start))?;
    // SAFETY: the descriptor of a slice that was just handed out to us.
    unsafe { &mut *slab.as_ptr() }.init_span(span.start, slices);
    let (head, body) = (Tag::SPAN, Tag::SPAN_BODY);
    let number = node.number();
    span_map::set_tags(
        span.start,
        slices,
        Tag::new(number, head),
        Tag::new(number, body),
    );
    Some((span.start, span.zeroed))
}

/// As [`alloc`], all bytes zero.
#[inline]
pub(crate) fn alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    if size_class::of_layout(size, align).is_none() {
        return alloc_large_zeroed(size, align);
    }
    let block = alloc(size, align);
    if !block.is_null() {
        // SAFETY: a new block of at least that size.
        unsafe { block.write_bytes(0, size) };
    }
    block
}

#[cold]
#[inline(never)]
extern "C" fn alloc_large_zeroed(size: usize, align: usize) -> *mut u8 {
    let errno = KeepErrno::new();
    let found = large(size, align, true);
    let block = answer(errno, found.map(|(start, _)| start));
    if found.is_some_and(|(_, zeroed)| !zeroed) {
        // SAFETY: a new block of at least that size.
        unsafe { block.write_bytes(0, size) };
    }
    block
}

/// Frees a block; null does nothing.
///
/// # Safety
/// A block of this allocator that is used no more. What can be seen to be none ends the process.
#[inline(always)]
pub(crate) unsafe fn free(block: *mut u8) {
    let address = block.expose_provenance();
    if !percpu::free(address) {
        free_other(address);
    }
}

/// As [`free`], for what is not in the window, too.
#[inline(never)]
extern "C" fn free_other(address: usize) {
    let tag = span_map::tag(address);
    if !percpu::push(tag.word(), address) {
        free_slow(address, tag);
    }
}

#[cold]
#[inline(never)]
extern "C" fn free_slow(address: usize, tag: Tag) {
    let _errno = KeepErrno::new();
    match tag.kind() {
        1..=size_class::LAST => drain::if_worthwhile(cpus::free(tag, address)),
        Tag::SPAN => free_span(tag, address),
        Tag::CACHE => cache_traffic::free(address),
        _ if address == 0 || mapping::free(address) => return,
        _ => node::report(address, Misuse::NotAnObject),
    }
    // Less is in use now: perhaps less may be kept.
    mapping::trim();
}

fn free_span(tag: Tag, address: usize) {
    if !address.is_multiple_of(SLICE) {
        node::report(address, Misuse::NotAnObject);
    }
    let slab = span_map::slab_of_slice(address);
    // SAFETY: the descriptor of a span in use, which the caller gives up.
    let slices = unsafe { (*slab).slices } as usize;
    span_map::set_tags(address, slices, Tag::NONE, Tag::NONE);
    node::node(tag.node()).free_span(address, slices);
}

/// What a slow path answers: the block, with `errno` as it was; or null, with `errno` at ENOMEM.
pub(crate) fn answer(errno: KeepErrno, block: Option<usize>) -> *mut u8 {
    if block.is_none() {
        errno.out_of_memory();
    }
    block.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
}
