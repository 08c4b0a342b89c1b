//! What a snapshot of the allocator holds: plain figures, by value.
//!
//! `snapshot` takes one; `forms` writes it as text and as JSON.

use crate::config::{MAX_NODES, ROW};

///
/// The parts are read one after the other while other threads go on, so they need not add up exactly.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Backed by the system: what the budget limits.
    pub backed: u64,
    /// The budget; 0 when there is none.
    pub budget: u64,
    /// The part of the budget that ordinary allocations may not use.
    pub reserve: u64,
    /// The soft limit; 0 when there is none.
    pub soft_limit: u64,
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
    /// Allocations that were not allowed to fail ([`Mode::NoFail`](crate::Mode::NoFail)) and were served when all else had failed.
    pub forced: u64,
    /// Bytes that were charged beyond the budget for them; budgets of nodes do not count here.
    pub bytes_forced: u64,
    /// Times a reclaim thread began because more was backed than the soft limit.
    pub soft_reclaims: u64,
    /// Bytes that it gave back then, but for those that exceeded the budget.
    pub bytes_soft: u64,
}

impl Stats {
    /// The nodes there are: those with memory that this process may use.
    #[must_use]
    pub fn known_nodes(&self) -> &[NodeStats] {
        &self.nodes[..(self.node_count as usize).min(MAX_NODES)]
    }

    /// The classes in use.
    pub(crate) fn used_classes(&self) -> impl Iterator<Item = &ClassStats> {
        self.classes.iter().filter(|class| class.slabs > 0)
    }
}
