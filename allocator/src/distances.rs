//! How far the nodes are from one of them, and so which is nearest to it.
//!
//! Among equally near ones each node of a group begins with another, so that one which is short does not bring all
//! others to bear on the same neighbour.
//!
//! The kernel tells distances between *ids*; what comes out are the nodes' own numbers, as in `topology`, which keeps
//! them.

use crate::config::MAX_NODES;
use crate::os::{NODE_IDS, NodeSet};
use crate::sysfs::Sysfs;

/// Distances as the kernel has them: of a node to itself, and of others if it does not say.
const NEAREST: u8 = 10;
const FAR: u8 = 20;

/// How far all ids are from one.
pub(crate) struct Distances([u8; NODE_IDS]);

impl Distances {
    /// Those from `id`. The kernel lists them for the nodes that are online.
    pub(crate) fn read(sysfs: Sysfs<'_>, id: usize, online: &NodeSet) -> Self {
        let mut distances = Self([FAR; NODE_IDS]);
        if let Some(own) = distances.0.get_mut(id) {
            *own = NEAREST;
        }
        let mut columns = online.ids();
        sysfs.numbers(format_args!("node/node{id}/distance"), &mut |distance| {
            if let Some(slot) = columns.next().and_then(|to| distances.0.get_mut(to)) {
                *slot = u8::try_from(distance).unwrap_or(u8::MAX);
            }
        });
        distances
    }

    fn to(&self, id: usize) -> u8 {
        self.0.get(id).copied().unwrap_or(u8::MAX)
    }

    /// All nodes, nearest first; `node` is the one that these are from, and `ids` has the id of each.
    pub(crate) fn order(&self, node: usize, ids: &[u16]) -> [u8; MAX_NODES] {
        let mut order = [0; MAX_NODES];
        let known = &mut order[..ids.len()];
        known.iter_mut().zip(0..).for_each(|(slot, n)| *slot = n);
        let distance = |n: &u8| self.to(usize::from(ids[usize::from(*n)]));
        // By hand: the library's sort is twenty kilobytes of code, and at most 64 nodes are sorted once.
        for place in 0..known.len() {
            let key = |at: &usize| {
                (
                    usize::from(known[*at]) != node,
                    distance(&known[*at]),
                    known[*at],
                )
            };
            let next = (place..known.len()).min_by_key(key).unwrap_or(place);
            known.swap(place, next);
        }
        let mut rest = &mut known[1..];
        while let Some(first) = rest.first() {
            let near = distance(first);
            let equals = rest.iter().take_while(|n| distance(n) == near).count();
            let (group, further) = rest.split_at_mut(equals);
            group.rotate_left(node % equals);
            rest = further;
        }
        order
    }

    /// The nearest node, one of `wanted` if there are any; `id` is the one that these are from, and `ids` has the id of
    /// each node.
    pub(crate) fn nearest(&self, id: usize, ids: &[u16], wanted: &NodeSet) -> usize {
        let of = |node: &usize| usize::from(ids[*node]);
        let fits = |node: &usize| wanted.is_empty() || wanted.has(of(node));
        let far = |node: &usize| (of(node) != id, self.to(of(node)));
        (0..ids.len()).filter(fits).min_by_key(far).unwrap_or(0)
    }
}
