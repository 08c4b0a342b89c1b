//! Draining: emptying the sheaves of all CPUs from afar, so that slabs come free.
//!
//! For each CPU that has any:
//!
//! 1. Point both its row addresses at a table of `forbidden` words (the drain lock keeps other drains out).
//! 2. Fence that CPU: sequences that had read the old address start again and read the new one.
//! 3. The old table is ours: take its sheaves, make its words `unset`.
//! 4. Put the row addresses back.
//! 5. Flush the sheaves.
//!
//! Until step 4 threads on that CPU take and give single objects at the node, as long as it takes if the draining thread
//! loses its own CPU meanwhile: so step 5 is the last, and they try nothing with sheaves (`cpus`). The test `drains_lose_nothing` hands out
//! objects twice when step 2 is left out. The object caches are drained after that (`caches`).

use core::sync::atomic::Ordering;

use crate::caches;
use crate::config::MAX_NODES;
use crate::lock::Lock;
use crate::node::{self, Node, Scatter};
use crate::os;
use crate::pace::Pace;
use crate::sheaf::{self, Sheaf};
use crate::size_class::LAST;
use crate::tables::{self, Table};
use crate::topology;
use crate::window::Tag;

/// Held while CPUs are drained.
static DRAIN: Lock<()> = Lock::new(());

/// Flushes the sheaves of all CPUs, of all fallback tables, and all barns, and drains all object caches; or what of them
/// belongs to one node. Calls the destructors of caches' objects.
pub(crate) fn drain(only: Option<usize>) {
    let drain = DRAIN.lock();
    drain_under_lock(only);
    drop(drain);
    caches::drain(only);
}

/// As [`drain`], under its lock, without the object caches.
fn drain_under_lock(only: Option<usize>) {
    let wanted = |node: usize| only.is_none_or(|only| only == node);
    let machine = topology::machine();
    for cpu in (0..machine.cpus).filter(|cpu| wanted(machine.home_of(*cpu))) {
        drain_cpu(cpu);
    }
    for (table, home) in tables::fallbacks_in_use().filter(|(_, home)| wanted(*home)) {
        flush_all(&take_all(*table.lock(), home), home);
    }
    let nodes = node::all().iter().filter(|node| wanted(node.number()));
    nodes.for_each(Node::drain);
}

/// Flushes one CPU's sheaves. The drain lock is held.
fn drain_cpu(cpu: usize) {
    let table = tables::of_cpu(cpu);
    let home = topology::machine().home_of(cpu);
    if table.words == 0 || !has_sheaves(table, home) {
        return;
    }
    tables::close(cpu);
    let fenced = os::fence_cpu(cpu) || os::fence_all_cpus();
    let taken = fenced.then(|| take_all(table, home));
    tables::open(cpu, table);
    if let Some(tops) = taken {
        flush_all(&tops, home);
    }
}

/// Whether any word names a real sheaf. A hint while the CPU is running.
fn has_sheaves(table: Table, home: usize) -> bool {
    (1..=LAST).any(|class| {
        // Relaxed: a hint.
        let named = |index| sheaf::is_real(table.word(index).load(Ordering::Relaxed));
        words(home, class).into_iter().any(named)
    })
}

/// What the words of a table named, by class.
type Tops = [[usize; 2]; LAST + 1];

/// Takes the sheaves out of a table that is ours alone.
fn take_all(table: Table, home: usize) -> Tops {
    let mut tops = [[sheaf::unset(); 2]; LAST + 1];
    for (class, tops) in tops.iter_mut().enumerate().skip(1) {
        for (index, top) in words(home, class).into_iter().zip(tops) {
            // Relaxed: ours alone.
            *top = table.word(index).swap(sheaf::unset(), Ordering::Relaxed);
        }
    }
    tops
}

/// Flushes the sheaves that were taken out of a table of `home`.
fn flush_all(tops: &Tops, home: usize) {
    for (class, tops) in tops.iter().enumerate() {
        for top in tops.iter().filter(|top| sheaf::is_real(**top)) {
            // SAFETY: the word that named it does not any more.
            node::node(home).flush(class, unsafe { Sheaf::from_top(*top) });
        }
    }
}

/// Where a table names sheaves of `class`.
fn words(home: usize, class: usize) -> [usize; 2] {
    let tag = Tag::new(home, class);
    [tag.word(), tables::second(tag)]
}

/// How many objects of `class` lie in the sheaves of the CPUs of each node, about, added to `counts`.
pub(crate) fn cached(class: usize, counts: &mut [usize; MAX_NODES]) {
    let machine = topology::machine();
    let count = |table: Table, home: usize| {
        if table.words == 0 {
            return 0;
        }
        // Relaxed: a snapshot.
        let top = |index| table.word(index).load(Ordering::Relaxed);
        words(home, class)
            .into_iter()
            .map(top)
            .filter(|top| sheaf::is_real(*top))
            .map(|top| sheaf::len(top, class))
            .sum()
    };
    for cpu in 0..machine.cpus {
        let home = machine.home_of(cpu);
        counts[home] += count(tables::of_cpu(cpu), home);
    }
    for (table, home) in tables::fallbacks_in_use() {
        counts[home] += count(*table.lock(), home);
    }
}

/// How much was done by [`if_worthwhile`].
static PACE: Pace = Pace::new();

/// While the bound on what is kept is far, its drains take at most this part of the time.
const DRAIN_PART: u64 = 64;

/// Drains, unless that was done a short while ago. For frees that find much scattered: what sheaves and barns hold
/// back may be what keeps slabs from coming free.
pub(crate) fn if_worthwhile(scatter: Scatter) {
    let wanted = match scatter {
        Scatter::Little => false,
        Scatter::Some => PACE.is_due(),
        Scatter::Much => true,
    };
    // Whoever holds the lock is draining.
    if wanted && let Some(_drain) = DRAIN.try_lock() {
        PACE.spend(DRAIN_PART, || drain_under_lock(None));
    }
}

/// The lock of draining, for a fork.
pub(crate) fn lock() -> &'static Lock<()> {
    &DRAIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpus;
    use crate::start;

    /// Seen to fail when a sheaf is filled for each object meanwhile, and flushed since there is no place for it.
    #[test]
    fn a_cpu_that_is_drained_takes_single_objects() {
        const CLASS: usize = 59;
        assert!(start::ensure());
        let _drain = DRAIN.lock();
        let (cpu, all) = (os::cpu(), os::affinity().unwrap());
        os::run_on(&all.only(|other| other == cpu).unwrap());
        let table = tables::of_cpu(cpu);
        tables::close(cpu);
        assert!(os::fence_cpu(cpu) || os::fence_all_cpus());
        let home = node::node(topology::machine().home_of(cpu));
        let granted = || home.class_usage(CLASS).granted;
        let before = granted();
        let objects: Vec<_> = (0..5).map(|_| cpus::alloc(CLASS).unwrap()).collect();
        assert_eq!(granted() - before, 5);
        for object in objects {
            cpus::free(Tag::new(home.number(), CLASS), object);
        }
        tables::open(cpu, table);
        os::run_on(&all);
    }
}
