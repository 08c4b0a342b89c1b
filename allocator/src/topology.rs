//! The machine: which CPUs there may be, which NUMA nodes have memory for us, and which of those is nearest to what.
//!
//! Read once, raw from sysfs. The directory can be another (`EBB_SYSFS`), so that tests run a made-up machine. What
//! cannot be read is one node.
//!
//! A *node* is one that has memory which this process may use; nodes are numbered from 0 on without gaps, whatever
//! numbers the kernel gives them (those are *ids*). Every CPU has a *home*, the node nearest to it: its own, or where
//! that has no memory, or none for us, another. A node's *order* is all nodes, nearest first: where to look when it
//! has nothing left (`distances`).
//!
//! All of that is fixed at the first allocation, but the policy, which a program may change: nodes that were told apart
//! stay apart in all tables, and only where fresh address space is placed depends on it.

use core::ffi::CStr;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::config::{MAX_CPUS, MAX_NODES, PAGE, SHARDS};
use crate::distances::Distances;
use crate::os::{self, CpuSet, NodeRules, NodeSet};
use crate::sysfs::Sysfs;

/// The policies as they are stored.
const LOCAL: u32 = NumaPolicy::Local as u32;
const INTERLEAVE: u32 = NumaPolicy::Interleave as u32;

/// The machine, once it was looked at.
static MACHINE: AtomicPtr<Topology> = AtomicPtr::new(ptr::null_mut());

/// The machine we run on: one CPU and one node until [`set`].
pub(crate) fn machine() -> &'static Topology {
    static SINGLE: Topology = Topology::single();
    // Acquire: pairs with the Release in `set`.
    let machine = MACHINE.load(Ordering::Acquire);
    // SAFETY: null, or what `set` was given for ever.
    unsafe { machine.as_ref() }.unwrap_or(&SINGLE)
}

/// Makes `topology` the machine we run on. False when there is no memory for it.
pub(crate) fn set(topology: Topology) -> bool {
    let Some(room) = os::map(size_of::<Topology>().next_multiple_of(PAGE)) else {
        return false;
    };
    let room = room.cast::<Topology>().as_ptr();
    // SAFETY: fresh memory, large enough, aligned to the page.
    unsafe { room.write(topology) };
    // Release: pairs with the Acquire in `machine`.
    MACHINE.store(room, Ordering::Release);
    true
}

/// What the process does about nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NumaPolicy {
    /// Memory of the node on which it is allocated, by default; of the nearest other when that has none left.
    Local,
    /// Every page from another node, by turns. Nodes are not told apart.
    Interleave,
    /// Whatever the system does, which is memory of the node that touches it first. Nodes are not told apart.
    Off,
}

/// What is known of the machine.
#[derive(Debug)]
pub(crate) struct Topology {
    /// CPU ids are below this.
    pub(crate) cpus: usize,
    /// How many nodes there are, at least 1.
    pub(crate) nodes: usize,
    /// Whether they were told apart, which they are from the first allocation on or never.
    apart: bool,
    /// The policy now. Relaxed everywhere: who sees it late places by the old one.
    policy: AtomicU32,
    /// Whether the kernel knows these nodes: they are not made up.
    pub(crate) real: bool,
    /// All ids with memory for us.
    usable: NodeSet,
    /// We are bound to them, and must bind what we map.
    bound: bool,
    /// The CPUs that whoever started the process gave it, where there are several nodes.
    affinity: Option<CpuSet>,
    /// The id of each node.
    ids: [u16; MAX_NODES],
    /// The home of each CPU.
    homes: [u8; MAX_CPUS],
    /// The shard of each CPU.
    shards: [u8; MAX_CPUS],
    /// How many shards of each node have CPUs, at least 1.
    shard_counts: [u8; MAX_NODES],
    /// The order of each node, itself first.
    orders: [[u8; MAX_NODES]; MAX_NODES],
}

impl Topology {
    /// One CPU, one node.
    pub(crate) const fn single() -> Self {
        Self {
            cpus: 1,
            nodes: 1,
            apart: true,
            policy: AtomicU32::new(NumaPolicy::Local as u32),
            real: false,
            usable: NodeSet::NONE,
            bound: false,
            affinity: None,
            ids: [0; MAX_NODES],
            homes: [0; MAX_CPUS],
            shards: [0; MAX_CPUS],
            shard_counts: [1; MAX_NODES],
            orders: [[0; MAX_NODES]; MAX_NODES],
        }
    }

    /// The machine that `sysfs` describes, or the kernel, as far as `rules` allow. The policy is the rules' own if not
    /// given.
    pub(crate) fn read(
        sysfs: Option<&CStr>,
        rules: &NodeRules,
        policy: Option<NumaPolicy>,
    ) -> Self {
        let mut machine = Self::single();
        machine.real = sysfs.is_none();
        machine.bound = rules.bound;
        let sysfs = Sysfs::new(sysfs);
        sysfs.list(format_args!("cpu/possible"), &mut |cpu| {
            machine.cpus = machine.cpus.max(cpu + 1).min(MAX_CPUS);
        });
        sysfs.list(format_args!("node/has_memory"), &mut |id| {
            machine.usable.add(id);
        });
        machine.usable = machine.usable.and(&rules.allowed);
        let policy = policy.unwrap_or(match rules.interleaved {
            // As the system does it, pages are interleaved: that is what it was told.
            true => NumaPolicy::Off,
            false => NumaPolicy::Local,
        });
        machine.policy = AtomicU32::new(policy as u32);
        machine.apart = policy == NumaPolicy::Local;
        if machine.apart {
            machine.read_nodes(sysfs, &rules.preferred);
        }
        machine.deal_shards();
        machine
    }

    /// Reads which nodes there are, their distances and their CPUs.
    fn read_nodes(&mut self, sysfs: Sysfs<'_>, preferred: &NodeSet) {
        self.nodes = 0;
        for (id, slot) in self.usable.ids().zip(&mut self.ids) {
            *slot = id as u16;
            self.nodes += 1;
        }
        if self.nodes < 2 {
            self.nodes = 1;
            return;
        }
        // Now: later the program may have pinned the thread that asks.
        self.affinity = os::affinity();
        let mut online = NodeSet::NONE;
        sysfs.list(format_args!("node/online"), &mut |id| online.add(id));
        for node in 0..self.nodes {
            let distances = Distances::read(sysfs, self.id(node), &online);
            self.orders[node] = distances.order(node, &self.ids[..self.nodes]);
        }
        let wanted = preferred.and(&self.usable);
        for id in online.ids() {
            let distances = Distances::read(sysfs, id, &online);
            let home = distances.nearest(id, &self.ids[..self.nodes], &wanted) as u8;
            sysfs.list(format_args!("node/node{id}/cpulist"), &mut |cpu| {
                if let Some(slot) = self.homes.get_mut(cpu) {
                    *slot = home;
                }
            });
        }
    }

    /// What is done about nodes now.
    pub(crate) fn policy(&self) -> NumaPolicy {
        match self.policy.load(Ordering::Relaxed) {
            LOCAL => NumaPolicy::Local,
            INTERLEAVE => NumaPolicy::Interleave,
            _ => NumaPolicy::Off,
        }
    }

    /// Has fresh address space placed by another policy from now on. False, and all is as it was, when that is
    /// [`NumaPolicy::Local`] and nodes were never told apart.
    pub(crate) fn set_policy(&self, policy: NumaPolicy) -> bool {
        let possible = self.apart || policy != NumaPolicy::Local;
        if possible {
            self.policy.store(policy as u32, Ordering::Relaxed);
        }
        possible
    }

    /// The home of a CPU.
    pub(crate) fn home_of(&self, cpu: usize) -> usize {
        self.homes.get(cpu).map_or(0, |node| usize::from(*node))
    }

    /// Which of its home's shards a CPU works with.
    pub(crate) fn shard_of(&self, cpu: usize) -> usize {
        self.shards.get(cpu).map_or(0, |shard| usize::from(*shard))
    }

    /// How many shards of a node have CPUs; at least 1.
    pub(crate) fn shards(&self, node: usize) -> usize {
        usize::from(self.shard_counts[node])
    }

    /// Spreads the CPUs of each node over its shards.
    fn deal_shards(&mut self) {
        let mut dealt = [0; MAX_NODES];
        for cpu in 0..self.cpus {
            let home = self.home_of(cpu);
            self.shards[cpu] = (dealt[home] % SHARDS) as u8;
            dealt[home] += 1;
            self.shard_counts[home] = dealt[home].min(SHARDS) as u8;
        }
    }

    /// The process's CPUs that have `node` as their home, or all of them when none has. Nothing where that does not
    /// matter, or is not known.
    pub(crate) fn cpus_of(&self, node: usize) -> Option<CpuSet> {
        let all = self.affinity?;
        Some(all.only(|cpu| self.home_of(cpu) == node).unwrap_or(all))
    }

    /// All nodes, nearest to `node` first: itself, then the others.
    pub(crate) fn order_of(&self, node: usize) -> impl Iterator<Item = usize> {
        self.orders[node][..self.nodes]
            .iter()
            .map(|node| usize::from(*node))
    }

    /// The kernel's number of a node.
    pub(crate) fn id(&self, node: usize) -> usize {
        usize::from(self.ids[node])
    }

    /// The node with an id, if nodes are told apart and it has memory for us.
    pub(crate) fn node_with(&self, id: usize) -> Option<usize> {
        let known = self.policy() == NumaPolicy::Local;
        (0..self.nodes).find(|node| known && self.id(*node) == id)
    }

    /// Where a walk over shrinkers, which know nodes by their ids, is to begin for `node`, and how many nodes are to
    /// follow: all ids, or this alone.
    pub(crate) fn turns(&self, node: usize, all: bool) -> (u32, u32) {
        let last = (0..self.nodes).map(|node| self.id(node)).max().unwrap_or(0);
        let turns = if all { last + 1 } else { 1 };
        (self.id(node) as u32, turns as u32)
    }

    /// A node's part of what the process may have.
    pub(crate) fn share(&self, bytes: usize) -> usize {
        bytes / self.nodes
    }

    /// Has fresh address space backed by memory of `node`, where there is a choice.
    pub(crate) fn place(&self, start: NonNull<u8>, len: usize, node: usize) {
        match self.policy() {
            NumaPolicy::Local if self.nodes > 1 && self.bound => {
                os::prefer_within(start, len, self.id(node), &self.usable);
            }
            NumaPolicy::Local if self.nodes > 1 => os::prefer(start, len, self.id(node)),
            NumaPolicy::Interleave => self.spread(start, len),
            _ => {}
        }
    }

    /// The same for address space that was placed by another policy: for its pages that are not backed now.
    pub(crate) fn place_again(&self, start: NonNull<u8>, len: usize, node: usize) {
        if self.policy() == NumaPolicy::Off {
            os::place_anywhere(start, len);
        }
        self.place(start, len, node);
    }

    /// Has fresh address space backed by memory of all nodes, page by page.
    pub(crate) fn spread(&self, start: NonNull<u8>, len: usize) {
        if !self.usable.is_empty() {
            os::interleave(start, len, &self.usable);
        }
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
