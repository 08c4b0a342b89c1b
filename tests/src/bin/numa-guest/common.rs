//! What the checks share.

use std::env;
use std::hint;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ebb_tests::Random;
use ebb_tests::numa::{Block, Nodes};
use ebbmalloc::{NodeStats, raw};

pub(crate) const MIB: usize = 1 << 20;

/// Tells a process that it is to run a check, or the second half of one.
pub(crate) const STEP: &str = "EBB_GUEST_STEP";

/// This program, for a step.
pub(crate) fn me(step: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(STEP, step);
    command
}

/// Runs the second step of a check with more environment.
pub(crate) fn run_second(step: &str, environment: &[(&str, &str)]) {
    let mut second = me(step);
    let status = second.envs(environment.iter().copied()).status().unwrap();
    assert!(status.success(), "{step} with {environment:?}");
}

/// All size classes.
pub(crate) fn class_sizes() -> Vec<usize> {
    let classes = ebbmalloc::stats().classes.map(|class| class.size as usize);
    classes.into_iter().filter(|size| *size > 0).collect()
}

/// All size classes, spans and mappings.
pub(crate) fn sizes() -> Vec<usize> {
    let large = [300 << 10, MIB, 2 * MIB, 3 * MIB, 9 * MIB + 1];
    class_sizes().into_iter().chain(large).collect()
}

/// Some of them, of each kind.
pub(crate) const SOME: [usize; 9] = [
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
pub(crate) fn two_homes(nodes: &Nodes) -> (usize, usize) {
    let other = nodes.cpus().find(|cpu| nodes.home(*cpu) != nodes.home(0));
    (0, other.expect("CPUs on two nodes"))
}

/// Whether all its pages lie on the node. Where the kernel cannot tell of a page, though all were written to, it is asked
/// again a little later: it may be moving the page, as it does to have free ones side by side.
fn lies_on(block: &Block, node: u32) -> bool {
    for _ in 0..50 {
        if block.pages().iter().all(Option::is_some) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    block.is_on(node)
}

pub(crate) fn all_on(blocks: &[Block], node: u32, what: &str) {
    for block in blocks {
        let elsewhere = || {
            let pages = block.pages();
            let there = pages.iter().filter(|page| **page == Some(node)).count();
            let other = pages.iter().find(|page| **page != Some(node));
            let (memory, free) = Nodes::memory(node);
            format!(
                "{there} of its {} pages are, another: {other:?}; {free} bytes of the node's {memory} are free",
                pages.len()
            )
        };
        assert!(
            lies_on(block, node),
            "{what}: {block:?} of node {} should be on {node}; {}",
            block.node(),
            elsewhere()
        );
    }
}

pub(crate) fn take(count: usize, size: usize) -> Vec<Block> {
    (0..count).map(|_| Block::new(size).unwrap()).collect()
}

pub(crate) fn figures(node: u32) -> NodeStats {
    let stats = ebbmalloc::stats();
    *stats
        .known_nodes()
        .iter()
        .find(|known| known.node == u64::from(node))
        .unwrap()
}

/// The sum of a figure over all nodes.
pub(crate) fn sum(figure: fn(&NodeStats) -> u64) -> u64 {
    ebbmalloc::stats().known_nodes().iter().map(figure).sum()
}

/// Gives each node so much more than it has now.
pub(crate) fn leave_each(nodes: &Nodes, bytes: usize) {
    ebbmalloc::purge();
    for node in &nodes.with_memory {
        let backed = figures(*node).backed as usize;
        assert!(ebbmalloc::set_node_budget(*node, Some(backed + bytes)));
    }
}

/// Runs `f` while a thread for each CPU, free to go anywhere, allocates and frees blocks of all kinds, and looks whether
/// they hold what was written into them.
pub(crate) fn while_others_allocate<T>(nodes: &Nodes, f: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let rounds = AtomicUsize::new(0);
    thread::scope(|scope| {
        for cpu in nodes.cpus() {
            let (done, rounds) = (&done, &rounds);
            scope.spawn(move || {
                let (mut random, mut held) = (Random::new(cpu as u64), Vec::new());
                // Relaxed: nothing hangs on when it is seen.
                while !done.load(Ordering::Relaxed) {
                    held.push(Filled::new(SOME[random.below(SOME.len())], &mut random));
                    if held.len() > 20 {
                        held.swap_remove(random.below(held.len())).check();
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                held.iter().for_each(Filled::check);
            });
        }
        // In any case, or they would go on for ever.
        let end = End(&done);
        let result = f();
        // Each had its turn, and some after the last change.
        let enough = rounds.load(Ordering::Relaxed) + 50 * nodes.cpus().count();
        while rounds.load(Ordering::Relaxed) < enough {
            hint::spin_loop();
            thread::yield_now();
        }
        drop(end);
        result
    })
}

/// Ends the others on drop.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A block whose pages each begin with the same number.
struct Filled {
    block: Block,
    size: usize,
    number: usize,
}

impl Filled {
    fn new(size: usize, random: &mut Random) -> Self {
        let block = Block::from(size, raw::alloc).unwrap();
        let filled = Self {
            block,
            size,
            number: random.below(1 << 32),
        };
        filled.words().for_each(|word| {
            // SAFETY: inside a block of ours, aligned to eight bytes.
            unsafe { word.write(filled.number) };
        });
        filled
    }

    fn words(&self) -> impl Iterator<Item = *mut usize> {
        let start = self.block.address();
        (0..self.size - 7)
            .step_by(4096)
            .map(move |offset| std::ptr::with_exposed_provenance_mut(start + offset))
    }

    fn check(&self) {
        for word in self.words() {
            // SAFETY: as above.
            let found = unsafe { word.read() };
            assert_eq!(found, self.number, "{:?}: not what was written", self.block);
        }
    }
}
