//! What a shrinker has once, or once for each node if it tells nodes apart.

use crate::MAX_NODES;
use crate::memory::{RegisterError, try_box};

/// One value, or for a node-aware shrinker, one for each node.
pub(crate) struct PerNode<T> {
    all: T,
    nodes: Option<Box<[T; MAX_NODES]>>,
}

impl<T> PerNode<T> {
    pub(crate) fn new(node_aware: bool, make: fn() -> T) -> Result<Self, RegisterError> {
        let nodes = node_aware.then(|| try_box([(); MAX_NODES].map(|()| make())));
        Ok(Self {
            all: make(),
            nodes: nodes.transpose()?,
        })
    }

    /// That of a node.
    pub(crate) fn at(&self, node: u32) -> &T {
        match &self.nodes {
            Some(nodes) => &nodes[node as usize % MAX_NODES],
            None => &self.all,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let nodes = self.nodes.as_deref().map_or(&[][..], |nodes| nodes);
        nodes.iter().chain([&self.all])
    }
}
