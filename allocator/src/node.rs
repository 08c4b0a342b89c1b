//! A NUMA node: per size class a barn of full sheaves and the slabs, behind one short lock; and the arena below.
//!
//! A CPU exchanges whole sheaves with the barn by pointer. The barn keeps about a cache's worth of objects; a sheaf
//! beyond that is flushed into the slabs' bitmaps under one lock, and refills come from the bitmaps in address order:
//! bulk traffic costs a transfer per sheaf, and the program finds its objects side by side again.
//!
//! Which slab gives objects and takes them back is `pool`'s business; a slab that is wholly free goes back to the arena
//! at once.
//!
//! What an invariant here says of a freed pointer that breaks it, the process ends with: one line, and abort.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::arena::{Arena, Span};
use crate::config::{
    BARNS_FLOOR, BARNS_PART, MAX_NODES, ROW, SCATTER_FLOOR, SCATTER_LOW, SCATTER_PART, SLICE,
};
use crate::empties::Empties;
use crate::list::List;
use crate::lock::Lock;
use crate::os;
use crate::pool::Pool;
use crate::sheaf::Sheaf;
use crate::size_class::{LAST, SHAPES};
use crate::slab::{Misuse, Slab};
use crate::span_map::{self, Tag};
use crate::topology;

/// Classes that are asked at once for room in the barns.
const TRIES: usize = 2;

/// One NUMA node.
pub(crate) struct Node {
    pub(crate) arena: Arena,
    classes: [Class; ROW],
    /// Sheaves without objects.
    pub(crate) empties: Empties,
    /// Bytes in barns.
    barns: AtomicUsize,
    /// Which class is asked next for room in the barns, counted on.
    asked: AtomicUsize,
    /// Bytes of slabs.
    slabs: AtomicUsize,
    /// Bytes of free objects in slabs.
    scattered: AtomicUsize,
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

/// One size class of a node, alone on its cache lines.
#[repr(align(128))]
struct Class(Lock<Pool>);

/// All nodes; those that the machine does not have are never touched.
static NODES: [Node; MAX_NODES] = [const { Node::new() }; MAX_NODES];

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
            classes: [const { Class::new() }; ROW],
            empties: Empties::new(),
            barns: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            slabs: AtomicUsize::new(0),
            scattered: AtomicUsize::new(0),
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
        self.arena.alloc(slices, self.number())
    }

    /// A full sheaf of the barn, of which `granted` objects are for a CPU.
    pub(crate) fn pop_barn(&self, class: usize, granted: usize) -> Option<Sheaf> {
        let mut pool = self.classes[class].0.lock();
        let full = pool.barn.pop()?;
        pool.granted += granted as u64;
        pool.barn_used = granted > 0;
        drop(pool);
        self.barns.fetch_sub(sheaf_bytes(class), Ordering::Relaxed);
        Some(full)
    }

    /// Takes objects from slabs, lowest address first. 0 when there is no memory.
    pub(crate) fn take(&self, class: usize, out: &mut [usize]) -> usize {
        loop {
            let taken = self.classes[class].0.lock().take(out);
            if taken > 0 {
                // Relaxed: a figure for limits and statistics.
                self.scattered
                    .fetch_sub(taken * SHAPES[class].size, Ordering::Relaxed);
                return taken;
            }
            let Some(slab) = self.new_slab(class) else {
                return 0;
            };
            self.classes[class].0.lock().add(slab);
        }
    }

    /// Makes a slab of `class`.
    fn new_slab(&self, class: usize) -> Option<NonNull<Slab>> {
        let shape = &SHAPES[class];
        let start = self.span(shape.slices)?.start;
        let slab = NonNull::new(span_map::slab_of_slice(start))?;
        // SAFETY: the descriptor of a slice that was just handed out to us.
        unsafe { &mut *slab.as_ptr() }.init(start, class);
        span_map::set_backs(start, shape.slices);
        let tag = Tag::new(self.number(), class);
        span_map::set_tags(start, shape.slices, tag, tag);
        // Relaxed, all: figures. Raised before the objects can be taken or the slab freed.
        self.slabs
            .fetch_add(shape.slices * SLICE, Ordering::Relaxed);
        self.scattered
            .fetch_add(shape.capacity * shape.size, Ordering::Relaxed);
        self.high.fetch_max(self.in_slabs(), Ordering::Relaxed);
        Some(slab)
    }

    /// Takes a full sheaf: into the barn, or its objects into their slabs. A sheaf that is empty then comes back.
    pub(crate) fn put_full(&self, class: usize, sheaf: Sheaf) -> Option<Sheaf> {
        let emptied = if self.has_room() {
            None
        } else {
            self.flush_unused()
        };
        if self.has_room() {
            let mut pool = self.classes[class].0.lock();
            if pool.barn.len() < SHAPES[class].barn {
                self.barns.fetch_add(sheaf_bytes(class), Ordering::Relaxed);
                pool.barn.push(sheaf);
                return emptied;
            }
        }
        self.put(class, sheaf.objects(class));
        emptied
            .into_iter()
            .for_each(|sheaf| self.empties.put(sheaf));
        Some(sheaf)
    }

    /// Whether the barns together may keep more. Relaxed: a limit need not be exact.
    fn has_room(&self) -> bool {
        let floor = topology::machine().share(BARNS_FLOOR);
        self.barns.load(Ordering::Relaxed) < floor.max(self.in_slabs() / BARNS_PART)
    }

    /// Makes room in the barns at the cost of a class whose barn is used no more: as long as it is full, no other class
    /// has one. The classes are asked in turn, and whose barn gave a sheaf since it was asked last keeps it. The sheaf that
    /// was emptied.
    fn flush_unused(&self) -> Option<Sheaf> {
        for _ in 0..TRIES {
            // Relaxed: any class will do.
            let class = self.asked.fetch_add(1, Ordering::Relaxed) % LAST + 1;
            let unused = self.classes[class]
                .0
                .try_lock()
                .and_then(|mut pool| pool.pop_unused());
            if let Some(full) = unused {
                self.barns.fetch_sub(sheaf_bytes(class), Ordering::Relaxed);
                self.put(class, full.objects(class));
                return Some(full);
            }
        }
        None
    }

    /// Puts a sheaf's objects back into their slabs, and the sheaf to the empty ones.
    pub(crate) fn flush(&self, class: usize, sheaf: Sheaf) {
        self.put(class, sheaf.objects(class));
        self.empties.put(sheaf);
    }

    /// Puts objects back into their slabs. Slabs that come free go back to the arena.
    pub(crate) fn put(&self, class: usize, objects: &[usize]) {
        let tag = Tag::new(self.number(), class);
        let mut free = List::new();
        let mut pool = self.classes[class].0.lock();
        let mut rest = objects;
        while !rest.is_empty() {
            match pool.put(tag, rest, &mut free) {
                Ok(count) => rest = &rest[count..],
                Err((object, misuse)) => {
                    // A handler of the abort may allocate.
                    drop(pool);
                    report(object, misuse);
                }
            }
        }
        // Relaxed: figures.
        self.scattered
            .fetch_add(objects.len() * SHAPES[class].size, Ordering::Relaxed);
        drop(pool);
        while let Some(slab) = free.pop() {
            self.free_slab(class, slab);
        }
    }

    /// Gives a slab without objects in use back to the arena.
    fn free_slab(&self, class: usize, slab: NonNull<Slab>) {
        let shape = &SHAPES[class];
        // SAFETY: taken out of the lists, so ours; its descriptor stays until the arena has the slices.
        let start = unsafe { slab.as_ref() }.start;
        span_map::set_tags(start, shape.slices, Tag::NONE, Tag::NONE);
        // Relaxed, both: figures.
        self.slabs
            .fetch_sub(shape.slices * SLICE, Ordering::Relaxed);
        self.scattered
            .fetch_sub(shape.capacity * shape.size, Ordering::Relaxed);
        self.free_span(start, shape.slices);
    }

    /// Takes a run of slices back.
    pub(crate) fn free_span(&self, start: usize, slices: usize) {
        self.arena.free(start, slices, self.elsewhere());
    }

    /// Bytes kept for reuse outside the arena. Relaxed: figures for a limit.
    fn elsewhere(&self) -> usize {
        self.barns.load(Ordering::Relaxed) + self.scattered.load(Ordering::Relaxed)
    }

    /// An empty sheaf for `class`. Nothing when there is no memory for one.
    pub(crate) fn empty(&self, class: usize) -> Option<Sheaf> {
        let mut sheaf = self.empties.take(self.number())?;
        sheaf.clear(class);
        Some(sheaf)
    }

    /// Flushes all barns. How many objects they had.
    pub(crate) fn drain(&self) -> usize {
        let mut objects = 0;
        for class in 1..ROW {
            while let Some(full) = self.pop_barn(class, 0) {
                objects += full.objects(class).len();
                self.flush(class, full);
            }
        }
        // Relaxed: a hint, see `scatter`.
        self.high.store(self.in_slabs(), Ordering::Relaxed);
        objects
    }

    /// Bytes of slabs that are not free there: in use, or in sheaves. Relaxed: for limits and statistics.
    fn in_slabs(&self) -> usize {
        let scattered = self.scattered.load(Ordering::Relaxed);
        self.slabs.load(Ordering::Relaxed).saturating_sub(scattered)
    }

    /// How much it looks as if what caches hold back is what keeps slabs from coming free. A program that only goes round
    /// in a circle has partly used slabs too, and draining would not mend them: so more must be free in them than in use,
    /// or much, and a quarter of what was in use freed since the last drain. Relaxed: a hint.
    pub(crate) fn scatter(&self) -> Scatter {
        let scattered = self.scattered.load(Ordering::Relaxed);
        let floor = topology::machine().share(SCATTER_FLOOR);
        let in_slabs = self.in_slabs();
        let high = self.high.load(Ordering::Relaxed);
        let mostly_free = scattered > in_slabs;
        let shrunk = scattered > in_slabs / SCATTER_PART && in_slabs < high - high / 4;
        if scattered > floor && (mostly_free || shrunk) {
            Scatter::Much
        } else if scattered > topology::machine().share(SCATTER_LOW) && mostly_free {
            Scatter::Some
        } else {
            Scatter::Little
        }
    }

    /// Figures of one class.
    pub(crate) fn class_usage(&self, class: usize) -> ClassUsage {
        let pool = self.classes[class].0.lock();
        ClassUsage {
            slabs: pool.slabs,
            free: pool.free,
            barn: pool.barn.len() * SHAPES[class].sheaf,
            granted: pool.granted,
        }
    }

    /// Calls `f` with each of the node's locks of one kind, in the order in which they may be taken together.
    pub(crate) fn each_class_lock(&self, f: impl FnMut(&Lock<Pool>)) {
        self.classes.iter().map(|class| &class.0).for_each(f);
    }
}

impl Class {
    const fn new() -> Self {
        Self(Lock::new(Pool::new()))
    }
}

fn sheaf_bytes(class: usize) -> usize {
    SHAPES[class].size * SHAPES[class].sheaf
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
