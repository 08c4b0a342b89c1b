//! A NUMA node: its shards, in which per size class there are a barn of full sheaves and the slabs, behind one short lock;
//! the arena below; and what it knows of both.
//!
//! A CPU exchanges whole sheaves with the barn by pointer. The barn keeps about a cache's worth of objects; a sheaf
//! beyond that is flushed into the slabs' bitmaps under one lock, and refills come from the bitmaps in address order:
//! bulk traffic costs a transfer per sheaf, and the program finds its objects side by side again. `refill` has the one
//! way, `put_back` the other.
//!
//! What an invariant here says of a freed pointer that breaks it, the process ends with: one line, and abort.

use core::sync::atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering};

use crate::arena::{Arena, Span};
use crate::config::{MAX_NODES, ROW, SCATTER_FLOOR, SCATTER_LOW, SCATTER_PART, SHARDS};
use crate::empties::Empties;
use crate::lock::Lock;
use crate::os;
use crate::pool::Pool;
use crate::shard::Shard;
use crate::sheaf::Sheaf;
use crate::size_class::SHAPES;
use crate::slab::Misuse;
use crate::topology;

/// One NUMA node.
pub(crate) struct Node {
    pub(crate) arena: Arena,
    shards: [Shard; SHARDS],
    /// Sheaves without objects.
    pub(crate) empties: Empties,
    /// Bytes of slabs.
    slabs: AtomicUsize,
    /// Bytes of free objects in slabs, but what shards have not told yet.
    scattered: AtomicIsize,
    /// The most bytes in slabs and not free there since caches were last drained.
    high: AtomicUsize,
    pub(crate) counters: Counters,
}

/// What the node was asked for and what it gave, in blocks, beside the objects that its classes count. Relaxed
/// everywhere: figures.
pub(crate) struct Counters {
    /// Spans and mappings it gave.
    pub(crate) blocks: AtomicU64,
    /// Blocks that it gave although another was asked.
    pub(crate) miss: AtomicU64,
    /// Blocks that it was asked for and another gave.
    pub(crate) foreign: AtomicU64,
    /// Blocks that it gave to the CPUs of another.
    pub(crate) other: AtomicU64,
    /// Blocks that it gave in its turn.
    pub(crate) interleave: AtomicU64,
}

/// All nodes; those that the machine does not have are never touched.
static NODES: [Node; MAX_NODES] = [const { Node::new() }; MAX_NODES];

/// Has no more of them backed than is touched.
///
/// # Safety
/// It is the start: nobody has used them yet.
pub(crate) unsafe fn prepare() {
    // SAFETY: the caller's clause; a new node is all zeros.
    unsafe { os::thin_out(&NODES) };
}

/// The node with this number.
pub(crate) fn node(number: usize) -> &'static Node {
    &NODES[number]
}

/// All nodes of this machine.
pub(crate) fn all() -> &'static [Node] {
    &NODES[..topology::machine().nodes]
}

/// Bytes of all nodes that are in use (or in sheaves), and that are kept for reuse in free spans, barns and partly used
/// slabs.
pub(crate) fn balance() -> (usize, usize) {
    all().iter().fold((0, 0), |(used, kept), node| {
        let (committed, idle) = node.arena.usage();
        let keeps = idle + node.elsewhere();
        (used + committed.saturating_sub(keeps), kept + keeps)
    })
}

/// How much lies free in partly used slabs because caches hold the rest back, by the look of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scatter {
    /// Nothing to speak of.
    Little,
    /// So much that a drain now and then is worth it.
    Some,
    /// So much that the bound on what is kept is near.
    Much,
}

/// Figures of one class on one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassUsage {
    pub(crate) slabs: usize,
    /// Objects free in slabs.
    pub(crate) free: usize,
    /// Objects in the barn.
    pub(crate) barn: usize,
    /// Objects that were taken for a CPU.
    pub(crate) granted: u64,
}

impl Node {
    const fn new() -> Self {
        Self {
            arena: Arena::new(),
            shards: [const { Shard::new() }; SHARDS],
            empties: Empties::new(),
            slabs: AtomicUsize::new(0),
            scattered: AtomicIsize::new(0),
            high: AtomicUsize::new(0),
            counters: Counters {
                blocks: AtomicU64::new(0),
                miss: AtomicU64::new(0),
                foreign: AtomicU64::new(0),
                other: AtomicU64::new(0),
                interleave: AtomicU64::new(0),
            },
        }
    }

    /// Which one it is.
    pub(crate) fn number(&self) -> usize {
        ((&raw const *self).addr() - NODES.as_ptr().addr()) / size_of::<Self>()
    }

    /// Takes a run of slices for this node.
    pub(crate) fn span(&self, slices: usize) -> Option<Span> {
        self.aligned_span(slices, 1)
    }

    /// The same, at a multiple of `grain` slices: see [`Arena::alloc`].
    pub(crate) fn aligned_span(&self, slices: usize, grain: usize) -> Option<Span> {
        self.arena.alloc(slices, grain, self.number())
    }

    /// The number of the shard for the CPU that the calling thread is on, which may be another node's.
    pub(crate) fn near(&self) -> usize {
        let (shard, shards) = (topology::machine().shard_of(os::cpu()), self.in_use().len());
        // Mostly it is one of ours, and a division is much for that.
        if shard < shards {
            shard
        } else {
            shard % shards
        }
    }

    /// A shard.
    pub(crate) fn shard(&self, number: usize) -> &Shard {
        &self.shards[number]
    }

    /// The shards that are in use.
    pub(crate) fn in_use(&self) -> &[Shard] {
        &self.shards[..topology::machine().shards(self.number())]
    }

    /// The shards that are in use, but the near one.
    pub(crate) fn others(&self, near: usize) -> impl Iterator<Item = &Shard> {
        let numbered = self.in_use().iter().enumerate();
        numbered.filter_map(move |(number, shard)| (number != near).then_some(shard))
    }

    /// So many bytes more lie free in slabs, by the account of a shard.
    pub(crate) fn scatter_by(&self, shard: &Shard, bytes: isize) {
        let told = shard.scatter(bytes);
        if told != 0 {
            // Relaxed: a figure for limits and statistics.
            self.scattered.fetch_add(told, Ordering::Relaxed);
        }
    }

    /// There is a slab more of so many bytes, none of them free. Relaxed, here and below: figures.
    pub(crate) fn slab_made(&self, bytes: usize) {
        self.slabs.fetch_add(bytes, Ordering::Relaxed);
    }

    /// There is one less.
    pub(crate) fn slab_gone(&self, bytes: usize) {
        self.slabs.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// More is in use, maybe the most since the last drain. Relaxed, here and below: a hint, see [`Self::scatter`].
    pub(crate) fn note_high(&self) {
        self.high.fetch_max(self.in_slabs(), Ordering::Relaxed);
    }

    /// There was a drain: what is in use now is the most.
    pub(crate) fn lower_high(&self) {
        self.high.store(self.in_slabs(), Ordering::Relaxed);
    }

    /// Bytes of free objects in slabs, about. Relaxed: for limits.
    fn scattered(&self) -> usize {
        usize::try_from(self.scattered.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Takes a run of slices back.
    pub(crate) fn free_span(&self, start: usize, slices: usize) {
        self.arena.free(start, slices, self.elsewhere());
    }

    /// Bytes kept for reuse outside the arena. Relaxed: figures for a limit.
    fn elsewhere(&self) -> usize {
        let told = self.scattered.load(Ordering::Relaxed);
        let shards = self.in_use().iter();
        let bytes = shards.fold(told, |sum, shard| sum.wrapping_add(shard.kept()));
        usize::try_from(bytes).unwrap_or(0)
    }

    /// An empty sheaf for `class`. Nothing when there is no memory for one.
    pub(crate) fn empty(&self, class: usize) -> Option<Sheaf> {
        let mut sheaf = self.empties.take(self.number())?;
        sheaf.clear(class);
        Some(sheaf)
    }

    /// Bytes of slabs that are not free there: in use, or in sheaves. Relaxed: for limits and statistics.
    pub(crate) fn in_slabs(&self) -> usize {
        self.slabs
            .load(Ordering::Relaxed)
            .saturating_sub(self.scattered())
    }

    /// How much it looks as if what caches hold back is what keeps slabs from coming free. A program that only goes round
    /// in a circle has partly used slabs too, and draining would not mend them: so a quarter of what was in use must have been
    /// freed since the last drain, or more be free in them than in use. Relaxed: a hint.
    pub(crate) fn scatter(&self) -> Scatter {
        let scattered = self.scattered();
        let floor = topology::machine().share(SCATTER_FLOOR);
        let in_slabs = self.in_slabs();
        let high = self.high.load(Ordering::Relaxed);
        let mostly_free = scattered > in_slabs;
        let shrunk = scattered > in_slabs / SCATTER_PART && in_slabs < high - high / 4;
        if scattered > floor && shrunk {
            Scatter::Much
        } else if scattered > topology::machine().share(SCATTER_LOW) && mostly_free {
            Scatter::Some
        } else {
            Scatter::Little
        }
    }

    /// Figures of one class.
    pub(crate) fn class_usage(&self, class: usize) -> ClassUsage {
        let mut usage = ClassUsage {
            slabs: 0,
            free: 0,
            barn: 0,
            granted: 0,
        };
        for shard in self.in_use() {
            let pool = shard.pool(class).lock();
            usage.slabs += pool.slabs;
            usage.free += pool.free;
            usage.barn += pool.barn.len() * SHAPES[class].sheaf;
            usage.granted += pool.granted;
        }
        usage
    }

    /// Calls `f` with each of the node's locks of one kind, in the order in which they may be taken together.
    pub(crate) fn each_class_lock(&self, mut f: impl FnMut(&Lock<Pool>)) {
        for shard in self.in_use() {
            (0..ROW).for_each(|class| f(shard.pool(class)));
        }
    }
}

/// Ends the process over a pointer that should not have been freed.
#[cold]
pub(crate) fn report(pointer: usize, misuse: Misuse) -> ! {
    match misuse {
        Misuse::DoubleFree => os::abort(format_args!(
            "double free of {pointer:#x}: it is free already"
        )),
        Misuse::NotAnObject => os::abort(format_args!(
            "invalid free of {pointer:#x}: no block in use begins there"
        )),
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
