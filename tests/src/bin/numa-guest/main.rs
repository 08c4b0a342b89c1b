//! The NUMA checks, to be run on a machine with several nodes: a guest of `ebb_tests::vm`, or a real one.
//!
//! `numa-guest CHECK...` runs those checks, each in two processes of its own: by restartable sequences and by the
//! fallback. `numa-guest` alone runs all. They look at the pages themselves (`move_pages`), not at what the allocator
//! says.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{self, Command};
use std::ptr;
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use ebb_tests::Random;
use ebb_tests::numa::{Block, Nodes, on_cpu, pin, set_policy};
use ebbmalloc::{Count, NodeStats, Scan, Shrink, ShrinkControl, Shrinker, raw};

const MIB: usize = 1 << 20;

type Check = fn(&Nodes);

const CHECKS: [(&str, Check); 16] = [
    ("placement", placement),
    ("touched_elsewhere", touched_elsewhere),
    ("migration", migration),
    ("full_sheaves_and_barns", full_sheaves_and_barns),
    ("frees_go_home", frees_go_home),
    ("traffic", traffic),
    ("fallback_by_distance", fallback_by_distance),
    ("strict", strict),
    ("exhaustion", exhaustion),
    ("strict_exhaustion", strict_exhaustion),
    ("interleave", interleave),
    ("policies_of_the_process", policies_of_the_process),
    ("bound", bound),
    ("cpuset", cpuset),
    ("shrinkers", shrinkers),
    ("hotplug", hotplug),
];

/// Tells a process that it is to run a check, or the second half of one.
const STEP: &str = "EBB_GUEST_STEP";

fn main() {
    let names: Vec<String> = env::args().skip(1).collect();
    if let Ok(step) = env::var(STEP) {
        let nodes = Nodes::read();
        let check = CHECKS.iter().find(|check| step == check.0);
        match check {
            Some((_, check)) => check(&nodes),
            None => second_step(&step, &nodes),
        }
        return;
    }
    let mut failed = 0;
    for (name, _) in CHECKS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        for mode in ["0", "1"] {
            let start = Instant::now();
            let status = me(name).env("EBB_NO_RSEQ", mode).status().unwrap();
            let word = if status.success() { "ok" } else { "FAILED" };
            println!(
                "{word} {name} EBB_NO_RSEQ={mode} ({} ms)",
                start.elapsed().as_millis()
            );
            failed += i32::from(!status.success());
        }
    }
    process::exit(failed.min(1));
}

/// This program, for a step.
fn me(step: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(STEP, step);
    command
}

/// All size classes, spans and mappings.
fn sizes() -> Vec<usize> {
    let classes = ebbmalloc::stats().classes.map(|class| class.size as usize);
    let large = [300 << 10, MIB, 2 * MIB, 3 * MIB, 9 * MIB + 1];
    classes
        .into_iter()
        .filter(|size| *size > 0)
        .chain(large)
        .collect()
}

/// Some of them, of each kind.
const SOME: [usize; 9] = [
    16,
    100,
    1000,
    4096,
    20_000,
    70_000,
    200_000,
    700_000,
    3 * MIB,
];

/// Two CPUs with different homes.
fn two_homes(nodes: &Nodes) -> (usize, usize) {
    let other = nodes.cpus().find(|cpu| nodes.home(*cpu) != nodes.home(0));
    (0, other.expect("CPUs on two nodes"))
}

fn all_on(blocks: &[Block], node: u32, what: &str) {
    for block in blocks {
        assert!(
            block.is_on(node),
            "{what}: {block:?} of node {} should be on {node}; its pages: {:?}",
            block.node(),
            block.pages()
        );
    }
}

fn take(count: usize, size: usize) -> Vec<Block> {
    (0..count).map(|_| Block::new(size).unwrap()).collect()
}

fn placement(nodes: &Nodes) {
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
fn touched_elsewhere(nodes: &Nodes) {
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
fn migration(nodes: &Nodes) {
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

fn full_sheaves_and_barns(nodes: &Nodes) {
    for size in [16, 64, 1000, 8000] {
        for cpu in nodes.cpus() {
            on_cpu(cpu, || drop(take(2 * MIB / size.max(500), size)));
        }
        for cpu in nodes.cpus() {
            let blocks = on_cpu(cpu, || take(100_000 / size.max(500), size));
            all_on(
                &blocks,
                nodes.home(cpu),
                &format!("CPU {cpu}, {size} bytes"),
            );
        }
    }
}

/// What is freed on another node's CPU is never handed out there, and is handed out at home.
fn frees_go_home(nodes: &Nodes) {
    let (here, there) = two_homes(nodes);
    for size in SOME {
        let count = (300_000 / size).clamp(8, 1500);
        let in_use = figures(nodes.home(here)).in_use;
        let blocks = on_cpu(here, || take(count, size));
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
        let reused = again
            .iter()
            .filter(|block| freed.contains(&block.address()));
        assert!(
            size > 2 * MIB || reused.count() > count / 2,
            "{size} bytes: not handed out at home"
        );
        all_on(&others, nodes.home(there), "elsewhere");
        all_on(&again, nodes.home(here), "at home");
    }
}

/// A thread per CPU; each gives every third block to the next, which frees it.
fn traffic(nodes: &Nodes) {
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

fn figures(node: u32) -> NodeStats {
    let stats = ebbmalloc::stats();
    *stats
        .known_nodes()
        .iter()
        .find(|known| known.node == u64::from(node))
        .unwrap()
}

/// Gives each node so much more than it has now.
fn leave_each(nodes: &Nodes, bytes: usize) {
    ebbmalloc::purge();
    for node in &nodes.with_memory {
        let backed = figures(*node).backed as usize;
        assert!(ebbmalloc::set_node_budget(*node, Some(backed + bytes)));
    }
}

/// Nodes whose budget is used up, nearest first; the figures add up.
fn fallback_by_distance(nodes: &Nodes) {
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
        let stats = ebbmalloc::stats();
        let sum =
            |figure: fn(&NodeStats) -> u64| -> u64 { stats.known_nodes().iter().map(figure).sum() };
        assert_eq!(sum(|node| node.miss), sum(|node| node.foreign));
        assert_eq!(
            sum(|node| node.hit + node.miss),
            sum(|node| node.local + node.other)
        );
        assert!(figures(home).foreign > before.foreign);
        for node in stats.known_nodes() {
            assert!(node.backed <= node.budget, "{node:?}");
        }
        drop(blocks);
        ebbmalloc::purge();
        let again = on_cpu(cpu, || take(10, size.min(MIB / 4)));
        all_on(&again, home, "with room at home again");
    }
}

/// A node or nothing, whoever asks.
fn strict(nodes: &Nodes) {
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
fn exhaustion(nodes: &Nodes) {
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
    assert_eq!(on(home) + on(second), pages.len(), "on no third node");
    assert!(on(second) * 4096 > 16 * MIB, "{} pages", on(second));
}

/// When a node's memory is really used up those who insist on it get nothing, and nobody is killed.
fn strict_exhaustion(nodes: &Nodes) {
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

fn interleave(nodes: &Nodes) {
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

/// Runs the second step of a check with more environment.
fn run_second(step: &str, environment: &[(&str, &str)]) {
    let mut second = me(step);
    let status = second.envs(environment.iter().copied()).status().unwrap();
    assert!(status.success(), "{step} with {environment:?}");
}

/// `EBB_NUMA`, and interleaving inherited from whoever started the process.
fn policies_of_the_process(nodes: &Nodes) {
    const MPOL_INTERLEAVE: i32 = 3;
    run_second("spread", &[("EBB_NUMA", "interleave")]);
    run_second("first touch", &[("EBB_NUMA", "off")]);
    set_policy(MPOL_INTERLEAVE, &nodes.with_memory);
    run_second("spread", &[]);
    run_second("placement", &[("EBB_NUMA", "local")]);
}

/// A process that is bound to some nodes uses no others, and prefers the nearest of them.
fn bound(nodes: &Nodes) {
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
fn cpuset(nodes: &Nodes) {
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

fn second_step(step: &str, nodes: &Nodes) {
    pin(0);
    match step {
        "spread" => {
            let blocks: Vec<_> = [8000, 100_000, 8 * MIB]
                .into_iter()
                .flat_map(|size| take(3 + 2 * MIB / size, size))
                .collect();
            let counts = spread(nodes, &blocks);
            assert!(is_even(&counts), "{counts:?}");
        }
        "first touch" => {
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
        "confined" => confined(nodes),
        other => panic!("no step {other}"),
    }
}

/// All blocks lie on these nodes, the nearest first.
fn confined(nodes: &Nodes) {
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

/// A cache with a list of blocks per node, which notes the nodes it is asked for.
struct Cache {
    blocks: Vec<Mutex<Vec<Block>>>,
    asked: Mutex<Vec<u32>>,
}

impl Cache {
    fn new(nodes: &Nodes, count: usize) -> Self {
        let ids = 1 + nodes.with_memory[nodes.with_memory.len() - 1];
        let fill = |node| -> Vec<Block> {
            (0..count)
                .filter_map(|_| Block::on_node(10_000, node))
                .collect()
        };
        Self {
            blocks: (0..ids).map(|node| Mutex::new(fill(node))).collect(),
            asked: Mutex::new(Vec::with_capacity(10_000)),
        }
    }
}

impl Shrink for &'static Cache {
    fn count(&self, ctl: &ShrinkControl) -> Count {
        self.asked.lock().unwrap().push(ctl.node());
        let blocks = self.blocks.get(ctl.node() as usize);
        Count::of(blocks.map_or(0, |blocks| blocks.lock().unwrap().len()))
    }

    fn scan(&self, ctl: &mut ShrinkControl) -> Scan {
        let mut blocks = self.blocks[ctl.node() as usize].lock().unwrap();
        let keep = blocks.len().saturating_sub(ctl.to_scan());
        let objects = blocks.drain(keep..).count();
        Scan::Freed {
            objects,
            bytes: objects * 10_000,
        }
    }
}

/// Shrinkers see the node that is short, and a strict request touches no other.
fn shrinkers(nodes: &Nodes) {
    let cache: &'static Cache = Box::leak(Box::new(Cache::new(nodes, 600)));
    let spec = Shrinker::new("per node").node_aware(true);
    let registration = ebbmalloc::register(spec, cache).unwrap();
    let target = nodes.with_memory[nodes.with_memory.len() - 1];
    let held = |node: u32| cache.blocks[node as usize].lock().unwrap().len();
    leave_each(nodes, MIB);
    assert!(
        Block::on_node(4 * MIB, target).is_some(),
        "the cache makes room"
    );
    let asked: HashSet<u32> = cache.asked.lock().unwrap().drain(..).collect();
    assert_eq!(asked, HashSet::from([target]), "nobody else is asked");
    for node in nodes.with_memory.iter().filter(|node| **node != target) {
        assert_eq!(held(*node), 600, "node {node}");
    }
    assert!(held(target) < 600);
    // An ordinary request, when the process has nothing left: the node of the CPU first.
    for node in &nodes.with_memory {
        ebbmalloc::set_node_budget(*node, None);
    }
    let cpu = nodes.cpus().last().unwrap();
    pin(cpu);
    ebbmalloc::purge();
    ebbmalloc::set_reserve(64 << 10);
    ebbmalloc::set_budget(Some(ebbmalloc::backed() + 4 * MIB - (256 << 10)));
    assert!(Block::new(4 * MIB).is_some());
    let first = cache.asked.lock().unwrap().first().copied();
    assert_eq!(first, Some(nodes.home(cpu)));
    drop(registration);
}

/// A CPU that goes away leaves nothing behind that cannot be had, and comes back as it was.
fn hotplug(nodes: &Nodes) {
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
}
