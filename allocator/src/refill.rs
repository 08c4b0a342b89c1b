//! Where a CPU's objects come from: full sheaves, and single objects.
//!
//! Each step before the next:
//!
//! 1. The barn of the CPU's shard (`shard`).
//! 2. The barns of others, if their CPUs have put a sheaf of objects back into this shard's slabs. A program with threads
//!    that free what others allocate has its objects go round in full sheaves then; else they would go through the slabs of
//!    the one while they pile up in the barn of the other. A program whose threads free what is theirs leaves the others'
//!    barns alone.
//! 3. The shard's slabs: the fullest, from the lowest address on (`pool`).
//! 4. A new slab, if much memory is idle.
//! 5. The barns, and then the slabs, of others: before more memory is used.
//! 6. A new slab.

use core::ptr::NonNull;

use crate::config::{IDLE_LEAST, SLICE};
use crate::node::Node;
use crate::shard::Shard;
use crate::sheaf::Sheaf;
use crate::size_class::SHAPES;
use crate::slab::Slab;
use crate::span_map;
use crate::window::Tag;

impl Node {
    /// A sheaf with at least one object of `class`, and what is left of an empty sheaf that was asked of `empty` for it. No
    /// sheaf when there is no memory.
    pub(crate) fn refill(
        &self,
        class: usize,
        empty: impl FnOnce() -> Option<Sheaf>,
    ) -> (Option<Sheaf>, Option<Sheaf>) {
        let near = self.near();
        if let Some(full) = self.pop_barn(near, class) {
            return (Some(full), None);
        }
        let Some(mut sheaf) = empty() else {
            return (None, None);
        };
        sheaf.fill(class, |out| match self.take_near(near, class, out) {
            0 if self.has_idle(class) => self.take_new(near, class, out),
            taken => taken,
        });
        if sheaf.newest() != 0 {
            return (Some(sheaf), None);
        }
        if let Some(full) = self.pop_far_barn(near, class) {
            return (Some(full), Some(sheaf));
        }
        sheaf.fill(class, |out| self.take_far(near, class, out));
        if sheaf.newest() == 0 {
            return (None, Some(sheaf));
        }
        (Some(sheaf), None)
    }

    /// A full sheaf of the near shard's barn; of another's, when CPUs of others have put a sheaf of objects back into its slabs.
    fn pop_barn(&self, near: usize, class: usize) -> Option<Sheaf> {
        let (shard, objects) = (self.shard(near), SHAPES[class].sheaf);
        let full = shard.pop_barn(class, objects);
        if full.is_none() && shard.settle(class, objects) {
            return self.pop_far_barn(near, class);
        }
        full
    }

    /// A full sheaf of another shard's barn.
    fn pop_far_barn(&self, near: usize, class: usize) -> Option<Sheaf> {
        self.others(near)
            .find_map(|other| other.pop_barn(class, SHAPES[class].sheaf))
    }

    /// Takes objects from slabs, to the end of `out`, lowest address last. 0 when there is no memory.
    pub(crate) fn take(&self, class: usize, out: &mut [usize]) -> usize {
        let near = self.near();
        match self.take_near(near, class, out) {
            0 => self.take_far(near, class, out),
            taken => taken,
        }
    }

    /// As [`Self::take`], from the near shard's slabs. 0 when they have none.
    fn take_near(&self, near: usize, class: usize, out: &mut [usize]) -> usize {
        self.take_from(self.shard(near), class, out)
    }

    /// Takes objects from another shard's slabs; from a new slab of the near one when they have none. 0 when there is no
    /// memory.
    fn take_far(&self, near: usize, class: usize, out: &mut [usize]) -> usize {
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
    fn has_idle(&self, class: usize) -> bool {
        self.arena.usage().1 >= IDLE_LEAST + SHAPES[class].slices * SLICE
    }

    /// Takes objects from a new slab of the near shard. 0 when there is no memory.
    fn take_new(&self, near: usize, class: usize, out: &mut [usize]) -> usize {
        let Some(slab) = self.new_slab(near, class) else {
            return 0;
        };
        let shard = self.shard(near);
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
        // Before the objects can be taken or the slab freed.
        self.slab_made(shape.slices * SLICE);
        let bytes = (shape.capacity * shape.size) as isize;
        self.scatter_by(self.shard(near), bytes);
        self.note_high();
        Some(slab)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{node, os, shard, start, topology};

    /// Two CPUs that have different shards of one node, which is given too; nothing on a machine without.
    fn two_cpus() -> Option<(&'static Node, usize, usize)> {
        assert!(start::ensure());
        let (machine, all) = (topology::machine(), os::affinity()?);
        let mut ours = (0..machine.cpus).filter(|cpu| all.only(|other| other == *cpu).is_some());
        let first = ours.next()?;
        let second = ours.find(|cpu| {
            machine.home_of(*cpu) == machine.home_of(first)
                && machine.shard_of(*cpu) != machine.shard_of(first)
        })?;
        Some((node::node(machine.home_of(first)), first, second))
    }

    /// What a thread on `cpu` makes of it.
    fn on<T: Send>(cpu: usize, f: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                os::run_on(&os::affinity().unwrap().only(|other| other == cpu).unwrap());
                f()
            });
            thread.join().unwrap()
        })
    }

    /// Slabs of a class in a CPU's shard, and objects free there.
    fn usage(node: &Node, cpu: usize, class: usize) -> (usize, usize) {
        let shard = node.shard(topology::machine().shard_of(cpu));
        let pool = shard.pool(class).lock();
        (pool.slabs, pool.free)
    }

    /// Tells something on machines with two CPUs. Seen to fail when a CPU takes from its own shard only, and when objects go
    /// to the shard of the CPU that frees them.
    #[test]
    fn shards_lend_objects_and_get_them_back() {
        const CLASS: usize = 57;
        let Some((node, first, second)) = two_cpus() else {
            return;
        };
        let take = || {
            let mut one = [0];
            assert_eq!(node.take(CLASS, &mut one), 1);
            one[0]
        };
        let free = |cpu| usage(node, cpu, CLASS).1;
        let a = on(first, take);
        let before = (free(first), free(second));
        let b = on(second, take);
        assert_eq!((free(first), free(second)), (before.0 - 1, before.1));
        on(second, || node.put(CLASS, &mut [b]));
        assert_eq!((free(first), free(second)), before);
        node.put(CLASS, &mut [a]);
    }

    /// Seen to fail with the tag not looked at.
    #[test]
    fn what_is_put_back_must_be_of_the_class() {
        const CLASS: usize = 56;
        assert!(start::ensure());
        let node = node::node(topology::machine().home_of(os::cpu()));
        let mut one = [0];
        assert_eq!(node.take(CLASS, &mut one), 1);
        let slab = |class| span_map::slab_of_object(Tag::new(node.number(), class), one[0]);
        assert!(slab(CLASS).is_some());
        assert!(slab(CLASS + 1).is_none());
        node.put(CLASS, &mut one);
    }

    /// Tells something on machines with two CPUs. Seen to fail when others are not moved to the front, and when all go where
    /// the first one does.
    #[test]
    fn objects_of_several_shards_go_home_from_one_sheaf() {
        const CLASS: usize = 58;
        let Some((node, first, second)) = two_cpus() else {
            return;
        };
        let take = |cpu| {
            let mut three = [0; 3];
            let shard = topology::machine().shard_of(cpu);
            assert_eq!(node.take_new(shard, CLASS, &mut three), 3);
            three
        };
        let usage = || [first, second].map(|cpu| usage(node, cpu, CLASS));
        let before = usage();
        let (a, b) = (take(first), take(second));
        assert_ne!(usage(), before);
        node.put(CLASS, &mut [a[0], b[2], b[0], a[2], a[1], b[1]]);
        assert_eq!(usage(), before);
    }

    /// A CPU asks the barns of others before its own slabs after they have put its objects back, for as many, and not more often.
    /// Tells something on machines with two CPUs. Seen to fail when they are not asked, when they are asked time and again,
    /// and when what a CPU puts back itself counts.
    #[test]
    fn a_shard_asks_for_as_many_objects_as_others_put_back() {
        // A slab has more of them than a sheaf.
        const CLASS: usize = 5;
        let Some((node, first, second)) = two_cpus() else {
            return;
        };
        let _barns = shard::BARNS.lock();
        let full = || {
            let mut sheaf = node.empty(CLASS).unwrap();
            let near = topology::machine().shard_of(os::cpu());
            for _ in 0..SHAPES[CLASS].sheaf {
                let mut one = [0];
                if node.take_near(near, CLASS, &mut one) == 0 {
                    assert_eq!(node.take_new(near, CLASS, &mut one), 1);
                }
                sheaf.push(one[0]);
            }
            sheaf
        };
        let barn = |cpu: usize| {
            let shard = node.shard(topology::machine().shard_of(cpu));
            shard.pool(CLASS).lock().barn.len()
        };
        let refill = || {
            let (sheaf, unused) = node.refill(CLASS, || node.empty(CLASS));
            unused.into_iter().for_each(|sheaf| node.empties.put(sheaf));
            node.flush(CLASS, sheaf.unwrap());
        };
        // The slabs have something free all the time, since these are in use.
        let kept = [on(first, full), on(second, full)];
        let mut a = on(first, full);
        on(second, || {
            assert!(node.put_full(CLASS, full()).is_none());
            assert!(node.put_full(CLASS, full()).is_none());
        });
        on(first, || (0..SHAPES[CLASS].sheaf).for_each(|_| refill()));
        assert_eq!(barn(second), 2, "nobody else put anything back");
        let objects = a.objects_mut(CLASS);
        on(second, || node.put(CLASS, objects));
        on(first, refill);
        assert_eq!(barn(second), 1, "as many as were put back");
        on(first, refill);
        assert_eq!(barn(second), 1, "no more than that");
        kept.into_iter().for_each(|sheaf| node.flush(CLASS, sheaf));
    }
}
