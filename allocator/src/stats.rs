//! Statistics: a snapshot by value, and its text and JSON forms, without the shrinkers. Nothing here allocates.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::budget;
use crate::caches;
use crate::config::{MAX_NODES, ROW};
use crate::drain;
use crate::mapping;
use crate::node::{self, Node};
use crate::object_cache::ObjectCache;
use crate::size_class::{LAST, SHAPES};
use crate::tally::COUNTERS;
use crate::topology;

/// A snapshot of the allocator, of about 6 KiB. All sizes in bytes.
///
/// The parts are read one after the other while other threads go on, so they need not add up exactly.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Backed by the system: what the budget limits.
    pub backed: u64,
    /// The budget; 0 when there is none.
    pub budget: u64,
    /// The part of the budget kept for allocations inside shrinkers.
    pub reserve: u64,
    /// In blocks that the program holds, as their size classes, slices and pages count them.
    pub in_use: u64,
    /// In free objects kept in sheaves and barns.
    pub cached: u64,
    /// In free spans that are still backed, and in spare mappings.
    pub free_spans: u64,
    /// In blocks with a mapping of their own; part of `in_use`.
    pub mapped: u64,
    /// In the allocator's own tables.
    pub metadata: u64,
    /// How many entries of `nodes` mean something.
    pub node_count: u64,
    /// Per NUMA node.
    pub nodes: [NodeStats; MAX_NODES],
    /// Per size class; those whose size is 0 do not exist.
    pub classes: [ClassStats; ROW],
    /// What reclaim did.
    pub reclaim: ReclaimStats,
}

/// One NUMA node. Sizes in bytes.
///
/// The counters are those of the kernel's `numastat`, in blocks: objects that were taken for a CPU, one by one or in a
/// sheaf (what sheaves then serve again and again is not counted), and larger blocks. The sums of `miss` and `foreign`
/// over all nodes are equal.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NodeStats {
    /// What the kernel calls it.
    pub node: u64,
    /// Backed by the system, for blocks and free spans.
    pub backed: u64,
    /// The node's budget; 0 when there is none.
    pub budget: u64,
    /// In blocks that the program holds.
    pub in_use: u64,
    /// In free objects in slabs.
    pub free: u64,
    /// In free objects kept in sheaves and barns.
    pub cached: u64,
    /// In free spans that are still backed.
    pub free_spans: u64,
    /// Blocks it gave because it was asked.
    pub hit: u64,
    /// Blocks it gave because another had nothing left.
    pub miss: u64,
    /// Blocks it was asked for and another gave.
    pub foreign: u64,
    /// Of its hits, those that it gave because it was its turn.
    pub interleave: u64,
    /// Blocks it gave to threads on its own CPUs.
    pub local: u64,
    /// Blocks it gave to threads on others' CPUs.
    pub other: u64,
}

/// One size class, over all nodes.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ClassStats {
    /// Bytes per object.
    pub size: u64,
    /// Slabs.
    pub slabs: u64,
    /// Objects that the program holds.
    pub in_use: u64,
    /// Free objects in slabs.
    pub free: u64,
    /// Free objects in sheaves and barns.
    pub cached: u64,
}

/// What reclaim did since the process began.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ReclaimStats {
    /// Allocations that met the budget's limit, or the system's.
    pub failures: u64,
    /// Reclaims that they ran.
    pub reclaims: u64,
    /// Reclaims after which the allocation succeeded.
    pub satisfied: u64,
    /// Reclaims after which it failed.
    pub failed: u64,
    /// Walks over the shrinkers.
    pub walks: u64,
    /// Bytes that shrinkers freed for the requests that asked, as far as whole spans came free.
    pub bytes_credited: u64,
    /// Nanoseconds in reclaims.
    pub time_ns_total: u64,
    /// Nanoseconds of the longest.
    pub time_ns_max: u64,
    /// Drains of all sheaves and barns.
    pub drains: u64,
    /// Purges of all free spans.
    pub purges: u64,
    /// Of those satisfied, reclaims that only waited for others.
    pub followed: u64,
    /// Bytes that shrinkers say they freed beyond what a satisfied request had lacked.
    pub bytes_excess: u64,
    /// Times a request waited for the reclaim thread.
    pub waits: u64,
    /// Times the notifiers were called.
    pub last_chances: u64,
    /// Shrinkers moved to the reclaim thread for being late.
    pub moved: u64,
}

/// A snapshot of now. Takes the size classes' locks one after the other, each for a moment.
#[must_use]
pub fn stats() -> Stats {
    let mut stats = Stats {
        backed: budget::backed() as u64,
        budget: budget::get().unwrap_or(0) as u64,
        reserve: budget::reserve() as u64,
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
    for cache in caches::all() {
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

    /// Names and values, for the writers.
    fn fields(&self) -> [(&'static str, u64); 13] {
        [
            ("node", self.node),
            ("backed", self.backed),
            ("budget", self.budget),
            ("in_use", self.in_use),
            ("free", self.free),
            ("cached", self.cached),
            ("free_spans", self.free_spans),
            ("hit", self.hit),
            ("miss", self.miss),
            ("foreign", self.foreign),
            ("interleave", self.interleave),
            ("local", self.local),
            ("other", self.other),
        ]
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
        }
    }

    /// Names and values, for the writers.
    fn fields(&self) -> [(&'static str, u64); 15] {
        [
            ("failures", self.failures),
            ("reclaims", self.reclaims),
            ("satisfied", self.satisfied),
            ("failed", self.failed),
            ("walks", self.walks),
            ("bytes_credited", self.bytes_credited),
            ("time_ns_total", self.time_ns_total),
            ("time_ns_max", self.time_ns_max),
            ("drains", self.drains),
            ("purges", self.purges),
            ("followed", self.followed),
            ("bytes_excess", self.bytes_excess),
            ("waits", self.waits),
            ("last_chances", self.last_chances),
            ("moved", self.moved),
        ]
    }
}

impl Stats {
    /// Names and values of the totals, for the writers.
    fn fields(&self) -> [(&'static str, u64); 8] {
        [
            ("backed", self.backed),
            ("budget", self.budget),
            ("reserve", self.reserve),
            ("in_use", self.in_use),
            ("cached", self.cached),
            ("free_spans", self.free_spans),
            ("mapped", self.mapped),
            ("metadata", self.metadata),
        ]
    }

    /// The nodes there are: those with memory that this process may use.
    #[must_use]
    pub fn known_nodes(&self) -> &[NodeStats] {
        &self.nodes[..(self.node_count as usize).min(MAX_NODES)]
    }

    /// The classes in use.
    pub(crate) fn used_classes(&self) -> impl Iterator<Item = &ClassStats> {
        self.classes.iter().filter(|class| class.slabs > 0)
    }

    /// Writes one JSON object, on one line, without the shrinkers.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn Write) -> fmt::Result {
        out.write_str("{")?;
        self.write_json_members(out)?;
        out.write_str("}")
    }

    pub(crate) fn write_json_members(&self, out: &mut dyn Write) -> fmt::Result {
        write_members(out, &self.fields())?;
        out.write_str(",\"nodes\":[")?;
        for (index, node) in self.known_nodes().iter().enumerate() {
            write!(out, "{}{{", comma(index))?;
            write_members(out, &node.fields())?;
            out.write_str("}")?;
        }
        out.write_str("],\"classes\":[")?;
        for (index, class) in self.used_classes().enumerate() {
            write!(out, "{}{{", comma(index))?;
            let ClassStats {
                size,
                slabs,
                in_use,
                free,
                cached,
            } = *class;
            let members = [
                ("size", size),
                ("slabs", slabs),
                ("in_use", in_use),
                ("free", free),
                ("cached", cached),
            ];
            write_members(out, &members)?;
            out.write_str("}")?;
        }
        out.write_str("],\"reclaim\":{")?;
        write_members(out, &self.reclaim.fields())?;
        out.write_str("}")
    }
}

pub(crate) fn comma(index: usize) -> &'static str {
    if index == 0 { "" } else { "," }
}

pub(crate) fn write_members(out: &mut dyn Write, members: &[(&str, u64)]) -> fmt::Result {
    for (index, (name, value)) in members.iter().enumerate() {
        write!(out, "{}\"{name}\":{value}", comma(index))?;
    }
    Ok(())
}

/// The text form, a few dozen lines.
impl fmt::Display for Stats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "ebbmalloc {}", env!("CARGO_PKG_VERSION"))?;
        for (name, value) in self.fields() {
            writeln!(out, "  {name:<16} {value:>14}")?;
        }
        for node in self.known_nodes() {
            let [(_, id), figures @ ..] = node.fields();
            write!(out, "node {id}:")?;
            for (name, value) in figures {
                write!(out, " {name} {value}")?;
            }
            writeln!(out)?;
        }
        writeln!(out, "reclaim:")?;
        for (name, value) in self.reclaim.fields() {
            writeln!(out, "  {name:<16} {value:>14}")?;
        }
        writeln!(
            out,
            "class size      slabs     in use       free     cached"
        )?;
        for class in self.used_classes() {
            writeln!(
                out,
                "{:>10} {:>10} {:>10} {:>10} {:>10}",
                class.size, class.slabs, class.in_use, class.free, class.cached
            )?;
        }
        Ok(())
    }
}
