//! Where blocks lie, whoever frees them, and what the figures say of it.

use std::collections::HashSet;
use std::fs;
use std::ptr;
use std::sync::mpsc;
use std::thread;

use ebb_tests::Random;
use ebb_tests::numa::{Block, Nodes, on_cpu, pin};
use ebbmalloc::{NodeStats, raw};

use crate::common::{MIB, SOME, all_on, class_sizes, figures, sizes, take, two_homes};

pub(crate) fn placement(nodes: &Nodes) {
    for cpu in nodes.cpus() {
        on_cpu(cpu, || {
            for size in sizes() {
                // More than a refill of sheaves.
                let blocks = take((40_000 / size).clamp(3, 300), size);
                all_on(
                    &blocks,
                    nodes.home(cpu),
                    &format!("CPU {cpu}, {size} bytes"),
                );
            }
        });
    }
}

/// Memory lies where it was allocated, whoever touches it first.
pub(crate) fn touched_elsewhere(nodes: &Nodes) {
    let (here, there) = two_homes(nodes);
    for size in SOME {
        let blocks = on_cpu(here, || {
            [(); 3].map(|()| raw::alloc(size).expose_provenance())
        });
        let touch = |block| Block::from(size, |_| ptr::with_exposed_provenance_mut(block)).unwrap();
        let blocks = on_cpu(there, || blocks.map(touch));
        all_on(&blocks, nodes.home(here), &format!("{size} bytes"));
    }
}

/// One thread that goes from CPU to CPU.
pub(crate) fn migration(nodes: &Nodes) {
    let mut held = Vec::new();
    for round in 0..2 {
        for cpu in nodes.cpus() {
            pin(cpu);
            for size in SOME {
                let blocks = take(5, size);
                all_on(
                    &blocks,
                    nodes.home(cpu),
                    &format!("CPU {cpu}, round {round}"),
                );
                held.extend(blocks);
            }
            // Those of the CPU before, on this one.
            let keep = held.len().saturating_sub(60);
            held.drain(..keep);
        }
    }
}

/// Frees as much on each CPU as its caches hold. Whether they hold any: a drain that was due may have emptied them.
fn fill_caches(nodes: &Nodes, size: usize) -> bool {
    let count = (MIB / size).clamp(12, 2000);
    for cpu in nodes.cpus() {
        on_cpu(cpu, || drop(take(count, size)));
    }
    let stats = ebbmalloc::stats();
    let class = stats.classes.iter().find(|class| class.size == size as u64);
    class.unwrap().cached > 0
}

/// Every class, when all sheaves and barns hold what they can.
pub(crate) fn full_sheaves_and_barns(nodes: &Nodes) {
    for size in class_sizes() {
        let filled = (0..10).any(|_| fill_caches(nodes, size));
        assert!(filled, "{size} bytes: nothing is ever cached");
        for cpu in nodes.cpus() {
            let blocks = on_cpu(cpu, || take((100_000 / size).clamp(3, 200), size));
            all_on(
                &blocks,
                nodes.home(cpu),
                &format!("CPU {cpu}, {size} bytes"),
            );
        }
    }
}

/// What is freed on another node's CPU is never handed out there, and is handed out at home.
pub(crate) fn frees_go_home(nodes: &Nodes) {
    let (here, there) = two_homes(nodes);
    for size in sizes() {
        // No more of the large ones than a small node has room for.
        let count = (100_000 / size).clamp(if size > MIB { 3 } else { 8 }, 1000);
        // So that nothing else lies idle: a unit with idle slices too few for a block is preferred, and gives others.
        ebbmalloc::purge();
        let in_use = figures(nodes.home(here)).in_use;
        let blocks = on_cpu(here, || take(count, size));
        let most = figures(nodes.home(here)).backed;
        let freed: HashSet<usize> = blocks.iter().map(Block::address).collect();
        on_cpu(there, || {
            // So that there is a sheaf with room, to which they might go by mistake.
            drop(take(2, size));
            drop(blocks);
        });
        let left = figures(nodes.home(here)).in_use;
        assert!(
            left < in_use + (64 << 10),
            "{left} bytes in use, {in_use} before"
        );
        let (others, again) = (
            on_cpu(there, || take(count, size)),
            on_cpu(here, || take(count, size)),
        );
        let strays = others
            .iter()
            .filter(|block| freed.contains(&block.address()));
        assert!(
            size > 2 * MIB || strays.count() == 0,
            "{size} bytes: handed out where they were freed"
        );
        let backed = figures(nodes.home(here)).backed;
        assert!(
            backed <= most + (128 << 10),
            "{size} bytes: {backed} backed, {most} before: not handed out at home"
        );
        all_on(&others, nodes.home(there), "elsewhere");
        all_on(&again, nodes.home(here), "at home");
    }
}

/// A thread per CPU; each gives every third block to the next, which frees it.
pub(crate) fn traffic(nodes: &Nodes) {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        nodes.cpus().map(|_| mpsc::channel::<Block>()).unzip();
    thread::scope(|scope| {
        for (cpu, inbox) in receivers.into_iter().enumerate() {
            let next = senders[(cpu + 1) % senders.len()].clone();
            scope.spawn(move || {
                pin(cpu);
                let (mut random, mut held) = (Random::new(cpu as u64), Vec::new());
                for step in 0..3000 {
                    let bits = 4 + random.below(14);
                    let size = 1 + random.below(1 << bits);
                    let block = Block::new(size).unwrap();
                    assert_eq!(block.node(), nodes.home(cpu));
                    if step % 100 == 0 {
                        assert!(block.is_on(nodes.home(cpu)));
                    }
                    if step % 3 == 0 {
                        let _ = next.send(block);
                    } else {
                        held.push(block);
                    }
                    if held.len() > 100 {
                        held.swap_remove(random.below(held.len()));
                    }
                    inbox.try_iter().for_each(drop);
                }
            });
        }
        drop(senders);
    });
    let stats = ebbmalloc::stats();
    for node in stats.known_nodes() {
        assert_eq!((node.miss, node.foreign, node.other), (0, 0, 0), "{node:?}");
    }
}

/// Hit, miss, foreign, local, other.
type Counts = [u64; 5];

fn counts(node: &NodeStats) -> Counts {
    [node.hit, node.miss, node.foreign, node.local, node.other]
}

/// An event: its name, what makes it, and what it counts here and on the next node.
type Event = (&'static str, fn(u32) -> Option<Block>, [Counts; 2]);

/// Bytes of this process's memory that lie on a node, as the kernel has it.
fn resident_on(node: u32) -> usize {
    let maps = fs::read_to_string("/proc/self/numa_maps").unwrap();
    let name = format!("N{node}=");
    let words = maps.split_whitespace();
    let pages = words.filter_map(|word| word.strip_prefix(&name)?.parse::<usize>().ok());
    pages.sum::<usize>() * 4096
}

/// The figures of `numastat`, event by event; and bytes beside the kernel's.
pub(crate) fn counters(nodes: &Nodes) {
    const NONE: Counts = [0; 5];
    let events: [Event; 3] = [
        ("as usual", |_| Block::new(3 * MIB), [[1, 0, 0, 1, 0], NONE]),
        (
            "strict",
            |there| Block::on_node(3 * MIB, there),
            [NONE, [1, 0, 0, 0, 1]],
        ),
        (
            "none left at home",
            |_| Block::new(3 * MIB),
            [[0, 0, 1, 0, 0], [0, 1, 0, 0, 1]],
        ),
    ];
    pin(0);
    let here = nodes.home(0);
    let there = nodes.by_distance(here)[1];
    drop(take(1, 3 * MIB));
    for (what, take, expected) in events {
        ebbmalloc::purge();
        if what == "none left at home" {
            ebbmalloc::set_node_budget(here, Some(figures(here).backed as usize));
        }
        let look = || [here, there].map(|node| (figures(node), resident_on(node)));
        let before = look();
        let blocks: Vec<_> = (0..4).map_while(|_| take(there)).collect();
        let after = look();
        assert_eq!(blocks.len(), 4);
        for ((before, after), one) in before.iter().zip(after).zip(expected) {
            let (was, is) = (counts(&before.0), counts(&after.0));
            let counted = std::array::from_fn(|index| is[index] - was[index]);
            assert_eq!(counted, one.map(|count| 4 * count), "{what}");
            let bytes = (one[3] + one[4]) * 4 * 3 * MIB as u64;
            assert_eq!(after.0.in_use - before.0.in_use, bytes, "{what}");
            assert_eq!(after.0.backed - before.0.backed, bytes, "{what}");
            // What else the process has may grow a little.
            let resident = after.1.saturating_sub(before.1) as u64;
            assert!(
                resident.abs_diff(bytes) < 1 << 20,
                "{what}: {resident} of {bytes}"
            );
        }
        drop(blocks);
        assert_eq!(figures(here).in_use, before[0].0.in_use, "{what}");
    }
}
