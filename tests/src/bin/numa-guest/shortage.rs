//! What happens when a node has nothing left.

use ebb_tests::numa::{Block, Nodes, on_cpu, pin};
use ebbmalloc::raw;

use crate::common::{MIB, all_on, figures, leave_each, sizes, sum, take};
use crate::pass_over;

/// Nodes whose budget is used up, nearest first; the figures add up.
pub(crate) fn fallback_by_distance(nodes: &Nodes) {
    let cases = [
        (100, MIB),
        (60_000, 3 * MIB),
        (400_000, 3 * MIB),
        (3 * MIB, 7 * MIB),
    ];
    for (cpu, (size, room)) in nodes.cpus().zip(cases.into_iter().cycle()) {
        let home = nodes.home(cpu);
        leave_each(nodes, room);
        let before = figures(home);
        let blocks = on_cpu(cpu, || {
            let mut blocks = Vec::new();
            while let Some(block) = Block::new(size) {
                blocks.push(block);
            }
            blocks
        });
        let mut used: Vec<u32> = blocks.iter().map(Block::node).collect();
        let count = used.len();
        used.dedup();
        let distances: Vec<_> = used
            .iter()
            .map(|node| nodes.distance(home, *node))
            .collect();
        assert_eq!(used[0], home);
        assert!(
            distances.is_sorted(),
            "from {home}: {used:?} at {distances:?}"
        );
        assert_eq!(used.len(), nodes.with_memory.len(), "each once: {used:?}");
        for block in blocks.iter().step_by(count / 50 + 1) {
            assert!(block.is_on(block.node()), "{block:?}: {:?}", block.pages());
        }
        assert_eq!(sum(|node| node.miss), sum(|node| node.foreign));
        assert_eq!(
            sum(|node| node.hit + node.miss),
            sum(|node| node.local + node.other)
        );
        assert!(figures(home).foreign > before.foreign);
        for node in ebbmalloc::stats().known_nodes() {
            assert!(node.backed <= node.budget, "{node:?}");
        }
        drop(blocks);
        ebbmalloc::purge();
        let again = on_cpu(cpu, || take(10, size.min(MIB / 4)));
        all_on(&again, home, "with room at home again");
    }
}

/// Of equally near nodes each begins with another, so that one which is short is not a burden to one neighbour alone.
pub(crate) fn equally_near(nodes: &Nodes) {
    let mut pairs = nodes.with_memory.iter().flat_map(|from| {
        let others = nodes.with_memory.iter().filter(move |to| *to != from);
        others.map(move |to| nodes.distance(*from, *to))
    });
    let first = pairs.next();
    if nodes.with_memory.len() < 3 || pairs.any(|distance| Some(distance) != first) {
        pass_over("not three nodes or more, equally far from each other");
    }
    let mut seconds = Vec::new();
    for cpu in nodes.cpus() {
        let home = nodes.home(cpu);
        ebbmalloc::purge();
        ebbmalloc::set_node_budget(home, Some(figures(home).backed as usize));
        let block = on_cpu(cpu, || Block::new(MIB)).unwrap();
        seconds.push(block.node());
        ebbmalloc::set_node_budget(home, None);
    }
    let count = seconds.len();
    seconds.sort_unstable();
    seconds.dedup();
    assert_eq!(seconds.len(), count, "neighbours: {seconds:?}");
}

/// A node or nothing, whoever asks.
pub(crate) fn strict(nodes: &Nodes) {
    for (cpu, node) in nodes.cpus().zip(nodes.with_memory.iter().rev().cycle()) {
        pin(cpu);
        let blocks: Vec<_> = sizes()
            .iter()
            .filter_map(|size| Block::on_node(*size, *node))
            .collect();
        assert_eq!(blocks.len(), sizes().len());
        all_on(&blocks, *node, "asked for");
        drop(blocks);
        leave_each(nodes, 8 * MIB);
        let before = ebbmalloc::stats();
        for size in [1000, 100_000, MIB, 3 * MIB] {
            let blocks: Vec<_> = std::iter::from_fn(|| Block::on_node(size, *node)).collect();
            let total = blocks.len() * size;
            assert!(
                (5 * MIB..=14 * MIB).contains(&total),
                "{total} bytes of {size}"
            );
            assert!(blocks.iter().all(|block| block.node() == *node));
        }
        let after = ebbmalloc::stats();
        for (before, after) in before.known_nodes().iter().zip(after.known_nodes()) {
            assert_eq!((before.miss, before.foreign), (after.miss, after.foreign));
        }
        for node in &nodes.with_memory {
            ebbmalloc::set_node_budget(*node, None);
        }
    }
    for node in (0..100).filter(|node| !nodes.with_memory.contains(node)) {
        assert!(raw::alloc_on_node(100, 16, node).is_null());
        assert!(!ebbmalloc::set_node_budget(node, Some(1)));
    }
}

/// Bytes of a node's memory that are free.
fn room_of(node: u32) -> usize {
    Nodes::memory(node).1
}

/// When a node's memory is really used up the system takes the nearest other's.
pub(crate) fn exhaustion(nodes: &Nodes) {
    let cpu = nodes
        .cpus()
        .min_by_key(|cpu| room_of(nodes.home(*cpu)))
        .unwrap();
    pin(cpu);
    let home = nodes.home(cpu);
    let room = room_of(home);
    let blocks = take((room + 24 * MIB) / MIB, MIB);
    let (half, second) = (room / MIB / 2, nodes.by_distance(home)[1]);
    all_on(&blocks[..half], home, "while there is room");
    // The kernel may find a page at home even now.
    let pages: Vec<_> = blocks.iter().flat_map(Block::pages).collect();
    let on = |node| pages.iter().filter(|page| **page == Some(node)).count();
    // And it may pass over the second for a moment: one page in 41,728 was elsewhere once.
    let elsewhere = pages
        .iter()
        .filter(|page| ![Some(home), Some(second)].contains(page));
    let elsewhere: Vec<_> = elsewhere.collect();
    assert!(elsewhere.len() <= pages.len() / 1000, "{elsewhere:?}");
    assert!(on(second) * 4096 > 16 * MIB, "{} pages", on(second));
}

/// When a node's memory is really used up those who insist on it get nothing, and nobody is killed.
pub(crate) fn strict_exhaustion(nodes: &Nodes) {
    let node = *nodes
        .with_memory
        .iter()
        .min_by_key(|node| room_of(**node))
        .unwrap();
    let room = room_of(node);
    let blocks: Vec<_> = (0..room / MIB + 8)
        .map_while(|_| Block::on_node(MIB, node))
        .collect();
    let total = blocks.len() * MIB;
    assert!(total > room / 2 && total <= room, "{total} of {room} bytes");
    all_on(&blocks, node, "strict");
    drop(blocks);
    ebbmalloc::purge();
    assert!(Block::on_node(MIB, node).is_some());
}
