//! NUMA: what the process may use, and where memory is to lie. Everything by system calls, so that no library is needed.

use core::ffi::{c_int, c_long, c_ulong, c_void};
use core::ptr::{self, NonNull};

use crate::config::PAGE;

/// The kernel's numbers of nodes are below this.
pub(crate) const NODE_IDS: usize = 1024;

const WORD: usize = 64;

/// A set of nodes by the kernel's numbers, as the system calls have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeSet([u64; NODE_IDS / WORD]);

impl NodeSet {
    pub(crate) const NONE: Self = Self([0; NODE_IDS / WORD]);
    pub(crate) const ALL: Self = Self([u64::MAX; NODE_IDS / WORD]);

    /// Adds a node; those out of range are left out.
    pub(crate) fn add(&mut self, id: usize) {
        if let Some(word) = self.0.get_mut(id / WORD) {
            *word |= 1 << (id % WORD);
        }
    }

    pub(crate) fn has(&self, id: usize) -> bool {
        let word = self.0.get(id / WORD);
        word.is_some_and(|word| word & (1 << (id % WORD)) != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// What is in both.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.0
            .iter_mut()
            .zip(&other.0)
            .for_each(|(word, other)| *word &= other);
        self
    }

    /// The numbers in it, lowest first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = usize> {
        (0..NODE_IDS).filter(|id| self.has(*id))
    }

    fn one(id: usize) -> Self {
        let mut set = Self::NONE;
        set.add(id);
        set
    }
}

/// What whoever started the process (`numactl`, a cpuset) says about nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeRules {
    /// Memory may come from these alone.
    pub(crate) allowed: NodeSet,
    /// That is a policy, which a policy of ours would override: it must be kept up.
    pub(crate) bound: bool,
    /// Memory should come from these first; empty when there is no such wish.
    pub(crate) preferred: NodeSet,
    /// Memory should be spread page by page.
    pub(crate) interleaved: bool,
}

impl NodeRules {
    /// Anything goes.
    pub(crate) const NONE: Self = Self {
        allowed: NodeSet::ALL,
        bound: false,
        preferred: NodeSet::NONE,
        interleaved: false,
    };
}

// The kernel's modes of memory policy.
const DEFAULT: c_int = 0;
const PREFERRED: c_int = 1;
const BIND: c_int = 2;
const INTERLEAVE: c_int = 3;
const PREFERRED_MANY: c_int = 5;
const WEIGHTED_INTERLEAVE: c_int = 6;
/// Mode flags lie above the modes.
const MODES: c_int = 0xFF;

/// Reads the calling thread's memory policy, or the nodes that its cpuset allows.
fn policy(flags: c_ulong) -> Option<(c_int, NodeSet)> {
    let (mut mode, mut set): (c_int, _) = (0, NodeSet::NONE);
    // SAFETY: writes a mode and a set, which is as large as it says.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut mode,
            set.0.as_mut_ptr(),
            NODE_IDS,
            ptr::null::<c_void>(),
            flags,
        )
    };
    (failed == 0).then_some((mode & MODES, set))
}

/// The rules for this process, as the calling thread has them. None where the system cannot say.
pub(crate) fn node_rules() -> NodeRules {
    const MEMS_ALLOWED: c_ulong = 4;
    let mut rules = NodeRules::NONE;
    if let Some((_, allowed)) = policy(MEMS_ALLOWED)
        && !allowed.is_empty()
    {
        rules.allowed = allowed;
    }
    match policy(0) {
        Some((BIND, set)) => {
            rules.allowed = rules.allowed.and(&set);
            rules.bound = true;
        }
        Some((PREFERRED | PREFERRED_MANY, set)) => rules.preferred = set,
        Some((INTERLEAVE | WEIGHTED_INTERLEAVE, _)) => rules.interleaved = true,
        _ => {}
    }
    rules
}

/// Sets the policy of a range of ours. Whether the system did.
fn set_policy(start: NonNull<u8>, len: usize, mode: c_int, set: &NodeSet) -> bool {
    // The kernel reads one bit less than it is told.
    let bits = NODE_IDS + 1;
    // SAFETY: sets a policy for address space of ours; the set is as large as it says.
    unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start.as_ptr(),
            len,
            mode,
            set.0.as_ptr(),
            bits,
            0,
        ) == 0
    }
}

/// Asks for memory of node `id` behind a range. A wish: when it has none the system takes the nearest that has.
pub(crate) fn prefer(start: NonNull<u8>, len: usize, id: usize) {
    // Where the system refuses, memory lies where it is first touched.
    let _ = set_policy(start, len, PREFERRED, &NodeSet::one(id));
}

/// As [`prefer`], but from no other nodes than those of `set`.
pub(crate) fn prefer_within(start: NonNull<u8>, len: usize, id: usize, set: &NodeSet) {
    /// Linux 5.17; before, the node of whoever touches it first is preferred.
    const SET_MEMPOLICY_HOME_NODE: c_long = 450;
    if set_policy(start, len, BIND, set) {
        // SAFETY: changes the policy of address space of ours.
        unsafe { libc::syscall(SET_MEMPOLICY_HOME_NODE, start.as_ptr(), len, id, 0) };
    }
}

/// Asks for the pages of a range by turns from each node of `set`.
pub(crate) fn interleave(start: NonNull<u8>, len: usize, set: &NodeSet) {
    // Where the system refuses, memory lies where it is first touched.
    let _ = set_policy(start, len, INTERLEAVE, set);
}

/// Leaves the pages of a range to the policy of the thread that touches them.
pub(crate) fn place_anywhere(start: NonNull<u8>, len: usize) {
    // Where the system refuses, they were never placed.
    let _ = set_policy(start, len, DEFAULT, &NodeSet::NONE);
}

/// Pages per system call of [`bring`].
const PAGES: usize = 64;

/// Backs a range and moves it to node `id`, if it is not there already. Whether all of it is there then.
///
/// # Safety
/// The range is ours, and nobody needs what its first byte and the first bytes of its pages hold.
#[must_use]
pub(crate) unsafe fn bring(start: NonNull<u8>, len: usize, id: usize) -> bool {
    let first = start.addr().get();
    let end = first + len;
    let mut at = first;
    while at < end {
        let mut pages = [0_usize; PAGES];
        let mut count = 0;
        while count < PAGES && at < end {
            // SAFETY: inside the range, and by the caller's clause not needed.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(at).write_volatile(0) };
            pages[count] = at - at % PAGE;
            count += 1;
            at = (at + 1).next_multiple_of(PAGE);
        }
        if !move_pages(&pages[..count], id) {
            return false;
        }
    }
    true
}

/// Moves pages, at most [`PAGES`], to a node. Whether all are there.
fn move_pages(pages: &[usize], id: usize) -> bool {
    const MOVE: c_int = 2;
    let nodes = [id as c_int; PAGES];
    // A page can be busy for a moment.
    (0..3).any(|_| {
        let mut status = [-1 as c_int; PAGES];
        // SAFETY: reads and writes that many entries; the pages are this process's own.
        let failed = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                0,
                pages.len(),
                pages.as_ptr(),
                nodes.as_ptr(),
                status.as_mut_ptr(),
                MOVE,
            )
        };
        failed >= 0 && status[..pages.len()].iter().all(|now| *now == id as c_int)
    })
}
