//! Blocks of 5 to 25 MiB, of which twenty are in use at a time and one is replaced at random.
//!
//! Stresses mapping and unmapping: an allocator that gives each such block back to the system at once pays for the page
//! faults again. A quarter of each block is used. The idea: `malloc-large` of the mimalloc-bench suite.

use super::piece::Piece;
use super::{Load, Workload};
use crate::Random;

const MIB: usize = 1 << 20;
/// Blocks in use.
const BLOCKS: usize = 20;
/// Replacements in all.
const WORK: usize = 300;

pub(super) const WORKLOAD: Workload = Workload {
    name: "malloc-large",
    stresses: "blocks of 5 to 25 MiB",
    threads: &[1],
    run,
};

fn run(load: &Load) -> u64 {
    let work = load.share(WORK);
    load.on_threads(|number| {
        let mut random = Random::new(number as u64);
        let mut blocks: Vec<Piece> = (0..BLOCKS).map(|_| block(&mut random)).collect();
        let mut sum = 0;
        for _ in 0..work {
            let place = random.below(BLOCKS);
            let new = block(&mut random);
            sum += std::mem::replace(&mut blocks[place], new).free();
        }
        sum + blocks.into_iter().map(Piece::free).sum::<u64>()
    })
}

fn block(random: &mut Random) -> Piece {
    let mut block = Piece::new(random.between(5 * MIB, 25 * MIB));
    block.touch(16 << 10);
    block
}
