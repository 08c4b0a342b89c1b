//! A NUMA node: per size class a barn of full sheaves and the slabs, behind one short lock; and the arena below.
//!
//! A CPU exchanges whole sheaves with the barn by pointer. The barn keeps about a cache's worth of objects; a sheaf
//! beyond that is flushed into the slabs' bitmaps under one lock, and refills come from the bitmaps in address order:
//! bulk traffic costs a transfer per sheaf, and the program finds its objects side by side again.
//!
//! Slabs that are partly used lie in four lists by the part that is free; refills take from the fullest, so that the
//! emptiest come free. A slab that is wholly free goes back to the arena at once.
//!
//! What an invariant here says of a freed pointer that breaks it, the process ends with: one line, and abort.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::arena::{Arena, Span};
use crate::budget;
use crate::config::{
    BARNS_FLOOR, BARNS_PART, MAX_NODES, ROW, SCATTER_FLOOR, SCATTER_LOW, SCATTER_PART, SLICE,
};
use crate::list::List;
use crate::lock::Lock;
use crate::os;
use crate::sheaf::{Pile, SHEAF, Sheaf};
use crate::size_class::SHAPES;
use crate::slab::{Misuse, Slab};
use crate::span_map::{self, Tag};
use crate::topology;

/// Lists of slabs by the part that is free; a slab without free objects is in none.
const FULLNESS: usize = 4;

/// Sheaves are made so many at a time.
const SHEAVES: usize = 32;

/// One NUMA node.
pub(crate) struct Node {
    pub(crate) arena: Arena,
    classes: [Class; ROW],
    /// Sheaves without objects.
    empties: Lock<Pile>,
    /// Bytes in barns.
    barns: AtomicUsize,
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

/// What the lock of a class guards: its slabs' descriptors too.
pub(crate) struct Pool {
    barn: Pile,
    partial: [List<Slab>; FULLNESS],
    /// Slabs, listed or not.
    slabs: usize,
    /// Free objects in them.
    free: usize,
    /// Objects that ever left slabs or barn: for a CPU, one by one or in a sheaf.
    granted: u64,
}

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
            empties: Lock::new(Pile::new()),
            barns: AtomicUsize::new(0),
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

    /// Takes a full sheaf: into the barn, or its objects into their slabs. The sheaf comes back then.
    pub(crate) fn put_full(&self, class: usize, sheaf: Sheaf) -> Option<Sheaf> {
        let floor = topology::machine().share(BARNS_FLOOR);
        let room = floor.max(self.in_slabs() / BARNS_PART);
        let mut pool = self.classes[class].0.lock();
        // Relaxed: a limit need not be exact.
        if pool.barn.len() < SHAPES[class].barn && self.barns.load(Ordering::Relaxed) < room {
            self.barns.fetch_add(sheaf_bytes(class), Ordering::Relaxed);
            pool.barn.push(sheaf);
            return None;
        }
        drop(pool);
        self.put(class, sheaf.objects(class));
        Some(sheaf)
    }

    /// Puts a sheaf's objects back into their slabs, and the sheaf to the empty ones.
    pub(crate) fn flush(&self, class: usize, sheaf: Sheaf) {
        self.put(class, sheaf.objects(class));
        self.put_empty(sheaf);
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
        let popped = self.empties.lock().pop();
        let mut sheaf = popped.or_else(|| self.make_sheaves())?;
        sheaf.clear(class);
        Some(sheaf)
    }

    /// Takes an empty sheaf back.
    pub(crate) fn put_empty(&self, sheaf: Sheaf) {
        self.empties.lock().push(sheaf);
    }

    #[cold]
    fn make_sheaves(&self) -> Option<Sheaf> {
        let bytes = SHEAVES * SHEAF;
        if !budget::charge(bytes) {
            return None;
        }
        let Some(start) = os::map(bytes) else {
            budget::release(bytes);
            return None;
        };
        let start = start.expose_provenance().get();
        let mut sheaves = (0..SHEAVES).map(|index| {
            // SAFETY: fresh memory of that size, aligned to the page, seen by nobody else.
            unsafe { Sheaf::from_top(start + index * SHEAF) }
        });
        let first = sheaves.next();
        let mut empties = self.empties.lock();
        sheaves.for_each(|sheaf| empties.push(sheaf));
        first
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

    /// The lock of the empty sheaves, for a fork.
    pub(crate) fn empties_lock(&self) -> &Lock<Pile> {
        &self.empties
    }
}

impl Class {
    const fn new() -> Self {
        Self(Lock::new(Pool {
            barn: Pile::new(),
            partial: [const { List::new() }; FULLNESS],
            slabs: 0,
            free: 0,
            granted: 0,
        }))
    }
}

impl Pool {
    /// A slab of this class.
    fn slab(&mut self, slab: NonNull<Slab>) -> &mut Slab {
        // SAFETY: descriptors of slabs of this class are reached through `&mut Pool` only, while the slab lives.
        unsafe { &mut *slab.as_ptr() }
    }

    /// Adds a new slab, all of whose objects are free.
    fn add(&mut self, slab: NonNull<Slab>) {
        self.slabs += 1;
        self.free += self.slab(slab).capacity();
        self.slab(slab).list = FULLNESS as u32;
        self.relist(slab);
    }

    /// Takes objects from the fullest slabs that have any.
    fn take(&mut self, out: &mut [usize]) -> usize {
        let mut taken = 0;
        while taken < out.len() {
            let Some(slab) = self.partial.iter().find_map(List::first) else {
                break;
            };
            taken += self.slab(slab).take(&mut out[taken..]);
            self.relist(slab);
        }
        self.free -= taken;
        self.granted += taken as u64;
        taken
    }

    /// Puts the first objects back, as many as lie in the slab of the first one: how many. A slab that is wholly free then
    /// is moved to `empty`.
    fn put(
        &mut self,
        tag: Tag,
        objects: &[usize],
        empty: &mut List<Slab>,
    ) -> Result<usize, (usize, Misuse)> {
        let first = objects[0];
        let slab = span_map::slab_of_object(tag, first).ok_or((first, Misuse::NotAnObject))?;
        let here = self.slab(slab);
        let count = here.put(objects)?;
        let (free, capacity) = (here.free(), here.capacity());
        self.free += count;
        if free < capacity {
            self.relist(slab);
            return Ok(count);
        }
        self.unlist(slab);
        self.slabs -= 1;
        self.free -= capacity;
        // SAFETY: in no list now; reached through `self` alone.
        unsafe { empty.push(slab) };
        Ok(count)
    }

    /// Moves a slab to the list it belongs to now.
    fn relist(&mut self, slab: NonNull<Slab>) {
        let here = self.slab(slab);
        let list = match here.free() {
            0 => FULLNESS,
            free => (free * FULLNESS / here.capacity()).min(FULLNESS - 1),
        };
        if here.list as usize == list {
            return;
        }
        self.unlist(slab);
        self.slab(slab).list = list as u32;
        if let Some(partial) = self.partial.get_mut(list) {
            // SAFETY: in no list now; reached through `self` alone.
            unsafe { partial.push(slab) };
        }
    }

    /// Takes a slab out of its list, if it is in one.
    fn unlist(&mut self, slab: NonNull<Slab>) {
        let list = core::mem::replace(&mut self.slab(slab).list, FULLNESS as u32);
        if let Some(partial) = self.partial.get_mut(list as usize) {
            // SAFETY: it is in that list; reached through `self` alone.
            unsafe { partial.remove(slab) };
        }
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
