//! A shard of a node: the slabs and barns that one of its CPUs works with, or a few on a large machine.
//!
//! Objects that went from one CPU to another bring their cache lines along, and so do the descriptors and locks of their
//! slabs: 100 to 500 ns for each. So a slab belongs to the shard whose CPU made it for as long as it lives, and its objects
//! go back there whoever frees them. A CPU takes from its own shard first; what lies free in another is taken before there
//! is more memory for a new slab, so that none is lost by the division (`refill`).

use core::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use crate::config::{DRIFT, ROW, SHARDS};
use crate::list::List;
use crate::lock::Lock;
use crate::pool::Pool;
use crate::sheaf::Sheaf;
use crate::size_class::{LAST, SHAPES};
use crate::slab::{Misuse, Slab};
use crate::span_map;
use crate::window::Tag;

/// Classes that are asked at once for room in the barns.
const TRIES: usize = 2;

/// One shard, alone on its cache lines.
#[repr(align(128))]
pub(crate) struct Shard {
    classes: [Class; ROW],
    /// Bytes in barns.
    barns: AtomicUsize,
    /// Which class is asked next for room in the barns, counted on.
    asked: AtomicUsize,
    /// Which class is looked at next, whether it is thin, counted on.
    looked: AtomicUsize,
    /// Bytes of free objects in slabs of which the node was not told yet.
    untold: AtomicIsize,
}

/// One size class of a shard, alone on its cache lines.
#[repr(align(128))]
struct Class(Lock<Pool>);

impl Shard {
    pub(crate) const fn new() -> Self {
        Self {
            classes: [const { Class(Lock::new(Pool::new())) }; ROW],
            barns: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            looked: AtomicUsize::new(0),
            untold: AtomicIsize::new(0),
        }
    }

    /// The slabs and the barn of a class.
    pub(crate) fn pool(&self, class: usize) -> &Lock<Pool> {
        &self.classes[class].0
    }

    /// A full sheaf of the barn, of which `granted` objects are for a CPU.
    pub(crate) fn pop_barn(&self, class: usize, granted: usize) -> Option<Sheaf> {
        let mut pool = self.pool(class).lock();
        let full = pool.barn.pop()?;
        pool.granted += granted as u64;
        pool.barn_used = granted > 0;
        drop(pool);
        self.barns.fetch_sub(sheaf_bytes(class), Ordering::Relaxed);
        Some(full)
    }

    /// Whether the CPUs of other shards have put back so many objects of ours that they may be asked for as many.
    pub(crate) fn settle(&self, class: usize, objects: usize) -> bool {
        self.pool(class).lock().settle(objects)
    }

    /// Takes a full sheaf into the barn while the barns have less than `limit` bytes; else it comes back.
    pub(crate) fn push_barn(&self, class: usize, full: Sheaf, limit: usize) -> Result<(), Sheaf> {
        if self.barns() >= limit {
            return Err(full);
        }
        let mut pool = self.pool(class).lock();
        if pool.barn.len() >= SHAPES[class].barn {
            return Err(full);
        }
        self.barns.fetch_add(sheaf_bytes(class), Ordering::Relaxed);
        pool.barn.push(full);
        Ok(())
    }

    /// Bytes in barns. Relaxed: a limit need not be exact.
    pub(crate) fn barns(&self) -> usize {
        self.barns.load(Ordering::Relaxed)
    }

    /// Makes room in the barns at the cost of a class whose barn is used no more: as long as it is full, no other class
    /// has one. The classes are asked in turn, and whose barn gave a sheaf since it was asked last keeps it. The sheaf, and
    /// its class.
    pub(crate) fn pop_unused(&self) -> Option<(usize, Sheaf)> {
        for _ in 0..TRIES {
            // Relaxed: any class will do.
            let class = self.asked.fetch_add(1, Ordering::Relaxed) % LAST + 1;
            let pool = self.pool(class).try_lock();
            if let Some(full) = pool.and_then(|mut pool| pool.pop_unused()) {
                self.barns.fetch_sub(sheaf_bytes(class), Ordering::Relaxed);
                return Some((class, full));
            }
        }
        None
    }

    /// The class that is looked at next, another each time, if it is thin.
    pub(crate) fn next_thin(&self) -> Option<usize> {
        // Relaxed: any class will do.
        let class = self.looked.fetch_add(1, Ordering::Relaxed) % LAST + 1;
        let pool = self.pool(class).try_lock()?;
        pool.is_thin(class).then_some(class)
    }

    /// Puts those objects back into their slabs that belong to this shard, whose number is given, and moves the others to
    /// the front: how many. `far` says that a CPU of another shard puts them back. Slabs that are wholly free then are moved to
    /// `empty`.
    ///
    /// # Errors
    /// The object that cannot be taken back, and what is wrong with it.
    pub(crate) fn put(
        &self,
        number: usize,
        tag: Tag,
        objects: &mut [usize],
        far: bool,
        empty: &mut List<Slab>,
    ) -> Result<usize, (usize, Misuse)> {
        let mut pool = self.pool(tag.kind()).lock();
        let (mut next, mut others) = (0, 0);
        while next < objects.len() {
            let object = objects[next];
            if of_object(object) == number {
                next += pool.put(tag, &objects[next..], empty)?;
            } else {
                objects[others] = object;
                (next, others) = (next + 1, others + 1);
            }
        }
        if far {
            pool.owe(objects.len() - others, SHAPES[tag.kind()].sheaf);
        }
        Ok(others)
    }

    /// So many bytes more lie free in slabs. What is to be added to the node's figure: mostly 0, since that is not told of
    /// each change.
    pub(crate) fn scatter(&self, bytes: isize) -> isize {
        // Relaxed, both: figures. What two threads do at once is told by one of them.
        let untold = self.untold.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if untold.unsigned_abs() < DRIFT {
            return 0;
        }
        self.untold.swap(0, Ordering::Relaxed)
    }

    /// Bytes in barns, and those free in slabs of which the node was not told. Relaxed: figures.
    pub(crate) fn kept(&self) -> isize {
        self.barns() as isize + self.untold.load(Ordering::Relaxed)
    }
}

/// The number of the shard that an object's slab belongs to. What is no object may give any: the pool there says what is
/// wrong with it.
pub(crate) fn of_object(object: usize) -> usize {
    span_map::owner(object) % SHARDS
}

fn sheaf_bytes(class: usize) -> usize {
    SHAPES[class].size * SHAPES[class].sheaf
}

/// Held by tests that fill barns: those of one shard have a limit in common.
#[cfg(test)]
pub(crate) static BARNS: Lock<()> = Lock::new(());

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail when every change is told, and when what was not told is not forgotten once it was.
    #[test]
    fn the_node_is_told_of_large_changes_only() {
        let (shard, step) = (Shard::new(), DRIFT as isize / 4);
        let told: Vec<_> = (0..9).map(|_| shard.scatter(step)).collect();
        let all = DRIFT as isize;
        assert_eq!(told, [0, 0, 0, all, 0, 0, 0, all, 0]);
        assert_eq!(shard.kept(), step);
        assert_eq!(shard.scatter(-step), 0);
        assert_eq!((shard.scatter(-2 * all), shard.kept()), (-2 * all, 0));
    }
}
