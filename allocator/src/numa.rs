//! Blocks that are to lie somewhere else than near the CPU that asks.
//!
//! They come straight from the node, past the sheaves, and are freed like any other.

use core::ptr;

use crate::config::{MAX_SIZE, MAX_SPAN};
use crate::cpus;
use crate::heap;
use crate::mapping;
use crate::node::{self, Node};
use crate::os::{self, KeepErrno};
use crate::placement::Placement;
use crate::reclaim;
use crate::size_class::{self, LAST};
use crate::span_map;
use crate::start;
use crate::topology;
use crate::window::Tag;

/// The node that the kernel calls `id`, if it has memory for us and nodes are told apart.
pub(crate) fn with_id(id: u32) -> Option<&'static Node> {
    if !start::ensure() {
        return None;
    }
    let number = topology::machine().node_with(id as usize)?;
    Some(node::node(number))
}

/// A block on the node that the kernel calls `id`; null when that has no memory for it.
pub(crate) fn alloc_on_node(size: usize, align: usize, id: u32) -> *mut u8 {
    let errno = KeepErrno::new();
    let block = with_id(id).and_then(|node| {
        let number = node.number();
        reclaim::with_reclaim(Some(number), &|| {
            let block = place(size, align, Placement::only(number))?;
            if is_there(block, size, id) {
                return Some(block);
            }
            // SAFETY: new, and seen by nobody else.
            unsafe { heap::free(ptr::with_exposed_provenance_mut(block)) };
            None
        })
    });
    heap::answer(errno, block)
}

/// Whether a new block really lies on a node, moved there if need be: the system's memory of the node may be used up,
/// and then it has silently taken another's.
pub(crate) fn is_there(block: usize, size: usize, id: u32) -> bool {
    let machine = topology::machine();
    if machine.nodes == 1 || !machine.real {
        return true;
    }
    let Some(start) = ptr::NonNull::new(ptr::with_exposed_provenance_mut(block)) else {
        return false;
    };
    // SAFETY: a new block of that size.
    unsafe { os::bring(start, size.max(1), id as usize) }
}

/// A block spread over all nodes: page by page when it is large, else whole blocks by turns.
pub(crate) fn alloc_interleaved(size: usize, align: usize) -> *mut u8 {
    let errno = KeepErrno::new();
    let possible = size <= MAX_SIZE && align <= MAX_SIZE && start::ensure();
    let block = possible.then(|| {
        reclaim::with_reclaim(None, &|| {
            if size > MAX_SPAN
                && let Some((block, _)) = mapping::alloc(size, align, None)
            {
                return Some(block);
            }
            // When a node has no room for its part, another may have room for all.
            place(size, align, Placement::in_turn())
        })
    });
    heap::answer(errno, block.flatten())
}

fn place(size: usize, align: usize, placement: Placement) -> Option<usize> {
    if size > MAX_SIZE || align > MAX_SIZE {
        return None;
    }
    match size_class::of_layout(size.max(1), align) {
        Some(class) => cpus::take_one(class, placement),
        None => Some(heap::alloc_block(size, align, false, placement)?.0),
    }
}

/// What the kernel calls the node of a block; nothing when it has none in particular.
pub(crate) fn id_of(block: *const u8) -> Option<u32> {
    let tag = span_map::tag(block.addr());
    let node = match tag.kind() {
        1..=LAST | Tag::SPAN | Tag::CACHE => tag.node(),
        _ => mapping::node(block.addr())?,
    };
    let machine = topology::machine();
    let id = machine.id(node);
    machine.node_with(id).map(|_| id as u32)
}
