//! Placement: which nodes a block may come from and in which order, and the counters of what came of it.
//!
//! The counters are those of the kernel's `numastat`, in blocks instead of pages. What is served by a CPU's sheaf is
//! counted when the sheaf is filled: the fast path counts nothing.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::node::{self, Node};
use crate::os;
use crate::topology;

/// Where a block is to lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    /// The node that is asked first.
    first: usize,
    /// Whether others are asked when it has nothing, nearest first.
    others: bool,
    /// Whether it is asked because it was its turn.
    in_turn: bool,
}

impl Placement {
    /// On the home of the CPU that this thread is on.
    pub(crate) fn here() -> Self {
        Self::near(topology::machine().home_of(os::cpu()))
    }

    /// On a node, or else near it.
    pub(crate) fn near(first: usize) -> Self {
        Self {
            first,
            others: true,
            in_turn: false,
        }
    }

    /// On a node and nowhere else.
    pub(crate) fn only(first: usize) -> Self {
        Self {
            first,
            others: false,
            in_turn: false,
        }
    }

    /// On each node by turns.
    pub(crate) fn in_turn() -> Self {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: any node will do.
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        Self {
            first: turn % topology::machine().nodes,
            others: true,
            in_turn: true,
        }
    }

    /// Asks one node after the other for a block, until one gives it.
    pub(crate) fn find<T>(self, mut ask: impl FnMut(&'static Node) -> Option<T>) -> Option<T> {
        let machine = topology::machine();
        let most = if self.others { machine.nodes } else { 1 };
        let (node, found) = machine
            .order_of(self.first)
            .take(most)
            .find_map(|number| Some((number, ask(node::node(number))?)))?;
        if machine.nodes > 1 {
            self.count(node);
        }
        Some(found)
    }

    /// Counts a block that came from `node`. What goes as it should, the callers of [`find`](Self::find) count.
    fn count(self, node: usize) {
        let counters = &node::node(node).counters;
        if node != self.first {
            count(&counters.miss);
            count(&node::node(self.first).counters.foreign);
        } else if self.in_turn {
            count(&counters.interleave);
        }
        if node != topology::machine().home_of(os::cpu()) {
            count(&counters.other);
        }
    }
}

/// Adds one. Relaxed: a figure.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
