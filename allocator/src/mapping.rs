//! Blocks larger than a unit, or aligned to more than a slice: mappings of their own.
//!
//! A table (`blocks`) knows each by its address. They are resized by `mremap`, which moves pages instead of copying
//! bytes. Freed ones are kept as spares (`spare`) as far as the bound on all that is kept allows, and unmapped beyond it.
//! A block that is to be filled is backed by huge pages: a fault for every 2 MiB instead of every 4 KiB. One that is
//! asked for as zeros may be a sparse table, and takes small pages. What each costs, and where it lies: `backing`.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::backing::{Refusal, at, give_back, make, pages, part, stretch};
use crate::blocks::Blocks;
use crate::config::{PAGE, UNIT};
use crate::keep;
use crate::lock::Lock;
use crate::node::{self, Node};
use crate::os;
use crate::request;
use crate::spare::{Mapping, Spares};

/// All blocks, and the spares.
pub(crate) struct Mappings {
    blocks: Blocks,
    spares: Spares,
}

static MAPPINGS: Lock<Mappings> = Lock::new(Mappings {
    blocks: Blocks::new(),
    spares: Spares::new(),
});

/// Bytes in all blocks. Relaxed everywhere, like the next: a figure.
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// Bytes in all spares.
static SPARE_BYTES: AtomicUsize = AtomicUsize::new(0);

impl Mappings {
    /// Notes how much is spare.
    fn note_spares(&self) {
        SPARE_BYTES.store(self.spares.bytes(), Ordering::Relaxed);
    }
}

/// A block of at least `size` bytes at a multiple of `align`, on `node` or spread over all: made from a spare, or fresh;
/// and whether it is all zero. Nothing when the budget or the system says no.
pub(crate) fn alloc(size: usize, align: usize, node: Option<&Node>) -> Option<(usize, bool)> {
    let len = pages(size)?;
    let node = node.map(Node::number);
    if align <= UNIT
        && len >= UNIT
        && let Some(mapping) = reuse(len, node)
    {
        return Some((enter(mapping)?, false));
    }
    let mapping = make(len, align, node)?;
    if node.is_some() {
        os::advise_huge(at(mapping.start), len);
    }
    Some((enter(mapping)?, true))
}

/// As [`alloc`], fresh, so all zero.
pub(crate) fn alloc_zeroed(size: usize, align: usize, node: &Node) -> Option<usize> {
    enter(make(pages(size)?, align, Some(node.number()))?)
}

/// A spare cut or grown to `len` bytes. What is cut off stays a spare.
fn reuse(len: usize, node: Option<usize>) -> Option<Mapping> {
    if spare_bytes() == 0 {
        return None;
    }
    let mut mappings = MAPPINGS.lock();
    let mut spare = mappings.spares.take(len, node)?;
    let crowding = spare.cut(len).and_then(|rest| mappings.spares.push(rest));
    mappings.note_spares();
    drop(mappings);
    crowding.into_iter().for_each(give_back);
    let Ok(start) = stretch(spare, len) else {
        give_back(spare);
        return None;
    };
    Some(Mapping {
        start,
        len,
        ..spare
    })
}

/// Puts a new block into the table: its address. Nothing when there is no room; the mapping is gone then.
fn enter(mapping: Mapping) -> Option<usize> {
    let mut mappings = MAPPINGS.lock();
    if !mappings.blocks.reserve() {
        drop(mappings);
        give_back(mapping);
        return None;
    }
    mappings.blocks.insert(mapping);
    BYTES.fetch_add(mapping.len, Ordering::Relaxed);
    Some(mapping.start)
}

/// Frees a block: keeps it as a spare, or unmaps it. False when none begins at `start`.
pub(crate) fn free(start: usize) -> bool {
    let Some(mut mapping) = MAPPINGS.lock().blocks.remove(start) else {
        return false;
    };
    BYTES.fetch_sub(mapping.len, Ordering::Relaxed);
    if mapping.len < UNIT || request::reclaiming() {
        give_back(mapping);
    } else if make_room(mapping) {
        let mut mappings = MAPPINGS.lock();
        mappings.spares.absorb(&mut mapping, usize::MAX);
        let crowding = mappings.spares.push(mapping);
        mappings.note_spares();
        drop(mappings);
        crowding.into_iter().for_each(give_back);
    } else {
        ebb(mapping);
    }
    trim();
    true
}

/// Unmaps what there is no room for.
fn ebb(mapping: Mapping) {
    let part = |node: &Node| part(mapping.len, mapping.node, node.number());
    node::all()
        .iter()
        .for_each(|node| node.arena.tide.ebb(part(node)));
    give_back(mapping);
}

/// Whether this mapping may be kept. Purges what its node's arena keeps to make room, if nobody asked the arena for
/// memory since a large block lacked room last: where both are in demand, small pages cost more to make anew.
fn make_room(mapping: Mapping) -> bool {
    let missing = mapping.len.saturating_sub(limit(mapping.len));
    if missing > 0
        && let Some(node) = mapping.node
        && node::node(node).arena.is_quiet()
        && mapping.len <= bound(mapping.len, node::balance().0)
    {
        let arena = &node::node(node).arena;
        arena.ebb(arena.usage().1.saturating_sub(missing));
    }
    mapping.len <= limit(mapping.len)
}

/// Bytes that may be kept in all, if `kept` are, when the nodes have so many in use.
fn bound(kept: usize, in_nodes: usize) -> usize {
    let tide = || {
        node::all()
            .iter()
            .map(|node| node.arena.tide.height())
            .sum()
    };
    keep::bound(kept, keep::keep(), in_nodes + bytes(), tide)
}

/// Bytes of spares that may be kept, if so many are: what the bound on all that is kept leaves, beside what the nodes keep.
fn limit(spare: usize) -> usize {
    let (used, kept) = node::balance();
    bound(kept + spare, used).saturating_sub(kept)
}

/// Unmaps spares until no more than may be are kept. One load when there are none.
pub(crate) fn trim() {
    if spare_bytes() > 0 {
        shed(limit(spare_bytes()), None, ebb);
    }
}

/// Unmaps all spares, or those that lie on one node.
pub(crate) fn purge(only: Option<usize>) {
    shed(0, only, give_back);
}

/// Unmaps spares, or those on one node, oldest first, with `unmap`, until at most `keep` bytes are left.
fn shed(keep: usize, only: Option<usize>, unmap: fn(Mapping)) {
    while spare_bytes() > keep {
        let mut mappings = MAPPINGS.lock();
        let oldest = mappings.spares.pop(only);
        mappings.note_spares();
        drop(mappings);
        let Some(oldest) = oldest else { return };
        unmap(oldest);
    }
}

/// The node of the block at `start`, if there is one and it is not spread.
pub(crate) fn node(start: usize) -> Option<usize> {
    MAPPINGS.lock().blocks.find(start)?.node
}

/// Bytes in the spares of a node.
pub(crate) fn spare_bytes_of(node: usize) -> usize {
    let part = |spare: &Mapping| part(spare.len, spare.node, node);
    MAPPINGS.lock().spares.iter().map(part).sum()
}

/// The length of the block at `start`, if there is one.
pub(crate) fn len(start: usize) -> Option<usize> {
    MAPPINGS
        .lock()
        .blocks
        .find(start)
        .map(|mapping| mapping.len)
}

/// Resizes the block at `start`, which exists, moving it if need be. Nothing, and the block as it was or with what lay spare
/// behind it, when the budget or the system says no.
pub(crate) fn resize(start: usize, size: usize) -> Option<usize> {
    let len = pages(size)?;
    let mut mappings = MAPPINGS.lock();
    let mut old = mappings.blocks.take(start)?;
    let was = old.len;
    mappings.spares.absorb(&mut old, len);
    mappings.note_spares();
    drop(mappings);
    let moved = stretch(old, len);
    let now = match moved {
        Ok(start) => Mapping { start, len, ..old },
        Err(_) => old,
    };
    let mut mappings = MAPPINGS.lock();
    mappings.blocks.put_back(now);
    drop(mappings);
    BYTES.fetch_add(now.len, Ordering::Relaxed);
    BYTES.fetch_sub(was, Ordering::Relaxed);
    match moved {
        Ok(start) => Some(start),
        Err(Refusal::Budget) => None,
        Err(Refusal::System) => copy(old, len).or((len <= old.len).then_some(start)),
    }
}

/// As [`resize`] to `len` bytes, for a block that the system does not move: it does not once the program has protected
/// or advised a part of it.
fn copy(old: Mapping, len: usize) -> Option<usize> {
    let (new, _) = alloc(len, PAGE, old.node.map(node::node))?;
    let (from, to) = (at(old.start), at(new));
    // SAFETY: two blocks in use, the caller's and a new one, of at least so many bytes.
    unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), len.min(old.len)) };
    free(old.start);
    Some(new)
}

/// Bytes in all spares. Relaxed: a figure.
pub(crate) fn spare_bytes() -> usize {
    SPARE_BYTES.load(Ordering::Relaxed)
}

/// Bytes in all blocks. Relaxed: for statistics.
pub(crate) fn bytes() -> usize {
    BYTES.load(Ordering::Relaxed)
}

/// The lock, for a fork.
pub(crate) fn lock() -> &'static Lock<Mappings> {
    &MAPPINGS
}
