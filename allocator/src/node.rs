//! A NUMA node: its shards, in which per size class there are a barn of full sheaves and the slabs, behind one short lock;
//! and the arena below.
//!
//! A CPU exchanges whole sheaves with the barn by pointer. The barn keeps about a cache's worth of objects; a sheaf
//! beyond that is flushed into the slabs' bitmaps under one lock, and refills come from the bitmaps in address order:
//! bulk traffic costs a transfer per sheaf, and the program finds its objects side by side again.
//!
//! Where a CPU looks, each step before the next: the barn and the slabs of its shard (`shard`), a new slab if much memory
//! is idle, the barns and then the slabs of the node's other shards, a new slab. Which slab gives objects and takes them back is `pool`'s business; one
//! that is wholly free goes back to the arena at once.
//!
//! What an invariant here says of a freed pointer that breaks it, the process ends with: one line, and abort.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering};

use crate::arena::{Arena, Span};
use crate::config::{
    BARNS_FLOOR, BARNS_PART, IDLE_LEAST, MAX_NODES, ROW, SCATTER_FLOOR, SCATTER_LOW, SCATTER_PART,
    SHARDS, SLICE,
};
use crate::empties::Empties;
use crate::list::List;
use crate::lock::Lock;
use crate::os;
use crate::pool::Pool;
use crate::shard::{self, Shard};
use crate::sheaf::Sheaf;
use crate::size_class::SHAPES;
use crate::slab::{Misuse, Slab};
use crate::span_map::{self, Tag};
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
        self.arena.alloc(slices, self.number())
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

    /// The shards that are in use.
    fn in_use(&self) -> &[Shard] {
        &self.shards[..topology::machine().shards(self.number())]
    }

    /// The shards that are in use, but the near one.
    fn others(&self, near: usize) -> impl Iterator<Item = &Shard> {
        let numbered = self.in_use().iter().enumerate();
        numbered.filter_map(move |(number, shard)| (number != near).then_some(shard))
    }

    /// A full sheaf of the near shard's barn; of another's, when CPUs of others have put a sheaf of objects back into its slabs.
    pub(crate) fn pop_barn(&self, near: usize, class: usize) -> Option<Sheaf> {
        let (shard, objects) = (&self.shards[near], SHAPES[class].sheaf);
        let full = shard.pop_barn(class, objects);
        if full.is_none() && shard.settle(class, objects) {
            return self.pop_far_barn(near, class);
        }
        full
    }

    /// A full sheaf of another shard's barn.
    pub(crate) fn pop_far_barn(&self, near: usize, class: usize) -> Option<Sheaf> {
        self.others(near)
            .find_map(|other| other.pop_barn(class, SHAPES[class].sheaf))
    }

    /// Takes objects from slabs, lowest address first. 0 when there is no memory.
    pub(crate) fn take(&self, class: usize, out: &mut [usize]) -> usize {
        let near = self.near();
        match self.take_near(near, class, out) {
            0 => self.take_far(near, class, out),
            taken => taken,
        }
    }

    /// Takes objects from the near shard's slabs, lowest address first. 0 when they have none.
    pub(crate) fn take_near(&self, near: usize, class: usize, out: &mut [usize]) -> usize {
        self.take_from(&self.shards[near], class, out)
    }

    /// Takes objects from another shard's slabs; from a new slab of the near one when they have none. 0 when there is no
    /// memory.
    pub(crate) fn take_far(&self, near: usize, class: usize, out: &mut [usize]) -> usize {
        for other in self.others(near) {
            let taken = self.take_from(other, class, out);
            if taken > 0 {
                return taken;
            }
        }
        self.take_new(near, class, out)
    }

    /// Whether there is so much idle in the arena that a new slab had better come before what lies free in other shards:
    /// it brings no cache lines along.
    pub(crate) fn has_idle(&self, class: usize) -> bool {
        self.arena.usage().1 >= IDLE_LEAST + SHAPES[class].slices * SLICE
    }

    /// Takes objects from a new slab of the near shard. 0 when there is no memory.
    pub(crate) fn take_new(&self, near: usize, class: usize, out: &mut [usize]) -> usize {
        let Some(slab) = self.new_slab(near, class) else {
            return 0;
        };
        let shard = &self.shards[near];
        let mut pool = shard.pool(class).lock();
        pool.add(slab);
        let taken = pool.take(out);
        drop(pool);
        self.note_taken(shard, class, taken)
    }

    fn take_from(&self, shard: &Shard, class: usize, out: &mut [usize]) -> usize {
        let taken = shard.pool(class).lock().take(out);
        self.note_taken(shard, class, taken)
    }

    fn note_taken(&self, shard: &Shard, class: usize, taken: usize) -> usize {
        if taken > 0 {
            self.scatter_by(shard, -((taken * SHAPES[class].size) as isize));
        }
        taken
    }

    /// So many bytes more lie free in slabs, by the account of a shard.
    fn scatter_by(&self, shard: &Shard, bytes: isize) {
        let told = shard.scatter(bytes);
        if told != 0 {
            // Relaxed: a figure for limits and statistics.
            self.scattered.fetch_add(told, Ordering::Relaxed);
        }
    }

    /// Bytes of free objects in slabs, about. Relaxed: for limits.
    fn scattered(&self) -> usize {
        usize::try_from(self.scattered.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Makes a slab of `class` for a shard.
    fn new_slab(&self, near: usize, class: usize) -> Option<NonNull<Slab>> {
        let shape = &SHAPES[class];
        let start = self.span(shape.slices)?.start;
        let slab = NonNull::new(span_map::slab_of_slice(start))?;
        // SAFETY: the descriptor of a slice that was just handed out to us.
        unsafe { &mut *slab.as_ptr() }.init(start, class);
        span_map::set_backs(start, shape.slices);
        span_map::set_owner(start, shape.slices, near);
        let tag = Tag::new(self.number(), class);
        span_map::set_tags(start, shape.slices, tag, tag);
        // Relaxed, all: figures. Raised before the objects can be taken or the slab freed.
        self.slabs
            .fetch_add(shape.slices * SLICE, Ordering::Relaxed);
        let bytes = (shape.capacity * shape.size) as isize;
        self.scatter_by(&self.shards[near], bytes);
        self.high.fetch_max(self.in_slabs(), Ordering::Relaxed);
        Some(slab)
    }

    /// Takes a full sheaf: into the barn, or its objects into their slabs. A sheaf that is empty then comes back.
    pub(crate) fn put_full(&self, class: usize, sheaf: Sheaf) -> Option<Sheaf> {
        let shard = &self.shards[self.near()];
        let limit = self.barns_limit();
        let emptied = if shard.barns() < limit {
            None
        } else {
            shard.pop_unused().map(|(class, mut unused)| {
                self.put(class, unused.objects_mut(class));
                unused
            })
        };
        let Err(mut sheaf) = shard.push_barn(class, sheaf, limit) else {
            return emptied;
        };
        self.put(class, sheaf.objects_mut(class));
        emptied
            .into_iter()
            .for_each(|sheaf| self.empties.put(sheaf));
        Some(sheaf)
    }

    /// Bytes that the barns of one shard may keep.
    fn barns_limit(&self) -> usize {
        let floor = topology::machine().share(BARNS_FLOOR);
        floor.max(self.in_slabs() / BARNS_PART / self.in_use().len())
    }

    /// Puts a sheaf's objects back into their slabs, and the sheaf to the empty ones.
    pub(crate) fn flush(&self, class: usize, mut sheaf: Sheaf) {
        self.put(class, sheaf.objects_mut(class));
        self.empties.put(sheaf);
    }

    /// Puts objects back into their slabs, those of one shard after those of another, so that each lock is taken once. Slabs
    /// that come free go back to the arena.
    pub(crate) fn put(&self, class: usize, mut objects: &mut [usize]) {
        let tag = Tag::new(self.number(), class);
        let (near, mut free) = (self.near(), List::new());
        while let Some(first) = objects.first() {
            let owner = shard::of_object(*first);
            let shard = &self.shards[owner];
            match shard.put(owner, tag, objects, owner != near, &mut free) {
                Ok(others) => {
                    let bytes = (objects.len() - others) * SHAPES[class].size;
                    self.scatter_by(shard, bytes as isize);
                    objects = &mut objects[..others];
                }
                // No lock is held: a handler of the abort may allocate.
                Err((object, misuse)) => report(object, misuse),
            }
        }
        while let Some(slab) = free.pop() {
            self.free_slab(class, slab);
        }
    }

    /// Gives a slab without objects in use back to the arena.
    fn free_slab(&self, class: usize, slab: NonNull<Slab>) {
        let shape = &SHAPES[class];
        // SAFETY: taken out of the lists, so ours; its descriptor stays until the arena has the slices.
        let start = unsafe { slab.as_ref() }.start;
        let shard = &self.shards[shard::of_object(start)];
        span_map::set_tags(start, shape.slices, Tag::NONE, Tag::NONE);
        // Relaxed: a figure.
        self.slabs
            .fetch_sub(shape.slices * SLICE, Ordering::Relaxed);
        self.scatter_by(shard, -((shape.capacity * shape.size) as isize));
        self.free_span(start, shape.slices);
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

    /// Flushes all barns. How many objects they had.
    pub(crate) fn drain(&self) -> usize {
        let mut objects = 0;
        for class in 1..ROW {
            for shard in self.in_use() {
                while let Some(full) = shard.pop_barn(class, 0) {
                    objects += full.objects(class).len();
                    self.flush(class, full);
                }
            }
        }
        // Relaxed: a hint, see `scatter`.
        self.high.store(self.in_slabs(), Ordering::Relaxed);
        objects
    }

    /// Bytes of slabs that are not free there: in use, or in sheaves. Relaxed: for limits and statistics.
    fn in_slabs(&self) -> usize {
        self.slabs
            .load(Ordering::Relaxed)
            .saturating_sub(self.scattered())
    }

    /// How much it looks as if what caches hold back is what keeps slabs from coming free. A program that only goes round
    /// in a circle has partly used slabs too, and draining would not mend them: so more must be free in them than in use,
    /// or much, and a quarter of what was in use freed since the last drain. Relaxed: a hint.
    pub(crate) fn scatter(&self) -> Scatter {
        let scattered = self.scattered();
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
mod tests {
    use super::*;
    use crate::start;

    /// Tells something on machines with two CPUs. Seen to fail when others are not moved to the front, and when all go where
    /// the first one does.
    #[test]
    fn objects_of_several_shards_go_home_from_one_sheaf() {
        const CLASS: usize = 58;
        assert!(start::ensure());
        let node = node(0);
        if node.in_use().len() < 2 {
            return;
        }
        let usage = || {
            [0, 1].map(|shard| {
                let pool = node.shards[shard].pool(CLASS).lock();
                (pool.slabs, pool.free)
            })
        };
        let before = usage();
        let (mut a, mut b) = ([0; 3], [0; 3]);
        assert_eq!(node.take_new(0, CLASS, &mut a), 3);
        assert_eq!(node.take_new(1, CLASS, &mut b), 3);
        assert_ne!(usage(), before);
        node.put(CLASS, &mut [a[0], b[2], b[0], a[2], a[1], b[1]]);
        assert_eq!(usage(), before);
    }

    /// Tells something on machines with two CPUs. Seen to fail when a CPU takes from its own shard only, and when objects go
    /// to the shard of the CPU that frees them.
    #[test]
    fn shards_lend_objects_and_get_them_back() {
        const CLASS: usize = 57;
        assert!(start::ensure());
        let machine = topology::machine();
        let all = os::affinity().unwrap();
        let only = |cpu: usize| all.only(|other| other == cpu);
        let first = (0..machine.cpus).find(|cpu| only(*cpu).is_some()).unwrap();
        let (home, shard) = (machine.home_of(first), machine.shard_of(first));
        let beside = |cpu: &usize| machine.home_of(*cpu) == home && machine.shard_of(*cpu) != shard;
        let mut others = (first..machine.cpus).filter(beside);
        let Some(second) = others.find(|cpu| only(*cpu).is_some()) else {
            return;
        };
        let node = node(home);
        let on = |cpu: usize, f: &(dyn Fn() + Sync)| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    os::run_on(&only(cpu).unwrap());
                    f();
                });
            });
        };
        let free = |cpu: usize| node.shards[machine.shard_of(cpu)].pool(CLASS).lock().free;
        let (a, b) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let take_into = |slot: &AtomicUsize| {
            let mut one = [0];
            assert_eq!(node.take(CLASS, &mut one), 1);
            slot.store(one[0], Ordering::Relaxed);
        };
        on(first, &|| take_into(&a));
        let before = (free(first), free(second));
        on(second, &|| take_into(&b));
        assert_eq!((free(first), free(second)), (before.0 - 1, before.1));
        on(second, &|| {
            node.put(CLASS, &mut [b.load(Ordering::Relaxed)])
        });
        assert_eq!((free(first), free(second)), before);
        node.put(CLASS, &mut [a.load(Ordering::Relaxed)]);
    }
}
