//! Reclaim: who is asked for what, and on which CPUs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ebb_tests::fork::forked;
use ebb_tests::numa::{Block, Nodes, affinity, on_cpu, pin};
use ebbmalloc::{Count, Lane, Scan, Shrink, ShrinkControl, Shrinker};

use crate::common::{MIB, figures, leave_each, run_second, take};

/// What a callback may take that runs on an emulated processor, beside other guests.
const PATIENCE: Duration = Duration::from_secs(100);

/// A cache with a list of blocks per node, which notes for which node it is asked, and by whom.
struct Cache {
    blocks: Vec<Mutex<Vec<Block>>>,
    asked: Mutex<Vec<(u32, Caller)>>,
}

/// A thread: its number, and the CPUs it may run on.
type Caller = (i32, Vec<usize>);

impl Cache {
    fn new(nodes: &Nodes, count: usize) -> Self {
        let ids = 1 + nodes.with_memory[nodes.with_memory.len() - 1];
        let cache = Self {
            blocks: (0..ids).map(|_| Mutex::default()).collect(),
            asked: Mutex::new(Vec::with_capacity(10_000)),
        };
        nodes
            .with_memory
            .iter()
            .for_each(|node| cache.fill(*node, count));
        cache
    }

    /// Has it hold so many blocks of a node.
    fn fill(&self, node: u32, count: usize) {
        let mut blocks = self.blocks[node as usize].lock().unwrap();
        blocks.resize_with(count, || Block::on_node(10_000, node).unwrap());
    }

    /// Holds its locks: whoever forks holds those that a reclaim thread takes, or may find them taken for ever in the
    /// child. Nothing is allocated while they are held.
    fn hold(&self) -> impl Sized {
        let mut blocks: Vec<MutexGuard<_>> = Vec::with_capacity(self.blocks.len());
        let asked = self.asked.lock().unwrap();
        blocks.extend(self.blocks.iter().map(|blocks| blocks.lock().unwrap()));
        (asked, blocks)
    }

    /// The nodes it was asked for since it was last looked.
    fn nodes_asked(&self) -> HashSet<u32> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.into_iter().map(|(node, _)| node).collect()
    }
}

impl Shrink for &'static Cache {
    fn count(&self, ctl: &ShrinkControl) -> Count {
        // SAFETY: no pointers.
        let caller = (unsafe { libc::gettid() }, affinity());
        self.asked.lock().unwrap().push((ctl.node(), caller));
        let blocks = self.blocks.get(ctl.node() as usize);
        Count::of(blocks.map_or(0, |blocks| blocks.lock().unwrap().len()))
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        let mut blocks = self.blocks[ctl.node() as usize].lock().unwrap();
        let keep = blocks.len().saturating_sub(ctl.to_scan());
        let objects = blocks.drain(keep..).count();
        Scan::Freed {
            objects,
            bytes: objects * 10_000,
        }
    }
}

/// Shrinkers see the node that is short, and a strict request touches no other.
pub(crate) fn shrinkers(nodes: &Nodes) {
    let cache: &'static Cache = Box::leak(Box::new(Cache::new(nodes, 600)));
    let spec = Shrinker::new("per node")
        .node_aware(true)
        .deadline(PATIENCE);
    let registration = ebbmalloc::register(spec, cache).unwrap();
    let target = nodes.with_memory[nodes.with_memory.len() - 1];
    let other = nodes.home(0);
    let held = |node: u32| cache.blocks[node as usize].lock().unwrap().len();
    leave_each(nodes, MIB);
    let kept = || (figures(other).cached, figures(other).free_spans);
    on_cpu(0, || drop((take(100, 500), take(1, 500_000))));
    let before = kept();
    assert!(before.0 > 0 && before.1 > 0);
    assert!(
        Block::on_node(4 * MIB, target).is_some(),
        "the cache makes room"
    );
    assert_eq!(kept(), before, "sheaves and spans of another node");
    assert_eq!(cache.nodes_asked(), HashSet::from([target]));
    for node in nodes.with_memory.iter().filter(|node| **node != target) {
        assert_eq!(held(*node), 600, "node {node}");
    }
    assert!(held(target) < 600);
    // An ordinary request, when the process has nothing left: the node of the CPU first.
    for node in &nodes.with_memory {
        ebbmalloc::set_node_budget(*node, None);
    }
    let cpu = nodes.cpus().last().unwrap();
    pin(cpu);
    ebbmalloc::purge();
    ebbmalloc::set_reserve(64 << 10);
    ebbmalloc::set_budget(Some(ebbmalloc::backed() + 4 * MIB - (256 << 10)));
    assert!(Block::new(4 * MIB).is_some());
    let first = cache.asked.lock().unwrap().first().map(|asked| asked.0);
    assert_eq!(first, Some(nodes.home(cpu)));
    drop(registration);
}

/// Has everything, gives nothing, and counts the calls.
struct Miser(AtomicU64);

impl Shrink for &'static Miser {
    fn count(&self, _: &ShrinkControl) -> Count {
        // Relaxed: read when all is over.
        self.0.fetch_add(1, Ordering::Relaxed);
        Count::of(1000)
    }

    fn scan(&self, _: &mut ShrinkControl) -> Scan {
        Scan::Freed {
            objects: 0,
            bytes: 0,
        }
    }
}

/// In each walk those that know nodes are asked for each of them, or the one that is insisted on; others once.
pub(crate) fn walks(nodes: &Nodes) {
    let misers: [&'static Miser; 2] = [(); 2].map(|()| &*Box::leak(Box::new(Miser(0.into()))));
    let _registrations = [false, true].map(|aware| {
        let spec = Shrinker::new("miser").node_aware(aware).deadline(PATIENCE);
        ebbmalloc::register(spec, misers[usize::from(aware)]).unwrap()
    });
    let asked = || misers.map(|miser| miser.0.swap(0, Ordering::Relaxed));
    let walks = || ebbmalloc::stats().reclaim.walks;
    let ids = 1 + u64::from(nodes.with_memory[nodes.with_memory.len() - 1]);
    leave_each(nodes, 4 * MIB);
    let fill = |node: &u32| Block::on_node(3 * MIB, *node).unwrap();
    let _held: Vec<_> = nodes.with_memory.iter().map(fill).collect();
    for node in &nodes.with_memory {
        let before = walks();
        assert!(Block::on_node(3 * MIB, *node).is_none());
        let walked = walks() - before;
        assert!(walked >= 13, "{walked}");
        assert_eq!(asked(), [walked, walked], "for node {node}");
        assert!(Block::on_node(5 * MIB, *node).is_none());
        assert_eq!(asked(), [0, 0], "what the budget never allows");
    }
    let before = walks();
    assert!(Block::new(3 * MIB).is_none());
    let walked = walks() - before;
    assert!(walked >= 13, "{walked}");
    assert_eq!(asked(), [walked, walked * ids], "for whoever has it");
}

/// Which threads ask the cache when each node is short in turn.
fn threads(nodes: &Nodes, cache: &Cache) -> BTreeMap<u32, Caller> {
    cache.asked.lock().unwrap().clear();
    for node in &nodes.with_memory {
        ebbmalloc::set_node_budget(*node, None);
        cache.fill(*node, 1000);
        leave_each(nodes, MIB);
        // On a slow machine a request may have waited long enough before its thread had its turn.
        let block = (0..50).find_map(|_| Block::on_node(4 * MIB, *node));
        assert!(block.is_some(), "node {node}");
    }
    let asked: BTreeSet<_> = cache.asked.lock().unwrap().iter().cloned().collect();
    let count = asked.len();
    let threads: BTreeMap<_, _> = asked.into_iter().collect();
    assert_eq!(threads.len(), count, "each node has one thread");
    assert!(threads.keys().eq(&nodes.with_memory), "{threads:?}");
    threads
}

/// The CPUs that a node's reclaim thread may run on, of those that the process had when it began.
fn expected(nodes: &Nodes, node: u32, all: &[usize]) -> Vec<usize> {
    let at_home = all.iter().filter(|cpu| nodes.home(**cpu) == node);
    let own: Vec<_> = at_home.copied().collect();
    if own.is_empty() { all.to_vec() } else { own }
}

fn check_threads(nodes: &Nodes, cache: &Cache, all: &[usize]) -> BTreeSet<i32> {
    let threads = threads(nodes, cache);
    for (node, (_, cpus)) in &threads {
        assert_eq!(
            *cpus,
            expected(nodes, *node, all),
            "the thread of node {node}"
        );
    }
    let ids: BTreeSet<i32> = threads.values().map(|caller| caller.0).collect();
    assert_eq!(
        ids.len(),
        threads.len(),
        "each node has its own: {threads:?}"
    );
    ids
}

/// A cache for the reclaim threads, all of whose CPUs are checked, twice.
fn on_their_cpus(nodes: &Nodes, all: &[usize]) -> (&'static Cache, BTreeSet<i32>) {
    let cache: &'static Cache = Box::leak(Box::new(Cache::new(nodes, 1000)));
    let spec = Shrinker::new("async").node_aware(true).lane(Lane::Async);
    std::mem::forget(ebbmalloc::register(spec, cache).unwrap());
    let ids = check_threads(nodes, cache, all);
    assert_eq!(check_threads(nodes, cache, all), ids, "the same as before");
    (cache, ids)
}

/// Each node has its own reclaim thread, on its own CPUs, wherever the request comes from; in a forked child too.
pub(crate) fn reclaim_threads(nodes: &Nodes) {
    let all = affinity();
    // What a thread has pinned itself to says nothing about those that it starts here, but all about a process.
    pin(0);
    run_second("one CPU", &[]);
    let (cache, ids) = on_their_cpus(nodes, &all);
    let held = cache.hold();
    let answer = forked(|| {
        drop(held);
        let new = check_threads(nodes, cache, &all);
        u8::from(new.is_disjoint(&ids))
    });
    assert_eq!(answer, Some(1), "in a child they are started again");
}

/// A process that whoever started it has confined to one CPU.
pub(crate) fn on_one_cpu(nodes: &Nodes) {
    let all = affinity();
    assert_eq!(all.len(), 1);
    on_their_cpus(nodes, &all);
}
