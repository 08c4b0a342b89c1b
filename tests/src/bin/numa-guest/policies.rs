//! Policies: spread blocks, and what whoever started the process says.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::ptr;

use ebb_tests::numa::{Block, Nodes, on_cpu, pin, set_policy};
use ebbmalloc::{NumaPolicy, raw};

use crate::common::{MIB, SOME, all_on, me, run_second, take};
use crate::placement::placement;

/// How many pages lie on each node.
fn spread(nodes: &Nodes, blocks: &[Block]) -> Vec<usize> {
    let pages: Vec<_> = blocks.iter().flat_map(Block::pages).collect();
    let on = |node: &u32| pages.iter().filter(|page| **page == Some(*node)).count();
    nodes.with_memory.iter().map(on).collect()
}

fn is_even(counts: &[usize]) -> bool {
    let (least, most) = (counts.iter().min(), counts.iter().max());
    least
        .zip(most)
        .is_some_and(|(least, most)| *least > 0 && most - least <= most / 8 + 1)
}

pub(crate) fn interleave(nodes: &Nodes) {
    pin(0);
    let interleaved = |size| Block::from(size, |size| raw::alloc_interleaved(size, 16)).unwrap();
    for size in [100, 5000, 100_000, 500_000, 8 * MIB] {
        let count = nodes.with_memory.len() * if size > MIB { 1 } else { 6 };
        let blocks: Vec<_> = (0..count).map(|_| interleaved(size)).collect();
        let counts = spread(nodes, &blocks);
        assert!(is_even(&counts), "{size} bytes: {counts:?}");
    }
    let stats = ebbmalloc::stats();
    for node in stats.known_nodes() {
        assert_eq!(node.interleave, 24, "{node:?}");
        assert_eq!((node.miss, node.foreign), (0, 0), "{node:?}");
    }
}

/// A program that changes its mind: each policy counts for what is allocated from then on, and what is there stays where it
/// is. Seen to fail with a setter that does nothing, and
/// without `place_again`.
pub(crate) fn policy_by_call(nodes: &Nodes) {
    let run = |policy, check: fn(&Nodes)| {
        assert!(ebbmalloc::set_numa_policy(policy));
        assert_eq!(ebbmalloc::numa_policy(), policy);
        check(nodes);
    };
    let old: Vec<_> = SOME.into_iter().flat_map(|size| take(3, size)).collect();
    let before: Vec<_> = old.iter().map(Block::pages).collect();
    for _ in 0..2 {
        run(NumaPolicy::Interleave, is_on_all);
        assert!(raw::alloc_on_node(16, 16, nodes.home(0)).is_null());
        run(NumaPolicy::Off, is_first_touch);
        run(NumaPolicy::Local, placement);
    }
    let after: Vec<_> = old.iter().map(Block::pages).collect();
    assert_eq!(before, after, "what is there stays");
}

/// `EBB_NUMA`, and interleaving inherited from whoever started the process.
pub(crate) fn policies_of_the_process(nodes: &Nodes) {
    const MPOL_INTERLEAVE: i32 = 3;
    run_second("spread", &[("EBB_NUMA", "interleave")]);
    run_second("first touch", &[("EBB_NUMA", "off")]);
    set_policy(MPOL_INTERLEAVE, &nodes.with_memory);
    run_second("spread", &[]);
    run_second("placement", &[("EBB_NUMA", "local")]);
}

/// A process that is bound to some nodes uses no others, and prefers the nearest of them.
pub(crate) fn bound(nodes: &Nodes) {
    const MPOL_PREFERRED: i32 = 1;
    const MPOL_BIND: i32 = 2;
    let last = nodes.with_memory[nodes.with_memory.len() - 1];
    set_policy(MPOL_BIND, &[last]);
    run_second("confined", &[("EBB_GUEST_NODES", &last.to_string())]);
    let some = &nodes.with_memory[nodes.with_memory.len().saturating_sub(2)..];
    set_policy(MPOL_BIND, some);
    let names: Vec<_> = some.iter().map(u32::to_string).collect();
    run_second("confined", &[("EBB_GUEST_NODES", &names.join(","))]);
    set_policy(MPOL_PREFERRED, &[last]);
    run_second("confined", &[("EBB_GUEST_NODES", &last.to_string())]);
}

/// The same by a cpuset, which a container has.
pub(crate) fn cpuset(nodes: &Nodes) {
    let group = "/sys/fs/cgroup/numa";
    let node = nodes.with_memory[nodes.with_memory.len() - 1].to_string();
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset").unwrap();
    fs::create_dir_all(group).unwrap();
    fs::write(format!("{group}/cpuset.mems"), &node).unwrap();
    let mut second = me("confined");
    let enter = || fs::write("/sys/fs/cgroup/numa/cgroup.procs", "0");
    // SAFETY: only writes a file.
    let second = unsafe { second.pre_exec(enter) };
    let status = second.env("EBB_GUEST_NODES", &node).status().unwrap();
    assert!(status.success());
}

/// Pages come by turns from all nodes.
pub(crate) fn is_spread(nodes: &Nodes) {
    pin(0);
    let blocks: Vec<_> = [8000, 100_000, 8 * MIB]
        .into_iter()
        .flat_map(|size| take(3 + 2 * MIB / size, size))
        .collect();
    let counts = spread(nodes, &blocks);
    assert!(is_even(&counts), "{counts:?}");
}

/// The same beside blocks that are in use: huge pages come by turns as a whole, and there only parts of some are free.
fn is_on_all(nodes: &Nodes) {
    pin(0);
    let large = take(nodes.with_memory.len(), 8 * MIB);
    for blocks in [large, take(2000, 8000)] {
        let counts = spread(nodes, &blocks);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(least * 3 > *most, "{counts:?}");
    }
}

/// Pages come from the node that touches them first.
pub(crate) fn is_first_touch(nodes: &Nodes) {
    pin(0);
    let last = nodes.cpus().last().unwrap();
    let block = raw::alloc(3 * MIB).expose_provenance();
    let block = on_cpu(last, || {
        Block::from(3 * MIB, |_| ptr::with_exposed_provenance_mut(block))
    });
    let pages = block.unwrap().pages();
    assert!(
        pages.iter().all(|page| *page == Some(nodes.home(last))),
        "{pages:?}"
    );
}

/// All blocks lie on these nodes, the nearest first.
pub(crate) fn is_confined(nodes: &Nodes) {
    let names = env::var("EBB_GUEST_NODES").unwrap();
    let allowed: Vec<u32> = names.split(',').map(|name| name.parse().unwrap()).collect();
    for cpu in nodes.cpus() {
        let order = nodes.by_distance(nodes.of_cpu[cpu]);
        let nearest = order
            .into_iter()
            .find(|node| allowed.contains(node))
            .unwrap();
        let blocks = on_cpu(cpu, || {
            let small = SOME.into_iter().flat_map(|size| take(3, size));
            small.collect::<Vec<_>>()
        });
        all_on(
            &blocks,
            nearest,
            &format!("CPU {cpu}, confined to {allowed:?}"),
        );
    }
}
