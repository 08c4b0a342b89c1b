//! CPUs and memory that come and go.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use ebb_tests::numa::{Block, Nodes, on_cpu};
use ebbmalloc::raw;

use crate::common::{
    MIB, SOME, all_on, figures, run_second, take, two_homes, while_others_allocate,
};
use crate::pass_over;

/// A CPU that goes away leaves nothing behind that cannot be had, and comes back as it was; nobody is disturbed.
pub(crate) fn cpus(nodes: &Nodes) {
    let (_, cpu) = two_homes(nodes);
    let online = format!("/sys/devices/system/cpu/cpu{cpu}/online");
    on_cpu(cpu, || drop(take(2000, 64)));
    let before = figures(nodes.home(cpu)).cached;
    fs::write(&online, "0").unwrap();
    assert!(before > 0);
    ebbmalloc::purge();
    assert_eq!(figures(nodes.home(cpu)).cached, 0);
    on_cpu(0, || drop(take(2000, 64)));
    fs::write(&online, "1").unwrap();
    let blocks = on_cpu(cpu, || take(100, 64));
    all_on(&blocks, nodes.home(cpu), "back again");
    while_others_allocate(nodes, || {
        for state in ["0", "1", "0", "1"] {
            fs::write(&online, state).unwrap();
            ebbmalloc::purge();
        }
    });
    let blocks = on_cpu(cpu, || take(100, 64));
    all_on(&blocks, nodes.home(cpu), "after all that");
}

/// The pieces of memory that are plugged in and not in use, and the node that they belong to.
fn late() -> Option<(Vec<PathBuf>, u32)> {
    let pieces = fs::read_dir("/sys/devices/system/memory").ok()?;
    let pieces: Vec<_> = pieces
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|piece| fs::read_to_string(piece.join("state")).is_ok_and(|it| it == "offline\n"))
        .collect();
    let links = fs::read_dir(pieces.first()?).ok()?;
    let names = links.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let node = names.filter_map(|name| name.strip_prefix("node")?.parse().ok());
    Some((pieces, node.max()?))
}

/// Switches memory on or off. The kernel moves what is in use elsewhere; that a page is busy is no reason to give up.
fn switch(pieces: &[PathBuf], to: &str) {
    for piece in pieces {
        let mut done = fs::write(piece.join("state"), to);
        for _ in 0..100 {
            if done.is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
            done = fs::write(piece.join("state"), to);
        }
        done.unwrap_or_else(|error| panic!("{}: {to}: {error}", piece.display()));
    }
}

/// Blocks lie where they did before.
fn nothing_has_changed(nodes: &Nodes, when: &str) {
    for cpu in nodes.cpus() {
        let small = || SOME.into_iter().flat_map(|size| take(2, size));
        let blocks = on_cpu(cpu, || small().collect::<Vec<_>>());
        all_on(&blocks, nodes.home(cpu), &format!("CPU {cpu}, {when}"));
    }
}

/// Memory that comes does no harm to those who were there before, who go on as they did; processes that start afterwards
/// use it; and it goes again under their hands.
pub(crate) fn memory(nodes: &Nodes) {
    let Some((pieces, node)) = late() else {
        pass_over("no memory that is plugged in and not in use");
    };
    let is_new = !nodes.with_memory.contains(&node);
    while_others_allocate(nodes, || {
        switch(&pieces, "online_movable");
        assert_eq!(raw::alloc_on_node(100, 16, node).is_null(), is_new);
        nothing_has_changed(nodes, "memory has come");
        let names: Vec<_> = pieces.iter().map(|piece| piece.to_string_lossy()).collect();
        run_second(
            "memory goes",
            &[
                ("EBB_GUEST_NODES", &node.to_string()),
                ("EBB_GUEST_PIECES", &names.join(",")),
            ],
        );
        switch(&pieces, "offline");
        // The kernel has moved pages to whatever node it liked: new ones lie where they should.
        for cpu in nodes.cpus() {
            let new = on_cpu(cpu, || take(1, 20 * MIB));
            all_on(&new, nodes.home(cpu), "memory has gone");
        }
    });
}

/// A process that began with the late memory in use has a part of it taken away, and given back.
pub(crate) fn memory_goes(nodes: &Nodes) {
    let node: u32 = env::var("EBB_GUEST_NODES").unwrap().parse().unwrap();
    let pieces = env::var("EBB_GUEST_PIECES").unwrap();
    let pieces: Vec<_> = pieces.split(',').map(PathBuf::from).collect();
    let cpus = nodes.cpus().filter(|cpu| nodes.home(*cpu) == node);
    let cpu = cpus.min().expect("a CPU with this memory near");
    let blocks = on_cpu(cpu, || {
        SOME.into_iter()
            .flat_map(|size| take(5, size))
            .collect::<Vec<_>>()
    });
    all_on(&blocks, node, "the late memory");
    let alone = Nodes::memory(node).0 <= pieces.len() * 128 * MIB;
    while_others_allocate(nodes, || {
        switch(&pieces, "offline");
        let pages: Vec<_> = blocks.iter().flat_map(Block::pages).collect();
        assert!(pages.iter().all(Option::is_some), "no page was lost");
        if alone {
            assert!(!pages.contains(&Some(node)), "still there");
            assert!(Block::on_node(3 * MIB, node).is_none());
        }
        on_cpu(cpu, || {
            SOME.into_iter()
                .flat_map(|size| take(5, size))
                .for_each(drop)
        });
        switch(&pieces, "online_movable");
    });
    drop(blocks);
    ebbmalloc::purge();
    // A slab that is still in use stays where the kernel has moved its pages: new memory lies where it should.
    for cpu in nodes.cpus() {
        let new = on_cpu(cpu, || take(1, 20 * MIB));
        all_on(&new, nodes.home(cpu), "it is there again");
    }
    assert!(Block::on_node(3 * MIB, node).is_some_and(|block| block.is_on(node)));
}
