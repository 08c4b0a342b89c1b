//! Where objects go that a CPU has too many of: into the barn of its shard as long as that has room, else each into its slab,
//! which belongs to the shard that made it (`shard`). A slab that is wholly free goes back to the arena at once.

use core::ptr::NonNull;

use crate::config::{BARNS_FLOOR, BARNS_PART, ROW, SLICE};
use crate::list::List;
use crate::node::{self, Node};
use crate::shard::{self, Shard};
use crate::sheaf::Sheaf;
use crate::size_class::SHAPES;
use crate::slab::Slab;
use crate::span_map;
use crate::topology;
use crate::window::Tag;

impl Node {
    /// Takes a full sheaf: into the barn, or its objects into their slabs. A sheaf that is empty then comes back.
    pub(crate) fn put_full(&self, class: usize, sheaf: Sheaf) -> Option<Sheaf> {
        let shard = self.shard(self.near());
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
            let shard = self.shard(owner);
            match shard.put(owner, tag, objects, owner != near, &mut free) {
                Ok(others) => {
                    let bytes = (objects.len() - others) * SHAPES[class].size;
                    self.scatter_by(shard, bytes as isize);
                    objects = &mut objects[..others];
                }
                // No lock is held: a handler of the abort may allocate.
                Err((object, misuse)) => node::report(object, misuse),
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
        let shard = self.shard(shard::of_object(start));
        span_map::set_tags(start, shape.slices, Tag::NONE, Tag::NONE);
        self.slab_gone(shape.slices * SLICE);
        self.scatter_by(shard, -((shape.capacity * shape.size) as isize));
        self.free_span(start, shape.slices);
    }

    /// The class of the near shard that is looked at next, if it is thin.
    pub(crate) fn next_thin(&self) -> Option<usize> {
        self.shard(self.near()).next_thin()
    }

    /// Flushes the near shard's barn of a class.
    pub(crate) fn flush_near_barn(&self, class: usize) {
        self.flush_barn(self.shard(self.near()), class);
    }

    /// Flushes a barn.
    fn flush_barn(&self, shard: &Shard, class: usize) {
        while let Some(full) = shard.pop_barn(class, 0) {
            self.flush(class, full);
        }
    }

    /// Flushes all barns.
    pub(crate) fn drain(&self) {
        for shard in self.in_use() {
            (1..ROW).for_each(|class| self.flush_barn(shard, class));
        }
        self.lower_high();
    }
}
