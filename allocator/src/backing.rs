//! Mappings from the system, each charged page by page: made, stretched, given back. Who uses one, and which are kept,
//! is the business of `mapping`.
//!
//! Each is placed on one node and charged there, or spread over all, and each is charged its part. A [`Mapping`] is a
//! plain value: whoever made it, or took it out of a table, owns it, and nobody else stretches it or gives it back.

use core::ptr::{self, NonNull};

use crate::budget;
use crate::config::{MAX_NODES, MAX_SIZE, PAGE, UNIT};
use crate::limits;
use crate::node::{self, Node};
use crate::os;
use crate::spare::Mapping;
use crate::topology;

/// The pages that `size` bytes take, or the huge pages where those are at most an eighth more and there is no budget to
/// count them; nothing when no block can be so large.
pub(crate) fn pages(size: usize) -> Option<usize> {
    if size > MAX_SIZE {
        return None;
    }
    let huge = size.next_multiple_of(UNIT);
    let worthwhile = huge - size <= size / 8 && limits::get().is_none();
    Some(if worthwhile {
        huge
    } else {
        size.max(1).next_multiple_of(PAGE)
    })
}

pub(crate) fn at(start: usize) -> NonNull<u8> {
    // Never 0: the system maps nothing there, and the table holds mapped addresses.
    NonNull::new(ptr::with_exposed_provenance_mut(start)).unwrap_or(NonNull::dangling())
}

/// Bytes that a mapping of `len` bytes on `of`, or spread over all, has on `node`.
pub(crate) fn part(len: usize, of: Option<usize>, node: usize) -> usize {
    let (pages, nodes) = (len / PAGE, node::all().len());
    match of {
        Some(of) if of == node => len,
        Some(_) => 0,
        None => (pages / nodes + usize::from(node < pages % nodes)) * PAGE,
    }
}

/// Charges for a mapping on a node, or spread over all, that has `old` bytes and is to have `new`.
fn charge(of: Option<usize>, old: usize, new: usize) -> bool {
    let more = |node: &Node| {
        let part = |len| part(len, of, node.number());
        part(new).saturating_sub(part(old))
    };
    let mut paid = [0; MAX_NODES];
    let mut fits = |node: &Node| {
        let charged = budget::charge_node(&node.arena.account, more(node));
        paid[node.number()] = charged.unwrap_or(0);
        charged.is_some()
    };
    let charged = node::all().iter().take_while(|node| fits(node)).count();
    if charged == node::all().len() && budget::charge(new.saturating_sub(old)) {
        node::all()
            .iter()
            .for_each(|node| node.arena.tide.flow(more(node)));
        return true;
    }
    let charged = &node::all()[..charged];
    charged
        .iter()
        .for_each(|node| budget::undo_node(&node.arena.account, more(node), paid[node.number()]));
    false
}

/// Gives back what was charged for a mapping that had `old` bytes and has `new`.
fn release(of: Option<usize>, old: usize, new: usize) {
    for node in node::all() {
        let part = |len| part(len, of, node.number());
        budget::release_node(&node.arena.account, part(old).saturating_sub(part(new)));
    }
    budget::release(old.saturating_sub(new));
}

/// A fresh mapping of `len` bytes, charged.
pub(crate) fn make(len: usize, align: usize, node: Option<usize>) -> Option<Mapping> {
    if !charge(node, 0, len) {
        return None;
    }
    let align = if len < UNIT { align } else { align.max(UNIT) };
    let Some(start) = os::map_aligned(len, align) else {
        release(node, len, 0);
        return None;
    };
    match node {
        Some(node) => topology::machine().place(start, len, node),
        None => topology::machine().spread(start, len),
    }
    Some(Mapping {
        start: start.expose_provenance().get(),
        len,
        node,
    })
}

/// Who did not want a mapping to be stretched.
pub(crate) enum Refusal {
    Budget,
    System,
}

/// Gives a mapping that nobody uses another length, and charges or releases the difference: its address then.
///
/// # Errors
/// Who said no; all is as it was then.
pub(crate) fn stretch(mapping: Mapping, len: usize) -> Result<usize, Refusal> {
    if len == mapping.len {
        return Ok(mapping.start);
    }
    if !charge(mapping.node, mapping.len, len) {
        return Err(Refusal::Budget);
    }
    // SAFETY: a whole mapping, and the caller's own; what was in it is needed no more, or will be looked for at the new address.
    let moved = unsafe { os::remap(at(mapping.start), mapping.len, len) };
    match moved {
        Some(_) => release(mapping.node, mapping.len, len),
        None => release(mapping.node, len, mapping.len),
    }
    let start = moved.map(|start| start.expose_provenance().get());
    start.ok_or(Refusal::System)
}

/// Unmaps a mapping that nobody uses.
pub(crate) fn give_back(mapping: Mapping) {
    // SAFETY: a whole mapping, in nobody's table any more.
    unsafe { os::unmap(at(mapping.start), mapping.len) };
    release(mapping.node, mapping.len, 0);
}
