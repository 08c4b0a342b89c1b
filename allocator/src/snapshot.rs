//! Taking a snapshot of the allocator. Allocates nothing.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::caches;
use crate::config::{MAX_NODES, ROW};
use crate::drain;
use crate::limits;
use crate::mapping;
use crate::node::{self, Node};
use crate::object_cache::ObjectCache;
use crate::size_class::{LAST, SHAPES};
use crate::stats::{ClassStats, NodeStats, ReclaimStats, Stats};
use crate::tally::COUNTERS;
use crate::topology;

/// A snapshot of now. Takes the size classes' locks one after the other, each for a moment.
#[must_use]
pub fn stats() -> Stats {
    let mut stats = Stats {
        backed: limits::backed() as u64,
        budget: limits::get().unwrap_or(0) as u64,
        reserve: limits::reserve() as u64,
        soft_limit: limits::soft().unwrap_or(0) as u64,
        in_use: 0,
        cached: 0,
        free_spans: 0,
        mapped: mapping::bytes() as u64,
        metadata: 0,
        node_count: node::all().len() as u64,
        nodes: [NodeStats::default(); MAX_NODES],
        classes: [ClassStats::default(); ROW],
        reclaim: ReclaimStats::now(),
    };
    let (mut committed, mut unused) = (0, 0);
    for (class, slot) in stats.classes.iter_mut().enumerate().take(LAST + 1).skip(1) {
        *slot = class_stats(class, &mut stats.nodes);
        stats.cached += slot.cached * slot.size;
        unused += slot.free * slot.size;
    }
    for cache in caches::with_slabs() {
        let (cached, free) = add_cache(cache, &mut stats.nodes);
        stats.cached += cached;
        unused += free;
    }
    for (node, slot) in node::all().iter().zip(&mut stats.nodes) {
        committed += slot.finish(node);
        stats.free_spans += node.arena.usage().1 as u64;
    }
    let taken = committed.saturating_sub(stats.free_spans + stats.cached + unused);
    stats.in_use = taken + stats.mapped;
    let spare = mapping::spare_bytes() as u64;
    stats.free_spans += spare;
    stats.metadata = stats
        .backed
        .saturating_sub(committed + stats.mapped + spare);
    stats
}

/// Figures of one class; adds to those of each node.
fn class_stats(class: usize, nodes: &mut [NodeStats; MAX_NODES]) -> ClassStats {
    let size = SHAPES[class].size as u64;
    let mut cached = [0; MAX_NODES];
    drain::cached(class, &mut cached);
    let mut stats = ClassStats {
        size,
        ..ClassStats::default()
    };
    let each = node::all().iter().zip(nodes).zip(cached);
    for ((node, slot), in_sheaves) in each {
        let usage = node.class_usage(class);
        let cached = (in_sheaves + usage.barn) as u64;
        let objects = (usage.slabs * SHAPES[class].capacity) as u64;
        let in_use = objects.saturating_sub(usage.free as u64 + cached);
        stats.slabs += usage.slabs as u64;
        stats.in_use += in_use;
        stats.free += usage.free as u64;
        stats.cached += cached;
        slot.cached += cached * size;
        slot.free += usage.free as u64 * size;
        slot.hit += usage.granted;
    }
    stats
}

/// Adds what an object cache has to the figures of each node. Bytes of objects in sheaves, and free in slabs.
fn add_cache(cache: &ObjectCache, nodes: &mut [NodeStats; MAX_NODES]) -> (u64, u64) {
    let size = cache.shape().size;
    let mut all = (0, 0);
    for (node, slot) in nodes.iter_mut().enumerate().take(cache.homes.len()) {
        let here = cache.on_node(node);
        let (cached, free) = ((here.cached * size) as u64, (here.free * size) as u64);
        slot.cached += cached;
        slot.free += free;
        all = (all.0 + cached, all.1 + free);
    }
    all
}

impl NodeStats {
    /// Completes figures to which all classes were added. Bytes committed in the node's arena.
    fn finish(&mut self, node: &Node) -> u64 {
        // Relaxed: figures.
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (committed, idle) = node.arena.usage();
        let counters = &node.counters;
        self.node = topology::machine().id(node.number()) as u64;
        self.backed = node.arena.account.backed() as u64;
        self.budget = node.arena.account.get().unwrap_or(0) as u64;
        self.free_spans = (idle + mapping::spare_bytes_of(node.number())) as u64;
        let unused = self.free_spans + self.cached + self.free;
        self.in_use = self.backed.saturating_sub(unused);
        let granted = self.hit + get(&counters.blocks);
        self.miss = get(&counters.miss);
        self.foreign = get(&counters.foreign);
        self.interleave = get(&counters.interleave);
        self.other = get(&counters.other);
        self.hit = granted.saturating_sub(self.miss);
        self.local = granted.saturating_sub(self.other);
        committed as u64
    }
}

impl ReclaimStats {
    fn now() -> Self {
        // Relaxed: figures.
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            failures: get(&COUNTERS.failures),
            reclaims: get(&COUNTERS.reclaims),
            satisfied: get(&COUNTERS.satisfied),
            failed: get(&COUNTERS.failed),
            walks: get(&COUNTERS.walks),
            bytes_credited: get(&COUNTERS.credited),
            time_ns_total: get(&COUNTERS.ns_total),
            time_ns_max: get(&COUNTERS.ns_max),
            drains: get(&COUNTERS.drains),
            purges: get(&COUNTERS.purges),
            followed: get(&COUNTERS.followed),
            bytes_excess: get(&COUNTERS.excess),
            waits: get(&COUNTERS.waits),
            last_chances: get(&COUNTERS.chances),
            moved: get(&COUNTERS.moved),
            forced: get(&COUNTERS.forced),
            bytes_forced: get(&COUNTERS.forced_bytes),
            soft_reclaims: get(&COUNTERS.soft_reclaims),
            bytes_soft: get(&COUNTERS.bytes_soft),
        }
    }
}
